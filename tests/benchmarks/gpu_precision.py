"""INT8 and FP8 columns of the performance table, on a machine with a GPU.

    python3 tests/benchmarks/gpu_precision.py OUT_FOLDER [--seconds 450] [--from EARLIER.json] [--rows unet:32:int8,...]

Plain Python, no test runner. The most telling rows come first; no new row is begun after `--seconds`. Each row is
kept when it is done (OUT_FOLDER/precision.json), so that a later run with `--from` that file goes on behind it.
One row that fails does not take the others with it. The engines and quantized models lie in WORKBENCH_HOME, or in
a temporary folder where that is not set.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from workbench import Session
from workbench.experiments.bench import Bench, Variant, table

WAYS = ("eager", "tensorrt", "tensorrt graph")
NOT_UP = ("layers.*.up",)
"""BERT's first feed-forward product: left in FP16 its GELU, and in FP8 the quantization behind it, stay in its kernel."""

FEED_FORWARD = ("layers.*.up", "layers.*.down")
VARIANTS = {
    "fp8 but up": Variant({"to": "fp8", "keep": NOT_UP}),
    "fp8 but up, bf16": Variant({"to": "fp8", "keep": NOT_UP, "rest": "bf16"}),
    "fp8 attention": Variant({"to": "fp8", "keep": FEED_FORWARD}),
    "fp8 by tensor": Variant({"to": "fp8", "weights": "tensor"}),
    "int8 bf16": Variant({"to": "int8", "rest": "bf16"}),
    "int8 attention": Variant({"to": "int8", "keep": FEED_FORWARD}),
    "int8 by tensor": Variant({"to": "int8", "weights": "tensor"}),
    # An FP8 plan for the GPU that is present may be refused where one for Ada is not.
    "fp8 for sm89": Variant({"to": "fp8"}, target="sm89"),
    "fp8 but up, for sm89": Variant({"to": "fp8", "keep": NOT_UP}, target="sm89"),
    # What FP32 around INT8 products costs.
    "int8, rest fp32": Variant({"to": "int8", "rest": "fp32"}),
}
ROWS: list[tuple[str, int, str]] = [
    ("bert-base", 32, "fp16"), ("bert-base", 32, "fp8"), ("bert-base", 32, "int8"),
    ("resnet50", 32, "fp16"), ("resnet50", 32, "fp8"), ("resnet50", 32, "int8"),
    ("bert-base", 1, "fp16"), ("bert-base", 1, "fp8"), ("bert-base", 1, "int8"),
    ("resnet50", 1, "fp16"), ("resnet50", 1, "fp8"), ("resnet50", 1, "int8"),
    ("gpt2-small", 32, "fp16"), ("gpt2-small", 32, "fp8"), ("gpt2-small", 32, "int8"),
    ("unet", 32, "fp16"), ("unet", 32, "fp8"), ("unet", 32, "int8"),
    ("gpt2-small", 1, "fp16"), ("gpt2-small", 1, "fp8"), ("gpt2-small", 1, "int8"),
    ("unet", 1, "fp16"), ("unet", 1, "fp8"), ("unet", 1, "int8"),
    ("bert-base", 32, "fp8 but up"), ("bert-base", 32, "fp8 but up, bf16"), ("bert-base", 32, "int8 bf16"),
    ("bert-base", 32, "fp8 attention"), ("bert-base", 32, "fp8 by tensor"), ("bert-base", 32, "int8 by tensor"),
    ("bert-base", 32, "int8 attention"), ("bert-base", 32, "int8, rest fp32"),
]  # fmt: skip
PREPARED = 24
"""How many of the first rows have their engines built before anything is timed."""


def main(arguments: list[str] | None = None) -> int:
    """Measure what there is time for; 0 where at least one quantized row was timed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=450.0)
    parser.add_argument("--from", dest="earlier", type=Path)
    parser.add_argument("--rows", help="only these, as model:batch:precision with commas between them")
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "precision.json"
    if given.earlier and given.earlier.is_file() and not results.exists():
        shutil.copyfile(given.earlier, results)
    home = os.environ.get("WORKBENCH_HOME") or tempfile.mkdtemp(prefix="gpu-precision-")
    session = Session("gpu-precision", store=home)
    rows = list(ROWS)
    if given.rows:
        asked = [text.split(":") for text in given.rows.split(",")]
        rows = [(model, int(batch), precision) for model, batch, precision in asked]
    models, precisions = list(dict.fromkeys(r[0] for r in rows)), list(dict.fromkeys(r[2] for r in rows))
    work = Bench(session, models, [1], precisions, results, ways=WAYS, duration_ms=300.0, variants=VARIANTS)
    work.prepare(rows[:PREPARED], at_once=8)
    say(f"{time.monotonic() - begin:4.0f} s: engines built")
    done: list[Mapping[str, Any]] = []
    for model, batch, precision in rows:
        spent = time.monotonic() - begin
        if spent > given.seconds:
            say(f"{spent:4.0f} s: no time for {model} x{batch} {precision} and what comes behind")
            break
        try:
            row = work.row(model, batch, precision)
        except Exception:  # noqa: BLE001 - one row that fails must not take the others with it
            say(f"{model} x{batch} {precision} failed:\n{traceback.format_exc(limit=4)}")
            continue
        done.append(row)
        tell(row, time.monotonic() - begin)
        retry = {"fp8": "fp8 for sm89", "fp8 but up": "fp8 but up, for sm89"}.get(precision)
        if retry and "tensorrt" not in row["ways"]:
            rows.insert(rows.index((model, batch, precision)) + 1, (model, batch, retry))
    text = markdown(done)
    (given.out / "precision.md").write_text(text)
    say("\n" + text + f"\n{time.monotonic() - begin:.0f} s in all")
    return 0 if any("scheme" in row and "tensorrt" in row["ways"] for row in done) else 1


def say(text: str) -> None:
    """Progress, at once: a pipe would hold it back."""
    print(text, flush=True)


def tell(row: Mapping[str, Any], seconds: float) -> None:
    """One row as it is done: figures, what is missing, and where the time went against FP16."""
    cells = table({"rows": [row]})[0]
    say(f"{seconds:4.0f} s: {' | '.join(c for c in cells if c != '–')}")
    for way, why in row["missing"].items():
        if not why.startswith("not measured"):
            say(f"        {way}: {why[:600]}")
    if kinds := row.get("kinds_ms"):
        say("        by kind: " + ", ".join(f"{k} {ms:.3f} ms" for k, ms in sorted(kinds.items(), key=lambda i: -i[1])))
    if against := row.get("against_fp16"):
        say(f"        layers {against['low_ms']:.3f} ms, of FP16 {against['fp16_ms']:.3f} ms; slower than FP16 here:")
        for part in against["lost"][:4]:
            where = part["nodes"][:60] or "no node"
            say(f"          +{part['lost_ms']:.4f} ms {where}: {part['low'][:110]} ({part['low_ms']:.4f} ms) against "
                f"{part['wide'][:70] or 'nothing'} ({part['wide_ms']:.4f} ms)")  # fmt: skip


def markdown(rows: list[Mapping[str, Any]]) -> str:
    """The rows as a table for the README."""
    lines = [
        "| model | batch | precision | eager FP16 | TensorRT | TensorRT, CUDA graph |",
        "|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join([*c[:4], *c[6:8]]) + " |" for c in table({"rows": rows})]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
