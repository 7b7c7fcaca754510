"""Each finding on a graph, plan or engine that has it, and on one that has not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import onnx
import pytest

from tests.support import SAMPLES, needs_rtx, profiles
from tests.support.refused_models import CASES, attention, nms
from tests.support.small_models import FLOAT, INT64, constant, model, node, save, value, weights
from workbench import Session
from workbench.analysis.checks.engine_checks import (
    bare_layers,
    bound_to_gpu,
    dynamic_shapes,
    host_shapes,
    long_build,
    precision,
)
from workbench.analysis.checks.finding import Finding
from workbench.analysis.checks.model_checks import (
    file_size,
    int64_casts,
    large_constants,
    missing_profiles,
    runtime_shapes,
    unsupported,
)
from workbench.analysis.checks.run import of_model
from workbench.experiments.partition.by_parser import from_parser
from workbench.hardware.machine import Gpu
from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.model.shape_profile import ShapeProfile
from workbench.plan.partition import Operator, Partition, Segment
from workbench.plan.plan import Layer, Plan, PlanTensor

SMALL = model([node("Relu", ["x"], ["y"], "relu")], [value("x", [1, 4])], [value("y", [1, 4])])


def kinds(found: list[Finding]) -> list[str]:
    return [f.kind for f in found]


def tensor(name: str, dtype: str = "float32", layout: str = "Row major linear", size: int = 400) -> PlanTensor:
    return PlanTensor(name, (10, 10), dtype, layout, bytes=size)


def layer(name: str, kind: str, nodes: tuple[str, ...] = (), dtypes: tuple[str, str] = ("float32", "float32")) -> Layer:
    return Layer(
        name, name, name, "test", kind, nodes, "reported", (tensor(name + "_in", dtypes[0]),),
        (tensor(name + "_out", dtypes[1]),), bytes_read=400, bytes_written=400,
    )  # fmt: skip


def plan(*layers: Layer, **changes: Any) -> Plan:
    made = Plan(
        {"name": "m", "sha256": "0"}, {"name": "tensorrt_rtx", "version": "1.7", "target": "sm89", "gpu": None}, {},
        {"load": 0.1, "parse": 0.1, "build": 0.3, "total": 0.5}, layers, (), (),
    )  # fmt: skip
    return replace(made, **changes)


# --- graphs --------------------------------------------------------------------------------------------


def test_unsupported_operator_and_what_would_build() -> None:
    found = Model("unsupported", SAMPLES / "unsupported.onnx")
    answer = {"groups": [[0, 1, 2, 3, 4, 5, 6], [8, 9, 10]], "refused": {"7": "not known"}, "version": "1.7"}
    (one,) = unsupported(from_parser(found, answer, module="tensorrt_rtx"))
    assert one.severity == "problem"
    assert one.nodes == ("node_Det_6",)
    assert "2 engines of 7 and 3 nodes, with 2 changes" in one.message
    assert "unsupported.py:27" in one.message
    taken = {"groups": [list(range(11))], "refused": {}, "version": "1.7"}
    assert unsupported(from_parser(found, taken, module="tensorrt_rtx")) == []


def test_no_part_of_the_model_is_taken(tmp_path: Path) -> None:
    found = Model("m", save(SMALL, tmp_path / "m.onnx"))
    (one,) = unsupported(
        from_parser(found, {"groups": [], "refused": {"0": "no"}, "version": "1"}, module="tensorrt_rtx")
    )
    assert "No node is left for TensorRT" in one.message


def test_file_near_and_over_the_protobuf_limit(tmp_path: Path) -> None:
    path = save(SMALL, tmp_path / "m.onnx")
    assert file_size(Model("m", path)) == []
    for size, severity in ((1_700_000_000, "note"), (2_200_000_000, "problem")):
        large = tmp_path / f"{severity}.onnx"
        with large.open("wb") as file:
            file.truncate(size)  # sparse: only its size is looked at
        (one,) = file_size(Model("m", large))
        assert one.severity == severity


def test_dynamic_inputs_without_a_shape() -> None:
    proto = model([node("Relu", ["x"], ["y"], "relu")], [value("x", ["n", 4])], [value("y", ["n", 4])])
    (one,) = missing_profiles(Graph(proto))
    assert one.nodes == ("relu",)
    assert one.shapes == {"x": "1x4"}
    assert "shapes={'x': '1x4'}" in one.remedy
    assert missing_profiles(Graph(proto), ShapeProfile.parse(["x=2x4"])) == []
    assert missing_profiles(Graph(SMALL)) == []
    assert missing_profiles(Graph(proto).at({"x": (2, 4)})) == []


def test_large_constants() -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["y"], "product")], [value("x", [1, 4000])], [value("y", [1, 4000])],
        [onnx.TensorProto(name="w", dims=[4000, 4000], data_type=FLOAT)],
    )  # fmt: skip
    (one,) = large_constants(Graph(proto))
    assert one.nodes == ("product",)
    assert "64 MB" in one.message
    small = model([node("MatMul", ["x", "w"], ["y"])], [value("x", [1, 4])], [value("y", [1, 4])], [weights("w", 4, 4)])
    assert large_constants(Graph(small)) == []


def test_int64_casts_at_run_time_only() -> None:
    proto = model(
        [
            node("Cast", ["ids"], ["f"], "fed", to=FLOAT),
            node("Cast", ["c"], ["folded"], "constant", to=FLOAT),
            node("Add", ["f", "folded"], ["y"], "add"),
        ],
        [value("ids", [4], INT64)], [value("y", [4])], [constant("c", [1, 2, 3, 4], "int64")],
    )  # fmt: skip
    proto = onnx.shape_inference.infer_shapes(proto)
    (one,) = int64_casts(Graph(proto))
    assert one.nodes == ("fed",)
    assert "ids is cast at once" in one.remedy
    low = model([node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT16)], [value("x", [4])], [value("y", [4], 10)])
    assert int64_casts(Graph(low)) == []


def test_an_input_that_is_cast_twice_is_named_once() -> None:
    casts = [node("Cast", ["ids"], [f"c{i}"], f"cast{i}", to=1) for i in range(2)]
    proto = model([*casts, node("Add", ["c0", "c1"], ["y"], "add")], [value("ids", [4], INT64)], [value("y", [4])])
    (one,) = int64_casts(Graph(proto))
    assert "; ids is cast at once" in one.remedy


def test_int64_casts_with_a_plan() -> None:
    proto = model([node("Cast", ["ids"], ["y"], "fed", to=FLOAT)], [value("ids", [4], INT64)], [value("y", [4])])
    own = plan(layer("cast", "cast", ("fed",), ("int64", "float32")))
    (one,) = int64_casts(Graph(proto), own)
    assert one.layers == ("cast",)
    assert "1 kernel of its own among them" in one.message
    (one,) = int64_casts(Graph(proto), plan(layer("fused", "pointwise", ("fed", "relu"))))
    assert "None is a separate kernel" in one.message


def test_shapes_at_run_time() -> None:
    nodes = [node("Shape", ["x"], ["s"], "shape"), node("Reshape", ["x", "s"], ["y"], "reshape")]
    dynamic = Graph(model(nodes, [value("x", ["n", 4])], [value("y", None)]))
    assert kinds(runtime_shapes(dynamic)) == ["runtime-shapes"]
    assert runtime_shapes(dynamic)[0].nodes == ("shape",)
    assert runtime_shapes(Graph(model(nodes, [value("x", [2, 4])], [value("y", None)]))) == []


def test_shapes_that_depend_on_values() -> None:
    proto = model([node("NonZero", ["x"], ["y"], "picks")], [value("x", [2, 4])], [value("y", None, INT64)])
    (one,) = runtime_shapes(Graph(proto))
    assert (one.kind, one.nodes, one.severity) == ("data-dependent-shapes", ("picks",), "cost")


# What the graph alone proves of a build, by the case of tests/models_refused.py that has it.
PROVEN = {
    "attention": "fp32-attention", "int32 biases": "int32-quantization", "qlinear with zero points": "zero-points",
    "branches of other ranks": "branch-ranks", "slice by a value": "shape-input",
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_what_a_build_would_refuse(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    path = save(case.proto, tmp_path / "m.onnx")
    found = [f.kind for f in of_model(Model("m", path)) if f.severity == "problem"]
    assert [k for k in found if k != "no-profile"] == ([PROVEN[name]] if name in PROVEN else [])
    if case.refused and name in PROVEN:
        assert set(of_model(Model("m", path))[PROVEN[name]].nodes) <= case.refused
    given = of_model(Model("m", path), profile=ShapeProfile.parse(case.shapes))
    assert ("shape-input" in given) == (name == "slice by a value")
    if name == "slice by a value":
        assert given["shape-input"].severity == "note"
        assert given["shape-input"].nodes == ("cut",)


def test_no_sample_is_said_not_to_build() -> None:
    kinds_found = {
        f.kind for path in sorted(SAMPLES.glob("*.onnx")) for f in of_model(Model("m", path)) if f.severity == "problem"
    }
    assert kinds_found == set()


def test_attention_in_another_precision(tmp_path: Path) -> None:
    path = save(attention(), tmp_path / "m.onnx")
    assert "fp32-attention" in of_model(Model("m", path))
    assert "fp32-attention" not in of_model(Model("m", path), precision="fp16")
    unknown = Model("m", save(attention(queries="q"), tmp_path / "open.onnx"))
    assert "fp32-attention" not in of_model(unknown)  # one query builds
    shapes = ShapeProfile.parse(["q=1x4x16x64"])
    assert "fp32-attention" in of_model(unknown, profile=shapes)


def test_biases_quantized_by_onnxruntime(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    proto = model(
        [node("Conv", ["x", "w", "b"], ["y"], "conv")], [value("x", [1, 3, 8, 8])], [value("y", [1, 4, 6, 6])],
        [weights("w", 4, 3, 3, 3), weights("b", 4)], opset=13,
    )  # fmt: skip
    save(proto, tmp_path / "m.onnx")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.batches = iter([{"x": weights("x", 1, 3, 8, 8, seed=i, scale=1.0)} for i in range(2)])

        def get_next(self) -> Any:
            batch = next(self.batches, None)
            return None if batch is None else {"x": onnx.numpy_helper.to_array(batch["x"])}

    def quantized(**options: Any) -> Any:
        file = tmp_path / "quantized.onnx"
        quantization.quantize_static(str(tmp_path / "m.onnx"), str(file), Reader(), quant_format=quantization.QuantFormat.QDQ,
                                     weight_type=quantization.QuantType.QInt8, **options)  # fmt: skip
        return of_model(Model("m", file))

    by_default = quantized(activation_type=quantization.QuantType.QUInt8)
    assert "biases" in by_default["int32-quantization"].title
    assert "QuantizeBias" in by_default["int32-quantization"].remedy
    assert "zero-points" in by_default
    way_out = quantized(
        activation_type=quantization.QuantType.QInt8,
        extra_options={"QuantizeBias": False, "ActivationSymmetric": True, "WeightSymmetric": True},
    )
    assert [f.kind for f in way_out if f.severity == "problem"] == []


def test_an_input_that_is_read_as_a_shape_and_is_no_integer(tmp_path: Path) -> None:
    proto = model([node("Resize", ["x", "", "s"], ["y"], "resize", mode="nearest")],
                  [value("x", [1, 1, 4, 4]), value("s", [4])], [value("y", None)])  # fmt: skip
    found = of_model(Model("m", save(proto, tmp_path / "m.onnx")))["shape-input"]
    assert (found.severity, found.nodes, found.shapes) == ("problem", ("resize",), {})
    assert "constant" in found.remedy


def test_an_input_that_is_read_as_axes(tmp_path: Path) -> None:
    proto = model([node("ReduceSum", ["x", "axes"], ["y"], "sum")], [value("x", [2, 4]), value("axes", [1], INT64)],
                  [value("y", None)])  # fmt: skip
    found = of_model(Model("m", save(proto, tmp_path / "m.onnx")))["shape-input"]
    assert (found.severity, found.nodes, found.shapes) == ("problem", ("sum",), {})
    assert found.remedy == "Make axes a constant of the model."


def test_what_the_builder_refused(tmp_path: Path) -> None:
    path = save(nms(), tmp_path / "m.onnx")
    nodes = {
        n.id: Operator(n.id, n.op, reason="" if n.op == "Relu" else "no kernel") for n in Model("m", path).graph.nodes
    }
    left, back = nodes.values()
    refusal = {
        "code": "no-kernel",
        "message": "There is no kernel for it.",
        "hint": "Cut it off.",
        "nodes": [back.name],
    }
    parts = (Segment("tensorrt", (left,)), Segment("fallback", (back,)))
    asked = {"target": "sm89", "precision": "fp32"}
    (one,) = unsupported(Partition("m", "builder", False, parts, asked, refusals=(refusal,)))
    assert one.title == "TensorRT does not support NonMaxSuppression"
    assert "The other 1 nodes were built without them" in one.message
    assert "no kernel" in one.evidence
    assert one.remedy == "Cut it off."
    (least,) = unsupported(Partition("m", "builder", False, parts, asked, refusals=(refusal,), proven=False))
    assert least.message.startswith("At least 1 of 2 nodes")
    assert "It is unknown" in least.message
    unnamed = {**refusal, "nodes": []}
    whole = (Segment("fallback", (left, back)),)
    (blind,) = unsupported(Partition("m", "builder", False, whole, asked, refusals=(unnamed,), proven=False))
    assert blind.title == "TensorRT's builder refuses the model"
    assert blind.nodes == ()


# --- plans ---------------------------------------------------------------------------------------------


def test_bound_to_gpu() -> None:
    ada, hopper = Gpu("RTX 4090", "sm89", 24 << 30, "580"), Gpu("H100", "sm90", 80 << 30, "580")
    (nowhere,) = bound_to_gpu(plan(), (), "1.7")
    assert nowhere.severity == "note"
    assert "has no NVIDIA GPU" in nowhere.message
    (fits,) = bound_to_gpu(plan(), (ada,), "1.7")
    assert fits.severity == "note"
    (later,) = bound_to_gpu(plan(), (hopper,), "1.7")
    assert later.severity == "note"  # TensorRT for RTX was seen to run them
    assert "later GPU than it was tuned for" in later.message
    full = plan(compiler={"name": "tensorrt", "version": "1.7", "target": "sm89"})
    (other,) = bound_to_gpu(full, (hopper,), "1.7")
    assert other.severity == "problem"
    assert "does not run on it" in other.message
    full = replace(full, config={"hardware_compatibility": "ampere_plus"})
    assert bound_to_gpu(full, (hopper,), "1.7")[0].severity == "note"
    (either,) = bound_to_gpu(plan(), (hopper, ada), "1.7")
    assert either.severity == "note"
    (later,) = bound_to_gpu(plan(), (ada,), "1.8")
    assert later.severity == "problem"
    assert "1.8 is installed" in later.message
    made_here = plan(compiler={"name": "tensorrt", "version": "11.0", "target": "current", "gpu": hopper.to_dict()})
    assert bound_to_gpu(made_here, (hopper,), "11.0")[0].severity == "note"
    assert bound_to_gpu(made_here, (ada,), "11.0")[0].severity == "problem"
    assert bound_to_gpu(plan(compiler={"name": "fake", "version": "1", "target": "sm89"}), (), None) == []


def test_long_build_with_its_phases() -> None:
    assert long_build(plan()) == []
    slow = plan(
        seconds={"load": 1.0, "parse": 2.0, "build": 57.0, "total": 60.0},
        facts={"phases": {"Graph construction": 1.0, "Formats and tactics selection": 50.0}},
    )
    (one,) = long_build(slow)
    assert one.title == "The build took 60 s"
    assert one.message.startswith(
        "build 57.0 s, parse 2.0 s and load 1.0 s. Of the build: Formats and tactics selection"
    )
    assert "saves the 60 s" in one.remedy


def test_precision_that_was_not_given() -> None:
    asked = {"precision": "fp16"}
    wide = plan(layer("product", "gemm", ("matmul",)), config=asked)
    (one,) = precision(wide)
    assert (one.kind, one.severity) == ("precision-fp32-product", "problem")
    assert one.title == "1 product in FP32 although fp16 was requested"
    assert (one.layers, one.nodes) == (("product",), ("matmul",))
    low = layer("product", "gemm", ("matmul",), ("float16", "float16"))
    assert precision(plan(low, config=asked)) == []
    assert precision(plan(layer("product", "gemm", ("matmul",)))) == []
    cast = layer("cast", "cast", ("c",), ("float32", "float16"))
    assert precision(plan(cast, low, config=asked))[0].title == "1 kernel that only converts the type"


def test_layers_without_nodes() -> None:
    copy, product = layer("copy", "layout"), layer("product", "gemm")
    found = bare_layers(plan(copy, product, layer("relu", "pointwise", ("relu",))))
    assert [(f.kind, f.layers) for f in found] == [("layout-copies", ("copy",)), ("layers-without-nodes", ("product",))]
    assert "800 B" in found[0].title
    assert "33.3% of all" in found[0].evidence
    (timed,) = bare_layers(plan(replace(copy, time_ms=0.02)))
    assert "0.0200 ms (measured)" in timed.message
    (blind,) = bare_layers(plan(replace(copy, bytes_read=None)))
    assert "unknown size" in blind.title
    assert "0 B" not in blind.evidence
    (half,) = bare_layers(plan(copy, replace(copy, id="other", bytes_read=None)))
    assert "at least 800 B" in half.title
    # A stream event launches nothing.
    assert bare_layers(plan(layer("wait", "sync"), layer("relu", "pointwise", ("relu",)))) == []


def test_shapes_on_the_host() -> None:
    (one,) = host_shapes(plan(layer("shape", "shape", ("s",))))
    assert (one.layers, one.nodes) == (("shape",), ("s",))
    assert host_shapes(plan(layer("relu", "pointwise", ("relu",)))) == []


# --- engines -------------------------------------------------------------------------------------------


@pytest.fixture
def pair(session: Session, tmp_path: Path) -> tuple[Any, Any]:
    """A dynamic and a fixed engine of one model, by the fake compiler."""
    proto = model([node("Relu", ["x"], ["y"], "relu")], [value("x", ["n", 4])], [value("y", ["n", 4])])
    found = session.add(str(save(proto, tmp_path / "m.onnx")))
    return (
        session.build(found, compiler="fake", shapes={"x": "1x4:8x4:32x4"}),
        session.build(found, compiler="fake", shapes={"x": "8x4"}),
    )


def test_dynamic_shapes_not_measured(pair: tuple[Any, Any]) -> None:
    dynamic, fixed = pair
    (one,) = dynamic_shapes(dynamic, [dynamic, fixed])
    assert "not measured yet" in one.message
    assert "'x': '1x4:8x4:32x4'" in one.remedy
    assert dynamic_shapes(fixed, [dynamic, fixed]) == []


def test_dynamic_shapes_measured(pair: tuple[Any, Any]) -> None:
    def measured(engine: Any, ms: float, shape: list[int]) -> None:
        (engine.folder / "profiles").mkdir(exist_ok=True)
        text = json.dumps(profiles.document(ms, shapes={"x": shape}))
        (engine.folder / "profiles" / "1.json").write_text(text)

    dynamic, fixed = pair
    measured(dynamic, 1.2, [8, 4])
    measured(fixed, 1.0, [4, 4])
    assert "not measured" in dynamic_shapes(dynamic, pair)[0].message  # at another shape: not comparable
    measured(fixed, 1.0, [8, 4])
    (one,) = dynamic_shapes(dynamic, pair)
    assert one.title == "Dynamic shapes cost +20% at x 8×4"
    assert one.severity == "cost"
    assert one.evidence.startswith("Measured on a GPU")
    measured(dynamic, 1.01, [8, 4])
    assert dynamic_shapes(dynamic, pair)[0].severity == "note"


def test_session_checks_of_engine_and_model(pair: tuple[Any, Any], session: Session) -> None:
    dynamic, fixed = pair
    assert "dynamic-shapes" in session.checks(dynamic)
    assert session.checks(dynamic.id[:8]).engine == dynamic.id
    assert session.checks().engine == fixed.id
    of = session.checks("m", parser=False)
    assert (of.engine, [f.kind for f in of]) == ("", ["no-profile"])
    assert "did not run" in of.unchecked[0]
    assert list(of.to_frame()["kind"]) == ["no-profile"]
    assert "1 problem" in repr(of)
    with pytest.raises(KeyError):
        of["unsupported"]


def test_the_worst_comes_first(tmp_path: Path) -> None:
    nodes = [node("Shape", ["x"], ["s"], "shape"), node("Reshape", ["x", "s"], ["y"], "reshape")]
    path = save(model(nodes, [value("x", ["n", 4])], [value("y", None)]), tmp_path / "m.onnx")
    found = of_model(Model("m", path))
    assert [f.severity for f in found] == ["problem", "note"]


def test_an_engine_whose_model_is_gone(pair: tuple[Any, Any], session: Session, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").unlink()
    found = session.checks(pair[0])
    assert "dynamic-shapes" in found
    assert "m.onnx" in found.unchecked[0]


def test_an_empty_session(session: Session) -> None:
    from workbench.core.errors import StoreError

    with pytest.raises(StoreError, match="has no model yet"):
        session.checks()


# --- with TensorRT -------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_rtx
def test_who_is_asked(session: Session, tmp_path: Path) -> None:
    found = session.add(save(nms(), tmp_path / "nms.onnx"))
    assert session.checks(found)["unsupported"].nodes == (
        "/nms/NonMaxSuppression",
    )  # by default the builder: it is small
    assert session.checks(found, ask="builder").partition is not None
    parsed = session.checks(found, ask="parser")
    assert "unsupported" not in parsed
    assert parsed.partition is not None
    assert parsed.partition.method == "parser"
    blind = session.checks(save(attention(queries="q"), tmp_path / "a.onnx"))
    assert "builder did not run" in " ".join(blind.unchecked)
    shaped = session.checks(tmp_path / "a.onnx", shapes={"q": "1x4x16x64"})
    assert shaped["unsupported"].nodes == ("att",)
    assert "no-profile" not in shaped
    half = session.checks(tmp_path / "a.onnx", shapes={"q": "1x4x16x64"}, precision="fp16")
    assert not [f for f in half if f.severity == "problem"]
    from workbench.core.errors import ConfigError

    with pytest.raises(ConfigError):
        session.checks(tmp_path / "a.onnx", ask="builder")


@needs_rtx
def test_tensorrt_is_asked(session: Session) -> None:
    found = session.checks("unsupported")
    assert found["unsupported"].nodes == ("node_Det_6",)
    assert found.partition is not None
    assert found.partition.engines == 2
    assert "unsupported" not in session.checks("attention")


@needs_rtx
def test_an_fp16_engine(shared: Session) -> None:
    engine = shared.build("attention", target="sm89", precision="fp16")
    found = shared.checks(engine)
    assert "bound-to-gpu" in found
    one = found["precision-conversion-kernel"]
    assert set(one.layers) <= set(engine.plan.by_id)
    fp32 = shared.checks(shared.build("attention", target="sm89"))
    assert not [f for f in fp32 if f.kind.startswith("precision")]


@pytest.mark.slow
@needs_rtx
def test_the_command(cli: Callable[..., CompletedProcess[str]]) -> None:
    told = cli("checks", "unsupported", "--format", "json")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert document["schema"] == "workbench.checks/1"
    assert document["findings"][0]["nodes"] == ["node_Det_6"]
    table = cli("checks", "attention", "--build", "--precision", "fp16")
    assert "The engine requires sm89" in table.stdout
    assert "Nothing found." in table.stdout
    wrong = cli("checks", "no-such-model")
    assert wrong.returncode == 1
    assert "There is no model" in wrong.stderr


@pytest.mark.slow
@needs_rtx
def test_the_command_takes_shapes(cli: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    file = save(
        model([node("MatMul", ["x", "w"], ["y"], "mm")], [value("x", ["n", 4])], [value("y", ["n", 4])], [weights("w", 4, 4)]),
        tmp_path / "open.onnx",
    )  # fmt: skip
    assert "has no shape yet" in cli("checks", file).stdout
    told = cli("checks", file, "--shape", "x=2x4")
    assert told.returncode == 0, told.stderr
    assert "has no shape yet" not in told.stdout
    wrong = cli("checks", file, "--shape", "x=2x5")
    assert wrong.returncode == 1
    assert "does not fit input x" in wrong.stderr
