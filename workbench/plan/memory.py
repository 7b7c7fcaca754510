"""Activation memory of a plan, by liveness.

A tensor lives from the layer that writes it to the last layer that reads it, in execution order. The sum
of the tensors alive at a layer is what a perfect allocator needs there; the largest sum is the peak.
Inputs and outputs of the engine are the caller's memory and are counted separately; constants are weights.
Layers on several streams may overlap, which can raise the true peak; the peak does not include alignment
and scratch memory of kernels. If the compiler reports a total, a peak above it is marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core.units import bytes_text

if TYPE_CHECKING:
    from workbench.plan.document import FactsDocument
    from workbench.plan.plan import Layer

FACTOR = 1.1
"""The ratio of a computed peak to the compiler's total above which the peak is marked.

The compiler's total is for its largest shapes and includes scratch memory, so the peak is below it in every plan of
the samples, of the onnx package's models, and of 34 architectures (tests/benchmarks/sweep_architectures.py).
"""


def against_reported(peak: int, memory: Mapping[str, int]) -> FactsDocument:
    """Facts about the computed peak, in bytes, and the compiler's total.

    They disagree where the computed peak is more than `FACTOR` times the reported total: then one of them is wrong.
    """
    reported = memory.get("Total Activation Memory")
    return {
        "activation_memory_reported": reported,
        "activation_memory_disagrees": reported is not None and peak > FACTOR * reported,
        "activation_memory_computed": peak,
    }


def disagreement(facts: FactsDocument) -> str | None:
    """A sentence if the computed peak is more than the compiler reports; otherwise None."""
    if not facts.get("activation_memory_disagrees"):
        return None
    computed, reported = facts["activation_memory_computed"], facts["activation_memory_reported"]
    return (
        f"the computed peak of activations, {bytes_text(computed)}, is more than the {bytes_text(reported)} that the "
        "compiler reserves: sizes in this plan are wrong"
    )


@dataclass(frozen=True)
class Liveness:
    """Bytes alive at each layer.

    Attributes:
        live: Bytes of intermediate tensors alive while each layer runs, in layer order.
        peak: The largest of them.
        peak_layer: Index of the layer where the peak is reached (-1 without layers).
        at_peak: Tensors alive there with their bytes, largest first.
        unknown: Tensors omitted because their size is not known.
    """

    live: tuple[int, ...]
    peak: int
    peak_layer: int
    at_peak: tuple[tuple[str, int], ...]
    unknown: tuple[str, ...]


def liveness(layers: Sequence[Layer], io: Sequence[str]) -> Liveness:
    """Liveness of the tensors between `layers`; names in `io` belong to the caller and are omitted."""
    outside = set(io)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    size: dict[str, int] = {}
    unknown: dict[str, None] = {}
    for i, layer in enumerate(layers):
        for tensor in layer.outputs:
            if tensor.name not in outside:
                first.setdefault(tensor.name, i)
                last[tensor.name] = i
        for tensor in (*layer.inputs, *layer.outputs):
            if tensor.name in first:
                last[tensor.name] = i
                if tensor.bytes is None:
                    unknown[tensor.name] = None
                else:
                    size[tensor.name] = max(size.get(tensor.name, 0), tensor.bytes)
    change = [0] * (len(layers) + 1)
    for name, start in first.items():
        change[start] += size.get(name, 0)
        change[last[name] + 1] -= size.get(name, 0)
    live, total = [], 0
    for step in change[:-1]:
        total += step
        live.append(total)
    peak = max(live, default=0)
    where = live.index(peak) if live else -1
    alive = [(n, size.get(n, 0)) for n, start in first.items() if start <= where <= last[n]]
    return Liveness(
        live=tuple(live), peak=peak, peak_layer=where,
        at_peak=tuple(sorted(alive, key=lambda item: -item[1])), unknown=tuple(unknown),
    )  # fmt: skip
