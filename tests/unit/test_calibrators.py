"""TensorRT 10's calibrators and their cache: the format, the classes with the real names, and the way to Q/DQ."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support import fake_tensorrt
from tests.support.fake_gpu import Pretended
from tests.support.fake_tensorrt import VERSIONS, Shaped, Silent, State, fake_module
from tests.support.small_models import mlp, save
from workbench import Session, compilers
from workbench.compilers.tensorrt import calibrators
from workbench.compilers.tensorrt.calibrators import CALIBRATORS, calibrate
from workbench.core.errors import CalibrationError, ConfigError
from workbench.core.jobs import Job
from workbench.precision.calibration_cache import TensorRTCache
from workbench.precision.data import gather
from workbench.precision.inputs import inputs_of
from workbench.precision.quantize import calibration, quantize

TEXT = "TRT-101300-EntropyCalibration2\nx: 3c010204\n/layer/h: 3dcccccd\nodd: name: 00000000\n"
DATA = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)


def test_the_cache_is_read_written_and_told_from_others(tmp_path: Path) -> None:
    cache = TensorRTCache.parse(TEXT)
    assert cache.scales["/layer/h"] == pytest.approx(0.1)
    assert cache.scales["x"] == pytest.approx(1 / 127, rel=1e-6)
    assert cache.scales["odd: name"] == 0
    assert cache.to_text() == TEXT
    assert TensorRTCache.load(cache.save(tmp_path / "c.cache")) == cache
    assert TensorRTCache.is_one(tmp_path / "c.cache")
    assert not TensorRTCache.is_one(tmp_path / "none")
    assert cache.ranges(["x"]) == {"x": pytest.approx(1.0, rel=1e-6)}
    assert list(cache.to_frame()["tensor"]) == ["x", "/layer/h", "odd: name"]
    with pytest.raises(CalibrationError, match="has no range for 1 of 2 tensors, the first is y: the network was"):
        cache.ranges(["x", "y"])
    with pytest.raises(CalibrationError, match="made from another model"):
        cache.ranges(["y"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a TensorRT calibration cache"), ("x: 3c010204\n", "not a TensorRT calibration cache"),
        ("TRT-1-E\n", "contains no tensors"), ("TRT-1-E\nx 3c010204\n", "Line 2"), ("TRT-1-E\nx: 3c01\n", "Line 2"),
        ("TRT-1-E\nx: zz010204\n", "Line 2"), ("TRT-1-E\nx: 7fc00000\n", "scale of nan"), ("TRT-1-E\nx: bf800000\n", "scale of -1.0"),
    ],
)  # fmt: skip
def test_a_damaged_cache_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(CalibrationError, match=told):
        TensorRTCache.parse(text)


@pytest.mark.parametrize(
    "line",
    ["x: 00000001", "x: 7f7fffff", "x: 7fc00000", "x: 7f800000", "x: 80000000", "x: bf800000", "/layer/h: 3c010204"],
)
def test_a_scale_that_can_not_be_is_refused_with_its_tensor(line: str) -> None:
    tensor = line.partition(":")[0]
    text = TEXT.replace("x: 3c010204", line) if tensor == "x" else TEXT + line
    with pytest.raises(CalibrationError) as caught:
        TensorRTCache.parse(text)
    assert (caught.value.code, caught.value.details) == ("calibration-scale", {"tensor": tensor})
    assert tensor in caught.value.message


def test_a_scale_of_zero_is_refused_where_it_is_needed() -> None:
    cache = TensorRTCache.parse(TEXT)  # as TensorRT writes it of a tensor that was always zero
    assert cache.ranges(["x"])
    with pytest.raises(CalibrationError) as caught:
        cache.ranges(["x", "odd: name"])
    assert (caught.value.code, caught.value.details["tensor"]) == ("calibration-scale", "odd: name")


@pytest.mark.parametrize("text", ["x: +c010204", "x: 3c 010204"[:10], "x: 3c01020", "x: 3c0102041", "x: ３c010204"])
def test_digits_are_eight_of_hexadecimal(text: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        TensorRTCache.parse(f"TRT-1-E\n{text}\n")
    assert caught.value.code == "calibration-cache"


@pytest.fixture(params=VERSIONS)
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A module with exactly the real names whose builder asks the calibrator as TensorRT does."""
    version = request.param
    state, device = State(""), Pretended()
    state.seen = []

    def build(module: Any, state: State, builder: Any, network: Any, options: Any) -> Any:
        made = state.sets["int8_calibrator"]
        state.size = made.get_batch_size()
        if made.read_calibration_cache() is None:
            while (pointers := made.get_batch(["x"])) is not None:
                state.seen.append(device.memory[pointers[0]].copy())
            made.write_calibration_cache(memoryview(TEXT.encode()))
        return b"engine"

    monkeypatch.setitem(fake_tensorrt.SPECIAL, ("Builder", "build_serialized_network"), build)
    monkeypatch.setitem(
        fake_tensorrt.SPECIAL, ("INetworkDefinition", "get_input"), lambda m, s, n, i: Shaped("x", (-1, 8))
    )
    module = fake_module(version, state)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    model = save(mlp("n"), tmp_path / "m.onnx")
    found = Session("c", store=tmp_path / "store").add(model)
    batches = gather(DATA, inputs_of(found.graph), tmp_path / "batches")

    def run(method: str) -> dict[str, Any]:
        return calibrate(
            Silent(), module=module.__name__, model=str(model), method=method, batches=str(batches.folder),
            cache=str(tmp_path / "out.cache"), folder=str(tmp_path), device=device,
        )  # fmt: skip

    return version, module, state, run, tmp_path / "out.cache"


