"""Profile: what an engine's time goes to, measured on this machine, read from trtexec's files, or estimated."""

from __future__ import annotations

import threading
import time
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
from workbench.core.errors import CancelledError, WorkbenchError
from workbench.core.units import bytes_text, count_text, ms_text
from workbench.hardware import devices
from workbench.panels.base import (
    NO_ENGINE,
    Bars,
    Charts,
    Panel,
    _label,
    beside,
    chart,
    chart_area,
    empty,
    fact_row,
    lens_of,
    table_html,
)
from workbench.panels.fusions import build_line, inspect_line, times_error
from workbench.present.lens import Lens
from workbench.widgets import DetailsView, TableView

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.core.events import Event
    from workbench.core.jobs import Job
    from workbench.engine import Engine
    from workbench.workspace import Workspace

_FILE = "a file"
_MEASURED = "measured"
MOST = 300
"""Kernels that are listed."""

SPECIALIZED = {
    "eager": "compiled for this shape before anything was timed",
    "none": "those for any shape",
    "lazy": "chosen by TensorRT for RTX while it ran",
}
"""``specialization`` of a profile in words."""

_TRTEXEC = (
    "Times of an engine that ran elsewhere can be read from trtexec's files: "
    '<code>plan = session.files.inspect("layers.json", profile="profile.json", times="times.json")</code>, then '
    '<code>session.panel("profile", plan)</code>'
)
_REFERENCES = ("the model as written", "nothing", _FILE)


