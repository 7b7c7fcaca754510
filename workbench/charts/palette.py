"""The one palette, read from ``palette.json``, which the browser's views read as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.core.dtypes import label_of

_PALETTE: dict[str, Any] = json.loads((Path(__file__).parent / "palette.json").read_text())
_CHARTS: dict[str, Any] = _PALETTE["charts"]

KINDS: dict[str, str] = {kind: entry["light"] for kind, entry in _PALETTE["kinds"].items()}
"""One color for each kind of layer, distinct on light and dark pages and for most color-blind readers."""

TERMINAL: dict[str, str] = {kind: entry.get("terminal", "default") for kind, entry in _PALETTE["kinds"].items()}
"""The style of each kind in a terminal."""

METHODS: dict[str, str] = _CHARTS["methods"]
"""Colors of the calibration methods."""

SERIES: tuple[str, ...] = tuple(_CHARTS["series"])
"""Colors of several curves in one chart."""

TREEMAP: tuple[str, ...] = tuple(_CHARTS["treemap"])
"""Colors of the modules in a treemap."""

PANELS: dict[str, str] = _PALETTE["panels"]
"""Colors of the panels by role; those that differ on a dark page have a second one that ends in ``_dark``."""

GREY: str = _CHARTS["grey"]
ACCENT: str = _CHARTS["accent"]
TEXT: str = _CHARTS["text"]
QUIET: str = _CHARTS["quiet"]
LINE: str = _CHARTS["line"]
AXIS: str = _CHARTS["axis"]
MODEBAR: str = _CHARTS["modebar"]
ORANGE: str = _CHARTS["orange"]
RED: str = _CHARTS["red"]
PEAK: str = _CHARTS["peak"]
SLATE: str = _CHARTS["slate"]
KEPT: str = _CHARTS["kept"]
CHOSEN: str = _CHARTS["chosen"]
"""Outline of what is selected; visible on light and dark pages and next to the color of every kind."""


def kind_color(kind: str) -> str:
    """The color of a kind of layer; gray for a kind that is not known here."""
    return KINDS.get(kind, GREY)


def precision_color(dtype: str) -> str:
    """The color of a data type; gray for a type without one."""
    entry = _PALETTE["precisions"].get(label_of(dtype))
    return GREY if entry is None else str(entry["light"])
