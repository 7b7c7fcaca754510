"""Describes this machine without loading CUDA or other libraries into the notebook's process."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from typing_extensions import TypedDict

from workbench.core.errors import CompilerUnavailableError
from workbench.core.typed_document import Count, closed, extensible

REWRITERS = ("onnx", "onnx_ir")
"""The libraries that rewrite graphs: operator schemas, shape inference, opset conversion."""


@closed
class GpuDocument(TypedDict):
    """The JSON form of a `Gpu`."""

    name: str
    sm: str
    memory: Count
    """Bytes; 0 where the GPU shares the system's memory."""
    driver: str


@extensible
class MachineDocument(TypedDict, total=False):
    """The machine that a number was measured on."""

    system: str
    processor: str
    cores: int | None
    python: str
    gpus: list[GpuDocument]


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as its driver describes it. Memory in bytes; 0 where it shares the system's."""

    name: str
    sm: str
    memory: int
    driver: str

    def to_dict(self) -> GpuDocument:
        """The GPU as JSON-able data."""
        return {"name": self.name, "sm": self.sm, "memory": self.memory, "driver": self.driver}


@lru_cache(maxsize=1)
def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that CUDA uses here, in CUDA's order; empty without a driver.

    GPUs are numbered as in ``nvidia-smi``, by their position on the bus (`jobs` sets this order for workers). GPUs that
    ``CUDA_VISIBLE_DEVICES`` excludes are omitted. The source is ``nvidia-smi``: initializing CUDA here would tie the
    notebook to one driver state, and a CUDA toolkit on disk does not mean that there is a GPU.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        out = subprocess.run(
            [tool, "--query-gpu=name,compute_cap,memory.total,driver_version,uuid", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip
    except (subprocess.SubprocessError, OSError):
        return ()
    found: dict[str, Gpu] = {}
    for line in out.strip().splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 5 and parts[1].replace(".", "").isdigit():
            memory = int(parts[2]) << 20 if parts[2].isdigit() else 0  # [N/A] if the GPU has no separate memory
            found[parts[4]] = Gpu(parts[0], "sm" + parts[1].replace(".", ""), memory, parts[3])
    return _visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _visible(found: dict[str, Gpu], wanted: str | None) -> tuple[Gpu, ...]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` names, in its order. `gpus` are by UUID in the order of the bus.

    As in the CUDA programming guide, entries are numbers or prefixes of UUIDs, and the first invalid entry ends the
    list. For a slice of a GPU (MIG), the driver does not report here which GPU it belongs to: all GPUs stay.
    """
    if wanted is None or "MIG-" in wanted:
        return tuple(found.values())
    chosen: list[Gpu] = []
    for name in (part.strip() for part in wanted.split(",")):
        if name.isdigit() and int(name) < len(found):
            chosen.append(list(found.values())[int(name)])
            continue
        named = [gpu for uuid, gpu in found.items() if name and uuid.startswith(name)]
        if len(named) != 1:
            break
        chosen.append(named[0])
    return tuple(chosen)


def machine() -> MachineDocument:
    """Facts to store with any measured number."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "gpus": [gpu.to_dict() for gpu in gpus()],
    }


def this_platform() -> str:
    """Operating system and processor that engines are built for: ``Linux x86_64``."""
    return f"{platform.system()} {platform.machine()}"


def installed(module: str) -> str | None:
    """Version of the package that contains a module; "unknown" if it has none, None if it is not installed."""
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return version(module)
    except PackageNotFoundError:
        # The package has another name, such as onnxruntime-gpu for onnxruntime.
        names = sorted(set(packages_distributions().get(module, ())))
        return ", ".join(f"{name} {version(name)}" for name in names) or "unknown"


def made_by(*modules: str) -> str:
    """Names and versions of the libraries that make a result: part of the key under which it is stored.

    Raises:
        CompilerUnavailableError: one is not installed.
    """
    found = {module: installed(module) for module in modules}
    for module, there in found.items():
        if there is None:
            raise CompilerUnavailableError(f"{module} is not installed.", hint=f"pip install {module}")
    return ", ".join(f"{module} {there}" for module, there in found.items())
