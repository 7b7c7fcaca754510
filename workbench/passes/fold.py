"""Computes weights that a graph derives from constants, such as the transposed embedding of a tied head.

`folded` computes such a value once and caches it; the graph is not changed. It folds arithmetic on constants and
operations that move their values, but nothing whose result could grow without bound.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from workbench.passes.constants import constant, has_body

if TYPE_CHECKING:
    import onnx_ir as ir

FOLDED = frozenset({
    "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Mul", "Div", "Add", "Sub", "Neg",
    "Slice", "Concat",
})  # fmt: skip
"""Operations that are folded."""

RANDOM = frozenset({
    "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout",
})  # fmt: skip
"""Operations with random results."""

MOST_BYTES = 4_000_000_000
"""Larger results are not folded."""


MOST_NODES = 64
"""Longer chains of nodes are not folded."""


def from_constants(value: ir.Value | None) -> bool:
    """Whether a value depends only on constants: not on an input, and not on random numbers."""
    seen: set[int] = set()
    pending = [value]
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen or constant(each) is not None:
            continue
        seen.add(id(each))
        node = each.producer()
        if node is None or has_body(node) or node.op_type in RANDOM:
            return False
        pending += node.inputs
    return value is not None


def folded(value: ir.Value | None) -> Any:
    """The tensor of a value, computed if necessary; None if it can't be folded."""
    if value is None or (held := constant(value)) is not None:
        return None if value is None else held
    if "workbench.folded" not in value.meta:
        fits = from_constants(value) and len(makers(value)) <= MOST_NODES
        value.meta["workbench.folded"] = _compute(value) if fits else None
    return value.meta["workbench.folded"]


def makers(value: ir.Value) -> list[ir.Node]:
    """The nodes that compute a folded value from constants, last first."""
    out: dict[int, ir.Node] = {}
    pending: list[ir.Value | None] = [value]
    while pending:
        each = pending.pop()
        node = each.producer() if each is not None else None
        if node is not None and id(node) not in out:
            out[id(node)] = node
            pending += node.inputs
    return list(out.values())


def described(value: ir.Value, depth: int = 3) -> str:
    """A short description of how a value is computed from constants: "Transpose of E"."""
    node = value.producer()
    if node is None or node.op_type == "Constant" or not depth:
        return str(value.name)
    return f"{node.op_type} of {' and '.join(described(v, depth - 1) for v in node.inputs[:2] if v is not None)}"


def _compute(value: ir.Value) -> Any:
    import numpy as np
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    node = value.producer()
    if node is None or node.op_type not in FOLDED or node.domain not in {"", "ai.onnx"} or len(node.outputs) != 1:
        return None
    inputs = {}
    for each in node.inputs:
        if each is None:
            continue
        held = folded(each)
        if held is None:
            return None
        inputs[str(each.name)] = held
    shapes = [tuple(t.shape.numpy()) for t in inputs.values()]
    if node.op_type in {"Mul", "Div", "Add", "Sub"}:
        size = math.prod(np.broadcast_shapes(*shapes))
    else:
        size = sum(math.prod(shape) for shape in shapes)
    if size * 8 > MOST_BYTES * 2:
        return None
    graph = node.graph
    opsets = dict(graph.opset_imports) if graph is not None and hasattr(graph, "opset_imports") else {}
    run = ReferenceEvaluator(ir.serde.serialize_node(node), opsets={"": opsets.get("", 20)})
    [array] = run.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return ir.tensor(np.ascontiguousarray(array), name=str(value.name))
