"""What changed from one engine to another, as HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from workbench.analysis.difference import difference
from workbench.core.units import bytes_text, ms_text
from workbench.panels.parts import table_html
from workbench.plan.traffic import moved

if TYPE_CHECKING:
    from workbench.plan import Layer, Plan

MOST_CHANGES = 12
"""Layers in each table of what changed."""


def changes_html(before: Plan, after: Plan, sizes: tuple[int, int]) -> str:
    """What changed from one engine to another, as HTML."""
    found = difference(before, after)
    if not found.shared and before.layers and after.layers:
        return "<p class='wbp-quiet'>The engines are of different models: they have no node in common.</p>"

    def pair(name: str, left: Any, right: Any, text: Callable[[Any], str], source: str) -> list[str]:
        change = "" if not left or right is None else "no change" if left == right else f"{(right - left) / left:+.0%}"
        return [name, text(left), text(right), change, source]

    rows = [
        pair(after.launches_name, before.summary["launches_after"], after.summary["launches_after"], str, "computed"),
        _moved(before, after),
        pair("peak activations", before.summary["peak_activation_bytes"], after.summary["peak_activation_bytes"], bytes_text, "computed"),
        pair("weights", before.summary["weight_bytes"], after.summary["weight_bytes"], bytes_text, "reported"),
        pair("engine file", *sizes, bytes_text, "measured"),
        pair("build", before.seconds.get("total"), after.seconds.get("total"), lambda v: "?" if v is None else f"{v:.1f} s", "measured"),
    ]  # fmt: skip
    latency = [(plan.facts.get("measured") or {}).get("latency") for plan in (before, after)]
    if latency[0] and latency[1]:
        rows.append(pair("median latency", latency[0]["median_ms"], latency[1]["median_ms"], ms_text, "measured"))
    parts = [table_html(["", "the other", "this", "change", ""], rows, numeric=(1, 2, 3))]
    if found.options:
        options = [[n.replace("_", " "), _option_text(a), _option_text(b)] for n, a, b in found.options]
        parts.append(table_html(["option", "the other", "this"], options))
    if found.kinds:
        parts.append(
            table_html(
                ["kind of layer", "the other", "this"], [[k, str(a), str(b)] for k, a, b in found.kinds], numeric=(1, 2)
            )
        )
    same = len(found.same)
    parts.append(
        f"<p>{same} kernel{'s' * (same != 1)} execute the same nodes in both engines. {len(found.before)} of the other engine and {len(found.after)} "
        "of this one group nodes differently.</p>"
    )
    slower = sorted(
        ((b.time_ms - a.time_ms, a, b) for a, b in found.same if a.time_ms is not None and b.time_ms is not None),
        key=lambda item: -abs(item[0]),
    )[:10]
    if slower:
        rows = [[b.title, ms_text(a.time_ms), ms_text(b.time_ms), f"{change * 1e3:+.1f} µs"] for change, a, b in slower]
        parts.append(
            table_html(["same nodes, largest change", "the other", "this", "measured"], rows, numeric=(1, 2, 3))
        )
    if found.tactics:
        rows = [[b.title, a.tactic, b.tactic] for a, b in found.tactics[:MOST_CHANGES]]
        parts.append(
            table_html(["same nodes, another tactic", "the other", "this"], rows, wrap=True) + _more(found.tactics)
        )
    for title, layers in (("only in the other", found.before), ("only in this", found.after)):
        if layers:
            rows = [[la.title, la.kind, _names(la)] for la in layers[:MOST_CHANGES]]
            parts.append(table_html([title, "kind", "nodes"], rows) + _more(layers))
    return "".join(f"<div style='margin:0 0 14px'>{part}</div>" for part in parts)


def _moved(before: Plan, after: Plan) -> list[str]:
    left, right = before.summary["bytes_after"], after.summary["bytes_after"]
    texts = [moved(plan.summary)[1] for plan in (before, after)]
    known = texts == [bytes_text(left), bytes_text(right)] and left
    change = "" if not known else "no change" if left == right else f"{(right - left) / left:+.0%}"
    return ["bytes moved", *texts, change, "computed"]


def _more(found: Sequence[Any]) -> str:
    left = len(found) - MOST_CHANGES
    return f"<p class='wbp-quiet'>and {left} more</p>" if left > 0 else ""


def _option_text(value: Any) -> str:
    return "default" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _names(layer: Layer) -> str:
    return ", ".join(layer.nodes[:4]) + (f" and {len(layer.nodes) - 4} more" if len(layer.nodes) > 4 else "")
