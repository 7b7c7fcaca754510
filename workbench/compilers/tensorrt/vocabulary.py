"""TensorRT's vocabulary for the analysis of plans: what its layer types and generated names mean.

TensorRT's records stay as the compiler wrote them. The vocabulary is applied when a plan is assembled, so an
improved vocabulary also updates the plans of existing engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.compilers.tensorrt import flow, spelling, words
from workbench.plan.vocabulary import Vocabulary

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.model.node import Node
    from workbench.plan.flow import Flow
    from workbench.plan.record import LayerRecord

_KEEP = {"Move", "Tran", "Resh", "Rest", "Cast"}
"""Words of kernels that write as many elements as they read."""

_CONVERT = {"Mul", "Div", "Min", "Max", "Roun", "Cast", "Conc", "Move", "Resh", "Tran", "Repl", "Clip"}
"""Words of kernels that only scale, round, move and convert."""

_REQUANTIZE = ("Min", "Max", "Roun", "Cast")
"""The words of a conversion to INT8 in a kernel's name."""


class TensorRTVocabulary(Vocabulary):
    """Reads TensorRT's and Myelin's names."""

    def kind(self, layer: LayerRecord, ops: Sequence[str]) -> str | None:
        """The layer's kind, from its type and name."""
        if words.is_control(layer):
            return "control"
        if layer["type"] in {"memset", "copy"}:
            return "layout"
        return words.kind_of(layer["type"], layer["name"], ops)

    def title(self, layer: LayerRecord, kind: str, ops: Sequence[str]) -> str | None:
        """The words of the layer's generated name, written out."""
        return words.title_of(layer["type"], layer["name"], kind, ops)

    def flow(self, graph: Graph, layers: Sequence[LayerRecord], renamed: Mapping[str, str]) -> Flow:
        """Reads the jumps between layers, and the loop numbers in the names of constants."""
        return flow.flow(graph, layers, renamed)

    def words(self, name: str) -> list[str]:
        """The words of a ``__myl_`` name."""
        return words.words_of(name)

    def meanings(self, name: str) -> dict[str, str]:
        """Each word with its meaning."""
        return {word: words.WORDS.get(word, word) for word in words.words_of(name)}

    def spells(self, layer: LayerRecord, others: Sequence[Node], node: Node) -> bool:
        """Compares the words of the name with those of the operators."""
        return spelling.spells(layer["name"], others, node)

    def is_cut(self, layer: LayerRecord) -> bool:
        """Long names end in ``Etc``."""
        return "Etc" in words.words_of(layer["name"])

    def is_unrolled(self, layer: LayerRecord) -> bool:
        """Names of unrolled steps hold ``_unroll``."""
        return "_unroll" in layer["name"]

    def has_alpha(self, layer: LayerRecord) -> bool:
        """A product with a scale has a constant named ``_alpha_``."""
        return any("_alpha_" in t["name"] for t in layer.get("constants", ()))

    def keeps_elements(self, layer: LayerRecord) -> bool:
        """The name consists of moves and casts."""
        found = set(words.words_of(layer["name"]))
        return bool(found) and found <= _KEEP

    def only_converts(self, name: str) -> bool:
        """The name consists of scaling, rounding, moves and a cast."""
        found = set(words.words_of(name))
        return "Cast" in found and found <= _CONVERT

    def requantizations(self, name: str) -> int:
        """How often the name contains min, max, round and cast in a row."""
        found, n = words.words_of(name), len(_REQUANTIZE)
        return sum(tuple(found[i : i + n]) == _REQUANTIZE for i in range(len(found) - n + 1))

    def tactic(self, tactic: str) -> str:
        """Replaces the placeholder of TensorRT for RTX with a description."""
        return words.tactic_of(tactic)
