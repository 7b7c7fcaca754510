"""What did I really get: precision asked, and precision in the plan, with what the difference costs.

Everything is read off a `Plan`: the data types that layers read and write, their bytes, and, where the
compiler names what it fused, the words of the name. Bytes are those that kernels ask for (see
`workbench.plan.traffic`): computed, not measured.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError
from workbench.model.node import BITS
from workbench.plan.kinds import words_of
from workbench.plan.plan import CONVERSIONS, Layer, Plan

if TYPE_CHECKING:
    import pandas as pd

HEAVY = ("conv", "gemm", "attention")
"""Kinds whose precision decides the speed."""

NAMES = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "int8": "int8",
    "fp8": "float8e4m3fn",
    "int4": "int4",
}
"""Short names of precisions, and ONNX's."""

_QUANTIZED = {"int8", "uint8", "float8e4m3fn", "float8e5m2", "int4", "uint4", "float4e2m1"}
_REQUANTIZE = ("Min", "Max", "Roun", "Cast")
# What a kernel is made of that does nothing but change the type (and where the bytes lie).
_CONVERT = {"Mul", "Div", "Min", "Max", "Roun", "Cast", "Conc", "Move", "Resh", "Tran", "Repl", "Clip"}

KINDS = {
    "fp32-product": "computes in FP32 although a lower precision was asked for",
    "wide-output": "reads a quantized type and stores FP32, which the next kernel reads again",
    "double-requantization": "quantizes, dequantizes and quantizes again",
    "conversion-kernel": "does nothing but change the type",
    "weights-dequantized": "turns stored weights into a wider type at run time, in a kernel of its own",
    "fp32-pointwise": "computes in FP32, though no product, where a lower precision was asked for",
}
"""The kinds of findings, in words."""

