"""The precision, calibration and sensitivity panels, without a browser: what is pressed, shown, refused and repeated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support import needs_rtx, wait_for
from tests.support.small_models import model, net, node, save, value, weights
from workbench import Session
from workbench.core.errors import CancelledError, WorkbenchError
from workbench.core.events import Selection
from workbench.core.jobs import Job
from workbench.panels.work import Work
from workbench.precision.calibration import Calibration

RNG = np.random.default_rng(0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.save(tmp_path / "data.npy", RNG.standard_normal((16, 8, 8, 8)).astype(np.float32))
    return tmp_path / "data.npy"


@pytest.fixture
def small(session: Session, tmp_path: Path) -> Session:
    session.add(save(net(), tmp_path / "net.onnx"))
    return session


def rows(view: Any) -> list[list[Any]]:
    """What the browser gets, row by row."""
    import gzip

    table = json.loads(gzip.decompress(view.data))

    def column(values: Any) -> list[Any]:
        return [values["dict"][c] for c in values["code"]] if isinstance(values, dict) else values

    return [list(row) for row in zip(*map(column, table["rows"]), strict=True)]


def pick(view: Any, *ids: str) -> None:
    """As a reader's click in the table."""
    view.selection = {"ids": list(ids), "origin": "table-1", "kind": "layer"}


def press(panel: Any, name: str) -> None:
    getattr(panel, name).click()
    panel.work.wait()


# --- precision ----------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_rtx
def test_compare_shows_every_precision_and_links_rows_to_the_session(small: Session, data: Path) -> None:
    panel = small.panel("precision")
    assert panel.models.value == "net"
    panel.data.calibration.value = str(data)
    assert panel.schemes() == ["fp32", "fp16", "int8"]
    press(panel, "compare")
    assert panel.error == ""
    assert "3 built" in panel.work.status.value
    table = rows(panel.table)
    assert [row[0] for row in table] == ["fp32", "fp16", "int8"]
    engines = {v.name: v.engine for v in panel._found.variants}
    assert [row[1] for row in table] == [sum(la.launches for la in engines[row[0]].plan.layers) for row in table]
    assert small.engines.current.key == engines["int8"].key
    assert "net-int8" in small.models
    assert "16 samples" in panel._basis.value
    assert "estimated for" in panel._basis.value

    # A row chosen: the engine is the session's; an engine chosen elsewhere: its row.
    pick(panel.table, "fp16")
    assert small.engines.current.key == engines["fp16"].key
    small.engines.current = engines["fp32"]
    assert panel._chosen == "fp32"
    assert panel.table.selection["ids"] == ["fp32"]
    pick(panel.table, "int8")
    assert "What the layers got: int8" in panel._audit.children[0].value

    # More are added behind; the same again replaces its row.
    panel.wanted["fp32"].value = panel.wanted["fp16"].value = False
    panel.options["weights"].value = "tensor"
    assert panel.schemes() == [{"to": "int8", "weights": "tensor"}]
    press(panel, "compare")
    assert [row[0] for row in rows(panel.table)] == ["fp32", "int8", "fp16", "int8, one scale"]
    press(panel, "clear")
    panel.clear.click()
    assert panel._found is None
    assert panel._place.children[0].value.startswith("<div class='wbp-empty'>")


@needs_rtx
def test_modelopt_is_on_offer_and_says_how_to_get_it(small: Session, data: Path) -> None:
    panel = small.panel("precision")
    panel.data.calibration.value = str(data)
    panel.options["placement"].value = "modelopt"
    panel.options["weights"].value = "tensor"  # ModelOpt has one way only
    panel.wanted["fp32"].value = False
    assert panel.schemes() == ["fp16", {"to": "int8", "placement": "modelopt"}]
    press(panel, "compare")
    assert "1 built, 1 failed" in re.sub("<.*?>", "", panel.work.status.value)
    assert "int8, placed by ModelOpt" in panel._warnings.value
    assert "workbench env create modelopt" in panel._warnings.value


@pytest.mark.slow
@needs_rtx
def test_the_code_of_a_comparison_repeats_it(small: Session, data: Path) -> None:
    panel = small.panel("precision")
    panel.data.calibration.value = str(data)
    press(panel, "compare")
    place: dict[str, Any] = {}
    exec(panel.code, place)
    assert [v.name for v in place["found"].variants] == [v.name for v in panel._found.variants]
    assert place["found"].to_frame().equals(panel._found.to_frame())


