"""The partition of a model, worked out in a worker process.

Two ways: Torch-TensorRT's own partitioner on the exported torch graph, which is what `torch_tensorrt.compile` would do;
and TensorRT's ONNX parser on the ONNX graph, which tells for every node whether it takes it. The second needs no
Torch-TensorRT and serves ONNX files too, but its operators are ONNX's.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.config import ShapeProfile
from workbench.errors import CompilerUnavailableError, ConfigError, ModelError
from workbench.jobs import Job
from workbench.machine import gpus
from workbench.model.model import Model
from workbench.model.provenance import Source
from workbench.model.sources import _FACTORY, sample_folder, samples
from workbench.model.trust import torch_source, trusted
from workbench.torch_paths.report import METHODS, Operator, Partition, Segment
from workbench.torch_paths.shim import INSTALL, installed

if TYPE_CHECKING:
    from workbench.store import Store
    from workbench.worker import Reporter

MIN_BLOCK_SIZE = 5
"""Torch-TensorRT's own default: a block of fewer operators is left to PyTorch."""

OnJob = Callable[[Job], None] | None


def partition(
    source: Any, as_onnx: Callable[[], Model], store: Store, *, method: str | None, on_job: OnJob, **options: Any
) -> Partition:
    """The partition by `method`, or by the one that fits `source`; see `Session.partition`.

    Args:
        source: What the user gave; a Model where the session knows it.
        as_onnx: Gives the ONNX model, exporting it if need be.
        store: Where files go meanwhile.
        method: A key of `METHODS`, or None.
        on_job: Called with each job.
        options: Of `by_torch_tensorrt`.

    Raises:
        ConfigError: there is no such method, or an option belongs to the other one.
    """
    given, name = source, None
    if isinstance(source, Model):
        name = source.name
        # Code that an archive names is not run unless the method that runs it was asked for and the model is trusted.
        given = torch_source(source) if method == "torch_tensorrt" or trusted(source) else None
    is_torch = hasattr(given, "forward") or (
        isinstance(given, str)
        and not Path(given).is_file()
        and (given in samples() or _FACTORY.fullmatch(given) is not None)
        and samples().get(given, {}).get("builder") != "onnx"
    )
    method = method or ("torch_tensorrt" if is_torch and installed() is not None else "parser")
    if method not in METHODS:
        raise ConfigError(f"There is no method {method!r}.", hint="There are " + ", ".join(METHODS) + ".")
    if method == "torch_tensorrt":
        if not is_torch:
            raise ConfigError(
                "Torch-TensorRT partitions a torch module, a sample or package.module:factory.",
                hint="For an ONNX model take method='parser'.",
            )
        return by_torch_tensorrt(given, store, name=name, on_job=on_job, **options)
    wrong = sorted(set(options) - {"inputs", "profile"})
    if wrong:
        raise ConfigError(
            f"The parser has no option {', '.join(wrong)}.", hint=f"It belongs to method='torch_tensorrt'. {INSTALL}."
        )
    from workbench.compilers.registry import get

    compiler = get("tensorrt")
    compiler.version()  # says what is missing
    return by_parser(as_onnx(), module=compiler.name, on_job=on_job)


def by_torch_tensorrt(
    source: Any,
    store: Store,
    *,
    inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    profile: ShapeProfile | None = None,
    name: str | None = None,
    target: str | None = None,
    build: bool | None = None,
    precision: str = "fp32",
    min_block_size: int = MIN_BLOCK_SIZE,
    torch_executed_ops: Sequence[str] = (),
    on_job: OnJob = None,
) -> Partition:
    """The partition that Torch-TensorRT makes; see `Session.partition`.

    Raises:
        CompilerUnavailableError: torch_tensorrt is not installed, or `build` is asked for without a GPU.
        ModelError: the module can't be exported.
    """
    if installed() is None:
        raise CompilerUnavailableError("torch_tensorrt is not installed.", hint=INSTALL)
    here = bool(gpus())
    if build and not here:
        raise CompilerUnavailableError(
            "Engines of Torch-TensorRT are built on an NVIDIA GPU, and there is none here.",
            hint="Leave build away: the partition can be planned without one.",
        )
    with store.scratch("partition") as folder:
        if hasattr(source, "forward") and hasattr(source, "parameters"):
            place, title = _saved(source, inputs, profile, precision, folder), type(source).__name__
        elif isinstance(source, str) and source in samples() and samples()[source].get("builder") != "onnx":
            place, title = {"kind": "sample", "file": str(sample_folder() / samples()[source]["file"])}, source
        elif isinstance(source, str) and _FACTORY.fullmatch(source):
            place = {"kind": "factory", "spec": source, "folder": str(Path.cwd())}
            title = source.partition(":")[2]
        else:
            raise ConfigError(
                "Torch-TensorRT partitions a torch module, a sample or package.module:factory.",
                hint="For an ONNX file ask method='parser'.",
            )
        job = Job(
            "workbench.torch_paths.plan:task",
            {
                "source": place, "profile": profile.model_dump(mode="json") if profile else None,
                "target": None if here else (target or "sm89"), "build": here if build is None else build,
                "precision": precision, "min_block_size": min_block_size,
                "torch_executed_ops": list(torch_executed_ops),
            },
            title=f"partition of {name or title}",
        )  # fmt: skip
        if on_job is not None:
            on_job(job)
        return Partition.from_dict({**job.result(), "model": name or title})


