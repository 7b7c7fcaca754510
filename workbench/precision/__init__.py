"""How a model is rewritten to another precision before a compiler sees it."""

from workbench.precision.cast import cast

__all__ = ["cast"]
