"""The partition of a model, worked out in a worker process.

Three ways: Torch-TensorRT's own partitioner on the exported torch graph, which is what `torch_tensorrt.compile` would do;
TensorRT's ONNX parser on the ONNX graph; and TensorRT's builder, which refuses some of what the parser takes. The last two
need no Torch-TensorRT and serve ONNX files too, but their operators are ONNX's.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import compilers
from workbench.build import Build, _in_own_names, check_profiles
from workbench.build_folder import opt_shapes, opt_values
from workbench.compilers.config import BuildConfig
from workbench.compilers.torch_tensorrt.partition import METHODS, Operator, Partition, Segment, Side
from workbench.compilers.torch_tensorrt.rest import (
    STAND_IN,
    named,
    ordered,
    reads,
    rest,
    segments,
    sources,
    tops,
    write,
)
from workbench.compilers.torch_tensorrt.shim import INSTALL, installed
from workbench.core.errors import (
    BuildError,
    CompilerUnavailableError,
    ConfigError,
    ModelError,
    WorkerCrashedError,
    first_lines,
)
from workbench.core.jobs import Job
from workbench.core.units import bytes_text
from workbench.hardware.machine import gpus
from workbench.model.model import Model
from workbench.model.provenance import Source
from workbench.model.sample_models import sample_folder, samples
from workbench.model.shape_profile import ShapeProfile, ValueRange
from workbench.model.sources import _FACTORY
from workbench.model.trust import torch_source, trusted

if TYPE_CHECKING:
    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.engine import Engine
    from workbench.model.graph import Graph

MIN_BLOCK_SIZE = 5
"""Torch-TensorRT's own default: a block of fewer operators is left to PyTorch."""

QUICK_NODES, QUICK_BYTES = 2000, 200_000_000
"""Size of a model up to which the builder is asked without being asked for: TensorRT for RTX times no kernels while it
builds, and took 0.7 to 1.7 s on 2 CPU cores for models of up to 1,825 nodes and of up to 94 MB."""

PATIENCE = 10.0
"""Seconds after which what was refused is no longer cut out to ask about the rest; at least one more time it is."""

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
    chosen = method or ("torch_tensorrt" if is_torch and installed() is not None else "")
    if chosen and chosen not in METHODS:
        raise ConfigError(f"There is no method {method!r}.", hint="There are " + ", ".join(METHODS) + ".")
    if chosen == "torch_tensorrt":
        if not is_torch:
            raise ConfigError(
                "Torch-TensorRT partitions a torch module, a sample or package.module:factory.",
                hint="For an ONNX model take method='builder' or method='parser'.",
            )
        return by_torch_tensorrt(given, store, name=name, on_job=on_job, **options)
    return by_tensorrt(as_onnx(), store, method=method, on_job=on_job, **options)


def by_tensorrt(
    model: Model, store: Store, *, method: str | None, on_job: OnJob = None, profile: ShapeProfile | None = None,
    inputs: Any = None, **options: Any,
) -> Partition:  # fmt: skip
    """The partition of an ONNX model by TensorRT's parser or builder; by default the builder where that is quick.

    Args:
        model: The model.
        store: Where engines are kept, and files meanwhile.
        method: ``parser``, ``builder``, or None for the builder where `why_not` finds no reason against it.
        on_job: Called with each job.
        profile: Shapes and values, for the builder.
        inputs: Of a torch module; its export has used them.
        options: ``target``, which matters to the builder alone, and ``precision``.

    Raises:
        ConfigError: an option belongs to Torch-TensorRT, or does not fit; or the builder is asked without shapes.
        CompilerUnavailableError: TensorRT is not installed.
    """
    from workbench.compilers.registry import get

    del inputs
    compiler = get("tensorrt")
    compiler.version()  # says what is missing
    wrong = sorted(set(options) - {"target", "precision"})
    if wrong:
        raise ConfigError(
            f"TensorRT's parser and builder have no option {', '.join(wrong)}.",
            hint="Only Torch-TensorRT has, for torch modules, samples and package.module:factory: "
            "method='torch_tensorrt' (--method torch_tensorrt)." + (f" {INSTALL}." if installed() is None else ""),
        )
    config = BuildConfig(
        targets=options.get("target") or (), precision=options.get("precision", "fp32"),
        profiles=(profile,) if profile else (),
    )  # fmt: skip
    reason = why_not(model, config, compiler.name) if method is None else ""
    if method is None and store.unwritable is not None:
        reason = "its engine can't be kept, since WORKBENCH_HOME can't be written"
    if method == "builder" or (method is None and not reason):
        return by_builder(model, store, config, on_job=on_job)
    if config.precision != "fp32":
        from workbench.precision import cast

        model = cast(model, config.precision, store, on_job=on_job)
    found = by_parser(model, module=compiler.name, store=store, on_job=on_job)
    notes = [f"The builder was not asked: {reason}."] if reason else []
    if config.targets:
        notes.append(f"The parser answers alike for every target; {'+'.join(config.targets)} matters to the builder.")
    return replace(found, settings={"precision": config.precision}, notes=(*found.notes, *notes))


