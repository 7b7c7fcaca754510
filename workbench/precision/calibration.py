"""Calibration: run the model on data, and derive the ranges of activations.

Data in many forms (see `batches`) become a folder of checked batches with a digest. A worker runs the FP32 model on
them with ONNX Runtime and counts each activation's magnitudes in a histogram. The histograms are the cache: every
method (entropy, percentile, minmax) computes its range from the same counts, so trying another method does not run the
model. A cache records its model and data, and is refused for another model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.documents import DocumentError, parse_json, read_text
from workbench.core.errors import CalibrationError
from workbench.core.store import output
from workbench.hardware.machine import made_by
from workbench.precision.data import CACHES, read_batches
from workbench.precision.histogram import METHODS, Histogram
from workbench.precision.ort_errors import raised

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.worker import Reporter

SCHEMA = "workbench.calibration/1"


# --- data -------------------------------------------------------------------------------------------


# --- ranges -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """Histograms of a model's activations on some data: the calibration cache.

    Attributes:
        model: Fingerprint of the FP32 model.
        data: ``digest``, ``source``, ``batches``, ``samples``.
        tensors: A histogram for each activation, by name.
    """

    model: str
    data: Mapping[str, Any]
    tensors: Mapping[str, Histogram] = field(repr=False)

    @staticmethod
    def key(model: str, digest: str, tensors: Iterable[str]) -> str:
        """The cache key of a calibration; it includes the version of ONNX Runtime."""
        identity = json.dumps([SCHEMA, made_by("onnxruntime"), model, digest, sorted(tensors)])
        return hashlib.sha256(identity.encode()).hexdigest()

    def check(self, model: str, name: str = "this model") -> None:
        """Refuse a cache of another model.

        Raises:
            CalibrationError: the cache was made from another model.
        """
        if self.model != model:
            raise CalibrationError(
                f"The calibration cache was made from another model ({self.model[:12]}, not {model[:12]}) than {name}.",
                hint="Calibrate again: ranges of another graph, or of other weights, do not fit.",
            )

    def ranges(self, method: str = "entropy", percentile: float = 99.99) -> dict[str, float]:
        """The upper end of each tensor's range, as a magnitude."""
        return {name: h.range(method, percentile) for name, h in self.tensors.items()}

    def to_frame(self, percentile: float = 99.99) -> pd.DataFrame:
        """One row per tensor: its extremes and the range that each method would choose."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"tensor": name, "low": h.low, "high": h.high, "elements": h.elements, "not_finite": h.bad,
                 **{method: h.range(method, percentile) for method in METHODS}}
                for name, h in self.tensors.items()
            ]
        )  # fmt: skip

    def compare(self, other: Calibration, method: str = "entropy", percentile: float = 99.99) -> pd.DataFrame:
        """The ranges of two calibrations side by side, the largest change first.

        `ratio` is the other's range over this one's; it is empty for a tensor that only one has.
        """
        return side_by_side(self.ranges(method, percentile), other.ranges(method, percentile))

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        data = {"schema": SCHEMA, "model": self.model, "data": dict(self.data),
                "tensors": {name: h.to_dict() for name, h in self.tensors.items()}}  # fmt: skip
        with output(path, parents=True) as draft:
            draft.write_text(json.dumps(data, separators=(",", ":")))
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> Calibration:
        """Read what `save` wrote.

        Raises:
            CalibrationError: it is not a calibration cache, is of a later version, or contains impossible ranges.
            LimitError: it is too large or nested too deeply.
        """
        try:
            text = read_text(path)
        except OSError as error:
            raise CalibrationError(
                f"{path} can't be read: {error.strerror or error}.", hint=CACHES, code="file-unreadable"
            ) from None
        try:
            data = parse_json(text, str(path), finite=False)  # the error below names the tensor
            if not isinstance(data, dict) or data.get("schema") != SCHEMA:
                raise DocumentError(f"its schema is not {SCHEMA}")
            about = _about(data)
            if not isinstance(data.get("tensors"), dict):
                raise DocumentError("it has no tensors")
        except ValueError as error:
            raise CalibrationError(
                f"{path} is not a calibration cache, or is incomplete: {error}.", hint=CACHES, code="calibration-cache"
            ) from None
        tensors = {}
        for name, histogram in data["tensors"].items():
            try:
                tensors[name] = Histogram.from_dict(histogram)
            except ValueError as error:
                raise CalibrationError(
                    f"{path} is damaged: tensor {name}: {error}.",
                    hint="Calibrate again, or copy the file again.",
                    details={"tensor": name},
                    code="calibration-histogram",
                ) from None
        return Calibration(data["model"], about, tensors)


def _about(document: Mapping[str, Any]) -> dict[str, Any]:
    """The model and data that a cache records.

    Raises:
        DocumentError: they are missing or have the wrong type.
    """
    about = document.get("data")
    if not isinstance(document.get("model"), str) or not isinstance(about, dict):
        raise DocumentError("it does not record its model and data")
    for key, kind in (("source", str), ("digest", str), ("batches", int), ("samples", int)):
        if not isinstance(about.get(key), kind) or isinstance(about[key], bool):
            raise DocumentError(f"it does not record its data's {key}")
    return about


def side_by_side(mine: Mapping[str, float], theirs: Mapping[str, float]) -> pd.DataFrame:
    """Ranges by tensor of two calibrations as rows; see `Calibration.compare`."""
    import pandas as pd

    rows = []
    for name in dict.fromkeys([*mine, *theirs]):
        a, b = mine.get(name), theirs.get(name)
        ratio = 1.0 if a == b else b / a if a and b is not None else None  # equal, including 0 and 0
        rows.append({"tensor": name, "this": a, "other": b, "ratio": ratio})
    frame = pd.DataFrame(rows, columns=["tensor", "this", "other", "ratio"])
    change = (frame["ratio"].astype(float) - 1).abs().fillna(float("inf"))
    return frame.iloc[change.argsort()[::-1]].reset_index(drop=True)


def collect(
    model: Any, tensors: Sequence[str], folder: Path, reporter: Reporter, scratch: Path
) -> dict[str, Histogram]:
    """Run an FP32 model (an `onnx_ir.Model`; its outputs are modified) on the batches of `folder`; in a worker.

    Raises:
        CalibrationError: ONNX Runtime can't run it, or a tensor is not finite.
    """
    import onnxruntime as ort

    from workbench.passes.ir import save_ir

    wanted = set(tensors)
    values = {v.name: v for node in model.graph for v in node.outputs if v.name in wanted}
    values.update({v.name: v for v in model.graph.inputs if v.name in wanted})
    shown = [name for name in tensors if not values[name].is_graph_input()]
    del model.graph.outputs[:]
    model.graph.outputs.extend(values[name] for name in shown)
    path = scratch / "calibrate.onnx"
    save_ir(model, path)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    files = sorted(folder.glob("*.npz"))
    found = {name: Histogram() for name in tensors}
    reporter.progress("Calibrating", 0, len(files))
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]) if shown else None
        for i, batch in enumerate(read_batches(folder)):
            for name, value in zip(shown, session.run(shown, batch) if session else [], strict=True):
                found[name].observe(value)
            for name in wanted & set(batch):
                found[name].observe(batch[name])
            reporter.progress("Calibrating", i + 1, len(files))
    except CalibrationError:
        raise
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
        raise raised(CalibrationError, "ONNX Runtime can't run the FP32 model on the calibration data", error) from None
    bad = [name for name, h in found.items() if h.bad]
    if bad:
        raise CalibrationError(
            f"{len(bad)} activations are NaN or infinite on the calibration data, the first is {bad[0]}.",
            hint="The FP32 model itself fails on these data; look at them before quantizing.",
        )
    return found
