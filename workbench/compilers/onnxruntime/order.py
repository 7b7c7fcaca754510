"""The order in which ONNX Runtime executes the nodes of a graph that it loaded.

It is not the order of the file: ONNX Runtime walks back from the nodes without consumers (``GraphViewer`` in its
core/graph/graph_viewer.cc), the last one first, and follows a node's input with the highest index first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.model.node import Node


def execution_order(graph: Graph) -> list[str]:
    """Ids of all nodes in the order of execution; a body's nodes follow the node that owns it."""
    out: list[str] = []
    _add(graph, [node for node in graph.nodes if node.parent is None], out)
    return out


def _add(graph: Graph, nodes: Sequence[Node], out: list[str]) -> None:
    for node in _sorted(graph, nodes):
        out.append(node.id)
        for body in graph.bodies.get(node.id, {}).values():
            _add(graph, body, out)


def _sorted(graph: Graph, nodes: Sequence[Node]) -> list[Node]:
    maker = {t: i for i, node in enumerate(nodes) for t in node.outputs if t}
    inputs = [sorted({maker[t] for t in _reads(graph, node) if t in maker}) for node in nodes]
    used = {k for each in inputs for k in each}
    stack = [(i, False) for i in range(len(nodes)) if i not in used]
    seen: set[int] = set()
    found: list[Node] = []
    while stack:
        i, done = stack.pop()
        if done:
            found.append(nodes[i])
        elif i not in seen:
            seen.add(i)
            stack.append((i, True))
            stack += [(k, False) for k in inputs[i] if k not in seen]
    return found


def _reads(graph: Graph, node: Node) -> list[str]:
    """What a node reads, its bodies included."""
    inside = [n for body in graph.bodies.get(node.id, {}).values() for n in body]
    return [*node.inputs, *(t for n in inside for t in _reads(graph, n))]
