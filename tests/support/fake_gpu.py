"""A GPU made of NumPy, and engines that run on it through modules with TensorRT's real names."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.support import DATA, fake_tensorrt
from tests.support.fake_tensorrt import State, fake_module

SAMPLES = DATA / "inspector"
LAYERS = {"10": "trt10.json", "11": "trt11.json", "rtx": "rtx_1_7.json"}


class Pretended:
    """A GPU made of NumPy: pointers are keys, and each step takes `milliseconds`."""

    stream = 77
    clock = "pretended"

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.milliseconds = [2.0]
        self.fails_to_capture = False
        self.traced: list[dict[str, Any]] = []

    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return np.zeros(shape, dtype)

    def upload(self, array: np.ndarray, dtype: str) -> np.ndarray:
        return np.ascontiguousarray(array)

    def download(self, tensor: np.ndarray) -> np.ndarray:
        return tensor.copy()

    def describe(self, value: np.ndarray) -> tuple[tuple[int, ...], str]:
        return value.shape, str(value.dtype)

    def finite(self, tensor: np.ndarray) -> bool:
        return bool(np.isfinite(tensor).all())

    def pointer(self, tensor: np.ndarray) -> int:
        self.memory[id(tensor)] = tensor
        return id(tensor)

    def synchronize(self) -> None:
        pass

    def times(self, step: Callable[[], None], count: int) -> list[float]:
        step()
        return [self.milliseconds[i % len(self.milliseconds)] for i in range(count)]

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        if self.fails_to_capture:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        step()
        return step

    def copies(self, host: dict, inputs: dict, outputs: dict) -> tuple[Callable[[], None], Callable[[], None]]:
        return (lambda: None), (lambda: None)

    def facts(self) -> dict[str, Any]:
        return {"name": "pretended", "sm": "sm90"}

    def used(self) -> int:
        return 0

    def uuid(self) -> str | None:
        return "1234-5678"

    def kernels(self, step: Callable[[], None]) -> list[dict[str, Any]]:
        return self.traced

    def ceilings(self) -> dict[str, Any]:
        return {"bandwidth": 2e12, "peaks": {"fp16": 5e14}, "size": 4096}


class Engine:
    """What the fake library computes: y = x + 1, in two to four layers."""

    def __init__(self, version: str, device: Pretended) -> None:
        self.document = json.loads((SAMPLES / LAYERS[version]).read_text())
        self.device = device
        self.shape = (-1, 3, 8, 8)
        self.fixed = False
        self.addresses: dict[str, int] = {}
        self.given: dict[str, tuple[int, ...]] = {}
        self.deserializes = True
        self.complaint = ""
        self.runs = True
        self.validity = ("VALID", 0)
        self.other_names = False
        self.count = 0
        self.profiles = 1
        self.streamable = 0
        self.kernels = b""
        self.on_host = False


def pretend(version: str, engine: Engine, state: State, put: Callable[[dict, Any, Any], None]) -> Any:
    """The module of `version`, known to `import`; `put(mapping, key, value)` sets what it needs to."""
    device = engine.device

    def deserialize(module: Any, state: State, runtime: Any, data: bytes) -> Any:
        if engine.complaint:
            runtime.logger_given.log(module.ILogger.Severity.ERROR, engine.complaint)
        return module.ICudaEngine() if engine.deserializes else None

    def execute(module: Any, state: State, context: Any, stream: int) -> bool:
        assert stream == device.stream
        if not engine.runs:
            return False
        x, y = (device.memory[engine.addresses[n]] for n in ("x", "y"))
        y[...] = np.resize(x + 1, y.shape)
        engine.count += 1
        profiler = state.sets.get("profiler")
        if profiler is not None:
            for i, layer in enumerate(engine.document["Layers"]):
                odd = engine.other_names and engine.count % 2
                profiler.report_layer_time(layer["Name"] + ("?" if odd else ""), 0.5 * (i + 1))
        return True

    def validity(module: Any, state: State, runtime: Any, data: bytes) -> Any:
        return getattr(module.EngineValidity, engine.validity[0]), engine.validity[1]

    special = {
        ("Runtime", "deserialize_cuda_engine"): deserialize,
        ("Runtime", "get_engine_validity"): validity,
        ("ICudaEngine", "create_execution_context"): lambda m, s, e, config=None: m.IExecutionContext(),
        ("ICudaEngine", "create_runtime_config"): lambda m, s, e: m.IRuntimeConfig(),
        ("IRuntimeConfig", "create_runtime_cache"): lambda m, s, c: m.IRuntimeCache(),
        ("IRuntimeCache", "deserialize"): lambda m, s, c, data: setattr(engine, "kernels", data) or data[:1] == b"k",
        ("IRuntimeCache", "serialize"): lambda m, s, c: b"k" + bytes(engine.count),
        ("ICudaEngine", "create_engine_inspector"): lambda m, s, e: m.EngineInspector(),
        ("ICudaEngine", "get_tensor_name"): lambda m, s, e, i: ("x", "y")[i],
        ("ICudaEngine", "get_tensor_mode"): lambda m, s, e, n: (
            m.TensorIOMode.INPUT if n == "x" else m.TensorIOMode.OUTPUT
        ),
        ("ICudaEngine", "get_tensor_shape"): lambda m, s, e, n: (
            engine.shape if n == "x" else (2 if engine.fixed else -1, 8, 8, 8)
        ),
        ("ICudaEngine", "get_tensor_location"): lambda m, s, e, n: (
            m.TensorLocation.HOST if engine.on_host and n == "x" else m.TensorLocation.DEVICE
        ),
        ("ICudaEngine", "get_tensor_dtype"): lambda m, s, e, n: "DataType.FLOAT",
        ("ICudaEngine", "get_tensor_profile_shape"): lambda m, s, e, n, k: [(1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8)],
        ("IExecutionContext", "set_input_shape"): lambda m, s, c, n, v: engine.given.update({n: v}) or True,
        ("IExecutionContext", "get_tensor_shape"): lambda m, s, c, n: (engine.given["x"][0], 8, 8, 8),
        ("IExecutionContext", "set_tensor_address"): lambda m, s, c, n, v: engine.addresses.update({n: v}),
        ("IExecutionContext", "execute_async_v3"): execute,
        ("EngineInspector", "get_engine_information"): lambda m, s, i, kind: json.dumps(engine.document),
    }
    for key, value in special.items():
        put(fake_tensorrt.SPECIAL, key, value)
    for name, number in {
        "num_io_tensors": 2,
        "num_optimization_profiles": engine.profiles,
        "device_memory_size_v2": 4096,
        "device_memory_size": 4096,
        "streamable_weights_size": engine.streamable,
    }.items():
        put(fake_tensorrt.DEFAULTS, name, number)
    module = fake_module(version, state)
    start = module.Runtime.__init__
    module.Runtime.__init__ = lambda self, logger: (
        start(self, logger),
        object.__setattr__(self, "logger_given", logger),
    )[0]
    put(sys.modules, module.__name__, module)
    return module
