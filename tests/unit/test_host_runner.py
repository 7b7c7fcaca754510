"""Engines on the CPU: NumPy arrays, a clock, and the runner that a compiler for the CPU derives from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from workbench.core.errors import ConfigError
from workbench.hardware.device import GraphDevice
from workbench.hardware.host import HostDevice, numpy_type
from workbench.measure.host_runner import HostRunner
from workbench.measure.inputs import random_inputs, reference_outputs
from workbench.measure.runner import Port

pytestmark = pytest.mark.tiny

OPEN = Port("x", True, "float32", (-1, 3), (((1, 3), (2, 3), (4, 3)), ((5, 3), (6, 3), (8, 3))))


class Doubles(HostRunner):
    def execute(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"y": arrays["x"] * 2}


def runner(port: Port = OPEN, profile: int = 0, out: tuple[int, ...] = (-1, 3)) -> Doubles:
    return Doubles([port], [Port("y", False, port.dtype, out)], {"name": "doubles", "version": "1"}, profile)


def test_outputs_are_there_after_each_run() -> None:
    made = runner()
    found = made.bind({"x": np.ones((2, 3), "float32")})
    made.run()
    assert found["y"].tolist() == [[2.0] * 3] * 2
    made.release()
    assert made.bound_inputs() == {}
    assert made.facts() == {"compiler": {"name": "doubles", "version": "1"}}


def test_inputs_must_fit_the_shape_profile_in_use() -> None:
    six = np.ones((6, 3), "float32")
    runner(profile=1).bind({"x": six})
    with pytest.raises(ConfigError, match=r"\['1..4', 3\]"):
        runner().bind({"x": six})
    with pytest.raises(ConfigError, match="no shape profile 2"):
        runner(profile=2)
    assert runner(profile=1).opt_shapes() == {"x": (6, 3)}
    assert runner(Port("x", True, "float32", (-1, 3))).opt_shapes() == {"x": (1, 3)}


def test_nan_is_refused_unless_it_is_allowed() -> None:
    bad = np.full((2, 3), np.nan, "float32")
    with pytest.raises(ConfigError, match="NaN"):
        runner().bind({"x": bad})
    runner().bind({"x": bad}, finite=False)


def test_shapes_of_outputs() -> None:
    given = {"x": np.ones((2, 3), "float32")}
    assert runner(out=(2, 3)).output_shapes(given) == {"y": ((2, 3), "float32")}
    with pytest.raises(ConfigError, match="known only after"):
        runner().output_shapes(given)
    with pytest.raises(ConfigError, match="allocates its outputs"):
        runner().bind(given, into={"y": given["x"]})


def test_the_host_is_a_device_without_graphs() -> None:
    device = HostDevice()
    assert not isinstance(device, GraphDevice)
    calls: list[int] = []
    assert all(ms >= 0 for ms in device.times(lambda: calls.append(1), 3))
    assert len(calls) == 3
    half = np.full((2,), 1.5, ml_dtypes.bfloat16)
    assert device.describe(half) == ((2,), "bfloat16")
    assert device.download(half).dtype == np.float32
    assert device.empty((2,), "float8e4m3fn").dtype == ml_dtypes.float8_e4m3fn
    assert numpy_type("int64") == np.int64
    assert device.facts()["kind"] == "cpu"
    assert device.used() > 0


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "bool"])
def test_random_inputs_have_the_types_of_the_engine(dtype: str) -> None:
    made = runner(Port("x", True, dtype, (2, 3)))
    found = random_inputs(made, {}, seed=0)["x"]
    assert found.dtype == numpy_type(dtype)
    made.bind({"x": found})


def test_the_reference_keeps_a_relu_in_front_of_fp8(tmp_path: Path) -> None:
    """ONNX Runtime 1.32 drops it at its default level, which would call right outputs wrong."""
    from onnx import TensorProto, helper, save

    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fp8",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], [0.0]),
        ],
    )
    file = tmp_path / "fp8.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), file)
    x = np.array([-2, -1, 1, 2], np.float32)
    outputs = reference_outputs(str(file), {"x": x}, [])
    assert outputs is not None
    assert outputs["y"].tolist() == [0, 0, 1, 2]
