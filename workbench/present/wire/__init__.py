"""From plans and graphs to what the browser gets. The format is that of `workbench.present.wire_types`.

Pure functions; every result is JSON-able.
"""

from workbench.present.wire.coding import pack
from workbench.present.wire.details import details
from workbench.present.wire.graphs import fusion_data, graph_data, plan_data, shown
from workbench.present.wire.tables import layer_table, node_table, rows_data

__all__ = [
    "details", "fusion_data", "graph_data", "layer_table", "node_table", "pack", "plan_data",
    "rows_data", "shown",
]  # fmt: skip
