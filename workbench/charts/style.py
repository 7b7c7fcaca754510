"""The style of the charts: an empty figure, texts that are safe in plotly, and labels next to bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from workbench.charts.palette import ACCENT, AXIS, MODEBAR
from workbench.core.safe_text import visible

if TYPE_CHECKING:
    import plotly.graph_objects as go


def empty_figure(title: str, *, height: int = 320, **layout: Any) -> go.Figure:
    """An empty figure in the workbench's style; transparent, so that it sits on light and dark pages."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 14}},
        height=height,
        margin={"l": 8, "r": 8, "t": 40, "b": 8},
        font={"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 12, "color": AXIS},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"font": {"size": 12}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": MODEBAR, "activecolor": ACCENT},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "right", "x": 1},
        **layout,
    )
    axis = {"gridcolor": "rgba(128,128,128,0.18)", "zerolinecolor": "rgba(128,128,128,0.3)", "automargin": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def plain_text(text: str) -> str:
    """Plotly reads some markup in texts, links among it: a name has none.

    Every name that comes from a file goes through this, data types and kinds of layers of a plan among them.
    """
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def bar_labels(names: Sequence[str], size: int, *, end: bool = False) -> list[str]:
    """Names as labels of bars: cut to `size` (the end is kept where `end`), and equal ones numbered.

    Bars of one label would be drawn over or on top of each other.
    """
    cut = [n if len(n) <= size else "…" + n[1 - size :] if end else n[: size - 1] + "…" for n in names]
    seen: Counter[str] = Counter()
    out = []
    for name in cut:
        seen[name] += 1
        out.append(plain_text(name) + (f" ({seen[name]})" if seen[name] > 1 else ""))
    return out


def texts_beside_bars(
    figure: go.Figure, x: Sequence[float], y: Sequence[str], text: Sequence[str], **place: Any
) -> None:
    """Values written to the right of horizontal bars.

    A bar's own text is turned sideways where the bar is low. Labels are never numbers or dates, whatever they look like.
    """
    import plotly.graph_objects as go

    figure.update_yaxes(type="category")
    figure.add_trace(
        go.Scatter(x=x, y=y, text=[f" {t}" for t in text], mode="text", textposition="middle right", hoverinfo="skip",
                   showlegend=False, cliponaxis=False, **place)
    )  # fmt: skip


def count_ticks(count: int) -> int | None:
    """Between ticks of an axis that counts things: of few, plotly would mark halves."""
    return 1 if count <= 12 else None


def stream_axis(numbers: Iterable[int]) -> dict[str, Any]:
    """An axis of streams, in the order of their numbers: stream 10 comes after stream 9."""
    return {"categoryorder": "array", "categoryarray": [f"stream {n}" for n in sorted(set(numbers))]}
