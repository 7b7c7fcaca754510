"""Shapes of a graph's tensors: what ONNX infers, and what follows from values that are known before anything runs.

ONNX's inference follows shape arithmetic through few operations: a `Range` up to a batch, or a `Tile` by it, leaves all that
comes after unknown. Here such small values are computed as the compiler would, and the inference goes on from them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Values = dict[str, np.ndarray]

LARGEST = 16_384
"""Elements up to which a value is computed: shapes, positions and masks, not data."""

_PASSES = 8
"""How often shapes may lead to values and values to shapes."""

_ARITHMETIC = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape", "CumSum", "Div", "Equal", "Expand", "Floor",
    "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod",
    "Mul", "Neg", "Not", "Or", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "ScatterND",
    "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the shapes that can be told; what can't be stays unknown, and is reported as such.

    Operators of a domain that the model forgot to import are skipped rather than an error.
    """
    import onnx

    imported = {entry.domain for entry in model.opset_import}
    forgotten = {node.domain for node in model.graph.node} - imported - {"", "ai.onnx"}
    if forgotten:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in sorted(forgotten))
        model = copy
    try:
        found = onnx.shape_inference.infer_shapes(model, data_prop=True)
        known: Values = {}
        for _ in range(_PASSES):
            values = _values(found)
            if not values.keys() - known.keys():
                break
            known |= values
            _take_shapes(found, onnx.shape_inference.infer_shapes(_with_values(found, known), data_prop=True), known)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError):
        return model  # the graph contradicts itself; the compiler says where
    return found


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes by tensor, None for a dimension that is not a number; tensors of which nothing is known are left out."""
    found = {value.name: _shape_of(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    out = {name: shape for name, shape in found.items() if shape is not None}
    return {**out, **{tensor.name: tuple(tensor.dims) for tensor in graph.initializer}}


def _is_open(shape: tuple[int | None, ...] | None) -> bool:
    return shape is None or None in shape


def _values(model: onnx.ModelProto) -> Values:
    """Small values that nodes of unknown shape depend on, or are, as far as they can be computed from known shapes."""
    from onnx import numpy_helper

    graph = model.graph
    shapes = _shapes(graph)
    makers = {name: node for node in graph.node for name in node.output if name}
    # Backwards from what is not known, through what may be arithmetic on shapes.
    wanted: set[str] = set()
    queue = [
        n
        for node in graph.node
        if any(o and _is_open(shapes.get(o)) for o in node.output)
        for n in (*node.input, *node.output)
    ]
    while queue:
        name = queue.pop()
        if name and name not in wanted:
            wanted.add(name)
            node = makers.get(name)
            if node is not None and node.op_type in _ARITHMETIC:
                queue.extend(node.input)
    if not wanted:
        return {}
    values = {
        t.name: numpy_helper.to_array(t)
        for t in graph.initializer
        if t.name in wanted and not t.external_data and math.prod(t.dims) <= LARGEST
    }
    given = set(values)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    for node in graph.node:  # in topological order
        if wanted.isdisjoint(node.output) or node.domain not in {"", "ai.onnx"}:
            continue
        values.update(zip(node.output, _computed(node, values, shapes, opsets), strict=False))
    values.pop("", None)  # an output that nobody wants
    return {name: value for name, value in values.items() if name not in given}


def _computed(
    node: onnx.NodeProto, values: Values, shapes: dict[str, tuple[int | None, ...]], opsets: dict[str, int]
) -> list[Any]:
    """The outputs of a node whose inputs are known; empty where they are not, or where they are too large."""
    import numpy as np
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Constant":
        tensor = attributes.get("value")
        if tensor is not None:
            small = not tensor.external_data and math.prod(tensor.dims) <= LARGEST
            return [numpy_helper.to_array(tensor)] if small else []
        plain = next(
            (attributes[k] for k in ("value_int", "value_ints", "value_float", "value_floats") if k in attributes), None
        )
        return (
            []
            if plain is None
            else [np.asarray(plain, np.int64 if isinstance(np.ravel(plain)[0].item(), int) else np.float32)]
        )
    if node.op_type in {"Shape", "Size"}:
        shape = shapes.get(node.input[0])
        if shape is None or None in shape:
            return []
        if node.op_type == "Size":
            return [np.asarray(math.prod(d for d in shape if d is not None), np.int64)]
        return [np.asarray(shape[attributes.get("start", 0) : attributes.get("end")], np.int64)]
    inputs = {name: values[name] for name in node.input if name in values}
    if node.op_type not in _ARITHMETIC or len(inputs) < len({n for n in node.input if n}):
        return []
    if _elements(node.op_type, [inputs[n] for n in node.input if n]) > LARGEST:
        return []
    try:
        return list(ReferenceEvaluator(node, opsets=opsets).run(None, inputs))
    except Exception:  # noqa: BLE001 - of whatever kind: then the value stays unknown, as it was
        return []


def _elements(op: str, inputs: list[Any]) -> float:
    """About how many elements a result has, so that none is computed that would fill the memory."""
    import numpy as np

    if op == "ConstantOfShape":
        return float(np.prod(inputs[0], dtype=float))
    if op == "Expand":
        return float(inputs[0].size * np.prod(inputs[1], dtype=float))
    if op == "Tile":
        return float(inputs[0].size * np.prod(inputs[1], dtype=float))
    if op == "Range":
        start, limit, step = (float(x) for x in inputs)
        return abs((limit - start) / step) if step else math.inf
    return float(sum(x.size for x in inputs))


def _with_values(model: onnx.ModelProto, values: Values) -> onnx.ModelProto:
    """A copy in which the nodes that make `values` are constants."""
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    keep = [node for node in graph.node if not {o for o in node.output if o} <= values.keys()]
    made = {o for node in keep for o in node.output}
    # What is open in it is inferred anew.
    closed = [v for v in graph.value_info if not _is_open(_shape_of(v)) and v.name not in values]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(keep)
    graph.value_info.extend(closed)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items() if name not in made)
    return copy


def _shape_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def _take_shapes(model: onnx.ModelProto, better: onnx.ModelProto, values: Values) -> None:
    """Put into `model` the shapes that `better` knows, and those of `values`."""
    from onnx import helper

    graph = model.graph
    found = {v.name: v for v in (*better.graph.value_info, *better.graph.output) if not _is_open(_shape_of(v))}
    for name, value in values.items():
        found[name] = helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
    kept = [v for v in graph.value_info if v.name not in found]
    outputs = {v.name for v in graph.output}
    produced = {o for node in graph.node for o in node.output}
    del graph.value_info[:]
    graph.value_info.extend([*kept, *(v for name, v in found.items() if name in produced and name not in outputs)])
    for v in graph.output:
        if v.name in found and _is_open(_shape_of(v)):
            v.CopyFrom(found[v.name])
