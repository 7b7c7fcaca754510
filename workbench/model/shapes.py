"""Shapes of a graph's tensors: those that ONNX infers, and those that depend on values known before anything runs.

ONNX's inference follows shape arithmetic through few operations: after a `Range` up to the batch size, or a `Tile` by
it, all shapes are unknown. This module computes such small values as the compiler would, and continues the inference.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from workbench.core.errors import LimitError, ModelError, WorkbenchError, WorkerCrashedError, first_lines
from workbench.core.jobs import guarded
from workbench.core.limits import limit

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Values = dict[str, np.ndarray]

LARGEST = 16_384
"""Maximum number of elements of a computed value: enough for shapes, positions, and masks, but not data."""

MOST_DIMENSIONS = 64
"""Maximum rank of an inferred shape that is kept; TensorRT supports 8 dimensions."""

_TOTAL = 50_000_000
"""Maximum number of elements of all computed values together."""

_HIDDEN = "workbench.hidden"
"""A domain in which ONNX knows no operator."""

# ONNX's own propagation of values keeps about 140 bytes for each element of their outputs, and of any long vector.
_LONG = frozenset({"Range", "ConstantOfShape", "Expand"})

_TERM = r" *(?:[A-Za-z] *)*(?:\.\.\. *)?(?:[A-Za-z] *)*"
# With other equations, such as "abc,abc-", ONNX's shape inference may never return.
_EQUATION = re.compile(rf"{_TERM}(?:,{_TERM})*(?:->{_TERM})?")

_PASSES = 8
"""Maximum number of rounds in which shapes give values and values give shapes."""

_ARITHMETIC = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Concat", "ConstantOfShape", "CumSum", "Div", "Equal", "Expand", "Floor",
    "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod",
    "Mul", "Neg", "Not", "Or", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "ScatterND",
    "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip


# Each dimension of their result is at most the sum of those of their inputs.
_BROADCASTING = frozenset({
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Or", "Pow",
    "Sub", "Where",
})  # fmt: skip


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the shapes that can be inferred; others stay unknown. See `infer`."""
    return infer(model)[0]


