"""Chooses which nodes and tensors are quantized, and explains why the others are not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from workbench.core.errors import ModelError
from workbench.passes.constants import attribute_of, constant, has_body
from workbench.passes.fold import MOST_BYTES, described, folded, from_constants
from workbench.passes.guard import MOVES, POINTWISE
from workbench.passes.ir import some

if TYPE_CHECKING:
    import onnx_ir as ir


CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Quantized operations whose output channels are axis 1 of the result."""


HEAVY = (*CONVOLUTIONS, "Gemm", "MatMul")
"""Operations that are quantized."""


@dataclass(frozen=True)
class Choice:
    """A quantized node: its data input (None if only the weights are quantized) and its weight input."""

    node: str
    op: str
    data: str | None
    weight: str
    axis: int
    """Output-channel axis of the weight; for INT4, blocks run along the other axis."""


@dataclass
class Choices:
    """What will be quantized, and the reason for each heavy operation that will not."""

    taken: list[Choice] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)
    """How the weight is computed, for each node whose weight is computed from constants."""

    @property
    def tensors(self) -> list[str]:
        """Activations that need a range, in the graph's order, without duplicates."""
        return list(dict.fromkeys(c.data for c in self.taken if c.data is not None))


def choose(model: ir.Model, to: str, *, keep: Collection[str] = (), only: Collection[str] | None = None) -> Choices:
    """The nodes of the main graph that the scheme `to` quantizes.

    Args:
        model: In FP32, with types inferred.
        to: int8, fp8 or int4.
        keep: Nodes to leave in higher precision, see `kept`.
        only: Names of the only nodes to quantize; None for all.

    Raises:
        ModelError: no node matches a name in `keep`.
    """
    import onnx_ir as ir

    out = Choices()
    asked = set(kept(model, keep))
    for node in model.graph:
        if node.op_type not in HEAVY or node.domain not in {"", "ai.onnx"}:
            continue
        name = node.name or ""
        data, weight = node.inputs[0], node.inputs[1]
        reason = None
        if name in asked:
            reason = "kept on request"
        elif only is not None and name not in only:
            reason = "not among the requested nodes"
        elif data is None or weight is None or data.dtype != ir.DataType.FLOAT or weight.dtype != ir.DataType.FLOAT:
            reason = "its inputs are not FP32"
        elif to == "int4" and node.op_type not in {"Gemm", "MatMul"}:
            reason = "INT4 is for matrix products"
        elif from_constants(data):
            reason = "its data is constant" if from_constants(weight) else "its constant is on the left"
        elif not from_constants(weight):
            reason = _activations(node)
        elif folded(weight) is None:
            reason = (
                f"its weight is computed from constants ({described(weight)}) by an operation that is not folded, or is "
                f"larger than {MOST_BYTES / 1e9:g} GB"
            )
        elif node.op_type == "ConvTranspose" and attribute_of(node, "group", 1) != 1:
            reason = "a grouped transposed convolution has no single output-channel axis"
        elif node.op_type == "Gemm" and (attribute_of(node, "transA", 0) or attribute_of(node, "alpha", 1.0) != 1.0):
            reason = "a Gemm with transA or alpha"
        elif node.op_type == "MatMul" and len(folded(weight).shape) != 2:
            reason = "its weight is not a matrix"
        if reason is not None or data is None or weight is None:
            out.left[name] = reason or ""
            continue
        if constant(weight) is None:
            out.folded[name] = described(weight)
        axis = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}.get(node.op_type)
        if axis is None:
            axis = 0 if attribute_of(node, "transB", 0) else 1
        out.taken.append(Choice(name, node.op_type, None if to == "int4" else str(data.name), str(weight.name), axis))
    for owner in model.graph:
        for inner in _bodies(owner):
            if inner.op_type in HEAVY and inner.domain in {"", "ai.onnx"}:
                name = inner.name or str(inner.outputs[0].name)
                if name in out.left or any(choice.node == name for choice in out.taken):
                    name = f"{owner.name}/{name}"
                out.left[name] = f"it is in a body of {owner.op_type} {owner.name}: bodies are not quantized"
    return out


def _bodies(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes of the graphs that a node holds, including nested graphs."""
    import onnx_ir as ir

    if not has_body(node):
        return
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from ir.traversal.RecursiveGraphIterator(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            for body in attribute.as_graphs():
                yield from ir.traversal.RecursiveGraphIterator(body)


def _activations(node: ir.Node) -> str:
    """Why a product of two computed values is not quantized."""
    if node.op_type != "MatMul":
        return "its weight is computed, not stored"
    if _softmax(node):
        return "both inputs are activations: attention stays one kernel in the precision of the rest"
    return "both inputs are activations"


def _softmax(node: ir.Node) -> bool:
    """Whether a softmax directly follows or precedes a product, with only arithmetic and moves in between."""
    steps = MOVES | POINTWISE
    seen = {id(node)}
    ahead, behind = list(node.outputs), list(node.inputs)
    for _ in range(7):  # steps away from the product
        near = [reader for value in ahead for reader, _ in value.uses()]
        near += [maker for value in behind if value is not None and (maker := value.producer()) is not None]
        if any(each.op_type == "Softmax" for each in near):
            return True
        readers = {id(reader) for value in ahead for reader, _ in value.uses()}
        new = {id(each): each for each in near if id(each) not in seen and each.op_type in steps}
        seen |= new.keys()
        ahead = [value for key, each in new.items() if key in readers for value in each.outputs]
        behind = [value for key, each in new.items() if key not in readers for value in each.inputs]
    return False


def kept(model: ir.Model, patterns: Collection[str]) -> list[str]:
    """Names of the nodes of the main graph that `patterns` match, in the graph's order.

    Args:
        model: Each node named.
        patterns: Names or patterns (``*``, ``?``) of nodes, or of the PyTorch modules that they come from, such as
            ``layers.*.up``.

    Raises:
        ModelError: no node matches a pattern: that is a mistake.
    """
    from workbench.model.provenance import scope_of

    titles = {node.name or "": (node.name or "", scope_of(node.metadata_props)) for node in model.graph}
    found: set[str] = set()
    for pattern in patterns:
        matched = {name for name, each in titles.items() if any(t and fnmatchcase(t, pattern) for t in each)}
        if not matched:
            raise ModelError(
                f"No node of this model, and no module that a node comes from, matches {pattern!r}.",
                hint=f"Nodes: {some(list(titles))}.",
            )
        found |= matched
    return [name for name in titles if name in found]
