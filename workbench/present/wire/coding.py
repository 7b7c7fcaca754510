"""Columns of the wire format: text that repeats is dictionary coded, numbers are rounded, and infinity has a place."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable
from typing import Any

from workbench.present.wire_types import DetailsData, FusionData, GraphData, TableData, TextColumn


def pack(data: GraphData | FusionData | TableData | DetailsData) -> bytes:
    """The message for the browser: UTF-8 JSON, gzipped."""
    return gzip.compress(json.dumps(data, separators=(",", ":"), allow_nan=False).encode(), 6, mtime=0)


def column(values: Iterable[Any]) -> TextColumn:
    """A text column, dictionary coded where that is shorter."""
    rows = ["" if v is None else str(v) for v in values]
    table = {v: i for i, v in enumerate(dict.fromkeys(rows))}
    if len(table) * 2 > len(rows):
        return rows
    return {"dict": list(table), "code": [table[v] for v in rows]}


def infinite(values: Iterable[Any]) -> list[int]:
    """The rows whose value is infinite: JSON can't hold it, and left empty the worst would look like the unknown."""
    return [i for i, v in enumerate(values) if v == math.inf]
