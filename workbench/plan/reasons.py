"""Why a node is in no layer, and which kernel executes a node that the compiler does not name.

Some compilers give kernels names that list their operations. Where such a name holds an operation beyond those of the
nodes that the compiler names, and a node with that operation comes right before or after them, the kernel executes that
node too; the plan marks it as inferred. A node counts as folded into the weights of a neighbor only where no kernel
executes it and arithmetic allows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.model.cost_rules import SHAPES, VIEWS
from workbench.model.graph import Graph
from workbench.model.node import RANDOM, Node
from workbench.plan.flow import RECURRENT
from workbench.plan.plan import Unclaimed
from workbench.plan.vocabulary import Vocabulary, layer_kind

if TYPE_CHECKING:
    import onnx

    from workbench.plan.record import LayerRecord

REASONS = {
    "constant": "computed at build time: it depends on weights alone",
    "shape": "shape arithmetic: the host knows the result before the kernels run",
    "dead": "no output of the model depends on it",
    "view": "a view: the bytes stay where they are",
    "layout": "a data movement that became part of its neighbors' memory layout",
    "weights": "folded into the weights of its neighbor",
    "scale": "a scale by a number that the product beside it, or weights before that, take up",
    "quantization": "absorbed: its neighbor reads or writes the quantized type",
    "cast": "a conversion that its neighbor does while it reads or writes",
    "duplicate": "the same computation as another node, done once",
    "identity": "nothing to do: at this size its output is its input",
    "body": "inside a control-flow body that the compiler reports as a whole",
    "unrolled": "a loop unrolled into kernels of which the compiler names no node",
    "unknown": "the compiler does not say",
}
"""The codes of `Unclaimed.reason` with their meanings."""

NO_KERNEL = frozenset(REASONS) - {"body", "unrolled", "unknown"}
"""The reasons for which a node needs no kernel. With the others, its kernel is unknown."""

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
_SCALES = {"BatchNormalization", "Mul", "Add", "Sub", "Div"}
_PRODUCTS = {"Conv", "MatMul", "Gemm"}
_WEIGHTED = {*_PRODUCTS, "ConvTranspose", "BatchNormalization", "LayerNormalization", "RMSNormalization", "InstanceNormalization",
             "GroupNormalization"}  # fmt: skip

SILENT = (VIEWS | _MOVEMENT | SHAPES) - {"Pad"}
"""Operations that may leave no arithmetic in a kernel's name."""


def inferred(
    graph: Graph, layers: Sequence[LayerRecord], claims: Sequence[tuple[str, ...]], vocabulary: Vocabulary
) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """Nodes that a kernel computes though the compiler does not name them there.

    Args:
        graph: The model at the plan's shapes.
        layers: The compiler's layers.
        claims: Ids of the nodes of each layer.
        vocabulary: What the compiler's own names mean.

    Returns:
        Per layer the ids of such nodes, and for each node why.
    """
    search = _Search(graph, layers, claims, vocabulary)
    changed = True
    while changed:
        changed = False
        for node in search.open:
            if node.id not in search.why and search.place(node):
                changed = True
    return [tuple(nodes) for nodes in search.found], search.why


