"""A plan with the times of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.plan.from_layers import with_times
from workbench.plan.join import ProfiledLayer, ProfiledLayers, join
from workbench.plan.plan import Plan

SCHEMA = "workbench.profile/1"
"""The format of a profile; see `workbench.measure.profile.profile`."""


def apply(plan: Plan, document: Mapping[str, Any]) -> Plan:
    """The plan with the measured time of each layer, and all else in ``facts["measured"]``.

    Raises:
        ProfileError: the document is of another engine.
    """
    count = int(document["layer_iterations"]) or 1
    rows = tuple(
        ProfiledLayer(r["name"], r["mean_ms"] * count, r["mean_ms"], r["median_ms"], None) for r in document["layers"]
    )
    best = document["latency"].get("graph") or document["latency"]["plain"]
    whole = document["latency"].get("transfers")
    copies = max(0.0, whole["mean_ms"] - document["latency"]["plain"]["mean_ms"]) if whole else 0.0
    measured: dict[str, Any] = {
        "latency": {**best, "compute_mean_ms": best["mean_ms"], "transfers_mean_ms": copies},
        "ways": dict(document["latency"]), "error": document["error"], "device": document["device"],
        "machine": document["machine"], "memory": document["memory"], "notes": document["notes"],
        **{key: document[key] for key in ("shapes", "first_ms", "ceilings", "clocks", "energy") if document.get(key)},
    }  # fmt: skip
    times: list[float | None] = [layer.time_ms for layer in plan.layers]
    if rows:
        joined = join(
            ProfiledLayers(count, rows, "the profiler's record"),
            plan.layers,
            layers_file="the plan's layers",
            hint="Measure this engine again.",
        )
        median = document.get("layer_statistic") == "median"
        each = [(row.median_ms if median else row.mean_ms) if row else None for row in joined.rows]
        times = list(each)
        measured |= {
            "method": document.get("layer_method") or "IProfiler, mean per iteration, in a pass of its own",
            "iterations": count, "joined": joined.how, "sum_ms": sum(ms for ms in each if ms is not None),
        }  # fmt: skip
    return with_times(plan, times, measured)
