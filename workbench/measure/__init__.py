"""Measure an engine: latency, time per layer, and the error against a reference.

An engine of any compiler is measured through `runner.Runner`, in a worker: `profile` measures it, `serve` executes it on request.
`profiling` and `running` are the caller's side. Speed is always reported with the output error: on hardware that a
compiler does not support, engines were fast but wrong.
"""

from workbench.measure.accuracy import compare
from workbench.measure.latency import Latency, steady

__all__ = ["Latency", "compare", "steady"]
