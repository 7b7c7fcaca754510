"""Checks of an engine's plan, record and measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from workbench.analysis.checks.finding import Finding, Severity
from workbench.analysis.checks.text import count_text, listed, name_of, shape_text
from workbench.compilers.base import Diagnoses
from workbench.compilers.registry import find
from workbench.core.units import bytes_text
from workbench.plan.plan import CONVERSIONS, Layer, Plan

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.hardware.machine import Gpu


LONG_BUILD = 10.0
"""Builds that take at least this many seconds are reported as long."""


def reported_target(plan: Plan) -> list[Finding]:
    """A TensorRT for RTX engine for a target with user-reported problems."""
    compiler = find(str(plan.compiler.get("name")), Diagnoses)
    if compiler is None:
        return []
    return [
        Finding(
            "target-reports", f"Users report wrong results and crashes on {target}", issue, "note",
            "Reported by users of TensorRT for RTX; not reproduced here.",
            f"Measure the engine on such a GPU: session.measure.profile compares its outputs with ONNX Runtime. Or build for a target other than {target}.",
        )
        for target, issue in compiler.known_issues(plan.compiler).items()
    ]  # fmt: skip


def bound_to_gpu(plan: Plan, here: Sequence[Gpu], installed: str | None) -> list[Finding]:
    """Compare the engine's target with this machine. Always gives a finding: engine files are not portable."""
    built = plan.compiler
    name, version, target = (str(built.get(k) or "") for k in ("name", "version", "target"))
    compiler = find(name, Diagnoses)
    if compiler is None or not target:
        return []
    gpu = built.get("gpu")
    built_for = f"{gpu['name']} ({gpu['sm']})" if isinstance(gpu, Mapping) else target.replace("+", ", ")
    targets = [str(gpu["sm"])] if isinstance(gpu, Mapping) else target.split("+")
    portable = plan.config.get("hardware_compatibility")
    message = f"It was built for {built_for} by {name} {version}" + (
        f", hardware compatible ({portable})." if portable else "."
    )
    later = [g for g in here if g.sm not in targets and compiler.runs_on(g.sm, built, plan.config) is not False]
    others = [g for g in here if g.sm not in targets and g not in later]
    severity: Severity = "note"
    if not here:
        message += " This machine has no NVIDIA GPU, so the engine can't run here."
    elif len(others) == len(here):
        message += f" This machine has {listed(f'{g.name} ({g.sm})' for g in here)}: the engine does not run on it."
        severity = "problem"
    else:
        message += f" This machine has {listed(f'{g.name} ({g.sm})' for g in here)}."
        if later and len(others) + len(later) == len(here):
            message += " It runs there, on a later GPU than it was tuned for."
    if installed and installed != version and not plan.config.get("version_compatible"):
        message += f" {name} {installed} is installed here; only the version that wrote an engine can read it."
        severity = "problem"
    title = f"The engine requires {built_for} and {name} {version}"
    if severity == "problem":
        title += ", which this machine does not have"
    return [
        Finding(
            "bound-to-gpu", title, message, severity, "Reported by the compiler; this machine's GPUs are reported by the driver.",
            "Keep the ONNX model and build again on each kind of GPU" + (f': session.build({str(plan.model["name"])!r}, target="current").' if severity == "problem" else "; the cache returns existing engines."),
        )
    ]  # fmt: skip


def long_build(plan: Plan, limit: float = LONG_BUILD) -> list[Finding]:
    """A build that took long, with its longest phases."""
    total = plan.seconds.get("total", 0.0)
    if total < limit:
        return []
    seconds = plan.seconds
    taken = [("load", seconds.get("load")), ("parse", seconds.get("parse")), ("build", seconds.get("build"))]
    steps = sorted(((k, v) for k, v in taken if v is not None), key=lambda item: -item[1])
    phases = sorted(((k, float(v)) for k, v in plan.facts.get("phases", {}).items()), key=lambda item: -item[1])
    text = f"{listed(f'{k} {v:.1f} s' for k, v in steps)}."
    if phases:
        text += f" Of the build: {listed(f'{k} {v:.1f} s' for k, v in phases[:3])}."
    return [
        Finding(
            "long-build", f"The build took {total:.0f} s", text, "cost",
            "Measured during the build" + ("; phases reported by the compiler." if phases else "."),
            f"If you build again with the same options, the engine comes from the cache and saves the {total:.0f} s. "
            "A lower optimization_level builds faster.",
        )
    ]  # fmt: skip


