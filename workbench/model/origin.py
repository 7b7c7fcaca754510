"""Where a model comes from and how it was changed: `Model.origin`, stored with the model and in archives.

``workbench/schemas/origin.schema.json`` is generated from these types.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from workbench.core.typed_document import DocumentType, Sha256, extensible

OriginKind = Literal["file", "sample", "factory", "module", "proto", "cast", "quantize", "placement"]


@extensible
class SchemeDocument(TypedDict, total=False):
    """The JSON form of `workbench.precision.Scheme`."""

    to: str
    method: str | None
    percentile: float
    rest: str
    weights: str
    residual: bool | None
    keep: list[str]
    only: list[str] | None
    block: int
    placement: str


@extensible
class ListsDocument(TypedDict, total=False):
    """The nodes that a cast includes or excludes, and whether inputs and outputs keep their types."""

    keep: list[str]
    keep_ops: list[str]
    only: list[str]
    only_ops: list[str]
    keep_io: bool


@extensible
class ChangedDocument(TypedDict):
    """A constant that the lower type would change too much."""

    constant: str
    node: str
    op: str
    value: float
    becomes: float
    size: int


@extensible
class FoldedDocument(TypedDict):
    """A weight that was computed from constants to quantize it."""

    weight: str
    bytes: int
    shared: list[str]
    """Other nodes that still read the original weight."""


@extensible
class ImportedDocument(TypedDict):
    """The archive that the model came in."""

    archive: str
    trust: bool
    """Whether the user allowed running code that the model names."""


_Class = TypedDict("_Class", {"class": str}, total=False)


@extensible
class Origin(_Class, total=False):
    """Where a model comes from and how it was changed. Which fields are present depends on `kind`."""

    kind: OriginKind
    name: str
    """The name of a sample."""
    spec: str
    """The factory, as ``package.module:function``."""
    folder: str
    """The working directory that a factory is imported from; not stored."""
    file: str
    """The Python file of a sample; not stored."""
    root: str
    """The folder of a sample; not stored."""
    made_from: dict[str, Any]
    """Sources that the export of a factory depends on; not stored."""
    exported: float
    """Time of the export, in seconds since the epoch; not stored."""
    path: str
    """The path of an ONNX file."""
    inputs: dict[str, list[int]]
    """Shapes that it was exported at."""
    dynamic: dict[str, dict[str, str]]
    """Dynamic dimensions by input and axis."""
    torch: str
    """The PyTorch version that exported it."""
    error: dict[str, float | str]
    """Largest relative difference from PyTorch for each set of shapes, or why it was not compared."""
    source: Sha256
    """Fingerprint of the model that it was rewritten from."""
    library: str
    """The tool that rewrote it, if it was not the workbench."""
    precision: str
    """The type of a cast: fp16 or bf16."""
    lists: ListsDocument
    casts: int
    """Cast nodes that were added."""
    lowered: int
    """Nodes that run in the lower type."""
    kept: dict[str, int]
    """Nodes left in FP32, by operation."""
    guarded: dict[str, list[str]]
    """Nodes left in FP32 because a rule keeps them there, by rule."""
    changed: list[ChangedDocument]
    clipped: list[str]
    """Constants outside the range of the lower type that were clipped to it."""
    warnings: list[str]
    scheme: SchemeDocument
    quantized: list[str]
    """Nodes that were quantized."""
    left: dict[str, str]
    """Nodes that were not quantized, each with the reason."""
    folded: dict[str, FoldedDocument]
    """Weights that were computed from constants, by node."""
    pairs: int
    """Q/DQ pairs on activations."""
    calibration: Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")] | None
    """Name of the calibration file in the store."""
    ranges: dict[str, float]
    """Calibrated range by tensor."""
    moved: list[str]
    """How each misplaced Q/DQ pair was changed, one sentence each."""
    removed: int
    """Q/DQ pairs that were removed."""
    added: int
    """Q/DQ pairs that were added."""
    imported: ImportedDocument | None
    """Null or absent where the model was made here."""


ORIGIN = DocumentType(Origin, title="Origin", schema="workbench.origin/1")
