"""The performance table as a JSON document, ``workbench.bench/1``.

``workbench/schemas/bench.schema.json`` is generated from these types.
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import NotRequired, TypedDict

from workbench.core.typed_document import Count, DocumentType, extensible
from workbench.hardware.machine import MachineDocument
from workbench.model.origin import SchemeDocument


@extensible
class WayError(TypedDict):
    """Error of a way's output against PyTorch in FP32 with TF32 off."""

    ok: bool
    """Whether all values are finite that are finite in the reference."""
    relative_l2: float | None


@extensible
class WayDocument(TypedDict):
    """Times of one way of running, in milliseconds, and its error."""

    median_ms: float
    error: WayError
    method: NotRequired[str]
    iterations: NotRequired[int]
    steady: NotRequired[bool]
    mean_ms: NotRequired[float]
    min_ms: NotRequired[float]
    max_ms: NotRequired[float]
    p90_ms: NotRequired[float]
    p99_ms: NotRequired[float]


@extensible
class LostDocument(TypedDict):
    """Kernels that are slower than the FP16 kernels for the same nodes."""

    nodes: str
    low: str
    """The quantized engine's kernels."""
    wide: str
    """FP16's kernels."""
    low_ms: float
    wide_ms: float
    lost_ms: float


@extensible
class AgainstDocument(TypedDict):
    """Comparison of a quantized row with the FP16 row."""

    low_ms: float
    """Sum of the quantized engine's layers."""
    fp16_ms: float
    lost: list[LostDocument]
    """The kernels that lost the most."""


@extensible
class BenchCompiler(TypedDict):
    """The compiler that built the engine."""

    name: str
    version: str
    target: str


@extensible
class RowDocument(TypedDict):
    """One model, batch and precision."""

    model: str
    batch: Count
    precision: str
    ways: dict[str, WayDocument]
    """By way: eager, torch.compile, torch_tensorrt, tensorrt, tensorrt graph."""
    missing: dict[str, str]
    """Why a way was not measured."""
    compiler: NotRequired[BenchCompiler]
    build_s: NotRequired[float]
    torch: NotRequired[str]
    """Version of PyTorch."""
    eager_precision: NotRequired[str]
    """Precision of the eager way, if it differs from the row's."""
    scheme: NotRequired[SchemeDocument]
    """How the model was quantized."""
    quantized: NotRequired[Count]
    """Nodes that were quantized."""
    left: NotRequired[Count]
    """Nodes that were not quantized."""
    calibration: NotRequired[str]
    layer_ms: NotRequired[list[float | None]]
    """Mean time of each layer of the plan."""
    kinds_ms: NotRequired[dict[str, float]]
    """Time of the layers of each kind."""
    against_fp16: NotRequired[AgainstDocument]


@extensible
class BenchDocument(TypedDict):
    """The same models and inputs through several ways of running them, on one GPU."""

    schema: Literal["workbench.bench/1"]
    rows: list[RowDocument]
    machine: NotRequired[MachineDocument]
    version: NotRequired[str]
    """Of the workbench."""
    date: NotRequired[str]


BENCH = DocumentType(BenchDocument, title="Bench", schema="workbench.bench/1")
