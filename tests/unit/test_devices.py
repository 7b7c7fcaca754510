"""GPUs, architectures and targets: what the table holds, and how people name them."""

from __future__ import annotations

import pytest

from workbench.core.errors import ConfigError
from workbench.hardware.devices import ARCHITECTURES, DEVICES, device
from workbench.hardware.target import CPU, CURRENT, GPUS, Target, known_targets

pytestmark = pytest.mark.tiny


def test_each_gpu_has_a_source_and_rates_in_order() -> None:
    for name, gpu in DEVICES.items():
        assert gpu.source.startswith("NVIDIA"), name
        assert not gpu.measured
        assert 1e11 < gpu.bandwidth < 1e13, name
        p = gpu.peaks
        assert set(p) <= {"fp32", "tf32", "fp16", "bf16", "int8", "fp8"}
        order = [p[k] for k in ("fp32", "tf32", "fp16", "int8") if k in p]
        assert order == sorted(order), name
        assert p.get("bf16", p.get("fp16")) == p.get("fp16")
        assert ("fp8" in p) <= (Target.parse(gpu.sm).number >= 89), name


def test_each_architecture_is_represented_by_a_gpu_of_its_own() -> None:
    assert {gpu.sm for gpu in DEVICES.values()} == {a.arch for a in ARCHITECTURES.values() if a.gpu is not None}
    assert all(DEVICES[a.gpu].sm == a.arch for a in ARCHITECTURES.values() if a.gpu is not None)


def test_gpus_are_found_by_any_of_their_names() -> None:
    assert device("NVIDIA A100 80GB PCIe") is DEVICES["a100"]
    assert device("NVIDIA A100-SXM4-80GB") is DEVICES["a100-sxm"]
    assert device("NVIDIA H100 80GB HBM3") is DEVICES["h100"]
    assert device("NVIDIA H100 PCIe") is DEVICES["h100-pcie"]
    assert device("NVIDIA H200") is DEVICES["h200"]
    assert device("NVIDIA GB10") is DEVICES["spark"]
    assert device("sm89") is DEVICES["rtx-4090"]
    assert device(" H100 ") is DEVICES["h100"]


def test_values_are_those_of_the_datasheets() -> None:
    t4 = DEVICES["t4"]
    assert (t4.bandwidth, t4.peaks) == (320e9, {"fp32": 8.1e12, "fp16": 65e12, "int8": 130e12})
    assert DEVICES["h100"].peak("float16") == 989.4e12
    assert DEVICES["h100"].peak("float32") == 494.7e12
    assert DEVICES["h100"].peak("float32", tf32=False) == 67e12


@pytest.mark.parametrize("name", ["sm50", "sm103", "rtx-9999", ""])
def test_a_gpu_without_datasheet_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        device(name)
    assert caught.value.code == "unknown-gpu"
    assert "rtx-3090" in str(caught.value.hint)


@pytest.mark.parametrize("text", known_targets())
def test_a_target_is_written_as_it_is_typed(text: str) -> None:
    target = Target.parse(text)
    assert str(target) == text
    assert Target.parse(f" {text.upper()} ") == target
    assert Target.recorded(text) == target
    assert target.label.startswith(text)


def test_targets_have_a_kind_and_an_architecture() -> None:
    assert (CPU.kind, CPU.arch, CPU.number) == ("cpu", "host", None)
    assert (CURRENT.kind, CURRENT.arch, CURRENT.number) == ("gpu", "current", None)
    assert Target("gpu", "sm121").number == 121
    assert Target("gpu", "sm89").label == "sm89 (RTX 40)"
    assert {str(t) for t in GPUS} >= {"sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm120", "sm121"}


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("sm99", "sm100"), ("sm88", "sm87"), ("sm1000", "sm121"), ("curent", "current"), ("cpus", "cpu"), ("89", "sm89"),
     ("", "sm75"), ("host", None)],
)  # fmt: skip
def test_an_unknown_target_is_refused_with_the_nearest(text: str, nearest: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        Target.parse(text)
    assert caught.value.code == "unknown-target"
    assert nearest is None or nearest in caught.value.details["nearest"]
    assert all(name in known_targets() for name in caught.value.details["nearest"])


def test_a_stored_target_may_be_unknown() -> None:
    assert str(Target.recorded("sm42")) == "sm42"
