"""What the Profile panel tells about a profile: headline figures, sweeps, kernels, and the conditions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from workbench.charts import time as figures_time
from workbench.core.units import bytes_text, count_text, ms_text

if TYPE_CHECKING:
    from workbench.measure.document import Profile, SweepDocument
    from workbench.plan.measured import MeasuredDocument

SPECIALIZED = {
    "eager": "compiled for this shape before anything was timed",
    "none": "those for any shape",
    "lazy": "chosen by TensorRT for RTX while it ran",
}
"""What ``specialization`` of a profile means."""


def headline(measured: MeasuredDocument) -> list[dict[str, Any]]:
    """The figures that come first, as facts with ``name``, ``value`` and ``note``; empty if nothing was measured.

    Args:
        measured: ``plan.facts["measured"]``.
    """
    ways = figures_time.ways_of(measured)
    out: list[dict[str, Any]] = []
    if ways:
        name, best = next(iter(ways.items()))
        out += [
            {"name": "median latency", "value": ms_text(best["median_ms"]), "note": figures_time.WAYS.get(name, name)},
            {"name": "p90", "value": ms_text(best["p90_ms"])},
            {"name": "p99", "value": ms_text(best["p99_ms"])},
        ]
        batch = batch_of(measured)
        if batch and best["median_ms"]:
            rate = batch / best["median_ms"] * 1e3
            out.append({"name": "throughput", "value": f"{rate:,.0f}/s" if rate < 1e5 else f"{count_text(rate)}/s",
                        "note": f"samples, batch {batch}"})  # fmt: skip
        error = measured.get("error")
        if error and error.get("relative_l2") is not None:
            out.append(
                {
                    "name": "relative error",
                    "value": f"{error['relative_l2']:.2g}",
                    "note": f"against {error.get('reference', 'the reference')}",
                }
            )
        out += [
            {"name": f"median, {figures_time.WAYS[key]}", "value": ms_text(ways[key]["median_ms"])}
            for key in ("plain", "transfers") if key in ways and key != name
        ]  # fmt: skip
    if measured.get("first_ms") is not None:
        note = "allocates memory" if on_cpu(measured) else "compiles and loads kernels"
        out.append({"name": "first run", "value": ms_text(measured["first_ms"]), "note": note})
    if measured.get("sum_ms") is not None:
        out.append({"name": "sum of layers", "value": ms_text(measured["sum_ms"]), "note": "profiled one by one"})
    out += energy_facts(measured)
    return out


def on_cpu(measured: Mapping[str, Any]) -> bool:
    """Whether a CPU was measured.

    Args:
        measured: A profile, or ``plan.facts["measured"]``.
    """
    return (measured.get("device") or {}).get("kind") == "cpu"


def energy_facts(measured: MeasuredDocument) -> list[dict[str, Any]]:
    """Energy and clocks, if they were measured."""
    out: list[dict[str, Any]] = []
    energy, clocks = measured.get("energy") or {}, measured.get("clocks") or {}
    if (joules := energy.get("joules_per_run")) is not None:
        way = figures_time.WAYS.get(energy.get("way", ""), "")
        out.append(
            {"name": "energy per run", "value": _joules(joules), "note": ", ".join(p for p in ("whole GPU", way) if p)}
        )
    if (mhz := clocks.get("sm_mhz")) is not None:
        most = f"of {clocks['sm_highest_mhz']:.0f}" if clocks.get("sm_highest_mhz") else ""
        steady = (
            "steady" if clocks.get("steady") else f"{clocks['sm_least_mhz']:.0f} to {clocks['sm_most_mhz']:.0f} MHz"
        )
        out.append({"name": "SM clock", "value": f"{mhz:.0f} MHz", "note": ", ".join(p for p in (most, steady) if p)})
    if (watts := clocks.get("watts")) is not None:
        out.append({"name": "power", "value": f"{watts:.0f} W", "note": "mean, whole GPU"})
    return out


def _joules(joules: float) -> str:
    return (
        f"{joules:.3g} J" if joules >= 1 else f"{joules * 1e3:.3g} mJ" if joules >= 1e-3 else f"{joules * 1e6:.3g} µJ"
    )


def batch_of(measured: MeasuredDocument) -> int | None:
    """The first dimension that all inputs share; None if they differ or have none."""
    firsts = {shape[0] if shape else 0 for shape in (measured.get("shapes") or {}).values()}
    return firsts.pop() if len(firsts) == 1 and 0 not in firsts else None


def sweep_of(document: Profile) -> list[SweepDocument]:
    """Rows of a sweep over batch sizes that were measured."""
    return [row for row in document.get("sweep") or [] if row.get("median_ms")]


def sweep_rows(document: Profile) -> list[list[str]]:
    """A sweep as rows of text: batch, median, p99, samples per second, and how it was measured or why it was not."""
    return [
        [str(row["batch"]), ms_text(row["median_ms"]), ms_text(row["p99_ms"]), f"{figures_time.rate_of(row):,.0f}",
         figures_time.WAYS.get(row.get("way", ""), "")]
        if row.get("median_ms") else [str(row["batch"]), "", "", "", str(row.get("missing", "not measured"))]
        for row in document.get("sweep") or []
    ]  # fmt: skip


def kernel_rows(document: Profile) -> list[list[str]]:
    """The kernels of the layers as rows of text, in the order in which they ran."""
    kernels = document.get("kernels")
    rows = kernels["rows"] if kernels else []
    return [
        [str(i), str(row["name"]), ms_text(row.get("ms")), str(row.get("layer") or "")] for i, row in enumerate(rows)
    ]


def conditions(document: Profile) -> list[list[str]]:
    """The conditions of a measurement, as rows of name and value."""
    gpu, machine, compiler = (
        cast("Mapping[str, Any]", document.get(key) or {}) for key in ("device", "machine", "compiler")
    )
    rows = (
        [["measured on", time.strftime("%Y-%m-%d %H:%M", time.localtime(document["time"]))]]
        if document.get("time")
        else []
    )
    rows += [
        ["CPU" if on_cpu(document) else "GPU", ", ".join(str(gpu[k]) for k in ("name", "sm", "driver") if gpu.get(k))],
        ["system", f"{machine.get('system', '?')}, {machine.get('cores', '?')} cores, Python {machine.get('python', '?')}"],
        ["compiler", " ".join(str(compiler[k]) for k in ("name", "version", "validity") if compiler.get(k))],
        ["inputs", ", ".join(f"{n} {'×'.join(map(str, s))}" for n, s in (document.get("shapes") or {}).items())],
        ["layers", f"{document.get('layer_method') or 'IProfiler, in a separate pass'}; {document.get('layer_iterations', 0)} iterations"],
    ]  # fmt: skip
    rows += [
        [f"latency, {figures_time.WAYS.get(n, n)}", str(way["method"])]
        for n, way in (document.get("latency") or {}).items()
    ]
    memory = document.get("memory") or {}
    if memory.get("used_bytes") is not None:
        rows.append(["memory used" if on_cpu(document) else "GPU memory used", bytes_text(memory["used_bytes"])])
    error = document.get("error")
    for name, one in (error.get("outputs", {}) if error else {}).items():
        relative, largest = one.get("relative_l2"), one.get("max_abs")
        parts = [f"relative {relative:.3g}"] if relative is not None else []
        parts += [f"largest difference {largest:.3g}"] if largest is not None else []
        rows.append([f"error of {name}", ", ".join(parts)])
    if (strategy := document.get("specialization")) is not None:
        rows.append(["kernels for open shapes", SPECIALIZED.get(strategy, str(strategy))])
    rows += [["note", str(line)] for line in document.get("notes") or []]
    return rows
