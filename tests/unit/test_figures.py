"""Charts of plans: what they say where names are odd, figures are missing, or there is very much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.dom import minidom

import pytest

from workbench import Session
from workbench.charts import plan as figures
from workbench.charts import precision, svg
from workbench.charts import time as figures_time
from workbench.plan import Plan
from workbench.plan.traffic import summarize
from workbench.precision.histogram import Histogram
from workbench.precision.mixed import Mixed
from workbench.precision.sensitivity import Sensitivity
from workbench.present.facts import plan_facts
from workbench.present.lens import Lens
from workbench.present.page import html

pytest.importorskip("plotly")


@pytest.fixture
def plan(session: Session) -> Plan:
    session.add("residual_block")
    return session.build("residual_block", compiler="fake").plan


def named(plan: Plan, title: str) -> Plan:
    """The same plan with other titles."""
    return replace(plan, layers=tuple(replace(layer, title=title) for layer in plan.layers))


def without_bytes(plan: Plan) -> Plan:
    """The same plan where nothing is known of the first layer's traffic."""
    first, *others = plan.layers
    layers = (replace(first, bytes_read=None, bytes_written=None), *others)
    found = summarize(None, {}, layers, (), [])
    changed = {key: found[key] for key in ("bytes_after", "bytes_unknown")}
    return replace(plan, layers=layers, summary={**plan.summary, **changed})


def test_names_are_no_markup_in_hovers(plan: Plan) -> None:
    odd = named(plan, "<b>{x}</b> %{y} & co")
    for figure in (figures.streams(odd), figures.memory(odd)):
        assert "&lt;b&gt;{x}&lt;/b&gt; %{y} &amp; co" in str(figure.data[0].customdata[0])
        assert all("</b>" not in (trace.hovertemplate or "") for trace in figure.data)


def test_streams_take_a_trace_a_kind_not_a_layer(plan: Plan) -> None:
    layer = plan.layers[0]
    many = replace(plan, layers=tuple(replace(layer, id=str(i), stream=i % 12) for i in range(2000)),
                   summary={**plan.summary, "streams": 12})  # fmt: skip
    figure = figures.streams(many)
    assert len(figure.data) == 1
    assert list(figure.data[0].base) == list(range(2000))
    assert figure.layout.yaxis.categoryarray == tuple(f"stream {i}" for i in range(12))


def test_bars_of_equal_labels_stay_apart(plan: Plan) -> None:
    figure = figures.engines([("net", plan), ("net", plan), ("7", plan)])
    assert list(figure.data[0].y) == ["net", "net (2)", "7"]
    assert figure.layout.yaxis.type == "category"  # else "7" is a number and "net" is nowhere
    rows = tuple({"node": f"/block{i}{'/layer' * 9}/MatMul", "op": "MatMul", "relative_l2": 0.1} for i in (1, 2))
    labels = precision.sensitivities(Sensitivity(rows, 8)).data[0].y
    assert len(set(labels)) == 2
    assert all(len(label) <= 39 + len(" (2)") for label in labels)


def test_a_number_that_is_not_known_is_no_error(plan: Plan) -> None:
    read = replace(plan, summary={**plan.summary, "launches_before": None})
    figure = figures.engines([("read", read), ("built", plan)], "launches_before")
    assert list(figure.data[0].customdata) == ["?", "5"]


def test_unknown_bytes_are_told(plan: Plan) -> None:
    some = without_bytes(plan)
    assert "at least" in figures.kinds(some).data[0].customdata[0]
    assert "bytes of 1 nodes or layers are not known" in figures.before_and_after(some).layout.title.text
    both = replace(some, layers=some.layers[:1])
    assert figures.kinds(both).data[0].customdata[0] == "?"
    note = next(fact["note"] for fact in plan_facts(some) if fact["name"] == "Bytes moved")
    assert note == "without 1 nodes or layers that are not known"  # and no share that was saved
    assert "less" in str(next(fact["note"] for fact in plan_facts(plan) if fact["name"] == "Bytes moved"))
    assert "at least" in "".join(chart["svg"] for chart in svg.charts(some))


def test_operators_say_how_many_are_left_out() -> None:
    counts = {f"Op{i}": i for i in range(30)}
    figure = figures.operators(counts)
    assert figure.layout.title.text == "Operations in the graph, the 24 most frequent of 30"
    assert max(figure.data[0].x) == 29
    assert figures.operators({"Relu": 1}).layout.title.text == "Operations in the graph"