def _saved(
    module: Any, inputs: Any, profile: ShapeProfile | None, precision: str, folder: Path
) -> dict[str, Any]:  # fmt: skip
    """A module of this process, exported here: it need not be picklable, and its file is what the worker reads."""
    import torch

    from workbench.torch_paths.export import cast, export, prepare

    if inputs is None:
        raise ModelError("A torch module needs example inputs.", hint="Pass inputs=(tensor, ...).")
    examples, dynamic = prepare(module, inputs, profile)
    low, examples = cast(module, examples, precision)
    torch.export.save(export(low, examples, dynamic), folder / "program.pt2")
    return {"kind": "program", "file": str(folder / "program.pt2")}


def task(
    reporter: Reporter, *, source: dict[str, Any], profile: dict[str, Any] | None, target: str | None, build: bool,
    precision: str, min_block_size: int, torch_executed_ops: list[str],
) -> dict[str, Any]:  # fmt: skip
    """In a worker: export if need be, let Torch-TensorRT partition, and build where asked.

    Args:
        reporter: Where progress goes.
        source: ``program`` with ``file``, or ``sample`` and ``factory`` as in `workbench.model.export`.
        profile: `ShapeProfile` as a dict.
        target: The GPU to plan for where none is here; None with a GPU.
        build: Whether engines are built too.
        precision: fp32, fp16 or bf16; a program has it already.
        min_block_size: Operators that a block must have to become an engine.
        torch_executed_ops: Operators to leave in PyTorch.

    Returns:
        `Partition.to_dict`.
    """
    import torch

    from workbench.model.export import _call_factory, _pair, load_sample
    from workbench.torch_paths import shim
    from workbench.torch_paths.export import cast, export, prepare
    from workbench.torch_paths.record import qualified, recording

    begin = time.perf_counter()
    reporter.progress("Exporting", 0, 1)
    shapes = ShapeProfile(**profile) if profile else None
    if source["kind"] == "program":
        program = torch.export.load(source["file"])
    else:
        made = load_sample(source["file"]) if source["kind"] == "sample" else _call_factory(source["spec"], source["folder"])  # fmt: skip
        module, inputs = _pair(made, source.get("spec", source["kind"]))
        examples, dynamic = prepare(module, inputs, shapes)
        module, examples = cast(module, examples, precision)
        program = export(module, examples, dynamic)
    reporter.progress("Exporting", 1, 1)
    reporter.progress("Loading Torch-TensorRT", 0, 1)
    torch_tensorrt = shim.importable(target)
    reporter.progress("Loading Torch-TensorRT", 1, 1)
    reporter.progress("Partitioning", 0, 1)
    arguments, _keywords = program.example_inputs
    if target is None:
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, "cuda")
        arguments = tuple(a.cuda() for a in arguments)
    given = tuple(specification(torch_tensorrt, n, a, shapes) for n, a in zip(_inputs(program), arguments, strict=True))
    with recording(min_block_size, qualified(torch_executed_ops)) as found:
        torch_tensorrt.dynamo.compile(
            program, arg_inputs=given, min_block_size=min_block_size, dryrun=not build,
            torch_executed_ops=set(qualified(torch_executed_ops)), pass_through_build_failures=True,
        )  # fmt: skip
    reporter.progress("Partitioning", 1, 1)
    segments = tuple(
        Segment(s.runs_on, s.operators, s.inputs, s.outputs, s.name, found.sizes.get(s.name)) for s in found.segments
    )
    return Partition(
        "", "torch_tensorrt", not build, segments,
        {
            "min_block_size": min_block_size, "precision": precision, "torch_executed_ops": torch_executed_ops,
            "target": target or "current", "shapes": {n: str(r) for n, r in shapes.inputs.items()} if shapes else {},
        },
        _versions(torch_tensorrt), dict(found.unsupported), round(time.perf_counter() - begin, 3),
    ).to_dict()  # fmt: skip


def specification(torch_tensorrt: Any, name: str, example: Any, profile: ShapeProfile | None) -> Any:
    """`torch_tensorrt.Input` of one input: min, opt and max shapes where the profile opens it."""
    shapes = (profile.inputs if profile else {}).get(name)
    if shapes is None or shapes.fixed:
        return torch_tensorrt.Input(shape=tuple(example.shape), dtype=example.dtype, name=name)
    return torch_tensorrt.Input(
        min_shape=shapes.min, opt_shape=shapes.opt, max_shape=shapes.max, dtype=example.dtype, name=name
    )


def _inputs(program: Any) -> list[str]:
    return [str(name) for name in program.graph_signature.user_inputs]


