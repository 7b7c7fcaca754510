"""How far a model in a lower precision is from the FP32 one: at its outputs, along the graph, and by layer.

Everything runs in a worker with ONNX Runtime on the CPU and all its graph optimizations off, so that the
numbers are those of the graph and not of a fusion. FP16 and BF16 are simulated (`workbench.precision.simulate`): each
node is computed in FP32 and its outputs are rounded to the type, so that a value beyond FP16's range is infinite, while
what accumulating in FP16 inside a node would cost is not seen. A GPU's kernels may round differently: measure the
engine itself (`workbench.measure`) where there is a GPU.

Three questions, three functions: `accuracy` (how far?), `sensitivity` (which layer's fault?), `mixed` (which
layers to leave in higher precision so that it is near enough?).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError, ModelError
from workbench.core.jobs import Job
from workbench.core.store import whole
from workbench.hardware.machine import REWRITERS, made_by
from workbench.model.model import Model
from workbench.precision.calibration import gather, inputs_of, read_batches
from workbench.precision.ort_errors import raised

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.model.shape_profile import Shape

VERSION = 3
"""Raise it when the same request gives other numbers, so that kept ones are measured anew."""


@dataclass(frozen=True)
class Accuracy:
    """Errors against FP32, measured on `samples` samples.

    Attributes:
        models: For each model: ``relative_l2``, ``relative_max`` (largest difference over the largest value),
            ``max_abs``, ``cosine``, ``snr_db``, ``top1`` and ``top5`` (agreement with FP32, in 0..1, of the
            first output where it has classes), ``accuracy`` (share of right labels, where there are labels),
            ``not_finite`` (values that are NaN or infinite, and finite in FP32). One such value makes the errors
            infinite, ``snr_db`` minus infinite and ``cosine`` None; its sample counts as wrong.
        tensors: For each model and tensor along the graph ``relative_l2``, where asked.
        samples: How many.
        source: The data, in words.
    """

    models: Mapping[str, Mapping[str, float | None]]
    tensors: Mapping[str, Mapping[str, float]] = field(repr=False)
    samples: int
    source: str

    def to_frame(self) -> pd.DataFrame:
        """One row a model."""
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
    """The error of each of `models` against `exact`, on data that are best not those of the calibration.

    Args:
        exact: The FP32 model.
        models: By the name that they get in the result.
        store: Where results are kept.
        data: As for calibration.
        labels: The right class of each sample, also of those that a limit or a fixed batch leaves out: gives the true accuracy, of the FP32 model ("fp32") as well.
        along: Compare each tensor that both graphs have, too.
        shapes: Sizes of dynamic inputs.
        limit: At most this many batches.
        keep: A folder in which the FP32 model's outputs are kept, for several calls with the same model and data: it
            runs once then. Nothing of `models` is kept there.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        CalibrationError: the data do not fit, or there are not as many labels as samples.
        ModelError: ONNX Runtime can't run a model.
    """
    answer = _measured(
        "accuracy", exact, store, data, labels, shapes, limit, on_job,
        {"models": {name: str(model.path.resolve()) for name, model in models.items()}, "along": along,
         "keep": str(keep) if keep is not None else None},
        [(name, model.sha256(store)) for name, model in models.items()],
    )  # fmt: skip
    for name, tensors in answer["tensors"].items():
        note = {"tensors": tensors, "samples": answer["samples"], "source": answer["source"]}
        _write(errors_file(store.path, models[name].sha256(store)), note)
    return Accuracy(answer["models"], answer["tensors"], answer["samples"], answer["source"])


def errors_file(home: Path, sha256: str) -> Path:
    """Where the errors along the graph of the model with this fingerprint are kept: for overlays.

    Args:
        home: The store's folder.
        sha256: Fingerprint of the model in the lower precision.
    """
    return home / "errors" / f"{sha256}-{VERSION}.json"


def _write(file: Path, data: Mapping[str, Any]) -> None:
    with whole(file) as draft:
        draft.write_text(json.dumps(data))


@dataclass(frozen=True)
class Sensitivity:
    """What each layer costs when it alone is quantized, the most costly first.

    Attributes:
        layers: ``node``, ``op``, ``relative_l2``, ``snr_db``, ``top1`` and, with labels, ``accuracy``.
        samples: How many.
    """

    layers: tuple[Mapping[str, Any], ...]
    samples: int

    def to_frame(self) -> pd.DataFrame:
        """One row a layer."""
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
    """Quantize each layer of `low` alone, as `low` quantizes it, and measure the error at the outputs.

    The rest stays in FP32, also where `low`'s own is FP16 or BF16, so that the error is the layer's own. See `accuracy` for the arguments.

    Raises:
        ModelError: `low` was not made by `quantize`.
    """
    scheme = scheme_of(low)
    answer = _measured("sensitivity", exact, store, data, labels, shapes, limit, on_job,
                       {"scheme": scheme, "ranges": dict(low.origin["ranges"])}, [low.sha256(store)])  # fmt: skip
    return Sensitivity(tuple(answer["layers"]), answer["samples"])


@dataclass(frozen=True)
class Mixed:
    """A choice of layers to leave in higher precision.

    Attributes:
        keep: Their names; pass them to `quantize` as ``keep=``.
        value: What the metric is with this choice.
        met: Whether that meets the budget; if not, even keeping all would not.
        tried: Each choice that was measured: ``kept`` (how many) and ``value``.
        metric: What was asked for: accuracy, top1 or relative_l2.
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
    """The fewest layers to leave in higher precision so that the budget is met.

    Layers are ranked by `sensitivity`, and the number of them to keep is found by bisection, each candidate
    quantized and measured as a whole; then each kept layer is tried without. The ranking is of layers alone,
    so another set of the same size may do as well: the answer is small, not proven smallest.

    Args:
        exact: The FP32 model.
        low: Made from it by `quantize`.
        store: Where results are kept.
        data: As for calibration.
        budget: At least this accuracy or top-1 agreement (0..1), or at most this relative error.
        metric: accuracy (needs labels), top1 or relative_l2.
        labels: The right class of each sample.
        shapes: Sizes of dynamic inputs.
        limit: At most this many batches.
        on_job: Called with each job.

    Raises:
        ConfigError: there is no such metric, it needs labels, the model's outputs do not have it, or no model could meet
            the budget.
    """
    if metric not in {"accuracy", "top1", "relative_l2"}:
        raise ConfigError(f"There is no metric {metric!r}.", hint="Metrics: accuracy, top1, relative_l2.")
    if metric == "accuracy" and labels is None:
        raise ConfigError("An accuracy needs labels.", hint="Give labels=, or take metric='top1' or 'relative_l2'.")
    budget = _budget(budget, metric)
    scheme = scheme_of(low)
    with store.scratch("mixed-data") as folder:  # read once: an iterator gives its batches to the first who asks
        batches = gather(data, inputs_of(exact.graph, shapes), folder, limit=limit, min_samples=1)
        ranking = sensitivity(exact, low, store, data=batches, labels=labels, shapes=shapes, on_job=on_job)
        order = [row["node"] for row in ranking.layers]
        answer = _measured(
            "mixed", exact, store, batches, labels, shapes, limit, on_job,
            {"scheme": scheme, "ranges": dict(low.origin["ranges"]), "order": order, "budget": budget, "metric": metric},
            [low.sha256(store), budget, metric],
        )  # fmt: skip
    return Mixed(tuple(answer["keep"]), answer["value"], answer["met"], tuple(answer["tried"]), metric)


