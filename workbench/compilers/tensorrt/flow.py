"""Control flow and recurrence in TensorRT's records: the layers of If, Loop and Scan, and of LSTM, GRU and RNN.

TensorRT lists the layers of all branches one after the other, with jumps between them. Where it unrolls a loop, it names
the nodes of one step only. This module infers both from the names of nodes within a body, the number of the loop in the
names of a product's constants, and which layer feeds which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.compilers.tensorrt.words import is_control, kind_of, words_of
from workbench.plan.flow import RECURRENT, Flow

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.plan.record import LayerRecord

_STEP = "a step of a loop: a product's constants carry the loop's number, and the rest lies between its products"
"""The rule that gives a node of a loop to a layer that names no node."""

_BODY = re.compile(r"(.*?) \| .* \((?:then_branch|else_branch|body)\) \| ", re.DOTALL)
_SCOPE = re.compile(r"\$\$myelin\$\$(?:\(Unnamed [^()]*\)|then|else)\^")
_IN_LOOP = re.compile(r"\(Unnamed Loop\* (\d+)\)\^(.*)", re.DOTALL)
_PART = re.compile(r"(?:_(?:alpha|beta))?(?:_myl\d+(?:_\d+)?)?$")
_REPEATS = re.compile(r"(?:cbr|clp)___|.*_cloop_")


def flow(graph: Graph, layers: Sequence[LayerRecord], renamed: Mapping[str, str]) -> Flow:
    """Find the nodes of each layer, and when it runs."""
    claims = [_claimed(graph, raw["nodes"], renamed) for raw in layers]
    evidence = [""] * len(layers)
    for i, raw in enumerate(layers):
        if not claims[i] and (found := _by_name(graph, raw["name"], renamed)):
            claims[i], evidence[i] = found, "name"
    branches = _branches(graph, layers, claims)
    linked = _linked(graph, layers, claims, renamed)
    for i, nodes in linked.items():
        claims[i], evidence[i] = nodes, "inferred"
    inferred = [linked.get(i, ()) for i in range(len(layers))]
    return Flow(claims, evidence, inferred, branches, _repeated(layers, claims, graph), _STEP)


def _claimed(graph: Graph, names: Iterable[str], renamed: Mapping[str, str]) -> tuple[str, ...]:
    """Ids of the nodes that a layer names; a name that is not a node of the model stays in its raw record."""
    return tuple(dict.fromkeys(i for name in names if (i := _id_of(graph, name, renamed)) is not None))


def _id_of(graph: Graph, name: str, renamed: Mapping[str, str]) -> str | None:
    """The node of a name; a node in a body is called ``node | body (then_branch) | owner (If)``."""
    inner = _BODY.match(name)
    for candidate in (name, inner[1] if inner else name):
        found = renamed.get(candidate, candidate)
        if found in graph.by_id:
            return found
    return None


def _by_name(graph: Graph, name: str, renamed: Mapping[str, str]) -> tuple[str, ...]:
    """Nodes in a body that a layer without metadata is named after: ``...then^conv1+conv2_myl0_3``."""
    if "$$myelin$$" not in name:
        return ()
    parts = [_SCOPE.sub("", part) for part in _PART.sub("", name).split("+")]
    return _claimed(graph, parts, renamed)


def _branches(
    graph: Graph, layers: Sequence[LayerRecord], claims: Sequence[tuple[str, ...]]
) -> list[tuple[tuple[str, int], ...]]:
    """Read the jumps: a conditional jump begins an If's then branch, the next its else branch, the one after that ends it."""
    out: list[tuple[tuple[str, int], ...]] = []
    open_: list[tuple[str, int]] = []
    for raw, nodes in zip(layers, claims, strict=True):
        owners = [n for n in nodes if graph.by_id[n].op == "If"]
        if raw["type"] == "jmp" and open_ and owners and owners[-1] == open_[-1][0]:
            owner, side = open_.pop()
            out.append((*open_, (owner, side)))
            if side == 0:
                open_.append((owner, 1))
            continue
        out.append(tuple(open_))
        if raw["type"] == "cjmp" and owners:
            open_.append((owners[-1], 0))
    if open_:  # the jumps do not match this pattern: report no branches
        return [()] * len(layers)
    return out


