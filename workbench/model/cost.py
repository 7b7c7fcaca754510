"""What each ONNX node costs: floating-point operations and bytes moved.

Conventions, used everywhere in the workbench:

- A multiply-accumulate is 2 operations. Convolution: ``2 * outputs * (C_in / groups) * kernel`` where
  `outputs` is the number of output elements and `kernel` the product of the kernel's spatial sizes.
  Matrix product of (.., M, K) by (.., K, N): ``2 * outputs * K``. A bias adds one per output element.
- Pointwise operations count one per output element, transcendental ones too; Softmax 5 per element
  (max, subtract, exponent, sum, divide), layer and instance normalization 8, batch normalization 2
  (scale and shift, folded at inference), reductions one per input element, pooling one per element
  of each window.
- Moving or converting data counts no operations.
- Bytes: each distinct input tensor read once and each output written once, at the tensor's own type. A
  Gather or Embedding reads the rows it takes, not the whole table; a Slice or Split reads what it keeps.
- Views (Reshape, Squeeze, Unsqueeze, Flatten, Identity, inference-time Dropout) move nothing, and
  constants that can be computed ahead cost nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.model.graph import Graph, Node

VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"})
"""Operations that only rename bytes."""

SHAPES = frozenset({"Shape", "Size", "Constant", "ConstantOfShape"})
"""Operations that a host computes; no kernel is launched for them."""

CONTAINERS = frozenset({"If", "Loop", "Scan"})
"""Their bodies' nodes are counted, not they themselves."""

_PER_ELEMENT = {
    "Softmax": 5, "LogSoftmax": 6, "LayerNormalization": 8, "InstanceNormalization": 8,
    "GroupNormalization": 8, "SimplifiedLayerNormalization": 5, "RMSNormalization": 5, "BatchNormalization": 2,
    "LpNormalization": 3, "LRN": 8, "Gelu": 5, "HardSwish": 3, "Swish": 2, "Mish": 4, "QuantizeLinear": 3,
    "DequantizeLinear": 2, "Clip": 2, "Resize": 4, "GridSample": 8,
}  # fmt: skip
_POINTWISE = frozenset(
    [
        "Abs",
        "Acos",
        "Acosh",
        "Add",
        "And",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "Ceil",
        "Celu",
        "Cos",
        "Cosh",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "Xor",
    ]
)
_ROWS = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "Split"})


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs and bytes of one node. None: a shape or type that they follow from is unknown.

    `launches` tells whether the node, run on its own, would be a kernel launch.
    """

    flops: int | None
    bytes_read: int | None
    bytes_written: int | None
    launches: bool


def node_cost(graph: Graph, node: Node) -> Cost:
    """The cost of `node` at the shapes that `graph` holds (see the module's conventions)."""
    constant = bool(node.outputs) and all(not o or o in graph.constants for o in node.outputs)
    if constant or node.op in SHAPES or node.op in CONTAINERS or node.op in VIEWS or node.id not in graph.live:
        return Cost(0, 0, 0, launches=False)
    outputs = [graph.tensor(name) for name in dict.fromkeys(node.outputs) if name]
    inputs = [graph.tensor(name) for name in dict.fromkeys(node.inputs) if name]
    written = _total([t.bytes for t in outputs])
    reads = [t.bytes for t in inputs]
    if node.op in _ROWS and reads:
        reads[0] = written
    return Cost(flops(graph, node), _total(reads), written, launches=True)


def flops(graph: Graph, node: Node) -> int | None:
    """Operations of one node by the formulas at the head of this module; None where a shape is unknown."""
    outputs = [graph.tensor(name) for name in node.outputs if name]
    if not outputs:
        return 0
    count = outputs[0].elements
    op = node.op
    if op in {"Conv", "FusedConv", "ConvInteger", "QLinearConv"}:
        weight = graph.tensor(node.inputs[3 if op == "QLinearConv" else 1])
        if count is None or weight.elements is None or not weight.shape:
            return None
        bias = count if (len(node.inputs) > 2 and node.inputs[2] and op in {"Conv", "FusedConv"}) else 0
        # weight: (C_out, C_in / groups, *kernel)
        return 2 * count * _product(weight.shape[1:]) + bias
    if op == "ConvTranspose":
        data, weight = graph.tensor(node.inputs[0]), graph.tensor(node.inputs[1])
        if data.elements is None or weight.elements is None or not weight.shape:
            return None
        # Each input element is multiplied by its (C_out / groups, *kernel) weights.
        biased = len(node.inputs) > 2 and node.inputs[2]
        if biased and count is None:
            return None
        return 2 * data.elements * _product(weight.shape[1:]) + ((count or 0) if biased else 0)
    if op in {"MatMul", "MatMulInteger", "Gemm", "QLinearMatMul"}:
        left = graph.tensor(node.inputs[0])
        if count is None or left.elements is None or not left.shape:
            return None
        inner = left.shape[0 if op == "Gemm" and node.attribute("transA", 0) else -1]
        bias = count if op == "Gemm" and len(node.inputs) > 2 and node.inputs[2] else 0
        return 2 * count * _product((inner,)) + bias
    if op == "Attention":
        query, key = graph.tensor(node.inputs[0]), graph.tensor(node.inputs[1])
        if query.elements is None or not key.shape or key.elements is None:
            return None
        length = _product((key.shape[-2],))
        return 4 * query.elements * length
    if op in {"MaxPool", "AveragePool", "LpPool"}:
        return None if count is None else count * math.prod(node.attribute("kernel_shape", [1]))
    if op.startswith(("Reduce", "Global", "Arg")) or op in {"CumSum", "TopK"}:
        return graph.tensor(node.inputs[0]).elements
    if op in _POINTWISE:
        return count
    if op in _PER_ELEMENT:
        return None if count is None else count * _PER_ELEMENT[op]
    if op in {"LSTM", "GRU", "RNN"}:
        weight, recurrent = graph.tensor(node.inputs[1]), graph.tensor(node.inputs[2])
        data = graph.tensor(node.inputs[0])
        if not data.shape or weight.elements is None or recurrent.elements is None or data.elements is None:
            return None
        return 2 * _product(data.shape[:2]) * (weight.elements + recurrent.elements)
    if op == "Einsum":
        return _einsum(graph, node)
    return 0


def _einsum(graph: Graph, node: Node) -> int | None:
    """One multiply-accumulate per point of the whole index space."""
    equation = str(node.attribute("equation", "")).replace(" ", "")
    sizes: dict[str, int] = {}
    for term, name in zip(equation.split("->")[0].split(","), node.inputs, strict=False):
        tensor = graph.tensor(name)
        if tensor.elements is None or tensor.shape is None or "." in term or len(term) != len(tensor.shape):
            return None
        sizes.update(zip(term, (d for d in tensor.shape if isinstance(d, int)), strict=True))
    return 2 * math.prod(sizes.values())


def _product(shape: tuple[object, ...]) -> int:
    return math.prod(d for d in shape if isinstance(d, int))


def _total(parts: list[int | None]) -> int | None:
    known = [p for p in parts if p is not None]
    return sum(known) if len(known) == len(parts) else None
