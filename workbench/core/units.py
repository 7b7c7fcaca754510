"""Numbers with units, for people. Decimal prefixes: 1 MB is a million bytes."""

from __future__ import annotations

import math

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def _finite(value: float | None) -> float | None:
    """None for a value that can't be shown: unknown, NaN, infinite, or an integer beyond a float."""
    try:
        return value if value is not None and math.isfinite(value) else None
    except OverflowError:
        return None


def count_text(value: float | None) -> str:
    """A count with a decimal prefix: 8217637232 -> "8.22 G"."""
    value = _finite(value)
    if value is None:
        return "? "
    for size, prefix in _PREFIXES:
        if abs(value) >= size * 0.9995:  # otherwise it would be written as 1000 of the smaller unit
            return f"{value / size:.3g} {prefix}"
    return f"{value:g} "


def bytes_text(value: float | None) -> str:
    """A size: 261754760 -> "262 MB"."""
    return "?" if _finite(value) is None else f"{count_text(value)}B"


def flops_text(value: float | None, unknown: int = 0) -> str:
    """Operations: 8217637232 -> "8.22 GFLOP".

    Args:
        value: None if unknown.
        unknown: How many parts of this sum are unknown; the value is then shown as a lower bound.
    """
    if unknown and value is not None:
        return f">= {count_text(value)}FLOP" if value else "? FLOP"
    return f"{count_text(value)}FLOP"


def ms_text(value: float | None) -> str:
    """A time given in milliseconds, in the unit that fits: 0.0123 -> "12.3 µs"."""
    value = _finite(value)
    if value is None:
        return "?"
    if value and abs(value) < 0.1:
        return f"{value * 1e3:.3g} µs"
    return f"{value:.3f} ms" if abs(value) < 10 else f"{value / 1e3:.3g} s" if abs(value) >= 1e4 else f"{value:.1f} ms"


def rounded(value: float | None) -> float | None:
    """The value with four significant digits, which is enough for a view; None if JSON can't hold it."""
    if value is None or isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def percent(share: float | None) -> float | None:
    """A share in percent."""
    return None if share is None else 100 * share
