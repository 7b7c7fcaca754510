"""Tiny models that TensorRT for RTX 1.7.1 takes or refuses, with the nodes that make it refuse them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx
from onnx import helper

from tests.support.small_models import FLOAT, INT64, chain, constant, mlp, model, node, value, weights

BOOL, UINT8, INT8 = onnx.TensorProto.BOOL, onnx.TensorProto.UINT8, onnx.TensorProto.INT8


@dataclass(frozen=True)
class Case:
    """A model, and what a build says of it.

    Attributes:
        proto: The model.
        refused: Nodes that are refused; empty where it builds.
        by: Who refuses them: the parser, or the builder after the parser took them.
        shapes: Shapes and values to build with.
    """

    proto: onnx.ModelProto
    refused: frozenset[str] = frozenset()
    by: str = ""
    shapes: Mapping[str, str] = field(default_factory=dict)


def _quantized(zero: int, kind: str) -> list[onnx.TensorProto]:
    return [
        constant("xs", 0.1), constant("xz", zero, kind), constant("w", [[[[1] * 3] * 3] * 3] * 4, "int8"), constant("ws", 0.1),
        constant("wz", 0, "int8"), constant("ys", 0.1), constant("yz", zero, kind),
    ]  # fmt: skip


def qlinear(zero: int, kind: str) -> onnx.ModelProto:
    """Quantize, QLinearConv, dequantize, Relu, as ONNX Runtime's QOperator format is."""
    return model(
        [node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], "q"),
         node("QLinearConv", ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["yq"], "qc"),
         node("DequantizeLinear", ["yq", "ys", "yz"], ["d"], "dq"), node("Relu", ["d"], ["y"], "relu")],
        [value("x", [1, 3, 8, 8])], [value("y", [1, 4, 6, 6])], _quantized(zero, kind), opset=13,
    )  # fmt: skip


def nms() -> onnx.ModelProto:
    """Boxes through a Relu into NonMaxSuppression."""
    return model(
        [node("Relu", ["b0"], ["b"], "relu"),
         node("NonMaxSuppression", ["b", "s", "most", "iou", "least"], ["y"], "/nms/NonMaxSuppression")],
        [value("b0", [1, 64, 4]), value("s", [1, 2, 64])], [value("y", ["n", 3], INT64)],
        [constant("most", [10], "int64"), constant("iou", [0.5]), constant("least", [0.2])],
    )  # fmt: skip


def attention(kind: int = FLOAT, queries: int | str = 16) -> onnx.ModelProto:
    """A Relu behind an Attention node of opset 23."""
    given = [value("q", [1, 4, queries, 64], kind), value("k", [1, 4, 16, 64], kind), value("v", [1, 4, 16, 64], kind)]
    return model(
        [node("Attention", ["q", "k", "v"], ["a"], "att"), node("Relu", ["a"], ["y"], "relu")],
        given, [value("y", [1, 4, queries, 64], kind)], opset=23,
    )  # fmt: skip


def int32_bias() -> onnx.ModelProto:
    """An INT32 constant dequantized and added, twice."""
    return model(
        [node("DequantizeLinear", ["bq", "bs"], ["b"], "dq_bias"), node("Relu", ["x"], ["r"], "relu"),
         node("Add", ["r", "b"], ["s"], "add"), node("DequantizeLinear", ["cq", "bs"], ["c"], "dq_other"),
         node("Mul", ["s", "c"], ["y"], "mul")],
        [value("x", [2, 4])], [value("y", [2, 4])],
        [constant("bq", [1, 2, 3, 4], "int32"), constant("cq", [1, 2, 3, 4], "int32"), constant("bs", 0.1)],
    )  # fmt: skip


