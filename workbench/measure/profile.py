"""Measure an engine of any compiler, in a worker.

Latency is measured around each execution, after a warm-up and until the series is steady. On a GPU it is measured between
CUDA events, without and with a CUDA graph, and optionally with the copies of inputs and outputs. Layers are timed in a
separate pass, because that slows down the execution. The outputs for the same inputs are compared with a reference, and
the error is stored with the times.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.core.errors import ConfigError, first_lines
from workbench.core.store import replacing
from workbench.hardware.device import GraphDevice
from workbench.hardware.machine import machine
from workbench.measure.accuracy import compare
from workbench.measure.inputs import (
    check_batches,
    check_names,
    random_inputs,
    read_arrays,
    reference_name,
    reference_outputs,
)
from workbench.measure.latency import measured_latency, percentiles, warm_up_with

if TYPE_CHECKING:
    from workbench.core.worker import Reporter
    from workbench.hardware.device import Device
    from workbench.hardware.nvml import Gauge
    from workbench.measure.document import (
        KernelDocument,
        KernelsDocument,
        LayerTimeDocument,
        Profile,
        ProfiledDevice,
        SweepDocument,
    )
    from workbench.measure.runner import Runner
    from workbench.plan.measured import CeilingsDocument, EnergyDocument, ErrorDocument, LatencyDocument


def check_options(
    *, warm_up_ms: float = 0.0, duration_ms: float = 1.0, layer_iterations: int = 0, batches: Sequence[int] | None = None,
    **others: Any,
) -> None:  # fmt: skip
    """Check that `profile` has these options, and that their numbers are valid.

    Raises:
        ConfigError: there is no such option, a time or count is too small or not finite, or `batches` is not a list of batch
            sizes.
    """
    known = [name for name, p in inspect.signature(profile).parameters.items() if p.kind is p.KEYWORD_ONLY]
    if unknown := [name for name in others if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, 1)
        raise ConfigError(
            f"Profiles of this compiler have no option {unknown[0]}.",
            hint=f"Did you mean {near[0]}?" if near else f"The options are {', '.join(sorted(known))}.",
            code="unknown-option",
        )
    check_batches(batches)
    for name, value, least in (
        ("warm_up_ms", warm_up_ms, 0),
        ("duration_ms", duration_ms, 1),
        ("layer_iterations", layer_iterations, 0),
    ):
        if not least <= value < float("inf"):
            raise ConfigError(f"{name} is {value}.", hint=f"Give a number of at least {least}.")


def profile(
    reporter: Reporter,
    device: Device,
    open_engine: Callable[[], Runner],
    *,
    engine: str,
    folder: str,
    file: str = "profile.json",
    inputs: str | None = None,
    shapes: Mapping[str, list[int]] | None = None,
    reference: str | None = None,
    warm_up_ms: float = 200.0,
    duration_ms: float = 1000.0,
    layer_iterations: int = 20,
    graph: bool = True,
    transfers: bool = False,
    batches: Sequence[int] | None = None,
    kernels: bool = True,
    ceilings: bool = True,
    seed: int = 0,
    gauge: Gauge | None = None,
) -> Profile:
    """Measure an engine, and write the profile into `folder`.

    A compiler's `profile_task` calls this with its own device and runner; it takes the keyword arguments and may add some.

    Args:
        reporter: Receives progress.
        device: The device that executes the engine. GPU measurements (CUDA graphs, copies, kernels, ceilings, clocks) are
            skipped on other devices.
        open_engine: Opens the engine; called once, so that its memory use can be measured.
        engine: Path of the engine.
        folder: Folder for the profile; created if absent.
        file: The profile's file name.
        inputs: An .npz file of inputs by name; random values by default, integers all 1.
        shapes: Shapes of random inputs; those that the engine was tuned for by default.
        reference: The outputs to compare with: an .npz file by name, or an ONNX file, run by ONNX Runtime on the CPU.
        warm_up_ms: Milliseconds of executions that do not count.
        duration_ms: Minimum duration of each latency measurement; up to four times as long until it is steady.
        layer_iterations: Executions in which layers are timed; 0 for none.
        graph: Also measure in a CUDA graph.
        transfers: Also measure with copies of inputs and outputs.
        batches: Also measure at these sizes of the first dimension of every input (for an engine with dynamic shapes).
        kernels: Also find the kernels of the layers with torch.profiler, in a separate pass.
        ceilings: Also measure the peaks of this GPU: one copy, one GEMM for each precision; about a second.
        seed: Seed of the random inputs.
        gauge: Clocks and energy; `workbench.hardware.nvml.Gauge` by default, where NVML is available.

    Returns:
        The profile, with what `Runner.facts` adds.

    Raises:
        BuildError: the engine can't run here; the message gives the reason.
        ConfigError: inputs, shapes or reference do not fit the engine, or an option is out of range.
    """
    check_options(warm_up_ms=warm_up_ms, duration_ms=duration_ms, layer_iterations=layer_iterations, batches=batches)
    about = device.facts()
    gpu = device if isinstance(device, GraphDevice) else None
    before = device.used()
    reporter.progress("Loading the engine", 0, 1)
    runner = open_engine()
    reporter.progress("Loading the engine", 1, 1)
    check_names(runner, shapes or {})
    host = read_arrays(inputs) if inputs else random_inputs(runner, shapes or {}, seed)
    notes = [] if inputs else ["inputs are random; integer inputs are all 1"]
    outputs = runner.bind(host)

    # Some compilers compile kernels in the first execution: it is measured separately.
    begin = time.perf_counter()
    runner.run()
    device.synchronize()
    first = (time.perf_counter() - begin) * 1e3
    used = max(0, device.used() - before)
    wanted: dict[str, Any] | None = None
    if reference:
        # Run the reference before timing, so that a reference that does not fit fails early.
        reporter.progress("Running the reference", 0, 1)
        wanted = reference_outputs(reference, host, notes)
        if wanted is not None:  # raises an error for other names or shapes
            compare({name: device.download(tensor) for name, tensor in outputs.items()}, wanted)
        reporter.progress("Running the reference", 1, 1)
    else:
        notes.append("no reference was given: it is unknown whether the outputs are correct")

    # A CUDA graph keeps the kernels that it was captured with, so do not capture the first execution.
    warm_up_with(device, runner.run, warm_up_ms)
    ways: dict[str, Callable[[], None]] = {"plain": runner.run}
    methods = {"plain": device.clock}
    if graph and gpu is not None:
        try:
            ways["graph"] = gpu.capture(runner.run)
            methods["graph"] = methods["plain"] + ", replayed as a CUDA graph"
        except Exception as error:  # noqa: BLE001 - after any CUDA error, the rest can still be measured
            notes.append(f"no CUDA graph: {first_lines(error)}")
    if transfers and gpu is not None:
        there, back = gpu.copies(host, runner.bound_inputs(), outputs)

        def with_copies() -> None:
            there()
            runner.run()
            back()

        ways["transfers"] = with_copies
        methods["transfers"] = methods["plain"] + ", with inputs copied in and outputs copied out, pinned memory"
    if gauge is None and gpu is not None:
        gauge = _gauge(gpu, notes)
    figures: dict[str, LatencyDocument] = {}
    energy: EnergyDocument | None = None
    best = "graph" if "graph" in ways else "plain"
    for name, step in ways.items():
        with _Energy(gauge if name == best else None, step) as meter:
            taken = measured_latency(device, meter.step, methods[name], warm_up_ms, duration_ms, name, reporter, gauge)
        figures[name] = {**taken.to_dict(), "percentiles_ms": percentiles(taken.samples)}
        energy = meter.found(name) or energy
    # These are the timed kernels, which may differ from those of the first execution.
    got = {name: device.download(tensor) for name, tensor in outputs.items()}
    wrong: ErrorDocument | None = None
    if wanted is not None:
        wrong = {**compare(got, wanted), "reference": reference_name(reference or "")}
    layers: list[LayerTimeDocument] = []
    if layer_iterations:

        def tell(i: int) -> None:
            reporter.progress("Timing layers", i + 1, layer_iterations)

        rows = runner.layer_times(layer_iterations, tell)
        layers = [{"name": n, "mean_ms": sum(t) / len(t), "median_ms": sorted(t)[len(t) // 2]} for n, t in rows]
    facts = runner.facts()
    traced = _kernels(gpu, runner, facts, notes) if kernels and gpu is not None else None
    reached: CeilingsDocument | None = None
    if ceilings and gpu is not None:
        reporter.progress("Measuring the peaks of this GPU", 0, 1)
        source = "measured on this GPU: one copy, one square GEMM by torch for each precision"
        try:
            found = gpu.ceilings()
            reached = {
                "name": about.get("name"), "sm": about.get("sm"), "bandwidth": found["bandwidth"],
                "peaks": found["peaks"], "source": source, "measured": True,
            }  # fmt: skip
        except Exception as error:  # noqa: BLE001 - another process may fill the GPU; the rest was measured
            notes.append(f"the peaks of this GPU were not measured: {first_lines(error)}")
        reporter.progress("Measuring the peaks of this GPU", 1, 1)
    document: Profile = {
        "schema": "workbench.profile/1",
        "engine": engine,
        "device": cast("ProfiledDevice", about),
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
        "ceilings": reached,
        "notes": notes,
    }
    document.update(cast("Profile", facts))
    _write(document, Path(folder) / file)
    if batches:
        # Last, because it binds other inputs, and too large a batch may end the process; the rest is then already written.
        document["sweep"] = _sweep(runner, device, batches, seed, (warm_up_ms, duration_ms), graph, reporter)
        _write(document, Path(folder) / file)
    return document


def _write(document: Profile, path: Path) -> None:
    with replacing(path) as draft:
        draft.write_text(json.dumps(document, separators=(",", ":"), default=str))


def _gauge(device: GraphDevice, notes: list[str]) -> Gauge | None:
    """NVML's gauge of the GPU of `device`; None, with a note, if it is not available."""
    from workbench.hardware.nvml import Gauge

    try:
        return Gauge(uuid=device.uuid())
    except ImportError:
        notes.append("no clocks and no energy: pip install nvidia-ml-py")
    except Exception as error:  # noqa: BLE001 - errors of the library; a profile does not depend on it
        notes.append(f"no clocks and no energy: {error}")
    return None