def _versions(torch_tensorrt: Any) -> dict[str, str]:
    import torch

    found = {"torch": str(torch.__version__), "torch_tensorrt": str(torch_tensorrt.__version__)}
    trt = getattr(torch_tensorrt, "trt", None) or __import__("sys").modules.get("tensorrt")
    if trt is not None:
        found["tensorrt"] = str(getattr(trt, "__version__", "unknown"))
    return found


# --- the parser ---------------------------------------------------------------------------------------


def by_parser(model: Model, *, module: str, on_job: OnJob = None) -> Partition:
    """Which nodes of an ONNX model TensorRT's parser takes, as segments in an order in which they could run.

    Args:
        model: The model.
        module: The TensorRT module to ask.
        on_job: Called with the job.

    Raises:
        CompilerUnavailableError: it is not installed.
    """
    job = Job(
        "workbench.compilers.tensorrt.support:support", {"module": module, "model": str(model.path.resolve())},
        title=f"partition of {model.name}",
    )  # fmt: skip
    if on_job is not None:
        on_job(job)
    return from_parser(model, job.result(), module=module, seconds=job.seconds)


def from_parser(model: Model, found: Mapping[str, Any], *, module: str, seconds: float = 0.0) -> Partition:
    """The partition that the parser's answer (`workbench.compilers.tensorrt.support`) stands for."""
    # The parser counts the nodes of the main graph; bodies of loops and branches go with their node.
    nodes = [n for n in model.graph.nodes if n.parent is None]
    refused: dict[str, str] = found["refused"]
    inside = {i for group in found["groups"] for i in group}
    units = [("tensorrt", list(group)) for group in found["groups"]]
    units += [("fallback", [i]) for i in range(len(nodes)) if i not in inside]

    def operator(i: int) -> Operator:
        node = nodes[i]
        reason = "" if i in inside else refused.get(str(i), "TensorRT's parser does not take it here")
        return Operator(node.id, node.op, model.provenance.get(node.id) or Source(), reason)

    def outside(members: list[int]) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
        graph = model.graph
        own = {o for i in members for o in nodes[i].outputs if o}
        inner = set(members)
        into = dict.fromkeys(
            t for i in members for t in nodes[i].inputs if t and t not in own and t not in graph.constants
        )
        used = {t for j, n in enumerate(nodes) if j not in inner for t in n.inputs} | set(graph.outputs)

        def told(name: str) -> dict[str, Any]:
            tensor = graph.tensor(name)
            shape = None if tensor.shape is None else [d if isinstance(d, int) else str(d or "?") for d in tensor.shape]
            return {"name": name, "shape": shape, "dtype": tensor.dtype}

        return tuple(map(told, into)), tuple(told(o) for o in dict.fromkeys(o for i in members for o in nodes[i].outputs) if o in used)  # fmt: skip

    produced = {o: i for i, n in enumerate(nodes) for o in n.outputs if o}
    segments: list[Segment] = []
    for side, members in _ordered(units, [[produced[t] for t in n.inputs if t in produced] for n in nodes]):
        inputs, outputs = outside(members)
        kind = "tensorrt" if side == "tensorrt" else "fallback"
        segments.append(Segment(kind, tuple(operator(i) for i in members), inputs, outputs))  # type: ignore[arg-type]
    return Partition(
        model.name, "parser", True, tuple(segments), {}, {module: found["version"]},
        dict(Counter(nodes[int(i)].op for i in refused)), round(seconds, 3),
    )  # fmt: skip


def _ordered(units: Sequence[tuple[str, list[int]]], before: Sequence[Sequence[int]]) -> list[tuple[str, list[int]]]:
    """Units in an order in which each has its inputs; neighbours that both fall back become one.

    Args:
        units: Side and node indices; every node is in exactly one.
        before: For each node the nodes that it reads from.
    """
    unit_of = {i: u for u, (_side, members) in enumerate(units) for i in members}
    needs = [{unit_of[b] for i in members for b in before[i]} - {u} for u, (_side, members) in enumerate(units)]
    after: list[list[int]] = [[] for _ in units]
    for u, wanted in enumerate(needs):
        for w in wanted:
            after[w].append(u)
    left = [len(wanted) for wanted in needs]
    queues: dict[str, list[tuple[int, int]]] = {"tensorrt": [], "fallback": []}
    for u, count in enumerate(left):
        if count == 0:
            heapq.heappush(queues[units[u][0]], (units[u][1][0], u))
    out: list[tuple[str, list[int]]] = []
    done = 0
    while queues["tensorrt"] or queues["fallback"]:
        # Stay in the fallback while something there can run: fewer changes between the two.
        side = (
            "fallback"
            if queues["fallback"] and (not queues["tensorrt"] or (out and out[-1][0] == "fallback"))
            else "tensorrt"
        )
        _first, u = heapq.heappop(queues[side])
        done += 1
        if side == "fallback" and out and out[-1][0] == "fallback":
            out[-1][1].extend(units[u][1])
        else:
            out.append((side, list(units[u][1])))
        for v in after[u]:
            left[v] -= 1
            if left[v] == 0:
                heapq.heappush(queues[units[v][0]], (units[v][1][0], v))
    if done < len(units):
        raise ModelError("The parser's parts of the model depend on each other in a circle, so they have no order.")
    return out
