"""Quantizing resnet50 with 32 batches: the whole of ours against the library's own call, both from nothing.

The aim is at most 1.3 times the library's time, on two cores.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from workbench import Session
from workbench.precision import quantize
from workbench.precision.data import random_batches
from workbench.precision.inputs import inputs_of


@pytest.mark.parametrize("method", ["entropy", "minmax"])
def test_resnet50_int8(tmp_path: Path, method: str) -> None:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    session = Session("bench", store=tmp_path / "home")
    model = session.add("resnet50")
    _ = model.sha256(session.store)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = random_batches(inputs_of(model.graph), 32)

        def get_next(self) -> object:
            return next(self._batches, None)

    begin = time.perf_counter()
    quantize(model, session.store, data="random:32", method=method)
    ours = time.perf_counter() - begin
    begin = time.perf_counter()
    quantize_static(
        str(model.path), str(tmp_path / "library.onnx"), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, extra_options={"ActivationSymmetric": True},
        calibrate_method={"entropy": CalibrationMethod.Entropy, "minmax": CalibrationMethod.MinMax}[method],
    )  # fmt: skip
    theirs = time.perf_counter() - begin
    print(f"\nresnet50, 32 batches, {method}: ours {ours:.1f} s, the library {theirs:.1f} s, ratio {ours / theirs:.2f}")
    assert ours < 1.3 * theirs
