"""Engine: one built engine in detail: raw records, memory, tactics, where it runs, its files, and what changed."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.charts import plan as figures
from workbench.charts import time as figures_time
from workbench.core.errors import ProfileError, WorkbenchError
from workbench.core.events import Selection
from workbench.core.units import bytes_text, ms_text
from workbench.panels.base import Panel, engine_label
from workbench.panels.charts import Charts, chart_area
from workbench.panels.code import build_line
from workbench.panels.engine_changes import changes_html
from workbench.panels.engine_rows import (
    compatibility_of,
    facts_of,
    files_of,
    memory_rows,
    options_of,
    readable,
    tactics_of,
    timings_text,
)
from workbench.panels.parts import NO_ENGINE, LogBox, empty, fact_row, profile_error, table_html
from workbench.panels.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.core.events import Event
    from workbench.engine import Engine
    from workbench.plan import Layer, Plan
    from workbench.plan.record import LayerRecord
    from workbench.workspace import Workspace

MOST = 400
"""Layers that the inspector lists at once. A search finds the others."""


class EnginePanel(Panel):
    """What is in an engine."""

    title = "Engine"
    work: Work

    def __init__(self, session: Workspace) -> None:
        wide = w.Layout(width="100%")
        self._engine: Engine | None = None
        self._plan: Plan | None = None
        self._records: list[LayerRecord] = []
        self._looked_into = False
        self._inspected: dict[str, str] = {}
        self._facts = w.HTML(layout=wide)
        self._tabs = Charts(self)
        self.search = w.Text(
            placeholder="search names, tensors, tactics", continuous_update=False, layout=w.Layout(width="auto")
        )
        self.layers = w.Select(options=[], rows=18, layout=w.Layout(width="auto"))
        self._count = w.HTML()
        self._raw = w.HTML(layout=w.Layout(width="100%"))
        self.path = w.Text(placeholder="path/to/model.engine", layout=w.Layout(width="320px"))
        self.save = w.Button(description="Save as", icon="download", layout=w.Layout(width="110px"))
        self.rebuild = w.Button(description="Rebuild", icon="refresh", layout=w.Layout(width="110px"))
        self._saved = w.HTML()
        self.work = Work(self, [self.rebuild])
        self.other = w.Dropdown(options=[], description="Against", layout=w.Layout(width="460px"))
        self._changes = w.HTML(layout=wide)
        self._log = LogBox()
        self._action: list[str] = []
        super().__init__(session)
        self.save.on_click(self.guard(self._save))
        self.rebuild.on_click(self.guard(self._rebuild))
        self.search.observe(self.guard(lambda _: self._list_layers()), "value")
        self.on_choice(self.layers, self._layer_chosen)
        self.on_choice(self.other, lambda _: self._show_changes())

    # --- what is shown ------------------------------------------------------------------------------

    def show_engine(self, engine: Engine | None) -> None:
        """Show `engine`; None if there is none."""
        self._engine = engine
        self._records, self._inspected, self._action = [], {}, []
        self._looked_into, self._raw.value = False, ""
        if engine is None:
            self._plan = None
            self.body.children = [empty(NO_ENGINE)]
            return
        try:
            self._plan = engine.measured
        except ProfileError as error:
            self._plan = engine.plan
            self.show_error(profile_error(error.message))
        self._saved.value = self._changes.value = ""
        if not self.work.busy:
            self.work.status.value = ""
        self._facts.value = fact_row(facts_of(engine, self._plan))
        tabs: list[tuple[str, Callable[[], w.Widget]]] = [
            ("Overview", self._overview), ("Layers", self._inspector), ("Memory", self._memory),
        ]  # fmt: skip
        if tactics_of(engine) or (self._plan.facts.get("timing_cache") or {}).get("slowest"):
            tabs.append(("Tactics", self._tactics))
        tabs += [("Log", self._show_log), ("Compare", self._comparison)]
        self._tabs.fill(tabs)
        self.body.children = [self._facts, self._tabs]
        self._set_code()

    def _need(self) -> tuple[Engine, Plan]:
        if self._engine is None or self._plan is None:
            raise WorkbenchError("There is no engine yet.", hint="Build one in the Build panel.", code="no-engine")
        return self._engine, self._plan

    def _overview(self) -> w.Widget:
        engine, plan = self._need()
        place = w.VBox(layout=w.Layout(width="100%"))
        where = table_html(["", "here", ""], compatibility_of(engine), wrap=True)
        runs = w.HTML(f"<h4 class='wbp-part'>Where it runs</h4>{where}", layout=w.Layout(width="100%"))
        left: list[w.Widget] = [runs, self.work.row()]
        asked = table_html(["option", "value"], options_of(engine.config))
        left.append(w.HTML("<h4 class='wbp-part'>Build options</h4>" + asked))
        files = table_html(["file", "size", ""], files_of(engine), numeric=(1,))
        left.append(w.HTML("<h4 class='wbp-part'>Files</h4>" + files))
        left.append(w.HBox([self.path, self.save, self._saved], layout=w.Layout(flex_flow="row wrap")))
        times = chart_area(figures_time.build_times(plan.seconds, plan.facts.get("phases") or {}))
        saved = w.HTML(
            "".join(f"<p class='wbp-quiet'>{escape(line)}</p>" for line in self._saved_by_caches(engine, plan))
        )
        columns = w.Layout(width="100%", flex_flow="row wrap", align_items="flex-start", grid_gap="8px 32px")
        place.children = [
            w.HBox([w.VBox(left, layout=w.Layout(flex="1 1 420px", min_width="0")),
                    w.VBox([times, saved], layout=w.Layout(flex="1 1 420px", min_width="0"))], layout=columns)
        ]  # fmt: skip
        return place

    def _saved_by_caches(self, engine: Engine, plan: Plan) -> list[str]:
        """What the engine cache and the timing cache saved, in sentences."""
        found = sum(
            event.kind == "build-finished" and event.data.get("engine") == engine.key and bool(event.data.get("cached"))
            for event in self.session.events
        )
        total = engine.seconds.get("total", 0.0)
        lines = [
            f"Found in the cache {found} time{'s' * (found != 1)} in this session. That saved {ms_text(found * total * 1e3)}."
            if found else "The next build with these options takes this engine from the cache."
        ]  # fmt: skip
        if timings := plan.facts.get("timing_cache"):
            lines.append(timings_text(timings))
        return lines

    # --- inspector ----------------------------------------------------------------------------------

    def _inspector(self) -> w.Widget:
        engine, plan = self._need()
        self._records = engine.record["layers"]
        self._looked_into = True
        profile = engine.profile if plan is not engine.plan else None
        said = profile["inspector"]["layers"] if profile and "inspector" in profile else []
        # Where a name occurs twice, nothing says which record belongs to which layer.
        counts: dict[str, int] = {}
        for one in said:
            counts[one["name"]] = counts.get(one["name"], 0) + 1
        self._inspected = {one["name"]: readable(one) for one in said if counts[one["name"]] == 1}
        self._list_layers()
        left = w.VBox(
            [self.search, self.layers, self._count], layout=w.Layout(flex="1 1 340px", min_width="0", max_width="520px")
        )
        right = w.VBox([self._raw], layout=w.Layout(flex="2 1 440px", min_width="0"))
        return w.HBox(
            [left, right],
            layout=w.Layout(width="100%", flex_flow="row wrap", grid_gap="8px 16px", align_items="flex-start"),
        )

    def _list_layers(self) -> None:
        _, plan = self._need()
        wanted = self.search.value.lower().split()
        found = [
            (f"{i}  {layer.kind}  {layer.title}", layer.id)
            for i, layer in enumerate(plan.layers)
            if all(word in self._haystack(i, layer) for word in wanted)
        ]
        self.fill(self.layers, found[:MOST], None)
        more = f", the first {MOST} listed" if len(found) > MOST else ""
        self._count.value = f"<span class='wbp-quiet'>{len(found)} of {len(plan.layers)} layers{more}</span>"
        self._follow()

    def _haystack(self, i: int, layer: Layer) -> str:
        raw = json.dumps(self._records[i], ensure_ascii=False) if i < len(self._records) else ""
        return f"{layer.kind} {layer.title} {raw} {self._inspected.get(layer.name, '')}".lower()

    def _layer_chosen(self, layer: str | None) -> None:
        if layer:
            self.session.select(Selection("layer", (layer,)))

    def _follow(self) -> None:
        """Show the record of the session's selection."""
        if self._plan is None or not self._looked_into:
            return
        selection = self.session.selection
        ids = list(selection.ids) if selection.kind == "layer" else [
            layer.id for node in selection.ids for layer in self._plan.layers_of.get(node, ())]  # fmt: skip
        known = [i for i in ids if i in self._plan.by_id]
        listed = {key for _, key in self.layers.options}
        self.fill(self.layers, self.layers.options, known[0] if known and known[0] in listed else None)
        if not known:
            self._raw.value = "<div class='wbp-empty'>Choose a layer to see what the compiler reported.</div>"
            return
        layer = self._plan.by_id[known[0]]
        at = self._plan.layers.index(layer)
        parts = []
        if at < len(self._records):
            parts.append(("Reported by the compiler at build time", readable(self._records[at])))
        else:
            parts.append(("The record has nothing about this layer. From the plan", readable(layer.to_dict())))
        if layer.name in self._inspected:
            parts.append(("Reported by the engine inspector during the measurement", self._inspected[layer.name]))
        time = "" if layer.time_ms is None else f", {ms_text(layer.time_ms)} measured"
        head = f"<b>{escape(layer.title)}</b> <span class='wbp-quiet'>layer {at}, {escape(layer.kind)}{time}</span>"
        self._raw.value = head + "".join(
            f"<p class='wbp-quiet'>{title}</p><pre class='wbp-code wbp-raw' tabindex='0'>{escape(text)}</pre>"
            for title, text in parts
        )

    # --- memory, tactics, log -----------------------------------------------------------------------

    def _memory(self) -> w.Widget:
        engine, plan = self._need()
        rows = memory_rows(engine, plan)
        table = table_html(["memory", "size", "source", ""], rows, numeric=(1,))
        return w.VBox(
            [w.HTML(table, layout=w.Layout(width="100%")), chart_area(figures.memory(plan))],
            layout=w.Layout(width="100%"),
        )

    def _tactics(self) -> w.Widget:
        engine, plan = self._need()
        parts = []
        if rows := tactics_of(engine):
            parts.append(table_html(["layer", "tactic", "time", "chosen"], rows, numeric=(2,)))
        timings = plan.facts.get("timing_cache") or {}
        if timings.get("slowest"):
            rows = [
                [str(tactic), ms_text(ms if isinstance(ms, int | float) else None)]
                for tactic, ms, *_ in timings["slowest"]
            ]
            note = (
                f"<p class='wbp-quiet'>{escape(timings_text(timings))} Its keys are hashes, which name no layers.</p>"
            )
            parts.append(note + table_html(["in the timing cache, slowest first", "time"], rows, numeric=(1,)))
        return w.HTML("".join(parts), layout=w.Layout(width="100%"))

    def _show_log(self) -> w.Widget:
        engine, _ = self._need()
        self._log.show(engine.log)
        return self._log

    # --- compare ------------------------------------------------------------------------------------

    def _comparison(self) -> w.Widget:
        engine, _ = self._need()
        others = [e for e in self.session.engines[::-1] if e.key != engine.key]
        if not others:
            return empty(
                "This is the only engine of the session. Build another one, for example in FP16, to compare them."
            )
        same = [e for e in others if e.model == engine.model]
        kept = [e for e in others if e.key == self.other.value]
        self.fill(self.other, [(engine_label(e), e.key) for e in others], (kept or same or others)[0].key)
        self._show_changes()
        return w.VBox([self.other, self._changes], layout=w.Layout(width="100%"))

    def _show_changes(self) -> None:
        engine, plan = self._need()
        if self.other.value is None:
            return
        other = self.session.engines.find(self.other.value)
        try:
            left = other.measured
        except ProfileError:
            left = other.plan
        self._changes.value = changes_html(left, plan, (other.bytes, engine.bytes))
        self._set_code()

    # --- actions ------------------------------------------------------------------------------------

    def _save(self, _button: Any) -> None:
        engine, _ = self._need()
        self.show_error("")
        self._saved.value = ""
        if not self.path.value.strip():
            raise WorkbenchError(
                "No file is named.", hint="Write where to save the engine, such as model.engine.", code="no-file"
            )
        path = engine.save(self.path.value.strip())
        self._saved.value = f"<span class='wbp-quiet'>Saved, {bytes_text(path.stat().st_size)}.</span>"
        self._action = [f"engine.save({self.path.value.strip()!r})"]
        self._set_code()

    def _rebuild(self, _button: Any) -> None:
        engine, _ = self._need()
        self.show_error("")
        self._action = ["engine = session.engines.rebuild(engine)"]
        self._set_code()

        def rebuild() -> str:
            fresh = self.work.result_of(self.session.engines.start_rebuild(engine))
            how = "found in the cache" if fresh.cached else f"built in {fresh.seconds['total']:.1f} s"
            return f"{escape(fresh.id)}, {how}."

        self.work.run(rebuild, "<b>Building</b>")

    def heard(self, event: Event) -> None:
        """Show the selected layer, and offer new engines to compare with."""
        super().heard(event)
        if event.kind == "selection":
            self._follow()
        elif event.kind == "build-finished" and self._engine is not None:
            self._tabs.renew("Compare")

    def _set_code(self) -> None:
        if self._engine is None:
            return
        lines = [build_line(self._engine), *self._action, 'engine.record["layers"]']
        if self._tabs.opened == "Compare" and self.other.value:
            lines += ["from workbench.analysis.difference import difference",
                      f"difference(session.engines.find({self.other.value[:12]!r}).plan, engine.plan)"]  # fmt: skip
        self.set_code(lines)
