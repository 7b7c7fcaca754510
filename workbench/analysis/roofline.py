"""How long a layer takes at least: the roofline, from datasheet values.

``time = max(operations / peak rate, bytes / bandwidth) + launch overhead``. It is an estimate and called so
wherever it is shown: it assumes that a kernel reaches the datasheet's peak, that no byte is found in a cache and
none is moved twice, and that kernels follow each other without overlap. Real kernels reach a part of this;
the efficiency (estimated time without overhead / measured time) says which.

Peaks are dense (no sparsity), at boost clock, in operations per second with a multiply-add as two, for tensor
cores with FP32 accumulation where the vendor gives it; GeForce and RTX workstation cards run FP16 with FP32
accumulation at half the rate that is often advertised. The table was written from knowledge of the sources that it
names and has not been checked against them value by value. Whoever needs certainty measures the ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError

if TYPE_CHECKING:
    from workbench.plan.plan import Layer, Plan

LAUNCH_SECONDS = 2e-6
"""Overhead of one kernel in a stream that is kept full or in a CUDA graph: an assumption, about 2 µs."""

ERROR = (
    "measured on an H100 in FP16, a layer took this many times its datasheet estimate in the median: at batch 32 "
    "1.6 (unet), 1.7 (gpt2-small, bert-base) and 2.1 (resnet50), at batch 1 2.7 (bert-base) and 3.3 (resnet50)"
)
"""How far estimates are off, from ``docs/results/h100_profiles_rtx_1.5.json`` (a test holds it to that file)."""

QUANTIZED = (
    "estimates of whole engines are further off in INT8 and FP8: on an H100 at batch 32 they took 2.6 to 4.0 times as long, "
    "in FP16 1.6 to 2.3 times, and none in INT8 or FP8 was faster than FP16"
)
"""The same for quantized engines, from ``docs/results/h100_precision_rtx_1.5.json`` (a test holds it to that file)."""


@dataclass(frozen=True)
class Device:
    """Ceilings of one GPU.

    Attributes:
        name: The card.
        sm: Its architecture.
        bandwidth: Bytes per second to and from its memory.
        peaks: Operations per second by type: fp32 (CUDA cores), tf32, fp16, bf16, int8, fp8 (tensor cores).
        source: Where the values come from, in words.
        measured: Whether they were measured on the card rather than read from a datasheet.
    """

    name: str
    sm: str
    bandwidth: float
    peaks: Mapping[str, float]
    source: str
    measured: bool = False

    def peak(self, dtype: str, *, tf32: bool = True) -> float | None:
        """Operations per second for a type of tensors; None where the card or the table has no such rate."""
        kind = _KINDS.get(dtype)
        if kind == "fp32" and tf32 and "tf32" in self.peaks:
            return self.peaks["tf32"]
        return None if kind is None else self.peaks.get(kind)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "name": self.name, "sm": self.sm, "bandwidth": self.bandwidth, "peaks": dict(self.peaks),
            "source": self.source, "measured": self.measured,
        }  # fmt: skip


_KINDS = {
    "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8",
    "float8e4m3fn": "fp8", "float8e5m2": "fp8",
}  # fmt: skip
_T = 1e12


def _device(name: str, sm: str, gigabytes: float, source: str, **teraops: float) -> Device:
    return Device(
        name,
        sm,
        gigabytes * 1e9,
        {kind: value * _T for kind, value in teraops.items()},
        f"{source}, not checked value by value",
    )


DEVICES = {
    "t4": _device("Tesla T4", "sm75", 320, "NVIDIA T4 datasheet", fp32=8.1, fp16=65, int8=130),
    "rtx-2080-ti": _device(
        "GeForce RTX 2080 Ti", "sm75", 616,
        "NVIDIA Turing architecture whitepaper, Founders Edition; FP16 with FP32 accumulation",
        fp32=14.2, fp16=56.9, int8=227.7,
    ),
    "a100": _device(
        "A100 80GB PCIe", "sm80", 1935, "NVIDIA A100 datasheet, 80GB PCIe, dense",
        fp32=19.5, tf32=156, fp16=312, bf16=312, int8=624,
    ),
    "a100-sxm": _device(
        "A100 80GB SXM", "sm80", 2039, "NVIDIA A100 datasheet, 80GB SXM, dense",
        fp32=19.5, tf32=156, fp16=312, bf16=312, int8=624,
    ),
    "a10": _device(
        "A10", "sm86", 600, "NVIDIA A10 datasheet, dense", fp32=31.2, tf32=62.5, fp16=125, bf16=125, int8=250
    ),
    "rtx-3090": _device(
        "GeForce RTX 3090", "sm86", 936, "NVIDIA Ampere GA102 whitepaper, dense; FP16 and BF16 with FP32 accumulation",
        fp32=35.6, tf32=35.6, fp16=71, bf16=71, int8=284,
    ),
    "orin": _device(
        "Jetson AGX Orin 64GB", "sm87", 204.8, "NVIDIA Jetson AGX Orin data sheet, GPU alone, dense",
        fp32=5.3, int8=85,
    ),
    "l4": _device(
        "L4", "sm89", 300, "NVIDIA L4 datasheet, its sparse rates halved",
        fp32=30.3, tf32=60, fp16=121, bf16=121, int8=242.5, fp8=242.5,
    ),
    "l40s": _device(
        "L40S", "sm89", 864, "NVIDIA L40S datasheet, dense", fp32=91.6, tf32=183, fp16=362, bf16=362, int8=733, fp8=733
    ),
    "rtx-4090": _device(
        "GeForce RTX 4090", "sm89", 1008, "NVIDIA Ada architecture whitepaper, dense; FP32 accumulation",
        fp32=82.6, tf32=82.6, fp16=165.2, bf16=165.2, int8=660.6, fp8=330.3,
    ),
    "h100": _device(
        "H100 SXM", "sm90", 3350, "NVIDIA H100 datasheet, SXM, its sparse rates halved",
        fp32=67, tf32=494.7, fp16=989.4, bf16=989.4, int8=1978.9, fp8=1978.9,
    ),
    "h100-pcie": _device(
        "H100 PCIe", "sm90", 2000, "NVIDIA H100 datasheet of 2023, PCIe, its sparse rates halved",
        fp32=51, tf32=378, fp16=756, bf16=756, int8=1513, fp8=1513,
    ),
    "h200": _device(
        "H200 SXM", "sm90", 4800, "NVIDIA H200 datasheet, SXM, its sparse rates halved",
        fp32=67, tf32=494.7, fp16=989.4, bf16=989.4, int8=1978.9, fp8=1978.9,
    ),
    "b200": _device(
        "B200", "sm100", 8000, "NVIDIA DGX B200 datasheet divided by its 8 GPUs, its sparse rates halved",
        fp32=75, tf32=1125, fp16=2250, bf16=2250, int8=4500, fp8=4500,
    ),
    "rtx-5090": _device(
        "GeForce RTX 5090", "sm120", 1792, "NVIDIA RTX Blackwell architecture whitepaper, dense; FP32 accumulation",
        fp32=104.8, tf32=104.8, fp16=209.5, bf16=209.5, int8=838, fp8=419,
    ),
    "spark": _device(
        "DGX Spark (GB10)", "sm121", 273,
        "NVIDIA DGX Spark product page for the bandwidth; rates are not published by type",
    ),
}  # fmt: skip
"""Cards by short name. Values are the vendor's datasheet values, not measured."""

