"""What changed between two plans of one model: options, totals, and which nodes share a kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.plan.plan import Layer, Plan


@dataclass(frozen=True)
class Difference:
    """Two plans held against each other.

    Attributes:
        options: Options that differ: name, value before, value after; None is the compiler's default.
        kinds: By kind of layer: how many layers before and after, where that differs.
        same: Pairs of layers that execute the same nodes.
        before: Layers of the first plan whose set of nodes is no layer's of the second.
        after: Layers of the second plan whose set of nodes is no layer's of the first.
        shared: How many nodes both plans execute; 0 says that they are of different models.
    """

    options: tuple[tuple[str, Any, Any], ...]
    kinds: tuple[tuple[str, int, int], ...]
    same: tuple[tuple[Layer, Layer], ...]
    before: tuple[Layer, ...]
    after: tuple[Layer, ...]
    shared: int

    @property
    def tactics(self) -> tuple[tuple[Layer, Layer], ...]:
        """The pairs of `same` that run another kernel; those of which either tells none are left out."""
        return tuple((a, b) for a, b in self.same if a.tactic and b.tactic and a.tactic != b.tactic)


def difference(before: Plan, after: Plan) -> Difference:
    """What changed from one plan to the other.

    Layers are compared by the set of nodes that they execute; those that execute none (copies, changes of layout)
    count by kind only. Where several layers execute the same set, they are paired in order.
    """
    asked = [
        (name, left, right)
        for name in dict.fromkeys(("compiler", "version", "target", *before.config, *after.config))
        if (left := _option(before, name)) != (right := _option(after, name))
    ]
    counts = [Counter(layer.kind for layer in plan.layers) for plan in (before, after)]
    kinds = [(k, counts[0][k], counts[1][k]) for k in sorted({*counts[0], *counts[1]}) if counts[0][k] != counts[1][k]]
    waiting: dict[frozenset[str], list[Layer]] = {}
    for layer in after.layers:
        if layer.nodes:
            waiting.setdefault(frozenset(layer.nodes), []).append(layer)
    same, gone = [], []
    for layer in before.layers:
        found = waiting.get(frozenset(layer.nodes)) if layer.nodes else None
        if found:
            same.append((layer, found.pop(0)))
        elif layer.nodes:
            gone.append(layer)
    paired = {layer.id for _, layer in same}
    fresh = [layer for layer in after.layers if layer.nodes and layer.id not in paired]
    shared = len(set(before.layers_of) & set(after.layers_of))
    return Difference(tuple(asked), tuple(kinds), tuple(same), tuple(gone), tuple(fresh), shared)


def _option(plan: Plan, name: str) -> Any:
    if name in {"version", "target"}:
        return plan.compiler.get(name)
    if name == "targets":
        return None  # said by "target"
    if name == "compiler":
        return plan.config.get(name) or plan.compiler.get("name")
    return plan.config.get(name)
