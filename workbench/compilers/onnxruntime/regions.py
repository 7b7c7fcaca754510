"""Which nodes of the model each node of the optimized graph executes, from the tensors that both graphs share.

ONNX Runtime saves its optimized graph without a record of where a node came from, but it keeps the names of tensors.
A tensor with the same name in both graphs is an *anchor*. Optimized nodes that are connected by tensors without an
anchor form a group. A group executes the nodes of the model between its own anchors and the anchors before them.
Some tensors lose their name and can still be identified: a node in the NCHWc layout is named after its output, and a
node that was moved to another layout keeps its name and operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workbench.model.cost_rules import VIEWS

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.model.node import Node

REORDERS = frozenset({"ReorderInput", "ReorderOutput"})
"""Operators that convert between the model's layout and ONNX Runtime's blocked layout NCHWc."""

NCHWC = "com.microsoft.nchwc"
"""Domain of the operators that work on the blocked layout."""

_MOVES = frozenset(
    {*REORDERS, *VIEWS, "Transpose", "Cast", "QuantizeLinear", "DequantizeLinear", "Concat", "Slice", "Split"}
)
"""Operators that ONNX Runtime inserts around a computation; next to one, they execute only nodes of the same operator."""

_WIDENED = "InsertedPrecisionFreeCast_"
"""Prefix of the name of a tensor that ONNX Runtime computes in FP32 because it has no FP16 kernel."""

_BRANCH = "_if_{}_"
"""Prefix of names from a branch (``then_branch``, ``else_branch``) of an If that ONNX Runtime resolved."""

_PREFIXES = (_WIDENED, _BRANCH.format("then_branch"), _BRANCH.format("else_branch"))

_SUFFIXES = ("_bn_nchwc", "_mul_nchwc", "_nchwc")

_STANDARD = frozenset({"", "ai.onnx"})


@dataclass(frozen=True)
class Regions:
    """Result of `match`.

    Attributes:
        nodes: For each node of the optimized graph, in its order, the ids of the model's nodes that it executes.
        evidence: The evidence for each: ``tensor-region``, ``name`` (through a tensor that lost its name), or ``none``.
        anchors: Tensors of the optimized graph -> tensors of the model with the same values.
        executed: Ids of the model's control-flow nodes whose bodies the optimized graph still has.
        decided: Ids of If nodes with a constant condition, which ONNX Runtime replaced by one of their branches.
        dropped: Ids of the nodes of the other branches.
    """

    nodes: tuple[tuple[str, ...], ...]
    evidence: tuple[str, ...]
    anchors: Mapping[str, str]
    executed: frozenset[str]
    decided: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def match(original: Graph, optimized: Graph, initializers: Iterable[str] = ()) -> Regions:
    """Find the region of each optimized node.

    Args:
        original: The model.
        optimized: The graph that ONNX Runtime saved.
        initializers: Names of constants of the optimized graph that are not in `optimized.initializers`.
    """
    return _Match(original, optimized, initializers).run()


class _Match:
    def __init__(self, original: Graph, optimized: Graph, initializers: Iterable[str]) -> None:
        self.original, self.optimized = original, optimized
        self.stops = original.constants | optimized.initializers | set(initializers)
        self.claims: dict[str, list[str]] = {node.id: [] for node in optimized.nodes}
        self.evidence: dict[str, str] = {}
        self.anchors: dict[str, str] = {}
        self.executed: set[str] = set()
        self.decided: list[str] = []
        self.dropped: list[str] = []

    def run(self) -> Regions:
        self._scope(_children(self.original, None), _children(self.optimized, None))
        self._release()
        order = [node.id for node in self.optimized.nodes]
        place = {node.id: node.index for node in self.original.nodes}
        found = tuple(tuple(sorted(dict.fromkeys(self.claims[name]), key=place.__getitem__)) for name in order)
        evidence = tuple(
            self.evidence.get(name, "tensor-region") if nodes else "none"
            for name, nodes in zip(order, found, strict=True)
        )
        return Regions(
            found, evidence, self.anchors, frozenset(self.executed), tuple(self.decided), tuple(self.dropped)
        )

    # --- one graph: the model's own, or one body ------------------------------------------------------

    def _scope(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        before = self._decided(before, after)
        producer = {t: node for node in before for t in node.outputs if t}
        aliases, by_name = self._anchored(before, after, producer)
        self.anchors |= aliases
        stops = self.stops | set(aliases.values()) | _twins(before, set(aliases.values()))
        mine: dict[str, list[str]] = {}
        for group in _groups(after, aliases):
            given = {aliases[t] for node in group for t in node.inputs if t in aliases}
            # A tensor that a group only converts to another type or layout is computed before the group.
            ends = [aliases[t] for node in group for t in node.outputs if t in aliases and aliases[t] not in given]
            region = _region(ends, producer, stops)
            for node, owned in _divided(group, region, aliases).items():
                mine[node] = owned
                if any(t in by_name for t in self.optimized.by_id[node].outputs):
                    self.evidence[node] = "name"
        for node, owned in mine.items():
            self.claims[node] += owned
        self._bodies(before, after, aliases)

    def _decided(self, before: Sequence[Node], after: Sequence[Node]) -> list[Node]:
        """The nodes, with each If that ONNX Runtime resolved replaced by the nodes of its branch."""
        kept = {t for node in after if node.op == "If" for t in node.outputs}
        names = [name for node in after for name in (node.proto.name, *node.outputs)]
        out: list[Node] = []
        for node in before:
            bodies = (
                self.original.bodies.get(node.id, {}) if node.op == "If" and not kept.intersection(node.outputs) else {}
            )
            taken = [b for b in bodies if any(name.startswith(_BRANCH.format(b)) for name in names)]
            if len(taken) != 1:
                out.append(node)
                continue
            self.decided.append(node.id)
            self.dropped += [n.id for b, body in bodies.items() if b != taken[0] for n in body]
            graph = next(a.g for a in node.proto.attribute if a.name == taken[0])
            called = {value.name: t for value, t in zip(graph.output, node.outputs, strict=False)}
            inside = [
                replace(
                    n,
                    inputs=tuple(called.get(t, t) for t in n.inputs),
                    outputs=tuple(called.get(t, t) for t in n.outputs),
                )
                for n in bodies[taken[0]]
            ]
            out += self._decided(inside, after)
        return out

    def _anchored(
        self, before: Sequence[Node], after: Sequence[Node], producer: Mapping[str, Node]
    ) -> tuple[dict[str, str], set[str]]:
        """Tensors of the optimized graph -> the model's tensors with the same values, and tensors known by a node's name."""
        named = {node.id: node for node in before}
        found = {t: t for node in after for t in node.outputs if t and t in producer and self._same_type(t)}
        by_name: set[str] = set()
        for node in after:
            for t in node.outputs:
                for prefix in _PREFIXES:
                    if (own_name := t.removeprefix(prefix)) != t and own_name in producer:
                        found[t] = own_name
                        by_name.add(t)
            lost = [t for t in node.outputs if t and t not in found]
            if not lost or node.op in REORDERS:
                continue
            own = named.get(node.proto.name)
            if own is not None and own.op == node.op and len(own.outputs) == len(node.outputs):
                pairs = [(t, o) for t, o in zip(node.outputs, own.outputs, strict=True) if t and t not in found and o]
            elif node.domain == NCHWC and (alias := _called(node, producer, self.original.consumers)) is not None:
                pairs = [(node.outputs[0], alias)]
            else:
                continue
            for t, o in pairs:
                # A conversion after it may have the model's name: both are then the same tensor.
                found[t] = o
                by_name.add(t)
        return found, by_name

    def _same_type(self, name: str) -> bool:
        """Whether a tensor has one data type and one shape in both graphs, as far as both know them."""
        a, b = self.original.tensor(name), self.optimized.tensor(name)
        if a.dtype and b.dtype and a.dtype != b.dtype:
            return False
        if a.shape is None or b.shape is None:
            return True
        numbers = [(x, y) for x, y in zip(a.shape, b.shape, strict=False) if isinstance(x, int) and isinstance(y, int)]
        return len(a.shape) == len(b.shape) and all(x == y or x < 0 or y < 0 for x, y in numbers)

    def _bodies(self, before: Sequence[Node], after: Sequence[Node], aliases: Mapping[str, str]) -> None:
        """Match the bodies of control flow that both graphs have."""
        owners = {t: node for node in before for t in node.outputs if t and node.id in self.original.bodies}
        for node in after:
            if node.id not in self.optimized.bodies:
                continue
            own = next((owners[aliases[t]] for t in node.outputs if t in aliases and aliases[t] in owners), None)
            if own is None or own.op != node.op:
                continue
            self.executed.add(own.id)
            theirs = self.original.bodies[own.id]
            for attribute, body in self.optimized.bodies[node.id].items():
                self._scope(theirs.get(attribute, ()), body)

    def _release(self) -> None:
        """Remove views from the claims of nodes that compute: views only rename bytes, and ONNX Runtime removed them."""
        for node in self.optimized.nodes:
            claimed = self.claims[node.id]
            if len(claimed) < 2 or node.op in VIEWS:
                continue
            kept = [n for n in claimed if self.original.by_id[n].op not in VIEWS]
            self.claims[node.id] = kept or claimed


def _children(graph: Graph, parent: str | None) -> list[Node]:
    return [node for node in graph.nodes if node.parent == parent]


def _called(node: Node, producer: Mapping[str, Node], users: Mapping[str, Sequence[Node]]) -> str | None:
    """The model's tensor that an NCHWc node writes: the one that it is named after, past what was fused into it."""
    name = node.proto.name
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and (found := name.removesuffix(suffix)) in producer:
            break
    else:
        return None
    if len(node.inputs) > 3 and node.inputs[3] and producer[found].op == "Conv":
        found = _past(found, ("Add", "Sum"), users)
    activation = node.attribute("activation")
    if activation and producer[found].op != activation:
        found = _past(found, (str(activation),), users)
    return found


