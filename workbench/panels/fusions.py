"""Fusions: the map, the table, the charts, and details of what is selected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.charts import plan as figures
from workbench.core.errors import WorkbenchError
from workbench.panels.base import Panel
from workbench.panels.charts import chart
from workbench.panels.code import build_line, inspect_line
from workbench.panels.parts import NO_ENGINE, beside, empty, fact_row, profile_error, warning
from workbench.present.facts import plan_facts
from workbench.present.lens import Lens
from workbench.widgets import DetailsView, FusionView, GraphView, TableView

if TYPE_CHECKING:
    from workbench.core.events import Event
    from workbench.engine import Engine
    from workbench.workspace import Workspace


_TIMES = ("Latency", "Sum of layers", "Outputs")


class FusionsPanel(Panel):
    """Which operations were fused into one kernel."""

    title = "Fusions"

    def __init__(self, session: Workspace, lens: Lens | None = None) -> None:
        self._facts = w.HTML()
        self._tabs = w.Tab(layout=w.Layout(width="100%"))
        self._map: FusionView | GraphView | None = None
        self._table: TableView | None = None
        self._nodes: TableView | None = None
        self._details: DetailsView | None = None
        self._charts = w.Output(layout=w.Layout(width="100%"))
        self._lens: Lens | None = None
        super().__init__(session, lens=lens)
        self._tabs.observe(self.guard(self._draw_charts), "selected_index")

    def show_engine(self, engine: Engine | None) -> None:
        """Show the fusions of `engine`."""
        if engine is None:
            self.body.children = [empty(NO_ENGINE)]
            return
        lens = Lens.of(engine)
        if lens.graph is None:
            self.show_error(
                WorkbenchError(
                    f"Only the plan can be shown: {lens.missing}",
                    hint="Put the model's file back to see the rest.",
                    code="model-gone",
                )
            )
        elif lens.times_missing:
            self.show_error(profile_error(lens.times_missing))
        self.show_lens(lens)
        self._code_for(engine)

    def show_lens(self, lens: Lens) -> None:
        """Show the fusions of a plan."""
        self._lens = lens
        all_facts = plan_facts(lens.plan)
        shown = all_facts[:5] + [fact for fact in all_facts[5:] if fact["name"] in _TIMES]
        self._facts.value = warning(lens.plan.problems[:3]) + fact_row(shown)
        wanted: type[FusionView | GraphView] = GraphView if lens.graph is None else FusionView
        if isinstance(self._map, wanted) and self._table is not None and self._details is not None:
            # The same views with other data keep what the user has arranged.
            for view in (self._map, self._table, self._details, *([self._nodes] if self._nodes and lens.graph else [])):
                view.show(lens)
        else:
            self._make_views(lens, wanted)
        self.body.children = [self._facts, self._tabs]
        self._charts.outputs = ()
        self._draw_charts()
        if self._fixed is not None:
            self.set_code([inspect_line(lens.plan), "session.panel('fusions', plan=plan)"])

    def _make_views(self, lens: Lens, kind: type[FusionView | GraphView]) -> None:
        session, fail = self.session, self.show_error
        for view in (self._map, self._table, self._nodes, self._details):
            if view is not None:
                view.close()
        self._map = kind(session, lens, on_error=fail, height=600)
        self._details = DetailsView(session, lens, on_error=fail, height=600)
        self._table = TableView(session, lens, on_error=fail, height=560)
        self._nodes = (
            TableView(session, lens, what="nodes", on_error=fail, height=560) if lens.graph is not None else None
        )
        together = beside(self._map, self._details)
        tabs: list[tuple[str, w.Widget]] = [("Map", together), ("Layers", self._table)]
        if self._nodes is not None:
            tabs.append(("ONNX nodes", self._nodes))
        tabs.append(("Charts", self._charts))
        # With fewer tabs than before, ipywidgets would keep a tab selected that is gone.
        if (self._tabs.selected_index or 0) >= len(tabs):
            self._tabs.selected_index = 0
        self._tabs.children = [child for _, child in tabs]
        for i, (title, _) in enumerate(tabs):
            self._tabs.set_title(i, title)

    def _draw_charts(self, _change: object = None) -> None:
        """Draw the charts when their tab is open: in a hidden place plotly has no room and draws nonsense."""
        hidden = self._tabs.selected_index is None or self._tabs.children[self._tabs.selected_index] is not self._charts
        if self._lens is None or hidden or self._charts.outputs:
            return
        plan = self._lens.plan
        drawn = [figures.before_and_after(plan), figures.kinds(plan), figures.precisions(plan)]
        if any(s.scope for layer in plan.layers for s in layer.sources):
            drawn.append(figures.modules(plan))
        self._charts.outputs = tuple(chart(figure) for figure in drawn)

    def heard(self, event: Event) -> None:
        """Follow the selection, and new errors of the engine."""
        super().heard(event)
        if (
            event.kind == "errors-added"
            and self._fixed is None
            and (engine := self.session.engines.current) is not None
        ):
            self.show_engine(engine)  # the map has one more overlay
        if self._fixed is None and event.kind == "selection" and (engine := self.session.engines.current) is not None:
            self._code_for(engine)

    def _code_for(self, engine: Engine) -> None:
        lines: list[Any] = [build_line(engine), "engine.plan.to_frame()"]
        selection = self.session.selection
        if selection.ids:
            shown = list(selection.ids[:8])
            lines.append(f"session.selection = {shown!r}")
            lines.append("[engine.plan.by_id[i] for i in session.selection]" if selection.kind == "layer"
                         else "[engine.plan.layers_of.get(i) for i in session.selection]")  # fmt: skip
        self.set_code([*lines, "session.panel('fusions')"])
