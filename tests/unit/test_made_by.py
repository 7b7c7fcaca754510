"""What a library made is kept by its version: another one makes it anew, the old one's is found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.small_models import net, save
from workbench import Session
from workbench.core.errors import CompilerUnavailableError
from workbench.core.jobs import Job
from workbench.hardware import machine
from workbench.hardware.machine import installed, made_by
from workbench.model import Model
from workbench.passes.cast import cast
from workbench.passes.place_qdq import fix
from workbench.precision.accuracy import accuracy
from workbench.precision.calibration import Calibration
from workbench.precision.quantize import quantize

DATA = {"x": np.random.default_rng(0).standard_normal((16, 8, 8, 8)).astype(np.float32)}
OnJob = Callable[[Job], None]


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], None]:
    """Pretend another version of a module, or that it is not installed."""
    real = machine.installed

    def pretend(module: str, version: str | None) -> None:
        monkeypatch.setattr(machine, "installed", lambda name: version if name == module else real(name))

    return pretend


def test_versions_are_found_without_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    assert installed("onnx") == onnx.__version__
    assert installed("no_such_module") is None
    assert made_by("onnx", "onnx_ir") == f"onnx {onnx.__version__}, onnx_ir {installed('onnx_ir')}"
    with pytest.raises(CompilerUnavailableError, match="no_such_module is not installed") as info:
        made_by("onnx", "no_such_module")
    assert info.value.hint == "pip install no_such_module"
    # A module that comes in a package of another name, and one that no package brings.
    (tmp_path / "lone_module.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "gpu_module.py").write_text("raise RuntimeError('imported')\n")
    info_folder = tmp_path / "gpu_module_for_gpus-7.5.dist-info"
    info_folder.mkdir()
    (info_folder / "METADATA").write_text("Metadata-Version: 2.1\nName: gpu-module-for-gpus\nVersion: 7.5\n")
    (info_folder / "top_level.txt").write_text("gpu_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed("gpu_module") == "gpu-module-for-gpus 7.5"
    assert installed("lone_module") == "unknown"


def by_onnxruntime(model: Model, session: Session, on_job: OnJob) -> object:
    return quantize(model, session.store, data=DATA, library="onnxruntime", rest="fp32", on_job=on_job).path


def by_the_workbench(model: Model, session: Session, on_job: OnJob) -> object:
    return quantize(model, session.store, data=DATA, on_job=on_job).path


def casting(model: Model, session: Session, on_job: OnJob) -> object:
    return cast(model, "bf16", session.store, on_job=on_job).path


def moving(model: Model, session: Session, on_job: OnJob) -> object:
    low = quantize(model, session.store, data=DATA, library="onnxruntime", rest="fp32")
    return fix(low, session.store, on_job=on_job).path


def measuring(model: Model, session: Session, on_job: OnJob) -> object:
    return accuracy(model, {"same": model}, session.store, data=DATA, on_job=on_job).models["same"]["relative_l2"]


@pytest.mark.parametrize(
    ("make", "by"),
    [
        (by_onnxruntime, "onnxruntime"), (by_the_workbench, "onnxruntime"), (by_the_workbench, "onnx"),
        (casting, "onnx_ir"), (moving, "onnx"), (measuring, "onnxruntime"),
    ],
)  # fmt: skip
def test_another_version_makes_it_anew(
    session: Session, tmp_path: Path, other: Callable[[str, str | None], None],
    make: Callable[[Model, Session, OnJob], object], by: str,
) -> None:  # fmt: skip
    model = session.add(save(net(), tmp_path / "net.onnx"))
    jobs: list[Job] = []
    first = make(model, session, jobs.append)
    assert make(model, session, jobs.append) == first
    assert len(jobs) == 1
    now = installed(by)
    other(by, "99.0")
    make(model, session, jobs.append)
    assert len(jobs) == 2
    other(by, now)
    assert make(model, session, jobs.append) == first
    assert len(jobs) == 2


def test_a_calibration_given_needs_none_of_onnxruntimes_versions(
    session: Session, tmp_path: Path, other: Callable[[str, str | None], None]
) -> None:
    model = session.add(save(net(), tmp_path / "net.onnx"))
    found = session.precision.calibrate(model, DATA)
    before = Calibration.key(model.sha256(session.store), "d", ["x"])
    jobs: list[Job] = []
    first = quantize(model, session.store, data=found, on_job=jobs.append)
    other("onnxruntime", "99.0")
    assert Calibration.key(model.sha256(session.store), "d", ["x"]) != before
    assert quantize(model, session.store, data=found, on_job=jobs.append).path == first.path
    assert len(jobs) == 1


def test_samples_are_exported_again_by_another_torch(
    session: Session, other: Callable[[str, str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.model import sources

    keys: list[str] = []
    monkeypatch.setattr(sources, "_exported", lambda o, s, n, p, key, *more: keys.append(key))
    for version in ("1.0", "2.0", "1.0"):
        other("torch", version)
        sources.resolve("resnet50", session.store)
    assert keys[0] == keys[2] != keys[1]
    other("onnxscript", None)
    with pytest.raises(
        CompilerUnavailableError, match="exported from PyTorch, and onnxscript is not installed"
    ) as info:
        sources.resolve("resnet50", session.store)
    assert "trt-workbench[torch]" in str(info.value.hint)
