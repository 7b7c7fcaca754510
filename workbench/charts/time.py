"""Charts of time: pure functions from plans and what was measured to plotly figures.

What is estimated is hatched or hollow, and says so in its title; see `workbench.charts.plan` for the style.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from workbench.analysis.times import by_kind, ceilings, measured_times, roofline_points, schedule, slowest
from workbench.charts.palette import ACCENT, AXIS, CHOSEN, GREY, ORANGE, RED, SERIES, SLATE, kind_color
from workbench.charts.style import empty_figure, plain_text, stream_axis, texts_beside_bars
from workbench.core.units import count_text, ms_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.analysis.times import LayerTimes
    from workbench.hardware.devices import DeviceSpec
    from workbench.plan import Layer, Plan
    from workbench.plan.document import SecondsDocument
    from workbench.plan.measured import LatencyDocument, MeasuredDocument

WAYS = {"graph": "CUDA graph", "plain": "one by one", "transfers": "with transfers", "latency": "end to end"}
"""Ways of measuring latency, for people."""

_LEGEND_BELOW: dict[str, Any] = {
    "legend": {"yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    "margin": {"b": 34},
}
"""For charts whose title leaves no room for a legend."""

_POINTS = (("median_ms", "median"), ("p90_ms", "p90"), ("p99_ms", "p99"))


def latency(measured: MeasuredDocument) -> go.Figure:
    """Percentiles of each way of measuring: a line from the fastest to p99, and the median, p90 and p99 on it.

    Args:
        measured: ``plan.facts["measured"]``.
    """
    import plotly.graph_objects as go

    found = ways_of(measured)
    names = [_way(name) for name in found][::-1]
    rows = list(found.values())[::-1]
    figure = empty_figure("Latency, measured", height=96 + 44 * len(rows))
    for name, row in zip(names, rows, strict=True):
        figure.add_trace(
            go.Scatter(x=[row["min_ms"], row["p99_ms"]], y=[name, name], mode="lines", hoverinfo="skip",
                       line={"color": "rgba(128,140,155,0.55)", "width": 5}, showlegend=False)
        )  # fmt: skip
    looks = {
        "median": (ACCENT, "circle", 13),
        "p90": (ORANGE, "diamond", 10),
        "p99": (RED, "line-ns-open", 14),
    }
    for key, word in _POINTS:
        color, symbol, size = looks[word]
        figure.add_trace(
            go.Scatter(
                x=[cast("Mapping[str, Any]", row)[key] for row in rows], y=names, mode="markers", name=word,
                marker={"color": color, "symbol": symbol, "size": size, "line": {"width": 2, "color": color}},
                customdata=[[row["min_ms"], row["max_ms"], row["iterations"]] for row in rows],
                hovertemplate=f"%{{y}}, {word}: %{{x:.4g}} ms<br>fastest %{{customdata[0]:.4g}}, slowest "
                "%{customdata[1]:.4g} ms<br>%{customdata[2]} iterations<extra></extra>",
            )
        )  # fmt: skip
    largest = max((row["p99_ms"] for row in rows), default=1.0)
    figure.update_xaxes(ticksuffix=" ms", rangemode="tozero", range=[0, 1.08 * largest])
    figure.update_yaxes(showgrid=False, range=[-0.6, len(rows) - 0.4])
    return figure


def distribution(measured: MeasuredDocument) -> go.Figure | None:
    """How many of the iterations stay within a time, a line each way; None where no percentiles are known.

    The axis ends a little above the largest p99, so that one outlier does not flatten all else.

    Args:
        measured: ``plan.facts["measured"]``.
    """
    import plotly.graph_objects as go

    found = {name: row for name, row in ways_of(measured).items() if row.get("percentiles_ms")}
    if not found:
        return None
    figure = empty_figure("Iterations that stay within a time, measured", height=260)
    for color, (name, row) in zip(SERIES, found.items(), strict=False):
        figure.add_trace(
            go.Scatter(
                x=row["percentiles_ms"], y=list(range(len(row["percentiles_ms"]))), mode="lines", name=_way(name),
                line={"width": 2, "shape": "hv", "color": color},
                hovertemplate=f"{_way(name)}: %{{y}} % within %{{x:.4g}} ms<extra></extra>",
            )
        )  # fmt: skip
    least, most = min(r["percentiles_ms"][0] for r in found.values()), max(r["p99_ms"] for r in found.values())
    figure.update_xaxes(ticksuffix=" ms", range=[least - 0.04 * (most - least), most + 0.08 * (most - least)])
    figure.update_yaxes(ticksuffix=" %", range=[0, 101])
    figure.update_layout(**_LEGEND_BELOW)
    return figure


def _way(name: str) -> str:
    return WAYS.get(name) or plain_text(name)


def ways_of(measured: MeasuredDocument) -> dict[str, LatencyDocument]:
    """Latency figures by way of measuring; trtexec's is a separate way."""
    if measured.get("ways"):
        return {name: measured["ways"][name] for name in (*WAYS, *measured["ways"]) if name in measured["ways"]}
    return {"latency": measured["latency"]} if measured.get("latency") else {}


