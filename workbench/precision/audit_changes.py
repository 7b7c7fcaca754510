"""Two audits side by side: what got better and what was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core.errors import ConfigError
from workbench.plan.plan import Layer, Plan
from workbench.precision.audit import audit

if TYPE_CHECKING:
    import pandas as pd


def compare(plans: Mapping[str, Plan], asked: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Several plans of one model side by side: one row a figure, one column a plan."""
    import pandas as pd

    figures = {name: audit(plan, (asked or {}).get(name)).figures for name, plan in plans.items()}
    # A Series of objects each: a column of mixed numbers would turn the counts into floats.
    return pd.DataFrame({name: pd.Series(found, dtype=object) for name, found in figures.items()})


@dataclass(frozen=True)
class Change:
    """A part of the model, and what it moves in two plans.

    Attributes:
        layers: Ids of the first plan's layers; empty where only the second has any.
        nodes: The nodes that both plans have there; empty for what only one plan does.
        low: Bytes that the first plan moves.
        wide: Bytes that the second moves.
        title: The most costly layer, in words.
    """

    layers: tuple[str, ...]
    nodes: tuple[str, ...]
    low: int
    wide: int
    title: str

    @property
    def more(self) -> int:
        """Bytes that the first plan moves beyond the second; negative where it saves."""
        return self.low - self.wide


def changes(low: Plan, wide: Plan) -> tuple[Change, ...]:
    """Where two plans of one model differ in bytes, the largest loss of the first plan first.

    Layers that execute a common node belong together, across both plans and however each fused; what belongs to
    no common node (a cast, a Q/DQ kernel, a layout change) stands alone. Every launch is in exactly one part, so
    the differences sum up to that of the plans. Bytes are computed, not measured.
    """
    common = set(low.layers_of) & set(wide.layers_of)
    boss: dict[tuple[int, str], tuple[int, str]] = {}

    def find(item: tuple[int, str]) -> tuple[int, str]:
        while boss.setdefault(item, item) != item:
            boss[item] = boss[boss[item]]
            item = boss[item]
        return item

    members: list[tuple[int, Layer]] = [
        (side, layer) for side, plan in enumerate((low, wide)) for layer in plan.layers if layer.launches
    ]
    for side, layer in members:
        find((side, layer.id))
        for node in layer.nodes:
            if node in common:
                boss[find((side, layer.id))] = find((2, node))
    parts: dict[tuple[int, str], tuple[list[Layer], list[Layer]]] = {}
    for side, layer in members:
        parts.setdefault(find((side, layer.id)), ([], []))[side].append(layer)
    out = []
    for mine, theirs in parts.values():
        costly = max(mine or theirs, key=lambda layer: layer.bytes or 0)
        nodes = dict.fromkeys(n for layer in (*mine, *theirs) for n in layer.nodes if n in common)
        out.append(
            Change(
                tuple(layer.id for layer in mine), tuple(nodes), sum(layer.bytes or 0 for layer in mine),
                sum(layer.bytes or 0 for layer in theirs), costly.title,
            )
        )  # fmt: skip
    return tuple(sorted(out, key=lambda change: -change.more))


def verdict(low: Plan, wide: Plan, names: Sequence[str] = ("INT8", "FP16")) -> str:
    """Whether the lower precision moves fewer bytes, in one sentence; the sums are computed, not measured."""
    from workbench.core.units import bytes_text

    mine, theirs = audit(low).figures, audit(wide).figures
    a, b = mine["bytes"], theirs["bytes"]
    if not a or not b:
        return "The bytes are not known."
    hidden = mine["bytes_unknown"] + theirs["bytes_unknown"]
    but = f" (Of {hidden} kernels they are not known, and not counted.)" if hidden else ""
    change = abs(a - b) / b
    if a == b:
        return f"{names[0]} and {names[1]} move as many bytes: {bytes_text(a)}.{but}"
    text = f"{names[0]} moves {bytes_text(a)}, {names[1]} {bytes_text(b)}"
    if a > b:
        return f"{text}: {change:.0%} more. It may well be slower; see what the audit finds before you run it.{but}"
    return f"{text}: {change:.0%} less.{but}"


def losses(low: Plan, wide: Plan) -> pd.DataFrame:
    """Where the time of two measured plans of one model goes, the parts in which `low` is slower first.

    The model's own nodes join the two: kernels of either plan that execute a common node belong to one part,
    whatever each compiler fused. Kernels that execute no node of the other plan (a Q/DQ pair's own, a layout
    change) are parts of their own.

    Args:
        low: The quantized plan, with times (`Engine.measured`).
        wide: The other one, with times.

    Returns:
        One row a part: ``nodes`` (the first that both execute), ``low`` and ``wide`` (kernels), ``low_ms``,
        ``wide_ms`` and ``lost_ms``, the difference; all measured.

    Raises:
        ConfigError: a plan has no times.
    """
    import pandas as pd

    for plan in (low, wide):
        if all(layer.time_ms is None for layer in plan.layers):
            raise ConfigError(
                f"The plan of {plan.model.get('name')} has no measured times.",
                hint="Measure it on a GPU: session.measure.profile(engine); then engine.measured is the plan with times.",
            )
    sides = {"low": low, "wide": wide}
    common = set(low.layers_of) & set(wide.layers_of)
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for side, plan in sides.items():
        for layer in plan.layers:
            for node in layer.nodes:
                if node in common:
                    parent[root((side, layer.id))] = root(("node", node))
    parts: dict[tuple[str, str], dict[str, list[Layer]]] = {}
    for side, plan in sides.items():
        for layer in plan.layers:
            if layer.time_ms is not None:
                parts.setdefault(root((side, layer.id)), {"low": [], "wide": []})[side].append(layer)
    rows = []
    for part in parts.values():
        shared = [n for layer in (*part["low"], *part["wide"]) for n in layer.nodes if n in common]
        times = {side: sum(layer.time_ms or 0.0 for layer in part[side]) for side in sides}
        rows.append(
            {
                "nodes": ", ".join(dict.fromkeys(shared)), "low": ", ".join(la.name for la in part["low"]),
                "wide": ", ".join(la.name for la in part["wide"]), "low_ms": times["low"], "wide_ms": times["wide"],
                "lost_ms": times["low"] - times["wide"],
            }
        )  # fmt: skip
    columns = ["nodes", "low", "wide", "low_ms", "wide_ms", "lost_ms"]
    return pd.DataFrame(rows, columns=columns).sort_values("lost_ms", ascending=False, ignore_index=True)
