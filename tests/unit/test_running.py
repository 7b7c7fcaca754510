"""`Engine.open` and `Engine.run`: a real worker process, a pretended engine and GPU in it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import psutil
import pytest

from tests.support import ROOT, fake_gpu, gone, needs_torch, wait_for
from tests.support.fake_gpu import Pretended, pretend
from tests.support.fake_runner import CRASH, HANG
from tests.support.fake_tensorrt import VERSIONS, State
from workbench import BuildConfig
from workbench.compilers.tensorrt.flavour import TensorRT
from workbench.compilers.tensorrt.runtime import Runner
from workbench.core.errors import (
    CancelledError,
    CompilerUnavailableError,
    ConfigError,
    WorkbenchError,
    WorkerCrashedError,
)
from workbench.core.shared_arrays import ReceivedArrays, SentArrays
from workbench.hardware.machine import Gpu, gpus
from workbench.measure import running as module
from workbench.measure import serve as serving
from workbench.measure.running import Running

pytestmark = pytest.mark.tiny
X = np.arange(2 * 3 * 64, dtype="float32").reshape(2, 3, 8, 8)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    """What `Running` asks of an `Engine`, in a store's folder."""
    folder = tmp_path / "builds" / "k"
    folder.mkdir(parents=True)
    (folder / "engine").write_bytes(b"e" * 200)
    compiler = {"name": "tensorrt_rtx", "version": "1.7", "target": "sm89"}
    return SimpleNamespace(
        model="pretended", key="k", folder=folder, path=folder / "engine", plan=SimpleNamespace(compiler=compiler),
        config=BuildConfig(compiler="tensorrt_rtx"),
    )  # fmt: skip


def opened(engine: Any, *arguments: Any, version: str = "rtx", **options: Any) -> Running:
    """`Running` with a worker that serves a pretended engine of a pretended TensorRT."""
    with mock.patch.object(TensorRT, "run_task", f"tests.support.fake_runner:on_{version}"):
        return Running(engine, *arguments, **options)


def right(x: np.ndarray) -> np.ndarray:
    return np.resize(x + 1, (x.shape[0], 8, 8, 8))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_is_called_again_and_again(engine: Any, version: str) -> None:
    with opened(engine, version=version) as running:
        assert running.inputs == {"x": ("float32", (-1, 3, 8, 8))}
        assert running.outputs == {"y": ("float32", (-1, 8, 8, 8))}
        first = running({"x": X})
        assert first["y"].dtype == np.float32
        assert np.array_equal(first["y"], right(X))
        more = np.concatenate([X, -X])  # larger: the shared memory grows
        assert np.array_equal(running({"x": more})["y"], right(more))
        assert np.array_equal(running({"x": X[:1, :, ::-1]})["y"], right(X[:1, :, ::-1]))  # not contiguous
        assert np.array_equal(first["y"], right(X))  # the results are the caller's own
        assert running.first_ms is not None
        pid = running.pid
        assert not gone(pid)
    assert wait_for(lambda: gone(pid))
    running.close()
    with pytest.raises(WorkbenchError, match="was closed"):
        running({"x": X})


def test_wrong_inputs_are_told_and_the_next_call_is_served(engine: Any) -> None:
    with opened(engine) as running:
        for given, said in (
            ({"z": X}, "there is no input z; input x is missing"),
            ({}, "input x is missing"),
            ({"x": X.astype("float16")}, "is float16; the engine takes float32"),
            ({"x": [1.5, 2.5]}, "is float64; the engine takes float32"),
            ({"x": X[0]}, r"has shape \[3, 8, 8\]"),
            ({"x": np.concatenate([X, X, X])}, r"has shape \[6, 3, 8, 8\]"),
            ({"x": np.where(X == 5, np.nan, X)}, "NaN or infinity"),
            ({"x": np.array(["text"])}, "an engine takes numbers"),
            ({"x": np.array([None])}, "an engine takes numbers"),
        ):
            with pytest.raises(ConfigError, match=said):
                running(given)
            assert np.array_equal(running({"x": X})["y"], right(X))


