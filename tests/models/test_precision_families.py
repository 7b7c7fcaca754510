"""Casts of many operator families, on ordinary and on hostile data: right within the type, or named; and no false alarm.

Each family is cast in process and simulated (`workbench.precision.simulate`), then compared with the same graph in FP32.
Two things are asked of every case. No silent error: outputs are within the tolerance of the type, or a warning names the
place. No false alarm: where outputs are within it, the check on data names nothing, and a constant is named only if the type
does change it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from tests.support import SAMPLES, needs_rtx
from tests.support.small_models import INT64, constant, model, node, random_inputs, save, value, weights
from workbench import Session
from workbench.core.worker import Reporter
from workbench.passes.cast import cast_task
from workbench.passes.ir import load_ir, save_ir
from workbench.precision.overflow import overflow_task
from workbench.precision.simulate import simulate

BOOL, INT32 = TensorProto.BOOL, TensorProto.INT32
KIND: dict[str, Any] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
TOLERANCE = {"fp16": 0.01, "bf16": 0.06}
"""Norm of the difference over the norm, at each output: some roundings of 2**-11 (FP16) or 2**-8 (BF16) each."""

Data = dict[str, np.ndarray]
Family = tuple[onnx.ModelProto, dict[str, Data]]
FAMILIES: dict[str, Callable[[np.random.Generator], Family]] = {}


def family(make: Callable[[np.random.Generator], Family]) -> Callable[[np.random.Generator], Family]:
    FAMILIES[make.__name__] = make
    return make


def f32(array: Any) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return f32(rng.standard_normal(shape) * scale)


# --- layers -----------------------------------------------------------------------------------------


@family
def conv(rng: np.random.Generator) -> Family:
    made = model(
        [node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1] * 4), node("Relu", ["c"], ["y"], "relu")],
        [value("x", [1, 4, 8, 8])], [value("y", None)], [weights("w", 8, 4, 3, 3), weights("b", 8, scale=1e-9)], opset=22,
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 1, 4, 8, 8)}, "large": {"x": normal(rng, 1, 4, 8, 8, scale=1e5)}}


@family
def conv_transpose(rng: np.random.Generator) -> Family:
    made = model(
        [node("ConvTranspose", ["x", "w"], ["y"], "up", strides=[2, 2])], [value("x", [1, 4, 6, 6])], [value("y", None)],
        [weights("w", 4, 4, 2, 2)], opset=22,
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 1, 4, 6, 6)}}


@family
def gemm(rng: np.random.Generator) -> Family:
    made = model(
        [node("Gemm", ["x", "w", "b"], ["y"], "fc", transB=1, alpha=0.5)], [value("x", [4, 16])], [value("y", None)],
        [weights("w", 8, 16), weights("b", 8)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}, "tiny": {"x": normal(rng, 4, 16, scale=1e-9)}}


@family
def matmul_with_tiny_weights(rng: np.random.Generator) -> Family:
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Mul", ["h", "up"], ["y"], "scale")], [value("x", [4, 16])], [value("y", None)],
        [weights("w", 16, 16, scale=3e-9), constant("up", 3e8)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}}


@family
def pooling(rng: np.random.Generator) -> Family:
    made = model(
        [node("MaxPool", ["x"], ["m"], "max", kernel_shape=[2, 2]), node("AveragePool", ["m"], ["a"], "avg", kernel_shape=[2, 2]),
         node("GlobalAveragePool", ["a"], ["g"], "gap"), node("Flatten", ["g"], ["y"], "flat")],
        [value("x", [1, 4, 8, 8])], [value("y", None)], opset=22,
    )  # fmt: skip
    return made, {"plain": {"x": f32(np.abs(normal(rng, 1, 4, 8, 8)))}}


@family
def resize(rng: np.random.Generator) -> Family:
    made = model(
        [node("Conv", ["x", "w"], ["h"], "conv"), node("Resize", ["h", "", "s"], ["y"], "up", mode="linear")],
        [value("x", [1, 3, 7, 7])], [value("y", None)], [weights("w", 3, 3, 1, 1), constant("s", [1, 1, 1.2857143, 1.2857143])], opset=22,
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 1, 3, 7, 7)}}


@family
def batch_norm(rng: np.random.Generator) -> Family:
    made = model(
        [node("Conv", ["x", "w"], ["h"], "conv"), node("BatchNormalization", ["h", "g", "b", "m", "v"], ["y"], "bn")],
        [value("x", [1, 4, 6, 6])], [value("y", None)],
        [weights("w", 4, 4, 1, 1), constant("g", [1, 0.5, 2, 1]), weights("b", 4), weights("m", 4), constant("v", [1e-9, 0.01, 1, 2])], opset=22,
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 1, 4, 6, 6)}}


@family
def lstm(rng: np.random.Generator) -> Family:
    made = model(
        [node("LSTM", ["x", "w", "r", "b", "", "h", "c"], ["y", "yh", "yc"], "lstm", hidden_size=4)],
        [value("x", [5, 1, 6]), value("h", [1, 1, 4]), value("c", [1, 1, 4])], [value(n, None) for n in ("y", "yh", "yc")],
        [weights("w", 1, 16, 6, scale=0.5), weights("r", 1, 16, 4, scale=0.5), weights("b", 1, 32)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 5, 1, 6), "h": normal(rng, 1, 1, 4), "c": normal(rng, 1, 1, 4)}}


@family
def gru(rng: np.random.Generator) -> Family:
    made = model(
        [node("GRU", ["x", "w", "r"], ["y", "yh"], "gru", hidden_size=4)], [value("x", [5, 1, 6])],
        [value("y", None), value("yh", None)], [weights("w", 1, 12, 6, scale=0.5), weights("r", 1, 12, 4, scale=0.5)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 5, 1, 6)}}


@family
def embedding(rng: np.random.Generator) -> Family:
    made = model(
        [node("Gather", ["e", "ids"], ["h"], "embed"), node("MatMul", ["h", "w"], ["y"], "mm")], [value("ids", [2, 5], INT64)],
        [value("y", None)], [weights("e", 50, 8), weights("w", 8, 8)],
    )  # fmt: skip
    return made, {"plain": {"ids": rng.integers(0, 50, (2, 5))}}


@family
def einsum(rng: np.random.Generator) -> Family:
    made = model(
        [node("Einsum", ["a", "b"], ["y"], "einsum", equation="bij,bjk->bik")], [value("a", [2, 4, 8]), value("b", [2, 8, 4])], [value("y", None)],
    )  # fmt: skip
    return made, {"plain": {"a": normal(rng, 2, 4, 8), "b": normal(rng, 2, 8, 4)}}


# --- normalization ----------------------------------------------------------------------------------


@family
def layer_norm(rng: np.random.Generator) -> Family:
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("LayerNormalization", ["h", "g", "b"], ["y"], "ln", epsilon=1e-12)], [value("x", [4, 16])],
        [value("y", None)], [weights("w", 16, 16), constant("g", np.ones(16)), constant("b", np.zeros(16))],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}}


def written_out(epsilon: float, *, center: bool) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    nodes = [node("MatMul", ["x", "w"], ["h"], "mm")]
    base = "h"
    if center:
        nodes += [node("ReduceMean", ["h", "last"], ["mean"], "mean"), node("Sub", ["h", "mean"], ["d"], "center")]
        base = "d"
    nodes += [
        node("Pow", [base, "two"], ["sq"], "square"), node("ReduceMean", ["sq", "last"], ["var"], "variance"),
        node("Add", ["var", "eps"], ["ve"], "epsilon"), node("Sqrt", ["ve"], ["sd"], "root"), node("Div", [base, "sd"], ["n"], "divide"),
        node("Mul", ["n", "g"], ["y"], "gain"),
    ]  # fmt: skip
    held = [
        weights("w", 32, 32, scale=0.2),
        constant("two", 2.0),
        constant("eps", epsilon),
        constant("last", [-1], "int64"),
        weights("g", 32, scale=1),
    ]
    return nodes, held


@family
def layer_norm_written_out(rng: np.random.Generator) -> Family:
    nodes, held = written_out(1e-5, center=True)
    made = model(nodes, [value("x", [4, 32])], [value("y", None)], held)
    return made, {
        "plain": {"x": normal(rng, 4, 32)},
        "large": {"x": normal(rng, 4, 32, scale=2000)},
        "small": {"x": normal(rng, 4, 32, scale=1e-3)},
    }


@family
def rms_norm_written_out(rng: np.random.Generator) -> Family:
    nodes, held = written_out(1e-6, center=False)
    made = model(nodes, [value("x", [4, 32])], [value("y", None)], held)
    zeros = normal(rng, 4, 32)
    zeros[1] = 0
    return made, {
        "plain": {"x": normal(rng, 4, 32)},
        "large": {"x": normal(rng, 4, 32, scale=2000)},
        "a row of zeros": {"x": zeros},
    }


@family
def rms_norm_with_an_epsilon_that_vanishes(rng: np.random.Generator) -> Family:
    nodes, held = written_out(1e-12, center=False)
    made = model(nodes, [value("x", [4, 32])], [value("y", None)], held)
    return made, {"zeros": {"x": np.concatenate([np.zeros((1, 32), np.float32), normal(rng, 3, 32)])}}


@family
def rms_norm_by_reciprocal(rng: np.random.Generator) -> Family:
    made = model(
        [node("Mul", ["x", "x"], ["sq"], "square"), node("ReduceMean", ["sq", "last"], ["v"], "mean"), node("Add", ["v", "eps"], ["e"], "epsilon"),
         node("Sqrt", ["e"], ["r"], "root"), node("Reciprocal", ["r"], ["i"], "inverse"), node("Mul", ["x", "i"], ["n"], "norm"), node("MatMul", ["n", "w"], ["y"], "mm")],
        [value("x", [4, 32])], [value("y", None)], [constant("eps", 1e-6), constant("last", [-1], "int64"), weights("w", 32, 32)],
    )  # fmt: skip
    return made, {
        "plain": {"x": normal(rng, 4, 32)},
        "large": {"x": normal(rng, 4, 32, scale=5000)},
        "zeros": {"x": np.zeros((4, 32), np.float32)},
    }


@family
def variance_by_difference(rng: np.random.Generator) -> Family:
    made = model(
        [node("Mul", ["x", "x"], ["sq"], "square"), node("ReduceMean", ["sq", "last"], ["a"], "mean of squares"), node("ReduceMean", ["x", "last"], ["m"], "mean"),
         node("Mul", ["m", "m"], ["mm"], "square of mean"), node("Sub", ["a", "mm"], ["v"], "variance"), node("Add", ["v", "eps"], ["e"], "epsilon"),
         node("Sqrt", ["e"], ["y"], "root")],
        [value("x", [4, 64])], [value("y", None)], [constant("eps", 1e-3), constant("last", [-1], "int64")],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 64) + 3}, "far": {"x": normal(rng, 4, 64) + 30}}


@family
def group_norm(rng: np.random.Generator) -> Family:
    made = model(
        [node("Reshape", ["x", "groups"], ["r"], "split"), node("InstanceNormalization", ["r", "one", "zero"], ["n"], "norm"),
         node("Reshape", ["n", "back"], ["b"], "join"), node("Mul", ["b", "g"], ["y"], "gain")],
        [value("x", [1, 8, 4, 4])], [value("y", None)],
        [constant("groups", [1, 2, 64], "int64"), constant("one", [1, 1]), constant("zero", [0, 0]), constant("back", [1, 8, 4, 4], "int64"),
         weights("g", 8, 1, 1, scale=1)], opset=22,
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 1, 8, 4, 4)}, "large": {"x": normal(rng, 1, 8, 4, 4, scale=1000)}}


@family
def l2_norm(rng: np.random.Generator) -> Family:
    made = model(
        [node("ReduceL2", ["x", "last"], ["n"], "length"), node("Clip", ["n", "least"], ["c"], "least"), node("Div", ["x", "c"], ["y"], "unit")],
        [value("x", [4, 64])], [value("y", None)], [constant("last", [-1], "int64"), constant("least", 1e-12)],
    )  # fmt: skip
    zero = normal(rng, 4, 64)
    zero[2] = 0
    return made, {
        "plain": {"x": normal(rng, 4, 64)},
        "large": {"x": normal(rng, 4, 64, scale=9000)},
        "a zero vector": {"x": zero},
    }


# --- attention and positions ------------------------------------------------------------------------


def attention_nodes(mask: list[onnx.NodeProto], scores: str) -> list[onnx.NodeProto]:
    return [
        node("MatMul", ["q", "k"], ["qk"], "scores"), node("Mul", ["qk", "scale"], ["s"], "scale"), *mask,
        node("Softmax", [scores], ["p"], "softmax", axis=-1), node("MatMul", ["p", "v"], ["y"], "values"),
    ]  # fmt: skip


def qkv(rng: np.random.Generator, length: int = 6, scale: float = 1.0) -> Data:
    return {
        "q": normal(rng, 1, 2, length, 8, scale=scale),
        "k": normal(rng, 1, 2, 8, length),
        "v": normal(rng, 1, 2, length, 8),
    }


QKV = [value("q", [1, 2, 6, 8]), value("k", [1, 2, 8, 6]), value("v", [1, 2, 6, 8])]
SCALE = constant("scale", 8**-0.5)


@family
def attention(rng: np.random.Generator) -> Family:
    made = model(attention_nodes([], "s"), QKV, [value("y", None)], [SCALE])
    return made, {"plain": qkv(rng), "peaked": qkv(rng, scale=8)}


@family
def attention_with_a_causal_where(rng: np.random.Generator) -> Family:
    mask = [node("Where", ["tri", "s", "low"], ["m"], "mask")]
    low = constant("low", np.finfo(np.float32).min)
    made = model(attention_nodes(mask, "m"), QKV, [value("y", None)], [SCALE, constant("tri", np.tri(6), "bool"), low])
    return made, {"plain": qkv(rng)}


@family
def attention_with_an_infinite_mask(rng: np.random.Generator) -> Family:
    mask = [node("Add", ["s", "mask"], ["m"], "mask")]
    held = constant("mask", np.where(np.tri(6, dtype=bool), 0, -np.inf))
    return model(attention_nodes(mask, "m"), QKV, [value("y", None)], [SCALE, held]), {"plain": qkv(rng)}


@family
def attention_with_an_added_mask(rng: np.random.Generator) -> Family:
    """As BERT writes it: (1 - mask) times the lowest FP32, from an integer input; one row's keys are all masked."""
    mask = [
        node("Cast", ["given"], ["mf"], "to_float", to=TensorProto.FLOAT), node("Sub", ["one", "mf"], ["inv"], "invert"),
        node("Mul", ["inv", "low"], ["add"], "large"), node("Add", ["s", "add"], ["m"], "mask"),
    ]  # fmt: skip
    made = model(
        attention_nodes(mask, "m"), [*QKV, value("given", [1, 1, 6, 6], INT64)], [value("y", None)],
        [SCALE, constant("one", 1.0), constant("low", np.finfo(np.float32).min)],
    )  # fmt: skip
    some = np.tri(6, dtype=np.int64)[None, None]
    none = some.copy()
    none[..., 2, :] = 0
    return made, {"plain": {**qkv(rng), "given": some}, "a row of nothing": {**qkv(rng), "given": none}}


