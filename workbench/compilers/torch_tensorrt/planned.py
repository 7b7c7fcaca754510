"""Finds Torch-TensorRT's partition of a module in a worker, without an engine or a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.torch_tensorrt.shim import INSTALL, installed
from workbench.core.errors import (
    CompilerUnavailableError,
    ConfigError,
    ModelError,
)
from workbench.core.jobs import Job
from workbench.hardware.machine import gpus
from workbench.model.sample_models import sample_folder, samples
from workbench.model.shape_profile import ShapeProfile
from workbench.model.sources import FACTORY
from workbench.plan.partition import Partition, PartitionDocument, Segment

if TYPE_CHECKING:
    from workbench.core.store import Store
    from workbench.core.worker import Reporter

OnJob = Callable[[Job], None] | None

MIN_BLOCK_SIZE = 5
"""Torch-TensorRT's default: a block with fewer operators stays in PyTorch."""


def missing() -> str | None:
    """How to install Torch-TensorRT; None if it is installed."""
    return INSTALL if installed() is None else None


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
            "Torch-TensorRT builds engines on an NVIDIA GPU, and this machine has none.",
            hint="Leave out build: planning a partition needs no GPU.",
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
                hint="For an ONNX file use method='parser'.",
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
    """Export a module of this process to a file that the worker reads, since a module may not be picklable."""
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
    """In a worker: export if needed, let Torch-TensorRT partition, and build the engines if `build`.

    Args:
        reporter: Where progress goes.
        source: ``program`` with ``file``, or ``sample`` and ``factory`` as in `workbench.model.export`.
        profile: `ShapeProfile` as a dict.
        target: The GPU to plan for if this machine has none; None to use the GPU of this machine.
        build: Whether engines are built too.
        precision: fp32, fp16 or bf16; an exported program already has it.
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
    """`torch_tensorrt.Input` of one input: with min, opt and max shapes if the profile opens it."""
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
