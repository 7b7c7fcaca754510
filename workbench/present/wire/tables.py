"""Tables for the browser: layers, ONNX nodes, and any other rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.core.units import percent, rounded
from workbench.model.node import Node
from workbench.plan.columns import Column, Rows, capital, columns
from workbench.plan.reasons import REASONS
from workbench.present.lens import Lens, need_graph
from workbench.present.text import fate_of
from workbench.present.wire.coding import column, infinite
from workbench.present.wire.graphs import shown
from workbench.present.wire_types import SelectionKind, TableColumn, TableData, TextColumn


def layer_table(lens: Lens) -> TableData:
    """One row for each layer, as `TableData`; the columns are those of `workbench.plan.columns`."""
    layers = shown(lens.plan)
    rows = Rows(
        lens.plan,
        error=lens.error if lens.errors is not None else None,
        estimates=lens.estimate.ms if lens.estimate is not None else {},
    )
    found = _times_first(columns(rows, "browser"))
    values = [[c.get(layer, rows) for layer in layers] for c in found]
    cells: list[list[float | str | None] | TextColumn] = []
    for c, of in zip(found, values, strict=True):
        if c.type in {"text", "tag"}:
            cells.append(column(c.display(layer, rows) for layer in layers))
        else:
            numbers: list[float | str | None] = [rounded(v) for v in of]
            cells.append(numbers)
    return {
        "version": 1,
        "title": "Layers",
        "of": "layer",
        "id": [layer.id for layer in layers],
        "columns": [_with_infinite(_head(c), of) for c, of in zip(found, values, strict=True)],
        "rows": cells,
    }


def _times_first(found: list[Column]) -> list[Column]:
    """The columns with times right after the title, where a reader looks for them."""
    times = sorted((c for c in found if c.unit == "ms"), key=lambda c: c.source)
    rest = [c for c in found if c.unit != "ms"]
    at = [c.name for c in rest].index("title") + 1
    return [*rest[:at], *times, *rest[at:]]


def _head(c: Column) -> TableColumn:
    head: TableColumn = {"name": c.name, "label": c.label, "type": c.type}
    if c.unit:
        head["unit"] = c.unit
    if c.source:
        head["source"] = c.source
    return head


def _with_infinite(head: TableColumn, values: Sequence[Any]) -> TableColumn:
    """The head of a column that also names the rows whose value is infinite."""
    rows = infinite(values)
    return {**head, "infinite": rows} if rows else head


def node_table(lens: Lens) -> TableData:
    """One row an ONNX node with what became of it, as `TableData`.

    Raises:
        StoreError: the model's file is gone.
    """
    graph = need_graph(lens)
    owners = lens.plan.layers_of

    def became(n: Node) -> str:
        if n.id in owners:
            return ", ".join(capital(la.title) for la in owners[n.id])
        return lens.plan.reasons[n.id].text if n.id in lens.plan.reasons else REASONS["unknown"]

    sources = [lens.provenance.get(n.id) for n in graph.nodes]
    found: list[tuple[TableColumn, Any]] = [
        ({"name": "op", "label": "Operation", "type": "tag"}, column(n.op for n in graph.nodes)),
        ({"name": "id", "label": "Node", "type": "text"}, [n.id for n in graph.nodes]),
        (
            {"name": "source", "label": "Source", "type": "text"},
            column(f"{Path(s.file).name}:{s.line}" if s and s.file else "" for s in sources),
        ),
        ({"name": "module", "label": "Module", "type": "text"}, column(s.scope if s else "" for s in sources)),
        (
            {"name": "flops", "label": "Operations", "type": "number", "unit": "FLOP", "source": "computed"},
            [lens.costs[n.id].flops for n in graph.nodes],
        ),
    ]
    if lens.errors is not None:
        errors = [percent(lens.node_error(n.id)) for n in graph.nodes]
        head: TableColumn = {
            "name": "error",
            "label": "Error",
            "type": "number",
            "unit": "%",
            "source": "measured",
        }
        found.append((_with_infinite(head, errors), [rounded(v) for v in errors]))
    if lens.compiled:
        found[2:2] = [
            ({"name": "fate", "label": "Became", "type": "tag"}, column(fate_of(lens, n) for n in graph.nodes)),
            ({"name": "layer", "label": "Layer or reason", "type": "text"}, column(became(n) for n in graph.nodes)),
        ]
    return {
        "version": 1,
        "title": "ONNX nodes",
        "of": "node",
        "id": [n.id for n in graph.nodes],
        "columns": [c for c, _ in found],
        "rows": [r for _, r in found],
    }


def rows_data(
    title: str, of: SelectionKind, ids: Sequence[str], columns: Sequence[tuple[TableColumn, Sequence[Any]]]
) -> TableData:
    """Any rows as `TableData`.

    Args:
        title: What the rows are.
        of: "layer" or "node": the kind of the selection that the table writes.
        ids: One for each row, unique.
        columns: For each its head (``name``, ``label``, ``type``, and for numbers ``unit`` and ``source``) and its
            values; NaN is left empty, and infinite numbers are named in the head.
    """

    def clean(head: TableColumn, values: Sequence[Any]) -> Any:
        if head["type"] in {"text", "tag"}:
            return column(values)
        return [rounded(v) for v in values]

    return {
        "version": 1, "title": title, "of": of, "id": list(ids), "columns": [_with_infinite(head, values) for head, values in columns],
        "rows": [clean(head, values) for head, values in columns],
    }  # fmt: skip
