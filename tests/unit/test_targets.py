"""What is said of a target before anything is built for it, and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

from tests.support import needs_rtx
from tests.support.small_models import constant, mlp, model, node, save, value
from workbench import Session, doctor
from workbench.analysis.checks.engine_checks import reported_target
from workbench.compilers.config import BuildConfig
from workbench.compilers.tensorrt import flavour, rtx, targets
from workbench.core.errors import BuildError, ConfigError
from workbench.hardware import machine


@needs_rtx
def test_a_precision_that_a_target_lacks_is_refused_before_the_build(session: Session, tmp_path: Path) -> None:
    session.add(save(mlp(), tmp_path / "m.onnx"), name="m")
    work = session.engines.start("m", target="sm75", precision="bf16")
    with pytest.raises(ConfigError, match="sm75 has no BF16: BF16 needs sm80 or later") as info:
        work.result()
    assert info.value.code == "target-type"
    assert 'precision="fp16", or target="sm80" or later' in str(info.value.hint)
    assert "--precision fp16, or --target sm80 or later" in str(info.value.shell_hint)
    assert work.pid is None  # no worker was given anything to do


@needs_rtx
def test_the_present_gpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = rtx()
    for sm, fine in (("sm75", False), ("sm80", True), ("sm120", True)):
        monkeypatch.setattr(flavour, "gpus", lambda sm=sm: (machine.Gpu("Card", sm, 1, "1"),))
        asked = BuildConfig(targets="current", precision="bf16")
        if fine:
            assert compiler.complete(asked).target == "current"
        else:
            with pytest.raises(ConfigError, match="sm75 has no BF16"):
                compiler.complete(asked)
    assert compiler.complete(BuildConfig(targets="sm75", precision="fp16")).target == "sm75"


@needs_rtx
def test_the_doctor_says_what_users_report() -> None:
    found = {row["what"]: row for row in doctor.examine()["checks"]}
    row = found["target sm75"]
    assert row["state"] == "partly"
    for words in ("zeros", "4643", "issues 11 and 33", "no matrix products in FP32", "--precision fp16"):
        assert words in row["found"]


@pytest.mark.parametrize(
    ("compiler", "count"),
    [
        ({"name": "tensorrt_rtx", "target": "sm75"}, 1), ({"name": "tensorrt_rtx", "target": "sm75+sm89"}, 1),
        ({"name": "tensorrt_rtx", "target": "sm89"}, 0), ({"name": "tensorrt", "target": "sm75"}, 0),
        ({"name": "tensorrt_rtx", "target": "current", "gpu": {"sm": "sm75"}}, 1), ({"name": "tensorrt_rtx", "target": ""}, 0),
    ],
)  # fmt: skip
def test_the_check(compiler: dict[str, Any], count: int) -> None:
    found = reported_target(type("Plan", (), {"compiler": compiler})())
    assert len(found) == count
    for each in found:
        assert (each.kind, each.severity) == ("target-reports", "note")
        assert "4643" in each.message


@needs_rtx
def test_an_engine_for_turing_has_the_check(session: Session, tmp_path: Path) -> None:
    session.add(save(mlp(), tmp_path / "m.onnx"), name="m")
    session.build("m", target="sm75", precision="fp16")
    assert "target-reports" in session.checks(session.engines[-1])


def test_the_build_panel_says_so_while_the_target_is_chosen(session: Session) -> None:
    panel = session.panel("build")
    assert panel.reported.value == ""
    panel.targets.value = ("sm75", "sm89")
    assert "issues 11 and 33" in panel.reported.value
    panel.targets.value = ("sm89",)
    assert panel.reported.value == ""


def test_the_help_says_so(cli) -> None:
    shown = " ".join(cli("fusions", "--help").stdout.split())
    assert targets.REPORTED["sm75"] in shown


NUMPY = {"fp32": "float32", "fp16": "float16", "bf16": ml_dtypes.bfloat16}
QUANTIZED = {"int8": "int8", "int4": ml_dtypes.int4, "fp8": ml_dtypes.float8_e4m3fn, "fp4": ml_dtypes.float4_e2m1fn}
ONNX = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def typed(kind: str) -> Any:
    """A model of one type: a Relu, or weights that are dequantized to FP16 and added."""
    if kind in NUMPY:
        return model([node("Relu", ["x"], ["y"], "relu")], [value("x", [4, 16], ONNX[kind])], [value("y", [4, 16], ONNX[kind])], infer=False)  # fmt: skip
    data = constant("w", np.clip(np.arange(256).reshape(16, 16) % 7 - 3, -6, 6), QUANTIZED[kind])
    scale = constant("s", np.full((1, 16) if kind == "fp4" else 16, 0.1), "float16")
    more: dict[str, Any] = {"axis": 0, "block_size": 16} if kind == "fp4" else {"axis": 1}
    nodes = [node("DequantizeLinear", ["w", "s"], ["d"], "dq", **more), node("MatMul", ["x", "d"], ["y"], "mm")]
    f16 = TensorProto.FLOAT16
    return model(nodes, [value("x", [4, 16], f16)], [value("y", [4, 16], f16)], [data, scale], opset=23, infer=False)


@needs_rtx
@pytest.mark.parametrize("kind", targets.FIRST)
def test_the_table_of_types_is_what_tensorrt_builds(session: Session, tmp_path: Path, kind: str) -> None:
    """At both sides of the border that the table draws; other targets lie behind one of them."""
    session.add(save(typed(kind), tmp_path / "m.onnx"), name="m")
    offered = ["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"]
    first = targets.having([kind], offered)[0]
    session.build("m", compiler="tensorrt_rtx", target=first)
    before = [t for t in offered if not targets.has(t, kind)][-1:]
    for target in before:
        with pytest.raises(BuildError) as info:
            session.build("m", compiler="tensorrt_rtx", target=target)
        assert info.value.code == "target-type"
        assert f"{target} has no {kind.upper()}" in info.value.message