def _budget(budget: Any, metric: str) -> float:
    """The budget as a number that some model meets."""
    try:
        number = float(budget)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:  # NaN neither
        raise ConfigError(
            f"A budget is a number from 0 on, not {budget!r}.", hint="Such as 0.98, or 0.01 for an error."
        )
    if metric != "relative_l2" and number > 1:
        raise ConfigError(
            f"{metric} is a share of 1, and never {number:g}.", hint=f"For {number:g} %: {number / 100:g}."
        )
    return number


def scheme_of(low: Model) -> dict[str, Any]:
    """The fields of the scheme that a model was quantized by.

    Raises:
        ModelError: it was not made by `quantize`.
    """
    if low.origin.get("kind") != "quantize" or low.origin["scheme"]["placement"] != "tensorrt":
        raise ModelError(
            f"{low.name} was not made by the workbench's quantize, so its layers can't be quantized one by one.",
            hint="low = quantize(model, store, data=...)",
        )
    return dict(low.origin["scheme"])


def _measured(
    what: str, exact: Model, store: Store, data: Any, labels: Sequence[int] | None, shapes: Mapping[str, Shape] | None,
    limit: int | None, on_job: Callable[[Job], Any] | None, arguments: dict[str, Any], identity: list[Any],
) -> dict[str, Any]:  # fmt: skip
    """Run a task of this module in a worker, or find what it gave earlier."""
    with store.scratch(what) as folder:
        batches = gather(data, inputs_of(exact.graph, shapes), folder / "batches", limit=limit, min_samples=1)
        wanted = None if labels is None else batches.labels(labels)
        known = json.dumps(
            [VERSION, made_by("onnxruntime", *REWRITERS), what, exact.sha256(store), batches.digest, wanted, identity,
             arguments.get("along")]
        )  # fmt: skip
        file = store.path / "accuracy" / f"{hashlib.sha256(known.encode()).hexdigest()}.json"
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text())
            return found
        job = Job(
            f"workbench.precision.accuracy:{what}_task",
            {"exact": str(exact.path.resolve()), "batches": str(batches.folder), "labels": wanted, "folder": str(folder), **arguments},
            title=f"{what} of {exact.name}",
        )  # fmt: skip
        if on_job is not None:
            on_job(job)
        answer = {**job.result(), "samples": batches.samples, "source": batches.source}
        _write(file, answer)
        return answer


