"""Data for the browser, checked against `workbench.present.wire_types`, from which ``js/src/types.ts`` is generated."""

from __future__ import annotations

import base64
import gzip
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from workbench.present import wire_types

JS = Path(__file__).parents[2] / "js/src"


def size_of(column: Any) -> int:
    """Rows of a text column, plain or dictionary coded."""
    if isinstance(column, dict):
        assert set(column) == {"dict", "code"}
        assert all(0 <= c < len(column["dict"]) for c in column["code"])
        return len(column["code"])
    return len(column)


@cache
def adapter(form: str) -> TypeAdapter[Any]:
    return TypeAdapter(getattr(wire_types, form))


def conforms(form: str, data: dict[str, Any]) -> None:
    """Check all of `data` as the browser gets it: no field is unknown, none is missing, every type is right."""
    adapter(form).validate_python(json.loads(json.dumps(data, allow_nan=False)), strict=True, extra="forbid")


def check_graph(graph: dict[str, Any]) -> None:
    conforms("GraphData", graph)
    conforms("NodeColumns", graph["nodes"])
    conforms("EdgeColumns", graph["edges"])
    n = len(graph["nodes"]["id"])
    assert len(set(graph["nodes"]["id"])) == n
    assert {size_of(column) for column in graph["nodes"].values()} == {n}
    assert all(0 <= k < len(graph["kinds"]) for k in graph["nodes"]["kind"])
    assert len({size_of(column) for column in graph["edges"].values()}) == 1
    assert all(0 <= i < n for side in ("source", "target") for i in graph["edges"][side])
    for grouping in graph["groupings"]:
        conforms("Grouping", grouping)
        boxes = len(grouping["group"]["id"])
        assert size_of(grouping["group"]["label"]) == len(grouping["group"]["parent"]) == boxes
        assert len(grouping["of"]) == n
        assert all(-1 <= i < boxes for i in (*grouping["of"], *grouping["group"]["parent"]))
        for box in range(boxes):  # no box is within itself
            seen, above = {box}, grouping["group"]["parent"][box]
            while above != -1:
                assert above not in seen
                seen.add(above)
                above = grouping["group"]["parent"][above]
    for overlay in graph["overlays"]:
        conforms("Overlay", overlay)
        assert len(overlay["values"]) == n
        if overlay["type"] == "categorical":
            assert all(v is None or 0 <= v < len(overlay["categories"]) for v in overlay["values"])


def check_table(table: dict[str, Any]) -> None:
    conforms("TableData", table)
    assert len(table["columns"]) == len(table["rows"])
    for column, rows in zip(table["columns"], table["rows"], strict=True):
        conforms("TableColumn", column)
        assert size_of(rows) == len(table["id"]), column["name"]


def check_record(record: dict[str, Any]) -> None:
    conforms("DetailsRecord", record)
    for section in record["sections"]:
        assert section["type"] in {"facts", "ids", "code", "table", "raw"}
        if section["type"] == "table":
            assert {len(row) for row in section["rows"]} <= {len(section["columns"])}
        if section["type"] == "facts":
            for fact in section["rows"]:
                conforms("Fact", fact)
        if section["type"] == "ids":
            assert len(section["ids"]) == len(section["labels"])
        if section["type"] == "code":
            assert all(section["first"] <= m < section["first"] + len(section["lines"]) for m in section["mark"])


def part(page: str, name: str) -> bytes:
    found = re.search(rf'<script id="{name}" type="text/plain">([^<]*)</script>', page)
    assert found
    return gzip.decompress(base64.b64decode(found[1]))


def ask(view: Any, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """Send a message as the browser does; give the answer and its buffers."""
    answers: list[tuple[dict[str, Any], list[bytes]]] = []
    view.send = lambda content, buffers=None: answers.append((content, buffers or []))
    view._receive(view, message, [])
    assert len(answers) == 1
    return answers[0]