def test_a_tensor_that_was_never_finite_is_not_called_zero() -> None:
    import numpy as np

    for value, told in ((np.nan, "never a finite value"), (0.0, "always zero")):
        seen = Histogram()
        seen.observe(np.full(8, value, np.float32))
        assert told in precision.distribution("<x>", seen).layout.annotations[0].text
    assert "&lt;x&gt;" in precision.distribution("<x>", Histogram()).layout.title.text


def test_the_metric_keeps_its_capitals() -> None:
    found = Mixed((), 0.9, True, ({"kept": 0, "value": 0.9},), "top1")
    assert precision.mixture(found, 4, 0.9).layout.title.text.startswith("Top-1 agreement with FP32 by")


def test_pictures_hold_names_that_xml_cannot(plan: Plan) -> None:
    odd = named(plan, "[Conv]\x1e<a>\ud800\x00 & 'b'")
    timed = replace(odd, layers=tuple(replace(layer, time_ms=0.1) for layer in odd.layers))
    made: list[Any] = [svg.strip(timed), *(chart["svg"] for chart in svg.charts(timed))]
    for picture in made:
        minidom.parseString(picture)
    assert any("&lt;a&gt;" in picture for picture in made)


def test_a_file_that_names_no_target_is_not_for_nothing(plan: Plan) -> None:
    unnamed = replace(plan, compiler={**plan.compiler, "target": ""})
    assert "</b> by " in html(Lens(unnamed))
    assert f"</b> for {plan.compiler['target']} by " in html(Lens(plan))


def test_phases_of_a_build_are_text() -> None:
    assert "  a &lt;b&gt;" in figures_time.build_times({"total": 1.0}, {"A <b>": 0.5}).data[0].y


LINK = "<a href='https://elsewhere.example/%{x}'>\x1b[31m\u202e"


def hostile(plan: Plan) -> Plan:
    """The plan with markup in every name that a file may bring: titles, kinds, types, scopes, phases, GPUs, ways."""
    layers = tuple(
        replace(
            layer, title=LINK + layer.title, kind=LINK, time_ms=1.0 + i, flops=10**9, bytes_read=10**6,
            sources=tuple(replace(s, scope=LINK) for s in layer.sources),
            inputs=tuple(replace(t, dtype=LINK) for t in layer.inputs), outputs=tuple(replace(t, dtype=LINK) for t in layer.outputs),
        )
        for i, layer in enumerate(plan.layers)
    )  # fmt: skip
    way = {"min_ms": 1.0, "max_ms": 2.0, "median_ms": 1.5, "p90_ms": 1.8, "p99_ms": 1.9, "iterations": 3,
           "percentiles_ms": [1.0] * 101, "mean_ms": 1.5, "compute_mean_ms": 1.4, "transfers_mean_ms": 0.1}  # fmt: skip
    return replace(
        plan, layers=layers, summary={**plan.summary, "precisions": {LINK: 3}},
        facts={**plan.facts, "measured": {"ways": {LINK: way}, "latency": way}},
    )  # fmt: skip


def test_no_name_becomes_a_link_in_any_chart(plan: Plan) -> None:
    from workbench.analysis.times import measured_times
    from workbench.hardware.devices import DEVICES

    odd = hostile(plan)
    times = measured_times(odd)
    device = replace(next(iter(DEVICES.values())), name=LINK)
    assert times is not None
    charts = [
        figures.before_and_after(odd), figures.kinds(odd), figures.precisions(odd), figures.modules(odd), figures.memory(odd), figures.streams(odd),
        figures.operators({LINK: 3}), figures.engines([(LINK, odd)]), precision.distribution(LINK, Histogram()),
        figures_time.latency(odd.facts["measured"]), figures_time.distribution(odd.facts["measured"]), figures_time.slowest_layers(odd, times),
        figures_time.timeline(odd, times), figures_time.sum_and_whole(odd), figures_time.roofline(odd, times, device),
        figures_time.build_times({"total": 1.0, "build": 1.0}, {LINK: 1.0}),
    ]  # fmt: skip
    for chart in charts:
        text = str(chart.to_plotly_json())
        assert "<a" not in text
        assert "\\x1b[31m" not in text.replace("\\\\", "")
    assert "&lt;a href" in str(charts[2].to_plotly_json())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, -(10**400)])
def test_numbers_that_no_unit_can_say_are_unknown(value: float) -> None:
    from workbench.core.units import bytes_text, count_text, ms_text

    assert [text.strip() for text in (count_text(value), bytes_text(value), ms_text(value))] == ["?"] * 3