REPRESENTATIVE = {
    "sm75": "t4", "sm80": "a100", "sm86": "rtx-3090", "sm87": "orin", "sm89": "rtx-4090", "sm90": "h100",
    "sm100": "b200", "sm120": "rtx-5090", "sm121": "spark",
}  # fmt: skip
"""The card that stands for an architecture where none is named."""


_DRIVER_NAMES = {
    "a100-sxm4-80gb": "a100-sxm", "a100 80gb pcie": "a100", "h100 80gb hbm3": "h100", "h200": "h200", "b200": "b200",
    "gb10": "spark", "orin": "orin",
}  # fmt: skip
"""Cards whose driver calls them otherwise than their datasheet does."""


def device(name: str) -> Device:
    """A card by short name, by its full name as a driver gives it, or the one that stands for an architecture.

    Raises:
        ConfigError: it is not in the table.
    """
    wanted = name.lower().strip()
    if wanted in DEVICES:
        return DEVICES[wanted]
    if wanted in REPRESENTATIVE:
        return DEVICES[REPRESENTATIVE[wanted]]
    plain = wanted.replace("nvidia ", "")
    if plain in _DRIVER_NAMES:
        return DEVICES[_DRIVER_NAMES[plain]]
    for entry in DEVICES.values():
        if entry.name.lower() == plain:
            return entry
    raise ConfigError(
        f"There is no datasheet value for {name!r}.",
        hint="There are: " + ", ".join([*DEVICES, *REPRESENTATIVE]) + ".",
    )


