"""The registry of layer columns: one entry shows in every table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.plans import planned, raw
from tests.support.small_models import mlp
from workbench.core.dtypes import DTYPES, label_of, name_of
from workbench.model.graph import Graph
from workbench.plan import Plan
from workbench.plan.columns import COLUMNS, Column, Rows, columns
from workbench.present import wire
from workbench.present.lens import Lens
from workbench.present.page import html

pytestmark = pytest.mark.tiny


@pytest.fixture
def plan() -> Plan:
    layer = raw("g", "gemm", ["mm1", "act", "mm2"], [("x", (2, 8))], [("y", (2, 4))])
    return planned(Graph(mlp(2)), [layer], ["x", "y"])


def test_a_column_that_is_registered_shows_in_every_table(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from workbench.cli.plan_table import print_layers

    column = Column("letters", "Letters", "text", lambda layer, _: "/".join(layer.nodes))
    monkeypatch.setattr("workbench.plan.columns.COLUMNS", [*COLUMNS, column])
    table = wire.layer_table(Lens(plan))
    assert table["columns"][-1] == {"name": "letters", "label": "Letters", "type": "text"}
    assert table["rows"][-1] == ["mm1/act/mm2"]
    assert list(plan.to_frame()["letters"]) == ["mm1/act/mm2"]
    page = html(Lens(plan))
    assert ">letters</th>" in page
    assert ">mm1/act/mm2</td>" in page
    monkeypatch.setenv("COLUMNS", "200")
    print_layers(plan, full=False)
    shown = capsys.readouterr().out
    assert "letters" in shown
    assert "mm1/act/mm2" in shown


def test_names_are_unique_in_every_view() -> None:
    assert len({c.name for c in COLUMNS}) == len(COLUMNS)
    frames = [c.frame or c.name for c in COLUMNS if "frame" in c.views]
    assert len(set(frames)) == len(frames)
    assert all(c.views for c in COLUMNS)


def test_amounts_say_how_they_came_to_be() -> None:
    assert all(c.source for c in COLUMNS if c.unit or c.type == "bytes")
    assert all(not c.source for c in COLUMNS if c.type in {"text", "tag"})


def test_a_column_without_values_is_left_out_where_it_is_optional(plan: Plan) -> None:
    assert "time" not in {c.name for c in columns(Rows(plan), "browser")}
    timed = replace(plan, layers=(replace(plan.layers[0], time_ms=0.5),))
    found = {c.name: c for c in columns(Rows(timed), "cli")}
    assert found["time"].display(timed.layers[0], Rows(timed)) == "0.500 ms"
    assert found["share"].display(timed.layers[0], Rows(timed)) == "100.0 %"
    assert "least" not in found
    assert "least" in {c.name for c in columns(Rows(timed, estimates={timed.layers[0].id: 0.1}), "cli")}


def test_data_types_have_labels_and_the_labels_lead_back() -> None:
    assert [label_of(n) for n in ("float16", "float8e4m3fn", "int8", "novel")] == ["fp16", "fp8", "int8", "novel"]
    assert all(name_of(label_of(name)) == name for name in DTYPES)
