"""Cuts nodes out of a graph: the rest is what TensorRT would run if the others run elsewhere.

Tensors that kept nodes read from a cut node become inputs, and tensors that a cut node reads become outputs, so that
no other node is dropped. The result is a valid model next to the original weights, for the parser or the builder.
"""

from __future__ import annotations

import graphlib
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError
from workbench.model.graph import Graph
from workbench.model.node import Node

if TYPE_CHECKING:
    import onnx

STAND_IN = 8
"""Size assumed for a dimension that depends on data, in the output of a cut node."""

LARGEST_CONSTANT = 16_000_000
"""Largest constant, in elements, that is put in place of the output of a cut node."""


def tops(graph: Graph) -> list[Node]:
    """Nodes of the main graph, in the order of ``graph.node`` in the file; bodies belong to their node."""
    return [n for n in graph.nodes if n.parent is None]


def reads(graph: Graph) -> list[set[str]]:
    """Tensors that each node of the main graph reads, including those that its bodies read from outside."""
    found = {n.id: {t for t in n.inputs if t} for n in tops(graph)}
    top = {n.id: n.id for n in tops(graph)}
    inner: dict[str, set[str]] = {}
    for node in graph.nodes:
        if node.parent is not None:
            top[node.id] = owner = top[node.parent]
            found[owner] |= {t for t in node.inputs if t}
            inner.setdefault(owner, set()).update(o for o in node.outputs if o)
    return [found[n.id] - inner.get(n.id, set()) for n in tops(graph)]


def sources(graph: Graph) -> list[list[int]]:
    """For each node of the main graph, the indices of the nodes that it reads from."""
    made = {o: i for i, n in enumerate(tops(graph)) for o in n.outputs if o}
    return [sorted({made[t] for t in each if t in made}) for each in reads(graph)]


def ordered(before: list[list[int]]) -> list[int]:
    """Node indices sorted so that each comes after its inputs.

    Raises:
        ModelError: the nodes depend on each other in a cycle.
    """
    try:
        return list(graphlib.TopologicalSorter(dict(enumerate(before))).static_order())
    except graphlib.CycleError:
        raise ModelError("The nodes of the model depend on each other in a cycle, so they have no order.") from None


def segments(taken: Collection[int], before: list[list[int]]) -> list[tuple[str, list[int]]]:
    """Parts in an order in which they can run: as few changes of side as the graph allows.

    Args:
        taken: Indices of the nodes that run in TensorRT.
        before: For each node the nodes that it reads from.

    Returns:
        Side (``tensorrt`` or ``fallback``) and node indices of each part; sides alternate.

    Raises:
        ModelError: the nodes depend on each other in a cycle.
    """
    order, inside = ordered(before), set(taken)
    # Try both sides as the first; choose the one with fewer engines, then fewer parts.
    found = [_levels(order, inside, before, first) for first in (0, 1)]
    return min(found, key=lambda parts: (sum(side == "tensorrt" for side, _ in parts), len(parts)))


def _levels(order: list[int], inside: set[int], before: list[list[int]], first: int) -> list[tuple[str, list[int]]]:
    """Parts where a node comes one part after its latest input on the other side; `first` 0 begins with TensorRT."""
    level: dict[int, int] = {}
    for node in order:
        parity = (0 if node in inside else 1) ^ first
        least = max((level[b] for b in before[node]), default=parity)
        level[node] = least + (least % 2 != parity)
    parts: dict[int, list[int]] = {}
    for node in sorted(level):
        parts.setdefault(level[node], []).append(node)
    return [("fallback" if (number % 2) ^ first else "tensorrt", parts[number]) for number in sorted(parts)]


