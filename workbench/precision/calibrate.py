"""Run only a calibration, to inspect distributions and ranges before you quantize.

`quantize` finds the cache: quantizing with the same data then does not run the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.core.errors import ConfigError, ModelError
from workbench.core.jobs import Job
from workbench.precision.calibration import Calibration, collect
from workbench.precision.data import MIN_SAMPLES, gather
from workbench.precision.inputs import inputs_of
from workbench.precision.quantize import refuse_quantized

if TYPE_CHECKING:
    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.model.model import Model
    from workbench.model.shape_profile import Shape


def calibrate(
    model: Model,
    store: Store,
    *,
    data: Any,
    to: Literal["int8", "fp8"] = "int8",
    shapes: Mapping[str, Shape] | None = None,
    limit: int | None = None,
    min_samples: int = MIN_SAMPLES,
    on_job: Callable[[Job], Any] | None = None,
) -> Calibration:
    """Histograms of the activations that `to` quantizes, computed in a worker and cached.

    Args:
        model: An FP32 model.
        store: Where the result is cached.
        data: See `workbench.precision.data.batches`.
        to: int8 or fp8; INT4 quantizes weights only and needs no calibration.
        shapes: Sizes of dynamic inputs.
        limit: At most this many batches.
        min_samples: Smallest number of samples accepted.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        ModelError: it is quantized already, or nothing in it can be quantized.
        CalibrationError: the data do not fit.
        ConfigError: `to` is neither int8 nor fp8.
    """
    if to not in {"int8", "fp8"}:
        raise ConfigError(f"{to} has no ranges to calibrate.", hint="int8 and fp8 quantize activations.")
    refuse_quantized(model)
    with store.scratch("calibrate") as folder:
        batches = gather(data, inputs_of(model.graph, shapes), folder / "batches", limit=limit, min_samples=min_samples)
        about = {
            "digest": batches.digest, "source": batches.source, "batches": batches.count, "samples": batches.samples
        }  # fmt: skip
        job = Job(
            "workbench.precision.calibrate:calibrate_task",
            {"path": str(model.path.resolve()), "to": to, "batches": str(batches.folder), "folder": str(folder),
             "kept": str(store.path / "calibrations"), "model": model.sha256(store), "about": about},
            title=f"calibration of {model.name}",
        )  # fmt: skip
        if on_job is not None:
            on_job(job)
        return Calibration.load(job.result()["file"])


def calibrate_task(
    reporter: Reporter, *, path: str, to: str, batches: str, folder: str, kept: str, model: str, about: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """`calibrate` in a worker."""
    from workbench.passes.insert_qdq import needed_opset
    from workbench.passes.ir import load_ir
    from workbench.passes.qdq_choice import choose

    graph = load_ir(Path(path), reporter, opset=needed_opset(to, "fp32"))
    choices = choose(graph, to)
    if not choices.tensors:
        reasons = ", ".join(f"{name}: {why}" for name, why in list(choices.left.items())[:4])
        raise ModelError(
            f"Nothing in this model can be quantized to {to}" + (f" ({reasons})." if reasons else "."),
            hint="Convolutions, Gemm and MatMul with FP32 data and stored weights are quantized.",
        )
    file = Path(kept) / f"{Calibration.key(model, about['digest'], choices.tensors)}.json"
    if not file.is_file():
        found = Calibration(model, dict(about), collect(graph, choices.tensors, Path(batches), reporter, Path(folder)))
        found.save(file)
    return {"file": str(file)}
