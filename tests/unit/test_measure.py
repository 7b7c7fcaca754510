"""Measuring, on a pretended GPU and TensorRT modules that have exactly the names of the real ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support import DATA
from tests.support.fake_gpu import Engine, Pretended, pretend
from tests.support.fake_tensorrt import VERSIONS, Silent, State
from workbench.analysis import times
from workbench.compilers.tensorrt import trtexec
from workbench.compilers.tensorrt.compatibility import check_file
from workbench.compilers.tensorrt.profile import profile
from workbench.compilers.tensorrt.runtime import Runner
from workbench.compilers.tensorrt.words import kind_of
from workbench.core.errors import BuildError, CompilerUnavailableError, ConfigError, ProfileError
from workbench.core.jobs import Job
from workbench.hardware.cuda import TorchDevice, need_gpu
from workbench.hardware.devices import DeviceSpec
from workbench.hardware.machine import gpus
from workbench.hardware.nvml import Gauge
from workbench.measure import compare, steady
from workbench.measure.latency import Latency
from workbench.measure.measured import apply
from workbench.plan.plan import HOST

pytestmark = pytest.mark.tiny


@pytest.fixture(params=VERSIONS)
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    version = request.param
    device = Pretended()
    engine = Engine(version, device)
    module = pretend(version, engine, State(""), monkeypatch.setitem)
    path = tmp_path / "engine"
    path.write_bytes(b"e" * 200)
    return module, engine, device, path


X = np.arange(2 * 3 * 64, dtype="float32").reshape(2, 3, 8, 8)


def test_kernels_for_a_shape_are_compiled_before_anything_is_timed(made: Any, tmp_path: Path) -> None:
    module, engine, device, path = made
    rtx = "rtx" in module.__name__
    runner = Runner(module, path, device, specialization="none")
    assert runner.specialization == ("none" if rtx else None)
    assert Runner(module, path, device).specialization is None
    if rtx:
        asked = runner._config.dynamic_shapes_kernel_specialization_strategy
        assert asked == module.DynamicShapesKernelSpecializationStrategy.NONE

    def found(**options: Any) -> Any:
        common = {"module": module.__name__, "engine": str(path), "folder": str(tmp_path), "device": device}
        return profile(Silent(), **common, **options)["specialization"]

    assert found(duration_ms=5.0) == ("eager" if rtx else None)
    with pytest.raises(ConfigError, match="no specialization 'early'"):
        found(specialization="early")
    engine.shape = (2, 3, 8, 8)
    engine.fixed = True
    assert Runner(module, path, device, specialization="none").specialization is None


def test_an_input_that_is_read_on_the_host_is_refused(made: Any) -> None:
    module, engine, device, path = made
    engine.on_host = True
    with pytest.raises(ConfigError, match="TensorRT reads input x as a shape") as error:
        Runner(module, path, device)
    assert error.value.code == "host-input"


def test_an_engine_runs_on_the_real_names(made: Any) -> None:
    module, engine, device, path = made
    runner = Runner(module, path, device)
    assert [(p.name, p.input, p.dtype, p.shape) for p in runner.ports.values()] == [
        ("x", True, "float32", (-1, 3, 8, 8)), ("y", False, "float32", (-1, 8, 8, 8)),
    ]  # fmt: skip
    assert runner.opt_shapes() == {"x": (2, 3, 8, 8)}
    outputs = runner.bind({"x": X})
    runner.run()
    assert outputs["y"].shape == (2, 8, 8, 8)
    assert outputs["y"].ravel()[:3].tolist() == [1, 2, 3]
    assert runner.memory()["device_memory_size_v2"] == 4096
    assert len(runner.inspect().layers) == len(engine.document["Layers"])


def test_a_profile_has_times_error_and_layers_and_fits_the_plan(made: Any, tmp_path: Path) -> None:
    module, engine, device, path = made
    np.savez(tmp_path / "in.npz", x=X)
    np.savez(tmp_path / "right.npz", y=np.resize(X + 1, (2, 8, 8, 8)))
    document = profile(
        Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), inputs=str(tmp_path / "in.npz"),
        reference=str(tmp_path / "right.npz"), device=device, transfers=True,
    )  # fmt: skip
    assert set(document["latency"]) == {"plain", "graph", "transfers"}
    for found in document["latency"].values():
        assert (found["median_ms"], found["p99_ms"], found["steady"]) == (2.0, 2.0, True)
        assert found["iterations"] >= 500
    assert document["error"]["relative_l2"] == 0
    assert document["error"]["reference"] == "right.npz"
    assert document["shapes"] == {"x": [2, 3, 8, 8]}
    assert json.loads((tmp_path / "profile.json").read_text())["schema"] == "workbench.profile/1"
    layers = tmp_path / "layers.json"
    layers.write_text(json.dumps(engine.document))
    plan = apply(trtexec.inspect(layers), document)
    assert [layer.time_ms for layer in plan.layers] == [0.5 * (i + 1) for i in range(len(plan.layers))]
    assert plan.facts["measured"]["error"]["ok"]
    assert "end to end: mean 2.000 ms" in "\n".join(times.explain(plan))
    with pytest.raises(ProfileError, match="not of one engine"):
        apply(trtexec.inspect(DATA / "inspector" / "trt8.json"), document)


def test_the_profiler_is_gone_when_layers_are_timed(made: Any, tmp_path: Path) -> None:
    """One that stays makes every later execution wait for it: the kernels' pass and the sweep."""
    module, _, device, path = made
    runner = Runner(module, path, device)
    runner.bind({"x": X})
    rows = runner.layer_times(2)
    assert all(len(times) == 2 for _, times in rows)
    assert runner.context.profiler is None