@family
def attention_with_two_masks(rng: np.random.Generator) -> Family:
    """A causal and a padding mask, both large and added: their sum must not leave the range."""
    mask = [
        node("Where", ["tri", "zero", "low"], ["causal"], "causal"), node("Where", ["pad", "zero", "low"], ["padding"], "padding"),
        node("Unsqueeze", ["padding", "axes"], ["wide"], "widen"), node("Add", ["s", "causal"], ["m1"], "mask1"),
        node("Add", ["m1", "wide"], ["m"], "mask2"),
    ]  # fmt: skip
    made = model(
        attention_nodes(mask, "m"), [*QKV, value("pad", [1, 6], BOOL)], [value("y", None)],
        [SCALE, constant("tri", np.tri(6), "bool"), constant("zero", 0.0), constant("low", -1e38), constant("axes", [1, 2], "int64")],
    )  # fmt: skip
    nothing = {**qkv(rng), "pad": np.array([[False] * 2 + [True] * 4])}  # no key is left for the first two rows
    return made, {"plain": {**qkv(rng), "pad": np.array([[True] * 4 + [False] * 2])}, "rows of nothing": nothing}


@family
def a_mask_that_is_an_output(rng: np.random.Generator) -> Family:
    mask = [node("Where", ["tri", "zero", "low"], ["mask"], "causal"), node("Add", ["s", "mask"], ["m"], "mask1")]
    made = model(
        attention_nodes(mask, "m"), QKV, [value("y", None), value("mask", None)],
        [SCALE, constant("tri", np.tri(6), "bool"), constant("zero", 0.0), constant("low", -1e5)],
    )  # fmt: skip
    return made, {"plain": qkv(rng)}


