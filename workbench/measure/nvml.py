"""Clocks, power and energy of a GPU while it is measured, by NVIDIA's management library (NVML)."""

from __future__ import annotations

import importlib
import statistics
import time
from typing import Any

_EVERY = 0.1  # seconds between two samples: the driver renews its figures no faster
_THROTTLE = {
    "nvmlClocksThrottleReasonSwPowerCap": "power limit",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksThrottleReasonSwThermalSlowdown": "temperature",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "temperature",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
}


class Gauge:
    """Samples one GPU.

    Args:
        index: NVML's number of the GPU.
        nvml: The module; `pynvml` of nvidia-ml-py by default.

    Raises:
        ImportError: nvidia-ml-py is not installed.
        Exception: the driver refuses (NVMLError, in the driver's words).
    """

    def __init__(self, index: int = 0, nvml: Any = None) -> None:
        if nvml is None:
            nvml = importlib.import_module("pynvml")
        self._nvml = nvml
        nvml.nvmlInit()
        self._gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        self._sm: list[int] = []
        self._memory: list[int] = []
        self._watts: list[float] = []
        self._reasons: set[str] = set()
        self._last = 0.0

    def sample(self) -> None:
        """Note clocks and power now, unless that was done a moment ago."""
        now = time.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        nvml = self._nvml
        self._sm.append(int(nvml.nvmlDeviceGetClockInfo(self._gpu, nvml.NVML_CLOCK_SM)))
        self._memory.append(int(nvml.nvmlDeviceGetClockInfo(self._gpu, nvml.NVML_CLOCK_MEM)))
        self._watts.append(float(nvml.nvmlDeviceGetPowerUsage(self._gpu)) / 1e3)
        reasons = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._gpu))
        self._reasons |= {words for name, words in _THROTTLE.items() if reasons & int(getattr(nvml, name, 0))}

    def joules(self) -> float | None:
        """Energy since the driver was loaded; None where the GPU does not count it."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu)) / 1e3
        except self._nvml.NVMLError:
            return None

    def clocks(self) -> dict[str, Any]:
        """What was sampled: MHz of the SMs (median, least, most) and of the memory, the highest SM clock, watts.

        Whether clocks were locked can't be asked; ``steady`` says whether the SM clock stayed the same.
        """
        if not self._sm:
            return {}
        highest = int(self._nvml.nvmlDeviceGetMaxClockInfo(self._gpu, self._nvml.NVML_CLOCK_SM))
        return {
            "sm_mhz": statistics.median(self._sm), "sm_least_mhz": min(self._sm), "sm_most_mhz": max(self._sm),
            "sm_highest_mhz": highest, "memory_mhz": statistics.median(self._memory),
            "steady": min(self._sm) == max(self._sm), "watts": statistics.fmean(self._watts),
            "held_back_by": sorted(self._reasons), "samples": len(self._sm),
        }  # fmt: skip