@pytest.mark.parametrize("method", CALIBRATORS)
def test_each_calibrator_runs_on_version_10_and_is_refused_by_name_elsewhere(made: Any, method: str) -> None:
    version, module, state, run, cache = made
    if version != "10":
        with pytest.raises(ConfigError, match=f"{module.__version__} has no {CALIBRATORS[method]}") as info:
            run(method)
        assert "session.precision.quantize(" in str(info.value.hint)
        return
    assert run(method) == {"batches": 2, "read": False}
    assert state.size == 8
    assert np.array_equal(np.concatenate(state.seen), DATA)
    assert TensorRTCache.load(cache).scales["/layer/h"] == pytest.approx(0.1)
    assert isinstance(state.sets["int8_calibrator"], getattr(module, CALIBRATORS[method]))
    assert ("IBuilderConfig.set_flag", (module.BuilderFlag.INT8,)) in state.calls
    called = [name for name, _ in state.calls]
    assert "IBuilderConfig.set_calibration_profile" in called
    flags = next(args for name, args in state.calls if name == "Builder.create_network")
    assert not flags[0] & (1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    # A cache that is there is used: no batch is asked for.
    state.seen.clear()
    assert run(method) == {"batches": 0, "read": True}
    assert not state.seen


def test_the_classes_have_the_methods_of_the_real_ones(made: Any) -> None:
    version, module, state, run, _ = made
    if version != "10":
        return
    run("legacy_calibration")
    own = state.sets["int8_calibrator"]
    for name in ("get_batch", "get_batch_size", "read_calibration_cache", "write_calibration_cache"):
        assert name in vars(type(own)), name
        assert hasattr(module.IInt8Calibrator, name)


def test_a_cache_of_tensorrt_gives_the_pairs_their_scales(session: Session, tmp_path: Path) -> None:
    model = session.add(save(mlp("n"), tmp_path / "m.onnx"))
    measured = quantize(model, session.store, to="int8", data=DATA, method="minmax")
    ours = calibration(measured, session.store)
    file = TensorRTCache.of(ours, "minmax").save(tmp_path / "trt.cache")
    low = quantize(model, session.store, to="int8", data=file)
    assert low.origin["ranges"] == pytest.approx(measured.origin["ranges"], rel=1e-6)
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(low.path)).graph.initializer}
    assert float(next(s for n, s in scales.items() if n.startswith("x_scale"))) * 127 == pytest.approx(
        ours.tensors["x"].amax, rel=2e-3
    )
    frame = TensorRTCache.load(file).compare(ours, "minmax")
    assert frame["ratio"].tolist() == pytest.approx([1.0] * len(frame), rel=1e-6)
    TensorRTCache.parse(TEXT.replace("x:", "other:")).save(file)
    with pytest.raises(CalibrationError, match="another model"):
        quantize(model, session.store, to="int8", data=file)
    with pytest.raises(CalibrationError, match="calibrates itself"):
        quantize(model, session.store, to="int8", data=ours, method="ENTROPY_CALIBRATION_2")
    with pytest.raises(ConfigError, match="for INT8"):
        quantize(model, session.store, to="fp8", data=DATA, method="ENTROPY_CALIBRATION_2")


def test_the_same_call_uses_the_calibrator_of_tensorrt(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calibrator's worker is stood in for; what it is told and what becomes of its cache is real."""
    told: list[dict[str, Any]] = []
    model = session.add(save(mlp("n"), tmp_path / "m.onnx"))
    names = list(quantize(model, session.store, to="int8", data=DATA).origin["ranges"])

    class Calibrating:
        def __init__(self, arguments: dict[str, Any]) -> None:
            self.arguments = arguments

        def result(self) -> dict[str, Any]:
            TensorRTCache("TRT-101300-EntropyCalibration2", dict.fromkeys(names, 0.5)).save(self.arguments["cache"])
            return {"batches": 2, "read": False}

    def job(task: str, arguments: dict[str, Any], **options: Any) -> Any:
        if "calibrators" not in task:
            return Job(task, arguments, **options)
        told.append({"task": task, **arguments})
        return Calibrating(arguments)

    # The module: `workbench.precision.quantize` is the function of the same name.
    monkeypatch.setattr(sys.modules["workbench.precision.quantize"], "Job", job)
    for _ in range(2):
        low = quantize(model, session.store, to="int8", data=DATA, method="ENTROPY_CALIBRATION_2")
        assert low.origin["ranges"] == dict.fromkeys(names, 63.5)
    assert len(told) == 1
    # Another version of TensorRT may choose other ranges.
    compiler = type(compilers.get("tensorrt"))
    monkeypatch.setattr(compiler, "version", lambda self: "10.99")
    quantize(model, session.store, to="int8", data=DATA, method="ENTROPY_CALIBRATION_2")
    assert len(told) == 2
    assert told[0]["method"] == "entropy_calibration_2"
    assert getattr(calibrators, told[0]["task"].partition(":")[2]) is calibrate


@pytest.mark.skipif("tensorrt" in sys.modules, reason="the full TensorRT is here")
def test_without_tensorrt_10_the_way_out_is_named(session: Session, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = session.add(save(mlp("n"), tmp_path / "m.onnx"))
    with pytest.raises(ConfigError, match="calibrators ended with TensorRT 10") as info:
        quantize(model, session.store, to="int8", data=DATA, method="ENTROPY_CALIBRATION_2")
    assert "method='entropy'" in str(info.value.hint)