@family
def softmax_of_large_values(rng: np.random.Generator) -> Family:
    made = model([node("Softmax", ["x"], ["y"], "softmax")], [value("x", [4, 32])], [value("y", None)])
    return made, {"plain": {"x": normal(rng, 4, 32)}, "beyond": {"x": normal(rng, 4, 32, scale=1e5)}}


def rope(frequencies: int = 16) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    nodes = [
        node("Cast", ["pos"], ["pf"], "to_float", to=TensorProto.FLOAT), node("Unsqueeze", ["pf", "end"], ["pu"], "column"),
        node("MatMul", ["pu", "inv"], ["freqs"], "freqs"), node("Concat", ["freqs", "freqs"], ["emb"], "twice", axis=-1),
        node("Cos", ["emb"], ["cos"], "cos"), node("Sin", ["emb"], ["sin"], "sin"),
        node("Split", ["x"], ["x1", "x2"], "halves", axis=-1, num_outputs=2), node("Neg", ["x2"], ["nx2"], "negative"),
        node("Concat", ["nx2", "x1"], ["turned"], "turn", axis=-1), node("Mul", ["x", "cos"], ["a"], "mul_cos"),
        node("Mul", ["turned", "sin"], ["b"], "mul_sin"), node("Add", ["a", "b"], ["y"], "rotated"),
    ]  # fmt: skip
    inv = 1 / 10000 ** (np.arange(frequencies) / frequencies)
    return nodes, [constant("end", [1], "int64"), constant("inv", inv[None])]


