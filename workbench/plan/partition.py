"""A partition: which operators run in TensorRT, which fall back, and how many engines that makes.

``workbench/schemas/partition.schema.json`` is generated from the types of its JSON form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import NotRequired, TypedDict

from workbench.core.documents import DocumentError
from workbench.core.errors import StoreError
from workbench.core.typed_document import Count, DocumentType, extensible
from workbench.model.provenance import Source, SourceDocument

if TYPE_CHECKING:
    import pandas as pd

Side = Literal["tensorrt", "fallback"]

METHODS = {
    "torch_tensorrt": "by Torch-TensorRT's own partitioner",
    "parser": "by TensorRT's ONNX parser, node by node",
    "builder": "by TensorRT's builder",
}
"""The ways to find a partition."""

ONLY_PARSED = "Only the parser was asked: the builder may refuse nodes that it accepts. Use method='builder' (--method builder) to build."


@extensible
class PortDocument(TypedDict, total=False):
    """A tensor that enters or leaves a segment."""

    name: str
    shape: list[int | str] | None
    """Dynamic dimensions by name."""
    dtype: str


@extensible
class OperatorDocument(TypedDict):
    """One operator of the graph."""

    name: str
    op: str
    source: SourceDocument
    reason: str
    """Why it does not run in TensorRT; empty if it does."""


@extensible
class SegmentDocument(TypedDict):
    """Operators that run together."""

    runs_on: Side
    name: str
    engine_bytes: Count | None
    """Null if no engine was built."""
    inputs: list[PortDocument]
    outputs: list[PortDocument]
    operators: list[OperatorDocument]


@extensible
class RefusalDocument(TypedDict):
    """The error of the builder when it refused the model."""

    code: str
    message: str
    hint: str | None
    nodes: list[str]
    """Empty if it named none."""


@extensible
class PartitionDocument(TypedDict):
    """How a model divides between TensorRT and what can't run there."""

    schema: Literal["workbench.partition/1"]
    model: str
    method: str
    planned: bool
    """Whether no engine was built: the partitioner or the parser was asked, not the builder."""
    engines: Count
    """Segments that run in TensorRT."""
    coverage: float
    """Share of operators that run in TensorRT, 0 to 1."""
    advice: list[str]
    segments: list[SegmentDocument]
    settings: dict[str, Any]
    """What was asked for."""
    versions: dict[str, str]
    unsupported: dict[str, Count]
    """Operations without a converter, and how often they occur."""
    seconds: float
    refusals: NotRequired[list[RefusalDocument]]
    proven: NotRequired[bool]
    """Whether everything that is counted as TensorRT's was built, or parsed, without the rest."""
    notes: NotRequired[list[str]]


