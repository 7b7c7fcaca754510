"""A loaded engine (`workbench.measure.runner.Runner`), executed on the CPU with NumPy arrays."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.compilers.onnxruntime import sessions, trace
from workbench.core.errors import BuildError, ConfigError, first_lines
from workbench.hardware.host import HostDevice
from workbench.measure.runner import Port, check_inputs
from workbench.model.graph import Graph
from workbench.model.onnx_file import read_graph
from workbench.precision.ort_errors import ways_out

_WARM_UP = 3
"""Executions with the profiler that do not count."""


class OrtRunner:
    """An engine in a session of ONNX Runtime.

    Args:
        ort: The module.
        engine: The engine's file; ``record.json`` beside it tells its shape profiles and threads.
        shape_profile: Which shape profile inputs must fit.

    Raises:
        BuildError: ONNX Runtime refuses the file.
        ConfigError: there is no such shape profile.
    """

    def __init__(self, ort: Any, engine: Path, shape_profile: int = 0) -> None:
        record = _record(engine)
        self._threads: int | None = record.get("facts", {}).get("threads")
        self._ort, self._engine, self._profile = ort, engine, shape_profile
        self.device = HostDevice()
        self.cached = 0
        self._session = sessions.open_engine(ort, engine, self._threads)
        ranges = _ranges(record)
        most = max((len(each) for each in ranges.values()), default=0)
        if not 0 <= shape_profile < max(1, most):
            raise ConfigError(
                f"The engine has no shape profile {shape_profile}.",
                hint=f"It has {max(1, most)}, numbered from 0.",
                code="no-shape-profile",
            )
        self.inputs = tuple(_port(each, ranges) for each in self._session.get_inputs())
        self.outputs = tuple(_port(each, None) for each in self._session.get_outputs())
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._memory: dict[str, int] = {}
        self._profiler: dict[str, Any] | None = None

    def opt_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each input that the engine was built for; 1 for dimensions that are open in all profiles."""
        return {
            p.name: p.ranges[self._profile][1] if p.ranges else tuple(1 if d < 0 else d for d in p.shape)
            for p in self.inputs
        }

    def output_shapes(self, given: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and data type of each output, where they do not depend on the inputs.

        Raises:
            ConfigError: the inputs do not fit, or a shape is open.
        """
        check_inputs(self.inputs, given, lambda v: (tuple(v.shape), str(v.dtype)), self._profile)
        open_ = [p.name for p in self.outputs if -1 in p.shape]
        if open_:
            raise ConfigError(f"The shape of output {open_[0]} is known only once it is computed.", code="open-output")
        return {p.name: (p.shape, p.dtype) for p in self.outputs}

    def bind(
        self, given: Mapping[str, Any], *, finite: bool = True, into: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Set the inputs.

        Args:
            given: NumPy arrays by name.
            finite: Refuse inputs that hold NaN or infinity.
            into: Not used: ONNX Runtime allocates the outputs.

        Returns:
            The outputs by name: empty until `run`, since shapes may depend on values. Each `run` replaces them.

        Raises:
            ConfigError: the inputs do not fit the engine.
        """
        del into
        check_inputs(self.inputs, given, self.device.describe, self._profile)
        bound = {}
        for port in self.inputs:
            array = self.device.upload(given[port.name], port.dtype)
            if finite and array.dtype.kind not in "iub" and not self.device.finite(array):
                raise ConfigError(
                    f"Input {port.name} holds NaN or infinity.",
                    hint="Open the engine with finite=False to allow them.",
                    code="not-finite",
                )
            bound[port.name] = array
        self._inputs, self._outputs = bound, {}
        return self._outputs

    def bound_inputs(self) -> dict[str, Any]:
        """The inputs' arrays, by name."""
        return dict(self._inputs)

    def starts_kernel(self, layer: Mapping[str, Any]) -> bool:
        """Never: it runs on the CPU."""
        del layer
        return False

    def release(self) -> None:
        """Let go of the inputs and outputs."""
        self._inputs, self._outputs = {}, {}

    def run(self) -> None:
        """Execute once, and wait.

        Raises:
            BuildError: ONNX Runtime fails.
        """
        self._outputs.update(self._execute(self._session))

    def _execute(self, session: Any) -> dict[str, Any]:
        names = [port.name for port in self.outputs]
        try:
            return dict(zip(names, session.run(names, self._inputs), strict=True))
        except Exception as error:  # noqa: BLE001 - its exceptions have no common base
            code, hint = ways_out(error)
            raise BuildError(
                f"ONNX Runtime could not run the engine: {first_lines(error)}", hint=hint, code=code or "ort-run"
            ) from None

    def layer_times(
        self, iterations: int, step: Callable[[int], None] = lambda _: None
    ) -> list[tuple[str, list[float]]]:
        """Milliseconds of each node in each iteration, in the order of execution, by ONNX Runtime's own profiler.

        Executions with and without the profiler alternate, so that `facts` can say what the profiler costs. Both use
        sessions of their own. A node that did not run (in a branch that was not taken) has zeros.

        Args:
            iterations: How many executions.
            step: Called with the number of each finished execution.
        """
        graph = Graph(read_graph(self._engine))
        spent: dict[str, list[float]] = {"plain": [], "profiled": []}
        with tempfile.TemporaryDirectory(prefix="workbench-ort-") as folder:
            profiled = sessions.open_engine(self._ort, self._engine, self._threads, profile=Path(folder) / "trace")
            for i in range(iterations + _WARM_UP):
                for way, session in (("plain", self._session), ("profiled", profiled)):
                    begin = time.perf_counter()
                    self._execute(session)
                    spent[way].append((time.perf_counter() - begin) * 1e3)
                if i >= _WARM_UP:
                    step(i - _WARM_UP)
            events = json.loads(Path(profiled.end_profiling()).read_text())
        owners = [n.id for n in graph.nodes if n.id in graph.bodies]
        found, facts = trace.node_times(events, skip=_WARM_UP, owners=owners)
        self._memory = trace.memory(facts)
        medians = {way: statistics.median(each[_WARM_UP:]) for way, each in spent.items()}
        self._profiler = {
            "plain_median_ms": medians["plain"],
            "profiled_median_ms": medians["profiled"],
            "iterations": iterations,
            "resolution_ms": 0.001,
        }
        times = dict(found)
        names = [node.id for node in graph.nodes]
        return [(name, times.get(name, [0.0] * iterations)) for name in names]

    def memory(self) -> dict[str, int]:
        """Bytes that ONNX Runtime's arena reports, after `layer_times`, where this version of it does."""
        return dict(self._memory)

    def facts(self) -> dict[str, Any]:
        """What a profile keeps beside the times.

        ``compiler``; ``layer_method`` and ``layer_statistic``, how nodes are timed; and ``profiler``, after `layer_times`:
        the medians of whole executions with and without the profiler, which alternate.
        """
        return {
            "compiler": {"name": "onnxruntime", "version": str(self._ort.__version__)},
            "layer_method": "ONNX Runtime's profiler, median of executions that alternate with others without it",
            "layer_statistic": "median",
            **({"profiler": self._profiler} if self._profiler is not None else {}),
        }

    def save_cache(self, path: Path) -> int:
        """Nothing to keep: ONNX Runtime compiles no kernels."""
        del path
        return 0


def _record(engine: Path) -> dict[str, Any]:
    """The record beside an engine; empty where the engine was copied without it."""
    try:
        found: dict[str, Any] = json.loads((engine.parent / "record.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def _ranges(record: Mapping[str, Any]) -> dict[str, Any]:
    """min, opt and max shape of each shape profile, by input."""
    return {
        entry["name"]: tuple((tuple(p["min"]), tuple(p["opt"]), tuple(p["max"])) for p in entry["profiles"])
        for entry in record.get("io", ())
        if entry.get("profiles")
    }


def _port(found: Any, ranges: Mapping[str, Any] | None) -> Port:
    sizes = tuple(d if isinstance(d, int) and d >= 0 else -1 for d in found.shape or ())
    spans = () if ranges is None or -1 not in sizes else ranges.get(found.name, ())
    return Port(found.name, ranges is not None, sessions.dtype_of(found.type), sizes, spans)
