"""Finds misplaced Q/DQ pairs in a quantized model, and moves them to where TensorRT needs them.

A pair on the input of a convolution or matrix product lets it read INT8 or FP8. Anywhere else, a pair makes a kernel
quantize and dequantize, and prevents fusions. `look` finds four such places, and `fix` moves the pairs. Build both
models, and `workbench.precision.audit_changes.compare` shows the difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.core.errors import ConfigError, ModelError
from workbench.core.jobs import Job
from workbench.hardware.machine import REWRITERS, made_by
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.model.origin import Origin
from workbench.passes.qdq_choice import HEAVY

if TYPE_CHECKING:
    import onnx_ir as ir

    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.model.graph import Graph
    from workbench.model.node import Node

VERSION = 2
ACTIVATIONS = (
    "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Elu", "Erf", "Mul", "Swish",
)  # fmt: skip
"""Operations that fuse with a convolution or product; Mul is for activations that are written out."""

POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean")
COMMUTES = ("Relu", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity")
"""Operations across which a symmetric pair can move to the next product without changing values."""

KINDS = {
    "activation": "between a product (or the addition behind it) and its activation: the kernel behind dequantizes and "
    "quantizes twice",
    "residual": "on the branch of an addition that comes out of a product: the addition can't be part of that product",
    "concat": "in front of a concatenation whose readers quantize for themselves: every part is quantized twice",
    "pooling": "in front of a pooling: it is quantized before and after",
}
"""The kinds of misplaced pairs, with a description."""

DEFAULT = ("activation", "concat", "pooling")
"""The kinds whose removal never moved more bytes in any measurement."""


@dataclass(frozen=True)
class Misplaced:
    """A pair that prevents fusions.

    Attributes:
        kind: A key of `KINDS`.
        pair: Name of its DequantizeLinear.
        tensor: Name of the tensor that it quantizes.
        reader: The node that reads it and is not a convolution or product.
    """

    kind: str
    pair: str
    tensor: str
    reader: str

    @property
    def text(self) -> str:
        """A description for people."""
        return f"{self.pair} (on {self.tensor}, before {self.reader}) stands {KINDS[self.kind]}."


def check_kinds(kinds: Collection[str]) -> None:
    """Check that all kinds are keys of `KINDS`.

    Raises:
        ConfigError: a kind is not a key.
    """
    if strange := [k for k in kinds if k not in KINDS]:
        raise ConfigError(
            f"There is no kind of misplaced pair {strange[0]!r}.", hint=f"The kinds are: {', '.join(KINDS)}."
        )


def look(model: Model) -> list[Misplaced]:
    """The misplaced pairs of a model, in the graph's order; empty for a model without Q/DQ."""
    graph = model.graph
    producers = {o: n for n in graph.nodes for o in n.outputs}
    found = []
    for node in graph.nodes:
        for name in node.inputs:
            pair = producers.get(name)
            if pair is None or (source := _quantizes(pair, producers, graph)) is None:
                continue
            kind = _kind(node, source, producers, graph)
            if kind is not None:
                found.append(Misplaced(kind, pair.id, source, node.id))
    return found


def _quantizes(node: Node, producers: dict[str, Node], graph: Graph) -> str | None:
    """The activation of a DequantizeLinear; None if it dequantizes a weight, or for another operation."""
    if node.op != "DequantizeLinear":
        return None
    down = producers.get(node.inputs[0])
    if down is None or down.op != "QuantizeLinear" or down.inputs[0] in graph.constants:
        return None
    return down.inputs[0]


def _kind(node: Node, source: str, producers: dict[str, Node], graph: Graph) -> str | None:
    if node.op in HEAVY or node.op in {"QuantizeLinear", "DequantizeLinear"}:
        return None
    straight = _of_product(source, producers, graph)
    maker = producers.get(source)
    added = maker is not None and maker.op == "Add" and node.op != "Mul"
    if node.op in ACTIVATIONS and (straight or added):
        return "activation"
    if node.op == "Add":
        bias = any(name in graph.constants for name in node.inputs)
        return "residual" if straight and not bias else None
    kind = "concat" if node.op == "Concat" else "pooling" if node.op in POOLS else None
    return kind if all(_requantized(name, graph) for name in node.outputs if name) else None


def _requantized(name: str, graph: Graph) -> bool:
    """Whether all readers of a tensor quantize it again, with at most operations in between that a pair can cross."""
    readers = graph.consumers.get(name, [])
    return (
        bool(readers)
        and name not in graph.outputs
        and all(
            reader.op == "QuantizeLinear"
            or (reader.op in COMMUTES and all(_requantized(out, graph) for out in reader.outputs if out))
            for reader in readers
        )
    )


def _of_product(name: str, producers: dict[str, Node], graph: Graph) -> bool:
    """Whether a product computes a tensor, with at most its bias or scale after it."""
    for _ in range(4):
        node = producers.get(name)
        if node is None:
            return False
        if node.op in HEAVY:
            return True
        if node.op not in {"Add", "Mul", "BatchNormalization"}:
            return False
        computed = [i for i in node.inputs if i and i not in graph.constants]
        if len(computed) != 1:
            return False
        name = computed[0]
    return False


