"""Estimate the shortest time of a layer with the roofline model and datasheet values.

``time = max(operations / peak rate, bytes / bandwidth) + launch overhead``. This is an estimate, and every view says so.
It assumes that a kernel reaches the datasheet's peak, that no byte comes from a cache, that no byte moves twice, and that
kernels run one after the other. Real kernels reach part of the peak; the efficiency (estimated time without overhead
divided by measured time) shows how much.

The peaks of GPUs are in `workbench.hardware.devices`. For accurate values, measure the ceilings of your GPU with a
profile (`workbench.measure`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError

if TYPE_CHECKING:
    from workbench.hardware.devices import DeviceSpec
    from workbench.plan.plan import Layer, Plan

LAUNCH_SECONDS = 2e-6
"""Launch overhead of one kernel in a full stream or a CUDA graph: an assumption, about 2 µs."""

ERROR = (
    "measured on an H100 in FP16, a layer took this many times its datasheet estimate in the median: at batch 32 "
    "1.6 (unet), 1.7 (gpt2-small, bert-base) and 2.1 (resnet50), at batch 1 2.7 (bert-base) and 3.3 (resnet50)"
)
"""Error of the estimates, from ``docs/results/h100_profiles_rtx_1.5.json`` (a test compares it with that file)."""

QUANTIZED = (
    "estimates of whole engines are further off in INT8 and FP8: on an H100 at batch 32 they took 2.6 to 4.0 times as long, "
    "in FP16 1.6 to 2.3 times, and none in INT8 or FP8 was faster than FP16"
)
"""The same for quantized engines, from ``docs/results/h100_precision_rtx_1.5.json`` (also compared by a test)."""


@dataclass(frozen=True)
class Estimate:
    """The shortest time of a layer on a device. Always an estimate.

    Attributes:
        compute_ms: Operations at the peak rate; None if either is unknown.
        memory_ms: Bytes at the full bandwidth; None if the bytes are unknown.
        overhead_ms: Launch overhead.
        bound: "compute", "memory", or "launch" if the overhead is larger than both; "" if unknown.
        efficiency: Estimated time without overhead divided by measured time; None without a measured time.
    """

    compute_ms: float | None
    memory_ms: float | None
    overhead_ms: float
    bound: str
    efficiency: float | None
    estimated: bool = True

    @property
    def time_ms(self) -> float | None:
        """The larger of both, plus the overhead; None if nothing is known."""
        known = [t for t in (self.compute_ms, self.memory_ms) if t is not None]
        return max(known) + self.overhead_ms if known else None

    @property
    def complete(self) -> bool:
        """Whether both operations and bytes are known; if not, the true bound may be higher."""
        return self.compute_ms is not None and self.memory_ms is not None


def estimate(layer: Layer, on: DeviceSpec, *, tf32: bool = True, launch_seconds: float = LAUNCH_SECONDS) -> Estimate:
    """The shortest time of `layer` on a device (see the top of this module).

    Convolutions, matrix products and attention run on tensor cores. All other operations are counted at the FP32 rate of
    the CUDA cores, which also gives a lower bound on their time.
    """
    if not layer.launches:
        return Estimate(0.0, 0.0, 0.0, "", None)
    peak = on.peak(layer.precision, tf32=tf32) if layer.kind in {"conv", "gemm", "attention"} else on.peaks.get("fp32")
    compute = None
    if layer.flops == 0:
        compute = 0.0
    elif layer.flops is not None and peak:
        compute = layer.flops / peak * 1e3
    memory = None if layer.bytes is None else layer.bytes / on.bandwidth * 1e3
    overhead = launch_seconds * 1e3
    known = [t for t in (compute, memory) if t is not None]
    if not known:
        return Estimate(None, None, overhead, "", None)
    least = max(known)
    if least < overhead:
        bound = "launch"
    else:
        bound = "compute" if compute is not None and compute == least and compute != memory else "memory"
    efficiency = least / layer.time_ms if layer.time_ms else None
    return Estimate(compute, memory, overhead, bound, efficiency)


def estimable(plan: Plan) -> bool:
    """Whether layers can be estimated and compared with ceilings, which exist only for GPUs."""
    return plan.device_kind == "gpu"


def estimates(plan: Plan, on: DeviceSpec, *, launch_seconds: float = LAUNCH_SECONDS) -> dict[str, Estimate]:
    """`estimate` of each layer, by layer id. TF32 counts unless the plan was built without it.

    Raises:
        ConfigError: the plan is not for a GPU (``no-ceilings``).
    """
    if not estimable(plan):
        raise ConfigError(
            "The engine was built for a CPU. The workbench has ceilings only for GPUs, so it can't estimate times.",
            hint="Measure it: session.measure.profile(engine).",
            code="no-ceilings",
        )
    tf32 = plan.config.get("tf32") is not False
    return {layer.id: estimate(layer, on, tf32=tf32, launch_seconds=launch_seconds) for layer in plan.layers}


def document(found: Mapping[str, Estimate], on: DeviceSpec) -> dict[str, Any]:
    """The estimates as JSON-able data: the device with its source, and each layer's figures by id."""
    total, unknown = total_ms(found)
    return {
        "estimated": True,
        "device": on.to_dict(),
        "total_ms": total,
        "unknown": unknown,
        "layers": {
            name: {"time_ms": e.time_ms, "compute_ms": e.compute_ms, "memory_ms": e.memory_ms,
                   "overhead_ms": e.overhead_ms, "bound": e.bound, "efficiency": e.efficiency}
            for name, e in found.items()
        },
    }  # fmt: skip


