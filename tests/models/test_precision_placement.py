"""Misplaced Q/DQ pairs are found by kind, taken out of the way, and a rebuild shows what that changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.support import SAMPLES, needs_rtx
from tests.support.small_models import constant, model, node, save, value, weights
from workbench import Session
from workbench.core.errors import ConfigError, ModelError
from workbench.passes.place_qdq import KINDS, fix, look
from workbench.precision import quantize
from workbench.precision.audit import audit


def pair(name: str, scale: str = "s") -> list[onnx.NodeProto]:
    return [node("QuantizeLinear", [name, scale, "z"], [f"{name}_q"], f"{name}_Q"),
            node("DequantizeLinear", [f"{name}_q", scale, "z"], [f"{name}_d"], f"{name}_DQ")]  # fmt: skip


def all_four() -> onnx.ModelProto:
    """Pairs before a ReLU, on a residual, before a concatenation and before a pooling."""
    return model(
        [
            *pair("x"), node("Conv", ["x_d", "w1", "b"], ["c1"], "conv1", pads=[1] * 4),
            *pair("c1"), node("Relu", ["c1_d"], ["r1"], "relu1"),
            *pair("r1"), node("Conv", ["r1_d", "w2", "b"], ["c2"], "conv2", pads=[1] * 4),
            *pair("c2"), node("Add", ["c2_d", "r1_d"], ["a"], "add"), node("Relu", ["a"], ["r2"], "relu2"),
            *pair("r2"), node("Concat", ["r2_d", "r1_d"], ["k"], "concat", axis=1),
            *pair("k"), node("MaxPool", ["k_d"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
            *pair("p"), node("Conv", ["p_d", "w3"], ["y"], "conv3"),
        ],
        [value("x", [1, 4, 8, 8])], [value("y", [1, 4, 4, 4])],
        [weights("w1", 4, 4, 3, 3), weights("w2", 4, 4, 3, 3, seed=1), weights("w3", 4, 8, 1, 1, seed=2), weights("b", 4),
         constant("s", 0.02), constant("z", 0, "int8")],
    )  # fmt: skip


def run(path: Path) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    x = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
    return ort.InferenceSession(str(path), options).run(None, {"x": x})[0]


def test_each_kind_is_found_and_moved_out_of_the_way(session: Session, tmp_path: Path) -> None:
    bad = session.add(save(all_four(), tmp_path / "bad.onnx"))
    found = look(bad)
    assert [(m.kind, m.pair, m.reader) for m in found] == [
        ("activation", "c1_DQ", "relu1"), ("residual", "c2_DQ", "add"), ("concat", "r2_DQ", "concat"),
        ("concat", "r1_DQ", "concat"), ("pooling", "k_DQ", "pool"),
    ]  # fmt: skip
    good = fix(bad, session.store, kinds=KINDS)
    assert (good.origin["removed"], good.origin["added"]) == (4, 0)
    assert look(good) == []
    onnx.checker.check_model(str(good.path), full_check=True)
    left = [n.id for n in good.graph.nodes if n.op == "DequantizeLinear"]
    assert left == ["x_DQ", "r1_DQ", "p_DQ"]  # r1's still serves conv2, and the addition's other branch
    a, b = run(bad.path), run(good.path)
    assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(a)
    assert fix(bad, session.store, kinds=KINDS).path == good.path
    assert [m.kind for m in look(fix(bad, session.store))] == ["residual"]
    with pytest.raises(ModelError, match="No Q/DQ pair is misplaced"):
        fix(good, session.store)
    with pytest.raises(ConfigError, match="no kind of misplaced pair 'relu'"):
        fix(bad, session.store, kinds=("relu",))


def test_a_product_that_would_lose_its_pair_gets_it_on_its_own_input(session: Session, tmp_path: Path) -> None:
    nodes = [
        *pair("x"), node("Conv", ["x_d", "w1"], ["c1"], "conv1"), *pair("c1"), node("Relu", ["c1_d"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2"], ["y"], "conv2"),
    ]  # fmt: skip
    proto = model(nodes, [value("x", [1, 4, 8, 8])], [value("y", [1, 4, 8, 8])],
                  [weights("w1", 4, 4, 1, 1), weights("w2", 4, 4, 1, 1), constant("s", 0.02), constant("z", 0, "int8")])  # fmt: skip
    bad = session.add(save(proto, tmp_path / "bad.onnx"))
    good = fix(bad, session.store)
    assert (good.origin["removed"], good.origin["added"]) == (1, 1)
    ops = [n.op for n in good.graph.nodes]
    assert ops == ["QuantizeLinear", "DequantizeLinear", "Conv", "Relu", "QuantizeLinear", "DequantizeLinear", "Conv"]
    assert np.array_equal(run(bad.path), run(good.path))  # a ReLU lets a symmetric pair pass without a change


@pytest.mark.parametrize("op", ["Concat", "AveragePool", "MaxPool"])
@pytest.mark.parametrize("behind", ["conv", "pair", "relu and pair", "both"])
def test_pairs_that_a_product_reads_through_another_operation_stay(
    session: Session, tmp_path: Path, op: str, behind: str
) -> None:
    """Without them, a convolution that computed in INT8 would compute in FP32."""
    inputs, more = (["x_d", "x_d"], {"axis": 1}) if op == "Concat" else (["x_d"], {"kernel_shape": [1, 1]})
    channels = 4 * len(inputs)
    nodes = [*pair("x"), node(op, inputs, ["k"], "op", **more)]
    reads = {"conv": "k", "pair": "k_d", "relu and pair": "r_d", "both": "k_d"}[behind]
    if behind == "relu and pair":
        nodes += [node("Relu", ["k"], ["r"], "relu"), *pair("r")]
    elif behind != "conv":
        nodes += pair("k")
    nodes.append(node("Conv", [reads, "w"], ["y"], "conv"))
    outputs = [value("y", [1, 4, 8, 8])]
    if behind == "both":
        nodes.append(node("Conv", ["k", "w"], ["y2"], "conv2"))
        outputs.append(value("y2", [1, 4, 8, 8]))
    proto = model(nodes, [value("x", [1, 4, 8, 8])], outputs,
                  [weights("w", 4, channels, 1, 1), constant("s", 0.02), constant("z", 0, "int8")])  # fmt: skip
    given = session.add(save(proto, tmp_path / "m.onnx"))
    if behind in {"conv", "both"}:
        assert look(given) == []
        return
    assert {m.kind for m in look(given)} == {"concat" if op == "Concat" else "pooling"}
    good = fix(given, session.store)
    assert (good.origin["removed"], good.origin["added"]) == (1, 0)
    (conv,) = [n for n in good.graph.nodes if n.op == "Conv"]
    assert good.graph.producer[conv.inputs[0]].op == "DequantizeLinear"


def test_our_own_placement_and_models_without_pairs_are_left_alone(session: Session) -> None:
    exact = session.add("residual_block")
    with pytest.raises(ModelError, match="no Q/DQ pairs"):
        fix(exact, session.store)
    assert look(quantize(exact, session.store, to="int8", data="random:8")) == []


@needs_rtx
def test_a_rebuild_shows_fewer_requantizations(session: Session) -> None:
    bad = session.add(SAMPLES / "conv_relu_qdq_bad.onnx")
    assert "activation" in {m.kind for m in look(bad)}
    before = audit(session.build(bad, target="sm89").plan).figures
    after = audit(session.build(fix(bad, session.store), target="sm89").plan).figures
    assert after["fused_steps"] < before["fused_steps"]
    assert after["requantizations"] < before["requantizations"]
    assert after["products_quantized"] == before["products_quantized"]


@needs_rtx
def test_onnx_runtimes_placement_is_mended(session: Session) -> None:
    theirs = quantize(session.add("residual_block"), session.store, to="int8", rest="fp32", library="onnxruntime",
                      data="random:8", weights="tensor")  # fmt: skip
    before = audit(session.build(theirs, target="sm89").plan).figures
    after = audit(session.build(fix(theirs, session.store), target="sm89").plan).figures
    assert after["requantizations"] < before["requantizations"]
    assert after["bytes"] <= before["bytes"]
    session.add(replace(theirs, name="theirs"))
    mended = session.add(replace(fix(theirs, session.store), name="mended"))
    assert session.models.original(mended).path == session.models["residual_block"].path  # not the one with the pairs
    assert session.models.original("mended").path == session.models["residual_block"].path