class _Search:
    """Searches for the kernels of nodes that no layer claims."""

    def __init__(
        self, graph: Graph, layers: Sequence[LayerRecord], claims: Sequence[tuple[str, ...]], vocabulary: Vocabulary
    ) -> None:
        self.graph, self.layers, self.claims, self.vocabulary = graph, layers, claims, vocabulary
        self.found: list[list[str]] = [[] for _ in layers]
        self.why: dict[str, str] = {}
        self.of: dict[str, list[int]] = {}
        for i, nodes in enumerate(claims):
            for name in nodes:
                self.of.setdefault(name, []).append(i)
        owners = dict.fromkeys(self.of, 1)
        shape_only, twins = _shape_only(graph), _twins(graph, owners)
        self.open = [
            node for node in graph.nodes
            if node.id not in owners
            and _reason(graph, node, shape_only, twins.get(node.id)) == "unknown"
        ]  # fmt: skip

    def place(self, node: Node) -> bool:
        """Put `node` into the kernel that computes it, if one can be found."""
        before = self._kernels(self._sources(node))
        after = self._kernels(self._users(node))
        for i in (*before, *after):
            if self._spells(i, node):
                return self._put(i, node, f"its operation is in the kernel's name, {self.layers[i]['name']}")
        if _scales_by_a_number(self.graph, node):
            for i in (*before, *after):
                if layer_kind(self.layers[i], (), self.vocabulary) == "attention":
                    return self._put(i, node, "a fused attention scales by a number itself")
        both = [i for i in before if i in after]
        if both and not _is_linear(self.graph, node) and len(before) == len(after) == 1:
            return self._put(both[0], node, "it lies between nodes of this one kernel")
        return False

    def alpha(self, node: Node) -> str | None:
        """The neighboring product of two activations that can scale by a number with its alpha; None without one."""
        if not _scales_by_a_number(self.graph, node):
            return None
        near = [i for other in (*self._sources(node), *self._users(node)) for i in self.of[other.id]]
        return next((self.layers[i]["name"] for i in near if self._has_alpha(i)), None)

    def _put(self, i: int, node: Node, why: str) -> bool:
        self.found[i].append(node.id)
        self.of.setdefault(node.id, []).append(i)
        self.why[node.id] = why
        return True

    def _kernels(self, nodes: Iterable[Node]) -> list[int]:
        """The layers of the nodes: of each the last, which writes its result."""
        return list(dict.fromkeys(self.of[node.id][-1] for node in nodes))

    def _sources(self, node: Node) -> list[Node]:
        """Placed nodes that compute its data, seen through what moves it."""
        out, queue, seen = [], [i for i in node.inputs if i and i not in self.graph.constants], set()
        while queue:
            maker = self.graph.producer.get(queue.pop())
            if maker is None or maker.id in seen:
                continue
            seen.add(maker.id)
            if maker.id in self.of:
                out.append(maker)
            elif maker.op in SILENT:
                queue += [i for i in maker.inputs if i and i not in self.graph.constants]
        return out

    def _users(self, node: Node) -> list[Node]:
        """Placed nodes that read its result, seen through what moves it."""
        out, queue, seen = [], [o for o in node.outputs if o], set()
        while queue:
            for user in self.graph.consumers.get(queue.pop(), ()):
                if user.id in seen:
                    continue
                seen.add(user.id)
                if user.id in self.of:
                    out.append(user)
                elif user.op in SILENT:
                    queue += [o for o in user.outputs if o]
        return out

    def _spells(self, i: int, node: Node) -> bool:
        """Whether the kernel's name holds the node's operation beyond those of its other nodes."""
        mine = [self.graph.by_id[n] for n in (*self.claims[i], *self.found[i])]
        return self.vocabulary.spells(self.layers[i], mine, node)

    def _has_alpha(self, i: int) -> bool:
        layer = self.layers[i]
        product = any(
            n.op in {"MatMul", "Gemm"} and not self.graph.constants.intersection(n.inputs)
            for n in (self.graph.by_id[name] for name in self.claims[i])
        )
        return product and self.vocabulary.has_alpha(layer)


def _is_linear(graph: Graph, node: Node) -> bool:
    """Whether it only scales or shifts its data by constants, so that weights before or behind it can take it up."""
    return node.op in _SCALES and sum(bool(i) and i not in graph.constants for i in node.inputs) == 1


def _scales_by_a_number(graph: Graph, node: Node) -> bool:
    numbers = [i for i in node.inputs if i in graph.constants]
    return node.op in {"Mul", "Div"} and len(numbers) == 1 and graph.tensor(numbers[0]).elements == 1


