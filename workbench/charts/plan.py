"""Charts of a plan: pure functions that return plotly figures.

They return `plotly.graph_objects.Figure`, never `FigureWidget`: a saved figure costs kilobytes where a widget costs
megabytes. What is estimated rather than computed or measured is drawn hatched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from workbench.charts.palette import ACCENT, AXIS, GREY, PEAK, TREEMAP, kind_color, precision_color
from workbench.charts.style import bar_labels, count_ticks, empty_figure, plain_text, stream_axis, texts_beside_bars
from workbench.core.units import bytes_text, count_text, flops_text, ms_text
from workbench.plan.memory import liveness
from workbench.plan.traffic import at_least, moved

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.plan import Plan


def before_and_after(plan: Plan) -> go.Figure:
    """Kernel launches and bytes moved, one kernel per node against the plan. Computed, not measured."""
    import plotly.graph_objects as go

    s = plan.summary
    launches = tuple(count_text(n).strip() for n in (s["launches_before"], s["launches_after"]))
    rows: list[tuple[str, int, int, tuple[str | None, str]]] = []  # empty for an engine read without its model
    if s["launches_before"] is not None:
        rows.append((plan.launches_name, s["launches_before"], s["launches_after"], (launches[0], launches[1])))
    if s["bytes_before"] is not None:
        rows.append(("bytes moved", s["bytes_before"], s["bytes_after"], moved(s)))
    unknown = s.get("bytes_unknown")
    left = f" (bytes of {unknown} nodes or layers are not known and not in the sums)" if unknown and rows else ""
    figure = empty_figure(f"What fusion saved{left}", height=230, bargap=0.3)
    labels = [f"{row[0]}, {when}" for row in rows for when in ("as written", "as compiled")]
    shares = [value / max(row[1], row[2], 1) for row in rows for value in row[1:3]]
    texts = [str(text) for row in rows for text in row[3]]
    figure.add_trace(
        go.Bar(orientation="h", y=labels, x=shares, marker_color=[GREY, ACCENT] * len(rows), customdata=texts,
               hovertemplate="%{y}: %{customdata}<extra></extra>", showlegend=False)
    )  # fmt: skip
    texts_beside_bars(figure, shares, labels, texts)
    figure.update_xaxes(showticklabels=False, range=[0, 1.25])
    figure.update_yaxes(autorange="reversed")
    return figure


def kinds(plan: Plan) -> go.Figure:
    """Bytes moved by kind of layer, with the number of layers."""
    import plotly.graph_objects as go

    found = bytes_by_kind(plan)
    size = {kind: n for kind, (n, _, _) in found.items()}
    order = list(found)[::-1]
    names = [plain_text(kind) for kind in order]
    figure = empty_figure("Bytes moved by kind of layer", height=60 + 28 * max(len(order), 3), showlegend=False)
    figure.add_trace(
        go.Bar(
            orientation="h",
            y=names,
            x=[size[k] for k in order],
            marker_color=[kind_color(k) for k in order],
            customdata=[found[k][2] for k in order],
            hovertemplate="%{y}: %{customdata}<extra></extra>",
        )
    )
    labels = [f"{found[k][2]} in {found[k][1]} layer{'s' * (found[k][1] > 1)}" for k in order]
    texts_beside_bars(figure, [size[k] for k in order], names, labels)
    figure.update_xaxes(showticklabels=False, range=[0, 1.35 * (max(size.values(), default=0) or 1)])
    return figure


def bytes_by_kind(plan: Plan) -> dict[str, tuple[int, int, str]]:
    """By kind of layer, most bytes first: known bytes moved, number of layers, and the bytes as text."""
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
    figure = empty_figure("Layers by precision", height=130, barmode="stack", showlegend=True)
    for dtype, n in counts.items():
        name = plain_text(dtype) or "unknown"
        figure.add_trace(
            go.Bar(
                name=f"{name}: {n}",
                orientation="h",
                y=["layers"],
                x=[n],
                marker_color=precision_color(dtype),
                hovertemplate=f"{name}: %{{x}} layers<extra></extra>",
            )
        )
    figure.update_yaxes(showticklabels=False)
    return figure


def modules(plan: Plan, value: str = "bytes") -> go.Figure:
    """Treemap of the model's modules by ``bytes``, ``flops`` or ``time_ms`` of the layers that execute them."""
    writers: dict[str, Callable[[float], str]] = {
        "bytes": bytes_text,
        "flops": flops_text,
        "time_ms": ms_text,
    }
    title = {"bytes": "Bytes moved", "flops": "Operations", "time_ms": "Time, measured,"}[value] + " by module"
    return treemap(plan, {layer.id: getattr(layer, value) for layer in plan.layers}, writers[value], title)