def notes(found: Mapping[str, Estimate], on: DeviceSpec) -> list[str]:
    """Notes to show with estimates, one sentence each."""
    total, unknown = total_ms(found)
    partial = sum(not e.complete for e in found.values()) - unknown
    basis = "measured ceilings" if on.measured else "datasheet values, not measured"
    lines = [
        f"estimated on {on.name}: at least {total:.3f} ms, {LAUNCH_SECONDS * 1e6:.0f} µs of launch overhead per "
        f"kernel included, caches ignored ({basis}: {on.source})",
        ERROR,
    ]
    if partial:
        lines.append(
            f"for {partial} layers only the bytes or only the operations are known: their true bound may be higher"
        )
    if unknown:
        lines.append(f"{unknown} layers are left out of the estimate: their operations and bytes are unknown")
    return lines


def estimate_error(plan: Plan, on: DeviceSpec, *, least_ms: float = 0.005) -> dict[str, Any]:
    """Compare estimates with measured times.

    Args:
        plan: A plan with `time_ms` of its layers.
        on: The GPU that it was measured on.
        least_ms: Shorter layers are left out of the quotients: the profiler's overhead is as large.

    Returns:
        ``layers``, the number of compared layers; ``measured_over_estimated``: quotients of the layers' times at the 10th,
        50th and 90th percentile (nearest rank); ``total``, the quotient of the sums over the same layers; all None
        if no layer can be compared.
    """
    found = estimates(plan, on)
    pairs = [
        (layer.time_ms, time)
        for layer in plan.layers
        if layer.time_ms is not None and layer.time_ms >= least_ms and (time := found[layer.id].time_ms)
    ]
    quotients = sorted(measured / time for measured, time in pairs)

    def at(percent: int) -> float | None:
        return quotients[max(0, -(-percent * len(quotients) // 100) - 1)] if quotients else None

    return {
        "layers": len(pairs),
        "measured_over_estimated": {"p10": at(10), "p50": at(50), "p90": at(90)},
        "total": sum(m for m, _ in pairs) / sum(t for _, t in pairs) if pairs else None,
        "device": on.name,
        "basis": "measured ceilings" if on.measured else "datasheet values",
    }


def total_ms(found: Mapping[str, Estimate]) -> tuple[float, int]:
    """The sum of the estimated times, and the number of layers without an estimate."""
    times = [e.time_ms for e in found.values()]
    return sum(t for t in times if t is not None), sum(t is None for t in times)