def why_not(model: Model, config: BuildConfig, flavour: str) -> str:
    """Why a builder should not be asked without need; "" where it answers within seconds."""
    if flavour != "tensorrt_rtx":
        return f"{flavour} times kernels while it builds, which can take minutes"
    nodes = len(model.graph.nodes)
    if nodes > QUICK_NODES or model.bytes > QUICK_BYTES:
        return f"the model is large ({nodes} nodes, {bytes_text(model.bytes)}), so a build takes long"
    try:
        check_profiles(model, config, values=True)
    except ConfigError as error:
        return first_lines(error).rstrip(".")
    return ""


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
            "workbench.compilers.torch_tensorrt.planned:task",
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

    from workbench.compilers.torch_tensorrt.export import cast, export, prepare

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

    from workbench.compilers.torch_tensorrt import shim
    from workbench.compilers.torch_tensorrt.export import cast, export, prepare
    from workbench.compilers.torch_tensorrt.record import qualified, recording
    from workbench.model.export import _call_factory, _pair, load_sample

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


# --- TensorRT itself ----------------------------------------------------------------------------------


def by_builder(model: Model, store: Store, config: BuildConfig, *, on_job: OnJob = None) -> Partition:
    """What TensorRT's builder takes of an ONNX model: it is built, and what is refused is cut out and the rest built.

    The whole model is built as `Session.build` does, so an engine that is there already answers at once, and one that is
    built now is there for later. The rest is built as one network at the opt shapes, and is not kept.

    Args:
        model: The model.
        store: Where engines are kept.
        config: Target, precision and shapes.
        on_job: Called with each job.

    Raises:
        ConfigError: shapes or options do not fit.
        CompilerUnavailableError: TensorRT is not installed.
    """
    from workbench.precision import cast

    begin = time.perf_counter()
    compiler = compilers.get(config.compiler)
    config = compiler.complete(config)
    check_profiles(model, config)
    build = Build(model, config, store, on_job=on_job)
    built: Engine | None = None
    refused: BuildError | None = None
    try:
        built = build.start().result()
    except BuildError as error:
        refused = error
    if config.precision != "fp32":
        model = cast(model, config.precision, store, on_job=on_job)
    graph = model.graph
    reasons: dict[str, str] = {}
    refusals: list[dict[str, Any]] = []
    proven = refused is None
    at = graph if refused is None else graph.at(opt_shapes(config), opt_values(config))
    while refused is not None:
        found = named(refused.details, graph)
        if not found and len(graph.nodes) <= QUICK_NODES and model.bytes <= QUICK_BYTES:
            found = _searched(model, at, set(reasons), config, compiler, store, on_job)
        news = {i: why or first_lines(refused, 2) for i, why in found.items() if i not in reasons}
        refusals.append({"code": refused.code, "message": refused.message, "hint": refused.hint, "nodes": list(news)})
        reasons |= news
        if not news or (len(refusals) > 1 and time.perf_counter() - begin > PATIENCE):
            break
        refused, proven = _builds(model, at, set(reasons), config, compiler, store, on_job)
    nodes = tops(graph)
    if refusals and not reasons:
        # No node is named, so all that is known is that the model as a whole is refused.
        reasons = {n.id: "the builder refused the model and named no node" for n in nodes}
    taken = {i for i, n in enumerate(nodes) if n.id not in reasons}
    parts = segments(taken, sources(graph))
    left = rest(at, {i for i in range(len(nodes)) if i not in taken}) if refusals and proven else None
    notes = (f"What refused nodes give has sizes that depend on data; the rest was built with {STAND_IN} for each.",)
    size = built.bytes if built is not None else None
    settings = {
        "target": "+".join(config.targets), "precision": config.precision,
        "shapes": config.profiles[0].texts if config.profiles else {},
    }  # fmt: skip
    return Partition(
        model.name, "builder", False, _segments(model, parts, reasons, size), settings,
        {compiler.name: compiler.version()}, dict(Counter(n.op for n in nodes if n.id in reasons)),
        round(time.perf_counter() - begin, 3), tuple(refusals), proven,
        notes if left is not None and left[1] else (),
    )  # fmt: skip


