"""What ONNX Runtime's errors prove: each row of the table by a model that ONNX Runtime itself refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.support.small_models import constant, model, node, save, value
from workbench.core.errors import CalibrationError, ModelError
from workbench.precision.ort_errors import RULES, raised, ways_out
from workbench.precision.ort_session import open_session, run_batch

pytest.importorskip("onnxruntime")
F32, F16, BF16, I64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT64


def one(
    op: str, inputs: dict[str, Any], constants: Any = (), opset: int = 17, domain: str = "", out: int = 0, **more: Any
) -> onnx.ModelProto:
    named = [constant(k, v, v.dtype) for k, v in dict(constants).items()]
    return model(
        [node(op, [*inputs, *dict(constants)], ["y"], "n", **({"domain": domain} if domain else {}), **more)],
        [value(k, list(v[1:]), v[0]) for k, v in inputs.items()], [value("y", None, out or next(iter(inputs.values()))[0])], named, opset=opset,
        domains=[domain] if domain == "mine" else [], infer=False,
    )  # fmt: skip


def outside(size: int | None, folder: Path) -> onnx.ModelProto:
    made = one("Add", {"x": (F32, 2)}, {"w": np.zeros(2, "float32")})
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "w.bin"
    if size is not None:
        (folder / "w.bin").write_bytes(bytes(size))
    return made


def changed(made: onnx.ModelProto, **fields: Any) -> onnx.ModelProto:
    for name, content in fields.items():
        setattr(made, name, content)
    return made


REFUSED = {
    "ort-no-kernel": lambda _: one("Conv", {"x": (BF16, 1, 3, 8, 8)}, {"w": np.zeros((4, 3, 3, 3), ml_dtypes.bfloat16)}, opset=22),
    "ort-unknown-operator": lambda _: one("Foo", {"x": (F32, 2)}, domain="mine"),
    "ort-unknown-operator ": lambda _: one("Foo", {"x": (F32, 2)}),
    "ort-type-mismatch": lambda _: one("Add", {"x": (F32, 2), "z": (F16, 2)}),
    "ort-type-mismatch ": lambda _: one("Relu", {"x": (F32, 2)}, out=F16),
    "ort-invalid-model": lambda _: one("Add", {"x": (F32, 2)}, {"w": np.zeros(3, "float32")}),
    "ort-invalid-model ": lambda _: one("Foo", {"x": (F32, 2)}, domain="other"),
    "ort-not-a-model": lambda _: b"abc" * 100,
    "ort-no-file": lambda _: None,
    "ort-too-new": lambda _: changed(one("Relu", {"x": (F32, 2)}), ir_version=99),
    "ort-too-new ": lambda _: one("Relu", {"x": (F32, 2)}, opset=99),
    "ort-weights-missing": lambda folder: outside(None, folder),
    "ort-weights-short": lambda folder: outside(1, folder),
}  # fmt: skip


@pytest.mark.parametrize("code", REFUSED)
def test_a_model_that_is_refused(code: str, tmp_path: Path) -> None:
    made = REFUSED[code](tmp_path)
    path = tmp_path / "m.onnx"
    if isinstance(made, bytes):
        path.write_bytes(made)
    elif made is not None:
        save(made, path)
    with pytest.raises(ModelError, match="ONNX Runtime can't run this model on the CPU") as info:
        open_session(path)
    assert info.value.code == code.strip()
    assert info.value.hint


RUN = {
    "ort-shape-mismatch": (one("Add", {"x": (F32, "n"), "z": (F32, "m")}), {"x": np.zeros(2, "f"), "z": np.zeros(3, "f")}),
    "ort-shape-mismatch ": (one("Reshape", {"x": (F32, "n")}, {"s": np.int64([1, 3])}), {"x": np.zeros(2, "f")}),
    "ort-data": (one("Relu", {"x": (F32, 2)}), {"x": np.zeros(3, "f")}),
    "ort-data ": (one("Relu", {"x": (F32, 2)}), {"x": np.zeros(2, "float64")}),
    "ort-index": (one("Gather", {"x": (F32, 2), "i": (I64, 1)}), {"x": np.zeros(2, "f"), "i": np.int64([7])}),
    "ort-out-of-memory": (one("Expand", {"x": (F32, 1), "s": (I64, 2)}), {"x": np.zeros(1, "f"), "s": np.int64([1 << 20, 1 << 20])}),
}  # fmt: skip


@pytest.mark.parametrize("code", RUN)
def test_data_that_are_refused(code: str, tmp_path: Path) -> None:
    made, data = RUN[code]
    session = open_session(save(made, tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="can't run this model on these data") as info:
        run_batch(session, ["y"], data)
    assert info.value.code == code.strip()


def test_every_row_has_an_example() -> None:
    assert {code for code, _, _ in RULES} == {code.strip() for code in [*REFUSED, *RUN]}


@pytest.mark.parametrize(
    "text", ["something odd", "Add node. Name:'out of memory'", "", "node 'NOT_IMPLEMENTED' is odd"]
)
def test_no_hint_without_a_proof(text: str) -> None:
    assert ways_out(RuntimeError(text)) == (None, None)
    error = raised(CalibrationError, "It failed", RuntimeError(text))
    assert (error.hint, error.code) == (None, CalibrationError.default_code)
