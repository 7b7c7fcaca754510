"""On a real GPU: `Engine.run` and `Engine.open` with NumPy, CPU tensors and CUDA tensors; caches, refit, streaming."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import gone, wait_for
from tests.support.gpu import is_rtx, target
from workbench import BuildConfig, Session
from workbench.core.errors import ConfigError, WorkbenchError, WorkerCrashedError
from workbench.hardware.machine import gpus
from workbench.model.shape_profile import ShapeProfile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpus(), reason="no NVIDIA GPU: nvidia-smi is absent or lists none"),
]


def reference(engine: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(engine.source().path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def close(got: dict[str, Any], right: dict[str, np.ndarray]) -> None:
    assert list(got) == list(right)
    for name, value in right.items():
        found = np.asarray(got[name], dtype="float64")
        assert found.shape == value.shape
        assert np.linalg.norm(found - value) < 0.01 * np.linalg.norm(value), name


def given(running: Any, seed: int = 0) -> dict[str, np.ndarray]:
    return {n: random(shape, seed) for n, (_, shape) in running.inputs.items()}


@pytest.mark.parametrize("model", ["residual_block", "attention", "layernorm_mlp"])
def test_outputs_are_those_of_onnx_runtime(session: Session, model: str) -> None:
    engine = session.build(model, **target(session))
    with engine.open() as running:
        for seed in range(3):
            inputs = given(running, seed)
            close(running(inputs), reference(engine, inputs))
        pid = running.pid
    assert wait_for(lambda: gone(pid))
    close(engine.run(inputs), reference(engine, inputs))


def test_tensors_on_the_cpu_and_on_the_gpu(session: Session) -> None:
    import torch

    engine = session.build("residual_block", **target(session))
    with engine.open() as running:
        host = given(running)
        right = reference(engine, host)
        cpu = running({n: torch.from_numpy(a) for n, a in host.items()})
        assert {t.device.type for t in cpu.values()} == {"cpu"}
        close({n: t.numpy() for n, t in cpu.items()}, right)
        kept = []
        for seed in range(5):
            inputs = given(running, seed)
            gpu = {n: torch.from_numpy(a).cuda() for n, a in inputs.items()}
            kept.append((inputs, running(gpu)))
        bad = {n: torch.full_like(t, float("nan")) for n, t in gpu.items()}
        with pytest.raises(ConfigError, match="NaN"):
            running(bad)
        with pytest.raises(ConfigError, match="is float16"):
            running({n: t.half() for n, t in gpu.items()})
        turned = {n: t.flip(-1).transpose(-1, -2).contiguous().transpose(-1, -2) for n, t in gpu.items()}
        close({n: t.cpu() for n, t in running(turned).items()},
              reference(engine, {n: t.cpu().numpy() for n, t in turned.items()}))  # fmt: skip
    for inputs, outputs in kept:  # they outlive the worker: the memory is ours
        assert {t.device.type for t in outputs.values()} == {"cuda"}
        close({n: t.cpu().numpy() for n, t in outputs.items()}, reference(engine, inputs))


def test_calling_does_not_leak_memory_of_the_gpu(session: Session) -> None:
    import torch

    engine = session.build("residual_block", **target(session))
    with engine.open() as running:
        gpu = {n: torch.from_numpy(a).cuda() for n, a in given(running).items()}
        free = []
        for i in range(300):
            running(gpu)
            if i in (50, 299):
                torch.cuda.synchronize()
                free.append(torch.cuda.mem_get_info()[0])
        assert free[0] - free[1] < 32 << 20


def test_dynamic_shapes_and_two_profiles(session: Session, tmp_path: Path) -> None:
    from tests.support.small_models import mlp, save

    model = save(mlp("n"), tmp_path / "m.onnx")
    profiles = (ShapeProfile.parse(["x=1x8:2x8:4x8"]), ShapeProfile.parse(["x=8x8:16x8:32x8"]))
    engine = session.build(model, BuildConfig(profiles=profiles), **target(session))
    for profile, good, bad in ((0, (1, 2, 4), 8), (1, (8, 9, 32), 4)):
        with engine.open(profile) as running:
            for batch in good:
                inputs = {"x": random((batch, 8), batch)}
                close(running(inputs), reference(engine, inputs))
            with pytest.raises(ConfigError, match="has shape"):
                running({"x": random((bad, 8))})
            close(running(inputs), reference(engine, inputs))
    with pytest.raises(ConfigError, match="no shape profile 2"):
        engine.open(2)


def test_fp16(session: Session) -> None:
    engine = session.build("attention", precision="fp16", **target(session))
    with engine.open() as running:
        inputs = {n: random(shape).astype(dtype) for n, (dtype, shape) in running.inputs.items()}
        got = running(inputs)
    for name, value in reference(engine, inputs).items():
        assert np.linalg.norm(got[name].astype("f8") - value.astype("f8")) < 0.03 * np.linalg.norm(value.astype("f8"))


def test_a_crash_leaves_the_notebook_unharmed(session: Session) -> None:
    import os
    import signal

    engine = session.build("residual_block", **target(session))
    running = engine.open()
    inputs = given(running)
    os.kill(running.pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError):
        running(inputs)
    close(engine.run(inputs), reference(engine, inputs))


FILL = """
import sys, torch
kept = []
for size in (1 << 30, 1 << 26, 1 << 21):
    try:
        while True:
            kept.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    except RuntimeError:
        pass
