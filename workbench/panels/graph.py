"""Graph: the model's ONNX graph in our own view, and in Netron's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as w
import traitlets

from workbench.panels.base import Panel, state_of
from workbench.panels.parts import beside, empty
from workbench.passes.cast import known_cast
from workbench.present.lens import Lens
from workbench.widgets import DetailsView, GraphView

if TYPE_CHECKING:
    from workbench.core.events import Event
    from workbench.core.store import Store
    from workbench.engine import Engine
    from workbench.model.model import Model
    from workbench.workspace import Workspace


class NetronView(anywidget.AnyWidget):  # type: ignore[misc]
    """Netron's page in a frame; served by `workbench.server` from Jupyter's own origin."""

    _esm = (Path(__file__).parent.parent / "widgets" / "netron.js").read_text()
    path = traitlets.List(traitlets.Unicode()).tag(sync=True)
    height = traitlets.Int(640).tag(sync=True)


def _built_from(engine: Engine, model: Model, store: Store) -> bool:
    """Whether `engine` was built from the file that `model` is now, or from a cast of it."""
    sha256 = model.sha256(store)
    source = engine.source()
    if source.original is None:
        return bool(engine.plan.model["sha256"] == sha256)
    cast = known_cast(model, engine.config.precision, sha256, store)
    return cast is not None and cast.path == source.path


class GraphPanel(Panel):
    """The ONNX graph before compilation."""

    title = "Graph"

    def __init__(self, session: Workspace) -> None:
        self.models = w.Dropdown(options=[], description="Model", layout=w.Layout(width="360px"))
        self._graph: GraphView | None = None
        self._details: DetailsView | None = None
        self._netron = NetronView()
        self._tabs = w.Tab(layout=w.Layout(width="100%"))
        self._name: str | None = None
        self._netron_of: tuple[Any, ...] | None = None
        super().__init__(session, engines=False)
        self.on_choice(self.models, self._show)
        self._tabs.observe(self.guard(self._show_netron), "selected_index")
        self.guard(self._fill)()

    def heard(self, event: Event) -> None:
        """Follow models and engines."""
        if event.kind in {"model-added", "model-removed"}:
            self._fill(event.data.get("model"))
        elif event.kind in {"current", "build-finished"}:
            self._fill()

    def _fill(self, wanted: str | None = None) -> None:
        self._show(self.fill_models(self.models, wanted))

    def _show_netron(self, _change: object = None) -> None:
        """Load Netron when its tab is open: in a hidden frame it can't measure its labels."""
        if self._tabs.selected_index == 1 and self._name is not None:
            now = state_of(self.session.models[self._name])
            if now != self._netron_of:
                self._netron.path = []  # another file may have this name now, and Netron would not load the same address again
            self._netron_of = now
            self._netron.path = [self.session.name, self._name]

    def _engine_of(self, model: Model) -> Engine | None:
        """The current engine if it was built from this model file, else the newest that was."""
        current = self.session.engines.current
        found = [*([current] if current is not None else []), *self.session.engines[::-1]]
        return next((e for e in found if e.model == model.name and _built_from(e, model, self.session.store)), None)

    def _show(self, name: str | None) -> None:
        if name is None:
            self.body.children = [empty('No model yet. Add one: <code>session.add("resnet50")</code>')]
            return
        # With an engine, the graph also shows which layer executes each node.
        model = self.session.models[name]
        engine = self._engine_of(model)
        lens = Lens.of(engine) if engine is not None else Lens.of_model(model)
        if lens.graph is None:
            lens = Lens.of_model(model)
        if self._graph is None or self._details is None:
            fail = self.show_error
            self._graph = GraphView(self.session, lens, what="model", on_error=fail, height=640)
            self._details = DetailsView(self.session, lens, on_error=fail, height=640)
            ours = beside(self._graph, self._details)
            self._tabs.children = [ours, self._netron]
            self._tabs.set_title(0, "Workbench")
            self._tabs.set_title(1, "Netron")
        else:
            self._graph.show(lens)
            self._details.show(lens)
        self._name = name
        self._show_netron()
        self.body.children = [self.models, self._tabs]
        self.set_code([f"model = session.models[{name!r}]", "model.graph.nodes", "session.panel('graph')"])