def slowest_layers(plan: Plan, times: LayerTimes, *, top: int = 15, chosen: Collection[str] = ()) -> go.Figure:
    """The slowest layers as bars, and all the others in one; layers in `chosen` are outlined."""
    import plotly.graph_objects as go

    rows, rest, count = slowest(plan, times, top)
    total = times.total or 1.0
    position = {layer.id: i for i, layer in enumerate(plan.layers)}
    # The position keeps equal titles apart, and says where in the plan it is.
    labels = [f"{plain_text(_cut(layer.title, 30))}  #{position[layer.id]}" for layer, _ in rows]
    values = [ms for _, ms in rows]
    colors = [kind_color(layer.kind) for layer, _ in rows]
    hover = [_about(layer, position[layer.id]) for layer, _ in rows]
    lines = [3 if layer.id in chosen else 0 for layer, _ in rows]
    texts = [f"{ms_text(v)}  {v / total:.0%}" for v in values]
    largest = max(values, default=1.0)
    if count:
        # No bar: it would dwarf those that are to be compared.
        labels.append(f"{count} other{'s' * (count > 1)}")
        values.append(0.0)
        colors.append(GREY)
        hover.append(labels[-1])
        lines.append(0)
        texts.append(f"{ms_text(rest)}  {rest / total:.0%} together")
    figure = empty_figure(
        f"Slowest layers, {times.word}" + (" (at least)" if times.estimated else ""),
        height=64 + 22 * max(len(labels), 3), showlegend=False,
    )  # fmt: skip
    figure.add_trace(
        go.Bar(
            orientation="h", y=labels, x=values, customdata=hover,
            marker={"color": colors, "line": {"width": lines, "color": CHOSEN}, "pattern": _pattern(times)},
            hovertemplate=f"%{{customdata}}<br>%{{x:.4g}} ms, {times.word}<extra></extra>",
        )
    )  # fmt: skip
    texts_beside_bars(figure, values, labels, texts)
    figure.update_xaxes(showticklabels=False, showgrid=False, range=[0, 1.3 * largest])
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def timeline(plan: Plan, times: LayerTimes, *, chosen: Collection[str] = ()) -> go.Figure:
    """Layers on their streams along a time axis. Durations are measured (or estimated), begins are computed."""
    import plotly.graph_objects as go

    slots = schedule(plan, times)
    streams = sorted({layer.stream for layer, _, _ in slots})
    position = {layer.id: i for i, layer in enumerate(plan.layers)}
    figure = empty_figure(
        f"Timeline: durations {times.word}, begins computed as if layers ran back to back",
        height=132 + 54 * max(len(streams), 1), barmode="overlay",
    )  # fmt: skip
    for kind in by_kind(plan, times):
        own = [slot for slot in slots if slot[0].kind == kind]
        figure.add_trace(
            go.Bar(
                orientation="h", name=plain_text(kind), y=[f"stream {layer.stream}" for layer, _, _ in own],
                base=[begin for _, begin, _ in own], x=[ms for _, _, ms in own], width=0.62,
                customdata=[[_about(layer, position[layer.id]), begin] for layer, begin, _ in own],
                marker={
                    "color": kind_color(kind), "pattern": _pattern(times),
                    "line": {"color": [CHOSEN if layer.id in chosen else "rgba(255,255,255,0.45)" for layer, _, _ in own],
                             "width": [3 if layer.id in chosen else 0.5 for layer, _, _ in own]},
                },
                hovertemplate=f"%{{customdata[0]}}<br>%{{x:.4g}} ms, {times.word}<br>from %{{customdata[1]:.4g}} ms, computed"
                "<extra></extra>",
            )
        )  # fmt: skip
    end = max((begin + ms for _, begin, ms in slots), default=1.0)
    figure.update_xaxes(ticksuffix=" ms", range=[0, end * 1.005])
    figure.update_yaxes(autorange="reversed", showgrid=False, **stream_axis(streams))
    # Below the axis: a title of this length and a legend do not fit on one line.
    figure.update_layout(**_LEGEND_BELOW)
    return figure


