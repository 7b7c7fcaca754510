"""Calibration: the distribution of each activation, the range that each method chooses, and calibration caches."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.charts import precision as figures
from workbench.core.documents import expanded
from workbench.core.errors import CalibrationError, WorkbenchError
from workbench.core.events import Selection
from workbench.panels.base import Panel, state_of
from workbench.panels.charts import chart
from workbench.panels.code import arguments
from workbench.panels.forms import DataFields, form
from workbench.panels.parts import empty, fact_row, halves, warning, wide
from workbench.panels.work import Work
from workbench.precision.calibration import Calibration
from workbench.precision.histogram import METHODS
from workbench.present.wire import rows_data
from workbench.present.wire_types import TableColumn, TableData
from workbench.widgets import RowsView

if TYPE_CHECKING:
    from workbench.core.events import Event
    from workbench.workspace import Workspace


_IMPORT = "from workbench.precision.calibration import Calibration"


class CalibrationPanel(Panel):
    """Run the FP32 model on data, and look at its activations."""

    title = "Calibration"
    work: Work

    def __init__(self, session: Workspace) -> None:
        style = {"description_width": "92px"}
        self.models = w.Dropdown(options=[], description="Model", layout=wide(), style=style)
        self.to = w.Dropdown(options=["int8", "fp8"], description="For", layout=wide(), style=style)
        self.data = DataFields(test=False)
        self.file = w.Text(
            description="Cache", placeholder="path of a .json file, to load, save or compare", continuous_update=False,
            layout=wide(), style=style,
        )  # fmt: skip
        auto = w.Layout(width="auto")
        self.run = w.Button(
            description="Calibrate", button_style="primary", icon="play", layout=w.Layout(width="120px")
        )
        self.load = w.Button(description="Load", icon="folder-open-o", layout=auto)
        self.save = w.Button(description="Save", icon="floppy-o", layout=auto, disabled=True)
        self.compare = w.Button(
            description="Compare with",
            tooltip="Show the ranges of the cache at that path beside these",
            layout=auto,
            disabled=True,
        )
        self.method = w.ToggleButtons(options=list(METHODS), value="entropy", style={"button_width": "92px"})
        self.percentile = w.BoundedFloatText(
            value=99.99,
            min=50,
            max=100,
            step=0.01,
            description="Percentile",
            layout=w.Layout(width="190px"),
            style={"description_width": "80px"},
        )
        self.calibration: Calibration | None = None
        self._other: Calibration | None = None
        self._tensor: str | None = None
        self._made: list[str] = []
        self._state: tuple[Any, ...] | None = None
        self._facts = w.HTML(layout=wide())
        self._chart = w.Output(layout=wide())
        self._ranges = w.Output(layout=wide())
        self._place = w.VBox(layout=wide())
        super().__init__(session, engines=False)
        self.work = Work(self, [self.run], hold=[self.models])
        self.table = RowsView(on_pick=self.guard(self._picked), on_error=self.show_error, height=400)
        self.compared = RowsView(on_pick=self.guard(self._picked), on_error=self.show_error, height=400)
        files = w.HBox(
            [self.load, self.save, self.compare], layout=w.Layout(flex_flow="row wrap", padding="0 0 0 96px")
        )
        fields = form([self.models, self.to, *self.data.fields], [self.file, files])
        self._tabs = w.Tab(layout=wide())
        head = w.HBox([self.method, self.percentile], layout=w.Layout(flex_flow="row wrap", grid_gap="4px 12px"))
        self._results = w.VBox([self._facts, head, self._tabs], layout=wide())
        self._tabs.children = [halves(self.table, self._chart), self._ranges, w.VBox(layout=wide())]
        for i, title in enumerate(("Tensors", "Methods on one chart", "Two caches")):
            self._tabs.set_title(i, title)
        self.body.children = [fields, self.work.row(), self._place]
        self.run.on_click(self.guard(self._start))
        self.load.on_click(self.guard(self._load))
        self.save.on_click(self.guard(self._save))
        self.compare.on_click(self.guard(self._set_beside))
        self.on_choice(self.models, self._model_changed)
        self._tabs.observe(self.guard(lambda _: self._draw_ranges()), "selected_index")
        for field in (self.method, self.percentile):
            field.observe(self.guard(lambda _: self._draw()), "value")
        for field in (self.to, self.data.calibration, self.data.limit):
            field.observe(self.guard(lambda _: self._update_code()), "value")
        self.guard(self._fill)()

    # --- the form -----------------------------------------------------------------------------------

    def heard(self, event: Event) -> None:
        """Follow models."""
        if event.kind in {"model-added", "model-removed"}:
            self._fill()

    def _fill(self) -> None:
        names = [n for n, m in self.session.models.items() if m.origin.get("kind") not in {"quantize", "cast"}][::-1]
        before = self.models.value
        chosen = before if before in names else next(iter(names), None)
        self.fill(self.models, names, chosen)
        now = state_of(self.session.models[chosen] if chosen else None)
        if chosen != before or now != self._state or not self._place.children:
            self._model_changed(chosen)

    def _model_changed(self, name: str | None) -> None:
        model = self.session.models[name] if name else None
        self._state = state_of(model)
        self.data.offer(model)
        self._show(None)
        self._update_code()

    def _request(self) -> dict[str, Any]:
        values = self.data.values()
        if self.to.value != "int8":
            values["to"] = self.to.value
        return values

    def _update_code(self) -> None:
        if self.models.value:
            self.set_code([self._calibrate_line(), "calibration.to_frame()"])

    def _calibrate_line(self) -> str:
        request = self._request()
        data = request.pop("data", None)
        return f"calibration = session.precision.calibrate({self.models.value!r}, {data!r}{arguments(request)})"

    # --- the work -----------------------------------------------------------------------------------

    def _start(self, _button: Any) -> None:
        name = self.models.value
        if not name:
            raise WorkbenchError(
                "There is no model yet.",
                hint="Add one in the Model panel, or with session.add('digits').",
                code="no-model",
            )
        request = self._request()
        if "data" not in request:
            raise CalibrationError(
                "No data are named.",
                hint="Name a folder, an .npz or .npy file, module:factory, or random:32.",
                code="no-data",
            )
        self._update_code()
        made = [self._calibrate_line()]

        def work() -> str:
            found = self.session.precision.calibrate(name, request.pop("data"), **request, on_job=self.work.watch)
            self._made = made
            self._show(found)
            self._made = made
            return f"<b>{len(found.tensors)} tensors</b> on {found.data['samples']} samples."

        self.work.run(work, "<b>Reading the data</b>")

    def _path(self) -> Path:
        if not self.file.value.strip():
            raise CalibrationError(
                "No file is named.", hint="Write a path into the field Cache, such as ranges.json.", code="no-file"
            )
        return expanded(self.file.value.strip())

    def _load(self, _button: Any) -> None:
        self.show_error("")
        path, name = self._path(), self.models.value
        found = Calibration.load(path)
        if name:
            found.check(self.session.models[name].sha256(self.session.store), name)
        self._show(found)
        self._made = [_IMPORT, f"calibration = Calibration.load({str(path)!r})"]
        self.set_code([*self._made, "calibration.to_frame()"])
        self.work.status.value = f"<b>Loaded</b> {len(found.tensors)} tensors."

    def _save(self, _button: Any) -> None:
        self.show_error("")
        path = self._path()
        if self.calibration is None:
            raise CalibrationError("There is nothing to save yet.", hint="Calibrate first.")
        try:
            self.calibration.save(path)
        except OSError as error:
            raise CalibrationError(f"{path} can't be written: {error}.") from None
        self.set_code([*self._made, f"calibration.save({str(path)!r})"])
        self.work.status.value = f"<b>Saved.</b> <span class='wbp-quiet'>{escape(path.name)}</span>"

    def _set_beside(self, _button: Any) -> None:
        self.show_error("")
        if self.calibration is None:
            raise CalibrationError("There is nothing to compare yet.", hint="Calibrate or load a cache first.")
        other = Calibration.load(self._path())
        other.check(self.calibration.model, "the calibration shown")
        self._other = other
        self._draw()
        self._tabs.selected_index = 2
        made = [line for line in self._made if line != _IMPORT]
        more = f", {self.percentile.value:g}" if self.method.value == "percentile" else ""
        self.set_code([
            _IMPORT, *made, f"other = Calibration.load({str(self._path())!r})",
            f"calibration.compare(other, {self.method.value!r}{more})",
        ])  # fmt: skip

    # --- what there is ------------------------------------------------------------------------------

    def _show(self, found: Calibration | None) -> None:
        self.calibration, self._other, self._tensor = found, None, None
        self.save.disabled = self.compare.disabled = found is None
        if found is None:
            self._place.children = [empty(
                "Name data and press Calibrate, or load a cache.<br>In a cell: "
                "<code>session.precision.calibrate(\"digits\", \"sample\").to_frame()</code>"
            )]  # fmt: skip
            return
        about = found.data
        self._facts.value = fact_row([
            {"name": "tensors with a range", "value": len(found.tensors)}, {"name": "samples", "value": about["samples"]},
            {"name": "batches", "value": about["batches"]}, {"name": "data", "value": _short(str(about["source"]))},
        ]) + warning(
            ["Calibrated on random numbers: the ranges say nothing about your data."]
            if str(about["source"]).startswith("random") else []
        )  # fmt: skip
        self._tensor = next(iter(found.tensors), None)
        self._place.children = [self._results]
        self._draw()

    def _draw(self) -> None:
        found = self.calibration
        if found is None:
            return
        self.percentile.layout.visibility = "visible" if self.method.value == "percentile" else "hidden"
        self.table.show_rows(tensor_rows(found, self.method.value, self.percentile.value))
        if self._tensor:
            self.table.choose(self._tensor)
        self._draw_tensor()
        self._ranges.outputs = ()
        self._draw_ranges()
        last = self._tabs.children[2]
        if self._other is None:
            last.children = [empty("Name a cache in the field above and press Compare with.")]
        else:
            self.compared.show_rows(compared_rows(found, self._other, self.method.value, self.percentile.value))
            last.children = [self.compared]

    def _draw_tensor(self) -> None:
        found, name = self.calibration, self._tensor
        if found is None or name is None or name not in found.tensors:
            return
        figure = figures.distribution(
            name, found.tensors[name], chosen=self.method.value, percentile=self.percentile.value
        )
        self._chart.outputs = (chart(figure),)

    def _draw_ranges(self) -> None:
        # Only when its tab is open: in a hidden place plotly has no room.
        if self.calibration is not None and self._tabs.selected_index == 1 and not self._ranges.outputs:
            self._ranges.outputs = (chart(figures.ranges(self.calibration, percentile=self.percentile.value)),)

    def _picked(self, ids: tuple[str, ...]) -> None:
        if not ids or self.calibration is None or ids[0] not in self.calibration.tensors:
            return
        self._tensor = ids[0]
        self._draw_tensor()
        node = self._node_of(ids[0])
        if node is not None:
            self.session.select(Selection("node", (node,)))

    def _node_of(self, tensor: str) -> str | None:
        """The node that computes a tensor; of an input, the first node that reads it."""
        if not self.models.value:
            return None
        graph = self.session.models[self.models.value].graph
        maker = graph.producer.get(tensor)
        if maker is not None:
            return str(maker.id)
        return next((str(n.id) for n in graph.nodes if tensor in n.inputs), None)


def _short(text: str) -> str:
    """The name of a file or folder."""
    kind, _, path = text.partition(" ")
    return Path(path).name if kind in {"File", "Folder"} else text


def tensor_rows(found: Calibration, method: str, percentile: float) -> TableData:
    """One row per tensor: the range by each method, what the chosen method cuts off, and the extremes."""
    names, made = list(found.tensors), found.tensors.values()
    ends = {m: [h.range(m, percentile) for h in made] for m in METHODS}
    cut = [100 * h.beyond(end) for h, end in zip(made, ends[method], strict=True)]
    columns: list[tuple[TableColumn, Sequence[Any]]] = [
        ({"name": "tensor", "label": "Tensor", "type": "text"}, names),
    ]
    columns += [({"name": m, "label": m.capitalize(), "type": "number"}, ends[m]) for m in METHODS]
    columns += [
        ({"name": "cut", "label": "Cut off", "type": "number", "unit": "%"}, cut),
        ({"name": "low", "label": "Lowest", "type": "number"}, [h.low for h in made]),
        ({"name": "high", "label": "Highest", "type": "number"}, [h.high for h in made]),
    ]
    return rows_data("Tensors", "node", names, columns)


def compared_rows(found: Calibration, other: Calibration, method: str, percentile: float) -> TableData:
    """The ranges of two caches, with the largest differences first."""
    frame = found.compare(other, method, percentile)
    columns: list[tuple[TableColumn, Sequence[Any]]] = [
        ({"name": "tensor", "label": "Tensor", "type": "text"}, list(frame["tensor"])),
        ({"name": "this", "label": f"This, {method}", "type": "number"}, [_number(v) for v in frame["this"]]),
        ({"name": "other", "label": "Other", "type": "number"}, [_number(v) for v in frame["other"]]),
        ({"name": "ratio", "label": "Other over this", "type": "number"}, [_number(v) for v in frame["ratio"]]),
    ]
    return rows_data("Two caches", "node", list(frame["tensor"]), columns)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