_HINTS = {
    "fp32-product": "Cast the model (`workbench cast`; rest='fp16' where it is quantized), or quantize these nodes: their "
    "names are in the table.",
    "conversion-kernel": "A kernel of its own reads and writes all of it; see whether its neighbour can take the type.",
    "weights-dequantized": "The next kernel reads the wide copy: the narrow storage saves disk, not traffic.",
    "fp32-pointwise": "Cast the model; where it was cast, look at what the conversion lists as left in FP32.",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is not as asked.

    Attributes:
        kind: A key of `KINDS`.
        layers: Ids of the layers.
        bytes: What these layers move; for wide-output only what FP16 would have saved.
        text: In words.
        hint: What to try.
    """

    kind: str
    layers: tuple[str, ...]
    bytes: int
    text: str
    hint: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "kind": self.kind,
            "layers": list(self.layers),
            "bytes": self.bytes,
            "text": self.text,
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Audit:
    """The precision of a plan, by layer and in sum.

    Attributes:
        plan: What was looked at.
        asked: The precision that was asked for, short (fp32, fp16, bf16, int8, fp8, int4).
        findings: What is not as asked, the most costly first.
    """

    plan: Plan = field(repr=False)
    asked: str
    findings: tuple[Finding, ...]

    @cached_property
    def launches(self) -> list[Layer]:
        """The layers that are work for the GPU."""
        return [layer for layer in self.plan.layers if layer.launches]

    @cached_property
    def by_precision(self) -> dict[str, dict[str, int]]:
        """For each data type that layers read: ``kernels``, ``flops``, ``bytes``.

        ``flops`` is the sum of what is known, ``flops_unknown`` of how many kernels it is not.
        """
        out: dict[str, dict[str, int]] = {}
        for layer in self.launches:
            row = out.setdefault(
                layer.precision or "unknown", {"kernels": 0, "flops": 0, "flops_unknown": 0, "bytes": 0}
            )
            row["kernels"] += 1
            row["flops"] += layer.flops or 0
            row["flops_unknown"] += layer.flops is None
            row["bytes"] += layer.bytes or 0
        return dict(sorted(out.items(), key=lambda item: -item[1]["flops"]))

    @property
    def products(self) -> dict[str, dict[str, int]]:
        """Convolutions, matrix products and attentions by the type they read."""
        out: dict[str, Counter[str]] = {}
        for layer in self.launches:
            if layer.kind in HEAVY:
                out.setdefault(layer.kind, Counter())[layer.precision or "unknown"] += 1
        return {kind: dict(counts.most_common()) for kind, counts in out.items()}

    @property
    def words(self) -> str:
        """How many convolutions, matrix products and attentions read what was asked, in a sentence; "" without any."""
        heavy = [layer for layer in self.launches if layer.kind in HEAVY]
        other = Counter(layer.precision or "unknown" for layer in heavy if not _as_asked(layer, self.asked))
        if not heavy:
            return ""
        listed = ", ".join(f"{n} read {dtype}" for dtype, n in other.most_common())
        what = "FP32" if self.asked == "fp32" else self.asked.upper()
        if self.asked == "int4":
            return f"{sum(other.values())} of {len(heavy)} products are left in FP32." if other else ""
        return f"{len(heavy) - sum(other.values())} of {len(heavy)} products read {what}" + (
            f"; {listed}." if other else "."
        )

    @property
    def figures(self) -> dict[str, Any]:
        """The numbers that two plans are compared by."""
        words = [words_of(layer.name) for layer in self.launches]
        pointwise = [layer for layer in self.launches if layer.kind not in HEAVY]
        found = Counter(dict.fromkeys(KINDS, 0))
        for finding in self.findings:
            found[finding.kind] += len(finding.layers)
        flops = sum(layer.flops or 0 for layer in self.launches if layer.kind in HEAVY)
        low = sum(layer.flops or 0 for layer in self.launches if layer.kind in HEAVY and layer.precision in _QUANTIZED)
        return {
            "kernels": len(self.launches),
            "products": sum(layer.kind in HEAVY for layer in self.launches),
            "products_quantized": sum(layer.kind in HEAVY and layer.precision in _QUANTIZED for layer in self.launches),
            "products_fp32": sum(layer.kind in HEAVY and layer.precision == "float32" for layer in self.launches),
            "flops_quantized": low / flops if flops else 0.0,
            "other_kernels": len(pointwise),
            "fused_steps": sum(len(w) for w in words),
            "requantizations": sum(_requantizations(layer) for layer in self.launches),
            **{kind.replace("-", "_"): found[kind] for kind in KINDS},
            "bytes": sum(layer.bytes or 0 for layer in self.launches),
            "bytes_activations": sum(t.bytes or 0 for layer in self.launches for t in (*layer.inputs, *layer.outputs)),
            "bytes_unknown": sum(layer.bytes is None for layer in self.launches),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row a launch: what it reads and writes, what it costs, and what was found."""
        import pandas as pd

        found: dict[str, list[str]] = {}
        for finding in self.findings:
            for layer in finding.layers:
                found.setdefault(layer, []).append(finding.kind)
        return pd.DataFrame(
            [
                {
                    "layer": layer.id, "kind": layer.kind, "reads": _types(layer.inputs), "stores": _types(layer.outputs),
                    "weights": _types(layer.constants), "asked": NAMES[self.asked],
                    "as_asked": layer.kind not in HEAVY or _as_asked(layer, self.asked),
                    "flops": layer.flops, "bytes": layer.bytes, "requantizations": _requantizations(layer),
                    "findings": ", ".join(found.get(layer.id, [])), "nodes": ", ".join(layer.nodes),
                }
                for layer in self.launches
            ]
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "schema": "workbench.audit/1", "model": dict(self.plan.model), "compiler": dict(self.plan.compiler),
            "asked": self.asked, "by_precision": self.by_precision, "products": self.products, "figures": self.figures,
            "findings": [finding.to_dict() for finding in self.findings],
        }  # fmt: skip

    def __repr__(self) -> str:
        products = ", ".join(f"{n} {kind} in {dtype}" for kind, c in self.products.items() for dtype, n in c.items())
        return (
            f"<Audit of {self.plan.model.get('name')}, asked {self.asked}: {products}; {len(self.findings)} findings>"
        )


def known(asked: str | None) -> None:
    """Refuse what is no precision.

    Raises:
        ConfigError: there is no such precision.
    """
    if asked is not None and asked not in NAMES:
        raise ConfigError(f"There is no precision {asked!r}.", hint=f"Precisions: {', '.join(NAMES)}.")


def audit(plan: Plan, asked: str | None = None, scheme: Mapping[str, Any] | None = None) -> Audit:
    """Compare what was asked with what is in the plan.

    Args:
        plan: Of any compiler; without names of fused operations what follows from types is found.
        asked: fp32, fp16, bf16, int8, fp8 or int4. By default what the build was asked for, or the quantized
            type that most products read, where a graph was quantized before the build.
        scheme: Fields of the `Scheme` that the model was quantized by, where that is known (`scheme_in`): then no hint
            asks for what was done already.

    Raises:
        ConfigError: there is no such precision.
    """
    known(asked)
    launches = [layer for layer in plan.layers if layer.launches]
    asked = asked or _asked(plan, launches)
    groups: dict[str, list[Layer]] = {kind: [] for kind in KINDS}
    for layer in launches:
        for kind in _kinds(layer, asked):
            groups[kind].append(layer)
    findings = []
    for kind, layers in groups.items():
        if not layers:
            continue
        cost = sum(_saved(layer) if kind == "wide-output" else layer.bytes or 0 for layer in layers)
        names = ", ".join(layer.nodes[0] if layer.nodes else layer.title for layer in layers[:3])
        more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
        text = f"{len(layers)} kernel{'s' if len(layers) != 1 else ''}: {KINDS[kind]} ({names}{more})"
        findings.append(
            Finding(kind, tuple(layer.id for layer in layers), cost, text, _hint(kind, layers, launches, scheme))
        )
    findings.sort(key=lambda f: -f.bytes)
    return Audit(plan, asked, tuple(findings))


def scheme_in(path: Path) -> dict[str, Any] | None:
    """The scheme that the workbench quantized the model at `path` by, as the file itself says; None for another model."""
    from workbench.model.onnx_file import read_graph

    for entry in read_graph(path).metadata_props:
        if entry.key == "workbench.quantize":
            try:
                scheme = json.loads(entry.value)["scheme"]
            except (ValueError, KeyError, TypeError):
                return None  # someone else's note of the same name
            return scheme if isinstance(scheme, dict) else None
    return None


def _hint(kind: str, layers: Sequence[Layer], launches: Sequence[Layer], scheme: Mapping[str, Any] | None) -> str:
    """What to try against a finding; nothing that was done already, and nothing that would change nothing."""
    if kind == "wide-output":
        fp8 = [layer for layer in layers if (layer.precision or "").startswith("float8") and layer.kind == "conv"]
        if len(fp8) == len(layers):
            return (
                "An FP8 convolution keeps a scale for each channel in its weight, and stores FP32 behind it; TensorRT for RTX "
                "1.5 computes one with a single scale wrong. Leave these nodes in the rest's precision (keep=), or use INT8."
            )
        held = {t.dtype for layer in launches for t in (*layer.inputs, *layer.outputs)}
        steps = []
        if scheme is None or scheme.get("weights") == "channel" or scheme.get("placement") != "tensorrt":
            steps.append("weights='channel-after' (or 'tensor')")
        if not held & {"float16", "bfloat16"} and (scheme is None or scheme.get("rest") == "fp32"):
            steps.append("rest='fp16'")
        if steps:
            return f"Quantize with {' and '.join(steps)}: then the product stores FP16."
        return "The scheme asks for FP16 behind these already. Leave the nodes in the rest's precision (keep=), and compare."
    if kind == "double-requantization":
        if scheme is not None and scheme.get("placement") == "tensorrt":
            return (
                "The pairs are on inputs of products already. Leave the node behind in the rest's precision (keep=), or the "
                "other branch of the addition (residual=False), and compare."
            )
        return (
            "Q/DQ stand between an operation and its activation: `workbench placement MODEL` moves them, and quantizing the "
            "FP32 model with placement='tensorrt' puts them on inputs of convolutions and matrix products only."
        )
    return _HINTS[kind]


def compare(plans: Mapping[str, Plan], asked: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Several plans of one model side by side: one row a figure, one column a plan."""
    import pandas as pd

    figures = {name: audit(plan, (asked or {}).get(name)).figures for name, plan in plans.items()}
    # A Series of objects each: a column of mixed numbers would turn the counts into floats.
    return pd.DataFrame({name: pd.Series(found, dtype=object) for name, found in figures.items()})


@dataclass(frozen=True)
class Change:
    """A part of the model, and what it moves in two plans.

    Attributes:
        layers: Ids of the first plan's layers; empty where only the second has any.
        nodes: The nodes that both plans have there; empty for what only one plan does.
        low: Bytes that the first plan moves.
        wide: Bytes that the second moves.
        title: The most costly layer, in words.
    """

    layers: tuple[str, ...]
    nodes: tuple[str, ...]
    low: int
    wide: int
    title: str

    @property
    def more(self) -> int:
        """Bytes that the first plan moves beyond the second; negative where it saves."""
        return self.low - self.wide


def changes(low: Plan, wide: Plan) -> tuple[Change, ...]:
    """Where two plans of one model differ in bytes, the largest loss of the first plan first.

    Layers that execute a common node belong together, across both plans and however each fused; what belongs to
    no common node (a cast, a Q/DQ kernel, a layout change) stands alone. Every launch is in exactly one part, so
    the differences sum up to that of the plans. Bytes are computed, not measured.
    """
    common = set(low.layers_of) & set(wide.layers_of)
    boss: dict[tuple[int, str], tuple[int, str]] = {}

    def find(item: tuple[int, str]) -> tuple[int, str]:
        while boss.setdefault(item, item) != item:
            boss[item] = boss[boss[item]]
            item = boss[item]
        return item

    members: list[tuple[int, Layer]] = [
        (side, layer) for side, plan in enumerate((low, wide)) for layer in plan.layers if layer.launches
    ]
    for side, layer in members:
        find((side, layer.id))
        for node in layer.nodes:
            if node in common:
                boss[find((side, layer.id))] = find((2, node))
    parts: dict[tuple[int, str], tuple[list[Layer], list[Layer]]] = {}
    for side, layer in members:
        parts.setdefault(find((side, layer.id)), ([], []))[side].append(layer)
    out = []
    for mine, theirs in parts.values():
        costly = max(mine or theirs, key=lambda layer: layer.bytes or 0)
        nodes = dict.fromkeys(n for layer in (*mine, *theirs) for n in layer.nodes if n in common)
        out.append(
            Change(
                tuple(layer.id for layer in mine), tuple(nodes), sum(layer.bytes or 0 for layer in mine),
                sum(layer.bytes or 0 for layer in theirs), costly.title,
            )
        )  # fmt: skip
    return tuple(sorted(out, key=lambda change: -change.more))


def verdict(low: Plan, wide: Plan, names: Sequence[str] = ("INT8", "FP16")) -> str:
    """Whether the lower precision moves fewer bytes, in one sentence; the sums are computed, not measured."""
    from workbench.core.units import bytes_text

    mine, theirs = audit(low).figures, audit(wide).figures
    a, b = mine["bytes"], theirs["bytes"]
    if not a or not b:
        return "The bytes are not known."
    hidden = mine["bytes_unknown"] + theirs["bytes_unknown"]
    but = f" (Of {hidden} kernels they are not known, and not counted.)" if hidden else ""
    change = abs(a - b) / b
    if a == b:
        return f"{names[0]} and {names[1]} move as many bytes: {bytes_text(a)}.{but}"
    text = f"{names[0]} moves {bytes_text(a)}, {names[1]} {bytes_text(b)}"
    if a > b:
        return f"{text}: {change:.0%} more. It may well be slower; see what the audit finds before you run it.{but}"
    return f"{text}: {change:.0%} less.{but}"


def losses(low: Plan, wide: Plan) -> pd.DataFrame:
    """Where the time of two measured plans of one model goes, the parts in which `low` is slower first.

    The model's own nodes join the two: kernels of either plan that execute a common node belong to one part,
    whatever each compiler fused. Kernels that execute no node of the other plan (a Q/DQ pair's own, a layout
    change) are parts of their own.

    Args:
        low: The quantized plan, with times (`Engine.measured`).
        wide: The other one, with times.

    Returns:
        One row a part: ``nodes`` (the first that both execute), ``low`` and ``wide`` (kernels), ``low_ms``,
        ``wide_ms`` and ``lost_ms``, the difference; all measured.

    Raises:
        ConfigError: a plan has no times.
    """
    import pandas as pd

    for plan in (low, wide):
        if all(layer.time_ms is None for layer in plan.layers):
            raise ConfigError(
                f"The plan of {plan.model.get('name')} has no measured times.",
                hint="Measure it on a GPU: session.profile(engine); then engine.measured is the plan with times.",
            )
    sides = {"low": low, "wide": wide}
    common = set(low.layers_of) & set(wide.layers_of)
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    for side, plan in sides.items():
        for layer in plan.layers:
            for node in layer.nodes:
                if node in common:
                    parent[root((side, layer.id))] = root(("node", node))
    parts: dict[tuple[str, str], dict[str, list[Layer]]] = {}
    for side, plan in sides.items():
        for layer in plan.layers:
            if layer.time_ms is not None:
                parts.setdefault(root((side, layer.id)), {"low": [], "wide": []})[side].append(layer)
    rows = []
    for part in parts.values():
        shared = [n for layer in (*part["low"], *part["wide"]) for n in layer.nodes if n in common]
        times = {side: sum(layer.time_ms or 0.0 for layer in part[side]) for side in sides}
        rows.append(
            {
                "nodes": ", ".join(dict.fromkeys(shared)), "low": ", ".join(la.name for la in part["low"]),
                "wide": ", ".join(la.name for la in part["wide"]), "low_ms": times["low"], "wide_ms": times["wide"],
                "lost_ms": times["low"] - times["wide"],
            }
        )  # fmt: skip
    columns = ["nodes", "low", "wide", "low_ms", "wide_ms", "lost_ms"]
    return pd.DataFrame(rows, columns=columns).sort_values("lost_ms", ascending=False, ignore_index=True)


def _asked(plan: Plan, launches: Sequence[Layer]) -> str:
    quantized = Counter(
        t.dtype for layer in launches if layer.kind in HEAVY for t in (*layer.inputs, *layer.constants)
        if t.dtype in _QUANTIZED
    )  # fmt: skip
    if quantized:
        most = quantized.most_common(1)[0][0]
        return next((short for short, name in NAMES.items() if name == most), "int8")
    asked = str(plan.config.get("precision", "fp32"))
    if asked != "fp32":
        return asked
    # The graph itself may be in a lower precision: then that is what was asked.
    types = Counter(layer.precision for layer in launches if layer.kind in HEAVY)
    most = types.most_common(1)[0][0] if types else "float32"
    return next((short for short, name in NAMES.items() if name == most), "fp32")


def _as_asked(layer: Layer, asked: str) -> bool:
    if asked == "int4":
        return layer.precision != "float32"  # weights only: activations stay in the rest's precision
    return layer.precision == NAMES[asked]


def _kinds(layer: Layer, asked: str) -> list[str]:
    out = []
    words = words_of(layer.name)
    read = {t.dtype for t in layer.inputs}
    if asked != "fp32" and layer.kind in HEAVY and layer.precision == "float32":
        out.append("fp32-product")
    if layer.kind in HEAVY and layer.precision in _QUANTIZED and any(t.dtype == "float32" for t in layer.outputs):
        out.append("wide-output")
    if _requantizations(layer) > 1:
        out.append("double-requantization")
    changes = any(t.dtype not in read for t in layer.outputs)
    if (
        layer.inputs
        and layer.kind not in HEAVY
        and changes
        and (
            (words and set(words) <= _CONVERT and "Cast" in words)
            or (layer.kind in CONVERSIONS and "precision" in layer.converts)
        )
    ):
        out.append("conversion-kernel")
    if (
        not layer.inputs
        and any(t.dtype in _QUANTIZED for t in layer.constants)
        and any(t.dtype not in _QUANTIZED for t in layer.outputs)
    ):
        out.append("weights-dequantized")
    if (
        asked != "fp32" and layer.kind not in HEAVY and layer.inputs and layer.outputs and not out
        and all(t.dtype == "float32" for t in (*layer.inputs, *layer.outputs))
    ):  # fmt: skip
        out.append("fp32-pointwise")
    return out


def _requantizations(layer: Layer) -> int:
    """How often the layer's name says round-and-clamp (INT8), or else whether it turns a wider type into FP8."""
    words = words_of(layer.name)
    n = len(_REQUANTIZE)
    count = sum(tuple(words[i : i + n]) == _REQUANTIZE for i in range(len(words) - n + 1))
    if count:
        return count
    wide = any(BITS.get(t.dtype, 0) > 8 for t in layer.inputs)
    return int(wide and any(t.dtype in _QUANTIZED for t in layer.outputs) and layer.kind not in HEAVY)


def _saved(layer: Layer) -> int:
    """Bytes that FP16 in place of FP32 would save: in the store, and in the load behind it."""
    return sum((t.bytes or 0) // 2 * 2 for t in layer.outputs if t.dtype == "float32")


def _types(tensors: Sequence[Any]) -> str:
    return ", ".join(dict.fromkeys(t.dtype for t in tensors))
