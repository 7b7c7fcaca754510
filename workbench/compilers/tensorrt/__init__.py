"""TensorRT 10, TensorRT 11 and TensorRT for RTX behind one adapter.

`flavour` finds which of them is installed, without loading it. Workers run `build`, `serve`, `profile`, `calibrators`, `support`
and `refit`. `listing` reads the builder's listing of layers, `inspector` that of a loaded engine.
"""

from __future__ import annotations

from workbench.compilers.tensorrt.flavour import TensorRT
from workbench.compilers.tensorrt.options import FullTensorRTOptions, TensorRTOptions

__all__ = ["TensorRT", "active", "rtx"]


def active() -> TensorRT:
    """The full TensorRT where it is installed, else TensorRT for RTX."""
    return TensorRT(("tensorrt", "tensorrt_rtx"), FullTensorRTOptions)


def rtx() -> TensorRT:
    """TensorRT for RTX."""
    return TensorRT(("tensorrt_rtx",), TensorRTOptions)
