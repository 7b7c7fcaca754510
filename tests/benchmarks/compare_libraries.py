"""The workbench's placement of Q/DQ beside ModelOpt's and ONNX Runtime's: kernels, bytes, requantizations, error.

    python tests/benchmarks/compare_libraries.py

Needs torch, tensorrt_rtx and `workbench env create modelopt`; no GPU. Prints a table; plans are for sm89, errors are
ONNX Runtime's on the CPU, and the models have random weights, so that an error shows a placement and no product.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from workbench import Model, Session
from workbench.core.errors import WorkbenchError
from workbench.model.export import load_sample
from workbench.model.sample_models import sample_folder
from workbench.passes.cast import cast
from workbench.precision.accuracy import accuracy
from workbench.precision.audit import audit
from workbench.precision.modelopt import autocast

SAMPLES = 32


def models(session: Session) -> dict[str, tuple[Model, Any]]:
    """The models with their data: a BERT of four layers, and resnet50."""
    import torch

    rng = np.random.default_rng(0)
    module, (ids, mask) = load_sample(str(sample_folder() / "bert_base.py"))
    torch.manual_seed(0)
    small = type(module)(vocabulary=1000, layers=4).eval()
    bert = session.add(small, (ids % 1000, mask), name="bert, 4 layers")
    masks = np.repeat(mask.numpy()[None], SAMPLES, axis=0)
    words = {"input_ids": rng.integers(0, 1000, (SAMPLES, 1, 128)), "attention_mask": masks}
    images = rng.standard_normal((SAMPLES, 1, 3, 224, 224)).astype(np.float32)
    return {"bert, 4 layers": (bert, words), "resnet50": (session.add("resnet50"), images)}


def main() -> None:
    """Print the table."""
    session = Session("compare-libraries")
    print("| model | way | kernels | fused steps | requantizations | double | stores FP32 | moved | error | made in |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, (model, data) in models(session).items():
        few = {k: v[:8] for k, v in data.items()} if isinstance(data, dict) else data[:8]

        def low(model: Model = model, data: Any = data, **options: Any) -> Callable[[], Model]:
            return lambda: session.precision.quantize(model, data, **options)

        ways: dict[str, Callable[[], Model]] = {
            "INT8, workbench": low(to="int8"),
            "INT8, ModelOpt": low(to="int8", library="modelopt"),
            "INT8, ONNX Runtime": low(to="int8", library="onnxruntime", rest="fp32", weights="channel"),
            "FP8, workbench": low(to="fp8"),
            "FP8, ModelOpt": low(to="fp8", library="modelopt"),
            "FP16, workbench": lambda model=model: cast(model, "fp16", session.store),  # type: ignore[misc]
            "FP16, ModelOpt AutoCast": lambda model=model: autocast(model, "fp16", session.store),  # type: ignore[misc]
        }
        for way, make in ways.items():
            begin = time.perf_counter()
            try:
                made = make()
                seconds = time.perf_counter() - begin
                f = audit(session.build(made, target="sm89").plan).figures
            except WorkbenchError as error:
                print(f"| {name} | {way} | {error.message.splitlines()[0][:160]} |", flush=True)
                continue
            error_l2 = float(accuracy(model, {way: made}, session.store, data=few).to_frame()["relative_l2"].iloc[-1])
            cells = [f["kernels"], f["fused_steps"], f["requantizations"], f["double_requantization"], f["wide_output"]]
            print(
                f"| {name} | {way} | {' | '.join(map(str, cells))} | {f['bytes'] / 1e6:.1f} MB | {error_l2:.4f} | "
                f"{seconds:.0f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