def infer(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """`model` with the shapes that can be inferred, and sentences that explain why others are unknown.

    ONNX's inference is native code that some models keep busy forever, so it runs in a worker with limits on time
    and memory (``SHAPE_SECONDS``, ``SHAPE_BYTES`` of `workbench.core.limits`). If it exceeds a limit, shapes are inferred
    again without the values of tensors. If it exceeds a limit again, `model` is returned unchanged.
    """
    import onnx

    from workbench.model.onnx_wire import check_fields

    data = base64.b64encode(model.SerializeToString()).decode()
    reasons: list[str] = []
    for values in (True, False):
        try:
            answer = guarded(
                "workbench.model.shapes:infer_task",
                {"model": data, "values": values},
                title="shape inference",
                seconds=limit("SHAPE_SECONDS"),
                memory=limit("SHAPE_BYTES"),
            )
        except (LimitError, WorkerCrashedError) as error:
            reasons.append(_reason(error, values=values))
            continue
        found = onnx.ModelProto()
        inferred = base64.b64decode(answer["model"])
        try:
            check_fields(inferred, "The model with its inferred shapes")
        except LimitError as error:
            return model, (*reasons, f"Shapes are unknown: {error.message}")
        found.ParseFromString(inferred)
        return found, (*reasons, *answer["notes"])
    return model, tuple(reasons)


def _reason(error: WorkbenchError, *, values: bool) -> str:
    what = "Shapes that depend on values are unknown" if values else "Shapes are unknown"
    if isinstance(error, WorkerCrashedError):
        how = "crashed" if error.code == "worker-crashed" else "was ended from outside"
        return f"{what}: ONNX's shape inference {how}."
    name = "SHAPE_SECONDS" if error.code == "limit-reader-seconds" else "SHAPE_BYTES"
    amount = f"{limit(name):g} s" if name == "SHAPE_SECONDS" else f"{limit(name) / 1e9:g} GB of memory"
    return f"{what}: ONNX's shape inference needs more than {amount} (WORKBENCH_LIMIT_{name})."


def infer_task(*, model: str, values: bool) -> dict[str, Any]:
    """The work of `infer`, in a worker.

    Args:
        model: The model, serialized, in base64.
        values: Whether to follow values that are known before anything runs.

    Returns:
        ``model`` (serialized, in base64) and ``notes`` (sentences that explain why shapes are unknown).
    """
    import onnx

    proto = onnx.ModelProto()
    proto.ParseFromString(base64.b64decode(model))
    found, notes = _infer(proto, follow=values)
    return {"model": base64.b64encode(found.SerializeToString()).decode(), "notes": notes}


def _infer(model: onnx.ModelProto, *, follow: bool) -> tuple[onnx.ModelProto, list[str]]:
    import onnx

    try:
        if not follow:
            return _native(model, {}, values=False), []
        # First without ONNX's own propagation of values, which would keep each element of a long tensor.
        known: Values = {}
        shaped = _grown(_native(model, {}, values=False), known, values=False)
        start = onnx.ModelProto()
        start.CopyFrom(model)
        _take_shapes(start, shaped, known)
        found = _native(start, known, values=True)
        _take_shapes(found, shaped, known)
        found = _grown(found, known, values=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        # The graph contradicts itself; the compiler reports where.
        return model, [f"Shapes are unknown: ONNX's shape inference refused the model ({first_lines(error)})."]
    return found, []


def _grown(found: onnx.ModelProto, known: Values, *, values: bool) -> onnx.ModelProto:
    """`found` with the shapes that depend on values, and the values that depend on shapes; both arguments are extended."""
    for _ in range(_PASSES):
        more = _values(found)
        if not more.keys() - known.keys():
            break
        known |= more
        _take_shapes(found, _native(_without_open(found), known, values=values), known)
    return found


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of a graph, including those in its bodies (If, Loop, Scan)."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g)
            for inner in attribute.graphs:
                yield from nodes_of(inner)


def bad_equation(node: onnx.NodeProto) -> str | None:
    """The equation of an Einsum node if it is not valid; ONNX's shape inference may never return for such an equation."""
    if node.op_type != "Einsum":
        return None
    equation = next((a.s.decode(errors="replace") for a in node.attribute if a.name == "equation"), "")
    return None if _EQUATION.fullmatch(equation) else equation


def refuse_endless(model: onnx.ModelProto) -> None:
    """Refuse a model on which ONNX's checker and ONNX Runtime, which also infer shapes, may never return.

    Raises:
        ModelError: an Einsum node has no valid equation; the code is ``bad-equation``.
    """
    for node in nodes_of(model.graph):
        if (equation := bad_equation(node)) is not None:
            name = node.name or next(iter(node.output), "")
            raise ModelError(
                f"Einsum node {name[:200]!r} has no valid equation: {equation[:200]!r}.",
                hint="Write the equation as ONNX defines it, such as 'bij,bjk->bik', or replace the node.",
                details={"nodes": [name]},
                code="bad-equation",
            )


def _native(model: onnx.ModelProto, known: Values, *, values: bool) -> onnx.ModelProto:
    """ONNX's inference on `model` with `known` tensors as constants.

    Einsum equations on which it would never finish are hidden from it, and so are long tensors whose shapes are
    already known.
    """
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    shapes = _shapes(graph)
    hidden: dict[int, tuple[str, list[str]]] = {}  # by place among all nodes: domain and outputs
    nodes = list(graph.node)  # kept alive: an id identifies a node only as long as its object exists
    top = {id(node) for node in nodes}
    made: set[str] = set()
    for i, node in enumerate(nodes_of(graph)):
        outputs = {o for o in node.output if o}
        fixed = id(node) in top and bool(outputs) and outputs <= known.keys()
        long = node.op_type in _LONG or any(_is_long(shapes.get(name)) for name in (*node.input, *node.output))
        shaped = id(node) in top and values and not any(_is_open(shapes.get(o)) for o in outputs)
        if fixed or (long and shaped) or bad_equation(node) is not None:
            hidden[i] = node.domain, list(node.output)
            node.domain = _HIDDEN
        if fixed:
            made |= outputs
            del node.output[:]
    imported = {entry.domain for entry in copy.opset_import}
    # Operators of a domain that the model does not import are skipped and do not cause an error.
    forgotten = {node.domain for node in graph.node} - imported - {"", "ai.onnx"} | {_HIDDEN}
    copy.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in sorted(forgotten))
    closed = [v for v in graph.value_info if v.name not in made]
    del graph.value_info[:]
    graph.value_info.extend(closed)
    count = len(graph.initializer)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in known.items() if name in made)
    found = onnx.shape_inference.infer_shapes(copy, data_prop=values)
    del found.graph.initializer[count:], found.opset_import[len(model.opset_import) :]
    for i, node in enumerate(nodes_of(found.graph)):
        if i in hidden:
            node.domain, names = hidden[i]
            del node.output[:]
            node.output.extend(names)
    _drop_ranks(found.graph)
    return found