@family
def rotary_positions(rng: np.random.Generator) -> Family:
    nodes, held = rope()
    made = model(nodes, [value("pos", [8], INT64), value("x", [8, 32])], [value("y", None)], held)
    return made, {
        name: {"pos": np.arange(start, start + 8), "x": normal(rng, 8, 32)}
        for name, start in (("first", 0), ("4001", 4001), ("30001", 30001), ("beyond FP16", 100001))
    }


@family
def rotary_positions_as_floats(rng: np.random.Generator) -> Family:
    """Positions (or a timestep) that come in as FP32."""
    made = model(
        [node("Mul", ["t", "inv"], ["f"], "freqs"), node("Sin", ["f"], ["s"], "sin"), node("Cos", ["f"], ["c"], "cos"),
         node("Concat", ["s", "c"], ["e"], "join", axis=-1), node("MatMul", ["e", "w"], ["y"], "mm")],
        [value("t", [4, 1])], [value("y", None)], [constant("inv", (1 / 10000 ** (np.arange(16) / 16))[None]), weights("w", 32, 8)],
    )  # fmt: skip
    return made, {
        "timesteps": {"t": f32([[999], [501], [17], [1]])},
        "far": {"t": f32([[4001], [30001], [65000], [3]])},
    }


@family
def positions_by_cumsum(rng: np.random.Generator) -> Family:
    made = model(
        [node("CumSum", ["mask", "axis"], ["c"], "cumsum"), node("Cast", ["c"], ["f"], "to_float", to=TensorProto.FLOAT), node("Mul", ["f", "step"], ["p"], "scale"),
         node("Sin", ["p"], ["y"], "sin")],
        [value("mask", [1, 5000], INT64)], [value("y", None)], [constant("axis", 1, "int64"), constant("step", 0.37)],
    )  # fmt: skip
    return made, {"long": {"mask": np.ones((1, 5000), np.int64)}}


@family
def positions_by_range(rng: np.random.Generator) -> Family:
    made = model(
        [node("Range", ["zero", "n", "one"], ["r"], "range"), node("Mul", ["r", "step"], ["p"], "scale"), node("Cos", ["p"], ["c"], "cos"),
         node("Mul", ["x", "c"], ["y"], "use")],
        [value("n", []), value("x", [5000])], [value("y", [5000])], [constant("zero", 0.0), constant("one", 1.0), constant("step", 0.5)],
    )  # fmt: skip
    return made, {"long": {"n": f32(5000), "x": normal(rng, 5000)}}


@family
def alibi(rng: np.random.Generator) -> Family:
    """A bias of slopes times positions on the scores: relative to the largest, and not bounded before the softmax."""
    mask = [
        node("Cast", ["pos"], ["pf"], "to_float", to=TensorProto.FLOAT), node("Mul", ["pf", "slope"], ["bias"], "slopes"), node("Add", ["s", "bias"], ["m"], "add"),
    ]  # fmt: skip
    made = model(
        attention_nodes(mask, "m"), [*QKV, value("pos", [1, 1, 1, 6], INT64)], [value("y", None)], [SCALE, constant("slope", f32([0.7, 0.35]).reshape(1, 2, 1, 1))],
    )  # fmt: skip
    near, far = (np.arange(start, start + 6).reshape(1, 1, 1, 6) for start in (0, 8001))
    return made, {"near": {**qkv(rng), "pos": near}, "far": {**qkv(rng), "pos": far}}


@family
def comparison_of_positions(rng: np.random.Generator) -> Family:
    made = model(
        [node("Cast", ["a"], ["af"], "a_float", to=TensorProto.FLOAT), node("Cast", ["b"], ["bf"], "b_float", to=TensorProto.FLOAT), node("Sub", ["af", "bf"], ["d"], "distance"),
         node("Less", ["d", "half"], ["near"], "near"), node("Where", ["near", "x", "zero"], ["y"], "pick")],
        [value("a", [8], INT64), value("b", [8], INT64), value("x", [8])], [value("y", None)], [constant("half", 0.5), constant("zero", 0.0)],
    )  # fmt: skip
    base = 40001 + np.arange(8)
    return made, {"far": {"a": base, "b": base - np.arange(8) % 2, "x": normal(rng, 8)}}


