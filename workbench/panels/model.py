"""Model: where it comes from, what it contains, and which source lines it was made from."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.charts import plan as figures
from workbench.core.errors import WorkbenchError
from workbench.core.units import bytes_text, flops_text
from workbench.model import Model, samples
from workbench.model.cost import totals
from workbench.model.shape_profile import ShapeProfile
from workbench.panels.base import Panel
from workbench.panels.charts import chart
from workbench.panels.parts import empty, fact_row, table_html
from workbench.panels.work import Work
from workbench.present.lens import Lens
from workbench.widgets import TableView

if TYPE_CHECKING:
    from workbench.core.events import Event
    from workbench.workspace import Workspace


class ModelPanel(Panel):
    """Add a model, and look at it."""

    title = "Model"
    work: Work

    def __init__(self, session: Workspace) -> None:
        self.models = w.Dropdown(options=[], description="Model", layout=w.Layout(width="320px"))
        self.source = w.Combobox(
            options=list(samples()), placeholder="a sample, file.onnx, or package.module:factory",
            description="Add", ensure_option=False, layout=w.Layout(width="auto", flex="1 1 330px", max_width="520px"),
        )  # fmt: skip
        self.shapes = w.Text(
            placeholder="shapes: x=1x3x224x224, or min:opt:max; values: n==1:8:32",
            layout=w.Layout(width="auto", flex="1 1 250px", max_width="420px"),
        )
        self.button = w.Button(description="Add", icon="plus", layout=w.Layout(width="80px"))
        self._facts = w.HTML()
        self._inputs = w.HTML(layout=w.Layout(width="100%"))
        self._charts = w.Output(layout=w.Layout(width="100%"))
        self._table: TableView | None = None
        self._place = w.VBox(layout=w.Layout(width="100%"))
        super().__init__(session, engines=False)
        self.work = Work(self, [self.button])
        self.body.children = [
            w.HBox([self.source, self.shapes, self.button, self.work.cancel], layout=w.Layout(flex_flow="row wrap")),
            w.VBox([self.work.status, self.work.bars]),
            self.models,
            self._place,
        ]
        self.button.on_click(self.guard(self._add))
        self.on_choice(self.models, self._show)
        self.guard(self._fill)()

    def _add(self, _button: Any) -> None:
        text = self.source.value.strip()
        if not text:
            raise WorkbenchError(
                "No source is named.", hint="Choose a sample, or write the path of an ONNX file.", code="no-model"
            )
        profile = ShapeProfile.parse(self.shapes.value.split()) if self.shapes.value.strip() else None
        shapes = f", shapes={profile.texts!r}" if profile else ""

        def add() -> str:
            model = self.session.add(text, shapes=profile, on_job=self.work.watch)
            self._fill(model.name)
            self.set_code([f"model = session.add({text!r}{shapes})", "model.to_frame()"])
            return f"<b>{escape(model.name)}</b> is in the session."

        self.work.run(add, "<b>Opening or exporting the model</b>")

    def heard(self, event: Event) -> None:
        """Follow models that another panel or notebook adds or removes."""
        if event.kind in {"model-added", "model-removed"}:
            self._fill(event.data.get("model"))

    def _fill(self, wanted: str | None = None) -> None:
        self._show(self.fill_models(self.models, wanted))

    def _show(self, name: str | None) -> None:
        if name is None:
            self._place.children = [
                empty('No model yet. Add a sample or a file above, or in a cell: <code>session.add("resnet50")</code>')
            ]
            return
        model = self.session.models[name]
        lens = Lens.of_model(model)
        graph = lens.graph
        assert graph is not None
        parts: list[dict[str, Any]] = [
            {"name": "ONNX nodes", "value": len(graph.nodes)},
            {"name": "kernels if none were fused", "value": sum(c.launches for c in lens.costs.values())},
            _operations(lens),
            {"name": "on disk", "value": bytes_text(model.bytes)},
            {"name": "nodes with a source line", "value": f"{sum(bool(s.line) for s in model.provenance.values())} of {len(graph.nodes)}"},
            {"name": "opset", "value": graph.opset.get("ai.onnx", "?")},
        ]  # fmt: skip
        self._facts.value = fact_row(parts)
        rows = [
            [role, n, "×".join(str(d) if d is not None else "?" for d in graph.tensor(n).shape or ()), graph.tensor(n).dtype]
            for role, names in (("input", graph.inputs), ("output", graph.outputs)) for n in names
        ]  # fmt: skip
        self._inputs.value = table_html(["", "name", "shape", "type"], rows) + _origin(model)
        self._charts.outputs = (chart(figures.operators(model.operators())),)
        if self._table is None:
            self._table = TableView(self.session, lens, what="nodes", on_error=self.show_error, height=420)
        else:
            self._table.show(lens)
        halves = [
            w.VBox([half], layout=w.Layout(flex="1 1 340px", min_width="0")) for half in (self._inputs, self._charts)
        ]
        columns = w.HBox(halves, layout=w.Layout(width="100%", flex_flow="row wrap", grid_gap="8px 32px"))
        self._place.children = [self._facts, columns, self._table]
        self.set_code([f"model = session.models[{name!r}]", "model.to_frame()"])


def _operations(lens: Lens) -> dict[str, Any]:
    """The operations of a graph as a fact. If some are unknown, it is a lower bound and says so."""
    assert lens.graph is not None
    known, unknown = totals(lens.graph, lens.costs)
    note = {"note": f"without {unknown} node{'s' * (unknown != 1)} that are not known"} if unknown else {}
    return {"name": "operations", "value": flops_text(known, unknown), **note}


def _origin(model: Model) -> str:
    origin = model.origin
    lines = [
        f"{key}: {value}"
        for key, value in origin.items()
        if key in {"kind", "name", "spec", "class", "torch", "dynamic"} and value
    ]
    error = origin.get("error")
    if isinstance(error, dict):
        lines += [
            f"compared with torch, {where}: {'largest difference ' + format(value, '.1e') if isinstance(value, float) else value}"
            for where, value in error.items()
        ]
    if origin.get("kind") in {"module", "factory", "sample"}:
        lines += [f"note: {text}" for text in origin.get("warnings", ())]
    return f"<p class='wbp-quiet'>{escape(str(model.path))}<br>{'<br>'.join(escape(line) for line in lines)}</p>"
