"""What each ONNX node costs: floating-point operations and bytes moved.

A rule for its domain and name gives the cost of an operator. Without a rule, the FLOPs are unknown (None), never 0: a 0
always comes from a rule that says 0. The whole workbench uses these conventions:

- A multiply-accumulate is 2 operations. Convolution: ``2 * outputs * (C_in / groups) * kernel`` where
  `outputs` is the number of output elements and `kernel` the product of the kernel's spatial sizes.
  Matrix product of (.., M, K) by (.., K, N): ``2 * outputs * K``. A bias adds one per output element.
- Fused attention counts its two products over all pairs of a query and a key, masked ones too (scale, mask and
  softmax are left out), and the input projection where the operator has one. LSTM, GRU and RNN count the products
  of each time step (gates are left out). DFT and STFT count as a product with the DFT matrix.
  An Einsum counts its operands from left to right, two at a time.
- Pointwise operations count one per output element, transcendental ones too; Softmax 5 per element
  (max, subtract, exponent, sum, divide), layer and instance normalization 8, batch normalization 2
  (scale and shift, folded at inference), rotary embedding 3, reductions one per input element, pooling one per
  element of each window. A quantized pointwise operation (QLinear*) adds 2 per input and 3 per output for the conversions.
- Moving or converting data counts no operations.
- Bytes: each distinct input tensor read once and each output written once, at the tensor's own type. A
  Gather or Embedding reads the rows it takes, not the whole table; a Slice or Split reads what it keeps.
- Views (Reshape, Squeeze, Unsqueeze, Flatten, Identity, inference-time Dropout) move nothing, and
  constants that can be computed ahead cost nothing.
- If, Loop and Scan cost nothing themselves. Nodes in the body of a Loop or Scan cost as much as all its iterations
  together; unknown where the number of iterations is. Nodes in a branch of If cost as much as one run of the branch;
  a total counts one branch (see `totals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.model.cost_rules import (
    RULES,
    SHAPES,
    VIEWS,
    input_of,
    is_standard,
    scalar_of,
    times,
    total,
)

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.model.node import Node

    Rule = Callable[["Graph", "Node"], "int | None"]


CONTAINERS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""Operators whose own cost is 0; the nodes of their bodies are counted."""


