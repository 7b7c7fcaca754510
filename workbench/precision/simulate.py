"""Simulate FP16 and BF16 on a CPU: compute each node in FP32 and round its outputs to the type.

ONNX Runtime's CPU provider has few FP16 kernels and no BF16 ones. It computes the nodes of an FP16 graph in FP32 and
drops the casts between them, so that tensors are never rounded or infinite. This module makes the rounding explicit:
FP32 nodes, with ``Cast(low) -> Cast(float)`` after each value of a low type. Casts in the original graph are kept.

Effects inside a node are not simulated: a kernel that accumulates in FP16 loses more precision, and a kernel that
fuses two nodes rounds less often.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from workbench.passes.ir import free_name

if TYPE_CHECKING:
    import onnx_ir as ir

LOW = ("FLOAT16", "BFLOAT16")

EXACT = frozenset({
    "Abs", "Clip", "Concat", "Constant", "DepthToSpace", "Expand", "Flatten", "Gather",
    "GatherElements", "GatherND", "GlobalMaxPool", "Identity", "Max", "MaxPool", "Min", "Neg",
    "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "Sign", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""Operations whose outputs are input values or their negatives, which are already rounded."""

TYPES = frozenset({"to", "dtype", "output_dtype", "output_datatype", "precision", "softmax_precision", "stash_type"})
"""Attributes that contain a type."""


def simulate(model: ir.Model) -> bool:
    """Rewrite `model`, in place, so that FP16 and BF16 are simulated in FP32.

    Inputs and outputs of these types become FP32 with rounded values; all names stay. Scales of
    QuantizeLinear and DequantizeLinear become FP32 too, with unchanged values.

    Args:
        model: With inferred types, as returned by `workbench.passes.ir.load_ir`.

    Returns:
        Whether the model has such a type and was rewritten; a model with sequences of these types is not rewritten.
    """
    import onnx_ir as ir

    graphs = list(model.graphs())
    for graph in graphs:
        for node in graph:
            if node.op_type == "Cast" and node.domain == "" and node.outputs[0].dtype is None:
                node.outputs[0].dtype = ir.DataType(node.attributes["to"].as_int())  # in case inference gave up
    values = {id(v): v for graph in graphs for v in (*graph.inputs, *graph.initializers.values())}
    values |= {id(v): v for graph in graphs for node in graph for v in node.outputs}
    low = [v for v in values.values() if v.dtype is not None and v.dtype.name in LOW]
    if not low or any(not isinstance(v.type, ir.TensorType) for v in low):
        return False
    names = [v.name for v in values.values()] + [node.name for graph in graphs for node in graph]
    free = partial(free_name, taken={name for name in names if name})

    def cast(value: ir.Value, dtype: Any, name: str | None = None) -> ir.Node:
        title = name or free(f"{value.name}_low")
        node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(dtype))], name=free(f"{title}_cast"))
        node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = title, dtype, value.shape
        return node

    inputs = {id(v) for v in model.graph.inputs}
    for value in low:
        kind = value.dtype
        producer = value.producer()
        if value.const_value is not None and producer is None:
            value.const_value = _widened(value.const_value, value.name)
            value.dtype = ir.DataType.FLOAT
        elif producer is None:
            value.dtype = ir.DataType.FLOAT
            if id(value) in inputs:  # a body's inputs are values of its outer graph and rounded there
                down = cast(value, kind)
                up = cast(down.outputs[0], ir.DataType.FLOAT, free(f"{value.name}_rounded"))
                for reader, place in list(value.uses()):
                    if reader is not down:
                        reader.replace_input_with(place, up.outputs[0])
                _prepend(model.graph, (down, up))
        elif producer.op_type == "Cast" and producer.domain == "":
            _behind(producer, value, [cast(value, ir.DataType.FLOAT, value.name)], free)
        else:
            value.dtype = ir.DataType.FLOAT
            bodies = any(
                a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in producer.attributes.values()
            )
            if not bodies and (producer.domain or producer.op_type not in EXACT):
                down = cast(value, kind)
                _behind(producer, value, [down, cast(down.outputs[0], ir.DataType.FLOAT, value.name)], free)
    for graph in graphs:
        for node in graph:
            _attributes(node)
    return True


def _behind(producer: ir.Node, value: ir.Value, casts: list[ir.Node], free: Any) -> None:
    """Insert `casts` after the output of `producer`; the last cast takes over its name and its readers."""
    last = casts[-1].outputs[0]
    graph = producer.graph
    assert graph is not None
    value.name = free(f"{value.name}_exact")
    value.replace_all_uses_with(last, replace_graph_outputs=True)
    casts[0].replace_input_with(0, value)
    graph.insert_after(producer, casts)


def _prepend(graph: Any, nodes: tuple[ir.Node, ...]) -> None:
    if len(graph):
        graph.insert_before(graph[0], nodes)
    else:
        graph.extend(nodes)


def _attributes(node: ir.Node) -> None:
    """Convert types and tensors in the node's attributes; an explicit Cast to a low type stays."""
    import onnx_ir as ir

    low = {int(ir.DataType[name]) for name in LOW}
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype.name in LOW:
            node.attributes[name] = ir.AttrTensor(name, _widened(attribute.as_tensor(), name))
        elif (
            attribute.type == ir.AttributeType.INT
            and name in TYPES
            and attribute.as_int() in low
            and not (node.op_type == "Cast" and node.domain == "")
        ):
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))


def _widened(tensor: Any, name: str | None) -> Any:
    """The tensor's values in FP32, computed when it is saved."""
    import numpy as np
    import onnx_ir as ir

    def make() -> Any:
        return ir.tensor(tensor.numpy().astype(np.float32), name=name)

    return ir.LazyTensor(make, dtype=ir.DataType.FLOAT, shape=tensor.shape, name=name)
