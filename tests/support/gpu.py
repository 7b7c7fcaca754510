"""For tests that need an NVIDIA GPU."""

from __future__ import annotations

from typing import Any

import pytest

from workbench import Session
from workbench.hardware.machine import gpus

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpus(), reason="no NVIDIA GPU: nvidia-smi is absent or lists none"),
]


def target(session: Session) -> dict[str, Any]:
    """TensorRT for RTX 1.5 on an H100 runs engines for SM80; other GPUs are built for as they are."""
    return {"target": "sm80"} if gpus()[0].sm == "sm90" and is_rtx() else {"target": "current"}


def is_rtx() -> bool:
    from workbench import compilers

    return compilers.get("tensorrt").name == "tensorrt_rtx"
