"""What this machine is, told without loading CUDA into the notebook's process."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as its driver describes it. Memory in bytes."""

    name: str
    sm: str
    memory: int
    driver: str

    def to_dict(self) -> dict[str, Any]:
        """The GPU as JSON-able data."""
        return asdict(self)


@lru_cache(maxsize=1)
def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that the driver can see; empty without a driver.

    Asked of ``nvidia-smi``: initializing CUDA here would tie the notebook to one driver state, and a
    CUDA toolkit on disk says nothing about a GPU.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        out = subprocess.run(
            [tool, "--query-gpu=name,compute_cap,memory.total,driver_version", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip
    except (subprocess.SubprocessError, OSError):
        return ()
    found = []
    for line in out.strip().splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4 and parts[2].isdigit():
            found.append(Gpu(parts[0], "sm" + parts[1].replace(".", ""), int(parts[2]) << 20, parts[3]))
    return tuple(found)


def machine() -> dict[str, Any]:
    """Facts that belong beside any measured number."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "gpus": [gpu.to_dict() for gpu in gpus()],
    }
