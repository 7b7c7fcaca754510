"""Sorts nodes so that each follows the nodes that it reads from."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError

if TYPE_CHECKING:
    import onnx


def ordered(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model with the nodes of each graph sorted so that each follows the nodes that it reads from.

    Returns:
        The model itself if its nodes are in order, otherwise a copy; and an output of each node that came too early.

    Raises:
        ModelError: nodes depend on each other in a cycle (``node-cycle``).
    """
    moved = [node for graph in graphs_of(model.graph) for node in _early(graph)]
    if not moved:
        return model, []
    copy = type(model)()
    copy.CopyFrom(model)
    for graph in reversed(list(graphs_of(copy.graph))):  # bodies first: sorting copies the nodes that hold them
        if _early(graph):
            _sort(graph)
    return copy, [next((o for o in node.output if o), "") for node in moved]


def graphs_of(graph: Any) -> Iterator[Any]:
    """A graph and its bodies, outermost first."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)
            for inner in attribute.graphs:
                yield from graphs_of(inner)


def _reads(node: Any) -> Iterator[str]:
    """Names that a node and its bodies read."""
    yield from node.input
    for attribute in node.attribute:
        for body in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for graph in graphs_of(body):
                yield from (value.name for value in graph.output)
                for inner in graph.node:
                    yield from inner.input


def _makers(graph: Any) -> dict[str, int]:
    """The node that writes each tensor, by the tensor's name; the first if there are several."""
    makers: dict[str, int] = {}
    given = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    for i, node in enumerate(graph.node):
        for name in node.output:
            if name and name not in given:
                makers.setdefault(name, i)
    return makers


def _early(graph: Any) -> list[Any]:
    """Nodes that come before a node that they read from."""
    makers = _makers(graph)
    return [node for i, node in enumerate(graph.node) if any(makers.get(name, -1) >= i for name in _reads(node))]


def _sort(graph: Any) -> None:
    """Sort a graph's nodes in place. Nodes that need not move keep their order."""
    makers = _makers(graph)
    before = [{makers[name] for name in _reads(node) if name in makers} for node in graph.node]
    try:
        sorter = TopologicalSorter({i: sorted(needed) for i, needed in enumerate(before)})
        sorter.prepare()
    except CycleError as error:
        circle = [graph.node[i].name or next(iter(graph.node[i].output), "?") for i in error.args[1]]
        raise ModelError(
            f"Nodes of the model read from each other in a cycle: {' -> '.join(c[:80] for c in circle[:8])}.",
            hint="ONNX forbids that: export the model again.",
            details={"nodes": circle},
            code="node-cycle",
        ) from None
    order: list[int] = []
    ready: list[int] = list(sorter.get_ready())
    heapify(ready)
    while ready:
        place = heappop(ready)
        order.append(place)
        sorter.done(place)
        for other in sorter.get_ready():
            heappush(ready, other)
    nodes = []
    for i in order:
        copy = type(graph.node[i])()
        copy.CopyFrom(graph.node[i])
        nodes.append(copy)
    del graph.node[:]
    graph.node.extend(nodes)
