"""The registry of layer columns: everything that a table of layers can show, in every view.

The browser's table, the command line, the HTML page and `Plan.to_frame` all take their columns from here. To add one,
add an entry to `COLUMNS`: it then appears in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.core.dtypes import label_of
from workbench.core.units import bytes_text, flops_text, ms_text

if TYPE_CHECKING:
    from workbench.plan.plan import Layer, Plan

View = Literal["browser", "cli", "html", "frame"]
"""The views of a table: the browser's table, the command line, the HTML page without scripts, a DataFrame."""

EVERYWHERE: frozenset[View] = frozenset({"browser", "cli", "html", "frame"})


@dataclass(frozen=True)
class Rows:
    """The data that the columns of one table may read in addition to a layer.

    Attributes:
        plan: The plan that the layers are in.
        error: Relative L2 error against FP32 of a layer's outputs; None if it was not measured.
        estimates: Estimated milliseconds by layer id, if a GPU was named.
        efficiencies: Estimated share of the GPU's peak by layer id.
    """

    plan: Plan
    error: Callable[[Layer], float | None] | None = None
    estimates: Mapping[str, float | None] = field(default_factory=dict)
    efficiencies: Mapping[str, float | None] = field(default_factory=dict)

    @cached_property
    def position(self) -> dict[str, int]:
        """Position in the plan by layer id."""
        return {layer.id: i for i, layer in enumerate(self.plan.layers)}

    @cached_property
    def total_ms(self) -> float:
        """Sum of the measured times."""
        return sum(layer.time_ms or 0.0 for layer in self.plan.layers)


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Its name in filters and data.
        label: Its heading.
        type: text, number, bytes, or tag: a short word.
        get: The value of a layer, used for sorting and in a DataFrame.
        unit: Unit of the numbers.
        source: The origin of the numbers: measured, computed, reported, or estimated; "" if they are not amounts.
        text: The value for people, if that is more than the value with its unit.
        views: Where it appears.
        frame: Its name in a DataFrame, if that differs.
        optional: Whether to omit it if no layer has a value.
    """

    name: str
    label: str
    type: Literal["text", "number", "bytes", "tag"]
    get: Callable[[Layer, Rows], Any]
    unit: str = ""
    source: Literal["", "measured", "computed", "reported", "estimated"] = ""
    text: Callable[[Layer], str] | None = None
    views: frozenset[View] = EVERYWHERE
    frame: str = ""
    optional: bool = False

    def display(self, layer: Layer, rows: Rows) -> str:
        """The cell for people; "" if the value is not known."""
        if self.text is not None:
            return self.text(layer)
        value = self.get(layer, rows)
        if value is None or self.type in {"text", "tag"}:
            return "" if value is None else str(value)
        return _TEXTS.get(self.unit if self.type == "number" else "B", _number)(value)


def columns(rows: Rows, view: View) -> list[Column]:
    """The columns of a table in `view`, in order."""
    return [c for c in COLUMNS if view in c.views and not (c.optional and _empty(c, rows))]


def _empty(column: Column, rows: Rows) -> bool:
    return all(column.get(layer, rows) is None for layer in rows.plan.layers)


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_TEXTS: dict[str, Callable[[float], str]] = {
    "B": bytes_text, "FLOP": flops_text, "ms": ms_text, "%": lambda value: f"{value:.1f} %",
}  # fmt: skip


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def names_text(names: tuple[str, ...], most: int = 6) -> str:
    """The first `most` names of a list, and "…" where there are more."""
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")


def source_text(layer: Layer) -> str:
    """``file.py:28,30`` of a layer, or ""; more than four lines of a file end in "…"."""
    lines: dict[str, list[int]] = {}
    for source in layer.sources:
        if source.file:
            lines.setdefault(Path(source.file).name, []).append(source.line)
    return "; ".join(
        f"{name}:{','.join(map(str, sorted(set(n))[:4]))}{',…' * (len(set(n)) > 4)}" for name, n in lines.items()
    )


def _error(layer: Layer, rows: Rows) -> float | None:
    share = rows.error(layer) if rows.error else None
    return None if share is None else 100 * share


def _share(layer: Layer, rows: Rows) -> float | None:
    return None if layer.time_ms is None or not rows.total_ms else 100 * layer.time_ms / rows.total_ms


def _efficiency(layer: Layer, rows: Rows) -> float | None:
    share = rows.efficiencies.get(layer.id)
    return None if share is None else 100 * share


_FRAME: frozenset[View] = frozenset({"frame"})
_LOOKED_AT: frozenset[View] = EVERYWHERE - _FRAME

COLUMNS: list[Column] = [
    Column("index", "#", "number", lambda layer, rows: rows.position[layer.id], views=_LOOKED_AT),
    Column("id", "Id", "text", lambda layer, _: layer.id, views=_FRAME),
    Column("kind", "Kind", "tag", lambda layer, _: layer.kind),
    Column("title", "Layer", "text", lambda layer, _: layer.title, text=lambda layer: capital(layer.title)),
    Column("type", "Type of layer", "text", lambda layer, _: layer.type, views=_FRAME),
    Column("nodes", "Nodes", "number", lambda layer, _: len(layer.nodes), views=frozenset({"browser", "frame"})),
    Column("names", "ONNX nodes", "text", lambda layer, _: ", ".join(layer.nodes),
           text=lambda layer: names_text(layer.nodes), frame="node_names"),
    Column("module", "Module", "text", lambda layer, _: layer.scope, views=frozenset({"browser", "frame"})),
    Column("source", "Source", "text", lambda layer, _: source_text(layer)),
    Column("precision", "Type", "tag", lambda layer, _: layer.precision, text=lambda layer: label_of(layer.precision)),
    Column("bytes", "Moves", "bytes", lambda layer, _: layer.bytes, source="computed", views=_LOOKED_AT),
    Column("bytes_read", "Reads", "bytes", lambda layer, _: layer.bytes_read, source="computed", views=_FRAME),
    Column("bytes_written", "Writes", "bytes", lambda layer, _: layer.bytes_written, source="computed", views=_FRAME),
    Column("error", "Error", "number", _error, "%", "measured", views=frozenset({"browser"}), optional=True),
    Column("flops", "Operations", "number", lambda layer, _: layer.flops, "FLOP", "computed",
           views=frozenset({"browser", "frame"})),
    Column("intensity", "FLOP/B", "number", lambda layer, _: layer.intensity, source="computed",
           views=frozenset({"browser", "frame"})),
    Column("stream", "Stream", "number", lambda layer, _: layer.stream, views=frozenset({"browser", "frame"})),
    Column("evidence", "Evidence", "tag", lambda layer, _: layer.evidence, views=_FRAME),
    Column("tactic", "Tactic", "text", lambda layer, _: layer.tactic, views=_FRAME),
    Column("time", "Time", "number", lambda layer, _: layer.time_ms, "ms", "measured", frame="time_ms", optional=True),
    Column("share", "Share of time", "number", _share, "%", "measured", views=frozenset({"cli"}), optional=True),
    Column("least", "At least", "number", lambda layer, rows: rows.estimates.get(layer.id), "ms", "estimated",
           views=frozenset({"browser", "cli"}), optional=True),
    Column("efficiency", "Share of peak", "number", _efficiency, "%", "estimated", views=frozenset({"cli"}), optional=True),
]  # fmt: skip
"""All columns of a table of layers, in order."""
