"""Data for calibration and testing: the user's, or the data of a sample model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.documents import expanded
from workbench.core.errors import CalibrationError
from workbench.core.jobs import Job
from workbench.hardware.machine import made_by
from workbench.precision.arrays import read_arrays

if TYPE_CHECKING:
    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.model.model import Model

CALIBRATION = 256
"""Number of a sample model's training samples used to calibrate it."""


@dataclass(frozen=True)
class Data:
    """Data to evaluate a precision.

    Attributes:
        calibration: Data for ranges; anything that `workbench.precision.data.batches` takes.
        test: Data for errors.
        labels: The correct class of each sample of `test`, if known.
    """

    calibration: Any
    test: Any
    labels: Sequence[int] | None = None


def has_data(model: Model) -> bool:
    """Whether the model is a sample that has data (``data="sample"``)."""
    from workbench.model.sample_models import samples

    entry = samples().get(str(model.origin.get("name"))) if model.origin.get("kind") == "sample" else None
    return entry is not None and "data" in entry


def data_of(
    model: Model,
    store: Store,
    data: Any,
    test: Any = None,
    labels: Any = None,
    *,
    on_job: Callable[[Job], Any] | None = None,
) -> Data:
    """Data to calibrate and test `model`.

    Args:
        model: The FP32 model.
        store: Where a sample's data are stored.
        data: For calibration. "sample" uses the sample model's data: training images for calibration, and
            labeled images that it was not trained on for testing.
        test: For errors; by default as `data`, or the sample's test data.
        labels: A sequence of classes, or the path of an .npy file of them.
        on_job: Called with the job that fetches a sample's data.

    Raises:
        CalibrationError: "sample" is requested but the model has no data, or labels can't be read.
    """
    wants = [isinstance(value, str) and value == "sample" for value in (data, test)]
    if not any(wants):
        return Data(data, data if test is None else test, read_labels(labels))
    folder = _sample_data(model, store, on_job)
    own = test is None or wants[1]
    calibration = folder / "calibration.npy" if wants[0] else data
    if not own:
        return Data(calibration, test, read_labels(labels))
    return Data(calibration, folder / "test.npy", read_labels(folder / "labels.npy" if labels is None else labels))


def read_labels(labels: Any) -> list[int] | None:
    """Labels from a sequence, an array, or the path of an .npy file; None stays None.

    Raises:
        CalibrationError: there is no such file, or it does not contain integers.
        LimitError: it is too large.
    """
    import numpy as np

    if labels is None or (isinstance(labels, str) and not labels.strip()):
        return None
    if isinstance(labels, str | Path):
        labels = read_arrays(expanded(labels))
        if isinstance(labels, dict):
            raise CalibrationError(
                "Labels can't be read from an archive.", hint="Give an .npy file with one class per sample."
            )
    if hasattr(labels, "detach"):
        labels = labels.detach().cpu().numpy()
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise CalibrationError(
            f"Labels are {array.dtype} of shape {list(array.shape)}.", hint="Give one integer for each sample."
        )
    return [int(n) for n in array]


def _sample_data(model: Model, store: Store, on_job: Callable[[Job], Any] | None) -> Path:
    from workbench.model.sample_models import sample_folder, samples

    if not has_data(model):
        brings = ", ".join(name for name, entry in samples().items() if "data" in entry)
        raise CalibrationError(
            f"{model.name} does not come with data.",
            hint=f"Samples with data: {brings}. Give a folder, an .npz or .npy file, module:factory or random:32.",
        )
    entry = samples()[str(model.origin["name"])]
    file = sample_folder() / entry["file"]
    # torch shuffles the data: another version may split them differently for the model that it trains.
    made_from = [file.read_bytes(), inspect.getsource(data_task), made_by("torch")]
    identity = hashlib.sha256(repr(made_from).encode()).hexdigest()
    place = store.path / "data" / f"{entry['name']}-{identity[:16]}"
    if not (place / "labels.npy").is_file():
        with store.lock(f"data-{identity[:16]}"), store.scratch("data") as folder:
            if not (place / "labels.npy").is_file():
                work = folder / "data"
                work.mkdir()
                job = Job(
                    "workbench.precision.samples:data_task",
                    {"file": str(file), "function": entry["data"], "folder": str(work)},
                    title=f"data of {entry['name']}",
                )
                if on_job is not None:
                    on_job(job)
                job.result()
                place.parent.mkdir(exist_ok=True)
                work.rename(place)
    return place


def data_task(reporter: Reporter, *, file: str, function: str, folder: str) -> dict[str, Any]:
    """Write a sample model's data, in a worker: ``calibration.npy``, ``test.npy``, ``labels.npy``."""
    import importlib.util
    import sys

    import numpy as np

    reporter.progress("Fetching the sample's data", 0, 1)
    sys.path.insert(0, str(Path(file).parent))
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        train, _, test, labels = (np.asarray(value) for value in getattr(module, function)())
    except ImportError as error:
        raise CalibrationError(
            f"This sample's data need {error.name}, which is not installed.", hint="pip install scikit-learn"
        ) from None
    np.save(Path(folder) / "calibration.npy", train[:CALIBRATION])
    np.save(Path(folder) / "test.npy", test)
    np.save(Path(folder) / "labels.npy", labels)
    reporter.progress("Fetching the sample's data", 1, 1)
    return {"calibration": min(CALIBRATION, len(train)), "test": len(test)}
