"""Models that TensorRT refuses, each with one planted cause: the error names that cause, the node and a way out, and no other.

Every model is built by the installed TensorRT for RTX, and most of the ways out are, too: all in one worker, which takes seconds.
A part is built by `Session.build` as well, whose errors must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support import needs_rtx
from tests.support.small_models import constant, model, node, save, value
from workbench import Session
from workbench.compilers.config import BuildConfig
from workbench.compilers.tensorrt import causes, causes_builder
from workbench.core.errors import WorkbenchError
from workbench.core.jobs import Job
from workbench.model.shape_profile import ShapeProfile

pytestmark = needs_rtx
F32, F16, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
I8, U8, I16, U16, I32, I64 = (
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32, TensorProto.INT64,
)  # fmt: skip
BOOL, STRING, U32, COMPLEX = TensorProto.BOOL, TensorProto.STRING, TensorProto.UINT32, TensorProto.COMPLEX64
E4M3, E5M2 = TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2
NUMPY = {F32: "float32", F16: "float16", BF16: ml_dtypes.bfloat16}
Make = Callable[[], onnx.ModelProto]


def n(op: str, inputs: str, outputs: str = "y", name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node; names of tensors between spaces, ``-`` for an input that is left out."""
    return node(op, [i if i != "-" else "" for i in inputs.split()], outputs.split(), name or f"the_{op}", **attributes)


def m(
    nodes: Any, inputs: dict[str, Any], outputs: Any = "y", constants: Any = (), opset: int = 17, domains: Any = ()
) -> Any:
    """A model; an input is ``(type, *shape)``, an output its name or ``{name: type}``."""
    outputs = outputs if isinstance(outputs, dict) else dict.fromkeys(outputs.split(), F32)
    return model(
        nodes if isinstance(nodes, list) else [nodes],
        [value(name, list(shape), kind) for name, (kind, *shape) in inputs.items()],
        [value(name, None, kind) for name, kind in outputs.items()],
        [constant(name, data, getattr(data, "dtype", None) or "int64") for name, data in dict(constants).items()],
        opset=opset, domains=domains, infer=False,
    )  # fmt: skip


