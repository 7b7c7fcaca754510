"""Finds the inputs whose values a model reads as a shape, from the graph alone.

Such an input gives the end of a slice, a number of repeats, or a new shape. TensorRT calls it a shape tensor: it
reads it on the host, takes only INT32 and INT64, and needs its min, opt, and max values for the build.
The tables show the observed behavior of TensorRT for RTX 1.7.1 for each operator (tests/unit/test_shape_inputs.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.model.node import Node

READS: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,), "CumSum": (1,), "Expand": (1,), "OneHot": (1,), "Pad": (1,), "Range": (0, 1, 2),
    "Reshape": (1,), "Resize": (2, 3), "Slice": (1, 2, 3, 4), "Split": (1,), "Tile": (1,), "TopK": (1,), "Upsample": (1,),
}  # fmt: skip
"""Positions of the inputs that an operator reads as a shape, a position, or a count."""

CONSTANT = dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Squeeze", "Unsqueeze"), (1,))  # fmt: skip
"""Positions of the inputs that must be constants for TensorRT: axes."""

THROUGH = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "Div", "Equal", "Expand", "Floor", "Gather", "Greater",
    "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "ReduceMax",
    "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Transpose",
    "Unsqueeze", "Where", "Xor",
})  # fmt: skip
"""Operators whose result is known before anything runs if their inputs are."""

INTEGERS = frozenset({"int32", "int64"})
"""Types that TensorRT accepts for an input that is read as a shape."""


@dataclass(frozen=True, slots=True)
class ShapeInput:
    """An input of the model whose values are read as a shape.

    Attributes:
        name: The name of the input.
        dtype: Its type; TensorRT accepts those in `INTEGERS`.
        elements: Its number of values; None if its own shape is open.
        readers: Ids of the nodes that read it as a shape, in the graph's order.
        constant: Whether one of them takes only a constant, so that no value can be given.
    """

    name: str
    dtype: str
    elements: int | None
    readers: tuple[str, ...]
    constant: bool = False


def shape_inputs(graph: Graph) -> dict[str, ShapeInput]:
    """Inputs that a node reads as a shape, directly or after integer arithmetic, by name."""
    readers: dict[str, dict[str, None]] = {}
    constant: set[str] = set()
    found = set(graph.inputs)
    for node in graph.nodes:
        for table in (READS, CONSTANT):
            for name in _read_by(node, table):
                for source in _sources(graph, name) & found:
                    readers.setdefault(source, {})[node.id] = None
                    constant |= {source} if table is CONSTANT else set()
    out = {}
    for name in graph.inputs:
        if name in readers:
            tensor = graph.tensor(name)
            out[name] = ShapeInput(name, tensor.dtype, tensor.elements, tuple(readers[name]), name in constant)
    return out


def _read_by(node: Node, table: Mapping[str, tuple[int, ...]]) -> list[str]:
    if node.domain not in {"", "ai.onnx"}:
        return []
    return [node.inputs[i] for i in table.get(node.op, ()) if i < len(node.inputs) and node.inputs[i]]


def _sources(graph: Graph, name: str) -> set[str]:
    """The origins of a value, traced back through arithmetic: inputs of the graph, and values where the trace ends."""
    seen, queue = {name}, [name]
    ends = set()
    while queue:
        current = queue.pop()
        node = graph.producer.get(current)
        if node is None or node.op not in THROUGH or node.domain not in {"", "ai.onnx"}:
            ends.add(current)
            continue
        for source in node.inputs:
            if source and source not in seen and source not in graph.constants:
                seen.add(source)
                queue.append(source)
    return ends
