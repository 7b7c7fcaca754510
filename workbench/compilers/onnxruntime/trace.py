"""ONNX Runtime's own profile (a Chrome trace): the time of each node in each execution."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from typing import Any

_KERNEL = "_kernel_time"


def node_times(
    events: Sequence[Mapping[str, Any]], *, skip: int = 0, owners: Collection[str] = ()
) -> tuple[list[tuple[str, list[float]]], dict[str, dict[str, Any]]]:
    """Milliseconds of each node, in the order in which they first ran, with one entry per execution.

    Args:
        events: The trace.
        skip: Number of warm-up executions at the beginning, which do not count.
        owners: Names of control-flow nodes. The time of their bodies' nodes is subtracted from theirs.

    Returns:
        Name and milliseconds of each node; and for each node the profiler's ``args`` of its last execution.
    """
    runs = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == "model_run" and "dur" in e)
    begins = [begin for begin, _ in runs]
    kernels = sorted(
        (e["ts"], -e["dur"], e["name"].removesuffix(_KERNEL), e)
        for e in events
        if e.get("cat") == "Node" and str(e.get("name", "")).endswith(_KERNEL) and "dur" in e
    )
    found: dict[str, dict[int, float]] = {}
    facts: dict[str, dict[str, Any]] = {}
    open_: list[tuple[int, str, int]] = []  # end, owner, execution: control flow that encloses the next events
    for begin, negative, name, event in kernels:
        run = bisect_right(begins, begin) - 1
        if run < skip or begin > runs[run][1]:
            continue
        spent = -negative
        while open_ and open_[-1][0] <= begin:
            open_.pop()
        if open_:
            found[open_[-1][1]][open_[-1][2]] -= spent / 1e3
        each = found.setdefault(name, {})
        each[run] = each.get(run, 0.0) + spent / 1e3
        facts[name] = dict(event.get("args") or {})
        if name in owners:
            open_.append((begin + spent, name, run))
    count = range(skip, len(runs))
    return [(name, [max(0.0, of.get(run, 0.0)) for run in count]) for name, of in found.items()], facts


def rows(times: Sequence[tuple[str, Sequence[float]]]) -> list[dict[str, Any]]:
    """Mean and median milliseconds of each node."""
    return [
        {"name": name, "mean_ms": statistics.fmean(each), "median_ms": statistics.median(each)}
        for name, each in times if each
    ]  # fmt: skip


def memory(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Bytes that the arena reports, if this version of ONNX Runtime writes them: the peak over all nodes."""
    out = {}
    for key, label in (("mem_in_use_peak", "arena_peak_bytes"), ("mem_arena_held", "arena_held_bytes")):
        values = [int(str(v)) for each in facts.values() if str(v := each.get(key, "")).isdigit()]
        if values:
            out[label] = max(values)
    return out
