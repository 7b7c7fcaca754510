"""ONNX Runtime on the CPU.

`compiler` describes it, `build` is what a worker runs, `regions` matches the optimized graph with the model, `serve` and
`profile` run and measure engines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.compilers.onnxruntime.compiler import OnnxRuntime


def compiler() -> OnnxRuntime:
    """For the registry."""
    from workbench.compilers.onnxruntime.compiler import OnnxRuntime

    return OnnxRuntime()
