"""What the browser gets, static pictures, the report and the panels, on engines of the fake compiler."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from workbench import Session
from workbench.core.errors import StoreError
from workbench.core.events import Selection
from workbench.engine import Engine
from workbench.present import wire
from workbench.present.lens import Lens
from workbench.present.page import html

pytest.importorskip("ipywidgets")
from workbench.panels import PANELS, panel
from workbench.report import report

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def engine(session: Session) -> Engine:
    session.add("residual_block")
    return session.build("residual_block", compiler="fake")


def columns(value: Any) -> int:
    return len(value["code"]) if isinstance(value, dict) else len(value)


def check_graph(data: dict[str, Any]) -> None:
    count = len(data["nodes"]["id"])
    assert len(set(data["nodes"]["id"])) == count
    for column in data["nodes"].values():
        assert columns(column) == count
    assert all(0 <= k < len(data["kinds"]) for k in data["nodes"]["kind"])
    edges = data["edges"]
    assert len({columns(c) for c in edges.values()}) == 1
    assert all(0 <= i < count for i in [*edges["source"], *edges["target"]])
    for grouping in data["groupings"]:
        boxes = len(grouping["group"]["id"])
        assert len(grouping["of"]) == count
        assert columns(grouping["group"]["label"]) == len(grouping["group"]["parent"]) == boxes
        assert all(-1 <= i < boxes for i in [*grouping["of"], *grouping["group"]["parent"]])
    for overlay in data["overlays"]:
        assert len(overlay["values"]) == count


def test_graphs_tables_and_links_have_columns_of_one_length(engine: Engine) -> None:
    lens = Lens.of(engine)
    data = wire.fusion_data(lens)
    check_graph(data["original"])
    check_graph(data["plan"])
    assert columns(data["links"]["evidence"]) == len(data["links"]["layer"]) == len(data["links"]["node"])
    linked = {(data["plan"]["nodes"]["id"][a], data["original"]["nodes"]["id"][b])
              for a, b in zip(data["links"]["layer"], data["links"]["node"], strict=True)}  # fmt: skip
    assert linked == {(layer.id, node) for layer in wire.shown(engine.plan) for node in layer.nodes}
    for table in (wire.layer_table(lens), wire.node_table(lens)):
        assert len(table["rows"]) == len(table["columns"])
        assert {columns(row) for row in table["rows"]} == {len(table["id"])}
    json.dumps(data, allow_nan=False)


def test_details_tell_what_a_layer_and_a_node_are(engine: Engine) -> None:
    lens = Lens.of(engine)
    layer = next(la for la in engine.plan.layers if len(la.nodes) > 1)
    told = wire.details(lens, "layer", layer.id)
    assert {s["type"] for s in told["sections"]} >= {"facts", "ids", "code", "table", "raw"}
    code = next(s for s in told["sections"] if s["type"] == "code")
    assert code["mark"]
    assert all(code["first"] <= n < code["first"] + len(code["lines"]) for n in code["mark"])
    node = wire.details(lens, "node", layer.nodes[0])
    assert any(s["type"] == "ids" and layer.id in s["ids"] for s in node["sections"])
    with pytest.raises(StoreError, match="no layer"):
        wire.details(lens, "layer", "nobody")


def test_the_static_picture_runs_nothing(engine: Engine) -> None:
    text = html(Lens.of(engine))
    assert "<svg" in text
    assert "<table" in text
    assert "<script" not in text


def test_a_report_is_one_file_that_asks_nobody(engine: Engine, tmp_path: Path) -> None:
    path = report(Lens.of(engine), tmp_path / "r.html")
    text = path.read_text()
    assert path.stat().st_size < 3_000_000
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}
    with pytest.raises(StoreError):
        report(Lens.of(engine), tmp_path / "absent" / "r.html")


def test_names_are_text(session: Session, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto as T
    from onnx import helper as h

    x, y = (h.make_tensor_value_info(n, T.FLOAT, [4, 4]) for n in "xy")
    graph = h.make_graph([h.make_node("Relu", ["x"], ["y"], name=EVIL)], EVIL, [x], [y])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=9), str(tmp_path / "m.onnx"))
    engine = session.build(session.add(tmp_path / "m.onnx", name=EVIL), compiler="fake")
    lens = Lens.of(engine)
    assert "<script>alert" not in html(lens)
    assert "<script>alert" not in report(lens, tmp_path / "r.html").read_text()
    for name in PANELS:
        made = panel(session, name)
        assert EVIL not in str(made.error)


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_shows_an_engine_and_its_code_repeats_it(session: Session, engine: Engine, name: str) -> None:
    made = panel(session, name)
    assert made.error == ""
    assert made.body.children
    space: dict[str, Any] = {}
    code = [line for line in made.code.splitlines() if "panel(" not in line]
    exec("\n".join(code), space)
    if "engine" in space and name != "build":
        assert space["engine"].key == engine.key


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_without_anything_says_what_to_do(session: Session, name: str) -> None:
    made = panel(session, name)
    assert made.error == ""
    assert made.body.children


def test_an_error_in_a_callback_is_shown(session: Session) -> None:
    made = panel(session, "build")
    made.model.value = "  "
    made.button.click()
    assert "No model is named" in made.error
    made._options["workspace"].value = "much"
    assert "whole number" in made.error


def test_a_model_that_is_gone_leaves_the_plan(session: Session, tmp_path: Path) -> None:
    copy = tmp_path / "m.onnx"
    copy.write_bytes(session.add("residual_block").path.read_bytes())
    session.build(session.add(copy, name="m"), compiler="fake")
    copy.unlink()
    made = panel(session, "fusions")
    assert "Only the plan can be shown" in made.error
    assert made._map.component == "graph"


def test_a_selection_that_names_nothing_is_kept_and_harms_nothing(session: Session, engine: Engine) -> None:
    made = panel(session, "fusions")
    session.selection = "nobody"
    assert session.selection.ids == ("nobody",)
    assert made.error == ""
    session.selection = engine.plan.layers[0].nodes[0]
    assert session.selection.kind == "node"


def test_views_share_the_selection(session: Session, engine: Engine) -> None:
    from workbench.widgets import FusionView, TableView

    one, other = FusionView(session, Lens.of(engine)), TableView(session, Lens.of(engine))
    wanted = engine.plan.layers[1].id
    # As the browser writes it.
    one.selection = {"ids": [wanted], "origin": "browser", "kind": "layer"}
    assert session.selection.ids == (wanted,)
    assert other.selection["ids"] == [wanted]
    session.select(Selection("layer", ()))
    assert one.selection["ids"] == other.selection["ids"] == []
    one.close()
    other.close()


def test_the_browsers_questions_are_always_answered(session: Session, engine: Engine) -> None:
    from workbench.widgets import FusionView

    view = FusionView(session, Lens.of(engine))
    sent: list[Any] = []
    view.send = lambda content, buffers=None: sent.append((content, buffers))
    view._receive(view, {"type": "bundle"}, None)
    view._receive(view, {"type": "details", "request": 7, "id": engine.plan.layers[0].id, "kind": "layer"}, None)
    view._receive(view, {"type": "details", "request": 8, "id": "nobody", "kind": "layer"}, None)
    assert sent[0][0]["type"] == "bundle"
    assert sent[1][0]["request"] == 7
    assert sent[1][0]["record"]["id"] == engine.plan.layers[0].id
    assert sent[2][0]["request"] == 8
    assert "no layer" in sent[2][0]["error"]


def test_a_notebook_keeps_a_picture_beside_the_widget(session: Session, engine: Engine) -> None:
    from workbench.widgets import FusionView

    made = FusionView(session, Lens.of(engine))._repr_mimebundle_()
    data = made[0] if isinstance(made, tuple) else made
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<svg" in data["text/html"]
