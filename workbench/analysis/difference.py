"""Differences between two plans of one model: options, totals, and which nodes share a kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.plan.plan import Layer, Plan


@dataclass(frozen=True)
class Difference:
    """A comparison of two plans.

    Attributes:
        options: Options that differ: name, value before, value after; None is the compiler's default.
        kinds: Number of layers before and after, by kind, if it differs.
        same: Pairs of layers that execute the same nodes.
        before: Layers of the first plan whose set of nodes matches no layer of the second.
        after: Layers of the second plan whose set of nodes matches no layer of the first.
        shared: Number of nodes that both plans execute; 0 means that they are of different models.
    """

    options: tuple[tuple[str, Any, Any], ...]
    kinds: tuple[tuple[str, int, int], ...]
    same: tuple[tuple[Layer, Layer], ...]
    before: tuple[Layer, ...]
    after: tuple[Layer, ...]
    shared: int

    @property
    def tactics(self) -> tuple[tuple[Layer, Layer], ...]:
        """The pairs of `same` that run different kernels; pairs without a known kernel are left out."""
        return tuple((a, b) for a, b in self.same if a.tactic and b.tactic and a.tactic != b.tactic)


def difference(before: Plan, after: Plan) -> Difference:
    """Compare two plans.

    Layers are matched by the set of nodes that they execute; layers without nodes (copies, layout changes) are only
    counted by kind. Several layers with the same set are paired in order.
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
        return None  # "target" covers this
    if name == "compiler":
        return plan.config.get(name) or plan.compiler.get("name")
    return plan.config.get(name)