def test_too_large_a_batch_is_told_and_the_next_one_runs(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module, engine, device, path = made
    runner = Runner(module, path, device)
    runner.log.errors.append("an old out of memory")

    def full(*_: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(device, "empty", full)
        with pytest.raises(ConfigError, match=r"too little free memory .* Tried to allocate 2 GiB\.\n"):
            runner.bind({"x": X})
    runner.bind({"x": X})
    runner.run()
    engine.runs = False
    with pytest.raises(BuildError, match="it gives no reason"):  # not what was said before
        runner.run()


def test_a_reference_that_can_not_run_loses_no_measurement(made: Any, tmp_path: Path) -> None:
    module, _, device, path = made
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    document = profile(
        Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), reference=str(tmp_path / "broken.onnx"),
        device=device, duration_ms=5.0,
    )  # fmt: skip
    assert document["latency"]["plain"]["median_ms"] == 2.0
    assert document["error"] is None
    assert any("no reference: ONNX Runtime can't run broken.onnx" in note for note in document["notes"])


@pytest.mark.parametrize("options", [{"duration_ms": 0}, {"duration_ms": float("nan")}, {"warm_up_ms": -1}])
def test_times_that_are_none_are_refused(made: Any, tmp_path: Path, options: dict[str, float]) -> None:
    module, _, device, path = made
    with pytest.raises(ConfigError, match=r"_ms is (0|nan|-1)\."):
        profile(Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), device=device, **options)


def test_input_files_that_are_none_are_refused(made: Any, tmp_path: Path) -> None:
    module, _, device, path = made
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "empty.npz").write_bytes(b"")
    for name, told in (("one.npy", "one array without a name"), ("empty.npz", "is not an .npz file")):
        with pytest.raises(ConfigError, match=told):
            profile(Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), device=device,
                    inputs=str(tmp_path / name))  # fmt: skip