def roofline(plan: Plan, times: LayerTimes, on: DeviceSpec, *, chosen: Collection[str] = ()) -> go.Figure:
    """Operations per second against operations per byte, under what the GPU can do. Both axes are logarithmic.

    A measured layer is a filled circle whose area grows with its time; an estimated one is hollow and lies on the
    roof, less the launch overhead. Ceilings from a datasheet are dashed.
    """
    import plotly.graph_objects as go

    points, left = roofline_points(plan, times, on)
    basis = "measured ceilings" if on.measured else "datasheet ceilings: an estimate"
    figure = empty_figure(f"Roofline, layers {times.word}: {plain_text(on.name)}, {basis}", height=440)
    peaks = ceilings(plan, on)
    highest = max([2 * p.intensity for p in points] + [2.5 * peak / on.bandwidth for _, peak in peaks] + [1.0])
    # With a piece of the slope, also where all layers are bound by computation.
    lowest = min([p.intensity for p in points] + [peak / on.bandwidth for _, peak in peaks[:1]], default=1.0) / 2
    style = {"width": 1.5, "dash": "solid" if on.measured else "dash"}
    top = max((peak for _, peak in peaks), default=highest * on.bandwidth)
    figure.add_trace(
        go.Scatter(
            x=[lowest, top / on.bandwidth], y=[lowest * on.bandwidth, top], mode="lines", showlegend=False,
            line={**style, "color": AXIS}, hoverinfo="skip",
        )
    )  # fmt: skip
    for name, peak in peaks:
        figure.add_trace(
            go.Scatter(
                x=[peak / on.bandwidth, highest], y=[peak, peak], mode="lines", showlegend=False,
                line={**style, "color": AXIS}, hoverinfo="skip",
            )
        )  # fmt: skip
        figure.add_annotation(
            x=math.log10(highest), y=math.log10(peak), text=f"{plain_text(name)} {count_text(peak)}FLOP/s", showarrow=False,
            xanchor="right", yanchor="bottom", font={"size": 11},
        )  # fmt: skip
    bend = math.log10(top / on.bandwidth) - math.log10(lowest)  # from the left edge to where the roof is flat
    figure.add_annotation(
        x=math.log10(lowest) + 0.4 * bend, y=math.log10(lowest * on.bandwidth) + 0.4 * bend, showarrow=False,
        text=f"memory {count_text(on.bandwidth)}B/s  ", xanchor="right", yanchor="bottom", font={"size": 11},
    )  # fmt: skip
    longest = max((p.ms for p in points), default=1.0)
    position = {layer.id: i for i, layer in enumerate(plan.layers)}
    for kind in dict.fromkeys(p.layer.kind for p in points):
        own = [p for p in points if p.layer.kind == kind]
        color = kind_color(kind)
        figure.add_trace(
            go.Scatter(
                x=[p.intensity for p in own], y=[p.rate for p in own], mode="markers", name=plain_text(kind),
                customdata=[[_about(p.layer, position[p.layer.id]), ms_text(p.ms),
                             f"{p.share:.0%} of its ceiling" if p.share is not None else "no ceiling is known for its type",
                             f"{count_text(p.rate)}FLOP/s"] for p in own],
                marker={
                    "symbol": "circle-open" if times.estimated else "circle", "color": color, "opacity": 0.85,
                    "size": [7 + 17 * math.sqrt(p.ms / longest) for p in own],
                    "line": {"color": [CHOSEN if p.layer.id in chosen else color for p in own],
                             "width": [4 if p.layer.id in chosen else 1 for p in own]},
                },
                hovertemplate=f"%{{customdata[0]}}<br>%{{customdata[1]}}, {times.word}<br>%{{customdata[3]}} at "
                "%{x:.3g} FLOP/B, %{customdata[2]}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(
        type="log",
        title="operations per byte moved, computed",
        dtick=1,
        range=[math.log10(lowest), math.log10(highest)],
    )
    figure.update_yaxes(type="log", title="operations per second", tickformat="~s", dtick=1)
    if left:
        figure.add_annotation(
            xref="paper", yref="paper", x=1, y=0, xanchor="right", yanchor="bottom", showarrow=False, font={"size": 11},
            text=f"{left} layer{'s' * (left > 1)} without operations or with unknown bytes {'are' if left > 1 else 'is'} not drawn",
        )  # fmt: skip
    figure.update_layout(**_LEGEND_BELOW)
    return figure


def sum_and_whole(plan: Plan) -> go.Figure | None:
    """The layers' times stacked, next to the end-to-end time; None where either was not measured."""
    import plotly.graph_objects as go

    times = measured_times(plan)
    whole = (plan.facts.get("measured") or {}).get("latency")
    if times is None or not whole:
        return None
    figure = empty_figure("Sum of the layers and end to end, measured", height=176, barmode="stack")
    rows = ["sum of layers", "end to end"]
    for kind, ms in by_kind(plan, times).items():
        figure.add_trace(
            go.Bar(orientation="h", y=rows[:1], x=[ms], name=plain_text(kind), marker_color=kind_color(kind),
                   hovertemplate=f"{plain_text(kind)}: %{{x:.4g}} ms<extra></extra>")
        )  # fmt: skip
    # Colors that no kind of layer has: the first would be read as convolutions, the second as layout.
    parts = [("computation", whole["compute_mean_ms"], SLATE), ("copies", whole["transfers_mean_ms"], RED)]
    for name, ms, color in parts:
        if ms > 0:
            figure.add_trace(
                go.Bar(orientation="h", y=rows[1:], x=[ms], name=name, marker_color=color,
                       hovertemplate=f"{name}: %{{x:.4g}} ms<extra></extra>")
            )  # fmt: skip
    ends = [times.total, sum(ms for _, ms, _ in parts)]
    texts_beside_bars(figure, ends, rows, [ms_text(v) for v in ends])
    figure.update_xaxes(ticksuffix=" ms", range=[0, 1.16 * max(ends)])
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(**_LEGEND_BELOW)
    return figure


def throughput(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Samples per second and median latency by batch.

    Args:
        rows: One each batch, with ``batch``, ``median_ms``, and where known ``throughput`` (samples per second).
    """
    import plotly.graph_objects as go

    ordered = sorted(rows, key=lambda row: row["batch"])
    batches = [str(row["batch"]) for row in ordered]
    rates = [rate_of(row) for row in ordered]
    figure = empty_figure("Throughput by batch, measured", height=300)
    figure.add_trace(
        go.Bar(x=batches, y=rates, name="samples per second", marker_color=ACCENT, width=0.5,
               text=[count_text(v).strip() for v in rates], textposition="outside", cliponaxis=False,
               hovertemplate="batch %{x}: %{y:.4g} samples/s<extra></extra>")
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(x=batches, y=[row["median_ms"] for row in ordered], name="median latency", yaxis="y2", mode="lines+markers",
                   line={"color": ORANGE, "width": 2}, hovertemplate="batch %{x}: %{y:.4g} ms<extra></extra>")
    )  # fmt: skip
    figure.update_xaxes(title="batch", type="category")
    figure.update_layout(
        yaxis={"title": "samples per second", "rangemode": "tozero", "tickformat": "~s", "range": [0, 1.15 * max(rates, default=1)]},
        yaxis2={"title": "ms", "overlaying": "y", "side": "right", "rangemode": "tozero", "showgrid": False,
                "automargin": True},
    )  # fmt: skip
    return figure


def build_times(seconds: SecondsDocument, phases: Mapping[str, float]) -> go.Figure:
    """Seconds that a build took by step, and the compiler's own phases within the build. Measured.

    Args:
        seconds: ``plan.seconds``: load, parse, build, total.
        phases: ``plan.facts["phases"]``; they are part of the step "build".
    """
    import plotly.graph_objects as go

    steps = [
        ("load the compiler", seconds.get("load")),
        ("parse the model", seconds.get("parse")),
        ("build", seconds.get("build")),
    ]
    rows = [(name, float(value), ACCENT) for name, value in steps if value is not None]
    rows += [(f"  {plain_text(phase[:1].lower() + phase[1:])}", float(value), GREY) for phase, value in phases.items()]
    figure = empty_figure(
        "Build time, measured; gray is within the build", height=70 + 26 * max(len(rows), 2), showlegend=False
    )
    labels, values = [r[0] for r in rows], [r[1] for r in rows]
    figure.add_trace(
        go.Bar(orientation="h", y=labels, x=values, marker_color=[r[2] for r in rows],
               hovertemplate="%{y}: %{x:.3g} s<extra></extra>")
    )  # fmt: skip
    texts_beside_bars(figure, values, labels, [ms_text(v * 1e3) for v in values])
    figure.update_xaxes(showticklabels=False, range=[0, 1.25 * max(values, default=1)])
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def rate_of(row: Mapping[str, Any]) -> float:
    """Samples per second of one batch: as measured, else the batch over its median latency."""
    given = row.get("throughput")
    return float(given) if given else row["batch"] / row["median_ms"] * 1e3


def _pattern(times: LayerTimes) -> dict[str, Any]:
    return {"shape": "/", "size": 5, "solidity": 0.35, "fillmode": "overlay"} if times.estimated else {}


def _about(layer: Layer, position: int) -> str:
    count = len(layer.nodes)
    return f"{position}: {plain_text(_cut(layer.title, 70))}<br>{plain_text(layer.kind)}, {plain_text(layer.precision) or 'type unknown'}, {count} node{'s' * (count != 1)}"


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"