def branches(then: str, *, constant_condition: bool = False) -> onnx.ModelProto:
    """If between a Relu of x [4, 4] and a Reshape of it to `then`."""
    size = [int(n) for n in then.split("x")]
    yes = helper.make_graph([node("Reshape", ["x", "to"], ["t"], "reshape")], "then", [], [value("t", size)])
    no = helper.make_graph([node("Relu", ["x"], ["e"], "relu")], "else", [], [value("e", [4, 4])])
    proto = model(
        [node("If", ["c"], ["y"], "choose", then_branch=yes, else_branch=no)],
        [value("x", [4, 4]), *([] if constant_condition else [value("c", [], BOOL)])], [value("y", None)],
        [constant("to", size, "int64"), *([constant("c", True, "bool")] if constant_condition else [])], infer=False,
    )  # fmt: skip
    return onnx.shape_inference.infer_shapes(proto)


def _one(op: str, *, opset: int = 20, outputs: int = 1, **attributes: object) -> onnx.ModelProto:
    """Relu, then `op`, then Relu, all of one input."""
    outs = ["m", *(f"extra{i}" for i in range(outputs - 1))]
    return model(
        [node("Relu", ["x"], ["r"], "before"), node(op, ["r"], outs, "op", **attributes), node("Relu", ["m"], ["y"], "after")],
        [value("x", [2, 4, 4])], [value("y", None)], opset=opset,
    )  # fmt: skip


CASES: dict[str, Case] = {
    "mlp": Case(mlp()),
    "chain": Case(chain(["", "same", "same", "a, b"])),
    "open": Case(mlp("batch"), shapes={"x": "1x8:2x8:4x8"}),
    "gelu": Case(_one("Gelu")),
    "softmax": Case(_one("Softmax")),
    "slice by a value": Case(
        model([node("Slice", ["x", "s", "n", "a"], ["m"], "cut"), node("Relu", ["m"], ["y"], "relu")],
              [value("x", [4, 8]), value("n", [1], INT64)], [value("y", None)],
              [constant("s", [0], "int64"), constant("a", [1], "int64")]),
        shapes={"n": "=1:2:8"},
    ),
    "empty cache": Case(
        model([node("Concat", ["past", "new"], ["y"], "grow", axis=1)], [value("past", [1, "p", 8]), value("new", [1, 1, 8])],
              [value("y", None)]),
        shapes={"past": "1x0x8:1x4x8:1x16x8"},
    ),
    "half attention": Case(attention(onnx.TensorProto.FLOAT16)),
    "attention of one query": Case(attention(queries=1)),
    "branches of one rank": Case(branches("2x8")),
    "branches that are chosen": Case(branches("16", constant_condition=True)),
    "nms": Case(nms(), frozenset({"/nms/NonMaxSuppression"}), "builder"),
    "attention": Case(attention(), frozenset({"att"}), "builder"),
    "branches of other ranks": Case(branches("16"), frozenset({"choose"}), "builder"),
    "det": Case(_one("Det"), frozenset({"op"}), "parser"),
    "unknown": Case(
        model([node("Relu", ["x"], ["r"], "before"), node("Nonsense", ["r"], ["y"], "op", domain="my.own")],
              [value("x", [1, 4])], [value("y", [1, 4])], domains=["my.own"], infer=False),
        frozenset({"op"}), "parser",
    ),
    "int32 biases": Case(int32_bias(), frozenset({"dq_bias", "dq_other"}), "parser"),
    "qlinear": Case(qlinear(0, "int8"), frozenset({"qc"}), "parser"),
    "qlinear with zero points": Case(qlinear(3, "uint8"), frozenset({"q", "qc", "dq"}), "parser"),
    "integer product": Case(
        model([node("MatMulInteger", ["x", "w"], ["p"], "product"), node("Cast", ["p"], ["y"], "cast", to=FLOAT)],
              [value("x", [2, 4], INT8)], [value("y", [2, 3])], [weights("w", 4, 3, scale=9.0, dtype="int8")]),
        frozenset({"product"}), "parser",
    ),
}  # fmt: skip
