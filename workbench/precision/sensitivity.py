"""Measure how much each layer contributes to the error of a quantized model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.jobs import Job
from workbench.model.model import Model
from workbench.precision.error_figures import errors, rank
from workbench.precision.measured import measured
from workbench.precision.ort_session import outputs_of
from workbench.precision.scheme import scheme_of

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.model.shape_profile import Shape


@dataclass(frozen=True)
class Sensitivity:
    """The error of each layer when only that layer is quantized, largest first.

    Attributes:
        layers: ``node``, ``op``, ``relative_l2``, ``snr_db``, ``top1`` and, with labels, ``accuracy``.
        samples: Number of samples.
    """

    layers: tuple[Mapping[str, Any], ...]
    samples: int

    def to_frame(self) -> pd.DataFrame:
        """One row per layer."""
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self.layers])


def sensitivity(
    exact: Model,
    low: Model,
    store: Store,
    *,
    data: Any,
    labels: Sequence[int] | None = None,
    shapes: Mapping[str, Shape] | None = None,
    limit: int | None = None,
    on_job: Callable[[Job], Any] | None = None,
) -> Sensitivity:
    """Quantize one layer of `low` at a time, as `low` quantizes it, and measure the error at the outputs.

    The rest stays in FP32, even if it is FP16 or BF16 in `low`, so that the error comes from the layer. See `accuracy`
    for the arguments.

    Raises:
        ModelError: `low` was not made by `quantize`.
    """
    scheme = scheme_of(low)
    answer = measured("sensitivity", exact, store, data, labels, shapes, limit, on_job,
                       {"scheme": scheme, "ranges": dict(low.origin["ranges"])}, [low.sha256(store)])  # fmt: skip
    return Sensitivity(tuple(answer["layers"]), answer["samples"])


def sensitivity_task(
    reporter: Reporter, *, exact: str, scheme: Mapping[str, Any], ranges: Mapping[str, float], batches: str,
    labels: list[int] | None, folder: str,
) -> dict[str, Any]:  # fmt: skip
    """`sensitivity` in a worker."""
    from workbench.passes.insert_qdq import needed_opset
    from workbench.passes.ir import load_ir
    from workbench.passes.qdq_choice import choose
    from workbench.precision.scheme import Scheme

    how = Scheme(**scheme)
    place, out = Path(batches), Path(folder) / "alone.onnx"
    taken = choose(
        load_ir(Path(exact), reporter, opset=needed_opset(how.to, "fp32")), how.to, keep=how.keep, only=how.only
    ).taken
    reporter.progress("Layers", 0, len(taken))
    want = outputs_of(exact, place)
    rows: list[dict[str, Any]] = []
    for i, choice in enumerate(taken):
        quantize_partly(Path(exact), how, ranges, reporter, out, only=[choice.node], keep=())
        found = errors(outputs_of(out, place), want, labels)
        rows.append({"node": choice.node, "op": choice.op, **found})
        reporter.progress("Layers", i + 1, len(taken))
    rows.sort(key=lambda row: -rank(row["relative_l2"]))
    return {"layers": rows}


def quantize_partly(exact: Path, scheme: Any, ranges: Mapping[str, float], reporter: Reporter, out: Path, *, only: Sequence[str] | None, keep: Sequence[str]) -> None:  # fmt: skip
    """Write `exact` with some of its layers quantized with known ranges, and the rest in FP32."""
    from workbench.passes.insert_qdq import Insertion, needed_opset
    from workbench.passes.ir import load_ir, save_ir
    from workbench.passes.qdq_choice import choose

    model = load_ir(exact, reporter, opset=needed_opset(scheme.to, "fp32"))
    choices = choose(model, scheme.to, keep=[*scheme.keep, *keep], only=scheme.only if only is None else only)
    work = Insertion(model, choices, ranges, to=scheme.to, rest="fp32", weights=scheme.weights,
                     residual=scheme.shares_residuals, block=scheme.block)  # fmt: skip
    work.run()
    save_ir(model, out)