def explain(
    graph: Graph, layers: Sequence[LayerRecord], claims: Sequence[tuple[str, ...]], vocabulary: Vocabulary,
    folded: Iterable[str] = (), removed: Iterable[str] = (),
) -> list[Unclaimed]:  # fmt: skip
    """Why each node that is in none of `claims` is in no layer.

    Args:
        graph: The model at the plan's shapes.
        layers: The compiler's layers.
        claims: Ids of the nodes of each layer.
        vocabulary: What the compiler's own names mean.
        folded: Ids of nodes that the compiler reports as computed at build time.
        removed: Ids of nodes that the compiler reports to have no effect.
    """
    known = {**dict.fromkeys(removed, "dead"), **dict.fromkeys(folded, "constant")}
    owners: dict[str, list[int]] = {}
    for i, nodes in enumerate(claims):
        for name in nodes:
            owners.setdefault(name, []).append(i)
    shape_only, twins = _shape_only(graph), _twins(graph, owners)
    unrolled = any(vocabulary.is_unrolled(raw) for raw, nodes in zip(layers, claims, strict=True) if not nodes)
    search = _Search(graph, layers, claims, vocabulary)
    cut = {i for i, raw in enumerate(layers) if vocabulary.is_cut(raw)}
    out = []
    for node in graph.nodes:
        if node.id in owners:
            continue
        reason = known.get(node.id) or _reason(graph, node, shape_only, twins.get(node.id))
        text = REASONS[reason]
        if reason == "duplicate":
            text = f"the same computation as {twins[node.id]}, done once"
        elif reason == "unknown" and node.op in RECURRENT and unrolled:
            reason, text = "unrolled", REASONS["unrolled"]
        elif reason == "unknown" and (taker := _takes_up(graph, node, owners, cut)) is not None:
            reason, text = "weights", f"folded into the weights of {taker}"
        elif reason == "unknown" and (kernel := search.alpha(node)) is not None:
            reason, text = "scale", f"a scale by a number: the alpha of {kernel} or weights before it take it up"
        out.append(Unclaimed(node.id, reason, text))
    return out


def _takes_up(graph: Graph, node: Node, owners: Mapping[str, Sequence[int]], cut: set[int]) -> str | None:
    """The node whose constants can hold this one's scale or shift: a product, a convolution or a normalization.

    None where there is none, or where a kernel's name is too long for its operations to be all in it.
    """
    if not _is_linear(graph, node):
        return None

    def holds(other: Node) -> bool:
        fits = other.op in _WEIGHTED and any(i in graph.constants for i in other.inputs[1:])
        fits = fits or (other.op in {"MatMul", "Gemm"} and other.inputs[0] in graph.constants)
        return fits and not cut.intersection(owners[other.id])

    name = next((i for i in node.inputs if i and i not in graph.constants), "")
    while (maker := graph.producer.get(name)) is not None and maker.id not in owners:
        if maker.op not in VIEWS | _MOVEMENT and not _is_linear(graph, maker):
            break
        name = next((i for i in maker.inputs if i and i not in graph.constants), "")
    if maker is not None and maker.id in owners and holds(maker):
        return maker.id
    if node.op not in {"Mul", "Div"} and any(
        u.op not in {"MatMul", "Gemm"} for u in graph.consumers.get(node.outputs[0], ())
    ):
        return None  # a shift before a convolution is not the same at its padded edge
    users = list(graph.consumers.get(node.outputs[0], ()))
    fits = users and all(
        u.id in owners and u.op in _PRODUCTS and holds(u) and u.inputs[0] == node.outputs[0] for u in users
    )
    return users[0].id if fits and node.outputs[0] not in graph.outputs else None


def _reason(graph: Graph, node: Node, shape_only: set[str], twin: str | None) -> str:
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
    return "unknown"


def _same_size(graph: Graph, node: Node) -> bool:
    """Whether a Resize gives what it gets: at the same size every mode does, but for one that also crops."""
    before, after = (graph.tensor(name) for name in (node.inputs[0], node.outputs[0]))
    crops = node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize"
    return not crops and before.elements is not None and before.shape == after.shape


def _twins(graph: Graph, owners: Mapping[str, object]) -> dict[str, str]:
    """For each node that no layer claims, one that a layer claims and that computes the same."""
    numbers = _value_numbers(graph)
    first: dict[int, str] = {}
    for node in graph.nodes:
        if node.id in owners:
            first.setdefault(numbers[node.id], node.id)
    return {n.id: first[numbers[n.id]] for n in graph.nodes if n.id not in owners and numbers[n.id] in first}


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
    """The attribute without its tensor's name, which is not part of the value."""
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
