"""The distribution of one activation, and the range that each calibration method computes from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.documents import DocumentError
from workbench.core.errors import CalibrationError
from workbench.passes.insert_qdq import LARGEST

if TYPE_CHECKING:
    import numpy as np

METHODS = ("entropy", "percentile", "minmax")


BINS = 2048
"""Bins of a histogram of magnitudes; TensorRT's calibrators use the same number."""


LEVELS = 128
"""Distinct magnitudes of INT8; the entropy method merges a histogram into this many groups."""


CUT = 0.01
"""The largest share of a tensor's values (zeros aside) that the entropy method may cut off."""


@dataclass
class Histogram:
    """How often each magnitude of a tensor occurred.

    Always `BINS` bins from 0 to `top`; a larger value doubles `top` and merges bins in pairs, so that the
    counts stay exact for any order of the batches.
    """

    counts: Any = None
    top: float = 0.0
    low: float = 0.0
    high: float = 0.0
    elements: int = 0
    bad: int = 0
    """How many values were NaN or infinite; they are in no bin."""

    def observe(self, values: np.ndarray) -> None:
        """Count the values of one batch."""
        import numpy as np

        flat = values.reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not np.isfinite(low) or not np.isfinite(high):
            fine = np.isfinite(flat)
            self.bad += int(flat.size - fine.sum())
            flat = flat[fine].astype(np.float32)
            if flat.size == 0:
                return
            low, high = float(flat.min()), float(flat.max())
        if self.elements == 0:
            self.low, self.high = low, high
            self.counts = np.zeros(BINS, dtype=np.int64)
        else:
            self.low, self.high = min(self.low, low), max(self.high, high)
        self.elements += int(flat.size)
        amax = max(abs(low), abs(high))
        if self.top == 0.0:
            if amax == 0.0:
                self.counts[0] += flat.size
                return
            self.top = amax * (1 + 1e-6)
        while amax >= self.top:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.top *= 2
        # Divide first: BINS / top overflows FP32 if the values are below 6e-36.
        index = (np.abs(flat.astype(np.float32, copy=False)) / np.float32(self.top) * BINS).astype(np.int32)
        np.minimum(index, BINS - 1, out=index)
        self.counts += np.bincount(index, minlength=BINS)

    @property
    def amax(self) -> float:
        """The largest magnitude."""
        return max(abs(self.low), abs(self.high))

    def beyond(self, end: float) -> float:
        """The share of values (0..1) whose magnitude is beyond `end`, with the accuracy of one bin."""
        total = 0 if self.counts is None else int(self.counts.sum())
        if not total or not self.top:
            return 0.0
        first = min(BINS, round(end * BINS / self.top))
        return float(self.counts[first:].sum()) / total if end < self.amax else 0.0

    def range(self, method: str, percentile: float = 99.99) -> float:
        """The upper end of the range by `method`, as a magnitude; never beyond the largest value that occurred."""
        import numpy as np

        if method not in METHODS:
            raise CalibrationError(
                f"There is no calibration method {method!r}.", hint=f"Methods: {', '.join(METHODS)}."
            )
        if method == "minmax" or self.amax == 0.0:
            return self.amax
        width = self.top / BINS
        if method == "percentile":
            sums = np.cumsum(self.counts)
            place = int(np.searchsorted(sums, sums[-1] * percentile / 100))
            return min((place + 1) * width, self.amax)
        return min(_entropy(self.counts) * width, self.amax)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        counts = [] if self.counts is None else [int(n) for n in self.counts]
        return {"counts": counts, "top": self.top, "low": self.low, "high": self.high,
                "elements": self.elements, "bad": self.bad}  # fmt: skip

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Histogram:
        """The inverse of `to_dict`.

        Raises:
            DocumentError: a field is missing, has the wrong type, or is inconsistent: counts that are not `BINS` numbers,
                values beyond the last bin, an element count that is not the sum.
        """
        import numpy as np

        if not isinstance(data, Mapping):
            raise DocumentError("it is not an object")
        if absent := {"counts", "top", "low", "high", "elements", "bad"} - set(data):
            raise DocumentError(f"it has no {min(absent)}")
        # The bins may end at up to twice the largest value.
        top, low, high = _real(data["top"], "top", 4 * LARGEST), _real(data["low"], "low"), _real(data["high"], "high")
        elements, bad = (_count(data[key], key) for key in ("elements", "bad"))
        counts = data["counts"]
        if not isinstance(counts, list) or len(counts) not in (0, BINS):
            raise DocumentError(f"its counts are not {BINS} numbers")
        numbers = [_count(number, "counts") for number in counts]
        if sum(numbers) != elements:
            raise DocumentError(f"its counts add up to {sum(numbers)}, but its elements are {elements}")
        amax = max(abs(low), abs(high))
        if low > high or (elements == 0 and amax > 0):
            raise DocumentError(f"its values from {low:g} to {high:g} are impossible")
        # Every value is within the bins; if all are zero, there are no bins to check.
        if top < 0 or amax > top or (top == 0 and any(numbers[1:])):
            raise DocumentError(f"its bins end at {top:g}, but its values are between {low:g} and {high:g}")
        # The largest value is in the last nonempty bin, within rounding.
        last = max((place for place, number in enumerate(numbers) if number), default=0)
        if top and abs(amax / top * BINS - last - 0.5) > 1.5:
            raise DocumentError(
                f"its largest value is {amax:g}, but its last count is at {(last + 0.5) * top / BINS:g}"
            )
        return Histogram(np.array(numbers, dtype=np.int64) if numbers else None, top, low, high, elements, bad)


