"""The interface of the device that an engine runs on, for measuring and serving: memory, time, facts.

`workbench.hardware.cuda.TorchDevice` is a `GraphDevice`; `workbench.hardware.host.HostDevice` is a plain `Device`. A
tensor is of the type that the device uses: a torch tensor on the GPU, a NumPy array on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable


class Device(Protocol):
    """One device with one queue of work. Used only in workers."""

    @property
    def clock(self) -> str:
        """How `times` measures, for people, such as ``CUDA events around each execution, queued back to back``."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Uninitialized memory on the device."""
        ...

    def upload(self, array: Any, dtype: str) -> Any:
        """An array as a contiguous tensor on the device; not copied if it already is one."""
        ...

    def download(self, tensor: Any) -> Any:
        """A tensor as a NumPy array; bfloat16 becomes float32."""
        ...

    def describe(self, value: Any) -> tuple[tuple[int, ...], str]:
        """Shape and data type of an array or tensor."""
        ...

    def finite(self, tensor: Any) -> bool:
        """Whether no value is NaN or infinite."""
        ...

    def synchronize(self) -> None:
        """Wait until all queued work is done."""
        ...

    def times(self, step: Callable[[], object], count: int) -> list[float]:
        """Milliseconds of each of `count` executions of `step`."""
        ...

    def facts(self) -> dict[str, Any]:
        """A description of the device: ``name``, and what identifies its architecture and software."""
        ...

    def used(self) -> int:
        """Bytes in use on the device."""
        ...


@runtime_checkable
class GraphDevice(Device, Protocol):
    """A GPU: CUDA graphs, copies through pinned memory, kernel traces, clocks."""

    stream: int

    def pointer(self, tensor: Any) -> int:
        """The address of a tensor."""
        ...

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """`step` as a CUDA graph: the function that replays it."""
        ...

    def copies(
        self, host: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, Any]
    ) -> tuple[Callable[[], None], Callable[[], None]]:
        """Two steps: copy the inputs to the device, copy the outputs back."""
        ...

    def kernels(self, step: Callable[[], None]) -> list[dict[str, Any]]:
        """The kernels that one `step` starts, in order: ``name`` and ``ms``."""
        ...

    def ceilings(self) -> dict[str, Any]:
        """Measured peaks of this GPU: ``bandwidth`` (bytes/s), ``peaks`` (operations/s by data type), ``size``."""
        ...

    def uuid(self) -> str | None:
        """The GPU's UUID; None if it is not known."""
        ...
