"""Times of layers and their charts, on plans whose numbers can be checked on paper."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.support.plans import CARD
from workbench.analysis.difference import difference
from workbench.analysis.times import (
    LayerTimes,
    by_kind,
    ceilings,
    device_of,
    doubts,
    estimated_times,
    explain,
    measured_times,
    roofline_points,
    schedule,
    slowest,
    tolerance,
)
from workbench.charts import plan as figures
from workbench.charts import svg
from workbench.charts import time as figures_time
from workbench.charts.palette import KINDS
from workbench.core.units import ms_text
from workbench.model.provenance import Source
from workbench.panels.charts import chart
from workbench.plan import Layer, Plan, PlanTensor
from workbench.present.facts import plan_facts

pytestmark = pytest.mark.tiny


def layer(name: str, kind: str = "conv", time_ms: float | None = None, **values: Any) -> Layer:
    tensor = PlanTensor("x", (1,), values.pop("dtype", "float16"))
    made = Layer(id=name, name=name, title=name, type="t", kind=kind, nodes=(f"n_{name}",), evidence="reported",
                 inputs=(tensor,), flops=16_000_000, bytes_read=500_000, bytes_written=500_000, time_ms=time_ms)  # fmt: skip
    return replace(made, **values)


def plan(layers: Sequence[Layer], **facts: Any) -> Plan:
    streams = len({la.stream for la in layers})
    summary = {
        "streams": streams, "layers": len(layers), "launches_before": None, "launches_after": len(layers), "bytes_before": None,
        "bytes_after": 10, "precisions": {}, "flops": 0, "peak_activation_bytes": 0, "weight_bytes": 0, "nodes": None,
    }  # fmt: skip
    return Plan({"name": "m", "sha256": "", "nodes": 0}, {"name": "tensorrt", "version": "1", "target": "sm90"}, {}, {},
                tuple(layers), (), (), summary, dict(facts))  # fmt: skip


WAY = {"method": "events", "iterations": 100, "steady": True, "mean_ms": 1.05, "median_ms": 1.0, "min_ms": 0.9,
       "max_ms": 9.0, "p90_ms": 1.2, "p99_ms": 1.5}  # fmt: skip
MEASURED = {
    "ways": {"plain": {**WAY, "median_ms": 1.4}, "graph": WAY},
    "latency": {**WAY, "compute_mean_ms": 1.05, "transfers_mean_ms": 0.2},
    "method": "IProfiler", "iterations": 20, "sum_ms": 2.0, "error": {"relative_l2": 0.001, "ok": True, "outputs": {}},
}  # fmt: skip
FOUR = [layer("a", time_ms=0.5), layer("b", "gemm", 1.0), layer("c", "layout", 0.25, flops=0), layer("d", time_ms=0.25)]


def test_only_what_was_measured_is_called_measured() -> None:
    assert measured_times(plan([layer("a")])) is None
    found = measured_times(plan(FOUR, measured=MEASURED))
    assert found is not None
    assert (found.word, found.total, found.source) == ("measured", 2.0, "IProfiler")
    guess = estimated_times(plan(FOUR), CARD)
    # 16 MFLOP at 16 T/s and 1 MB at 1 TB/s are 1 µs each; a launch is 2 µs.
    assert guess.ms == pytest.approx({"a": 0.003, "b": 0.003, "c": 0.003, "d": 0.003})
    assert (guess.estimated, guess.word) == (True, "estimated")
    assert "datasheet" in guess.source
    assert "measured" in estimated_times(plan(FOUR), replace(CARD, measured=True)).source


def test_the_slowest_and_the_rest() -> None:
    times = measured_times(plan(FOUR))
    assert times is not None
    top, rest, count = slowest(plan(FOUR), times, 2)
    assert ([(la.id, ms) for la, ms in top], rest, count) == ([("b", 1.0), ("a", 0.5)], 0.5, 2)
    assert by_kind(plan(FOUR), times) == {"gemm": 1.0, "conv": 0.75, "layout": 0.25}


def test_streams_run_side_by_side_and_a_wait_holds_its_stream() -> None:
    layers = [
        layer("a", time_ms=2.0), layer("s", "sync", type="signal", event=0, nodes=()),
        layer("b", time_ms=1.0, stream=1), layer("w", "sync", type="wait", event=0, stream=1, nodes=()),
        layer("c", time_ms=1.0, stream=1), layer("d", time_ms=0.5),
    ]  # fmt: skip
    times = measured_times(plan(layers))
    assert times is not None
    assert [(la.id, begin, ms) for la, begin, ms in schedule(plan(layers), times)] == [
        ("a", 0.0, 2.0), ("b", 0.0, 1.0), ("c", 2.0, 1.0), ("d", 2.0, 0.5),
    ]  # fmt: skip


def test_points_and_ceilings_of_the_roofline() -> None:
    # 16 FLOPs a byte on a card of 1 TB/s are at most 16 T/s, which is also its FP16 peak.
    made = plan([*FOUR, layer("e", "pointwise", 0.016), layer("f", time_ms=1.0, flops=None)])
    times = measured_times(made)
    assert times is not None
    points, left = roofline_points(made, times, CARD)
    assert left == 2  # the layout change has no operations, those of f are not known
    assert {p.layer.id: p.intensity for p in points} == {"a": 16, "b": 16, "d": 16, "e": 16}
    a, e = points[0], points[-1]
    assert a.rate == pytest.approx(32e9)
    assert a.share == pytest.approx(0.002)
    assert e.rate == pytest.approx(1e12)
    assert e.share == pytest.approx(1.0)  # of the CUDA cores: a pointwise layer has no tensor cores
    assert ceilings(made, CARD) == [("fp16", 16e12), ("fp32", 1e12)]


def test_the_gpu_that_it_was_measured_on_comes_first() -> None:
    def name(target: str = "sm89", **facts: Any) -> str | None:
        made = plan(FOUR, **facts)
        found = device_of(replace(made, compiler={**made.compiler, "target": target}))
        return found.name if found else None

    assert name(measured={"device": {"name": "NVIDIA A100 80GB PCIe", "sm": "sm80"}}) == "A100 80GB PCIe"
    assert name(measured={"device": {"name": "NVIDIA H100 80GB HBM3", "sm": "sm90"}}) == "H100 SXM"
    assert name(device={"name": "Tesla T4"}) == "Tesla T4"
    assert name("sm86+sm89") == "GeForce RTX 3090"
    assert name("current") is None


@pytest.mark.parametrize(
    ("error", "dtype", "grave", "said"),
    [
        ({"relative_l2": 0.0596, "ok": True, "reference": "r.onnx"}, "float32", True, "relative error 0.06 against r.onnx"),
        ({"relative_l2": 0.009, "ok": True}, "float32", False, ""),
        ({"relative_l2": 0.0596, "ok": True}, "int8", False, ""),
        ({"relative_l2": 0.02, "ok": True}, "float16", False, ""),
        ({"relative_l2": 0.02, "ok": True}, "float32", True, "more than 0.01"),
        ({"relative_l2": None, "ok": False, "outputs": {"y": {"not_finite": 3}}}, "float32", True, "3 values of y are NaN"),
        ({"relative_l2": 0.001, "ok": False}, "float32", True, "meaningless"),
        (None, "float32", False, "No reference was given"),
    ],
)  # fmt: skip
def test_wrong_outputs_are_told_loudly(error: Any, dtype: str, grave: bool, said: str) -> None:
    made = plan([layer("a", time_ms=1.0, dtype=dtype)], measured={**MEASURED, "error": error})
    assert tolerance(made) == {"int8": 0.1, "float16": 0.03, "float32": 0.01}[dtype]
    found = doubts(made)
    assert [g for g, _ in found] == ([grave] if said else [])
    assert said in "".join(text for _, text in found)


def test_a_series_that_did_not_settle_is_told() -> None:
    shaky = {**MEASURED, "ways": {"plain": {**WAY, "steady": False}, "graph": WAY}}
    assert [(grave, "(plain)" in text) for grave, text in doubts(plan(FOUR, measured=shaky))] == [(False, True)]
    assert doubts(plan(FOUR)) == []


# --- charts ----------------------------------------------------------------------------------------------


def bars(figure: Any) -> list[Any]:
    return [trace for trace in figure.data if trace.type == "bar"]


def test_the_chart_of_slowest_layers() -> None:
    times = measured_times(plan(FOUR))
    assert times is not None
    figure = figures_time.slowest_layers(plan(FOUR), times, top=2, chosen={"a"})
    (bar,) = bars(figure)
    assert list(bar.x) == [1.0, 0.5, 0.0]
    assert list(bar.y) == ["b  #1", "a  #0", "2 others"]
    assert list(bar.marker.line.width) == [0, 3, 0]
    assert figure.layout.title.text == "Slowest layers, measured"
    texts = [t.strip() for t in figure.data[1].text]
    assert texts == ["1.000 ms  50%", "0.500 ms  25%", "0.500 ms  25% together"]
    guess = figures_time.slowest_layers(plan(FOUR), estimated_times(plan(FOUR), CARD))
    assert guess.layout.title.text == "Slowest layers, estimated (at least)"
    assert bars(guess)[0].marker.pattern.shape == "/"
    assert bars(figure)[0].marker.pattern.shape is None


def test_the_timeline_has_measured_durations_and_says_that_begins_are_computed() -> None:
    times = measured_times(plan(FOUR))
    assert times is not None
    figure = figures_time.timeline(plan(FOUR), times, chosen={"d"})
    by_name = {trace.name: trace for trace in figure.data}
    assert (list(by_name["conv"].base), list(by_name["conv"].x)) == ([0.0, 1.75], [0.5, 0.25])
    assert list(by_name["conv"].marker.line.width) == [0.5, 3]
    assert "durations measured, begins computed" in figure.layout.title.text


def test_the_roofline_says_what_is_estimated() -> None:
    times = measured_times(plan(FOUR))
    assert times is not None
    figure = figures_time.roofline(plan(FOUR), times, CARD, chosen={"b"})
    assert "datasheet ceilings: an estimate" in figure.layout.title.text
    lines = [t for t in figure.data if t.mode == "lines"]
    assert all(t.line.dash == "dash" for t in lines)
    dots = {t.name: t for t in figure.data if t.mode == "markers"}
    assert list(dots["conv"].y) == pytest.approx([32e9, 64e9])
    assert (dots["gemm"].marker.symbol, list(dots["gemm"].marker.line.width)) == ("circle", [4])
    assert any("1 layer without operations" in (a.text or "") for a in figure.layout.annotations)
    real = figures_time.roofline(plan(FOUR), estimated_times(plan(FOUR), CARD), replace(CARD, measured=True))
    assert "measured ceilings" in real.layout.title.text
    assert "layers estimated" in real.layout.title.text
    assert {t.marker.symbol for t in real.data if t.mode == "markers"} == {"circle-open"}
    assert all(t.line.dash == "solid" for t in real.data if t.mode == "lines")


def test_latency_and_the_sum_beside_it() -> None:
    made = plan(FOUR, measured=MEASURED)
    figure = figures_time.latency(MEASURED)
    dots = {t.name: t for t in figure.data if t.mode == "markers"}
    assert list(dots["median"].y) == ["one by one", "CUDA graph"]
    assert list(dots["median"].x) == [1.4, 1.0]
    assert list(dots["p99"].x) == [1.5, 1.5]
    both = figures_time.sum_and_whole(made)
    assert both is not None
    assert sum(sum(t.x) for t in bars(both) if t.y == ("sum of layers",)) == 2.0
    assert {t.name: t.x[0] for t in bars(both) if t.y == ("end to end",)} == {"computation": 1.05, "copies": 0.2}
    assert figures_time.sum_and_whole(plan(FOUR)) is None
    assert any("0.950 ms (90%) above the 1.050 ms of computation" in line for line in explain(made))
    assert list(figures_time.ways_of({"latency": WAY})) == ["latency"]  # trtexec's own
    assert figures_time.ways_of({}) == {}


def test_the_distribution_of_latency() -> None:
    assert figures_time.distribution(MEASURED) is None
    ways = {name: {**way, "percentiles_ms": [i / 50 for i in range(101)]} for name, way in MEASURED["ways"].items()}
    figure = figures_time.distribution({**MEASURED, "ways": ways})
    assert figure is not None
    assert [line.name for line in figure.data] == ["CUDA graph", "one by one"]
    assert (figure.data[0].x[50], figure.data[0].y[50]) == (1.0, 50)
    assert figure.layout.xaxis.range[1] < 2.0  # an outlier does not flatten all else


def test_throughput_by_batch() -> None:
    rows = [{"batch": 8, "median_ms": 4.0}, {"batch": 1, "median_ms": 1.0, "throughput": 990.0}]
    figure = figures_time.throughput(rows)
    assert (list(figure.data[0].x), list(figure.data[0].y)) == (["1", "8"], [990.0, 2000.0])
    assert list(figure.data[1].y) == [1.0, 4.0]


def test_time_by_module_is_shared_by_the_modules_of_a_layer() -> None:
    both = (Source(scope="net.a.conv"), Source(scope="net.b"))
    made = plan(
        [layer("a", time_ms=1.0, sources=both), layer("b", time_ms=0.5, sources=both[:1]), layer("c", time_ms=0.25)]
    )
    times = measured_times(made)
    assert times is not None
    tree = figures.treemap(made, times.ms, ms_text, "Time by module, measured").data[0]
    assert dict(zip(tree.ids, tree.values, strict=True)) == {
        "net": 1.5, "net.a": 1.0, "net.a.conv": 1.0, "net.b": 0.5, "(no module)": 0.25,
    }  # fmt: skip
    assert tree.text[0] == "1.500 ms"
    assert list(figures.modules(made, "time_ms").data[0].values) == list(tree.values)


def test_what_took_long_to_build() -> None:
    figure = figures_time.build_times(
        {"load": 0.1, "parse": 0.2, "build": 3.0, "total": 3.4}, {"Engine generation": 2.0}
    )
    (bar,) = bars(figure)
    assert dict(zip(bar.y, bar.x, strict=True)) == {
        "load the compiler": 0.1, "parse the model": 0.2, "build": 3.0, "  engine generation": 2.0,
    }  # fmt: skip


def test_hostile_names_are_no_markup_in_charts_and_pictures() -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    made = plan([layer("a", time_ms=1.0, title=bad)], measured=MEASURED)
    times = measured_times(made)
    assert times is not None
    drawn = [
        figures_time.slowest_layers(made, times),
        figures_time.timeline(made, times),
        figures_time.roofline(made, times, CARD),
    ]
    for figure in drawn:
        text = json.dumps(chart(figure))
        assert "<script" not in text
        assert "<img" not in text
    for picture in svg.charts(made):
        assert "<script" not in picture["svg"]


def test_the_reports_charts_of_time() -> None:
    made = plan(FOUR, measured=MEASURED)
    assert [f["title"] for f in svg.charts(made)][:4] == [
        "Latency",
        "Slowest layers",
        "Time by kind",
        "Roofline",
    ]
    assert "Slowest layers" not in [f["title"] for f in svg.charts(plan([layer("a")]))]
    told = {f["name"]: f["value"] for f in plan_facts(made)}
    assert told["Outputs"] == "relative error 0.001"
    wrong = plan(FOUR, measured={**MEASURED, "error": {"relative_l2": 0.06, "ok": True}})
    assert {f["name"]: f["value"] for f in plan_facts(wrong)}["Outputs"] == "WRONG: relative error 0.06"


def test_no_layers_and_no_times_break_no_chart() -> None:
    nothing = plan([])
    times = LayerTimes({}, False, "")
    for figure in (
        figures_time.slowest_layers(nothing, times), figures_time.timeline(nothing, times),
        figures_time.roofline(nothing, times, CARD), figures_time.latency({}), figures_time.build_times({}, {}),
    ):  # fmt: skip
        assert chart(figure)["data"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "?"), (0, "0.000 ms"), (0.0123, "12.3 µs"), (0.5, "0.500 ms"), (12.34, "12.3 ms"), (12_000, "12 s")],
)
def test_milliseconds_in_words(value: float | None, text: str) -> None:
    assert ms_text(value) == text


# --- what changed ----------------------------------------------------------------------------------------


def test_what_changed_between_two_plans() -> None:
    before = plan([layer("a", nodes=("x", "y")), layer("b", nodes=("z",)), layer("c", "layout", nodes=())])
    after = plan([layer("k", nodes=("y", "x")), layer("l", "gemm", nodes=("z", "w"))])
    after = replace(
        after, config={"precision": "fp16", "targets": ["sm89"]}, compiler={**after.compiler, "version": "2"}
    )
    found = difference(before, after)
    assert found.options == (("version", "1", "2"), ("precision", None, "fp16"))
    assert found.kinds == (("conv", 2, 1), ("gemm", 0, 1), ("layout", 1, 0))
    assert [(a.id, b.id) for a, b in found.same] == [("a", "k")]  # the order of nodes does not matter
    assert ([la.id for la in found.before], [la.id for la in found.after]) == (["b"], ["l"])
    assert found.shared == 3
    assert difference(before, plan([layer("q")])).shared == 0
    alike = difference(before, before)
    assert (alike.options, alike.kinds, alike.before, alike.after, len(alike.same)) == ((), (), (), (), 2)


def test_the_roofline_holds_layers_beyond_its_ceilings_and_shows_its_slope() -> None:
    # Bound by computation, the second quicker than the table says that the GPU is.
    made = plan(
        [
            layer("a", time_ms=1.0, flops=10**12, bytes_read=10**6, bytes_written=10**6),
            layer("b", time_ms=1e-4, flops=10**12),
        ]
    )
    times = measured_times(made)
    assert times is not None
    drawn = svg.roofline(made, times, CARD, height=280)
    ys = [float(y) for y in re.findall(r" c?y[12]?='([\d.-]+)'", drawn)]
    xs = [float(x) for x in re.findall(r" c?x[12]?='([\d.-]+)'", drawn)]
    assert min(y for y in ys if y not in {12, 27}) >= 40 - 4  # the labels of the ceilings stand 4 above their lines
    assert min(x for x in xs if x) >= 50
    slope = figures_time.roofline(made, times, CARD).data[0]
    assert slope.x[0] < slope.x[1]


def test_the_legend_of_many_kinds_stays_in_the_picture() -> None:
    made = plan([layer(kind, kind=kind) for kind in KINDS if kind != "sync"])
    places = [float(x) for x in re.findall(r"<text x='([\d.]+)'", svg.strip(made))]
    assert len(places) == len(KINDS) - 1
    assert max(places) < 880 - 30
