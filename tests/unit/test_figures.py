"""Charts from plans and results whose names or sizes are unusual."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workbench import figures
from workbench.plan import Layer, Plan
from workbench.plan.traffic import summarize
from workbench.precision.accuracy import Sensitivity
from workbench.widgets import static
from workbench.widgets.lens import Lens

pytest.importorskip("plotly", reason="charts need plotly: pip install 'trt-workbench[lab]'")


def layer(i: int, *, stream: int = 0, kind: str = "gemm", known: bool = True, name: str = "") -> Layer:
    title = name or f"layer {i}"
    return Layer(
        id=f"L{i}", name=title, title=title, kind=kind, type="kgen", stream=stream, nodes=(f"n{i}",), evidence="reported",
        bytes_read=1_000_000 if known else None, bytes_written=1_000_000 if known else None,
    )  # fmt: skip


def plan(*layers: Layer) -> Plan:
    made = Plan(
        model={"name": "m", "sha256": "", "nodes": len(layers)}, compiler={"name": "fake", "version": "1", "target": "sm89", "gpu": None},
        config={}, seconds={}, layers=layers, unclaimed=(), io=(),
    )  # fmt: skip
    return replace(made, summary=summarize(None, {}, layers, (), []))


def test_bytes_that_are_not_known_are_no_zero() -> None:
    some = plan(layer(0), layer(1, known=False))
    none = plan(layer(0, known=False), layer(1, known=False))
    assert figures.moved(plan(layer(0))) == (None, "2 MB")
    assert figures.moved(some) == (None, "at least 2 MB")
    assert figures.moved(none) == (None, "?")
    assert figures.kinds(none).data[1].text == (" ? in 2 layers",)
    assert figures.kinds(some).data[1].text == (" at least 2 MB in 2 layers",)
    facts = {f["name"]: f for f in static.facts(none)}
    assert facts["Bytes moved"]["value"] == "?"
    assert "not known" in str(facts["Bytes moved"]["note"])
    assert "0 B" not in static.html(Lens(none))
    assert "at least 2 MB moved" in static.html(Lens(some))
    pictures = {c["title"]: c["svg"] for c in static.charts(Lens(none))}
    assert "0 B<" not in pictures["Bytes moved"]
    assert "0 B<" not in pictures["Bytes by kind"]
    before = replace(none, summary={**none.summary, "launches_before": 3, "bytes_before": 5_000_000})
    assert figures.before_and_after(before).data[1].text[2:] == (" 5 MB", " ?")


def test_layers_of_one_shortened_name_have_a_bar_each() -> None:
    tail = "attention/attention/self/query/and/some/more/MatMul"
    rows = [
        {"node": f"/bert/encoder/layer.{i}/{tail}", "op": "MatMul", "relative_l2": 0.1 * (i + 1)} for i in range(12)
    ]
    figure = figures.sensitivities(Sensitivity(layers=tuple(rows), samples=4))
    assert len(set(figure.data[0].y)) == len(rows)
    assert figure.data[0].customdata[3][0] == rows[3]["node"]


def test_thousands_of_layers_are_a_trace_a_kind() -> None:
    many = plan(*(layer(i, stream=i % 12, kind=("gemm", "norm")[i % 2]) for i in range(10_000)))
    figure = figures.streams(many)
    assert len(figure.data) == 2
    assert sum(len(trace.x) for trace in figure.data) == 10_000
    assert figure.layout.yaxis.categoryarray[:3] == ("stream 0", "stream 1", "stream 2")


def test_a_title_is_no_markup() -> None:
    odd = plan(layer(0, name="a<b>c</b> & d"))
    assert "a&lt;b&gt;c" in figures.streams(odd).data[0].customdata[0]
    assert "a&lt;b&gt;c" in figures.memory(odd).data[0].customdata[0][0]