@pytest.mark.slow
@needs_rtx
def test_placements_side_by_side_and_what_eats_the_gain(small: Session, data: Path) -> None:
    panel = small.panel("precision")
    panel.data.calibration.value = str(data)
    press(panel, "placements")
    names = ["fp16", "int8", "int8, placed by ONNX Runtime, rest fp32"]
    assert [row[0] for row in rows(panel.table)] == names
    assert "kernels that requantize twice" in panel._figures.value
    assert all(name in panel._figures.value for name in names)
    assert "placed by ONNX Runtime, rest fp32 moves" in panel._warnings.value
    assert "may be slower" in panel._warnings.value
    variant = panel._variant()
    assert variant.name == names[2]
    losses = panel._found.losses(variant.name)
    assert [row[5] for row in rows(panel._audit.losses)] == [c.more for c in losses]
    pick(panel._audit.losses, "0")
    assert small.selection == Selection("layer", losses[0].layers, small.selection.origin)
    # Words of a finding select its layers as well.
    links = [c for c in panel._audit.children if getattr(c, "tooltip", "") == "Select in every view"]
    finding = variant.audit.findings[0]
    links[0].click()
    assert small.selection.ids == finding.layers


@pytest.mark.slow
@needs_rtx
def test_errors_along_the_graph_colour_the_map(small: Session, data: Path) -> None:
    fusions = small.panel("fusions")
    panel = small.panel("precision")
    panel.data.calibration.value = str(data)
    press(panel, "compare")
    assert fusions._lens.errors is None
    pick(panel.table, "int8")
    press(panel, "along")
    assert "tensors measured" in panel.work.status.value
    assert panel.error == ""
    assert wait_for(lambda: fusions._lens.errors is not None, 5)
    assert fusions._lens.errors["samples"] == 16


@pytest.mark.slow
@needs_rtx
def test_a_session_without_an_fp16_row_gets_one(small: Session, data: Path) -> None:
    panel = small.panel("precision")
    panel.data.calibration.value = str(data)
    for name in ("fp32", "fp16"):
        panel.wanted[name].value = False
    press(panel, "compare")
    assert [row[0] for row in rows(panel.table)] == ["fp16", "int8"]


def test_what_leaves_fp16s_range_is_named_and_can_be_kept(session: Session, tmp_path: Path) -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["big"], "grow"), node("Relu", ["big"], ["y"], "act")],
        [value("x", [4, 8])], [value("y", [4, 8])], [weights("w", 8, 8, scale=15000.0)],
    )  # fmt: skip
    session.add(save(proto, tmp_path / "big.onnx"))
    panel = session.panel("precision")
    panel.data.calibration.value = "random:8"
    press(panel, "check")
    assert "2 tensors" in panel.work.status.value
    links = panel._range.children
    assert "grow" in links[1].description
    links[1].click()
    assert session.selection.ids == ("grow",)
    assert session.selection.kind == "node"
    links[-1].click()
    assert panel.options["keep"].value == "grow act"
    assert {"to": "fp16", "keep": ["grow", "act"]} in panel.schemes()


