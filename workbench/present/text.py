"""Sentences and short texts about a layer or a node, shared by every view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.model.node import Node
from workbench.plan import Layer
from workbench.plan.reasons import REASONS
from workbench.present.lens import Lens

EVIDENCE = {
    "reported": "the compiler names these nodes",
    "name": "read from the layer's name",
    "tensor-region": "found from tensors that both graphs share",
    "fx-join": "joined through torch's graph",
    "module": "known for the module, not for the node",
    "inferred": "follows from a rule, not from evidence",
    "none": "the layer executes no node: overhead of layout, copies or shapes",
}
"""What each kind of evidence means."""


def shape_text(shape: Sequence[Any] | None) -> str:
    """``1×64×56×56``; unknown dimensions are "?"."""
    return "" if shape is None else "×".join("?" if d is None else str(d) for d in shape) or "scalar"


def layout_text(text: str) -> str:
    """A memory layout: ``(NHWC) Channel major format`` -> NHWC; other formats stay as they are."""
    if text.startswith("("):
        return text[1:].partition(")")[0]
    return text.replace(" format", "")


def fate_of(lens: Lens, node: Node) -> str:
    """What became of a node, in a few words."""
    if not lens.compiled:
        return "not compiled yet"
    if node.id in lens.plan.layers_of:
        owners = lens.plan.layers_of[node.id]
        if len(owners) > 1:
            return "split over kernels"
        return "alone in a kernel" if len(owners[0].nodes) == 1 else "fused"
    return lens.plan.reasons[node.id].reason if node.id in lens.plan.reasons else "unknown"


def layer_sentence(lens: Lens, layer: Layer) -> str:
    """What a layer does, in a sentence."""
    if meanings := lens.vocabulary.meanings(layer.name):
        text = ", ".join(f"{word} = {meaning}" if word != meaning else word for word, meaning in meanings.items())
        return f"{layer.name}: {text}."
    if not layer.nodes:
        return "Work that no node of the model asks for: a copy, a fill or a change of layout between kernels."
    if layer.merged:
        return f"Does {sum(len(group) for group in layer.merged)} sibling operations in one launch."
    return f"The compiler calls it {layer.type}."


def node_sentence(lens: Lens, node: Node) -> str:
    """Where a node is executed, or why it is not."""
    owners = lens.plan.layers_of.get(node.id, ())
    if len(owners) > 1:
        return f"Executed by {len(owners)} layers."
    if owners:
        n = len(owners[0].nodes)
        return "Executed by its own kernel." if n == 1 else f"Fused with {n - 1} other nodes into one kernel."
    if not lens.compiled:
        return "Nothing was built from this model yet."
    reason = lens.plan.reasons.get(node.id)
    return f"In no layer: {reason.text if reason else REASONS['unknown']}."


def inferred_because(lens: Lens, layer: Layer) -> str:
    """The rules that put nodes into a layer that does not name them."""
    found = lens.plan.facts.get("inferred", {})
    return "; ".join(dict.fromkeys(found[n] for n in layer.inferred if n in found))