def r(*shape: int, dtype: Any = "float32") -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def body(name: str, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> onnx.GraphProto:
    def values(of: dict[str, Any]) -> list[Any]:
        return [value(k, None if v[1:] == [None] else list(v[1:]), v[0]) for k, v in of.items()]

    return helper.make_graph(nodes, name, values(inputs), values(outputs))


def attention(
    kind: int = F32, size: int = 64, mask: int | None = None, opset: int = 23, **more: Any
) -> onnx.ModelProto:
    inputs: dict[str, Any] = dict.fromkeys("qkv", (kind, 1, 4, 8, size))
    if mask is not None:
        inputs["mask"] = (mask, 8, 8)
    return m(n("Attention", "q k v" + (" mask" if mask else ""), name="att", **more), inputs, {"y": kind}, opset=opset)


def decomposed(size: int = 64) -> onnx.ModelProto:
    nodes = [
        n("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
        n("MatMul", "q kt", "s", "qk"),
        n("Softmax", "s", "p", axis=-1),
        n("MatMul", "p v", "y", "pv"),
    ]
    return m(nodes, dict.fromkeys("qkv", (F32, 1, 4, 8, size)))


def quantized(
    zero: int = 0,
    bias: bool = False,
    kind: Any = "int8",
    weights: Any = "int8",
    op: str = "Conv",
    scale: float = 0.02,
    opset: int = 21,
) -> onnx.ModelProto:
    """x -> Q -> DQ -> Conv or MatMul with weights -> DQ."""
    shape = (4, 3, 3, 3) if op == "Conv" else (16, 16)
    data = np.clip(r(*shape) * 2, -6, 6).astype(weights)
    constants: dict[str, Any] = {
        "xs": np.float32(scale), "xz": np.asarray(zero, kind), "w": data, "ws": np.full(shape[0 if op == "Conv" else 1], 0.01, "float32"),
    }  # fmt: skip
    nodes = [n("QuantizeLinear", "x xs xz", "xq", "q_x"), n("DequantizeLinear", "xq xs xz", "xd", "dq_x"),
             n("DequantizeLinear", "w ws", "wd", "dq_w", axis=0 if op == "Conv" else 1)]  # fmt: skip
    if bias:
        constants |= {"b": np.arange(4, dtype="int32"), "bs": np.full(4, 0.0002, "float32")}
        nodes.append(n("DequantizeLinear", "b bs", "bd", "dq_b", axis=0))
    nodes.append(n(op, "xd wd bd" if bias else "xd wd", name="conv" if op == "Conv" else "mm"))
    return m(nodes, {"x": (F32, 1, 3, 8, 8) if op == "Conv" else (F32, 32, 16)}, constants=constants, opset=opset)


def nvfp4() -> onnx.ModelProto:
    nodes = [
        n("DequantizeLinear", "s8 s", "sc", "dq_s"),
        n("DequantizeLinear", "w sc", "wd", "dq_w", axis=0, block_size=16),
        n("MatMul", "x wd", name="mm"),
    ]
    constants = {
        "w": np.clip(r(64, 48) * 2, -6, 6).astype(ml_dtypes.float4_e2m1fn), "s8": (np.abs(r(4, 48)) * 100 + 10).astype(ml_dtypes.float8_e4m3fn),
        "s": np.float32(0.01),
    }  # fmt: skip
    return m(nodes, {"x": (F32, 32, 64)}, constants=constants, opset=23)


def integer_quantized(op: str) -> onnx.ModelProto:
    constants = {
        "xs": np.float32(0.02),
        "xz": np.int8(0),
        "w": np.ones((4, 3, 3, 3) if op == "QLinearConv" else (8, 8), "int8"),
        "ws": np.float32(0.01),
    }
    nodes = [
        n("QuantizeLinear", "x xs xz", "xq", "q"),
        n(op, "xq xs xz w ws xz xs xz", "yq"),
        n("DequantizeLinear", "yq xs xz", "y", "dq"),
    ]
    return m(nodes, {"x": (F32, 1, 3, 8, 8) if op == "QLinearConv" else (F32, 4, 8)}, constants=constants, opset=13)


def product(kind: int = F32) -> onnx.ModelProto:
    return m(
        n("MatMul", "x w", name="mm"), {"x": (kind, 4, 16)}, {"y": kind}, {"w": r(16, 16, dtype=NUMPY[kind])}, opset=22
    )


def recurrent(op: str = "GRU", lengths: bool = True, opset: int = 17) -> onnx.ModelProto:
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    constants = {"w": r(1, gates * 8, 4), "r": r(1, gates * 8, 8), **({"l": np.full(2, 5, "int32")} if lengths else {})}
    more = {"linear_before_reset": 1} if op == "GRU" else {}
    return m(
        n(op, "x w r" + (" - l" if lengths else ""), "y h", hidden_size=8, **more),
        {"x": (F32, 5, 2, 4)},
        "y h",
        constants,
        opset=opset,
    )


def branches(then: onnx.NodeProto, other: onnx.NodeProto, kind: int = F32) -> onnx.ModelProto:
    one = body("then", [then], {}, {"t": [F32, None]})
    two = body("else", [other], {}, {"e": [kind, None]})
    return m(
        node("If", ["cond"], ["y"], "the_If", then_branch=one, else_branch=two),
        {"x": (F32, 8, 4), "cond": (BOOL,)},
        constants={"ax": [0]},
    )


def loop(trips: bool) -> onnx.ModelProto:
    inner = body(
        "body", [n("Add", "v v", "v2", "b_add"), n("Identity", "go", "on", "b_go"), n("Identity", "v2", "step", "b_step")],
        {"i": [I64], "go": [BOOL], "v": [F32, 2, 3]}, {"on": [BOOL], "v2": [F32, 2, 3], "step": [F32, 2, 3]},
    )  # fmt: skip
    given = node("Loop", ["trips" if trips else "", "cond", "x"], ["y", "steps"], "the_Loop", body=inner)
    return m(given, {"x": (F32, 2, 3), "cond": (BOOL,)}, "y steps", {"trips": np.int64(4)} if trips else ())


def nms(given: bool = True) -> onnx.ModelProto:
    constants = {"mo": [10], "iou": np.float32([0.5]), "th": np.float32([0.2])} if given else {}
    return m(
        n("NonMaxSuppression", "b s mo iou th" if given else "b s", name="/nms/NonMaxSuppression"),
        {"b": (F32, 1, 64, 4), "s": (F32, 1, 2, 64)},
        {"y": I64},
        constants,
    )


def one(
    op: str,
    kind: int = F32,
    out: int = F32,
    shape: Any = (2, 3),
    opset: int = 17,
    inputs: str = "x",
    constants: Any = (),
    **more: Any,
) -> onnx.ModelProto:
    return m(n(op, inputs, **more), {"x": (kind, *shape)}, {"y": out}, constants, opset=opset)


def image(
    op: str,
    inputs: str = "x",
    constants: Any = (),
    opset: int = 17,
    outputs: str = "y",
    shape: Any = (1, 3, 8, 8),
    **more: Any,
) -> onnx.ModelProto:
    return m(n(op, inputs, outputs, **more), {"x": (F32, *shape)}, outputs, constants, opset=opset)


def reshape(target: list[int], shape: Any = ("n", 4, 8, 8), op: str = "Reshape") -> onnx.ModelProto:
    return m(
        [n("Relu", "x", "c", "relu"), n(op, "c s", name="/model/Reshape")],
        {"x": (F32, *shape)},
        constants={"s": target},
    )


def two(op: str, left: Any, right: Any, out: Any = "y", **more: Any) -> onnx.ModelProto:
    return m(n(op, "a b", name="both", **more), {"a": left, "b": right}, out)


def masked() -> onnx.ModelProto:
    """Keys grow by a cache of P steps, and the mask is one too short."""
    nodes = [
        n("Concat", "p x", "k", "cat", axis=1),
        n("Transpose", "k", "kt", "tr", perm=[0, 2, 1]),
        n("MatMul", "q kt", "s", "qk"),
        n("Add", "s mask", "y", "mask_add"),
    ]
    return m(nodes, {"p": (F32, 1, "P", 8), "x": (F32, 1, "T", 8), "q": (F32, 1, "T", 8), "mask": (F32, 1, 1, "L")})


CHOSEN = {"ScatterND": {"i": [[1]]}, "ScatterElements": {"i": [[1, 1, 0]]}}


def scatter(op: str) -> onnx.ModelProto:
    return m(n(op, "x i u", reduction="add"), {"x": (F32, 4, 3), "u": (F32, 1, 3)}, constants=CHOSEN[op], opset=18)


def resized(**more: Any) -> onnx.ModelProto:
    return image("Resize", "x - s", {"s": np.float32([1, 1, 0.5, 0.5])}, opset=18, mode="linear", **more)


def no_length() -> onnx.ModelProto:
    return m([n("SequenceConstruct", "x x", "s"), n("ConcatFromSequence", "s", axis=0)], {"x": (F32, 2, 3)})


@dataclass(frozen=True)
class Refused:
    """One planted cause: `says` stands in the message, `way` in the hint; `nodes` are those that are named."""

    make: Make
    code: str
    nodes: str | None
    says: str
    way: str
    options: dict[str, Any] = field(default_factory=dict)


def shapes(**given: str) -> dict[str, Any]:
    return {"shapes": given}


SM75: dict[str, Any] = {"target": "sm75"}
CASES = {
    # Shapes that do not fit each other, most at the sizes that were asked for.
    "a batch baked into a Reshape": Refused(lambda: reshape([1, 256]), "shape-mismatch", "/model/Reshape", "can't turn [4, 4, 8, 8] into [1, 256]: 1,024 elements against 256. The model fixes the first dimension at 1", "Build with 1 as the first dimension", shapes(x="4x4x8x8")),
    "a Reshape to another size": Refused(lambda: reshape([3, 100]), "shape-mismatch", "/model/Reshape", "can't turn [4, 4, 8, 8] into [3, 100]: 1,024 elements against 300.", "shapes are x=4x4x8x8", shapes(x="4x4x8x8")),
    "a Reshape that does not divide": Refused(lambda: reshape([-1, 5], ("n", 6)), "shape-mismatch", "/model/Reshape", "can't turn [3, 6] into [-1, 5]: 18 elements do not divide", "shapes are x=3x6", shapes(x="3x6")),
    "a Reshape that never fits": Refused(lambda: reshape([4, 5], (3, 6)), "shape-mismatch", "/model/Reshape", "18 elements against 20", "the model's own shapes disagree"),
    "a Squeeze of a batch": Refused(lambda: m(n("Squeeze", "x ax"), {"x": (F32, "n", 3)}, constants={"ax": [0]}), "shape-mismatch", "the_Squeeze", "can't turn [4, 3] into [3]: 12 elements against 3", "shapes are x=4x3", shapes(x="4x3")),
    "an Add of unequal lengths": Refused(lambda: two("Add", (F32, "n", 16), (F32, "m", 16)), "shape-mismatch", "both", "Add both can't combine a [8, 16] with b [5, 16]", "a=8x16, b=5x16", shapes(a="8x16", b="5x16")),
    "an Add that never fits": Refused(lambda: m(n("Add", "x w"), {"x": (F32, 3, 6)}, constants={"w": r(5)}), "shape-mismatch", "the_Add", "can't combine its inputs x [3, 6] and w [5]", "the model's own shapes disagree"),
    "a mask shorter than the keys": Refused(masked, "shape-mismatch", "mask_add", "can't combine s [1, 2, 8] with mask [1, 1, 7]", "mask=1x1x7", shapes(p="1x6x8", x="1x2x8", q="1x2x8", mask="1x1x7")),
    "a product of unequal sizes": Refused(lambda: two("MatMul", (F32, "n", 16), (F32, "m", 16)), "shape-mismatch", "both", "the first has 16 columns, the second 5 rows", "b=5x16", shapes(a="8x16", b="5x16")),
    "a Gemm behind a Flatten": Refused(lambda: m([n("Flatten", "x", "z"), n("Gemm", "z w", name="fc")], {"x": (F32, 1, 3, "h", "w")}, constants={"w": r(192, 4)}), "shape-mismatch", "fc", "Gemm fc can't multiply its inputs: the first has 768 columns, the second 192 rows", "x=1x3x16x16", shapes(x="1x3x16x16")),
    "a bias of another length": Refused(lambda: m(n("Gemm", "x w b"), {"x": (F32, 2, 5)}, constants={"w": r(5, 4), "b": r(3)}), "shape-mismatch", "the_Gemm", "can't combine its inputs", "own shapes disagree"),
    "a Concat of unequal sizes": Refused(lambda: two("Concat", (F32, "n", 16), (F32, "m", 16), axis=1), "shape-mismatch", "both", "can't join [8, 16] and [5, 16] along axis 1: they differ in dimension 0", "a=8x16", shapes(a="8x16", b="5x16")),
    "a Where of unequal sizes": Refused(lambda: m(n("Where", "k x z"), {"x": (F32, 1, "l"), "k": (BOOL, 1, "j")}, constants={"z": np.float32(0)}), "shape-mismatch", "the_Where", "condition dimensions = [1,5], thenInput dimensions = [1,8]", "k=1x5", shapes(x="1x8", k="1x5")),
    "an Einsum of unequal sizes": Refused(lambda: two("Einsum", (F32, "n", 16), (F32, "m", 16), equation="ij,jk->ik"), "shape-mismatch", "both", "its inputs differ in dimension j", "b=5x16", shapes(a="8x16", b="5x16")),
    "channels that do not fit": Refused(lambda: image("Conv", "x w", {"w": r(4, 3, 3, 3)}, shape=("n", "c", 8, 8)), "shape-mismatch", "the_Conv", "gets 5 input channels, for which it needs 180 weights; it has 108", "x=1x5x8x8", shapes(x="1x5x8x8")),
    "a group that does not fit": Refused(lambda: image("Conv", "x w", {"w": r(4, 3, 3, 3)}, shape=(1, 5, 8, 8), group=2), "shape-mismatch", "the_Conv", "The weights and the group of Conv the_Conv", "own shapes disagree"),
    "an image below the filter": Refused(lambda: image("Conv", "x w", {"w": r(4, 3, 3, 3)}, shape=(1, 3, "h", "w")), "shape-mismatch", "the_Conv", "The image is smaller than the filter", "x=1x3x2x2", shapes(x="1x3x2x2")),
    "an image below the window": Refused(lambda: image("MaxPool", shape=(1, 3, "h", "w"), kernel_shape=[7, 7]), "negative-dimension", "the_MaxPool", "would have a dimension 2 below 0", "x=1x3x4x4", shapes(x="1x3x4x4")),
    "a norm of another length": Refused(lambda: m(n("LayerNormalization", "x w b"), {"x": (F32, 1, "l")}, constants={"w": r(8), "b": r(8)}), "shape-mismatch", "the_LayerNormalization", "scale of LayerNormalization the_LayerNormalization does not fit dimension 1", "x=1x9", shapes(x="1x9")),
    "a batch norm of other channels": Refused(lambda: image("BatchNormalization", "x s b e v", {k: np.abs(r(8)) for k in "sbev"}, shape=(1, "c", 4, 4)), "shape-mismatch", "the_BatchNormalization", "has 8 values of shift for an input with 9 channels", "x=1x9x4x4", shapes(x="1x9x4x4")),
    "an instance norm of other channels": Refused(lambda: image("InstanceNormalization", "x s b", {"s": r(4), "b": r(4)}, shape=(1, 5, 8, 8)), "shape-mismatch", "the_InstanceNormalization", "does not fit dimension 1", "own shapes disagree"),
    "a slope of other channels": Refused(lambda: image("PRelu", "x w", {"w": r(4, 1, 1)}, shape=(1, 5, 8, 8)), "shape-mismatch", "the_PRelu", "The slope of PRelu the_PRelu", "own shapes disagree"),
    "a mask of another length": Refused(lambda: m(n("Attention", "q k v k2", name="att"), {"q": (F16, 1, 4, 8, 64), "k": (F16, 1, 4, "s", 64), "v": (F16, 1, 4, "s", 64), "k2": (BOOL, 8, "t")}, {"y": F16}, opset=23), "shape-mismatch", "att", "The mask of Attention att is [1, 1, 8, 12]", "k2=8x12", shapes(k="1x4x16x64", v="1x4x16x64", k2="8x12")),
    "indices beyond the rank": Refused(lambda: m(n("GatherND", "x i"), {"x": (F32, 2, 5)}, constants={"i": np.zeros((1, 3), "int64")}), "shape-mismatch", "the_GatherND", "more coordinates than its data", "own shapes disagree"),
    "an axis beyond the rank": Refused(lambda: one("Softmax", axis=7), "invalid-axis", "the_Softmax", "names axis 7", "Correct the node"),
    "an axis twice": Refused(lambda: m(n("Unsqueeze", "x ax"), {"x": (F32, 2, 5)}, constants={"ax": [0, 0]}), "invalid-axis", "the_Unsqueeze", "names axis 0 twice", "Correct the node"),
    "branches of other ranks": Refused(lambda: branches(n("Relu", "x", "t", "th"), n("Unsqueeze", "x ax", "e", "el")), "if-branches", "the_If", "give [8, 4] and [1, 8, 4]", "Unsqueeze"),
    "branches of other types": Refused(lambda: branches(n("Relu", "x", "t", "th"), n("Cast", "x", "e", "el", to=F16), F16), "if-branches", "the_If", "give FP32 and FP16", "Add a Cast"),
    # Types.
    "two types in an Add": Refused(lambda: two("Add", (F32, 2), (F16, 2)), "type-mismatch", "both", "gets FP32 and FP16", "Add a Cast"),
    "two types in a product": Refused(lambda: two("MatMul", (F32, 2, 2), (F16, 2, 2)), "type-mismatch", "both", "gets FP32 and FP16", "Add a Cast"),
    "two types in a Concat": Refused(lambda: two("Concat", (F32, 2, 2), (I64, 2, 2), axis=0), "type-mismatch", "both", "gets INT64 and FP32", "Add a Cast"),
    "a mask in FP32 for FP16": Refused(lambda: attention(F16, mask=F32), "type-mismatch", "att", "queries in FP16 and a mask in FP32", "Cast the mask (mask) to FP16"),
    "a GRU with lengths in FP16": Refused(recurrent, "type-mismatch", "the_GRU", "TensorRT mixes FP16 and FP32 inside GRU the_GRU", "--to fp16 --keep-op GRU", {"precision": "fp16"}),
    "an LSTM with lengths in FP16": Refused(lambda: recurrent("LSTM"), "type-mismatch", "the_LSTM", "inside LSTM the_LSTM", "--keep-op LSTM", {"precision": "fp16"}),
    "a GRU in BF16": Refused(lambda: recurrent(lengths=False, opset=22), "type-mismatch", "the_GRU", "TensorRT mixes FP32 and BF16 inside GRU the_GRU", "--to bf16 --keep-op GRU", {"precision": "bf16"}),
    "Relu of INT32": Refused(lambda: one("Relu", I32, I32), "unsupported-type", "the_Relu", "with inputs of INT32", "Cast its inputs"),
    "Exp of INT32": Refused(lambda: one("Exp", I32, I32), "unsupported-type", "the_Exp", "with inputs of INT32", "Cast its inputs"),
    "a product of INT64": Refused(lambda: two("MatMul", (I64, 2, 2), (I64, 2, 2), {"y": I64}), "unsupported-type", "both", "with inputs of INT64", "Cast its inputs"),
    "a product of BOOL": Refused(lambda: two("Mul", (BOOL, 2, 2), (BOOL, 2, 2), {"y": BOOL}), "unsupported-type", "both", "with inputs of BOOL", "And, Or or Xor"),
    "an Add of UINT8": Refused(lambda: one("Add", U8, U8, inputs="x x"), "unsupported-type", "the_Add", "with inputs of UINT8, only kFLOAT", "Cast its inputs"),
    "a product of UINT8": Refused(lambda: one("MatMul", U8, U8, (2, 2), inputs="x x"), "unsupported-type", "the_MatMul", "with inputs of UINT8, only Float", "Cast its inputs"),
    "a Gather of UINT8": Refused(lambda: one("Gather", U8, U8, inputs="x i", constants={"i": [0]}), "unsupported-type", "the_Gather", "with inputs of UINT8", "Cast its inputs"),
    "a Cast to INT16": Refused(lambda: one("Cast", out=I16, to=I16), "unsupported-type", "the_Cast", "casts to int16", "int32"),
    "a Cast to text": Refused(lambda: one("Cast", out=STRING, to=STRING), "unsupported-type", "the_Cast", "casts to string", "no strings"),
    "a Cast to FP8": Refused(lambda: m([n("Cast", "x", "q", "to8", to=E4M3), n("Cast", "q", "y", "back", to=F32)], {"x": (F32, 4)}, opset=19), "fp8-cast", "to8", "makes a tensor of FP8 (q)", "QuantizeLinear"),
    "an input of text": Refused(lambda: one("Identity", STRING, STRING, (3,)), "unsupported-input-type", "the_Identity", "Input x (string)", "no strings"),
    "an input of UINT16": Refused(lambda: one("Cast", U16, to=F32), "unsupported-input-type", "the_Cast", "Input x (uint16)", "int32"),
    "one of two inputs of UINT32": Refused(lambda: m([n("Cast", "z", "zf", to=F32), n("Add", "x zf")], {"x": (F32, 4), "z": (U32, 4)}), "unsupported-input-type", "the_Cast", "Input z (uint32)", "int32"),
    "a constant of INT16": Refused(lambda: m([n("Cast", "w", "q", to=F32), n("Add", "x q")], {"x": (F32, 4)}, constants={"w": np.int16([1, 2, 3, 4])}), "unsupported-weight-type", "the_Cast", "Constant w is int16", "another type"),
    "weights in E5M2": Refused(lambda: quantized(weights=ml_dtypes.float8_e5m2, kind=ml_dtypes.float8_e5m2, op="MatMul"), "unsupported-weight-type", None, "float8e5m2", "float8e4m3fn"),
    "nine dimensions": Refused(lambda: one("Relu", shape=(1, 2, 1, 2, 1, 2, 1, 2, 1)), "too-many-dimensions", "the_Relu", "input x has 9", "Merge dimensions"),
    # Quantized models.
    "a bias in INT32": Refused(lambda: quantized(bias=True), "quantized-bias", "dq_b", "holds the bias of Conv conv in INT32", "'QuantizeBias': False"),
    "a zero point": Refused(lambda: quantized(3), "zero-point", "q_x", "zero point other than 0", "'ActivationSymmetric': True"),
    "activations in UINT8": Refused(lambda: quantized(128, kind="uint8"), "zero-point", "q_x", "zero point other than 0", "QuantType.QInt8"),
    "a scale of 0": Refused(lambda: quantized(scale=0.0), "invalid-scale", "q_x", "the smallest is 0", "Quantize the model again"),
    "a scale below 0": Refused(lambda: quantized(scale=-0.5), "invalid-scale", "q_x", "the smallest is -0.5", "Quantize the model again"),
    "QLinearConv": Refused(lambda: integer_quantized("QLinearConv"), "unsupported-operator", "the_QLinearConv", "does not know this operation", "QuantFormat.QDQ"),
    "QLinearMatMul": Refused(lambda: integer_quantized("QLinearMatMul"), "unsupported-operator", "the_QLinearMatMul", "does not know this operation", "QuantFormat.QDQ"),
    "MatMulInteger": Refused(lambda: one("MatMulInteger", U8, I32, (4, 8), inputs="x w", constants={"w": np.ones((8, 4), "uint8")}), "unsupported-operator", "the_MatMulInteger", "does not know this operation", "QuantFormat.QDQ"),
    "ConvInteger": Refused(lambda: one("ConvInteger", U8, I32, (1, 3, 8, 8), inputs="x w", constants={"w": np.ones((4, 3, 3, 3), "uint8")}), "unsupported-operator", "the_ConvInteger", "does not know this operation", "QuantFormat.QDQ"),
    "DynamicQuantizeLinear": Refused(lambda: m([n("DynamicQuantizeLinear", "x", "q s z"), n("DequantizeLinear", "q s z")], {"x": (F32, 4, 8)}), "unsupported-operator", "the_DynamicQuantizeLinear", "does not know this operation", "workbench quantize"),
    # Operators.
    "Det": Refused(lambda: one("Det", shape=(3, 3)), "unsupported-operator", "the_Det", "does not know this operation", "workbench partition"),
    "Unique": Refused(lambda: one("Unique"), "unsupported-operator", "the_Unique", "does not know this operation", "Replace"),
    "NonZero": Refused(lambda: one("NonZero", out=I64), "unsupported-operator", "the_NonZero", "does not know this operation", "Replace"),
    "DFT": Refused(lambda: one("DFT", shape=(1, 16, 1), axis=1), "unsupported-operator", "the_DFT", "Plugin not found", "Replace"),
    "DeformConv": Refused(lambda: m(n("DeformConv", "x w o"), {"x": (F32, 1, 3, 8, 8), "o": (F32, 1, 18, 6, 6)}, constants={"w": r(4, 3, 3, 3)}, opset=19), "unsupported-operator", "the_DeformConv", "Plugin not found", "Replace"),
    "BitShift": Refused(lambda: one("BitShift", U8, U8, (4,), inputs="x w", constants={"w": np.uint8([3])}, direction="LEFT"), "unsupported-operator", "the_BitShift", "does not know this operation", "Replace"),
    "an operator of nobody": Refused(lambda: m(n("FooBar", "x", name="foo", domain="mine"), {"x": (F32, 2)}, domains=["mine"]), "unsupported-operator", "foo", "FooBar foo", "write a plugin"),
    "an operator of ONNX Runtime": Refused(lambda: m(n("FusedGelu", "x", name="gelu", domain="com.microsoft"), {"x": (F32, 2)}, domains=["com.microsoft"]), "unsupported-operator", "gelu", "does not know this operation", "before ONNX Runtime's optimizer"),
    "sequences": Refused(no_length, "unsupported-operator", "the_SequenceConstruct the_ConcatFromSequence", "does not know this operation", "no sequences"),
    "optional values": Refused(lambda: m([n("Optional", "x", "o"), n("OptionalGetElement", "o")], {"x": (F32, 4)}), "unsupported-operator", "the_Optional the_OptionalGetElement", "does not know this operation", "no optional values"),
    "RoiAlign without a driver": Refused(lambda: m(n("RoiAlign", "x b i", output_height=2, output_width=2), {"x": (F32, 1, 3, 8, 8), "b": (F32, 2, 4), "i": (I64, 2)}), "plugin-needs-driver", "the_RoiAlign", "needs an NVIDIA driver", "machine with a GPU"),
    "NonMaxSuppression": Refused(nms, "no-kernel", "/nms/NonMaxSuppression", "has no kernel for it", "onnx.utils.extract_model(MODEL, OUT, INPUTS, ['b', 's'])"),
    "NonMaxSuppression that keeps nothing": Refused(lambda: nms(False), "negative-dimension", "/nms/NonMaxSuppression", "max_output_boxes_per_class is not given", "third input"),
    "Attention in FP32": Refused(attention, "no-attention-kernel", "att", "no kernel for the Attention operator att in FP32.", "--precision fp16 or bf16"),
    "Attention with small heads": Refused(lambda: attention(F16, 7), "no-attention-kernel", "att", "in FP16 with heads of 7 values", "opset 22"),
    "Attention with large heads": Refused(lambda: attention(F32, 512), "no-attention-kernel", "att", "in FP32 with heads of 512 values", "opset 22"),
    "Attention with a softcap": Refused(lambda: attention(F16, softcap=5.0), "unsupported-attribute", "att", "has a softcap", "opset 22"),
    "a TopK of many": Refused(lambda: m(n("TopK", "x k", "y i"), {"x": (F32, 1, 10000)}, {"y": F32, "i": I64}, {"k": [5000]}), "topk-limit", "the_TopK", "asks for 5,000; TensorRT supports at most 3,840", "3840 or less"),
    "a pooling of 640x640": Refused(lambda: image("AveragePool", shape=(1, 64, 2, 2), opset=20, kernel_shape=[640, 640], strides=[640, 640], ceil_mode=1), "window-limit", "the_AveragePool", "The window of 640x640 = 409,600", "GlobalAveragePool"),
    "an LRN of 17": Refused(lambda: image("LRN", size=17), "window-limit", "the_LRN", "the size of LRN the_LRN", "up to 15"),
    "padding beyond the window": Refused(lambda: image("AveragePool", shape=(1, 3, 12, 12), kernel_shape=[3, 3], pads=[3, 3, 3, 3]), "unsupported-attribute", "the_AveragePool", "pads by as much as its window", "less padding"),
    "a convolution over four dimensions": Refused(lambda: image("Conv", "x w", {"w": r(4, 3, 3, 3, 3, 3)}, shape=(1, 3, 8, 8, 8, 8)), "unsupported-dimensions", "the_Conv", "neither two nor three spatial dimensions", "1, 2 and 3"),
    "a pooling with dilations": Refused(lambda: image("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), "unsupported-attribute", "the_MaxPool", "dilations other than 1", "Replace"),
    "a pooling with indices": Refused(lambda: m(n("MaxPool", "x", "y i", kernel_shape=[2, 2]), {"x": (F32, 1, 3, 8, 8)}, {"y": F32, "i": I64}), "unsupported-output", "the_MaxPool", "outputs in addition to the one that TensorRT supports: i", "Remove the other outputs"),
    "a Resize that smooths": Refused(lambda: resized(antialias=1), "unsupported-attribute", "the_Resize", "antialias=1", "antialias=False"),
    "a Resize of a crop": Refused(lambda: image("Resize", "x r s", {"r": np.float32([0] * 4 + [1] * 4), "s": np.float32([1, 1, 2, 2])}, mode="linear", coordinate_transformation_mode="tf_crop_and_resize"), "unsupported-attribute", "the_Resize", "coordinate_transformation_mode=tf_crop_and_resize", "align_corners"),
    "a ScatterND that adds": Refused(lambda: scatter("ScatterND"), "unsupported-attribute", "the_ScatterND", "reduction=add", "Replace"),
    "a ScatterElements that adds": Refused(lambda: scatter("ScatterElements"), "unsupported-attribute", "the_ScatterElements", "reduction=add", "Replace"),
    "Dropout in training": Refused(lambda: m(n("Dropout", "x r t"), {"x": (F32, 4)}, constants={"r": np.float32(0.5), "t": np.bool_(True)}), "unsupported-attribute", "the_Dropout", "training mode", "module.eval()"),
    "a batch norm in training": Refused(lambda: image("BatchNormalization", "x s b e v", {k: np.abs(r(3)) for k in "sbev"}, outputs="y e2 v2", training_mode=1), "unsupported-attribute", "the_BatchNormalization", "training mode", "module.eval()"),
    "a Loop without a count": Refused(lambda: loop(False), "loop-scan-length", "the_Loop", "has no trip count", "trip count"),
    # Files that are not whole.
    "an input that nobody makes": Refused(lambda: m(n("Add", "x nope"), {"x": (F32, 2)}), "missing-tensor", "the_Add", "reads nope, which no node computes", "onnx.checker"),
    "an output that nobody makes": Refused(lambda: m(n("Relu", "x", "b"), {"x": (F32, 2)}, "absent"), "missing-tensor", None, "The model gives absent, which no node computes", "onnx.checker"),
    # Targets.
    "FP32 products on Turing": Refused(product, "target-operation", "mm", "Node mm can't be built for sm75: FP32 GEMM is not supported", "--precision fp16, or --target sm80, sm86, sm89, sm120 or sm121", SM75),
    "FP32 products on two targets": Refused(product, "target-operation", "mm", "Node mm can't be built for sm75", "--precision fp16", {"target": "sm75+sm89"}),
    "BF16 weights on Turing": Refused(lambda: product(BF16), "target-type", "mm", "sm75 has no BF16: BF16 needs sm80 or later", "--target sm80, sm86, sm89, sm120 or sm121", SM75),
    "FP8 on Ampere": Refused(lambda: quantized(weights=ml_dtypes.float8_e4m3fn, kind=ml_dtypes.float8_e4m3fn, op="MatMul"), "target-type", "q_x dq_x dq_w", "sm86 has no FP8: FP8 needs sm89 or later", "--target sm89, sm120 or sm121", {"target": "sm86"}),
    "INT4 on Turing": Refused(lambda: quantized(weights=ml_dtypes.int4, op="MatMul"), "target-type", "dq_w", "sm75 has no INT4: INT4 needs sm80 or later", "--target sm80", SM75),
    "FP4 on Ada": Refused(nvfp4, "target-type", "dq_w", "sm89 has no FP4: FP4 needs sm100 or later", "--target sm120 or sm121, or quantize the FP32 model to int4 or int8", {"target": "sm89"}),
    "FP4 on Ampere": Refused(nvfp4, "target-type", "dq_s dq_w", "sm80 has no FP4 and no FP8", "--target sm120 or sm121", {"target": "sm80"}),
    # The machine.
    "refit without a driver": Refused(product, "refit-needs-driver", None, "Refittable and stripped engines need an NVIDIA driver", "Build without refit", {"refit": True}),
    "a stripped plan without a driver": Refused(product, "refit-needs-driver", None, "need an NVIDIA driver", "Build without strip_plan", {"strip_plan": True}),
    "version compatible": Refused(product, "missing-library", None, "libnvinfer_lean", "without version_compatible", {"version_compatible": True}),
}  # fmt: skip

OTHER_CAUSES = {
    "driver": {"plugin-needs-driver", "refit-needs-driver", "no-driver", "needs-driver"},
    "cudaError": set(), "memory": {"out-of-memory"}, "workspace": {"workspace"}, "insufficient": set(), "compute capability": set(),
    "no kernel": {"no-kernel", "no-attention-kernel"}, "does not know this operation": {"unsupported-operator"}, "#-1": set(),
    "would still build": set(), "log has the details": set(), "has no BF16": {"target-type"}, "has no FP": {"target-type"},
    "can't combine": {"shape-mismatch"}, "Add a Cast": {"type-mismatch", "if-branches"}, "is not valid ONNX": {"missing-tensor"},
}  # fmt: skip
"""Words of a cause, and the codes whose messages may hold them."""


def in_one_worker(made: dict[str, tuple[Make, dict[str, Any]]], folder: Path) -> dict[str, WorkbenchError | None]:
    """Build each model and give its error, or None where it was built."""
    asked = []
    for i, (name, (make, options)) in enumerate(made.items()):
        given = {"target": "sm89", **options}
        profiles = (ShapeProfile.parse(given.pop("shapes")),) if "shapes" in given else ()
        config = BuildConfig.of(compiler="tensorrt_rtx", targets=given.pop("target"), profiles=profiles, **given)
        asked.append({"name": name, "model": str(save(make(), folder / f"{i}.onnx")), "config": config.to_dict()})
    job = Job("tests.support.worker_tasks:build_each", {"models": asked, "folder": str(folder)}, time_limit=300)
    return {name: error and WorkbenchError.from_dict(error) for name, error in job.result()["errors"].items()}


HERE = {name: case for name, case in CASES.items() if "precision" not in case.options}
"""Cases that need nothing of the parent process, which casts the model."""


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, WorkbenchError | None]:
    return in_one_worker({n: (c.make, c.options) for n, c in HERE.items()}, tmp_path_factory.mktemp("refused"))


@pytest.fixture(scope="module")
def cures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, WorkbenchError | None]:
    return in_one_worker(
        {n: w for n, w in WAYS_OUT.items() if "precision" not in w[1]}, tmp_path_factory.mktemp("built")
    )


def built(session: Session, make: Make, options: dict[str, Any], folder: Path) -> None:
    session.add(save(make(), folder / "m.onnx"), name="m")
    session.build("m", compiler="tensorrt_rtx", **{"target": "sm89", **options})


def named(error: WorkbenchError) -> list[str]:
    return [n["node"] if isinstance(n, dict) else n for n in error.details.get("nodes", [])]


def check(error: WorkbenchError | None, case: Refused) -> None:
    assert error is not None
    told = f"{error.message}\n{error.hint}"
    assert error.code == case.code, told
    assert case.says in error.message
    assert case.way in str(error.hint), told
    if case.nodes is not None:
        assert sorted(set(case.nodes.split())) == sorted(set(named(error))), told
    for words, codes in OTHER_CAUSES.items():
        assert case.code in codes or words not in told, told


@pytest.mark.parametrize("name", HERE)
def test_the_error_names_the_planted_cause_and_no_other(errors: dict[str, WorkbenchError | None], name: str) -> None:
    check(errors[name], CASES[name])


PUBLIC = [
    "a batch baked into a Reshape", "an Add of unequal lengths", "a bias in INT32", "NonMaxSuppression", "Attention in FP32", "Det",
    "FP32 products on Turing", "FP4 on Ada", *(name for name in CASES if name not in HERE),
]  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_the_session_raises_the_same(session: Session, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    with pytest.raises(WorkbenchError) as info:
        built(session, case.make, case.options, tmp_path)
    check(info.value, case)


def test_the_table_is_large_and_reaches_every_rule_of_a_machine_without_a_gpu() -> None:
    assert len(CASES) >= 60
    reached = {case.code for case in CASES.values()}
    codes = {rule.code for rule in (*causes_builder.BUILDER, *causes.PARSER)}
    # What needs a GPU, another version or more than a tiny model; tests/unit/test_causes.py has their recorded messages.
    rest = {"out-of-memory", "gpu-not-supported", "int8-convolution", "workspace", "code-generator", "shape-values"}
    assert codes - rest <= reached
    assert not rest & reached


WAYS_OUT: dict[str, tuple[Make, dict[str, Any]]] = {
    "a batch of 1 for a baked Reshape": (lambda: reshape([1, 256]), shapes(x="1x4x8x8")),
    "an open batch in the constant": (lambda: reshape([-1, 256]), shapes(x="4x4x8x8")),
    "Attention in FP16": (attention, {"precision": "fp16"}),
    "Attention in BF16": (attention, {"precision": "bf16"}),
    "Attention with heads of 12": (lambda: attention(F16, 12), {}),
    "Attention with heads of 256": (lambda: attention(F16, 256), {}),
    "attention of opset 22": (lambda: decomposed(512), {}),
    "attention of opset 22 with small heads": (lambda: decomposed(7), {}),
    "a mask in BOOL": (lambda: attention(F16, mask=BOOL), {}),
    "a bias in FP32": (quantized, {}),
    "FP8 by QuantizeLinear": (lambda: quantized(weights=ml_dtypes.float8_e4m3fn, kind=ml_dtypes.float8_e4m3fn), {}),
    "FP32 products in FP16 on Turing": (product, {**SM75, "precision": "fp16"}),
    "BF16 on sm80": (lambda: product(BF16), {"target": "sm80"}),
    "INT4 on sm80": (lambda: quantized(weights=ml_dtypes.int4, op="MatMul"), {"target": "sm80"}),
    "FP8 on sm89": (lambda: quantized(weights=ml_dtypes.float8_e4m3fn, kind=ml_dtypes.float8_e4m3fn, op="MatMul"), {}),
    "FP4 on sm120": (nvfp4, {"target": "sm120"}),
    "3840 of a TopK": (lambda: m(n("TopK", "x k", "y i"), {"x": (F32, 1, 10000)}, {"y": F32, "i": I64}, {"k": [3840]}), {}),
    "an LRN of 15": (lambda: image("LRN", size=15), {}),
    "a global pooling": (lambda: image("GlobalAveragePool", shape=(1, 64, 2, 2)), {}),
    "a Loop with a count": (lambda: loop(True), {}),
    "a Resize that does not smooth": (resized, {}),
    "an Exp between casts": (lambda: m([n("Cast", "x", "f", "c1", to=F32), n("Exp", "f", "e"), n("Cast", "e", "y", "c2", to=I32)], {"x": (I32, 2)}, {"y": I32}), {}),
    "UINT8 cast to FP32": (lambda: m([n("Cast", "x", "f", "c1", to=F32), n("Add", "f f")], {"x": (U8, 2, 3)}), {}),
    "And in place of a product": (lambda: two("And", (BOOL, 2, 2), (BOOL, 2, 2), {"y": BOOL}), {}),
    "no refit": (product, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS_OUT)
def test_the_way_out_builds(
    cures: dict[str, WorkbenchError | None], session: Session, tmp_path: Path, name: str
) -> None:
    if name in cures:
        assert cures[name] is None
    else:
        built(session, *WAYS_OUT[name], tmp_path)


@pytest.mark.parametrize(("op", "to"), [("GRU", "fp16"), ("LSTM", "fp16"), ("GRU", "bf16")])
def test_a_recurrent_node_that_is_kept_builds(session: Session, tmp_path: Path, op: str, to: str) -> None:
    proto = recurrent(op, lengths=to == "fp16", opset=17 if to == "fp16" else 22)
    session.add(save(proto, tmp_path / "m.onnx"), name="m")
    session.precision.cast("m", to, keep_ops=[op], name="kept")
    session.build("kept", compiler="tensorrt_rtx", target="sm89")
