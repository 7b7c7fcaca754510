"""Runs Torch-TensorRT's partitioner in a process without a GPU, by simulating the CUDA calls that it needs.

Torch-TensorRT asks for the GPU's compute capability when it is imported and loads a library that needs CUDA, so that
on a machine without a GPU the import fails. The partitioner itself needs neither. `importable` reports a named
target's capability and hides the library. Call it only in a worker process: from then on, the whole process sees a GPU
that does not exist.
"""

from __future__ import annotations

import importlib.util
import os
import re
import types
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from workbench.compilers.torch_tensorrt.causes import IMPORT, way_out
from workbench.core.errors import CompilerUnavailableError, ConfigError, first_lines

INSTALL = "pip install torch-tensorrt (or torch-tensorrt-rtx for TensorRT for RTX), in the version of your torch"


def installed() -> str | None:
    """Version of the installed Torch-TensorRT; None if it is not installed. Imports nothing."""
    if importlib.util.find_spec("torch_tensorrt") is None:
        return None
    for name in ("torch-tensorrt-rtx", "torch-tensorrt"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def importable(target: str | None) -> Any:
    """Import torch_tensorrt.

    Args:
        target: The GPU to plan for, such as ``sm89``, if this machine has none; None to use the GPU of this machine.

    Raises:
        CompilerUnavailableError: it is not installed, or does not fit this torch or TensorRT.
        ConfigError: `target` is not an architecture.
    """
    if installed() is None:
        raise CompilerUnavailableError("torch_tensorrt is not installed.", hint=INSTALL)
    try:
        return _pretended(target) if target is not None else importlib.import_module("torch_tensorrt")
    except (ImportError, OSError, AttributeError, AssertionError, RuntimeError) as error:
        code, hint = way_out(IMPORT, error)
        raise CompilerUnavailableError(
            f"torch_tensorrt {installed()} can't be imported: {first_lines(error)}", hint=hint, code=code
        ) from error


def _pretended(target: str) -> Any:
    import torch

    found = re.fullmatch(r"sm(\d{1,2})(\d)", target)
    if found is None:
        raise ConfigError(f"{target!r} is not a GPU architecture.", hint="Write sm89, for example.")
    major, minor = int(found[1]), int(found[2])
    memory = 24 << 30  # defaults read it; no plan depends on it
    properties = types.SimpleNamespace(
        name=f"planned for {target}", major=major, minor=minor, total_memory=memory, multi_processor_count=1
    )
    cuda = torch.cuda
    for name, answer in {
        "get_device_capability": (major, minor), "current_device": 0, "device_count": 1, "synchronize": None,
        "empty_cache": None, "mem_get_info": (memory, memory), "get_device_properties": properties,
    }.items():  # fmt: skip
        setattr(cuda, name, lambda *_args, _answer=answer, **_kwargs: _answer)
    if not hasattr(torch._C, "_CudaDeviceProperties"):
        torch._C._CudaDeviceProperties = type("_CudaDeviceProperties", (), {})
    real = os.path.isfile
    # Its C++ runtime needs libtorch_cuda. Without that file it uses its Python runtime, which is not needed here.
    os.path.isfile = lambda path: not str(path).rpartition("/")[2].startswith("libtorchtrt") and real(path)
    try:
        module = importlib.import_module("torch_tensorrt")
    finally:
        os.path.isfile = real
    device = importlib.import_module("torch_tensorrt._Device").Device
    own = device.to

    def to(self: Any, kind: Any, *args: Any, **kwargs: Any) -> Any:
        return torch.device("cpu") if kind is torch.device else own(self, kind, *args, **kwargs)

    device.to = to
    return module
