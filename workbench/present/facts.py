"""Facts: a name, a value with its unit, and how it came to be. Of a plan, of a layer and of a node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from workbench.analysis.times import doubts
from workbench.core.units import bytes_text, flops_text, percent, rounded
from workbench.model.node import Node
from workbench.plan import Layer, Plan
from workbench.plan.memory import disagreement
from workbench.plan.traffic import at_least, moved
from workbench.present.lens import Lens
from workbench.present.text import EVIDENCE, inferred_because
from workbench.present.wire_types import Fact, Source


def fact(name: str, value: Any, unit: str | None = None, source: Source | None = None, note: str | None = None) -> Fact:
    """One fact."""
    return {"name": name, "value": value, "unit": unit, "source": source, "note": note}


def layer_facts(lens: Lens, layer: Layer) -> list[Fact]:
    """The figures of a layer."""
    before = lens.bytes_before(layer)
    saved = None if before is None or layer.bytes is None else before - layer.bytes
    launches = lens.launches_before(layer)
    facts = [
        fact("Type", layer.type),
        fact("Time", layer.time_ms, "ms", "measured") if layer.time_ms is not None else None,
        fact("Bytes read", layer.bytes_read, "B", "computed"),
        fact("Bytes written", layer.bytes_written, "B", "computed"),
        fact("Bytes saved by fusion", saved, "B", "computed", "compared with one kernel for each node")
        if layer.nodes
        else None,
        fact("Kernels before", launches, None, "computed", "one for each node")
        if launches is not None and layer.nodes
        else None,
        fact("Operations", layer.flops, "FLOP", "computed"),
        fact("Arithmetic intensity", rounded(layer.intensity), "FLOP/B", "computed"),
        _error_fact(lens, lens.error(layer)),
        fact("Tactic", lens.vocabulary.tactic(layer.tactic) or "not reported"),
        fact("Stream", layer.stream),
        fact("Mapping", layer.evidence, None, None, EVIDENCE.get(layer.evidence, "")),
        fact("Inferred", ", ".join(layer.inferred), None, None, inferred_because(lens, layer))
        if layer.inferred
        else None,
        fact("Runs", f"only in {', '.join(layer.branch)}") if layer.branch else None,
        fact("Runs", "at each iteration of a loop", None, None, "operations and bytes are of all iterations")
        if layer.repeated
        else None,
    ]
    return [f for f in facts if f]


def node_facts(lens: Lens, node: Node) -> list[Fact]:
    """The figures of an ONNX node."""
    cost, source = lens.costs[node.id], lens.provenance.get(node.id)
    facts = [
        fact("Operation", f"{node.domain}.{node.op}" if node.domain else node.op),
        fact("Module", source.scope) if source and source.scope else None,
        fact("Class", source.module) if source and source.module else None,
        fact("PyTorch operation", source.op) if source and source.op else None,
        fact("Operations", cost.flops, "FLOP", "computed"),
        fact("Bytes read", cost.bytes_read, "B", "computed", "as its own kernel"),
        fact("Bytes written", cost.bytes_written, "B", "computed"),
        _error_fact(lens, lens.node_error(node.id)),
    ]
    return [f for f in facts if f]


def _error_fact(lens: Lens, error: float | None) -> Fact | None:
    if error is None or math.isfinite(error):
        return (
            None
            if error is None
            else fact("Error against FP32", rounded(percent(error)), "%", "measured", lens.error_note)
        )
    return fact("Error against FP32", "not finite", None, "measured", lens.error_note)


def plan_facts(plan: Plan) -> list[Fact]:
    """Headline figures of a plan, as `Fact` of the wire format."""
    s = plan.summary
    known = s["launches_before"] is not None  # else the engine was read without its model
    saved = 1 - s["bytes_after"] / s["bytes_before"] if s["bytes_before"] else 0.0
    change = "no change" if round(saved, 2) == 0 else f"{saved:.0%} less" if saved > 0 else f"{-saved:.0%} more"
    # Sums over what is known can't be compared where they do not hold the same.
    unknown = f"without {s['bytes_unknown']} nodes or layers that are not known" if s.get("bytes_unknown") else ""
    partly = f"without {s['flops_unknown']} nodes that are not known" if s.get("flops_unknown") else None
    bytes_before, bytes_after = moved(plan.summary)
    whole = not unknown  # else an arrow would compare what does not compare
    peak = at_least(s["peak_activation_bytes"], s.get("peak_unknown", 0))
    rows: list[Fact] = [
        fact(plan.launches_name.capitalize(), change_text(s["launches_before"], s["launches_after"], str), None, "computed",
             "one per node → plan" if known else None),
        fact("Bytes moved", change_text(s["bytes_before"], s["bytes_after"], bytes_text) if whole else bytes_after, None,
             "computed", unknown or (change if known else None)),
    ]  # fmt: skip
    if known and not whole:
        rows.append(fact("Bytes as written", bytes_before, None, "computed", "one kernel per node"))
    if known:
        rows.append(fact("Operations", _operations(s), None, "computed", partly))
    rows.append(fact("Peak activations", peak, None, "computed", disagreement(plan.facts) or "by liveness"))
    rows.append(fact("Weights", bytes_text(s["weight_bytes"]), None, "reported"))
    if "total" in plan.seconds:
        rows.append(fact("Build", f"{plan.seconds['total']:.1f} s", None, "measured"))
    measured = plan.facts.get("measured") or {}
    if latency := measured.get("latency"):
        rows.append(
            fact("Latency", f"{latency['median_ms']:.3f} ms", None, "measured", f"median of {latency['iterations']}")
        )
        rows.append(fact("p99", f"{latency['p99_ms']:.3f} ms", None, "measured", f"p90 {latency['p90_ms']:.3f} ms"))
    if "sum_ms" in measured:
        rows.append(fact("Sum of layers", f"{measured['sum_ms']:.3f} ms", None, "measured", "profiled one by one"))
    if error := measured.get("error"):
        wrong = any(grave for grave, _ in doubts(plan))
        relative = error.get("relative_l2")
        text = (
            "not finite" if not error.get("ok", True) else "?" if relative is None else f"relative error {relative:.2g}"
        )
        rows.append(
            fact(
                "Outputs",
                f"WRONG: {text}" if wrong else text,
                None,
                "measured",
                f"against {error.get('reference', 'the reference')}",
            )
        )
    return rows


def change_text(before: Any, after: Any, text: Callable[[Any], str]) -> str:
    """``before → after``, or only what is after where before is not known."""
    return text(after) if before is None else f"{text(before)} → {text(after)}"


def _operations(s: Mapping[str, Any]) -> str:
    return flops_text(s["flops"], s.get("flops_unknown") or 0)
