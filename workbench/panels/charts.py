"""Plotly figures in panels, and tabs that draw them when they are opened."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.panels.closing import put

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.panels.base import Panel


# The last one sends the chart to Plotly's server.
_NO_BUTTONS = ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "sendChartToCloud"]


def chart(figure: go.Figure) -> dict[str, Any]:
    """A plotly figure as a display output: kilobytes, where a FigureWidget is megabytes."""
    data = figure.to_plotly_json()
    import json

    from plotly.utils import PlotlyJSONEncoder

    # Without plotly's "responsive": at its second resize (a change of theme is one) it takes the height from the page,
    # where none is set, and the chart disappears. Jupyter's renderer fits the width without it.
    config = {"displaylogo": False, "modeBarButtonsToRemove": _NO_BUTTONS, "plotlyServerURL": ""}
    plain = json.loads(json.dumps({**data, "config": config}, cls=PlotlyJSONEncoder))
    title = (figure.layout.title.text or "chart") if figure.layout.title else "chart"
    return {
        "output_type": "display_data",
        "data": {"application/vnd.plotly.v1+json": plain, "text/plain": title},
        "metadata": {},
    }


def chart_area(figure: go.Figure) -> w.Output:
    """A place for a figure, with the figure's height.

    Plotly makes a chart as high as its place, and a place that was hidden when the chart was drawn has no height.
    """
    out = w.Output(outputs=(chart(figure),), layout=w.Layout(width="100%", height=f"{figure.layout.height}px"))
    out.add_class("wbp-plot")
    return out


class Charts(w.Tab):  # type: ignore[misc]
    """Tabs that make their content when they are first opened.

    In a hidden place plotly has no room and draws nonsense, and a tab that nobody opens costs nothing.
    """

    children: Any
    selected_index: Any

    def __init__(self, panel: Panel) -> None:
        self._panel = weakref.ref(panel)
        self._makers: list[Callable[[], w.Widget]] = []
        self._made: set[int] = set()
        self._names: list[str] = []
        super().__init__(layout=w.Layout(width="100%"))
        self.observe(panel.guard(self._opened), "selected_index")

    def fill(self, tabs: Sequence[tuple[str, Callable[[], w.Widget]]]) -> None:
        """Replace the tabs; one with the name of the open tab is open again."""
        before = self._names[self.selected_index] if self._names and self.selected_index is not None else ""
        self._names = [name for name, _ in tabs]
        self._makers = [make for _, make in tabs]
        self._made = set()
        places = [w.VBox(layout=w.Layout(width="100%", min_height="60px")) for _ in tabs]
        put(self, places, self._panel() or self)
        self.titles = self._names
        index = self._names.index(before) if before in self._names else 0
        self.selected_index = index
        self._opened()

    def renew(self, name: str) -> None:
        """Make the content of a tab again: now if it is open, else when it is opened."""
        if name in self._names:
            self._made.discard(self._names.index(name))
            self._opened()

    @property
    def opened(self) -> str:
        """The name of the open tab; "" if there are no tabs."""
        return self._names[self.selected_index] if self._names and self.selected_index is not None else ""

    def _opened(self, _change: object = None) -> None:
        index = self.selected_index
        if index is None or index in self._made or index >= len(self._makers):
            return
        self._made.add(index)
        put(self.children[index], [self._makers[index]()], self._panel() or self)
