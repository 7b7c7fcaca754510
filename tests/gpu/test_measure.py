"""On a real GPU: engines run, outputs are right, the inspector agrees with the build log, files are told from engines."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.gpu import needs_gpu, target
from workbench import BuildConfig, Session
from workbench.core.errors import BuildError, ConfigError, WorkbenchError
from workbench.core.jobs import Job
from workbench.measure.measured import apply

pytestmark = needs_gpu
TASK = "workbench.compilers.tensorrt.profile:profile"
MODELS = ("residual_block", "attention", "layernorm_mlp")
REFERENCE = ("resnet50", "unet", "bert-base", "gpt2-small")


def measured(made: Any, folder: Path, **options: Any) -> dict[str, Any]:
    from workbench import compilers

    source = made.source()
    arguments = {
        **compilers.get(made.config.compiler).arguments(), "engine": str(made.path), "folder": str(folder),
        "built": dict(made.plan.compiler), "reference": str((source.original or source).path), "duration_ms": 200.0,
        "kernels": False, "ceilings": False,  # seconds each, and each has a test
        **options,
    }  # fmt: skip
    job = Job(TASK, {}, title="measure", time_limit=300)
    job.start(**arguments)
    return job.result()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_sample_runs_and_is_right(session: Session, tmp_path: Path, model: str, precision: str) -> None:
    engine = session.build(model, BuildConfig(precision=precision), **target(session))
    found = measured(engine, tmp_path, transfers=True)
    assert found["error"]["ok"]
    assert found["error"]["relative_l2"] < (0.01 if precision == "fp32" else 0.03)
    assert {"plain", "graph", "transfers"} <= set(found["latency"]), found["notes"]
    assert found["latency"]["transfers"]["median_ms"] >= found["latency"]["plain"]["median_ms"] * 0.9
    plan = apply(engine.plan, found)
    assert all(layer.time_ms is not None for layer in plan.layers if layer.launches)


@pytest.mark.parametrize("model", [*MODELS, *(pytest.param(m, marks=pytest.mark.long) for m in REFERENCE)])
def test_the_inspector_agrees_with_the_build_log(session: Session, tmp_path: Path, model: str) -> None:
    engine = session.build(model, **target(session))
    found = measured(engine, tmp_path, layer_iterations=0, graph=False)
    record = json.loads((engine.folder / "record.json").read_text())
    logged, told = record["layers"], found["inspector"]["layers"]
    assert [la["name"] for la in told] == [la["name"] for la in logged]
    for a, b in zip(told, logged, strict=True):
        for key in ("type", "nodes", "inputs", "outputs", "constants", "stream"):
            assert a[key] == b[key], (a["name"], key)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_file_that_is_no_engine_is_told_and_the_session_lives(session: Session, tmp_path: Path, damage: str) -> None:
    engine = session.build("residual_block", **target(session))
    data = engine.path.read_bytes()
    path = tmp_path / "engine"
    path.write_bytes({"cut": data[: len(data) // 2], "noise": bytes(range(256)) * 64, "empty": b""}[damage])
    with pytest.raises(WorkbenchError) as caught:  # BuildError, or WorkerCrashedError where the runtime dies of it
        measured(engine, tmp_path, engine=str(path))
    assert caught.value.hint
    assert session.engines[-1].plan.layers


def test_wrong_inputs_are_told(session: Session, tmp_path: Path) -> None:
    import numpy as np

    engine = session.build("residual_block", **target(session))
    np.savez(tmp_path / "wrong.npz", nobody=np.ones(3, "float32"))
    with pytest.raises(ConfigError, match="there is no input nobody"):
        measured(engine, tmp_path, inputs=str(tmp_path / "wrong.npz"))


def test_an_engine_of_another_version_is_told_before_it_is_touched(session: Session, tmp_path: Path) -> None:
    engine = session.build("residual_block", **target(session))
    with pytest.raises(BuildError, match="not portable between versions"):
        measured(engine, tmp_path, built={**engine.plan.compiler, "version": "0.0"})


@pytest.mark.long
@pytest.mark.parametrize(("model", "shape"), [("resnet50", "32x3x224x224"), ("unet", "1x3x256x256")])
def test_as_quick_as_a_bare_script(session: Session, tmp_path: Path, model: str, shape: str) -> None:
    """The same engine, timed here by the workbench and by a script of a few lines: within 3 percent."""
    engine = session.build(model, precision="fp16", shapes={"x": shape}, **target(session))
    bare, ours = [], []
    for _ in range(3):  # in turn, so that a drifting clock meets both
        document = measured(engine, tmp_path, reference=None, layer_iterations=0, duration_ms=500.0)
        ours.append(document["latency"]["graph"]["median_ms"])
        out = subprocess.run(
            [sys.executable, str(Path(__file__).parent / "bare_run.py"), str(engine.path), shape],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        bare.append(float(out))
    ratio = statistics.median(ours) / statistics.median(bare)
    print(
        f"{model} {shape} fp16: workbench {statistics.median(ours):.4f} ms, bare {statistics.median(bare):.4f} ms, {ratio:.3f}"
    )
    assert 0.97 <= ratio <= 1.03
