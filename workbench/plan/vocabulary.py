"""The meaning of a compiler's names: the part of a plan's analysis that differs between compilers.

A compiler with its own names has a subclass of `Vocabulary` in its folder, which the registry returns
(`workbench.compilers.registry.vocabulary`). A record (`workbench.plan.record.LayerRecord`) may also hold a layer's
``kind`` and ``title``; then these are used unchanged. A vocabulary is applied when a plan is assembled, not when a
record is made, so that a better vocabulary also improves the plans of records that are already in a store.
"""

# ruff: noqa: ARG002 - the neutral methods do not use their arguments
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.plan.flow import Flow, straight
from workbench.plan.kinds import kind_of_ops, title_of_ops

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.model.node import Node
    from workbench.plan.record import LayerRecord


class Vocabulary:
    """The vocabulary of a compiler without its own names: the nodes of a layer determine everything.

    Subclasses override the methods for which their compiler's names contain information.
    """

    # --- what a layer is ---

    def kind(self, layer: LayerRecord, ops: Sequence[str]) -> str | None:
        """The kind (one of `workbench.plan.kinds.KINDS`) that the layer's names indicate; None if they indicate none.

        Args:
            layer: The layer's record.
            ops: ONNX operators of its nodes.
        """
        return None

    def title(self, layer: LayerRecord, kind: str, ops: Sequence[str]) -> str | None:
        """The layer's name in plain words; None if its names contain no more information than its operators."""
        return None

    def flow(self, graph: Graph, layers: Sequence[LayerRecord], renamed: Mapping[str, str]) -> Flow:
        """The nodes of each layer, and when it runs.

        Args:
            graph: The model.
            layers: The record's layers.
            renamed: Node names as the compiler received them -> node ids, if they differ.
        """
        return straight(graph, layers, renamed)

    # --- information in a generated name ---

    def words(self, name: str) -> list[str]:
        """The abbreviated operations in a generated kernel name, in order; empty for other names."""
        return []

    def meanings(self, name: str) -> dict[str, str]:
        """Each of `words` with its meaning, or with itself if the meaning is not known."""
        return {}

    def spells(self, layer: LayerRecord, others: Sequence[Node], node: Node) -> bool:
        """Whether the layer's name contains the operation of `node` in addition to the operations of `others`."""
        return False

    def is_cut(self, layer: LayerRecord) -> bool:
        """Whether the layer's name is truncated, so that some of its operations are missing."""
        return False

    def is_unrolled(self, layer: LayerRecord) -> bool:
        """Whether the layer's name shows that it is part of an unrolled loop."""
        return False

    def has_alpha(self, layer: LayerRecord) -> bool:
        """Whether the layer is a product that also scales its result by a number."""
        return False

    def keeps_elements(self, layer: LayerRecord) -> bool:
        """Whether the layer's name shows that it writes as many elements as it reads."""
        return False

    def only_converts(self, name: str) -> bool:
        """Whether a generated name shows that the kernel only scales, rounds, moves, and converts data types."""
        return False

    def requantizations(self, name: str) -> int:
        """How often, by its generated name, the kernel rounds, clamps, and converts to an integer type."""
        return 0

    def tactic(self, tactic: str) -> str:
        """A tactic's name for people."""
        return tactic


NEUTRAL = Vocabulary()
"""For compilers without their own names, and for plans of unknown compilers."""


def layer_kind(layer: LayerRecord, ops: Sequence[str], vocabulary: Vocabulary) -> str:
    """The kind of a layer: from its record, or else from the vocabulary, or else from its operators."""
    return layer.get("kind") or vocabulary.kind(layer, ops) or kind_of_ops(ops)


def layer_title(layer: LayerRecord, kind: str, ops: Sequence[str], vocabulary: Vocabulary) -> str:
    """A layer's name for people, found like its kind; the compiler's type if there is no better name."""
    return layer.get("title") or vocabulary.title(layer, kind, ops) or title_of_ops(ops, kind) or layer["type"]
