"""Quantized models: they run, they build, and the compiler makes of them what was meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support import HAS_TORCH, SAMPLES, needs_rtx
from tests.support.small_models import FLOAT, INT64, constant, mlp, model, net, node, save, value, weights
from workbench import Model, Plan, Session
from workbench.core.errors import CalibrationError, ModelError
from workbench.precision import cast, quantize
from workbench.precision.accuracy import accuracy
from workbench.precision.calibration import Calibration
from workbench.precision.data import random_batches
from workbench.precision.inputs import inputs_of
from workbench.precision.quantize import Ranges, calibration, summary
from workbench.precision.scheme import Scheme

needs_big = pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")


def run(path: Path, batch: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, batch)[0]


def error(exact: Model, low: Model, seed: int = 99) -> float:
    batch = next(iter(random_batches(inputs_of(exact.graph), 1, seed)))
    a, b = run(exact.path, batch), run(low.path, batch)
    return float(np.abs(a - b).max() / np.abs(a).max())


def heavy(plan: Plan, kind: str) -> list:
    return [layer for layer in plan.layers if layer.kind == kind]


@needs_rtx
@needs_big
@pytest.mark.slow
@pytest.mark.parametrize("how", ["channel-after", "channel", "tensor"])
def test_resnet50_int8(shared: Session, how: str) -> None:
    exact = shared.add("resnet50")
    low = quantize(exact, shared.store, data="random:32", weights=how)
    assert error(exact, low) < 0.1
    plan = shared.build(low, target="sm89").plan
    convolutions = heavy(plan, "conv")
    assert len(convolutions) == 53
    assert {layer.inputs[0].dtype for layer in convolutions} == {"int8"}
    order = [layer for layer in plan.layers if layer.launches]
    behind = [0]
    for layer in order:
        if layer.kind == "conv":
            behind.append(0)
        elif layer.kind == "pointwise":
            behind[-1] += 1
    pointwise = heavy(plan, "pointwise")
    assert len(pointwise) <= len(convolutions)
    assert all(layer.name.count("MinMaxRounCast") <= 1 for layer in pointwise)
    for name in {t.name for layer in convolutions for t in layer.outputs}:
        assert sum(any(t.name == name for t in layer.inputs) for layer in pointwise) <= 1
    if how != "channel":  # which TensorRT for RTX 1.7 lets store FP32
        fp16 = shared.build(exact, target="sm89", precision="fp16").plan
        assert plan.summary["bytes_after"] < fp16.summary["bytes_after"]


@needs_rtx
@needs_big
@pytest.mark.slow
@pytest.mark.parametrize("to", ["int8", "fp8", "int4"])
def test_bert_has_no_fp32_product_left(shared: Session, to: str) -> None:
    exact = shared.add("bert-base")
    low = quantize(exact, shared.store, to=to, data=None if to == "int4" else "random:8", limit=8)
    assert error(exact, low) < {"int8": 0.1, "fp8": 0.15, "int4": 0.5}[to]
    plan = shared.build(low, target="sm89").plan
    stored = {"int8": "int8", "fp8": "float8e4m3fn", "int4": "float16"}[to]
    assert {layer.inputs[0].dtype for layer in heavy(plan, "gemm")} == {stored}
    assert len(heavy(plan, "attention")) == 12
    assert {layer.inputs[0].dtype for layer in heavy(plan, "attention")} == {"float16"}
    assert set(low.origin["left"].values()) == {
        "both inputs are activations: attention stays one kernel in the precision of the rest"
    }


@needs_rtx
@pytest.mark.parametrize("target", ["sm89", "sm120"])
@pytest.mark.parametrize("to", ["int8", "fp8"])
def test_a_small_network_builds(session: Session, tmp_path: Path, to: str, target: str) -> None:
    exact = Model("net", save(wide(), tmp_path / "net.onnx"))
    low = quantize(exact, session.store, to=to, data="random:16")
    onnx.checker.check_model(str(low.path), full_check=True)
    plan = session.build(low, target=target).plan
    assert [layer.inputs[0].dtype for layer in heavy(plan, "conv")] == [{"int8": "int8", "fp8": "float8e4m3fn"}[to]] * 2
    assert error(exact, low) < 0.1
    assert low.graph.tensor("x").dtype == low.graph.tensor("y").dtype == "float32"


def wide() -> onnx.ModelProto:
    return model(
        [
            node("Conv", ["x", "w1", "b"], ["c1"], "conv1", pads=[1] * 4), node("Relu", ["c1"], ["r1"], "relu1"),
            node("Conv", ["r1", "w2", "b"], ["c2"], "conv2", pads=[1] * 4), node("Add", ["c2", "r1"], ["s"], "add"),
            node("Relu", ["s"], ["y"], "relu2"),
        ],
        [value("x", [1, 32, 16, 16])], [value("y", [1, 32, 16, 16])],
        [weights("w1", 32, 32, 3, 3), weights("w2", 32, 32, 3, 3, seed=1), weights("b", 32, seed=2)],
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(p.stem for p in SAMPLES.glob("*.onnx") if p.stem != "unsupported"))
def test_samples_quantize_or_say_why_not(session: Session, name: str) -> None:
    exact = Model(name, SAMPLES / f"{name}.onnx")
    if "qdq" in name:
        with pytest.raises(ModelError, match="quantized already"):
            quantize(exact, session.store, data="random:8")
        return
    if name in {"pointwise_chain", "unfusable"}:
        with pytest.raises(ModelError, match="Nothing in this model"):
            quantize(exact, session.store, data="random:8")
        return
    low = quantize(exact, session.store, data="random:8")
    assert {n.id for n in exact.graph.nodes} <= {n.id for n in low.graph.nodes}
    assert low.provenance == exact.provenance
    assert error(exact, low) < 0.15


def test_the_second_time_is_a_look_up_and_other_methods_run_no_model(session: Session, tmp_path: Path) -> None:
    exact = Model("net", save(net(), tmp_path / "net.onnx"))
    jobs: list = []
    first = quantize(exact, session.store, data="random:8", on_job=jobs.append)
    assert quantize(exact, session.store, data="random:8", on_job=jobs.append).path == first.path
    assert len(jobs) == 1
    assert "Calibrating" in [p.phase for p in jobs[0].progress]
    other = quantize(exact, session.store, data="random:8", method="minmax", on_job=jobs.append)
    assert other.path != first.path
    assert "Calibrating" not in [p.phase for p in jobs[1].progress]
    cache = calibration(first, session.store)
    assert set(cache.tensors) == {"x", "r1", "f"}
    assert cache.data["source"] == "random:8"
    assert first.origin["ranges"]["x"] == pytest.approx(cache.ranges()["x"])
    again = quantize(
        exact, session.store, data=cache.save(tmp_path / "c.json"), method="percentile", on_job=jobs.append
    )
    assert again.origin["ranges"] == pytest.approx(cache.ranges("percentile"))


def test_a_cache_of_another_model_is_refused(session: Session, tmp_path: Path) -> None:
    exact = Model("net", save(net(), tmp_path / "net.onnx"))
    low = quantize(exact, session.store, data="random:8")
    cache = calibration(low, session.store)
    other = Model("mlp", save(mlp(), tmp_path / "mlp.onnx"))
    with pytest.raises(CalibrationError, match="another model"):
        quantize(other, session.store, data=cache)
    part = Calibration(cache.model, cache.data, {"x": cache.tensors["x"]})
    with pytest.raises(CalibrationError, match="no range for 2 tensors"):
        quantize(exact, session.store, data=part)


def test_data_and_models_that_fail_say_so(session: Session, tmp_path: Path) -> None:
    exact = Model("net", save(net(), tmp_path / "net.onnx"))
    with pytest.raises(CalibrationError, match="needs calibration data"):
        quantize(exact, session.store)
    with pytest.raises(ModelError, match="no such node"):
        quantize(exact, session.store, data="random:8", only=["conv9"])
    with pytest.raises(ModelError, match="Nothing in this model"):
        quantize(exact, session.store, data="random:8", keep="*")
    broken = net()
    broken.graph.node[1].op_type = "Log"  # NaN for whatever is negative
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        quantize(Model("b", save(broken, tmp_path / "b.onnx")), session.store, data="random:8")
    foreign = model([node("Own", ["x"], ["h"], "own", domain="my"), node("MatMul", ["h", "w"], ["y"], "mm")],
                    [value("x", [2, 4])], [value("y", [2, 4])], [weights("w", 4, 4)], domains=["my"], infer=False)  # fmt: skip
    foreign.graph.value_info.append(value("h", [2, 4], FLOAT))
    with pytest.raises(CalibrationError, match="can't run the FP32 model"):
        quantize(Model("f", save(foreign, tmp_path / "f.onnx")), session.store, data="random:8")


def test_old_opsets_dynamic_batches_and_unnamed_nodes(session: Session, tmp_path: Path) -> None:
    old = mlp("batch")
    old.opset_import[0].version = 13
    for item in old.graph.node:
        item.name = ""
    exact = Model("old", save(old, tmp_path / "old.onnx"))
    low = quantize(exact, session.store, data=np.random.default_rng(0).standard_normal((32, 8)).astype(np.float32))
    assert low.graph.opset["ai.onnx"] == 19
    assert {"h", "r", "y"} <= {n.id for n in low.graph.nodes} | {t for n in low.graph.nodes for t in n.outputs}
    assert error(exact, low) < 0.1
    same = quantize(exact, session.store, data="random:8", rest="fp32")
    assert same.graph.opset["ai.onnx"] == 13


def test_what_onnxruntimes_own_quantizer_can_not_do_is_told_with_the_way_out(session: Session, tmp_path: Path) -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Add", ["h", "far"], ["y"], "mask")],
        [value("x", [4, 8])], [value("y", [4, 8])], [weights("w", 8, 8), constant("far", -3e38)],
    )  # fmt: skip
    exact = Model("far", save(proto, tmp_path / "far.onnx"))
    with pytest.raises(CalibrationError, match=r"quantize_static can't quantize this model by entropy: .*bins") as told:
        quantize(exact, session.store, data="random:8", placement="onnxruntime", rest="fp32")
    assert "placement='tensorrt'" in str(told.value.hint)
    assert quantize(exact, session.store, data="random:8", rest="fp32").origin["quantized"] == ["mm"]


@pytest.mark.parametrize("placement", ["tensorrt", "onnxruntime"])
def test_each_placement_leaves_what_keep_matches(session: Session, tmp_path: Path, placement: str) -> None:
    proto = net()
    for each in proto.graph.node:
        if each.op_type == "Conv":
            each.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(["", f"body.{each.name}", "op"]))
    exact = Model("net", save(proto, tmp_path / "net.onnx"))

    def low(*keep: str) -> Model:
        return quantize(
            exact, session.store, data="random:8", placement=placement, rest="fp32", method="minmax", keep=keep
        )

    for keep in (("conv*",), ("body.*",), ("conv1", "body.conv2")):
        made = low(*keep)
        nodes = {n.id: n for n in made.graph.nodes}
        for name in ("conv1", "conv2"):
            assert nodes[name].inputs[1] in made.graph.initializers  # its weight is read as it is
            assert made.origin["left"][name] == "kept on request"
        fc = next(n for n in made.graph.nodes if n.op == "Gemm")
        assert made.graph.producer[fc.inputs[1]].op == "DequantizeLinear"
    with pytest.raises(ModelError, match="matches 'nosuchnode"):
        low("conv1", "nosuchnode*")


def of_ir_3() -> onnx.ModelProto:
    """A file as exporters wrote it before IR version 4: all weights are inputs of the graph as well."""
    old = net()
    old.graph.input.extend(value(t.name, list(t.dims)) for t in old.graph.initializer)
    old.ir_version, old.opset_import[0].version = 3, 11
    onnx.checker.check_model(old)
    return old


def test_weights_that_are_listed_as_inputs_are_weights(session: Session, tmp_path: Path) -> None:
    exact = Model("old", save(of_ir_3(), tmp_path / "old.onnx"))
    for low in (
        quantize(exact, session.store, data="random:8"),
        quantize(exact, session.store, data="random:8", rest="fp32"),
        cast(exact, "fp16", session.store),
    ):
        made = onnx.load(str(low.path))
        onnx.checker.check_model(made, full_check=True)
        assert [v.name for v in made.graph.input] == ["x"]
        assert error(exact, low) < 0.1
        assert low.origin["kind"] == "cast" or sorted(low.origin["quantized"]) == ["conv1", "conv2", "fc"]
    half = cast(exact, "fp16", session.store, keep_io=False)
    assert half.graph.tensor("x").dtype == half.graph.tensor("y").dtype == "float16"
    assert {t.data_type for t in onnx.load(str(half.path)).graph.initializer} == {onnx.TensorProto.FLOAT16}


def test_cancel(session: Session, tmp_path: Path) -> None:
    from workbench.core.errors import CancelledError

    exact = Model("net", save(net(), tmp_path / "net.onnx"))
    with pytest.raises(CancelledError):
        quantize(exact, session.store, data="random:8", on_job=lambda job: job.cancel())
    assert quantize(exact, session.store, data="random:8").origin["pairs"] == 3


@needs_rtx
@needs_big
@pytest.mark.slow
def test_the_librarys_placement_requantizes_twice_and_the_audit_shows_it(shared: Session) -> None:
    from workbench.precision.audit_changes import compare, verdict

    exact = shared.add("resnet50")
    ours = shared.build(quantize(exact, shared.store, data="random:8"), target="sm89").plan
    low = quantize(exact, shared.store, data="random:8", placement="onnxruntime", rest="fp32", method="minmax")
    theirs = shared.build(low, target="sm89").plan
    fp16 = shared.build(exact, target="sm89", precision="fp16").plan
    frame = compare({"ours": ours, "onnxruntime": theirs, "fp16": fp16})
    assert frame.loc["double_requantization", "ours"] == 0
    assert frame.loc["double_requantization", "onnxruntime"] > 40
    assert frame.loc["products_fp32", "ours"] == 0
    assert frame.loc["wide_output", "ours"] == 0
    assert frame.loc["products_quantized"].tolist()[:2] == [54, 54]
    for figure in ("kernels", "fused_steps", "requantizations", "bytes"):
        assert frame.loc[figure, "ours"] <= frame.loc[figure, "onnxruntime"], figure
    assert "less." in verdict(ours, fp16)
    assert "more." in verdict(theirs, fp16)


@needs_rtx
def test_a_target_without_the_type_is_named(session: Session, tmp_path: Path) -> None:
    from workbench.core.errors import BuildError

    exact = Model("net", save(wide(), tmp_path / "net.onnx"))
    low = quantize(exact, session.store, to="fp8", data="random:16")
    with pytest.raises(BuildError, match="sm86 has no FP8: FP8 needs sm89") as raised:
        session.build(low, target="sm86")
    assert "sm89" in (raised.value.hint or "")


def tied() -> onnx.ModelProto:
    """An embedding, a layer, and a head that multiplies by the transposed embedding."""
    return model(
        [node("Gather", ["e", "ids"], ["h"], "embed"), node("MatMul", ["h", "w"], ["b"], "body"), node("Transpose", ["e"], ["et"], "turn", perm=[1, 0]),
         node("MatMul", ["b", "et"], ["y"], "head")],
        [value("ids", [1, 8], INT64)], [value("y", [1, 8, 64])], [weights("e", 64, 32, scale=1), weights("w", 32, 32)],
    )  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"to": "int8"}, {"to": "int8", "weights": "channel"}, {"to": "fp8"}, {"to": "int4", "block": 16}]
)
def test_a_tied_head_is_quantized_and_its_cost_told(
    session: Session, tmp_path: Path, options: dict[str, object]
) -> None:
    exact = Model("tied", save(tied(), tmp_path / "tied.onnx"))
    data = {"ids": np.random.default_rng(0).integers(0, 64, (16, 8))}
    low = quantize(exact, session.store, data=data, min_samples=1, **options)
    onnx.checker.check_model(str(low.path), full_check=True)
    assert low.origin["quantized"] == ["body", "head"]
    assert low.origin["left"] == {}
    stored = 64 * 32 // (2 if options["to"] == "int4" else 1)
    assert low.origin["folded"] == {"head": {"weight": "Transpose of e", "bytes": stored, "shared": ["e"]}}
    text = dict(summary(low))["weight computed"]
    assert text.startswith("head: Transpose of e, ")
    assert text.endswith("in addition to e, which other nodes still read")
    assert "turn" not in low.graph.by_id
    found = accuracy(exact, {"low": low}, session.store, data=data)
    assert float(found.models["low"]["relative_l2"] or 0) < (0.2 if options["to"] == "int4" else 0.06)


@pytest.mark.parametrize("end", [float("nan"), float("inf"), -1.0])
def test_a_range_that_is_no_magnitude_is_refused(session: Session, tmp_path: Path, end: float) -> None:
    exact = Model("net", save(wide(), tmp_path / "net.onnx"))
    good = quantize(exact, session.store, data="random:16")
    ends = {**good.origin["ranges"], next(iter(good.origin["ranges"])): end}
    with pytest.raises(CalibrationError) as caught:
        quantize(exact, session.store, data=Ranges(exact.sha256(session.store), Scheme(), ends))
    assert caught.value.code == "calibration-range"


def test_values_too_small_for_a_scale_are_told(session: Session, tmp_path: Path) -> None:
    exact = Model("net", save(wide(), tmp_path / "net.onnx"))
    data = np.random.default_rng(0).standard_normal((16, 32, 16, 16)).astype(np.float32) * np.float32(1e-8)
    low = quantize(exact, session.store, data=data)
    (told,) = [w for w in low.origin["warnings"] if "so small" in w]
    assert "x" in told
    assert not [w for w in quantize(exact, session.store, data=data, rest="fp32").origin["warnings"] if "so small" in w]