@pytest.mark.slow
@needs_rtx
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("quantized", "quantized already"), ("empty", "contains no batch"), ("constant", "is constant"), ("nan", "NaN"),
        ("few", "at least 8 are needed"), ("shape", "has shape"), ("dynamic", "has dynamic axes"),
        ("cache", "made from another model"), ("opset", "opset"), ("nothing", "Nothing in this model can be quantized"),
    ],
)  # fmt: skip
def test_bad_input_is_said_in_the_panel(case: str, said: str, session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    good = RNG.standard_normal((16, 8, 8, 8)).astype(np.float32)
    file = tmp_path / "data.npy"
    arrays = {
        "empty": good[:0],
        "constant": np.ones_like(good),
        "few": good[:3],
        "shape": good[:, :, :4],
        "nan": good.copy(),
    }
    arrays["nan"][0, 0, 0, 0] = np.nan
    np.save(file, arrays.get(case, good))
    name, given = "net", str(file)
    if case == "quantized":
        session.precision.quantize(exact, "random:8", name="low")
        name = "low"
    elif case == "dynamic":
        proto = model(
            [node("MatMul", ["x", "w"], ["y"], "mm")],
            [value("x", [1, "length", 8])],
            [value("y", None)],
            [weights("w", 8, 8)],
        )
        name, given = session.add(save(proto, tmp_path / "dynamic.onnx")).name, "random:8"
    elif case == "cache":
        other = net()
        other.graph.initializer[0].CopyFrom(weights("w1", 8, 8, 3, 3, seed=9))
        calibration = session.precision.calibrate(session.add(save(other, tmp_path / "other.onnx")), "random:8")
        given = str(calibration.save(tmp_path / "ranges.json"))
    elif case == "opset":
        # Upsample went away with opset 10, and ONNX can't bring it further.
        proto = model([node("Upsample", ["x", "s"], ["u"], "up", mode="linear"), node("Conv", ["u", "w"], ["y"], "c")],
                      [value("x", [1, 1, 4, 4])], [value("y", None)],
                      [onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s"), weights("w", 1, 1, 3, 3)],
                      opset=9, infer=False)  # fmt: skip
        name, given = session.add(save(proto, tmp_path / "old.onnx")).name, "random:8"
    elif case == "nothing":
        proto = model([node("Relu", ["x"], ["y"], "act")], [value("x", [4, 8])], [value("y", [4, 8])])
        name, given = session.add(save(proto, tmp_path / "nothing.onnx")).name, "random:8"
    panel = session.panel("precision")
    panel.models.value = name
    panel.data.calibration.value = given
    panel._shapes.value = ""
    panel.wanted["fp32"].value = panel.wanted["fp16"].value = False
    press(panel, "compare")
    text = panel._warnings.value + panel.error
    assert said in text
    assert "wbp-error" in text
    int8 = panel._found["int8"]
    assert int8.engine is None
    assert int8.problem.hint
    if case not in {"dynamic", "opset"}:
        assert panel._found["fp16"].engine is not None  # the others go on


@pytest.mark.slow
@needs_rtx
def test_what_the_scheme_can_not_take_is_listed(session: Session, tmp_path: Path) -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["a"], "weighted"), node("MatMul", ["a", "x"], ["y"], "product")],
        [value("x", [8, 8])], [value("y", [8, 8])], [weights("w", 8, 8)],
    )  # fmt: skip
    session.add(save(proto, tmp_path / "products.onnx"))
    panel = session.panel("precision")
    panel.data.calibration.value = "random:8"
    press(panel, "compare")
    pick(panel.table, "int8")
    left = [c for c in panel._audit.children if "left in higher precision" in getattr(c, "description", "")]
    assert len(left) == 1
    assert "product" in left[0].description
    left[0].click()
    assert session.selection.ids == ("product",)


# --- calibration --------------------------------------------------------------------------------------


