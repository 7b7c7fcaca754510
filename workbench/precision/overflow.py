"""Which tensors of an FP32 model leave FP16's range on real data, at either end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.jobs import Job
from workbench.precision.calibration import collect, gather, inputs_of

if TYPE_CHECKING:
    from workbench.config import Shape
    from workbench.model.model import Model
    from workbench.store import Store
    from workbench.worker import Reporter

LARGEST = 65504.0
"""The largest finite number in FP16."""

VANISHING = 2.0**-25
"""The largest number that FP16 rounds to zero: half of its smallest, 2 to the power of -24 (IEEE 754, ties to even)."""


@dataclass(frozen=True)
class Overflow:
    """A tensor that would not fit.

    Attributes:
        tensor: Its name.
        node: The node that makes it.
        op: That node's operation.
        amax: The largest magnitude that occurred.
    """

    tensor: str
    node: str
    op: str
    amax: float

    @property
    def text(self) -> str:
        """In words."""
        if self.vanishes:
            return (
                f"{self.op} {self.node} gives at most {self.amax:.4g}, which FP16 rounds to zero: "
                f"{self.tensor} would be all zeros."
            )
        return (
            f"{self.op} {self.node} gives {self.amax:.4g}, beyond FP16's {LARGEST:g}: {self.tensor} would be infinite."
        )

    @property
    def vanishes(self) -> bool:
        """Whether every value is too small, not one too large."""
        return self.amax <= VANISHING


def overflows(
    model: Model,
    store: Store,
    *,
    data: Any,
    shapes: Mapping[str, Shape] | None = None,
    limit: int | None = None,
    on_job: Callable[[Job], Any] | None = None,
) -> tuple[Overflow, ...]:
    """Run the FP32 model on `data` in a worker and name what is beyond FP16's range, in the graph's order.

    Args:
        model: In FP32.
        store: For the files of the work.
        data: As for calibration.
        shapes: Sizes of dynamic inputs.
        limit: At most this many batches.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        CalibrationError: the data do not fit, or ONNX Runtime can't run the model.
    """
    with store.scratch("overflow") as folder:
        batches = gather(data, inputs_of(model.graph, shapes), folder / "batches", limit=limit, min_samples=1)
        job = Job(
            "workbench.precision.overflow:overflow_task",
            {"path": str(model.path.resolve()), "batches": str(batches.folder), "folder": str(folder)},
            title=f"range check of {model.name}",
        )
        if on_job is not None:
            on_job(job)
        return tuple(Overflow(**entry) for entry in job.result()["found"])


def warnings(
    model: Model, store: Store, to: str, data: Any, *, shapes: Mapping[str, Shape] | None = None,
    limit: int | None = None, on_job: Callable[[Job], Any] | None = None,
) -> list[str]:  # fmt: skip
    """What a cast of `model` to fp16 or bf16 must know of its range, in sentences; `data` may be "sample".

    Raises:
        CalibrationError: as `overflows`.
    """
    from workbench.precision.samples import data_of

    if to != "fp16":
        return [f"{to.upper()} has the range of FP32: nothing was checked."]
    given = data_of(model, store, data, on_job=on_job)
    found = overflows(model, store, data=given.calibration, shapes=shapes, limit=limit, on_job=on_job)
    told = [one.text for one in found]
    if isinstance(data, str) and data.startswith("random:"):
        told.append("The range was looked at on random numbers, which say nothing about your data.")
    return told


def overflow_task(reporter: Reporter, *, path: str, batches: str, folder: str) -> dict[str, Any]:
    """`overflows` in a worker."""
    import onnx_ir as ir

    from workbench.precision.cast import load_ir

    model = load_ir(Path(path), reporter)
    makers = {
        str(v.name): node for node in model.graph for v in node.outputs if v.name and v.dtype == ir.DataType.FLOAT
    }
    found = collect(model, list(makers), Path(batches), reporter, Path(folder))
    return {
        "found": [
            {"tensor": name, "node": str(node.name), "op": node.op_type, "amax": found[name].amax}
            for name, node in makers.items()
            if found[name].amax > LARGEST or 0 < found[name].amax <= VANISHING
        ]
    }
