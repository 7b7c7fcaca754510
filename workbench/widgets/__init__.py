"""Views in the browser: anywidget classes around the TypeScript in ``js/``.

Imported lazily: data for the browser, static pictures and the report need no Jupyter.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.widgets.views import DetailsView, FusionView, GraphView, RowsView, TableView, View

__all__ = ["DetailsView", "FusionView", "GraphView", "RowsView", "TableView", "View"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'workbench.widgets' has no attribute {name!r}")
    return getattr(importlib.import_module("workbench.widgets.views"), name)