def _repeated(layers: Sequence[LayerRecord], claims: Sequence[tuple[str, ...]], graph: Graph) -> list[bool]:
    """Read the backward jumps: layers between one and the setup of its counter run in each iteration."""
    out = [False] * len(layers)
    for end, raw in enumerate(layers):
        if (
            raw["type"] != "cjmp"
            or not _REPEATS.match(raw["name"])
            or any(graph.by_id[n].op == "If" for n in claims[end])
        ):
            continue
        start = end
        while start and (layers[start - 1]["type"] == "add" or not is_control(layers[start - 1])):
            start -= 1
        written = [{t["name"] for t in layers[i]["outputs"]} for i in range(start, end)]
        # If a later layer of the loop writes the same tensor again, the first one only initializes it.
        while written and written[0] & set().union(*written[1:]) and layers[start]["type"] != "add":
            start, written = start + 1, written[1:]
        for i in range(start, end):
            out[i] = not is_control(layers[i])
    return out


def _linked(
    graph: Graph, layers: Sequence[LayerRecord], claims: Sequence[tuple[str, ...]], renamed: Mapping[str, str]
) -> dict[int, tuple[str, ...]]:
    """Nodes of layers without node names: the steps of an unrolled loop, and the products of a recurrence.

    A product's constants carry the number of its loop, and often the name of its node; other layers of a loop
    are between its products.
    """
    loop: dict[int, int] = {}
    named: dict[int, tuple[str, ...]] = {}
    for i, raw in enumerate(layers):
        found = [m for n in (raw["name"], *(t["name"] for t in raw.get("constants", ()))) if (m := _IN_LOOP.search(n))]
        numbers = {int(m[1]) for m in found}
        if len(numbers) == 1:
            loop[i] = numbers.pop()
            named[i] = _claimed(graph, [_PART.sub("", m[2]) for m in found], renamed)
    if not loop:
        return {}
    owner = _owners(graph, loop.values())
    _spread(layers, claims, loop)
    steps: dict[tuple[int, tuple[str, ...]], set[tuple[str, ...]]] = {}
    for i, raw in enumerate(layers):
        if i in loop and claims[i]:
            steps.setdefault((loop[i], tuple(words_of(raw["name"]))), set()).add(claims[i])
    out: dict[int, tuple[str, ...]] = {}
    for i, raw in enumerate(layers):
        if claims[i] or i not in loop or is_control(raw):
            continue
        alike = steps.get((loop[i], tuple(words_of(raw["name"]))), set())
        same = next(iter(alike)) if len(alike) == 1 else ()
        whole = (owner[loop[i]],) if loop[i] in owner else ()
        if nodes := named.get(i) or same or whole:
            out[i] = nodes
    return out


def _owners(graph: Graph, numbers: Iterable[int]) -> dict[int, str]:
    """The node that each loop was made from: loops are numbered in the order of the nodes that make one."""
    nodes = [
        node.id for node in graph.nodes
        if node.id in graph.live and node.parent is None and (node.op in RECURRENT or node.op in {"Loop", "Scan"})
    ]  # fmt: skip
    found = sorted(set(numbers))
    return dict(zip(found, nodes, strict=True)) if found == list(range(len(nodes))) else {}


def _spread(layers: Sequence[LayerRecord], claims: Sequence[tuple[str, ...]], loop: dict[int, int]) -> None:
    """Give a layer without a loop number that of the products that feed it or that it feeds, if they all agree."""
    writers: dict[str, list[int]] = {}
    readers: dict[str, list[int]] = {}
    for i, raw in enumerate(layers):
        for t in raw["outputs"]:
            writers.setdefault(t["name"], []).append(i)
        for t in raw["inputs"]:
            readers.setdefault(t["name"], []).append(i)

    def near(i: int, *, before: bool) -> set[int]:
        ends = layers[i]["inputs" if before else "outputs"]
        where = writers if before else readers
        return {k for t in ends for k in where.get(t["name"], ()) if k != i and k in products}

    products = {i for i in loop if kind_of(layers[i]["type"], layers[i]["name"], ()) == "gemm"}
    changed = True
    while changed:
        changed = False
        for before in (True, False):
            for i, raw in enumerate(layers):
                if i in loop or is_control(raw) or (claims[i] and not before):
                    continue
                numbers = {loop[k] for k in near(i, before=before)}
                if len(numbers) == 1:
                    loop[i] = numbers.pop()
                    changed = True
                    if kind_of(raw["type"], raw["name"], ()) == "gemm":
                        products.add(i)
