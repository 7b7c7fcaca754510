"""Joins measured times to the layers of a plan, by name and position.

If all names agree in order, they are joined by position. If only the order differs, they are joined by name, with equal
names in their order. Anything else means that times and layers belong to two engines, which is an error that lists
the first differences. Names are never matched by similarity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.core.errors import ProfileError
from workbench.plan.from_layers import with_times
from workbench.plan.measured import MeasuredDocument
from workbench.plan.plan import HOST, Layer, Plan


@dataclass(frozen=True, slots=True)
class ProfiledLayer:
    """One layer's time. Milliseconds: in all iterations together, per iteration, and the median iteration."""

    name: str
    total_ms: float
    mean_ms: float
    median_ms: float | None
    percentage: float | None


@dataclass(frozen=True)
class ProfiledLayers:
    """The times of all layers, in the order of execution.

    Attributes:
        count: How many iterations were profiled.
        rows: One for each layer.
        path: The file that they come from; "" if there is none.
    """

    count: int
    rows: tuple[ProfiledLayer, ...]
    path: str = ""

    @property
    def sum_ms(self) -> float:
        """Mean milliseconds of all layers together."""
        return sum(row.mean_ms for row in self.rows)


@dataclass(frozen=True)
class Joined:
    """Times by layer, in the order of the layers; None for a layer without a time. `how` describes the join."""

    rows: tuple[ProfiledLayer | None, ...]
    how: str


def join(
    times: ProfiledLayers, layers: Sequence[Layer], *, layers_file: str = "the layers", hint: str | None = None
) -> Joined:
    """Match times to layers; see the module's docstring.

    Only layers that launch nothing (stream events, no-operations) may have no time.

    Args:
        times: The measured times.
        layers: The layers of the plan.
        layers_file: Where the layers come from, for the error.
        hint: The hint of the error if they do not belong together.

    Raises:
        ProfileError: times and layers belong to different engines; ``details`` lists the differences.
    """
    names = [layer.name for layer in layers]
    timed = [row.name for row in times.rows]
    if names == timed:
        return Joined(times.rows, "by position: all names agree")
    by_name: dict[str, list[ProfiledLayer]] = {}
    for row in times.rows:
        by_name.setdefault(row.name, []).append(row)
    counts = Counter(names)
    idle = {layer.name for layer in layers if layer.kind in HOST}
    missing = [n for n in counts if n not in by_name and n not in idle]
    extra = [n for n in by_name if n not in counts]
    uneven = [n for n, rows in by_name.items() if n in counts and counts[n] != len(rows)]
    if missing or extra or uneven:
        raise _not_of_one_engine(times.path, names, timed, layers_file, hint, missing, extra, uneven)
    left = {name: iter(rows) for name, rows in by_name.items()}
    rows = tuple(next(left[name]) if name in left else None for name in names)
    repeated = sum(n > 1 for n in counts.values())
    how = "by name: the order differs" if [n for n in names if n in by_name] != timed else "by name, in order"
    absent = sum(row is None for row in rows)
    how += f"; {absent} layers that launch nothing are not in the profile" if absent else ""
    how += f"; {repeated} names occur more than once and were joined in their order" if repeated else ""
    return Joined(rows, how)


def with_layer_times(plan: Plan, means: Sequence[tuple[str, float]], measured: MeasuredDocument) -> Plan:
    """The plan with the mean milliseconds of its layers.

    Args:
        plan: The plan.
        means: Name and milliseconds of each layer, in the order in which they ran.
        measured: The data for ``facts["measured"]``; ``joined`` is added.

    Raises:
        ProfileError: the times belong to another engine.
    """
    times = ProfiledLayers(
        1, tuple(ProfiledLayer(name, mean, mean, None, None) for name, mean in means), "the profiler's record"
    )
    joined = join(times, plan.layers, layers_file="the plan's layers", hint="Measure this engine again.")
    return with_times(plan, [row.mean_ms if row else None for row in joined.rows], {**measured, "joined": joined.how})


def _not_of_one_engine(
    path: str, names: list[str], timed: list[str], layers_file: str, hint: str | None, missing: list[str],
    extra: list[str], uneven: list[str],
) -> ProfileError:  # fmt: skip
    lines = [f"  layer without a time: {_brief(n)}" for n in missing[:3]]
    lines += [f"  time without a layer: {_brief(n)}" for n in extra[:3]]
    lines += [f"  {names.count(n)} layers but {timed.count(n)} times: {_brief(n)}" for n in uneven[:3]]
    first = next((i for i, (a, b) in enumerate(zip(names, timed, strict=False)) if a != b), min(len(names), len(timed)))
    return ProfileError(
        f"{path or 'The profile'} and {layers_file} are not of one engine: {_count(len(timed), 'time')}, "
        f"{_count(len(names), 'layer')}, {_count(len(missing), 'layer')} without a time, {_count(len(extra), 'time')} "
        "without a layer.\n" + "\n".join(lines),
        hint=hint,
        details={"profile": path, "layers": layers_file, "missing": missing[:20], "extra": extra[:20],
                 "uneven": uneven[:20], "first_difference": first},
    )  # fmt: skip


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s'[: number != 1]}"


def _brief(name: str) -> str:
    return name if len(name) <= 90 else name[:87] + "..."