def test_calibration_shows_saves_loads_and_compares(small: Session, data: Path, tmp_path: Path) -> None:
    panel = small.panel("calibration")
    panel.data.calibration.value = str(data)
    assert panel.save.disabled
    press(panel, "run")
    assert panel.error == ""
    found = panel.calibration
    table = rows(panel.table)
    assert [row[0] for row in table] == list(found.tensors) == ["x", "r1", "f"]
    values = np.load(data)
    assert table[0][6] == pytest.approx(float(values.max()), rel=1e-3)
    assert panel.table.selection == {"ids": ["x"], "origin": "session", "kind": "node"}  # the table's own kind
    entropy = found.tensors["x"].range("entropy")
    assert table[0][1] == pytest.approx(entropy, rel=1e-3)
    assert table[0][4] == pytest.approx(100 * float((np.abs(values) > entropy).mean()), abs=0.05)
    pick(panel.table, "r1")
    assert small.selection.kind == "node"
    assert small.selection.ids == ("relu1",)
    title = panel._chart.outputs[0]["data"]["application/vnd.plotly.v1+json"]["layout"]["title"]["text"]
    assert title == "Magnitudes of r1"
    pick(panel.table, "x")  # an input: the node that reads it
    assert small.selection.ids == ("conv1",)
    panel.method.value = "minmax"
    assert all(row[4] == 0 for row in rows(panel.table))

    panel.save.click()
    assert "No file is named" in panel.error
    panel.file.value = str(tmp_path / "ranges.json")
    panel.save.click()
    assert panel.error == ""
    assert list(Calibration.load(tmp_path / "ranges.json").tensors) == ["x", "r1", "f"]
    # Other data, and the caches beside each other.
    np.save(data, 3 * np.load(data))
    press(panel, "run")
    panel.compare.click()
    assert panel.error == ""
    assert [row[3] for row in rows(panel.compared)] == sorted(
        (row[3] for row in rows(panel.compared)), key=lambda r: -abs(r - 1)
    )
    assert next(row for row in rows(panel.compared) if row[0] == "x")[3] == pytest.approx(1 / 3, rel=1e-3)
    panel.load.click()
    assert panel.error == ""
    assert panel.calibration.tensors["x"].amax == pytest.approx(float(np.abs(values).max()))
    place: dict[str, Any] = {}
    exec(panel.code, place)
    assert list(place["calibration"].tensors) == ["x", "r1", "f"]
    # What is done with it next is told with where it came from.
    for button in (panel.save, panel.compare, panel.save):
        button.click()
        assert panel.error == ""
        exec(panel.code, place := {})
        assert list(place["calibration"].tensors) == ["x", "r1", "f"]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 8, 8, 8), np.float32), "contains no batch"), (np.ones((16, 8, 8, 8), np.float32), "is constant"),
        (np.full((16, 8, 8, 8), np.nan, np.float32), "NaN"), (RNG.standard_normal((3, 8, 8, 8)).astype(np.float32), "at least 8"),
        (RNG.standard_normal((16, 8, 8, 7)).astype(np.float32), "has shape"), (np.arange(16 * 512).reshape(16, 8, 8, 8), "int64"),
    ],
)  # fmt: skip
def test_bad_batches_are_refused_with_the_reason(array: np.ndarray, said: str, small: Session, tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", array)
    panel = small.panel("calibration")
    panel.data.calibration.value = str(tmp_path / "bad.npy")
    press(panel, "run")
    assert said in panel.error
    assert "Failed" in panel.work.status.value
    assert panel.calibration is None
    assert not panel.run.disabled


def test_a_cache_of_another_model_is_refused(small: Session, tmp_path: Path) -> None:
    other = net()
    other.graph.initializer[0].CopyFrom(weights("w1", 8, 8, 3, 3, seed=9))
    found = small.precision.calibrate(small.add(save(other, tmp_path / "other.onnx")), "random:8")
    found.save(tmp_path / "ranges.json")
    panel = small.panel("calibration")
    panel.models.value = "net"
    panel.file.value = str(tmp_path / "ranges.json")
    panel.load.click()
    assert "made from another model" in panel.error
    (tmp_path / "ranges.json").write_text("{}")
    panel.load.click()
    assert "is not a calibration cache" in panel.error
    assert panel.calibration is None


@pytest.mark.slow
def test_thousands_of_tensors(small: Session) -> None:
    from workbench.panels.calibration import tensor_rows
    from workbench.precision.histogram import Histogram

    made = Histogram()
    made.observe(RNG.standard_normal(1000).astype(np.float32))
    many = Calibration(
        "m", {"source": "x", "samples": 1, "batches": 1, "digest": ""}, {f"t{i}": made for i in range(3000)}
    )
    table = tensor_rows(many, "percentile", 99.0)
    assert len(table["id"]) == 3000


# --- sensitivity --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sensitivity_ranks_finds_a_mix_and_makes_it(small: Session, data: Path) -> None:
    panel = small.panel("sensitivity")
    assert "No quantized model yet" in panel._place.children[0].value
    low = small.precision.quantize("net", str(data), method="minmax", weights="tensor")
    assert wait_for(lambda: panel.models.value == low.name, 5)
    panel.data.test.value = str(data)
    press(panel, "rank")
    assert panel.error == ""
    table = rows(panel.table)
    assert [row[0] for row in table] == [1, 2, 3]
    assert {row[1] for row in table} == {"conv1", "conv2", "fc"}
    errors = [row[3] for row in table]
    assert errors == sorted(errors, reverse=True)
    pick(panel.table, table[0][1])
    assert small.selection.ids == (table[0][1],)

    whole = small.precision.accuracy(low, str(data), along=False).models[low.name]["relative_l2"]
    panel.budget.value = round(70 * whole, 3)  # percent: less than the error of quantizing all
    press(panel, "mix")
    assert panel.error == ""
    assert panel.mixed.met
    assert 0 < len(panel.mixed.keep) < 3
    assert panel.mixed.value * 100 <= panel.budget.value
    assert not panel.make.disabled
    assert panel.table.selection["ids"] == list(panel.mixed.keep)
    drawn = panel._curve.outputs[0]["data"]["application/vnd.plotly.v1+json"]["data"]
    assert [trace["name"] for trace in drawn] == ["tried", "budget", "chosen"]
    press(panel, "make")
    made = small.models[f"{low.name}-mixed"]
    assert set(made.origin["quantized"]) == {"conv1", "conv2", "fc"} - set(panel.mixed.keep)
    assert f"session.precision.requantize({low.name!r}, keep=found.keep)" in panel.code
    found = small.precision.accuracy(made, str(data), along=False).models[made.name]["relative_l2"]
    assert found < whole
    place: dict[str, Any] = {}
    exec(panel.code, place)
    assert place["mix"].path == made.path


def test_a_budget_that_needs_labels_says_so(small: Session, data: Path, tmp_path: Path) -> None:
    small.precision.quantize("net", str(data))
    panel = small.panel("sensitivity")
    panel.data.test.value = str(data)
    panel.metric.value = "accuracy"
    assert panel.budget.value == 98.5
    press(panel, "mix")
    assert "needs labels" in panel.error
    np.save(tmp_path / "labels.npy", np.zeros(4, int))
    panel.data.labels.value = str(tmp_path / "labels.npy")
    press(panel, "mix")
    assert "4 labels for 16 samples" in panel.error


# --- work ---------------------------------------------------------------------------------------------


def test_cancel_ends_the_worker_and_is_no_error(small: Session) -> None:
    panel = small.panel("calibration")
    jobs: list[Job] = []

    def work() -> str:
        job = Job("tests.support.worker_tasks:hang", {}, title="a long one")
        jobs.append(job)
        panel.work.watch(job)
        job.result()
        return "never"

    panel.work.run(work, "begun")
    assert wait_for(lambda: jobs, 10)
    assert panel.run.disabled
    assert panel.models.disabled  # the result will be shown under it
    panel.work.cancel.click()
    panel.work.wait(20)
    assert jobs[0].status == "cancelled"
    assert not panel.models.disabled
    assert "Canceled" in panel.work.status.value
    assert panel.error == ""
    assert not panel.run.disabled
    assert panel.work.cancel.disabled


def test_cancel_between_two_jobs_ends_the_second(small: Session) -> None:
    panel = small.panel("calibration")
    work: Work = panel.work
    work.stop()
    job = Job("tests.support.worker_tasks:hang", {})
    work.watch(job)
    with pytest.raises(CancelledError):
        job.result(10)


def test_an_error_that_is_not_finite_is_shown_as_such() -> None:
    from workbench.charts.precision import mixture, sensitivities
    from workbench.panels.sensitivity import layer_rows
    from workbench.precision.mixed import Mixed
    from workbench.precision.sensitivity import Sensitivity

    found = Sensitivity(
        (
            {"node": "a", "op": "Conv", "relative_l2": float("inf"), "snr_db": float("-inf"), "not_finite": 3.0, "top1": 0.0},
            {"node": "b", "op": "Conv", "relative_l2": 0.02, "snr_db": 34.0, "not_finite": 0.0, "top1": 1.0},
            {"node": "c", "op": "Conv", "relative_l2": None, "snr_db": None, "not_finite": 0.0, "top1": 1.0},
        ),
        8,
    )  # fmt: skip
    table = layer_rows(found)
    cells = {head["name"]: values for head, values in zip(table["columns"], table["rows"], strict=True)}
    assert cells["not_finite"] == [3, 0, 0]
    assert cells["error"] == [None, 2, None]
    json.dumps(table, allow_nan=False)
    drawn = sensitivities(found)
    assert list(drawn.data[0].x) == [2, 2, 2]
    said = [text for _, _, text in drawn.data[0].customdata]
    assert said == ["not finite", "2 %", "no number"]
    mix = Mixed(("a",), 0.02, True, ({"kept": 0, "value": float("inf")}, {"kept": 1, "value": 0.02}), "relative_l2")
    assert "Infinity" not in mixture(mix, 3, 0.05).to_json()


def test_names_of_nodes_are_no_markup_in_a_mix(small: Session, data: Path) -> None:
    from workbench.precision.mixed import Mixed
    from workbench.precision.sensitivity import Sensitivity

    small.precision.quantize("net", str(data), name="low")
    panel = small.panel("sensitivity")
    layer = {"node": "<b>a", "op": "Conv", "relative_l2": 0.1, "snr_db": 20.0, "not_finite": 0.0, "top1": 1.0}
    panel._show(Sensitivity((layer,), 8))
    panel._show_mixed(Mixed(("<b>a",), 0.02, True, ({"kept": 1, "value": 0.02},), "relative_l2"), 0.05)
    assert "&lt;b&gt;a" in panel._said.value
    assert "<b>a" not in panel._said.value


def test_shapes_are_those_of_the_model_that_is_chosen(session: Session, tmp_path: Path) -> None:
    def dynamic(name: str) -> None:
        proto = model(
            [node("MatMul", [name, "w"], ["y"], "mm")], [value(name, ["n", 8])], [value("y", ["n", 8])], [weights("w", 8, 8)]
        )  # fmt: skip
        session.add(save(proto, tmp_path / f"{name}.onnx"))

    dynamic("a")
    panel = session.panel("precision")
    assert panel._shapes.value == "a=1x8"
    panel._shapes.value = "a=4x8"
    dynamic("b")
    panel.models.value = "b"
    assert panel._shapes.value == "b=1x8"
    panel._shapes.value = "4x8"
    assert "is no shape" in panel.error
    panel._shapes.value = "b=4x8"
    assert panel.error == ""
    assert "shapes={'b': '4x8'}" in panel.code


# --- another model meanwhile ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["calibration", "precision", "sensitivity"])
def test_while_something_runs_no_other_model_can_be_chosen(name: str, small: Session, data: Path) -> None:
    small.precision.quantize("net", str(data))
    panel = small.panel(name)
    jobs: list[Job] = []

    def work() -> str:
        job = Job("tests.support.worker_tasks:hang", {}, title="a long one")
        jobs.append(job)
        panel.work.watch(job)
        job.result()
        return "never"

    panel.work.run(work, "begun")
    assert wait_for(lambda: jobs, 10)
    assert panel.models.disabled
    with pytest.raises(WorkbenchError, match="busy"):
        panel.work.run(work, "again")
    panel.work.cancel.click()
    panel.work.wait(20)
    assert not panel.models.disabled
    assert len(jobs) == 1


def test_results_go_with_a_model_that_is_replaced(small: Session, data: Path, tmp_path: Path) -> None:
    small.precision.quantize("net", str(data))
    calibration, sensitivity = small.panel("calibration"), small.panel("sensitivity")
    calibration.data.calibration.value = sensitivity.data.test.value = str(data)
    press(calibration, "run")
    press(sensitivity, "rank")
    assert calibration.calibration is not None
    assert sensitivity.found is not None
    small.add(small.models["net"])  # the same once more: nothing is lost
    assert calibration.calibration is not None
    small.precision.quantize("net", str(data), method="minmax", weights="tensor")  # under the same name
    assert sensitivity.found is None
    other = net()
    other.graph.initializer[0].CopyFrom(weights("w1", 8, 8, 3, 3, seed=9))
    (tmp_path / "b").mkdir()
    small.add(save(other, tmp_path / "b" / "net.onnx"))
    assert calibration.models.value == "net"
    assert calibration.calibration is None


def test_the_code_of_saving_and_comparing_runs_after_loading(small: Session, data: Path, tmp_path: Path) -> None:
    small.precision.calibrate("net", str(data)).save(tmp_path / "first.json")
    panel = small.panel("calibration")
    panel.file.value = str(tmp_path / "first.json")
    panel.load.click()
    panel.data.limit.value = 3  # of the next calibration, not of what was loaded
    panel.file.value = str(tmp_path / "a<b>.json")
    panel.save.click()
    assert "&lt;b&gt;" in panel.work.status.value
    (tmp_path / "a<b>.json").unlink()
    exec(panel.code, {})
    assert (tmp_path / "a<b>.json").is_file()
    panel.method.value = "percentile"
    panel.percentile.value = 99.5
    panel.compare.click()
    assert panel.error == ""
    assert "calibration.compare(other, 'percentile', 99.5)" in panel.code
    exec(panel.code, {})


def test_shapes_are_those_of_the_model(session: Session, tmp_path: Path) -> None:
    from tests.support.small_models import chain, mlp

    session.add(save(chain(["r"]), tmp_path / "fixed.onnx"))
    session.add(save(mlp("N"), tmp_path / "first.onnx"))
    other = mlp("N")
    old = other.graph.input[0].name
    other.graph.input[0].name = "other"
    for one in other.graph.node:
        one.input[:] = ["other" if i == old else i for i in one.input]
    session.add(save(other, tmp_path / "second.onnx"))
    panel = session.panel("precision")
    panel.models.value = "first"
    assert panel._shapes.value.startswith(f"{old}=")
    panel._shapes.value = f"{old}=4x8"
    panel.models.value = "fixed"
    panel.models.value = "first"
    assert panel._shapes.value == f"{old}=4x8"
    panel.models.value = "second"
    assert panel._shapes.value.startswith("other=")


def test_a_mix_of_names_that_look_like_markup(small: Session) -> None:
    from workbench.precision.mixed import Mixed
    from workbench.precision.sensitivity import Sensitivity

    low = small.precision.quantize("net", "random:8")
    panel = small.panel("sensitivity")
    assert panel.models.value == low.name
    rows_of = ({"node": "<img src=x>", "op": "Conv", "relative_l2": 0.1, "snr_db": 20.0},)
    panel._show(Sensitivity(rows_of, 4))
    mixed = Mixed(
        keep=("<img src=x>",), metric="relative_l2", value=0.01, met=True, tried=({"kept": 1, "value": 0.01},)
    )
    panel._show_mixed(mixed, 0.02)
    assert "<img" not in panel._said.value
    assert "&lt;img" in panel._said.value


def test_times_of_two_kinds_are_told_apart_by_their_headings() -> None:
    from types import SimpleNamespace

    from workbench.panels.precision_rows import variant_rows

    def variant(name: str, source: str) -> Any:
        row = {"kernels": 3, "bytes": 100, "time_ms": 0.5, "time_source": source, "findings": 0}
        return SimpleNamespace(name=name, row=lambda: row)

    def heads(*sources: str) -> list[str]:
        found = SimpleNamespace(variants=[variant(str(i), s) for i, s in enumerate(sources)])
        return [c["label"] for c in variant_rows(found)["columns"] if c["name"].startswith("time")]

    assert heads("measured", "estimated") == ["Measured", "Estimated"]
    assert heads("estimated", "estimated") == ["Time"]


@pytest.mark.parametrize("name", ["block[0]/grow", "block 0, grow", "it's", "a \"b\" 'c\\d'"])
def test_any_name_can_be_kept(session: Session, tmp_path: Path, name: str) -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["big"], name)], [value("x", [4, 8])], [value("big", [4, 8])],
        [weights("w", 8, 8, scale=15000.0)],
    )  # fmt: skip
    session.add(save(proto, tmp_path / "big.onnx"))
    panel = session.panel("precision")
    panel.data.calibration.value = "random:8"
    press(panel, "check")
    panel._range.children[-1].click()
    (scheme,) = [s for s in panel.schemes() if isinstance(s, dict) and s["to"] == "fp16"]
    low = session.precision.cast("big", "fp16", keep=scheme["keep"])
    assert low.origin["kind"] == "cast"


def test_a_quote_that_is_not_closed_is_told_and_the_panel_goes_on(session: Session, tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"], ["y"], "act")], [value("x", [4, 8])], [value("y", [4, 8])])
    session.add(save(proto, tmp_path / "small.onnx"))
    panel = session.panel("precision")
    panel.options["keep"].value = "a 'b c"
    assert "A quote is not closed" in panel.error
    panel.options["keep"].value = "a 'b c', *d"
    assert not panel.error
    assert {"to": "fp16", "keep": ["a", "b c", "*d"]} in panel.schemes()
