"""Compare the requested precision with the precision in the plan, and state what the difference costs.

Everything is derived from a `Plan`: the data types that layers read and write, their bytes, and the names of fused
layers, if the compiler gives them. Bytes are the memory requests of kernels (see `workbench.plan.traffic`): computed,
not measured.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import compilers
from workbench.core.dtypes import BITS, QUANTIZED, name_of
from workbench.core.errors import ConfigError
from workbench.plan.plan import CONVERSIONS, Layer, Plan

if TYPE_CHECKING:
    import pandas as pd

    from workbench.plan.vocabulary import Vocabulary

HEAVY = ("conv", "gemm", "attention")
"""Kinds whose precision determines the speed."""

NAMES = {short: name_of(short) for short in ("fp32", "fp16", "bf16", "int8", "fp8", "int4")}
"""Short names of precisions, and ONNX's names."""


KINDS = {
    "fp32-product": "computes in FP32 although a lower precision was requested",
    "wide-output": "reads a quantized type and stores FP32, which the next kernel reads again",
    "double-requantization": "quantizes, dequantizes and quantizes again",
    "conversion-kernel": "only converts the type",
    "weights-dequantized": "converts stored weights to a wider type at run time, in a separate kernel",
    "fp32-pointwise": "is not a product and computes in FP32 although a lower precision was requested",
}
"""The kinds of findings, with descriptions."""

_HINTS = {
    "fp32-product": "Cast the model (`workbench cast`; rest='fp16' if it is quantized), or quantize these nodes: their "
    "names are in the table.",
    "conversion-kernel": "A separate kernel reads and writes the whole tensor; check whether its neighbor can use the type.",
    "weights-dequantized": "The next kernel reads the wide copy: the narrow storage saves disk, not traffic.",
    "fp32-pointwise": "Cast the model. If it is already cast, check which nodes the conversion lists as left in FP32.",
}