_ROWS = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "Split"})


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs and bytes of one node. None if a shape, type, rule, or trip count that they depend on is unknown.

    `launches` is whether the node would be a kernel launch without fusion. `runs` is how often it runs: the
    iterations of the loops around it, which `flops` and bytes include; 0 in a branch that is never taken.
    """

    flops: int | None
    bytes_read: int | None
    bytes_written: int | None
    launches: bool
    runs: int | None = 1


def node_cost(graph: Graph, node: Node) -> Cost:
    """The cost of `node` at the shapes that `graph` holds (see the module's conventions)."""
    return _cost(graph, node, 1 if node.parent is None else runs(graph)[node.id])


def node_costs(graph: Graph) -> dict[str, Cost]:
    """The cost of every node by its id."""
    often = runs(graph)
    return {node.id: _cost(graph, node, often[node.id]) for node in graph.nodes}


def totals(graph: Graph, costs: Mapping[str, Cost]) -> tuple[int, int]:
    """FLOPs of the whole graph, and the number of nodes with unknown FLOPs (then the sum is a lower bound).

    If the condition of an If is only known at run time, the cheaper branch counts. If the branches differ, the If
    itself counts as an unknown node.
    """

    def of(nodes: Iterable[Node]) -> tuple[int, int]:
        known = unknown = 0
        for node in nodes:
            cost = costs[node.id]
            known += cost.flops or 0
            unknown += cost.flops is None
            branches = [of(body) for body in graph.bodies.get(node.id, {}).values()]
            if not branches:
                continue
            if node.op == "If" and len(branches) == 2 and _branch(graph, node) is None:
                known += min(k for k, _ in branches)
                unknown += max(u for _, u in branches) + (branches[0][0] != branches[1][0])
            else:  # if the condition of an If is known, the other branch costs 0
                known += sum(k for k, _ in branches)
                unknown += sum(u for _, u in branches)
        return known, unknown

    return of(node for node in graph.nodes if node.parent is None)


def flops(graph: Graph, node: Node) -> int | None:
    """Operations of one run of a node by the rules at the top of this module; None if a shape or rule is unknown."""
    if node.op in CONTAINERS and is_standard(node):
        return 0  # the nodes of its body count
    rule = RULES.get(("" if is_standard(node) else node.domain, node.op))
    return None if rule is None else rule(graph, node)


def runs(graph: Graph) -> dict[str, int | None]:
    """How often each node runs if the graph runs once: the product of the trip counts around it, None if unknown.

    A node in a branch of If counts once, or 0 times if the condition is known to choose the other branch.
    """
    found: dict[str, int | None] = {}

    def walk(nodes: Iterable[Node], often: int | None) -> None:
        for node in nodes:
            found[node.id] = often
            bodies = graph.bodies.get(node.id)
            if not bodies:
                continue
            if node.op == "If" and is_standard(node):
                taken = _branch(graph, node)
                for name, body in bodies.items():
                    walk(body, often if taken in {None, name} else 0)
            else:
                inner = times(often, _trips(graph, node))
                for body in bodies.values():
                    walk(body, inner)

    walk((node for node in graph.nodes if node.parent is None), 1)
    return found


def _cost(graph: Graph, node: Node, runs: int | None) -> Cost:
    constant = bool(node.outputs) and all(not o or o in graph.constants for o in node.outputs)
    free = is_standard(node) and node.op in SHAPES | CONTAINERS | VIEWS
    if constant or free or node.id not in graph.live:
        return Cost(0, 0, 0, launches=False, runs=runs)
    outputs = [graph.tensor(name) for name in dict.fromkeys(node.outputs) if name]
    inputs = [graph.tensor(name) for name in dict.fromkeys(node.inputs) if name]
    written = total([t.bytes for t in outputs])
    reads = [t.bytes for t in inputs]
    if is_standard(node) and node.op in _ROWS and reads:
        reads[0] = written
    return Cost(
        times(flops(graph, node), runs),
        times(total(reads), runs),
        times(written, runs),
        launches=runs != 0,
        runs=runs,
    )


# --- how often bodies run -----------------------------------------------------------------------------


def _trips(graph: Graph, container: Node) -> int | None:
    """Iterations of a Loop or Scan; None if they are only known at run time."""
    if not is_standard(container):
        return None
    if container.op == "Loop":
        return _loop_trips(graph, container)
    if container.op == "Scan":
        scanned = container.attribute("num_scan_inputs")
        if (
            not isinstance(scanned, int)
            or not 0 < scanned <= len(container.inputs)
            or graph.opset.get("ai.onnx", 0) < 9
        ):
            return None
        axes = container.attribute("scan_input_axes", [0] * scanned)
        shape = graph.tensor(container.inputs[-scanned]).shape
        if not shape or not isinstance(axes, list) or not axes or not -len(shape) <= axes[0] < len(shape):
            return None
        size = shape[axes[0]]
        return size if isinstance(size, int) and size >= 0 else None
    return None


def _loop_trips(graph: Graph, loop: Node) -> int | None:
    most = scalar_of(graph, input_of(loop, 0))
    if not isinstance(most, int):
        return None
    if most <= 0:
        return 0
    if input_of(loop, 1):
        starts = scalar_of(graph, loop.inputs[1])
        if starts is not None and not starts:
            return 0
        if starts is None:
            return None
    # The condition must stay true: the body returns the condition that it received, or a constant.
    body = loop.attribute("body")
    if body is None or not body.output or len(body.input) < 2:
        return None
    name = body.output[0].name
    makers = {o: n for n in body.node for o in n.output}
    seen: set[str] = set()
    while name in makers and makers[name].op_type in {"Identity", "Cast"} and makers[name].input and name not in seen:
        seen.add(name)
        name = makers[name].input[0]
    if name == body.input[1].name:
        return int(most)
    stays = scalar_of(graph, name)
    return None if stays is None else int(most) if stays else 1


def _branch(graph: Graph, node: Node) -> str | None:
    """The attribute that holds the branch that an If takes; None if its condition is not known before the run."""
    condition = scalar_of(graph, input_of(node, 0))
    return None if condition is None else ("then_branch" if condition else "else_branch")


# --- rules --------------------------------------------------------------------------------------------
