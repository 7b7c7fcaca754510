"""From plans and graphs to what the browser gets. The format is documented in ``js/src/types.ts``.

Pure functions; every result is JSON-able. Columns whose values repeat are dictionary coded.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from workbench.core.errors import StoreError
from workbench.core.units import bytes_text
from workbench.model.graph import Graph
from workbench.model.node import Node
from workbench.plan import Layer, Plan
from workbench.plan.kinds import kind_of_ops
from workbench.plan.reasons import REASONS
from workbench.present.lens import Lens

Json = dict[str, Any]


def pack(data: Json) -> bytes:
    """The message for the browser: UTF-8 JSON, gzipped."""
    return gzip.compress(json.dumps(data, separators=(",", ":"), allow_nan=False).encode(), 6, mtime=0)


# --- graphs -------------------------------------------------------------------------------------------


def plan_data(lens: Lens) -> Json:
    """The plan as `GraphData`: one node a layer, edges by tensor. Stream events are left out."""
    plan = lens.plan
    layers = shown(plan)
    at = {layer.id: i for i, layer in enumerate(layers)}
    kinds = list(dict.fromkeys(layer.kind for layer in layers))
    writers: dict[str, list[int]] = {}
    edges: list[tuple[int, int, str, str, str, str, int]] = []
    for i, layer in enumerate(layers):
        for tensor in {t.name: t for t in layer.inputs}.values():
            text = (tensor.name, _shape(tensor.shape), _short(tensor.dtype), _layout(tensor.format))
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
            "label": _column(_capital(layer.title) for layer in layers),
            "sub": _column(_sub(layer) for layer in layers),
            "kind": [kinds.index(layer.kind) for layer in layers],
        },
        "groupings": _groupings([lens.scope(layer) for layer in layers])
        + _by_value("streams", "Streams", [f"stream {layer.stream}" for layer in layers]),
        "edges": _edges(edges),
        "overlays": plan_overlays(lens, [at[layer.id] for layer in layers], layers),
    }


def shown(plan: Plan) -> list[Layer]:
    """The layers that a map shows: all but stream events, which own no data."""
    return [layer for layer in plan.layers if layer.kind != "sync"]


def plan_overlays(lens: Lens, _rows: Sequence[int], layers: Sequence[Layer]) -> list[Json]:
    """Columns that colour the map of a plan."""

    def saved(layer: Layer) -> int | None:
        before = lens.bytes_before(layer)
        return None if before is None or layer.bytes is None else before - layer.bytes

    out = [
        _categories("precision", "Precision", [_short(layer.precision) for layer in layers], "reported"),
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


def graph_data(lens: Lens) -> Json:
    """The model's ONNX graph as `GraphData`.

    Raises:
        StoreError: the model's file is gone.
    """
    graph = _need(lens)
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
                    (source.index, node.index, name, _shape(tensor.shape), _short(tensor.dtype), "", conversion)
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
                    "label": _column(_capital(titles[i]) for i in order),
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
            "label": _column(n.op for n in nodes),
            "sub": _column(_shape(graph.tensor(n.outputs[0]).shape) if n.outputs else "" for n in nodes),
            "kind": [kinds.index(kind_of_ops([n.op])) for n in nodes],
        },
        "groupings": groupings,
        "edges": _edges(edges),
        "overlays": [
            _categories("fate", "What became of it", [_fate(lens, n) for n in nodes], "reported"),
            _numbers("bytes", "Bytes moved", "B", [None if c.bytes_read is None or c.bytes_written is None
                                                   else c.bytes_read + c.bytes_written for c in costs]),
            _numbers("flops", "Operations", "FLOP", [c.flops for c in costs]),
            _categories("precision", "Precision", [_short(graph.tensor(n.outputs[0]).dtype) if n.outputs else "" for n in nodes],
                        "reported"),
            *([_errors([lens.node_error(n.id) for n in nodes])] if lens.errors is not None else []),
        ],
    }  # fmt: skip


def fusion_data(lens: Lens) -> Json:
    """Graph and plan with the links between them, as `FusionData`.

    Raises:
        StoreError: the model's file is gone.
    """
    graph, layers = _need(lens), shown(lens.plan)
    at = {node.id: node.index for node in graph.nodes}
    pairs = [
        (i, at[name], "inferred" if name in layer.inferred else layer.evidence)
        for i, layer in enumerate(layers) for name in layer.nodes if name in at
    ]  # fmt: skip
    flag_of_reason = {"constant": "constant", "weights": "folded", "shape": "folded",
                      "unknown": "unknown", "unrolled": "unknown"}  # fmt: skip
    return {
        "version": 1,
        "original": graph_data(lens),
        "plan": plan_data(lens),
        "links": {
            "layer": [p[0] for p in pairs],
            "node": [p[1] for p in pairs],
            "evidence": _column(p[2] for p in pairs),
        },
        "flags": {
            "layer": [
                "merged" if layer.merged else "empty" if not layer.nodes else "split" if layer.partial else ""
                for layer in layers
            ],
            "node": [
                "split" if len(lens.plan.layers_of.get(n.id, ())) > 1
                else flag_of_reason.get(lens.plan.reasons[n.id].reason, "eliminated") if n.id in lens.plan.reasons else ""
                for n in graph.nodes
            ],
        },
    }  # fmt: skip


def _fate(lens: Lens, node: Node) -> str:
    if not lens.compiled:
        return "not compiled yet"
    if node.id in lens.plan.layers_of:
        owners = lens.plan.layers_of[node.id]
        if len(owners) > 1:
            return "split over kernels"
        return "a kernel of its own" if len(owners[0].nodes) == 1 else "fused"
    return lens.plan.reasons[node.id].reason if node.id in lens.plan.reasons else "unknown"


# --- tables -------------------------------------------------------------------------------------------


def layer_table(lens: Lens) -> Json:
    """One row a layer, as `TableData`."""
    layers = shown(lens.plan)
    position = {layer.id: i for i, layer in enumerate(lens.plan.layers)}
    columns: list[tuple[str, str, str, str | None, str | None, Callable[[Layer], Any]]] = [
        ("index", "#", "number", None, None, lambda la: position[la.id]),
        ("kind", "Kind", "tag", None, None, lambda la: la.kind),
        ("title", "Layer", "text", None, None, lambda la: _capital(la.title)),
        ("nodes", "Nodes", "number", None, None, lambda la: len(la.nodes)),
        (
            "names",
            "ONNX nodes",
            "text",
            None,
            None,
            lambda la: ", ".join(la.nodes[:6]) + (" …" if len(la.nodes) > 6 else ""),
        ),
        ("module", "Module", "text", None, None, lens.scope),
        ("source", "Source", "text", None, None, source_text),
        ("precision", "Type", "tag", None, None, lambda la: _short(la.precision)),
        ("bytes", "Moves", "bytes", None, "computed", lambda la: la.bytes),
        ("flops", "Operations", "number", "FLOP", "computed", lambda la: la.flops),
        ("intensity", "FLOP/B", "number", None, "computed", lambda la: _round(la.intensity)),
        ("stream", "Stream", "number", None, None, lambda la: la.stream),
    ]
    if lens.errors is not None:
        columns.insert(9, ("error", "Error", "number", "%", "measured", lambda la: _percent(lens.error(la))))
    if any(layer.time_ms is not None for layer in layers):
        columns.insert(3, ("time", "Time", "number", "ms", "measured", lambda la: _round(la.time_ms)))
    if (estimate := lens.estimate) is not None:
        columns.insert(3, ("least", "At least", "number", "ms", "estimated", lambda la: _round(estimate.ms.get(la.id))))
    values = [[read(layer) for layer in layers] for *_, read in columns]
    return {
        "version": 1,
        "title": "Layers",
        "of": "layer",
        "id": [layer.id for layer in layers],
        "columns": [
            {"name": n, "label": label, "type": kind, **({"unit": unit} if unit else {}), **({"source": source} if source else {}),
             **_infinite(of)}
            for (n, label, kind, unit, source, _), of in zip(columns, values, strict=True)
        ],
        "rows": [
            _column(of) if column[2] in {"text", "tag"} else [_finite(v) for v in of]
            for column, of in zip(columns, values, strict=True)
        ],
    }  # fmt: skip


def node_table(lens: Lens) -> Json:
    """One row an ONNX node with what became of it, as `TableData`.

    Raises:
        StoreError: the model's file is gone.
    """
    graph = _need(lens)
    owners = lens.plan.layers_of

    def became(n: Node) -> str:
        if n.id in owners:
            return ", ".join(_capital(la.title) for la in owners[n.id])
        return lens.plan.reasons[n.id].text if n.id in lens.plan.reasons else REASONS["unknown"]

    sources = [lens.provenance.get(n.id) for n in graph.nodes]
    columns: list[tuple[Json, Any]] = [
        ({"name": "op", "label": "Operation", "type": "tag"}, _column(n.op for n in graph.nodes)),
        ({"name": "id", "label": "Node", "type": "text"}, [n.id for n in graph.nodes]),
        (
            {"name": "source", "label": "Source", "type": "text"},
            _column(f"{Path(s.file).name}:{s.line}" if s and s.file else "" for s in sources),
        ),
        ({"name": "module", "label": "Module", "type": "text"}, _column(s.scope if s else "" for s in sources)),
        (
            {"name": "flops", "label": "Operations", "type": "number", "unit": "FLOP", "source": "computed"},
            [lens.costs[n.id].flops for n in graph.nodes],
        ),
    ]
    if lens.errors is not None:
        found = [_percent(lens.node_error(n.id)) for n in graph.nodes]
        column = {
            "name": "error",
            "label": "Error",
            "type": "number",
            "unit": "%",
            "source": "measured",
            **_infinite(found),
        }
        columns.append((column, [_round(v) for v in found]))
    if lens.compiled:
        columns[2:2] = [
            ({"name": "fate", "label": "Became", "type": "tag"}, _column(_fate(lens, n) for n in graph.nodes)),
            ({"name": "layer", "label": "Layer or reason", "type": "text"}, _column(became(n) for n in graph.nodes)),
        ]
    return {
        "version": 1,
        "title": "ONNX nodes",
        "of": "node",
        "id": [n.id for n in graph.nodes],
        "columns": [c for c, _ in columns],
        "rows": [r for _, r in columns],
    }


def source_text(layer: Layer) -> str:
    """``file.py:28,30`` of a layer, or ""; more than four lines of a file end in "…"."""
    lines: dict[str, list[int]] = {}
    for source in layer.sources:
        if source.file:
            lines.setdefault(Path(source.file).name, []).append(source.line)
    return "; ".join(
        f"{name}:{','.join(map(str, sorted(set(n))[:4]))}{',…' * (len(set(n)) > 4)}" for name, n in lines.items()
    )


# --- details ------------------------------------------------------------------------------------------


def details(lens: Lens, kind: str, item: str) -> Json:
    """Everything about one layer or node, as `DetailsRecord`.

    Raises:
        StoreError: there is no such layer or node.
    """
    if kind == "layer" and item in lens.plan.by_id:
        return _layer_details(lens, lens.plan.by_id[item])
    if kind == "node" and lens.graph is not None and item in lens.graph.by_id:
        return _node_details(lens, lens.graph.by_id[item])
    raise StoreError(f"There is no {kind} {item!r} in this plan.", hint="It may belong to another engine.")


def _layer_details(lens: Lens, layer: Layer) -> Json:
    before = lens.bytes_before(layer)
    saved = None if before is None or layer.bytes is None else before - layer.bytes
    launches = lens.launches_before(layer)
    tags = [layer.kind, _short(layer.precision)]
    if layer.merged:
        tags.append("merged siblings")
    if layer.partial:
        tags.append("shares nodes")
    if not layer.nodes:
        tags.append("owns no node")
    facts = [
        _fact("Type", layer.type),
        _fact("Time", layer.time_ms, "ms", "measured") if layer.time_ms is not None else None,
        _fact("Bytes read", layer.bytes_read, "B", "computed"),
        _fact("Bytes written", layer.bytes_written, "B", "computed"),
        _fact("Bytes saved by fusion", saved, "B", "computed", "against one kernel a node") if layer.nodes else None,
        _fact("Kernels before", launches, None, "computed", "one a node")
        if launches is not None and layer.nodes
        else None,
        _fact("Operations", layer.flops, "FLOP", "computed"),
        _fact("Arithmetic intensity", _round(layer.intensity), "FLOP/B", "computed"),
        _error_fact(lens, lens.error(layer)),
        _fact("Tactic", lens.vocabulary.tactic(layer.tactic) or "not reported"),
        _fact("Stream", layer.stream),
        _fact("Mapping", layer.evidence, None, None, _EVIDENCE.get(layer.evidence, "")),
        _fact("Inferred", ", ".join(layer.inferred), None, None, _why(lens, layer)) if layer.inferred else None,
        _fact("Runs", f"only in {', '.join(layer.branch)}") if layer.branch else None,
        _fact("Runs", "at each turn of a loop", None, None, "operations and bytes are of all turns")
        if layer.repeated
        else None,
    ]
    sections: list[Json] = [{"type": "facts", "title": "Figures", "rows": [f for f in facts if f]}]
    if layer.nodes:
        sections.append(_node_ids(lens, f"ONNX nodes ({len(layer.nodes)})", layer.nodes))
    sections += [_node_ids(lens, "Siblings done in one launch", group) for group in layer.merged]
    scopes = list(dict.fromkeys(f"{s.scope} ({s.module})" if s.module else s.scope for s in layer.sources if s.scope))
    if scopes:
        modules = [_fact(f"Module {i + 1}" if len(scopes) > 1 else "Module", s) for i, s in enumerate(scopes[:6])]
        sections.append({"type": "facts", "title": "PyTorch", "rows": modules})
    sections += _code(lens, layer.sources)
    rows = [
        [role, t.name, _shape(t.shape), _short(t.dtype), _layout(t.format), bytes_text(t.bytes)]
        for role, tensors in (("in", layer.inputs), ("constant", layer.constants), ("out", layer.outputs))
        for t in tensors
    ]
    if rows:
        columns = ["", "tensor", "shape", "type", "layout", "size"]
        sections.append({"type": "table", "title": "Tensors", "columns": columns, "rows": rows})
    sections.append({"type": "raw", "title": "Raw record", "text": json.dumps(layer.to_dict(), indent=1)})
    return {
        "id": layer.id,
        "title": _capital(layer.title),
        "words": _words(lens, layer),
        "tags": tags,
        "sections": sections,
    }


def _node_details(lens: Lens, node: Node) -> Json:
    graph = _need(lens)
    cost, source = lens.costs[node.id], lens.provenance.get(node.id)
    owners = lens.plan.layers_of.get(node.id, ())
    if owners:
        words = f"Executed by {len(owners)} layers." if len(owners) > 1 else (
            "Executed by a kernel of its own." if len(owners[0].nodes) == 1
            else f"Fused with {len(owners[0].nodes) - 1} other nodes into one kernel.")  # fmt: skip
    elif not lens.compiled:
        words = "Nothing was built from this model yet."
    else:
        reason = lens.plan.reasons.get(node.id)
        words = f"In no layer: {reason.text if reason else REASONS['unknown']}."
    facts = [
        _fact("Operation", f"{node.domain}.{node.op}" if node.domain else node.op),
        _fact("Module", source.scope) if source and source.scope else None,
        _fact("Class", source.module) if source and source.module else None,
        _fact("PyTorch operation", source.op) if source and source.op else None,
        _fact("Operations", cost.flops, "FLOP", "computed"),
        _fact("Bytes read", cost.bytes_read, "B", "computed", "as a kernel of its own"),
        _fact("Bytes written", cost.bytes_written, "B", "computed"),
        _error_fact(lens, lens.node_error(node.id)),
    ]
    sections: list[Json] = [{"type": "facts", "title": "Figures", "rows": [f for f in facts if f]}]
    if owners:
        sections.append(
            {"type": "ids", "title": "Layers", "of": "layer", "ids": [la.id for la in owners],
             "labels": [_capital(la.title) for la in owners]}
        )  # fmt: skip
    if source:
        sections += _code(lens, (source,))
    rows: list[list[str]] = []
    for role, names in (("in", node.inputs), ("out", node.outputs)):
        for name in names:
            if name:
                t = graph.tensor(name)
                constant = "constant" if name in graph.constants and role == "in" else role
                rows.append([constant, name, _shape(t.shape), _short(t.dtype), bytes_text(t.bytes)])
    sections.append(
        {"type": "table", "title": "Tensors", "columns": ["", "tensor", "shape", "type", "size"], "rows": rows}
    )
    attributes = [
        [a.name, text if len(text) <= 200 else text[:199] + "…"]
        for a in node.proto.attribute
        if a.type in {1, 2, 3, 6, 7, 8}
        for text in (str(node.attribute(a.name)),)
    ]
    if attributes:
        sections.append({"type": "table", "title": "Attributes", "columns": ["name", "value"], "rows": attributes})
    return {
        "id": node.id,
        "title": f"{node.op}  {node.id}",
        "words": words,
        "tags": [_fate(lens, node)],
        "sections": sections,
    }


def _why(lens: Lens, layer: Layer) -> str:
    """The rule by which nodes were put into a layer that does not name them."""
    found = lens.plan.facts.get("inferred", {})
    return "; ".join(dict.fromkeys(found[n] for n in layer.inferred if n in found))


_EVIDENCE = {
    "reported": "the compiler names these nodes",
    "name": "told from the layer's name",
    "tensor-region": "told from tensors that both graphs share",
    "fx-join": "joined through torch's own graph",
    "module": "known to the module, not to the node",
    "inferred": "a rule, not evidence",
    "none": "the layer owns no node: overhead of layout, copies or shapes",
}


def _words(lens: Lens, layer: Layer) -> str:
    """What a layer does, in a sentence."""
    if meanings := lens.vocabulary.meanings(layer.name):
        text = ", ".join(f"{word} = {meaning}" if word != meaning else word for word, meaning in meanings.items())
        return f"{layer.name}: {text}."
    if not layer.nodes:
        return "Work that no node of the model asks for: a copy, a fill or a change of layout between kernels."
    if layer.merged:
        return f"Does {sum(len(group) for group in layer.merged)} sibling operations in one launch."
    return f"The compiler calls it {layer.type}."


def _node_ids(lens: Lens, title: str, ids: Iterable[str]) -> Json:
    names = list(ids)
    graph = lens.graph
    labels = [f"{graph.by_id[n].op}  {n}" if graph is not None and n in graph.by_id else n for n in names]
    return {"type": "ids", "title": title, "of": "node", "ids": names, "labels": labels}


def _code(lens: Lens, sources: Iterable[Any]) -> list[Json]:
    """Code sections: sources whose lines lie near each other share one."""
    sources = list(sources)
    problem = lens.sources.missing if sources else ""
    told: list[Json] = (
        [{"type": "facts", "title": "Source text", "rows": [_fact("Not shown", problem)]}] if problem else []
    )
    files: dict[str, dict[int, str]] = {}
    marks: dict[str, set[int]] = {}
    for source in sources:
        found = lens.sources.lines(source)
        if found is None:
            continue
        path, first, lines = found
        files.setdefault(path, {}).update({first + i: line for i, line in enumerate(lines)})
        marks.setdefault(path, set()).add(source.line)
    out = []
    for path, numbered in files.items():
        numbers = sorted(numbered)
        start = 0
        for i in range(1, len(numbers) + 1):
            if i == len(numbers) or numbers[i] > numbers[i - 1] + 1:
                block = numbers[start:i]
                out.append({"type": "code", "title": Path(path).name, "path": path, "first": block[0],
                            "lines": [numbered[n] for n in block], "mark": sorted(marks[path].intersection(block))})  # fmt: skip
                start = i
    return told + out[:6]


# --- small pieces -------------------------------------------------------------------------------------


def _need(lens: Lens) -> Graph:
    if lens.graph is None:
        raise StoreError(
            f"The model of this plan can't be opened: {lens.missing}",
            hint="Bring the file back and open the view again.",
        )
    return lens.graph


def _column(values: Iterable[Any]) -> Any:
    """A text column, dictionary coded where that is shorter."""
    rows = ["" if v is None else str(v) for v in values]
    table = {v: i for i, v in enumerate(dict.fromkeys(rows))}
    if len(table) * 2 > len(rows):
        return rows
    return {"dict": list(table), "code": [table[v] for v in rows]}


def _edges(edges: Sequence[tuple[int, int, str, str, str, str, int]]) -> Json:
    columns = list(zip(*edges, strict=True)) or [()] * 7
    return {
        "source": list(columns[0]), "target": list(columns[1]), "tensor": _column(columns[2]), "shape": _column(columns[3]),
        "dtype": _column(columns[4]), "format": _column(columns[5]), "conversion": list(columns[6]),
    }  # fmt: skip


def _groupings(scopes: Sequence[str]) -> list[Json]:
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


def _tree(name: str, label: str, scopes: Sequence[str]) -> Json:
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
        "group": {"id": list(ids), "label": _column(labels), "parent": parents},
        "of": of,
    }


def _by_value(name: str, label: str, values: Sequence[str]) -> list[Json]:
    """One level of boxes, one for each value; none where there is only one value."""
    order = list(dict.fromkeys(v for v in values if v))
    if len(order) < 2:
        return []
    place = {v: i for i, v in enumerate(order)}
    group = {"id": order, "label": _column(order), "parent": [-1] * len(order)}
    return [{"name": name, "label": label, "group": group, "of": [place.get(v, -1) for v in values]}]


def _numbers(
    name: str, label: str, unit: str, values: Sequence[float | None], *, source: str = "computed",
    type: str = "sequential", aggregate: str | None = None,  # noqa: A002 - the wire format's word
) -> Json:  # fmt: skip
    out: Json = {
        "name": name,
        "label": label,
        "unit": unit,
        "type": type,
        "values": [_round(v) for v in values],
        "source": source,
    }
    out |= _infinite(values)
    if aggregate or type == "diverging":
        out["aggregate"] = aggregate or "sum"
    return out


def _infinite(values: Iterable[Any]) -> Json:
    """The rows whose value is infinite: JSON can't hold it, and left empty the worst would look like the unknown."""
    rows = [i for i, v in enumerate(values) if v == math.inf]
    return {"infinite": rows} if rows else {}


