"""The kinds of layers, found from the ONNX operators that a layer executes.

These kinds and titles hold for every compiler. What a compiler's own names tell beyond that comes from its vocabulary
(`workbench.plan.vocabulary`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

KINDS = {
    "conv": "convolution", "gemm": "matrix product", "attention": "attention", "pointwise": "pointwise operations",
    "norm": "normalization", "softmax": "softmax", "reduction": "reduction", "pooling": "pooling",
    "gather": "gather or scatter", "layout": "data movement or a change of memory layout",
    "cast": "conversion between data types", "shape": "shape arithmetic on the host", "sync": "stream event",
    "noop": "no work", "control": "control flow", "foreign": "a subgraph that another compiler compiled",
    "other": "not classified",
}  # fmt: skip
"""Every kind that a layer can have, with its meaning."""

_BY_OP = (
    ("attention", {"Attention", "MultiHeadAttention"}),
    ("conv", {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv"}),
    ("gemm", {"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Einsum", "LSTM", "GRU", "RNN"}),
    ("norm", {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization", "RMSNormalization"}),
    ("softmax", {"Softmax", "LogSoftmax"}),
    ("pooling", {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}),
    ("reduction", {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2", "ArgMax", "ArgMin", "TopK", "CumSum"}),
    ("gather", {"Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements"}),
    ("layout", {"Transpose", "Concat", "Split", "Slice", "Pad", "Expand", "Reshape", "Tile", "DepthToSpace", "SpaceToDepth"}),
    ("cast", {"Cast", "QuantizeLinear", "DequantizeLinear"}),
)  # fmt: skip


def kind_of_ops(ops: Collection[str]) -> str:
    """The kind of the most expensive operator among `ops`: "pointwise" if none has a rule, "other" if there are none."""
    for kind, members in _BY_OP:
        if members.intersection(ops):
            return kind
    return "pointwise" if ops else "other"


def title_of_ops(ops: Sequence[str], kind: str) -> str:
    """A layer's title from its operators, such as ``Conv + 2 × Relu``; "" if there are none."""
    shown = [op if n == 1 else f"{n} × {op}" for op, n in Counter(ops).items()]
    text = " + ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
    return f"{text} as a matrix product" if is_converted(kind, ops) else text


def is_converted(kind: str, ops: Collection[str]) -> bool:
    """Whether a convolution runs as a matrix product: a 1×1 convolution is a product over pixels."""
    return kind == "gemm" and kind_of_ops(ops) == "conv"