def _real(value: Any, key: str, largest: float = LARGEST) -> float:
    """A number that FP32 can represent."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -largest <= value <= largest:
        raise DocumentError(f"its {key} is {value!r:.60}, which is not an FP32 number")
    return float(value)


def _count(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise DocumentError(f"its {key} contain {value!r:.60}, which is not a count")
    return value


def _entropy(counts: np.ndarray) -> int:
    """The number of bins to keep so that `LEVELS` levels lose the least information (smallest KL divergence).

    This is the search of TensorRT's entropy calibrator: for each candidate, counts beyond it are added to the last
    bin; the kept bins are merged into `LEVELS` groups and spread again over the nonempty bins. The first bin takes its
    neighbor's count, because exact zeros (after a ReLU) have no error at any scale.

    In addition, ranges that cut off more than `CUT` of the values are not considered. On data with few
    distinct values (an 8-bit image, a one-hot code) the divergence would be smallest with everything cut off.

    ONNX Runtime's calibrator uses 128 bins by default, which leaves exactly one candidate, the whole
    range: its "entropy" then equals minmax.
    """
    import numpy as np

    hist = counts.astype(np.float64)
    hist[0] = hist[1]
    total = hist.sum()
    last = int(np.max(np.nonzero(counts)[0])) + 1
    if total == 0 or last <= LEVELS:
        return last
    best, keep = np.inf, last
    beyond = np.concatenate([np.cumsum(hist[::-1])[::-1], [0.0]])  # beyond[i]: all from bin i on
    for end in [*range(LEVELS, last, 8), last]:
        if beyond[end] > CUT * total:
            continue
        kept = hist[:end]
        p = kept.copy()
        p[-1] += beyond[end]
        some = p > 0
        edges = (np.arange(LEVELS) * end) // LEVELS
        mass = np.add.reduceat(kept, edges)
        filled = np.add.reduceat(some.astype(np.float64), edges)
        mean = np.divide(mass, filled, out=np.zeros(LEVELS), where=filled > 0)
        q = np.repeat(mean, np.diff(np.append(edges, end)))[some]
        # The divergence needs both to be positive: a bin that contains only outliers gets a tiny value.
        q = np.maximum(q, 1e-4)
        p, q = p[some] / p.sum(), q / q.sum()
        divergence = float((p * np.log(p / q)).sum())
        if divergence < best:
            best, keep = divergence, end
    return keep
