"""Clocks, power, and energy of a GPU during a measurement, from NVIDIA's management library (NVML)."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

from typing_extensions import TypedDict

from workbench.core.typed_document import extensible

_EVERY = 0.1  # seconds between two samples: the driver does not update its values faster
_THROTTLE = {
    "nvmlClocksThrottleReasonSwPowerCap": "power limit",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "temperature",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "temperature",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
}


@extensible
class ClocksDocument(TypedDict, total=False):
    """Clocks and power while latency was measured; null where the driver does not report one."""

    sm_mhz: float | None
    sm_least_mhz: float | None
    sm_most_mhz: float | None
    sm_highest_mhz: float | None
    memory_mhz: float | None
    watts: float | None
    steady: bool | None
    """Whether the SM clock stayed the same."""
    held_back_by: list[str] | None
    """Why the driver lowered the clocks."""
    samples: int


class Gauge:
    """Samples one GPU.

    Args:
        index: NVML's number of the GPU; ignored if `uuid` is given.
        uuid: The GPU's UUID from CUDA, with or without ``GPU-``: NVML and CUDA may number GPUs differently.
        nvml: The module; `pynvml` of nvidia-ml-py by default.

    Raises:
        ImportError: nvidia-ml-py is not installed.
        Exception: the driver refuses (NVMLError, with the driver's message).
    """

    def __init__(self, index: int = 0, nvml: Any = None, *, uuid: str | None = None) -> None:
        if nvml is None:
            nvml = importlib.import_module("pynvml")
        self._nvml = nvml
        nvml.nvmlInit()
        if uuid:
            self._gpu = nvml.nvmlDeviceGetHandleByUUID(b"GPU-" + uuid.removeprefix("GPU-").encode())
        else:
            self._gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        self._samples = 0
        self._sm: list[int] = []
        self._memory: list[int] = []
        self._watts: list[float] = []
        self._reasons: set[str] | None = None
        self._last = 0.0

    def sample(self) -> None:
        """Record clocks and power now, unless the last sample was a moment ago."""
        now = time.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        self._samples += 1
        nvml = self._nvml
        if (sm := self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM)) is not None:
            self._sm.append(sm)
        if (memory := self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM)) is not None:
            self._memory.append(memory)
        if (milliwatts := self._ask(nvml.nvmlDeviceGetPowerUsage)) is not None:
            self._watts.append(milliwatts / 1e3)
        if (bits := self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)) is not None:
            found = {words for name, words in _THROTTLE.items() if bits & int(getattr(nvml, name, 0))}
            self._reasons = (self._reasons or set()) | found

    def joules(self) -> float | None:
        """Energy since the driver was loaded; None if the GPU does not count it."""
        millijoules = self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if millijoules is None else millijoules / 1e3

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> int | None:
        """The driver's answer; None if it has none for this GPU (a field may be "Not Supported")."""
        try:
            return int(question(self._gpu, *arguments))
        except self._nvml.NVMLError:
            return None

    def clocks(self) -> ClocksDocument:
        """The samples: MHz of the SMs (median, minimum, maximum) and of the memory, the highest SM clock, watts.

        NVML does not report whether clocks are locked; ``steady`` is whether the SM clock stayed the same. A field
        that the driver does not report for this GPU is None. Before the first sample, the result is empty.
        """
        if not self._samples:
            return {}
        sm, nvml = self._sm, self._nvml
        return {
            "sm_mhz": statistics.median(sm) if sm else None,
            "sm_least_mhz": min(sm, default=None),
            "sm_most_mhz": max(sm, default=None),
            "sm_highest_mhz": self._ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
            "memory_mhz": statistics.median(self._memory) if self._memory else None,
            "steady": min(sm) == max(sm) if sm else None,
            "watts": statistics.fmean(self._watts) if self._watts else None,
            "held_back_by": None if self._reasons is None else sorted(self._reasons),
            "samples": self._samples,
        }
