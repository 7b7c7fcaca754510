"""What an engine costs to run: latency, time per layer, and the error against a reference.

`run` is what a worker does on a machine with a GPU; `latency` and `accuracy` are pure functions of numbers.
No speed is given without the output error beside it: on hardware that a compiler does not support, a fast and
wrong engine has been seen.
"""

from workbench.measure.accuracy import compare
from workbench.measure.latency import Latency, steady

__all__ = ["Latency", "compare", "steady"]
