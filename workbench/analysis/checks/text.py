"""Text helpers for checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.model.provenance import Source
from workbench.plan.plan import Layer, Plan

if TYPE_CHECKING:
    from workbench.plan.partition import Partition


def layers_of(plan: Plan | None, nodes: Iterable[str]) -> tuple[str, ...]:
    """Ids of the layers that execute these nodes; empty without a plan."""
    return () if plan is None else tuple(dict.fromkeys(la.id for n in nodes for la in plan.layers_of.get(n, ())))


def count_text(n: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{n} {noun}{'s' if n != 1 else ''}"


def name_of(layer: Layer) -> str:
    """The first node of a layer, or the layer's title if it has no node."""
    return layer.nodes[0] if layer.nodes else layer.title


def place_text(source: Source) -> str:
    """``file.py:12``."""
    return f"{Path(source.file).name}:{source.line}"


def method_text(partition: Partition) -> str:
    """The method of a partition, with versions."""
    versions = ", ".join(f"{k} {v}" for k, v in partition.versions.items())
    return f"{partition.how} ({versions})"


def shape_text(shape: Sequence[Any] | None) -> str:
    """``1×3×224×224``."""
    return "×".join(str(d) for d in shape or ())


def listed(parts: Iterable[str]) -> str:
    """``a, b and c``."""
    found = list(parts)
    return found[0] if len(found) == 1 else ", ".join(found[:-1]) + " and " + found[-1] if found else ""
