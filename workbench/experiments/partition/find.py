"""Find the partition of a model with the method that fits.

There are three methods: Torch-TensorRT's partitioner on the exported torch graph, as in `torch_tensorrt.compile`;
TensorRT's ONNX parser on the ONNX graph; and TensorRT's builder, which refuses some nodes that the parser accepts. The
last two do not need Torch-TensorRT and also accept ONNX files, but report ONNX operators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.base import Partitions
from workbench.compilers.config import BuildConfig, check_profiles
from workbench.core.errors import ConfigError, first_lines
from workbench.core.units import bytes_text
from workbench.experiments.partition.by_builder import by_builder
from workbench.experiments.partition.by_parser import QUICK_BYTES, QUICK_NODES, Build, OnJob, by_parser
from workbench.model.model import Model
from workbench.model.sample_models import samples
from workbench.model.shape_profile import ShapeProfile
from workbench.model.sources import FACTORY
from workbench.model.trust import torch_source, trusted
from workbench.plan.partition import METHODS, Partition

if TYPE_CHECKING:
    from workbench.core.store import Store


def partition(
    source: Any, as_onnx: Callable[[], Model], store: Store, engine_of: Build, *, by_torch: Callable[..., Partition],
    missing: str | None, method: str | None, on_job: OnJob, **options: Any,
) -> Partition:  # fmt: skip
    """The partition by `method`, or by the method that fits `source`; see `session.torch.partition`.

    Args:
        source: The user's argument; a `Model` if the session has it.
        as_onnx: Returns the ONNX model, and exports it if necessary.
        store: For temporary files.
        engine_of: Builds a model, for the method ``builder``.
        by_torch: Torch-TensorRT's partitioner: called with the torch source, the store, ``name``, ``on_job`` and `options`.
        missing: How to install Torch-TensorRT; None if it is installed.
        method: A key of `METHODS`, or None.
        on_job: Called with each job.
        options: Options of the method.

    Raises:
        ConfigError: there is no such method, or it does not have an option.
    """
    given, name = source, None
    if isinstance(source, Model):
        name = source.name
        # Code from an archive runs only if the user chose the method that runs it, or trusts the model.
        given = torch_source(source) if method == "torch_tensorrt" or trusted(source) else None
    is_torch = hasattr(given, "forward") or (
        isinstance(given, str)
        and not Path(given).is_file()
        and (given in samples() or FACTORY.fullmatch(given) is not None)
        and samples().get(given, {}).get("builder") != "onnx"
    )
    chosen = method or ("torch_tensorrt" if is_torch and missing is None else "")
    if chosen and chosen not in METHODS:
        raise ConfigError(f"There is no method {method!r}.", hint="There are " + ", ".join(METHODS) + ".")
    if chosen == "torch_tensorrt":
        if not is_torch:
            raise ConfigError(
                "Torch-TensorRT partitions a torch module, a sample or package.module:factory.",
                hint="For an ONNX model use method='builder' or method='parser'.",
            )
        return by_torch(given, store, name=name, on_job=on_job, **options)
    return by_tensorrt(as_onnx(), store, engine_of, missing=missing, method=method, on_job=on_job, **options)


def by_tensorrt(
    model: Model, store: Store, engine_of: Build, *, missing: str | None, method: str | None, on_job: OnJob = None,
    profile: ShapeProfile | None = None, inputs: Any = None, **options: Any,
) -> Partition:  # fmt: skip
    """The partition of an ONNX model by TensorRT's parser or builder; by default by the builder if that is quick.

    Args:
        model: The model.
        store: For temporary files.
        engine_of: Builds the model, for the builder.
        missing: How to install Torch-TensorRT, for an error's hint; None if it is installed.
        method: ``parser``, ``builder``, or None for the builder if `why_not` finds no reason against it.
        on_job: Called with each job.
        profile: Shapes and values, for the builder.
        inputs: Example inputs of a torch module; not used here, because it is already exported.
        options: ``target``, which only the builder uses, and ``precision``.

    Raises:
        ConfigError: an option belongs to Torch-TensorRT or does not fit, or the builder needs shapes.
        CompilerUnavailableError: TensorRT is not installed.
    """
    from workbench.compilers.registry import get

    del inputs
    compiler = get("tensorrt", Partitions)
    compiler.version()  # raises if it is not installed
    wrong = sorted(set(options) - {"target", "precision"})
    if wrong:
        raise ConfigError(
            f"TensorRT's parser and builder have no option {', '.join(wrong)}.",
            hint="Only Torch-TensorRT has it, for torch modules, samples and package.module:factory: "
            "method='torch_tensorrt' (--method torch_tensorrt)." + ("" if missing is None else f" {missing}."),
        )
    config = BuildConfig(
        targets=options.get("target") or (), precision=options.get("precision", "fp32"),
        profiles=(profile,) if profile else (),
    )  # fmt: skip
    reason = why_not(model, config, compiler.name) if method is None else ""
    if method is None and store.unwritable is not None:
        reason = "its engine can't be stored, because WORKBENCH_HOME can't be written"
    if method == "builder" or (method is None and not reason):
        return by_builder(model, store, config, engine_of, on_job=on_job)
    if config.precision != "fp32":
        from workbench.precision import cast

        model = cast(model, config.precision, store, on_job=on_job)
    found = by_parser(model, compiler, store=store, on_job=on_job)
    notes = [f"The builder did not run: {reason}."] if reason else []
    if config.targets:
        notes.append(f"The parser gives the same result for every target; only the builder uses {config.target}.")
    return replace(found, settings={"precision": config.precision}, notes=(*found.notes, *notes))


def why_not(model: Model, config: BuildConfig, flavour: str) -> str:
    """Why the builder is not the default; "" if it finishes within seconds."""
    if flavour != "tensorrt_rtx":
        return f"{flavour} times kernels while it builds, which can take minutes"
    nodes = len(model.graph.nodes)
    if nodes > QUICK_NODES or model.bytes > QUICK_BYTES:
        return f"the model is large ({nodes} nodes, {bytes_text(model.bytes)}), so a build takes a long time"
    try:
        check_profiles(model, config, values=True)
    except ConfigError as error:
        return first_lines(error).rstrip(".")
    return ""