def test_nan_may_be_wanted(engine: Any) -> None:
    with opened(engine, finite=False) as running:
        assert np.isnan(running({"x": np.full_like(X, np.nan)})["y"]).all()


@needs_torch
def test_cpu_tensors_give_cpu_tensors(engine: Any) -> None:
    import torch

    x = torch.from_numpy(X).requires_grad_()
    with opened(engine) as running:
        y = running({"x": x})["y"]
        assert isinstance(y, torch.Tensor)
        assert np.array_equal(y.numpy(), right(X))
        with pytest.raises(ConfigError, match="is bfloat16; the engine takes float32"):
            running({"x": x.bfloat16()})
        with pytest.raises(ConfigError, match="The inputs are mixed: NumPy and torch on the CPU"):
            running({"x": x, "z": X})
        with pytest.raises(ConfigError, match="is on meta"):
            running({"x": x.to("meta")})


def test_a_crash_is_told_and_a_new_one_opens(engine: Any) -> None:
    running = opened(engine)
    bad = X.copy()
    bad.flat[0] = CRASH
    for _ in range(2):  # and it stays dead
        with pytest.raises(WorkerCrashedError, match="SIGABRT"):
            running({"x": bad})
    running.close()
    with opened(engine) as again:
        assert np.array_equal(again({"x": X})["y"], right(X))
        os.kill(again.pid, signal.SIGKILL)
        with pytest.raises(WorkerCrashedError, match="SIGKILL"):
            again({"x": X})


def test_an_interrupt_ends_what_hangs(engine: Any) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    bad = X.copy()
    bad.flat[0] = HANG
    try:
        with opened(engine) as running:
            running({"x": X})
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with pytest.raises(KeyboardInterrupt):
                running({"x": bad})
            assert wait_for(lambda: gone(running.pid))
            with pytest.raises(CancelledError):
                running({"x": X})
    finally:
        signal.signal(signal.SIGALRM, before)


def test_threads_take_turns(engine: Any) -> None:
    with opened(engine) as running, ThreadPoolExecutor(4) as pool:
        inputs = [X + i for i in range(40)]
        for x, found in zip(inputs, pool.map(lambda x: running({"x": x}), inputs), strict=True):
            assert np.array_equal(found["y"], right(x))


