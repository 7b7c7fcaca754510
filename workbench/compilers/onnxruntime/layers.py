"""The optimized graph as layers of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from workbench.compilers.onnxruntime import words
from workbench.compilers.onnxruntime.order import execution_order
from workbench.compilers.onnxruntime.regions import NCHWC

if TYPE_CHECKING:
    from workbench.compilers.onnxruntime.regions import Regions
    from workbench.model.graph import Graph
    from workbench.plan.record import LayerRecord, TensorRecord

_KEEP_LAYOUT = frozenset({
    "Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "Elu", "HardSigmoid",
    "HardSwish", "QuickGelu", "Gelu", "Concat", "Identity",
})  # fmt: skip
"""Operators of other domains that ONNX Runtime runs on tensors in its blocked layout."""


@dataclass(frozen=True)
class Optimized:
    """A saved graph with what ONNX Runtime knows about its tensors.

    Attributes:
        graph: The graph.
        known: Shape (-1 where open) and data type by tensor, of the top level.
    """

    graph: Graph
    known: Mapping[str, tuple[list[int], str]] = field(default_factory=dict)

    def tensor(self, name: str) -> TensorRecord:
        """A tensor in the form of a layer's record."""
        have = self.graph.tensor(name)
        shape: list[int] | None = (
            None if have.shape is None else [d if isinstance(d, int) and d >= 0 else -1 for d in have.shape]
        )
        dtype = have.dtype
        if name in self.known:
            inferred, inferred_type = self.known[name]
            dtype = inferred_type or dtype
            if shape is None or (-1 in shape and len(inferred) == len(shape)):
                shape = inferred
        return {
            "name": name, "shape": [-1] if shape is None else shape, "strides": None, "dtype": dtype,
            "format": "NCHWc" if name in self.blocked else "row-major",
        }  # fmt: skip

    @cached_property
    def blocked(self) -> frozenset[str]:
        """Tensors in the blocked layout NCHWc."""
        found: set[str] = set()
        for node in self.graph.nodes:
            if node.domain == NCHWC:
                if node.op != "ReorderOutput":
                    found.update(node.outputs)
            elif node.op in _KEEP_LAYOUT and any(t in found for t in node.inputs):
                found.update(node.outputs)
        return frozenset(found - {""})

    @property
    def cpu_layout(self) -> bool:
        """Whether a node needs the layout of the CPU that the graph was optimized on."""
        return any(node.domain == NCHWC for node in self.graph.nodes)


def layers_of(optimized: Optimized, original: Graph, regions: Regions) -> list[LayerRecord]:
    """One layer for each optimized node, in the order of execution: a body's nodes follow the node that owns it."""
    graph = optimized.graph
    constants = graph.initializers
    owners = {
        node.id: own for node, nodes in zip(graph.nodes, regions.nodes, strict=True)
        if (own := next((n for n in nodes if n in regions.executed), None)) is not None
    }  # fmt: skip
    where = _branches(graph, owners)
    out: list[LayerRecord] = []
    for node, nodes, evidence in zip(graph.nodes, regions.nodes, regions.evidence, strict=True):
        inputs = [t for t in dict.fromkeys(node.inputs) if t]
        owned = list(nodes)
        if node.op in {"If", "Loop", "Scan"}:
            owned += [n.id for n in original.nodes if _inside(original, n.parent, set(nodes) - regions.executed)]
        branch, repeated = where.get(node.id, ([], False))
        layer: LayerRecord = {
            "name": node.id,
            "type": node.op if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op}",
            "kind": words.kind(node, graph.outputs),
            "title": words.title(node),
            "inputs": [optimized.tensor(t) for t in inputs if t not in constants],
            "constants": [optimized.tensor(t) for t in inputs if t in constants],
            "outputs": [optimized.tensor(t) for t in node.outputs if t],
            "tactic": "", "stream": 0, "event": None, "metadata": "",
            "nodes": owned, "evidence": evidence,
        }  # fmt: skip
        if branch:
            layer["branch"] = branch
        if repeated:
            layer["repeated"] = True
        out.append(layer)
    rank = {name: i for i, name in enumerate(execution_order(graph))}
    return sorted(out, key=lambda layer: rank[layer["name"]])


def _inside(graph: Graph, parent: str | None, owners: set[str]) -> bool:
    while parent is not None:
        if parent in owners:
            return True
        parent = graph.by_id[parent].parent
    return False


def _branches(graph: Graph, owners: Mapping[str, str]) -> dict[str, tuple[list[tuple[str, int]], bool]]:
    """For each node in a body: the branches of If nodes that it is in, outermost first, and whether a loop repeats it.

    Args:
        graph: The optimized graph.
        owners: Its control-flow nodes -> those of the model.
    """
    found: dict[str, tuple[list[tuple[str, int]], bool]] = {}
    for owner, bodies in graph.bodies.items():  # owners come before what is inside them
        above, again = found.get(owner, ([], False))
        for attribute, body in bodies.items():
            for node in body:
                side = (owners.get(owner, owner), int(attribute == "else_branch"))
                path = [*above, side] if graph.by_id[owner].op == "If" else above
                found[node.id] = (path, again or graph.by_id[owner].op != "If")
    return found


def warnings_of(original: Graph, layers: Sequence[LayerRecord]) -> list[str]:
    """Bugs of ONNX Runtime that are visible in the optimized graph."""
    out = []
    for layer in layers:
        kept = layer["type"] == "QuantizeLinear" and layer["outputs"][0]["dtype"].startswith("float8")
        lost = [n for n in layer["nodes"] if original.by_id[n].op == "Relu"] if kept else []
        if lost:
            out.append(
                f"ONNX Runtime removed {', '.join(lost)} (Relu) in front of {layer['name']}, which quantizes to "
                f"{layer['outputs'][0]['dtype']}. FP8 has negative numbers, so the outputs are wrong. Build with "
                "disabled_optimizers=('ReluQuantRewrite',) or graph_optimization='basic'."
            )
    return out
