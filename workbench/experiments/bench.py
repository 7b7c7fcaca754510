"""The performance table: the same model and inputs through PyTorch eager, torch.compile, Torch-TensorRT and TensorRT.

All ways are timed on one GPU in one run, with CUDA events after a warm-up (`workbench.measure.latency`). Each has its
error against PyTorch in FP32 with TF32 off. A row is one model, batch and precision. Rows that are already in the
results file are not measured again, so you can continue a stopped run.

INT8 and FP8 models are quantized by the session (`session.precision.quantize`), calibrated on random samples like the
inputs of the sample model; their eager column is in FP16. Each TensorRT row stores the time of every layer. For a
quantized row that is slower than FP16, this shows the slower kernels (`workbench.precision.audit_changes.losses`).
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import __version__, compilers
from workbench.compilers.base import Runs
from workbench.core.documents import parse_json, read_text
from workbench.core.errors import (
    CalibrationError,
    CompilerUnavailableError,
    ConfigError,
    WorkbenchError,
)
from workbench.core.jobs import Job
from workbench.core.store import output
from workbench.experiments.bench_document import BENCH, BenchDocument, RowDocument
from workbench.hardware.machine import gpus, machine
from workbench.model.sample_models import sample_folder, samples

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.model.model import Model
    from workbench.plan.plan import Plan
    from workbench.precision.calibration import Calibration
    from workbench.workspace import Workspace

WAYS = ("eager", "torch.compile", "torch_tensorrt", "tensorrt", "tensorrt graph")
"""Columns of the table, in order. ``torch.compile`` uses mode reduce-overhead, which includes CUDA graphs."""

PLAIN = ("fp32", "fp16")
SAMPLES = 32
"""Number of calibration samples of a quantized row, or one batch if that is larger."""

TORCH_TENSORRT = "workbench.compilers.torch_tensorrt.live:compile_any"
"""Function that compiles a module for the Torch-TensorRT column; the worker imports it."""

QUANTIZED_ERROR = 0.1
"""Relative error up to which a quantized row's outputs count as correct."""


@dataclass(frozen=True)
class Variant:
    """A quantized row: fields of `workbench.precision.Scheme`, and the target to build for (this GPU by default)."""

    scheme: Mapping[str, Any]
    target: str | None = None


VARIANTS = {"int8": Variant({"to": "int8"}), "fp8": Variant({"to": "fp8"})}
"""Variants by name of the quantized precision."""


