"""Draws docs/results into the README: one picture, and the rows of its tables.

    python3 tests/benchmarks/draw_results.py

Writes docs/images/performance.svg and prints the tables' rows; a test holds both to the data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURE = DOCS / "images" / "performance.svg"
TENSORRT = "results/h100_tensorrt_rtx_1.5.json"
TORCH_TENSORRT = "results/h100_torch_tensorrt_rtx_1.4.json"
ARCHITECTURES = "results/architectures_rtx_1.7.json"
PRECISION = "results/h100_precision_rtx_1.5.json"
H200_PRECISION = "results/h200_precision_rtx_1.6.json"
H200_PROFILES = "results/h200_profiles_rtx_1.6.json"
H200_TORCH_TENSORRT = "results/h200_torch_tensorrt_rtx_1.4.json"
MODELS = {"resnet50": "ResNet-50", "bert-base": "BERT-base", "gpt2-small": "GPT-2 small", "unet": "U-Net"}
WAYS = {
    "eager": "eager", "torch.compile": "torch.compile", "torch_tensorrt": "Torch-TensorRT",
    "tensorrt graph": "TensorRT, CUDA graph",
}  # fmt: skip
QUANTIZED = {
    "fp16": "fp16", "fp8": "fp8", "int8": "int8", "fp8 but up": "fp8, first feed-forward product left",
    "fp8 but up, bf16": "fp8, the same, rest bf16",
}  # fmt: skip
WIDTH, LEFT, TOP, PANEL, BAR, STEP, HEAD = 960, 16, 66, 232, 13, 20, 22


def rows(file: str) -> dict[tuple[str, int, str], dict[str, Any]]:
    """The rows of a results file, earlier ones too, by model, batch and precision."""
    document = json.loads((DOCS / file).read_text())
    found = [*document.get("earlier_rows", []), *document["rows"]]
    return {(r["model"], r["batch"], r["precision"]): r for r in found}


def performance() -> dict[tuple[str, int, str], dict[str, Any]]:
    """The rows of the performance table, with the column that was measured in a run of its own."""
    found, more = rows(TENSORRT), rows(TORCH_TENSORRT)
    for key, row in found.items():
        if "torch_tensorrt" in (other := more.get(key, {"ways": {}}))["ways"]:
            row["ways"]["torch_tensorrt"] = other["ways"]["torch_tensorrt"]
    return found


def table() -> list[str]:
    """The rows of the README's performance table."""
    from workbench.experiments.bench import WAYS as COLUMNS
    from workbench.experiments.bench import right

    lines = []
    for (model, batch, precision), row in performance().items():
        eager = row["ways"]["eager"]["median_ms"]
        cells = [model, str(batch), precision]
        for way in COLUMNS:
            got = row["ways"].get(way)
            # Torch-TensorRT has an eager of its own: no ratio to this one.
            ratio = f" ({eager / got['median_ms']:.1f}×)" if got and way not in ("eager", "torch_tensorrt") else ""
            wrong = "" if got is None or right(row, way) else " WRONG"
            cells.append(f"{got['median_ms']:.3g} ms{ratio}{wrong}" if got else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def quantized() -> list[str]:
    """The rows of the README's table of INT8 and FP8."""
    found = rows(PRECISION)
    cases = (("resnet50", 1), ("resnet50", 32), ("bert-base", 1), ("bert-base", 32), ("gpt2-small", 32), ("unet", 32))
    keys = [(*case, precision) for case in cases for precision in QUANTIZED if (*case, precision) in found]
    return [_precision_row(found, key, QUANTIZED[key[2]], "1.5") for key in keys]


def h200() -> list[str]:
    """The rows of the README's table of the H200."""
    found = rows(H200_PRECISION)
    return [_precision_row(found, key, key[2], "1.6.1") for key in found]


def _precision_row(
    found: dict[tuple[str, int, str], dict[str, Any]], key: tuple[str, int, str], title: str, version: str
) -> str:
    """One row: time, ratio to FP16 and error, or that `version` of TensorRT for RTX does not build it."""
    from workbench.experiments.bench import QUANTIZED_ERROR

    model, batch, precision = key
    ways = found[key]["ways"]
    head = f"| {model} | {batch} | {title} | {ways['eager']['median_ms']:.3g} ms |"
    if (got := ways.get("tensorrt graph")) is None:
        return f"{head} does not build: version {version} has no INT8 convolutions | | |"
    half = found[model, batch, "fp16"]["ways"]["tensorrt graph"]["median_ms"]
    error = got["error"]["relative_l2"]
    ratio = "" if precision == "fp16" else f" {got['median_ms'] / half:.2f}×"
    wrong = " WRONG" if precision != "fp16" and error > QUANTIZED_ERROR else ""
    return f"{head} {got['median_ms']:.3g} ms |{ratio} | {error:.1%}{wrong} |"


def h200_phrases() -> list[str]:
    """What the README says of dynamic shapes and of Torch-TensorRT on the H200, in phrases."""
    document = json.loads((DOCS / H200_PROFILES).read_text())
    overhead = document["dynamic overhead resnet50 fp16"]
    ms = {way: overhead[way]["latency"]["median_ms"] for way in ("fixed", "dynamic", "fallback")}
    sweep = document["sweep resnet50 fp16"]
    return [
        f"{ms['fixed']:.2f} ms in an engine for that batch ({overhead['fixed']['launches']} kernels)",
        f"{ms['dynamic']:.2f} ms in one for batches of 1 to 32 ({overhead['dynamic']['launches']} kernels)",
        f"any shape take {ms['fallback']:.2f} ms",
        ", ".join(f"{row['median_ms']:.2f} ms at {row['batch']}" for row in sweep),
        *(
            f"{model} {row['ways']['torch_tensorrt']['median_ms']:.2f} ms at batch {batch}"
            f" (eager {row['ways']['eager']['median_ms']:.2f})"
            for (model, batch, precision), row in rows(H200_TORCH_TENSORRT).items()
            if precision == "fp16"
        ),
    ]


def architectures() -> list[str]:
    """What the README says of the sweep over architectures, in phrases."""
    found = json.loads((DOCS / ARCHITECTURES).read_text())["rows"]
    built = [row for row in found if "refused" not in row]
    unnamed = {row["model"] for row in built if row["kernels_without_nodes"]}
    return [
        f"{len({row['model'] for row in found})} architectures",
        f"{len(built)} of {len(found)} builds succeeded",
        f"{sum(row['nodes'] for row in built):,} nodes became {sum(row['kernels'] for row in built):,} kernels",
        "every node has a kernel or a reason"
        if not sum(row["unknown_nodes"] for row in built)
        else "some nodes have no reason",
        f"bytes or operations are unknown for {sum(row['uncounted'] for row in built)} nodes and kernels",
        "every kernel that computes names its nodes"
        if not unnamed
        else f"kernels name no node in {', '.join(sorted(unnamed))}",
        f"unknown in {', '.join(sorted({row['model'] for row in built if row['uncounted']})) or 'no model'}",
    ]


def picture() -> str:
    """Small multiples, one a model and batch in FP16: the shorter the bar, the faster, within its own panel."""
    found = performance()
    colours = ("#8b95a1", "#3b82c4", "#a86fd0", "#5e9c1f")
    tall = HEAD + STEP * len(WAYS) + 18
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOP + 2 * tall}" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif" font-size="12">',
        "<title>Median milliseconds a batch in FP16 on one H100</title>",
        "<style>text{fill:#1f2933}.q{fill:#5b6672}.h{font-weight:600;font-size:13px}line{stroke:#c9d0d8}"
        "@media(prefers-color-scheme:dark){text{fill:#e6eaee}.q{fill:#a3adb8}line{stroke:#46505b}}</style>",
        f'<text x="{LEFT}" y="20" class="h">Median milliseconds a batch in FP16 on one H100, shorter is faster</text>',
    ]
    at = LEFT
    for colour, title in zip(colours, WAYS.values(), strict=True):
        out.append(f'<rect x="{at}" y="34" width="11" height="11" rx="2" fill="{colour}"/>')
        out.append(f'<text x="{at + 16}" y="44" class="q">{title}</text>')
        at += 34 + 7 * len(title)
    for i, (model, title) in enumerate(MODELS.items()):
        for k, batch in enumerate((1, 32)):
            x, y = LEFT + i * PANEL, TOP + k * tall
            ways = found[model, batch, "fp16"]["ways"]
            longest = max(ways[w]["median_ms"] for w in WAYS if w in ways)
            out.append(f'<text x="{x}" y="{y + 12}" class="h">{title}</text>')
            out.append(f'<text x="{x + PANEL - 28}" y="{y + 12}" class="q" text-anchor="end">batch {batch}</text>')
            out.append(f'<line x1="{x}" x2="{x}" y1="{y + HEAD - 2}" y2="{y + HEAD + STEP * len(WAYS) - 5}"/>')
            for j, (way, colour) in enumerate(zip(WAYS, colours, strict=True)):
                top = y + HEAD + j * STEP
                if way not in ways:
                    out.append(f'<text x="{x + 6}" y="{top + 11}" class="q">not timed</text>')
                    continue
                ms = ways[way]["median_ms"]
                wide = max(2.0, (PANEL - 92) * ms / longest)
                out.append(f'<rect x="{x}" y="{top}" width="{wide:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
                out.append(f'<text x="{x + wide + 6:.1f}" y="{top + 11}">{ms:.3g} ms</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture())
    print("\n".join([*table(), "", *quantized(), "", *architectures(), "", *h200(), "", *h200_phrases()]))
