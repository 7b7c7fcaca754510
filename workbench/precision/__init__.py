"""How a model is rewritten to another precision before a compiler sees it."""

from workbench.passes.cast import cast
from workbench.precision.quantize import quantize
from workbench.precision.scheme import Scheme

__all__ = ["Scheme", "cast", "quantize"]
