"""Find values that a cast to FP16 or BF16 breaks on real data: compare the FP32 model with its simulated cast.

Both run on the data, and all intermediate tensors are compared. A tensor is a finding if it does not fit the type and
this matters: it became infinite, NaN or all zeros, and a node that reads it gives wrong values. So a mask before a
softmax, or a saturated sigmoid, is not a finding. If an output's error exceeds `OFF` and nothing else explains it, the
finding is the node where the error begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import CalibrationError, ModelError
from workbench.core.jobs import Job
from workbench.passes.casting import Lists
from workbench.precision.data import gather, read_batches
from workbench.precision.inputs import inputs_of

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.model.model import Model
    from workbench.model.shape_profile import Shape

LARGEST = 65504.0
"""The largest finite number in FP16."""

VANISHING = 2.0**-25
"""The largest number that FP16 rounds to zero: half of its smallest, 2 to the power of -24 (IEEE 754, ties to even)."""

OFF = {"fp16": 0.02, "bf16": 0.1}
"""Outputs with a larger error (norm of the difference over the norm in FP32) are reported."""

OFF_QUANTIZED = 0.1
"""The same for a model with QuantizeLinear: rounding before it may change the quantized value by one step."""


@dataclass(frozen=True)
class Overflow:
    """A tensor with wrong values in the low type.

    Attributes:
        tensor: Its name.
        node: The node that computes it; for a model input, a node that reads it.
        op: That node's operation.
        amax: The largest finite magnitude that occurred in FP32.
        kind: ``overflow`` (beyond the range), ``input`` (an input of the model is beyond the range, or all too small), ``vanish`` (all zeros), ``nan`` (not finite for another reason), ``error``
            (an output is off, and it begins here), ``source`` (the FP32 model itself gives NaN at this output).
        error: For ``error``: relative error of the tensor.
        to: fp16 or bf16.
    """

    tensor: str
    node: str
    op: str
    amax: float
    kind: str = "overflow"
    error: float | None = None
    to: str = "fp16"

    @property
    def text(self) -> str:
        """In words."""
        low, what = self.to.upper(), f"{self.op} {self.node}"
        if self.kind == "input":
            what = f"Input {self.tensor}, which {what} reads,"
            if self.amax > (LARGEST if self.to == "fp16" else 1.0):
                return f"{what} contains {self.amax:.4g}, beyond {self._limit}: it would be infinite."
            return f"{what} contains at most {self.amax:.4g}, which {low} rounds to zero."
        if self.kind == "vanish":
            return (
                f"{what} gives at most {self.amax:.4g}, which {low} rounds to zero: {self.tensor} would be all zeros."
            )
        if self.kind == "nan":
            return (
                f"{what} would give NaN or infinite values in {low}; in FP32 {self.tensor} is at most {self.amax:.4g}."
            )
        if self.kind == "error":
            return (
                f"{what} would be off by {self.error or 0:.0%} in {low}, although its inputs are not; the outputs would be too. "
                f"It may have to stay in FP32 ({self.tensor})."
            )
        if self.kind == "source":
            return f"The FP32 model itself gives NaN at output {self.tensor} ({what}) on these data, so the cast can't be checked there."
        return f"{what} gives {self.amax:.4g}, beyond {self._limit}: {self.tensor} would be infinite."

    @property
    def _limit(self) -> str:
        return f"FP16's {LARGEST:g}" if self.to == "fp16" else f"{self.to.upper()}'s range"

    @property
    def vanishes(self) -> bool:
        """Whether every value is too small, rather than one too large."""
        return self.kind == "vanish"


def overflows(
    model: Model,
    store: Store,
    *,
    data: Any,
    to: str = "fp16",
    lists: Lists | None = None,
    shapes: Mapping[str, Shape] | None = None,
    limit: int | None = None,
    on_job: Callable[[Job], Any] | None = None,
) -> tuple[Overflow, ...]:
    """Run the FP32 model and its simulated cast on `data` in a worker; return wrong tensors in the graph's order.

    Args:
        model: An FP32 model.
        store: For temporary files.
        data: As for calibration, but equal batches and infinite values are accepted.
        to: "fp16" or "bf16".
        lists: Lists of the cast: nodes that stay in FP32 are not affected.
        shapes: Sizes of dynamic inputs.
        limit: At most this many batches.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        CalibrationError: the data do not fit, or ONNX Runtime can't run the model.
    """
    with store.scratch("overflow") as folder:
        batches = gather(
            data, inputs_of(model.graph, shapes), folder / "batches", limit=limit, min_samples=1, varied=False
        )
        job = Job(
            "workbench.precision.overflow:overflow_task",
            {"path": str(model.path.resolve()), "batches": str(batches.folder), "folder": str(folder), "to": to,
             "lists": asdict(lists or Lists())},
            title=f"range check of {model.name}",
        )  # fmt: skip
        if on_job is not None:
            on_job(job)
        return tuple(Overflow(**entry) for entry in job.result()["found"])


def warnings(
    model: Model, store: Store, to: str, data: Any, *, shapes: Mapping[str, Shape] | None = None,
    lists: Lists | None = None, limit: int | None = None, on_job: Callable[[Job], Any] | None = None,
) -> list[str]:  # fmt: skip
    """Sentences on what a cast of `model` to fp16 or bf16 breaks on data; `data` may be "sample".

    Raises:
        CalibrationError: as `overflows`.
    """
    from workbench.precision.samples import data_of

    given = data_of(model, store, data, on_job=on_job)
    found = overflows(
        model, store, data=given.calibration, to=to, lists=lists, shapes=shapes, limit=limit, on_job=on_job
    )
    told = [one.text for one in found]
    if isinstance(data, str) and data.startswith("random:"):
        told.append("The range was checked on random numbers, which do not represent your data.")
    return told


# --- in the worker ----------------------------------------------------------------------------------


@dataclass
class _Seen:
    """Comparison of both models for one tensor, accumulated over the batches."""

    amax: float = 0.0
    nan: int = 0
    """NaN in FP32."""
    bad: int = 0
    """Not finite in the low type, but finite in FP32."""
    alive: bool = False
    """Whether the low type has a nonzero value."""
    floating: bool = False
    off: float = 0.0
    size: float = 0.0

    def add(self, exact: np.ndarray, low: np.ndarray) -> None:
        import numpy as np

        if exact.shape != low.shape:  # its length depends on values
            self.bad += 1
            return
        self.floating |= exact.dtype.kind == "f"
        want, got = (np.asarray(v, dtype=np.float64).ravel() for v in (exact, low))
        fine = np.isfinite(want)
        self.nan += int(np.isnan(want).sum())
        if not fine.all():
            want, got = want[fine], got[fine]
        held = np.isfinite(got)
        self.bad += int(got.size - held.sum())
        self.amax = max(self.amax, float(np.abs(want).max(initial=0.0)))
        self.alive |= bool(got.any())
        difference = got[held] - want[held]
        self.off += float(difference @ difference)
        self.size += float(want @ want)

    @property
    def gone(self) -> bool:
        return self.floating and self.amax > 0 and not self.alive

    @property
    def error(self) -> float:
        if self.bad:
            return float("inf")
        if not self.size:
            return 0.0 if not self.off else float("inf")
        return (self.off / self.size) ** 0.5


class _Judge:
    """Decides which of the wrong tensors matter.

    Args:
        graph: Of the FP32 model.
        ends: Names of the model's outputs.
        seen: Comparisons by tensor name.
        off: The largest error of a correct tensor.
    """

    def __init__(self, graph: Any, ends: set[str], seen: Mapping[str, _Seen], off: float) -> None:
        self.graph, self.ends, self.seen, self.off = graph, ends, seen, off
        self._harmless: dict[str, bool] = {}
        values = [v for node in graph for v in node.outputs]
        for value in [*reversed(values), *graph.inputs]:  # readers first
            if value.name and self.wrong(value.name):
                self._harmless[value.name] = self._harms_nobody(value)

    def wrong(self, name: str) -> bool:
        """Whether a tensor is not finite, or all zeros, unlike in FP32."""
        one = self.seen.get(name)
        return one is not None and bool(one.bad or one.gone)

    def harmless(self, value: ir.Value) -> bool:
        """Whether all nodes that read a wrong value still give correct values; a model output is never harmless."""
        return self._harmless.get(str(value.name), False)

    def _harms_nobody(self, value: ir.Value) -> bool:
        uses = list(value.uses())
        return (
            bool(uses)
            and value.name not in self.ends
            and all(node.graph is self.graph and all(map(self._fine, node.outputs)) for node, _ in uses)
        )

    def _fine(self, value: ir.Value) -> bool:
        if not value.name:
            return True
        one = self.seen.get(value.name)
        if one is None:
            return False
        return self.harmless(value) if self.wrong(value.name) else one.error <= self.off


def overflow_task(
    reporter: Reporter, *, path: str, batches: str, folder: str, to: str, lists: Mapping[str, Any]
) -> dict[str, Any]:
    """`overflows` in a worker."""
    import onnx_ir as ir

    from workbench.passes.casting import Casting
    from workbench.passes.ir import load_ir
    from workbench.precision.simulate import simulate

    exact, low = load_ir(Path(path), reporter), load_ir(Path(path), reporter)
    given: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in lists.items()}
    kind = ir.DataType.FLOAT16 if to == "fp16" else ir.DataType.BFLOAT16
    Casting(low, kind, reporter, Lists(**given)).run()
    simulate(low)
    ends = {str(value.name) for value in exact.graph.outputs}
    seen = _compare(exact, low, kind, Path(batches), Path(folder), reporter)
    return {"found": [asdict(one) for one in _found(exact.graph, ends, seen, to)]}


def _compare(exact: Any, low: Any, kind: Any, batches: Path, folder: Path, reporter: Reporter) -> dict[str, _Seen]:
    """Run both models on the batches and compare all tensors that both have; the models' outputs are modified.

    Inputs of the model are compared with their values rounded to the type `kind`.
    """
    import numpy as np
    import onnx_ir as ir

    from workbench.passes.ir import save_ir
    from workbench.precision.ort_session import open_session, run_batch

    makers = [{v.name: v for n in m.graph for v in n.outputs if v.name} for m in (exact, low)]
    shared = [
        name for name in makers[0]
        if name in makers[1] and all(
            isinstance(m[name].type, ir.TensorType) and m[name].dtype not in (None, ir.DataType.STRING)
            and not m[name].dtype.name.startswith(("FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2", "COMPLEX", "BFLOAT"))
            for m in makers
        )
    ]  # fmt: skip
    sessions = []
    try:
        for i, model in enumerate((exact, low)):
            have = {v.name for v in model.graph.outputs}
            model.graph.outputs.extend(makers[i][n] for n in shared if n not in have)
            place = folder / f"range-{i}.onnx"
            save_ir(model, place)
            sessions.append(open_session(place))
        seen = {name: _Seen() for name in shared}
        total = len(list(batches.glob("*.npz")))
        reporter.progress("Comparing", 0, total)
        for k, batch in enumerate(read_batches(batches)):
            wants, gots = (run_batch(session, shared, batch) for session in sessions)
            for name, want, got in zip(shared, wants, gots, strict=True):
                seen[name].add(want, got)
            for value in exact.graph.inputs:
                if value.dtype == ir.DataType.FLOAT and value.name in batch:
                    with np.errstate(over="ignore"):
                        low_ = batch[value.name].astype(kind.numpy()).astype(np.float32)
                    seen.setdefault(value.name, _Seen()).add(batch[value.name], low_)
            reporter.progress("Comparing", k + 1, total)
    except ModelError as error:
        raise CalibrationError(error.message, hint=error.hint, code=error.code) from None
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
        raise CalibrationError(
            f"ONNX Runtime can't run the model on these data: {error}",
            hint="The check needs a model that runs in ONNX Runtime; check shapes and custom operators.",
        ) from None
    return seen


def _found(graph: Any, ends: set[str], seen: Mapping[str, _Seen], to: str) -> list[Overflow]:
    """The findings, in the graph's order."""
    import ml_dtypes

    most = LARGEST if to == "fp16" else float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    off = max(OFF[to], OFF_QUANTIZED if any(n.op_type == "QuantizeLinear" for n in graph) else 0.0)
    judge = _Judge(graph, ends, seen, off)
    found = []

    def tell(value: Any, node: Any, kind: str, error: float | None = None) -> None:
        one = seen[str(value.name)]
        found.append(Overflow(str(value.name), str(node.name), node.op_type, one.amax, kind, error, to))

    for value in graph.inputs:
        if value.name in seen and judge.wrong(value.name) and not judge.harmless(value) and value.uses():
            tell(value, next(iter(value.uses())).node, "input")
    for node in graph:
        inputs = [str(v.name) for v in node.inputs if v is not None and v.name]
        for value in node.outputs:
            if value.name not in seen:
                continue
            one = seen[value.name]
            if value.name in ends and one.nan:
                tell(value, node, "source")
            if not judge.wrong(value.name) or judge.harmless(value):
                continue
            if one.gone and not one.bad:
                if one.amax <= VANISHING or not any(map(judge.wrong, inputs)):
                    tell(value, node, "vanish")
            elif one.amax > most:
                tell(value, node, "overflow")
            elif not any(map(judge.wrong, inputs)):
                tell(value, node, "nan")
    if not found:
        found += _off(graph, ends, seen, to, off)
    return found


def _off(graph: Any, ends: set[str], seen: Mapping[str, _Seen], to: str, limit: float) -> list[Overflow]:
    """Where the error of an output begins: the first node above the limit among the output's ancestors."""
    floats = [
        v for v in graph.outputs if v.name in ends & seen.keys() and v.dtype is not None and v.dtype.name == "FLOAT"
    ]
    worst = max(floats, key=lambda v: seen[v.name].error, default=None)
    if worst is None or seen[worst.name].error <= limit:
        return []
    above: set[str] = set()
    pending = [worst]
    while pending:  # the output's ancestors
        value = pending.pop()
        if value.name not in above:
            above.add(value.name)
            node = value.producer()
            pending += [v for v in node.inputs if v is not None] if node is not None else []
    for node in graph:
        for value in node.outputs:
            if value.name in above and value.name in seen and seen[value.name].error > limit:
                error = seen[value.name].error
                return [
                    Overflow(str(value.name), str(node.name), node.op_type, seen[value.name].amax, "error", error, to)
                ]
    return []
