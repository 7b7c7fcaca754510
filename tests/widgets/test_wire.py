"""What the browser gets, against the format that `workbench.present.wire_types` states."""

from __future__ import annotations

import gzip
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.small_models import mlp, model, node, save, value, weights
from tests.support.wire_format import JS, check_graph, check_record, check_table, conforms, size_of
from workbench import Session
from workbench.charts import palette
from workbench.core.errors import StoreError
from workbench.core.units import rounded
from workbench.plan.columns import source_text
from workbench.plan.kinds import KINDS
from workbench.present import wire
from workbench.present.lens import Lens

HOSTILE = "<script>alert(1)</script>"


def unpack(message: bytes) -> Any:
    return json.loads(gzip.decompress(message), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))


def test_a_message_of_another_form_is_refused(lens: Lens) -> None:
    table = wire.layer_table(lens)
    conforms("TableData", table)
    for bad in ({**table, "more": 1}, {**table, "of": "kernel"}, {k: v for k, v in table.items() if k != "id"}):
        with pytest.raises(ValidationError):
            conforms("TableData", bad)


def test_graphs_tables_and_details_have_the_documented_form(lens: Lens) -> None:
    fusion = unpack(wire.pack(wire.fusion_data(lens)))
    conforms("FusionData", fusion)
    for graph in (fusion["original"], fusion["plan"]):
        check_graph(graph)
    links = fusion["links"]
    assert len({size_of(column) for column in links.values()}) == 1
    layers, nodes = len(fusion["plan"]["nodes"]["id"]), len(fusion["original"]["nodes"]["id"])
    assert all(i < layers for i in links["layer"])
    assert all(i < nodes for i in links["node"])
    assert (len(fusion["flags"]["layer"]), len(fusion["flags"]["node"])) == (layers, nodes)
    check_table(wire.layer_table(lens))
    check_table(wire.node_table(lens))
    for layer in wire.shown(lens.plan):
        check_record(wire.details(lens, "layer", layer.id))
    assert lens.graph is not None
    for item in lens.graph.nodes:
        check_record(wire.details(lens, "node", item.id))


def test_a_model_that_was_not_built_yet(built: Session) -> None:
    lens = Lens.of_model(built.models["attention"])
    check_graph(wire.graph_data(lens))
    check_table(wire.node_table(lens))
    assert "Became" not in {c["label"] for c in wire.node_table(lens)["columns"]}
    assert lens.graph is not None
    check_record(wire.details(lens, "node", lens.graph.nodes[0].id))


def test_a_plan_without_layers_and_one_whose_model_is_gone(lens: Lens) -> None:
    check_graph(wire.plan_data(Lens(replace(lens.plan, layers=()))))
    alone = Lens(lens.plan, missing="attention.onnx is gone")
    check_graph(wire.plan_data(alone))
    check_table(wire.layer_table(alone))
    check_record(wire.details(alone, "layer", lens.plan.layers[0].id))
    for ask in (wire.fusion_data, wire.graph_data, wire.node_table):
        with pytest.raises(StoreError, match=r"attention\.onnx is gone"):
            ask(alone)


def test_details_of_what_does_not_exist(lens: Lens) -> None:
    for kind in ("layer", "node", "elephant"):
        with pytest.raises(StoreError, match="There is no"):
            wire.details(lens, kind, HOSTILE)


