"""`Runner`: an engine of any compiler, opened in a worker and ready to execute.

A compiler with `workbench.compilers.base.Runs` provides one; `workbench.measure.serve` and `workbench.measure.profile` use
it and do not depend on the compiler otherwise. In-process users (the benchmark's worker) open one by `open_runner`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from workbench.core.errors import ConfigError
from workbench.hardware.device import Device

Ranges = tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True)
class Port:
    """An input or output of an engine.

    Attributes:
        name: Its name.
        input: Whether it is an input.
        dtype: Data type by NumPy's name, including ``bfloat16`` and ``float8e4m3fn``; "" if unknown.
        shape: -1 for a dynamic dimension.
        ranges: min, opt and max shape of each shape profile; empty for a fixed shape and for an output.
    """

    name: str
    input: bool
    dtype: str
    shape: tuple[int, ...]
    ranges: Ranges = ()


class Runner(Protocol):
    """An engine ready to execute on one device."""

    @property
    def device(self) -> Device:
        """Where it executes."""
        ...

    @property
    def inputs(self) -> Sequence[Port]:
        """The engine's inputs."""
        ...

    @property
    def outputs(self) -> Sequence[Port]:
        """The engine's outputs."""
        ...

    @property
    def cached(self) -> int:
        """Bytes of compiled kernels from an earlier run that this run reuses; 0 if there are none."""
        ...

    def opt_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each input that the engine was tuned for."""
        ...

    def output_shapes(self, given: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and data type of each output for inputs with the shapes and types of `given`; values are not read.

        Raises:
            ConfigError: the inputs do not fit, or an output's shape depends on values.
        """
        ...

    def bind(
        self, given: Mapping[str, Any], *, finite: bool = True, into: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Set the inputs and allocate the outputs.

        Args:
            given: Arrays or tensors by name.
            finite: Refuse inputs that contain NaN or infinity.
            into: Tensors on the device for the outputs; allocated by default.

        Returns:
            The outputs' tensors by name. Read them after each `run`, which fills or replaces them.

        Raises:
            ConfigError: the inputs do not fit the engine or the device's memory.
        """
        ...

    def bound_inputs(self) -> dict[str, Any]:
        """The inputs' tensors on the device, by name."""
        ...

    def release(self) -> None:
        """Release the tensors passed to `bind`."""
        ...

    def run(self) -> None:
        """Start one execution; `Device.synchronize` waits until it ends.

        Raises:
            BuildError: the compiler's runtime failed.
        """
        ...

    def layer_times(
        self, iterations: int, step: Callable[[int], None] = lambda _: None
    ) -> list[tuple[str, list[float]]]:
        """Milliseconds of each layer in each iteration, in the order of execution, in a separate pass.

        Args:
            iterations: Number of executions.
            step: Called with the number of each finished execution.
        """
        ...

    def memory(self) -> dict[str, int]:
        """Bytes that the engine needs, by name, if known."""
        ...

    def facts(self) -> dict[str, Any]:
        """Facts of the engine for a profile: ``compiler`` (``name``, ``version``) and fields that this compiler adds.

        ``layer_method`` says how layers are timed. ``inspector``, if present, contains ``layers``: records (`workbench.plan.record.LayerRecord`) as the loaded
        engine reports them.
        """
        ...

    def starts_kernel(self, layer: Mapping[str, Any]) -> bool:
        """Whether a layer of `facts`' ``inspector`` starts a kernel on the GPU, rather than working on the host."""
        ...

    def save_cache(self, path: Path) -> int:
        """Write the kernels compiled so far to `path`, for the next run.

        Returns:
            Bytes written; 0 for a compiler that does not compile kernels at run time.
        """
        ...


def open_runner(opener: str, arguments: Mapping[str, Any]) -> Runner:
    """Open the runner of an engine in this process; for workers only.

    Args:
        opener: `workbench.compilers.base.Runs.runner`.
        arguments: ``engine`` (path), those of `Compiler.arguments`, and further ones of the compiler.

    Raises:
        BuildError: the engine can't run here.
        CompilerUnavailableError: the device or a library is missing.
    """
    module, _, function = opener.partition(":")
    runner: Runner = getattr(importlib.import_module(module), function)(**arguments)
    return runner


def check_inputs(
    ports: Sequence[Port],
    given: Mapping[str, Any],
    describe: Callable[[Any], tuple[tuple[int, ...], str]],
    profile: int = 0,
) -> None:
    """Check that inputs fit an engine.

    Args:
        ports: The engine's inputs.
        given: Arrays or tensors by name.
        describe: `Device.describe`.
        profile: Which shape profile is in use.

    Raises:
        ConfigError: a wrong or missing name, a wrong data type, or a shape outside the profile.
    """
    names = [p.name for p in ports]
    strange, missing = [n for n in given if n not in names], [n for n in names if n not in given]
    if strange or missing:
        wrong = [f"there is no input {n}" for n in strange] + [f"input {n} is missing" for n in missing]
        raise ConfigError(f"These inputs do not fit the engine: {'; '.join(wrong)}.",
                          hint=f"Its inputs are {', '.join(names)}.")  # fmt: skip
    for port in ports:
        shape, dtype = describe(given[port.name])
        if port.dtype and dtype != port.dtype:
            raise ConfigError(f"Input {port.name} is {dtype}; the engine takes {port.dtype}.",
                              hint=f"Convert it: x.astype or x.to {port.dtype}.")  # fmt: skip
        fits = len(shape) == len(port.shape) and all(d in (-1, n) for d, n in zip(port.shape, shape, strict=True))
        allowed: list[Any] = list(port.shape)
        if port.ranges:
            low, _, high = port.ranges[profile]
            fits = fits and all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))
            allowed = [a if a == b else f"{a}..{b}" for a, b in zip(low, high, strict=True)]
        if not fits:
            raise ConfigError(
                f"Input {port.name} has shape {list(shape)}; the engine takes {allowed}.",
                hint="Build it with a shape profile that includes this shape." if port.ranges else
                "The engine was built for this shape only; build it with min:opt:max shapes for other shapes.",
            )  # fmt: skip
