"""A plan with the times of a profile."""

from __future__ import annotations

from workbench.measure.document import Profile
from workbench.plan.from_layers import with_times
from workbench.plan.join import ProfiledLayer, ProfiledLayers, join
from workbench.plan.measured import MeasuredDocument
from workbench.plan.plan import Plan


def apply(plan: Plan, document: Profile) -> Plan:
    """The plan with the measured time of each layer, and all else in ``facts["measured"]``.

    Raises:
        ProfileError: the document belongs to another engine.
    """
    count = document["layer_iterations"] or 1
    rows = tuple(
        ProfiledLayer(r["name"], r["mean_ms"] * count, r["mean_ms"], r["median_ms"], None) for r in document["layers"]
    )
    best = document["latency"].get("graph") or document["latency"]["plain"]
    whole = document["latency"].get("transfers")
    copies = max(0.0, whole["mean_ms"] - document["latency"]["plain"]["mean_ms"]) if whole else 0.0
    measured: MeasuredDocument = {
        "latency": {**best, "compute_mean_ms": best["mean_ms"], "transfers_mean_ms": copies},
        "ways": dict(document["latency"]), "error": document["error"], "device": document["device"],
        "machine": document["machine"], "memory": document["memory"], "notes": document["notes"],
        "shapes": document["shapes"],
    }  # fmt: skip
    if first := document.get("first_ms"):
        measured["first_ms"] = first
    if ceilings := document.get("ceilings"):
        measured["ceilings"] = ceilings
    if clocks := document.get("clocks"):
        measured["clocks"] = clocks
    if energy := document.get("energy"):
        measured["energy"] = energy
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
            "method": document.get("layer_method") or "mean per iteration, in a separate pass",
            "iterations": count, "joined": joined.how, "sum_ms": sum(ms for ms in each if ms is not None),
        }  # fmt: skip
    return with_times(plan, times, measured)
