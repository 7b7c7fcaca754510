"""Measure an engine on this machine's GPU; a worker's task.

Latency is taken between CUDA events around each execution, queued back to back on one stream, after a warm-up
and until the series is steady; without and with a CUDA graph, and where asked for with the copies of inputs and
outputs. Layers are timed by the profiler in a pass of their own, because that slows everything else down.
The outputs of the same inputs are compared with a reference, and the error stands beside the times.
"""

from __future__ import annotations

import contextlib
import json
import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.tensorrt.runtime import SPECIALIZATIONS
from workbench.core.errors import ConfigError, first_lines
from workbench.core.store import whole
from workbench.measure.accuracy import compare
from workbench.measure.latency import Latency, percentiles, steady

if TYPE_CHECKING:
    from workbench.core.worker import Reporter
    from workbench.plan.plan import Plan

SCHEMA = "workbench.profile/1"
BATCH = 20
"""Iterations that are queued at a time; also the window in which steadiness is judged."""


def profile(
    reporter: Reporter,
    *,
    module: str,
    engine: str,
    folder: str,
    file: str = "profile.json",
    inputs: str | None = None,
    shapes: Mapping[str, list[int]] | None = None,
    reference: str | None = None,
    built: Mapping[str, Any] | None = None,
    shape_profile: int = 0,
    warm_up_ms: float = 200.0,
    duration_ms: float = 1000.0,
    layer_iterations: int = 20,
    graph: bool = True,
    transfers: bool = False,
    batches: Sequence[int] | None = None,
    kernels: bool = True,
    ceilings: bool = True,
    specialization: str = "eager",
    seed: int = 0,
    device: Any = None,
    gauge: Any = None,
) -> dict[str, Any]:
    """Measure, and write the document into `folder`.

    Args:
        reporter: Where progress goes.
        module: The TensorRT module to use.
        engine: Path of the serialized engine.
        folder: Where the document goes; created if absent.
        file: The document's file name.
        inputs: An .npz file of inputs by name; random values by default, integers all 1.
        shapes: Shapes of random inputs; the profile's opt shapes by default.
        reference: What is right: an .npz of outputs by name, or an ONNX file, run by ONNX Runtime on the CPU.
        built: What made the engine, where it is known; see `runtime.check_file`.
        shape_profile: Which shape profile to use.
        warm_up_ms: Time of executions that are not counted.
        duration_ms: How long each latency is measured at least; up to four times as long until it is steady.
        layer_iterations: Executions in which layers are timed; 0 for none.
        graph: Also measure in a CUDA graph.
        transfers: Also measure with copies of inputs and outputs.
        batches: Also measure at these sizes of the first dimension of every input (a dynamic engine).
        kernels: Also name the kernels behind the layers, by torch.profiler, in a pass of its own.
        ceilings: Also measure what this GPU reaches: one copy, one GEMM a precision; about a second.
        specialization: When TensorRT for RTX compiles kernels for the shapes at hand of an engine with open shapes:
            "eager", before anything is timed; "none", never: its kernels for any shape are timed; "lazy", its own
            way, in the background, which times now these and now those.
        seed: Of the random inputs.
        device: CUDA; torch's by default.
        gauge: Clocks and energy; `workbench.hardware.nvml.Gauge` by default, where NVML can be had.

    Returns:
        The document: ``latency`` by way (``plain``, ``graph``, ``transfers``; see `Latency.to_dict`, and
        ``percentiles_ms``, from 0 to 100), ``layers``
        (name, mean_ms, median_ms, in the order of execution), ``error`` (see `compare`; with ``reference``),
        ``memory`` (bytes), ``inspector`` (the layers as records), ``device``, ``machine``, ``notes``;
        ``sweep``, one row a batch: ``batch``, ``way``, ``median_ms``, ``p99_ms``, ``throughput`` (samples a second),
        or ``missing``, why there is none; ``clocks`` (see `Gauge.clocks`) and ``energy`` (``joules_per_run`` of the
        first way of ``latency`` there is among graph, plain; warm-up included; the whole GPU's); ``kernels``:
        ``rows`` of ``name``, ``ms``, ``layer`` (its name, or None) and ``joined``, how; ``ceilings`` (see
        `workbench.analysis.roofline.Device`); ``specialization``, None where it means nothing. What could not be had is absent or None, and ``notes`` says why.

    Raises:
        BuildError: the engine can't be used here, in words.
        ConfigError: inputs, shapes or reference do not fit the engine, or `batches` are no batch sizes.
        CompilerUnavailableError: there is no GPU, or the flavour is not installed.
    """
    check_batches(batches)
    if specialization not in SPECIALIZATIONS:
        raise ConfigError(
            f"There is no specialization {specialization!r}.", hint=f"One of {', '.join(SPECIALIZATIONS)}."
        )
    for name, value, least in (
        ("warm_up_ms", warm_up_ms, 0),
        ("duration_ms", duration_ms, 1),
        ("layer_iterations", layer_iterations, 0),
    ):
        if not least <= value < float("inf"):
            raise ConfigError(f"{name} is {value}.", hint=f"Give a number from {least}.")
    from workbench.compilers.tensorrt.build import load
    from workbench.compilers.tensorrt.runtime import Runner, check_file
    from workbench.hardware.machine import machine

    if device is None:
        from workbench.hardware.cuda import TorchDevice

        device = TorchDevice()
    trt = load(module)
    gpu = device.facts()
    version = str(getattr(trt, "__version__", ""))
    check_file(Path(engine), built, {"name": module, "version": version, "sm": gpu.get("sm")})
    before = device.used()
    reporter.progress("Loading the engine", 0, 1)
    runner = Runner(trt, Path(engine), device, shape_profile, specialization=specialization)
    reporter.progress("Loading the engine", 1, 1)
    _check_names(runner, shapes or {})
    host = _read(inputs) if inputs else _random(runner, shapes or {}, seed)
    notes = [] if inputs else ["inputs are random; integer inputs are all 1"]
    outputs = runner.bind(host)

    # The first execution compiles kernels in TensorRT for RTX: it is a figure of its own.
    begin = time.perf_counter()
    runner.run()
    device.synchronize()
    first = (time.perf_counter() - begin) * 1e3
    used = max(0, device.used() - before)
    wanted: dict[str, Any] | None = None
    if reference:
        # Before anything is timed: what can't be compared is known now, and loses no measurement.
        reporter.progress("Running the reference", 0, 1)
        wanted = _reference(reference, host, notes)
        if wanted is not None:  # other names or shapes are refused here
            compare({name: device.download(tensor) for name, tensor in outputs.items()}, wanted)
        reporter.progress("Running the reference", 1, 1)
    else:
        notes.append("no reference was given: nothing is known of the outputs' correctness")

    # A graph keeps the kernels it was captured of: the first execution is not the one to capture.
    _warm(device, runner.run, warm_up_ms)
    ways: dict[str, Callable[[], None]] = {"plain": runner.run}
    methods = {"plain": "CUDA events around each execution, queued back to back"}
    if graph:
        try:
            ways["graph"] = device.capture(runner.run)
            methods["graph"] = methods["plain"] + ", replayed as a CUDA graph"
        except Exception as error:  # noqa: BLE001 - whatever CUDA says, the rest can still be measured
            notes.append(f"no CUDA graph: {first_lines(error)}")
    if transfers:
        there, back = device.copies(host, {p.name: runner.bound[p.name] for p in runner.inputs}, outputs)

        def with_copies() -> None:
            there()
            runner.run()
            back()

        ways["transfers"] = with_copies
        methods["transfers"] = methods["plain"] + ", with inputs copied in and outputs copied out, pinned memory"
    if gauge is None:
        gauge = _gauge(device, notes)
    figures: dict[str, Any] = {}
    energy: dict[str, Any] | None = None
    best = "graph" if "graph" in ways else "plain"
    for name, step in ways.items():
        with _Energy(gauge if name == best else None, step) as meter:
            taken = latency(device, meter.step, methods[name], warm_up_ms, duration_ms, name, reporter, gauge)
        figures[name] = {**taken.to_dict(), "percentiles_ms": percentiles(taken.samples)}
        energy = meter.found(name) or energy
    # Of the kernels that were timed, which need not be those of the first execution.
    got = {name: device.download(tensor) for name, tensor in outputs.items()}
    wrong = None if wanted is None else {**compare(got, wanted), "reference": _named(reference or "")}
    layers = []
    if layer_iterations:

        def tell(i: int) -> None:
            reporter.progress("Timing layers", i + 1, layer_iterations)

        rows = runner.layer_times(layer_iterations, tell)
        layers = [{"name": n, "mean_ms": sum(t) / len(t), "median_ms": sorted(t)[len(t) // 2]} for n, t in rows]
    inspection = runner.inspect()
    traced = _kernels(device, runner.run, inspection.layers, notes) if kernels else None
    reached = None
    if ceilings:
        reporter.progress("Measuring what this GPU reaches", 0, 1)
        source = "measured on this GPU: one copy, one square GEMM by torch for each precision"
        try:
            found = device.ceilings()
            reached = {"name": gpu.get("name"), "sm": gpu.get("sm"), **found, "source": source, "measured": True}
        except Exception as error:  # noqa: BLE001 - another process may fill the GPU; the rest was measured
            notes.append(f"not measured what this GPU reaches: {first_lines(error)}")
        reporter.progress("Measuring what this GPU reaches", 1, 1)
    document = {
        "schema": SCHEMA,
        "engine": engine,
        "compiler": {"name": module, "version": version, "validity": runner.validity},
        "device": gpu,
        "machine": machine(),
        "time": time.time(),
        "shapes": {name: list(device.describe(value)[0]) for name, value in host.items()},
        "first_ms": first,
        "latency": figures,
        "layers": layers,
        "layer_iterations": layer_iterations,
        "error": wrong,
        "memory": {**runner.memory(), "used_bytes": used},
        "clocks": gauge.clocks() if gauge is not None else None,
        "energy": energy,
        "kernels": traced,
        "specialization": runner.specialization,
        "ceilings": reached,
        "inspector": {"layers": inspection.layers, "io": inspection.io, "evidence": inspection.evidence},
        "notes": notes,
    }
    _write(document, Path(folder) / file)
    if batches:
        # Last: it binds other inputs, and a batch too many may end the process; what stands above is kept by then.
        document["sweep"] = _sweep(runner, device, batches, seed, (warm_up_ms, duration_ms), graph, reporter)
        _write(document, Path(folder) / file)
    return document


def _write(document: Mapping[str, Any], path: Path) -> None:
    with whole(path) as draft:
        draft.write_text(json.dumps(document, separators=(",", ":"), default=str))


def check_batches(batches: Any) -> None:
    """Refuse what are no batch sizes.

    Raises:
        ConfigError: it is no list of whole numbers from 1.
    """
    if batches is None:
        return
    listed = isinstance(batches, Sequence) and not isinstance(batches, str | bytes)
    wrong = (
        [b for b in batches if isinstance(b, bool) or not isinstance(b, numbers.Integral) or b < 1] if listed else []
    )
    if not listed or wrong:
        said = ", ".join(map(repr, wrong)) if listed else repr(batches)
        raise ConfigError(f"Not a list of batch sizes: {said}." if not listed else f"No batch size: {said}.",
                          hint="Give whole numbers from 1, as in batches=[1, 8, 32].")  # fmt: skip


def _check_names(runner: Any, shapes: Mapping[str, Any]) -> None:
    """Refuse shapes of inputs that the engine does not have."""
    names = [port.name for port in runner.inputs]
    if unknown := [name for name in shapes if name not in names]:
        raise ConfigError(f"Shapes are given for {', '.join(unknown)}; the engine's inputs are {', '.join(names)}.",
                          hint=f'Name an input of the engine, as in shapes={{"{names[0]}": ...}}.')  # fmt: skip


def apply(plan: Plan, document: Mapping[str, Any]) -> Plan:
    """The plan with the measured time of each layer, and all else in ``facts["measured"]``.

    Raises:
        ProfileError: the document is of another engine.
    """
    from workbench.compilers.tensorrt.trtexec import Profile, ProfileRow, join
    from workbench.plan.from_layers import with_times

    count = int(document["layer_iterations"]) or 1
    rows = tuple(
        ProfileRow(r["name"], r["mean_ms"] * count, r["mean_ms"], r["median_ms"], None) for r in document["layers"]
    )
    best = document["latency"].get("graph") or document["latency"]["plain"]
    whole = document["latency"].get("transfers")
    copies = max(0.0, whole["mean_ms"] - document["latency"]["plain"]["mean_ms"]) if whole else 0.0
    measured: dict[str, Any] = {
        "latency": {**best, "compute_mean_ms": best["mean_ms"], "transfers_mean_ms": copies},
        "ways": dict(document["latency"]), "error": document["error"], "device": document["device"],
        "machine": document["machine"], "memory": document["memory"], "notes": document["notes"],
        **{key: document[key] for key in ("shapes", "first_ms", "ceilings", "clocks", "energy") if document.get(key)},
    }  # fmt: skip
    times: list[float | None] = [layer.time_ms for layer in plan.layers]
    if rows:
        joined = join(Profile(count, rows, "the profiler's record"), plan.layers, layers_file="the plan's layers")
        times = [row.mean_ms if row else None for row in joined.rows]
        measured |= {
            "method": "IProfiler, mean per iteration, in a pass of its own", "iterations": count,
            "joined": joined.how, "sum_ms": sum(r.mean_ms for r in rows),
        }  # fmt: skip
    return with_times(plan, times, measured)


def with_layer_times(plan: Plan, times: Sequence[tuple[str, float]]) -> Plan:
    """The plan with the mean milliseconds of its layers, given by name in the order in which they ran.

    Raises:
        ProfileError: they are of another engine.
    """
    from workbench.compilers.tensorrt.trtexec import Profile, ProfileRow, join
    from workbench.plan.from_layers import with_times

    rows = tuple(ProfileRow(name, mean, mean, None, None) for name, mean in times)
    joined = join(Profile(1, rows, "the profiler's record"), plan.layers, layers_file="the plan's layers")
    means = [row.mean_ms if row else None for row in joined.rows]
    return with_times(plan, means, {"method": "IProfiler, mean", "joined": joined.how})


def latency(
    device: Any, step: Callable[[], None], method: str, warm_up: float, duration: float, name: str, reporter: Reporter,
    gauge: Any = None,
) -> Latency:  # fmt: skip
    """Times of `step`: warmed up for `warm_up` ms, measured for `duration` ms and until steady (at most 4 times that).

    `gauge` is asked between two queues of executions, when the GPU has just worked.
    """
    _warm(device, step, warm_up)
    samples: list[float] = []
    spent = 0.0
    settled = False
    phase = f"Measuring latency ({name})"
    while spent < duration or (not settled and spent < 4 * duration):
        found = device.times(step, BATCH)
        samples += found
        spent += max(sum(found), 1e-3)
        settled = steady(samples, window=BATCH)
        if gauge is not None:
            gauge.sample()
        reporter.progress(phase, min(int(spent), int(duration)), int(duration))
    reporter.progress(phase, int(duration), int(duration))
    return Latency(tuple(samples), method, settled)


def _warm(device: Any, step: Callable[[], None], ms: float) -> None:
    """Execute `step` for `ms` milliseconds that do not count."""
    spent = 0.0
    while spent < ms:
        spent += max(sum(device.times(step, BATCH)), 1e-3)


def _gauge(device: Any, notes: list[str]) -> Any:
    """NVML's gauge of the GPU of `device`; None, with a note, where it can't be had."""
    from workbench.hardware.nvml import Gauge

    try:
        return Gauge(uuid=device.uuid())
    except ImportError:
        notes.append("no clocks and no energy: pip install nvidia-ml-py")
    except Exception as error:  # noqa: BLE001 - the library's own errors; a profile does not depend on it
        notes.append(f"no clocks and no energy: {error}")
    return None


class _Energy:
    """Joules by execution of `step`, all of them counted, while it is open. None without a gauge."""

    def __init__(self, gauge: Any, step: Callable[[], None]) -> None:
        self._gauge, self._step = gauge, step
        self._runs = 0
        self._begin: float | None = None
        self._end: float | None = None

    def __enter__(self) -> _Energy:
        self._begin = self._gauge.joules() if self._gauge is not None else None
        return self

    def __exit__(self, *_: object) -> None:
        self._end = self._gauge.joules() if self._gauge is not None else None

    def step(self) -> None:
        self._runs += 1
        self._step()

    def found(self, way: str) -> dict[str, Any] | None:
        """What is kept; None where the GPU does not count energy."""
        if self._begin is None or self._end is None or not self._runs:
            return None
        spent = self._end - self._begin
        return {"way": way, "joules": spent, "runs": self._runs, "joules_per_run": spent / self._runs}


def _kernels(
    device: Any, step: Callable[[], None], layers: Sequence[Mapping[str, Any]], notes: list[str]
) -> dict[str, Any] | None:
    """The kernels of one execution with the layer of each, as far as there is evidence for it.

    A kernel bears the name or the tactic of a layer, or it does not (those of libraries). Where as many kernels ran
    as there are layers on one stream that start one, and no kernel's name speaks against it, they are joined by
    position; else a kernel is joined whose name is of one layer alone. ``joined`` says which, and how many names agree.
    """
    try:
        rows = device.kernels(step)
    except Exception as error:  # noqa: BLE001 - CUPTI may be refused to this user; the rest was measured
        notes.append(f"no kernel names: {first_lines(error)}")
        return None
    from workbench.plan.kinds import layer_kind
    from workbench.plan.plan import HOST

    named: dict[str, list[str]] = {}
    for layer in layers:
        for name in {layer["name"], layer.get("tactic") or ""} - {""}:
            named.setdefault(name, []).append(layer["name"])
    starting = [la["name"] for la in layers if layer_kind(la) not in HOST]
    streams = {la.get("stream", 0) for la in layers if la["name"] in starting}
    if len(starting) == len(rows) and len(streams) == 1:
        known = [(row["name"], layer) for row, layer in zip(rows, starting, strict=True) if row["name"] in named]
        if all(layer in named[name] for name, layer in known):
            joined = [{**row, "layer": layer} for row, layer in zip(rows, starting, strict=True)]
            return {"rows": joined, "joined": f"by position; the names of {len(known)} agree"}
    own = {name: of[0] for name, of in named.items() if len(of) == 1}
    joined = [{**row, "layer": own.get(row["name"])} for row in rows]
    return {"rows": joined, "joined": "by name" if any(row["layer"] for row in joined) else ""}


def _sweep(
    runner: Any,
    device: Any,
    batches: Sequence[int],
    seed: int,
    ms: tuple[float, float],
    graph: bool,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Latency and throughput at several batch sizes; a size that the engine or the GPU does not take says so."""
    rows: list[dict[str, Any]] = []
    for batch in batches:
        row: dict[str, Any] = {"batch": batch}
        rows.append(row)
        try:
            shapes = {name: [batch, *shape[1:]] for name, shape in runner.opt_shapes().items()}
            runner.bind(_random(runner, shapes, seed))
            _warm(device, runner.run, ms[0])
            step, row["way"] = runner.run, "plain"
            if graph:
                with contextlib.suppress(Exception):  # as plain, then
                    step, row["way"] = device.capture(runner.run), "graph"
            taken = latency(device, step, "", *ms, f"batch {batch}", reporter)
        except Exception as error:  # noqa: BLE001 - out of memory, say: the other sizes can still be measured
            row["missing"] = first_lines(error)
            continue
        median = taken.percentile(50)
        row |= {"median_ms": median, "p99_ms": taken.percentile(99), "throughput": batch / median * 1e3}
    return rows


def _random(runner: Any, shapes: Mapping[str, list[int]], seed: int) -> dict[str, Any]:
    import numpy as np

    rng = np.random.default_rng(seed)
    found = {}
    for name, opt in runner.opt_shapes().items():
        shape, dtype = tuple(shapes.get(name, opt)), runner.ports[name].dtype
        if dtype in {"float32", "float16", "bfloat16"}:
            kind: Any = dtype
            if dtype == "bfloat16":
                import ml_dtypes

                kind = ml_dtypes.bfloat16
            found[name] = rng.standard_normal(shape, dtype=np.float32).astype(kind)
        elif dtype in {"int32", "int64", "int8", "uint8", "bool"}:
            found[name] = np.ones(shape, dtype=dtype)
        else:
            raise ConfigError(f"There are no random values of type {dtype or 'unknown'} for input {name}.",
                              hint="Give the inputs as an .npz file.")  # fmt: skip
    return found


def _read(path: str) -> dict[str, Any]:
    import zipfile

    import numpy as np

    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ConfigError(f"{path} holds one array without a name.", hint="np.savez(path, NAME=array)")
        with file:
            return {name: _typed(file[name]) for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} is no .npz file of arrays: {error}.") from None


def _typed(array: Any) -> Any:
    """NumPy writes ml_dtypes' bfloat16 as two bytes without a meaning; nothing else comes as such."""
    if array.dtype.kind != "V" or array.dtype.itemsize != 2:
        return array
    import ml_dtypes

    return array.view(ml_dtypes.bfloat16)


def _reference(path: str, host: Mapping[str, Any], notes: list[str]) -> dict[str, Any] | None:
    """The outputs that are right; None, with a note, where ONNX Runtime can't run the model."""
    if path.endswith(".npz"):
        return _read(path)
    try:
        return _by_onnxruntime(path, host)
    except ImportError:
        notes.append("no reference: pip install onnxruntime")
    except Exception as error:  # noqa: BLE001 - its exceptions have no common base; times can be taken all the same
        notes.append(f"no reference: ONNX Runtime can't run {Path(path).name} on the CPU: {first_lines(error)}")
    return None


def _by_onnxruntime(path: str, host: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
    # The reference may be in FP32 where the engine takes FP16: the same values, widened.
    given = {i.name: np.asarray(host[i.name]).astype(types.get(i.type, np.asarray(host[i.name]).dtype))
             for i in session.get_inputs() if i.name in host}  # fmt: skip
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def _named(reference: str) -> str:
    return f"{Path(reference).name}" + ("" if reference.endswith(".npz") else ", ONNX Runtime on the CPU")
