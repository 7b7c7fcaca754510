"""Views and panels without a browser: messages, selection, errors in sight, code that repeats what was clicked."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import SAMPLES
from tests.support.wire_format import ask
from workbench import Session
from workbench.charts.svg import ROWS
from workbench.core.events import PROCESS
from workbench.panels import PANELS
from workbench.panels.base import Panel
from workbench.present import wire
from workbench.present.lens import Lens
from workbench.present.page import html as page_html
from workbench.widgets import DetailsView, FusionView, GraphView, TableView

VIEWS = (GraphView, FusionView, TableView, DetailsView)


def until(test: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end
        time.sleep(0.02)


def children() -> set[int]:
    """Processes below this one."""
    import psutil

    return {p.pid for p in psutil.Process().children(recursive=True)}


def from_browser(view: Any, ids: list[str], kind: str = "layer") -> None:
    """What the synced trait does when a reader clicks."""
    view.selection = {"ids": ids, "origin": "graph-layer-1", "kind": kind}


# --- views ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", VIEWS)
def test_state_and_data(kind: Any, built: Session, lens: Lens) -> None:
    view = kind(built, lens, height=300)
    assert view.component in {"graph", "fusion", "table", "details"}
    assert view.options == {"height": 300}
    assert isinstance(view.data, bytes)
    # Each widget has the loader only: the bundle crosses once a page, and no saved notebook holds it.
    assert len(view._esm) < 5_000
    view.show(Lens.of_model(built.models["attention"]) if kind is DetailsView else lens)
    view.close()


def test_the_bundle_is_sent_on_request(lens: Lens) -> None:
    answer, buffers = ask(GraphView(None, lens), {"type": "bundle"})
    assert answer == {"type": "bundle"}
    assert b"mountReport" in buffers[0]


def test_a_bundle_that_was_not_built_is_said(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.core.errors import WorkbenchError
    from workbench.widgets import views

    def gone() -> bytes:
        raise WorkbenchError("The views' JavaScript is not built.")

    view = GraphView(None, lens)
    monkeypatch.setattr(views, "bundle", gone)
    assert "not built" in ask(view, {"type": "bundle"})[0]["error"]


def test_details_are_answered_also_when_there_are_none(lens: Lens) -> None:
    view = DetailsView(None, lens)
    layer = lens.plan.layers[0].id
    answer, _ = ask(view, {"type": "details", "request": 7, "kind": "layer", "id": layer})
    assert (answer["request"], answer["record"]["id"]) == (7, layer)
    answer, _ = ask(view, {"type": "details", "request": 8, "kind": "layer", "id": "nothing"})
    assert (answer["request"], "There is no layer 'nothing'" in answer["error"]) == (8, True)
    assert (
        "Nothing is shown"
        in ask(DetailsView(None), {"type": "details", "request": 9, "kind": "layer", "id": layer})[0]["error"]
    )


def test_one_selection_for_all(built: Session, lens: Lens) -> None:
    one, two = FusionView(built, lens), TableView(built, lens)
    first, second = (layer.id for layer in lens.plan.layers[:2])
    from_browser(one, [first])
    assert built.selection.ids == (first,)
    assert built.selection.origin.startswith(f"{PROCESS}/FusionView")
    assert two.selection == {"ids": [first], "origin": "session", "kind": "layer"}
    assert one.selection["origin"] == "graph-layer-1"  # no echo
    built.selection = second
    assert one.selection["ids"] == two.selection["ids"] == [second]
    built.selection = lens.plan.layers[0].nodes[0]
    assert (two.selection["kind"], two.selection["ids"]) == ("node", [lens.plan.layers[0].nodes[0]])
    # Another process, here another session object of that name.
    other = Session(built.name)
    other.selection = first
    until(lambda: one.selection["ids"] == [first])
    other.close()
    # A closed view hears nothing, and a selection that names nothing harms nobody.
    two.close()
    built.selection = "no such layer"
    assert one.selection["ids"] == ["no such layer"]


def test_a_forgotten_view_is_not_kept_alive(built: Session, lens: Lens) -> None:
    import gc
    import weakref

    import ipywidgets

    view = TableView(built, lens)
    reference = weakref.ref(view)
    ipywidgets.Widget.close_all()
    del view
    gc.collect()
    assert reference() is None


def test_static_fallback(built: Session, lens: Lens) -> None:
    for kind in VIEWS:
        bundle, _ = kind(built, lens)._repr_mimebundle_()
        assert {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"} <= set(bundle)
    html = page_html(lens)
    assert "<svg" in html
    assert html.count("<tr>") == min(len(wire.shown(lens.plan)), ROWS) + 1
    assert "<script" not in html
    assert not re.findall(r"https?://(?!www\.w3\.org/)", html)
    # Before anything was built there is nothing to fall back to.
    assert (
        "text/html"
        not in GraphView(built, Lens.of_model(built.models["attention"]), what="model")._repr_mimebundle_()[0]
    )


# --- panels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_with_nothing_and_with_an_engine(name: str, built: Session, session: Session) -> None:
    for where in (session, built):
        panel = where.panel(name)
        assert panel.error == ""
        assert panel._repr_mimebundle_()
        panel.close()


def test_panels_follow_the_session(session: Session) -> None:
    panels = {name: session.panel(name) for name in PANELS}
    session.build(str(SAMPLES / "residual_block.onnx"), compiler="fake")
    assert panels["model"].models.value == panels["graph"].models.value == "residual_block"
    for name in ("fusions", "memory", "streams"):
        assert panels[name].chooser.value == session.engines[-1].key
    session.build(str(SAMPLES / "attention.onnx"), compiler="fake")
    first, second = session.engines
    assert panels["fusions"].chooser.value == second.key
    panels["memory"].chooser.value = first.key  # a reader chooses: all follow
    assert session.engines.current is not None
    assert session.engines.current.key == panels["fusions"].chooser.value == first.key
    session.models.remove("residual_block")
    assert "residual_block" not in panels["model"].models.options
    assert all(panel.error == "" for panel in panels.values())


def test_a_selection_of_another_model_goes_with_it(session: Session) -> None:
    first = session.build(str(SAMPLES / "residual_block.onnx"), compiler="fake")
    session.selection = first.plan.layers[0].nodes[0]
    session.build(str(SAMPLES / "residual_block.onnx"), compiler="fake", precision="fp16")
    assert session.selection.ids == (first.plan.layers[0].nodes[0],)  # the same model: the node is there as well
    session.build(str(SAMPLES / "attention.onnx"), compiler="fake")
    assert session.selection.ids == ()


def test_app(built: Session) -> None:
    app = built.app()
    for i, name in enumerate(PANELS):
        app.selected_index = i
        assert isinstance(app.children[i].children[0], Panel)
        assert app.titles[i].lower() == name
    app.close()


def test_no_callback_error_vanishes(built: Session) -> None:
    panel = built.panel("build")
    panel.model.value = " "
    panel.button.click()
    assert "No model is named" in panel.error
    panel.model.value = "attention"
    panel._options["workspace"].value = "plenty"
    assert "must be a whole number" in panel.error
    panel._options["workspace"].value = ""
    assert panel.error == ""
    model = built.panel("model")
    model.source.value = "<b>nothing</b>"
    model.button.click()
    until(lambda: model.error)
    assert "There is no model" in model.error
    assert "<b>nothing</b>" not in model.error

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    panel.guard(broken)()
    assert "ZeroDivisionError: a fault of ours" in panel.error


def test_errors_of_the_browser_are_shown(built: Session) -> None:
    panel = built.panel("fusions")
    panel._map._receive(panel._map, {"type": "error", "where": "layout", "message": "<i>no room</i>", "stack": ""}, [])
    assert "layout: &lt;i&gt;no room" in panel.error


@pytest.mark.parametrize(("flag", "said"), [("fail", "failed as requested"), ("crash", "SIGSEGV"), ("full", "space")])
def test_builds_that_go_wrong(flag: str, said: str, built: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = built.panel("build")
    panel.model.value = "attention"
    config = panel.config().replace(compiler="fake", flags=(flag,))
    monkeypatch.setattr(panel, "config", lambda: config)
    panel.button.click()
    until(lambda: panel.error and not panel.button.disabled)
    assert said in panel.error
    assert "Failed" in panel.work.status.value
    assert panel.work.bars.children == ()
    assert panel.work.cancel.disabled


def test_cancel_ends_the_worker(built: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    panel = built.panel("build")
    panel.model.value = "attention"
    config = panel.config().replace(compiler="fake", flags=("hang",))
    monkeypatch.setattr(panel, "config", lambda: config)
    before = children()
    panel.button.click()
    until(lambda: panel.work.bars.children)
    assert panel.button.disabled
    pids = children() - before
    panel.work.cancel.click()
    until(lambda: "Canceled" in panel.work.status.value, 10)
    assert panel.error == ""
    assert not [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]


def test_cancel_while_the_model_is_exported(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample is exported before there is a build; cancel must end that too, and a later build must go on."""
    import psutil

    (tmp_path / "slow_factory.py").write_text("import time\n\n\ndef make():\n    time.sleep(600)\n")
    monkeypatch.chdir(tmp_path)
    panel = session.panel("build")
    panel.model.value = "slow_factory:make"
    before = children()
    panel.button.click()
    until(lambda: panel.work.bars.children)
    assert "Export of make" in panel.work.status.value
    pids = children() - before
    assert pids
    panel.work.cancel.click()
    until(lambda: "Canceled" in panel.work.status.value, 10)
    assert panel.error == ""
    assert panel.work.bars.children == ()
    assert not [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
    panel.model.value = str(SAMPLES / "attention.onnx")
    config = panel.config().replace(compiler="fake")
    monkeypatch.setattr(panel, "config", lambda: config)
    panel.button.click()
    until(lambda: "Built in" in panel.work.status.value)
    assert panel.work.bars.children


@pytest.mark.parametrize("name", PANELS)
def test_an_engine_whose_model_is_gone(name: str, tmp_path: Path, session: Session) -> None:
    path = tmp_path / "gone.onnx"
    path.write_bytes((SAMPLES / "attention.onnx").read_bytes())
    session.build(str(path), compiler="fake")
    path.unlink()
    panel = session.panel(name)
    if name in {"model", "graph", "fusions"}:
        assert "gone.onnx" in panel.error
    elif name in {"memory", "streams"}:
        assert panel.error == ""
    assert session.report(tmp_path / "report.html").stat().st_size > 100_000


def test_a_session_deleted_by_another(session: Session) -> None:
    session.build(str(SAMPLES / "attention.onnx"), compiler="fake")
    panel = session.panel("fusions")
    Session(session.name).delete()
    until(lambda: "deleted" in panel.error, 3)


@pytest.mark.parametrize("name", PANELS)
def test_the_code_that_is_shown_does_the_same(name: str, built: Session) -> None:
    panel = built.panel(name)
    if name == "build":
        # The fake compiler is not on offer in the form.
        panel.compiler.options = [*panel.compiler.options, "fake"]
        panel.compiler.value = "fake"
    code = panel.code
    assert f"Session({built.name!r})" in code
    scope: dict[str, Any] = {}
    exec(compile(code, "shown", "exec"), scope)
    if name in {"fusions", "build", "memory", "streams"}:
        assert scope["engine"].key == built.engines[-1].key
        assert scope["engine"].cached
    scope["session"].close()


def test_the_code_holds_the_selection(built: Session) -> None:
    panel = built.panel("fusions")
    chosen = built.engines[-1].plan.layers[1].id
    built.selection = chosen
    assert f"session.selection = [{chosen!r}]" in panel.code
    built.selection = None
    assert "session.selection" not in panel.code


def test_nothing_in_a_panel_is_markup_of_a_model(tmp_path: Path, session: Session) -> None:
    from tests.support.small_models import model, node, save, value

    bad = "<script>alert(1)</script>"
    proto = model([node("Relu", [bad], [bad + "y"], bad)], [value(bad, [4])], [value(bad + "y", [4])])
    session.add(str(save(proto, tmp_path / "hostile.onnx")))
    session.build("hostile", compiler="fake")
    import ipywidgets

    def texts(widget: object) -> list[str]:
        inside = [t for child in getattr(widget, "children", ()) for t in texts(child)]
        return [str(widget.value), *inside] if isinstance(widget, ipywidgets.HTML) else inside

    for name in PANELS:
        assert not [text for text in texts(session.panel(name)) if bad in text], name
    html = page_html(Lens.of(session.engines[-1]))
    assert bad not in html
    assert "&lt;script&gt;" in html


def test_charts_are_kilobytes(built: Session) -> None:
    panel = built.panel("memory")
    assert len(json.dumps(panel._chart.outputs)) < 50_000


def test_details_are_asked_for_again_where_another_engine_has_the_same_name(lens: Lens) -> None:
    from dataclasses import replace

    view = DetailsView(None, lens)
    seen = {bytes(view.data)}
    others = [
        Lens(replace(lens.plan, model={**lens.plan.model, "sha256": "0" * 64}), lens.graph),  # exported anew
        Lens(lens.plan, lens.graph, errors={"tensors": {}, "samples": 8, "source": "these"}),  # measured meanwhile
        Lens(lens.plan, missing="it is gone"),
    ]
    for other in others:
        view.show(other)
        seen.add(bytes(view.data))
    assert len(seen) == 4
    view.show(others[-1])
    assert bytes(view.data) in seen  # the same is no news
    view.close()