PARTITION = DocumentType(PartitionDocument, title="Partition", schema="workbench.partition/1")


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of the graph.

    Attributes:
        name: Name of the node: of the exported torch graph, or of the ONNX graph.
        op: ``aten.relu.default``, or ONNX's operation.
        source: Module scope, file and line, if known.
        reason: Why it does not run in TensorRT; "" if it does.
    """

    name: str
    op: str
    source: Source = field(default_factory=Source)
    reason: str = ""


@dataclass(frozen=True)
class Segment:
    """Operators that run together.

    Attributes:
        runs_on: ``tensorrt`` for one engine; ``fallback`` for PyTorch (or, for an ONNX model, another runtime).
        operators: In order of the graph.
        inputs: ``name``, ``shape`` (dynamic dimensions as text) and ``dtype`` of each input; empty if unknown.
        outputs: The same for the outputs.
        name: The name that the partitioner gave it.
        engine_bytes: Size of the engine; None if none was built.
    """

    runs_on: Side
    operators: tuple[Operator, ...]
    inputs: tuple[PortDocument, ...] = ()
    outputs: tuple[PortDocument, ...] = ()
    name: str = ""
    engine_bytes: int | None = None


@dataclass(frozen=True)
class Partition:
    """How a model divides between TensorRT and what can't run there.

    Attributes:
        model: Its name.
        method: A key of `METHODS`.
        planned: True if no engine was built: the partitioner or the parser was asked, not the builder.
        segments: In an order in which they can run.
        settings: ``min_block_size``, ``precision`` and other options.
        versions: Versions of torch, torch_tensorrt and TensorRT.
        unsupported: Operations that have no converter, with how often they occur.
        seconds: How long it took.
        refusals: The builder's error each time that it refused: ``code``, ``message``, ``hint`` and ``nodes``
            (ids; empty if it named none), in order.
        proven: Whether all operators that are counted as TensorRT's were built (or parsed, for the parser) without the
            others. If False, at least the fallbacks are refused, and there may be more.
        notes: More sentences about how it was found.
    """

    model: str
    method: str
    planned: bool
    segments: tuple[Segment, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    unsupported: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    refusals: tuple[RefusalDocument, ...] = ()
    proven: bool = True
    notes: tuple[str, ...] = ()

    @property
    def engines(self) -> int:
        """How many engines: segments that run in TensorRT."""
        return sum(s.runs_on == "tensorrt" for s in self.segments)

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All operators, in the order of the segments."""
        return tuple(o for s in self.segments for o in s.operators)

    @cached_property
    def fallbacks(self) -> tuple[Operator, ...]:
        """Operators that do not run in TensorRT."""
        return tuple(o for s in self.segments if s.runs_on == "fallback" for o in s.operators)

    @property
    def coverage(self) -> float:
        """Share of operators that run in TensorRT, 0 to 1; 0 for an empty graph."""
        total = len(self.operators)
        return (total - len(self.fallbacks)) / total if total else 0.0

    @property
    def crossings(self) -> int:
        """Changes between TensorRT and the fallback along the segments."""
        sides = [s.runs_on for s in self.segments]
        return sum(sides[i] != sides[i - 1] for i in range(1, len(sides)))

    @property
    def advice(self) -> tuple[str, ...]:
        """Advice that follows from the partition; empty if everything runs in one engine."""
        out = []
        small = [o for o in self.fallbacks if "min_block_size" in o.reason]
        if small:
            out.append(
                f"{len(small)} operators could run in TensorRT but are in blocks of fewer than "
                f"min_block_size={self.settings.get('min_block_size')}; a smaller value makes more engines."
            )
        sizes = sorted(len(s.operators) for s in self.segments if s.runs_on == "tensorrt")
        if len(sizes) > 1 and self.method == "torch_tensorrt":
            out.append(
                f"{len(sizes)} engines, of {', '.join(map(str, sizes[:-1]))} and {sizes[-1]} operators; "
                f"min_block_size={sizes[-1]} leaves the largest only."
            )
        for refusal in self.refusals:
            nodes = ", ".join(map(str, refusal["nodes"][:5])) or "no node named"
            out.append(f"Refused by the builder ({nodes}): {refusal['message']} {refusal['hint'] or ''}".strip())
        if not self.proven and any(r["nodes"] for r in self.refusals):
            out.append("At least these fall back: the rest was not built without them, or is also refused.")
        if self.method == "parser" and self.segments:
            out.append(ONLY_PARSED)
        out += self.notes
        if self.unsupported and self.method == "torch_tensorrt":
            out.append("No converter: " + ", ".join(f"{op} ({n})" for op, n in self.unsupported.items()) + ".")
        return tuple(out)

    def to_frame(self) -> pd.DataFrame:
        """One row per operator."""
        import pandas as pd

        columns = ["segment", "runs_on", "operator", "node", "module", "class", "source", "code", "reason"]
        rows = [
            [
                i, s.runs_on, o.op, o.name, o.source.scope, o.source.module,
                f"{Path(o.source.file).name}:{o.source.line}" if o.source.file else "", o.source.code, o.reason,
            ]
            for i, s in enumerate(self.segments) for o in s.operators
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def to_dict(self) -> PartitionDocument:
        """JSON-able form, ``workbench.partition/1``."""
        return {
            "schema": "workbench.partition/1", "model": self.model, "method": self.method, "planned": self.planned,
            "engines": self.engines, "coverage": self.coverage, "advice": list(self.advice),
            "segments": [
                {
                    "runs_on": s.runs_on, "name": s.name, "engine_bytes": s.engine_bytes,
                    "inputs": [t.copy() for t in s.inputs], "outputs": [t.copy() for t in s.outputs],
                    "operators": [
                        {"name": o.name, "op": o.op, "source": o.source.to_dict(), "reason": o.reason}
                        for o in s.operators
                    ],
                }
                for s in self.segments
            ],
            "settings": dict(self.settings), "versions": dict(self.versions), "unsupported": dict(self.unsupported),
            "seconds": self.seconds, "refusals": [r.copy() for r in self.refusals], "proven": self.proven,
            "notes": list(self.notes),
        }  # fmt: skip

    @staticmethod
    def from_dict(data: Any) -> Partition:
        """The inverse of `to_dict`.

        Raises:
            StoreError: it is another document (code ``not-a-partition``), or damaged (``damaged-partition``).
        """
        found = data.get("schema") if isinstance(data, dict) else None
        if found != PARTITION.id:
            raise StoreError(f"This is not a {PARTITION.id} document but {found!r}.", code="not-a-partition")
        try:
            document = PARTITION.check(data, "partition")
        except DocumentError as error:
            raise StoreError(f"This partition is damaged: {error}.", code="damaged-partition") from None
        segments = tuple(
            Segment(
                s["runs_on"],
                tuple(Operator(o["name"], o["op"], Source(**o["source"]), o["reason"]) for o in s["operators"]),
                tuple(s["inputs"]), tuple(s["outputs"]), s["name"], s["engine_bytes"],
            )
            for s in document["segments"]
        )  # fmt: skip
        return Partition(
            document["model"], document["method"], document["planned"], segments, document["settings"], document["versions"],
            document["unsupported"], document["seconds"], tuple(document.get("refusals", ())), document.get("proven", True),
            tuple(document.get("notes", ())),
        )  # fmt: skip

    @property
    def how(self) -> str:
        """How it was found, in a few words."""
        return METHODS.get(self.method, self.method)

    @property
    def title(self) -> str:
        """One line that says how it was found."""
        how = self.how
        if self.method == "builder":
            asked = f"{self.settings.get('target')}, {self.settings.get('precision')}"
            return f"{'refused' if self.refusals else 'built'} {how} ({asked})"
        return f"planned {how}, nothing built" if self.planned else f"built, {how}"

    @property
    def head(self) -> str:
        """One line that says how much of the model runs in TensorRT, as far as it is known."""
        total, back = len(self.operators), len(self.fallbacks)
        engines = f"{self.engines} engine{'s' if self.engines != 1 else ''}"
        if self.method == "parser":
            return (
                f"{total - back} of {total} operators accepted by the parser, in {engines}; the builder was not asked"
            )
        if self.proven:
            return f"{total - back} of {total} operators in {engines}"
        if not any(r["nodes"] for r in self.refusals):
            return f"the builder refuses the model and does not say which of its {total} operators"
        return f"at least {back} of {total} operators can't be built"

    def __repr__(self) -> str:
        lines = [f"<Partition of {self.model}, {self.title}: {self.head}"]
        for i, segment in enumerate(self.segments):
            kinds = Counter(o.op for o in segment.operators).most_common(3)
            most = ", ".join(f"{n} {op}" for op, n in kinds)
            side = "TensorRT" if segment.runs_on == "tensorrt" else "fallback"
            lines.append(f"  {i}  {side:9} {len(segment.operators):4} operators  ({most})")
            lines += [f"       {op}: {reason}" for op, reason in _reasons(segment.operators)]
        return "\n".join([*lines[:40], *([f"  … {len(lines) - 40} more lines"] if len(lines) > 40 else [])]) + ">"


def _reasons(operators: Sequence[Operator]) -> list[tuple[str, str]]:
    """Each pair of operation and reason once, with its first place in the source."""
    found: dict[tuple[str, str], Operator] = {}
    for o in operators:
        if o.reason:
            found.setdefault((o.op, o.reason), o)
    out = []
    for (op, reason), first in list(found.items())[:5]:
        place = f" at {Path(first.source.file).name}:{first.source.line}" if first.source.file else ""
        out.append((op + place, reason))
    return out
