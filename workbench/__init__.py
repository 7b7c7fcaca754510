"""TensorRT Workbench: see what an inference compiler makes of a model.

Start with `Session`:

    from workbench import Session
    session = Session("tour")
    engine = session.build("resnet50", target="sm89")
    engine.plan.to_frame()

Importing this package is fast and loads neither torch nor TensorRT; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.build import Build
    from workbench.compilers.config import BuildConfig
    from workbench.core.errors import WorkbenchError
    from workbench.core.events import Event, Selection
    from workbench.engine import Engine
    from workbench.model import Model, samples
    from workbench.model.shape_profile import ShapeProfile, ShapeRange, ValueRange
    from workbench.plan import Layer, Plan
    from workbench.session.session import Session

__version__ = "0.1.0"

_PLACES = {
    "Build": "workbench.build", "BuildConfig": "workbench.compilers.config", "Engine": "workbench.engine",
    "Event": "workbench.core.events", "Layer": "workbench.plan", "Model": "workbench.model", "Plan": "workbench.plan",
    "Selection": "workbench.core.events", "Session": "workbench.session.session", "ShapeProfile": "workbench.model.shape_profile",
    "ShapeRange": "workbench.model.shape_profile", "ValueRange": "workbench.model.shape_profile", "WorkbenchError": "workbench.core.errors",
    "samples": "workbench.model",
}  # fmt: skip

__all__ = [
    "Build", "BuildConfig", "Engine", "Event", "Layer", "Model", "Plan", "Selection", "Session", "ShapeProfile",
    "ShapeRange", "ValueRange", "WorkbenchError", "samples",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
