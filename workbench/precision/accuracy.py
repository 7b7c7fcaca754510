"""Measure the error of a model in lower precision against FP32: at the outputs, along the graph, and by layer.

Everything runs in a worker with ONNX Runtime on the CPU. All graph optimizations are off, so that fusions do not affect
the numbers. FP16 and BF16 are simulated (`workbench.precision.simulate`): each node is computed in FP32 and its outputs
are rounded to the type. A value beyond FP16's range becomes infinite, but errors from accumulation in FP16 inside a node
are not simulated. A GPU's kernels may round differently: if you have a GPU, measure the engine (`workbench.measure`).

Three functions answer three questions: `accuracy` (how large is the error?), `sensitivity` (which layers cause it?),
`mixed` (which layers must stay in higher precision to limit it?).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.jobs import Job
from workbench.core.store import replacing
from workbench.model.model import Model
from workbench.precision.data import read_batches
from workbench.precision.error_figures import Sums, errors
from workbench.precision.measured import VERSION, measured, write_json
from workbench.precision.ort_session import open_session, outputs_of, run_batch

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.model.shape_profile import Shape


@dataclass(frozen=True)
class Accuracy:
    """Errors against FP32, measured on `samples` samples.

    Attributes:
        models: For each model: ``relative_l2``, ``relative_max`` (largest difference over the largest value),
            ``max_abs``, ``cosine``, ``snr_db``, ``top1`` and ``top5`` (agreement with FP32, in 0..1, of the
            first output if it has classes), ``accuracy`` (share of correct labels, if labels are given),
            ``not_finite`` (values that are NaN or infinite but finite in FP32). One such value makes the errors
            infinite, ``snr_db`` minus infinite and ``cosine`` None; its sample counts as wrong.
        tensors: For each model and tensor along the graph ``relative_l2``, if requested.
        samples: Number of samples.
        source: Description of the data.
    """

    models: Mapping[str, Mapping[str, float | None]]
    tensors: Mapping[str, Mapping[str, float]] = field(repr=False)
    samples: int
    source: str

    def to_frame(self) -> pd.DataFrame:
        """One row per model."""
        import pandas as pd

        return pd.DataFrame.from_dict({k: dict(v) for k, v in self.models.items()}, orient="index")

    def along(self, model: str) -> pd.DataFrame:
        """The error of each tensor of `model` in the graph's order, for an overlay: ``tensor``, ``relative_l2``."""
        import pandas as pd

        return pd.DataFrame(list(self.tensors[model].items()), columns=["tensor", "relative_l2"])


def accuracy(
    exact: Model,
    models: Mapping[str, Model],
    store: Store,
    *,
    data: Any,
    labels: Sequence[int] | None = None,
    along: bool = False,
    shapes: Mapping[str, Shape] | None = None,
    limit: int | None = None,
    keep: Path | None = None,
    on_job: Callable[[Job], Any] | None = None,
) -> Accuracy:
    """The error of each of `models` against `exact`. Use other data than for the calibration.

    Args:
        exact: The FP32 model.
        models: Models by their name in the result.
        store: Where results are kept.
        data: As for calibration.
        labels: The correct class of each sample, including samples that a limit or a fixed batch leaves out. With labels
            the result has the true accuracy, also of the FP32 model ("fp32").
        along: Also compare each tensor that both graphs have.
        shapes: Sizes of dynamic inputs.
        limit: At most this many batches.
        keep: A folder that caches the FP32 model's outputs, for several calls with the same model and data: the FP32
            model then runs once. Outputs of `models` are not cached there.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        CalibrationError: the data do not fit, or the number of labels differs from the number of samples.
        ModelError: ONNX Runtime can't run a model.
    """
    answer = measured(
        "accuracy", exact, store, data, labels, shapes, limit, on_job,
        {"models": {name: str(model.path.resolve()) for name, model in models.items()}, "along": along,
         "keep": str(keep) if keep is not None else None},
        [(name, model.sha256(store)) for name, model in models.items()],
    )  # fmt: skip
    for name, tensors in answer["tensors"].items():
        note = {"tensors": tensors, "samples": answer["samples"], "source": answer["source"]}
        write_json(errors_file(store.path, models[name].sha256(store)), note)
    return Accuracy(answer["models"], answer["tensors"], answer["samples"], answer["source"])


