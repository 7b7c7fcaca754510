"""The partition of a model, worked out in a worker process.

Three ways: Torch-TensorRT's own partitioner on the exported torch graph, which is what `torch_tensorrt.compile` would do;
TensorRT's ONNX parser on the ONNX graph; and TensorRT's builder, which refuses some of what the parser takes. The last two
need no Torch-TensorRT and serve ONNX files too, but their operators are ONNX's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.base import Partitions
from workbench.compilers.config import BuildConfig, check_profiles
from workbench.compilers.torch_tensorrt.by_builder import by_builder
from workbench.compilers.torch_tensorrt.by_parser import QUICK_BYTES, QUICK_NODES, Build, OnJob, by_parser
from workbench.compilers.torch_tensorrt.partition import METHODS, Partition, PartitionDocument, Segment
from workbench.compilers.torch_tensorrt.shim import INSTALL, installed
from workbench.core.errors import (
    CompilerUnavailableError,
    ConfigError,
    ModelError,
    first_lines,
)
from workbench.core.jobs import Job
from workbench.core.units import bytes_text
from workbench.hardware.machine import gpus
from workbench.model.model import Model
from workbench.model.sample_models import sample_folder, samples
from workbench.model.shape_profile import ShapeProfile
from workbench.model.sources import FACTORY
from workbench.model.trust import torch_source, trusted

if TYPE_CHECKING:
    from workbench.core.store import Store
    from workbench.core.worker import Reporter

MIN_BLOCK_SIZE = 5
"""Torch-TensorRT's own default: a block of fewer operators is left to PyTorch."""


def partition(
    source: Any, as_onnx: Callable[[], Model], store: Store, engine_of: Build, *, method: str | None, on_job: OnJob,
    **options: Any,
) -> Partition:  # fmt: skip
    """The partition by `method`, or by the one that fits `source`; see `session.torch.partition`.

    Args:
        source: What the user gave; a Model where the session knows it.
        as_onnx: Gives the ONNX model, exporting it if need be.
        store: Where files go meanwhile.
        engine_of: Builds a model, for the method ``builder``.
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
        and (given in samples() or FACTORY.fullmatch(given) is not None)
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
    return by_tensorrt(as_onnx(), store, engine_of, method=method, on_job=on_job, **options)


def by_tensorrt(
    model: Model, store: Store, engine_of: Build, *, method: str | None, on_job: OnJob = None, profile: ShapeProfile | None = None,
    inputs: Any = None, **options: Any,
) -> Partition:  # fmt: skip
    """The partition of an ONNX model by TensorRT's parser or builder; by default the builder where that is quick.

    Args:
        model: The model.
        store: Where files go meanwhile.
        engine_of: Builds the model, for the builder.
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
    compiler = get("tensorrt", Partitions)
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
        return by_builder(model, store, config, engine_of, on_job=on_job)
    if config.precision != "fp32":
        from workbench.precision import cast

        model = cast(model, config.precision, store, on_job=on_job)
    found = by_parser(model, compiler, store=store, on_job=on_job)
    notes = [f"The builder was not asked: {reason}."] if reason else []
    if config.targets:
        notes.append(f"The parser answers alike for every target; {config.target} matters to the builder.")
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
    """The partition that Torch-TensorRT makes; see `session.torch.partition`.

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
        elif isinstance(source, str) and FACTORY.fullmatch(source):
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
) -> PartitionDocument:  # fmt: skip
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
    from workbench.model.export import call_factory, load_sample, module_and_inputs

    begin = time.perf_counter()
    reporter.progress("Exporting", 0, 1)
    shapes = ShapeProfile(**profile) if profile else None
    if source["kind"] == "program":
        program = torch.export.load(source["file"])
    else:
        made = load_sample(source["file"]) if source["kind"] == "sample" else call_factory(source["spec"], source["folder"])  # fmt: skip
        module, inputs = module_and_inputs(made, source.get("spec", source["kind"]))
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
        versions(torch_tensorrt), dict(found.unsupported), round(time.perf_counter() - begin, 3),
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


def versions(torch_tensorrt: Any) -> dict[str, str]:
    """Versions of PyTorch, Torch-TensorRT and TensorRT that a partition depends on."""
    import torch

    found = {"torch": str(torch.__version__), "torch_tensorrt": str(torch_tensorrt.__version__)}
    trt = getattr(torch_tensorrt, "trt", None) or __import__("sys").modules.get("tensorrt")
    if trt is not None:
        found["tensorrt"] = str(getattr(trt, "__version__", "unknown"))
    return found


# --- TensorRT itself ----------------------------------------------------------------------------------
