"""What panels show after something changed: another model under a name, another engine, errors that are new."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import SAMPLES, wait_for
from tests.support.small_models import INT64, chain, constant, mlp, model, node, save, value
from tests.support.wire_format import ask
from workbench import Session
from workbench.core.errors import WorkbenchError
from workbench.core.units import bytes_text
from workbench.present.lens import Lens
from workbench.session.engines import Engines
from workbench.widgets import views


def test_the_code_of_a_model_is_that_of_the_one_shown(session: Session, tmp_path: Path) -> None:
    session.add(save(mlp(), tmp_path / "a.onnx"))
    session.add(save(chain(["r", "s"]), tmp_path / "b.onnx"))
    panel = session.panel("model")
    assert "session.models['b']" in panel.code
    panel.models.value = "a"
    assert "session.models['a']" in panel.code
    panel.source.value = str(tmp_path / "b.onnx")
    panel.button.click()
    panel.work.wait()
    assert "session.add(" in panel.code


def test_operations_that_are_not_known_are_not_none(session: Session, tmp_path: Path) -> None:
    session.add(save(mlp("N"), tmp_path / "open.onnx"))
    told = session.panel("model")._facts.value
    assert "<b>0 FLOP" not in told
    assert "<b>? FLOP</b>" in told
    session.add(save(mlp(2), tmp_path / "fixed.onnx"))
    assert "FLOP</b><span>operations</span>" in session.panel("model")._facts.value


def test_a_name_given_anew_shows_the_new_graph(session: Session, tmp_path: Path) -> None:
    session.add(SAMPLES / "attention.onnx", name="m")
    session.build("m", compiler="fake")
    panel = session.panel("graph")
    assert panel._graph.lens.compiled
    assert len(panel._graph.lens.graph.nodes) == 20
    session.add(save(mlp(), tmp_path / "other.onnx"), name="m")
    assert len(panel._graph.lens.graph.nodes) == len(session.models["m"].graph.nodes) == 3
    assert not panel._graph.lens.compiled


def test_the_graph_tells_of_the_engine_that_is_chosen(session: Session) -> None:
    session.add(SAMPLES / "attention.onnx", name="m")
    first = session.build("m", compiler="fake")
    session.build("m", compiler="fake", precision="fp16")
    panel = session.panel("graph")
    assert panel._graph.lens.plan.config["precision"] == "fp16"
    session.engines.current = first
    assert panel._graph.lens.plan.config.get("precision", "fp32") == "fp32"


def test_findings_select_in_the_engine_that_they_are_of(session: Session) -> None:
    session.add(SAMPLES / "attention.onnx", name="m")
    first = session.build("m", compiler="fake", precision="fp16")
    second = session.build("m", compiler="fake")
    panel = session.panel("checks")
    assert session.engines.current.key == second.key
    panel.subject.value = f"engine:{first.key}"
    finding = next(f for f in panel.found if f.layers)
    panel._select(finding)
    assert panel.error == ""
    assert session.engines.current.key == first.key
    assert session.selection.ids == finding.layers
    assert f"found[{finding.kind!r}]" in panel.code


def test_one_tab_fewer(session: Session, tmp_path: Path) -> None:
    path = save(mlp(), tmp_path / "gone.onnx")
    session.add(path)
    lost = session.build("gone", compiler="fake")
    session.add(SAMPLES / "attention.onnx", name="kept")
    session.build("kept", compiler="fake")
    path.unlink()
    panel = session.panel("fusions")
    panel._tabs.selected_index = 3
    assert panel._tabs.get_title(3) == "Charts"
    session.engines.current = lost
    assert "Only the plan can be shown" in panel.error
    assert "IndexError" not in panel.error
    assert panel._tabs.selected_index == 0
    assert len(panel._tabs.children) == 3


def test_an_engine_after_none_is_shown(built: Session) -> None:
    panel = built.panel("fusions")
    panel.show_engine(None)
    assert panel._tabs not in panel.body.children
    panel.show_engine(built.engines.current)
    assert panel._tabs in panel.body.children


def test_a_fault_in_details_is_answered(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> dict[str, Any]:
        raise KeyError("no such thing")

    monkeypatch.setattr(views.wire, "details", fails)
    view = views.DetailsView(None, lens)
    answer, _ = ask(view, {"type": "details", "request": 7, "kind": "layer", "id": lens.plan.layers[0].id})
    assert answer["request"] == 7
    assert "no such thing" in answer["error"]


def test_build_shapes_and_log_are_those_of_this_model(session: Session, tmp_path: Path) -> None:
    session.add(save(mlp("N"), tmp_path / "open.onnx"), name="m")
    panel = session.panel("build")
    assert panel._shape_fields
    (tmp_path / "b").mkdir()
    session.add(save(mlp(2), tmp_path / "b" / "fixed.onnx"), name="m")
    assert panel.model.value == "m"
    assert not panel._shape_fields
    assert "shapes=" not in panel.code


def test_a_small_engine_has_a_size(session: Session, tmp_path: Path) -> None:
    session.add(save(mlp(), tmp_path / "m.onnx"))
    panel = session.panel("build")
    panel.compiler.options = ["fake"]
    panel.compiler.value = "fake"
    panel.button.click()
    assert wait_for(lambda: "layers" in panel.work.status.value and not panel.button.disabled)
    engine = session.engines[-1]
    assert bytes_text(engine.bytes) in panel.work.status.value
    assert "0.0 MB" not in panel.work.status.value
    assert panel._log._text == engine.log
    panel.model.value = str(tmp_path / "no such.onnx")
    panel.button.click()
    assert wait_for(lambda: "Failed" in panel.work.status.value)
    assert panel._log._text == ""


def test_a_build_that_breaks_leaves_the_buttons(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks:
        title, status, seconds, progress, message = "build of m", "failed", 0.1, (), ""

        def result(self) -> Any:
            raise OSError("a disk that is full")

    session.add(save(mlp(), tmp_path / "m.onnx"))
    panel = session.panel("build")
    monkeypatch.setattr(Engines, "start", lambda *_, **__: Breaks())
    panel.button.click()
    assert wait_for(lambda: not panel.button.disabled)
    assert "a disk that is full" in panel.error
    assert "Failed" in panel.work.status.value


def test_bytes_that_are_not_known_are_no_zero(built: Session) -> None:
    from workbench.panels.engine_changes import changes_html
    from workbench.plan.traffic import moved, summarize

    plan = built.engines[-1].plan

    def without(count: int) -> Any:
        layers = tuple(
            replace(la, bytes_read=None, bytes_written=None) if i < count else la for i, la in enumerate(plan.layers)
        )
        return replace(plan, layers=layers, summary=summarize(None, {}, layers, (), []))

    assert moved(plan.summary)[1] == bytes_text(plan.summary["bytes_after"])
    assert moved(without(1).summary)[1].startswith("at least ")
    assert moved(without(len(plan.layers)).summary)[1] == "?"
    row = next(r for r in changes_html(plan, without(1), (1, 1)).split("<tr>") if "bytes moved" in r)
    assert "at least" in row
    assert "%" not in row


@pytest.mark.parametrize("name", ["fusions", "graph", "model", "checks", "profile"])
def test_a_closed_panel_no_longer_listens(name: str, built: Session) -> None:
    before = len(built.events._listeners)
    panel = built.panel(name)
    if name == "profile":
        panel._tabs.selected_index = panel._tabs._names.index("Layers")
    assert len(built.events._listeners) > before + 1
    panel.close()
    assert len(built.events._listeners) == before


def test_netron_is_asked_again_for_another_file(session: Session, tmp_path: Path) -> None:
    session.add(save(mlp(), tmp_path / "m.onnx"))
    panel = session.panel("graph")
    panel._tabs.selected_index = 1
    assert panel._netron.path == [session.name, "m"]
    seen: list[list[str]] = []
    panel._netron.observe(lambda change: seen.append(change["new"]), "path")
    session.add(session.models["m"])  # the same
    assert seen == []
    (tmp_path / "b").mkdir()
    session.add(save(chain(["r"]), tmp_path / "b" / "m.onnx"))
    assert seen == [[], [session.name, "m"]]


@pytest.mark.parametrize("content", ["{", "{}"])
def test_findings_without_a_profile_that_can_not_be_read(content: str, session: Session, tmp_path: Path) -> None:
    session.add(save(mlp("N"), tmp_path / "open.onnx"))
    name = next(iter(session.models["open"].graph.dynamic_inputs))
    shape = session.models["open"].graph.dynamic_inputs[name]
    width = shape[1]
    session.build("open", compiler="fake", shapes={name: f"2x{width}"})
    engine = session.build("open", compiler="fake", shapes={name: f"1x{width}:2x{width}:4x{width}"})
    (engine.folder / "profiles").mkdir(exist_ok=True)
    (engine.folder / "profiles" / "1.json").write_text(content)
    other = next(e for e in session.engines if e.key != engine.key)
    (other.folder / "profiles").mkdir(exist_ok=True)
    (other.folder / "profiles" / "1.json").write_text(content)
    found = session.checks(engine)
    assert any("the cost of dynamic shapes" in text for text in found.unchecked)
    panel = session.panel("checks")
    assert panel.error == ""
    assert any("the cost of dynamic shapes" in text for text in panel.found.unchecked)


def test_end_to_end_has_colours_of_its_own(built: Session) -> None:
    from tests.support import profiles
    from workbench.charts import time as figures_time
    from workbench.charts.palette import KINDS

    engine = built.engines[-1]
    profiles.measure(engine)
    try:
        figure = figures_time.sum_and_whole(engine.measured)
        whole = [bar for bar in figure.data if bar.type == "bar" and list(bar.y) == ["end to end"]]
        assert {bar.name for bar in whole} <= {"computation", "copies"}
        assert all(bar.marker.color not in KINDS.values() and bar.showlegend is not False for bar in whole)
    finally:
        import shutil

        shutil.rmtree(engine.folder / "profiles")


def test_axes_that_count_have_no_halves(built: Session) -> None:
    from workbench.charts import plan as figures

    plan = built.engines[-1].plan
    few = replace(plan, layers=plan.layers[:4])
    assert figures.memory(few).layout.xaxis.dtick == 1
    assert len(plan.layers) > 12
    assert figures.memory(plan).layout.xaxis.dtick is None


def test_a_closed_panel_leaves_no_widgets(session: Session) -> None:
    from ipywidgets.widgets.widget import _instances

    from workbench.panels import PANELS

    session.add(SAMPLES / "attention.onnx", name="m")
    first, second = session.build("m", compiler="fake"), session.build("m", compiler="fake", precision="fp16")
    before = set(_instances)
    for name in PANELS:
        shown = session.panel(name)
        session.engines.current = first.key
        session.engines.current = second.key
        once = len(_instances)
        for engine in (first, second) * 3:  # what shows one engine is closed when another is shown
            session.engines.current = engine.key
        assert len(_instances) == once, name
        shown.close()
        assert set(_instances) == before, name
    app = session.app()
    for i in range(len(PANELS)):
        app.selected_index = i
    app.close()
    assert set(_instances) == before


def test_the_build_panel_lists_failed_builds_and_opens_their_logs(session: Session, tmp_path: Path) -> None:
    path = save(mlp(), tmp_path / "<b>small.onnx")
    panel = session.panel("build")
    assert panel.failed.layout.display == "none"
    for flag in ("fail", "crash"):
        with pytest.raises(WorkbenchError):
            session.build(path, compiler="fake", flags=(flag,))
    assert wait_for(lambda: len(panel.failed.options) == 3)
    assert panel.failed.layout.display is None
    newest, older = (name for _, name in panel.failed.options[1:])
    assert [newest, older] == [f.folder.name for f in session.engines.failures]
    panel.failed.value = older
    assert "failed as requested" in panel.error
    assert "building" in panel._log._shown.value
    assert panel._log_box.selected_index == 0
    assert "session.engines.failures[1]" in panel.code
    shutil.rmtree(session.engines.failures[0].folder)
    panel.failed.value = newest
    assert "data-code='failure-gone'" in panel.error
    again = session.panel("build")
    assert [name for _, name in again.failed.options] == [None, older]
    for each in (panel, again):
        each.close()


def test_values_of_an_input_that_is_read_as_a_shape(session: Session, tmp_path: Path) -> None:
    proto = model(
        [node("Slice", ["x", "s", "n", "a"], ["y"], "cut")], [value("x", ["batch", 8]), value("n", [1], INT64)],
        [value("y", None)], [constant("s", [0], "int64"), constant("a", [1], "int64")],
    )  # fmt: skip
    session.add(str(save(proto, tmp_path / "m.onnx")))
    panel = session.panel("build")
    assert [f.value for f in panel._shape_fields["x"]] == ["1x8"] * 3
    low, _usual, high = panel._value_fields["n"]
    low.value, high.value = "1", "8"
    assert panel.config().profiles[0].texts == {"x": "1x8", "n": "=1:8:8"}
    assert "shapes={'x': '1x8', 'n': '=1:8:8'}" in panel.code
    low.value = "9"
    assert "min &lt;= opt &lt;= max" in panel.error