# --- pointwise, reductions, selections --------------------------------------------------------------


@family
def gelu_by_tanh(rng: np.random.Generator) -> Family:
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Pow", ["h", "three"], ["c"], "cube"), node("Mul", ["c", "k"], ["ck"], "scale"), node("Add", ["h", "ck"], ["s"], "sum"),
         node("Mul", ["s", "r"], ["u"], "root"), node("Tanh", ["u"], ["t"], "tanh"), node("Add", ["t", "one"], ["o"], "plus"), node("Mul", ["h", "o"], ["p"], "times"),
         node("Mul", ["p", "half"], ["y"], "half")],
        [value("x", [4, 16])], [value("y", None)],
        [constant("w", np.eye(16)), constant("three", 3.0), constant("k", 0.044715), constant("r", 0.7978846), constant("one", 1.0), constant("half", 0.5)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}, "saturated": {"x": normal(rng, 4, 16, scale=200)}}


@family
def sigmoid_written_out(rng: np.random.Generator) -> Family:
    made = model(
        [node("Neg", ["x"], ["n"], "neg"), node("Exp", ["n"], ["e"], "exp"), node("Add", ["e", "one"], ["p"], "plus"), node("Div", ["one", "p"], ["y"], "divide")],
        [value("x", [4, 16])], [value("y", None)], [constant("one", 1.0)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}, "saturated": {"x": normal(rng, 4, 16, scale=30)}}


@family
def softplus_written_out(rng: np.random.Generator) -> Family:
    made = model(
        [node("Exp", ["x"], ["e"], "exp"), node("Add", ["e", "one"], ["p"], "plus"), node("Log", ["p"], ["y"], "log")], [value("x", [4, 16])], [value("y", None)], [constant("one", 1.0)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}, "large": {"x": normal(rng, 4, 16, scale=20)}}


@family
def log_of_a_softmax(rng: np.random.Generator) -> Family:
    made = model(
        [node("Softmax", ["x"], ["p"], "softmax"), node("Log", ["p"], ["y"], "log")],
        [value("x", [4, 16])],
        [value("y", None)],
    )
    return made, {"plain": {"x": normal(rng, 4, 16)}, "peaked": {"x": normal(rng, 4, 16, scale=8)}}


@family
def log_sum_exp_written_out(rng: np.random.Generator) -> Family:
    made = model(
        [node("Exp", ["x"], ["e"], "exp"), node("ReduceSum", ["e", "last"], ["s"], "sum"), node("Log", ["s"], ["y"], "log")], [value("x", [4, 16])], [value("y", None)],
        [constant("last", [-1], "int64")],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}, "large": {"x": normal(rng, 4, 16, scale=10)}}


@family
def log_with_an_epsilon(rng: np.random.Generator) -> Family:
    made = model(
        [node("Add", ["x", "eps"], ["a"], "epsilon"), node("Log", ["a"], ["y"], "log")],
        [value("x", [4, 16])],
        [value("y", None)],
        [constant("eps", 1e-10)],
    )
    some = f32(np.abs(normal(rng, 4, 16)))
    some[:, 3] = 0
    return made, {"with zeros": {"x": some}}


@family
def square_root_and_power(rng: np.random.Generator) -> Family:
    made = model(
        [node("Abs", ["x"], ["a"], "abs"), node("Sqrt", ["a"], ["r"], "root"), node("Pow", ["r", "p"], ["q"], "power"), node("Add", ["q", "r"], ["y"], "sum")],
        [value("x", [4, 16])], [value("y", None)], [constant("p", 1.5)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}, "power beyond": {"x": normal(rng, 4, 16, scale=1e9)}}


@family
def long_sum(rng: np.random.Generator) -> Family:
    made = model(
        [node("ReduceSum", ["x", "last"], ["s"], "sum"), node("Div", ["s", "n"], ["y"], "mean")], [value("x", [2, 4096])], [value("y", None)],
        [constant("last", [-1], "int64"), constant("n", 4096.0)],
    )  # fmt: skip
    return made, {
        "plain": {"x": f32(np.abs(normal(rng, 2, 4096)))},
        "beyond": {"x": f32(np.abs(normal(rng, 2, 4096, scale=100)))},
    }


@family
def mean_over_a_mask(rng: np.random.Generator) -> Family:
    """The pooling of sentence embeddings: an all-padding row divides by 1e-9."""
    made = model(
        [node("Cast", ["mask"], ["mf"], "to_float", to=TensorProto.FLOAT), node("Unsqueeze", ["mf", "end"], ["mu"], "widen"), node("Mul", ["x", "mu"], ["m"], "masked"),
         node("ReduceSum", ["m", "one"], ["s"], "sum"), node("ReduceSum", ["mu", "one"], ["c"], "count"), node("Clip", ["c", "least"], ["d"], "least"), node("Div", ["s", "d"], ["y"], "mean")],
        [value("mask", [2, 8], INT64), value("x", [2, 8, 4])], [value("y", None)], [constant("end", [2], "int64"), constant("one", [1], "int64"), constant("least", 1e-9)],
    )  # fmt: skip
    return made, {"a row of padding": {"mask": np.array([[1] * 5 + [0] * 3, [0] * 8]), "x": normal(rng, 2, 8, 4)}}


@family
def prefix_sum(rng: np.random.Generator) -> Family:
    made = model([node("CumSum", ["x", "axis"], ["c"], "cumsum"), node("Div", ["c", "n"], ["y"], "mean")], [value("x", [2, 4096])], [value("y", None)],
                 [constant("axis", 1, "int64"), constant("n", np.arange(1, 4097))])  # fmt: skip
    return made, {"plain": {"x": f32(np.abs(normal(rng, 2, 4096, scale=50)))}}


