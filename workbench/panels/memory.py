"""Memory: activations alive at each layer, weights, and the tensors at the peak."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w

from workbench.charts import plan as figures
from workbench.core.units import bytes_text
from workbench.panels.base import Panel
from workbench.panels.charts import chart
from workbench.panels.code import build_line
from workbench.panels.parts import NO_ENGINE, empty, fact_row, table_html
from workbench.plan import liveness
from workbench.plan.traffic import at_least

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.workspace import Workspace


class MemoryPanel(Panel):
    """The memory that a plan needs."""

    title = "Memory"

    def __init__(self, session: Workspace) -> None:
        self._facts = w.HTML()
        self._chart = w.Output(layout=w.Layout(width="100%"))
        self._peak = w.HTML(layout=w.Layout(width="100%"))
        super().__init__(session)

    def show_engine(self, engine: Engine | None) -> None:
        """Show the memory of `engine`'s plan."""
        if engine is None:
            self.body.children = [empty(NO_ENGINE)]
            return
        plan = engine.plan
        live = liveness(plan.layers, [entry["name"] for entry in plan.io])
        reported = plan.facts.get("memory", {})
        facts = [
            {"name": "peak activations", "value": at_least(live.peak, len(live.unknown)), "note": "computed by liveness"},
            *([{"name": "activations", "value": bytes_text(reported["Total Activation Memory"]), "note": "reported by the compiler"}]
              if "Total Activation Memory" in reported else []),
            {"name": "weights", "value": bytes_text(plan.summary["weight_bytes"]), "note": "constants of the layers"},
            {"name": "engine file", "value": bytes_text(engine.bytes), "note": "on disk"},
        ]  # fmt: skip
        self._facts.value = fact_row(facts)
        self._chart.outputs = (chart(figures.memory(plan)),)
        peak = plan.layers[live.peak_layer] if live.peak_layer >= 0 else None
        rows = [
            [name, bytes_text(size), f"{size / live.peak:.0%}" if live.peak else ""] for name, size in live.at_peak[:12]
        ]
        where = f"Alive at layer {live.peak_layer}, {peak.title}" if peak else ""
        unknown = f" {len(live.unknown)} tensors of unknown size are not counted." if live.unknown else ""
        more = (
            " The compiler's figure can be larger: layers on several streams overlap, and kernels use scratch memory."
            if "Total Activation Memory" in reported
            else ""
        )
        self._peak.value = f"<p class='wbp-quiet'>{where}.{unknown}{more}</p>" + table_html(
            ["tensor at the peak", "size", "share"], rows, numeric=(1, 2)
        )
        self.body.children = [self._facts, self._chart, self._peak]
        self.set_code([
            build_line(engine), "from workbench.plan import liveness",
            'live = liveness(engine.plan.layers, [io["name"] for io in engine.plan.io])', "live.peak, live.at_peak",
        ])  # fmt: skip