class ProfilePanel(Panel):
    """Where the time goes."""

    title = "Profile"

    def __init__(self, session: Workspace, lens: Lens | None = None) -> None:
        self._lens: Lens | None = None
        self._engine: Engine | None = None
        self._document: Mapping[str, Any] = {}
        self._times: LayerTimes | None = None
        self._job: Job | None = None
        self._stopped = False
        self._given: Mapping[str, Any] | None = None
        self._charts: dict[str, tuple[w.Output, Callable[[], go.Figure]]] = {}
        self._stale: set[str] = set()
        self._table: TableView | None = None
        self._details: DetailsView | None = None
        wide = w.Layout(width="100%")
        self.button = w.Button(
            description="Measure", button_style="primary", icon="play", layout=w.Layout(width="120px")
        )
        self.cancel = w.Button(description="Cancel", icon="stop", disabled=True, layout=w.Layout(width="100px"))
        self._more = w.ToggleButton(description="Options", icon="sliders", layout=w.Layout(width="100px"))
        self.status = w.HTML(layout=w.Layout(flex="1 1 240px", min_width="0", margin="2px 0 0 8px"))
        self.bars = Bars()
        style = {"description_width": "120px"}
        field = w.Layout(width="330px")
        self.graph = w.Checkbox(
            value=True, description="in a CUDA graph too", indent=False, layout=w.Layout(width="190px")
        )
        self.transfers = w.Checkbox(
            value=False, description="with transfers too", indent=False, layout=w.Layout(width="190px")
        )
        self.duration = w.BoundedIntText(
            value=1000, min=10, max=600_000, step=500, description="Duration, ms", style=style, layout=field,
            tooltip="Each latency is measured at least this long",
        )  # fmt: skip
        self.reference = w.Dropdown(
            options=_REFERENCES, description="Compare with", style=style, layout=field,
            tooltip="What the outputs should be",
        )  # fmt: skip
        self.reference_file = w.Text(
            placeholder=".npz of outputs, or .onnx", description="Reference file", style=style, layout=field,
            continuous_update=False,
        )  # fmt: skip
        self.batches = w.Text(
            placeholder="none, or sizes such as 1, 8, 32", description="Batches too", style=style, layout=field,
            continuous_update=False, tooltip="Also measure at these sizes of the first dimension; needs a dynamic engine",
        )  # fmt: skip
        self.inputs = w.Text(
            placeholder="random values, or an .npz file", description="Inputs", style=style, layout=field,
            continuous_update=False,
        )  # fmt: skip
        self._options = w.HBox(
            [w.VBox([self.graph, self.transfers]), w.VBox([self.duration, self.inputs]),
             w.VBox([self.reference, self.reference_file, self.batches])],
            layout=w.Layout(display="none", flex_flow="row wrap", grid_gap="0 24px", padding="4px 0"),
        )  # fmt: skip
        self._measure = w.VBox(
            [w.HBox([self.button, self.cancel, self._more, self.status], layout=w.Layout(flex_flow="row wrap", width="100%", align_items="center")),
             self._options, self.bars], layout=wide,
        )  # fmt: skip
        self._facts, self._words = w.HTML(layout=wide), w.HTML(layout=wide)
        self.gpu = w.Dropdown(
            options=cards(), value=None, tooltip="GPU to hold the plan against", description="Estimate for",
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
        self.cancel.on_click(self.guard(self._cancel))
        self._more.observe(self.guard(self._toggle_options), "value")
        self.reference.observe(self.guard(self._toggle_options), "value")
        self.on_choice(self.gpu, self._other_gpu)
        self._toggle_options()

    # --- what is shown ------------------------------------------------------------------------------

    def show_engine(self, engine: Engine | None) -> None:
        """Show the newest profile of `engine`, or what can be told without one."""
        if engine is None or self._engine is None or engine.key != self._engine.key:
            self._given = None  # what was measured is another engine
        self._engine = engine
        if engine is None:
            self._lens = None
            self.body.children = [empty(f"{NO_ENGINE}<br>{_TRTEXEC}")]
            return
        lens = lens_of(engine)
        self._document = {}
        if lens.times_missing:
            self.show_error(times_error(lens))
        else:
            self._document = engine.profile or {}
        self._can_measure(engine)
        self._show(lens)

    def show_lens(self, lens: Lens) -> None:
        """Show a plan that no engine stands behind."""
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
        if self._document.get("sweep"):
            tabs.append(("Batches", self._sweep_tab))
        if kernel_rows(self._document):
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
                "<div class='wbp-empty wbp-told'><b>Nothing is measured yet</b>, and nothing is estimated: the workbench has "
                "ceilings of GPUs only. Measure this engine to see its times.</div>"
            )
        more = (
            "Give <code>profile=</code> and <code>times=</code> to <code>session.files.inspect</code> for measured times."
            if self._fixed is not None
            else _TRTEXEC
        )
        return (
            "<div class='wbp-empty wbp-told'><b>Nothing is measured yet.</b> What follows is <b>estimated</b>: the least time that "
            "each layer can take on the chosen GPU, from its bytes and operations and the card's datasheet. Real kernels take "
            f"longer: {escape(roofline.ERROR)}.<br>{more}</div>"
        )

    def _say_basis(self) -> None:
        on = self._device()
        estimated = self._times is not None and self._times.estimated
        self.gpu.description = "Estimate for" if estimated else "Ceilings of"
        told = on.source if on.measured else f"datasheet values, not measured: {on.source}"
        self._basis.value = f"<span class='wbp-quiet'>{escape(told)}</span>"

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
             str(way["iterations"]), {True: "yes", False: "no"}.get(way.get("steady"), "not told")]  # type: ignore[arg-type]
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
            return drawn  # the choice of the GPU is above all tabs: everything follows it
        return w.VBox([self._gpu_row, drawn], layout=w.Layout(width="100%"))

    def _sweep_tab(self) -> w.Widget:
        rows = sweep_of(self._document)
        headings = ["batch", "median", "p99", "samples a second", ""]
        table = w.HTML(
            table_html(headings, sweep_rows(self._document), numeric=range(1, 4), wrap=True),
            layout=w.Layout(width="100%"),
        )
        drawn = [self._chart("Batches", lambda: figures_time.throughput(rows))] if rows else []
        return w.VBox([*drawn, table], layout=w.Layout(width="100%"))

    def _kernels_tab(self) -> w.Widget:
        rows = kernel_rows(self._document)
        how = (self._document.get("kernels") or {}).get("joined")
        told = (
            f"Joined to layers {how}."
            if how
            else "Which kernel is of which layer can't be told: neither names nor counts agree."
        )
        more = f" The first {MOST} of {len(rows)}." if len(rows) > MOST else ""
        table = table_html(
            ["#", "kernel, as torch.profiler saw it", "time", "layer"], rows[:MOST], numeric=(2,), wrap=True
        )
        return w.HTML(f"<p class='wbp-quiet'>{told}{more}</p>{table}", layout=w.Layout(width="100%"))

    def _conditions_tab(self) -> w.Widget:
        return w.HTML(table_html(["", ""], conditions(self._document), wrap=True), layout=w.Layout(width="100%"))

    def _tab_opened(self, _change: object) -> None:
        for name in self._stale & set(self._charts):
            if name == self._tabs.opened:
                self._stale.discard(name)
                out, figure = self._charts[name]
                out.outputs = (chart(figure()),)

    def _redraw(self) -> None:
        """Draw what depends on the selection or the GPU again: at once where it is in sight."""
        self._stale |= {"Layers", "Timeline", "Roofline", "Modules"}
        self._tab_opened(None)

    def heard(self, event: Event) -> None:
        """The selection is outlined in the charts."""
        super().heard(event)
        if event.kind == "selection" and self._lens is not None:
            self._redraw()
            self._set_code()

    # --- measuring ----------------------------------------------------------------------------------

    def _can_measure(self, engine: Engine) -> None:
        """Say why nothing can be measured here, instead of a button that fails."""
        if self._job is not None and self._job.status == "running":
            return
        try:
            compilers.require(engine.config.compiler, Profiles)
            reason = None
        except WorkbenchError as error:
            reason = error.message
        self.button.disabled = reason is not None
        self._more.disabled = reason is not None
        if reason is not None:
            self.status.value = f"<span class='wbp-quiet'>{escape(reason)}</span>"
        else:
            self.status.value = "<span class='wbp-quiet'>Ready.</span>"

    def _toggle_options(self, _change: object = None) -> None:
        self._options.layout.display = "flex" if self._more.value else "none"
        self.reference_file.layout.display = None if self.reference.value == _FILE else "none"

    def options(self) -> dict[str, Any]:
        """What the form asks of `session.measure.start_profile`; what is left at its default is left out.

        Raises:
            WorkbenchError: a file is not named.
        """
        out: dict[str, Any] = {}
        if not self.graph.value:
            out["graph"] = False
        if self.transfers.value:
            out["transfers"] = True
        if self.duration.value != 1000:
            out["duration_ms"] = float(self.duration.value)
        if self.batches.value.strip():
            out["batches"] = batches_of(self.batches.value)
        if self.inputs.value.strip():
            out["inputs"] = self.inputs.value.strip()
        if self.reference.value == "nothing":
            out["reference"] = False
        elif self.reference.value == _FILE:
            if not self.reference_file.value.strip():
                raise WorkbenchError(
                    "No reference file is named.", hint="Name an .npz file of outputs, or an ONNX file."
                )
            out["reference"] = self.reference_file.value.strip()
        return out

    def _start(self, _button: Any) -> None:
        self.show_error("")
        engine = self._engine
        if engine is None:
            raise WorkbenchError("There is no engine to measure.", hint="Build one first.")
        options = self.options()
        self._given = options
        self._set_code()
        self._job, self._stopped = None, False  # of an earlier job it would tell the end of that one
        self.button.disabled, self.cancel.disabled = True, False
        self.status.value = "<b>Starting</b>"
        # Not in the kernel's own thread, which must stay free to hear the cancel button.
        threading.Thread(target=self.guard(self._run), args=(engine, options), daemon=True).start()

    def _run(self, engine: Engine, options: Mapping[str, Any]) -> None:
        told = "<b>Failed.</b>"
        try:
            job = self._job = self.session.measure.start_profile(engine, **options)
            if self._stopped:
                job.cancel()
            while job.status == "running":
                self._show_progress(job)
                time.sleep(0.15)
            self._show_progress(job)
            job.result()
        except WorkbenchError as error:
            if isinstance(error, CancelledError) or (self._job is not None and self._job.status == "cancelled"):
                told = "<b>Cancelled.</b>"
            else:
                self.show_error(error)
            self.bars.show([])  # half-filled bars would look like work that goes on
        except Exception:
            self.bars.show([])
            raise
        else:
            told = f"<b>Measured in {job.seconds:.1f} s.</b>"
        finally:
            self.button.disabled, self.cancel.disabled = False, True
            shown = self._engine
            if shown is not None and shown.key != engine.key:
                self._can_measure(shown)  # another engine was chosen meanwhile
                told = f"{told} <span class='wbp-quiet'>{escape(_label(engine))}</span>"
            self.status.value = told

    def _show_progress(self, job: Job) -> None:
        phases = list(job.progress)
        now = phases[-1].phase if phases else "Starting"
        self.status.value = f"<b>{escape(now)}</b> <span class='wbp-quiet'>{job.seconds:.1f} s</span>"
        self.bars.show(phases)

    def _cancel(self, _button: Any) -> None:
        self._stopped = True  # for what is not begun yet
        if self._job is not None:
            self._job.cancel()

    # --- code ---------------------------------------------------------------------------------------

    def _set_code(self) -> None:
        if self._lens is None:
            return
        lines = []
        if self._engine is not None:
            lines.append(build_line(self._engine))
            if self._given is not None:
                given = "".join(f", {name}={value!r}" for name, value in self._given.items())
                lines.append(f"session.measure.profile(engine{given})")
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