def errors_file(home: Path, sha256: str) -> Path:
    """File with the errors along the graph of the model with this fingerprint, for overlays.

    Args:
        home: The store's folder.
        sha256: Fingerprint of the model in the lower precision.
    """
    return home / "errors" / f"{sha256}-{VERSION}.json"


# --- in the worker ----------------------------------------------------------------------------------


def _simulated(path: Path, folder: Path, reporter: Reporter) -> Path:
    """A model that simulates FP16 and BF16 on the CPU; the same path if the model has neither type."""
    from workbench.passes.ir import load_ir, save_ir
    from workbench.precision.simulate import simulate

    model = load_ir(path, reporter)
    if not simulate(model):
        return path
    made = folder / "simulated.onnx"
    save_ir(model, made)
    return made


def accuracy_task(
    reporter: Reporter, *, exact: str, models: Mapping[str, str], batches: str, labels: list[int] | None, folder: str,
    along: bool, keep: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """`accuracy` in a worker."""
    import numpy as np

    place = Path(batches)
    kept = Path(keep) / "fp32.npz" if keep is not None else None
    known = kept is not None and kept.is_file()
    total = len(list(place.glob("*.npz"))) * (len(models) + (not known))
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        reporter.progress("Running", done, total)

    reporter.progress("Running", 0, total)
    if kept is not None and known:
        with np.load(kept) as file:
            names = [str(name) for name in file["names"]]
            count = int(file["count"])
            want = {name: [file[f"arr_{i * count + k}"] for k in range(count)] for i, name in enumerate(names)}
    else:
        want = outputs_of(exact, place, tell)
        if kept is not None:
            with replacing(kept) as draft, draft.open("wb") as out:
                flat = [part for parts in want.values() for part in parts]
                count = len(next(iter(want.values())))
                np.savez(out, *flat, names=np.array(list(want)), count=np.array(count))  # an output may be named "file"
    found = {"fp32": errors(want, want, labels)}
    tensors = {}
    for name, path in models.items():
        ready = _simulated(Path(path), Path(folder), reporter)
        found[name] = errors(outputs_of(ready, place, tell), want, labels)
        if along:
            tensors[name] = _along(Path(exact), Path(path), place, Path(folder), reporter, name)
    return {"models": found, "tensors": tensors}


def _along(exact: Path, low: Path, batches: Path, folder: Path, reporter: Reporter, name: str) -> dict[str, float]:
    """The relative error of each floating-point tensor that both graphs compute; infinite if a value is not finite."""
    import numpy as np

    from workbench.passes.ir import load_ir, save_ir
    from workbench.precision.simulate import simulate

    loaded = [load_ir(path, reporter) for path in (exact, low)]
    simulate(loaded[1])
    known = [{v.name: v for node in model.graph for v in node.outputs if v.name} for model in loaded]
    shared = [n for n in known[0] if n in known[1] and _floats(known[0][n]) and _floats(known[1][n])]
    sessions = []
    for i, model in enumerate(loaded):
        have = {v.name for v in model.graph.outputs}
        model.graph.outputs.extend(known[i][n] for n in shared if n not in have)
        path = folder / f"along-{i}.onnx"
        save_ir(model, path)
        sessions.append(open_session(path))
    sums = {tensor: Sums() for tensor in shared}
    total = len(list(batches.glob("*.npz")))
    for k, batch in enumerate(read_batches(batches)):
        wants, gots = (run_batch(session, shared, batch) for session in sessions)
        for tensor, want, got in zip(shared, wants, gots, strict=True):
            sums[tensor].add(np.asarray(got, dtype=np.float64).ravel(), np.asarray(want, dtype=np.float64).ravel())
        reporter.progress(f"Along {name}", k + 1, total)
    return {n: float("inf") if s.bad else s.relative for n, s in sums.items() if s.relative is not None and s.size}


def _floats(value: Any) -> bool:
    return value.dtype is not None and value.dtype.name in {"FLOAT", "FLOAT16", "BFLOAT16"}