def fix(
    model: Model,
    store: Store,
    *,
    kinds: Collection[str] = DEFAULT,
    on_job: Callable[[Job], Any] | None = None,
) -> Model:
    """`model` with the pairs that `look` finds moved; made in a worker and stored.

    The readers of a misplaced pair read the value itself. If a product after it would no longer read a quantized
    type, the pair moves to its input. Nothing else changes; `origin["moved"]` lists the changes.

    Args:
        model: With Q/DQ pairs.
        store: Where the result is stored.
        kinds: Which of `KINDS` to move. By default, pairs on residuals stay: without them, if the rest is FP32,
            TensorRT for RTX 1.7 moves the other branch in FP32.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        ModelError: no pair of these kinds is misplaced, or the model can't be rewritten.
        ConfigError: a kind is not known.
    """
    check_kinds(kinds)
    found = [m for m in look(model) if m.kind in kinds]
    if not found:
        raise ModelError(
            f"No Q/DQ pair is misplaced in {model.name}."
            if any(n.op == "DequantizeLinear" for n in model.graph.nodes)
            else f"{model.name} holds no Q/DQ pairs.",
            hint="`workbench audit` shows how a build uses the pairs.",
        )
    source = model.sha256(store)
    key = f"placement-{VERSION}-{made_by(*REWRITERS)}-{'+'.join(sorted(kinds))}-{source}"

    if (known := model.derived(store, key)) is not None:
        return known
    with store.lock(hashlib.sha256(key.encode()).hexdigest()), store.scratch("placement") as folder:
        work = folder / "model"
        work.mkdir()
        job = Job(
            "workbench.passes.place_qdq:fix_task",
            {"path": str(model.path.resolve()), "folder": str(work), "found": [[m.pair, m.reader] for m in found]},
            title=f"placement of Q/DQ in {model.name}",
        )
        if on_job is not None:
            on_job(job)
        report = cast("Origin", job.result())
        draft = Model(model.name, work / "model.onnx")
        sha256 = fingerprint(draft.path, set(draft.companions))
        info: Origin = {"kind": "placement", "moved": [m.text for m in found], "source": source, **report}
        return Model(model.name, store.add_model(work, sha256, key, {**info}), info, original=model)


def fix_task(reporter: Reporter, *, path: str, folder: str, found: list[list[str]]) -> dict[str, Any]:
    """Rewrite the model, in a worker; writes ``model.onnx`` into `folder`.

    Returns:
        ``removed``: pairs that no node reads any more; ``added``: pairs that moved to the input of a product.
    """
    from workbench.passes.ir import load_ir, save_ir

    model = load_ir(Path(path), reporter)
    nodes = {node.name: node for node in model.graph}
    quantized = {id(n): n.inputs[0].producer() for n in model.graph if n.op_type in HEAVY and n.inputs[0] is not None}
    needy = [n for n in model.graph if n.op_type in HEAVY and _pair_behind(n.inputs[0]) is not None]
    carried = {id(n): _pair_behind(n.inputs[0]) for n in needy if quantized[id(n)] is not _pair_behind(n.inputs[0])}
    for i, (pair, reader) in enumerate(found):
        back, node = nodes[pair], nodes[reader]
        down = back.inputs[0].producer()
        assert down is not None
        for place, value in enumerate(node.inputs):
            if value is back.outputs[0]:
                node.replace_input_with(place, down.inputs[0])
        reporter.progress("Moving pairs", i + 1, len(found))
    added = 0
    copies: dict[int, ir.Value] = {}
    for node in needy:
        pair_ = carried.get(id(node))
        data = node.inputs[0]
        if pair_ is None or data is None or _pair_behind(data) is not None:
            continue
        if id(data) not in copies:
            copies[id(data)] = _copied(model, data, pair_)
            added += 1
        node.replace_input_with(0, copies[id(data)])
    removed = 0
    outputs = {id(v) for v in model.graph.outputs}
    for node in reversed(list(model.graph)):
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and not any(
            v.uses() or id(v) in outputs for v in node.outputs
        ):
            removed += node.op_type == "DequantizeLinear"
            model.graph.remove(node, safe=True)
    save_ir(model, Path(folder) / "model.onnx")
    return {"removed": removed, "added": added}


def _pair_behind(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear of an activation that computes a value, through operations that a pair can cross."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "DequantizeLinear":
            down = node.inputs[0].producer() if node.inputs[0] is not None else None
            return node if down is not None and down.op_type == "QuantizeLinear" else None
        if node.op_type not in COMMUTES:
            return None
        value = node.inputs[0]
    return None


def _copied(model: ir.Model, value: ir.Value, back: ir.Node) -> ir.Value:
    """Add a pair with the scale of `back` on `value`."""
    import onnx_ir as ir

    first = back.inputs[0]
    assert first is not None
    down = first.producer()
    assert down is not None
    name = str(value.name)
    made = []
    reads = value
    for like, suffix in ((down, "QuantizeLinear"), (back, "DequantizeLinear")):
        node = ir.Node(
            "", like.op_type, [reads, *like.inputs[1:]], list(like.attributes.values()), name=f"{name}_moved_{suffix}"
        )
        out = node.outputs[0]
        out.name, out.dtype, out.shape = f"{name}_moved_{suffix}_Output", like.outputs[0].dtype, value.shape
        made.append(node)
        reads = out
    producer = value.producer()
    assert producer is not None
    model.graph.insert_after(producer, made)
    return reads
