"""The tasks, which run in worker processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator

from workbench.compilers.config import BuildConfig
from workbench.core.errors import BuildError
from workbench.core.worker import Reporter
from workbench.hardware.host import HostDevice
from workbench.measure import profile as measuring
from workbench.measure import serve as serving
from workbench.measure.host_runner import HostRunner
from workbench.measure.runner import Port
from workbench.model.graph import Graph, Tensor
from workbench.model.onnx_file import read_graph


def build(reporter: Reporter, *, model: str, config: dict[str, Any], folder: str, cache: str) -> dict[str, Any]:
    """Save the model with its weights as the engine; each node is one layer."""
    begin = time.perf_counter()
    wanted = BuildConfig.from_dict(config)
    place = Path(folder)
    try:
        made = onnx.load(model)
        ReferenceEvaluator(made)
    except Exception as error:  # noqa: BLE001 - its exceptions have no common base
        raise BuildError(f"ONNX's reference evaluator refused the model: {error}") from None
    ranges = {n: r for p in wanted.profiles for n, r in p.inputs.items()}
    graph = Graph(read_graph(Path(model))).at({n: r.opt for n, r in ranges.items()}, {})

    def tensor(found: Tensor) -> dict[str, Any]:
        shape = [d if isinstance(d, int) else -1 for d in found.shape or ()]
        return {"name": found.name, "shape": shape, "strides": None, "dtype": found.dtype, "format": ""}

    layers = []
    nodes = [node for node in graph.nodes if node.parent is None]
    for i, node in enumerate(nodes):
        reporter.progress("Reading nodes", i + 1, len(nodes))
        names = [name for name in node.inputs if name]
        layers.append({
            "name": node.id, "type": node.op, "nodes": [node.id], "tactic": "", "stream": 0, "event": None, "metadata": "",
            "inputs": [tensor(graph.tensor(n)) for n in names if n not in graph.constants],
            "constants": [tensor(graph.tensor(n)) for n in names if n in graph.constants],
            "outputs": [tensor(graph.tensor(n)) for n in node.outputs if n],
        })  # fmt: skip
    io = []
    for mode, names in (("input", graph.inputs), ("output", graph.outputs)):
        for name in names:
            found = tensor(graph.tensor(name))
            profiles = [
                {"min": list(r.min), "opt": list(r.opt), "max": list(r.max)} for n, r in ranges.items() if n == name
            ]
            io.append(
                {"name": name, "mode": mode, "dtype": found["dtype"], "shape": found["shape"], "profiles": profiles}
            )
    onnx.save(made, str(place / "engine"))
    (place / "ports.json").write_text(json.dumps(io))
    (place / "build.log").write_text(f"{len(layers)} nodes\n")
    seconds = time.perf_counter() - begin
    record = {
        "compiler": {"name": "onnx_reference", "version": onnx.__version__, "target": wanted.target},
        "seconds": {"load": 0.0, "parse": 0.0, "build": seconds, "total": seconds}, "layers": layers, "io": io,
        "tensors": {}, "facts": {}, "warnings": [], "engine_bytes": (place / "engine").stat().st_size,
    }  # fmt: skip
    (place / "record.json").write_text(json.dumps(record))
    return {"seconds": seconds}


class Evaluator(HostRunner):
    """An engine: the model, in ONNX's reference evaluator."""

    def __init__(self, engine: Path, shape_profile: int = 0) -> None:
        proto = onnx.load(str(engine))
        self._evaluator = ReferenceEvaluator(proto)
        graph = Graph(read_graph(engine))
        ranges = {io["name"]: io["profiles"] for io in json.loads((engine.parent / "ports.json").read_text())}

        def port(name: str, is_input: bool) -> Port:
            found = graph.tensor(name)
            shape = tuple(d if isinstance(d, int) else -1 for d in found.shape or ())
            limits = tuple(tuple(tuple(r[k]) for k in ("min", "opt", "max")) for r in ranges[name])
            return Port(name, is_input, found.dtype, shape, limits)  # type: ignore[arg-type]

        super().__init__(
            [port(n, True) for n in graph.inputs], [port(n, False) for n in graph.outputs],
            {"name": "onnx_reference", "version": onnx.__version__}, shape_profile,
        )  # fmt: skip

    def execute(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        names = [port.name for port in self.outputs]
        return dict(zip(names, self._evaluator.run(names, dict(arrays)), strict=True))

    def layer_times(
        self, iterations: int, step: Callable[[int], None] = lambda _: None
    ) -> list[tuple[str, list[float]]]:
        rows: dict[str, list[float]] = {}
        for i in range(iterations):
            values = {"": None, **self.bound_inputs(), **self._evaluator.rt_inits_}
            for node in self._evaluator.rt_nodes_:
                begin = time.perf_counter()
                found = node.run(*[values[name] for name in node.input])
                rows.setdefault(node.onnx_node.name, []).append((time.perf_counter() - begin) * 1e3)
                values.update(zip(node.output, found, strict=True))
            step(i)
        return list(rows.items())


def open_runner(*, engine: str, shape_profile: int = 0, **_: Any) -> Evaluator:
    """Open an engine in this process."""
    return Evaluator(Path(engine), shape_profile)


def serve(
    reporter: Reporter, *, engine: str, built: Mapping[str, Any], shape_profile: int, cache: str | None, finite: bool
) -> dict[str, Any]:
    """Open an engine and execute it until asked to close."""
    return serving.serve(reporter, open_runner(engine=engine, shape_profile=shape_profile), finite=finite)


def profile(
    reporter: Reporter, *, engine: str, built: Mapping[str, Any], shape_profile: int = 0, **options: Any
) -> dict[str, Any]:
    """Measure an engine."""
    device = HostDevice()
    return measuring.profile(
        reporter, device, lambda: open_runner(engine=engine, shape_profile=shape_profile), engine=engine, **options
    )
