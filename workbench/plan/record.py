"""A compiler's answer to one build, as plain data, in which each layer carries the names that the compiler reported.

`workbench.plan.assemble` turns a record into a `Plan` with the model at hand, so that a better analysis needs no second build.
"""

from __future__ import annotations

from typing import Any, TypedDict


class TensorRecord(TypedDict, total=False):
    """One tensor of a layer, as the compiler reported it. `shape` may hold -1."""

    name: str
    shape: list[int]
    strides: list[int] | None
    dtype: str
    format: str


class LayerRecord(TypedDict, total=False):
    """One layer, as the compiler reported it. `nodes` holds names as the compiler was given them.

    `evidence` says how `nodes` is known where layers of one record differ. `detailed` is False where only the
    layer's name is known, so that its tensors are unknown rather than none.

    `kind` (one of `workbench.plan.kinds.KINDS`) and `title` are there where the compiler itself knows them; otherwise the
    compiler's vocabulary (`workbench.plan.vocabulary`) or the layer's nodes tell. `branch` and `repeated` say when a layer within control flow
    runs: the If nodes around it by their names, outermost first, each with 0 for then and 1 for else; and whether a loop
    repeats it. Where they are absent the vocabulary tells.
    """

    name: str
    type: str
    inputs: list[TensorRecord]
    constants: list[TensorRecord]
    outputs: list[TensorRecord]
    tactic: str
    stream: int
    event: int | None
    nodes: list[str]
    metadata: str
    evidence: str
    detailed: bool
    kind: str
    title: str
    branch: list[tuple[str, int]]
    repeated: bool


class IORecord(TypedDict, total=False):
    """An input or output of the engine; `profiles` has one min/opt/max per shape profile."""

    name: str
    mode: str
    dtype: str
    shape: list[int]
    format: str
    location: str
    profiles: list[dict[str, list[int]]]


class Record(TypedDict, total=False):
    """A compiler's answer to one build. JSON-able; kept beside the engine as ``record.json``.

    `folded` holds names of nodes that the compiler computed at build time.
    """

    compiler: dict[str, Any]
    seconds: dict[str, float]
    layers: list[LayerRecord]
    io: list[IORecord]
    tensors: dict[str, list[Any]]
    folded: list[str]
    facts: dict[str, Any]
    warnings: list[str]
    engine_bytes: int
