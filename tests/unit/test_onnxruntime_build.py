"""Builds by ONNX Runtime on the CPU: engines, plans, runs, profiles, and clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support import SAMPLES
from tests.support.fake_tensorrt import Silent
from tests.support.small_models import constant, model, node, save, value, weights
from workbench import Session, compilers
from workbench.analysis import roofline
from workbench.analysis.times import device_of, measured_times
from workbench.compilers.base import Ability
from workbench.core.errors import (
    BuildError,
    CompilerUnavailableError,
    ConfigError,
    StoreError,
    UnsupportedNodesError,
)
from workbench.hardware.devices import DEVICES
from workbench.plan import Plan

onnxruntime = pytest.importorskip("onnxruntime")
ORT = {"compiler": "onnxruntime"}


def claimed(plan: Plan) -> set[str]:
    return {n for layer in plan.layers for n in layer.nodes}


def direct(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def product(names: tuple[str, str] = ("a", "b"), rows: int | str = 4) -> onnx.ModelProto:
    return model(
        [node("MatMul", ["x", "w"], ["h"], names[0]), node("Relu", ["h"], ["y"], names[1])],
        [value("x", [rows, 64])], [value("y", [rows, 64])], [weights("w", 64, 64)],
    )  # fmt: skip


def test_it_is_described_with_the_cpu_as_its_target() -> None:
    info = compilers.info_of("onnxruntime")
    assert info.version == onnxruntime.__version__
    assert [str(target) for target in info.targets] == ["cpu"]
    assert {Ability.BUILD, Ability.RUN, Ability.PROFILE} <= info.abilities


@pytest.mark.parametrize("name", ["residual_block", "attention", "conv_relu_qdq_good"])
def test_an_engine_gives_what_onnx_runtime_gives(shared: Session, name: str) -> None:
    path = SAMPLES / f"{name}.onnx"
    engine = shared.build(path, **ORT)
    rng = np.random.default_rng(0)
    inputs = {
        entry["name"]: rng.standard_normal(entry["shape"]).astype(entry["dtype"])
        for entry in engine.plan.io if entry["mode"] == "input"
    }  # fmt: skip
    found = engine.run(inputs)
    for output, wanted in direct(path, inputs).items():
        np.testing.assert_allclose(found[output], wanted, rtol=1e-5, atol=1e-6)


def test_what_the_plan_says_of_a_residual_block(shared: Session) -> None:
    plan = shared.build(SAMPLES / "residual_block.onnx", **ORT, optimization_level=2).plan
    assert [(la.title, la.kind, la.evidence) for la in plan.layers] == [
        ("Conv + Relu", "conv", "tensor-region"), ("Conv", "conv", "tensor-region"),
        ("Add", "pointwise", "tensor-region"), ("Relu", "pointwise", "tensor-region"),
    ]  # fmt: skip
    assert plan.compiler["target"] == "cpu"
    assert plan.facts["graph_optimization_level"] == "extended"
    assert "ConvActivationFusion" in {each["name"] for each in plan.facts["optimizers"]}
    assert plan.facts["providers"] == ["CPUExecutionProvider"]
    assert plan.facts["session_seconds"] > 0
    assert plan.summary["bytes_unknown"] == plan.summary["flops_unknown"] == 0


@pytest.mark.parametrize(("level", "name"), list(enumerate(["disable", "basic", "extended", "layout", "all", "all"])))
def test_the_optimization_level_is_onnx_runtimes(session: Session, tmp_path: Path, level: int, name: str) -> None:
    engine = session.build(save(product(), tmp_path / "m.onnx"), **ORT, optimization_level=level)
    assert engine.plan.facts["graph_optimization_level"] == name
    assert claimed(engine.plan) == {"a", "b"}


def test_open_shapes_are_known_at_the_opt_shape(session: Session, tmp_path: Path) -> None:
    engine = session.build(save(product(rows="n"), tmp_path / "m.onnx"), **ORT, shapes={"x": "1x64:4x64:8x64"})
    plan = engine.plan
    assert {t.shape for layer in plan.layers for t in layer.outputs} == {(4, 64)}
    assert plan.summary["bytes_unknown"] == 0
    x = np.ones((8, 64), np.float32)
    np.testing.assert_allclose(engine.run({"x": x})["y"], direct(tmp_path / "m.onnx", {"x": x})["y"], rtol=1e-6)
    with pytest.raises(ConfigError):
        engine.run({"x": np.ones((9, 64), np.float32)})


def test_one_fixed_shape_makes_the_engine_static(session: Session, tmp_path: Path) -> None:
    engine = session.build(save(product(rows="n"), tmp_path / "m.onnx"), **ORT, shapes={"x": "4x64"})
    saved = onnx.load(str(engine.path))
    assert [d.dim_value for d in saved.graph.input[0].type.tensor_type.shape.dim] == [4, 64]


@pytest.mark.parametrize("names", [("a", "b"), ("same", "same"), ("", "")])
def test_weights_beside_the_model_go_into_the_engine(session: Session, tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "in" / "m.onnx"
    path.parent.mkdir()
    onnx.save(product(names), str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    engine = session.build(path, **ORT)
    assert len(claimed(engine.plan)) == 2
    assert engine.plan.facts["weights_file"] is None
    copy = engine.save(tmp_path / "copy.onnx")
    x = {"x": np.ones((4, 64), np.float32)}
    weight = onnx.numpy_helper.to_array(product().graph.initializer[0])
    np.testing.assert_allclose(direct(copy, x)["y"], np.maximum(x["x"] @ weight, 0), rtol=1e-4, atol=1e-5)


def test_casts_that_onnx_runtime_inserts_are_layers_of_kind_cast(session: Session) -> None:
    plan = session.build(SAMPLES / "attention.onnx", **ORT, precision="fp16").plan
    inserted = [la for la in plan.layers if la.kind == "cast" and not la.nodes]
    assert inserted
    assert all(la.evidence == "none" and la.title == "Cast" for la in inserted)
    softmax = [la for la in plan.layers if "node_softmax" in la.nodes]
    assert all(la.nodes == ("node_softmax",) for la in softmax)
    assert not any(u.reason == "unknown" for u in plan.unclaimed)


def test_bf16_names_the_node_that_has_no_kernel(session: Session, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedNodesError) as info:
        session.build(save(product(("the product", "b")), tmp_path / "m.onnx"), **ORT, precision="bf16")
    assert info.value.code == "ort-no-kernel"
    assert [n["node"] for n in info.value.details["nodes"]] == ["the product"]
    assert "bfloat16" in info.value.message


def test_an_operator_of_an_unknown_domain_names_its_nodes(session: Session, tmp_path: Path) -> None:
    made = model(
        [node("Strange", ["x"], ["h"], "first, strange", domain="my.domain"), node("Relu", ["h"], ["y"], "r")],
        [value("x", [2, 2])], [value("y", [2, 2])], domains=["my.domain"], infer=False,
    )  # fmt: skip
    with pytest.raises(UnsupportedNodesError) as info:
        session.build(save(made, tmp_path / "m.onnx"), **ORT)
    assert info.value.code == "ort-unknown-operator"
    assert [n["node"] for n in info.value.details["nodes"]] == ["first, strange"]


def test_a_model_that_contradicts_itself_is_refused(session: Session, tmp_path: Path) -> None:
    made = model([node("MatMul", ["x", "x"], ["y"], "mm")], [value("x", [1, 3])], [value("y", [1, 2])], infer=False)
    with pytest.raises(BuildError) as info:
        session.build(save(made, tmp_path / "m.onnx"), **ORT)
    assert info.value.code == "ort-invalid-model"
    assert [n["node"] for n in info.value.details["nodes"]] == ["mm"]


def test_a_relu_lost_before_fp8_is_a_problem_of_the_plan(session: Session, tmp_path: Path) -> None:
    zero = helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0])
    made = model(
        [
            node("Relu", ["x"], ["r"], "relu"), node("QuantizeLinear", ["r", "s", "z"], ["q"], "q"),
            node("DequantizeLinear", ["q", "s", "z"], ["y"], "dq"),
        ],
        [value("x", [4])], [value("y", [4])], [constant("s", 1.0), zero], opset=21,
    )  # fmt: skip
    path = save(made, tmp_path / "m.onnx")
    kept = session.build(path, **ORT, optimization_level=1)
    x = {"x": np.array([-2, -1, 1, 2], np.float32)}
    assert kept.run(x)["y"].tolist() == [0, 0, 1, 2]
    assert not kept.plan.problems
    lost = session.build(path, **ORT)
    wrong = lost.run(x)["y"].tolist() != [0, 0, 1, 2]
    assert bool(lost.plan.problems) is wrong  # a version of ONNX Runtime without the fault has no warning
    assert list(lost.plan.problems) == [w for w in lost.record["warnings"] if "ReluQuantRewrite" in w]


@pytest.mark.parametrize("condition", [True, False])
def test_branches_are_layers_and_only_one_has_times(session: Session, tmp_path: Path, condition: bool) -> None:
    def body(op: str, out: str) -> onnx.GraphProto:
        return helper.make_graph([node(op, ["x"], [out], f"{op} within")], op, [], [value(out, [4, 8])])

    made = model(
        [node("If", ["c"], ["i"], "if", then_branch=body("Relu", "t"), else_branch=body("Neg", "e")), node("Exp", ["i"], ["y"], "exp")],
        [value("c", [], TensorProto.BOOL), value("x", [4, 8])], [value("y", [4, 8])],
    )  # fmt: skip
    engine = session.build(save(made, tmp_path / "m.onnx"), **ORT)
    assert {la.title: la.branch for la in engine.plan.layers} == {
        "If": (), "Relu": ("if: then",), "Neg": ("if: else",), "Exp": (),
    }  # fmt: skip
    assert engine.plan.layers[0].kind == "control"
    file = tmp_path / "in.npz"
    np.savez(file, c=np.array(condition), x=np.ones((4, 8), np.float32))
    session.measure.profile(engine, inputs=file, duration_ms=5, warm_up_ms=0, layer_iterations=5)
    times = {la.title: la.time_ms for la in engine.measured.layers}
    assert times["Neg" if condition else "Relu"] == 0
    assert len(times) == 4


def test_a_profile_is_in_the_same_document_as_any(session: Session) -> None:
    engine = session.build(SAMPLES / "residual_block.onnx", **ORT)
    found = session.measure.profile(engine, duration_ms=20, layer_iterations=7)
    assert found["schema"] == "workbench.profile/1"
    assert found["device"]["kind"] == "cpu"
    assert found["compiler"] == {"name": "onnxruntime", "version": onnxruntime.__version__}
    assert set(found["latency"]) == {"plain"}
    assert found["error"]["ok"]
    assert found["error"]["relative_l2"] < 1e-5
    assert [row["name"] for row in found["layers"]] == [la.name for la in engine.plan.layers]
    assert found["profiler"]["iterations"] == 7
    assert found["ceilings"] is found["clocks"] is found["kernels"] is None
    plan = engine.measured
    assert all(la.time_ms is not None for la in plan.layers)
    assert [la.time_ms for la in plan.layers] == [row["median_ms"] for row in found["layers"]]
    assert "median" in plan.facts["measured"]["method"]


def test_nothing_is_estimated_for_a_cpu(session: Session) -> None:
    plan = session.build(SAMPLES / "residual_block.onnx", **ORT).plan
    assert device_of(plan) is None
    assert measured_times(plan) is None
    with pytest.raises(ConfigError) as info:
        roofline.estimates(plan, DEVICES["a100"])
    assert info.value.code == "no-ceilings"


def test_an_input_of_another_type_is_refused_and_the_engine_stays_open(session: Session, tmp_path: Path) -> None:
    engine = session.build(save(product(), tmp_path / "m.onnx"), **ORT)
    good = np.ones((4, 64), np.float32)
    with engine.open() as running:
        for bad in (good.astype(np.float64), good[:2], np.full_like(good, np.nan)):
            with pytest.raises(ConfigError):
                running({"x": bad})
        assert running({"x": good})["y"].shape == (4, 64)
    with pytest.raises(ConfigError):
        engine.open(profile=1)


def test_another_target_is_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as info:
        session.build(save(product(), tmp_path / "m.onnx"), **ORT, targets="sm89")
    assert info.value.code == "target-of-another-compiler"


def test_without_onnx_runtime_the_reason_and_the_command_are_named(
    monkeypatch: pytest.MonkeyPatch, session: Session, tmp_path: Path
) -> None:
    from workbench.compilers.onnxruntime import compiler as described

    monkeypatch.setattr(described, "installed", lambda _module: None)
    info = compilers.info_of("onnxruntime")
    assert info.version is None
    assert info.install == "pip install onnxruntime"
    assert set(info.missing) == set(Ability)
    with pytest.raises(CompilerUnavailableError) as error:
        session.build(save(product(), tmp_path / "m.onnx"), **ORT)
    assert error.value.hint == "pip install onnxruntime"


def test_its_own_options_reach_the_build(session: Session) -> None:
    path = SAMPLES / "attention.onnx"
    plain = session.build(path, **ORT)
    without = session.build(path, **ORT, disabled_optimizers=("MatMulAddFusion",), threads=1)
    assert "MatMulAddFusion" in {each["name"] for each in plain.plan.facts["optimizers"]}
    assert "MatMulAddFusion" not in {each["name"] for each in without.plan.facts["optimizers"]}
    assert "Gemm" not in {layer.title for layer in without.plan.layers}
    assert without.record["facts"]["threads"] == 1
    basic = session.build(path, **ORT, graph_optimization="basic")
    assert basic.plan.facts["graph_optimization_level"] == "basic"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"graph_optimization": "basic", "optimization_level": 3}, "two-levels"),
        ({"tf32": False}, "option-of-another-compiler"),
        ({"treads": 2}, "unknown-option"),
    ],
)
def test_options_that_do_not_fit_are_refused(session: Session, options: dict[str, object], code: str) -> None:
    with pytest.raises(ConfigError) as info:
        session.build(SAMPLES / "attention.onnx", **ORT, **options)
    assert info.value.code == code


def test_an_engine_too_large_for_one_file_has_its_weights_beside_it(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.compilers.onnxruntime import build, serve

    monkeypatch.setattr(build, "ONE_FILE", 0)
    path = save(product(), tmp_path / "m.onnx")
    folder = tmp_path / "out"
    folder.mkdir()
    build.build(Silent(), model=str(path), config={"compiler": "onnxruntime"}, folder=str(folder))
    assert (folder / "engine.data").stat().st_size >= 64 * 64 * 4
    assert json.loads((folder / "record.json").read_text())["facts"]["weights_file"] == "engine.data"
    runner = serve.open_engine(engine=str(folder / "engine"))
    x = {"x": np.ones((4, 64), np.float32)}
    outputs = runner.bind(x)
    runner.run()
    np.testing.assert_allclose(outputs["y"], direct(path, x)["y"], rtol=1e-6)

    engine = session.build(path, **ORT)
    session.store.replace_in_build(engine.folder, {"engine.data": b"weights"})
    engine.check_trusted()
    assert (engine.save(tmp_path / "e.onnx").parent / "engine.data").read_bytes() == b"weights"
    (engine.folder / "engine.data").write_bytes(b"other!!")
    with pytest.raises(StoreError) as info:
        engine.check_trusted()
    assert info.value.code == "damaged"


@pytest.mark.parametrize(("condition", "runs"), [(True, {"mm", "relu"}), (False, {"neg"})])
def test_an_if_that_was_decided_gives_way_to_its_branch(
    session: Session, tmp_path: Path, condition: bool, runs: set[str]
) -> None:
    then = [node("MatMul", ["x", "w"], ["m"], "mm"), node("Relu", ["m"], ["t"], "relu")]
    branches = {
        "then_branch": helper.make_graph(then, "then", [], [value("t", [4, 8])]),
        "else_branch": helper.make_graph([node("Neg", ["x"], ["e"], "neg")], "else", [], [value("e", [4, 8])]),
    }
    made = model(
        [node("If", ["c"], ["i"], "if", **branches), node("Exp", ["i"], ["y"], "exp")],
        [value("x", [4, 8])], [value("y", [4, 8])], [weights("w", 8, 8), constant("c", condition, "bool")],
    )  # fmt: skip
    plan = session.build(save(made, tmp_path / "m.onnx"), **ORT).plan
    assert claimed(plan) == {*runs, "exp"}
    assert all(len(layer.nodes) == 1 for layer in plan.layers)
    dropped = {"mm", "relu", "neg"} - runs
    assert {u.node: u.reason for u in plan.unclaimed} == {"if": "constant", **dict.fromkeys(dropped, "dead")}


@pytest.mark.parametrize("name", ["attention", "residual_block", "conv_relu_qdq_bad"])
def test_layers_are_in_the_order_in_which_onnx_runtime_executes_them(
    shared: Session, tmp_path: Path, name: str
) -> None:
    from workbench.compilers.onnxruntime import sessions, trace

    engine = shared.build(SAMPLES / f"{name}.onnx", **ORT)
    profiled = sessions.open_engine(onnxruntime, engine.path, profile=tmp_path / "trace")
    inputs = {port.name: np.zeros(port.shape, np.float32) for port in profiled.get_inputs()}
    profiled.run(None, inputs)
    times, _ = trace.node_times(json.loads(Path(profiled.end_profiling()).read_text()))
    assert [name for name, _ in times] == [layer.name for layer in engine.plan.layers]
