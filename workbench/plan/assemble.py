"""Builds a Plan from a compiler's record and the model.

The record holds what each layer reads and writes and which nodes it names. This module computes the rest: kinds, titles,
concrete shapes, costs, sources, and why a node is in no layer. Inferred values are marked; what can't be determined is
``unknown`` or None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.model.cost import Cost, node_costs
from workbench.model.graph import Graph
from workbench.model.provenance import Source, source_of
from workbench.plan.flow import RECURRENT
from workbench.plan.kinds import kind_of_ops
from workbench.plan.memory import against_reported
from workbench.plan.plan import HOST, Layer, Plan
from workbench.plan.reasons import explain, inferred
from workbench.plan.sizes import Sizes, siblings
from workbench.plan.traffic import gathered, read, summarize
from workbench.plan.vocabulary import NEUTRAL, Vocabulary, layer_kind, layer_title

if TYPE_CHECKING:
    from workbench.plan.record import LayerRecord, Record


def assemble(
    graph: Graph,
    record: Record,
    *,
    model: tuple[str, str | None],
    config: Mapping[str, Any],
    evidence: str,
    renamed: Mapping[str, str] | None = None,
    provenance: Mapping[str, Source] | None = None,
    vocabulary: Vocabulary = NEUTRAL,
) -> Plan:
    """Build the Plan.

    Args:
        graph: The model at the shapes to count at (`Graph.at`).
        record: The compiler's record of the build.
        model: The model's name and SHA-256.
        config: The build configuration as a dict.
        evidence: How the compiler's layers name their nodes.
        renamed: Node names as the compiler received them -> node ids, if they differ.
        provenance: Source by node id from the original model; None to read it from `graph`.
        vocabulary: The meaning of the compiler's names.
    """
    graph.with_shapes({name: (tuple(shape), dtype) for name, (shape, dtype) in record.get("tensors", {}).items()})
    costs = node_costs(graph)
    found = vocabulary.flow(graph, record["layers"], dict(renamed or {}))
    more, why = inferred(graph, record["layers"], found.claims, vocabulary)
    why = {**dict.fromkeys((n for nodes in found.inferred for n in nodes), found.rule), **why}
    claims = [(*nodes, *extra) for nodes, extra in zip(found.claims, more, strict=True)]
    ops = [[graph.by_id[n].op for n in nodes] for nodes in claims]
    kinds = [layer_kind(raw, of, vocabulary) for raw, of in zip(record["layers"], ops, strict=True)]
    share = _shares(graph, record["layers"], claims, kinds, costs, found.repeated)
    owners = Counter(node for nodes in claims for node in nodes)
    shapes = Sizes(graph, record, claims, vocabulary)
    sources = _Sources(graph, provenance)
    ids = layer_ids([raw["name"] for raw in record["layers"]])
    largest: dict[str, int] = {}
    for raw in record["layers"]:
        for t in map(shapes.tensor, (*raw["inputs"], *raw["outputs"], *raw.get("constants", []))):
            largest[t.name] = max(largest.get(t.name, 0), t.bytes or 0)

    def turns(i: int, amount: int | None) -> int | None:
        return _of_all_turns(graph, costs, owners, claims[i], amount) if found.repeated[i] else amount

    layers = []
    for i, (raw, nodes) in enumerate(zip(record["layers"], claims, strict=True)):
        inputs = tuple(shapes.tensor(t) for t in raw["inputs"])
        outputs = tuple(shapes.tensor(t) for t in raw["outputs"])
        constants = tuple(shapes.tensor(t) for t in raw.get("constants", []))
        known = raw.get("detailed", True)
        layers.append(
            Layer(
                id=ids[i], name=raw["name"], title=layer_title(raw, kinds[i], ops[i], vocabulary),
                type=raw["type"], kind=kinds[i], nodes=nodes,
                evidence=_evidence(found.evidence[i] or raw.get("evidence", evidence), found.claims[i], nodes),
                inputs=inputs, outputs=outputs, constants=constants, tactic=raw.get("tactic", ""),
                stream=raw.get("stream", 0), event=raw.get("event"), flops=share[i],
                bytes_read=turns(i, read(((t, gathered(graph, nodes, t, outputs)) for t in (*inputs, *constants)), largest))
                if known
                else None,
                bytes_written=turns(i, total({t.name: t.bytes for t in outputs})) if known else None,
                sources=sources.of(nodes), merged=_merged(graph, nodes),
                partial=tuple(n for n in nodes if owners[n] > 1), inferred=(*found.inferred[i], *more[i]),
                branch=tuple(f"{owner}: {('then', 'else')[side]}" for owner, side in found.branches[i]),
                repeated=found.repeated[i],
            )
        )  # fmt: skip
    folded, removed = (
        [(renamed or {}).get(name, name) for name in names]
        for names in (record.get("folded", ()), record.get("removed", ()))
    )
    unclaimed = tuple(explain(graph, record["layers"], claims, vocabulary, folded, removed))
    summary = summarize(graph, costs, layers, unclaimed, [entry["name"] for entry in record["io"]])
    facts = record.get("facts", {})
    return Plan(
        model={"name": model[0], "sha256": model[1], "nodes": len(graph.nodes)},
        compiler={"gpu": None, **record["compiler"]},
        config=dict(config),
        seconds=record["seconds"],
        layers=tuple(layers),
        unclaimed=unclaimed,
        io=tuple(record["io"]),
        summary=summary,
        facts={**facts, "warnings": record.get("warnings", []), "engine_bytes": record.get("engine_bytes"),
               **against_reported(summary["peak_activation_bytes"], facts.get("memory", {})),
               **({"inferred": why} if why else {}),
               **({"model_problems": [p.text for p in graph.problems]} if graph.problems else {})},
    )  # fmt: skip


def _evidence(said: str, claimed: tuple[str, ...], nodes: tuple[str, ...]) -> str:
    return said if claimed else "inferred" if nodes else "none"


def layer_ids(names: list[str]) -> list[str]:
    """The names, with a number appended to those that occurred before."""
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


_MOVES = {"layout", "cast", "gather", *HOST}


def _shares(
    graph: Graph,
    layers: list[LayerRecord],
    claims: list[tuple[str, ...]],
    kinds: Sequence[str],
    costs: Mapping[str, Cost],
    repeated: Sequence[bool],
) -> list[int | None]:
    """FLOPs of each layer: those of its nodes. A node in several layers counts in the layers that fit its kind.

    A convolution whose scaling was split off into a pointwise kernel has its FLOPs in the convolution
    kernel. If several layers fit, each gets an equal part, so that the sum over layers is the sum
    over claimed nodes. The products of a recurrence get parts in proportion to their sizes. A layer that
    computes and has no known node has unknown FLOPs.
    """
    where: dict[str, list[int]] = {}
    for i, nodes in enumerate(claims):
        for node in nodes:
            where.setdefault(node, []).append(i)
    total: list[int | None] = [
        0 if nodes or kind in _MOVES else None for nodes, kind in zip(claims, kinds, strict=True)
    ]  # fmt: skip
    for node, places in where.items():
        cost = costs[node].flops
        own = kind_of_ops([graph.by_id[node].op])
        fitting = [i for i in places if kinds[i] == own]
        if not fitting and own in {"conv", "gemm"}:
            fitting = [i for i in places if kinds[i] in {"conv", "gemm", "attention"}]
        fitting = fitting or places
        sizes = [_product(layers[i]) for i in fitting] if graph.by_id[node].op in RECURRENT else []
        if sizes and None not in sizes:
            parts = _divided(cost, sizes, [repeated[i] for i in fitting])
        else:
            parts = _divided(cost, [1] * len(fitting), [True] * len(fitting))
        for i, part in zip(fitting, parts, strict=True):
            so_far = total[i]
            total[i] = None if part is None or so_far is None else so_far + part
    return total


def _divided(cost: int | None, sizes: Sequence[int | None], repeated: Sequence[bool]) -> list[int | None]:
    """`cost`, divided in proportion to the multiplications in `sizes`; the parts sum to `cost`.

    If some products are repeated, the others get exactly their own operations, and the repeated ones share the rest.
    """
    if cost is None:
        return [None] * len(sizes)
    known = [s or 0 for s in sizes]
    fixed = [0 if again or not any(repeated) else 2 * s for s, again in zip(known, repeated, strict=True)]
    rest = cost - sum(fixed)
    if rest < 0:
        fixed, rest = [0] * len(sizes), cost
    weights = [0 if f else s for s, f in zip(known, fixed, strict=True)]
    whole = sum(weights)
    parts = [f + (rest * w // whole if whole else 0) for f, w in zip(fixed, weights, strict=True)]
    parts[weights.index(max(weights))] += cost - sum(parts)
    return list(parts)


def _product(layer: LayerRecord) -> int | None:
    """Multiplications of a product with constant weights, from its tensors; None if their shapes are open."""
    weights = max(layer.get("constants", ()), key=lambda t: math.prod(t["shape"]), default=None)
    out = layer["outputs"][0]["shape"] if layer["outputs"] else [-1]
    if weights is None or len(weights["shape"]) < 2 or -1 in (*weights["shape"], *out):
        return None
    return math.prod(out) * int(weights["shape"][-2])


def _of_all_turns(
    graph: Graph, costs: Mapping[str, Cost], owners: Mapping[str, int], nodes: tuple[str, ...], amount: int | None
) -> int | None:
    """Bytes of all runs of a layer in a loop; None where the number of runs is unknown.

    Nodes in a body run once for each iteration of the loop, unless several layers share them: then the loop was
    partly unrolled.
    """
    body = [node for node in nodes if graph.by_id[node].parent is not None and owners[node] == 1]
    runs = {costs[node].runs for node in body} if len(body) == len(nodes) > 0 else {None}
    often = runs.pop() if len(runs) == 1 else None
    return None if amount is None or often is None else amount * often


def _merged(graph: Graph, nodes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Groups of siblings in one layer: the same heavy operation on the same data with different weights."""
    return tuple(tuple(n.id for n in group) for group in siblings((graph.by_id[n] for n in nodes), graph))


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


def total(parts: Mapping[str, int | None]) -> int | None:
    """The sum; None if a part is unknown."""
    known = [p for p in parts.values() if p is not None]
    return sum(known) if len(known) == len(parts) else None