@dataclass(frozen=True)
class Finding:
    """One difference from the request.

    Attributes:
        kind: A key of `KINDS`.
        layers: Ids of the layers.
        bytes: Bytes that these layers move; for wide-output only the bytes that FP16 would save.
        text: Description.
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
    """The precision of a plan, by layer and in total.

    Attributes:
        plan: The audited plan.
        asked: Short name of the requested precision (fp32, fp16, bf16, int8, fp8, int4).
        findings: Differences from the request, the most costly first.
    """

    plan: Plan = field(repr=False)
    asked: str
    findings: tuple[Finding, ...]

    @cached_property
    def launches(self) -> list[Layer]:
        """The layers that launch GPU work."""
        return [layer for layer in self.plan.layers if layer.launches]

    @cached_property
    def by_precision(self) -> dict[str, dict[str, int]]:
        """For each data type that layers read: ``kernels``, ``flops``, ``bytes``.

        ``flops`` is the sum of the known values; ``flops_unknown`` counts the kernels without a known value.
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
        """How many convolutions, matrix products and attentions read the requested type, as a sentence; "" without any."""
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
        """The numbers used to compare two plans."""
        vocabulary = _vocabulary(self.plan)
        pointwise = [layer for layer in self.launches if layer.kind not in HEAVY]
        found = Counter(dict.fromkeys(KINDS, 0))
        for finding in self.findings:
            found[finding.kind] += len(finding.layers)
        flops = sum(layer.flops or 0 for layer in self.launches if layer.kind in HEAVY)
        low = sum(layer.flops or 0 for layer in self.launches if layer.kind in HEAVY and layer.precision in QUANTIZED)
        return {
            "kernels": len(self.launches),
            "products": sum(layer.kind in HEAVY for layer in self.launches),
            "products_quantized": sum(layer.kind in HEAVY and layer.precision in QUANTIZED for layer in self.launches),
            "products_fp32": sum(layer.kind in HEAVY and layer.precision == "float32" for layer in self.launches),
            "flops_quantized": low / flops if flops else 0.0,
            "other_kernels": len(pointwise),
            "fused_steps": sum(len(vocabulary.words(layer.name)) for layer in self.launches),
            "requantizations": sum(_requantizations(layer, vocabulary) for layer in self.launches),
            **{kind.replace("-", "_"): found[kind] for kind in KINDS},
            "bytes": sum(layer.bytes or 0 for layer in self.launches),
            "bytes_activations": sum(t.bytes or 0 for layer in self.launches for t in (*layer.inputs, *layer.outputs)),
            "bytes_unknown": sum(layer.bytes is None for layer in self.launches),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per launch: what it reads and writes, its cost, and its findings."""
        import pandas as pd

        vocabulary = _vocabulary(self.plan)
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
                    "flops": layer.flops, "bytes": layer.bytes, "requantizations": _requantizations(layer, vocabulary),
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
    """Check that `asked` is a precision.

    Raises:
        ConfigError: there is no such precision.
    """
    if asked is not None and asked not in NAMES:
        raise ConfigError(f"There is no precision {asked!r}.", hint=f"Precisions: {', '.join(NAMES)}.")


def audit(plan: Plan, asked: str | None = None, scheme: Mapping[str, Any] | None = None) -> Audit:
    """Compare the requested precision with the plan.

    Args:
        plan: Of any compiler; without names of fused operations, findings are based on types only.
        asked: fp32, fp16, bf16, int8, fp8 or int4. By default the precision of the build config, or the quantized
            type that most products read if the graph was quantized before the build.
        scheme: Fields of the `Scheme` that the model was quantized with, if known (`scheme_in`): hints then skip steps
            that were already done.

    Raises:
        ConfigError: there is no such precision.
    """
    known(asked)
    vocabulary = _vocabulary(plan)
    launches = [layer for layer in plan.layers if layer.launches]
    asked = asked or _asked(plan, launches)
    groups: dict[str, list[Layer]] = {kind: [] for kind in KINDS}
    for layer in launches:
        for kind in _kinds(layer, asked, vocabulary):
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
    """The scheme recorded in a model file that the workbench quantized; None for other models."""
    from workbench.model.onnx_file import read_graph

    for entry in read_graph(path).metadata_props:
        if entry.key == "workbench.quantize":
            try:
                scheme = json.loads(entry.value)["scheme"]
            except (ValueError, KeyError, TypeError):
                return None  # another tool's metadata with the same name
            return scheme if isinstance(scheme, dict) else None
    return None


def _hint(kind: str, layers: Sequence[Layer], launches: Sequence[Layer], scheme: Mapping[str, Any] | None) -> str:
    """What to try for a finding, without steps that were already done or would have no effect."""
    if kind == "wide-output":
        fp8 = [layer for layer in layers if (layer.precision or "").startswith("float8") and layer.kind == "conv"]
        if len(fp8) == len(layers):
            return (
                "An FP8 convolution has per-channel weight scales and stores FP32; TensorRT for RTX "
                "1.5 computes wrong results with a single scale. Keep these nodes in the rest's precision (keep=), or use INT8."
            )
        held = {t.dtype for layer in launches for t in (*layer.inputs, *layer.outputs)}
        steps = []
        if scheme is None or scheme.get("weights") == "channel" or scheme.get("placement") != "tensorrt":
            steps.append("weights='channel-after' (or 'tensor')")
        if not held & {"float16", "bfloat16"} and (scheme is None or scheme.get("rest") == "fp32"):
            steps.append("rest='fp16'")
        if steps:
            return f"Quantize with {' and '.join(steps)}: then the product stores FP16."
        return (
            "The scheme already requests FP16 after these. Keep the nodes in the rest's precision (keep=), and compare."
        )
    if kind == "double-requantization":
        if scheme is not None and scheme.get("placement") == "tensorrt":
            return (
                "The pairs are already on inputs of products. Keep the next node in the rest's precision (keep=), or the "
                "other branch of the addition (residual=False), and compare."
            )
        return (
            "Q/DQ pairs are between an operation and its activation: `workbench placement MODEL` moves them. Quantizing the "
            "FP32 model with placement='tensorrt' puts them on inputs of convolutions and matrix products only."
        )
    return _HINTS[kind]


def _asked(plan: Plan, launches: Sequence[Layer]) -> str:
    quantized = Counter(
        t.dtype for layer in launches if layer.kind in HEAVY for t in (*layer.inputs, *layer.constants)
        if t.dtype in QUANTIZED
    )  # fmt: skip
    if quantized:
        most = quantized.most_common(1)[0][0]
        return next((short for short, name in NAMES.items() if name == most), "int8")
    asked = str(plan.config.get("precision", "fp32"))
    if asked != "fp32":
        return asked
    # The graph may already be in a lower precision, which is then the requested one.
    types = Counter(layer.precision for layer in launches if layer.kind in HEAVY)
    most = types.most_common(1)[0][0] if types else "float32"
    return next((short for short, name in NAMES.items() if name == most), "fp32")


def _as_asked(layer: Layer, asked: str) -> bool:
    if asked == "int4":
        return layer.precision != "float32"  # weights only: activations stay in the rest's precision
    return layer.precision == NAMES[asked]


def _vocabulary(plan: Plan) -> Vocabulary:
    return compilers.vocabulary(str(plan.compiler.get("name")))


def _kinds(layer: Layer, asked: str, vocabulary: Vocabulary) -> list[str]:
    out = []
    read = {t.dtype for t in layer.inputs}
    if asked != "fp32" and layer.kind in HEAVY and layer.precision == "float32":
        out.append("fp32-product")
    if layer.kind in HEAVY and layer.precision in QUANTIZED and any(t.dtype == "float32" for t in layer.outputs):
        out.append("wide-output")
    if _requantizations(layer, vocabulary) > 1:
        out.append("double-requantization")
    changes = any(t.dtype not in read for t in layer.outputs)
    if (
        layer.inputs
        and layer.kind not in HEAVY
        and changes
        and (vocabulary.only_converts(layer.name) or (layer.kind in CONVERSIONS and "precision" in layer.converts))
    ):
        out.append("conversion-kernel")
    if (
        not layer.inputs
        and any(t.dtype in QUANTIZED for t in layer.constants)
        and any(t.dtype not in QUANTIZED for t in layer.outputs)
    ):
        out.append("weights-dequantized")
    if (
        asked != "fp32" and layer.kind not in HEAVY and layer.inputs and layer.outputs and not out
        and all(t.dtype == "float32" for t in (*layer.inputs, *layer.outputs))
    ):  # fmt: skip
        out.append("fp32-pointwise")
    return out


def _requantizations(layer: Layer, vocabulary: Vocabulary) -> int:
    """How often the layer's name contains round-and-clamp (INT8), or else whether it converts a wider type to FP8."""
    if count := vocabulary.requantizations(layer.name):
        return count
    wide = any(BITS.get(t.dtype, 0) > 8 for t in layer.inputs)
    return int(wide and any(t.dtype in QUANTIZED for t in layer.outputs) and layer.kind not in HEAVY)


def _saved(layer: Layer) -> int:
    """Bytes that FP16 instead of FP32 would save: in the store, and in the load of the next kernel."""
    return sum((t.bytes or 0) // 2 * 2 for t in layer.outputs if t.dtype == "float32")


def _types(tensors: Sequence[Any]) -> str:
    return ", ".join(dict.fromkeys(t.dtype for t in tensors))