def treemap(plan: Plan, amounts: Mapping[str, float | None], text_of: Callable[[float], str], title: str) -> go.Figure:
    """Treemap of the model's modules by an amount of each layer; a layer over several modules counts in equal parts."""
    import plotly.graph_objects as go

    totals: dict[str, float] = {}
    parents: dict[str, str] = {}
    for layer in plan.layers:
        amount = amounts.get(layer.id)
        if not amount:
            continue
        scopes = [plain_text(s.scope) for s in layer.sources if s.scope] or ["(no module)"]
        for scope in scopes:
            parts = scope.split(".")
            for depth in range(len(parts)):
                path = ".".join(parts[: depth + 1])
                parents[path] = ".".join(parts[:depth])
                totals[path] = totals.get(path, 0.0) + amount / len(scopes)
    figure = empty_figure(title, height=400, treemapcolorway=TREEMAP)
    ids = list(totals)
    figure.add_trace(
        go.Treemap(
            ids=ids,
            labels=[i.rpartition(".")[2] for i in ids],
            parents=[parents[i] for i in ids],
            values=[totals[i] for i in ids],
            branchvalues="total",
            text=[text_of(totals[i]) for i in ids],
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
    figure = empty_figure(
        f"Activation memory by liveness: peak {at_least(live.peak, len(live.unknown))}", height=280, showlegend=False
    )
    figure.add_trace(
        go.Scatter(
            x=list(range(len(live.live))),
            y=list(live.live),
            mode="lines",
            line={"shape": "hv", "color": ACCENT, "width": 1.5},
            fill="tozeroy",
            fillcolor="rgba(59,111,212,0.15)",
            customdata=[
                [plain_text(layer.title), bytes_text(n)] for layer, n in zip(plan.layers, live.live, strict=True)
            ],
            hovertemplate="layer %{x}: %{customdata[0]}<br>%{customdata[1]} alive<extra></extra>",
        )
    )
    if live.peak:
        figure.add_trace(
            go.Scatter(
                x=[live.peak_layer],
                y=[live.peak],
                mode="markers+text",
                marker={"size": 9, "color": PEAK},
                text=[f"peak at layer {live.peak_layer}"],
                textposition="top center",
                hoverinfo="skip",
                cliponaxis=False,
            )
        )
    figure.update_xaxes(title="layer, in execution order", dtick=count_ticks(len(live.live)))
    figure.update_yaxes(title="bytes", tickformat="~s", rangemode="tozero", range=[0, live.peak * 1.18 or 1])
    return figure


def streams(plan: Plan) -> go.Figure:
    """Layers on their streams, in the order of the plan, with the events that one stream waits for."""
    import plotly.graph_objects as go

    figure = empty_figure("Layers on their streams, in plan order", height=120 + 46 * int(plan.summary["streams"]))
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
                name=plain_text(kind),
                marker={"color": kind_color(kind), "line": {"width": 0}},
                customdata=[
                    f"{i}: {plain_text(layer.title)}<br>{len(layer.nodes)} node{'s' * (len(layer.nodes) != 1)}"
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
                x=xs, y=ys, mode="lines+markers", name="waits for", line={"color": AXIS, "width": 1, "dash": "dot"},
                marker={"symbol": "circle-open", "size": 5}, hoverinfo="skip",
            )
        )  # fmt: skip
    figure.update_layout(barmode="overlay")
    figure.update_yaxes(autorange="reversed", **stream_axis(layer.stream for layer in plan.layers))
    figure.update_xaxes(title="position in the plan (not time)")
    return figure


def operators(counts: dict[str, int], top: int = 24) -> go.Figure:
    """How often each ONNX operation occurs in a model."""
    import plotly.graph_objects as go

    names = sorted(counts, key=lambda name: -counts[name])[:top][::-1]
    some = f", the {top} most frequent of {len(counts)}" if len(counts) > top else ""
    figure = empty_figure(f"Operations in the graph{some}", height=60 + 20 * max(len(names), 4), showlegend=False)
    labels = [plain_text(n) for n in names]
    figure.add_trace(
        go.Bar(orientation="h", y=labels, x=[counts[n] for n in names], marker_color=ACCENT,
               hovertemplate="%{y}: %{x}<extra></extra>")
    )  # fmt: skip
    texts_beside_bars(figure, [counts[n] for n in names], labels, [str(counts[n]) for n in names])
    figure.update_xaxes(showticklabels=False, range=[0, 1.15 * max((counts[n] for n in names), default=1)])
    return figure


def engines(plans: Sequence[tuple[str, Plan]], value: str = "launches_after") -> go.Figure:
    """One number of several plans side by side; `value` is a key of their summaries."""
    import plotly.graph_objects as go

    text_of = bytes_text if "bytes" in value else count_text
    figure = empty_figure(value.replace("_", " "), height=80 + 30 * len(plans), showlegend=False)
    labels = bar_labels([name for name, _ in plans], 60)
    known = [cast("Mapping[str, int | None]", plan.summary)[value] for _, plan in plans]
    texts = [text_of(number).strip() for number in known]
    numbers = [number or 0 for number in known]  # None: unknown for an engine read without its model
    figure.add_trace(
        go.Bar(orientation="h", y=labels, x=numbers, marker_color=ACCENT, customdata=texts,
               hovertemplate="%{y}: %{customdata}<extra></extra>")
    )  # fmt: skip
    texts_beside_bars(figure, numbers, labels, texts)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(showticklabels=False, range=[0, 1.2 * max(numbers, default=1)])
    return figure
