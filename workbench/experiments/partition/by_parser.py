"""A partition found by asking TensorRT's ONNX parser."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.compilers.base import Partitions
from workbench.compilers.config import BuildConfig
from workbench.core.errors import (
    ModelError,
)
from workbench.core.jobs import Job
from workbench.experiments.partition.rest import (
    reads,
    rest,
    segments,
    sources,
    tops,
)
from workbench.model.model import Model
from workbench.model.provenance import Source
from workbench.plan.partition import Operator, Partition, PortDocument, Segment, Side

if TYPE_CHECKING:
    from workbench.core.store import Store

QUICK_NODES, QUICK_BYTES = 2000, 200_000_000
"""Largest model for which the builder is asked by default: TensorRT for RTX times no kernels while it builds, and took
0.7 to 1.7 s on 2 CPU cores for models of up to 1,825 nodes and up to 94 MB."""

PATIENCE = 10.0
"""Seconds after which the search for more refused nodes stops; the rest is always asked about at least once."""

Build = Callable[[Model, BuildConfig], int]
"""Builds a model, keeps the engine and returns its size in bytes."""

OnJob = Callable[[Job], None] | None


def by_parser(model: Model, compiler: Partitions, *, store: Store, on_job: OnJob = None) -> Partition:
    """The nodes of an ONNX model that TensorRT's parser supports, as segments in an order in which they can run.

    The parser stops at the first node that it refuses, so refused nodes are cut out and the parser is asked again.

    Args:
        model: The model.
        compiler: The compiler to ask.
        store: Where temporary files go.
        on_job: Called with each job.

    Raises:
        CompilerUnavailableError: it is not installed.
    """
    graph = model.graph
    nodes = tops(graph)
    first: dict[str, Any] | None = None
    refused: dict[str, str] = {}
    seconds, proven, left = 0.0, False, list(range(len(nodes)))
    with store.scratch("partition") as folder:
        for attempt in itertools.count():
            place = folder / str(attempt)
            place.mkdir()
            file = model.path.resolve()
            if attempt or graph.rewritten:
                without = rest(graph, [int(i) for i in refused], open_shapes=True) if attempt else (graph.proto, False)
                if without is None:
                    proven = len(refused) == len(nodes)
                    break
                file = model.write_copy(without[0], place / "workbench-rest.onnx")
            operators = sorted({nodes[i].op for i in left if nodes[i].domain in {"", "ai.onnx"}})
            job = Job(
                compiler.partition_task,
                {**compiler.arguments(), "model": str(file), "operators": operators}, title=f"partition of {model.name}",
            )  # fmt: skip
            if on_job is not None:
                on_job(job)
            answer = job.result()
            seconds += job.seconds
            first = first or answer
            news = {str(left[int(i)]): why for i, why in answer["refused"].items()}
            news |= {
                str(i): "TensorRT's parser does not know this operation"
                for i in left if nodes[i].op in set(answer["unknown"]) and nodes[i].domain in {"", "ai.onnx"}
            }  # fmt: skip
            refused |= {i: why for i, why in news.items() if i not in refused}
            if not news:
                proven = True
                break
            if attempt and seconds > PATIENCE:
                break
            left = [i for i in range(len(nodes)) if str(i) not in refused]
    assert first is not None
    return from_parser(model, {**first, "refused": refused}, module=compiler.name, seconds=seconds, proven=proven)


def from_parser(
    model: Model, found: Mapping[str, Any], *, module: str, seconds: float = 0.0, proven: bool = True
) -> Partition:
    """The partition for an answer of the parser (`workbench.compilers.tensorrt.support`)."""
    # The parser counts the nodes of the main graph; bodies of loops and branches belong to their node.
    nodes = tops(model.graph)
    refused: dict[str, str] = found["refused"]
    inside = {i for group in found["groups"] for i in group}
    taken = {i for i in inside if str(i) not in refused}
    # A node in no group that is not refused comes after a refused node; the parser gives no reason for it.
    reasons = {
        nodes[i].id: refused.get(str(i), "TensorRT's parser does not support it here")
        for i in range(len(nodes)) if i not in taken
    }  # fmt: skip
    before = sources(model.graph)
    if taken == inside:
        units = [("tensorrt", list(group)) for group in found["groups"]]
        parts = _ordered([*units, *(("fallback", [i]) for i in range(len(nodes)) if i not in inside)], before)
    else:
        parts = segments(taken, before)
    return Partition(
        model.name, "parser", True, segments_of(model, parts, reasons), {}, {module: found["version"]},
        dict(Counter(nodes[int(i)].op for i in refused)), round(seconds, 3), (), proven,
    )  # fmt: skip


def segments_of(
    model: Model, parts: Sequence[tuple[str, list[int]]], reasons: Mapping[str, str], size: int | None = None
) -> tuple[Segment, ...]:
    """Parts of the main graph's nodes as segments, with the inputs and outputs of each.

    Args:
        model: The model.
        parts: The side and the node indices of each part, in order.
        reasons: Why a node falls back, by its id.
        size: Bytes of the engine, if the whole model is one.
    """
    graph = model.graph
    nodes, read = tops(graph), reads(graph)

    def operator(i: int) -> Operator:
        node = nodes[i]
        return Operator(node.id, node.op, model.provenance.get(node.id) or Source(), reasons.get(node.id, ""))

    def port(name: str) -> PortDocument:
        tensor = graph.tensor(name)
        shape = None if tensor.shape is None else [d if isinstance(d, int) else str(d or "?") for d in tensor.shape]
        return {"name": name, "shape": shape, "dtype": tensor.dtype}

    out: list[Segment] = []
    for side, members in parts:
        own, inner = {o for i in members for o in nodes[i].outputs if o}, set(members)
        into = dict.fromkeys(t for i in members for t in sorted(read[i]) if t not in own and t not in graph.constants)
        used = {t for j in range(len(nodes)) if j not in inner for t in read[j]} | set(graph.outputs)
        gives = [o for o in dict.fromkeys(o for i in members for o in nodes[i].outputs) if o in used]
        kind: Side = "tensorrt" if side == "tensorrt" else "fallback"
        out.append(
            Segment(
                kind, tuple(operator(i) for i in members), tuple(map(port, into)), tuple(map(port, gives)), "", size
            )
        )
    return tuple(out)


def _ordered(units: Sequence[tuple[str, list[int]]], before: Sequence[Sequence[int]]) -> list[tuple[str, list[int]]]:
    """Sort units so that each comes after its inputs, and join neighbors that both fall back.

    Args:
        units: The side and the node indices of each; every node is in exactly one unit.
        before: For each node, the nodes that it reads from.
    """
    unit_of = {i: u for u, (_side, members) in enumerate(units) for i in members}
    needs = [{unit_of[b] for i in members for b in before[i]} - {u} for u, (_side, members) in enumerate(units)]
    after: list[list[int]] = [[] for _ in units]
    for u, wanted in enumerate(needs):
        for w in wanted:
            after[w].append(u)
    left = [len(wanted) for wanted in needs]
    queues: dict[str, list[tuple[int, int]]] = {"tensorrt": [], "fallback": []}
    for u, count in enumerate(left):
        if count == 0:
            heapq.heappush(queues[units[u][0]], (units[u][1][0], u))
    out: list[tuple[str, list[int]]] = []
    done = 0
    while queues["tensorrt"] or queues["fallback"]:
        # Stay in the fallback while a unit there can run, so that there are fewer changes between the two.
        side = (
            "fallback"
            if queues["fallback"] and (not queues["tensorrt"] or (out and out[-1][0] == "fallback"))
            else "tensorrt"
        )
        _first, u = heapq.heappop(queues[side])
        done += 1
        if side == "fallback" and out and out[-1][0] == "fallback":
            out[-1][1].extend(units[u][1])
        else:
            out.append((side, list(units[u][1])))
        for v in after[u]:
            left[v] -= 1
            if left[v] == 0:
                heapq.heappush(queues[units[v][0]], (units[v][1][0], v))
    if done < len(units):
        raise ModelError(
            "The parts of the model that the parser gives depend on each other in a cycle, so they have no order."
        )
    return out
