"""Views in the browser: anywidget classes around the TypeScript in ``js/``."""

from workbench.widgets.lens import Lens
from workbench.widgets.views import DetailsView, FusionView, GraphView, TableView, View

__all__ = ["DetailsView", "FusionView", "GraphView", "Lens", "TableView", "View"]