def _past(name: str, ops: Sequence[str], users: Mapping[str, Sequence[Node]]) -> str:
    """The output of the one node of `ops` that reads `name`; `name` where there is none."""
    behind = [node for node in users.get(name, ()) if node.op in ops]
    return behind[0].outputs[0] if len(behind) == 1 else name


def _groups(nodes: Sequence[Node], anchors: Mapping[str, str]) -> list[list[Node]]:
    """Nodes that are connected by tensors without an anchor, in their order."""
    root = list(range(len(nodes)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    writer = {t: i for i, node in enumerate(nodes) for t in node.outputs if t}
    for i, node in enumerate(nodes):
        for t in node.inputs:
            if t in writer and t not in anchors:
                root[find(i)] = find(writer[t])
    groups: dict[int, list[Node]] = {}
    for i, node in enumerate(nodes):
        groups.setdefault(find(i), []).append(node)
    return list(groups.values())


def _region(ends: Iterable[str], producer: Mapping[str, Node], stops: set[str] | frozenset[str]) -> list[Node]:
    """Nodes of the model that compute `ends` from the tensors in `stops`, nearest to the ends first."""
    found: dict[str, Node] = {}
    queue = [producer[t] for t in ends if t in producer]
    while queue:
        node = queue.pop(0)
        if node.id in found:
            continue
        found[node.id] = node
        queue += [producer[t] for t in node.inputs if t and t not in stops and t in producer]
    return list(found.values())


def _divided(group: Sequence[Node], region: Sequence[Node], anchors: Mapping[str, str]) -> dict[str, list[str]]:
    """Which nodes of its group's region each optimized node executes.

    A node with the name and operator of a node of the region executes that node. Inserted conversions execute nothing.
    All other nodes belong to the nodes that compute.
    """
    out: dict[str, list[str]] = {node.id: [] for node in group}
    left = {node.id: node for node in region}
    if len(group) == 1:
        return {group[0].id: [] if group[0].op in REORDERS else list(left)}
    open_: list[Node] = []
    for node in group:
        same = left.get(node.proto.name)
        if same is not None and same.op == node.op and node.domain in {*_STANDARD, same.domain}:
            out[node.id].append(left.pop(same.id).id)
        elif node.op not in REORDERS:
            open_.append(node)
    makers = [node for node in open_ if node.op not in _MOVES] or _matched(group, out)
    for node in open_:
        if node.op in _MOVES:
            same = next((n for n in left.values() if n.op == node.op), None)
            if same is not None and (makers or sum(n.op in _MOVES for n in open_) > 1):
                out[node.id].append(left.pop(same.id).id)
    makers = makers or [node for node in open_ if any(t in anchors for t in node.outputs)] or open_
    for node in makers:
        out[node.id] += list(left)
    return out


def _matched(group: Sequence[Node], out: Mapping[str, Sequence[str]]) -> list[Node]:
    """Nodes that compute and have a name from the model: nodes that were fused into them belong to them too."""
    return [node for node in group if out[node.id] and node.op not in _MOVES]


def _twins(nodes: Sequence[Node], anchored: set[str]) -> set[str]:
    """Outputs of nodes that duplicate a node with an anchored output: ONNX Runtime computes both once."""
    numbers: dict[str, Any] = {}
    seen: dict[Any, int] = {}
    writers: dict[int, list[Node]] = {}
    for node in nodes:
        attributes = tuple(sorted(a.SerializeToString(deterministic=True) for a in node.proto.attribute))
        key = (node.op, node.domain, attributes, tuple(numbers.get(t, t) for t in node.inputs))
        number = seen.setdefault(key, len(seen))
        numbers |= {t: (number, k) for k, t in enumerate(node.outputs) if t}
        writers.setdefault(number, []).append(node)
    out: set[str] = set()
    for same in writers.values():
        if len(same) > 1 and not same[0].op.startswith("Random"):
            known = [n for n in same if anchored.intersection(n.outputs)]
            if known:
                out |= {t for n in same if n not in known for t in n.outputs if t}
    return out


def folded(original: Graph, optimized: Graph, claimed: Iterable[str]) -> list[str]:
    """Ids of the model's nodes that ONNX Runtime computed while it optimized: their results are constants there."""
    taken = set(claimed)
    constants = optimized.initializers | original.constants
    return [
        node.id for node in original.nodes
        if node.id not in taken and node.outputs and all(not t or t in constants for t in node.outputs)
    ]  # fmt: skip
