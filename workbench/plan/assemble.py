"""From a compiler's record and the model to a Plan.

The record says what each layer reads and writes and which nodes it names. Here the rest is worked out:
kinds and words, concrete shapes, costs, where the nodes come from, and for each node that no layer names,
why that is so. Nothing is guessed in silence: what can't be told is ``unknown`` or None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.model.cost import SHAPES, VIEWS, Cost, node_costs
from workbench.model.graph import RANDOM, Graph, Node, nbytes
from workbench.model.provenance import Source, source_of
from workbench.plan.kinds import kind_of, kind_of_ops, title_of
from workbench.plan.plan import Layer, Plan, PlanTensor, Unclaimed
from workbench.plan.traffic import gathered, summarize

if TYPE_CHECKING:
    import onnx

    from workbench.compilers.base import LayerRecord, Record, TensorRecord

REASONS = {
    "constant": "computed at build time: it depends on weights alone",
    "shape": "shape arithmetic: the host knows the result before the kernels run",
    "dead": "no output of the model depends on it",
    "view": "a view: the bytes stay where they are",
    "layout": "a data movement that became part of its neighbours' memory layout",
    "weights": "folded into the weights of its neighbour",
    "quantization": "absorbed: its neighbour reads or writes the quantized type",
    "cast": "a conversion that its neighbour does while it reads or writes",
    "duplicate": "the same computation as another node, done once",
    "identity": "nothing to do: at this size its output is its input",
    "body": "inside a control-flow body that the compiler reports as a whole",
    "unrolled": "a loop unrolled into kernels of which the compiler names no node",
    "unknown": "the compiler does not say",
}
"""The codes of `Unclaimed.reason`, in words."""

_MOVEMENT = {
    "Transpose",
    "Concat",
    "Split",
    "Slice",
    "Expand",
    "Pad",
    "Tile",
    "DepthToSpace",
    "SpaceToDepth",
}
_LOOPS = {"LSTM", "GRU", "RNN"}
_SCALES = {"BatchNormalization", "Mul", "Add", "Sub", "Div"}


def assemble(
    graph: Graph,
    record: Record,
    *,
    model: Mapping[str, Any],
    config: Mapping[str, Any],
    evidence: str,
    renamed: Mapping[str, str] | None = None,
    provenance: Mapping[str, Source] | None = None,
) -> Plan:
    """Build the Plan.

    Args:
        graph: The model at the shapes to count at (`Graph.at`).
        record: The compiler's answer.
        model: ``name`` and ``sha256`` for the plan's head.
        config: The build configuration as a dict.
        evidence: How the record's layers know their nodes.
        renamed: Node names as the compiler got them -> node ids, where they differ.
        provenance: Source by node id from the original model; where None it is read from `graph`.
    """
    graph.with_shapes({name: (tuple(shape), dtype) for name, (shape, dtype) in record.get("tensors", {}).items()})
    costs = node_costs(graph)
    names = dict(renamed or {})
    claims = [_claimed(graph, raw, names) for raw in record["layers"]]
    share = _shares(graph, record["layers"], claims, costs)
    owners = Counter(node for nodes in claims for node in nodes)
    shapes = _Shapes(graph, record, claims)
    sources = _Sources(graph, provenance)
    ids = layer_ids([raw["name"] for raw in record["layers"]])
    layers = []
    for i, (raw, nodes) in enumerate(zip(record["layers"], claims, strict=True)):
        ops = [graph.by_id[n].op for n in nodes]
        kind = kind_of(raw["type"], raw["name"], ops)
        inputs = tuple(shapes.tensor(t) for t in raw["inputs"])
        outputs = tuple(shapes.tensor(t) for t in raw["outputs"])
        constants = tuple(shapes.tensor(t) for t in raw.get("constants", []))
        known = raw.get("detailed", True)
        layers.append(
            Layer(
                id=ids[i], name=raw["name"], title=title_of(raw["type"], raw["name"], kind, ops), type=raw["type"],
                kind=kind, nodes=nodes, evidence=raw.get("evidence", evidence) if nodes else "none",
                inputs=inputs, outputs=outputs, constants=constants, tactic=raw.get("tactic", ""),
                stream=raw.get("stream", 0), event=raw.get("event"), flops=share[i],
                bytes_read=_often(costs, nodes, total({t.name: gathered(graph, nodes, t) for t in (*inputs, *constants)}))
                if known else None,
                bytes_written=_often(costs, nodes, total({t.name: t.bytes for t in outputs})) if known else None,
                sources=sources.of(nodes), merged=_merged(graph, nodes),
                partial=tuple(n for n in nodes if owners[n] > 1),
            )
        )  # fmt: skip
    unrolled = any("_unroll" in raw["name"] for raw, nodes in zip(record["layers"], claims, strict=True) if not nodes)
    unclaimed = tuple(_unclaimed(graph, owners, unrolled=unrolled))
    return Plan(
        model={**model, "nodes": len(graph.nodes)},
        compiler={"gpu": None, **record["compiler"]},
        config=dict(config),
        seconds=record["seconds"],
        layers=tuple(layers),
        unclaimed=unclaimed,
        io=tuple(dict(entry) for entry in record["io"]),
        summary=summarize(graph, costs, layers, unclaimed, [entry["name"] for entry in record["io"]]),
        facts={**record.get("facts", {}), "warnings": record.get("warnings", []),
               "engine_bytes": record.get("engine_bytes"),
               **({"model_problems": [p.text for p in graph.problems]} if graph.problems else {})},
    )  # fmt: skip


def layer_ids(names: list[str]) -> list[str]:
    """The names, with a number behind those that occurred before."""
    taken = set(names)
    used: set[str] = set()
    ids = []
    for name in names:
        unique, k = name, 1
        while unique in used or (k > 1 and unique in taken):
            k += 1
            unique = f"{name}#{k}"
        used.add(unique)
        ids.append(unique)
    return ids


def _claimed(graph: Graph, raw: LayerRecord, renamed: Mapping[str, str]) -> tuple[str, ...]:
    """Ids of the nodes that a layer names; names that are no node of the model stay in its raw record."""
    ids = (renamed.get(name, name) for name in raw["nodes"])
    return tuple(dict.fromkeys(i for i in ids if i in graph.by_id))


def _shares(
    graph: Graph,
    layers: list[LayerRecord],
    claims: list[tuple[str, ...]],
    costs: Mapping[str, Cost],
) -> list[int | None]:
    """FLOPs of each layer: its nodes' FLOPs, a node in several layers counted in those that fit its kind.

    A convolution whose scaling was split off into a pointwise kernel has its FLOPs in the convolution
    kernel. Where several layers fit, each gets an equal part, so that the sum over layers is the sum
    over claimed nodes.
    """
    where: dict[str, list[int]] = {}
    for i, nodes in enumerate(claims):
        for node in nodes:
            where.setdefault(node, []).append(i)
    total: list[int | None] = [0] * len(layers)
    for node, places in where.items():
        cost = costs[node].flops
        own = kind_of_ops([graph.by_id[node].op])
        kinds = {
            i: kind_of(layers[i]["type"], layers[i]["name"], [graph.by_id[n].op for n in claims[i]]) for i in places
        }
        fitting = [i for i in places if kinds[i] == own]
        if not fitting and own in {"conv", "gemm"}:
            fitting = [i for i in places if kinds[i] in {"conv", "gemm", "attention"}]
        fitting = fitting or places
        for k, i in enumerate(fitting):
            if cost is None:
                total[i] = None
            elif (so_far := total[i]) is not None:
                total[i] = so_far + cost // len(fitting) + (cost % len(fitting) if k == 0 else 0)
    return total


def _often(costs: Mapping[str, Cost], nodes: tuple[str, ...], amount: int | None) -> int | None:
    """Bytes of all runs of a layer: its nodes may be in the body of a loop. None where they run differently often."""
    runs = {costs[node].runs for node in nodes} or {1}
    often = runs.pop() if len(runs) == 1 else None
    return None if amount is None or often is None else amount * often


def _merged(graph: Graph, nodes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Groups of siblings in one layer: the same weighty operation on the same data with other weights."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in nodes:
        node = graph.by_id[name]
        if (
            node.op in {"MatMul", "Gemm", "Conv", "ConvTranspose"}
            and node.inputs
            and node.inputs[0] not in graph.constants
        ):
            groups.setdefault((node.op, node.inputs[0]), []).append(name)
    return tuple(tuple(g) for g in groups.values() if len(g) > 1)


class _Shapes:
    """Concrete shapes of a plan's tensors.

    With dynamic inputs a compiler reports -1 for open dimensions. The model at its opt shapes knows the
    concrete ones: a layer's tensor is some tensor on the border of the layer's nodes. Among those that
    agree with the reported numbers, the size must be the same for all; else, and where the compiler reports
    it flattened, the same for the layer that writes it and those that read it. Else it stays unknown.
    """

    def __init__(self, graph: Graph, record: Record, claims: list[tuple[str, ...]]) -> None:
        self._known: dict[str, tuple[int, ...]] = {}
        border: dict[str, list[set[str]]] = {}
        for raw, nodes in zip(record["layers"], claims, strict=True):
            open_in = [t["name"] for t in (*raw["inputs"], *raw.get("constants", [])) if -1 in t["shape"]]
            open_out = [t["name"] for t in raw["outputs"] if -1 in t["shape"]]
            if not open_in and not open_out:
                continue
            mine = [graph.by_id[n] for n in nodes]
            for name in open_in:  # weights have no open dimension
                border.setdefault(name, []).append({t for n in mine for t in n.inputs if t not in graph.initializers})
            for name in open_out:
                border.setdefault(name, []).append({t for n in mine for t in n.outputs})
        self._border = border
        self._graph = graph
        opts = {entry["name"]: tuple(entry["profiles"][0]["opt"]) for entry in record["io"] if entry.get("profiles")}
        self._io = {**{n: s for n in [*graph.inputs, *graph.outputs] if (s := self._of(n))}, **opts}
        # One open dimension everywhere (a batch) has one value everywhere.
        values = {
            actual
            for name in graph.inputs
            for entry in record["io"]
            if entry["name"] == name and name in self._io
            for declared, actual in zip(entry["shape"], self._io[name], strict=False)
            if declared == -1
        }
        self._batch = values.pop() if len(values) == 1 else None

    def _of(self, name: str) -> tuple[int, ...] | None:
        tensor = self._graph.tensor(name)
        if tensor.shape is None or tensor.elements is None:
            return None
        return tuple(d for d in tensor.shape if isinstance(d, int))

    def tensor(self, raw: TensorRecord) -> PlanTensor:
        shape = tuple(raw["shape"])
        dynamic = -1 in shape
        concrete = self._concrete(raw["name"], shape) if dynamic else shape
        strides = raw.get("strides")
        return PlanTensor(
            name=raw["name"], shape=concrete, dtype=raw["dtype"], format=raw.get("format", ""),
            strides=None if strides is None or dynamic else tuple(strides),
            bytes=nbytes(concrete, raw["dtype"]), dynamic=dynamic,
        )  # fmt: skip

    def _concrete(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        if name in self._io and _agree(shape, self._io[name]):
            return self._io[name]
        sides = [{s for t in side if (s := self._of(t))} for side in self._border.get(name, ())]
        found = {s for side in sides for s in side if _agree(shape, s)}
        if len(found) == 1:
            return found.pop()
        own = self._of(name)
        if own is not None or len(sides) > 1:
            sides = sides if own is None else [{own}]
            common = set.intersection(*({f for s in side if (f := _filled(shape, s))} for side in sides))
            if len(common) == 1:
                return common.pop()
        if shape.count(-1) == 1 and self._batch is not None and (not found or shape[0] == -1):
            filled = tuple(self._batch if d == -1 else d for d in shape)
            if not found or filled in found:
                return filled
        return None


def _agree(reported: tuple[int, ...], actual: tuple[int, ...]) -> bool:
    return len(reported) == len(actual) and all(r in (-1, a) for r, a in zip(reported, actual, strict=True))


def _filled(reported: tuple[int, ...], actual: tuple[int, ...]) -> tuple[int, ...] | None:
    """The reported shape with as many elements as the actual one; None where that can't be."""
    if _agree(reported, actual):
        return actual
    known = math.prod(d for d in reported if d != -1)
    size = math.prod(actual)
    if reported.count(-1) != 1 or not known or size % known:
        return None
    return tuple(size // known if d == -1 else d for d in reported)


class _Sources:
    def __init__(self, graph: Graph, provenance: Mapping[str, Source] | None) -> None:
        self._graph = graph
        self._provenance = provenance
        self._seen: dict[str, Source | None] = {}

    def _one(self, node: str) -> Source | None:
        if node not in self._seen:
            if self._provenance is not None:
                self._seen[node] = self._provenance.get(node)
            else:
                self._seen[node] = source_of(self._graph.by_id[node])
        return self._seen[node]

    def of(self, nodes: tuple[str, ...]) -> tuple[Source, ...]:
        return tuple(dict.fromkeys(s for n in nodes if (s := self._one(n)) is not None))


def _unclaimed(graph: Graph, owners: Mapping[str, int], *, unrolled: bool) -> list[Unclaimed]:
    shape_only = _shape_only(graph)
    numbers = _value_numbers(graph)
    twins: dict[int, str] = {}
    for node in graph.nodes:
        if node.id in owners:
            twins.setdefault(numbers[node.id], node.id)
    out = []
    for node in graph.nodes:
        if node.id not in owners:
            twin = twins.get(numbers[node.id])
            reason = _reason(graph, node, owners, shape_only, twin)
            if reason == "unknown" and unrolled and node.op in _LOOPS:
                reason = "unrolled"
            text = f"the same computation as {twin}, done once" if reason == "duplicate" else REASONS[reason]
            out.append(Unclaimed(node.id, reason, text))
    return out


def _reason(graph: Graph, node: Node, owners: Mapping[str, int], shape_only: set[str], twin: str | None) -> str:
    if node.id not in graph.live:
        return "dead"
    if node.outputs and all(not o or o in graph.constants for o in node.outputs):
        return "constant"
    if node.op in SHAPES or node.id in shape_only:
        return "shape"
    if node.op in VIEWS:
        return "view"
    if node.parent is not None or node.op in {"If", "Loop", "Scan"}:
        return "body"
    if node.op in {"QuantizeLinear", "DequantizeLinear"}:
        return "quantization"
    if twin is not None:
        return "duplicate"
    if node.op == "Cast":
        return "cast"
    if node.op in _MOVEMENT or (node.op == "Gather" and node.inputs[1] in graph.constants):
        return "layout"
    if node.op in {"Resize", "Upsample"} and _same_size(graph, node):
        return "identity"
    data = [name for name in node.inputs if name and name not in graph.constants]
    if node.op in _SCALES and len(data) == 1 and _behind_a_kernel(graph, data[0], owners):
        return "weights"
    return "unknown"


def _same_size(graph: Graph, node: Node) -> bool:
    """Whether a Resize gives what it gets: at the same size every mode does, but for one that also crops."""
    before, after = (graph.tensor(name) for name in (node.inputs[0], node.outputs[0]))
    crops = node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize"
    return not crops and before.elements is not None and before.shape == after.shape


def _behind_a_kernel(graph: Graph, name: str, owners: Mapping[str, int]) -> bool:
    """Whether a kernel computes the tensor, seen through what has no kernel of its own."""
    while (node := graph.producer.get(name)) is not None and node.id not in owners:
        if node.op not in VIEWS | _MOVEMENT | _SCALES:
            return False
        name = next((i for i in node.inputs if i and i not in graph.constants), "")
    return node is not None


def _value_numbers(graph: Graph) -> dict[str, int]:
    """A number for each node; two nodes with the same number compute the same values.

    Classic value numbering: same operation, same attributes, same inputs by value. Small constants
    count as equal by content.
    """
    contents = {t.name: (tuple(t.dims), t.data_type, t.raw_data, tuple(t.float_data), tuple(t.int64_data))
                for t in graph.proto.graph.initializer if not t.external_data}  # fmt: skip
    seen: dict[tuple[Any, ...], int] = {}
    value: dict[str, Any] = {name: ("constant", *content) for name, content in contents.items()}
    numbers = {}
    for node in graph.nodes:
        attributes = tuple(sorted(_unnamed(a).SerializeToString() for a in node.proto.attribute))
        key: tuple[Any, ...] = (
            node.op,
            node.domain,
            node.parent,
            attributes,
            tuple(value.get(i, i) for i in node.inputs),
        )
        if node.op in RANDOM:
            key = (*key, node.id)  # two draws are two values
        number = seen.setdefault(key, len(seen))
        numbers[node.id] = number
        value.update({name: (number, k) for k, name in enumerate(node.outputs)})
    return numbers


def _unnamed(attribute: onnx.AttributeProto) -> onnx.AttributeProto:
    """The attribute with its tensor's name taken off, which is no part of the value."""
    if not attribute.HasField("t") or not attribute.t.name:
        return attribute
    bare = type(attribute)()
    bare.CopyFrom(attribute)
    bare.t.ClearField("name")
    return bare


def _shape_only(graph: Graph) -> set[str]:
    """Nodes that only shape arithmetic reads: from a Shape or Size on, small integers, no kernel."""
    from_shape: set[str] = set()
    nodes: set[str] = set()
    for node in graph.nodes:
        if node.op in {"Shape", "Size"}:
            from_shape.update(node.outputs)
            continue
        known = [i for i in node.inputs if i and i not in graph.constants]
        integer = all(graph.tensor(o).dtype in {"int64", "int32", "bool", "", "float32"} for o in node.outputs)
        if known and integer and all(i in from_shape for i in known):
            from_shape.update(node.outputs)
            nodes.add(node.id)
    return nodes


def total(parts: Mapping[str, int | None]) -> int | None:
    """The sum, or None where a part is unknown."""
    known = [p for p in parts.values() if p is not None]
    return sum(known) if len(known) == len(parts) else None
