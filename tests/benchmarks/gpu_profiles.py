"""Profiles on a machine with a GPU: latency with clocks and energy, kernels, ceilings, how far estimates are, dynamic shapes.

    python3 tests/benchmarks/gpu_profiles.py OUT_FOLDER [--seconds 450]

No step is begun after `--seconds`. Plain Python, no test runner. Writes OUT_FOLDER/profiles.json after each step; a step that fails is told there and
does not take the others with it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from workbench import Session, __version__
from workbench.analysis import roofline
from workbench.hardware.devices import DeviceSpec, device
from workbench.hardware.machine import machine

CASES = (
    ("resnet50", "fp16", {"x": "1x3x224x224"}),
    ("resnet50", "fp16", {"x": "32x3x224x224"}),
    ("bert-base", "fp16", {"input_ids": "1x128", "attention_mask": "1x128"}),
    ("bert-base", "fp16", {"input_ids": "32x128", "attention_mask": "32x128"}),
    ("unet", "fp16", {"x": "32x3x256x256"}),
    ("gpt2-small", "fp16", {"input_ids": "32x128"}),
)
SPREAD = {"x": "1x3x224x224:8x3x224x224:32x3x224x224"}


def profiled(session: Session, model: str, precision: str, shapes: dict[str, str]) -> dict[str, Any]:
    """One engine, measured whole, without what is long: layers in a dozen, no inspector."""
    options: dict[str, Any] = {"precision": precision, "shapes": shapes}
    engine = session.build(model, **options)
    found = session.measure.profile(engine, transfers=True)
    plan = engine.measured
    errors: list[dict[str, Any]] = []
    if found["ceilings"]:
        reached = DeviceSpec(**{k: v for k, v in found["ceilings"].items() if k != "size"})
        errors.append(roofline.estimate_error(plan, reached))
    try:
        errors.append(roofline.estimate_error(plan, device(found["device"]["name"].replace("80GB HBM3", "SXM"))))
    except Exception as error:  # noqa: BLE001 - a card that is not in the table has no datasheet estimate
        errors.append({"missing": str(error)})
    kept = (
        "latency",
        "first_ms",
        "error",
        "memory",
        "clocks",
        "energy",
        "ceilings",
        "notes",
        "shapes",
        "device",
        "compiler",
    )
    kernels = found["kernels"] or {"rows": [], "joined": ""}
    return {
        **{key: found[key] for key in kept},
        "engine_bytes": engine.bytes, "layers": len(plan.layers), "launches": plan.summary["launches_after"],
        "sum_ms": plan.facts["measured"]["sum_ms"], "estimate_error": errors,
        "slowest": sorted(([la.title, la.time_ms] for la in plan.layers if la.time_ms), key=lambda r: -r[1])[:12],
        "kernels": {"count": len(kernels["rows"]), "joined": kernels["joined"], "rows": kernels["rows"][:60]},
        "compatibility": [[f.what, f.ok, f.text] for f in engine.compatibility()],
    }  # fmt: skip


def main(out: Path, seconds: float) -> None:
    """Every step, each kept as soon as it is done."""
    out.mkdir(parents=True, exist_ok=True)
    session = Session("gpu-profiles")
    document: dict[str, Any] = {
        "schema": "workbench.gpu-profiles/1", "machine": machine(), "version": __version__, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    start = time.monotonic()

    def step(name: str, work: Callable[[], Any]) -> None:
        if time.monotonic() - start > seconds:
            print(f"{name}: no time left", flush=True)
            return
        begin = time.monotonic()
        try:
            document[name] = work()
        except Exception as error:  # noqa: BLE001 - the other steps go on
            traceback.print_exc()
            document[name] = {"missing": f"{type(error).__name__}: {error}"}
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
        (out / "profiles.json").write_text(json.dumps(document, indent=1, default=str))

    # TensorRT for RTX times nothing while it builds: several at once.
    wanted = [*CASES, ("resnet50", "fp16", SPREAD), ("resnet50", "fp16", {"x": "8x3x224x224"})]
    with ThreadPoolExecutor(len(wanted)) as pool:
        list(pool.map(lambda case: session.build(case[0], precision=case[1], shapes=case[2]), wanted))
    print(f"engines built: {time.monotonic() - start:.0f} s", flush=True)
    step(
        "dynamic overhead resnet50 fp16",
        lambda: session.measure.dynamic("resnet50", precision="fp16", shapes=SPREAD, measure={"ceilings": False}),
    )

    def sweep() -> Any:
        engine = session.build("resnet50", precision="fp16", shapes=SPREAD)
        found = session.measure.profile(
            engine, batches=[1, 2, 4, 8, 16, 32], ceilings=False, kernels=False, duration_ms=300.0
        )
        return found["sweep"]

    step("sweep resnet50 fp16", sweep)
    for model, precision, shapes in CASES:
        at = " ".join(shapes.values())
        step(f"{model} {precision} {at}", lambda m=model, p=precision, s=shapes: profiled(session, m, p, s))
    session.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=450.0)
    given = parser.parse_args()
    main(given.out, given.seconds)
