"""Old requests become new ones, and what has changed is said."""

from __future__ import annotations

import ast

import pytest

from workbench.errors import ConfigError
from workbench.precision.migrate import migrate

pytestmark = pytest.mark.tiny


@pytest.mark.parametrize(
    ("request_", "parts", "note"),
    [
        ("trtexec --onnx=m.onnx --fp16", ["precision='fp16'", "'m.onnx'"], "permission"),
        ("trtexec --onnx=m.onnx --int8 --fp16 --calib=c.cache", ["to='int8'", "rest='fp16'"], "calibrate again"),
        ("config.set_flag(trt.BuilderFlag.INT8)", ["to='int8'", "rest='fp16'"], "slower than FP16"),
        ("config.int8_calibrator = MyCal(trt.IInt8MinMaxCalibrator)", ["method='minmax'"], "audit"),
        ("trt.CalibrationAlgoType.ENTROPY_CALIBRATION_2", ["method='entropy'"], "audit"),
        ("--best --onnx=a.onnx", ["precision='fp16'"], "timing"),
        ("build_engine(model, fp16=True)", ["precision='fp16'"], "permission"),
        ("trtexec --onnx=m.onnx --fp8 --bf16", ["to='fp8'", "rest='bf16'"], "audit"),
        ("--int8 --layerPrecisions=conv1:fp32", ["to='int8'"], "keep="),
        ("BuilderFlag.BF16 NetworkDefinitionCreationFlag.EXPLICIT_BATCH", ["precision='bf16'"], "EXPLICIT_BATCH"),
        ("trtexec --onnx=m.onnx --stronglyTyped", ["session.build('m.onnx', target='sm89')"], ""),
    ],
)
def test_requests(request_: str, parts: list[str], note: str) -> None:
    made = migrate(request_)
    text = "\n".join(made.python)
    ast.parse(text)
    assert all(part in text for part in parts), text
    assert note in " ".join(made.notes)
    assert all(line.startswith("workbench ") for line in made.shell)


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(ConfigError, match="no precision flag"):
        migrate("make me fast")
