"""Whether a generated kernel name contains an ONNX operation: ``__myl_FcAddSilu`` is a product, an addition and a SiLU.

TensorRT does not name every node that a kernel executes. If the kernel's name has a word that no known node
accounts for, a neighboring node with that operation also runs in the kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.compilers.tensorrt.words import words_of
from workbench.plan.reasons import SILENT

if TYPE_CHECKING:
    from workbench.model.node import Node

_SPELLED: dict[str, tuple[tuple[str, ...], ...]] = {
    "Relu": (("Relu",),), "Elu": (("Elu",), ("Max", "Exp", "Add", "Min", "Add")), "Sigmoid": (("Sigm",), ("Silu",)),
    "Tanh": (("Tanh",),), "Exp": (("Exp",),), "Log": (("Log",),), "Erf": (("Erf",),), "Abs": (("Abs",),), "Neg": (("Neg",),),
    "Sqrt": (("Sqrt",),), "Reciprocal": (("Div",), ("Reci",)), "Sin": (("Sin",),), "Cos": (("Cos",),), "Tan": (("Tan",),),
    "Floor": (("Floo",),), "Ceil": (("Ceil",),), "Round": (("Roun",),), "Sign": (("Sign",),), "Pow": (("Pow",), ("Mul",), ("Sqrt",)),
    "Add": (("Add",),), "Sub": (("Sub",), ("Add",)), "Mul": (("Mul",),), "Div": (("Div",), ("Mul",)), "Max": (("Max",),),
    "Min": (("Min",),), "Clip": (("Max", "Min"), ("Min", "Max"), ("Max",), ("Min",)), "Where": (("Sele",),),
    "LeakyRelu": (("Mul", "Max"),), "HardSigmoid": (("Mul", "Add", "Min", "Max"),), "PRelu": (("Mul", "Lt", "Sele"),),
    "HardSwish": (("Mul", "Add", "Min", "Max", "Mul"),), "Softsign": (("Abs", "Add", "Div"),), "Softplus": (("Exp", "Log1"),),
    "Gelu": (("Gelu",), ("Div", "Erf", "Add", "Mul", "Mul")), "Mish": (("Exp", "Log1", "Tanh", "Mul"),),
    "BatchNormalization": (("Mul", "Add"), ("Add",)), "Equal": (("Eql",),), "Greater": (("Gtr",),), "Less": (("Lt",),),
    "Not": (("Not",),), "And": (("And",),), "Or": (("Or",),), "IsNaN": (("Isna",),), "IsInf": (("Isin",),),
    "GreaterOrEqual": (("Eql", "Gtr", "Or"),), "LessOrEqual": (("Eql", "Lt", "Or"),), "Cast": (("Cast",),),
    "Softmax": (("Maxr", "Sub", "Exp", "Sum", "Div"),), "LogSoftmax": (("Maxr", "Sub", "Exp", "Sum", "Div", "Log"),),
    "LayerNormalization": (("Mean", "Sub", "Mul", "Mean", "Add", "Sqrt", "Div", "Mul", "Mul", "Add"),),
    "RMSNormalization": (("Mul", "Mean", "Add", "Sqrt", "Div", "Mul", "Mul"),), "ReduceMean": (("Mean",),),
    "ReduceSum": (("Sum",),), "ReduceMax": (("Maxr",),), "ReduceMin": (("Minr",),), "ReduceProd": (("Prod",),), "CumSum": (("Cums",),),
    "Conv": (("Corr",), ("Conv",), ()), "MatMul": (("Fc",), ("Gemm",), ()), "Gemm": (("Fc", "Add"), ("Fc",), ()),
    "MaxPool": ((),), "AveragePool": ((),), "GlobalAveragePool": (("Mean",), ()),
}  # fmt: skip
"""How Myelin spells ONNX operators in kernel names, as seen in builds of one operator at a time."""

_SILU = "Silu (product)"
"""The second node of a SiLU: the word Silu means both the sigmoid and the product with it."""


def spells(name: str, others: Sequence[Node], node: Node) -> bool:
    """Whether the kernel's name contains the operation of `node` beyond the operations of `others`, its known nodes."""
    words = Counter(words_of(name))
    if not words or node.op not in _SPELLED or node.domain not in {"", "ai.onnx"} or node.op == "Cast":
        return False
    if any(other.op not in _SPELLED and other.op not in SILENT for other in others):
        return False  # its spelling is unknown, so the remaining words are too
    left = words.copy()
    for other in others:
        _spend(left, other, others)
    return _spend(left, node, [*others, node])


def _spend(left: Counter[str], node: Node, among: Sequence[Node]) -> bool:
    """Remove the words of `node` from `left`; False if they are not in it."""
    if node.op == "Mul" and _gates(node, among) and left[_SILU] > 0:
        left[_SILU] -= 1
        return True
    for words in _SPELLED.get(node.op, ()):
        need = Counter(words)
        if words and all(left[w] >= n for w, n in need.items()):
            left.subtract(need)
            if node.op in {"Conv", "Gemm"} and len(node.inputs) > 2 and left["Add"] > 0 and "Add" not in words:
                left["Add"] -= 1  # its bias
            left[_SILU] += "Silu" in need
            return True
    return () in _SPELLED.get(node.op, ())


def _gates(node: Node, among: Sequence[Node]) -> bool:
    """Whether `node` multiplies a sigmoid among these nodes with that sigmoid's input: a SiLU."""
    return any(
        other.op == "Sigmoid" and other.outputs[0] in node.inputs and other.inputs[0] in node.inputs for other in among
    )