def _drop_ranks(graph: onnx.GraphProto) -> None:
    """Remove shapes with more dimensions than any compiler supports: a chain of them would fill the memory."""
    for value in (*graph.value_info, *graph.output):
        if len(value.type.tensor_type.shape.dim) > MOST_DIMENSIONS:
            value.type.tensor_type.ClearField("shape")


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes by tensor, with None for a dimension that is not a number. Tensors without a known shape are omitted."""
    found = {value.name: _shape_of(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    out = {name: shape for name, shape in found.items() if shape is not None}
    return {**out, **{tensor.name: tuple(tensor.dims) for tensor in graph.initializer}}


def _is_open(shape: tuple[int | None, ...] | None) -> bool:
    return shape is None or None in shape


def _is_long(shape: tuple[int | None, ...] | None) -> bool:
    return shape is not None and len(shape) == 1 and (shape[0] or 0) > LARGEST


def _values(model: onnx.ModelProto) -> Values:
    """Small values of nodes with unknown shapes and of their inputs, where they can be computed from known shapes."""
    graph = model.graph
    shapes = _shapes(graph)
    makers = {name: node for node in graph.node for name in node.output if name}
    # Backwards from unknown shapes, through operations that may be arithmetic on shapes.
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
    values = {t.name: value for t in graph.initializer if t.name in wanted and (value := small_array(t)) is not None}
    given = set(values)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    total = sum(value.size for value in values.values())
    for node in graph.node:  # in topological order
        if total > _TOTAL:
            break
        if wanted.isdisjoint(node.output) or node.domain not in {"", "ai.onnx"}:
            continue
        made = computed(node, values, shapes, opsets)
        total += sum(getattr(value, "size", 0) for value in made)
        values.update(zip(node.output, made, strict=False))
    values.pop("", None)  # an output that the file omits
    return {name: value for name, value in values.items() if name not in given}


def computed(
    node: onnx.NodeProto, values: Values, shapes: dict[str, tuple[int | None, ...]], opsets: dict[str, int]
) -> list[Any]:
    """The outputs of a node whose inputs are known; empty if the inputs are unknown or the outputs too large."""
    import numpy as np

    inputs = {name: values[name] for name in node.input if name in values}
    if node.op_type not in {"Constant", "Shape", "Size"} and (
        node.op_type not in _ARITHMETIC or len(inputs) < len({n for n in node.input if n})
    ):
        return []
    try:
        if node.op_type == "Constant":
            return _constant(node)
        if node.op_type in {"Shape", "Size"}:
            return _shape_value(node, shapes)
        if _elements(node.op_type, [inputs[n] for n in node.input if n]) > LARGEST:
            return []
        from onnx.reference import ReferenceEvaluator

        with np.errstate(all="ignore"):
            made = list(ReferenceEvaluator(node, opsets=opsets).run(None, inputs))
    except Exception:  # noqa: BLE001 - if a node can't be evaluated for any reason, its value stays unknown
        return []
    return made if all(isinstance(value, np.ndarray) and value.size <= LARGEST for value in made) else []


def small_array(tensor: onnx.TensorProto) -> Any:
    """The values of a small tensor inside the graph; None for other tensors, and if onnx can't read it."""
    from onnx import numpy_helper

    if tensor.external_data or not 0 <= math.prod(tensor.dims) <= LARGEST:
        return None
    try:
        return numpy_helper.to_array(tensor)
    except (KeyError, TypeError, ValueError, AttributeError):  # a type that onnx does not know, or too few values
        return None


def _constant(node: onnx.NodeProto) -> list[Any]:
    import numpy as np
    from onnx import helper

    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    tensor = attributes.get("value")
    if tensor is not None:
        value = small_array(tensor)
        return [] if value is None else [value]
    plain = next(
        (attributes[k] for k in ("value_int", "value_ints", "value_float", "value_floats") if k in attributes), None
    )
    if plain is None or np.size(plain) > LARGEST:
        return []
    whole = any(k in attributes for k in ("value_int", "value_ints"))
    return [np.asarray(plain, np.int64 if whole else np.float32)]


def _shape_value(node: onnx.NodeProto, shapes: dict[str, tuple[int | None, ...]]) -> list[Any]:
    import numpy as np
    from onnx import helper

    shape = shapes.get(node.input[0]) if node.input else None
    if shape is None or None in shape:
        return []
    if node.op_type == "Size":
        return [np.asarray(math.prod(d for d in shape if d is not None), np.int64)]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return [np.asarray(shape[attributes.get("start", 0) : attributes.get("end")], np.int64)]


def _elements(op: str, inputs: list[Any]) -> float:
    """An upper bound on the elements of a result, to avoid computing one that would fill the memory."""
    import numpy as np

    if op == "ConstantOfShape":
        return float(np.prod(inputs[0], dtype=float))
    if op in {"Expand", "Tile"}:
        return float(inputs[0].size * np.prod(inputs[1], dtype=float))
    if op == "Range":
        start, limit, step = (float(x) for x in inputs)
        return abs((limit - start) / step) if step else math.inf
    if op in {"Gather", "GatherND"}:
        return float(max(inputs[0].size, 1) * max(inputs[1].size, 1)) if inputs[1].size > 1 else float(inputs[0].size)
    if op in _BROADCASTING:
        rank = max((x.ndim for x in inputs), default=0)
        return float(
            math.prod(max((x.shape[x.ndim - d] for x in inputs if x.ndim >= d), default=1) for d in range(1, rank + 1))
        )
    return float(sum(x.size for x in inputs))


def _without_open(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the open shapes of inner tensors, so that they are inferred again."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    closed = [v for v in copy.graph.value_info if not _is_open(_shape_of(v))]
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(closed)
    return copy


def _shape_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def _take_shapes(model: onnx.ModelProto, better: onnx.ModelProto, values: Values) -> None:
    """Write the shapes of `better` and of `values` into `model`."""
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
