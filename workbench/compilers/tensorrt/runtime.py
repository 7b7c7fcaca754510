"""Run a serialized engine: deserialize, inspect, bind tensors, execute. In a worker only.

A Runtime without a driver, or a damaged plan, can end the process that loads it. So this module checks
what it can first, and loads the plan in a worker, where a crash does no harm. The same code runs TensorRT 10 and 11 and
TensorRT for RTX: it checks for attributes where they differ.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.compilers.tensorrt.build import load
from workbench.compilers.tensorrt.compatibility import check_file
from workbench.compilers.tensorrt.dtypes import NAMES
from workbench.compilers.tensorrt.inspector import Inspection, parse_inspection
from workbench.compilers.tensorrt.vocabulary import TensorRTVocabulary
from workbench.core.errors import BuildError, ConfigError, first_lines
from workbench.core.store import replacing
from workbench.measure.runner import Port, check_inputs
from workbench.plan.plan import HOST
from workbench.plan.vocabulary import layer_kind

if TYPE_CHECKING:
    from workbench.hardware.device import GraphDevice
    from workbench.plan.record import LayerRecord

SPECIALIZATIONS = ("eager", "lazy", "none")
"""When TensorRT for RTX compiles kernels for a new shape of an engine with open shapes: before the first execution, in the
background while slower kernels for any shape run, or never."""

_INVALID = {
    "MALFORMED_ENGINE": "it is damaged, or not an engine of this flavor",
    "VERSION_MISMATCH": "another version made it",
    "UNSUPPORTED_CC": "it was built for another GPU",
    "OLD_CUDA_DRIVER": "this machine's NVIDIA driver is too old for it",
    "OLD_CUDA_RUNTIME": "this machine's CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little free memory for it",
    "CUDA_ERROR": "CUDA does not work here",
}
"""The meaning of the members of EngineInvalidityDiagnostics."""

_SAID = (
    ("cannot run on this GPU", "this TensorRT refuses this machine's GPU"),
    ("incompatible device", "it was built for another GPU"),
    ("different compute capability", "it was built for another GPU"),
    ("engine plan file is not compatible", "another version of TensorRT made it, or it is for another platform"),
    ("version tag does not match", "another version of TensorRT made it"),
    ("incompatible version", "another version of TensorRT made it"),
    ("magicTag", "it is damaged, or not an engine of this flavor"),
    ("Serialization assertion", "it is damaged, or another version of TensorRT made it"),
    ("insufficient for CUDA", "this machine's NVIDIA driver is absent or too old"),
    ("cudaError 35", "this machine's NVIDIA driver is absent or too old"),
    ("no CUDA-capable device", "there is no NVIDIA GPU here"),
    ("out of memory", "the GPU has too little free memory for it"),
    ("OutOfMemory", "the GPU has too little free memory for it"),
)
"""The meaning of the log's messages when deserializing fails."""


class Log:
    """The errors that an `ILogger` received, to explain a failure."""

    def __init__(self) -> None:
        self.errors: list[str] = []


