"""How a model is rewritten to another precision before a compiler sees it."""

from workbench.passes.cast import cast
from workbench.precision.quantize import Scheme, quantize

__all__ = ["Scheme", "cast", "quantize"]
