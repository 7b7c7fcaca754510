"""Compiles a torch module with Torch-TensorRT in this process, where the module is; saves and loads it.

There are two ways: ``torch.compile(model, backend="tensorrt")`` compiles at the first call and again for new shapes;
compiling ahead of time takes the range of shapes, and the result can be saved.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from workbench.compilers.torch_tensorrt import shim
from workbench.compilers.torch_tensorrt.causes import COMPILE, LOAD, way_out
from workbench.compilers.torch_tensorrt.export import cast, export, prepare
from workbench.compilers.torch_tensorrt.planned import MIN_BLOCK_SIZE, specification, versions
from workbench.compilers.torch_tensorrt.record import qualified, recording
from workbench.core.errors import BuildError, CompilerUnavailableError, ConfigError, StoreError, first_lines
from workbench.core.worker import hint_of
from workbench.hardware.machine import gpus
from workbench.model.shape_profile import ShapeProfile
from workbench.plan.partition import Partition, Segment


@dataclass
class Compiled:
    """A compiled module: call it like the original module.

    Attributes:
        module: What Torch-TensorRT returned.
        how: ``export`` or ``torch.compile``.
        inputs: Example inputs on the GPU, by name.
        partition: What runs where; None for a loaded module.
        dynamic: Open dimensions by input (`torch.export.Dim`).
    """

    module: Any = field(repr=False)
    how: str
    inputs: dict[str, Any] = field(repr=False)
    partition: Partition | None = None
    dynamic: dict[str, dict[int, Any]] = field(default_factory=dict, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; the tensors must be on the GPU."""
        return self.module(*args, **kwargs)

    def save(self, path: str | Path, *, retrace: bool = True) -> Path:
        """Write it to `path` as an exported program. `load` reads it even without the module's source.

        Args:
            path: The .pt2 file to write.
            retrace: Export the compiled graph again, as Torch-TensorRT does by default; False writes it unchanged.

        Raises:
            ConfigError: torch.compile made it, so there is nothing to save.
            StoreError: it can't be written, or Torch-TensorRT can't save it.
        """
        if self.how != "export":
            raise ConfigError(
                "A module compiled by torch.compile exists in this process only.",
                hint="Compile with how='export' to save it.",
            )
        import torch_tensorrt

        place = Path(path)
        shapes = tuple(dict(self.dynamic[n]) if n in self.dynamic else None for n in self.inputs)
        try:
            torch_tensorrt.save(
                self.module, str(place), arg_inputs=tuple(self.inputs.values()), retrace=retrace,
                dynamic_shapes=shapes if retrace and self.dynamic else None,
            )  # fmt: skip
        except OSError as error:
            raise StoreError(f"{place} can't be written: {error}.", hint=hint_of(error)) from error
        except Exception as error:
            raise StoreError(
                f"Torch-TensorRT could not save the module: {first_lines(error, 2)}",
                hint="Try retrace=False, which writes the compiled graph unchanged." if retrace else None,
            ) from error
        return place


