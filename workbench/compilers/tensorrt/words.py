"""TensorRT's vocabulary: layer types, and the names that its compiler gives to kernels.

TensorRT's names are terse: ``__myl_CorrMulAddRelu_myl0_7`` is a convolution with a multiply, an add and a ReLU in its
epilogue. Myelin, the compiler inside TensorRT, builds such names from words of up to five letters. Everything here
uses only the names; `workbench.compilers.tensorrt.vocabulary` provides it to the analysis of plans.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from workbench.plan.kinds import is_converted

if TYPE_CHECKING:
    from workbench.plan.record import LayerRecord

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
"""Myelin's words and their meanings, as seen in listings of the sample models and of the models in the onnx package."""

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
"""The kind of each layer type, written in lower case without spaces: of Myelin, TensorRT and older versions."""

_JUMPS = {"cjmp", "jmp"}
_HOST_STEPS = {"memset", "copy", "add", "sub", "mul", "div", "mod", "min", "max", "cast", "reshape"}
"""Myelin's types of steps between kernels. Kernels of the same operations have the type kgen."""

_STUB = "__myelin_CASK_STUB"
"""What TensorRT for RTX reports as the tactic of a kernel that it compiles on the GPU."""


def is_control(layer: LayerRecord) -> bool:
    """Whether a layer is a step of control flow rather than a kernel: a jump, or one number that decides a jump.

    Such numbers are counters and offsets of a loop (``init_hvar^``, ``adv_off^hvar^``), and copies of a condition to
    the host.
    """
    if layer["type"] not in _HOST_STEPS:
        return layer["type"] in _JUMPS
    tensors = [*layer["inputs"], *layer["outputs"]]
    return all(t["dtype"] in {"int32", "int64", "bool"} and all(d == 1 for d in t["shape"]) for t in tensors)


def words_of(name: str) -> list[str]:
    """The words of a generated name (``__myl_MulTran_myl0_6`` -> Mul, Tran); empty for other names."""
    if not name.startswith("__myl_"):
        return []
    return _WORD.findall(_SUFFIX.sub("", name)[len("__myl_") :])


def kind_of(layer_type: str, name: str, ops: Collection[str]) -> str | None:
    """The kind of a layer, from its type and name; None if it depends on the layer's operators.

    Args:
        layer_type: TensorRT's type of the layer.
        name: TensorRT's name of the layer.
        ops: ONNX operators of its nodes; they distinguish a normalization from a reduction.
    """
    if "mha" in name.lower():
        return "attention"
    kind = _BY_TYPE.get(layer_type.lower().replace(" ", ""))
    if kind is not None and kind != "foreign":
        return kind
    if words := words_of(name):
        return _kind_of_words(words, ops)
    return None if ops else kind


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
    if present <= _MOVES | {"Cast"}:
        return "layout"
    return "pointwise"


def title_of(layer_type: str, name: str, kind: str, ops: Sequence[str]) -> str | None:
    """A readable layer name; None if its type and name add nothing to its operators."""
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
    if not words or is_converted(kind, ops):
        return None
    text = [WORDS.get(w, w) for w in words]
    return ", ".join([*text[:6], f"and {len(text) - 6} more"] if len(text) > 7 else text)


def tactic_of(tactic: str) -> str:
    """A readable tactic name."""
    return "chosen when the engine first runs on its GPU" if tactic == _STUB else tactic