@dataclass
class Bench:
    """What to measure, and where to write the results.

    Args:
        session: Builds the engines.
        models: Names of sample models.
        batches: Sizes of the first dimension of every input.
        precisions: fp32, fp16, int8, fp8, or a name among `variants`.
        variants: Quantized precisions by name; they extend and override `VARIANTS`.
        out: Results file (JSON), written after every row; None keeps them in memory only.
        ways: The columns to measure.
        duration_ms: Minimum duration of each latency measurement.
    """

    session: Workspace
    models: Sequence[str]
    batches: Sequence[int] = (1, 32)
    precisions: Sequence[str] = ("fp32", "fp16")
    out: Path | None = None
    ways: Sequence[str] = WAYS
    duration_ms: float = 600.0
    variants: Mapping[str, Variant] = field(default_factory=dict)
    document: BenchDocument = field(init=False)

    def __post_init__(self) -> None:
        unknown = [m for m in self.models if m not in samples()]
        if unknown:
            raise ConfigError(
                f"{', '.join(unknown)} is not a sample model.",
                hint="`workbench samples` lists them; bench runs samples.",
            )
        if any(w not in WAYS for w in self.ways):
            raise ConfigError("There is no such way.", hint="There are " + ", ".join(WAYS) + ".")
        known_names = [*PLAIN, *VARIANTS, *self.variants]
        if strange := [p for p in self.precisions if p not in known_names]:
            raise ConfigError(f"There is no precision {strange[0]!r}.", hint=f"There are {', '.join(known_names)}.")
        self._calibrations: dict[tuple[str, int], Calibration] = {}
        self.document = {"schema": "workbench.bench/1", "rows": []}
        if self.out is not None and self.out.is_file():
            self.document = _results(self.out)

    def run(self, on_row: Callable[[RowDocument], None] | None = None) -> BenchDocument:
        """Measure the missing rows.

        Raises:
            CompilerUnavailableError: there is no NVIDIA GPU.
        """
        for model in self.models:
            for batch in self.batches:
                for precision in self.precisions:
                    known = len(self.document["rows"])
                    row = self.row(model, batch, precision)
                    if on_row is not None and len(self.document["rows"]) > known:
                        on_row(row)
        return self.document

    def prepare(self, rows: Iterable[tuple[str, int, str]], at_once: int = 4) -> None:
        """Build the engines of `rows` (model, batch, precision), several at a time, so that measurements do not wait.

        Only for a compiler that times nothing on the GPU while it builds, such as TensorRT for RTX: full TensorRT times
        kernels to choose them, which other work on the GPU would disturb. `row` reports failed builds.
        """
        done = {(r["model"], r["batch"], r["precision"]) for r in self.document["rows"]}
        groups: dict[tuple[str, int], list[str]] = {}
        for model, batch, precision in rows:
            if (model, batch, precision) not in done:
                groups.setdefault((model, batch), []).append(precision)

        def build(model: str, batch: int) -> None:
            for precision in groups[model, batch]:  # sequentially: they share a calibration
                with contextlib.suppress(WorkbenchError):
                    self._engine(model, _shapes(model, batch), precision, None)

        with ThreadPoolExecutor(at_once) as pool:
            for work in [pool.submit(build, *group) for group in groups]:
                work.result()

    def row(self, model: str, batch: int, precision: str) -> RowDocument:
        """One row: from the results file, or measured now and stored.

        Raises:
            CompilerUnavailableError: there is no NVIDIA GPU.
            ConfigError: the file's rows were measured on another GPU or driver.
        """
        for known in self.document["rows"]:
            if (known["model"], known["batch"], known["precision"]) == (model, batch, precision):
                return known
        if not gpus():
            raise CompilerUnavailableError(
                "This machine has no NVIDIA GPU, so nothing can be timed.",
                hint="Run it on a machine with a GPU, or look at fusions with `workbench fusions`.",
            )
        here, before = machine(), self.document.get("machine") if self.document["rows"] else None
        if before and before.get("gpus") != here["gpus"]:
            was, now = (", ".join(f"{g['name']}, driver {g['driver']}" for g in m["gpus"]) for m in (before, here))
            raise ConfigError(
                f"{self.out} was measured on {was}; this machine has {now}.",
                hint="Use another file: one table must not mix results of two machines.",
            )
        self.document["machine"] = here
        self.document["version"] = __version__
        self.document["date"] = time.strftime("%Y-%m-%d")
        row = self._row(model, batch, precision)
        self.document["rows"].append(row)
        if self.out is not None:
            with output(self.out, parents=True) as draft:
                draft.write_text(json.dumps(self.document, indent=1))
        return row

    def _row(self, model: str, batch: int, precision: str) -> RowDocument:
        shapes = _shapes(model, batch)
        row: RowDocument = {"model": model, "batch": batch, "precision": precision, "ways": {}, "missing": {}}
        engine: dict[str, Any] | None = None
        built: Engine | None = None
        ways = list(self.ways)
        if precision not in PLAIN:
            ways = [w for w in ways if w == "eager" or w.startswith("tensorrt")]
            row["missing"].update({w: f"not measured in {precision}" for w in self.ways if w not in ways})
            row["eager_precision"] = "fp16"
        if any(w.startswith("tensorrt") for w in self.ways):
            try:
                built = self._engine(model, shapes, precision, row)
                compiler = compilers.get(built.config.compiler, Runs)
                engine = {"runner": compiler.runner, "arguments": {**compiler.arguments(), "engine": str(built.path)}}
                made_by = built.plan.compiler
                row["compiler"] = {"name": made_by["name"], "version": made_by["version"], "target": made_by["target"]}
                row["build_s"] = built.seconds["total"]
            except WorkbenchError as error:
                text = error.message + (f" {error.hint}" if error.hint else "")
                row["missing"].update(dict.fromkeys(("tensorrt", "tensorrt graph"), text))
        file = sample_folder() / samples()[model]["file"]
        job = Job(
            "workbench.experiments.bench_worker:measure",
            {},
            title=f"bench of {model}, batch {batch}, {precision}",
            time_limit=600,
        )
        job.start(
            file=str(file), shapes=shapes, precision="fp32" if precision == "fp32" else "fp16", engine=engine, ways=ways,
            duration_ms=self.duration_ms, torch_tensorrt=TORCH_TENSORRT,
        )  # fmt: skip
        try:
            found = job.result()
        except WorkbenchError as error:
            row["missing"].update({w: error.message for w in ways if w not in row["missing"]})
            return row
        row["ways"].update(found["ways"])
        row["missing"].update({w: text for w, text in found["missing"].items() if w not in row["missing"]})
        row["torch"] = found["torch"]
        if built is not None and found["layers"]:
            self._layers(row, built.plan, found["layers"])
        return row

    def _engine(self, model: str, shapes: Mapping[str, list[int]], precision: str, row: RowDocument | None) -> Engine:
        """The engine of a row; for a quantized model the row also records what was quantized, and on what data."""
        texts = {n: "x".join(map(str, s)) for n, s in shapes.items()}
        if precision in PLAIN:
            return self.session.build(model, precision=precision, shapes=texts)
        variant = {**VARIANTS, **self.variants}[precision]
        source = self.session.add(model, shapes=texts, name=f"{model}-{next(iter(shapes.values()))[0]}")
        low, count = self._quantized(model, source, shapes, variant.scheme)
        if row is not None:
            row["scheme"] = low.origin["scheme"]
            row["quantized"] = len(low.origin["quantized"])
            row["left"] = len(low.origin["left"])
            row["calibration"] = f"{count} samples drawn like the sample's own inputs: no real data"
        options: dict[str, Any] = {"target": variant.target} if variant.target else {}
        return self.session.build(low, **options)

    def _quantized(
        self, name: str, source: Model, shapes: Mapping[str, list[int]], scheme: Mapping[str, Any]
    ) -> tuple[Model, int]:
        """The quantized model. All schemes of a model and batch share one calibration if it has their ranges."""
        from workbench.precision.quantize import calibration

        batch = next(iter(shapes.values()))[0]
        count = max(SAMPLES, batch)
        title = f"{source.name}-quantized"
        known = self._calibrations.get((name, batch))
        if known is not None:
            try:
                return self.session.precision.quantize(source, known, name=title, **scheme), count
            except CalibrationError:
                pass  # it has fewer tensors than this scheme needs: calibrate again
        with tempfile.TemporaryDirectory(prefix="workbench-bench-") as folder:
            file = Path(folder) / "samples.npz"
            Job(
                "workbench.experiments.bench_worker:draw",
                {"file": str(sample_folder() / samples()[name]["file"]), "out": str(file), "count": count,
                 "shapes": {n: [count, *s[1:]] for n, s in shapes.items()}},
                title=f"calibration samples of {name}", time_limit=300,
            ).result()  # fmt: skip
            low = self.session.precision.quantize(source, file, name=title, **scheme)
        self._calibrations[name, batch] = calibration(low, self.session.store)
        return low, count

    def _layers(self, row: RowDocument, plan: Plan, times: Sequence[tuple[str, float]]) -> None:
        """Store the time of each layer and the sums by kind, and compare a quantized row with FP16's."""
        from workbench.plan.join import with_layer_times

        try:
            plan = with_layer_times(plan, times, {"method": "the compiler's layer profiler, mean"})
            row["layer_ms"] = [layer.time_ms for layer in plan.layers]
            kinds: dict[str, float] = {}
            for layer in plan.layers:
                kinds[layer.kind] = kinds.get(layer.kind, 0.0) + (layer.time_ms or 0.0)
            row["kinds_ms"] = kinds
            if row["precision"] not in PLAIN and (wide := self._half(row)) is not None:
                from workbench.precision.audit_changes import losses

                frame = losses(plan, wide)
                row["against_fp16"] = {
                    "low_ms": float(frame["low_ms"].sum()), "fp16_ms": float(frame["wide_ms"].sum()),
                    "lost": json.loads(frame[frame["lost_ms"] > 0].head(8).to_json(orient="records")),
                }  # fmt: skip
        except WorkbenchError as error:
            row["missing"]["layers"] = error.message

    def _half(self, row: RowDocument) -> Plan | None:
        """The FP16 plan of the same model and batch with the times of its layers, if that row was measured."""
        from dataclasses import replace

        same = [r for r in self.document["rows"] if (r["model"], r["batch"]) == (row["model"], row["batch"])]
        half = next((r for r in same if r["precision"] == "fp16" and r.get("layer_ms")), None)
        if half is None:
            return None
        plan = self._engine(row["model"], _shapes(row["model"], row["batch"]), "fp16", None).plan
        if len(plan.layers) != len(half["layer_ms"]):
            return None  # measured with another version of the compiler
        layers = [replace(layer, time_ms=t) for layer, t in zip(plan.layers, half["layer_ms"], strict=True)]
        return replace(plan, layers=tuple(layers))


