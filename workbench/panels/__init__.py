"""Panels for notebooks, made of ipywidgets. They import no compiler.

Each works alone (``session.panel("fusions")``) and with the others (``session.app()``). Panels follow the session's
events and never call each other.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.core.errors import CompilerUnavailableError, StoreError

if TYPE_CHECKING:
    from workbench.model.model import Model
    from workbench.plan import Plan
    from workbench.workspace import Workspace

PANELS = {
    "model": "workbench.panels.model:ModelPanel",
    "graph": "workbench.panels.graph:GraphPanel",
    "build": "workbench.panels.build:BuildPanel",
    "fusions": "workbench.panels.fusions:FusionsPanel",
    "profile": "workbench.panels.profile:ProfilePanel",
    "engine": "workbench.panels.engine:EnginePanel",
    "memory": "workbench.panels.memory:MemoryPanel",
    "streams": "workbench.panels.streams:StreamsPanel",
    "precision": "workbench.panels.precision:PrecisionPanel",
    "calibration": "workbench.panels.calibration:CalibrationPanel",
    "sensitivity": "workbench.panels.sensitivity:SensitivityPanel",
    "checks": "workbench.panels.checks:ChecksPanel",
}
"""Panels by name, in the order in which the app shows them."""


OF_A_PLAN = ("fusions", "profile")
"""Panels that also show a plan without an engine."""


def panel(session: Workspace, name: str, plan: Plan | None = None, model: Model | None = None) -> Any:
    """The panel called `name`; see `Session.panel`."""
    if name not in PANELS:
        raise StoreError(f"There is no panel {name!r}.", hint="There are: " + ", ".join(PANELS) + ".")
    if plan is None:
        return _load(PANELS[name])(session)
    if name not in OF_A_PLAN:
        raise StoreError(
            f"The {name} panel shows engines of the session, not a plan.",
            hint="These show a plan: " + ", ".join(OF_A_PLAN) + ".",
        )
    from workbench.present.lens import Lens

    return _load(PANELS[name])(session, lens=Lens.of_plan(plan, model))


def all_panels(session: Workspace) -> Any:
    """All panels as tabs; see `Session.app`."""
    return _load("workbench.panels.app:App")(session)


def _load(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except ImportError as error:
        raise CompilerUnavailableError(
            f"Panels need {error.name}, which is not installed.", hint="pip install 'trt-workbench[lab]'"
        ) from None
    return found
