"""Charts: pure functions from plans to plotly figures.

They return `plotly.graph_objects.Figure`, never `FigureWidget`: a saved figure costs kilobytes where a
widget costs megabytes. What is estimated rather than computed or measured is drawn hatched.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from workbench.core.safe_text import visible
from workbench.core.units import bytes_text, count_text, flops_text, ms_text
from workbench.plan import traffic
from workbench.plan.memory import liveness
from workbench.plan.traffic import at_least

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.experiments.whatif import WhatIf
    from workbench.plan import Plan
    from workbench.precision.calibration import Calibration
    from workbench.precision.histogram import Histogram
    from workbench.precision.mixed import Mixed
    from workbench.precision.sensitivity import Sensitivity

KIND_COLOURS = {
    "conv": "#3b6fd4", "gemm": "#5b50c8", "attention": "#a3469e", "pointwise": "#2f9e6e", "norm": "#1f8a8a",
    "softmax": "#57a639", "reduction": "#7fae2e", "pooling": "#2d9cc4", "gather": "#8a6d3b", "layout": "#d9902f",
    "cast": "#c9622e", "shape": "#9aa3ad", "sync": "#b9c0c7", "control": "#b9c0c7", "foreign": "#6b7280", "other": "#6b7280",
}  # fmt: skip
"""One colour for each kind of layer, told apart in light and dark and by most colour-blind readers."""

PRECISION_COLOURS = {
    "float32": "#8a94a3", "float16": "#2f9e6e", "bfloat16": "#1f8a8a", "int8": "#3b6fd4", "float8e4m3fn": "#a3469e",
    "int4": "#5b50c8", "int32": "#c0a15a", "int64": "#c9a227", "bool": "#b9c0c7",
}  # fmt: skip

_GREY, _ACCENT = "#b9c0c7", "#3b6fd4"


def _figure(title: str, *, height: int = 320, **layout: Any) -> go.Figure:
    """An empty figure in the workbench's style; transparent, so that it sits on light and dark pages."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 14}},
        height=height,
        margin={"l": 8, "r": 8, "t": 40, "b": 8},
        font={"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 12, "color": "#7a8594"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"font": {"size": 12}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#9aa5b1", "activecolor": _ACCENT},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "right", "x": 1},
        **layout,
    )
    axis = {"gridcolor": "rgba(128,128,128,0.18)", "zerolinecolor": "rgba(128,128,128,0.3)", "automargin": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def _text(text: str) -> str:
    """Plotly reads some markup in texts, links among it: a name has none.

    Every name that comes from a file goes through this, data types and kinds of layers of a plan among them.
    """
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _labels(names: Sequence[str], size: int, *, end: bool = False) -> list[str]:
    """Names as labels of bars: cut to `size` (the end is kept where `end`), and equal ones numbered.

    Bars of one label would be drawn over or on top of each other.
    """
    cut = [n if len(n) <= size else "…" + n[1 - size :] if end else n[: size - 1] + "…" for n in names]
    seen: Counter[str] = Counter()
    out = []
    for name in cut:
        seen[name] += 1
        out.append(_text(name) + (f" ({seen[name]})" if seen[name] > 1 else ""))
    return out


def _beside_bars(figure: go.Figure, x: Sequence[float], y: Sequence[str], text: Sequence[str], **place: Any) -> None:
    """Values written to the right of horizontal bars.

    A bar's own text is turned sideways where the bar is low. Labels are never numbers or dates, whatever they look like.
    """
    import plotly.graph_objects as go

    figure.update_yaxes(type="category")
    figure.add_trace(
        go.Scatter(x=x, y=y, text=[f" {t}" for t in text], mode="text", textposition="middle right", hoverinfo="skip",
                   showlegend=False, cliponaxis=False, **place)
    )  # fmt: skip


def moved(plan: Plan) -> tuple[str | None, str]:
    """Bytes moved before and after fusion in words; None before where the engine was read without its model."""
    return traffic.moved(plan.summary)


def _whole(count: int) -> int | None:
    """Between ticks of an axis that counts things: of few, plotly would mark halves."""
    return 1 if count <= 12 else None


def before_and_after(plan: Plan) -> go.Figure:
    """Kernel launches and bytes moved, one kernel a node against the plan. Computed, not measured."""
    import plotly.graph_objects as go

    s = plan.summary
    launches = tuple(count_text(n).strip() for n in (s["launches_before"], s["launches_after"]))
    rows: list[tuple[str, int, int, tuple[str | None, str]]] = []  # empty for an engine read without its model
    if s["launches_before"] is not None:
        rows.append(("kernel launches", s["launches_before"], s["launches_after"], (launches[0], launches[1])))
    if s["bytes_before"] is not None:
        rows.append(("bytes moved", s["bytes_before"], s["bytes_after"], moved(plan)))
    unknown = s.get("bytes_unknown")
    left = f" (bytes of {unknown} nodes or layers are not known and not in the sums)" if unknown and rows else ""
    figure = _figure(f"What fusion saved{left}", height=230, bargap=0.3)
    labels = [f"{row[0]}, {when}" for row in rows for when in ("as written", "as compiled")]
    shares = [value / max(row[1], row[2], 1) for row in rows for value in row[1:3]]
    texts = [str(text) for row in rows for text in row[3]]
    figure.add_trace(
        go.Bar(orientation="h", y=labels, x=shares, marker_color=[_GREY, _ACCENT] * len(rows), customdata=texts,
               hovertemplate="%{y}: %{customdata}<extra></extra>", showlegend=False)
    )  # fmt: skip
    _beside_bars(figure, shares, labels, texts)
    figure.update_xaxes(showticklabels=False, range=[0, 1.25])
    figure.update_yaxes(autorange="reversed")
    return figure


def kinds(plan: Plan) -> go.Figure:
    """Bytes moved by kind of layer, with the number of layers."""
    import plotly.graph_objects as go

    found = bytes_by_kind(plan)
    size = {kind: n for kind, (n, _, _) in found.items()}
    order = list(found)[::-1]
    names = [_text(kind) for kind in order]
    figure = _figure("Bytes moved by kind of layer", height=60 + 28 * max(len(order), 3), showlegend=False)
    figure.add_trace(
        go.Bar(
            orientation="h",
            y=names,
            x=[size[k] for k in order],
            marker_color=[KIND_COLOURS.get(k, _GREY) for k in order],
            customdata=[found[k][2] for k in order],
            hovertemplate="%{y}: %{customdata}<extra></extra>",
        )
    )
    told = [f"{found[k][2]} in {found[k][1]} layer{'s' * (found[k][1] > 1)}" for k in order]
    _beside_bars(figure, [size[k] for k in order], names, told)
    figure.update_xaxes(showticklabels=False, range=[0, 1.35 * (max(size.values(), default=0) or 1)])
    return figure


def bytes_by_kind(plan: Plan) -> dict[str, tuple[int, int, str]]:
    """By kind of layer, most bytes first: bytes moved, as far as they are known, how many layers, and the bytes in words."""
    known: dict[str, int] = {}
    count: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for layer in plan.layers:
        if layer.launches:
            known[layer.kind] = known.get(layer.kind, 0) + (layer.bytes or 0)
            count[layer.kind] += 1
            unknown[layer.kind] += layer.bytes is None
    return {
        kind: (
            n,
            count[kind],
            "?" if unknown[kind] == count[kind] else "at least " * (unknown[kind] > 0) + bytes_text(n),
        )
        for kind, n in sorted(known.items(), key=lambda item: -item[1])
    }


def precisions(plan: Plan) -> go.Figure:
    """How many layers compute in which data type."""
    import plotly.graph_objects as go

    counts = plan.summary["precisions"]
    figure = _figure("Layers by precision", height=130, barmode="stack", showlegend=True)
    for dtype, n in counts.items():
        name = _text(dtype) or "unknown"
        figure.add_trace(
            go.Bar(
                name=f"{name}: {n}",
                orientation="h",
                y=["layers"],
                x=[n],
                marker_color=PRECISION_COLOURS.get(dtype, _GREY),
                hovertemplate=f"{name}: %{{x}} layers<extra></extra>",
            )
        )
    figure.update_yaxes(showticklabels=False)
    return figure


def modules(plan: Plan, value: str = "bytes") -> go.Figure:
    """Treemap of the model's modules by ``bytes``, ``flops`` or ``time_ms`` of the layers that execute them."""
    tellers: dict[str, Callable[[float], str]] = {
        "bytes": bytes_text,
        "flops": flops_text,
        "time_ms": ms_text,
    }
    title = {"bytes": "Bytes moved", "flops": "Operations", "time_ms": "Time, measured,"}[value] + " by module"
    return treemap(plan, {layer.id: getattr(layer, value) for layer in plan.layers}, tellers[value], title)


def treemap(plan: Plan, amounts: Mapping[str, float | None], told: Callable[[float], str], title: str) -> go.Figure:
    """Treemap of the model's modules by an amount of each layer; a layer over several modules counts in equal parts."""
    import plotly.graph_objects as go

    totals: dict[str, float] = {}
    parents: dict[str, str] = {}
    for layer in plan.layers:
        amount = amounts.get(layer.id)
        if not amount:
            continue
        scopes = [_text(s.scope) for s in layer.sources if s.scope] or ["(no module)"]
        for scope in scopes:
            parts = scope.split(".")
            for depth in range(len(parts)):
                path = ".".join(parts[: depth + 1])
                parents[path] = ".".join(parts[:depth])
                totals[path] = totals.get(path, 0.0) + amount / len(scopes)
    shades = ["#3b6fd4", "#1f8a8a", "#5b50c8", "#a3469e", "#2f9e6e", "#d9902f", "#8a6d3b", "#6b7280"]
    figure = _figure(title, height=400, treemapcolorway=shades)
    ids = list(totals)
    figure.add_trace(
        go.Treemap(
            ids=ids,
            labels=[i.rpartition(".")[2] for i in ids],
            parents=[parents[i] for i in ids],
            values=[totals[i] for i in ids],
            branchvalues="total",
            text=[told(totals[i]) for i in ids],
            customdata=ids,
            hovertemplate="%{customdata}: %{text}<extra></extra>",
            marker={"line": {"width": 1}},
            tiling={"pad": 2},
        )
    )
    return figure


def memory(plan: Plan) -> go.Figure:
    """Activation bytes alive at each layer, and where the peak is. Computed by liveness."""
    import plotly.graph_objects as go

    live = liveness(plan.layers, [entry["name"] for entry in plan.io])
    figure = _figure(
        f"Activation memory by liveness: peak {at_least(live.peak, len(live.unknown))}", height=280, showlegend=False
    )
    figure.add_trace(
        go.Scatter(
            x=list(range(len(live.live))),
            y=list(live.live),
            mode="lines",
            line={"shape": "hv", "color": _ACCENT, "width": 1.5},
            fill="tozeroy",
            fillcolor="rgba(59,111,212,0.15)",
            customdata=[[_text(layer.title), bytes_text(n)] for layer, n in zip(plan.layers, live.live, strict=True)],
            hovertemplate="layer %{x}: %{customdata[0]}<br>%{customdata[1]} alive<extra></extra>",
        )
    )
    if live.peak:
        figure.add_trace(
            go.Scatter(
                x=[live.peak_layer],
                y=[live.peak],
                mode="markers+text",
                marker={"size": 9, "color": "#c9622e"},
                text=[f"peak at layer {live.peak_layer}"],
                textposition="top center",
                hoverinfo="skip",
                cliponaxis=False,
            )
        )
    figure.update_xaxes(title="layer, in execution order", dtick=_whole(len(live.live)))
    figure.update_yaxes(title="bytes", tickformat="~s", rangemode="tozero", range=[0, live.peak * 1.18 or 1])
    return figure


def streams(plan: Plan) -> go.Figure:
    """Layers on their streams, in the order of the plan, with the events that one stream waits for."""
    import plotly.graph_objects as go

    figure = _figure("Layers on their streams, in plan order", height=120 + 46 * int(plan.summary["streams"]))
    # One trace a kind: a page can't bear one for each of thousands of layers.
    for kind in dict.fromkeys(layer.kind for layer in plan.layers if layer.kind != "sync"):
        own = [(i, layer) for i, layer in enumerate(plan.layers) if layer.kind == kind]
        figure.add_trace(
            go.Bar(
                orientation="h",
                y=[f"stream {layer.stream}" for _, layer in own],
                x=[1] * len(own),
                base=[i for i, _ in own],
                width=0.55,
                name=_text(kind),
                marker={"color": KIND_COLOURS.get(kind, _GREY), "line": {"width": 0}},
                customdata=[
                    f"{i}: {_text(layer.title)}<br>{len(layer.nodes)} node{'s' * (len(layer.nodes) != 1)}"
                    for i, layer in own
                ],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    signals = {layer.event: (i, layer.stream) for i, layer in enumerate(plan.layers) if layer.type == "signal"}
    xs: list[float | None] = []
    ys: list[str | None] = []
    for i, layer in enumerate(plan.layers):
        if layer.type == "wait" and layer.event in signals:
            begin, stream = signals[layer.event]
            xs += [begin + 0.5, i + 0.5, None]
            ys += [f"stream {stream}", f"stream {layer.stream}", None]
    if xs:
        figure.add_trace(
            go.Scatter(
                x=xs, y=ys, mode="lines+markers", name="waits for", line={"color": "#7a8594", "width": 1, "dash": "dot"},
                marker={"symbol": "circle-open", "size": 5}, hoverinfo="skip",
            )
        )  # fmt: skip
    figure.update_layout(barmode="overlay")
    figure.update_yaxes(autorange="reversed", **_streams(layer.stream for layer in plan.layers))
    figure.update_xaxes(title="position in the plan (not time)")
    return figure


def _streams(numbers: Iterable[int]) -> dict[str, Any]:
    """An axis of streams, in the order of their numbers: stream 10 comes after stream 9."""
    return {"categoryorder": "array", "categoryarray": [f"stream {n}" for n in sorted(set(numbers))]}


def operators(counts: dict[str, int], top: int = 24) -> go.Figure:
    """How often each ONNX operation occurs in a model."""
    import plotly.graph_objects as go

    names = sorted(counts, key=lambda name: -counts[name])[:top][::-1]
    some = f", the {top} most frequent of {len(counts)}" if len(counts) > top else ""
    figure = _figure(f"Operations in the graph{some}", height=60 + 20 * max(len(names), 4), showlegend=False)
    labels = [_text(n) for n in names]
    figure.add_trace(
        go.Bar(orientation="h", y=labels, x=[counts[n] for n in names], marker_color=_ACCENT,
               hovertemplate="%{y}: %{x}<extra></extra>")
    )  # fmt: skip
    _beside_bars(figure, [counts[n] for n in names], labels, [str(counts[n]) for n in names])
    figure.update_xaxes(showticklabels=False, range=[0, 1.15 * max((counts[n] for n in names), default=1)])
    return figure


def engines(plans: Sequence[tuple[str, Plan]], value: str = "launches_after") -> go.Figure:
    """One number of several plans side by side; `value` is a key of their summaries."""
    import plotly.graph_objects as go

    told = bytes_text if "bytes" in value else count_text
    figure = _figure(value.replace("_", " "), height=80 + 30 * len(plans), showlegend=False)
    labels = _labels([name for name, _ in plans], 60)
    known = [cast("Mapping[str, int | None]", plan.summary)[value] for _, plan in plans]
    texts = [told(number).strip() for number in known]
    numbers = [number or 0 for number in known]  # None: not known of an engine read without its model
    figure.add_trace(
        go.Bar(orientation="h", y=labels, x=numbers, marker_color=_ACCENT, customdata=texts,
               hovertemplate="%{y}: %{customdata}<extra></extra>")
    )  # fmt: skip
    _beside_bars(figure, numbers, labels, texts)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(showticklabels=False, range=[0, 1.2 * max(numbers, default=1)])
    return figure


# --- precision ----------------------------------------------------------------------------------------

_METHODS = {"entropy": "#3b6fd4", "percentile": "#2f9e6e", "minmax": "#c9622e"}
_BARS = 128


def variants(found: WhatIf) -> go.Figure:
    """Bytes moved, and operations by the type that kernels read, for each precision tried. Computed."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    built = [v for v in found.variants if v.audit is not None]
    names = _labels([v.name for v in built], 34)
    plain = _figure("", height=140 + 30 * len(built))
    titles = ("Bytes moved (computed)", "Operations by the type that kernels read (computed)")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    figure.update_layout(plain.layout)
    figure.update_annotations(font={"size": 13, "color": "#7a8594"}, yshift=4)
    counted = [v.audit.figures for v in built if v.audit is not None]
    size = [row["bytes"] for row in counted]
    told = ["at least " * (row["bytes_unknown"] > 0) + bytes_text(row["bytes"]) for row in counted]
    figure.add_trace(
        go.Bar(orientation="h", y=names, x=size, marker_line_width=0, marker_color=_GREY, hovertemplate="%{y}: %{customdata}<extra></extra>",
               customdata=told, showlegend=False), row=1, col=1
    )  # fmt: skip
    _beside_bars(figure, size, names, told, xaxis="x", yaxis="y")
    types = dict.fromkeys(d for v in built if v.audit for d, row in v.audit.by_precision.items() if row["flops"])
    for dtype in types:
        rows = [(v.audit.by_precision.get(dtype) or {}) if v.audit else {} for v in built]
        flops = [row.get("flops", 0) for row in rows]
        figure.add_trace(
            go.Bar(orientation="h", y=names, x=flops, name=_text(dtype), marker_line_width=0, marker_color=PRECISION_COLOURS.get(dtype, _GREY),
                   customdata=[flops_text(row.get("flops", 0), row.get("flops_unknown", 0)) for row in rows],
                   hovertemplate=f"%{{y}}, {_text(dtype)}: %{{customdata}}<extra></extra>"), row=1, col=2
        )  # fmt: skip
    axis = {"gridcolor": "rgba(128,128,128,0.18)", "zerolinecolor": "rgba(128,128,128,0.3)", "automargin": True}
    figure.update_xaxes(**axis, showticklabels=False)
    figure.update_yaxes(**axis, autorange="reversed")
    figure.update_xaxes(range=[0, 1.3 * max(size, default=1)], row=1, col=1)
    figure.update_xaxes(showticklabels=True, tickformat="~s", ticksuffix="FLOP", nticks=6, row=1, col=2)
    legend = {"yref": "container", "y": 0.0, "yanchor": "bottom", "x": 1, "xanchor": "right"}
    figure.update_layout(barmode="stack", bargap=0.35, legend=legend, margin={"l": 8, "r": 8, "t": 34, "b": 56})
    return figure


def distribution(name: str, histogram: Histogram, *, chosen: str = "entropy", percentile: float = 99.99) -> go.Figure:
    """How often each magnitude of one activation occurred, with the range that each method would choose."""
    import numpy as np
    import plotly.graph_objects as go

    figure = _figure(f"Magnitudes of {_labels([name], 47, end=True)[0]}", height=380, showlegend=True)
    if histogram.counts is None or not histogram.top:
        told = "always zero on these data" if histogram.elements else "never a finite value on these data"
        figure.add_annotation(text=told, showarrow=False, font={"size": 13})
        return figure
    counts = np.asarray(histogram.counts)
    counts = counts.reshape(_BARS, -1).sum(axis=1)
    width = histogram.top / _BARS
    used = max(int(np.max(np.nonzero(counts)[0])) + 1, 1)
    middles = (np.arange(used) + 0.5) * width
    ends = {method: histogram.range(method, percentile) for method in _METHODS}
    inside = middles <= ends[chosen]
    for what, mask, colour in (("kept", inside, "#8fa3c7"), ("cut off", ~inside, "#d9902f")):
        if mask.any():
            figure.add_trace(
                go.Bar(x=middles[mask], y=counts[:used][mask], width=width, marker_color=colour, marker_line_width=0,
                       name=f"{what} by {chosen}", hovertemplate="about %{x:.4g}: %{y} values<extra></extra>")
            )  # fmt: skip
    top = float(np.log10(max(counts.max(), 1)))
    for method, end in ends.items():
        figure.add_trace(
            go.Scatter(x=[end, end], y=[0.8, 10 ** (top * 1.05)], mode="lines", name=f"{method} {end:.4g}",
                       line={"color": _METHODS[method], "width": 3 if method == chosen else 1.5,
                             "dash": "solid" if method == chosen else "dot"}, hoverinfo="name")
        )  # fmt: skip
    # At the bottom of the whole: held against the axes, it would lie on their title where it fits one line.
    below = {"yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0, "xanchor": "left"}
    figure.update_layout(bargap=0, legend=below, margin={"b": 34})
    figure.update_xaxes(title="magnitude", range=[0, 1.02 * max(used * width, *ends.values())])
    figure.update_yaxes(title="values", type="log", range=[-0.1, top * 1.08 + 0.1], dtick=max(1, round(top / 5)))
    return figure


def ranges(calibration: Calibration, *, percentile: float = 99.99) -> go.Figure:
    """The ranges of every method on one chart, as a share of the largest magnitude of each tensor."""
    import plotly.graph_objects as go

    figure = _figure("Where each method ends the range, as a share of the largest magnitude", height=320)
    names = [n for n, h in calibration.tensors.items() if h.amax > 0]
    for method, colour in _METHODS.items():
        ends = [calibration.tensors[n].range(method, percentile) for n in names]
        shares = [end / calibration.tensors[n].amax for end, n in zip(ends, names, strict=True)]
        figure.add_trace(
            go.Scatter(x=list(range(len(names))), y=shares, mode="lines+markers" if len(names) < 80 else "lines", name=method,
                       line={"color": colour, "width": 1.5}, marker={"size": 5}, customdata=[[_text(n), end] for n, end in zip(names, ends, strict=True)],
                       hovertemplate=f"%{{customdata[0]}}<br>{method}: %{{customdata[1]:.4g}} (%{{y:.0%}})<extra></extra>")
        )  # fmt: skip
    figure.update_xaxes(title="tensor, in the graph's order", dtick=_whole(len(names)))
    figure.update_yaxes(tickformat=".0%", range=[0, 1.08])
    return figure


def sensitivities(found: Sensitivity, top: int = 20) -> go.Figure:
    """The error at the outputs when each layer alone is quantized, the most costly first. Measured."""
    import plotly.graph_objects as go

    rows = found.layers[:top]
    names = _labels([str(row["node"]) for row in rows], 39, end=True)
    known = [None if (e := row["relative_l2"]) is None else 100 * float(e) for row in rows]
    longest = max((e for e in known if e is not None and math.isfinite(e)), default=0.0) or 1.0
    errors = [longest if e is None or not math.isfinite(e) else e for e in known]
    texts = ["no number" if e is None else f"{e:.3g} %" if math.isfinite(e) else "not finite" for e in known]
    more = f", the first {top} of {len(found.layers)}" if len(found.layers) > top else ""
    figure = _figure(
        f"Error when quantized alone, measured{more}", height=70 + 24 * max(len(rows), 3), showlegend=False
    )
    figure.add_trace(
        go.Bar(orientation="h", y=names, x=errors, marker_line_width=0, marker_color=_ACCENT, customdata=[[_text(str(row["node"])), _text(row["op"]), text] for row, text in zip(rows, texts, strict=True)],
               hovertemplate="%{customdata[0]} (%{customdata[1]}): %{customdata[2]}<extra></extra>")
    )  # fmt: skip
    _beside_bars(figure, errors, names, texts)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(showticklabels=False, range=[0, 1.2 * longest])
    return figure


def mixture(found: Mixed, layers: int, budget: float) -> go.Figure:
    """The metric against how many layers stay in higher precision: what was tried, the budget, and the choice."""
    import plotly.graph_objects as go

    percent = found.metric == "relative_l2"
    label = {"accuracy": "accuracy", "top1": "top-1 agreement with FP32", "relative_l2": "relative error"}[found.metric]
    figure = _figure(f"{label[:1].upper()}{label[1:]} by layers in higher precision (measured)", height=320)
    best = min if percent else max
    values: dict[int, list[float]] = {}
    for entry in found.tried:
        values.setdefault(int(entry["kept"]), []).append(100 * float(entry["value"]))
    counts = sorted(values)
    figure.add_trace(
        go.Scatter(x=counts, y=[best(values[n]) for n in counts], mode="lines+markers", name="tried",
                   line={"color": _ACCENT, "width": 1.5}, marker={"size": 7},
                   hovertemplate="%{x} layers kept: %{y:.4g} %<extra></extra>")
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(x=[0, layers], y=[100 * budget] * 2, mode="lines", name="budget", hoverinfo="skip",
                   line={"color": "#7a8594", "dash": "dash", "width": 1.5})
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(x=[len(found.keep)], y=[100 * found.value], mode="markers", name="chosen" if found.met else "budget not met",
                   marker={"size": 14, "color": "#c9622e", "symbol": "circle-open", "line": {"width": 3}},
                   hovertemplate="%{x} layers kept: %{y:.4g} %<extra></extra>")
    )  # fmt: skip
    figure.update_xaxes(
        title=f"layers in higher precision, of {layers}",
        range=[-0.03 * layers - 0.2, layers * 1.03 + 0.2],
        dtick=max(1, round(layers / 10)),
    )
    figure.update_yaxes(title=f"{label}, %")
    return figure
