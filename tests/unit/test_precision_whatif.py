"""What the panels of precision stand on: counted by hand, without a compiler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from tests.support.plans import layer, plan
from tests.support.small_models import net, save
from workbench import Session
from workbench.core.errors import CalibrationError, ConfigError, ModelError
from workbench.experiments.whatif import Cast, Variant, WhatIf, _slug, parse, title
from workbench.model import Model
from workbench.passes.casting import Lists
from workbench.plan import Layer, Plan, PlanTensor
from workbench.precision.audit_changes import changes
from workbench.precision.calibration_cache import TensorRTCache
from workbench.precision.error_figures import errors as figures_of
from workbench.precision.histogram import Histogram
from workbench.precision.mixed import _budget
from workbench.precision.samples import data_of, read_labels
from workbench.precision.scheme import Scheme
from workbench.present import wire
from workbench.present.lens import Lens

DATA = {"x": np.random.default_rng(0).standard_normal((16, 8, 8, 8)).astype(np.float32)}


def kernel(name: str, nodes: str, size: int) -> Layer:
    return Layer(
        id=name, name=name, title=name, type="kgen", kind="pointwise", nodes=tuple(nodes.split()), evidence="reported",
        inputs=(), outputs=(PlanTensor(f"{name}.out", (size,), "int8", bytes=size),), bytes_read=0, bytes_written=size,
    )  # fmt: skip


# --- where bytes went ---------------------------------------------------------------------------------


def test_layers_of_common_nodes_belong_together_however_each_plan_fused() -> None:
    low = plan(kernel("q", "quantize", 5), kernel("a", "n1 n2", 30), kernel("b", "n3", 10), kernel("c", "n4", 7))
    wide = plan(kernel("A", "n1", 10), kernel("B", "n2 n3", 12), kernel("C", "n4 n5", 20), kernel("D", "cast", 3))
    found = changes(low, wide)
    assert [(c.layers, c.low, c.wide, c.more) for c in found] == [
        (("a", "b"), 40, 22, 18), (("q",), 5, 0, 5), ((), 0, 3, -3), (("c",), 7, 20, -13),
    ]  # fmt: skip
    assert set(found[0].nodes) == {"n1", "n2", "n3"}
    assert found[0].title == "a"
    assert found[1].nodes == ()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_launch_is_in_one_part_and_the_parts_sum_up(data: st.DataObject) -> None:
    names = [f"n{i}" for i in range(8)]

    def some(prefix: str) -> Plan:
        count = data.draw(st.integers(1, 6))
        draw = lambda: " ".join(data.draw(st.lists(st.sampled_from(names), max_size=3, unique=True)))  # noqa: E731
        return plan(*(kernel(f"{prefix}{i}", draw(), data.draw(st.integers(1, 99))) for i in range(count)))

    low, wide = some("l"), some("w")
    found = changes(low, wide)
    ids = [i for c in found for i in c.layers]
    assert sorted(ids) == sorted(la.id for la in low.layers)
    assert sum(c.more for c in found) == sum(la.bytes or 0 for la in low.layers) - sum(
        la.bytes or 0 for la in wide.layers
    )
    assert [c.more for c in found] == sorted((c.more for c in found), reverse=True)


# --- what is asked ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("fp16", "fp16"), ("int8", "int8"), ({"to": "fp8", "method": "entropy"}, "fp8, entropy"),
        ({"to": "int8", "placement": "onnxruntime", "rest": "fp32"}, "int8, placed by ONNX Runtime, rest fp32"),
        ({"to": "fp8", "placement": "modelopt", "rest": "fp32"}, "fp8, placed by ModelOpt, rest fp32"),
        ({"to": "int4", "block": 64}, "int4, blocks of 64"), ({"to": "bf16"}, "bf16"),
        ({"to": "fp16", "keep_ops": "Softmax", "keep_io": False}, "fp16, without Softmax, inputs and outputs too"),
        ({"to": "int8", "method": "percentile", "percentile": 99.9, "keep": ["a", "b"]}, "int8, percentile 99.9, without a, b"),
    ],
)  # fmt: skip
def test_titles_say_what_differs_from_the_defaults(asked: object, words: str) -> None:
    assert title(parse(asked)) == words  # type: ignore[arg-type]


def test_variants_that_keep_other_nodes_have_other_titles() -> None:
    kept = [["a"], ["b"], ["a", "b", "c"], ["a", "b", "d"], []]
    titles = {title(parse({"to": to, "keep": names})) for names in kept for to in ("int8", "fp16")}
    assert len(titles) == 10
    assert any(text.startswith("int8, without a, b and 1 more (") for text in titles)


def test_what_is_asked_is_read_or_refused_by_name() -> None:
    assert parse({"to": "fp16", "keep": ["a"]}) == Cast("fp16", Lists(keep=("a",)))
    assert parse(Scheme(to="int8")) == parse("int8")
    with pytest.raises(ConfigError, match="no precision 'int3'"):
        parse("int3")
    with pytest.raises(ConfigError, match="no option 'method'"):
        parse({"to": "fp16", "method": "entropy"})
    with pytest.raises(ConfigError, match="ONNX Runtime's own placement"):
        parse({"to": "fp8", "placement": "onnxruntime"})
    with pytest.raises(ConfigError, match="was not tried"):
        WhatIf("m", "sm89", ())["int8"]


# --- lists of a cast ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wide"),
    [
        ({}, set()), ({"keep": "conv*"}, {"conv1", "conv2"}), ({"keep_ops": ["Gemm"]}, {"fc"}),
        ({"only_ops": "Conv"}, {"relu1", "add", "relu2", "pool", "flat", "fc"}),
        ({"only": ["fc", "conv1"], "keep": "fc"}, {"relu1", "conv2", "add", "relu2", "pool", "flat", "fc"}),
        ({"keep_io": False}, set()), ({"keep_io": False, "keep": "fc"}, {"fc"}),
    ],
)  # fmt: skip
def test_lists_say_which_nodes_a_cast_leaves(options: dict, wide: set[str], session: Session, tmp_path: Path) -> None:
    import onnxruntime as ort

    exact = session.add(save(net(), tmp_path / "net.onnx"))
    low = session.precision.cast(exact, "fp16", **options)
    assert low.name == "net-fp16"
    made = onnx.shape_inference.infer_shapes(onnx.load(low.path), strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in (*made.graph.value_info, *made.graph.output)}
    names = {n.name for n in net().graph.node}
    assert {n.name for n in made.graph.node if n.name in names and types[n.output[0]] == TensorProto.FLOAT} == wide
    io = TensorProto.FLOAT if options.get("keep_io", True) else TensorProto.FLOAT16
    assert [v.type.tensor_type.elem_type for v in (*made.graph.input, *made.graph.output)] == [io, io]
    x = DATA["x"][:1]
    want = ort.InferenceSession(str(exact.path)).run(None, {"x": x})[0]
    given = x if io == TensorProto.FLOAT else x.astype(np.float16)
    got = ort.InferenceSession(str(low.path)).run(None, {"x": given})[0]
    assert np.abs(got.astype(np.float32) - want).max() <= 2e-3 * np.abs(want).max()
    assert session.precision.cast(exact, "fp16", **options).path == low.path  # kept


def test_a_list_that_names_nothing_is_refused(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    with pytest.raises(ModelError, match=r"No node of net matches 'convx\*'"):
        session.precision.cast(exact, keep="convx*")
    with pytest.raises(ModelError, match="no operation 'Softmax'"):
        session.precision.cast(exact, keep_ops=["Softmax"])
    with pytest.raises(ConfigError, match="fp16 or bf16"):
        session.precision.cast(exact, "int8")


# --- data ---------------------------------------------------------------------------------------------


def test_labels_are_read_or_refused(tmp_path: Path, session: Session) -> None:
    np.save(tmp_path / "labels.npy", np.array([3, 1, 2]))
    assert read_labels(str(tmp_path / "labels.npy")) == read_labels(np.array([3, 1, 2])) == [3, 1, 2]
    assert read_labels(None) is read_labels(" ") is None
    for bad in (np.array([0.5]), np.zeros((2, 2), int)):
        with pytest.raises(CalibrationError, match="one integer for each sample"):
            read_labels(bad)
    with pytest.raises(CalibrationError, match="There is no file"):
        read_labels(str(tmp_path / "none.npy"))
    model = session.add(save(net(), tmp_path / "net.onnx"))
    with pytest.raises(CalibrationError, match="does not come with data"):
        data_of(model, session.store, "sample")
    assert data_of(model, session.store, "random:8").test == "random:8"
    assert data_of(model, session.store, "random:8", "t.npy").test == "t.npy"


def test_what_lies_beyond_a_range_is_counted() -> None:
    values = np.abs(np.random.default_rng(1).standard_normal(50_000)).astype(np.float32)
    made = Histogram()
    made.observe(values)
    for end in (0.5, 1.0, 2.5):
        assert made.beyond(end) == pytest.approx(float((values > end).mean()), abs=2e-3)
    assert made.beyond(made.amax) == 0
    assert Histogram().beyond(1.0) == 0


def test_a_calibration_by_itself_is_that_of_quantize(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    found = session.precision.calibrate(exact, DATA)
    assert list(found.tensors) == ["x", "r1", "f"]
    assert found.tensors["x"].amax == pytest.approx(float(np.abs(DATA["x"]).max()))
    low = session.precision.quantize(exact, DATA)
    name = low.origin["calibration"]
    kept = list((session.store.path / "calibrations").glob("*.json"))
    assert [f.stem for f in kept] == [name]  # one cache for both
    assert session.models.original(low).path == exact.path
    again = session.precision.requantize("net-int8", keep=["conv1"])
    assert again.name == "net-int8-mixed"
    assert set(again.origin["quantized"]) == set(low.origin["quantized"]) - {"conv1"}
    assert again.origin["ranges"]["f"] == low.origin["ranges"]["f"]
    with pytest.raises(ConfigError, match="no ranges"):
        session.precision.calibrate(exact, DATA, to="int4")
    with pytest.raises(ModelError, match="quantized already"):
        session.precision.calibrate(low, DATA)
    with pytest.raises(ModelError, match="was not made by"):
        session.models.original(exact)
    session.models.remove("net")
    with pytest.raises(ModelError, match="not in session"):
        session.models.original("net-int8")


@pytest.mark.slow
def test_requantize_needs_no_calibration_that_is_gone(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    low = session.precision.quantize(exact, DATA)
    whole = session.precision.requantize(low, keep=["conv1"])
    for file in (session.store.path / "calibrations").glob("*.json"):
        file.unlink()
    again = session.precision.requantize(low, keep=["conv1"], name="again")
    assert again.origin["ranges"] == whole.origin["ranges"]
    assert again.origin["quantized"] == whole.origin["quantized"]
    weights = [stored(model) for model in (whole, again)]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert session.precision.requantize(again, keep=["fc"]).origin["quantized"] == ["conv2"]  # and of that once more
    with pytest.raises(CalibrationError, match="only the ranges by entropy") as info:
        session.precision.requantize(low, keep=["conv1"], method="minmax")
    assert "give data" in str(info.value.hint)
    silent = replace(low, origin={**low.origin, "ranges": {}})
    with pytest.raises(CalibrationError, match="does not record its ranges") as info:
        session.precision.requantize(silent, keep=["conv1"])
    assert "session.precision.quantize(model, data" in str(info.value.hint)


def test_requantize_takes_the_ranges_that_tensorrts_own_cache_gave(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    cache = TensorRTCache.of(session.precision.calibrate(exact, DATA)).save(tmp_path / "entropy.cache")
    low = session.precision.quantize(exact, cache)
    again = session.precision.requantize(low, keep=["conv1"])
    assert again.origin["quantized"] == ["conv2", "fc"]
    assert again.origin["ranges"] == {name: low.origin["ranges"][name] for name in again.origin["ranges"]}


def stored(model: Model) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(model.path).graph.initializer}


# --- errors in the map --------------------------------------------------------------------------------


def test_errors_flow_into_map_table_and_details() -> None:
    made = plan(layer("conv1", "correlation", "int8", "float16"), layer("conv2", "correlation", "int8", "float16"))
    made = replace(made, summary={"launches_after": 2})
    assert all(o["name"] != "error" for o in wire.plan_data(Lens(made))["overlays"])
    assert all(c["name"] != "error" for c in wire.layer_table(Lens(made))["columns"])
    errors = {"tensors": {"conv1.out0": 0.0123, "elsewhere": 1.0}, "samples": 7, "source": "x"}
    lens = Lens(made, errors=errors)
    overlay = next(o for o in wire.plan_data(lens)["overlays"] if o["name"] == "error")
    assert overlay["values"] == [1.23, None]
    assert (overlay["unit"], overlay["source"], overlay["aggregate"]) == ("%", "measured", "max")
    table = wire.layer_table(lens)
    place = next(i for i, c in enumerate(table["columns"]) if c["name"] == "error")
    assert table["rows"][place] == [1.23, None]
    facts = wire.details(lens, "layer", "conv1")["sections"][0]["rows"]
    fact = next(f for f in facts if f["name"] == "Error against FP32")
    assert (fact["value"], fact["unit"], fact["source"]) == (1.23, "%", "measured")
    assert "7 samples" in fact["note"]


def test_measured_errors_are_those_of_the_outputs(session: Session, tmp_path: Path) -> None:
    """What the map gets for the output is the error of the outputs, worked out here from the files."""
    import onnxruntime as ort

    exact = session.add(save(net(), tmp_path / "net.onnx"))
    low = session.precision.quantize(exact, DATA, rest="fp32")
    engine = session.build(low, compiler="fake")
    assert engine.errors is None
    heard: list[str] = []
    stop = session.events.subscribe(lambda e: heard.append(e.kind))
    found = session.precision.accuracy(engine, DATA)
    stop()
    assert "errors-added" in heard
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    runs = [ort.InferenceSession(str(m.path), options) for m in (exact, low)]
    want, got = (np.concatenate([r.run(None, {"x": x[None]})[0] for x in DATA["x"]]) for r in runs)
    error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    assert found.models["net-int8"]["relative_l2"] == pytest.approx(error, rel=1e-4)
    assert engine.errors is not None
    assert engine.errors["tensors"]["y"] == pytest.approx(error, rel=1e-4)
    lens = Lens.of(engine)
    assert lens.node_error("fc") == pytest.approx(error, rel=1e-4)
    overlays = {o["name"] for o in wire.graph_data(lens)["overlays"]}
    assert "error" in overlays


@pytest.mark.parametrize(
    ("budget", "metric", "said"),
    [
        (float("nan"), "relative_l2", "not nan"), (-0.1, "top1", "not -0.1"), ("much", "relative_l2", "not 'much'"),
        (float("inf"), "relative_l2", "not inf"), (98, "top1", "not 98"), (None, "relative_l2", "not None"),
    ],
)  # fmt: skip
def test_a_budget_that_nothing_meets_is_refused(budget: Any, metric: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        _budget(budget, metric)
    assert error.value.hint
    assert _budget("0.5", metric) == 0.5


def test_one_node_may_be_kept_by_its_name(session: Session, tmp_path: Path) -> None:
    low = session.precision.quantize(save(net(), tmp_path / "net.onnx"), DATA)
    again = session.precision.requantize(low, keep="conv1")
    assert set(again.origin["quantized"]) == set(low.origin["quantized"]) - {"conv1"}


def test_one_precision_may_be_asked_for_alone(session: Session, tmp_path: Path) -> None:
    model = save(net(), tmp_path / "net.onnx")
    for asked in ("int4", {"to": "int4"}, Scheme(to="int4")):
        with pytest.raises(ConfigError) as info:
            raise session.precision.what_if(model, asked, target="smx", errors=False)["int4"].problem or AssertionError
        assert info.value.code == "unknown-target"
    with pytest.raises(ConfigError, match="no precision 'int9'"):
        session.precision.what_if(model, "int9")


def test_variants_of_other_patterns_have_models_of_other_names() -> None:
    names = [_slug(title(Scheme(keep=keep))) for keep in ("conv1*", "conv1?", "conv1-", "conv1")]
    assert len(set(names)) == 4
    assert names[3] == "int8-without-conv1"
    assert _slug(title(Scheme(method="percentile", percentile=99.9))) == "int8-percentile-99.9"


def test_times_of_two_gpus_are_not_compared() -> None:
    def variant(to: str, ms: float, gpu: str) -> Variant:
        made = Variant(to, to, to, "m", SimpleNamespace(plan=plan(kernel("k", "n", 8))))  # type: ignore[arg-type]
        vars(made)["time"] = (ms, "measured", gpu)
        return made

    def told(*variants: Variant) -> str:
        return " ".join(WhatIf("m", "sm89", variants).warnings)

    assert "slower than fp16: 2 ms against 1 ms on A" in told(variant("fp16", 1, "A"), variant("int8", 2, "A"))
    assert "slower" not in told(variant("fp16", 1, "B"), variant("int8", 2, "A"))


def test_a_reference_that_is_nowhere_finite_gives_no_error_instead_of_none() -> None:
    nothing, values = np.full((2, 3), np.nan), np.ones((2, 3))
    found = figures_of({"y": [values]}, {"y": [nothing]})
    assert (found["relative_l2"], found["max_abs"], found["snr_db"]) == (None, None, None)
    some = np.where([[True, False, False]], np.nan, values)
    assert figures_of({"y": [values]}, {"y": [some]})["relative_l2"] == 0.0
    empty = figures_of({"y": [values[:0]]}, {"y": [values[:0]]})
    assert (empty["relative_l2"], empty.get("top1")) == (0.0, None)
