"""The CPU as a device for measuring and serving: NumPy arrays and a monotonic clock. Used only in workers."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class HostDevice:
    """The CPU of this machine. See `workbench.hardware.device.Device`."""

    clock = "wall clock around each execution, one after another"

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Uninitialized memory."""
        import numpy as np

        return np.empty(shape, numpy_type(dtype))

    def upload(self, array: Any, dtype: str) -> Any:  # noqa: ARG002 - the array already has its type
        """A contiguous array; not copied if it already is one."""
        import numpy as np

        return np.ascontiguousarray(array)

    def download(self, tensor: Any) -> Any:
        """A copy; bfloat16 becomes float32."""
        import numpy as np

        array = np.asarray(tensor)
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array.copy()

    def describe(self, value: Any) -> tuple[tuple[int, ...], str]:
        """Shape and data type of an array."""
        return tuple(value.shape), str(value.dtype)

    def finite(self, tensor: Any) -> bool:
        """Whether no value is NaN or infinite."""
        import numpy as np

        return bool(np.isfinite(tensor).all())

    def synchronize(self) -> None:
        """Nothing to wait for: each execution ends before it returns."""

    def times(self, step: Callable[[], object], count: int) -> list[float]:
        """Milliseconds of each of `count` executions of `step`."""
        found = []
        for _ in range(count):
            begin = time.perf_counter()
            step()
            found.append((time.perf_counter() - begin) * 1e3)
        return found

    def facts(self) -> dict[str, Any]:
        """The processor's name and the cores that this process may use."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return {"name": _processor(), "kind": "cpu", "cores": cores}

    def used(self) -> int:
        """Bytes of memory that this process uses."""
        import psutil

        return int(psutil.Process().memory_info().rss)


def numpy_type(dtype: str) -> Any:
    """The NumPy type for the name of a data type; bfloat16 and the FP8 types come from ml_dtypes."""
    import numpy as np

    if not dtype.startswith(("bfloat", "float8")):
        return np.dtype(dtype)
    import ml_dtypes

    return np.dtype(
        getattr(ml_dtypes, {"float8e4m3fn": "float8_e4m3fn", "float8e5m2": "float8_e5m2"}.get(dtype, dtype))
    )


def _processor() -> str:
    """The processor's name from the system, such as ``AMD EPYC 9654 96-Core Processor``."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
