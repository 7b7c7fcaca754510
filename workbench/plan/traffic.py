"""What fusion saved: kernel launches and bytes moved, before and after.

Before: each node that computes or moves data is one kernel, which reads each distinct input once and
writes each output once (`workbench.model.cost`). After: each layer that is work for the GPU is one
launch, which reads each distinct input and constant once and writes its outputs, at the types and shapes
that the compiler reports. A table from which rows are gathered counts the rows. Caches are not modelled:
these are the bytes that kernels ask for, a lower bound on time spent on memory, not a measurement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.model.cost import totals
from workbench.plan.memory import liveness
from workbench.plan.plan import CONVERSIONS

if TYPE_CHECKING:
    from workbench.model.cost import Cost
    from workbench.model.graph import Graph
    from workbench.plan.plan import Layer, PlanTensor, Unclaimed


def gathered(graph: Graph, nodes: Sequence[str], tensor: PlanTensor) -> int | None:
    """Bytes that a layer reads of `tensor`: all, or the rows taken where one of its nodes gathers from it."""
    if tensor.bytes is None or tensor.shape is None:
        return tensor.bytes
    best = tensor.bytes
    for name in nodes:
        node = graph.by_id[name]
        if node.op in {"Gather", "GatherND", "GatherElements"}:
            table, out = graph.tensor(node.inputs[0]), graph.tensor(node.outputs[0])
            if table.shape == tensor.shape and out.elements is not None and table.elements:
                # At the layer's own type, which may be narrower than the model's.
                best = min(best, tensor.bytes * out.elements // table.elements)
    return best


def summarize(
    graph: Graph | None,
    costs: Mapping[str, Cost],
    layers: Sequence[Layer],
    unclaimed: Sequence[Unclaimed],
    io: Sequence[str],
) -> dict[str, Any]:
    """The totals of a plan; what only the model tells is None without a `graph`.

    Returns:
        ``nodes``; ``layers``; ``launches_before`` and ``launches_after``; ``bytes_before`` and
        ``bytes_after`` (sums over what is known; ``bytes_unknown`` counts the nodes and layers left out);
        ``flops`` (a lower bound where ``flops_unknown`` nodes are not known); ``layout_conversions`` and ``precision_conversions`` (layers that only convert);
        ``merged`` (layers that do siblings in one); ``without_nodes`` (launches that own no node);
        ``peak_activation_bytes``; ``weight_bytes``; ``kinds`` and ``precisions`` (counts of layers);
        ``unclaimed`` (counts by reason); ``streams``.
    """
    before = [c for c in costs.values() if c.launches]
    after = [layer for layer in layers if layer.launches]
    known_before = [
        c.bytes_read + c.bytes_written for c in before if c.bytes_read is not None and c.bytes_written is not None
    ]
    known_after = [layer.bytes for layer in after if layer.bytes is not None]
    weights: dict[str, int] = {}
    for layer in after:
        weights.update({t.name: t.bytes for t in layer.constants if t.bytes is not None})
    memory = liveness(layers, io)
    flops, flops_unknown = (None, None) if graph is None else totals(graph, costs)
    return {
        "nodes": None if graph is None else len(graph.nodes),
        "layers": len(layers),
        "launches_before": None if graph is None else len(before),
        "launches_after": len(after),
        "bytes_before": None if graph is None else sum(known_before),
        "bytes_after": sum(known_after),
        "bytes_unknown": len(before) - len(known_before) + len(after) - len(known_after),
        "flops": flops,
        "flops_unknown": flops_unknown,
        "layout_conversions": sum(layer.kind in CONVERSIONS and "precision" not in layer.converts for layer in after),
        "precision_conversions": sum(layer.kind in CONVERSIONS and "precision" in layer.converts for layer in after),
        "merged": sum(bool(layer.merged) for layer in layers),
        "without_nodes": sum(not layer.nodes for layer in after),
        "peak_activation_bytes": memory.peak,
        "weight_bytes": sum(weights.values()),
        "kinds": dict(Counter(layer.kind for layer in layers).most_common()),
        "precisions": dict(Counter(layer.precision for layer in after).most_common()),
        "unclaimed": dict(Counter(entry.reason for entry in unclaimed).most_common()),
        "streams": len({layer.stream for layer in layers}),
    }
