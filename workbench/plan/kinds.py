"""What kind of work a layer is, and its name in words.

TensorRT's names are terse: ``__myl_CorrMulAddRelu_myl0_7`` is a convolution with a multiply, an add and a
ReLU in its epilogue. Myelin, the compiler inside, builds such names from four-letter words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

WORDS = {
    "Corr": "convolution", "Conv": "convolution", "Fc": "matrix product", "Gemm": "matrix product",
    "Mul": "multiply", "Add": "add", "Sub": "subtract", "Div": "divide", "Pow": "power", "Sqrt": "square root",
    "Rsqr": "reciprocal square root", "Neg": "negate", "Abs": "absolute value", "Exp": "exponential", "Log": "logarithm",
    "Erf": "erf", "Tanh": "tanh", "Sigm": "sigmoid", "Relu": "ReLU", "Gelu": "GELU", "Sin": "sine", "Cos": "cosine",
    "Min": "minimum", "Max": "maximum", "Roun": "round", "Floo": "floor", "Ceil": "ceiling", "Reci": "reciprocal",
    "Sele": "select", "Selec": "select", "Equa": "equal", "Less": "less", "Grea": "greater", "And": "and", "Or": "or",
    "Not": "not", "Cmp": "compare", "Cast": "cast", "Move": "copy to another layout", "Tran": "transpose",
    "Repl": "fill or broadcast", "Conc": "concatenate", "Slic": "slice", "Resh": "reshape", "Pad": "pad",
    "Gath": "gather", "Scat": "scatter", "Iota": "index ramp", "Sum": "sum", "Mean": "mean", "Maxr": "maximum over an axis",
    "Minr": "minimum over an axis", "Prod": "product over an axis", "Argm": "arg max", "Topk": "top k", "Sort": "sort",
    "Cums": "cumulative sum", "Quan": "quantize", "Dequ": "dequantize", "Resi": "resize", "Wher": "where", "Rest": "reshape",
}  # fmt: skip
"""Myelin's words, as seen in listings of the sample models and of the onnx package's."""

_MOVES = {"Move", "Tran", "Repl", "Conc", "Slic", "Resh", "Rest", "Pad"}
_REDUCE = {"Sum", "Mean", "Maxr", "Minr", "Prod", "Argm", "Cums", "Topk", "Sort"}
_WORD = re.compile(r"[A-Z][a-z0-9]*")
_REFORMAT = re.compile(r"Reformatting CopyNode for (Input|Output) Tensor (\d+) to (.*)", re.DOTALL)
_SUFFIX = re.compile(r"_myl\d+_\d+$|_0x[0-9a-f]{16,}$")

_BY_TYPE = {
    "signal": "sync", "wait": "sync", "shape_call": "shape", "correlation": "conv", "gemm": "gemm",
    "maxpool": "pooling", "avgpool": "pooling", "convolution": "conv", "caskconvolution": "conv",
    "caskgemmconvolution": "conv", "deconv": "conv", "caskdeconvolutionv2": "conv", "deconvolution": "conv",
    "matrixmultiply": "gemm", "caskgemm": "gemm", "fullyconnected": "gemm", "caskpooling": "pooling", "pooling": "pooling",
    "tiledpooling": "pooling", "cudapooling": "pooling", "convactpool": "conv", "cudnnconvolution": "conv",
    "cudaelementwise": "pointwise", "einsum": "gemm", "parametricrelu": "pointwise", "reformat": "layout", "noop": "noop", "shuffle": "layout", "concatenation": "layout",
    "slice": "layout", "cast": "cast", "quantize": "cast", "dequantize": "cast", "pointwise": "pointwise",
    "pointwisev2": "pointwise", "elementwise": "pointwise", "activation": "pointwise", "scale": "pointwise",
    "unary": "pointwise", "select": "pointwise", "softmax": "softmax", "softmaxv2": "softmax", "casksoftmaxv2": "softmax",
    "reduce": "reduction", "topk": "reduction", "normalization": "norm", "gather": "gather", "scatter": "gather",
    "resize": "pointwise", "shapehosttodevice": "shape", "devicetoshapehost": "shape", "shape": "shape",
    "attention": "attention", "myelin": "foreign", "foreignnode": "foreign",
}  # fmt: skip

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


_JUMPS = {"cjmp", "jmp"}
_HOST_STEPS = {"memset", "copy", "add", "sub", "mul", "div", "mod", "min", "max", "cast", "reshape"}
"""Myelin's own types of steps between kernels. Kernels of the same operations are of type kgen."""


