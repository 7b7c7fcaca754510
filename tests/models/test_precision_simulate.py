"""FP16 and BF16 simulated on the CPU, against NumPy's own arithmetic in these types."""

from __future__ import annotations

import io
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from tests.support.small_models import constant, model, net, node, save, value, weights
from workbench import Session
from workbench.core.worker import Reporter
from workbench.passes.ir import load_ir, save_ir
from workbench.precision import cast, quantize
from workbench.precision.accuracy import accuracy
from workbench.precision.simulate import simulate

RNG = np.random.default_rng(0)
KINDS = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}


def outputs(path: Path, folder: Path, feed: dict[str, np.ndarray], *, changed: bool = True) -> list[np.ndarray]:
    """What the simulated copy of a model gives."""
    rewritten = load_ir(path, Reporter(io.BytesIO()))
    assert simulate(rewritten) == changed
    save_ir(rewritten, folder / "simulated.onnx")
    onnx.checker.check_model(str(folder / "simulated.onnx"), full_check=True)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: list[np.ndarray] = ort.InferenceSession(str(folder / "simulated.onnx"), options).run(None, feed)
    return found


def chain() -> onnx.ModelProto:
    """Each step of it rounds: x * a, + b, a square root of the absolute value, times another branch."""
    return model(
        [
            node("Mul", ["x", "a"], ["m"], "mul"), node("Add", ["m", "b"], ["s"], "add"), node("Relu", ["s"], ["r"], "relu"),
            node("Sqrt", ["r"], ["q"], "sqrt"), node("Mul", ["q", "s"], ["p"], "out"), node("Div", ["p", "a"], ["y"], "div"),
        ],
        [value("x", [2, 64])], [value("y", [2, 64])], [weights("a", 64, scale=2.0), weights("b", 64, seed=1)],
    )  # fmt: skip


@pytest.mark.parametrize("to", ["fp16", "bf16"])
def test_each_node_rounds_as_numpy_does(session: Session, tmp_path: Path, to: str) -> None:
    exact = session.add(save(chain(), tmp_path / "chain.onnx"))
    x = RNG.standard_normal((2, 64), dtype=np.float32)
    [got] = outputs(cast(exact, to, session.store).path, tmp_path, {"x": x})
    kind = KINDS[to]
    held = {t.name: onnx.numpy_helper.to_array(t).astype(kind) for t in onnx.load(exact.path).graph.initializer}
    a, b = held["a"], held["b"]
    s = x.astype(kind) * a + b
    want = np.sqrt(np.maximum(s, kind.type(0))) * s / a
    assert want.dtype == kind
    np.testing.assert_array_equal(got, want.astype(np.float32))


def test_an_overflow_inside_the_graph_is_seen(session: Session, tmp_path: Path) -> None:
    big = model(
        [node("Mul", ["x", "c"], ["a"], "up"), node("Mul", ["a", "c"], ["b"], "over"), node("Div", ["b", "c"], ["y"], "down")],
        [value("x", [4, 64])], [value("y", [4, 64])], [constant("c", [300.0])],
    )  # fmt: skip
    exact = session.add(save(big, tmp_path / "big.onnx"))
    data = RNG.standard_normal((16, 64)).astype(np.float32)
    low = {to: cast(exact, to, session.store) for to in ("fp16", "bf16")}
    found = accuracy(exact, low, session.store, data=data, along=True)
    with np.errstate(over="ignore"):
        c = np.float16(300)
        want = int(np.isinf(data.astype(np.float16) * c * c / c).sum())
    assert 0.3 * data.size < want < 0.7 * data.size
    assert found.models["fp16"]["not_finite"] == want
    assert found.models["fp16"]["relative_l2"] == np.inf
    assert found.models["bf16"]["not_finite"] == 0
    assert 1e-3 < float(found.models["bf16"]["relative_l2"] or 0) < 1e-2
    along = found.along("fp16").set_index("tensor")["relative_l2"]
    assert 0 < along["a"] < 1e-3
    assert along["b"] == along["y"] == np.inf


@pytest.mark.parametrize("rest", ["fp16", "bf16"])
def test_quantized_with_a_low_rest(session: Session, tmp_path: Path, rest: str) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    data = RNG.standard_normal((8, 8, 8, 8)).astype(np.float32)
    models = {r: quantize(exact, session.store, data=data, rest=r) for r in ("fp32", rest)}
    found = accuracy(exact, models, session.store, data=data, along=True).models
    wide, low = (float(found[r]["relative_l2"] or 0) for r in ("fp32", rest))
    assert 0 < wide < 0.1
    assert low != wide
    assert low == pytest.approx(
        wide, abs=0.1 * wide if rest == "fp16" else 0.01
    )  # BF16 keeps 8 bits: some 0.002 a node


def test_inputs_outputs_bodies_and_written_casts_keep_their_meaning(tmp_path: Path) -> None:
    half = TensorProto.FLOAT16
    then = helper.make_graph([node("Mul", ["x", "k"], ["t"], "then")], "then", [], [value("t", [8], half)],
                             [constant("k", [3.0], "float16")])  # fmt: skip
    other = helper.make_graph([node("Identity", ["x"], ["e"], "else")], "else", [], [value("e", [8], half)])
    nodes = [
        node("If", ["which"], ["i"], "if", then_branch=then, else_branch=other),
        node("Constant", [], ["third"], "third", value=constant("v", [1 / 3], "float16")),
        node("Add", ["i", "third"], ["y"], "add"),
        node("Cast", ["y"], ["wide"], "widen", to=TensorProto.FLOAT), node("Mul", ["wide", "wide"], ["square"], "square"),
        node("Cast", ["square"], ["z"], "narrow", to=half), node("Shape", ["x"], ["n"], "shape"),
    ]  # fmt: skip
    made = model(
        nodes, [value("x", [8], half), value("which", [], TensorProto.BOOL)],
        [value("y", [8], half), value("z", [8], half), value("n", [1], TensorProto.INT64)],
    )  # fmt: skip
    path = save(made, tmp_path / "half.onnx")
    x = RNG.standard_normal(8).astype(np.float32)
    for which in (True, False):
        y, z, n = outputs(path, tmp_path, {"x": x, "which": np.array(which)})
        want = (x.astype(np.float16) * np.float16(3 if which else 1)) + np.float16(1 / 3)
        np.testing.assert_array_equal(y, want)
        np.testing.assert_array_equal(z, np.square(want.astype(np.float32)).astype(np.float16))
        assert n.tolist() == [8]


def test_a_model_without_such_types_stays(tmp_path: Path) -> None:
    path = save(net(), tmp_path / "net.onnx")
    x = RNG.standard_normal((1, 8, 8, 8)).astype(np.float32)
    [got] = outputs(path, tmp_path, {"x": x}, changed=False)
    np.testing.assert_allclose(got, ort.InferenceSession(str(path)).run(None, {"x": x})[0], rtol=1e-5)