# --- a profile in words ----------------------------------------------------------------------------------


def headline(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures that come first, as facts with ``name``, ``value`` and ``note``; empty where nothing was measured.

    Args:
        measured: ``plan.facts["measured"]``.
    """
    ways = figures_time.ways_of(measured)
    out: list[dict[str, Any]] = []
    if ways:
        name, best = next(iter(ways.items()))
        out += [
            {"name": "median latency", "value": ms_text(best["median_ms"]), "note": figures_time.WAYS.get(name, name)},
            {"name": "p90", "value": ms_text(best["p90_ms"])},
            {"name": "p99", "value": ms_text(best["p99_ms"])},
        ]
        batch = batch_of(measured)
        if batch and best["median_ms"]:
            rate = batch / best["median_ms"] * 1e3
            out.append({"name": "throughput", "value": f"{rate:,.0f}/s" if rate < 1e5 else f"{count_text(rate)}/s",
                        "note": f"samples, batch {batch}"})  # fmt: skip
        error = measured.get("error")
        if error and error.get("relative_l2") is not None:
            out.append(
                {
                    "name": "relative error",
                    "value": f"{error['relative_l2']:.2g}",
                    "note": f"against {error.get('reference', 'the reference')}",
                }
            )
        out += [
            {"name": f"median, {figures_time.WAYS[key]}", "value": ms_text(ways[key]["median_ms"])}
            for key in ("plain", "transfers") if key in ways and key != name
        ]  # fmt: skip
    if measured.get("first_ms") is not None:
        out.append({"name": "first run", "value": ms_text(measured["first_ms"]), "note": "compiles and loads kernels"})
    if measured.get("sum_ms") is not None:
        out.append({"name": "sum of layers", "value": ms_text(measured["sum_ms"]), "note": "profiled one by one"})
    out += energy_facts(measured)
    return out


def energy_facts(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Energy and clocks, where they were taken."""
    out: list[dict[str, Any]] = []
    energy, clocks = measured.get("energy") or {}, measured.get("clocks") or {}
    if (joules := energy.get("joules_per_run")) is not None:
        way = figures_time.WAYS.get(energy.get("way", ""), "")
        out.append(
            {"name": "energy a run", "value": _joules(joules), "note": ", ".join(p for p in ("whole GPU", way) if p)}
        )
    if (mhz := clocks.get("sm_mhz")) is not None:
        most = f"of {clocks['sm_highest_mhz']:.0f}" if clocks.get("sm_highest_mhz") else ""
        steady = (
            "steady" if clocks.get("steady") else f"{clocks['sm_least_mhz']:.0f} to {clocks['sm_most_mhz']:.0f} MHz"
        )
        out.append({"name": "SM clock", "value": f"{mhz:.0f} MHz", "note": ", ".join(p for p in (most, steady) if p)})
    if (watts := clocks.get("watts")) is not None:
        out.append({"name": "power", "value": f"{watts:.0f} W", "note": "mean, whole GPU"})
    return out


def _joules(joules: float) -> str:
    return (
        f"{joules:.3g} J" if joules >= 1 else f"{joules * 1e3:.3g} mJ" if joules >= 1e-3 else f"{joules * 1e6:.3g} µJ"
    )


def batch_of(measured: Mapping[str, Any]) -> int | None:
    """The first dimension that all inputs share; None where they differ or have none."""
    firsts = {shape[0] if shape else 0 for shape in (measured.get("shapes") or {}).values()}
    return firsts.pop() if len(firsts) == 1 and 0 not in firsts else None


def sweep_of(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of a sweep over batches, those that were measured."""
    return [row for row in document.get("sweep") or [] if row.get("median_ms")]


def sweep_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """A sweep as rows of text: batch, median, p99, samples a second, and how or why not."""
    return [
        [str(row["batch"]), ms_text(row["median_ms"]), ms_text(row["p99_ms"]), f"{figures_time.rate_of(row):,.0f}",
         figures_time.WAYS.get(row.get("way", ""), "")]
        if row.get("median_ms") else [str(row["batch"]), "", "", "", str(row.get("missing", "not measured"))]
        for row in document.get("sweep") or []
    ]  # fmt: skip


def kernel_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """The kernels behind the layers as rows of text, in the order in which they ran."""
    rows = (document.get("kernels") or {}).get("rows") or []
    return [
        [str(i), str(row["name"]), ms_text(row.get("ms")), str(row.get("layer") or "")] for i, row in enumerate(rows)
    ]


def batches_of(text: str) -> list[int]:
    """Batch sizes from a field: ``1, 8, 32``.

    Raises:
        WorkbenchError: one is no whole number above 0.
    """
    try:
        found = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        found = [0]
    if any(n < 1 for n in found):
        raise WorkbenchError(f"{text!r} are no batch sizes.", hint="Write whole numbers, such as 1, 8, 32.")
    return found


def conditions(document: Mapping[str, Any]) -> list[list[str]]:
    """Under which conditions a profile was taken, as rows of name and value."""
    gpu, machine, compiler = (document.get(key) or {} for key in ("device", "machine", "compiler"))
    rows = (
        [["taken on", time.strftime("%Y-%m-%d %H:%M", time.localtime(document["time"]))]]
        if document.get("time")
        else []
    )
    rows += [
        ["CPU" if gpu.get("kind") == "cpu" else "GPU", ", ".join(str(gpu[k]) for k in ("name", "sm", "driver") if gpu.get(k))],
        ["system", f"{machine.get('system', '?')}, {machine.get('cores', '?')} cores, Python {machine.get('python', '?')}"],
        ["compiler", " ".join(str(compiler[k]) for k in ("name", "version", "validity") if compiler.get(k))],
        ["inputs", ", ".join(f"{n} {'×'.join(map(str, s))}" for n, s in (document.get("shapes") or {}).items())],
        ["layers", f"{document.get('layer_method') or 'IProfiler, in a pass of its own'}; {document.get('layer_iterations', 0)} iterations"],
    ]  # fmt: skip
    rows += [
        [f"latency, {figures_time.WAYS.get(n, n)}", str(way["method"])]
        for n, way in (document.get("latency") or {}).items()
    ]
    memory = document.get("memory") or {}
    if memory.get("used_bytes") is not None:
        rows.append(
            ["memory used" if gpu.get("kind") == "cpu" else "GPU memory used", bytes_text(memory["used_bytes"])]
        )
    for name, one in ((document.get("error") or {}).get("outputs") or {}).items():
        relative = one["relative_l2"]
        rows.append([f"error of {name}", f"relative {relative:.3g}, largest difference {one['max_abs']:.3g}" if relative is not None
                     else f"largest difference {one['max_abs']:.3g}"])  # fmt: skip
    if (strategy := document.get("specialization")) is not None:
        rows.append(["kernels for open shapes", SPECIALIZED.get(strategy, str(strategy))])
    rows += [["note", str(line)] for line in document.get("notes") or []]
    return rows
