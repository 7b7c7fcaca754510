"""Mixed precision: choose the layers that stay in high precision so that the error meets a limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError
from workbench.core.jobs import Job
from workbench.model.model import Model
from workbench.precision.data import gather
from workbench.precision.error_figures import errors, rank
from workbench.precision.inputs import inputs_of
from workbench.precision.measured import measured
from workbench.precision.ort_session import outputs_of
from workbench.precision.scheme import scheme_of
from workbench.precision.sensitivity import quantize_partly, sensitivity

if TYPE_CHECKING:
    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.model.shape_profile import Shape


@dataclass(frozen=True)
class Mixed:
    """A set of layers to keep in higher precision.

    Attributes:
        keep: Their names; pass them to `quantize` as ``keep=``.
        value: The value of the metric with these layers.
        met: Whether that meets the budget; if not, keeping all layers does not meet it either.
        tried: Each measured candidate: ``kept`` (number of layers) and ``value``.
        metric: The requested metric: accuracy, top1 or relative_l2.
    """

    keep: tuple[str, ...]
    value: float
    met: bool
    tried: tuple[Mapping[str, float], ...]
    metric: str


def mixed(
    exact: Model,
    low: Model,
    store: Store,
    *,
    data: Any,
    budget: float,
    metric: str = "accuracy",
    labels: Sequence[int] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    limit: int | None = None,
    on_job: Callable[[Job], Any] | None = None,
) -> Mixed:
    """Find a small set of layers to keep in higher precision so that the budget is met.

    Layers are ranked by `sensitivity`. Bisection finds the number of layers to keep; each candidate is quantized and
    measured as a whole. Then the search tries to remove each kept layer. The ranking measures each layer separately,
    so another set of the same size may also work: the result is small, but not proven to be the smallest.

    Args:
        exact: The FP32 model.
        low: The model that `quantize` made from it.
        store: Where results are cached.
        data: As for calibration.
        budget: At least this accuracy or top-1 agreement (0..1), or at most this relative error.
        metric: accuracy (needs labels), top1 or relative_l2.
        labels: The correct class of each sample.
        shapes: Sizes of dynamic inputs.
        limit: At most this many batches.
        on_job: Called with each job.

    Raises:
        ConfigError: there is no such metric, it needs labels, the model's outputs do not support it, or no model could meet
            the budget.
    """
    if metric not in {"accuracy", "top1", "relative_l2"}:
        raise ConfigError(f"There is no metric {metric!r}.", hint="Metrics: accuracy, top1, relative_l2.")
    if metric == "accuracy" and labels is None:
        raise ConfigError(
            "The metric accuracy needs labels.", hint="Give labels=, or use metric='top1' or 'relative_l2'."
        )
    budget = _budget(budget, metric)
    scheme = scheme_of(low)
    with store.scratch("mixed-data") as folder:  # read once: an iterator yields its batches only once
        batches = gather(data, inputs_of(exact.graph, shapes), folder, limit=limit, min_samples=1)
        ranking = sensitivity(exact, low, store, data=batches, labels=labels, shapes=shapes, on_job=on_job)
        order = [row["node"] for row in ranking.layers]
        answer = measured(
            "mixed", exact, store, batches, labels, shapes, limit, on_job,
            {"scheme": scheme, "ranges": dict(low.origin["ranges"]), "order": order, "budget": budget, "metric": metric},
            [low.sha256(store), budget, metric],
        )  # fmt: skip
    return Mixed(tuple(answer["keep"]), answer["value"], answer["met"], tuple(answer["tried"]), metric)


def _budget(budget: Any, metric: str) -> float:
    """The budget as a number that a model can meet."""
    try:
        number = float(budget)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:  # also excludes NaN
        raise ConfigError(
            f"A budget is a number of at least 0, not {budget!r}.", hint="For example 0.98, or 0.01 for an error."
        )
    if metric != "relative_l2" and number > 1:
        raise ConfigError(f"{metric} is between 0 and 1, not {number:g}.", hint=f"For {number:g} %: {number / 100:g}.")
    return number


def mixed_task(
    reporter: Reporter, *, exact: str, scheme: Mapping[str, Any], ranges: Mapping[str, float], order: list[str],
    budget: float, metric: str, batches: str, labels: list[int] | None, folder: str,
) -> dict[str, Any]:  # fmt: skip
    """`mixed` in a worker."""
    import math

    from workbench.precision.scheme import Scheme

    how = Scheme(**scheme)
    place, out = Path(batches), Path(folder) / "mixed.onnx"
    want = outputs_of(exact, place)
    if (have := errors(want, want, labels)).get(metric) is None:
        known = ", ".join(name for name in ("accuracy", "top1", "relative_l2") if have.get(name) is not None)
        raise ConfigError(
            f"This model has no {metric}: its first output has no classes.", hint=f"Metrics it has: {known}."
        )
    tried: list[dict[str, float]] = []
    steps = math.ceil(math.log2(len(order) + 1)) + 1

    def value_of(keep: Sequence[str]) -> float:
        if len(keep) == len(order):
            got = want
        else:
            quantize_partly(Path(exact), how, ranges, reporter, out, only=None, keep=[literal(n) for n in keep])
            got = outputs_of(out, place)
        value = rank(errors(got, want, labels)[metric])
        tried.append({"kept": len(keep), "value": value})
        reporter.progress("Choices", len(tried), max(steps, len(tried) + 1))
        return value

    def meets(value: float) -> bool:
        return value <= budget if metric == "relative_l2" else value >= budget

    reporter.progress("Choices", 0, steps)
    values: dict[int, float] = {len(order): value_of(order)}
    if not meets(values[len(order)]):
        return {"keep": order, "value": values[len(order)], "met": False, "tried": tried}
    low, high = 0, len(order)  # keeping `high` meets the budget
    while low < high:
        middle = (low + high) // 2
        values[middle] = value_of(order[:middle])
        if meets(values[middle]):
            high = middle
        else:
            low = middle + 1
    keep, value = order[:high], values[high]
    for name in list(keep[::-1]):  # the least sensitive kept layer first
        less = [n for n in keep if n != name]
        attempt = value_of(less)
        if meets(attempt):
            keep, value = less, attempt
    reporter.progress("Choices", len(tried), len(tried))
    return {"keep": keep, "value": value, "met": True, "tried": tried}


def literal(name: str) -> str:
    """A pattern that matches only `name`."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