@family
def top_k(rng: np.random.Generator) -> Family:
    made = model(
        [node("TopK", ["x", "k"], ["y", "i"], "topk")],
        [value("x", [4, 64])],
        [value("y", None), value("i", None, INT64)],
        [constant("k", [5], "int64")],
    )
    return made, {"close": {"x": f32(1000 + rng.permuted(np.tile(np.arange(64) * 0.01, (4, 1)), axis=1))}}


@family
def threshold_on_inputs(rng: np.random.Generator) -> Family:
    made = model(
        [node("Greater", ["score", "limit"], ["keep"], "keep"), node("Where", ["keep", "x", "zero"], ["y"], "pick")], [value("score", [64]), value("x", [64])], [value("y", None)],
        [constant("limit", 0.50001), constant("zero", 0.0)],
    )  # fmt: skip
    return made, {"close": {"score": f32(0.5 + np.arange(64) * 1e-6), "x": normal(rng, 64)}}


@family
def masked_maximum(rng: np.random.Generator) -> Family:
    made = model(
        [node("Where", ["m", "x", "low"], ["w"], "mask"), node("ReduceMax", ["w", "last"], ["y"], "max")], [value("x", [4, 16]), value("m", [4, 16], BOOL)], [value("y", None)],
        [constant("low", -1e30), constant("last", [-1], "int64")],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16), "m": np.tri(4, 16, 1, dtype=bool)}}


@family
def bounds_that_bound_nothing(rng: np.random.Generator) -> Family:
    made = model([node("Clip", ["x", "low", "high"], ["c"], "clip"), node("Max", ["c", "low"], ["y"], "max")], [value("x", [4, 16])], [value("y", None)],
                 [constant("low", -3.4e38), constant("high", 3.4e38)])  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}}


@family
def constants_beyond_the_range(rng: np.random.Generator) -> Family:
    made = model(
        [node("Mul", ["x", "big"], ["h"], "up"), node("Div", ["h", "big"], ["y"], "down")],
        [value("x", [4, 16])],
        [value("y", None)],
        [constant("big", 1e6)],
    )
    return made, {"plain": {"x": normal(rng, 4, 16)}}


@family
def division_by_a_tiny_constant(rng: np.random.Generator) -> Family:
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Div", ["h", "d"], ["y"], "divide")], [value("x", [4, 16])], [value("y", None)],
        [weights("w", 16, 4, scale=1e-3), constant("d", [1.0, 2.0, 1e-9, 0.5])],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}}


@family
def quantized_with_a_tiny_scale(rng: np.random.Generator) -> Family:
    made = model(
        [node("Mul", ["x", "small"], ["t"], "shrink"), node("QuantizeLinear", ["t", "s", "z"], ["q"], "q"), node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
         node("Mul", ["d", "large"], ["y"], "grow")],
        [value("x", [4, 16])], [value("y", None)], [constant("small", 1e-8), constant("s", 1e-9), constant("z", 0, "int8"), constant("large", 1e8)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}}


@family
def overflow_inside(rng: np.random.Generator) -> Family:
    """Nothing but data tells this one: it has to be named."""
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Mul", ["h", "h"], ["s"], "square"), node("Mul", ["s", "k"], ["y"], "scale")], [value("x", [4, 16])], [value("y", None)],
        [weights("w", 16, 16), constant("k", 1e-3)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}, "beyond": {"x": normal(rng, 4, 16, scale=3000)}}


@family
def vanishing_inside(rng: np.random.Generator) -> Family:
    made = model(
        [node("Mul", ["x", "k"], ["a"], "first"), node("Mul", ["a", "k"], ["b"], "second"), node("Mul", ["b", "up"], ["c"], "third"), node("Mul", ["c", "up"], ["y"], "fourth")],
        [value("x", [4, 16])], [value("y", None)], [constant("k", 7e-5), constant("up", 1.4e4)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}}


@family
def grid_sample(rng: np.random.Generator) -> Family:
    made = model(
        [node("GridSample", ["x", "grid"], ["y"], "sample")],
        [value("x", [1, 2, 8, 8]), value("grid", [1, 4, 4, 2])],
        [value("y", None)],
    )
    return made, {"plain": {"x": normal(rng, 1, 2, 8, 8), "grid": f32(rng.uniform(-0.9, 0.9, (1, 4, 4, 2)))}}


@family
def moves(rng: np.random.Generator) -> Family:
    made = model(
        [node("Pad", ["x", "pads"], ["p"], "pad"), node("DepthToSpace", ["p"], ["d"], "depth", blocksize=2), node("Transpose", ["d"], ["t"], "transpose", perm=[0, 2, 3, 1]),
         node("ScatterND", ["t", "at", "new"], ["s"], "scatter"), node("Tile", ["s", "times"], ["y"], "tile")],
        [value("x", [1, 4, 2, 2])], [value("y", None)],
        [constant("pads", [0, 0, 0, 0, 0, 0, 1, 1], "int64"), constant("at", [[0, 0, 0, 0]], "int64"), constant("new", [3.3]), constant("times", [1, 2, 1, 1], "int64")],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 1, 4, 2, 2)}}


@family
def activations(rng: np.random.Generator) -> Family:
    ops = ["LeakyRelu", "HardSwish", "Elu", "Gelu", "Softplus", "Softsign", "Selu", "Mish", "Celu", "HardSigmoid"]
    nodes = [node(op, ["x"], [f"h{i}"], op) for i, op in enumerate(ops)]
    made = model([*nodes, node("Sum", [f"h{i}" for i in range(len(ops))], ["s"], "sum"), node("PRelu", ["s", "slope"], ["y"], "prelu")],
                 [value("x", [4, 16])], [value("y", None)], [constant("slope", [0.2])])  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}, "far": {"x": normal(rng, 4, 16, scale=50)}}


