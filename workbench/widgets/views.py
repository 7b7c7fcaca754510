"""The anywidget classes. Each shows data of `workbench.present.wire` and shares the session's selection."""

from __future__ import annotations

import itertools
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from workbench.core.errors import WorkbenchError
from workbench.core.events import PROCESS, Event, Selection
from workbench.present import wire
from workbench.present.lens import Lens
from workbench.present.page import html
from workbench.present.wire_types import DetailsData, FusionData, GraphData, TableData
from workbench.widgets.bundle import bundle, bundle_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.workspace import Workspace

_numbers = itertools.count(1)
_LOADER = (Path(__file__).parent / "loader.js").read_text()


class View(anywidget.AnyWidget):  # type: ignore[misc]
    """A view of an engine in the browser, linked to a session's selection.

    Args:
        session: Whose selection it shares; None for a view on its own.
        lens: What it shows; see `show`.
        on_error: Called with errors of the browser's side.
        options: ``height``, ``direction``, ``theme`` and others; see ``ViewOptions`` in ``js/src/types.ts``.
    """

    component_name = ""
    _stop: Callable[[], None] | None = None

    _esm = _LOADER
    bundle = traitlets.Unicode().tag(sync=True, echo_update=False)
    component = traitlets.Unicode().tag(sync=True, echo_update=False)
    data = traitlets.Any().tag(sync=True, echo_update=False)
    options = traitlets.Dict().tag(sync=True, echo_update=False)
    selection = traitlets.Dict().tag(sync=True, echo_update=False)
    expanded = traitlets.List(traitlets.Unicode()).tag(sync=True, echo_update=False)
    overlay = traitlets.Unicode("").tag(sync=True, echo_update=False)
    grouping = traitlets.Unicode("").tag(sync=True, echo_update=False)

    def __init__(
        self,
        session: Workspace | None = None,
        lens: Lens | None = None,
        *,
        on_error: Callable[[str], None] | None = None,
        **options: Any,
    ) -> None:
        self.lens = lens
        self._session = session
        self._origin = f"{PROCESS}/{type(self).__name__}-{next(_numbers)}"
        self._on_error = on_error
        super().__init__(
            bundle=bundle_key(),
            component=self.component_name,
            data=b"" if lens is None else wire.pack(self.wire_data(lens)),
            options={key: value for key, value in options.items() if value is not None},
            selection=_to_wire(session.selection if session else Selection()),
        )
        self.on_msg(self._receive)
        if session is not None:
            # Weak: the session lives longer than its views and must not keep them alive.
            receive = weakref.WeakMethod(self._on_event)

            def listener(event: Event) -> None:
                method = receive()
                if method is not None:
                    method(event)

            self._stop = session.events.subscribe(listener)
            self.observe(self._on_selection, "selection")

    def wire_data(self, lens: Lens) -> GraphData | FusionData | TableData | DetailsData:
        """What the browser gets of `lens`."""
        raise NotImplementedError

    def show(self, lens: Lens) -> None:
        """Show another engine."""
        self.lens = lens
        self.data = wire.pack(self.wire_data(lens))

    def close(self) -> None:
        """Leave the session and the page."""
        if self._stop is not None:
            self._stop()
            self._stop = None
        super().close()

    # From the browser to the session.
    def _on_selection(self, change: dict[str, Any]) -> None:
        value = change["new"]
        if self._session is not None and value.get("origin") not in {"session", None}:
            chosen = Selection("node" if value.get("kind") == "node" else "layer", tuple(value.get("ids", ())))
            self._session.select(chosen, origin=self._origin)

    # From the session to the browser.
    def _on_event(self, event: Event) -> None:
        if event.kind == "selection" and event.origin != self._origin:
            chosen = Selection(event.data["kind"], tuple(event.data["ids"]))
            fresh = _to_wire(chosen)
            if (self.selection.get("kind"), self.selection.get("ids")) != (fresh["kind"], fresh["ids"]):
                self.selection = fresh

    def _receive(self, _widget: object, message: dict[str, Any], _buffers: object) -> None:
        kind = message.get("type")
        if kind == "bundle":
            try:
                self.send({"type": "bundle"}, [bundle()])
            except WorkbenchError as error:
                self.send({"type": "bundle", "error": str(error)})
        elif kind == "details":
            answer: dict[str, Any] = {"type": "details", "request": message["request"]}
            try:
                if self.lens is None:
                    raise WorkbenchError("Nothing is shown yet.", hint="Build a model first.")
                answer["record"] = wire.details(self.lens, message["kind"], message["id"])
            except WorkbenchError as error:
                answer["error"] = str(error)
            except Exception as error:  # noqa: BLE001 - without an answer, the browser would report a busy kernel
                answer["error"] = f"{type(error).__name__}: {error}"
            self.send(answer)
        elif kind == "error" and self._on_error is not None:
            self._on_error(f"{message.get('where')}: {message.get('message')}")

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and HTML and text for pages without widgets."""
        made = super()._repr_mimebundle_(**kwargs)
        if made is None or self.lens is None or not self.lens.compiled:
            return made
        data, metadata = made if isinstance(made, tuple) else (made, {})
        return {**data, "text/html": html(self.lens), "text/plain": repr(self.lens.plan)}, metadata


class GraphView(View):
    """One graph: the plan, or the ONNX graph with ``what="model"``."""

    component_name = "graph"

    def __init__(
        self, session: Workspace | None = None, lens: Lens | None = None, *, what: str = "plan", **options: Any
    ) -> None:
        self._what = what
        super().__init__(session, lens, **options)

    def wire_data(self, lens: Lens) -> GraphData:
        """`GraphData`."""
        return wire.graph_data(lens) if self._what == "model" else wire.plan_data(lens)


class FusionView(View):
    """The ONNX graph and the plan, linked: the fusion map."""

    component_name = "fusion"

    def wire_data(self, lens: Lens) -> FusionData:
        """`FusionData`."""
        return wire.fusion_data(lens)


class TableView(View):
    """A table of layers, or of ONNX nodes with ``what="nodes"``."""

    component_name = "table"

    def __init__(
        self, session: Workspace | None = None, lens: Lens | None = None, *, what: str = "layers", **options: Any
    ) -> None:
        self._what = what
        super().__init__(session, lens, **options)

    def wire_data(self, lens: Lens) -> TableData:
        """`TableData`."""
        return wire.node_table(lens) if self._what == "nodes" else wire.layer_table(lens)


class RowsView(View):
    """A table of any rows (`wire.rows_data`); what is chosen goes to `on_pick`, not to the session.

    Args:
        data: The rows; None for none yet.
        on_pick: Called with the ids that a reader chose.
        on_error: Called with errors of the browser's side.
        options: As for `View`; ``height`` is the largest.
    """

    component_name = "table"

    def __init__(
        self,
        data: TableData | None = None,
        *,
        on_pick: Callable[[tuple[str, ...]], Any] | None = None,
        on_error: Callable[[str], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(None, None, on_error=on_error, **options)
        self._on_pick = on_pick
        self._height = int(options.get("height") or 420)
        self.show_rows(data or wire.rows_data("", "layer", [], []))
        self.observe(self._picked, "selection")

    def show_rows(self, data: TableData) -> None:
        """Show other rows; the table is no higher than they need."""
        self.options = {**self.options, "height": min(self._height, 94 + 31 * max(len(data["id"]), 1))}
        self._of = data["of"]
        self.data = wire.pack(data)

    def choose(self, *ids: str) -> None:
        """Mark rows without calling `on_pick`."""
        fresh = _to_wire(Selection(self._of, ids))
        if (self.selection.get("kind"), self.selection.get("ids")) != (fresh["kind"], fresh["ids"]):
            self.selection = fresh

    def _picked(self, change: dict[str, Any]) -> None:
        value = change["new"]
        if self._on_pick is not None and value.get("origin") not in {"session", None}:
            self._on_pick(tuple(value.get("ids", ())))


class DetailsView(View):
    """Everything about what is selected."""

    component_name = "details"

    def wire_data(self, lens: Lens) -> DetailsData:
        """No details in advance: the browser asks for them one by one. It gets a name for what is shown, so that it notices changes."""
        plan, errors = lens.plan, lens.errors
        times = [layer.time_ms for layer in plan.layers if layer.time_ms is not None]
        # A new export keeps the model's name, and errors and times may be added to an engine that is already shown.
        parts = (plan.model["name"], plan.model.get("sha256"), plan.compiler, plan.config, len(plan.layers), len(times), sum(times),
                errors and (errors["samples"], errors.get("source"), sum(errors["tensors"].values())), lens.missing)  # fmt: skip
        return {"engine": " ".join(map(str, parts))}


def _to_wire(selection: Selection) -> dict[str, Any]:
    return {"ids": list(selection.ids), "origin": "session", "kind": selection.kind}