def logger(trt: Any, log: Log) -> Any:
    """An `ILogger` that keeps errors in `log`."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            if severity in {trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR}:
                log.errors.append(message.strip())

    return Logger()


class Runner:
    """An engine ready to run.

    Args:
        trt: The TensorRT module.
        path: The serialized engine.
        device: The GPU.
        profile: Which shape profile to use.
        weight_budget: Bytes of weights kept on the GPU, for an engine built with weight streaming; the rest is streamed
            from the host in each execution. By default TensorRT decides. Written for `ICudaEngine`; not yet tested with an
            engine that streams.
        cache: File of kernels that earlier runs compiled (TensorRT for RTX). It is not used if it is absent or does not fit,
            nor by the full TensorRT. `save_cache` writes it.
        specialization: One of `SPECIALIZATIONS`; the library's own choice (lazy) by default. Ignored by an engine
            without open shapes, and by the full TensorRT, which compiles nothing at run time.

    Raises:
        BuildError: the engine can't be used here; the message says why.
        ConfigError: there is no such shape profile, or the engine streams no weights.
    """

    def __init__(
        self,
        trt: Any,
        path: Path,
        device: GraphDevice,
        profile: int = 0,
        *,
        weight_budget: int | None = None,
        cache: Path | None = None,
        specialization: str | None = None,
    ) -> None:
        self.trt, self.device, self.path = trt, device, path
        self.log = Log()
        self._logger = logger(trt, self.log)
        self._runtime = trt.Runtime(self._logger)
        data = path.read_bytes()
        self.validity, self._diagnosis = self._examine(data)
        self.engine = self._runtime.deserialize_cuda_engine(data)
        if self.engine is None:
            raise self._refused("The engine can't be used here", self._diagnosis)
        if weight_budget is not None:
            self._stream_weights(weight_budget)
        self._cache: Any = None
        self.cached = 0
        """Bytes of kernels loaded from `cache`."""
        self.specialization: str | None = None
        """The specialization in use; None where it does not apply."""
        self.context = self._context(cache, specialization)
        if self.context is None:
            raise self._refused("The engine can't be started")
        if profile:
            count = int(self.engine.num_optimization_profiles)
            if not 0 <= profile < count:
                raise ConfigError(f"The engine has no shape profile {profile}.", hint=f"It has {count}.")
            self.context.set_optimization_profile_async(profile, device.stream)
            device.synchronize()
        self.profile = profile
        self.ports = {port.name: port for port in self._ports()}
        self.bound: dict[str, Any] = {}
        self._profiler: Any = None

    def _examine(self, data: bytes) -> tuple[str, list[str]]:
        """TensorRT for RTX's check of an engine before it is deserialized: a verdict, and the reasons.

        Only a damaged engine is refused because of the verdict. Other verdicts explain a failure but do not cause one: engines have
        run on GPUs that are not supported.

        Raises:
            BuildError: the engine is damaged.
        """
        if not hasattr(self._runtime, "get_engine_validity"):
            return "", []
        verdict, bits = self._runtime.get_engine_validity(data)
        kinds = getattr(self.trt, "EngineInvalidityDiagnostics", None)
        named = [n for n in _INVALID if kinds is not None and hasattr(kinds, n) and int(bits) & int(getattr(kinds, n))]
        reasons = [_INVALID[n] for n in named]
        if "MALFORMED_ENGINE" in named:
            raise self._refused("The engine can't be used here", reasons)
        return str(verdict).rpartition(".")[2], reasons

    def _stream_weights(self, budget: int) -> None:
        size = int(getattr(self.engine, "streamable_weights_size", 0) or 0)
        if not size:
            raise ConfigError("The engine streams no weights.", hint="Build it with weight_streaming=True.")
        if budget < 0:
            raise ConfigError("A weight budget is a number of bytes, 0 or more.", hint=f"0 to {size}.")
        budget = min(budget, size)  # all weights fit: nothing is streamed
        self.engine.weight_streaming_budget_v2 = budget
        if int(self.engine.weight_streaming_budget_v2) != budget:
            raise self._refused(f"A weight budget of {budget} bytes was refused")

    def _context(self, cache: Path | None, specialization: str | None) -> Any:
        config = self.engine.create_runtime_config() if hasattr(self.engine, "create_runtime_config") else None
        if config is None:
            return self.engine.create_execution_context()
        kinds = getattr(self.trt, "DynamicShapesKernelSpecializationStrategy", None)
        if specialization and kinds is not None and self._open_shapes():
            config.dynamic_shapes_kernel_specialization_strategy = getattr(kinds, specialization.upper())
            self.specialization = specialization
        if cache is not None and hasattr(config, "create_runtime_cache"):
            self._cache = config.create_runtime_cache()
            with contextlib.suppress(FileNotFoundError):
                data = cache.read_bytes()
                # A cache from another GPU or version is rejected as a whole, and the kernels are compiled again.
                self.cached = len(data) if self._cache.deserialize(data) else 0
            config.set_runtime_cache(self._cache)
        elif self.specialization is None:
            return self.engine.create_execution_context()  # nothing to configure
        self._config = config  # the context does not keep it alive
        return self.engine.create_execution_context(config)

    def _open_shapes(self) -> bool:
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        return any(-1 in tuple(self.engine.get_tensor_shape(name)) for name in names)

    def save_cache(self, path: Path) -> int:
        """Write the kernels compiled so far to `path`.

        Returns:
            Its size in bytes; 0 if this TensorRT compiles none at run time, or the runner was made without a cache.
        """
        kernels = self._cache.serialize() if self._cache is not None else None
        if kernels is None:
            return 0
        with replacing(path) as draft:
            return draft.write_bytes(kernels)

    def _refused(self, what: str, known: list[str] | None = None, code: str | None = None) -> BuildError:
        said = "\n".join(self.log.errors)
        reasons = known or [meaning for mark, meaning in _SAID if mark.lower() in said.lower()]
        reason = "; ".join(dict.fromkeys(reasons)) or (self.log.errors[-1] if self.log.errors else "it gives no reason")
        return BuildError(
            f"{what}: {reason}.",
            hint="Build it again on this machine, with this version: engines are not portable.",
            details={"errors": self.log.errors[-10:], "engine": str(self.path)},
            code=code,
        )

    def _ports(self) -> list[Port]:
        engine, found = self.engine, []
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            is_input = engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT
            shape = tuple(engine.get_tensor_shape(name))
            ranges = []
            if is_input and -1 in shape:
                for k in range(engine.num_optimization_profiles):
                    low, usual, high = engine.get_tensor_profile_shape(name, k)
                    ranges.append((tuple(low), tuple(usual), tuple(high)))
            dtype = NAMES.get(str(engine.get_tensor_dtype(name)).rpartition(".")[2], "")
            if is_input and engine.get_tensor_location(name) == self.trt.TensorLocation.HOST:
                raise ConfigError(
                    f"TensorRT reads input {name} as a shape, on the host. The workbench builds engines with such inputs but can't run them.",
                    hint="Run it through the TensorRT API: set_tensor_address takes an address in host memory for it. Or "
                    f"make {name} a constant of the model and build again.",
                    code="host-input",
                )
            found.append(Port(name, is_input, dtype, shape, tuple(ranges)))
        return found

    @property
    def inputs(self) -> list[Port]:
        """The engine's inputs."""
        return [p for p in self.ports.values() if p.input]

    @property
    def outputs(self) -> list[Port]:
        """The engine's outputs."""
        return [p for p in self.ports.values() if not p.input]

    def opt_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each input that the engine was tuned for."""
        return {p.name: p.ranges[self.profile][1] if p.ranges else p.shape for p in self.inputs}

    def inspect(self) -> Inspection:
        """The layers, as the engine inspector reports them."""
        inspector = self.engine.create_engine_inspector()
        inspector.execution_context = self.context
        text = inspector.get_engine_information(self.trt.LayerInformationFormat.JSON)
        return parse_inspection(text, "of the engine inspector")

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuse inputs that the engine does not take; see `check_inputs`."""
        check_inputs(self.inputs, given, self.device.describe, self.profile)

    def output_shapes(self, given: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and data type of each output for inputs of the shapes and types of `given`; values are not read.

        Raises:
            ConfigError: the inputs do not fit; or an output's shape depends on the inputs' values.
        """
        self.check(given)
        for port in self.inputs:
            self._set_shape(port.name, self.device.describe(given[port.name])[0])
        return {port.name: (self._output_shape(port), port.dtype) for port in self.outputs}

    def _set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if self.context.set_input_shape(name, shape) is False:
            raise self._refused(f"Shape {list(shape)} of input {name} was refused")

    def _output_shape(self, port: Port) -> tuple[int, ...]:
        shape = tuple(self.context.get_tensor_shape(port.name))
        if any(d < 0 for d in shape):
            raise ConfigError(
                f"The shape of output {port.name} depends on the inputs' values, which is not supported here.",
                hint="Run it through the TensorRT API with an IOutputAllocator.",
            )
        return shape

    def bind(
        self, given: Mapping[str, Any], *, finite: bool = True, into: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Set the inputs and allocate the outputs.

        Args:
            given: NumPy arrays or tensors by name; tensors on the GPU are used where they are.
            finite: Refuse inputs with NaN or infinity.
            into: Tensors on the GPU for the outputs, contiguous and as `output_shapes` says; allocated by default.

        Returns:
            The outputs' tensors, filled by each `run`.

        Raises:
            ConfigError: the inputs do not fit (see `check`), or not into the GPU's memory.
        """
        self.log.errors.clear()  # errors of an earlier call do not explain this one
        try:
            return self._bind(given, finite, into)
        except RuntimeError as error:  # torch.OutOfMemoryError is a RuntimeError
            if "out of memory" not in str(error).lower():
                raise
            raise ConfigError(
                f"The GPU has too little free memory for these inputs and outputs: {first_lines(error)}",
                hint="Give a smaller batch, or stop other programs that use the GPU (nvidia-smi lists them).",
            ) from None

    def _bind(self, given: Mapping[str, Any], finite: bool, into: Mapping[str, Any] | None) -> dict[str, Any]:
        self.check(given)
        bound = {}
        for port in self.inputs:
            tensor = self.device.upload(given[port.name], port.dtype)
            if finite and port.dtype.startswith(("float", "bfloat")) and not self.device.finite(tensor):
                raise ConfigError(f"Input {port.name} holds NaN or infinity.", hint="Clean it, or pass finite=False.")
            shape, _ = self.device.describe(tensor)
            self._set_shape(port.name, shape)
            bound[port.name] = tensor
        outputs = {}
        for port in self.outputs:
            shape = self._output_shape(port)
            place = into[port.name] if into is not None else self.device.empty(shape, port.dtype)
            outputs[port.name] = bound[port.name] = place
        for name, tensor in bound.items():
            self.context.set_tensor_address(name, self.device.pointer(tensor))
        self.bound = bound  # keeps the memory alive
        return outputs

    def run(self) -> None:
        """Start one execution on the device's stream; does not wait.

        Raises:
            BuildError: TensorRT refused.
        """
        if not self.context.execute_async_v3(self.device.stream):
            raise self._refused("The engine did not run", code="engine-failed")

    def bound_inputs(self) -> dict[str, Any]:
        """See `workbench.measure.runner.Runner`."""
        return {port.name: self.bound[port.name] for port in self.inputs}

    def release(self) -> None:
        """Release the tensors that `bind` got; call `bind` again before the next `run`."""
        self.bound = {}

    def facts(self) -> dict[str, Any]:
        """Compiler, specialization and the inspector's layers; see `workbench.measure.runner.Runner`."""
        found = self.inspect()
        version = str(getattr(self.trt, "__version__", ""))
        return {
            "compiler": {"name": self.trt.__name__, "version": version, "validity": self.validity},
            "specialization": self.specialization,
            "layer_method": "IProfiler, mean per iteration, in a separate pass",
            "inspector": {"layers": found.layers, "io": found.io, "evidence": found.evidence},
        }

    def starts_kernel(self, layer: Mapping[str, Any]) -> bool:
        """See `workbench.measure.runner.Runner`."""
        return layer_kind(cast("LayerRecord", layer), (), TensorRTVocabulary()) not in HOST

    def layer_times(
        self, iterations: int, step: Callable[[int], None] = lambda _: None
    ) -> list[tuple[str, list[float]]]:
        """Milliseconds of each layer in each iteration, by `IProfiler`, in the order of execution.

        Layers with equal names are distinguished by their order within an iteration.
        """
        heard: list[tuple[str, float]] = []

        class Profiler(self.trt.IProfiler):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                heard.append((layer_name, ms))

        self._profiler = Profiler()  # the context does not keep it alive
        self.context.profiler = self._profiler
        rows: list[tuple[str, list[float]]] = []
        try:
            for i in range(iterations):
                heard.clear()
                self.run()
                self.device.synchronize()
                if not heard and hasattr(self.context, "report_to_profiler"):
                    self.context.report_to_profiler()
                if not rows:
                    rows = [(name, []) for name, _ in heard]
                if [name for name, _ in heard] != [name for name, _ in rows]:
                    raise BuildError(
                        "The profiler reported different layers in different iterations, so their times can't be joined.",
                        code="profiler-layers",
                    )
                for (_, times), (_, ms) in zip(rows, heard, strict=True):
                    times.append(ms)
                step(i)
        finally:
            self.context.profiler = (
                None  # with a profiler attached, later executions wait and CUDA graphs record its events
            )
        return rows

    def memory(self) -> dict[str, int]:
        """Bytes of GPU memory that the engine reports to need."""
        found = {}
        for key in ("device_memory_size_v2", "device_memory_size", "streamable_weights_size"):
            with contextlib.suppress(AttributeError):
                found[key] = int(getattr(self.engine, key))
        return found


def open_runner(
    *,
    module: str,
    engine: str,
    built: Mapping[str, Any] | None = None,
    shape_profile: int = 0,
    device: GraphDevice | None = None,
    **options: Any,
) -> Runner:
    """Open an engine; see `workbench.measure.runner.open_runner`.

    Args:
        module: The TensorRT module to use.
        engine: Path of the serialized engine.
        built: What made the engine, if known; see `check_file`.
        shape_profile: Which shape profile to use.
        device: The GPU; torch's by default.
        options: Further arguments of `Runner`.

    Raises:
        BuildError: the engine can't be used here; the message says why.
        ConfigError: there is no such shape profile, or the engine streams no weights.
        CompilerUnavailableError: there is no GPU, or the flavor is not installed.
    """
    if device is None:
        from workbench.hardware.cuda import TorchDevice

        device = TorchDevice()
    trt = load(module)
    here = {"name": module, "version": str(getattr(trt, "__version__", "")), "sm": device.facts().get("sm")}
    check_file(Path(engine), built, here)
    return Runner(trt, Path(engine), device, shape_profile, **options)
