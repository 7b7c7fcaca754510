"""Errors of outputs against a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from workbench.plan.measured import ErrorDocument, OutputErrorDocument


def compare(outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> ErrorDocument:
    """Compute the error of each output and the largest relative error.

    Returns:
        ``outputs``, for the values that are finite in both, by name ``relative_l2`` (norm of the difference over the
        norm of the reference; None if that is 0), ``max_abs``, ``cosine``, ``not_finite`` (values that are NaN or infinite in the output but
        not in the reference); ``relative_l2``: the largest; ``ok``: whether all values are finite that are finite
        in the reference.

    Raises:
        ConfigError: an output is missing or has another shape.
    """
    import numpy as np

    found: dict[str, OutputErrorDocument] = {}
    for name, wanted in reference.items():
        if name not in outputs:
            raise ConfigError(f"The engine has no output {name}.", hint=f"It has {', '.join(outputs)}.")
        got = np.asarray(outputs[name], dtype=np.float64)
        right = np.asarray(wanted, dtype=np.float64)
        if got.shape != right.shape:
            raise ConfigError(f"Output {name} is {list(got.shape)}, the reference {list(right.shape)}.")
        bad = int(np.count_nonzero(np.isfinite(right) & ~np.isfinite(got)))
        both = np.isfinite(got) & np.isfinite(right)
        left, right = got[both], right[both]
        size, own = float(np.linalg.norm(right)), float(np.linalg.norm(left))
        difference = float(np.linalg.norm(left - right))
        found[name] = {
            "relative_l2": difference / size if size else (0.0 if not difference else None),
            "max_abs": float(np.max(np.abs(left - right), initial=0.0)),
            "cosine": float(left.ravel() @ right.ravel()) / (size * own) if size and own else None,
            "not_finite": bad,
        }
    errors = [e["relative_l2"] for e in found.values()]
    known = [e for e in errors if e is not None]
    return {
        "outputs": found,
        "relative_l2": None if len(known) < len(errors) else max(known, default=None),
        "ok": not any(e["not_finite"] for e in found.values()),
    }
