"""Findings: what its own data prove about a model or an engine that is likely to surprise somebody."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.analysis.checks.finding import SEVERITIES, Finding, Findings
from workbench.compilers.config import BuildConfig
from workbench.core.errors import CancelledError
from workbench.core.events import Selection
from workbench.panels.base import Panel, _label, beside, empty, fact_row, put
from workbench.panels.fusions import build_line
from workbench.panels.work import state_of
from workbench.present.lens import Lens
from workbench.widgets import DetailsView

if TYPE_CHECKING:
    from workbench.compilers.torch_tensorrt import Partition
    from workbench.core.events import Event
    from workbench.core.jobs import Job
    from workbench.engine import Engine
    from workbench.workspace import Workspace

_STYLE = """<style>
.wbp .wbg-card { border: 1px solid var(--wbp-line); border-left: 4px solid var(--wbg-tone); border-radius: 6px;
  padding: 8px 12px 10px; margin: 0 0 10px; overflow: hidden; }
.wbp .wbg-problem { --wbg-tone: var(--wbp-problem); } .wbp .wbg-cost { --wbg-tone: var(--wbp-cost); }
.wbp .wbg-note { --wbg-tone: var(--wbp-accent); }
.wbp .wbg-card h4 { margin: 0 0 2px; font-size: 13px; font-weight: 600; line-height: 1.45; color: var(--wbp-text); overflow-wrap: anywhere; }
.wbp .wbg-card h4 span { color: var(--wbg-tone); font-weight: 600; margin-right: 8px; }
.wbp .wbg-card p { margin: 2px 0 !important; line-height: 1.5; color: var(--wbp-text); overflow-wrap: anywhere; }
.wbp .wbg-card p.wbp-quiet { color: var(--wbp-quiet); font-size: 12px; }
.wbp .wbg-card .widget-button { margin: 6px 0 0; }
.wbp .wbg-parts { display: flex; gap: 3px; margin: 4px 4px 12px 0; }
.wbp .wbg-part { min-width: 74px; border-radius: 5px; padding: 5px 9px; font-size: 12px; line-height: 1.4; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; background: rgba(59, 111, 212, .14); color: var(--wbp-text); }
.wbp .wbg-part b { display: block; font-weight: 600; overflow: hidden; text-overflow: ellipsis; }
.wbp .wbg-part.wbg-back { background: rgba(192, 57, 43, .16); }
</style>"""

_SHOWN_PARTS = 12


class GotchasPanel(Panel):
    """Findings about an engine, or about a model that has none; each selects what it is about."""

    title = "Findings"

    def __init__(self, session: Workspace) -> None:
        self.subject = w.Dropdown(
            options=[],
            description="Look at",
            style={"description_width": "initial"},
            layout=w.Layout(width="auto", max_width="560px"),
            tooltip="An engine, or a model",
        )
        self.ask = w.Button(
            description="Ask TensorRT", icon="question", layout=w.Layout(width="150px"),
            tooltip="Ask TensorRT which nodes it takes: its builder where the model is small and its shapes are known, else "
            "its parser",
        )  # fmt: skip
        self.cancel = w.Button(
            description="Cancel", icon="stop", layout=w.Layout(width="100px", display="none"), tooltip="Stop asking"
        )
        self.status = w.HTML()
        self.cards: list[w.VBox] = []
        self.found: Findings | None = None
        self._facts = w.HTML()
        self._parts = w.HTML(layout=w.Layout(width="100%"))
        self._list = w.VBox(layout=w.Layout(width="100%"))
        self._details: DetailsView | None = None
        self._job: Job | None = None
        self._asked: dict[str, Findings] = {}
        self._failed: dict[str, BuildConfig] = {}
        super().__init__(session, engines=False)
        self.on_choice(self.subject, self._show)
        self.ask.on_click(self.guard(self._ask))
        self.cancel.on_click(self.guard(self._stop_asking))
        self.guard(self._fill)()

    # --- what is shown ------------------------------------------------------------------------------

    def heard(self, event: Event) -> None:
        """Engines and models come; a build that failed is shown as its model's findings."""
        refused = event.data.get("error", {}).get("kind") in {"UnsupportedNodesError", "BuildError"}
        if event.kind == "build-failed" and refused:
            config = BuildConfig.from_dict(event.data.get("config", {}))
            if config.compiler == "fake":
                return
            name = str(event.data["model"])
            self._asked.pop(name, None)
            self._failed[name] = config
            self._fill(f"model:{name}")
            self._ask()
        elif event.kind in {"build-finished", "current"}:
            current = self.session.engines.current
            self._fill(f"engine:{current.key}" if current else None)
        elif event.kind == "profile-added":
            self._fill()
        elif event.kind in {"model-added", "model-removed"}:
            name = str(event.data.get("model"))
            self._asked.pop(name, None)
            self._failed.pop(name, None)
            # A reader who looks at an engine stays there; who looks at models sees the new one.
            engine = str(self.subject.value).startswith("engine:")
            self._fill(None if engine else f"model:{name}")

    def _fill(self, wanted: str | None = None) -> None:
        current = self.session.engines.current
        engines = [(_label(e), f"engine:{e.key}") for e in self.session.engines[::-1]]
        models = [(f"{name}   the model", f"model:{name}") for name in list(self.session.models)[::-1]]
        known = [value for _, value in (*engines, *models)]
        first = f"engine:{current.key}" if current else None
        value = next((v for v in (wanted, self.subject.value, first, *known) if v in known), None)
        self.fill(self.subject, [*engines, *models], value)
        self._show(value)

    def _show(self, value: str | None) -> None:
        self.show_error("")
        if value is None:
            put(self.body, [empty('No model and no engine yet. Add one: <code>session.add("resnet50")</code>')], self)
            return
        kind, _, name = value.partition(":")
        # Until something is found, an error must not stand above the findings of another engine.
        self.cards = []
        put(self._list, (), self)
        self._facts.value, self._parts.value = "", ""
        bar = w.HBox([self.subject, self.ask, self.cancel, self.status], layout=w.Layout(flex_flow="row wrap"))
        self.ask.layout.display = None if kind == "model" else "none"
        put(self.body, [w.HTML(_STYLE), bar, self._facts, self._parts, self._list], self)
        if kind == "engine":
            engine = self.session.engines.find(name)
            self._lines = [build_line(engine), "found = session.checks(engine)"]
            self._draw(self.session.checks(engine), Lens.of(engine))
            return
        model = self.session.models[name]
        found = self._asked.get(name)
        arguments = "".join(f", {k}={v!r}" for k, v in self._options(name).items()) if found else ", parser=False"
        self._lines = [f"found = session.checks({name!r}{arguments})"]
        self._draw(found or self.session.checks(model, parser=False), Lens.of_model(model))

    def _draw(self, found: Findings, lens: Lens) -> None:
        self.found = found
        counts = Counter(f.severity for f in found)
        plural = {s: s if counts[s] == 1 else f"{s}s" for s in SEVERITIES}
        self._facts.value = fact_row([{"name": plural[s], "value": counts[s]} for s in SEVERITIES])
        self._parts.value = _parts(found.partition)
        self.cards = [self._card(finding) for finding in found]
        notes = "".join(f"<p class='wbp-quiet'>Not looked at: {escape(text)}.</p>" for text in found.unchecked)
        if not self.cards:
            what = "engine" if found.engine else "model"
            self.cards = [w.VBox([empty(f"Nothing in this {what}'s data is out of the ordinary.")])]
        listed = w.VBox([*self.cards, *([w.HTML(notes)] if notes else [])])
        if self._details is None:
            self._details = DetailsView(self.session, lens, on_error=self.show_error, height=480)
        else:
            self._details.show(lens)
        put(self._list, [beside(listed, self._details)], self)
        self._code_for(None)

    def _card(self, finding: Finding) -> w.VBox:
        text = (
            f"<h4><span>{finding.severity}</span>{escape(finding.title)}</h4><p>{escape(finding.message)}</p>"
            f"<p>{escape(finding.remedy)}</p><p class='wbp-quiet'>{escape(finding.evidence)}</p>"
        )
        parts: list[w.Widget] = [w.HTML(text, layout=w.Layout(width="100%"))]
        ids = finding.layers or finding.nodes
        if ids:
            noun = "layer" if finding.layers else "node"
            button = w.Button(
                description=f"Select {len(ids)} {noun}{'s' if len(ids) > 1 else ''}", icon="crosshairs",
                layout=w.Layout(width="auto", align_self="flex-start"), tooltip="Select in every view of this session",
            )  # fmt: skip
            button.on_click(self.guard(lambda _button: self._select(finding)))
            parts.append(button)
        card = w.VBox(parts, layout=w.Layout(width="100%"))
        card.add_class("wbg-card")
        card.add_class(f"wbg-{finding.severity}")
        return card

    def _select(self, finding: Finding) -> None:
        kind, _, key = str(self.subject.value).partition(":")
        if kind == "engine":
            self.session.engines.current = key  # ids of layers mean others in another engine
        self.session.select(Selection("layer" if finding.layers else "node", finding.layers or finding.nodes))
        self._code_for(finding)

    def _code_for(self, finding: Finding | None) -> None:
        lines = [*self._lines, "found.to_frame()"]
        if finding is not None:
            which = "layer" if finding.layers else "node"
            lines += [
                "from workbench.core.events import Selection",
                f'session.select(Selection("{which}", found[{finding.kind!r}].{which}s))',
            ]
        self.set_code(lines)

    _lines: Sequence[str] = ()

    # --- TensorRT -----------------------------------------------------------------------------------

    def _ask(self, _button: Any = None) -> None:
        kind, _, name = str(self.subject.value).partition(":")
        if kind != "model" or self.ask.disabled:
            return
        self.show_error("")
        self.ask.disabled = True
        self.status.value = "<span class='wbp-quiet'>Asking TensorRT …</span>"
        self.cancel.layout.display = None
        threading.Thread(target=self.guard(self._answer), args=(name,), daemon=True).start()

    def _options(self, name: str) -> dict[str, Any]:
        """What the build of this model that failed was asked for; nothing where none failed."""
        config = self._failed.get(name)
        if config is None:
            return {}
        asked = {
            "shapes": config.profiles[0].texts if config.profiles else None, "target": config.target or None,
            "precision": config.precision if config.precision != "fp32" else None,
        }  # fmt: skip
        return {k: v for k, v in asked.items() if v is not None}

    def _answer(self, name: str) -> None:
        try:
            model = self.session.models[name]
            found = self.session.checks(model, on_job=self._use, **self._options(name))
            if state_of(self.session.models.get(name)) == state_of(model):  # else the name was given anew meanwhile
                self._asked[name] = found
        except CancelledError:
            return  # the reader asked for it
        finally:
            self._job = None
            self.ask.disabled = False
            self.cancel.layout.display = "none"
            self.status.value = ""
        if self.subject.value == f"model:{name}":
            self._show(self.subject.value)

    def _use(self, job: Job) -> None:
        self._job = job

    def _stop_asking(self, _button: Any = None) -> None:
        if self._job is not None:
            self._job.cancel()

    def show_engine(self, engine: Engine | None) -> None:
        """Show the findings of `engine`."""
        self._fill(f"engine:{engine.key}" if engine else None)


def _parts(partition: Partition | None) -> str:
    """What TensorRT takes, as a strip: one box a part, as wide as it has nodes."""
    if partition is None or not partition.fallbacks:
        return ""
    boxes = []
    for segment in partition.segments[:_SHOWN_PARTS]:
        n = len(segment.operators)
        ops = ", ".join(dict.fromkeys(o.op for o in segment.operators))
        taken = segment.runs_on == "tensorrt"
        sure = partition.method == "builder" and partition.proven
        title = f"TensorRT{'' if sure else '?'}, {n} node{'s' if n > 1 else ''}" if taken else "falls back"
        boxes.append(
            f"<div class='wbg-part{'' if taken else ' wbg-back'}' style='flex:{n} 1 0' title='{escape(ops, quote=True)}'>"
            f"<b>{title}</b>{escape(ops)}</div>"
        )
    more = len(partition.segments) - _SHOWN_PARTS
    if more > 0:
        boxes.append(f"<div class='wbg-part'><b>and {more} more</b>parts</div>")
    return f"<div class='wbg-parts'>{''.join(boxes)}</div>"
