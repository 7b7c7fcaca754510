"""A compiler for tests, demos and documentation: deterministic and quick.

It only fuses a chain of pointwise operations into the operation before it. Its engines can't run.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from workbench.compilers.base import Ability, CompilerInfo
from workbench.compilers.config import BuildConfig, check_targets
from workbench.compilers.options import Options
from workbench.core.errors import BuildError
from workbench.core.worker import Reporter
from workbench.hardware.target import CURRENT, DEFAULT_GPU, GPUS
from workbench.plan.document import Mode, SecondsDocument
from workbench.plan.record import LayerRecord, Record, TensorRecord

TARGETS = (*GPUS, CURRENT)


class FakeOptions(Options):
    """How the fake compiler misbehaves."""

    flags: tuple[str, ...] = Field(
        (),
        description="crash, hang, fail or full: the build fails in that way. Any other name only makes another engine.",
    )


class Fake:
    """The fake compiler."""

    name = "fake"
    options = FakeOptions
    evidence = "reported"
    build_task = "workbench.compilers.fake:build"
    preload: tuple[str, ...] = ("workbench.compilers.fake",)

    def version(self) -> str:
        """Increase this number when the fusion rule changes."""
        return "1"

    def describe(self) -> CompilerInfo:
        """It builds on every machine. Its engines can't run."""
        can = frozenset({Ability.BUILD})
        missing = dict.fromkeys(
            (Ability.RUN, Ability.PROFILE, Ability.REFIT), "the fake compiler makes nothing that runs"
        )
        return CompilerInfo("fake", self.version(), TARGETS, can, missing)

    def complete(self, config: BuildConfig) -> BuildConfig:
        """The target is sm89 if none is named."""
        config = config.replace(compiler="fake", targets=config.targets or (DEFAULT_GPU,))
        check_targets(config, TARGETS)
        return config

    def arguments(self) -> dict[str, Any]:
        """No additional arguments."""
        return {}


def compiler() -> Fake:
    """The compiler, for the registry."""
    return Fake()


def build(
    reporter: Reporter,
    *,
    model: str,
    config: dict[str, Any],
    folder: str,
    cache: str | None = None,  # noqa: ARG001 - it measures nothing that could be kept
) -> dict[str, Any]:
    """Fuse pointwise chains. ``flags`` in the config make it misbehave: crash, hang, fail, full."""
    from workbench.model.cost import node_cost
    from workbench.model.cost_rules import POINTWISE, VIEWS
    from workbench.model.graph import Graph
    from workbench.model.node import Tensor
    from workbench.model.onnx_file import read_graph

    begin = time.perf_counter()
    wanted = BuildConfig.from_dict(config)
    flags = wanted.option("flags", ())
    if "crash" in flags:
        os.kill(os.getpid(), signal.SIGSEGV)
    while "hang" in flags:
        reporter.progress("Hanging", 0, 1)
        time.sleep(0.05)
    (Path(folder) / "build.log").write_text(f"building {Path(model).name}\n")
    if "fail" in flags:
        raise BuildError("The fake compiler failed as requested.", hint="Remove the flag fail.")
    if "full" in flags:
        raise OSError(28, "No space left on device")
    shapes = {n: r.opt for p in wanted.profiles for n, r in p.inputs.items()}
    values = {n: r.opt for p in wanted.profiles for n, r in p.values.items()}
    graph = Graph(read_graph(Path(model))).at(shapes, values)

    def record(tensor: Tensor) -> TensorRecord:
        return {"name": tensor.name, "shape": [d if isinstance(d, int) else -1 for d in tensor.shape or ()],
                "strides": None, "dtype": tensor.dtype, "format": "Row major linear"}  # fmt: skip

    layers: list[LayerRecord] = []
    owner: dict[str, int] = {}
    nodes = [n for n in graph.nodes if n.parent is None]
    for i, node in enumerate(nodes):
        reporter.progress("Fusing", i + 1, len(nodes))
        if not node_cost(graph, node).launches and node.op not in VIEWS:
            continue
        before = owner.get(node.inputs[0]) if node.inputs else None
        alone = bool(node.inputs) and len(graph.consumers.get(node.inputs[0], [])) == 1
        if node.op in POINTWISE and before is not None and alone and node.inputs[0] not in graph.outputs:
            layer = layers[before]
            layer["nodes"].append(node.id)
            layer["name"] += f"+{node.id}"
            place = before
        else:
            place = len(layers)
            layers.append({"name": node.id, "type": "fake", "nodes": [node.id], "tactic": "", "stream": 0,
                           "event": None, "metadata": "", "inputs": [], "constants": [], "outputs": []})  # fmt: skip
            layer = layers[place]
        for name in node.inputs:
            if not name or owner.get(name) == place:
                continue
            layer["constants" if name in graph.constants else "inputs"].append(record(graph.tensor(name)))
        layer["outputs"] = [record(graph.tensor(name)) for name in node.outputs if name]
        owner.update(dict.fromkeys(node.outputs, place))
    seconds: SecondsDocument = {
        "load": 0.0,
        "parse": 0.0,
        "build": time.perf_counter() - begin,
        "total": time.perf_counter() - begin,
    }
    ports: list[tuple[Mode, list[str]]] = [("input", list(graph.inputs)), ("output", list(graph.outputs))]
    out: Record = {
        "compiler": {"name": "fake", "version": "1", "target": wanted.target},
        "seconds": seconds, "layers": layers,
        "io": [{"name": n, "mode": mode, "dtype": graph.tensor(n).dtype, "profiles": [],
                "shape": list(record(graph.tensor(n))["shape"])}
               for mode, names in ports for n in names],
        "tensors": {}, "facts": {}, "warnings": [], "engine_bytes": 4,
    }  # fmt: skip
    place_out = Path(folder)
    (place_out / "engine").write_bytes(b"fake")
    with (place_out / "build.log").open("a") as log:
        log.write("fused\n")
    (place_out / "record.json").write_text(json.dumps(out))
    return {"seconds": seconds["total"]}
