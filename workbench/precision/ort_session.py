"""ONNX Runtime on the CPU without optimizations: the reference for measuring errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError
from workbench.precision.data import read_batches
from workbench.precision.ort_errors import raised

if TYPE_CHECKING:
    import numpy as np


def open_session(path: Path | str) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU without optimizations.

    Raises:
        ModelError: ONNX Runtime can't run the model.
    """
    import onnxruntime as ort

    from workbench.model.onnx_file import read_graph
    from workbench.model.shapes import refuse_endless

    try:
        graph = read_graph(Path(path))
    except ModelError:
        pass  # ONNX Runtime reports what is wrong with the file
    else:
        refuse_endless(graph)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
        raise raised(ModelError, "ONNX Runtime can't run this model on the CPU", error) from None


def run_batch(session: Any, names: Sequence[str], batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Run one batch; FP16 data are passed as FP32 to a simulated input."""
    import numpy as np

    wide = {i.name for i in session.get_inputs() if i.type == "tensor(float)"}
    feed = {n: v.astype(np.float32) if n in wide and v.dtype == np.float16 else v for n, v in batch.items()}
    try:
        return [np.asarray(value) for value in session.run(names, feed)]
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
        raise raised(ModelError, "ONNX Runtime can't run this model on these data", error) from None


def outputs_of(path: Path | str, batches: Path, tell: Callable[[], None] | None = None) -> dict[str, list[np.ndarray]]:
    """The batches of each output; their shapes may differ, for example for sequences."""
    session = open_session(path)
    names = [o.name for o in session.get_outputs()]
    parts: dict[str, list[Any]] = {name: [] for name in names}
    for batch in read_batches(batches):
        for name, value in zip(names, run_batch(session, names, batch), strict=True):
            parts[name].append(value)
        if tell is not None:
            tell()
    return parts
