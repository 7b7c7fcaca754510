"""Precision: build in several precisions, compare them, and see which precision each layer really got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.charts import precision as figures
from workbench.compilers.config import DEFAULT_COMPILER
from workbench.core.errors import ConfigError, WorkbenchError
from workbench.experiments.whatif import FLOATS, QUANTIZED, WhatIf
from workbench.hardware.target import CURRENT
from workbench.model.shape_profile import sizes_of
from workbench.panels.base import Panel, state_of
from workbench.panels.charts import chart
from workbench.panels.code import arguments
from workbench.panels.forms import DataFields, form, joined, split
from workbench.panels.option_widgets import default_choice, target_choices
from workbench.panels.parts import empty, warning, wide
from workbench.panels.precision_audit import AuditView, select_link
from workbench.panels.precision_form import PLACED_BY_ONNXRUNTIME, option_fields, quantizes, schemes_of
from workbench.panels.precision_rows import basis, figure_table, variant_rows
from workbench.panels.work import Work
from workbench.widgets import RowsView

if TYPE_CHECKING:
    from workbench.core.events import Event
    from workbench.experiments.whatif import Variant
    from workbench.workspace import Workspace


class PrecisionPanel(Panel):
    """Choose precisions, and compare kernels, bytes, time and error."""

    title = "Precision"
    work: Work

    def __init__(self, session: Workspace) -> None:
        style = {"description_width": "92px"}
        self.models = w.Dropdown(options=[], description="Model", layout=wide(), style=style)
        self.wanted = {
            name: w.ToggleButton(
                value=name in {"fp32", "fp16", "int8"}, description=name, layout=w.Layout(width="56px")
            )
            for name in (*FLOATS, *QUANTIZED)
        }
        label = w.Label("Precisions", layout=w.Layout(width="92px", justify_content="flex-end", margin="2px 4px 2px 0"))
        row = w.HBox([label, *self.wanted.values()], layout=w.Layout(flex_flow="row wrap"))
        choices = target_choices(DEFAULT_COMPILER)
        choices = [choice for choice in choices if choice[1] != str(CURRENT)] or choices
        self.target = w.Dropdown(
            options=choices,
            value=default_choice(choices)[0],
            description="Target",
            layout=wide(),
            style=style,
        )
        self.data = DataFields()
        self.options = option_fields()
        self._shapes = w.Text(
            description="Shapes", placeholder="of dynamic inputs, as x=1x3x224x224", continuous_update=False, layout=wide(),
            style=style,
        )  # fmt: skip
        go = {"layout": w.Layout(width="auto")}
        self.compare = w.Button(
            description="Compare", button_style="primary", icon="play", layout=w.Layout(width="120px")
        )
        self.placements = w.Button(
            description="Compare placements",
            tooltip="Compare the Q/DQ placement of the workbench with that of ONNX Runtime",
            **go,
        )
        self.check = w.Button(
            description="Check FP16 range",
            tooltip="Run the FP32 model on the data and list values that FP16 can't represent",
            **go,
        )
        self.clear = w.Button(description="Clear", tooltip="Clear the table; engines stay", **go)
        self._found: WhatIf | None = None
        self._state: tuple[Any, ...] | None = None
        self._chosen: str | None = None
        self._warnings = w.HTML(layout=wide())
        self._chart = w.Output(layout=wide())
        self._range = w.VBox(layout=wide())
        self._figures = w.HTML(layout=wide())
        self._place = w.VBox(layout=wide())
        super().__init__(session, engines=False)
        self.table = RowsView(on_pick=self.guard(self._picked), on_error=self.show_error, height=420)
        self.along = w.Button(
            description="Measure along the graph", icon="map-o", layout=w.Layout(width="auto", align_self="flex-start", margin="10px 2px"),
            tooltip="Measure the error of each tensor; the map in the Fusions panel can show it as colors",
        )  # fmt: skip
        self._audit = AuditView(self, self.along)
        shown = [self.compare, self.placements, self.check, self.clear]
        self.work = Work(self, [*shown, self.along], hold=[self.models])
        more = w.Accordion([w.VBox(list(self.options.values()))], layout=wide())
        more.set_title(0, "Options of quantization and cast")
        side_by_side = w.Accordion([self._figures], layout=wide())
        side_by_side.set_title(0, "All figures of the plans")
        self._basis = w.HTML(layout=wide())
        self._results = w.VBox(
            [self._warnings, self.table, self._basis, self._chart, self._audit, side_by_side], layout=wide()
        )
        fields = form([self.models, row, self.target, self._shapes, more], self.data.fields)
        self.body.children = [fields, self.work.row(buttons=shown), self._range, self._place]
        self.compare.on_click(self.guard(lambda _: self._start(self.schemes())))
        self.placements.on_click(self.guard(lambda _: self._start(["fp16", "int8", PLACED_BY_ONNXRUNTIME])))
        self.check.on_click(self.guard(self._check_range))
        self.clear.on_click(self.guard(lambda _: self._show(None)))
        self.along.on_click(self.guard(self._measure_along))
        self.on_choice(self.models, self._model_changed)
        for field in (
            self.target, self._shapes, *self.wanted.values(), *self.options.values(), self.data.calibration, self.data.test,
            self.data.labels, self.data.limit,
        ):  # fmt: skip
            field.observe(self.guard(lambda _: self._update_code()), "value")
        self.guard(self._fill)()

    # --- the form -----------------------------------------------------------------------------------

    def _fill(self, wanted: str | None = None) -> None:
        plain = [n for n, m in self.session.models.items() if m.origin.get("kind") not in {"quantize", "cast"}]
        others = [n for n in self.session.models if n not in plain]
        names = [*plain[::-1], *others[::-1]]
        chosen = next((n for n in (wanted, self.models.value) if n in names), next(iter(names), None))
        before = self.models.value
        self.fill(self.models, names, chosen)
        now = state_of(self.session.models[chosen] if chosen else None)
        if chosen != before or now != self._state or not self._place.children:
            self._model_changed(chosen)

    def _model_changed(self, name: str | None) -> None:
        model = self.session.models[name] if name else None
        self._state = state_of(model)
        self.data.offer(model)
        dynamic = model.graph.dynamic_inputs if model is not None else {}
        self._shapes.layout.display = None if dynamic else "none"
        if dynamic and {part.partition("=")[0] for part in self._shapes.value.split()} != set(dynamic):
            usual = ("x".join(str(d) if isinstance(d, int) and d > 0 else "1" for d in s) for s in dynamic.values())
            self._shapes.value = " ".join(f"{n}={s}" for n, s in zip(dynamic, usual, strict=True))
        self._range.children = []
        self._show(None)
        self._update_code()

    def schemes(self) -> list[str | dict[str, Any]]:
        """What is chosen, with the options that differ from the defaults."""
        chosen = [name for name, box in self.wanted.items() if box.value]
        return schemes_of(chosen, {name: box.value for name, box in self.options.items()})

    def _request(self) -> dict[str, Any]:
        request: dict[str, Any] = {"target": self.target.value, **self.data.values()}
        if self._shapes.layout.display is None and self._shapes.value.strip():
            parts = self._shapes.value.split()
            if wrong := next((part for part in parts if "=" not in part), None):
                raise ConfigError(f"{wrong!r} is no shape.", hint="Write INPUT=SIZES, such as x=1x3x224x224.")
            request["shapes"] = dict(part.split("=", 1) for part in parts)
        return request

    def _update_code(self) -> None:
        if self.models.value:
            request = arguments(self._request())
            self.show_error("")
            self.set_code([
                f"found = session.precision.what_if({self.models.value!r}, {self.schemes()!r}{request})",
                "found.to_frame()", "found.warnings",
            ])  # fmt: skip

    # --- the work -----------------------------------------------------------------------------------

    def _start(self, schemes: Sequence[str | dict[str, Any]]) -> None:
        name = self.models.value
        if not name:
            raise WorkbenchError(
                "There is no model yet.",
                hint="Add one in the Model panel, or with session.add('digits').",
                code="no-model",
            )
        if not schemes:
            raise ConfigError("No precision is chosen.", hint="Choose fp32, fp16, int8 or others.", code="no-precision")
        if not any(s == "fp16" for s in schemes) and any(quantizes(s) for s in schemes):
            first = [s for s in schemes if s == "fp32"]
            schemes = [
                *first,
                "fp16",
                *(s for s in schemes if s != "fp32"),
            ]  # to see whether INT8 moves more than FP16
        request = self._request()
        code = [
            f"found = session.precision.what_if({name!r}, {list(schemes)!r}{arguments(request)})",
            "found.to_frame()",
        ]
        self.set_code([*code, "found.warnings"])
        before = self._found

        def work() -> str:
            def row(found: WhatIf) -> None:
                self._show(found.behind(before))

            found = self.session.precision.what_if(
                name, schemes, **request, on_variant=self.guard(row), on_job=self.work.watch
            )
            failed = sum(v.engine is None for v in found.variants)
            text = f"<b>{len(found.variants) - failed} built</b>"
            return text + (f", {failed} failed: see the reason below." if failed else ".")

        self.work.run(work, "<b>Reading the model</b>")

    def _check_range(self, _button: Any) -> None:
        from workbench.precision.mixed import literal
        from workbench.precision.overflow import overflows
        from workbench.precision.samples import data_of

        name, request = self.models.value, self._request()
        if not name:
            raise WorkbenchError("There is no model yet.", hint="Add one in the Model panel.", code="no-model")
        more: dict[str, Any] = {key: request[key] for key in ("shapes", "limit") if key in request}
        self.set_code([
            f"low = session.precision.cast({name!r}, 'fp16', check={request.get('data')!r}{arguments(more)})", "low.origin['warnings']",
        ])  # fmt: skip
        shapes = self._sizes(request)

        def work() -> str:
            model, store = self.session.models[name], self.session.store
            given = data_of(model, store, request.get("data"), on_job=self.work.watch)
            found = overflows(
                model, store, data=given.calibration, shapes=shapes, limit=request.get("limit"), on_job=self.work.watch
            )
            if not found:
                self._range.children = []
                return "<b>All values fit FP16</b> on these data."
            keep = w.Button(description="Keep these in FP32", layout=w.Layout(width="auto"))
            nodes = list(dict.fromkeys(literal(o.node) for o in found))

            def kept(_button: Any) -> None:
                self.options["keep"].value = joined(list(dict.fromkeys([*split(self.options["keep"].value), *nodes])))

            keep.on_click(self.guard(kept))
            links = [select_link(self.session, self.guard, o.text, "node", (o.node,)) for o in found[:12]]
            more = [w.HTML(f"<span class='wbp-quiet'>and {len(found) - 12} more</span>")] if len(found) > 12 else []
            self._range.children = [
                w.HTML("<h4 class='wbp-part'>Values that FP16 can't represent</h4>"),
                *links,
                *more,
                keep,
            ]
            words = {
                "overflow": "become infinite", "vanish": "become all zeros", "nan": "become NaN",
                "error": "have large errors", "input": "do not fit as inputs", "source": "are NaN in FP32 too",
            }  # fmt: skip
            counts = {kind: sum(o.kind == kind for o in found) for kind in words}
            parts = [f"{n} {words[kind]}" for kind, n in counts.items() if n]
            return f"<b>{len(found)} tensor{'s'[: len(found) != 1]}</b> with problems in FP16: {', '.join(parts)}."

        self.work.run(work, "<b>Running the FP32 model</b>")

    def _sizes(self, request: dict[str, Any]) -> dict[str, Any] | None:
        return sizes_of(request.get("shapes"))

    def _measure_along(self, _button: Any) -> None:
        variant, request = self._variant(), self._request()
        if variant is None or variant.engine is None:
            raise WorkbenchError("No engine is chosen.", hint="Click a row of the table.", code="no-engine")
        engine = variant.engine
        data = request.get("test") or request.get("data")
        more: dict[str, Any] = {key: request[key] for key in ("labels", "limit") if key in request}
        self.set_code([
            f"engine = session.engines.find({engine.id!r})", f"session.precision.accuracy(engine, {data!r}{arguments(more)}).to_frame()",
            "session.panel('fusions')  # color the map by error",
        ])  # fmt: skip
        sizes = self._sizes(request)

        def work() -> str:
            found = self.session.precision.accuracy(engine, data, shapes=sizes, **more, on_job=self.work.watch)
            tensors = next(iter(found.tensors.values()))
            worst = max(tensors, key=lambda t: tensors[t])
            return (
                f"<b>{len(tensors)} tensors measured</b>. The largest error is {tensors[worst]:.2%}, of {escape(worst)}. "
                "To see all, color the map in the Fusions panel by “Error against FP32”."
            )

        self.work.run(work, "<b>Running both models</b>")

    # --- what there is ------------------------------------------------------------------------------

    def heard(self, event: Event) -> None:
        """Follow models, and mark an engine that is chosen elsewhere."""
        if event.kind in {"model-added", "model-removed"}:
            self._fill()
        elif event.kind == "profile-added" and self._found is not None:
            # New variants: each computes its time once.
            self._show(replace(self._found, variants=tuple(replace(v) for v in self._found.variants)))
        elif event.kind == "current" and self._found is not None:
            key = event.data.get("engine")
            for variant in self._found.variants:
                if variant.engine is not None and variant.engine.key == key and not self.work.busy:
                    self._choose(variant.name)

    def _variant(self) -> Variant | None:
        return next((v for v in self._found.variants if v.name == self._chosen), None) if self._found else None

    def _show(self, found: WhatIf | None) -> None:
        self._found = found
        if found is None:
            self._chosen = None
            self._place.children = [empty(
                "Choose precisions and press Compare. The workbench builds each of them without a GPU and measures its error on "
                "the CPU.<br>In a cell: <code>session.precision.what_if(\"digits\", [\"fp16\", \"int8\"], data=\"sample\")</code>"
            )]  # fmt: skip
            return
        self._warnings.value = warning(found.warnings) + "".join(
            f"<div class='wbp-error'><b>{escape(v.name)}: {escape(p.message)}</b>{chr(10) + escape(p.hint) if p.hint else ''}</div>"
            for v in found.variants
            if (p := v.problem or v.error_problem) is not None
        )
        self.table.show_rows(variant_rows(found))
        self._basis.value = f"<span class='wbp-quiet'>{escape(basis(found))}</span>"
        built = [v for v in found.variants if v.engine is not None]
        self._chart.outputs = (chart(figures.variants(found)),) if built else ()
        self._figures.value = figure_table(found)
        self._place.children = [self._results]
        last = built[-1].name if built else None
        self._choose(self._chosen if self._chosen in {v.name for v in built} and not self.work.busy else last)

    def _picked(self, ids: tuple[str, ...]) -> None:
        if ids and self._found is not None:
            variant = self._found[ids[0]]
            if variant.engine is not None:
                self._choose(variant.name)
                self.session.engines.current = variant.engine

    def _choose(self, name: str | None) -> None:
        self._chosen = name
        self.table.choose(*([name] if name else []))
        self._audit.show(self._found, self._variant())
