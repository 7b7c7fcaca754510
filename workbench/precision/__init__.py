"""Rewrite a model to another precision before compilation, and measure the error."""

from workbench.passes.cast import cast
from workbench.precision.quantize import quantize
from workbench.precision.scheme import Scheme

__all__ = ["Scheme", "cast", "quantize"]
