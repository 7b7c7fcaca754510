"""Engine: one built engine looked into. Raw records, memory, tactics, where it runs, its files, and what changed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.analysis.difference import difference
from workbench.charts import plan as figures
from workbench.charts import time as figures_time
from workbench.compilers.config import BuildConfig
from workbench.core.errors import CancelledError, ProfileError, WorkbenchError
from workbench.core.events import Selection
from workbench.core.units import bytes_text, ms_text
from workbench.panels.base import NO_ENGINE, Charts, LogBox, Panel, _label, chart_area, empty, fact_row, table_html
from workbench.panels.fusions import build_line
from workbench.plan import liveness
from workbench.plan.traffic import at_least, moved

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.build import Build
    from workbench.core.events import Event
    from workbench.engine import Engine
    from workbench.plan import Layer, Plan
    from workbench.plan.record import LayerRecord
    from workbench.workspace import Workspace

MOST = 400
"""Layers that the inspector lists at once; a search finds the others."""
MOST_CHANGES = 12
"""Layers in each table of what changed."""


class EnginePanel(Panel):
    """What is in an engine."""

    title = "Engine"

    def __init__(self, session: Workspace) -> None:
        wide = w.Layout(width="100%")
        self._engine: Engine | None = None
        self._plan: Plan | None = None
        self._records: list[LayerRecord] = []
        self._looked_into = False
        self._told: dict[str, str] = {}
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
        self.stop = w.Button(description="Cancel", icon="stop", disabled=True, layout=w.Layout(width="100px"))
        self._saved, self._rebuilt = w.HTML(), w.HTML()
        self.other = w.Dropdown(options=[], description="Against", layout=w.Layout(width="460px"))
        self._changes = w.HTML(layout=wide)
        self._log = LogBox()
        self._action: list[str] = []
        self._building: Build | None = None
        self._stopped = False
        super().__init__(session)
        self.save.on_click(self.guard(self._save))
        self.rebuild.on_click(self.guard(self._rebuild))
        self.stop.on_click(self.guard(self._stop_rebuild))
        self.search.observe(self.guard(lambda _: self._list_layers()), "value")
        self.on_choice(self.layers, self._layer_chosen)
        self.on_choice(self.other, lambda _: self._hold_against())

    # --- what is shown ------------------------------------------------------------------------------

    def show_engine(self, engine: Engine | None) -> None:
        """Show `engine`, or that there is none."""
        self._engine = engine
        self._records, self._told, self._action = [], {}, []
        self._looked_into, self._raw.value = False, ""
        if engine is None:
            self._plan = None
            self.body.children = [empty(NO_ENGINE)]
            return
        try:
            self._plan = engine.measured
        except ProfileError as error:
            self._plan = engine.plan
            self.show_error(
                WorkbenchError(
                    f"Its profile can't be shown: {error.message}", hint="Measure again: session.measure.profile()."
                )
            )
        self._saved.value = self._rebuilt.value = self._changes.value = ""
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
            raise WorkbenchError("There is no engine yet.", hint="Build one first.")
        return self._engine, self._plan

    def _overview(self) -> w.Widget:
        engine, plan = self._need()
        place = w.VBox(layout=w.Layout(width="100%"))
        told = table_html(["", "here", ""], compatibility_of(engine), wrap=True)
        runs = w.HTML(f"<h4 class='wbp-part'>Where it runs</h4>{told}", layout=w.Layout(width="100%"))
        again = w.HBox([self.rebuild, self.stop, self._rebuilt], layout=w.Layout(align_items="center"))
        left: list[w.Widget] = [runs, again]
        asked = table_html(["option asked for", "value"], options_of(engine.config))
        left.append(w.HTML("<h4 class='wbp-part'>Asked of the compiler</h4>" + asked))
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
        """What caches saved, in sentences: the engine cache from the session's history, the others where they are told."""
        found = sum(
            event.kind == "build-finished" and event.data.get("engine") == engine.key and bool(event.data.get("cached"))
            for event in self.session.events
        )
        total = engine.seconds.get("total", 0.0)
        lines = [
            f"Found ready made {found} time{'s' * (found != 1)} in this session, which saved {ms_text(found * total * 1e3)} of building."
            if found else "Asked for again, it is found ready made: the engine cache saves the whole build."
        ]  # fmt: skip
        if timings := plan.facts.get("timing_cache"):
            lines.append(timings_told(timings))
        return lines

    # --- inspector ----------------------------------------------------------------------------------

    def _inspector(self) -> w.Widget:
        engine, plan = self._need()
        self._records = engine.record["layers"]
        self._looked_into = True
        profile = engine.profile if plan is not engine.plan else None
        said = profile["inspector"]["layers"] if profile and "inspector" in profile else []
        # Names may repeat; then it can't be told which record is whose.
        counts: dict[str, int] = {}
        for one in said:
            counts[one["name"]] = counts.get(one["name"], 0) + 1
        self._told = {one["name"]: readable(one) for one in said if counts[one["name"]] == 1}
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
        return f"{layer.kind} {layer.title} {raw} {self._told.get(layer.name, '')}".lower()

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
            self._raw.value = "<div class='wbp-empty'>Choose a layer to see what the compiler said of it.</div>"
            return
        layer = self._plan.by_id[known[0]]
        at = self._plan.layers.index(layer)
        parts = []
        if at < len(self._records):
            parts.append(("What the compiler said at build time", readable(self._records[at])))
        else:
            parts.append(
                ("Of this layer the record tells nothing; what the plan holds of it", readable(layer.to_dict()))
            )
        if layer.name in self._told:
            parts.append(("What the engine's inspector said when it was measured", self._told[layer.name]))
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
        told = table_html(["memory", "size", "source", ""], rows, numeric=(1,))
        return w.VBox(
            [w.HTML(told, layout=w.Layout(width="100%")), chart_area(figures.memory(plan))],
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
            told = f"<p class='wbp-quiet'>{escape(timings_told(timings))} Its keys are hashes: which layer an entry is of is not told.</p>"
            parts.append(told + table_html(["in the timing cache, slowest first", "time"], rows, numeric=(1,)))
        return w.HTML("".join(parts), layout=w.Layout(width="100%"))

    def _show_log(self) -> w.Widget:
        engine, _ = self._need()
        self._log.show(engine.log)
        return self._log

    # --- against another ----------------------------------------------------------------------------

    def _comparison(self) -> w.Widget:
        engine, _ = self._need()
        others = [e for e in self.session.engines[::-1] if e.key != engine.key]
        if not others:
            return empty("This is the only engine of the session. Build another, such as in FP16, to see what changes.")
        same = [e for e in others if e.model == engine.model]
        kept = [e for e in others if e.key == self.other.value]
        self.fill(self.other, [(_label(e), e.key) for e in others], (kept or same or others)[0].key)
        self._hold_against()
        return w.VBox([self.other, self._changes], layout=w.Layout(width="100%"))

    def _hold_against(self) -> None:
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
            raise WorkbenchError("No file is named.", hint="Write where to save the engine, such as model.engine.")
        path = engine.save(self.path.value.strip())
        self._saved.value = f"<span class='wbp-quiet'>Saved, {bytes_text(path.stat().st_size)}.</span>"
        self._action = [f"engine.save({self.path.value.strip()!r})"]
        self._set_code()

    def _rebuild(self, _button: Any) -> None:
        engine, _ = self._need()
        self.show_error("")
        self.rebuild.disabled, self.stop.disabled = True, False
        self._rebuilt.value = "<span class='wbp-quiet'>Building</span>"
        self._action = ["engine = session.engines.rebuild(engine)"]
        self._set_code()
        self._building, self._stopped = None, False

        def work() -> None:
            told = ""
            try:
                build = self._building = self.session.engines.start_rebuild(engine)
                if self._stopped:
                    build.cancel()
                fresh = build.result()
                how = "found ready made" if fresh.cached else f"built in {fresh.seconds['total']:.1f} s"
                told = f"{escape(fresh.id)}, {how}."
            except CancelledError:
                told = "Cancelled."
            except WorkbenchError as error:
                self.show_error(error)
            finally:
                self._rebuilt.value = f"<span class='wbp-quiet'>{told}</span>"
                self.rebuild.disabled, self.stop.disabled = False, True

        # Not in the kernel's own thread, which must stay free to hear the cancel button.
        threading.Thread(target=self.guard(work), daemon=True).start()

    def _stop_rebuild(self, _button: Any) -> None:
        self._stopped = True  # for what is not begun yet
        if self._building is not None:
            self._building.cancel()

    def heard(self, event: Event) -> None:
        """The selection chooses a layer; a new engine is one more to compare with."""
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


# --- an engine in words and rows ---------------------------------------------------------------------------


def readable(record: Mapping[str, Any]) -> str:
    """A record as JSON, with lists of plain values on one line."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([^][{}\"]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def facts_of(engine: Engine, plan: Plan) -> list[dict[str, Any]]:
    """Headline facts of an engine."""
    s = plan.summary
    return [
        {"name": "engine file", "value": bytes_text(engine.bytes)},
        {"name": "compiler", "value": plan.compiler["version"], "note": plan.compiler["name"]},
        {"name": "built for", "value": plan.compiler["target"] or "?"},
        {"name": "precision", "value": engine.config.precision, "note": "asked for"},
        {"name": "layers", "value": s["layers"], "note": f"{s['launches_after']} launches"},
        {"name": "built in", "value": f"{engine.seconds['total']:.1f} s"},
    ]


def options_of(config: BuildConfig) -> list[list[str]]:
    """What was asked for and differs from the defaults, as rows of option and value."""
    data = config.to_dict()
    profiles = data.pop("profiles", None)
    rows = [
        [name.replace("_", " "), ", ".join(map(str, v)) if isinstance(v, list) else str(v)] for name, v in data.items()
    ]
    if profiles:
        rows += [[f"shape of {n}", str(r)] for profile in config.profiles for n, r in profile.inputs.items()]
        rows += [[f"values of {n}", str(r)[1:]] for profile in config.profiles for n, r in profile.values.items()]
    rows.append(["all others", "the compiler's defaults"])
    return rows


def files_of(engine: Engine) -> list[list[str]]:
    """The files of an engine's folder with their sizes; profiles counted as one row."""
    words = {
        "engine": "the serialized engine", "build.log": "the compiler's log", "record.json": "what the compiler answered",
        "plan.json": "workbench.plan/1", "build.json": "what was asked",
    }  # fmt: skip
    rows = [
        [file.name, bytes_text(file.stat().st_size), words.get(file.name, "")]
        for file in sorted(engine.folder.iterdir()) if file.is_file() and not file.name.startswith(".")
    ]  # fmt: skip
    profiles = list((engine.folder / "profiles").glob("*.json"))
    if profiles:
        rows.append(
            [f"profiles ({len(profiles)})", bytes_text(sum(f.stat().st_size for f in profiles)), "what was measured"]
        )
    return rows


def memory_rows(engine: Engine, plan: Plan) -> list[list[str]]:
    """What is known of an engine's memory: name, size, source and a note."""
    live = liveness(plan.layers, [entry["name"] for entry in plan.io])
    rows = [
        [name, bytes_text(size), "reported", "by the compiler"]
        for name, size in (plan.facts.get("memory") or {}).items()
    ]
    rows += [
        [
            "peak activations",
            at_least(live.peak, len(live.unknown)),
            "computed",
            f"by liveness, at layer {live.peak_layer}",
        ],
        ["weights of the layers", bytes_text(plan.summary["weight_bytes"]), "reported", "constants, summed"],
        ["engine file", bytes_text(engine.bytes), "measured", "on disk"],
    ]
    words = {
        "used_bytes": (
            "used on the GPU",
            "measured",
            "engine, context, inputs and outputs; free memory before and after",
        ),
        "device_memory_size_v2": ("activations and scratch", "reported", "by the runtime"),
        "device_memory_size": ("activations and scratch", "reported", "by the runtime"),
        "streamable_weights_size": ("weights that can be streamed", "reported", "by the runtime"),
    }
    seen = set()
    for key, size in ((plan.facts.get("measured") or {}).get("memory") or {}).items():
        name, source, note = words.get(key, (key.replace("_", " "), "reported", "by the runtime"))
        if isinstance(size, int) and (name, size) not in seen:
            seen.add((name, size))
            rows.append([name, bytes_text(size), source, note])
    return rows


def tactics_of(engine: Engine) -> list[list[str]]:
    """Tactics that the log tells of, as rows; empty where it tells of none."""
    found: Sequence[Mapping[str, Any]] = getattr(engine, "tactics", None) or []
    return [
        [str(one.get("layer", "")), str(one.get("tactic", "")), ms_text(one.get("time_ms")), "yes" if one.get("chosen") else ""]
        for one in found
    ]  # fmt: skip


def timings_told(timings: Mapping[str, Any]) -> str:
    """The timing cache of a build in a sentence.

    Args:
        timings: ``plan.facts["timing_cache"]``.
    """
    before, after, hits = (timings.get(key) for key in ("bytes_before", "bytes_after", "hits"))
    said = f"Timing cache: {bytes_text(before or 0)} before this build, {bytes_text(after or 0)} after"
    if timings.get("entries") is not None:
        said += f", {timings['entries']} entries"
    if hits:
        said += f"; the log tells of {hits} hit{'s' * (hits != 1)}, which were not timed again"
    return said + "."


def compatibility_of(engine: Engine) -> list[list[str]]:
    """Where an engine runs, as rows: what, whether it fits, and why in words."""
    words = {True: "fits", False: "does not fit", None: "can't be told here"}
    return [[finding.what, words[finding.ok], finding.text] for finding in engine.compatibility()]


def changes_html(before: Plan, after: Plan, sizes: tuple[int, int]) -> str:
    """What changed from one engine to another, as HTML."""
    found = difference(before, after)
    if not found.shared and before.layers and after.layers:
        return "<p class='wbp-quiet'>They are of different models: no node is in both.</p>"

    def pair(name: str, left: Any, right: Any, told: Callable[[Any], str], source: str) -> list[str]:
        change = "" if not left or right is None else "no change" if left == right else f"{(right - left) / left:+.0%}"
        return [name, told(left), told(right), change, source]

    rows = [
        pair("kernel launches", before.summary["launches_after"], after.summary["launches_after"], str, "computed"),
        _moved(before, after),
        pair("peak activations", before.summary["peak_activation_bytes"], after.summary["peak_activation_bytes"], bytes_text, "computed"),
        pair("weights", before.summary["weight_bytes"], after.summary["weight_bytes"], bytes_text, "reported"),
        pair("engine file", *sizes, bytes_text, "measured"),
        pair("build", before.seconds.get("total"), after.seconds.get("total"), lambda v: "?" if v is None else f"{v:.1f} s", "measured"),
    ]  # fmt: skip
    latency = [(plan.facts.get("measured") or {}).get("latency") for plan in (before, after)]
    if latency[0] and latency[1]:
        rows.append(pair("median latency", latency[0]["median_ms"], latency[1]["median_ms"], ms_text, "measured"))
    parts = [table_html(["", "the other", "this", "change", ""], rows, numeric=(1, 2, 3))]
    if found.options:
        options = [[n.replace("_", " "), _told(a), _told(b)] for n, a, b in found.options]
        parts.append(table_html(["option", "the other", "this"], options))
    if found.kinds:
        parts.append(
            table_html(
                ["kind of layer", "the other", "this"], [[k, str(a), str(b)] for k, a, b in found.kinds], numeric=(1, 2)
            )
        )
    same = len(found.same)
    parts.append(
        f"<p>{same} kernel{'s' * (same != 1)} execute the same nodes in both. {len(found.before)} of the other and {len(found.after)} of this "
        "group nodes otherwise.</p>"
    )
    slower = sorted(
        ((b.time_ms - a.time_ms, a, b) for a, b in found.same if a.time_ms is not None and b.time_ms is not None),
        key=lambda item: -abs(item[0]),
    )[:10]
    if slower:
        rows = [[b.title, ms_text(a.time_ms), ms_text(b.time_ms), f"{change * 1e3:+.1f} µs"] for change, a, b in slower]
        parts.append(
            table_html(["same nodes, largest change", "the other", "this", "measured"], rows, numeric=(1, 2, 3))
        )
    if found.tactics:
        rows = [[b.title, a.tactic, b.tactic] for a, b in found.tactics[:MOST_CHANGES]]
        parts.append(
            table_html(["same nodes, another tactic", "the other", "this"], rows, wrap=True) + _more(found.tactics)
        )
    for title, layers in (("only in the other", found.before), ("only in this", found.after)):
        if layers:
            rows = [[la.title, la.kind, _names(la)] for la in layers[:MOST_CHANGES]]
            parts.append(table_html([title, "kind", "nodes"], rows) + _more(layers))
    return "".join(f"<div style='margin:0 0 14px'>{part}</div>" for part in parts)


def _moved(before: Plan, after: Plan) -> list[str]:
    left, right = before.summary["bytes_after"], after.summary["bytes_after"]
    told = [moved(plan.summary)[1] for plan in (before, after)]
    known = told == [bytes_text(left), bytes_text(right)] and left
    change = "" if not known else "no change" if left == right else f"{(right - left) / left:+.0%}"
    return ["bytes moved", *told, change, "computed"]


def _more(found: Sequence[Any]) -> str:
    left = len(found) - MOST_CHANGES
    return f"<p class='wbp-quiet'>and {left} more</p>" if left > 0 else ""


def _told(value: Any) -> str:
    return "default" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _names(layer: Layer) -> str:
    return ", ".join(layer.nodes[:4]) + (f" and {len(layer.nodes) - 4} more" if len(layer.nodes) > 4 else "")
