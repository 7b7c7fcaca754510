"""Loads models as onnx_ir with their weights on disk, and saves them with large weights next to the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from workbench.core.worker import Reporter


EXTERNAL_ABOVE = 1_800_000_000


TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
"""Attributes that determine an operation's output type."""


def free_name(name: str, taken: set[str]) -> str:
    """`name`, with a number appended if it is already in `taken`; the result is added to `taken`."""
    unique, k = name, 1
    while unique in taken:
        k += 1
        unique = f"{name}_{k}"
    taken.add(unique)
    return unique


def some(names: Sequence[str], count: int = 6) -> str:
    """The first names, and the number of the others."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def load_ir(path: Path, reporter: Reporter, *, opset: int | None = None) -> ir.Model:
    """The model to rewrite: functions inlined, each node named by its id, types inferred, weights on disk.

    Files of IR version 3 also list each weight among the graph's inputs; here, only required inputs are inputs.

    Args:
        path: The ONNX file.
        reporter: Receives the progress.
        opset: Convert the model to this opset of ONNX first, if it has a lower one.

    Raises:
        ModelError: it can't be converted to that opset, or an Einsum has no valid equation.
    """
    import onnx_ir as ir

    from workbench.model.graph import Graph
    from workbench.model.onnx_file import read_graph
    from workbench.model.shapes import infer_shapes, refuse_endless

    reporter.progress("Reading the graph", 0, 1)
    proto = read_graph(path)
    refuse_endless(proto)
    densify(proto, path.parent)
    graph = Graph(proto)  # functions are inlined, nodes are sorted
    proto = graph.proto
    for node in graph.nodes:
        node.proto.name = node.id  # a node whose id is its output's name keeps the id when that output is renamed
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    if len(inputs) < len(proto.graph.input):
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
        proto.ir_version = max(proto.ir_version, 4)  # the first that allows weights that are not inputs
    if opset is not None:
        from workbench.passes.opset import upgrade

        proto = upgrade(proto, opset)
    known = len(proto.graph.value_info) + len(proto.graph.output)
    if known < sum(len(n.output) for n in proto.graph.node):
        proto = infer_shapes(proto)
    model = ir.serde.deserialize_model(proto)
    ir.external_data.set_base_dir(model.graph, path.parent)
    _bring_attributes(model, path.parent)
    reporter.progress("Reading the graph", 1, 1)
    return model


def densify(proto: onnx.ModelProto, folder: Path) -> None:
    """Convert sparse initializers and constants to dense ones, in place: most readers of ONNX only support dense ones.

    Raises:
        LimitError: a tensor has more bytes than `workbench.core.limits` allows.
        ModelError: the indices of a tensor do not fit its shape (code ``bad-sparse``).
    """
    from onnx import helper

    def of_graph(graph: onnx.GraphProto) -> None:
        graph.initializer.extend(_dense(sparse, folder) for sparse in graph.sparse_initializer)
        del graph.sparse_initializer[:]
        of_nodes(graph.node)

    def of_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            for attribute in node.attribute:
                if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                    dense = _dense(attribute.sparse_tensor, folder)
                    attribute.CopyFrom(helper.make_attribute("value", dense))
                if attribute.HasField("g"):
                    of_graph(attribute.g)
                for body in attribute.graphs:
                    of_graph(body)

    of_graph(proto.graph)
    for function in proto.functions:
        of_nodes(function.node)


def _dense(sparse: onnx.SparseTensorProto, folder: Path) -> onnx.TensorProto:
    import math

    import numpy as np
    from onnx import numpy_helper

    from workbench.core import limits

    dims, name = list(sparse.dims), sparse.values.name
    values = numpy_helper.to_array(sparse.values, base_dir=str(folder))
    limits.check("READER_BYTES", math.prod(dims) * values.itemsize, f"The sparse tensor {name}")
    places = numpy_helper.to_array(sparse.indices, base_dir=str(folder))
    dense = np.zeros(math.prod(dims), dtype=values.dtype)
    try:
        dense[places if places.ndim == 1 else np.ravel_multi_index(tuple(places.T), dims)] = values
    except (ValueError, IndexError, TypeError) as error:
        raise ModelError(
            f"The sparse tensor {name} is damaged: {error}.", hint="Export the model again.", code="bad-sparse"
        ) from None
    return numpy_helper.from_array(dense.reshape(dims), name)


def save_ir(model: ir.Model, out: Path) -> None:
    """Write the model with its weights: into one file, or into a second file next to it if they are too large."""
    import onnx_ir as ir

    weights = sum(t.nbytes for v in model.graph.initializers.values() if (t := v.const_value) is not None)
    if weights > EXTERNAL_ABOVE:
        ir.save(model, out, external_data=f"{out.name}.data")
    else:
        ir.external_data.load_to_model(model)
        ir.save(model, out)


def _bring_attributes(model: ir.Model, folder: Path) -> None:
    """Load tensors of attributes and of nested graphs that still point into the original file."""
    import onnx_ir as ir

    def own(tensor: Any) -> Any:
        if not isinstance(tensor, ir.ExternalTensor):
            return tensor
        tensor.base_dir = folder
        return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)

    for graph in model.graphs():
        if graph is not model.graph:
            for value in graph.initializers.values():
                value.const_value = own(value.const_value)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR:
                    tensor = attribute.as_tensor()
                    if isinstance(tensor, ir.ExternalTensor):
                        node.attributes[name] = ir.AttrTensor(name, own(tensor))