def _shapes(model: str, batch: int) -> dict[str, list[int]]:
    """The shapes of a sample model's inputs at a batch size."""
    return {n: [batch, *i["shape"][1:]] for n, i in samples()[model]["inputs"].items()}


def _results(file: Path) -> BenchDocument:
    """The results of an earlier run.

    Raises:
        ConfigError: the file is not a results file, or has a row that the table can't show.
        LimitError: it is too large or nested too deeply.
    """
    try:
        known = BENCH.check(parse_json(read_text(file), str(file)), "results")
        table(known)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise ConfigError(f"{file} is not a results file: {error}.", hint="Name another file.") from None
    return known


def table(document: BenchDocument) -> list[list[str]]:
    """The results as rows of text: model, batch, precision, then milliseconds and speed-up against eager by way."""
    out = []
    for row in document["rows"]:
        eager = row["ways"]["eager"]["median_ms"] if "eager" in row["ways"] else None
        cells = [row["model"], str(row["batch"]), row["precision"]]
        for way in WAYS:
            got = row["ways"].get(way)
            if got is None:
                cells.append("–")
                continue
            times = f" ({eager / got['median_ms']:.1f}×)" if eager and way != "eager" else ""
            error = got["error"]["relative_l2"] if row["precision"] not in PLAIN and way != "eager" else None
            told = "" if error is None else f", error {error:.1%}"
            cells.append(f"{got['median_ms']:.3g} ms{times}{told}{'' if right(row, way) else ' WRONG'}")
        out.append(cells)
    return out


def right(row: RowDocument, way: str) -> bool:
    """Whether a way's outputs count as correct: finite, with an error of at most 1 % or ten times eager's error.

    A quantized row may have an error of up to `QUANTIZED_ERROR`.
    """
    error = row["ways"][way]["error"]
    if row["precision"] not in PLAIN and way != "eager":
        return bool(error["ok"]) and error["relative_l2"] is not None and error["relative_l2"] <= QUANTIZED_ERROR
    own = (row["ways"]["eager"]["error"]["relative_l2"] if "eager" in row["ways"] else None) or 0.0
    return bool(error["ok"]) and error["relative_l2"] is not None and error["relative_l2"] <= max(0.01, 10 * own)
