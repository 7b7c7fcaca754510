"""Errors of outputs against a reference, accumulated batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Sums:
    """Sums for the figures of one output, accumulated batch by batch in float64."""

    off: float = 0.0
    size: float = 0.0
    own: float = 0.0
    product: float = 0.0
    largest_off: float = 0.0
    largest: float = 0.0
    bad: int = 0
    compared: int = 0
    hidden: int = 0

    def add(self, left: np.ndarray, right: np.ndarray) -> None:
        """Add a batch; values that are not finite in the reference are ignored."""
        import numpy as np

        have = np.isfinite(right)
        both = have & np.isfinite(left)
        self.bad += int(np.count_nonzero(have & ~both))
        self.compared += int(np.count_nonzero(have))
        self.hidden += int(np.count_nonzero(~have))
        left, right = left[both], right[both]
        difference = left - right
        self.off += float(difference @ difference)
        self.size += float(right @ right)
        self.own += float(left @ left)
        self.product += float(left @ right)
        self.largest_off = max(self.largest_off, float(np.abs(difference).max(initial=0.0)))
        self.largest = max(self.largest, float(np.abs(right).max(initial=0.0)))

    @property
    def blind(self) -> bool:
        """Whether the reference has values but none is finite, so that no comparison is possible."""
        return bool(self.hidden and not self.compared)

    @property
    def relative(self) -> float | None:
        """Norm of the difference over the norm of the reference; None if that is 0 or has no finite value."""
        if self.blind:
            return None
        return (self.off / self.size) ** 0.5 if self.size else (0.0 if not self.off else None)

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between output and reference; None if one is 0."""
        return self.product / (self.size * self.own) ** 0.5 if self.size and self.own else None


def errors(
    got: Mapping[str, Sequence[np.ndarray]],
    want: Mapping[str, Sequence[np.ndarray]],
    labels: Sequence[int] | None = None,
) -> dict[str, float | None]:
    """The figures of `Accuracy.models` for one model's outputs.

    Args:
        got: The batches of each output, in order; they may differ in shape.
        want: The same for the reference.
        labels: The correct class of each sample.

    Raises:
        ConfigError: an output is missing or has another shape, or there are labels but no classes.
    """  # fmt: skip
    import numpy as np

    sums: dict[str, Sums] = {}
    for name, rights in want.items():
        if name not in got or len(got[name]) != len(rights):
            raise ConfigError(f"The model has no output {name}.", hint=f"It has {', '.join(got)}.")
        sums[name] = Sums()
        for one, other in zip(got[name], rights, strict=True):
            left, right = (np.asarray(v, dtype=np.float64) for v in (one, other))
            if left.shape != right.shape:
                raise ConfigError(f"Output {name} is {list(left.shape)}, the reference {list(right.shape)}.")
            sums[name].add(left.ravel(), right.ravel())
    name, first = next(iter(want.items()))
    relatives = [s.relative for s in sums.values()]
    cosines = [s.cosine for s in sums.values() if s.cosine is not None]
    bad = sum(s.bad for s in sums.values())
    relative = None if None in relatives else max(r for r in relatives if r is not None)
    out: dict[str, float | None] = {
        "relative_l2": relative,
        "relative_max": sums[name].largest_off / sums[name].largest if sums[name].largest else None,
        "max_abs": None if any(s.blind for s in sums.values()) else max(s.largest_off for s in sums.values()),
        "cosine": min(cosines) if cosines else None,
        "snr_db": -20 * float(np.log10(relative)) if relative else None,
        "not_finite": float(bad),
    }
    if bad:  # a NaN or an infinity is not a small error
        out |= {"relative_l2": np.inf, "relative_max": np.inf, "max_abs": np.inf, "cosine": None, "snr_db": -np.inf}
    rows = {np.shape(right)[1:] for right in first if np.size(right)}  # without samples there is no share
    if len(rows) == 1 and len(classes := rows.pop()) == 1 and classes[0] > 1:
        out |= _classes(got[name], first, labels)
    elif labels is not None:
        raise ConfigError(f"Labels need an output [samples, classes]; {name} is {list(np.shape(first[0]))}.")
    return out


def _classes(
    got: Sequence[np.ndarray], want: Sequence[np.ndarray], labels: Sequence[int] | None
) -> dict[str, float | None]:
    """``top1``, ``top5`` and ``accuracy`` of batches [samples, classes]."""
    import numpy as np

    right, left = np.concatenate(list(want)), np.concatenate(list(got))
    best, mine = right.argmax(axis=1), left.argmax(axis=1)
    # A row with a value that is not finite predicts no class, although argmax treats NaN as the largest value.
    fine = ~(np.isnan(left) | (np.isfinite(right) & ~np.isfinite(left))).any(axis=1)
    out: dict[str, float | None] = {"top1": float(((best == mine) & fine).mean())}
    if right.shape[1] > 5:
        top = np.argsort(-left, axis=1)[:, :5]
        out["top5"] = float(((top == best[:, None]).any(axis=1) & fine).mean())
    if labels is not None:
        out["accuracy"] = float(((mine == np.asarray(labels)) & fine).mean())
    return out


def rank(value: float | None) -> float:
    """An error to rank by: an undefined error (FP32's outputs are 0, these are not) ranks as the largest."""
    return float("inf") if value is None else value