def _searched(
    model: Model, at: Graph, cut: set[str], config: BuildConfig, compiler: compilers.Compiler, store: Store, on_job: OnJob
) -> dict[str, str]:  # fmt: skip
    """The first node up to which the model is refused, found by halving, for an error that names none.

    Returns:
        Its id with the reason; empty where some part of the model can't be asked about alone.
    """
    nodes = tops(at)
    order = [nodes[i].id for i in ordered(sources(at)) if nodes[i].id not in cut]
    low, high = 0, len(order)  # the first `low` nodes build, the first `high` are refused
    while high - low > 1:
        middle = (low + high) // 2
        error, built = _builds(model, at, cut | set(order[middle:]), config, compiler, store, on_job)
        if error is None and not built:
            return {}
        low, high = (middle, high) if built else (low, middle)
    if not order:
        return {}
    before = f"without it, the {low} nodes before it build; with it they" if low else "alone it"
    return {order[low]: f"{before} {'are' if low else 'is'} refused by the builder, which names no node"}


def _builds(
    model: Model, at: Graph, cut: set[str], config: BuildConfig, compiler: compilers.Compiler, store: Store, on_job: OnJob
) -> tuple[BuildError | None, bool]:  # fmt: skip
    """Whether the model without the nodes `cut` builds: the error where it is refused, and whether it was built."""
    nodes = tops(at)
    indices = {i for i, n in enumerate(nodes) if n.id in cut}
    if len(indices) == len(nodes):
        return None, True  # nothing is left that could be refused
    left = rest(at, indices)
    if left is None:
        return None, False
    proto, assumed = left
    values = {n: r for p in config.profiles for n, r in p.values.items() if n in {v.name for v in proto.graph.input}}
    usual = {n: ValueRange(min=r.opt, opt=r.opt, max=r.opt) for n, r in values.items()}
    config = config.replace(profiles=(ShapeProfile(inputs={}, values=usual),) if usual else ())
    with store.scratch("partition") as folder:
        (folder / "model").mkdir()
        (folder / "build").mkdir()
        job = Job(compiler.task, {}, title=f"partition of {model.name}", preload=compiler.preload)
        if on_job is not None:
            on_job(job)
        job.start(
            model=str(write(model, proto, folder / "model")), config=config.to_dict(), folder=str(folder / "build"),
            **compiler.arguments(),
        )  # fmt: skip
        try:
            job.result()
        except BuildError as error:
            if assumed:  # the sizes that stand in for others may be what it does not take
                return None, False
            return _in_own_names(error, at.needs_renaming()), False
        except (ConfigError, WorkerCrashedError):
            # What a cut node gave is read as a shape, or the compiler crashed: nothing is known of the rest.
            return None, False
    return None, True


