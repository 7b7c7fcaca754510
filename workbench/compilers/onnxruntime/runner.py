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
from workbench.core.errors import BuildError, first_lines
from workbench.measure.host_runner import HostRunner
from workbench.measure.runner import Port
from workbench.model.graph import Graph
from workbench.model.onnx_file import read_graph
from workbench.precision.ort_errors import ways_out

_WARM_UP = 3
"""Warm-up executions with the profiler, which do not count."""


class OrtRunner(HostRunner):
    """An engine in a session of ONNX Runtime.

    Args:
        ort: The module.
        engine: The engine's file; ``record.json`` next to it has its shape profiles and threads.
        shape_profile: Which shape profile inputs must fit.

    Raises:
        BuildError: ONNX Runtime refuses the file.
        ConfigError: there is no such shape profile.
    """

    def __init__(self, ort: Any, engine: Path, shape_profile: int = 0) -> None:
        record = _record(engine)
        self._threads: int | None = record.get("facts", {}).get("threads")
        self._order = [layer["name"] for layer in record.get("layers", ())]
        self._ort, self._engine = ort, engine
        self._session = sessions.open_engine(ort, engine, self._threads)
        ranges = _ranges(record)
        self._memory: dict[str, int] = {}
        self._profiler: dict[str, Any] | None = None
        super().__init__(
            [_port(each, ranges) for each in self._session.get_inputs()],
            [_port(each, None) for each in self._session.get_outputs()],
            {"name": "onnxruntime", "version": str(ort.__version__)},
            shape_profile,
        )

    def execute(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Run the engine once.

        Raises:
            BuildError: ONNX Runtime fails.
        """
        return self._execute(self._session, arrays)

    def _execute(self, session: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
        names = [port.name for port in self.outputs]
        try:
            return dict(zip(names, session.run(names, dict(arrays)), strict=True))
        except Exception as error:  # noqa: BLE001 - its exceptions have no common base
            code, hint = ways_out(error)
            raise BuildError(
                f"ONNX Runtime could not run the engine: {first_lines(error)}", hint=hint, code=code or "ort-run"
            ) from None

    def layer_times(
        self, iterations: int, step: Callable[[int], None] = lambda _: None
    ) -> list[tuple[str, list[float]]]:
        """Milliseconds of each node in each iteration, in the order of execution, by ONNX Runtime's profiler.

        Executions with and without the profiler alternate, so that `facts` can report the profiler's overhead. Each uses
        its own session. A node that did not run (in a branch that was not taken) has zeros.

        Args:
            iterations: How many executions.
            step: Called with the number of each finished execution.
        """
        graph = Graph(read_graph(self._engine))
        arrays = self.bound_inputs()
        spent: dict[str, list[float]] = {"plain": [], "profiled": []}
        with tempfile.TemporaryDirectory(prefix="workbench-ort-") as folder:
            profiled = sessions.open_engine(self._ort, self._engine, self._threads, profile=Path(folder) / "trace")
            for i in range(iterations + _WARM_UP):
                for way, session in (("plain", self._session), ("profiled", profiled)):
                    begin = time.perf_counter()
                    self._execute(session, arrays)
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
        names = self._order or [node.id for node in graph.nodes]
        if [name for name in names if name in times] != list(times):  # the order differs from the plan's
            names = [*times, *(name for name in names if name not in times)]
        return [(name, times.get(name, [0.0] * iterations)) for name in names]

    def memory(self) -> dict[str, int]:
        """Bytes that ONNX Runtime's arena reports, after `layer_times`, if this version reports them."""
        return dict(self._memory)

    def facts(self) -> dict[str, Any]:
        """What a profile keeps in addition to the times.

        ``compiler``; ``layer_method`` and ``layer_statistic``, how nodes are timed; and ``profiler``, after `layer_times`:
        the medians of whole executions with and without the profiler, which alternate.
        """
        return {
            **super().facts(),
            "layer_method": "ONNX Runtime's profiler, median of executions that alternate with others without it",
            "layer_statistic": "median",
            **({"profiler": self._profiler} if self._profiler is not None else {}),
        }


def _record(engine: Path) -> dict[str, Any]:
    """The record next to an engine; empty if the engine was copied without it."""
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
