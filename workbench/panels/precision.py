"""Precision: what if? Every precision side by side, before anyone runs it, and what each really became."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.analysis.roofline import ERROR
from workbench.charts import precision as figures
from workbench.compilers.config import DEFAULT_COMPILER
from workbench.core.errors import ConfigError, WorkbenchError
from workbench.core.events import Selection
from workbench.core.units import bytes_text, flops_text
from workbench.experiments.whatif import FLOATS, QUANTIZED, WhatIf
from workbench.hardware.target import CURRENT
from workbench.model.shape_profile import sizes_of
from workbench.panels.base import Panel, chart, empty, table_html, warning
from workbench.panels.build import default_choice, target_choices
from workbench.panels.work import DataFields, Work, arguments, form, joined, split, state_of, wide
from workbench.present.wire import rows_data
from workbench.widgets import RowsView

if TYPE_CHECKING:
    from workbench.core.events import Event
    from workbench.experiments.whatif import Variant
    from workbench.workspace import Workspace

_FIGURES = {
    "kernels": "kernels", "products": "products (conv, gemm, attention)", "products_quantized": "… that read a quantized type",
    "products_fp32": "… that read FP32", "fused_steps": "steps fused into kernels", "requantizations": "requantizations",
    "double_requantization": "kernels that requantize twice", "wide_output": "products that store FP32",
    "conversion_kernel": "kernels that only convert", "weights_dequantized": "weights widened at run time",
    "fp32_pointwise": "FP32 islands", "bytes": "bytes moved", "bytes_activations": "… of activations",
}  # fmt: skip


class PrecisionPanel(Panel):
    """Pick precisions, and see kernels, bytes, time and error together."""

    title = "Precision"

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
        self.options = _option_fields()
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
            tooltip="Q/DQ as the workbench places them, and as ONNX Runtime does",
            **go,
        )
        self.check = w.Button(
            description="Check FP16 range", tooltip="Run the FP32 model on the data and name what FP16 can't hold", **go
        )
        self.clear = w.Button(description="Clear", tooltip="Forget the rows below; engines stay", **go)
        self._found: WhatIf | None = None
        self._state: tuple[Any, ...] | None = None
        self._chosen: str | None = None
        self._warnings = w.HTML(layout=wide())
        self._chart = w.Output(layout=wide())
        self._range = w.VBox(layout=wide())
        self._audit = w.VBox(layout=wide())
        self._figures = w.HTML(layout=wide())
        self._place = w.VBox(layout=wide())
        super().__init__(session, engines=False)
        self.table = RowsView(on_pick=self.guard(self._picked), on_error=self.show_error, height=420)
        self._losses = RowsView(on_pick=self.guard(self._pick_loss), on_error=self.show_error, height=260)
        self._parts: dict[str, tuple[str, ...]] = {}
        self.along = w.Button(
            description="Measure along the graph", icon="map-o", layout=w.Layout(width="auto", align_self="flex-start", margin="10px 2px"),
            tooltip="The error of each tensor, as a colour of the map in the Fusions panel",
        )  # fmt: skip
        self.work = Work(self, [self.compare, self.placements, self.check, self.clear, self.along], self.models)
        self.work.children = [b for b in self.work.children if b is not self.along]
        more = w.Accordion([w.VBox(list(self.options.values()))], layout=wide())
        more.set_title(0, "Options of quantization and cast")
        side_by_side = w.Accordion([self._figures], layout=wide())
        side_by_side.set_title(0, "All figures of the plans, side by side")
        self._basis = w.HTML(layout=wide())
        self._results = w.VBox(
            [self._warnings, self.table, self._basis, self._chart, self._audit, side_by_side], layout=wide()
        )
        fields = form([self.models, row, self.target, self._shapes, more], self.data.fields)
        self.body.children = [fields, self.work, self._range, self._place]
        self.compare.on_click(self.guard(lambda _: self._start(self.schemes())))
        self.placements.on_click(self.guard(lambda _: self._start(["fp16", "int8", _PLACED])))
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
        """What is ticked, with the options that differ from the defaults."""
        out: list[str | dict[str, Any]] = []
        field = {name: box.value for name, box in self.options.items()}
        keep = split(field["keep"])
        for name, box in self.wanted.items():
            if not box.value:
                continue
            more: dict[str, Any] = {}
            if name in QUANTIZED:
                if name != "int4" and field["method"] != "default":
                    more["method"] = field["method"]
                    if field["method"] == "percentile" and field["percentile"] != 99.99:
                        more["percentile"] = field["percentile"]
                if name != "int4" and field["weights"] != "channel-after":
                    more["weights"] = field["weights"]
                if field["placement"] == "onnxruntime" and name == "int8":
                    more |= {"placement": "onnxruntime", "rest": "fp32"}
                elif field["rest"] != "fp16":
                    more["rest"] = field["rest"]
                if field["placement"] == "modelopt":
                    more["placement"] = "modelopt"
                    more.pop("weights", None)  # it has one way only
                if keep:
                    more["keep"] = keep
            elif name != "fp32":
                more = {key: split(field[key]) for key in ("keep", "keep_ops", "only", "only_ops") if split(field[key])}
                if not field["keep_io"]:
                    more["keep_io"] = False
            out.append({"to": name, **more} if more else name)
        return out

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
            raise WorkbenchError("There is no model yet.", hint="Add one in the Model panel, or session.add('digits').")
        if not schemes:
            raise ConfigError("No precision is chosen.", hint="Press one or more of fp32, fp16, int8, ...")
        if not any(s == "fp16" for s in schemes) and any(_quantizes(s) for s in schemes):
            first = [s for s in schemes if s == "fp32"]
            schemes = [
                *first,
                "fp16",
                *(s for s in schemes if s != "fp32"),
            ]  # without it nobody sees whether INT8 moves more
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
            return text + (f", {failed} refused: the reason is below." if failed else ".")

        self.work.run(work, "<b>Looking at the model</b>")

    def _check_range(self, _button: Any) -> None:
        from workbench.precision.mixed import literal
        from workbench.precision.overflow import overflows
        from workbench.precision.samples import data_of

        name, request = self.models.value, self._request()
        if not name:
            raise WorkbenchError("There is no model yet.", hint="Add one in the Model panel.")
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
                return "<b>Everything fits FP16</b> on these data."
            keep = w.Button(description="Keep these in FP32", layout=w.Layout(width="auto"))
            nodes = list(dict.fromkeys(literal(o.node) for o in found))

            def kept(_button: Any) -> None:
                self.options["keep"].value = joined(list(dict.fromkeys([*split(self.options["keep"].value), *nodes])))

            keep.on_click(self.guard(kept))
            links = [self._link(o.text, "node", (o.node,)) for o in found[:12]]
            more = [w.HTML(f"<span class='wbp-quiet'>and {len(found) - 12} more</span>")] if len(found) > 12 else []
            self._range.children = [w.HTML("<h4 class='wbp-part'>What FP16 would break</h4>"), *links, *more, keep]
            words = {
                "overflow": "would be infinite", "vanish": "would be all zeros", "nan": "would hold NaN",
                "error": "would be off", "input": "come in that way", "source": "NaN in FP32 itself",
            }  # fmt: skip
            counts = {kind: sum(o.kind == kind for o in found) for kind in words}
            told = [f"{n} {words[kind]}" for kind, n in counts.items() if n]
            return f"<b>{len(found)} tensor{'s'[: len(found) != 1]}</b> would go wrong in FP16: {', '.join(told)}."

        self.work.run(work, "<b>Running the FP32 model</b>")

    def _sizes(self, request: dict[str, Any]) -> dict[str, Any] | None:
        return sizes_of(request.get("shapes"))

    def _measure_along(self, _button: Any) -> None:
        variant, request = self._variant(), self._request()
        if variant is None or variant.engine is None:
            raise WorkbenchError("No engine is chosen.", hint="Click a row of the table.")
        engine = variant.engine
        data = request.get("test") or request.get("data")
        more: dict[str, Any] = {key: request[key] for key in ("labels", "limit") if key in request}
        self.set_code([
            f"engine = session.engines.find({engine.id!r})", f"session.precision.accuracy(engine, {data!r}{arguments(more)}).to_frame()",
            "session.panel('fusions')  # colour the map by error",
        ])  # fmt: skip
        sizes = self._sizes(request)

        def work() -> str:
            found = self.session.precision.accuracy(engine, data, shapes=sizes, **more, on_job=self.work.watch)
            tensors = next(iter(found.tensors.values()))
            worst = max(tensors, key=lambda t: tensors[t])
            return (
                f"<b>{len(tensors)} tensors measured</b>, the worst is {escape(worst)} with {tensors[worst]:.2%}. "
                "The map in the Fusions panel now has the colour “Error against FP32”."
            )

        self.work.run(work, "<b>Running both models</b>")

    # --- what there is ------------------------------------------------------------------------------

    def heard(self, event: Event) -> None:
        """Models come and go; an engine that was chosen elsewhere is marked here."""
        if event.kind in {"model-added", "model-removed"}:
            self._fill()
        elif event.kind == "profile-added" and self._found is not None:
            # Fresh rows: a variant works its time out once.
            self._show(replace(self._found, variants=tuple(replace(v) for v in self._found.variants)))
        elif event.kind == "current" and self._found is not None:
            key = event.data.get("engine")
            for variant in self._found.variants:
                if variant.engine is not None and variant.engine.key == key and not self._running:
                    self._choose(variant.name)

    @property
    def _running(self) -> bool:
        return self.compare.disabled

    def _variant(self) -> Variant | None:
        return next((v for v in self._found.variants if v.name == self._chosen), None) if self._found else None

    def _show(self, found: WhatIf | None) -> None:
        self._found = found
        if found is None:
            self._chosen = None
            self._place.children = [empty(
                "Press the precisions to try, then Compare. Each is built here, without a GPU, and its error is measured on "
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
        self._choose(self._chosen if self._chosen in {v.name for v in built} and not self._running else last)

    def _picked(self, ids: tuple[str, ...]) -> None:
        if ids and self._found is not None:
            variant = self._found[ids[0]]
            if variant.engine is not None:
                self._choose(variant.name)
                self.session.engines.current = variant.engine

    def _choose(self, name: str | None) -> None:
        self._chosen = name
        self.table.choose(*([name] if name else []))
        variant = self._variant()
        if variant is None or variant.audit is None or variant.engine is None or self._found is None:
            self._audit.children = []
            return
        found, engine = variant.audit, variant.engine
        asked = f"asked for {found.asked}: " + ", ".join(
            f"{n} {kind} in {dtype}" for kind, counts in found.products.items() for dtype, n in counts.items()
        )
        parts: list[w.Widget] = [
            w.HTML(
                f"<h4 class='wbp-part'>What did I really get: {escape(variant.name)}</h4><span class='wbp-quiet'>{escape(asked)}</span>"
            )
        ]
        if not found.findings:
            parts.append(w.HTML(f"<p>{escape(found.words)} Nothing else was found.</p>"))
        parts += self._left(variant)
        for finding in found.findings:
            link = self._link(f"{bytes_text(finding.bytes)}  {finding.text}", "layer", finding.layers, engine.key)
            parts += [link, w.HTML(f"<span class='wbp-quiet' style='padding-left:12px'>{escape(finding.hint)}</span>")]
        try:
            losses = self._found.losses(variant.name) if variant.to in QUANTIZED else ()
        except ConfigError:
            losses = ()  # FP16 was not tried, so there is nothing to compare with
        if losses:
            # Parts that no FP16 kernel answers to have no common node; each needs a name of its own.
            self._parts = {str(i): change.layers for i, change in enumerate(losses)}
            total = sum(change.more for change in losses)
            parts.append(
                w.HTML(
                    f"<h4 class='wbp-part'>Where it moves more than FP16: {bytes_text(total)}</h4>"
                    "<span class='wbp-quiet'>Click a row to select its kernels in every view.</span>"
                )
            )
            self._losses.show_rows(loss_rows(losses))
            parts.append(self._losses)
        parts.append(self.along)
        self._audit.children = parts

    def _left(self, variant: Variant) -> list[w.Widget]:
        """What the scheme could not take, by reason; each line selects its nodes."""
        model = self.session.models.get(variant.model)
        groups: dict[str, list[str]] = {}
        for node, reason in (model.origin.get("left", {}) if model is not None else {}).items():
            groups.setdefault(reason, []).append(node)
        out: list[w.Widget] = []
        for reason, nodes in groups.items():
            names = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
            text = f"{len(nodes)} node{'s' if len(nodes) != 1 else ''} left in higher precision, {reason}: {names}"
            key = variant.engine.key if variant.engine is not None else None
            out.append(self._link(text, "node", tuple(nodes), key))
        return out

    def _pick_loss(self, ids: tuple[str, ...]) -> None:
        variant = self._variant()
        layers = [layer for i in ids for layer in self._parts.get(i, ())]
        if variant is not None and variant.engine is not None and layers:
            self.session.engines.current = variant.engine
            self.session.select(Selection("layer", tuple(layers)))

    def _link(self, text: str, kind: str, ids: tuple[str, ...], engine: str | None = None) -> w.Button:
        """Words that select what they speak of."""
        link = w.Button(description=text, tooltip="Select in every view", layout=w.Layout(width="auto"))
        link.add_class("wbp-link")

        def chosen(_button: Any) -> None:
            if engine is not None:
                self.session.engines.current = engine
            self.session.select(Selection("node" if kind == "node" else "layer", ids))

        link.on_click(self.guard(chosen))
        return link


def _quantizes(scheme: str | dict[str, Any]) -> bool:
    return (scheme if isinstance(scheme, str) else scheme["to"]) in QUANTIZED


_PLACED = {"to": "int8", "rest": "fp32", "placement": "onnxruntime"}


def _option_fields() -> dict[str, w.Widget]:
    common = {"layout": w.Layout(width="100%"), "style": {"description_width": "150px"}}
    text: Callable[..., w.Widget] = lambda what, hint: w.Text(  # noqa: E731
        description=what, placeholder=hint, continuous_update=False, **common
    )
    return {
        "method": w.Dropdown(options=["default", "entropy", "percentile", "minmax"], description="ranges by", **common),
        "percentile": w.BoundedFloatText(value=99.99, min=50, max=100, step=0.01, description="percentile", **common),
        "weights": w.Dropdown(options=["channel-after", "channel", "tensor"], description="weight scales", **common),
        "rest": w.Dropdown(options=["fp16", "bf16", "fp32"], description="the rest in", **common),
        "placement": w.Dropdown(
            options=["tensorrt", "onnxruntime", "modelopt"], description="placement of Q/DQ", **common
        ),
        "keep": text("leave these nodes", "names or patterns, as *attention*; 'a b' for one with a space"),
        "keep_ops": text("cast: leave operations", "as Softmax, LayerNormalization"),
        "only": text("cast: only these nodes", "names or patterns"),
        "only_ops": text("cast: only operations", "as Conv, Gemm"),
        "keep_io": w.Checkbox(
            value=True, description="cast: inputs and outputs keep their types", indent=True, **common
        ),
    }


def variant_rows(found: WhatIf) -> dict[str, Any]:
    """The variants as a table for the browser, one row each."""
    rows = [v.row() for v in found.variants]

    def column(name: str, factor: float = 1.0) -> list[float | None]:
        return [None if (value := row.get(name)) is None else value * factor for row in rows]

    def time(source: str) -> list[float | None]:
        return [row.get("time_ms") if row.get("time_source") == source else None for row in rows]

    columns: list[tuple[dict[str, Any], Sequence[Any]]] = [
        ({"name": "variant", "label": "Precision", "type": "text"}, [v.name for v in found.variants]),
        ({"name": "kernels", "label": "Kernels", "type": "number"}, column("kernels")),
        ({"name": "bytes", "label": "Moves", "type": "bytes"}, column("bytes")),
        ({"name": "weights", "label": "Weights", "type": "bytes"}, column("weight_bytes")),
        ({"name": "engine", "label": "Engine", "type": "bytes"}, column("engine_bytes")),
    ]
    sources = [source for source in ("measured", "estimated") if any(v is not None for v in time(source))]
    for source in sources:
        # Two columns called Time would be told apart only by the small word behind them, which gives way first.
        label = source.capitalize() if len(sources) > 1 else "Time"
        head = {"name": f"time_{source}", "label": label, "type": "number", "unit": "ms", "source": source}
        columns.append((head, time(source)))
    percent = {"type": "number", "unit": "%"}  # measured, as the line below the table says
    if any(v is not None for v in column("relative_l2")):
        columns += [
            ({"name": "error", "label": "Error", **percent}, column("relative_l2", 100)),
            ({"name": "cosine", "label": "1 − cosine", "type": "number"}, [None if c is None else max(0.0, round(1 - c, 12)) for c in column("cosine")]),
            ({"name": "snr", "label": "SNR", "type": "number", "unit": "dB"}, column("snr_db")),
        ]  # fmt: skip
    if any(column("not_finite")):  # their errors are infinite, which a cell can't show
        columns.append(({"name": "not_finite", "label": "Not finite", "type": "number"}, column("not_finite")))
    for name, label in (("top1", "Top-1 kept"), ("accuracy", "Accuracy")):
        if any(v is not None for v in column(name)):
            columns.append(({"name": name, "label": label, **percent}, column(name, 100)))
    columns.append(({"name": "findings", "label": "Findings", "type": "number"}, column("findings")))
    return rows_data("Precisions", "layer", [v.name for v in found.variants], columns)


def basis(found: WhatIf) -> str:
    """Where the table's numbers come from, in sentences."""
    out = ["Kernels and bytes: computed from the plan."]
    times = {(source, gpu) for v in found.variants for _, source, gpu in [v.time] if source}
    for source, gpu in sorted(times):
        if source == "estimated":
            out.append(f"Time: estimated for {gpu}, a lower bound from datasheet values; {ERROR}.")
        else:
            out.append(f"Time: measured{f' on {gpu}' if gpu else ''}, median latency.")
    samples = sorted({v.samples for v in found.variants if v.samples})
    if samples:
        text = ", ".join(map(str, samples))
        out.append(
            f"Error against FP32 and accuracy: measured with ONNX Runtime on the CPU, FP16 and BF16 rounded behind each node, {text} samples."
        )
    return " ".join(out)


