"""The measurements that a plan and a profile store."""

from __future__ import annotations

from typing_extensions import NotRequired, TypedDict

from workbench.core.typed_document import extensible
from workbench.hardware.machine import MachineDocument
from workbench.hardware.nvml import ClocksDocument


@extensible
class LatencyDocument(TypedDict):
    """Times of whole executions, in milliseconds."""

    mean_ms: float
    median_ms: float
    p90_ms: float
    p99_ms: float
    iterations: int
    warm_up_iterations: NotRequired[int]
    min_ms: NotRequired[float]
    max_ms: NotRequired[float]
    method: NotRequired[str]
    """How the times were taken."""
    steady: NotRequired[bool]
    """Whether the times were stable at the end of the series."""
    percentiles_ms: NotRequired[list[float]]
    """The 0th to the 100th percentile."""


@extensible
class EndToEndDocument(LatencyDocument):
    """Latency with its parts."""

    compute_mean_ms: float
    transfers_mean_ms: float
    """Copies of inputs and outputs; 0 if they were not measured."""


@extensible
class OutputErrorDocument(TypedDict, total=False):
    """The difference of one output from its reference, over the values that are finite in both."""

    relative_l2: float | None
    """Norm of the difference over the norm of the reference; null if that is 0."""
    max_abs: float | None
    cosine: float | None
    not_finite: int
    """Values that are NaN or infinite in the output but not in the reference."""


@extensible
class ErrorDocument(TypedDict, total=False):
    """The difference of the outputs from a reference."""

    outputs: dict[str, OutputErrorDocument]
    relative_l2: float | None
    """The largest of all outputs."""
    ok: bool
    """Whether all values are finite where the reference is finite."""
    reference: str
    """The reference of the comparison."""


@extensible
class DeviceDocument(TypedDict, total=False):
    """A GPU."""

    name: str | None
    sm: str | None


@extensible
class CeilingsDocument(TypedDict):
    """Measured peaks of the GPU."""

    peaks: dict[str, float]
    """FLOP/s by data type."""
    name: NotRequired[str | None]
    sm: NotRequired[str | None]
    bandwidth: NotRequired[float | None]
    """Bytes per second."""
    source: NotRequired[str]
    measured: NotRequired[bool]


@extensible
class EnergyDocument(TypedDict, total=False):
    """Energy of the whole GPU, warm-up included."""

    way: str
    joules: float
    runs: int
    joules_per_run: float


@extensible
class MeasuredDocument(TypedDict, total=False):
    """Measurements of an engine, without the times of its layers."""

    latency: EndToEndDocument
    """Of whole executions: in a CUDA graph if that was measured, otherwise launch by launch."""
    ways: dict[str, LatencyDocument]
    """By mode of execution: plain, graph, transfers."""
    error: ErrorDocument | None
    device: DeviceDocument | None
    machine: MachineDocument | None
    memory: dict[str, int | None] | None
    """Bytes by purpose."""
    notes: list[str]
    shapes: dict[str, list[int]]
    """Of the inputs."""
    first_ms: float
    """The first execution."""
    ceilings: CeilingsDocument | None
    clocks: ClocksDocument | None
    energy: EnergyDocument | None
    method: str
    """How layers were timed."""
    joined: str
    """How the profiler's rows were matched with layers."""
    iterations: int
    """Executions in which layers were timed."""
    sum_ms: float
    """Sum of the layers' times."""
