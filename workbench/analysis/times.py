"""Times of a plan's layers, measured or estimated: the slowest layers, the timeline, and the roofline.

All charts and tables of times take a `LayerTimes`, so that an estimate can't be mistaken for a measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.analysis.roofline import estimable, estimates
from workbench.core.dtypes import QUANTIZED
from workbench.core.errors import ConfigError
from workbench.hardware.devices import DEVICES, DeviceSpec, device
from workbench.plan.plan import CONVERSIONS

if TYPE_CHECKING:
    from workbench.plan.plan import Layer, Plan

TENSOR_CORES = ("conv", "gemm", "attention")
"""Kinds of layers whose operations run on tensor cores; all others are compared with the CUDA cores."""


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of each layer.

    Attributes:
        ms: By layer id; None if unknown.
        estimated: Whether they are estimates (see `workbench.analysis.roofline`) rather than measured.
        source: Description of their source.
    """

    ms: Mapping[str, float | None]
    estimated: bool
    source: str

    @property
    def word(self) -> str:
        """Either "measured" or "estimated"."""
        return "estimated" if self.estimated else "measured"

    @property
    def total(self) -> float:
        """Milliseconds of all layers together."""
        return sum(t for t in self.ms.values() if t is not None)


def measured_times(plan: Plan) -> LayerTimes | None:
    """The measured times in the plan; None if no layer has one."""
    if all(layer.time_ms is None for layer in plan.layers):
        return None
    facts = plan.facts.get("measured") or {}
    method = str(facts.get("method") or "from the document")
    return LayerTimes({layer.id: layer.time_ms for layer in plan.layers}, False, method)


def estimated_times(plan: Plan, on: DeviceSpec) -> LayerTimes:
    """The least time of each layer on a GPU."""
    basis = "measured ceilings" if on.measured else "datasheet values"
    return LayerTimes(
        {name: e.time_ms for name, e in estimates(plan, on).items()}, True, f"at least, on {on.name}, {basis}"
    )


def device_of(plan: Plan) -> DeviceSpec | None:
    """The GPU to compare a plan with: the one that it was measured on, else one that it was built for.

    Ceilings are measured if available, else from the table. A GPU that is not in the table is replaced by the
    representative of its architecture, whose name is shown with every figure. None if there is neither, or if the plan
    was built for a CPU.
    """
    if not estimable(plan):
        return None
    if (reached := measured_ceilings(plan)) is not None:
        return reached
    measured = plan.facts.get("measured", {}).get("device")
    known = [measured, plan.facts.get("device"), plan.compiler.get("gpu")]
    names = [name for one in known if one for name in (one.get("name"), one.get("sm"))]
    for name in [*names, *str(plan.compiler.get("target") or "").split("+")]:
        if name:
            try:
                return device(str(name))
            except ConfigError:
                continue
    return None


def measured_ceilings(plan: Plan) -> DeviceSpec | None:
    """The measured ceilings of the GPU that the plan was measured on; None if they were not measured."""
    found = plan.facts.get("measured", {}).get("ceilings")
    bandwidth = found and found.get("bandwidth")
    if not found or not bandwidth:
        return None
    name, sm = found.get("name") or "this GPU", found.get("sm") or ""
    return DeviceSpec(name, sm, bandwidth, dict(found["peaks"]), found.get("source", ""), measured=True)


def slowest(plan: Plan, times: LayerTimes, top: int = 15) -> tuple[list[tuple[Layer, float]], float, int]:
    """The `top` slowest layers with their milliseconds, the sum of the others, and the number of others."""
    timed = [(layer, ms) for layer in plan.layers if (ms := times.ms.get(layer.id))]
    timed.sort(key=lambda item: -item[1])
    rest = timed[top:]
    return timed[:top], sum(ms for _, ms in rest), len(rest)