# --- in the worker ----------------------------------------------------------------------------------


@dataclass
class _Sums:
    """What the figures of one output are made of, added up batch by batch in float64."""

    off: float = 0.0
    size: float = 0.0
    own: float = 0.0
    product: float = 0.0
    largest_off: float = 0.0
    largest: float = 0.0
    bad: int = 0
    compared: int = 0
    hidden: int = 0

    def add(self, left: np.ndarray, right: np.ndarray) -> None:
        """Take in a batch; what is not finite in the reference itself has no error."""
        import numpy as np

        have = np.isfinite(right)
        both = have & np.isfinite(left)
        self.bad += int(np.count_nonzero(have & ~both))
        self.compared += int(np.count_nonzero(have))
        self.hidden += int(np.count_nonzero(~have))
        left, right = left[both], right[both]
        difference = left - right
        self.off += float(difference @ difference)
        self.size += float(right @ right)
        self.own += float(left @ left)
        self.product += float(left @ right)
        self.largest_off = max(self.largest_off, float(np.abs(difference).max(initial=0.0)))
        self.largest = max(self.largest, float(np.abs(right).max(initial=0.0)))

    @property
    def blind(self) -> bool:
        """Whether the reference holds values and none is finite, so that there is nothing to compare with."""
        return bool(self.hidden and not self.compared)

    @property
    def relative(self) -> float | None:
        """Norm of the difference over the norm of the reference; None where that is 0, or nothing in it is finite."""
        if self.blind:
            return None
        return (self.off / self.size) ** 0.5 if self.size else (0.0 if not self.off else None)

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between output and reference; None where one is 0."""
        return self.product / (self.size * self.own) ** 0.5 if self.size and self.own else None


def errors(
    got: Mapping[str, Sequence[np.ndarray]],
    want: Mapping[str, Sequence[np.ndarray]],
    labels: Sequence[int] | None = None,
) -> dict[str, float | None]:
    """The figures of `Accuracy.models` for one model's outputs.

    Args:
        got: For each output its batches, in order; they may differ in shape.
        want: The reference's.
        labels: The right class of each sample.

    Raises:
        ConfigError: an output is missing or of another shape, or there are labels and no classes.
    """  # fmt: skip
    import numpy as np

    sums: dict[str, _Sums] = {}
    for name, rights in want.items():
        if name not in got or len(got[name]) != len(rights):
            raise ConfigError(f"The model has no output {name}.", hint=f"It has {', '.join(got)}.")
        sums[name] = _Sums()
        for one, other in zip(got[name], rights, strict=True):
            left, right = (np.asarray(v, dtype=np.float64) for v in (one, other))
            if left.shape != right.shape:
                raise ConfigError(f"Output {name} is {list(left.shape)}, the reference {list(right.shape)}.")
            sums[name].add(left.ravel(), right.ravel())
    name, first = next(iter(want.items()))
    relatives = [s.relative for s in sums.values()]
    cosines = [s.cosine for s in sums.values() if s.cosine is not None]
    bad = sum(s.bad for s in sums.values())
    relative = None if None in relatives else max(r for r in relatives if r is not None)
    out: dict[str, float | None] = {
        "relative_l2": relative,
        "relative_max": sums[name].largest_off / sums[name].largest if sums[name].largest else None,
        "max_abs": None if any(s.blind for s in sums.values()) else max(s.largest_off for s in sums.values()),
        "cosine": min(cosines) if cosines else None,
        "snr_db": -20 * float(np.log10(relative)) if relative else None,
        "not_finite": float(bad),
    }
    if bad:  # a NaN or an infinity is no small error
        out |= {"relative_l2": np.inf, "relative_max": np.inf, "max_abs": np.inf, "cosine": None, "snr_db": -np.inf}
    rows = {np.shape(right)[1:] for right in first if np.size(right)}  # of no samples there is no share
    if len(rows) == 1 and len(classes := rows.pop()) == 1 and classes[0] > 1:
        out |= _classes(got[name], first, labels)
    elif labels is not None:
        raise ConfigError(f"Labels need an output [samples, classes]; {name} is {list(np.shape(first[0]))}.")
    return out


def _classes(
    got: Sequence[np.ndarray], want: Sequence[np.ndarray], labels: Sequence[int] | None
) -> dict[str, float | None]:
    """``top1``, ``top5`` and ``accuracy`` of batches [samples, classes]."""
    import numpy as np

    right, left = np.concatenate(list(want)), np.concatenate(list(got))
    best, mine = right.argmax(axis=1), left.argmax(axis=1)
    # A row with a value that is not finite names no class, though argmax takes a NaN for the largest.
    fine = ~(np.isnan(left) | (np.isfinite(right) & ~np.isfinite(left))).any(axis=1)
    out: dict[str, float | None] = {"top1": float(((best == mine) & fine).mean())}
    if right.shape[1] > 5:
        top = np.argsort(-left, axis=1)[:, :5]
        out["top5"] = float(((top == best[:, None]).any(axis=1) & fine).mean())
    if labels is not None:
        out["accuracy"] = float(((mine == np.asarray(labels)) & fine).mean())
    return out


def _open(path: Path | str) -> Any:
    import onnxruntime as ort

    from workbench.model.onnx_file import read_graph
    from workbench.model.shapes import refuse_endless

    try:
        graph = read_graph(Path(path))
    except ModelError:
        pass  # ONNX Runtime says what is wrong with the file
    else:
        refuse_endless(graph)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
        raise raised(ModelError, "ONNX Runtime can't run this model on the CPU", error) from None


def _simulated(path: Path, folder: Path, reporter: Reporter) -> Path:
    """The model to run on the CPU in place of one with FP16 or BF16; the same path where it has none."""
    from workbench.passes.cast import load_ir, save_ir
    from workbench.precision.simulate import simulate

    model = load_ir(path, reporter)
    if not simulate(model):
        return path
    made = folder / "simulated.onnx"
    save_ir(model, made)
    return made


def _run(session: Any, names: Sequence[str], batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """One batch; FP16 data go as FP32 to a simulated input."""
    import numpy as np

    wide = {i.name for i in session.get_inputs() if i.type == "tensor(float)"}
    feed = {n: v.astype(np.float32) if n in wide and v.dtype == np.float16 else v for n, v in batch.items()}
    try:
        return [np.asarray(value) for value in session.run(names, feed)]
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
        raise raised(ModelError, "ONNX Runtime can't run this model on these data", error) from None


def _outputs(path: Path | str, batches: Path, tell: Callable[[], None] | None = None) -> dict[str, list[np.ndarray]]:
    """For each output its batches, which may differ in shape: sequences have lengths."""
    session = _open(path)
    names = [o.name for o in session.get_outputs()]
    parts: dict[str, list[Any]] = {name: [] for name in names}
    for batch in read_batches(batches):
        for name, value in zip(names, _run(session, names, batch), strict=True):
            parts[name].append(value)
        if tell is not None:
            tell()
    return parts


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
        want = _outputs(exact, place, tell)
        if kept is not None:
            with whole(kept) as draft, draft.open("wb") as out:
                flat = [part for parts in want.values() for part in parts]
                count = len(next(iter(want.values())))
                np.savez(
                    out, *flat, names=np.array(list(want)), count=np.array(count)
                )  # an output may be called "file"
    found = {"fp32": errors(want, want, labels)}
    tensors = {}
    for name, path in models.items():
        ready = _simulated(Path(path), Path(folder), reporter)
        found[name] = errors(_outputs(ready, place, tell), want, labels)
        if along:
            tensors[name] = _along(Path(exact), Path(path), place, Path(folder), reporter, name)
    return {"models": found, "tensors": tensors}


def _along(exact: Path, low: Path, batches: Path, folder: Path, reporter: Reporter, name: str) -> dict[str, float]:
    """The relative error of each floating-point tensor that both graphs compute; infinite where one is not finite."""
    import numpy as np

    from workbench.passes.cast import load_ir, save_ir
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
        sessions.append(_open(path))
    sums = {tensor: _Sums() for tensor in shared}
    total = len(list(batches.glob("*.npz")))
    for k, batch in enumerate(read_batches(batches)):
        wants, gots = (_run(session, shared, batch) for session in sessions)
        for tensor, want, got in zip(shared, wants, gots, strict=True):
            sums[tensor].add(np.asarray(got, dtype=np.float64).ravel(), np.asarray(want, dtype=np.float64).ravel())
        reporter.progress(f"Along {name}", k + 1, total)
    return {n: float("inf") if s.bad else s.relative for n, s in sums.items() if s.relative is not None and s.size}


def _floats(value: Any) -> bool:
    return value.dtype is not None and value.dtype.name in {"FLOAT", "FLOAT16", "BFLOAT16"}


def _quantized(exact: Path, scheme: Any, ranges: Mapping[str, float], reporter: Reporter, out: Path, *, only: Sequence[str] | None, keep: Sequence[str]) -> None:  # fmt: skip
    """Write `exact` with some of its layers quantized at known ranges, the rest in FP32."""
    from workbench.passes.cast import load_ir, save_ir
    from workbench.passes.insert_qdq import Insertion, choose, needed_opset

    model = load_ir(exact, reporter, opset=needed_opset(scheme.to, "fp32"))
    choices = choose(model, scheme.to, keep=[*scheme.keep, *keep], only=scheme.only if only is None else only)
    work = Insertion(model, choices, ranges, to=scheme.to, rest="fp32", weights=scheme.weights,
                     residual=scheme.shares_residuals, block=scheme.block)  # fmt: skip
    work.run()
    save_ir(model, out)


def sensitivity_task(
    reporter: Reporter, *, exact: str, scheme: Mapping[str, Any], ranges: Mapping[str, float], batches: str,
    labels: list[int] | None, folder: str,
) -> dict[str, Any]:  # fmt: skip
    """`sensitivity` in a worker."""
    from workbench.passes.cast import load_ir
    from workbench.passes.insert_qdq import choose, needed_opset
    from workbench.precision.quantize import Scheme

    how = Scheme(**scheme)
    place, out = Path(batches), Path(folder) / "alone.onnx"
    taken = choose(
        load_ir(Path(exact), reporter, opset=needed_opset(how.to, "fp32")), how.to, keep=how.keep, only=how.only
    ).taken
    reporter.progress("Layers", 0, len(taken))
    want = _outputs(exact, place)
    rows: list[dict[str, Any]] = []
    for i, choice in enumerate(taken):
        _quantized(Path(exact), how, ranges, reporter, out, only=[choice.node], keep=())
        found = errors(_outputs(out, place), want, labels)
        rows.append({"node": choice.node, "op": choice.op, **found})
        reporter.progress("Layers", i + 1, len(taken))
    rows.sort(key=lambda row: -_number(row["relative_l2"]))
    return {"layers": rows}


def _number(value: float | None) -> float:
    """An error to rank by: one that has no number (FP32's outputs are 0, these are not) is the largest."""
    return float("inf") if value is None else value


def mixed_task(
    reporter: Reporter, *, exact: str, scheme: Mapping[str, Any], ranges: Mapping[str, float], order: list[str],
    budget: float, metric: str, batches: str, labels: list[int] | None, folder: str,
) -> dict[str, Any]:  # fmt: skip
    """`mixed` in a worker."""
    import math

    from workbench.precision.quantize import Scheme

    how = Scheme(**scheme)
    place, out = Path(batches), Path(folder) / "mixed.onnx"
    want = _outputs(exact, place)
    if (have := errors(want, want, labels)).get(metric) is None:
        known = ", ".join(name for name in ("accuracy", "top1", "relative_l2") if have.get(name) is not None)
        raise ConfigError(
            f"There is no {metric} of this model: its first output has no classes.", hint=f"Metrics it has: {known}."
        )
    tried: list[dict[str, float]] = []
    steps = math.ceil(math.log2(len(order) + 1)) + 1

    def value_of(keep: Sequence[str]) -> float:
        if len(keep) == len(order):
            got = want
        else:
            _quantized(Path(exact), how, ranges, reporter, out, only=None, keep=[literal(n) for n in keep])
            got = _outputs(out, place)
        value = _number(errors(got, want, labels)[metric])
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
    for name in list(keep[::-1]):  # the least sensitive of those kept first
        less = [n for n in keep if n != name]
        attempt = value_of(less)
        if meets(attempt):
            keep, value = less, attempt
    reporter.progress("Choices", len(tried), len(tried))
    return {"keep": keep, "value": value, "met": True, "tried": tried}


def literal(name: str) -> str:
    """A pattern that matches `name` alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
