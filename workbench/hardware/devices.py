"""GPUs and their architectures, read from ``devices.json``, the only table of them.

Peak rates and bandwidths are datasheet values. Each GPU names the source of its values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.core.errors import ConfigError


@dataclass(frozen=True)
class Architecture:
    """One GPU architecture.

    Attributes:
        arch: Its name, such as ``sm89``.
        name: NVIDIA's name for it, such as Ada Lovelace.
        product: The product line, such as RTX 40.
        gpu: Short name of the GPU that represents it (a key of `DEVICES`); None if no GPU of it is listed.
    """

    arch: str
    name: str
    product: str
    gpu: str | None = None

    @property
    def label(self) -> str:
        """``sm89 (RTX 40)``."""
        return f"{self.arch} ({self.product})"


@dataclass(frozen=True)
class DeviceSpec:
    """Peak rates of one GPU.

    Attributes:
        name: The product name.
        sm: Its architecture.
        bandwidth: Bytes per second to and from its memory.
        peaks: Dense operations per second by type: fp32 (CUDA cores), tf32, fp16, bf16, int8, fp8 (tensor cores).
        source: Where the values come from.
        measured: Whether they were measured on the GPU rather than read from a datasheet.
    """

    name: str
    sm: str
    bandwidth: float
    peaks: Mapping[str, float]
    source: str
    measured: bool = False

    def peak(self, dtype: str, *, tf32: bool = True) -> float | None:
        """Operations per second for a tensor type such as ``float16``; None if the GPU has no such rate."""
        kind = _KINDS.get(dtype)
        if kind == "fp32" and tf32 and "tf32" in self.peaks:
            return self.peaks["tf32"]
        return None if kind is None else self.peaks.get(kind)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "name": self.name,
            "sm": self.sm,
            "bandwidth": self.bandwidth,
            "peaks": dict(self.peaks),
            "source": self.source,
            "measured": self.measured,
        }


_KINDS = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int8": "int8",
    "uint8": "int8",
    "float8e4m3fn": "fp8",
    "float8e5m2": "fp8",
}
_TABLE: dict[str, Any] = json.loads(Path(__file__).with_name("devices.json").read_text(encoding="utf-8"))

ARCHITECTURES: Mapping[str, Architecture] = {
    arch: Architecture(arch, entry["name"], entry["product"], entry.get("gpu"))
    for arch, entry in _TABLE["architectures"].items()
}
"""All known architectures, by name, oldest first."""

DEVICES: Mapping[str, DeviceSpec] = {
    short: DeviceSpec(
        name=entry["name"],
        sm=entry["arch"],
        bandwidth=entry["bandwidth"] * 1e9,
        peaks={kind: value * 1e12 for kind, value in entry["teraops"].items()},
        source=f"{entry['source']}, not checked value by value",
    )
    for short, entry in _TABLE["gpus"].items()
}
"""All known GPUs, by short name. The values are from NVIDIA, not measured."""

_SHORT_NAMES = {
    name.lower(): short
    for short, entry in _TABLE["gpus"].items()
    for name in (short, entry["name"], *entry.get("driver_names", ()))
} | {arch: entry.gpu for arch, entry in ARCHITECTURES.items() if entry.gpu is not None}


def device(name: str) -> DeviceSpec:
    """A GPU by short name, product name, or the driver's name, or the GPU that represents an architecture.

    Raises:
        ConfigError: it is not in the table.
    """
    wanted = name.lower().strip()
    short = _SHORT_NAMES.get(wanted) or _SHORT_NAMES.get(wanted.removeprefix("nvidia "))
    if short is None:
        known = [*DEVICES, *(arch for arch, entry in ARCHITECTURES.items() if entry.gpu is not None)]
        raise ConfigError(
            f"There is no datasheet value for {name!r}.", hint=f"Known GPUs: {', '.join(known)}.", code="unknown-gpu"
        )
    return DEVICES[short]
