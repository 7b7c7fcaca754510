"""Streams: layers on their CUDA streams, and the events that one stream waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w

from workbench import compilers
from workbench.charts import plan as figures
from workbench.compilers.base import Builds
from workbench.compilers.options import option_fields
from workbench.panels.base import Panel
from workbench.panels.charts import chart
from workbench.panels.code import build_line
from workbench.panels.parts import NO_ENGINE, empty, fact_row

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.workspace import Workspace


class StreamsPanel(Panel):
    """Which layers can run at the same time."""

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
        self._note.value = f"<p class='wbp-quiet'>{_note(engine, len(used))}</p>"
        self.body.children = [self._facts, self._chart, self._note]
        self.set_code([build_line(engine), "engine.plan.to_frame().groupby('stream')['id'].count()"])


def _note(engine: Engine, streams: int) -> str:
    if engine.plan.device_kind == "cpu":
        return "This engine runs on the CPU. Its layers run one after another."
    if streams > 1:
        return (
            "The position is the order of the plan, not time: how long a layer takes is known only where it runs. A dotted "
            "line joins the signal of an event with a wait for it."
        )
    compiler = compilers.find(engine.config.compiler, Builds)
    if compiler is None or "max_aux_streams" not in option_fields(compiler.options):
        return "All layers run on one stream."
    return "All layers run on one stream. <code>max_aux_streams</code> allows more, if the compiler finds independent work."
