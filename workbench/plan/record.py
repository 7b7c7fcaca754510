"""A compiler's record of one build, as plain data. Each layer has the names that the compiler reported.

`workbench.plan.assemble` makes a `Plan` from a record and the model, so that a new analysis needs no second build.
``workbench/schemas/record.schema.json`` is generated from these types.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from workbench.core.typed_document import Count, DocumentType, closed, extensible
from workbench.hardware.machine import GpuDocument
from workbench.plan.document import FactsDocument, IODocument, SecondsDocument


@extensible
class TensorRecord(TypedDict):
    """One tensor of a layer, as the compiler reported it."""

    name: str
    shape: list[int]
    """-1 for an open dimension."""
    dtype: str
    strides: NotRequired[list[int] | None]
    format: NotRequired[str]


@extensible
class LayerRecord(TypedDict):
    """One layer, as the compiler reported it."""

    name: str
    type: str
    inputs: list[TensorRecord]
    outputs: list[TensorRecord]
    nodes: list[str]
    """Names of nodes, as the compiler received them."""
    constants: NotRequired[list[TensorRecord]]
    tactic: NotRequired[str]
    stream: NotRequired[int]
    event: NotRequired[int | None]
    metadata: NotRequired[str]
    evidence: NotRequired[str]
    """How `nodes` is known, if the layers of one record differ."""
    detailed: NotRequired[bool]
    """False if only the layer's name is known, so that its tensors are unknown and not absent."""
    kind: NotRequired[str]
    """One of `workbench.plan.kinds.KINDS`; if absent, the compiler's vocabulary or the nodes determine it."""
    title: NotRequired[str]
    """A readable name; if absent, found like `kind`."""
    branch: NotRequired[list[Annotated[tuple[str, Annotated[int, Field(ge=0, le=1)]], Field(strict=False)]]]
    """The If nodes around it by name, outermost first, with 0 for then and 1 for else; if absent, from the vocabulary."""
    repeated: NotRequired[bool]
    """Whether a loop repeats it; if absent, the vocabulary determines it."""


@closed
class CompilerRecord(TypedDict):
    """What compiled it."""

    name: str
    version: str
    target: str
    gpu: NotRequired[GpuDocument | None]
    """The GPU that was present, for target current."""


@extensible
class Record(TypedDict):
    """A compiler's record of one build. JSON-able; stored next to the engine as ``record.json``."""

    compiler: CompilerRecord
    seconds: SecondsDocument
    layers: list[LayerRecord]
    io: list[IODocument]
    tensors: NotRequired[dict[str, list[Any]]]
    """Shape and data type of the tensors of the network, by name."""
    folded: NotRequired[list[str]]
    """Nodes that the compiler computed at build time."""
    removed: NotRequired[list[str]]
    """Nodes that the compiler found to have no effect."""
    facts: NotRequired[FactsDocument]
    warnings: NotRequired[list[str]]
    engine_bytes: NotRequired[Count]


def _consistent(document: Record) -> None:
    """Checks that a JSON schema can't express.

    Raises:
        ValueError: an entry of `tensors` is not a shape and a data type.
    """
    for name, entry in document.get("tensors", {}).items():
        shape, dtype = entry if len(entry) == 2 else (None, None)
        if not isinstance(shape, list) or not all(type(d) is int for d in shape) or not isinstance(dtype, str):
            raise ValueError(f"tensors.{name[:60]} is not a shape and a data type")


RECORD = DocumentType(Record, title="Record", schema="workbench.record/1", check=_consistent)