def compile_module(
    module: Any,
    inputs: Sequence[Any] | Mapping[str, Any],
    *,
    how: Literal["export", "torch.compile"] = "export",
    shapes: ShapeProfile | None = None,
    precision: str = "fp32",
    workspace: int = 0,
    min_block_size: int = MIN_BLOCK_SIZE,
    torch_executed_ops: Sequence[str] = (),
    name: str | None = None,
    **options: Any,
) -> Compiled:
    """Compile `module` with Torch-TensorRT on this machine's GPU; see `session.torch.compile`.

    Raises:
        CompilerUnavailableError: there is no GPU, or no usable torch_tensorrt.
        ModelError: the module can't be exported.
        BuildError: Torch-TensorRT failed; the message is its own.
        ConfigError: an argument is wrong.
    """
    if how not in {"export", "torch.compile"}:
        raise ConfigError(f"There is no way {how!r}.", hint="There are export and torch.compile.")
    if shim.installed() is None:
        raise CompilerUnavailableError("torch_tensorrt is not installed.", hint=shim.INSTALL)
    if not gpus():
        raise CompilerUnavailableError(
            "Torch-TensorRT compiles on an NVIDIA GPU, and this machine has none.",
            hint="session.torch.partition(module, inputs) plans what would run in TensorRT.",
        )
    torch_tensorrt = shim.importable(None)
    import torch

    known = {f.name for f in dataclasses.fields(torch_tensorrt.dynamo.CompilationSettings)}
    if wrong := sorted(set(options) - known):
        near = difflib.get_close_matches(wrong[0], known, n=3)
        raise ConfigError(
            f"Torch-TensorRT {shim.installed()} has no setting {', '.join(wrong)}.",
            hint=f"Did you mean {' or '.join(near)}?" if near else None,
        )
    examples, dynamic = prepare(module, inputs, shapes)
    low, examples = cast(module, examples, precision)
    # A copy, since in FP32 `cast` returns the module itself, which must not be changed or moved.
    low = copy.deepcopy(low).eval().cuda()
    examples = {n: t.cuda() for n, t in examples.items()}
    asked = qualified(torch_executed_ops)
    common = {
        "min_block_size": min_block_size, "torch_executed_ops": set(asked), "workspace_size": workspace,
        # Otherwise a failure is only logged, and the module runs in PyTorch as if TensorRT were slow.
        "pass_through_build_failures": True, **options,
    }  # fmt: skip
    with recording(min_block_size, asked) as found, torch.no_grad():
        try:
            if how == "export":
                program = export(low, examples, dynamic)
                given = [specification(torch_tensorrt, n, t, shapes) for n, t in examples.items()]
                made = torch_tensorrt.dynamo.compile(program, arg_inputs=given, **common)
            else:
                torch._dynamo.reset()
                for each, dims in dynamic.items():
                    for d, dim in dims.items():
                        # torch.compile treats a size of 1 as a constant and compiles it separately.
                        torch._dynamo.mark_dynamic(examples[each], d, min=max(2, dim.min), max=dim.max)
                made = torch.compile(low, backend="tensorrt", options=common)
            made(*examples.values())
            torch.cuda.synchronize()
        except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError) as error:
            code, hint = way_out(COMPILE, error)
            raise BuildError(
                f"Torch-TensorRT could not compile {type(module).__name__}: {first_lines(error, 2)}",
                hint=hint
                or "session.torch.partition shows what would run where; torch_executed_ops leaves operators in PyTorch.",
                code=code or "torch-tensorrt-failed",
            ) from error
    segments = tuple(
        Segment(s.runs_on, s.operators, s.inputs, s.outputs, s.name, found.sizes.get(s.name)) for s in found.segments
    )
    settings = {
        "min_block_size": min_block_size, "precision": precision, "torch_executed_ops": list(torch_executed_ops),
        "workspace": workspace, "how": how, "shapes": {n: str(r) for n, r in shapes.inputs.items()} if shapes else {},
    }  # fmt: skip
    partition = Partition(
        name or type(module).__name__, "torch_tensorrt", bool(options.get("dryrun")), segments, settings, versions(torch_tensorrt),
        dict(found.unsupported),
    )  # fmt: skip
    return Compiled(made, how, examples, partition, dynamic)


def compile_any(module: Any, inputs: Sequence[Any], precision: str) -> tuple[Compiled, str]:
    """Compile `module` with ``torch.compile``, or ahead of time if that fails.

    Returns:
        The compiled module, and how it was compiled and what ran in TensorRT, as text.

    Raises:
        CompilerUnavailableError: it is not installed, or no part of the model ran in TensorRT.
        BuildError: both failed; the message is that of the second.
    """
    how = "torch.compile, backend tensorrt"
    try:
        compiled = compile_module(module, inputs, how="torch.compile", precision=precision)
    except BuildError as error:
        how = f"torch_tensorrt.dynamo.compile, since torch.compile failed ({error.message})"
        compiled = compile_module(module, inputs, how="export", precision=precision)
    parts = compiled.partition
    if parts is None or not parts.engines:
        raise CompilerUnavailableError("no part of the model ran in TensorRT")
    back = len(parts.fallbacks)
    return compiled, f"{how}: {parts.engines} engine{'s' if parts.engines > 1 else ''}, {back} operators in PyTorch"


def load(path: str | Path) -> Compiled:
    """Read what `Compiled.save` wrote.

    Raises:
        CompilerUnavailableError: there is no GPU, or no usable torch_tensorrt.
        StoreError: there is no such file, or it can't be read here.
    """
    place = Path(path)
    if not place.is_file():
        raise StoreError(f"There is no file {place}.")
    if not gpus():
        raise CompilerUnavailableError(
            "A module compiled with Torch-TensorRT needs the NVIDIA GPU that it was compiled for."
        )
    torch_tensorrt = shim.importable(None)
    try:
        program = torch_tensorrt.load(str(place))
        module = program.module() if hasattr(program, "module") else program
    except Exception as error:
        code, hint = way_out(LOAD, error)
        raise StoreError(f"{place} can't be loaded: {first_lines(error, 2)}", hint=hint, code=code) from error
    return Compiled(module, "export", {})
