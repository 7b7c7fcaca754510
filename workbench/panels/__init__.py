"""Panels for notebooks: ipywidgets compositions over a session. They import no compiler.

Each works alone (``session.panel("fusions")``) and together (``session.app()``). They talk through the
session's events and never to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.errors import CompilerUnavailableError, StoreError

if TYPE_CHECKING:
    from workbench.session import Session

PANELS = {
    "model": "workbench.panels.model:ModelPanel",
    "graph": "workbench.panels.graph:GraphPanel",
    "build": "workbench.panels.build:BuildPanel",
    "fusions": "workbench.panels.fusions:FusionsPanel",
    "precision": "workbench.panels.precision:PrecisionPanel",
    "calibration": "workbench.panels.calibration:CalibrationPanel",
    "sensitivity": "workbench.panels.sensitivity:SensitivityPanel",
    "memory": "workbench.panels.memory:MemoryPanel",
    "streams": "workbench.panels.streams:StreamsPanel",
    "gotchas": "workbench.panels.gotchas:GotchasPanel",
}
"""Panels by name, in the order in which the app shows them."""


def panel(session: Session, name: str) -> Any:
    """The panel called `name`; see `Session.panel`."""
    if name not in PANELS:
        raise StoreError(f"There is no panel {name!r}.", hint="There are: " + ", ".join(PANELS) + ".")
    return _load(PANELS[name])(session)


def all_panels(session: Session) -> Any:
    """All panels as tabs; see `Session.app`."""
    return _load("workbench.panels.app:App")(session)


def _load(place: str) -> Callable[[Session], Any]:
    module, _, name = place.partition(":")
    try:
        found: Callable[[Session], Any] = getattr(import_module(module), name)
    except ImportError as error:
        raise CompilerUnavailableError(
            f"Panels need {error.name}, which is not installed.", hint="pip install 'trt-workbench[lab]'"
        ) from None
    return found