def loss_rows(losses: Sequence[Any]) -> dict[str, Any]:
    """Where a plan moves more than FP16 does, as a table for the browser."""
    columns: list[tuple[dict[str, Any], Sequence[Any]]] = [
        ({"name": "part", "label": "Kernels", "type": "text"}, [c.title for c in losses]),
        (
            {"name": "nodes", "label": "Nodes", "type": "text"},
            [", ".join(c.nodes[:4]) or "none that FP16 has" for c in losses],
        ),
        ({"name": "count", "label": "Launches", "type": "number"}, [len(c.layers) for c in losses]),
        ({"name": "low", "label": "Moves", "type": "bytes", "source": "computed"}, [c.low for c in losses]),
        ({"name": "wide", "label": "FP16", "type": "bytes", "source": "computed"}, [c.wide for c in losses]),
        ({"name": "more", "label": "More", "type": "bytes", "source": "computed"}, [c.more for c in losses]),
    ]
    return rows_data("Losses", "layer", [str(i) for i in range(len(losses))], columns)


def figure_table(found: WhatIf) -> str:
    """The audit's figures, one column a variant, as HTML; and the operations by type."""
    built = [v for v in found.variants if v.audit is not None]
    rows = []
    for key, label in _FIGURES.items():
        values = [v.audit.figures[key] for v in built if v.audit is not None]
        rows.append([label, *(bytes_text(n) if key.startswith("bytes") else str(n) for n in values)])
    types = dict.fromkeys(d for v in built if v.audit for d in v.audit.by_precision)
    for dtype in types:
        cells = [v.audit.by_precision.get(dtype) if v.audit else None for v in built]
        rows.append(
            [
                f"operations in {dtype}",
                *("" if c is None else flops_text(c["flops"], c["flops_unknown"]) for c in cells),
            ]
        )
    return table_html(["", *(v.name for v in built)], rows, numeric=range(1, len(built) + 1))
