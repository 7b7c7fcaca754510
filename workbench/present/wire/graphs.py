"""Graphs for the browser: the plan, the model's ONNX graph, and both with the links between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from workbench.core.dtypes import label_of
from workbench.core.units import percent, rounded
from workbench.plan import Layer, Plan
from workbench.plan.columns import capital
from workbench.plan.kinds import kind_of_ops
from workbench.present.lens import Lens, need_graph
from workbench.present.text import fate_of, layout_text, shape_text
from workbench.present.wire.coding import column, infinite
from workbench.present.wire_types import (
    Boxes,
    EdgeColumns,
    FusionData,
    GraphData,
    Grouping,
    LayerFlag,
    NodeFlag,
    Overlay,
    Source,
)


def plan_data(lens: Lens) -> GraphData:
    """The plan as `GraphData`: one node a layer, edges by tensor. Stream events are left out."""
    plan = lens.plan
    layers = shown(plan)
    at = {layer.id: i for i, layer in enumerate(layers)}
    kinds = list(dict.fromkeys(layer.kind for layer in layers))
    writers: dict[str, list[int]] = {}
    edges: list[tuple[int, int, str, str, str, str, int]] = []
    for i, layer in enumerate(layers):
        for tensor in {t.name: t for t in layer.inputs}.values():
            text = (tensor.name, shape_text(tensor.shape), label_of(tensor.dtype), layout_text(tensor.format))
            for source in writers.get(tensor.name, ()):
                edges.append((source, i, *text, _conversion(layers[source]) | _conversion(layer)))  # noqa: PERF401
        for tensor in layer.outputs:
            writers.setdefault(tensor.name, []).append(i)
    return {
        "version": 1,
        "title": f"{plan.model['name']} as compiled: {plan.summary['launches_after']} kernels",
        "of": "layer",
        "kinds": kinds,
        "nodes": {
            "id": [layer.id for layer in layers],
            "label": column(capital(layer.title) for layer in layers),
            "sub": column(_sub(layer) for layer in layers),
            "kind": [kinds.index(layer.kind) for layer in layers],
        },
        "groupings": _groupings([layer.scope for layer in layers])
        + _by_value("streams", "Streams", [f"stream {layer.stream}" for layer in layers]),
        "edges": _edges(edges),
        "overlays": plan_overlays(lens, [at[layer.id] for layer in layers], layers),
    }


def shown(plan: Plan) -> list[Layer]:
    """The layers that a map shows: all but stream events, which own no data."""
    return [layer for layer in plan.layers if layer.kind != "sync"]


def plan_overlays(lens: Lens, _rows: Sequence[int], layers: Sequence[Layer]) -> list[Overlay]:
    """Columns that color the map of a plan."""

    def saved(layer: Layer) -> int | None:
        before = lens.bytes_before(layer)
        return None if before is None or layer.bytes is None else before - layer.bytes

    out = [
        _categories("precision", "Precision", [label_of(layer.precision) for layer in layers], "reported"),
        _numbers("bytes", "Bytes moved", "B", [layer.bytes for layer in layers]),
        _numbers("flops", "Operations", "FLOP", [layer.flops for layer in layers]),
        _numbers(
            "intensity", "Arithmetic intensity", "FLOP/B", [layer.intensity for layer in layers], aggregate="mean"
        ),
        _categories("stream", "Stream", [f"stream {layer.stream}" for layer in layers], "reported"),
        _categories("evidence", "Evidence", [layer.evidence for layer in layers], "reported"),
    ]
    if lens.graph is not None:
        out.insert(
            2, _numbers("saved", "Bytes saved by fusion", "B", [saved(layer) for layer in layers], type="diverging")
        )
    if lens.errors is not None:
        out.append(_errors([lens.error(layer) for layer in layers]))
    if any(layer.time_ms is not None for layer in layers):
        out.insert(0, _numbers("time", "Time", "ms", [layer.time_ms for layer in layers], source="measured"))
    return out


def graph_data(lens: Lens) -> GraphData:
    """The model's ONNX graph as `GraphData`.

    Raises:
        StoreError: the model's file is gone.
    """
    graph = need_graph(lens)
    nodes = graph.nodes
    kinds = list(dict.fromkeys(kind_of_ops([n.op]) for n in nodes))
    edges: list[tuple[int, int, str, str, str, str, int]] = []
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            source = graph.producer.get(name)
            if source is not None:
                tensor = graph.tensor(name)
                conversion = 2 if "Cast" in (source.op, node.op) or source.op.endswith("QuantizeLinear") else 0
                edges.append(
                    (source.index, node.index, name, shape_text(tensor.shape), label_of(tensor.dtype), "", conversion)
                )
    scopes = [lens.provenance[n.id].scope if n.id in lens.provenance else "" for n in nodes]
    owners = lens.plan.layers_of
    kernel = [owners[n.id][0].title if n.id in owners else "" for n in nodes]
    kernel_ids = [owners[n.id][0].id if n.id in owners else "" for n in nodes]
    groupings = _groupings(scopes)
    if any(kernel_ids):
        order = list(dict.fromkeys(i for i in kernel_ids if i))
        place = {name: at for at, name in enumerate(order)}
        titles = dict(zip(kernel_ids, kernel, strict=True))
        groupings.append(
            {
                "name": "kernels",
                "label": "Kernels",
                "group": {
                    "id": [f"kernel {i}" for i in order],
                    "label": column(capital(titles[i]) for i in order),
                    "parent": [-1] * len(order),
                },
                "of": [place.get(i, -1) for i in kernel_ids],
            }
        )
    costs = [lens.costs[n.id] for n in nodes]
    return {
        "version": 1,
        "title": f"{lens.plan.model['name']} as written: {len(nodes)} ONNX nodes",
        "of": "node",
        "kinds": kinds,
        "nodes": {
            "id": [n.id for n in nodes],
            "label": column(n.op for n in nodes),
            "sub": column(shape_text(graph.tensor(n.outputs[0]).shape) if n.outputs else "" for n in nodes),
            "kind": [kinds.index(kind_of_ops([n.op])) for n in nodes],
        },
        "groupings": groupings,
        "edges": _edges(edges),
        "overlays": [
            _categories("fate", "What became of it", [fate_of(lens, n) for n in nodes], "reported"),
            _numbers("bytes", "Bytes moved", "B", [None if c.bytes_read is None or c.bytes_written is None
                                                   else c.bytes_read + c.bytes_written for c in costs]),
            _numbers("flops", "Operations", "FLOP", [c.flops for c in costs]),
            _categories("precision", "Precision", [label_of(graph.tensor(n.outputs[0]).dtype) if n.outputs else "" for n in nodes],
                        "reported"),
            *([_errors([lens.node_error(n.id) for n in nodes])] if lens.errors is not None else []),
        ],
    }  # fmt: skip


def fusion_data(lens: Lens) -> FusionData:
    """Graph and plan with the links between them, as `FusionData`.

    Raises:
        StoreError: the model's file is gone.
    """
    graph, layers = need_graph(lens), shown(lens.plan)
    at = {node.id: node.index for node in graph.nodes}
    pairs = [
        (i, at[name], "inferred" if name in layer.inferred else layer.evidence)
        for i, layer in enumerate(layers) for name in layer.nodes if name in at
    ]  # fmt: skip
    flag_of_reason: dict[str, NodeFlag] = {"constant": "constant", "weights": "folded", "shape": "folded",
                      "unknown": "unknown", "unrolled": "unknown"}  # fmt: skip
    layer_flags: list[LayerFlag] = [
        "merged" if layer.merged else "empty" if not layer.nodes else "split" if layer.partial else ""
        for layer in layers
    ]
    node_flags: list[NodeFlag] = [
        "split" if len(lens.plan.layers_of.get(n.id, ())) > 1
        else flag_of_reason.get(lens.plan.reasons[n.id].reason, "eliminated") if n.id in lens.plan.reasons else ""
        for n in graph.nodes
    ]  # fmt: skip
    return {
        "version": 1,
        "original": graph_data(lens),
        "plan": plan_data(lens),
        "links": {
            "layer": [p[0] for p in pairs],
            "node": [p[1] for p in pairs],
            "evidence": column(p[2] for p in pairs),
        },
        "flags": {"layer": layer_flags, "node": node_flags},
    }  # fmt: skip


def _edges(edges: Sequence[tuple[int, int, str, str, str, str, int]]) -> EdgeColumns:
    columns = list(zip(*edges, strict=True)) or [()] * 7
    return {
        "source": list(columns[0]), "target": list(columns[1]), "tensor": column(columns[2]), "shape": column(columns[3]),
        "dtype": column(columns[4]), "format": column(columns[5]), "conversion": list(columns[6]),
    }  # fmt: skip


def _groupings(scopes: Sequence[str]) -> list[Grouping]:
    """Boxes by module scope, and by block: the scope up to its first number (``encoder.layer.0``)."""
    if not any(scopes):
        return []
    blocks = []
    for scope in scopes:
        parts = scope.split(".") if scope else []
        number = next((i for i, p in enumerate(parts) if p.isdigit()), None)
        blocks.append(".".join(parts[: number + 1]) if number is not None else (parts[0] if parts else ""))
    out = [_tree("modules", "Module scopes", scopes)]
    if blocks != list(scopes) and any(blocks):
        flat = _by_value("blocks", "Blocks", blocks)
        out += flat
    return out


def _tree(name: str, label: str, scopes: Sequence[str]) -> Grouping:
    ids: dict[str, int] = {}
    parents: list[int] = []

    def box(scope: str) -> int:
        if scope not in ids:
            above, _, _ = scope.rpartition(".")
            parent = box(above) if above else -1
            ids[scope] = len(parents)
            parents.append(parent)
        return ids[scope]

    of = [box(scope) if scope else -1 for scope in scopes]
    labels = [scope.rpartition(".")[2] for scope in ids]
    return {
        "name": name,
        "label": label,
        "group": {"id": list(ids), "label": column(labels), "parent": parents},
        "of": of,
    }


def _by_value(name: str, label: str, values: Sequence[str]) -> list[Grouping]:
    """One level of boxes, one for each value; none where there is only one value."""
    order = list(dict.fromkeys(v for v in values if v))
    if len(order) < 2:
        return []
    place = {v: i for i, v in enumerate(order)}
    group: Boxes = {"id": order, "label": column(order), "parent": [-1] * len(order)}
    return [{"name": name, "label": label, "group": group, "of": [place.get(v, -1) for v in values]}]


def _numbers(
    name: str, label: str, unit: str, values: Sequence[float | None], *, source: Source = "computed",
    type: Literal["sequential", "diverging"] = "sequential",  # noqa: A002 - the wire format's word
    aggregate: Literal["sum", "mean", "max"] | None = None,
) -> Overlay:  # fmt: skip
    out: Overlay = {
        "name": name,
        "label": label,
        "unit": unit,
        "type": type,
        "values": [rounded(v) for v in values],
        "source": source,
    }
    if rows := infinite(values):
        out["infinite"] = rows
    if aggregate or type == "diverging":
        out["aggregate"] = aggregate or "sum"
    return out


def _categories(name: str, label: str, values: Sequence[str], source: Source) -> Overlay:
    names = sorted({v for v in values if v})
    at = {v: i for i, v in enumerate(names)}
    return {"name": name, "label": label, "unit": "", "type": "categorical", "categories": names,
            "values": [at.get(v) for v in values], "source": source}  # fmt: skip


def _errors(values: Sequence[float | None]) -> Overlay:
    """Errors against FP32 as an overlay, in percent."""
    return _numbers("error", "Error against FP32", "%", [percent(v) for v in values],
                    source="measured", aggregate="max")  # fmt: skip


def _conversion(layer: Layer) -> int:
    """Bit field of what a layer that only converts changes."""
    if layer.kind not in {"layout", "cast"}:
        return 0
    changes = layer.converts
    return (1 if "layout" in changes or layer.kind == "layout" else 0) | (2 if "precision" in changes else 0)


def _sub(layer: Layer) -> str:
    shape = shape_text(layer.outputs[0].shape) if layer.outputs else ""
    return " · ".join(part for part in (label_of(layer.precision), shape) if part)
