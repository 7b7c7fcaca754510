"""Charts of precision: what quantization and calibration do to a model. Pure functions that return plotly figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workbench.charts.palette import ACCENT, AXIS, GREY, KEPT, METHODS, ORANGE, PEAK, precision_color
from workbench.charts.style import bar_labels, count_ticks, empty_figure, plain_text, texts_beside_bars
from workbench.core.units import bytes_text, flops_text
from workbench.plan.columns import capital

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.experiments.whatif import WhatIf
    from workbench.precision.calibration import Calibration
    from workbench.precision.histogram import Histogram
    from workbench.precision.mixed import Mixed
    from workbench.precision.sensitivity import Sensitivity

_BARS = 128


def variants(found: WhatIf) -> go.Figure:
    """Bytes moved, and operations by the type that kernels read, for each precision tried. Computed."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    built = [v for v in found.variants if v.audit is not None]
    names = bar_labels([v.name for v in built], 34)
    plain = empty_figure("", height=140 + 30 * len(built))
    titles = ("Bytes moved (computed)", "Operations by the type that kernels read (computed)")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    figure.update_layout(plain.layout)
    figure.update_annotations(font={"size": 13, "color": AXIS}, yshift=4)
    counted = [v.audit.figures for v in built if v.audit is not None]
    size = [row["bytes"] for row in counted]
    sizes = ["at least " * (row["bytes_unknown"] > 0) + bytes_text(row["bytes"]) for row in counted]
    figure.add_trace(
        go.Bar(orientation="h", y=names, x=size, marker_line_width=0, marker_color=GREY, hovertemplate="%{y}: %{customdata}<extra></extra>",
               customdata=sizes, showlegend=False), row=1, col=1
    )  # fmt: skip
    texts_beside_bars(figure, size, names, sizes, xaxis="x", yaxis="y")
    types = dict.fromkeys(d for v in built if v.audit for d, row in v.audit.by_precision.items() if row["flops"])
    for dtype in types:
        rows = [(v.audit.by_precision.get(dtype) or {}) if v.audit else {} for v in built]
        flops = [row.get("flops", 0) for row in rows]
        figure.add_trace(
            go.Bar(orientation="h", y=names, x=flops, name=plain_text(dtype), marker_line_width=0, marker_color=precision_color(dtype),
                   customdata=[flops_text(row.get("flops", 0), row.get("flops_unknown", 0)) for row in rows],
                   hovertemplate=f"%{{y}}, {plain_text(dtype)}: %{{customdata}}<extra></extra>"), row=1, col=2
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

    figure = empty_figure(f"Magnitudes of {bar_labels([name], 47, end=True)[0]}", height=380, showlegend=True)
    if histogram.counts is None or not histogram.top:
        text = "always zero on these data" if histogram.elements else "never a finite value on these data"
        figure.add_annotation(text=text, showarrow=False, font={"size": 13})
        return figure
    counts = np.asarray(histogram.counts)
    counts = counts.reshape(_BARS, -1).sum(axis=1)
    width = histogram.top / _BARS
    used = max(int(np.max(np.nonzero(counts)[0])) + 1, 1)
    middles = (np.arange(used) + 0.5) * width
    ends = {method: histogram.range(method, percentile) for method in METHODS}
    inside = middles <= ends[chosen]
    for what, mask, color in (("kept", inside, KEPT), ("cut off", ~inside, ORANGE)):
        if mask.any():
            figure.add_trace(
                go.Bar(x=middles[mask], y=counts[:used][mask], width=width, marker_color=color, marker_line_width=0,
                       name=f"{what} by {chosen}", hovertemplate="about %{x:.4g}: %{y} values<extra></extra>")
            )  # fmt: skip
    top = float(np.log10(max(counts.max(), 1)))
    for method, end in ends.items():
        figure.add_trace(
            go.Scatter(x=[end, end], y=[0.8, 10 ** (top * 1.05)], mode="lines", name=f"{method} {end:.4g}",
                       line={"color": METHODS[method], "width": 3 if method == chosen else 1.5,
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

    figure = empty_figure("Where each method ends the range, as a share of the largest magnitude", height=320)
    names = [n for n, h in calibration.tensors.items() if h.amax > 0]
    for method, color in METHODS.items():
        ends = [calibration.tensors[n].range(method, percentile) for n in names]
        shares = [end / calibration.tensors[n].amax for end, n in zip(ends, names, strict=True)]
        figure.add_trace(
            go.Scatter(x=list(range(len(names))), y=shares, mode="lines+markers" if len(names) < 80 else "lines", name=method,
                       line={"color": color, "width": 1.5}, marker={"size": 5}, customdata=[[plain_text(n), end] for n, end in zip(names, ends, strict=True)],
                       hovertemplate=f"%{{customdata[0]}}<br>{method}: %{{customdata[1]:.4g}} (%{{y:.0%}})<extra></extra>")
        )  # fmt: skip
    figure.update_xaxes(title="tensor, in the graph's order", dtick=count_ticks(len(names)))
    figure.update_yaxes(tickformat=".0%", range=[0, 1.08])
    return figure


def sensitivities(found: Sensitivity, top: int = 20) -> go.Figure:
    """The error at the outputs when each layer alone is quantized, the most costly first. Measured."""
    import plotly.graph_objects as go

    rows = found.layers[:top]
    names = bar_labels([str(row["node"]) for row in rows], 39, end=True)
    known = [None if (e := row["relative_l2"]) is None else 100 * float(e) for row in rows]
    longest = max((e for e in known if e is not None and math.isfinite(e)), default=0.0) or 1.0
    errors = [longest if e is None or not math.isfinite(e) else e for e in known]
    texts = ["no number" if e is None else f"{e:.3g} %" if math.isfinite(e) else "not finite" for e in known]
    more = f", the first {top} of {len(found.layers)}" if len(found.layers) > top else ""
    figure = empty_figure(
        f"Error when quantized alone, measured{more}", height=70 + 24 * max(len(rows), 3), showlegend=False
    )
    figure.add_trace(
        go.Bar(orientation="h", y=names, x=errors, marker_line_width=0, marker_color=ACCENT, customdata=[[plain_text(str(row["node"])), plain_text(row["op"]), text] for row, text in zip(rows, texts, strict=True)],
               hovertemplate="%{customdata[0]} (%{customdata[1]}): %{customdata[2]}<extra></extra>")
    )  # fmt: skip
    texts_beside_bars(figure, errors, names, texts)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(showticklabels=False, range=[0, 1.2 * longest])
    return figure


def mixture(found: Mixed, layers: int, budget: float) -> go.Figure:
    """The metric against how many layers stay in higher precision: what was tried, the budget, and the choice."""
    import plotly.graph_objects as go

    percent = found.metric == "relative_l2"
    label = {"accuracy": "accuracy", "top1": "top-1 agreement with FP32", "relative_l2": "relative error"}[found.metric]
    figure = empty_figure(f"{capital(label)} by layers in higher precision (measured)", height=320)
    best = min if percent else max
    values: dict[int, list[float]] = {}
    for entry in found.tried:
        values.setdefault(int(entry["kept"]), []).append(100 * float(entry["value"]))
    counts = sorted(values)
    figure.add_trace(
        go.Scatter(x=counts, y=[best(values[n]) for n in counts], mode="lines+markers", name="tried",
                   line={"color": ACCENT, "width": 1.5}, marker={"size": 7},
                   hovertemplate="%{x} layers kept: %{y:.4g} %<extra></extra>")
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(x=[0, layers], y=[100 * budget] * 2, mode="lines", name="budget", hoverinfo="skip",
                   line={"color": AXIS, "dash": "dash", "width": 1.5})
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(x=[len(found.keep)], y=[100 * found.value], mode="markers", name="chosen" if found.met else "budget not met",
                   marker={"size": 14, "color": PEAK, "symbol": "circle-open", "line": {"width": 3}},
                   hovertemplate="%{x} layers kept: %{y:.4g} %<extra></extra>")
    )  # fmt: skip
    figure.update_xaxes(
        title=f"layers in higher precision, of {layers}",
        range=[-0.03 * layers - 0.2, layers * 1.03 + 0.2],
        dtick=max(1, round(layers / 10)),
    )
    figure.update_yaxes(title=f"{label}, %")
    return figure