_PRECISION = {
    "fp32-product": "{n} in FP32 although {asked} was requested",
    "wide-output": "{n} that read{s} {asked} and store{s} FP32",
    "double-requantization": "{n} that quantize{s}, dequantize{s} and quantize{s} again",
    "conversion-kernel": "{n} that only convert{s} the type",
    "weights-dequantized": "{n} that widen{s} stored weights at run time",
    "fp32-pointwise": "{n} in FP32 although {asked} was requested, apart from the products",
}
"""Titles of the kinds of `workbench.precision.audit`."""


def precision(plan: Plan) -> list[Finding]:
    """Layers without the requested precision; see `workbench.precision.audit`."""
    from workbench.precision.audit import HEAVY, audit

    found = []
    seen = audit(plan)
    for finding in seen.findings:
        layers = [plan.by_id[i] for i in finding.layers]
        # A product in FP32 loses the speedup; the others cost bytes.
        severity: Severity = "problem" if finding.kind == "fp32-product" else "cost"
        saves = "that FP16 would save" if finding.kind == "wide-output" else "moved"
        known = finding.bytes or all(la.bytes is not None for la in layers)
        size = (
            f"{bytes_text(finding.bytes)} {saves} (computed)"
            if known
            else "bytes are unknown because shapes are dynamic"
        )
        noun = "product" if all(la.kind in HEAVY for la in layers) else "kernel"
        found.append(
            Finding(
                f"precision-{finding.kind}", _PRECISION[finding.kind].format(n=count_text(len(layers), noun), asked=seen.asked, s="s" if len(layers) == 1 else ""),
                f"{listed(name_of(la) for la in layers[:3])}{f' and {len(layers) - 3} more' if len(layers) > 3 else ''}.",
                severity,
                f"Types reported by the compiler; {size}.",
                finding.hint, layers=finding.layers, nodes=tuple(dict.fromkeys(n for la in layers for n in la.nodes)),
            )
        )  # fmt: skip
    return found


def bare_layers(plan: Plan) -> list[Finding]:
    """Kernels without a node: copies between layouts and types, and others for which the compiler names no node."""
    bare = [la for la in plan.layers if la.launches and not la.nodes]
    copies = [la for la in bare if la.kind in CONVERSIONS]
    others = [la for la in bare if la.kind not in CONVERSIONS]
    total = sum(la.bytes or 0 for la in plan.layers if la.launches)

    def moved(layers: Sequence[Layer]) -> tuple[str, str]:
        """Their bytes ("at least" if some are unknown), and the evidence."""
        known = [la.bytes for la in layers if la.bytes is not None]
        unknown = len(layers) - len(known)
        if not known:
            return "unknown size", "their tensors have dynamic shapes, so their bytes are unknown"
        size = sum(known)
        text = f"{bytes_text(size)} computed from their tensors" + (f", {size / total:.1%} of all" if total else "")
        told = f"{'at least ' if unknown else ''}{bytes_text(size)}"
        return told, text + (f"; the size of {unknown} is unknown" if unknown else "")

    def took(layers: Sequence[Layer]) -> str:
        times = [la.time_ms for la in layers if la.time_ms is not None]
        return f" They take {sum(times):.4f} ms (measured)." if times else ""

    found = []
    if copies:
        size, evidence = moved(copies)
        found.append(
            Finding(
                "layout-copies", f"{count_text(len(copies), 'kernel')} that only copy data: {size}",
                f"{listed(f'{n} {kind}' for kind, n in Counter(la.kind for la in copies).most_common())}. The compiler added "
                f"{'it' if len(copies) == 1 else 'them'} to change the layout or type.{took(copies)}",
                "cost", f"Layers reported by the compiler; {evidence}.",
                "Look at the neighbors: an input in the layout or type that the first kernel needs avoids the copy.",
                layers=tuple(la.id for la in copies),
            )
        )  # fmt: skip
    if others:
        _size, evidence = moved(others)
        found.append(
            Finding(
                "layers-without-nodes", f"{count_text(len(others), 'kernel')} without a node reported by the compiler",
                f"{listed(f'{n} {kind}' for kind, n in Counter(la.kind for la in others).most_common())}. What they compute "
                f"is part of the model, but its source lines are unknown.{took(others)}",
                "note", f"Layers reported by the compiler; {evidence}.",
                "Look at the layers before and after them in the fusion map.",
                layers=tuple(la.id for la in others),
            )
        )  # fmt: skip
    return found


