"""Everything about one layer or node, for the browser."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.core.dtypes import label_of
from workbench.core.errors import StoreError
from workbench.core.units import bytes_text
from workbench.model.node import Node
from workbench.plan import Layer
from workbench.plan.columns import capital
from workbench.present.facts import fact, layer_facts, node_facts
from workbench.present.lens import Lens, need_graph
from workbench.present.text import fate_of, layer_sentence, layout_text, node_sentence, shape_text
from workbench.present.wire_types import DetailsRecord, DetailsSection, IdsSection


def details(lens: Lens, kind: str, item: str) -> DetailsRecord:
    """Everything about one layer or node, as `DetailsRecord`.

    Raises:
        StoreError: there is no such layer or node.
    """
    if kind == "layer" and item in lens.plan.by_id:
        return _layer_details(lens, lens.plan.by_id[item])
    if kind == "node" and lens.graph is not None and item in lens.graph.by_id:
        return _node_details(lens, lens.graph.by_id[item])
    raise StoreError(f"There is no {kind} {item!r} in this plan.", hint="It may belong to another engine.")


def _layer_details(lens: Lens, layer: Layer) -> DetailsRecord:
    tags = [layer.kind, label_of(layer.precision)]
    if layer.merged:
        tags.append("merged siblings")
    if layer.partial:
        tags.append("shares nodes")
    if not layer.nodes:
        tags.append("owns no node")
    sections: list[DetailsSection] = [{"type": "facts", "title": "Figures", "rows": layer_facts(lens, layer)}]
    if layer.nodes:
        sections.append(_node_ids(lens, f"ONNX nodes ({len(layer.nodes)})", layer.nodes))
    sections += [_node_ids(lens, "Siblings done in one launch", group) for group in layer.merged]
    scopes = list(dict.fromkeys(f"{s.scope} ({s.module})" if s.module else s.scope for s in layer.sources if s.scope))
    if scopes:
        modules = [fact(f"Module {i + 1}" if len(scopes) > 1 else "Module", s) for i, s in enumerate(scopes[:6])]
        sections.append({"type": "facts", "title": "PyTorch", "rows": modules})
    sections += _code(lens, layer.sources)
    rows: list[list[str | float | None]] = [
        [role, t.name, shape_text(t.shape), label_of(t.dtype), layout_text(t.format), bytes_text(t.bytes)]
        for role, tensors in (("in", layer.inputs), ("constant", layer.constants), ("out", layer.outputs))
        for t in tensors
    ]
    if rows:
        columns = ["", "tensor", "shape", "type", "layout", "size"]
        sections.append({"type": "table", "title": "Tensors", "columns": columns, "rows": rows})
    sections.append({"type": "raw", "title": "Raw record", "text": json.dumps(layer.to_dict(), indent=1)})
    return {
        "id": layer.id,
        "title": capital(layer.title),
        "words": layer_sentence(lens, layer),
        "tags": tags,
        "sections": sections,
    }


def _node_details(lens: Lens, node: Node) -> DetailsRecord:
    graph = need_graph(lens)
    source = lens.provenance.get(node.id)
    owners = lens.plan.layers_of.get(node.id, ())
    sections: list[DetailsSection] = [{"type": "facts", "title": "Figures", "rows": node_facts(lens, node)}]
    if owners:
        sections.append(
            {"type": "ids", "title": "Layers", "of": "layer", "ids": [la.id for la in owners],
             "labels": [capital(la.title) for la in owners]}
        )  # fmt: skip
    if source:
        sections += _code(lens, (source,))
    rows: list[list[str | float | None]] = []
    for role, names in (("in", node.inputs), ("out", node.outputs)):
        for name in names:
            if name:
                t = graph.tensor(name)
                constant = "constant" if name in graph.constants and role == "in" else role
                rows.append([constant, name, shape_text(t.shape), label_of(t.dtype), bytes_text(t.bytes)])
    sections.append(
        {"type": "table", "title": "Tensors", "columns": ["", "tensor", "shape", "type", "size"], "rows": rows}
    )
    attributes: list[list[str | float | None]] = [
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
        "words": node_sentence(lens, node),
        "tags": [fate_of(lens, node)],
        "sections": sections,
    }


def _node_ids(lens: Lens, title: str, ids: Iterable[str]) -> IdsSection:
    names = list(ids)
    graph = lens.graph
    labels = [f"{graph.by_id[n].op}  {n}" if graph is not None and n in graph.by_id else n for n in names]
    return {"type": "ids", "title": title, "of": "node", "ids": names, "labels": labels}


def _code(lens: Lens, sources: Iterable[Any]) -> list[DetailsSection]:
    """Code sections: sources whose lines lie near each other share one."""
    sources = list(sources)
    problem = lens.sources.missing if sources else ""
    notes: list[DetailsSection] = (
        [{"type": "facts", "title": "Source text", "rows": [fact("Not shown", problem)]}] if problem else []
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
    out: list[DetailsSection] = []
    for path, numbered in files.items():
        numbers = sorted(numbered)
        start = 0
        for i in range(1, len(numbers) + 1):
            if i == len(numbers) or numbers[i] > numbers[i - 1] + 1:
                block = numbers[start:i]
                out.append({"type": "code", "title": Path(path).name, "path": path, "first": block[0],
                            "lines": [numbered[n] for n in block], "mark": sorted(marks[path].intersection(block))})  # fmt: skip
                start = i
    return notes + out[:6]