def by_kind(plan: Plan, times: LayerTimes) -> dict[str, float]:
    """Milliseconds by kind of layer, largest first."""
    found: dict[str, float] = {}
    for layer in plan.layers:
        if ms := times.ms.get(layer.id):
            found[layer.kind] = found.get(layer.kind, 0.0) + ms
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def schedule(plan: Plan, times: LayerTimes) -> list[tuple[Layer, float, float]]:
    """Layers that take time, each with its start and duration in milliseconds.

    Only durations are known. The start is computed as if each stream ran its layers back to back in the plan's order,
    and a wait blocked its stream until the signal of its event.
    """
    at: dict[int, float] = {}
    signals: dict[int, float] = {}
    out = []
    for layer in plan.layers:
        now = at.get(layer.stream, 0.0)
        if layer.type == "signal" and layer.event is not None:
            signals[layer.event] = now
        elif layer.type == "wait" and layer.event is not None:
            now = max(now, signals.get(layer.event, 0.0))
        ms = times.ms.get(layer.id) or 0.0
        if ms:
            out.append((layer, now, ms))
        at[layer.stream] = now + ms
    return out


@dataclass(frozen=True)
class RooflinePoint:
    """One layer on the roofline: FLOPs per byte, operations per second, and the reached fraction of its ceiling."""

    layer: Layer
    intensity: float
    rate: float
    ms: float
    share: float | None


def roofline_points(plan: Plan, times: LayerTimes, on: DeviceSpec) -> tuple[list[RooflinePoint], int]:
    """The layers with known operations, bytes and time, and the number of other layers that take time."""
    found, left = [], 0
    tf32 = plan.config.get("tf32") is not False
    for layer in plan.layers:
        ms = times.ms.get(layer.id)
        if not ms:
            continue
        if not layer.flops or not layer.intensity:
            left += 1
            continue
        rate = layer.flops / ms * 1e3
        peak = peak_of(layer, on, tf32=tf32)
        roof = min(peak, layer.intensity * on.bandwidth) if peak else None
        found.append(RooflinePoint(layer, layer.intensity, rate, ms, rate / roof if roof else None))
    return found, left


def peak_of(layer: Layer, on: DeviceSpec, *, tf32: bool = True) -> float | None:
    """The device's peak operations per second for this layer; None if unknown."""
    return on.peak(layer.precision, tf32=tf32) if layer.kind in TENSOR_CORES else on.peaks.get("fp32")


def ceilings(plan: Plan, on: DeviceSpec) -> list[tuple[str, float]]:
    """The peaks that limit the plan's layers, each with a name, highest first."""
    tf32 = plan.config.get("tf32") is not False
    names = {rate: kind for kind, rate in list(on.peaks.items())[::-1]}
    rates = {peak for layer in plan.layers if layer.flops and (peak := peak_of(layer, on, tf32=tf32))}
    return [(names.get(rate, ""), rate) for rate in sorted(rates, reverse=True)]


def cards() -> list[tuple[str, str]]:
    """GPUs to choose from: display name and name in the table."""
    return [(f"{entry.name} ({entry.sm})", key) for key, entry in DEVICES.items() if entry.peaks]


def doubts(plan: Plan) -> list[tuple[bool, str]]:
    """Warnings for the plan's measured times, and whether each is severe: wrong outputs, an unsteady series.

    Outputs count as wrong if a value is not finite, or if the relative error exceeds `tolerance`. An engine
    with wrong results may be fast.
    """
    measured = plan.facts.get("measured") or {}
    out: list[tuple[bool, str]] = []
    error = measured.get("error")
    if error:
        bad = {name: one["not_finite"] for name, one in (error.get("outputs") or {}).items() if one.get("not_finite")}
        limit = tolerance(plan)
        relative = error.get("relative_l2")
        if not error.get("ok", True) or bad:
            told = ", ".join(f"{n} value{'s' * (n > 1)} of {name}" for name, n in bad.items()) or "some values"
            out.append((True, f"The outputs are wrong: {told} are NaN or infinite. These times are meaningless."))
        elif relative is not None and relative > limit:
            out.append(
                (True, f"The outputs are wrong: relative error {relative:.2g} against {error.get('reference', 'the reference')}, "
                       f"more than {limit:g}. An engine with wrong results may be fast.")
            )  # fmt: skip
    elif measured.get("ways"):
        out.append((False, "No reference was given: it is unknown whether the outputs are correct."))
    held = (measured.get("clocks") or {}).get("held_back_by")
    if held:
        out.append((False, f"The GPU's clocks were throttled during the measurement: {', '.join(held)}."))
    shaky = [name for name, way in (measured.get("ways") or {}).items() if not way.get("steady", True)]
    if shaky:
        out.append(
            (False, f"The series did not become steady ({', '.join(shaky)}): clocks or other work may have changed.")
        )
    return out