def by_parser(model: Model, *, module: str, store: Store, on_job: OnJob = None) -> Partition:
    """Which nodes of an ONNX model TensorRT's parser takes, as segments in an order in which they could run.

    The parser stops at the first node that it refuses, so what it refused is cut out and it is asked again.

    Args:
        model: The model.
        module: The TensorRT module to ask.
        store: Where files go meanwhile.
        on_job: Called with each job.

    Raises:
        CompilerUnavailableError: it is not installed.
    """
    graph = model.graph
    nodes = tops(graph)
    first: dict[str, Any] | None = None
    refused: dict[str, str] = {}
    seconds, proven, left = 0.0, False, list(range(len(nodes)))
    with store.scratch("partition") as folder:
        for attempt in itertools.count():
            place = folder / str(attempt)
            place.mkdir()
            file = model.path.resolve()
            if attempt or graph.rewritten:
                without = rest(graph, [int(i) for i in refused], open_shapes=True) if attempt else (graph.proto, False)
                if without is None:
                    proven = len(refused) == len(nodes)
                    break
                file = write(model, without[0], place)
            operators = sorted({nodes[i].op for i in left if nodes[i].domain in {"", "ai.onnx"}})
            job = Job(
                "workbench.compilers.tensorrt.support:support",
                {"module": module, "model": str(file), "operators": operators}, title=f"partition of {model.name}",
            )  # fmt: skip
            if on_job is not None:
                on_job(job)
            answer = job.result()
            seconds += job.seconds
            first = first or answer
            news = {str(left[int(i)]): why for i, why in answer["refused"].items()}
            news |= {
                str(i): "TensorRT's parser does not know this operation"
                for i in left if nodes[i].op in set(answer["unknown"]) and nodes[i].domain in {"", "ai.onnx"}
            }  # fmt: skip
            refused |= {i: why for i, why in news.items() if i not in refused}
            if not news:
                proven = True
                break
            if attempt and seconds > PATIENCE:
                break
            left = [i for i in range(len(nodes)) if str(i) not in refused]
    assert first is not None
    return from_parser(model, {**first, "refused": refused}, module=module, seconds=seconds, proven=proven)


def from_parser(
    model: Model, found: Mapping[str, Any], *, module: str, seconds: float = 0.0, proven: bool = True
) -> Partition:
    """The partition that the parser's answer (`workbench.compilers.tensorrt.support`) stands for."""
    # The parser counts the nodes of the main graph; bodies of loops and branches go with their node.
    nodes = tops(model.graph)
    refused: dict[str, str] = found["refused"]
    inside = {i for group in found["groups"] for i in group}
    taken = {i for i in inside if str(i) not in refused}
    # Left out of every group and not refused: the parser gives no reason for a node behind a refused one.
    reasons = {
        nodes[i].id: refused.get(str(i), "TensorRT's parser does not take it here")
        for i in range(len(nodes)) if i not in taken
    }  # fmt: skip
    before = sources(model.graph)
    if taken == inside:
        units = [("tensorrt", list(group)) for group in found["groups"]]
        parts = _ordered([*units, *(("fallback", [i]) for i in range(len(nodes)) if i not in inside)], before)
    else:
        parts = segments(taken, before)
    return Partition(
        model.name, "parser", True, _segments(model, parts, reasons), {}, {module: found["version"]},
        dict(Counter(nodes[int(i)].op for i in refused)), round(seconds, 3), (), proven,
    )  # fmt: skip


def _segments(
    model: Model, parts: Sequence[tuple[str, list[int]]], reasons: Mapping[str, str], size: int | None = None
) -> tuple[Segment, ...]:
    """Parts of the main graph's nodes as segments, with what goes in and out of each.

    Args:
        model: The model.
        parts: Side and node indices of each, in order.
        reasons: Why a node falls back, by its id.
        size: Bytes of the engine, where the whole model is one.
    """
    graph = model.graph
    nodes, read = tops(graph), reads(graph)

    def operator(i: int) -> Operator:
        node = nodes[i]
        return Operator(node.id, node.op, model.provenance.get(node.id) or Source(), reasons.get(node.id, ""))

    def told(name: str) -> dict[str, Any]:
        tensor = graph.tensor(name)
        shape = None if tensor.shape is None else [d if isinstance(d, int) else str(d or "?") for d in tensor.shape]
        return {"name": name, "shape": shape, "dtype": tensor.dtype}

    out: list[Segment] = []
    for side, members in parts:
        own, inner = {o for i in members for o in nodes[i].outputs if o}, set(members)
        into = dict.fromkeys(t for i in members for t in sorted(read[i]) if t not in own and t not in graph.constants)
        used = {t for j in range(len(nodes)) if j not in inner for t in read[j]} | set(graph.outputs)
        gives = [o for o in dict.fromkeys(o for i in members for o in nodes[i].outputs) if o in used]
        kind: Side = "tensorrt" if side == "tensorrt" else "fallback"
        out.append(
            Segment(
                kind, tuple(operator(i) for i in members), tuple(map(told, into)), tuple(map(told, gives)), "", size
            )
        )
    return tuple(out)


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
