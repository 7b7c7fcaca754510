"""Sensitivity: which layers cause the error, and which to keep in higher precision."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.charts import precision as figures
from workbench.core.errors import ModelError
from workbench.core.events import Selection
from workbench.panels.base import Panel, state_of
from workbench.panels.charts import chart
from workbench.panels.code import arguments
from workbench.panels.forms import DataFields, form
from workbench.panels.parts import empty, halves, warning, wide
from workbench.panels.work import Work
from workbench.present.wire import rows_data
from workbench.present.wire_types import TableColumn, TableData
from workbench.widgets import RowsView

if TYPE_CHECKING:
    from workbench.core.events import Event
    from workbench.precision.mixed import Mixed
    from workbench.precision.sensitivity import Sensitivity
    from workbench.workspace import Workspace

_METRICS = {
    "accuracy, at least": "accuracy",
    "top-1 agreement, at least": "top1",
    "relative error, at most": "relative_l2",
}
_USUAL = {"accuracy": 98.5, "top1": 99.0, "relative_l2": 1.0}


class SensitivityPanel(Panel):
    """Quantize each layer alone, rank the layers, and find a mix that meets a budget."""

    title = "Sensitivity"
    work: Work

    def __init__(self, session: Workspace) -> None:
        style = {"description_width": "92px"}
        self.models = w.Dropdown(options=[], description="Quantized", layout=wide(), style=style)
        self.data = DataFields(calibration=False)
        self.metric = w.Dropdown(
            options=list(_METRICS.items()),
            value="relative_l2",
            description="Budget",
            layout=w.Layout(width="330px"),
            style=style,
        )
        self.budget = w.BoundedFloatText(value=1.0, min=0, max=100, step=0.1, layout=w.Layout(width="110px"))
        self.rank = w.Button(
            description="Rank layers", button_style="primary", icon="play", layout=w.Layout(width="130px")
        )
        self.mix = w.Button(
            description="Find the mix",
            tooltip="The fewest layers in higher precision that meet the budget",
            layout=w.Layout(width="130px"),
        )
        self.make = w.Button(
            description="Make this model",
            icon="plus",
            disabled=True,
            layout=w.Layout(width="auto", align_self="flex-start", margin="8px 2px"),
        )
        self.found: Sensitivity | None = None
        self.mixed: Mixed | None = None
        self._found_by = ""
        self._state: tuple[Any, ...] | None = None
        self._chart = w.Output(layout=wide())
        self._curve = w.Output(layout=wide())
        self._said = w.HTML(layout=wide())
        self._place = w.VBox(layout=wide())
        self._mixture = w.VBox(layout=wide())
        super().__init__(session, engines=False)
        self.work = Work(self, [self.rank, self.mix], hold=[self.models])
        self._work_row = self.work.row()
        self.table = RowsView(on_pick=self.guard(self._picked), on_error=self.show_error, height=420)
        budget = w.HBox([self.metric, self.budget, w.Label("%")], layout=w.Layout(flex_flow="row wrap"))
        self._form = form([self.models, *self.data.fields[:1], self.data.note], [*self.data.fields[1:3], budget])
        self.body.children = [self._place]
        self._results = w.VBox(layout=wide())
        self.rank.on_click(self.guard(self._rank))
        self.mix.on_click(self.guard(self._mix))
        self.make.on_click(self.guard(self._make))
        self.on_choice(self.models, self._model_changed)
        self.metric.observe(self.guard(self._metric_changed), "value")
        for field in (self.budget, self.data.test, self.data.labels, self.data.limit):
            field.observe(self.guard(lambda _: self._update_code()), "value")
        self.guard(self._fill)()

    # --- the form -----------------------------------------------------------------------------------

    def heard(self, event: Event) -> None:
        """Follow models."""
        if event.kind in {"model-added", "model-removed"}:
            self._fill()

    def _fill(self) -> None:
        names = [
            n for n, m in self.session.models.items()
            if m.origin.get("kind") == "quantize" and m.origin["scheme"]["placement"] == "tensorrt"
        ][::-1]  # fmt: skip
        if not names:
            self._place.children = [empty(
                "No quantized model yet. Make one in the Precision panel, or in a cell: "
                "<code>session.precision.quantize(\"digits\", \"sample\")</code>"
            )]  # fmt: skip
            self.fill(self.models, [], None)
            self.set_code(["session.panel('precision')"])
            return
        before = self.models.value
        chosen = before if before in names else names[0]
        self.fill(self.models, names, chosen)
        if (
            chosen != before
            or state_of(self.session.models[chosen]) != self._state
            or self._form not in self._place.children
        ):
            self._place.children = [self._form, self._work_row, self._results]
            self._model_changed(chosen)

    def _model_changed(self, name: str) -> None:
        self._state = state_of(self.session.models[name])
        exact = None
        try:
            exact = self.session.models.original(name)
        except ModelError as error:
            self.show_error(error)
        self.data.offer(exact)
        self._show(None)
        self._update_code()

    def _metric_changed(self, _change: object) -> None:
        self.budget.value = _USUAL[self.metric.value]
        self._update_code()

    def _request(self) -> tuple[Any, dict[str, Any]]:
        values = self.data.values()
        return values.pop("test", None), values

    def _update_code(self, *more: str) -> None:
        if self.models.value:
            data, values = self._request()
            self.set_code(
                [f"session.precision.sensitivity({self.models.value!r}, {data!r}{arguments(values)}).to_frame()", *more]
            )

    def _mix_line(self) -> str:
        data, values = self._request()
        values["metric"] = self.metric.value
        return f"found = session.precision.mixed({self.models.value!r}, {data!r}, {self.budget.value / 100:g}{arguments(values)})"

    # --- the work -----------------------------------------------------------------------------------

    def _rank(self, _button: Any) -> None:
        name, (data, values) = self.models.value, self._request()
        self._update_code()

        def work() -> str:
            found = self.session.precision.sensitivity(name, data, **values, on_job=self.work.watch)
            self._show(found, data)
            return f"<b>{len(found.layers)} layers</b> measured, each quantized alone, on {found.samples} samples."

        self.work.run(work, "<b>Reading the data</b>")

    def _mix(self, _button: Any) -> None:
        name, (data, values), metric, budget = (
            self.models.value,
            self._request(),
            self.metric.value,
            self.budget.value / 100,
        )
        line = self._mix_line()
        self._update_code(line, "found.keep, found.value, found.met")

        def work() -> str:
            ranking = self.session.precision.sensitivity(name, data, **values, on_job=self.work.watch)
            self._show(ranking, data)
            found = self.session.precision.mixed(name, data, budget, metric=metric, **values, on_job=self.work.watch)
            self._show_mixed(found, budget)
            self._found_by = line
            return f"<b>{len(found.tried)} choices</b> measured."

        self.work.run(work, "<b>Ranking the layers</b>")

    def _make(self, _button: Any) -> None:
        if self.mixed is None:
            raise ModelError("There is no mix yet.", hint="Press Find the mix.", code="no-mix")
        name, keep = self.models.value, list(self.mixed.keep)
        self._update_code(self._found_by, f"mix = session.precision.requantize({name!r}, keep=found.keep)")

        def work() -> str:
            made = self.session.precision.requantize(name, keep=keep, on_job=self.work.watch)
            return f"<b>{escape(made.name)}</b> is in the session. Build it, or compare it in the Precision panel."

        self.work.run(work, "<b>Quantizing</b>")

    # --- what there is ------------------------------------------------------------------------------

    def _show(self, found: Sensitivity | None, data: Any = "") -> None:
        self.found, self.mixed = found, None
        self.make.disabled = True
        self._mixture.children = []
        if found is None:
            self._results.children = [empty(
                "<b>Rank layers</b> quantizes each layer alone and measures the error of the outputs with ONNX Runtime on the "
                "CPU.<br><b>Find the mix</b> finds the fewest layers to keep in higher precision within the budget."
            )]  # fmt: skip
            return
        said = f"<span class='wbp-quiet'>Measured with ONNX Runtime on the CPU, {found.samples} samples.</span>"
        random = (
            warning(["Measured on random numbers: the ranking may differ on your data."])
            if str(data).startswith("random")
            else ""
        )
        self.table.show_rows(layer_rows(found))
        self._chart.outputs = (chart(figures.sensitivities(found)),)
        self._results.children = [w.HTML(random + said), halves(self.table, self._chart, least=720), self._mixture]

    def _show_mixed(self, found: Mixed, budget: float) -> None:
        assert self.found is not None
        self.mixed = found
        layers = len(self.found.layers)
        self._curve.outputs = (chart(figures.mixture(found, layers, budget)),)
        value = f"{100 * found.value:.4g} %"
        kept = ", ".join(found.keep[:6]) + (f" and {len(found.keep) - 6} more" if len(found.keep) > 6 else "")
        if not found.met:
            text = f"No mix meets the budget: with every layer in higher precision the value is {value}."
        elif not found.keep:
            text = f"No layer needs higher precision: the value is {value}."
        else:
            text = f"{len(found.keep)} of {layers} layers in higher precision give {value}: {kept}."
        self._said.value = f"<h4 class='wbp-part'>The mix</h4><p>{escape(text)}</p>"
        self.make.disabled = not (found.met and found.keep)
        self._mixture.children = [self._said, self._curve, self.make]
        if found.keep:
            self.table.choose(*found.keep)

    def _picked(self, ids: tuple[str, ...]) -> None:
        if ids:
            self.session.select(Selection("node", ids))


def layer_rows(found: Sensitivity) -> TableData:
    """One row per layer, with the largest error first."""
    rows = found.layers
    columns: list[tuple[TableColumn, Sequence[Any]]] = [
        ({"name": "rank", "label": "#", "type": "number"}, list(range(1, len(rows) + 1))),
        ({"name": "node", "label": "Layer", "type": "text"}, [row["node"] for row in rows]),
        ({"name": "op", "label": "Operation", "type": "tag"}, [row["op"] for row in rows]),
        (
            {"name": "error", "label": "Error alone", "type": "number", "unit": "%"},
            [_percent(row.get("relative_l2")) for row in rows],
        ),
    ]
    if any(row.get("not_finite") for row in rows):  # their errors are infinite, which a cell can't show
        columns.append(
            ({"name": "not_finite", "label": "Not finite", "type": "number"}, [row.get("not_finite") for row in rows])
        )
    for name, label in (("top1", "Top-1 kept"), ("accuracy", "Accuracy")):
        if any(row.get(name) is not None for row in rows):
            columns.append(
                (
                    {"name": name, "label": label, "type": "number", "unit": "%"},
                    [_percent(row.get(name)) for row in rows],
                )
            )
    columns.append(
        ({"name": "snr", "label": "SNR", "type": "number", "unit": "dB"}, [row.get("snr_db") for row in rows])
    )
    return rows_data("Layers", "node", [row["node"] for row in rows], columns)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
