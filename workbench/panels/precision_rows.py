"""Tables of the Precision panel: the variants, where they move more than FP16, and all figures side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.analysis.roofline import ERROR
from workbench.core.units import bytes_text, flops_text
from workbench.panels.parts import table_html
from workbench.present.wire import rows_data
from workbench.present.wire_types import Source, TableColumn, TableData

if TYPE_CHECKING:
    from workbench.experiments.whatif import WhatIf

_FIGURES = {
    "kernels": "kernels", "products": "products (conv, gemm, attention)", "products_quantized": "… that read a quantized type",
    "products_fp32": "… that read FP32", "fused_steps": "steps fused into kernels", "requantizations": "requantizations",
    "double_requantization": "kernels that requantize twice", "wide_output": "products that store FP32",
    "conversion_kernel": "kernels that only convert", "weights_dequantized": "weights dequantized at run time",
    "fp32_pointwise": "pointwise kernels in FP32", "bytes": "bytes moved", "bytes_activations": "… of activations",
}  # fmt: skip


def variant_rows(found: WhatIf) -> TableData:
    """The variants as a table, one row each."""
    rows = [v.row() for v in found.variants]

    def column(name: str, factor: float = 1.0) -> list[float | None]:
        return [None if (value := row.get(name)) is None else value * factor for row in rows]

    def time(source: str) -> list[float | None]:
        return [row.get("time_ms") if row.get("time_source") == source else None for row in rows]

    columns: list[tuple[TableColumn, Sequence[Any]]] = [
        ({"name": "variant", "label": "Precision", "type": "text"}, [v.name for v in found.variants]),
        ({"name": "kernels", "label": "Kernels", "type": "number"}, column("kernels")),
        ({"name": "bytes", "label": "Moves", "type": "bytes"}, column("bytes")),
        ({"name": "weights", "label": "Weights", "type": "bytes"}, column("weight_bytes")),
        ({"name": "engine", "label": "Engine", "type": "bytes"}, column("engine_bytes")),
    ]
    known: list[Source] = ["measured", "estimated"]
    sources = [source for source in known if any(v is not None for v in time(source))]
    for source in sources:
        # Two columns called Time would differ only by a small word, which is the first to be cut off.
        label = source.capitalize() if len(sources) > 1 else "Time"
        head: TableColumn = {"name": f"time_{source}", "label": label, "type": "number", "unit": "ms", "source": source}
        columns.append((head, time(source)))
    if any(v is not None for v in column("relative_l2")):
        columns += [
            ({"name": "error", "label": "Error", "type": "number", "unit": "%"}, column("relative_l2", 100)),
            ({"name": "cosine", "label": "1 − cosine", "type": "number"}, [None if c is None else max(0.0, round(1 - c, 12)) for c in column("cosine")]),
            ({"name": "snr", "label": "SNR", "type": "number", "unit": "dB"}, column("snr_db")),
        ]  # fmt: skip
    if any(column("not_finite")):  # their errors are infinite, which a cell can't show
        columns.append(({"name": "not_finite", "label": "Not finite", "type": "number"}, column("not_finite")))
    for name, label in (("top1", "Top-1 kept"), ("accuracy", "Accuracy")):
        if any(v is not None for v in column(name)):
            columns.append(({"name": name, "label": label, "type": "number", "unit": "%"}, column(name, 100)))
    columns.append(({"name": "findings", "label": "Findings", "type": "number"}, column("findings")))
    return rows_data("Precisions", "layer", [v.name for v in found.variants], columns)


def basis(found: WhatIf) -> str:
    """Where the numbers of the table come from, in sentences."""
    out = ["Kernels and bytes: computed from the plan."]
    times = {(source, gpu) for v in found.variants for _, source, gpu in [v.time] if source}
    for source, gpu in sorted(times):
        if source == "estimated":
            out.append(f"Time: estimated for {gpu}, a lower bound from datasheet values; {ERROR}.")
        else:
            out.append(f"Time: measured{f' on {gpu}' if gpu else ''}, median latency.")
    samples = sorted({v.samples for v in found.variants if v.samples})
    if samples:
        text = ", ".join(map(str, samples))
        out.append(
            f"Error against FP32 and accuracy: measured with ONNX Runtime on the CPU on {text} samples. FP16 and BF16 are simulated: each node's result is rounded."
        )
    return " ".join(out)


def loss_rows(losses: Sequence[Any]) -> TableData:
    """Where a plan moves more bytes than in FP16, as a table."""
    columns: list[tuple[TableColumn, Sequence[Any]]] = [
        ({"name": "part", "label": "Kernels", "type": "text"}, [c.title for c in losses]),
        (
            {"name": "nodes", "label": "Nodes", "type": "text"},
            [", ".join(c.nodes[:4]) or "none in common with FP16" for c in losses],
        ),
        ({"name": "count", "label": "Launches", "type": "number"}, [len(c.layers) for c in losses]),
        ({"name": "low", "label": "Moves", "type": "bytes", "source": "computed"}, [c.low for c in losses]),
        ({"name": "wide", "label": "FP16", "type": "bytes", "source": "computed"}, [c.wide for c in losses]),
        ({"name": "more", "label": "More", "type": "bytes", "source": "computed"}, [c.more for c in losses]),
    ]
    return rows_data("Losses", "layer", [str(i) for i in range(len(losses))], columns)


def figure_table(found: WhatIf) -> str:
    """The figures of the audits and the operations by type, as HTML with one column per variant."""
    built = [v for v in found.variants if v.audit is not None]
    rows = []
    for key, label in _FIGURES.items():
        values = [v.audit.figures[key] for v in built if v.audit is not None]
        rows.append([label, *(bytes_text(n) if key.startswith("bytes") else str(n) for n in values)])
    types = dict.fromkeys(d for v in built if v.audit for d in v.audit.by_precision)
    for dtype in types:
        cells = [v.audit.by_precision.get(dtype) if v.audit else None for v in built]
        rows.append(
            [
                f"operations in {dtype}",
                *("" if c is None else flops_text(c["flops"], c["flops_unknown"]) for c in cells),
            ]
        )
    return table_html(["", *(v.name for v in built)], rows, numeric=range(1, len(built) + 1))
