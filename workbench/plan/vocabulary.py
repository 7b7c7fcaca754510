"""What a compiler's own names mean: the part of a plan's analysis that differs between compilers.

A compiler that uses names of its own has a subclass of `Vocabulary` in its folder, which the registry hands out
(`workbench.compilers.registry.vocabulary`). A record (`workbench.plan.record.LayerRecord`) may also carry a layer's
``kind`` and ``title``; then these are used as they are. The words of a compiler are applied when a plan is assembled,
not when a record is made, so that better words also renew the plans of records that are already in a store.
"""

# ruff: noqa: ARG002 - the neutral answers need no arguments
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
    """The vocabulary of a compiler without names of its own: everything follows from the nodes of a layer.

    Subclasses override what their compiler's names tell.
    """

    # --- what a layer is ---

    def kind(self, layer: LayerRecord, ops: Sequence[str]) -> str | None:
        """The kind (one of `workbench.plan.kinds.KINDS`) that the layer's names tell; None where they tell none.

        Args:
            layer: The layer's record.
            ops: ONNX operators of its nodes.
        """
        return None

    def title(self, layer: LayerRecord, kind: str, ops: Sequence[str]) -> str | None:
        """The layer's name in plain words; None where its names tell nothing that its operators do not."""
        return None

    def flow(self, graph: Graph, layers: Sequence[LayerRecord], renamed: Mapping[str, str]) -> Flow:
        """The nodes of each layer, and when it runs.

        Args:
            graph: The model.
            layers: The record's layers.
            renamed: Node names as the compiler got them -> node ids, where they differ.
        """
        return straight(graph, layers, renamed)

    # --- what a generated name says ---

    def words(self, name: str) -> list[str]:
        """The abbreviated operations that a generated kernel name consists of, in order; empty for other names."""
        return []

    def meanings(self, name: str) -> dict[str, str]:
        """Each of `words` with its meaning, or with itself where that is not known."""
        return {}

    def spells(self, layer: LayerRecord, others: Sequence[Node], node: Node) -> bool:
        """Whether the layer's name holds the operation of `node` beyond the operations of `others`."""
        return False

    def is_cut(self, layer: LayerRecord) -> bool:
        """Whether the layer's name is cut short, so that some of its operations are not in it."""
        return False

    def is_unrolled(self, layer: LayerRecord) -> bool:
        """Whether the layer's name says that it is part of an unrolled loop."""
        return False

    def has_alpha(self, layer: LayerRecord) -> bool:
        """Whether the layer is a product that also scales its result by a number."""
        return False

    def keeps_elements(self, layer: LayerRecord) -> bool:
        """Whether the layer's name says that it writes as many elements as it reads."""
        return False

    def only_converts(self, name: str) -> bool:
        """Whether a generated name says that the kernel only scales, rounds, moves and converts data types."""
        return False

    def requantizations(self, name: str) -> int:
        """How often a generated name says that the kernel rounds, clamps and converts to an integer type."""
        return 0

    def tactic(self, tactic: str) -> str:
        """A tactic's name for people."""
        return tactic


NEUTRAL = Vocabulary()
"""For compilers without words of their own, and for plans of compilers that are not known here."""


def layer_kind(layer: LayerRecord, ops: Sequence[str], vocabulary: Vocabulary) -> str:
    """The kind of a layer: what its record says, else what the compiler's words say, else that of its operators."""
    return layer.get("kind") or vocabulary.kind(layer, ops) or kind_of_ops(ops)


def layer_title(layer: LayerRecord, kind: str, ops: Sequence[str], vocabulary: Vocabulary) -> str:
    """A layer's name for people, found like its kind; the compiler's type where nothing says more."""
    return layer.get("title") or vocabulary.title(layer, kind, ops) or title_of_ops(ops, kind) or layer["type"]
