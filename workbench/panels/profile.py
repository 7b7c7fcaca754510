"""Profile: where an engine spends its time, measured on this machine, read from trtexec's files, or estimated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench import compilers
from workbench.analysis import roofline
from workbench.analysis.times import (
    LayerTimes,
    cards,
    device_of,
    doubts,
    estimated_times,
    explain,
    measured_ceilings,
    measured_times,
)
from workbench.charts import plan as figures
from workbench.charts import time as figures_time
from workbench.compilers.base import Profiles
from workbench.core.errors import CompilerUnavailableError, WorkbenchError
from workbench.core.units import ms_text
from workbench.hardware import devices
from workbench.panels.base import Panel, engine_label
from workbench.panels.charts import Charts, chart, chart_area
from workbench.panels.code import arguments, build_line, inspect_line
from workbench.panels.parts import NO_ENGINE, beside, empty, fact_row, profile_error, table_html
from workbench.panels.profile_form import ProfileForm
from workbench.panels.profile_rows import conditions, headline, kernel_rows, sweep_of, sweep_rows
from workbench.panels.work import Work
from workbench.present.lens import Lens
from workbench.widgets import DetailsView, TableView

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.core.events import Event
    from workbench.engine import Engine
    from workbench.measure.document import Profile
    from workbench.workspace import Workspace

_MEASURED = "measured"
MOST = 300
"""Kernels that are listed."""

_TRTEXEC = (
    "To see times of an engine that ran elsewhere, read trtexec's files: "
    '<code>plan = session.files.inspect("layers.json", profile="profile.json", times="times.json")</code>, then '
    '<code>session.panel("profile", plan)</code>'
)


class ProfilePanel(Panel):
    """Where an engine spends its time."""

    title = "Profile"
    work: Work

    def __init__(self, session: Workspace, lens: Lens | None = None) -> None:
        self._lens: Lens | None = None
        self._engine: Engine | None = None
        self._document: Profile | None = None
        self._times: LayerTimes | None = None
        self._given: Mapping[str, Any] | None = None
        self._charts: dict[str, tuple[w.Output, Callable[[], go.Figure]]] = {}
        self._stale: set[str] = set()
        self._table: TableView | None = None
        self._details: DetailsView | None = None
        wide = w.Layout(width="100%")
        self.button = w.Button(
            description="Measure", button_style="primary", icon="play", layout=w.Layout(width="120px")
        )
        self._more = w.ToggleButton(description="Options", icon="sliders", layout=w.Layout(width="100px"))
        self.form = ProfileForm()
        self.work = Work(self, [self.button], keep_bars=True)
        self._measure = w.VBox(
            [w.HBox([self.button, self.work.cancel, self._more, self.work.status],
                    layout=w.Layout(flex_flow="row wrap", width="100%", align_items="center")),
             self.form, self.work.bars], layout=wide,
        )  # fmt: skip
        self._facts, self._words = w.HTML(layout=wide), w.HTML(layout=wide)
        self.gpu = w.Dropdown(
            options=cards(), value=None, tooltip="Compare the plan with the limits of this GPU", description="Estimate for",
            layout=w.Layout(width="380px"), style={"description_width": "initial"},
        )  # fmt: skip
        self._basis = w.HTML(layout=w.Layout(flex="1 1 260px", min_width="0"))
        self._gpu_row = w.HBox(
            [self.gpu, self._basis],
            layout=w.Layout(width="100%", flex_flow="row wrap", grid_gap="0 8px", align_items="center"),
        )
        self._tabs = Charts(self)
        super().__init__(session, lens=lens)
        self._tabs.observe(self.guard(self._tab_opened), "selected_index")
        self.button.on_click(self.guard(self._start))
        self._more.observe(self.guard(self._toggle_options), "value")
        self.on_choice(self.gpu, self._other_gpu)

    # --- what is shown ------------------------------------------------------------------------------

    def show_engine(self, engine: Engine | None) -> None:
        """Show the newest profile of `engine`, or estimates if there is none."""
        if engine is None or self._engine is None or engine.key != self._engine.key:
            self._given = None  # another engine was measured
        self._engine = engine
        if engine is None:
            self._lens = None
            self.body.children = [empty(f"{NO_ENGINE}<br>{_TRTEXEC}")]
            return
        lens = Lens.of(engine)
        self._document = None
        if lens.times_missing:
            self.show_error(profile_error(lens.times_missing))
        else:
            self._document = engine.profile
        self._can_measure(engine)
        self._show(lens)

    def show_lens(self, lens: Lens) -> None:
        """Show a plan without an engine."""
        self._show(lens)

    def _show(self, lens: Lens) -> None:
        self._lens = lens
        plan = lens.plan
        found, reached = device_of(plan), measured_ceilings(plan)
        own = next((key for key, entry in devices.DEVICES.items() if entry is found and entry.peaks), None)
        known = [*([(f"{reached.name}, measured", _MEASURED)] if reached is not None else []), *cards()]
        kept = self.gpu.value if self.gpu.value in dict(cards()).values() else "rtx-4090"
        self.fill(self.gpu, known, _MEASURED if reached is not None else own or kept)
        self._times = measured_times(plan) or (
            estimated_times(plan, self._device()) if roofline.estimable(plan) else None
        )
        measured = plan.facts.get("measured") or {}
        self._facts.value = self._doubts() + fact_row(headline(measured))
        self._say_basis()
        parts: list[w.Widget] = [] if self._fixed is not None else [self._measure]
        self.body.children = [
            *parts,
            self._facts,
            self._words,
            *([self._gpu_row] if self._times is not None and self._times.estimated else []),
            *([self._tabs] if self._times is not None else []),
        ]
        self._words.value = "" if measured else self._nothing_measured()
        if self._times is None:
            self._set_code()
            return
        self._fill_tabs()
        self._set_code()

    def _fill_tabs(self) -> None:
        assert self._lens is not None
        plan = self._lens.plan
        measured = plan.facts.get("measured") or {}
        self._charts, self._stale = {}, set()
        self._table = self._details = None
        tabs: list[tuple[str, Callable[[], w.Widget]]] = []
        if figures_time.ways_of(measured):
            tabs.append(("Latency", self._latency_tab))
        tabs += [("Layers", self._layers_tab), ("Timeline", lambda: self._chart("Timeline", self._timeline))]
        if any(s.scope for layer in plan.layers for s in layer.sources):
            tabs.append(("Modules", lambda: self._chart("Modules", self._modules)))
        if roofline.estimable(plan):
            tabs.append(("Roofline", self._roofline_tab))
        if self._document and self._document.get("sweep"):
            tabs.append(("Batches", self._sweep_tab))
        if self._document and kernel_rows(self._document):
            tabs.append(("Kernels", self._kernels_tab))
        if self._document:
            tabs.append(("Conditions", self._conditions_tab))
        self._tabs.fill(tabs)

    def _device(self) -> devices.DeviceSpec:
        assert self._lens is not None
        reached = measured_ceilings(self._lens.plan)
        return reached if reached is not None and self.gpu.value == _MEASURED else devices.device(self.gpu.value)

    def _doubts(self) -> str:
        assert self._lens is not None
        lines = []
        for grave, text in doubts(self._lens.plan):
            cls, role = ("wbp-error", "alert") if grave else ("wbp-warn", "note")
            lines.append(
                f"<div class='{cls}' role='{role}'>{f'<b>{escape(text)}</b>' if grave else escape(text)}</div>"
            )
        return "".join(lines)

    def _nothing_measured(self) -> str:
        assert self._lens is not None
        if not roofline.estimable(self._lens.plan):
            return (
                "<div class='wbp-empty wbp-left'><b>Nothing is measured yet.</b> The workbench estimates times for GPUs "
                "only, not for CPUs. Press Measure.</div>"
            )
        more = (
            "Give <code>profile=</code> and <code>times=</code> to <code>session.files.inspect</code> for measured times."
            if self._fixed is not None
            else _TRTEXEC
        )
        return (
            "<div class='wbp-empty wbp-left'><b>Nothing is measured yet.</b> These times are <b>estimates</b>: the least time "
            "that each layer can take on the chosen GPU, from its bytes and operations and the GPU's datasheet. Real kernels "
            f"take longer: {escape(roofline.ERROR)}.<br>{more}</div>"
        )

    def _say_basis(self) -> None:
        on = self._device()
        estimated = self._times is not None and self._times.estimated
        self.gpu.description = "Estimate for" if estimated else "Ceilings of"
        source = on.source if on.measured else f"datasheet values, not measured: {on.source}"
        self._basis.value = f"<span class='wbp-quiet'>{escape(source)}</span>"

    def _other_gpu(self, _key: object) -> None:
        if self._lens is None:
            return
        if self._times is not None and self._times.estimated:
            self._times = estimated_times(self._lens.plan, self._device())
            if self._table is not None:
                self._table.show(self._lens.with_estimate(self._times))
        self._say_basis()
        self._redraw()
        self._set_code()

    # --- tabs ---------------------------------------------------------------------------------------

    def _chart(self, name: str, figure: Callable[[], go.Figure]) -> w.Output:
        out = chart_area(figure())
        self._charts[name] = (out, figure)
        return out

    def _chosen(self) -> set[str]:
        """Ids of the selected layers; of a selected node, the layers that execute it."""
        assert self._lens is not None
        selection = self.session.selection
        if selection.kind == "layer":
            return set(selection.ids)
        return {layer.id for node in selection.ids for layer in self._lens.plan.layers_of.get(node, ())}

    def _shown_plan(self) -> tuple[Any, LayerTimes]:
        assert self._lens is not None
        assert self._times is not None
        return self._lens.plan, self._times

    def _timeline(self) -> go.Figure:
        return figures_time.timeline(*self._shown_plan(), chosen=self._chosen())

    def _slowest(self) -> go.Figure:
        return figures_time.slowest_layers(*self._shown_plan(), chosen=self._chosen())

    def _roofline(self) -> go.Figure:
        return figures_time.roofline(*self._shown_plan(), self._device(), chosen=self._chosen())

    def _modules(self) -> go.Figure:
        plan, times = self._shown_plan()
        return figures.treemap(plan, times.ms, ms_text, f"Time by module, {times.word}")

    def _latency_tab(self) -> w.Widget:
        assert self._lens is not None
        plan = self._lens.plan
        measured = plan.facts["measured"]
        parts: list[w.Widget] = [self._chart("Latency", lambda: figures_time.latency(measured))]
        rows = [
            [figures_time.WAYS.get(name, name), *(ms_text(way[key]) for key in ("median_ms", "p90_ms", "p99_ms", "mean_ms", "min_ms", "max_ms")),
             str(way["iterations"]), {True: "yes", False: "no"}.get(way.get("steady"), "unknown")]  # type: ignore[arg-type]
            for name, way in figures_time.ways_of(measured).items()
        ]  # fmt: skip
        headings = ["latency, measured", "median", "p90", "p99", "mean", "fastest", "slowest", "iterations", "settled"]
        parts.append(w.HTML(table_html(headings, rows, numeric=range(1, 8)), layout=w.Layout(width="100%")))
        if (spread := figures_time.distribution(measured)) is not None:
            parts.append(self._chart("Distribution", lambda: spread))
        if (both := figures_time.sum_and_whole(plan)) is not None:
            parts.append(self._chart("Sum", lambda: both))
        lines = explain(plan)
        parts.append(w.HTML("".join(f"<p>{escape(line[:1].upper() + line[1:])}.</p>" for line in lines)))
        return w.VBox(parts, layout=w.Layout(width="100%"))

    def _layers_tab(self) -> w.Widget:
        assert self._lens is not None
        bars = self._chart("Layers", self._slowest)
        _, times = self._shown_plan()
        lens = self._lens.with_estimate(times) if times.estimated else self._lens
        order = "-least" if times.estimated else "-time"
        self._table = TableView(self.session, lens, on_error=self.show_error, height=420, sort=order)
        self._details = DetailsView(self.session, lens, on_error=self.show_error, height=420)
        return w.VBox([bars, beside(self._table, self._details)], layout=w.Layout(width="100%"))

    def _roofline_tab(self) -> w.Widget:
        drawn = self._chart("Roofline", self._roofline)
        if self._times is None or self._times.estimated:
            return drawn  # the GPU is chosen above the tabs, because all of them depend on it
        return w.VBox([self._gpu_row, drawn], layout=w.Layout(width="100%"))

    def _taken(self) -> Profile:
        """The profile that is shown; the tabs that need one exist only where there is one."""
        if self._document is None:
            raise LookupError("no profile is shown")
        return self._document

    def _sweep_tab(self) -> w.Widget:
        document = self._taken()
        rows = sweep_of(document)
        headings = ["batch", "median", "p99", "samples per second", ""]
        table = w.HTML(
            table_html(headings, sweep_rows(document), numeric=range(1, 4), wrap=True),
            layout=w.Layout(width="100%"),
        )
        drawn = [self._chart("Batches", lambda: figures_time.throughput(rows))] if rows else []
        return w.VBox([*drawn, table], layout=w.Layout(width="100%"))

    def _kernels_tab(self) -> w.Widget:
        document = self._taken()
        rows, kernels = kernel_rows(document), document.get("kernels")
        how = kernels["joined"] if kernels else ""
        note = (
            f"Matched with layers {how}."
            if how
            else "The kernels can't be matched with layers: neither names nor counts agree."
        )
        more = f" The first {MOST} of {len(rows)}." if len(rows) > MOST else ""
        table = table_html(
            ["#", "kernel, as torch.profiler saw it", "time", "layer"], rows[:MOST], numeric=(2,), wrap=True
        )
        return w.HTML(f"<p class='wbp-quiet'>{note}{more}</p>{table}", layout=w.Layout(width="100%"))

    def _conditions_tab(self) -> w.Widget:
        return w.HTML(table_html(["", ""], conditions(self._taken()), wrap=True), layout=w.Layout(width="100%"))

    def _tab_opened(self, _change: object) -> None:
        for name in self._stale & set(self._charts):
            if name == self._tabs.opened:
                self._stale.discard(name)
                out, figure = self._charts[name]
                out.outputs = (chart(figure()),)

    def _redraw(self) -> None:
        """Redraw what depends on the selection or the GPU: now if it is visible, else when its tab is opened."""
        self._stale |= {"Layers", "Timeline", "Roofline", "Modules"}
        self._tab_opened(None)

    def heard(self, event: Event) -> None:
        """Outline the selection in the charts."""
        super().heard(event)
        if event.kind == "selection" and self._lens is not None:
            self._redraw()
            self._set_code()

    # --- measuring ----------------------------------------------------------------------------------

    def _can_measure(self, engine: Engine) -> None:
        """Disable the button and say why if nothing can be measured here."""
        try:
            compilers.require(engine.config.compiler, Profiles)
            reason = ""
        except CompilerUnavailableError as error:
            reason = f"<span class='wbp-quiet'>{escape(error.message)}</span>"
        self._more.disabled = bool(reason)
        self.form.for_gpu(engine.plan.device_kind == "gpu")
        self.work.block(reason)

    def _toggle_options(self, _change: object = None) -> None:
        self.form.layout.display = "flex" if self._more.value else "none"

    def _start(self, _button: Any) -> None:
        engine = self._engine
        if engine is None:
            raise WorkbenchError(
                "There is no engine to measure.", hint="Build one in the Build panel.", code="no-engine"
            )
        options = self._given = self.form.options()
        self._set_code()

        def measure() -> str:
            job = self.session.measure.start_profile(engine, **options)
            self.work.result_of(job)
            return f"<b>Measured in {job.seconds:.1f} s.</b>"

        def about() -> str:
            shown = self._engine
            return escape(engine_label(engine)) if shown is not None and shown.key != engine.key else ""

        self.work.run(measure, "<b>Starting</b>", about=about)

    # --- code ---------------------------------------------------------------------------------------

    def _set_code(self) -> None:
        if self._lens is None:
            return
        lines = []
        if self._engine is not None:
            lines.append(build_line(self._engine))
            if self._given is not None:
                lines.append(f"session.measure.profile(engine{arguments(dict(self._given))})")
            lines.append("plan = engine.measured")
        else:
            lines.append(inspect_line(self._lens.plan))
        if self._times is not None and self._times.estimated:
            on = (
                "times.measured_ceilings(plan)"
                if self.gpu.value == _MEASURED
                else f"devices.device({self.gpu.value!r})"
            )
            if self.gpu.value != _MEASURED:
                lines.append("from workbench.hardware import devices")
            lines += [
                f"from workbench.analysis import roofline{', times' if self.gpu.value == _MEASURED else ''}",
                f"roofline.estimates(plan, {on})",
            ]
        else:
            lines.append("plan.to_frame().sort_values('time_ms', ascending=False)")
        if self.session.selection.ids:
            lines.append(f"session.selection = {list(self.session.selection.ids[:8])!r}")
        self.set_code(lines)