@dataclass(frozen=True)
class Estimate:
    """A layer's least time on a device. Always an estimate.

    Attributes:
        compute_ms: Operations at the peak rate; None where either is unknown.
        memory_ms: Bytes at the full bandwidth; None where the bytes are unknown.
        overhead_ms: Launch overhead.
        bound: "compute", "memory", or "launch" where the overhead is larger than both; "" where unknown.
        efficiency: Estimated over measured time, overhead left out; None without a measured time.
    """

    compute_ms: float | None
    memory_ms: float | None
    overhead_ms: float
    bound: str
    efficiency: float | None
    estimated: bool = True

    @property
    def time_ms(self) -> float | None:
        """The larger of both and the overhead; None where nothing is known."""
        known = [t for t in (self.compute_ms, self.memory_ms) if t is not None]
        return max(known) + self.overhead_ms if known else None

    @property
    def complete(self) -> bool:
        """Whether both operations and bytes were known: else the true bound may be higher."""
        return self.compute_ms is not None and self.memory_ms is not None


def estimate(layer: Layer, on: Device, *, tf32: bool = True, launch_seconds: float = LAUNCH_SECONDS) -> Estimate:
    """The least time of `layer` on a device (see the module's head).

    Operations on tensor cores are those of convolutions, matrix products and attention; all others run at the
    FP32 rate of the CUDA cores, which is a lower bound on their time too.
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


def estimates(plan: Plan, on: Device, *, launch_seconds: float = LAUNCH_SECONDS) -> dict[str, Estimate]:
    """`estimate` of each layer, by layer id. TF32 counts unless the plan was built without it."""
    tf32 = plan.config.get("tf32") is not False
    return {layer.id: estimate(layer, on, tf32=tf32, launch_seconds=launch_seconds) for layer in plan.layers}


def document(found: Mapping[str, Estimate], on: Device) -> dict[str, Any]:
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


def notes(found: Mapping[str, Estimate], on: Device) -> list[str]:
    """What must stand beside estimates, in sentences."""
    total, unknown = total_ms(found)
    partial = sum(not e.complete for e in found.values()) - unknown
    basis = "measured ceilings" if on.measured else "datasheet values, not measured"
    lines = [
        f"estimated on {on.name}: at least {total:.3f} ms, {LAUNCH_SECONDS * 1e6:.0f} µs of launch overhead a kernel "
        f"included, caches not counted ({basis}: {on.source})",
        ERROR,
    ]
    if partial:
        lines.append(f"of {partial} layers only the bytes or only the operations count: their true bound may be higher")
    if unknown:
        lines.append(f"{unknown} layers are left out of the estimate: neither operations nor bytes are known")
    return lines


def estimate_error(plan: Plan, on: Device, *, least_ms: float = 0.005) -> dict[str, Any]:
    """How far estimates are from measured times, on a plan that has both.

    Args:
        plan: With `time_ms` of its layers.
        on: The GPU that it was measured on.
        least_ms: Layers that took less are left out of the quotients: the profiler's own cost is as large.

    Returns:
        ``layers``, how many were compared; ``measured_over_estimated``: quotients of the layers' times at the 10th,
        50th and 90th percentile (nearest rank); ``total``, the quotient of the sums over the same layers; all None
        where there are none.
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
    """Sum of the estimated times, and how many layers it leaves out because nothing is known of them."""
    times = [e.time_ms for e in found.values()]
    return sum(t for t in times if t is not None), sum(t is None for t in times)