def rest(graph: Graph, cut: Collection[int], *, open_shapes: bool = False) -> tuple[onnx.ModelProto, bool] | None:
    """The model without the nodes `cut`, at the shapes of `graph`. Nodes have the names of `Graph.needs_renaming`.

    Args:
        graph: The graph, at the shapes that matter (`Graph.at`).
        cut: Indices of nodes of the main graph.
        open_shapes: Whether inputs may keep dynamic dimensions, which is enough for a parser.

    Returns:
        The model, and whether some sizes in it are assumed (`STAND_IN`), since outputs of cut nodes can depend on data. None
        if the type or rank of such an output is not known, or no node is left.
    """
    import onnx
    from onnx import helper

    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    main, all_reads, nodes = model.graph, reads(graph), tops(graph)
    kept = [i for i in range(len(nodes)) if i not in set(cut)]
    lost = {o for i in cut for o in nodes[i].outputs if o}
    wanted = dict.fromkeys(t for i in kept for t in sorted(all_reads[i]))
    given = {t for i in cut for t in all_reads[i]}
    made = [o for i in kept for o in nodes[i].outputs if o]
    used = {t for i in kept for t in all_reads[i]}

    inputs: list[Any] = []
    assumed = False
    for name in wanted:
        if name not in lost and name not in graph.inputs:
            continue
        tensor = graph.tensor(name)
        kind = _kind(tensor.dtype)
        if tensor.shape is None or kind is None:
            return None
        if name in lost and name in graph.constants:  # nodes read it as a weight, and weights can't be inputs
            if tensor.elements is None or tensor.elements > LARGEST_CONSTANT:
                return None
            main.initializer.append(_ones(name, kind, tensor.shape))
            continue
        shape = list(tensor.shape)
        if not open_shapes and tensor.elements is None:
            if name not in lost:
                return None
            assumed = True
            shape = [d if isinstance(d, int) and d >= 0 else STAND_IN for d in shape]
        inputs.append(helper.make_tensor_value_info(name, kind, shape))
    outputs = [o for o in made if o in given or o in graph.outputs or o not in used]
    if not kept or not outputs:
        return None
    values = []
    for name in dict.fromkeys(outputs):
        tensor, value = graph.tensor(name), onnx.ValueInfoProto(name=name)
        kind = _kind(tensor.dtype)
        if kind is not None:
            value = helper.make_tensor_value_info(name, kind, tensor.shape)
        values.append(value)
    taken = {v.name for v in (*inputs, *values)} | lost
    infos = [v for v in main.value_info if v.name not in taken]
    copies = [onnx.NodeProto.FromString(main.node[i].SerializeToString()) for i in kept]
    safe = {node_id: new for new, node_id in graph.needs_renaming().items()}
    for i, copy in zip(kept, copies, strict=True):
        copy.name = safe.get(nodes[i].id, nodes[i].id)
    if assumed:
        infos = []  # inferred shapes do not hold for assumed sizes
    for place, items in ((main.node, copies), (main.input, inputs), (main.output, values), (main.value_info, infos)):
        del place[:]
        place.extend(items)
    return model, assumed


def named(details: Mapping[str, Any], graph: Graph) -> dict[str, str]:
    """Nodes that an error names, as ids of `graph`, each with the error's reason for it ("" where it gives none)."""
    found: dict[str, str] = {}
    for each in details.get("nodes") or ():
        name = each.get("node") if isinstance(each, Mapping) else each
        if not isinstance(name, str) or name not in graph.by_id:
            continue
        node = graph.by_id[name]
        while node.parent is not None:
            node = graph.by_id[node.parent]
        found.setdefault(node.id, str(each.get("reason", "")) if isinstance(each, Mapping) else "")
    return found


def _kind(dtype: str) -> int | None:
    import onnx

    names = {"float32": "FLOAT", "float64": "DOUBLE"}
    try:
        kind: int = onnx.TensorProto.DataType.Value(names.get(dtype, dtype.upper()))
    except ValueError:
        return None
    return kind or None


def _ones(name: str, kind: int, shape: Any) -> onnx.TensorProto:
    import numpy as np
    from onnx import helper, numpy_helper

    data = np.ones(math.prod(shape), dtype=helper.tensor_dtype_to_np_dtype(kind)).reshape(shape)
    return numpy_helper.from_array(data, name)