class _Energy:
    """Joules per execution of `step` while this context is open; None without a gauge."""

    def __init__(self, gauge: Gauge | None, step: Callable[[], None]) -> None:
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

    def found(self, way: str) -> EnergyDocument | None:
        """The result to store; None if the GPU does not count energy."""
        if self._begin is None or self._end is None or not self._runs:
            return None
        spent = self._end - self._begin
        return {"way": way, "joules": spent, "runs": self._runs, "joules_per_run": spent / self._runs}


def _kernels(device: GraphDevice, runner: Runner, facts: Mapping[str, Any], notes: list[str]) -> KernelsDocument | None:
    """The kernels of one execution and the layer of each, if there is evidence for it.

    A kernel has the name or the tactic of a layer, or neither (kernels of libraries). Kernels are joined by position if
    their number equals the number of layers on one stream that start a kernel, and no kernel's name contradicts this.
    Otherwise a kernel is joined if its name belongs to exactly one layer. ``joined`` states the method, and how many
    names agree.
    """
    try:
        rows = device.kernels(runner.run)
    except Exception as error:  # noqa: BLE001 - this user may lack permission for CUPTI; the rest was measured
        notes.append(f"no kernel names: {first_lines(error)}")
        return None
    layers = (facts.get("inspector") or {}).get("layers") or []
    named: dict[str, list[str]] = {}
    for layer in layers:
        for name in {layer["name"], layer.get("tactic") or ""} - {""}:
            named.setdefault(name, []).append(layer["name"])
    starting = [la["name"] for la in layers if runner.starts_kernel(la)]
    streams = {la.get("stream", 0) for la in layers if la["name"] in starting}
    if len(starting) == len(rows) and len(streams) == 1:
        known = [(row["name"], layer) for row, layer in zip(rows, starting, strict=True) if row["name"] in named]
        if all(layer in named[name] for name, layer in known):
            by_place: list[KernelDocument] = [
                {"name": row["name"], "ms": row["ms"], "layer": layer}
                for row, layer in zip(rows, starting, strict=True)
            ]
            return {"rows": by_place, "joined": f"by position; the names of {len(known)} agree"}
    own = {name: of[0] for name, of in named.items() if len(of) == 1}
    joined: list[KernelDocument] = [
        {"name": row["name"], "ms": row["ms"], "layer": own.get(row["name"])} for row in rows
    ]
    return {"rows": joined, "joined": "by name" if any(row["layer"] for row in joined) else ""}


def _sweep(
    runner: Runner,
    device: Device,
    batches: Sequence[int],
    seed: int,
    ms: tuple[float, float],
    graph: bool,
    reporter: Reporter,
) -> list[SweepDocument]:
    """Latency and throughput at several batch sizes; an unsupported size gives its error."""
    rows: list[SweepDocument] = []
    for batch in batches:
        row: SweepDocument = {"batch": batch}
        rows.append(row)
        try:
            shapes = {name: [batch, *shape[1:]] for name, shape in runner.opt_shapes().items()}
            runner.bind(random_inputs(runner, shapes, seed))
            warm_up_with(device, runner.run, ms[0])
            step, row["way"] = runner.run, "plain"
            if graph and isinstance(device, GraphDevice):
                with contextlib.suppress(Exception):  # then measured without a graph
                    step, row["way"] = device.capture(runner.run), "graph"
            taken = measured_latency(device, step, "", *ms, f"batch {batch}", reporter)
        except Exception as error:  # noqa: BLE001 - for example out of memory: the other sizes can still be measured
            row["missing"] = first_lines(error)
            continue
        median = taken.percentile(50)
        row |= {"median_ms": median, "p99_ms": taken.percentile(99), "throughput": batch / median * 1e3}
    return rows
