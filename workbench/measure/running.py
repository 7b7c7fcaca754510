"""`Engine.open` and `Engine.run`: an engine loaded in a worker process, called with arrays."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from workbench import compilers
from workbench.compilers.base import Refits, Runs
from workbench.core.errors import ConfigError, WorkbenchError, first_lines
from workbench.core.jobs import Job
from workbench.core.shared_arrays import ReceivedArrays, SentArrays
from workbench.hardware.machine import gpus

if TYPE_CHECKING:
    from workbench.engine import Engine


class Running:
    """An engine that is ready to run; `Engine.open` creates it.

    Its worker ends with `close`, with the ``with`` block, when no references to this object are left, and with this
    process.

    Args:
        engine: What to run.
        profile: Which shape profile to use.
        weight_budget: Bytes of weights on the GPU, for an engine built with weight streaming; by default TensorRT decides.
        finite: Refuse inputs that contain NaN or infinity.

    Raises:
        CompilerUnavailableError: the device is missing, or the compiler is not installed.
        BuildError: the engine can't run here; the message gives the reason.
        ConfigError: there is no such shape profile, or the engine does not support weight streaming.
    """

    def __init__(
        self,
        engine: Engine,
        profile: int = 0,
        *,
        weight_budget: int | None = None,
        finite: bool = True,
    ) -> None:
        if weight_budget is not None and engine.config.option("weight_streaming") is None:
            raise ConfigError(
                f"Engines of {engine.config.compiler} do not support weight streaming.", hint="Leave out weight_budget."
            )
        cache = runtime_cache(engine)
        compiler = compilers.get(engine.config.compiler, Runs)
        arguments = {
            **compiler.arguments(), "engine": str(engine.path),
            "built": _made(engine), "shape_profile": profile, "finite": finite,
            "cache": None if cache is None else str(cache),
            **({} if weight_budget is None else {"weight_budget": weight_budget}),
        }  # fmt: skip
        self._job = Job(compiler.run_task, arguments, title=f"run of {engine.model}")
        self._shared, self._seen = SentArrays(), ReceivedArrays()
        self._closed = False
        self._turn = threading.Lock()
        self._shapes: dict[str, dict[str, Any]] = {}
        self._end = weakref.finalize(self, self._job.cancel)
        try:
            self._ports = self._job.start().ask(None)
        except BaseException:
            self._end()
            raise
        self.first_ms: float | None = None
        """Milliseconds of the first execution, in which some compilers compile kernels; None before that."""
        self.last_ms: float | None = None
        """Milliseconds of the last execution until it ended, by the worker's clock, without copies."""
        self.cached_bytes = int(self._ports["cached_bytes"])
        """Bytes of compiled kernels from an earlier run for this GPU and driver; 0 if there were none."""

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Data type and shape of each input; -1 if the shape profile leaves it dynamic."""
        return {n: (dtype, tuple(shape)) for n, (dtype, shape) in self._ports["inputs"].items()}

    @property
    def outputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Data type and shape of each output; -1 if it depends on the inputs."""
        return {n: (dtype, tuple(shape)) for n, (dtype, shape) in self._ports["outputs"].items()}

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._job.pid

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Execute once and wait for the outputs.

        Args:
            inputs: By name: all NumPy arrays, all torch tensors on the CPU, or all torch tensors on the GPU. GPU
                tensors are used in place, and outputs stay on the GPU: nothing is copied.

        Returns:
            The outputs by name, of the same kind as the inputs; bfloat16 outputs are float32 in NumPy.

        Raises:
            ConfigError: a wrong or missing name, data type or shape, or NaN; the engine stays open.
            WorkerCrashedError: the worker died; the engine can be opened again.
            WorkbenchError: it was closed.
        """
        if self._closed:
            raise WorkbenchError("This engine was closed.", hint="engine.open() opens it again.")
        kinds = {_kind(name, value) for name, value in inputs.items()}
        if len(kinds) > 1:
            raise ConfigError(
                f"The inputs are mixed: {' and '.join(sorted(kinds))}.", hint="Give all inputs as the same kind."
            )
        kind = kinds.pop() if kinds else "NumPy"
        with self._turn:
            return self._on_gpu(inputs) if kind == "torch on the GPU" else self._through_memory(inputs, kind)

    def close(self) -> None:
        """End the worker; its compiled kernels are stored for the next run. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            if self._job.status == "running":
                with contextlib.suppress(WorkbenchError):  # the worker has already died, so there is nothing to close
                    self._job.ask({"do": "close"})
            self._end()
            self._shared.close()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _through_memory(self, inputs: Mapping[str, Any], kind: str) -> dict[str, Any]:
        import numpy as np

        arrays = {n: host(n, v) for n, v in inputs.items()}
        answer = self._ask({"do": "run", "arrays": self._shared.put(arrays)})
        found = {n: np.array(array) for n, array in self._seen.get(answer["arrays"]).items()}
        if not kind.startswith("torch"):
            return found
        import torch

        return {n: torch.from_numpy(a).to(getattr(torch, answer["types"][n])) for n, a in found.items()}

    def _on_gpu(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        from multiprocessing.reduction import ForkingPickler

        import torch
        import torch.multiprocessing  # registers picklers that share GPU memory

        if not self._ports["gpu"]:
            raise ConfigError("The engine runs on the CPU.", hint="Move the inputs: x.cpu().")
        given = {n: t.detach() for n, t in inputs.items()}
        device = next(iter(given.values())).device
        if any(t.device.index != 0 for t in given.values()):
            raise ConfigError("The engine runs on the first GPU, cuda:0.", hint="Move the inputs: x.to('cuda:0').")
        signature = {n: [list(t.shape), str(t.dtype).removeprefix("torch.")] for n, t in given.items()}
        key = json.dumps(signature)
        if key not in self._shapes:
            self._shapes[key] = self._ask({"do": "shapes", "inputs": signature})["outputs"]
        outputs = {
            n: torch.empty(tuple(shape), dtype=getattr(torch, dtype), device=device)
            for n, (shape, dtype) in self._shapes[key].items()
        }
        torch.cuda.current_stream(device).synchronize()  # the worker must not read tensors while they are written
        try:
            data = bytes(ForkingPickler.dumps((given, outputs)))
        except RuntimeError as error:
            raise ConfigError(
                f"These tensors can't be shared with the worker: {first_lines(error)}",
                hint="Give NumPy arrays or CPU tensors.",
            ) from None
        self._ask({"do": "tensors", "tensors": base64.b64encode(data).decode()})
        return outputs

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        answer = self._job.ask(message)
        if "ms" in answer:
            self.last_ms = float(answer["ms"])
            if self.first_ms is None:
                self.first_ms = self.last_ms
        return answer


def refit(engine: Engine, weights: Mapping[str, Any] | str | Path, out: Path, time_limit: float | None = None) -> Path:
    """See `Engine.refit`."""
    if not (engine.config.option("refit") or engine.config.option("strip_plan")):
        raise ConfigError(
            "The engine was not built to be refitted.", hint="Build it with refit=True.", code="not-refittable"
        )
    compiler = compilers.get(engine.config.compiler, Refits)
    shared = SentArrays()
    if isinstance(weights, (str, Path)):
        if not Path(weights).is_file():
            raise ConfigError(f"{weights} does not exist.", hint="Give the path of an ONNX file, or arrays by name.")
        given: dict[str, Any] = {"model": str(Path(weights).resolve())}
    else:
        given = {"weights": shared.put({n: host(n, v) for n, v in weights.items()})}
    arguments = {
        **compiler.arguments(), **given, "engine": str(engine.path),
        "out": str(out.resolve()), "built": _made(engine),
    }  # fmt: skip
    try:
        Job(compiler.refit_task, arguments, title=f"refit of {engine.model}", time_limit=time_limit).result()
    finally:
        shared.close()
    return out


def _made(engine: Engine) -> dict[str, Any]:
    """The engine's compiler, for the tasks that open it."""
    return {
        **engine.plan.compiler, "version_compatible": engine.config.option("version_compatible"),
        "hardware_compatibility": engine.config.option("hardware_compatibility"),
    }  # fmt: skip


def host(name: str, value: Any) -> Any:
    """An input as a NumPy array; bfloat16 uses ml_dtypes."""
    import numpy as np

    return _bits(value.cpu()) if _kind(name, value).startswith("torch") else np.asarray(value)


def runtime_cache(engine: Engine) -> Path | None:
    """Cache of the kernels compiled for this engine on this machine's GPU; None without a GPU."""
    if not gpus():
        return None
    made = engine.plan.compiler
    identity = json.dumps([gpus()[0].name, gpus()[0].driver, made["name"], made["version"], engine.key])
    name = hashlib.sha256(identity.encode()).hexdigest()
    return engine.folder.parent.parent / "caches" / "runtime" / name


def _kind(name: str, value: Any) -> str:
    module = type(value).__module__.partition(".")[0]
    if module != "torch":
        return "NumPy"
    if value.device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"Input {name} is on {value.device}.", hint="Move it to the CPU or to cuda:0.")
    return "torch on the GPU" if value.device.type == "cuda" else "torch on the CPU"


def _bits(tensor: Any) -> Any:
    """A CPU tensor as a NumPy array; bfloat16 uses ml_dtypes."""
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