def tolerance(plan: Plan) -> float:
    """The relative error up to which outputs count as correct: 0.01, with 16-bit layers 0.03, with narrower ones 0.1."""
    kinds = {layer.precision for layer in plan.layers}
    if kinds & QUANTIZED:
        return 0.1
    return 0.03 if kinds & {"float16", "bfloat16"} else 0.01


def explain(plan: Plan) -> list[str]:
    """Sentences that compare the sum of the layers' times with the end-to-end latency and explain the difference.

    Empty if the plan has no measured times.
    """
    measured = plan.facts.get("measured") or {}
    timed = [layer for layer in plan.layers if layer.time_ms is not None]
    latency = measured.get("latency")
    lines = []
    total = sum(layer.time_ms or 0.0 for layer in timed)
    if timed:
        idle = sum(layer.time_ms == 0 for layer in timed)
        lines.append(
            f"{len(timed)} layers take {total:.3f} ms together (measured"
            + (f", {_count(measured['iterations'], 'iteration')}" if measured.get("iterations") else "")
            + (f"; {idle} of them take none)" if idle else ")")
        )
        moved = sum(layer.time_ms or 0.0 for layer in timed if layer.kind in CONVERSIONS)
        if moved and total:
            lines.append(f"{moved:.3f} ms of that ({moved / total:.0%}) only moves or converts data")
    if not latency:
        return lines
    lines.append(
        f"end to end: mean {latency['mean_ms']:.3f} ms, median {latency['median_ms']:.3f} ms, "
        f"p99 {latency['p99_ms']:.3f} ms (measured, {_count(latency['iterations'], 'iteration')})"
    )
    if not timed:
        return lines
    compute = latency["compute_mean_ms"]
    difference = total - compute
    share = f" ({abs(difference) / compute:.0%})" if compute else ""
    launches = sum(layer.launches and bool(layer.time_ms) for layer in timed)
    if difference > 0.01 * compute:
        lines.append(
            f"the layers' sum is {difference:.3f} ms{share} above the {compute:.3f} ms of computation: "
            + (
                f"a profiled layer is timed with events around it, {difference / max(launches, 1) * 1e3:.1f} µs "
                f"for each of {launches} launches, and neither runs in a CUDA graph nor overlaps with its neighbors"
                if plan.device_kind == "gpu"
                else "timing each layer also takes time"
            )
        )
    elif difference < -0.01 * compute:
        lines.append(
            f"the layers' sum is {-difference:.3f} ms{share} below the {compute:.3f} ms of "
            "computation: the rest is "
            + (
                "gaps between kernels, when the GPU waits for the next launch"
                if plan.device_kind == "gpu"
                else "spent between layers, or while the CPU ran something else"
            )
        )
    if latency["transfers_mean_ms"] > 0:
        # trtexec's latency includes the copies; the workbench's plain latency does not.
        how = "come on top of it, with" if measured.get("ways") else "take"
        lines.append(
            f"copies between host and GPU {how} {latency['transfers_mean_ms']:.3f} ms{'' if measured.get('ways') else ' of the latency'}"
        )
    if plan.summary["streams"] > 1:
        lines.append(f"layers run on {plan.summary['streams']} streams: their times overlap and must not be added up")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s'[: number != 1]}"
