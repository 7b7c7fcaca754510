"""Control flow in a plan: which nodes each layer executes, the branch of an If that it is in, and whether it repeats.

Each compiler reports control flow in its own way: its vocabulary (`workbench.plan.vocabulary`) reads it and returns a
`Flow`. This module holds the parts that are the same for every compiler.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.plan.record import LayerRecord

RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
"""Operators that a compiler may turn into a loop."""


@dataclass(frozen=True)
class Flow:
    """The control flow of each layer of a record, in the record's order.

    Attributes:
        claims: Ids of the layer's nodes.
        evidence: How they are known; "" means that the record contains it.
        inferred: The ids among `claims` that only a rule assigns.
        branches: The branches that the layer is in, outermost first: id of the If, and 0 for then, 1 for else.
        repeated: Whether the layer runs once for each iteration of a loop.
        rule: The rule behind `inferred`, for people.
    """

    claims: list[tuple[str, ...]]
    evidence: list[str]
    inferred: list[tuple[str, ...]]
    branches: list[tuple[tuple[str, int], ...]]
    repeated: list[bool]
    rule: str = ""


def straight(graph: Graph, layers: Sequence[LayerRecord], renamed: Mapping[str, str]) -> Flow:
    """The flow that the records contain: the nodes that each layer names, its branches, and whether it repeats."""
    n = len(layers)
    claims = [claimed(graph, raw["nodes"], renamed) for raw in layers]
    branches = [
        tuple((i, int(side)) for name, side in raw.get("branch", ()) if (i := renamed.get(name, name)) in graph.by_id)
        for raw in layers
    ]
    return Flow(claims, [""] * n, [()] * n, branches, [bool(raw.get("repeated")) for raw in layers])


def claimed(graph: Graph, names: Iterable[str], renamed: Mapping[str, str]) -> tuple[str, ...]:
    """Ids of the nodes called `names`; names that match no node are omitted."""
    return tuple(dict.fromkeys(i for name in names if (i := renamed.get(name, name)) in graph.by_id))


def branch_of(graph: Graph) -> dict[str, tuple[tuple[str, int], ...]]:
    """The branches that each node is in, outermost first, by node id; nodes outside of branches are omitted."""
    place: dict[str, tuple[str, int]] = {}
    children: dict[str, list[str]] = {}
    for node in graph.nodes:
        if node.parent is not None:
            children.setdefault(node.parent, []).append(node.id)
    for parent, nodes in children.items():
        owner = graph.by_id[parent]
        if owner.op != "If":
            continue
        bodies = [(a.name == "else_branch", len(a.g.node)) for a in owner.proto.attribute if a.HasField("g")]
        sides = [int(is_else) for is_else, count in bodies for _ in range(count)]
        place.update({node: (parent, side) for node, side in zip(nodes, sides, strict=False)})
    out: dict[str, tuple[tuple[str, int], ...]] = {}
    for node in graph.nodes:
        above = out.get(node.parent, ()) if node.parent is not None else ()
        path = (*above, place[node.id]) if node.id in place else above
        if path:
            out[node.id] = path
    return out
