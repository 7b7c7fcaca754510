"""A `Runner` for compilers that execute NumPy arrays on the CPU; such a compiler supplies `execute`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.core.errors import ConfigError
from workbench.hardware.host import HostDevice
from workbench.measure.runner import Port, check_inputs


class HostRunner(ABC):
    """An engine on the CPU.

    Args:
        inputs: The engine's inputs.
        outputs: The engine's outputs.
        compiler: ``name`` and ``version`` of the compiler.
        profile: Which shape profile to use.
    """

    cached = 0

    def __init__(
        self, inputs: Sequence[Port], outputs: Sequence[Port], compiler: Mapping[str, Any], profile: int = 0
    ) -> None:
        count = max([1, *(len(port.ranges) for port in inputs)])
        if not 0 <= profile < count:
            raise ConfigError(f"The engine has no shape profile {profile}.", hint=f"It has {count}.")
        self.inputs, self.outputs, self.profile = list(inputs), list(outputs), profile
        self.device = HostDevice()
        self._compiler = dict(compiler)
        self._given: dict[str, Any] = {}
        self._found: dict[str, Any] = {}

    @abstractmethod
    def execute(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run the engine once.

        Args:
            arrays: The inputs by name, contiguous and checked.

        Returns:
            The outputs by name.

        Raises:
            BuildError: the runtime failed.
        """

    def opt_shapes(self) -> dict[str, tuple[int, ...]]:
        """The opt shape of each input; a dynamic dimension without a shape profile counts as 1."""
        return {
            port.name: port.ranges[self.profile][1] if port.ranges else tuple(1 if d < 0 else d for d in port.shape)
            for port in self.inputs
        }

    def output_shapes(self, given: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and data type of each output.

        Raises:
            ConfigError: the inputs do not fit, or an output's shape is known only after an execution.
        """
        check_inputs(self.inputs, given, self.device.describe, self.profile)
        if unknown := [port.name for port in self.outputs if -1 in port.shape]:
            raise ConfigError(f"The shape of output {unknown[0]} is known only after an execution.")
        return {port.name: (port.shape, port.dtype) for port in self.outputs}

    def bind(
        self, given: Mapping[str, Any], *, finite: bool = True, into: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Set the inputs; see `workbench.measure.runner.Runner`. The outputs are available after `run`.

        Raises:
            ConfigError: the inputs do not fit.
        """
        if into is not None:
            raise ConfigError("The engine runs on the CPU and allocates its outputs itself.")
        check_inputs(self.inputs, given, self.device.describe, self.profile)
        arrays = {port.name: self.device.upload(given[port.name], port.dtype) for port in self.inputs}
        for port in self.inputs:
            if finite and "float" in port.dtype and not self.device.finite(arrays[port.name]):
                raise ConfigError(f"Input {port.name} holds NaN or infinity.", hint="Clean it, or pass finite=False.")
        self._given, self._found = arrays, {}
        return self._found

    def bound_inputs(self) -> dict[str, Any]:
        """The inputs by name."""
        return dict(self._given)

    def release(self) -> None:
        """Release the inputs and outputs."""
        self._given, self._found = {}, {}

    def run(self) -> None:
        """Execute once; returns when the outputs are available."""
        self._found.update(self.execute(self._given))

    def layer_times(
        self,
        iterations: int,  # noqa: ARG002 - for compilers that time layers
        step: Callable[[int], None] = lambda _: None,  # noqa: ARG002
    ) -> list[tuple[str, list[float]]]:
        """No times; override this if the runtime times layers."""
        return []

    def memory(self) -> dict[str, int]:
        """Empty; override this if the runtime reports its memory needs."""
        return {}

    def facts(self) -> dict[str, Any]:
        """The compiler."""
        return {"compiler": dict(self._compiler)}

    def starts_kernel(self, layer: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Nothing runs on a GPU."""
        return False

    def save_cache(self, path: Path) -> int:  # noqa: ARG002
        """Nothing is compiled at run time."""
        return 0