def is_control(layer: Mapping[str, Any]) -> bool:
    """Whether a layer's record is a step of control flow rather than a kernel: a jump, or one number that decides one.

    Such are counters and offsets of a loop (``init_hvar^``, ``adv_off^hvar^``), and copies of a condition to the host.
    """
    if layer["type"] not in _HOST_STEPS:
        return layer["type"] in _JUMPS
    tensors = [*layer["inputs"], *layer["outputs"]]
    return all(t["dtype"] in {"int32", "int64", "bool"} and all(d == 1 for d in t["shape"]) for t in tensors)


def layer_kind(layer: Mapping[str, Any], ops: Collection[str] = ()) -> str:
    """The kind of a layer: the compiler's where its record has one, else from the record and the operations of its nodes."""
    if layer.get("kind"):
        return str(layer["kind"])
    if is_control(layer):
        return "control"
    if layer["type"] in {"memset", "copy"}:
        return "layout"
    return kind_of(layer["type"], layer["name"], ops)


def words_of(name: str) -> list[str]:
    """The words of a generated name (``__myl_MulTran_myl0_6`` -> Mul, Tran); empty for other names."""
    if not name.startswith("__myl_"):
        return []
    return _WORD.findall(_SUFFIX.sub("", name)[len("__myl_") :])


def kind_of(layer_type: str, name: str, ops: Collection[str]) -> str:
    """The kind of a layer from its type, its name and the operations of its nodes."""
    if "mha" in name.lower():
        return "attention"
    kind = _BY_TYPE.get(layer_type.lower().replace(" ", ""))
    if kind is not None and kind != "foreign":
        return kind
    words = words_of(name)
    if words:
        return _kind_of_words(words, ops)
    found = kind_of_ops(ops)
    if found != "other":
        return found
    return kind or ("pointwise" if ops else "other")


def kind_of_ops(ops: Collection[str]) -> str:
    """The kind of the weightiest operation among `ops`."""
    for kind, members in _BY_OP:
        if members.intersection(ops):
            return kind
    return "pointwise" if ops else "other"


def _kind_of_words(words: list[str], ops: Collection[str]) -> str:
    present = set(words)
    if present & {"Corr", "Conv"}:
        return "conv"
    if present & {"Fc", "Gemm"}:
        return "gemm"
    if "Exp" in present and "Sum" in present and ("Maxr" in present or "Div" in present):
        return "softmax"
    if "Mean" in present and present & {"Sqrt", "Rsqr", "Pow"}:
        return "norm"
    if present & _REDUCE:
        return "norm" if {"LayerNormalization", "InstanceNormalization"}.intersection(ops) else "reduction"
    if "Gath" in present or "Scat" in present:
        return "gather"
    if present <= {"Cast"}:
        return "cast"
    if present <= _MOVES:
        return "layout"
    if present <= _MOVES | {"Cast"}:
        return "layout"
    return "pointwise"


def title_of(layer_type: str, name: str, kind: str, node_labels: list[str]) -> str:
    """A layer's name in words, for people."""
    if kind == "sync":
        return "signal a stream event" if layer_type == "signal" else "wait for a stream event"
    if kind == "control":
        return {"cjmp": "jump on a condition", "jmp": "jump", "copy": "copy a value that decides a jump"}.get(
            layer_type, "a counter or offset of a loop"
        )
    if "mha" in name.lower():
        return "fused multi-head attention"
    if reformat := _REFORMAT.fullmatch(name):
        return f"another layout for {reformat[1].lower()} {reformat[2]} of {reformat[3]}"
    words = words_of(name)
    converted = kind == "gemm" and kind_of_ops(node_labels) == "conv"  # a 1×1 convolution is a product over pixels
    if words and not converted:
        told = [WORDS.get(w, w) for w in words]
        if len(told) > 7:
            told = [*told[:6], f"and {len(told) - 6} more"]
        return ", ".join(told)
    if node_labels:
        counts = Counter(node_labels)
        shown = [op if n == 1 else f"{n} × {op}" for op, n in counts.items()]
        text = " + ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
        return f"{text} as a matrix product" if converted else text
    return layer_type
