"""Checks: what the data of an engine or a model prove that its user should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench import compilers
from workbench.analysis.checks import SEVERITIES, Finding, Findings
from workbench.compilers.base import Partitions
from workbench.compilers.config import BuildConfig
from workbench.core.events import Selection
from workbench.panels.base import Panel, engine_label, state_of
from workbench.panels.closing import put
from workbench.panels.code import build_line
from workbench.panels.parts import beside, empty, fact_row
from workbench.panels.work import Work
from workbench.present.lens import Lens
from workbench.widgets import DetailsView

if TYPE_CHECKING:
    from workbench.core.events import Event
    from workbench.engine import Engine
    from workbench.plan.partition import Partition
    from workbench.workspace import Workspace

_SHOWN_PARTS = 12


class ChecksPanel(Panel):
    """Findings about an engine, or about a model that has none. Each selects the layers or nodes that it is about."""

    title = "Checks"
    work: Work

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
            tooltip="Ask TensorRT which nodes it supports: its builder if the model is small and its shapes are known, else "
            "its parser",
        )  # fmt: skip
        self.cards: list[w.VBox] = []
        self.found: Findings | None = None
        self._facts = w.HTML()
        self._parts = w.HTML(layout=w.Layout(width="100%"))
        self._list = w.VBox(layout=w.Layout(width="100%"))
        self._details: DetailsView | None = None
        self._asked: dict[str, Findings] = {}
        self._failed: dict[str, BuildConfig] = {}
        super().__init__(session, engines=False)
        self.work = Work(self, [self.ask])
        self.on_choice(self.subject, self._show)
        self.ask.on_click(self.guard(self._ask))
        self.guard(self._fill)()

    # --- what is shown ------------------------------------------------------------------------------

    def heard(self, event: Event) -> None:
        """Follow new engines and models. A build that failed is shown as findings of its model."""
        refused = event.data.get("error", {}).get("kind") in {"UnsupportedNodesError", "BuildError"}
        if event.kind == "build-failed" and refused:
            config = BuildConfig.from_dict(event.data.get("config", {}))
            if compilers.find(config.compiler, Partitions) is None:
                return  # it can't say which nodes it refuses
            name = str(event.data["model"])
            self._asked.pop(name, None)
            self._failed[name] = config
            self._fill(f"model:{name}")
            if not self.work.busy:
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
            # A user who looks at an engine stays there; one who looks at models sees the new one.
            engine = str(self.subject.value).startswith("engine:")
            self._fill(None if engine else f"model:{name}")

    def _fill(self, wanted: str | None = None) -> None:
        current = self.session.engines.current
        engines = [(engine_label(e), f"engine:{e.key}") for e in self.session.engines[::-1]]
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
        # An error must not stand above the findings of another engine.
        self.cards = []
        put(self._list, (), self)
        self._facts.value, self._parts.value = "", ""
        if not self.work.busy:
            self.work.status.value = ""
        self.ask.layout.display = None if kind == "model" else "none"
        self.work.cancel.layout.display = None if kind == "model" or self.work.busy else "none"
        bar = w.HBox(
            [self.subject, self.ask, self.work.cancel, self.work.status], layout=w.Layout(flex_flow="row wrap")
        )
        put(self.body, [bar, self.work.bars, self._facts, self._parts, self._list], self)
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
        notes = "".join(f"<p class='wbp-quiet'>Not checked: {escape(text)}.</p>" for text in found.unchecked)
        if not self.cards:
            what = "engine" if found.engine else "model"
            self.cards = [w.VBox([empty(f"No check found anything in this {what}.")])]
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
        card.add_class("wbc-card")
        card.add_class(f"wbc-{finding.severity}")
        return card

    def _select(self, finding: Finding) -> None:
        kind, _, key = str(self.subject.value).partition(":")
        if kind == "engine":
            self.session.engines.current = key  # another engine has other layers under these ids
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

    # --- the compiler -----------------------------------------------------------------------------------

    def _ask(self, _button: Any = None) -> None:
        kind, _, name = str(self.subject.value).partition(":")
        if kind != "model":
            return
        model = self.session.models[name]

        def ask() -> str:
            found = self.session.checks(model, on_job=self.work.watch, **self._options(name))
            if state_of(self.session.models.get(name)) != state_of(model):
                return ""  # there is another model under the name now
            self._asked[name] = found
            if self.subject.value == f"model:{name}":
                self._show(self.subject.value)
            return ""

        self.work.run(ask, "<b>Asking TensorRT</b>")

    def _options(self, name: str) -> dict[str, Any]:
        """What the failed build of this model asked for; nothing if none failed."""
        config = self._failed.get(name)
        if config is None:
            return {}
        asked = {
            "shapes": config.profiles[0].texts if config.profiles else None, "target": config.target or None,
            "precision": config.precision if config.precision != "fp32" else None,
        }  # fmt: skip
        return {k: v for k, v in asked.items() if v is not None}

    def show_engine(self, engine: Engine | None) -> None:
        """Show the findings of `engine`."""
        self._fill(f"engine:{engine.key}" if engine else None)


def _parts(partition: Partition | None) -> str:
    """What TensorRT supports, as a strip: one box for each part, as wide as it has nodes."""
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
            f"<div class='wbc-part{'' if taken else ' wbc-back'}' style='flex:{n} 1 0' title='{escape(ops, quote=True)}'>"
            f"<b>{title}</b>{escape(ops)}</div>"
        )
    more = len(partition.segments) - _SHOWN_PARTS
    if more > 0:
        boxes.append(f"<div class='wbc-part'><b>and {more} more</b>parts</div>")
    return f"<div class='wbc-parts'>{''.join(boxes)}</div>"