@family
def reductions(rng: np.random.Generator) -> Family:
    ops = [
        "ReduceMax",
        "ReduceMin",
        "ReduceMean",
        "ReduceSum",
        "ReduceL1",
        "ReduceSumSquare",
        "ReduceLogSumExp",
        "ReduceProd",
    ]
    made = model(
        [node(op, ["x", "last"], [op], f"n{op}") for op in ops],
        [value("x", [4, 16])],
        [value(op, None) for op in ops],
        [constant("last", [-1], "int64")],
    )
    return made, {"plain": {"x": normal(rng, 4, 16)}, "large": {"x": f32(np.abs(normal(rng, 4, 16, scale=3)) + 60)}}


@family
def rounding_of_inputs(rng: np.random.Generator) -> Family:
    made = model(
        [node("Mul", ["x", "k"], ["s"], "scale"), node("Floor", ["s"], ["f"], "floor"), node("Cast", ["f"], ["i"], "index", to=INT64), node("Gather", ["table", "i"], ["y"], "look up")],
        [value("x", [16])], [value("y", None)], [constant("k", 1000.0), weights("table", 4096, 4, scale=1)],
    )  # fmt: skip
    return made, {"near whole numbers": {"x": f32(np.arange(1, 17) * 0.2001)}}


@family
def snake(rng: np.random.Generator) -> Family:
    """x + sin(a x)^2 / a, an activation of vocoders."""
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Mul", ["h", "a"], ["ah"], "alpha"), node("Sin", ["ah"], ["s"], "sin"), node("Pow", ["s", "two"], ["q"], "square"),
         node("Div", ["q", "a"], ["d"], "over"), node("Add", ["h", "d"], ["y"], "add")],
        [value("x", [4, 16])], [value("y", None)], [weights("w", 16, 16), constant("a", 1.7), constant("two", 2.0)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 16)}}


@family
def timestep_layer(rng: np.random.Generator) -> Family:
    """An integer that goes straight into a layer: errors are relative from there on."""
    made = model(
        [node("Cast", ["t"], ["f"], "to_float", to=TensorProto.FLOAT), node("Div", ["f", "n"], ["s"], "scale"), node("MatMul", ["s", "w"], ["h"], "mm"), node("Add", ["h", "x"], ["y"], "add")],
        [value("t", [4, 1], INT64), value("x", [4, 8])], [value("y", None)], [constant("n", 1000.0), weights("w", 1, 8, scale=1)],
    )  # fmt: skip
    return made, {"plain": {"t": np.array([[999], [501], [3], [0]]), "x": normal(rng, 4, 8)}}


@family
def pixels(rng: np.random.Generator) -> Family:
    """8-bit pixels are held exactly: nothing has to stay in FP32."""
    made = model(
        [node("Cast", ["image"], ["f"], "to_float", to=TensorProto.FLOAT), node("Div", ["f", "n"], ["s"], "scale"), node("Conv", ["s", "w"], ["y"], "conv")],
        [value("image", [1, 3, 8, 8], TensorProto.UINT8)], [value("y", None)], [constant("n", 255.0), weights("w", 4, 3, 3, 3)], opset=22,
    )  # fmt: skip
    return made, {"plain": {"image": rng.integers(0, 256, (1, 3, 8, 8), dtype=np.uint8)}}


@family
def quantized(rng: np.random.Generator) -> Family:
    made = model(
        [node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"), node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"), node("MatMul", ["d", "w"], ["y"], "mm")],
        [value("x", [4, 16])], [value("y", None)], [constant("s", 0.03125), constant("z", 0, "int8"), weights("w", 16, 16)],
    )  # fmt: skip
    return made, {"plain": {"x": f32(rng.integers(-100, 100, (4, 16)) * 0.03125)}}


# --- control flow -----------------------------------------------------------------------------------


@family
def branches(rng: np.random.Generator) -> Family:
    then = helper.make_graph([node("Mul", ["h", "k"], ["t"], "times")], "then", [], [value("t", [4, 4])])
    other = helper.make_graph([node("Exp", ["h"], ["e"], "exp")], "other", [], [value("e", [4, 4])])
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("If", ["c"], ["i"], "if", then_branch=then, else_branch=other), node("MatMul", ["i", "w"], ["y"], "mm2")],
        [value("x", [4, 4]), value("c", [], BOOL)], [value("y", None)], [weights("w", 4, 4), constant("k", 3.0)],
    )  # fmt: skip
    return made, {str(c): {"x": normal(rng, 4, 4), "c": np.array(c)} for c in (True, False)}


@family
def loop(rng: np.random.Generator) -> Family:
    body = helper.make_graph(
        [node("MatMul", ["v", "w"], ["v2"], "step"), node("Identity", ["cond"], ["cond2"], "id")], "body",
        [value("i", [], INT64), value("cond", [], BOOL), value("v", [4, 4])], [value("cond2", [], BOOL), value("v2", [4, 4])],
    )  # fmt: skip
    made = model(
        [node("Relu", ["x"], ["h"], "relu"), node("Loop", ["n", "", "h"], ["l"], "loop", body=body), node("Add", ["l", "h"], ["y"], "add")],
        [value("x", [4, 4])], [value("y", None)], [weights("w", 4, 4, scale=1), constant("n", 4, "int64")],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 4, 4)}}


