"""Finds problems of a graph before a compiler sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from workbench.core import limits
from workbench.model.node import (
    Problem,
    attribute_type,
    schema_of,
)
from workbench.model.order import graphs_of

if TYPE_CHECKING:
    from workbench.model.graph import Graph


def find_problems(graph: Graph) -> Iterator[Problem]:
    """The problems that the nodes and tensors of a graph prove."""
    from workbench.model.shapes import bad_equation

    model = graph.proto
    given = {v.name for g in graphs_of(model.graph) for v in g.input} | graph.initializers
    unknown: dict[str, list[str]] = {}
    made = {name for node in graph.nodes for name in node.outputs if name}
    for node in graph.nodes:
        for name in node.inputs:
            if name and name not in made and name not in given:
                unknown.setdefault(name, []).append(node.id)
        version = graph.opset.get(node.domain or "ai.onnx")
        schema = schema_of(node.op, node.domain, version) if version is not None and 0 < version < 2**31 else None
        if schema is None:
            continue
        listed, least = node.proto.input, schema.least[0]
        # Exporters omit inputs of Resize that its schema requires; all readers accept that.
        empty = [i for i, name in enumerate(listed) if not name and i < len(schema.single) and schema.single[i]]
        if len(listed) < least or (empty and node.op != "Resize"):
            yield Problem(
                "missing-input",
                f"{node.op} node {_short(node.id)} has {sum(map(bool, listed))} of the {least} inputs that it needs.",
                (node.id,),
            )
        if (equation := bad_equation(node.proto)) is not None:
            yield Problem(
                "wrong-attribute",
                f"Einsum node {_short(node.id)} has no valid equation: {_short(equation)!r}. Its shape is unknown.",
                (node.id,),
            )
        types = {a.name: a.type for a in node.proto.attribute}
        for name in sorted(schema.required - types.keys()):
            yield Problem(
                "wrong-attribute", f"{node.op} node {_short(node.id)} lacks its attribute {name}.", (node.id,)
            )
        for name, kind in types.items():
            wanted = schema.attributes.get(name, kind)
            if kind != wanted:
                yield Problem(
                    "wrong-attribute",
                    f"Attribute {_short(name)} of {node.op} node {_short(node.id)} is {attribute_type(kind)} and must be "
                    f"{attribute_type(wanted)}; it is not used.",
                    (node.id,),
                )
    for name, nodes in unknown.items():
        yield Problem(
            "undefined-tensor", f"Node {_short(nodes[0])} reads {_short(name)}, which nothing makes.", tuple(nodes)
        )
    for name in graph.outputs:
        if name not in made and name not in given:
            yield Problem("undefined-tensor", f"Output {_short(name)} of the model is made by no node.")
    for each in graphs_of(model.graph):  # bodies of If and Loop may each make a tensor of the same name
        times = Counter(o for n in each.node for o in n.output if o)
        times.update({v.name for v in each.input} | {t.name for t in each.initializer})
        for name in (name for name, count in times.items() if count > 1):
            makers = tuple(n.id for n in graph.nodes if name in n.outputs)
            yield Problem("duplicate-tensor", f"Tensor {_short(name)} is made more than once.", makers)
    for name in (*graph.inputs, *graph.outputs):
        tensor = graph.tensor(name)
        for dim in tensor.shape or ():
            if isinstance(dim, int) and dim < 0:
                yield Problem(
                    "bad-dimension", f"{_short(name)} is declared with dimension {dim}; it counts as unknown."
                )
                break
        else:
            if (tensor.elements or 0) > limits.limit("TENSOR_ELEMENTS"):
                yield Problem(
                    "bad-dimension",
                    f"{_short(name)} is declared as {list(tensor.shape or ())[:8]}, {float(tensor.elements or 0):.3g} elements.",
                )


def _short(name: str) -> str:
    return name if len(name) <= 120 else f"{name[:80]}...{name[-30:]}"
