"""Streams: layers on their CUDA streams, with the events that one stream waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w

from workbench.charts import plan as figures
from workbench.panels.base import Panel
from workbench.panels.charts import chart
from workbench.panels.code import build_line
from workbench.panels.parts import NO_ENGINE, empty, fact_row

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.workspace import Workspace


class StreamsPanel(Panel):
    """What may run side by side."""

    title = "Streams"

    def __init__(self, session: Workspace) -> None:
        self._facts = w.HTML()
        self._chart = w.Output(layout=w.Layout(width="100%"))
        self._note = w.HTML()
        super().__init__(session)

    def show_engine(self, engine: Engine | None) -> None:
        """Show the streams of `engine`'s plan."""
        if engine is None:
            self.body.children = [empty(NO_ENGINE)]
            return
        plan = engine.plan
        used = sorted({layer.stream for layer in plan.layers})
        sync = [layer for layer in plan.layers if layer.kind == "sync"]
        counts = {s: sum(layer.stream == s and layer.launches for layer in plan.layers) for s in used}
        self._facts.value = fact_row(
            [
                {"name": "streams", "value": len(used)},
                {"name": "signals", "value": sum(layer.type == "signal" for layer in sync)},
                {"name": "waits", "value": sum(layer.type == "wait" for layer in sync)},
                {"name": "kernels by stream", "value": ", ".join(str(n) for n in counts.values())},
            ]
        )
        self._chart.outputs = (chart(figures.streams(plan)),)
        self._note.value = (
            "<p class='wbp-quiet'>Position is the order of the plan, not time: how long a layer takes is known only "
            "where it runs. A dotted line joins the signal of an event with a wait for it.</p>"
            if len(used) > 1
            else "<p class='wbp-quiet'>Everything runs on one stream. "
            "<code>max_aux_streams</code> allows more, where the compiler finds independent work.</p>"
        )
        self.body.children = [self._facts, self._chart, self._note]
        self.set_code([build_line(engine), "engine.plan.to_frame().groupby('stream')['id'].count()"])
