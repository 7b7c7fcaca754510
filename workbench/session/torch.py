"""``session.torch``: Torch-TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.model.model import Model
from workbench.model.shape_profile import ShapeProfile, profile_of
from workbench.model.sources import resolve

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig
    from workbench.compilers.torch_tensorrt.live import Compiled
    from workbench.core.jobs import Job
    from workbench.plan.partition import Partition
    from workbench.workspace import Workspace


class Torch:
    """Partitions of PyTorch models between TensorRT and PyTorch, and modules compiled by Torch-TensorRT."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def partition(
        self,
        model: Any,
        inputs: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        method: Literal["torch_tensorrt", "parser", "builder"] | None = None,
        on_job: Callable[[Job], None] | None = None,
        **options: Any,
    ) -> Partition:
        """Which operators of a model run in TensorRT, which fall back, and how many engines result.

        Torch-TensorRT's partitioner and TensorRT's parser only plan and build nothing; the builder can still refuse
        operators that they accept. The builder method builds, cuts out refused operators, and builds the rest.

        Args:
            model: A torch module (with `inputs`), a sample's name, ``package.module:factory``, the name of a
                model in the session, or anything that `Session.add` takes.
            inputs: Example inputs of a torch module, by position or by name.
            shapes: Shapes such as ``{"x": "1x3x224x224:8x3x224x224:32x3x224x224"}``, and values of inputs that are read as
                a shape, such as ``{"n": "=1:8:32"}``.
            method: ``torch_tensorrt`` for Torch-TensorRT's own partitioner; ``parser`` for TensorRT's ONNX parser and
                ``builder`` for its builder, which also take ONNX files. The default is the first if it is installed and
                the model is a PyTorch model; else the builder of TensorRT for RTX if the model is small
                (`workbench.experiments.partition.by_parser.QUICK_NODES`, `QUICK_BYTES`) and its shapes are known; else
                the parser.
            on_job: Called with each job that is started.
            options: For torch_tensorrt: ``precision``, ``min_block_size``, ``torch_executed_ops``, ``target`` (the GPU
                to plan for), ``build`` (False only plans, even with a GPU). For the parser and the builder:
                ``precision``, ``target``.

        Raises:
            CompilerUnavailableError: a package that `method` needs is not installed.
            ModelError: the model can't be read or exported.
            ConfigError: an option does not fit.
        """
        from workbench.build import Build
        from workbench.compilers.torch_tensorrt.planned import by_torch_tensorrt, missing
        from workbench.experiments.partition.find import partition

        workspace, profile = self._workspace, profile_of(shapes)

        def as_onnx() -> Model:
            if hasattr(model, "forward"):
                return resolve(model, workspace.store, inputs=inputs, profile=profile, on_job=on_job)
            return workspace.models.resolve(model, profile, on_job=on_job)

        def engine_of(found: Model, config: BuildConfig) -> int:
            return Build(found, config, workspace.store, on_job=on_job).start().result().bytes

        known = workspace.models[model] if isinstance(model, str) and model in workspace.models else model
        return partition(
            known,
            as_onnx,
            workspace.store,
            engine_of,
            by_torch=by_torch_tensorrt,
            missing=missing(),
            method=method,
            inputs=inputs,
            profile=profile,
            on_job=on_job,
            **options,
        )

    def compile(
        self,
        module: Any,
        inputs: Sequence[Any] | Mapping[str, Any],
        *,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        **options: Any,
    ) -> Compiled:
        """Compile a torch module with Torch-TensorRT for this machine's GPU.

        Args:
            module: The module; it is copied before compilation and not changed.
            inputs: Example inputs, by position or by name.
            shapes: Shapes, with min:opt:max for a dynamic dimension.
            options: ``how`` (``export``, which can be saved, or ``torch.compile``), ``precision`` (fp32, fp16, bf16),
                ``workspace`` (bytes), ``min_block_size``, ``torch_executed_ops``, and other settings of Torch-TensorRT.

        Returns:
            A callable that holds the compiled module, its partition, and `save`; `load` reads it back.

        Raises:
            CompilerUnavailableError: there is no GPU, or no usable torch_tensorrt.
            BuildError: Torch-TensorRT failed.
        """
        from workbench.compilers.torch_tensorrt.live import compile_module

        return compile_module(module, inputs, shapes=profile_of(shapes), **options)

    def load(self, path: str | Path) -> Compiled:
        """Read a compiled module that its `save` wrote.

        Raises:
            CompilerUnavailableError: there is no GPU, or no usable torch_tensorrt.
            StoreError: there is no such file, or it can't be read here.
        """
        from workbench.compilers.torch_tensorrt.live import load

        return load(path)

    def __repr__(self) -> str:
        return f"<Torch-TensorRT of session {self._workspace.name}>"