def test_tensors_of_the_other_process_are_used_where_they_lie(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's side of CUDA tensors, in this process: what arrives is bound, not copied, and let go."""
    device = Pretended()
    runner_engine = fake_gpu.Engine("rtx", device)
    trt = pretend("rtx", runner_engine, State(""), monkeypatch.setitem)
    runner = Runner(trt, engine.path, device)
    shapes = {"do": "shapes", "inputs": {"x": [[2, 3, 8, 8], "float32"]}}
    answer = serving.answered(shapes, runner, ReceivedArrays(), SentArrays(), True)
    assert answer == {"outputs": {"y": ((2, 8, 8, 8), "float32")}}
    with pytest.raises(ConfigError, match="is float16"):
        serving.answered(
            {**shapes, "inputs": {"x": [[2, 3, 8, 8], "float16"]}}, runner, ReceivedArrays(), SentArrays(), True
        )
    y = np.zeros((2, 8, 8, 8), "float32")
    monkeypatch.setattr(serving.pickle, "loads", lambda data: ({"x": X}, {"y": y}))
    answer = serving.answered({"do": "tensors", "tensors": ""}, runner, ReceivedArrays(), SentArrays(), True)
    assert answer["ms"] > 0
    assert np.array_equal(y, right(X))
    assert runner.bound == {}

    def refused(data: bytes) -> None:
        raise RuntimeError("CUDA error: invalid resource handle\nmore")

    monkeypatch.setattr(serving.pickle, "loads", refused)
    with pytest.raises(ConfigError, match="could not be shared with the worker: CUDA error: invalid resource handle"):
        serving.answered({"do": "tensors", "tensors": ""}, runner, ReceivedArrays(), SentArrays(), True)


def test_it_closes_when_nobody_refers_to_it(engine: Any) -> None:
    running = opened(engine)
    pid = running.pid
    del running
    gc.collect()
    assert wait_for(lambda: gone(pid))


def test_a_profile_that_is_not_there_is_told(engine: Any) -> None:
    with opened(engine, 1) as running:
        running({"x": X})
    with pytest.raises(ConfigError, match="no shape profile 2"):
        opened(engine, 2)


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU here")
def test_without_a_gpu_it_is_told(engine: Any) -> None:
    with pytest.raises(CompilerUnavailableError, match="needs an NVIDIA GPU"):
        Running(engine)


PARENT = """
import sys
from pathlib import Path
from types import SimpleNamespace
from workbench import BuildConfig
from workbench.compilers.tensorrt.flavour import TensorRT
from workbench.measure.running import Running
folder = Path(sys.argv[1])
plan = SimpleNamespace(compiler={"name": "tensorrt_rtx", "version": "1.7", "target": "sm89"})
engine = SimpleNamespace(model="m", key="k", folder=folder, path=folder / "engine", plan=plan,
                         config=BuildConfig(compiler="tensorrt_rtx"))
TensorRT.run_task = sys.argv[2]
running = Running(engine)
print(running.pid, flush=True)
sys.stdin.read()
"""


def test_a_parent_that_dies_takes_it_along(engine: Any) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(engine.folder), "tests.support.fake_runner:on_rtx"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    assert wait_for(lambda: gone(pid))


def test_compiled_kernels_are_kept_for_this_gpu_driver_version_and_engine(
    engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.runtime_cache(engine) is None or gpus()
    names = set()
    for gpu, driver, version, key in (
        ("A", "1", "1.7", "k"), ("B", "1", "1.7", "k"), ("A", "2", "1.7", "k"), ("A", "1", "1.6", "k"),
        ("A", "1", "1.7", "l"),
    ):  # fmt: skip
        monkeypatch.setattr(module, "gpus", lambda gpu=gpu, driver=driver: (Gpu(gpu, "sm89", 1, driver),))
        engine.plan.compiler["version"], engine.key = version, key
        names.add(module.runtime_cache(engine))
    assert len(names) == 5
    (place,) = {n.parent for n in names if n}
    assert place == tmp_path / "caches" / "runtime"
    with opened(engine) as running:
        assert running.cached_bytes == 0
        running({"x": X})
        (file,) = place.iterdir()
        assert file.read_bytes() == b"k\0"
        running({"x": X})
    assert file.read_bytes() == b"k\0\0"  # closing keeps what came later
    with opened(engine) as running:
        assert running.cached_bytes == 3
        assert np.array_equal(running({"x": X})["y"], right(X))
    file.write_bytes(b"of another machine")
    with opened(engine) as running:
        assert running.cached_bytes == 0
        running({"x": X})
    assert file.read_bytes() == b"k\0"
    file.unlink()
    with opened(engine, version="11") as running:  # a flavour without such a cache
        running({"x": X})
    assert not file.exists()


def test_shared_memory_holds_what_was_put() -> None:
    import ml_dtypes

    shared, seen = SentArrays(), ReceivedArrays()
    arrays = {
        "a": np.arange(5, dtype=">i4"), "b": np.array(True), "c": np.zeros((0, 3), "float16"),
        "d": np.ones((2, 2), ml_dtypes.bfloat16), "e": np.arange(10**6, dtype="int64"),
    }  # fmt: skip
    for some in (["a"], ["b", "c"], list(arrays)):
        found = seen.get(shared.put({n: arrays[n] for n in some}))
        assert list(found) == some
        for name in some:
            assert found[name].shape == arrays[name].shape
            assert np.array_equal(found[name].astype("float64"), arrays[name].astype("float64"))
    shared.close()
    assert found["e"][-1] == 10**6 - 1  # mapped memory outlives its owner


def test_shared_memory_goes_with_its_owner() -> None:
    shared = SentArrays()
    shared.put({"x": np.ones(4, "float32")})
    file = shared._file
    assert os.fstat(file).st_size
    del shared
    gc.collect()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(file)
