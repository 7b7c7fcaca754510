"""What an engine costs to run: latency, time per layer, and the error against a reference.

An engine of any compiler is measured through `runner.Runner`, in a worker: `profile` measures it, `serve` executes it on request.
`profiling` and `running` are the caller's side. No speed is reported without the output error beside it: on hardware that a
compiler does not support, engines were fast and wrong.
"""

from workbench.measure.accuracy import compare
from workbench.measure.latency import Latency, steady

__all__ = ["Latency", "compare", "steady"]
