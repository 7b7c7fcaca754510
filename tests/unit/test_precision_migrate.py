"""Old requests become new ones, and what has changed is said."""

from __future__ import annotations

import ast
import shlex

import pytest

from workbench.core.errors import ConfigError
from workbench.precision.migrate import migrate

pytestmark = pytest.mark.tiny


@pytest.mark.parametrize(
    ("request_", "parts", "note"),
    [
        ("trtexec --onnx=m.onnx --fp16", ["precision='fp16'", "'m.onnx'"], "optional for each layer"),
        ("trtexec --onnx=m.onnx --int8 --fp16 --calib=c.cache", ["to='int8'", "rest='fp16'"], "calibrate again"),
        ("config.set_flag(trt.BuilderFlag.INT8)", ["to='int8'", "rest='fp16'"], "slower than FP16"),
        ("config.int8_calibrator = MyCal(trt.IInt8MinMaxCalibrator)", ["method='minmax'"], "audit"),
        ("trt.CalibrationAlgoType.ENTROPY_CALIBRATION_2", ["method='entropy'"], "audit"),
        ("--best --onnx=a.onnx", ["precision='fp16'"], "timing"),
        ("build_engine(model, fp16=True)", ["precision='fp16'"], "optional for each layer"),
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


@pytest.mark.parametrize(
    ("request_", "model"),
    [
        ("trtexec --onnx='my model.onnx' --fp16", "my model.onnx"),
        ('trtexec "--onnx=a b/m.onnx" --fp16', "a b/m.onnx"),
        ("trtexec --onnx m.onnx --fp16", "m.onnx"),
    ],
)
def test_paths_stay_whole(request_: str, model: str) -> None:
    made = migrate(request_)
    assert shlex.split(made.shell[0])[2] == model
    assert f"session.build({model!r}" in made.python[-1]


def test_an_option_is_no_part_of_another_ones_value() -> None:
    made = migrate("trtexec --onnx=m.onnx --saveEngine=out-int8 --fp16")
    assert made.flags == ("fp16",)


def test_what_is_not_carried_over_is_named() -> None:
    notes = " ".join(migrate("trtexec --onnx=m.onnx --fp16 --minShapes=x:1x3 --maxShapes=x:8x3 --saveEngine=e").notes)
    assert "Not converted" in notes
    assert "--minShapes, --maxShapes" in notes
    assert "--shape NAME=MIN:OPT:MAX" in notes
    assert "Not converted" not in " ".join(migrate("trtexec --onnx=m.onnx --fp16 --saveEngine=e").notes)
