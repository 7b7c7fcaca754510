"""The build task: optimize the graph, save it, and record which nodes of the model each optimized node executes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.compilers.config import BuildConfig
from workbench.compilers.onnxruntime import log as verbose
from workbench.compilers.onnxruntime import sessions
from workbench.compilers.onnxruntime.layers import Optimized, layers_of, warnings_of
from workbench.compilers.onnxruntime.options import level_of, options_of
from workbench.compilers.onnxruntime.regions import folded, match
from workbench.core.errors import first_lines
from workbench.hardware.host import HostDevice
from workbench.model.graph import Graph
from workbench.model.onnx_file import read_graph
from workbench.model.shapes import refuse_endless

if TYPE_CHECKING:
    import onnx

    from workbench.core.worker import Reporter
    from workbench.plan.document import FactsDocument, IODocument, Mode, SecondsDocument
    from workbench.plan.record import Record

ONE_FILE = 1_900_000_000
"""Largest size in bytes of an engine in one ONNX file: protobuf can't read a message of 2 GB."""


def build(
    reporter: Reporter,
    *,
    model: str,
    config: dict[str, Any],
    folder: str,
    cache: str | None = None,  # noqa: ARG001 - ONNX Runtime times nothing that a later build could use
) -> dict[str, Any]:
    """Build an engine into `folder`: ``engine``, ``build.log``, ``record.json``.

    The engine is the optimized graph as ONNX Runtime saves it; ``engine.data`` next to it holds the weights if both
    are too large for one file.

    Args:
        reporter: Where progress goes.
        model: Path of the ONNX file.
        config: `BuildConfig` as a dict.
        folder: An existing folder.
        cache: Not used.

    Returns:
        ``{"seconds": total}``; everything else is in ``record.json``.

    Raises:
        CompilerUnavailableError: ONNX Runtime is not installed.
        UnsupportedNodesError: it has no kernel for some nodes.
        BuildError: it refuses the model.
    """
    begin = time.perf_counter()
    ort = sessions.load()
    loaded = time.perf_counter()
    wanted, out, path = BuildConfig.from_dict(config), Path(folder), Path(model)
    proto = read_graph(path)
    refuse_endless(proto)
    original = Graph(proto)
    parsed = time.perf_counter()

    level = level_of(wanted)
    engine = out / "engine"
    made = sessions.options(ort, level, options_of(wanted).threads)
    made.log_severity_level = 0
    made.optimized_model_filepath = str(engine)
    places = sessions.places_of(proto, path)
    apart = bool(places) or path.stat().st_size > ONE_FILE
    if apart:
        made.add_session_config_entry("session.optimized_model_external_initializers_file_name", sessions.DATA)
    for name, size in _fixed(original, wanted).items():
        made.add_free_dimension_override_by_name(name, size)
    kept = sessions.give_external_data(made, path, proto)
    before = _memory()
    reporter.progress("Optimizing the graph", 0, 1)
    with _logged(out / "build.log", reporter):
        try:
            session = ort.InferenceSession(
                model,
                made,
                providers=[sessions.PROVIDER],
                disabled_optimizers=list(options_of(wanted).disabled_optimizers),
            )
        except Exception as error:  # noqa: BLE001 - its exceptions have no common base
            raise sessions.refusal(error, original) from None
    grown = max(0, _memory() - before)
    built = time.perf_counter()
    providers = session.get_providers()
    del session, kept
    reporter.progress("Optimizing the graph", 1, 1)

    if apart:
        _in_one_file(engine)
    _name_all(engine)
    reporter.progress("Matching the graphs", 0, 1)
    record = _record(ort, original, engine, wanted, out / "build.log")
    now = time.perf_counter()
    seconds: SecondsDocument = {
        "load": round(loaded - begin, 4), "parse": round(parsed - loaded, 4), "build": round(built - parsed, 4),
        "total": round(now - begin, 4),
    }  # fmt: skip
    record["seconds"] = seconds
    facts = {
        **record.get("facts", {}),
        "providers": providers,
        "graph_optimization_level": level,
        "session_seconds": round(built - parsed, 4),
        "memory": {
            "Growth of the process while the session was made": grown,
            "Largest size of the process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        },
    }
    record["facts"] = cast("FactsDocument", facts)
    reporter.progress("Matching the graphs", 1, 1)
    (out / "record.json").write_text(json.dumps(record, separators=(",", ":")))
    return {"seconds": seconds["total"]}


def _record(ort: Any, original: Graph, engine: Path, config: BuildConfig, log: Path) -> Record:
    """The record from the saved graph and the log, without seconds and measured facts."""
    proto = read_graph(engine)
    graph = Graph(proto)
    with log.open(encoding="utf-8", errors="replace") as lines:
        said = verbose.read(lines)
    opt = {n: r.opt for p in config.profiles[:1] for n, r in p.inputs.items()}
    notes: list[str] = []
    try:
        known = sessions.tensors_of(ort, proto, engine.parent, opt)
    except Exception as error:  # noqa: BLE001 - its exceptions have no common base; the plan is right without shapes
        known = {}
        notes.append(f"ONNX Runtime did not infer the shapes of the optimized graph: {first_lines(error)}")
    optimized = Optimized(graph, known)
    regions = match(original, graph)
    layers = layers_of(optimized, original, regions)
    faults = warnings_of(original, layers)
    claimed = [n for layer in layers for n in layer["nodes"]]
    files = [file for file in (engine, engine.parent / sessions.DATA) if file.is_file()]
    facts = {
        "optimizers": [each.to_dict() for each in said.fired],
        "optimizers_tried": len({each.name for each in said.passes}),
        "cpu": HostDevice().facts()["name"],
        "cpu_layout": optimized.cpu_layout,
        "threads": options_of(config).threads,
        "weights_file": sessions.DATA if len(files) > 1 else None,
        **({"compiler_problems": faults} if faults else {}),
    }
    return {
        "compiler": {"name": "onnxruntime", "version": str(ort.__version__), "target": "cpu"},
        "seconds": {},
        "layers": layers,
        "io": _io(original, optimized, config),
        "tensors": {
            theirs: [list(shape), dtype] for mine, theirs in regions.anchors.items() if mine == theirs
            and mine in known and -1 not in (shape := known[mine][0]) and (dtype := known[mine][1])
        },
        "folded": [*folded(original, graph, claimed), *regions.decided],
        "removed": list(regions.dropped),
        "facts": cast("FactsDocument", facts),
        "warnings": [*faults, *notes, *said.warnings],
        "engine_bytes": engine.stat().st_size,
    }  # fmt: skip


def _io(original: Graph, optimized: Optimized, config: BuildConfig) -> list[IODocument]:
    out: list[IODocument] = []
    ports: list[tuple[Mode, list[str]]] = [("input", list(original.inputs)), ("output", list(original.outputs))]
    for mode, names in ports:
        for name in names:
            declared = original.tensor(name)
            sizes = [d if isinstance(d, int) and d >= 0 else -1 for d in declared.shape or ()]
            spans = [p.inputs[name] for p in config.profiles if name in p.inputs] if mode == "input" else []
            out.append({
                "name": name, "mode": mode, "dtype": declared.dtype or optimized.tensor(name)["dtype"], "shape": sizes,
                "format": "row-major", "location": "host",
                "profiles": [{"min": list(s.min), "opt": list(s.opt), "max": list(s.max)} for s in spans],
            })  # fmt: skip
    return out


def _fixed(graph: Graph, config: BuildConfig) -> dict[str, int]:
    """Sizes of the named open dimensions of inputs for which the config has only one shape."""
    sizes: dict[str, set[int]] = {}
    if len(config.profiles) != 1:
        return {}
    for name, span in config.profiles[0].inputs.items():
        for declared, low, high in zip(graph.tensor(name).shape or (), span.min, span.max, strict=False):
            if isinstance(declared, str) and declared:
                sizes.setdefault(declared, set()).update({low, high})
    given = set(config.profiles[0].inputs)
    elsewhere = {
        d for name, shape in graph.dynamic_inputs.items() if name not in given for d in shape if isinstance(d, str)
    }
    return {name: next(iter(found)) for name, found in sizes.items() if len(found) == 1 and name not in elsewhere}


def _memory() -> int:
    """Resident bytes of this process."""
    import psutil

    return int(psutil.Process().memory_info().rss)


@contextlib.contextmanager
def _logged(path: Path, reporter: Reporter) -> Iterator[None]:
    """Write what ONNX Runtime's native code logs (to standard error) into a file, and report its rounds as progress."""
    saved = os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 2)
    done = threading.Event()
    follower = threading.Thread(target=_follow, args=(path, reporter, done), daemon=True)
    follower.start()
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        done.set()
        follower.join()


def _follow(path: Path, reporter: Reporter, done: threading.Event) -> None:
    names = {1: "basic", 2: "extended", 3: "layout"}
    with path.open(encoding="utf-8", errors="replace") as lines:
        while True:
            last = done.wait(0.1)
            for line in lines:
                if (step := verbose.step_of(line)) is not None:
                    reporter.progress(f"Optimizing, {names.get(step[2], f'level {step[2]}')}", step[0], step[1])
            if last:
                return


def _in_one_file(engine: Path) -> None:
    """Move the weights into the engine's file if both fit into one."""
    import onnx

    data = engine.parent / sessions.DATA
    if not data.is_file() or engine.stat().st_size + data.stat().st_size > ONE_FILE:
        return
    whole = onnx.load(str(engine))
    onnx.save(whole, str(engine))
    data.unlink()


def _name_all(engine: Path) -> None:
    """Give each node a unique name, by which layers and times are matched."""
    proto: onnx.ModelProto = read_graph(engine)
    if all(node.proto.name == node.id for node in Graph(proto).nodes):
        return
    import onnx

    whole = onnx.load(str(engine), load_external_data=False)
    for node in Graph(whole).nodes:
        node.proto.name = node.id
    onnx.save(whole, str(engine))
