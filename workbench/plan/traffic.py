"""The savings of fusion: kernel launches and bytes moved, before and after.

Before: each node that computes or moves data is one kernel, which reads each distinct input once and
writes each output once (`workbench.model.cost`). After: each layer that is work for the GPU is one
launch, which reads each distinct input and constant once and writes its outputs, at the types and shapes
that the compiler reports. For a table from which rows are gathered, only those rows count. Caches are not
modeled: these are the bytes that kernels request, not a measurement.

One branch of each If runs: the one with more kernels counts, before and after. Work in a loop counts with all
iterations if their number is known; otherwise it is unknown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.core.dtypes import BITS
from workbench.core.units import bytes_text
from workbench.model.cost import totals
from workbench.plan.flow import branch_of
from workbench.plan.memory import liveness
from workbench.plan.plan import CONVERSIONS

if TYPE_CHECKING:
    from workbench.model.cost import Cost
    from workbench.model.graph import Graph
    from workbench.plan.document import SummaryDocument
    from workbench.plan.plan import Layer, PlanTensor, Unclaimed


_ROWS = {"Gather", "GatherND", "GatherElements", "Slice"}


def gathered(graph: Graph, nodes: Sequence[str], tensor: PlanTensor, written: Sequence[PlanTensor] = ()) -> int | None:
    """Bytes that a layer reads of `tensor`: all, or the parts that its nodes take if all that read it take a part.

    Args:
        graph: The model at the plan's shapes.
        nodes: Ids of the layer's nodes.
        tensor: One of its inputs or constants.
        written: Its outputs; if one is as large as `tensor`, all of `tensor` is read.
    """
    elements = _elements(tensor)
    if elements is None or elements in {_elements(t) for t in written}:
        return tensor.bytes
    mine = [graph.by_id[name] for name in nodes]
    made = {t for node in mine for t in node.outputs}
    taken: dict[str, int] = {}
    for node in mine:
        if node.op in _ROWS and node.inputs and node.inputs[0] not in made:
            out = graph.tensor(node.outputs[0]).elements
            if graph.tensor(node.inputs[0]).elements == elements and out is not None:
                taken[node.inputs[0]] = taken.get(node.inputs[0], 0) + out
    whole = {t for node in mine for t in node.inputs[node.op in _ROWS :]}
    if not taken or whole & taken.keys():
        return tensor.bytes
    # At the layer's own type, which may be narrower than the model's.
    return min(tensor.bytes or 0, math.ceil(max(taken.values()) * BITS[tensor.dtype] / 8))


def _elements(tensor: PlanTensor) -> int | None:
    return None if tensor.bytes is None or tensor.dtype not in BITS else tensor.bytes * 8 // BITS[tensor.dtype]


def read(parts: Iterable[tuple[PlanTensor, int | None]], largest: Mapping[str, int]) -> int | None:
    """Bytes that a layer reads: each tensor once; parts of a tensor are summed, up to its whole size.

    Args:
        parts: The layer's tensors, each with the bytes that are read of it.
        largest: The most bytes that any layer has of a tensor, by name.

    Returns:
        None if a size is unknown.
    """
    sizes: dict[str, dict[tuple[int, ...] | None, int]] = {}
    for tensor, size in parts:
        if size is None:
            return None
        sizes.setdefault(tensor.name, {})[tensor.shape] = size
    return sum(min(sum(of.values()), max(largest.get(name, 0), *of.values())) for name, of in sizes.items())


def left_out(layers: Sequence[Layer]) -> set[str]:
    """Branches of If nodes, as in `Layer.branch`, that sums omit: for each If the one with fewer kernels."""
    count: Counter[str] = Counter()
    for layer in layers:
        for branch in layer.branch:
            count[branch] += layer.launches
    out = set()
    for branch in count:
        owner, _, side = branch.rpartition(": ")
        other = f"{owner}: {'else' if side == 'then' else 'then'}"
        if (count[branch], side == "then") < (count[other], side != "then"):
            out.add(branch)
    return out


def moved(summary: Mapping[str, Any]) -> tuple[str | None, str]:
    """Bytes moved before and after fusion as text, with "at least" if a part of the sum is not known.

    Before is None if the engine was read without its model.
    """
    after = at_least(summary["bytes_after"], summary.get("bytes_unknown_after", 0))
    if summary["bytes_before"] is None:
        return None, after
    return at_least(summary["bytes_before"], summary.get("bytes_unknown_before") or 0), after


def moved_text(summary: Mapping[str, Any]) -> str:
    """Both sums in one line, with an arrow only if both are complete, so that they can be compared."""
    before, after = moved(summary)
    if before is None:
        return f"{after} moved"
    if comparable(summary):
        return f"{before} → {after} moved"
    parts = [(summary.get("bytes_unknown_before"), "nodes"), (summary.get("bytes_unknown_after"), "kernels")]
    unknown = " and ".join(f"{n} {what if n != 1 else what[:-1]}" for n, what in parts if n)
    return f"moved: {before} as written, {after} as compiled (bytes of {unknown} are not known)"


def comparable(summary: Mapping[str, Any]) -> bool:
    """Whether the sums of bytes before and after fusion are both complete."""
    return summary["bytes_before"] is not None and not summary.get("bytes_unknown")


def at_least(size: int, unknown: int) -> str:
    """A sum of bytes as text; the sizes of `unknown` of its parts are not known."""
    return bytes_text(size) if not unknown else f"at least {bytes_text(size)}" if size else "?"


def summarize(
    graph: Graph | None,
    costs: Mapping[str, Cost],
    layers: Sequence[Layer],
    unclaimed: Sequence[Unclaimed],
    io: Sequence[str],
) -> SummaryDocument:
    """The totals of a plan; without a `graph`, totals that need the model are None.

    Returns:
        ``nodes``; ``layers``; ``launches_before`` and ``launches_after``; ``bytes_before`` and
        ``bytes_after`` (sums over what is known; ``bytes_unknown_before`` and ``bytes_unknown_after`` count the
        nodes and layers omitted, ``bytes_unknown`` both); ``flops`` (``flops_unknown`` counts the nodes omitted);
        ``other_branches`` (launches in branches of If nodes that are not counted) and ``repeated`` (launches
        that run in each iteration of a loop and are counted once); ``layout_conversions`` and ``precision_conversions``
        (layers that only convert); ``merged`` (layers that execute siblings in one kernel); ``without_nodes`` (launches
        that have no node); ``peak_activation_bytes`` (``peak_unknown`` counts the tensors omitted); ``weight_bytes``;
        ``kinds`` and ``precisions`` (counts of layers);
        ``unclaimed`` (counts by reason); ``streams``.
    """
    out = left_out(layers)
    elsewhere = {} if graph is None or not out else branch_of(graph)
    counted = {
        name: cost for name, cost in costs.items()
        if not any(f"{owner}: {('then', 'else')[side]}" in out for owner, side in elsewhere.get(name, ()))
    }  # fmt: skip
    before = [c for c in counted.values() if c.launches]
    launched = [layer for layer in layers if layer.launches]
    after = [layer for layer in launched if not out.intersection(layer.branch)]
    known_before = [
        c.bytes_read + c.bytes_written for c in before if c.bytes_read is not None and c.bytes_written is not None
    ]
    known_after = [layer.bytes for layer in after if layer.bytes is not None]
    weights: dict[str, int] = {}
    for layer in launched:  # the weights of all branches are in memory
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
        "bytes_unknown_before": None if graph is None else len(before) - len(known_before),
        "bytes_unknown_after": len(after) - len(known_after),
        "flops": flops,
        "flops_unknown": flops_unknown,
        "other_branches": len(launched) - len(after),
        "repeated": sum(layer.repeated for layer in after),
        "layout_conversions": sum(layer.kind in CONVERSIONS and "precision" not in layer.converts for layer in after),
        "precision_conversions": sum(layer.kind in CONVERSIONS and "precision" in layer.converts for layer in after),
        "merged": sum(bool(layer.merged) for layer in layers),
        "without_nodes": sum(not layer.nodes for layer in after),
        "peak_activation_bytes": memory.peak,
        "peak_unknown": len(memory.unknown),
        "weight_bytes": sum(weights.values()),
        "kinds": dict(Counter(layer.kind for layer in layers).most_common()),
        "precisions": dict(Counter(layer.precision for layer in after).most_common()),
        "unclaimed": dict(Counter(entry.reason for entry in unclaimed).most_common()),
        "streams": len({layer.stream for layer in layers}),
    }
