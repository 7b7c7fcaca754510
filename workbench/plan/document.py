"""The JSON form of a plan, ``workbench.plan/1``, as `Plan.to_dict` writes it.

``workbench/schemas/plan.schema.json`` is generated from these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from workbench.core.typed_document import Count, DocumentType, Sha256, closed, extensible
from workbench.hardware.machine import GpuDocument
from workbench.model.provenance import SourceDocument
from workbench.plan.measured import DeviceDocument, MeasuredDocument

Kind = Literal[
    "attention", "cast", "control", "conv", "foreign", "gather", "gemm", "layout", "noop", "norm", "other", "pointwise",
    "pooling", "reduction", "shape", "softmax", "sync",
]  # fmt: skip

Evidence = Literal["reported", "name", "tensor-region", "fx-join", "module", "inferred", "none"]

Reason = Literal[
    "constant", "shape", "dead", "view", "layout", "weights", "scale", "quantization", "cast", "duplicate", "identity",
    "body", "unrolled", "unknown",
]  # fmt: skip

Mode = Literal["input", "output", ""]

Shape = list[Count]
OpenShape = list[Annotated[int, Field(ge=-1)]]


@closed
class TensorDocument(TypedDict):
    """A tensor of a layer."""

    name: str
    shape: Shape | None
    """At the opt shapes of the first profile; null if it is not known."""
    dtype: str
    """ONNX data type, lower case."""
    format: str
    """Memory layout, with the compiler's name."""
    bytes: Count | None
    """Size of the dense tensor; null if it is not known."""
    strides: NotRequired[list[int]]
    """In elements."""
    dynamic: NotRequired[Literal[True]]
    """The compiler reported open dimensions; `shape` is inferred from the model's shapes."""


@closed
class LayerDocument(TypedDict):
    """One entry of the plan: a kernel launch, a group of them, or a stream event."""

    id: Annotated[str, Field(min_length=1)]
    """Unique in the plan."""
    name: str
    """The compiler's name."""
    title: str
    """A readable name."""
    type: str
    """The compiler's type."""
    kind: Kind
    nodes: Annotated[list[str], Field(json_schema_extra={"uniqueItems": True})]
    """Ids of the ONNX nodes that it executes, wholly or in part."""
    evidence: Evidence
    """How `nodes` is known; "none" if and only if `nodes` is empty."""
    inputs: list[TensorDocument]
    outputs: list[TensorDocument]
    constants: list[TensorDocument]
    tactic: str
    stream: int
    event: int | None
    flops: Count | None
    """Computed; null where a shape is not known."""
    bytes_read: Count | None
    """Computed; null where a shape is not known."""
    bytes_written: Count | None
    """Computed; null where a shape is not known."""
    sources: list[SourceDocument]
    merged: list[Annotated[list[str], Field(min_length=2)]]
    """Groups of sibling nodes that the layer executes in one kernel (horizontal merge)."""
    partial: list[str]
    """Ids among `nodes` that other layers execute parts of."""
    inferred: NotRequired[Annotated[list[str], Field(json_schema_extra={"uniqueItems": True})]]
    """Ids among `nodes` that the compiler does not name here: a rule assigns them; see facts.inferred."""
    branch: NotRequired[list[str]]
    """The branches of If nodes that it is in, outermost first, such as `if_1: then`; absent if it always runs."""
    repeated: NotRequired[Literal[True]]
    """It runs once in each iteration of a loop; flops and bytes are those of all iterations."""
    time_ms: NotRequired[Annotated[float, Field(ge=0)]]
    """Measured milliseconds."""


@closed
class UnclaimedDocument(TypedDict):
    """A node that no layer executes."""

    node: str
    reason: Reason
    text: str
    """The reason as a sentence."""


@closed
class ProfileShapesDocument(TypedDict):
    """Shapes of one input in one shape profile."""

    min: OpenShape
    opt: OpenShape
    max: OpenShape


@closed
class IODocument(TypedDict):
    """An input or output of the engine."""

    name: str
    mode: Mode
    """Empty if it is not known."""
    dtype: str
    shape: OpenShape
    """-1 for an open dimension."""
    location: NotRequired[str]
    format: NotRequired[str]
    profiles: list[ProfileShapesDocument]


@closed
class ModelDocument(TypedDict):
    """The model that was compiled."""

    name: str
    sha256: Sha256 | None
    """Null if the model is not available."""
    nodes: Count | None


@closed
class CompilerDocument(TypedDict):
    """What compiled it."""

    name: str
    version: str
    target: str
    gpu: GpuDocument | None
    """The GPU that was present, for target current."""


Seconds = Annotated[float, Field(ge=0)]


