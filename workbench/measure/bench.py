"""The performance table: the same model and inputs through PyTorch eager, torch.compile, Torch-TensorRT and TensorRT.

Every way is timed on one GPU in one run, by CUDA events after a warm-up (`workbench.measure.latency`), and stands
beside its error against PyTorch in FP32 with TF32 off. A row is one model, batch and precision; rows that a results
file already holds are not measured again, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import __version__
from workbench.errors import CompilerUnavailableError, ConfigError, WorkbenchError
from workbench.jobs import Job
from workbench.machine import gpus, machine
from workbench.model.sources import sample_folder, samples

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.worker import Reporter

SCHEMA = "workbench.bench/1"
WAYS = ("eager", "torch.compile", "torch_tensorrt", "tensorrt", "tensorrt graph")
"""Columns of the table, in order. ``torch.compile`` is mode reduce-overhead: it uses CUDA graphs itself."""


@dataclass
class Bench:
    """What to measure, and where the results go.

    Args:
        session: Builds the engines.
        models: Names of sample models.
        batches: Sizes of the first dimension of every input.
        precisions: fp32 or fp16.
        out: Results file (JSON), kept after every row; None keeps them in memory only.
        ways: Which columns.
        duration_ms: How long each latency is measured at least.
    """

    session: Session
    models: Sequence[str]
    batches: Sequence[int] = (1, 32)
    precisions: Sequence[str] = ("fp32", "fp16")
    out: Path | None = None
    ways: Sequence[str] = WAYS
    duration_ms: float = 600.0
    document: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        unknown = [m for m in self.models if m not in samples()]
        if unknown:
            raise ConfigError(
                f"{', '.join(unknown)} is no sample model.", hint="`workbench samples` lists them; bench runs samples."
            )
        if any(w not in WAYS for w in self.ways):
            raise ConfigError("There is no such way.", hint="There are " + ", ".join(WAYS) + ".")
        self.document = {"schema": SCHEMA, "rows": []}
        if self.out is not None and self.out.is_file():
            known = json.loads(self.out.read_text())
            if known.get("schema") != SCHEMA:
                raise ConfigError(f"{self.out} is not a results file.", hint="Name another file.")
            self.document = known

    def run(self, on_row: Callable[[Mapping[str, Any]], None] | None = None) -> dict[str, Any]:
        """Measure what is missing.

        Raises:
            CompilerUnavailableError: there is no NVIDIA GPU.
        """
        if not gpus():
            raise CompilerUnavailableError(
                "There is no NVIDIA GPU here: nothing can be timed.",
                hint="Run it on a machine with one, or look at fusions with `workbench fusions`.",
            )
        self.document.update(machine=machine(), version=__version__, date=time.strftime("%Y-%m-%d"))
        done = {(r["model"], r["batch"], r["precision"]) for r in self.document["rows"]}
        for model in self.models:
            for batch in self.batches:
                for precision in self.precisions:
                    if (model, batch, precision) in done:
                        continue
                    row = self._row(model, batch, precision)
                    self.document["rows"].append(row)
                    if self.out is not None:
                        self.out.parent.mkdir(parents=True, exist_ok=True)
                        draft = self.out.with_suffix(".part")
                        draft.write_text(json.dumps(self.document, indent=1))
                        draft.replace(self.out)
                    if on_row is not None:
                        on_row(row)
        return self.document

    def _row(self, model: str, batch: int, precision: str) -> dict[str, Any]:
        entry = samples()[model]
        shapes = {n: [batch, *i["shape"][1:]] for n, i in entry["inputs"].items()}
        row: dict[str, Any] = {"model": model, "batch": batch, "precision": precision, "ways": {}, "missing": {}}
        engine: dict[str, Any] | None = None
        if any(w.startswith("tensorrt") for w in self.ways):
            try:
                texts = {n: "x".join(map(str, s)) for n, s in shapes.items()}
                built = self.session.build(model, precision=precision, shapes=texts)
                engine = {"path": str(built.path), "module": built.config.compiler}
                row["compiler"] = {k: built.plan.compiler[k] for k in ("name", "version", "target")}
                row["build_s"] = built.seconds["total"]
            except WorkbenchError as error:
                row["missing"].update(dict.fromkeys(("tensorrt", "tensorrt graph"), error.message))
        file = sample_folder() / entry["file"]
        job = Job(
            "workbench.measure.bench:measure", {}, title=f"bench of {model}, batch {batch}, {precision}", time_limit=600
        )
        job.start(
            file=str(file), shapes=shapes, precision=precision, engine=engine, ways=list(self.ways),
            duration_ms=self.duration_ms,
        )  # fmt: skip
        try:
            found = job.result()
        except WorkbenchError as error:
            row["missing"].update({w: error.message for w in self.ways if w not in row["ways"]})
            return row
        row["ways"].update(found["ways"])
        row["missing"].update(found["missing"])
        row["torch"] = found["torch"]
        return row


def measure(
    reporter: Reporter,
    *,
    file: str,
    shapes: Mapping[str, list[int]],
    precision: str,
    engine: Mapping[str, str] | None,
    ways: Sequence[str],
    duration_ms: float,
) -> dict[str, Any]:
    """One row, in a worker: every way on the same inputs.

    Returns:
        ``ways``: by name the latency (`Latency.to_dict`) with ``error`` against FP32; ``missing``: why a way has
        no figure; ``torch``: its version.
    """
    import torch

    from workbench.measure.accuracy import compare
    from workbench.measure.cuda import TorchDevice
    from workbench.measure.run import latency
    from workbench.model.export import load_sample, resize_example

    device = TorchDevice()
    module, inputs = load_sample(file)
    values = [resize_example(t, tuple(shapes[n])) for n, t in zip(shapes, inputs, strict=True)]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    on_gpu = [t.cuda() for t in values]
    with torch.no_grad():
        module = module.cuda()
        reference = {"output": device.download(_first(module(*on_gpu)).float())}
        # TF32 from here on, as TensorRT uses it for FP32 by default.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if precision == "fp16":
            module = module.half()
            on_gpu = [t.half() if t.is_floating_point() else t for t in on_gpu]
        found: dict[str, Any] = {}
        missing: dict[str, str] = {}

        def note(way: str, step: Callable[[], None], output: Callable[[], Any], method: str) -> None:
            step()
            device.synchronize()
            torch.cuda.synchronize()
            error = compare({"output": device.download(_first(output()).float())}, reference)
            taken = latency(device, step, method, 200.0, duration_ms, way, reporter).to_dict()
            found[way] = {**taken, "error": {"relative_l2": error["relative_l2"], "ok": error["ok"]}}

        def guarded(way: str, make: Callable[[], None]) -> None:
            if way not in ways:
                return
            try:
                make()
            except Exception as error:  # noqa: BLE001 - one way that fails must not take the others with it
                missing[way] = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            torch.cuda.empty_cache()

        def torch_way(way: str, function: Callable[..., Any], method: str) -> None:
            last: list[Any] = []

            def step() -> None:
                last[:] = [function(*on_gpu)]

            for _ in range(3):
                step()
            note(way, step, lambda: last[0], method)

        guarded("eager", lambda: torch_way("eager", module, "CUDA events around each call"))
        guarded(
            "torch.compile",
            lambda: torch_way(
                "torch.compile", torch.compile(module, mode="reduce-overhead"), "mode reduce-overhead, CUDA graphs"
            ),
        )

        def through_torch_tensorrt() -> None:
            from workbench.torch_paths import shim
            from workbench.torch_paths.plan import MIN_BLOCK_SIZE
            from workbench.torch_paths.record import recording

            shim.importable(None)
            torch._dynamo.reset()
            # Without the option a failed build is only logged, and what is timed is eager under another name.
            compiled = torch.compile(module, backend="tensorrt", options={"pass_through_build_failures": True})
            with recording(MIN_BLOCK_SIZE) as parts:
                compiled(*on_gpu)
            engines = sum(s.runs_on == "tensorrt" for s in parts.segments)
            back = sum(len(s.operators) for s in parts.segments if s.runs_on == "fallback")
            if not engines:
                raise CompilerUnavailableError("nothing of the model ran in TensorRT")
            how = f"torch.compile, backend tensorrt: {engines} engine{'s' if engines > 1 else ''}, {back} operators in PyTorch"
            torch_way("torch_tensorrt", compiled, how)

        guarded("torch_tensorrt", through_torch_tensorrt)

        def through_tensorrt(way: str) -> None:
            from workbench.compilers.tensorrt.build import load
            from workbench.compilers.tensorrt.runtime import Runner

            if engine is None:
                raise CompilerUnavailableError(missing.get(way, "no engine was built"))
            runner = Runner(load(engine["module"]), Path(engine["path"]), device, 0)
            outputs = runner.bind(dict(zip(shapes, values, strict=True)))
            runner.run()
            device.synchronize()
            step = device.capture(runner.run) if way.endswith("graph") else runner.run
            note(way, step, lambda: next(iter(outputs.values())), "CUDA graph" if way.endswith("graph") else "enqueue")

        for way in ("tensorrt", "tensorrt graph"):
            if engine is not None:
                guarded(way, partial(through_tensorrt, way))
    return {"ways": found, "missing": missing, "torch": torch.__version__}


def table(document: Mapping[str, Any]) -> list[list[str]]:
    """The results as rows of text: model, batch, precision, then milliseconds and speed-up against eager by way."""
    out = []
    for row in document["rows"]:
        eager = row["ways"].get("eager", {}).get("median_ms")
        cells = [row["model"], str(row["batch"]), row["precision"]]
        for way in WAYS:
            got = row["ways"].get(way)
            if got is None:
                cells.append("–")
                continue
            times = f" ({eager / got['median_ms']:.1f}×)" if eager and way != "eager" else ""
            cells.append(f"{got['median_ms']:.3g} ms{times}{'' if right(row, way) else ' WRONG'}")
        out.append(cells)
    return out


def right(row: Mapping[str, Any], way: str) -> bool:
    """Whether a way's outputs may be called right: finite, and an error of at most 1 % or ten times eager's own."""
    error = row["ways"][way]["error"]
    own = row["ways"].get("eager", {}).get("error", {}).get("relative_l2") or 0.0
    return bool(error["ok"]) and error["relative_l2"] is not None and error["relative_l2"] <= max(0.01, 10 * own)


def _first(value: Any) -> Any:
    if isinstance(value, Mapping):
        return next(iter(value.values()))
    return value[0] if isinstance(value, tuple | list) else value