def _categories(name: str, label: str, values: Sequence[str], source: str) -> Json:
    names = sorted({v for v in values if v})
    at = {v: i for i, v in enumerate(names)}
    return {"name": name, "label": label, "unit": "", "type": "categorical", "categories": names,
            "values": [at.get(v) for v in values], "source": source}  # fmt: skip


def _fact(name: str, value: Any, unit: str | None = None, source: str | None = None, note: str | None = None) -> Json:
    return {"name": name, "value": value, "unit": unit, "source": source, "note": note}


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _errors(values: Sequence[float | None]) -> Json:
    """Errors against FP32 as an overlay, in percent."""
    return _numbers("error", "Error against FP32", "%", [_percent(v) for v in values],
                    source="measured", aggregate="max")  # fmt: skip


def _error_fact(lens: Lens, error: float | None) -> Json | None:
    if error is None or math.isfinite(error):
        return (
            None
            if error is None
            else _fact("Error against FP32", _round(_percent(error)), "%", "measured", lens.error_note)
        )
    return _fact("Error against FP32", "not finite", None, "measured", lens.error_note)


def rows_data(title: str, of: str, ids: Sequence[str], columns: Sequence[tuple[Json, Sequence[Any]]]) -> Json:
    """Any rows as `TableData`.

    Args:
        title: What the rows are.
        of: "layer" or "node": the kind of the selection that the table writes.
        ids: One for each row, unique.
        columns: For each its head (``name``, ``label``, ``type``, and for numbers ``unit`` and ``source``) and its
            values; NaN is left empty, and infinite numbers are named in the head.
    """

    def clean(head: Json, values: Sequence[Any]) -> Any:
        if head["type"] in {"text", "tag"}:
            return _column(values)
        return [_round(v) for v in values]

    return {
        "version": 1, "title": title, "of": of, "id": list(ids), "columns": [{**head, **_infinite(values)} for head, values in columns],
        "rows": [clean(head, values) for head, values in columns],
    }  # fmt: skip


def _conversion(layer: Layer) -> int:
    """Bit field of what a layer that only converts changes."""
    if layer.kind not in {"layout", "cast"}:
        return 0
    changes = layer.converts
    return (1 if "layout" in changes or layer.kind == "layout" else 0) | (2 if "precision" in changes else 0)


def _sub(layer: Layer) -> str:
    shape = _shape(layer.outputs[0].shape) if layer.outputs else ""
    return " · ".join(part for part in (_short(layer.precision), shape) if part)


def _shape(shape: Sequence[Any] | None) -> str:
    return "" if shape is None else "×".join("?" if d is None else str(d) for d in shape) or "scalar"


def _layout(text: str) -> str:
    """``(NHWC) Channel major format`` -> NHWC; other formats as they are."""
    if text.startswith("("):
        return text[1:].partition(")")[0]
    return text.replace(" format", "")


def _short(dtype: str) -> str:
    return {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float8e4m3fn": "fp8"}.get(dtype, dtype)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _round(value: float | None) -> float | None:
    """Four significant digits are enough on the wire; JSON has no number that is not finite, so None stands for it."""
    if value is None or isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    return float(f"{value:.4g}")