def test_names_travel_as_they_are(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"], ["y"], HOSTILE)], [value("x", [4])], [value("y", [4])])
    session = Session("hostile", store=tmp_path / "home")
    session.build(str(save(proto, tmp_path / "hostile.onnx")), compiler="fake")
    data = wire.fusion_data(Lens.of(session.engines[-1]))
    assert data["original"]["nodes"]["id"] == [HOSTILE]
    session.close()


def test_a_plan_as_large_as_bert_base_is_a_small_message(tmp_path: Path) -> None:
    # bert-base has some 350 nodes as torch exports it; this has 1,800 with long names.
    nodes, name = [], "x"
    for i in range(600):
        scope = f"/encoder/layer.{i // 50}/attention/self/query.{i}"
        nodes += [node("MatMul", [name, "w"], [f"a{i}"], f"{scope}/MatMul"), node("Add", [f"a{i}", "b"], [f"b{i}"], f"{scope}/Add"),
                  node("Softmax", [f"b{i}"], [f"c{i}"], f"{scope}/Softmax")]  # fmt: skip
        name = f"c{i}"
    proto = model(nodes, [value("x", [128, 64])], [value(name, [128, 64])], [weights("w", 64, 64), weights("b", 64)])
    session = Session("large", store=tmp_path / "home")
    session.build(str(save(proto, tmp_path / "large.onnx")), compiler="fake")
    lens = Lens.of(session.engines[-1])
    for data in (wire.fusion_data(lens), wire.layer_table(lens), wire.node_table(lens)):
        assert len(wire.pack(data)) < 1_000_000
    session.close()


def test_the_palette_is_the_one_place_that_names_a_color() -> None:
    assert set(palette.KINDS) == set(KINDS)
    assert palette.precision_color("float16") != palette.GREY
    package = Path(palette.__file__).parents[1]
    files = [
        *JS.rglob("*.ts"),
        *(f for name in ("charts", "present", "panels", "widgets") for f in (package / name).rglob("*.py")),
    ]
    assert [f.name for f in files if re.search(r"#[0-9a-fA-F]{6}\b", f.read_text())] == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_none_on_the_wire(value: float, tmp_path: Path) -> None:
    assert rounded(value) is None
    session = Session("errors", store=tmp_path / "home")
    session.build(str(save(mlp(), tmp_path / "mlp.onnx")), compiler="fake")
    tensors = {t.name: value for la in session.engines[-1].plan.layers for t in la.outputs}
    lens = Lens.of(session.engines[-1])
    lens.errors = {"tensors": tensors, "samples": 8, "source": "data"}
    told = [wire.details(lens, "layer", layer.id) for layer in lens.plan.layers]
    for data in (wire.plan_data(lens), wire.fusion_data(lens), wire.layer_table(lens), wire.node_table(lens), *told):
        json.dumps(data, allow_nan=False)
    assert "not finite" in json.dumps(told)
    session.close()


def test_an_error_that_is_not_finite_is_told_from_one_that_is_not_known(lens: Lens) -> None:
    assert lens.graph is not None
    shown = wire.shown(lens.plan)
    first, second = (lens.graph.by_id[next(la for la in those if la.nodes).nodes[-1]] for those in (shown, shown[::-1]))
    errors = {"tensors": {first.outputs[0]: math.inf, second.outputs[0]: 0.5}, "samples": 1, "source": "made up"}
    sick = Lens(lens.plan, lens.graph, lens.provenance, errors=errors)
    table = wire.node_table(sick)
    at = [c["name"] for c in table["columns"]].index("error")
    assert table["columns"][at]["infinite"] == [first.index]
    assert table["rows"][at][first.index] is None
    assert table["rows"][at][second.index] == 50
    overlay = next(o for o in wire.graph_data(sick)["overlays"] if o["name"] == "error")
    assert overlay["infinite"] == [first.index]
    layers = wire.layer_table(sick)
    sent = next(c for c in layers["columns"] if c["name"] == "error")
    assert sent["infinite"] == [i for i, la in enumerate(shown) if sick.error(la) == math.inf]
    assert sent["infinite"]
    rows = wire.rows_data(
        "t", "node", ["a", "b"], [({"name": "x", "label": "X", "type": "number"}, [math.inf, math.nan])]
    )
    assert (rows["columns"][0]["infinite"], rows["rows"][0]) == ([0], [None, None])
    for data in (table, layers, rows):
        check_table(data)
        wire.pack(data)


def test_what_is_cut_off_says_so(lens: Lens) -> None:
    layer = next(la for la in lens.plan.layers if la.sources)
    places = tuple(replace(layer.sources[0], file="net.py", line=n) for n in range(1, 7))
    assert source_text(replace(layer, sources=places)) == "net.py:1,2,3,4,…"
    assert source_text(replace(layer, sources=places[:4])) == "net.py:1,2,3,4"
