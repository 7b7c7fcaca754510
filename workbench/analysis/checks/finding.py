"""Findings: what a check found in a model or an engine, with the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from workbench.plan.partition import Partition


SCHEMA = "workbench.checks/1"


Severity = Literal["problem", "cost", "note"]


SEVERITIES: tuple[Severity, ...] = ("problem", "cost", "note")
"""From worst to least: it does not work, it costs time or memory, it is useful to know."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        kind: Kind of finding, as words joined by dashes.
        title: One line.
        message: What it means here.
        severity: problem (it does not work), cost (time or memory), note.
        evidence: The evidence, and whether it was measured, computed or reported.
        remedy: What to do, as Python if it is a call.
        layers: Ids of the affected layers of the plan.
        nodes: Ids of the affected nodes of the graph.
        shapes: Shapes and values to build with, by input, in the form that `workbench.ShapeProfile.parse` takes.
    """

    kind: str
    title: str
    message: str
    severity: Severity
    evidence: str
    remedy: str
    layers: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    shapes: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "layers": list(self.layers), "nodes": list(self.nodes), "shapes": dict(self.shapes)}


@dataclass(frozen=True)
class Findings:
    """The findings of one model or engine, worst first.

    Attributes:
        name: Name of the model.
        engine: Id of the engine; "" if there is none.
        findings: The findings.
        unchecked: Checks that could not run, with the reason.
        partition: The nodes that TensorRT's parser or builder supports; None if neither ran.
    """

    name: str
    engine: str
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...] = ()
    partition: Partition | None = None

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __getitem__(self, kind: str) -> Finding:
        """The finding of a kind; raises KeyError if there is none."""
        for finding in self.findings:
            if finding.kind == kind:
                return finding
        raise KeyError(kind)

    def __contains__(self, kind: object) -> bool:
        return any(f.kind == kind for f in self.findings)

    def to_frame(self) -> pd.DataFrame:
        """One row per finding."""
        import pandas as pd

        columns = ["severity", "kind", "title", "message", "evidence", "remedy", "layers", "nodes"]
        return pd.DataFrame([[getattr(f, c) for c in columns] for f in self.findings], columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, ``workbench.checks/1``."""
        return {
            "schema": SCHEMA, "model": self.name, "engine": self.engine,
            "findings": [f.to_dict() for f in self.findings], "unchecked": list(self.unchecked),
        }  # fmt: skip

    def __repr__(self) -> str:
        counts = Counter(f.severity for f in self.findings)
        head = ", ".join(f"{counts[s]} {s}{'s' if counts[s] > 1 else ''}" for s in SEVERITIES if counts[s]) or "nothing"
        lines = [f"<Findings of {self.name}{f' engine {self.engine}' if self.engine else ''}: {head}"]
        lines += [f"  {f.severity:8} {f.title}" for f in self.findings]
        lines += [f"  not checked: {text}" for text in self.unchecked]
        return "\n".join(lines) + ">"


def worst_first(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings by severity, problems first."""
    return tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))