def host_shapes(plan: Plan) -> list[Finding]:
    """Layers that compute shapes on the host between kernels."""
    found = [la for la in plan.layers if la.kind == "shape"]
    if not found:
        return []
    return [
        Finding(
            "host-shapes", f"{len(found)} layer{'s' if len(found) > 1 else ''} compute{'' if len(found) > 1 else 's'} shapes on the host",
            f"{listed(name_of(la) for la in found[:3])}{' and more' if len(found) > 3 else ''}. Kernels that need the shapes wait for them.",
            "note", "Reported by the compiler.", "Build with fixed shapes if they never change.",
            layers=tuple(la.id for la in found), nodes=tuple(dict.fromkeys(n for la in found for n in la.nodes)),
        )
    ]  # fmt: skip


def dynamic_shapes(engine: Engine, others: Sequence[Engine] = ()) -> list[Finding]:
    """The cost of an engine's dynamic shapes if it was measured, else how to measure it.

    It was measured if a fixed engine of the same model, compiler, target and precision was profiled at the same shape
    as this engine.
    """
    profiles = engine.config.profiles
    texts = {n: str(r) for p in profiles for n, r in p.inputs.items() if not r.fixed}
    texts |= {n: str(v) for p in profiles for n, v in p.values.items() if not v.fixed}
    if not texts:
        return []
    shown = listed(f"{n} {text}" for n, text in texts.items())
    opt = {n: text.split(":")[1] for n, text in texts.items()}
    kept = {k: getattr(engine.config, k) for k in ("compiler", "targets", "precision")}
    mine = engine.profile
    for other in reversed(others):
        theirs = other.profile if other.key != engine.key and other.model == engine.model else None
        same = {k: getattr(other.config, k) for k in kept} == kept
        fixed = all(p.fixed for p in other.config.profiles)
        if mine is None or theirs is None or not same or not fixed or theirs["shapes"] != mine["shapes"]:
            continue
        way = "graph" if "graph" in mine["latency"] and "graph" in theirs["latency"] else "plain"
        a, b = mine["latency"][way]["median_ms"], theirs["latency"][way]["median_ms"]
        return [
            Finding(
                "dynamic-shapes", f"Dynamic shapes cost {(a / b - 1):+.0%} at {listed(f'{n} {shape_text(s)}' for n, s in mine['shapes'].items())}",
                f"Dynamic for {shown}: {a:.3f} ms. Fixed: {b:.3f} ms (engine {other.id}).", "cost" if a > 1.05 * b else "note",
                f"Measured on {mine['device'].get('name', 'this GPU')}: medians, {way} executions of both engines.",
                "Build a fixed engine for the most important shape, or use several shape profiles.",
            )
        ]  # fmt: skip
    asked = {n: text for p in profiles for n, text in p.texts.items()}
    call = f"session.measure.dynamic({engine.model!r}, target={engine.config.target!r}, precision={engine.config.precision!r}, shapes={asked!r})"
    return [
        Finding(
            "dynamic-shapes", f"Shapes are dynamic; kernels were chosen for {listed(f'{n} {s}' for n, s in opt.items())}",
            f"{shown}. Other shapes run with the same kernels, and memory is allocated for the largest. The cost is not measured yet.",
            "note", "Read from the engine's shape profiles.",
            f"To measure it, on a GPU: {call}.",
        )
    ]  # fmt: skip