class Nvml:
    """NVML's names, on a GPU that draws 300 W."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    nvmlClocksThrottleReasonSwPowerCap = 4
    NVMLError = KeyError

    def __init__(self) -> None:
        self.millijoules = 0
        self.mhz = iter([1500, 1600, *[1700] * 10**5])

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> int:
        self.asked = uuid
        return 1

    def nvmlDeviceGetClockInfo(self, gpu: int, kind: int) -> int:
        return next(self.mhz) if kind == self.NVML_CLOCK_SM else 2600

    def nvmlDeviceGetMaxClockInfo(self, gpu: int, kind: int) -> int:
        return 1980

    def nvmlDeviceGetPowerUsage(self, gpu: int) -> int:
        return 300_000

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, gpu: int) -> int:
        return 4

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: int) -> int:
        if self.millijoules < 0:
            raise KeyError("not supported")
        self.millijoules += 5_000
        return self.millijoules


def test_clocks_and_energy(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, device, path = made
    monkeypatch.setattr("workbench.hardware.nvml._EVERY", 0.0)
    common = {
        "module": module.__name__,
        "engine": str(path),
        "folder": str(tmp_path),
        "device": device,
        "layer_iterations": 0,
    }
    found = profile(Silent(), gauge=Gauge(nvml=Nvml()), **common)
    assert found["energy"]["joules"] == 5.0
    assert found["energy"]["way"] == "graph"
    # Every execution of the way counts, the warm-up's too: the pretended device executes once for twenty times.
    assert found["energy"]["joules_per_run"] * found["energy"]["runs"] == pytest.approx(5.0)
    assert found["energy"]["runs"] >= found["latency"]["graph"]["iterations"] / 20
    clocks = found["clocks"]
    assert (clocks["sm_least_mhz"], clocks["sm_mhz"], clocks["sm_most_mhz"], clocks["memory_mhz"]) == (
        1500,
        1700,
        1700,
        2600,
    )
    assert (clocks["steady"], clocks["watts"], clocks["held_back_by"]) == (False, 300.0, ["power limit"])
    poor = Nvml()
    poor.millijoules = -(10**9)
    assert profile(Silent(), gauge=Gauge(nvml=poor), **common)["energy"] is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install nvidia-ml-py" in "\n".join(profile(Silent(), **common)["notes"])


REFUSED = {
    "nvmlDeviceGetPowerUsage": ["watts"],
    "nvmlDeviceGetCurrentClocksThrottleReasons": ["held_back_by"],
    "nvmlDeviceGetMaxClockInfo": ["sm_highest_mhz"],
    "nvmlDeviceGetClockInfo": ["sm_mhz", "sm_least_mhz", "sm_most_mhz", "memory_mhz", "steady"],
}


@pytest.mark.parametrize("question", REFUSED)
def test_a_field_that_the_driver_refuses_is_none(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.hardware.nvml._EVERY", 0.0)

    def refuse(*_: object) -> int:
        raise KeyError("Not Supported")

    nvml = Nvml()
    setattr(nvml, question, refuse)
    gauge = Gauge(nvml=nvml)
    assert gauge.clocks() == {}
    gauge.sample()
    gauge.sample()
    clocks = gauge.clocks()
    assert [name for name, value in clocks.items() if value is None] == [
        name for name in clocks if name in REFUSED[question]
    ]
    assert clocks["samples"] == 2


def test_the_gauge_is_of_the_gpu_that_is_used(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, device, path = made
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    profile(Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), device=device, layer_iterations=0)
    assert nvml.asked == b"GPU-1234-5678"
    Gauge(nvml=nvml, uuid="GPU-9")
    assert nvml.asked == b"GPU-9"


def test_torch_tells_the_uuid_and_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    device = TorchDevice.__new__(TorchDevice)
    device._torch = torch
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="ab-cd"))
    assert device.uuid() == "ab-cd"
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace())
    assert device.uuid() is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (90_000_000, 80_000_000_000))
    with pytest.raises(RuntimeError, match="only 90 MB are free"):
        device.ceilings()


def test_bfloat16_inputs_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    device = TorchDevice.__new__(TorchDevice)
    device._torch = torch
    x = np.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16)
    bound = {"x": torch.zeros((1, 2), dtype=torch.bfloat16), "n": torch.zeros(2, dtype=torch.int32)}
    there, _ = device.copies({"x": x, "n": np.array([3, 4], "int32")}, bound, {})
    there()
    assert bound["x"].tolist() == [[1.5, -2.0]]
    assert bound["n"].tolist() == [3, 4]


def test_kernels_stand_with_layers_only_where_that_is_certain(made: Any, tmp_path: Path) -> None:
    module, _, device, path = made
    common = {
        "module": module.__name__,
        "engine": str(path),
        "folder": str(tmp_path),
        "device": device,
        "layer_iterations": 0,
    }
    document = profile(Silent(), **common)
    layers = [layer["name"] for layer in document["inspector"]["layers"]]
    device.traced = [{"name": layers[1], "ms": 0.25}, {"name": "somebody else's", "ms": 0.5}]
    found = profile(Silent(), **common)["kernels"]
    assert found["joined"] == "by name"
    assert [row["layer"] for row in found["rows"]] == [layers[1], None]
    # As many kernels as layers that start one, and the names that are known agree: by position.
    records = document["inspector"]["layers"]
    starting = [la["name"] for la in records if kind_of(la["type"], la["name"], ()) not in HOST]
    if len({la["stream"] for la in records if la["name"] in starting}) == 1:
        device.traced = [{"name": starting[0], "ms": 0.25}, *({"name": "a library's", "ms": 0.5} for _ in starting[1:])]
        found = profile(Silent(), **common)["kernels"]
        assert [row["layer"] for row in found["rows"]] == starting
        assert found["joined"] == "by position; the names of 1 agree"
        if len(starting) > 1:  # a name that stands elsewhere speaks against it
            device.traced.reverse()
            assert profile(Silent(), **common)["kernels"]["joined"] == "by name"
    device.traced = [{"name": "a", "ms": 1.0}] * 37  # neither names nor their number fit
    found = profile(Silent(), **common)["kernels"]
    assert (found["joined"], {row["layer"] for row in found["rows"]}) == ("", {None})

    def refused(step: object) -> list:
        raise RuntimeError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES\nmore")

    device.kernels = refused
    document = profile(Silent(), **common)
    assert document["kernels"] is None
    assert "no kernel names: CUPTI_ERROR_INSUFFICIENT_PRIVILEGES" in document["notes"]


def test_batches_of_a_dynamic_engine(made: Any, tmp_path: Path) -> None:
    module, _, device, path = made
    document = profile(Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), device=device,
                       layer_iterations=0, batches=[1, 4, 9])  # fmt: skip
    one, four, nine = document["sweep"]
    assert (one["batch"], one["way"], one["median_ms"], one["throughput"]) == (1, "graph", 2.0, 500.0)
    assert four["throughput"] == 2000.0
    assert "has shape [9, 3, 8, 8]" in nine["missing"]
    assert "median_ms" not in nine
    on = DeviceSpec(**{k: v for k, v in document["ceilings"].items() if k != "size"})
    assert on.measured
    assert on.peak("float16") == 5e14


def test_a_batch_that_fails_does_not_take_the_rest(made: Any, tmp_path: Path) -> None:
    module, _, device, path = made
    upload = device.upload
    kept: list[dict[str, Any]] = []

    def filled(array: np.ndarray, dtype: str) -> np.ndarray:
        if len(array) == 3:
            kept.append(json.loads((tmp_path / "profile.json").read_text()))  # there before the sweep
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB\nmore")
        return upload(array, dtype)

    device.upload = filled
    document = profile(Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), device=device,
                       layer_iterations=0, batches=[1, 3, 4])  # fmt: skip
    one, three, four = document["sweep"]
    assert "too little free memory" in three["missing"]
    assert three["missing"].endswith("Tried to allocate 9 GiB")
    assert (one["median_ms"], four["median_ms"]) == (2.0, 2.0)
    assert kept[0]["latency"] == json.loads(json.dumps(document["latency"]))
    assert "sweep" not in kept[0]
    assert len(json.loads((tmp_path / "profile.json").read_text())["sweep"]) == 3


def test_a_full_gpu_has_no_ceilings(made: Any, tmp_path: Path) -> None:
    module, _, device, path = made

    def full() -> dict[str, Any]:
        raise RuntimeError("CUDA out of memory.\nmore")

    device.ceilings = full
    document = profile(Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), device=device,
                       layer_iterations=0)  # fmt: skip
    assert document["ceilings"] is None
    assert "the peaks of this GPU were not measured: CUDA out of memory." in document["notes"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shapes": {"z": [1, 3, 8, 8]}}, "given for z; the engine's inputs are x"),
        ({"batches": [1, -1]}, "No batch size: -1"),
        ({"batches": [0]}, "No batch size: 0"),
        ({"batches": ["4"]}, "No batch size: '4'"),
        ({"batches": "4"}, "Not a list of batch sizes: '4'"),
        ({"batches": 4}, "Not a list of batch sizes: 4"),
    ],
)
def test_shapes_and_batches_that_are_none_are_told(made: Any, tmp_path: Path, options: dict, said: str) -> None:
    module, _, device, path = made
    with pytest.raises(ConfigError, match=said):
        profile(Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), device=device, **options)


def test_random_inputs_and_a_missing_reference_are_told(made: Any, tmp_path: Path) -> None:
    module, _, device, path = made
    device.fails_to_capture = True
    document = profile(Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), device=device,
                       layer_iterations=0)  # fmt: skip
    assert document["error"] is None
    text = "\n".join(document["notes"])
    for said in (
        "inputs are random",
        "it is unknown whether the outputs are correct",
        "no CUDA graph: operation not permitted",
    ):
        assert said in text
    assert "graph" not in document["latency"]


def test_a_series_that_does_not_settle_is_marked(made: Any, tmp_path: Path) -> None:
    module, _, device, path = made
    calls = iter(range(10**6))
    device.times = lambda step, count: [1.0 + next(calls) % 7] * count
    document = profile(Silent(), module=module.__name__, engine=str(path), folder=str(tmp_path), device=device,
                       layer_iterations=0, graph=False)  # fmt: skip
    assert document["latency"]["plain"]["steady"] is False
    assert document["latency"]["plain"]["iterations"] >= 900  # 4 ms each: it was given four times as long
    assert not steady([1.0] * 20 + [2.0] * 20)
    assert steady([2.0] * 40)
    assert not steady([2.0] * 39)
    assert steady([2.0] * 19 + [50.0] + [2.0] * 20)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"z": X}, "there is no input z; input x is missing"),
        ({}, "input x is missing"),
        ({"x": X.astype("float16")}, "is float16; the engine takes float32"),
        ({"x": X[:, :2]}, r"has shape \[2, 2, 8, 8\]; the engine takes \['1..4', 3, 8, 8\]"),
        ({"x": np.concatenate([X, X, X])}, r"has shape \[6, 3, 8, 8\]"),
        ({"x": X[0]}, r"has shape \[3, 8, 8\]"),
        ({"x": np.where(X == 5, np.nan, X)}, "holds NaN or infinity"),
        ({"x": np.where(X == 5, np.inf, X)}, "holds NaN or infinity"),
    ],
)
def test_inputs_that_do_not_fit_are_told(made: Any, given: dict[str, np.ndarray], said: str) -> None:
    module, _, device, path = made
    with pytest.raises(ConfigError, match=said):
        Runner(module, path, device).bind(given)


def test_nan_may_be_wanted(made: Any) -> None:
    module, _, device, path = made
    Runner(module, path, device).bind({"x": np.full_like(X, np.nan)}, finite=False)


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion magicTag failed)",
            "damaged",
        ),
        ("The engine plan file is generated on an incompatible device, expecting compute 8.9 got 9.0", "another GPU"),
        ("The engine plan file is not compatible with this version of TensorRT", "another version"),
        ("cannot run on this GPU, which has compute capability 9.0", "refuses this machine's GPU"),
        ("CUDA initialization failure with error: 35 cudaError 35", "driver is absent or too old"),
        ("Error Code 2: OutOfMemory (Requested size was 99 bytes.)", "too little free memory"),
        ("a word never heard", "a word never heard"),
        ("", "it gives no reason"),
    ],
)
def test_an_engine_that_is_refused_is_told_in_words(made: Any, complaint: str, said: str) -> None:
    module, engine, device, path = made
    engine.deserializes, engine.complaint = False, complaint
    with pytest.raises(BuildError, match=said) as caught:
        Runner(module, path, device)
    assert "Build it again" in str(caught.value.hint)


def test_the_verdict_of_rtx_is_used(made: Any) -> None:
    module, engine, device, path = made
    if not hasattr(module, "EngineValidity"):
        assert Runner(module, path, device).validity == ""
        return
    engine.validity = ("INVALID", int(module.EngineInvalidityDiagnostics.UNSUPPORTED_CC))
    assert Runner(module, path, device).validity  # an unsupported GPU was seen to run: not refused for it
    engine.deserializes = False
    with pytest.raises(BuildError, match="built for another GPU"):
        Runner(module, path, device)


def test_an_execution_that_fails_and_a_profiler_that_wanders(made: Any) -> None:
    module, engine, device, path = made
    runner = Runner(module, path, device)
    runner.bind({"x": X})
    engine.other_names = True
    with pytest.raises(BuildError) as info:
        runner.layer_times(3)
    assert info.value.code == "profiler-layers"
    engine.runs = False
    with pytest.raises(BuildError) as info:
        runner.run()
    assert info.value.code == "engine-failed"


@pytest.mark.parametrize(
    ("built", "here", "said"),
    [
        ({"name": "tensorrt"}, {"name": "tensorrt_rtx"}, "made by tensorrt; tensorrt_rtx can't read it"),
        ({"name": "t", "version": "10.1"}, {"name": "t", "version": "11.0"}, "not portable between versions"),
        (
            {"name": "tensorrt", "target": "sm89"},
            {"name": "tensorrt", "sm": "sm90"},
            "built for sm89; this GPU is sm90",
        ),
        ({"name": "t", "target": "current", "gpu": {"sm": "sm80"}}, {"name": "t", "sm": "sm75"}, "this GPU is sm75"),
        ({"name": "tensorrt_rtx", "target": "sm89"}, {"name": "tensorrt_rtx", "sm": "sm80"}, "this GPU is sm80"),
    ],
)
def test_engines_of_elsewhere_are_told_beforehand(tmp_path: Path, built: dict, here: dict, said: str) -> None:
    path = tmp_path / "engine"
    path.write_bytes(b"e" * 200)
    with pytest.raises(BuildError, match=said) as caught:
        check_file(path, built, here)
    assert "Build it again" in str(caught.value.hint)


def test_engines_that_may_run_pass(tmp_path: Path) -> None:
    path = tmp_path / "engine"
    path.write_bytes(b"e" * 200)
    check_file(path)
    check_file(path, {"name": "tensorrt_rtx", "target": "sm80+sm89"}, {"name": "tensorrt_rtx", "sm": "sm90"})
    check_file(path, {"name": "tensorrt", "target": "sm80", "hardware_compatibility": "AMPERE_PLUS"},
               {"name": "tensorrt", "sm": "sm89"})  # fmt: skip
    check_file(path, {"name": "t", "version": "10.1", "version_compatible": True}, {"name": "t", "version": "10.2"})


def test_files_that_are_no_engine(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"abc")
    for name, code in (("short", "not-an-engine"), ("none", "engine-unreadable")):
        with pytest.raises(BuildError) as info:
            check_file(tmp_path / name)
        assert info.value.code == code


def test_errors_are_of_all_outputs() -> None:
    right = {"a": np.array([3.0, 4.0]), "b": np.array([1.0, 0.0])}
    found = compare({"a": np.array([3.0, 4.5]), "b": np.array([1.0, 0.0])}, right)
    assert found["outputs"]["a"]["relative_l2"] == pytest.approx(0.1)
    assert found["outputs"]["a"]["max_abs"] == 0.5
    assert found["relative_l2"] == pytest.approx(0.1)
    broken = compare({"a": np.array([np.nan, 4.0]), "b": right["b"]}, right)
    assert (broken["ok"], broken["outputs"]["a"]["not_finite"]) == (False, 1)
    assert compare({"a": np.ones(2)}, {"a": np.zeros(2)})["relative_l2"] is None
    assert compare({"a": np.zeros(2)}, {"a": np.zeros(2)})["relative_l2"] == 0
    with pytest.raises(ConfigError, match="has no output b"):
        compare({"a": right["a"]}, right)
    with pytest.raises(ConfigError, match=r"Output a is \[2\], the reference \[3\]"):
        compare({"a": np.ones(2)}, {"a": np.ones(3)})


def test_latency_in_figures() -> None:
    found = Latency(tuple(float(i) for i in range(1, 101)), "clock").to_dict()
    assert (found["median_ms"], found["p90_ms"], found["p99_ms"], found["max_ms"]) == (50.5, 90, 99, 100)


def test_without_a_gpu_it_is_told() -> None:
    need_gpu(True)
    with pytest.raises(CompilerUnavailableError, match="needs an NVIDIA GPU"):
        need_gpu(False)


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU here")
def test_a_worker_without_a_gpu_says_so(tmp_path: Path) -> None:
    job = Job("workbench.compilers.tensorrt.profile:profile", {}, title="measure", time_limit=120)
    job.start(module="tensorrt_rtx", engine=str(tmp_path / "engine"), folder=str(tmp_path))
    with pytest.raises(CompilerUnavailableError, match="needs an NVIDIA GPU"):
        job.result()
