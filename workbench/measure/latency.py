"""Latency in numbers: percentiles, and when a series of times is steady enough to stop."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Latency:
    """A series of measured times.

    Attributes:
        samples: Milliseconds, one an iteration, in order.
        method: How they were taken, in words.
        steady: Whether the series had settled when it ended (see `steady`).
    """

    samples: tuple[float, ...]
    method: str
    steady: bool = True

    def percentile(self, percent: float) -> float:
        """The time that `percent` of the iterations stay within (nearest rank)."""
        return percentiles(self.samples, [percent])[0]

    def to_dict(self) -> dict[str, Any]:
        """The figures, without the samples."""
        return {
            "method": self.method, "iterations": len(self.samples), "steady": self.steady,
            "mean_ms": statistics.fmean(self.samples), "median_ms": statistics.median(self.samples),
            "min_ms": min(self.samples), "max_ms": max(self.samples),
            "p90_ms": self.percentile(90), "p99_ms": self.percentile(99),
        }  # fmt: skip


def percentiles(samples: Sequence[float], percents: Sequence[float] = range(101)) -> list[float]:
    """The times that so many percent of the samples stay within (nearest rank); 0 is the least, 100 the largest."""
    ordered = sorted(samples)
    return [ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)] for percent in percents]


def steady(samples: Sequence[float], *, window: int = 20, tolerance: float = 0.01) -> bool:
    """Whether the medians of the last two windows differ by at most `tolerance`.

    A clock that still rises or a cache that still fills shows as a drift between windows; single outliers
    do not matter to a median.
    """
    if len(samples) < 2 * window:
        return False
    before = statistics.median(samples[-2 * window : -window])
    last = statistics.median(samples[-window:])
    return abs(last - before) <= tolerance * max(last, before)