@family
def scan(rng: np.random.Generator) -> Family:
    body = helper.make_graph(
        [node("Add", ["s", "e"], ["s2"], "step"), node("Identity", ["s2"], ["o"], "out")], "body", [value("s", [4]), value("e", [4])], [value("s2", [4]), value("o", [4])],
    )  # fmt: skip
    made = model(
        [node("Relu", ["x"], ["h"], "relu"), node("Scan", ["start", "h"], ["end", "all"], "scan", body=body, num_scan_inputs=1), node("Mul", ["all", "k"], ["y"], "times")],
        [value("x", [6, 4])], [value("y", None)], [constant("start", np.zeros(4)), constant("k", 0.5)],
    )  # fmt: skip
    return made, {"plain": {"x": normal(rng, 6, 4)}}


# --- the tests --------------------------------------------------------------------------------------


def outputs(path: Path, feed: Data) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options)
    found: list[np.ndarray] = session.run(None, feed)
    return found


def off(want: list[np.ndarray], got: list[np.ndarray]) -> float:
    """The worst relative error of the outputs; infinite for a value that is finite in FP32 and not here."""
    worst = 0.0
    for one, other in zip(want, got, strict=True):
        left, right = (np.asarray(a, dtype=np.float64) for a in (one, other))
        fine = np.isfinite(left)
        if not np.isfinite(right[fine]).all():
            return math.inf
        if one.dtype.kind != "f":
            worst = max(worst, float((left != right).mean()))
        elif size := float(np.linalg.norm(left[fine])):
            worst = max(worst, float(np.linalg.norm(left[fine] - right[fine])) / size)
    return worst


ONLY_DATA_TELL = {
    ("conv", "large"), ("softmax_of_large_values", "beyond"), ("square_root_and_power", "power beyond"),
    ("overflow_inside", "beyond"), ("vanishing_inside", "plain"),
}  # fmt: skip
"""What no rule on the graph can know: in FP16 these go wrong, and the check on data has to name them."""


def test_there_are_enough_families() -> None:
    assert len(FAMILIES) >= 40


@pytest.mark.parametrize("to", ["fp16", "bf16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_right_within_the_type_or_named_and_no_false_alarm(tmp_path: Path, name: str, to: str) -> None:
    made, cases = FAMILIES[name](np.random.default_rng(7))
    path = save(made, tmp_path / "exact.onnx")
    quiet = Reporter(io.BytesIO())
    folder = tmp_path / "low"
    folder.mkdir()
    report = cast_task(quiet, path=str(path), precision=to, folder=str(folder))
    low = load_ir(folder / "model.onnx", quiet)
    simulate(low)
    save_ir(low, tmp_path / "simulated.onnx")
    for constant_ in report["changed"]:  # what is named is changed
        with np.errstate(over="ignore"):
            value_ = KIND[to](np.float32(constant_["value"]))
        adds = constant_["op"] in {"Add", "Sub", "Max", "Min", "Clip"}
        least = 0.05 if adds else 0.01
        assert not np.isfinite(value_) or constant_["size"] > 1 or abs(float(value_) / constant_["value"] - 1) > least
    nodes = {n.name for n in made.graph.node}
    for case, feed in cases.items():
        error = off(outputs(path, feed), outputs(tmp_path / "simulated.onnx", feed))
        place = tmp_path / case
        place.mkdir()
        np.savez(place / "000000.npz", **{f"input:{k}": v for k, v in feed.items()})
        found = overflow_task(quiet, path=str(path), batches=str(place), folder=str(place), to=to, lists={})["found"]
        named = [one["node"] for one in found]
        assert set(named) <= nodes, case
        assert (error > TOLERANCE[to]) == (to == "fp16" and (name, case) in ONLY_DATA_TELL), f"{case}: {error:.2g}"
        if error <= TOLERANCE[to]:
            assert not named, f"{case}: a false alarm, the error is {error:.2g}: {found}"
        else:
            assert named, f"{case}: an error of {error:.2g} that nothing names; kept {report['guarded']}"


@pytest.mark.parametrize("to", ["fp16", "bf16"])
@pytest.mark.parametrize("name", [p.stem for p in sorted(SAMPLES.glob("*.onnx")) if p.stem != "unsupported"])
def test_samples_are_right_and_nothing_is_named(tmp_path: Path, name: str, to: str) -> None:
    path, quiet = SAMPLES / f"{name}.onnx", Reporter(io.BytesIO())
    (tmp_path / "low").mkdir()
    report = cast_task(quiet, path=str(path), precision=to, folder=str(tmp_path / "low"))
    assert report["warnings"] == []
    low = load_ir(tmp_path / "low" / "model.onnx", quiet)
    simulate(low)
    save_ir(low, tmp_path / "simulated.onnx")
    feed = random_inputs(path)
    # A value that is rounded in front of a QuantizeLinear may be quantized one step further; a sum of top-k is as good as k.
    most = 0.05 if "qdq" in name else 0.03 if name == "unfusable" else TOLERANCE[to]
    assert off(outputs(path, feed), outputs(tmp_path / "simulated.onnx", feed)) <= most
    place = tmp_path / "batches"
    place.mkdir()
    np.savez(place / "000000.npz", **{f"input:{k}": v for k, v in feed.items()})
    assert overflow_task(quiet, path=str(path), batches=str(place), folder=str(place), to=to, lists={}) == {"found": []}


@needs_rtx
@pytest.mark.parametrize(
    "name",
    ["rotary_positions", "rms_norm_written_out", "attention_with_an_added_mask", "alibi", "layer_norm_written_out", "softplus_written_out", "l2_norm"],
)  # fmt: skip
def test_what_is_left_in_fp32_builds(session: Session, tmp_path: Path, name: str) -> None:
    """TensorRT takes the casts around what stays in FP32."""
    made, _ = FAMILIES[name](np.random.default_rng(7))
    plan = session.build(save(made, tmp_path / f"{name}.onnx"), target="sm89", precision="fp16").plan
    assert plan.layers
    assert all(layer.precision != "float32" for layer in plan.layers if layer.kind in {"gemm", "attention"})