print("full", flush=True)
sys.stdin.read()
"""


@pytest.mark.long
def test_a_gpu_that_another_process_fills(session: Session) -> None:
    """Told before the engine runs and while it is open; both live on once the other process has ended."""
    import subprocess
    import sys

    engine = session.build("residual_block", **target(session))
    with engine.open() as running:
        inputs = given(running)
        right = reference(engine, inputs)
        close(running(inputs), right)
        other = subprocess.Popen([sys.executable, "-c", FILL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "full\n"
            with pytest.raises(WorkbenchError, match="too little free memory") as caught:
                engine.run(inputs)
            assert caught.value.hint
            print(f"\na full GPU: {caught.value.message}")
            with pytest.raises(WorkbenchError, match="too little free memory"):
                session.measure.profile(engine, duration_ms=50)
        finally:
            other.communicate("")
        close(running(inputs), right)
    close(engine.run(inputs), right)


@pytest.mark.long
def test_compiled_kernels_are_kept(session: Session) -> None:
    """The first execution of a process, without and with what an earlier process compiled."""
    if not is_rtx():
        pytest.skip("full TensorRT compiles nothing when it runs")
    engine = session.build("resnet50", precision="fp16", **target(session))
    folder = engine.folder.parent.parent / "caches" / "runtime"
    cold, warm, size = [], [], 0
    for _ in range(3):
        for file in folder.glob("*"):
            file.unlink()
        with engine.open() as running:
            assert running.cached_bytes == 0
            inputs = {n: random(shape).astype(dtype) for n, (dtype, shape) in running.inputs.items()}
            running(inputs)
            cold.append(running.first_ms)
        with engine.open() as running:
            size = running.cached_bytes
            assert size > 0
            running(inputs)
            warm.append(running.first_ms)
    print(f"first execution of resnet50 fp16: {statistics.median(cold):.1f} ms without kept kernels, "
          f"{statistics.median(warm):.1f} ms with {size} bytes of them (measured, median of 3)")  # fmt: skip
    assert statistics.median(warm) < statistics.median(cold)


@pytest.mark.long
def test_a_call_holds_its_execution(session: Session) -> None:
    """NumPy arrays and CUDA tensors give the same outputs, and a call takes longer than the execution in the worker."""
    import torch

    engine = session.build("resnet50", precision="fp16", shapes={"x": "32x3x224x224"}, **target(session))
    with engine.open() as running:
        host = {n: random(shape).astype(dtype) for n, (dtype, shape) in running.inputs.items()}
        outputs = []
        for inputs in (host, {n: torch.from_numpy(a).cuda() for n, a in host.items()}):
            for _ in range(5):
                begin = time.perf_counter()
                found = running(inputs)
                assert (time.perf_counter() - begin) * 1e3 >= running.last_ms > 0
            outputs.append({n: torch.as_tensor(a).cpu().numpy() for n, a in found.items()})
    assert {n: a.tolist() for n, a in outputs[0].items()} == {n: a.tolist() for n, a in outputs[1].items()}


def test_refit(session: Session, tmp_path: Path) -> None:
    """Other weights from an ONNX file and by name; both equal ONNX Runtime on the changed model."""
    import onnx
    from onnx import numpy_helper

    from tests.support.small_models import mlp, save

    path = save(mlp("n"), tmp_path / "m.onnx")
    try:
        engine = session.build(path, refit=True, shapes={"x": "4x8"}, **target(session))
    except WorkbenchError as error:
        pytest.skip(f"this flavour builds no engine that can be refitted here: {error.message}")
    changed = onnx.load(path)
    weights = {}
    for tensor in changed.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size > 1:
            weights[tensor.name] = value * np.float32(1.5)
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    onnx.save(changed, tmp_path / "changed.onnx")
    x = {"x": random((4, 8))}
    import dataclasses

    import onnxruntime

    other = onnxruntime.InferenceSession(str(tmp_path / "changed.onnx"), providers=["CPUExecutionProvider"])
    right = dict(zip([o.name for o in other.get_outputs()], other.run(None, x), strict=True))
    for given_weights in (tmp_path / "changed.onnx", weights):
        folder = tmp_path / f"refitted-{isinstance(given_weights, dict)}" / "k"
        folder.mkdir(parents=True)
        for file in ("plan.json", "build.json"):
            (folder / file).write_bytes((engine.folder / file).read_bytes())
        engine.refit(given_weights, folder / "engine")
        close(dataclasses.replace(engine, folder=folder).run(x), right)
    close(engine.run(x), reference(engine, x))  # the original is as it was


def test_weight_streaming(session: Session) -> None:
    try:
        engine = session.build("layernorm_mlp", weight_streaming=True, **target(session))
    except WorkbenchError as error:
        pytest.skip(f"this flavour builds no engine that streams weights here: {error.message}")
    try:
        running = engine.open(weight_budget=0)
    except ConfigError as error:
        pytest.skip(error.message)
    with running:
        inputs = given(running)
        close(running(inputs), reference(engine, inputs))