@closed
class SecondsDocument(TypedDict, total=False):
    """Duration of the build; empty if it is not known how the engine was built."""

    load: Seconds
    parse: Seconds
    build: Seconds
    total: Seconds


@closed
class SummaryDocument(TypedDict):
    """Totals of the plan."""

    nodes: Count | None
    """Null without the model."""
    layers: Count
    launches_before: Count | None
    """Null without the model."""
    launches_after: Count
    bytes_before: Count | None
    """Null without the model."""
    bytes_after: Count
    bytes_unknown: Count
    """Nodes and layers that the sums of bytes omit."""
    bytes_unknown_before: NotRequired[Count | None]
    """Nodes that `bytes_before` omits; null without the model."""
    bytes_unknown_after: NotRequired[Count]
    """Layers that `bytes_after` omits."""
    flops: Count | None
    """Null without the model."""
    flops_unknown: Count | None
    """Nodes that `flops` omits; null without the model."""
    other_branches: NotRequired[Count]
    """Launches in branches of If nodes that the sums omit: only one branch of each If runs."""
    repeated: NotRequired[Count]
    """Launches that run in each iteration of a loop and are counted once."""
    layout_conversions: Count
    """Layers that only change the memory layout."""
    precision_conversions: Count
    """Layers that only change the data type."""
    merged: Count
    """Layers that execute sibling nodes in one kernel."""
    without_nodes: Count
    """Launches that execute no node."""
    peak_activation_bytes: Count
    peak_unknown: NotRequired[Count]
    """Tensors that the peak omits because their size is not known."""
    weight_bytes: Count
    kinds: dict[str, Count]
    """Layers by kind."""
    precisions: dict[str, Count]
    """Launches by data type."""
    unclaimed: dict[str, Count]
    """Nodes in no layer, by reason."""
    streams: Count


@extensible
class TimingCacheDocument(TypedDict, total=False):
    """The builder's cache of tactic timings."""

    bytes_before: int
    bytes_after: int
    hits: int | None
    entries: int
    slowest: list[Annotated[list[str | float], Field(min_length=2)]]


@extensible
class FactsDocument(TypedDict, total=False):
    """Other data that the compiler reported, and measurements; other fields may be present."""

    source: str
    file: str
    schema: str
    detailed: bool
    engine_bytes: Count | None
    network_layers: int
    warnings: list[str]
    model_problems: list[str]
    cast_warnings: list[str]
    compiler_problems: list[str]
    """Errors of the compiler that the record proves."""
    device: DeviceDocument | None
    memory: dict[str, int]
    """Bytes by purpose, as the compiler reported them."""
    phases: dict[str, float]
    """Seconds by phase of the build."""
    timing_cache: TimingCacheDocument | None
    inspected: dict[str, str | list[str] | None]
    """The files that the plan was read from."""
    measured: MeasuredDocument
    activation_memory_reported: Count | None
    """The total that the compiler reports, with scratch memory, for its largest shapes."""
    activation_memory_computed: Count
    """The peak by liveness at the plan's shapes."""
    activation_memory_disagrees: bool
    """Whether the computed peak is above the total that the compiler reports."""
    inferred: dict[str, str]
    """By node, why a kernel that does not name it is assumed to compute it."""


@closed
class PlanDocument(TypedDict):
    """How a compiler runs a model: layers in execution order, their tensors, and which ONNX nodes each executes."""

    schema: Literal["workbench.plan/1"]
    model: ModelDocument
    compiler: CompilerDocument
    config: dict[str, Any]
    """The build configuration: the values that differ from the defaults."""
    seconds: SecondsDocument
    layers: list[LayerDocument]
    unclaimed: list[UnclaimedDocument]
    io: list[IODocument]
    summary: SummaryDocument
    facts: FactsDocument


def _consistent(document: PlanDocument) -> None:
    """Checks that a JSON schema can't express.

    Raises:
        ValueError: two layers have one id, a layer lists a node twice, or its evidence contradicts its nodes.
    """
    layers = document["layers"]
    for layer in layers:
        nodes, more = layer["nodes"], layer.get("inferred", [])
        if len(set(nodes)) < len(nodes) or len(set(more)) < len(more):
            raise ValueError(f"layer {layer['id'][:60]!r} lists a node twice")
        if (layer["evidence"] == "none") != (not nodes):
            raise ValueError(f"layer {layer['id'][:60]!r} has {len(nodes)} nodes and evidence {layer['evidence']!r}")
    if len({layer["id"] for layer in layers}) < len(layers):
        raise ValueError("two layers have one id")


PLAN = DocumentType(PlanDocument, title="Plan", schema="workbench.plan/1", check=_consistent)
