"""Measure latency, compute percentiles, and decide when a series of times is steady enough to stop."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.core.worker import Reporter
    from workbench.hardware.device import Device
    from workbench.hardware.nvml import Gauge
    from workbench.plan.measured import LatencyDocument

BATCH = 20
"""Iterations that are queued at a time; also the window for judging steadiness."""


@dataclass(frozen=True)
class Latency:
    """A series of measured times.

    Attributes:
        samples: Milliseconds, one per iteration, in order.
        method: How they were measured.
        steady: Whether the series was steady when it ended (see `steady`).
    """

    samples: tuple[float, ...]
    method: str
    steady: bool = True

    def percentile(self, percent: float) -> float:
        """The time that `percent` of the iterations do not exceed (nearest rank)."""
        return percentiles(self.samples, [percent])[0]

    def to_dict(self) -> LatencyDocument:
        """The figures, without the samples."""
        return {
            "method": self.method, "iterations": len(self.samples), "steady": self.steady,
            "mean_ms": statistics.fmean(self.samples), "median_ms": statistics.median(self.samples),
            "min_ms": min(self.samples), "max_ms": max(self.samples),
            "p90_ms": self.percentile(90), "p99_ms": self.percentile(99),
        }  # fmt: skip


def percentiles(samples: Sequence[float], percents: Sequence[float] = range(101)) -> list[float]:
    """The times that the given percentages of samples do not exceed (nearest rank); 0: minimum, 100: maximum."""
    ordered = sorted(samples)
    return [ordered[max(0, math.ceil(percent * len(ordered) / 100) - 1)] for percent in percents]


def steady(samples: Sequence[float], *, window: int = 20, tolerance: float = 0.01) -> bool:
    """Whether the medians of the last two windows differ by at most `tolerance`.

    A rising clock or a filling cache appears as a drift between windows; single outliers do not affect
    a median.
    """
    if len(samples) < 2 * window:
        return False
    before = statistics.median(samples[-2 * window : -window])
    last = statistics.median(samples[-window:])
    return abs(last - before) <= tolerance * max(last, before)


def measured_latency(
    device: Device, step: Callable[[], None], method: str, warm_up: float, duration: float, name: str, reporter: Reporter,
    gauge: Gauge | None = None,
) -> Latency:  # fmt: skip
    """Measure `step`: warm up for `warm_up` ms, then measure for `duration` to 4 times `duration` ms, until steady.

    Args:
        device: Where it executes.
        step: One execution.
        method: Description of the method.
        warm_up: Milliseconds of executions that do not count.
        duration: Minimum milliseconds to measure.
        name: For the progress message.
        reporter: Receives progress.
        gauge: Sampled between two batches of executions, right after GPU work.
    """
    warm_up_with(device, step, warm_up)
    samples: list[float] = []
    spent = 0.0
    settled = False
    phase = f"Measuring latency ({name})"
    while spent < duration or (not settled and spent < 4 * duration):
        found = device.times(step, BATCH)
        samples += found
        spent += max(sum(found), 1e-3)
        settled = steady(samples, window=BATCH)
        if gauge is not None:
            gauge.sample()
        reporter.progress(phase, min(int(spent), int(duration)), int(duration))
    reporter.progress(phase, int(duration), int(duration))
    return Latency(tuple(samples), method, settled)


def warm_up_with(device: Device, step: Callable[[], None], ms: float) -> None:
    """Execute `step` for `ms` milliseconds, without keeping the times."""
    spent = 0.0
    while spent < ms:
        spent += max(sum(device.times(step, BATCH)), 1e-3)
