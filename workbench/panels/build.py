"""Build: a form from the fields of `BuildConfig` and the compiler's options, progress, the log, and the engines."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench import compilers
from workbench.compilers.base import Builds, Diagnoses
from workbench.compilers.config import DEFAULT_COMPILER, BuildConfig
from workbench.compilers.options import OptionField, option_fields
from workbench.core.errors import WorkbenchError
from workbench.core.units import bytes_text
from workbench.model import samples
from workbench.model.shape_profile import ShapeProfile
from workbench.panels.base import Panel
from workbench.panels.code import arguments_of
from workbench.panels.option_widgets import default_choice, target_choices, value_of, widget_of
from workbench.panels.parts import LogBox, table_html
from workbench.panels.work import Work
from workbench.plan.traffic import moved

if TYPE_CHECKING:
    from workbench.core.events import Event
    from workbench.workspace import Workspace

_CORE = option_fields(BuildConfig)
_OWN_WIDGETS = {"compiler", "targets", "precision", "profiles", "options"}
"""Fields of `BuildConfig` that the form shows with widgets of their own."""


class BuildPanel(Panel):
    """Build an engine."""

    title = "Build"
    work: Work

    def __init__(self, session: Workspace) -> None:
        wide = w.Layout(width="100%")
        style = {"description_width": "92px"}
        self.model = w.Combobox(
            options=self._names(session), placeholder="a model, a sample, or path/to/model.onnx", description="Model",
            ensure_option=False, continuous_update=False, layout=wide, style=style,
        )  # fmt: skip
        names = [n for n in compilers.compilers() if n != "fake" and compilers.find(n, Builds) is not None]
        self.compiler = w.Dropdown(
            options=names, value=DEFAULT_COMPILER, description="Compiler", layout=wide, style=style
        )
        self.targets = w.SelectMultiple(
            description="Targets", layout=wide, style=style, tooltip=_CORE["targets"].description
        )
        self.reported = w.HTML(layout=w.Layout(margin="0 0 0 96px"))
        precisions = _CORE["precision"]
        self.precision = w.ToggleButtons(
            options=precisions.choices, value=precisions.default, style={"button_width": "64px"}
        )
        # ToggleButtons put their description above; the other fields have it on the left.
        label = w.Label("Precision", layout=w.Layout(width="92px", justify_content="flex-end", margin="2px 4px 2px 0"))
        precision = w.HBox([label, self.precision])
        self._shapes = w.VBox()
        self._shape_fields: dict[str, tuple[w.Text, w.Text, w.Text]] = {}
        self._value_fields: dict[str, tuple[w.Text, w.Text, w.Text]] = {}
        self._options: dict[str, w.Widget] = {}
        self._fields: dict[str, OptionField] = {}
        self._option_box = w.VBox()
        more = w.Accordion([self._option_box], layout=wide)
        more.set_title(0, "Builder options")
        self.button = w.Button(description="Build", button_style="primary", icon="play", layout=w.Layout(width="120px"))
        self._log = LogBox()
        log = w.Accordion([self._log], layout=wide)
        log.set_title(0, "Build log")
        self._log_box = log
        self._engines = w.HTML(layout=w.Layout(width="100%", margin="8px 0 0 0"))
        self.failed = w.Dropdown(
            options=[("choose one to see its log", None)], description="Failed", layout=w.Layout(width="100%"),
            style=style, tooltip="Failed builds of the last week",
        )  # fmt: skip
        self.failed.layout.display = "none"
        super().__init__(session, engines=False)
        self.work = Work(self, [self.button], keep_bars=True)
        left = w.VBox(
            [self.model, self.compiler, self.targets, self.reported, precision, self._shapes, more,
             w.HBox([self.button, self.work.cancel], layout=w.Layout(padding="6px 0 0 96px"))],
            layout=w.Layout(flex="1 1 380px", max_width="520px", min_width="0"),
        )  # fmt: skip
        right = w.VBox([self.work.status, self.work.bars, log], layout=w.Layout(flex="1 1 400px", min_width="0"))
        columns = w.Layout(width="100%", flex_flow="row wrap", align_items="flex-start", grid_gap="8px 32px")
        self.body.children = [w.HBox([left, right], layout=columns), self._engines, self.failed]
        self.targets.observe(self.guard(self._show_reported), "value")
        self.button.on_click(self.guard(self._start))
        self.model.observe(self.guard(self._model_changed), "value")
        self.failed.observe(self.guard(self._open_failure), "value")
        self.compiler.observe(self.guard(self._compiler_changed), "value")
        for field in (self.precision, self.targets):
            field.observe(self.guard(lambda _: self._update_code()), "value")
        self._compiler_changed({})
        models = list(session.models)
        self.model.value = models[-1] if models else "resnet50"
        self._update_code()
        self._show_engines()
        self._show_failures()
        self.work.block("")

    @staticmethod
    def _names(session: Workspace) -> list[str]:
        return list(dict.fromkeys([*session.models, *samples()]))

    # --- the form -----------------------------------------------------------------------------------

    def _model_changed(self, _change: dict[str, Any]) -> None:
        """Show fields for the shapes of dynamic inputs, and for the values of inputs that are read as a shape."""
        self._shape_fields, self._value_fields = {}, {}
        rows: list[w.Widget] = []
        name = self.model.value
        models = self.session.models
        if name in models:
            graph = models[name].graph
            texts = graph.suggestion.texts if graph.dynamic_inputs or graph.shape_inputs else {}
            shapes = {n: t for n, t in texts.items() if not t.startswith("=")}
            values = {n: t.removeprefix("=") for n, t in texts.items() if t.startswith("=")}
            for what, given, fields in (
                ("Shapes of dynamic inputs", shapes, self._shape_fields),
                ("Values of inputs that are read as a shape", values, self._value_fields),
            ):
                if given:
                    rows.append(w.HTML(f"<span class='wbp-quiet'>{what}: smallest, usual, largest</span>"))
                for tensor, usual in given.items():
                    fields[tensor] = self._range_fields(usual)
                    declared = [d if d is not None else "?" for d in graph.tensor(tensor).shape or ()]
                    label = f"<b>{escape(tensor)}</b> <span class='wbp-quiet'>{escape(str(declared))}</span>"
                    rows += [w.HTML(label), w.HBox(list(fields[tensor]))]
        self._shapes.children = rows
        self._update_code()

    def _range_fields(self, usual: str) -> tuple[w.Text, w.Text, w.Text]:
        """Three fields that begin with `usual`: for the smallest, usual and largest."""
        low, middle, high = (
            w.Text(value=usual, layout=w.Layout(width="30%"), continuous_update=False) for _ in range(3)
        )
        for field in (low, middle, high):
            field.observe(self.guard(lambda _: self._update_code()), "value")
        return low, middle, high

    def _compiler_changed(self, _change: dict[str, Any]) -> None:
        """Show the targets and the options of the chosen compiler; keep what was chosen if this compiler has it too."""
        name = self.compiler.value
        offered = target_choices(name)
        kept = [value for _, value in offered if value in self.targets.value]
        self.targets.options = offered
        self.targets.rows = max(2, len(offered))
        self.targets.value = tuple(kept) or default_choice(offered)
        before = {n: (self._fields[n], widget.value) for n, widget in self._options.items()}
        self._fields = {
            **{n: f for n, f in _CORE.items() if n not in _OWN_WIDGETS},
            **{n: f for n, f in option_fields(compilers.get(name, Builds).options).items() if f.in_forms},
        }
        self._options = {n: widget_of(field) for n, field in self._fields.items()}
        for n, widget in self._options.items():
            if n in before and before[n][0].same_values(self._fields[n]):
                widget.value = before[n][1]
            widget.observe(self.guard(lambda _: self._update_code()), "value")
        self._option_box.children = list(self._options.values())
        self._show_reported({})
        self._update_code()

    def config(self) -> BuildConfig:
        """What the form asks for.

        Raises:
            ConfigError: a field does not fit.
        """
        given = {name: value_of(self._fields[name], widget.value) for name, widget in self._options.items()}
        options = {name: value for name, value in given.items() if value != self._fields[name].default}
        profiles: tuple[ShapeProfile, ...] = ()
        texts = {n: ":".join(f.value.strip() for f in fields) for n, fields in self._shape_fields.items()}
        texts |= {n: "=" + ":".join(f.value.strip() for f in fields) for n, fields in self._value_fields.items()}
        if texts:
            profiles = (ShapeProfile.parse(texts),)
        return BuildConfig.of(
            compiler=self.compiler.value, targets=self.targets.value, precision=self.precision.value,
            profiles=profiles, **options,
        )  # fmt: skip

    def _update_code(self) -> None:
        try:
            arguments = arguments_of(self.config())
        except WorkbenchError as error:
            self.show_error(error)
            return
        self.show_error("")
        self.set_code([f"engine = session.build({self.model.value!r}{arguments})", "engine.plan"])

    # --- a build ------------------------------------------------------------------------------------

    def _start(self, _button: Any) -> None:
        self.show_error("")
        if not self.model.value.strip():
            raise WorkbenchError(
                "No model is named.",
                hint="Choose one from the list, or write the path of an ONNX file.",
                code="no-model",
            )
        name, config = self.model.value.strip(), self.config()
        self._log.show("")  # the log of the previous build
        work = self.work

        def build() -> str:
            # Opening or exporting a model takes seconds as well.
            task = self.session.engines.start(name, config, on_job=work.watch)
            engine = work.result_of(task)
            self._log.show(engine.log)
            how = "Found in the cache" if engine.cached else f"Built in {task.seconds:.1f} s"
            return f"<b>{how}.</b> {bytes_text(engine.bytes)}, {len(engine.plan.layers)} layers."

        work.run(build, "<b>Reading the model</b>")

    def _show_reported(self, _change: Any) -> None:
        """What users report about the chosen targets."""
        name = self.compiler.value
        found = ""
        if (compiler := compilers.find(name, Diagnoses)) is not None:
            built = {"name": compilers.info_of(name).name, "target": "+".join(self.targets.value)}
            found = " ".join(compiler.known_issues(built).values())
        self.reported.value = f"<span class='wbp-quiet'>{escape(found)}</span>" if found else ""

    # --- engines and failures -----------------------------------------------------------------------

    def heard(self, event: Event) -> None:
        """Follow models and engines."""
        if event.kind in {"model-added", "model-removed"}:
            self.model.options = self._names(self.session)
            if event.data.get("model") == self.model.value:
                self._model_changed({})  # its inputs may have changed
        if event.kind in {"build-finished", "current"}:
            self._show_engines()
        if event.kind == "build-failed":
            self._show_failures()

    def _show_failures(self) -> None:
        """List the failed builds that are kept, newest first; choose none."""
        options: list[tuple[str, str | None]] = [("choose one to see its log", None)]
        for failure in self.session.engines.failures:
            when = time.strftime("%d %b %H:%M", time.localtime(failure.time))
            asked = f"{failure.config.target} {failure.config.precision}".strip()
            options.append((f"{when}  {failure.model} {asked}: {failure.message[:100]}", failure.folder.name))
        self.failed.options = options
        self.failed.layout.display = None if len(options) > 1 else "none"

    def _open_failure(self, change: dict[str, Any]) -> None:
        """Show the error and the log of the failed build that was chosen."""
        if change["new"] is None:
            return
        found = [(i, f) for i, f in enumerate(self.session.engines.failures) if f.folder.name == change["new"]]
        if not found:
            raise WorkbenchError("The files of this failed build were deleted.", code="failure-gone")
        number, failure = found[0]
        self.show_error(failure.error)
        self._log.show(failure.log)
        self._log_box.selected_index = 0
        self.set_code([f"failure = session.engines.failures[{number}]", "print(failure.log)"])

    def _show_engines(self) -> None:
        engines = self.session.engines[::-1]
        current = self.session.engines.current
        rows = [
            [
                "● " if current and e.key == current.key else "", e.model, e.config.target, e.config.precision,
                str(e.plan.summary["launches_after"]), moved(e.plan.summary)[1], bytes_text(e.bytes),
                f"{e.seconds['total']:.1f} s", e.id,
            ]
            for e in engines[:12]
        ]  # fmt: skip
        headings = ["", "engine of", "target", "precision", "kernels", "moves", "size", "built in", "key"]
        self._engines.value = table_html(headings, rows, numeric=(4, 5, 6, 7)) if rows else (
            "<span class='wbp-quiet'>No engines in this session yet.</span>")  # fmt: skip
