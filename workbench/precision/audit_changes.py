"""Compare two audits side by side: improvements and losses."""

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
    """Several plans of one model side by side: one row per figure, one column per plan."""
    import pandas as pd

    figures = {name: audit(plan, (asked or {}).get(name)).figures for name, plan in plans.items()}
    # One Series of objects per plan: a column of mixed numbers would convert the counts to floats.
    return pd.DataFrame({name: pd.Series(found, dtype=object) for name, found in figures.items()})


@dataclass(frozen=True)
class Change:
    """A part of the model, and the bytes that it moves in two plans.

    Attributes:
        layers: Ids of the first plan's layers; empty if only the second plan has layers.
        nodes: The nodes that both plans have there; empty for work that only one plan does.
        low: Bytes that the first plan moves.
        wide: Bytes that the second moves.
        title: Title of the most costly layer.
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

    Layers of both plans that execute a common node form one part, regardless of how each plan fused them. A layer
    without a common node (a cast, a Q/DQ kernel, a layout change) is a separate part. Every launch is in exactly one
    part, so the differences add up to the difference of the plans. Bytes are computed, not measured.
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
        return "The bytes are unknown."
    hidden = mine["bytes_unknown"] + theirs["bytes_unknown"]
    but = f" (The bytes of {hidden} kernels are unknown and not counted.)" if hidden else ""
    change = abs(a - b) / b
    if a == b:
        return f"{names[0]} and {names[1]} move the same number of bytes: {bytes_text(a)}.{but}"
    text = f"{names[0]} moves {bytes_text(a)}, {names[1]} {bytes_text(b)}"
    if a > b:
        return f"{text}: {change:.0%} more. It may be slower; see the findings of the audit before you run it.{but}"
    return f"{text}: {change:.0%} less.{but}"


def losses(low: Plan, wide: Plan) -> pd.DataFrame:
    """Compare the times of two measured plans of one model; parts in which `low` is slower come first.

    The model's nodes join the two plans: kernels of either plan that execute a common node form one part,
    regardless of what each compiler fused. Kernels without a common node (of a Q/DQ pair, a layout
    change) are separate parts.

    Args:
        low: The quantized plan, with times (`Engine.measured`).
        wide: The other plan, with times.

    Returns:
        One row per part: ``nodes`` (the first that both execute), ``low`` and ``wide`` (kernels), ``low_ms``,
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
