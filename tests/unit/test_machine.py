"""The GPUs of a machine, as nvidia-smi tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.hardware import machine

pytestmark = pytest.mark.tiny
TWO = """\
NVIDIA RTX A2000, 8.6, 6138, 580.1, GPU-1111-aaaa
NVIDIA GB10, 12.1, [N/A], 580.1, GPU-2222-bbbb
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A nvidia-smi that prints what the file beside it holds."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat {tmp_path / 'told'}\n")
    tool.chmod(0o755)
    (tmp_path / "told").write_text(TWO)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "gpus", machine.gpus.__wrapped__)
    return tmp_path / "told"


def test_a_gpu_without_memory_of_its_own_is_one(told: Path) -> None:
    first, second = machine.gpus()
    assert (first.name, first.sm, first.memory, first.driver) == ("NVIDIA RTX A2000", "sm86", 6138 << 20, "580.1")
    assert (second.sm, second.memory) == ("sm121", 0)
    told.write_text("Failed to initialize NVML: Driver/library version mismatch\n")
    assert machine.gpus() == ()


@pytest.mark.parametrize(
    ("wanted", "names"),
    [("1", ["GB10"]), ("1,0", ["GB10", "A2000"]), ("GPU-2222", ["GB10"]), ("0,7,1", ["A2000"]), ("", []), ("-1", []),
     ("GPU-", []), ("MIG-1234", ["A2000", "GB10"])],
)  # fmt: skip
def test_only_those_that_cuda_may_see(
    told: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", wanted)
    assert [gpu.name.split()[-1] for gpu in machine.gpus()] == names
