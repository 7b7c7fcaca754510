"""An engine kept loaded in a worker, executed each time that `workbench.measure.running.Running` asks."""

from __future__ import annotations

import base64
import contextlib
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError, WorkbenchError, first_lines
from workbench.core.shared_arrays import Seen, Shared

if TYPE_CHECKING:
    from workbench.core.worker import Reporter


def serve(
    reporter: Reporter,
    *,
    module: str,
    engine: str,
    built: Mapping[str, Any] | None = None,
    shape_profile: int = 0,
    weight_budget: int | None = None,
    cache: str | None = None,
    finite: bool = True,
    device: Any = None,
) -> dict[str, Any]:
    """Load an engine and execute it until told to close.

    Args:
        reporter: Where messages come from and answers go.
        module: The TensorRT module to use.
        engine: Path of the serialized engine.
        built: What made the engine, where it is known; see `runtime.check_file`.
        shape_profile: Which shape profile to use.
        weight_budget: See `runtime.Runner`.
        cache: File of compiled kernels, written after the first execution and at the end.
        finite: Refuse inputs that hold NaN or infinity.
        device: CUDA; torch's by default.

    Returns:
        ``{"calls": executions}``.

    Raises:
        BuildError: the engine can't be used here, in words.
        ConfigError: there is no such shape profile or weight budget.
        CompilerUnavailableError: there is no GPU, or the flavour is not installed.
    """
    from workbench.compilers.tensorrt.build import load
    from workbench.compilers.tensorrt.runtime import Runner, check_file

    if device is None:
        from workbench.hardware.cuda import TorchDevice

        device = TorchDevice()
    trt = load(module)
    here = {"name": module, "version": str(getattr(trt, "__version__", "")), "sm": device.facts().get("sm")}
    check_file(Path(engine), built, here)
    kept = Path(cache) if cache else None
    runner = Runner(trt, Path(engine), device, shape_profile, weight_budget=weight_budget, cache=kept)
    reporter.answer({
        "inputs": {p.name: [p.dtype, list(p.shape)] for p in runner.inputs},
        "outputs": {p.name: [p.dtype, list(p.shape)] for p in runner.outputs},
        "cached_bytes": runner.cached,
    })  # fmt: skip
    seen, shared = Seen(), Shared()
    calls = 0
    while True:
        message = reporter.receive()
        if message["do"] == "close":
            break
        try:
            answer = _do(message, runner, device, seen, shared, finite)
        except WorkbenchError as error:
            reporter.answer(error)
            continue
        if "ms" in answer:
            calls += 1
            if calls == 1 and kept is not None:
                answer["cache_bytes"] = _save(runner, kept)
        reporter.answer(answer)
    if kept is not None and calls:
        _save(runner, kept)
    reporter.answer({"calls": calls})
    return {"calls": calls}


def _do(message: dict[str, Any], runner: Any, device: Any, seen: Seen, shared: Shared, finite: bool) -> dict[str, Any]:
    if message["do"] == "shapes":
        given = {n: SimpleNamespace(shape=tuple(shape), dtype=dtype) for n, (shape, dtype) in message["inputs"].items()}
        return {"outputs": runner.output_shapes(given)}
    if message["do"] == "run":
        outputs = runner.bind(seen.get(message["arrays"]), finite=finite)
        spent = _execute(runner, device)
        types = {p.name: p.dtype for p in runner.outputs}
        return {
            "arrays": shared.put({n: device.download(t) for n, t in outputs.items()}), "types": types, "ms": spent
        }  # fmt: skip
    # Tensors of the other process, on the GPU: inputs and outputs are used where they lie.
    try:
        inputs, outputs = pickle.loads(base64.b64decode(message["tensors"]))  # noqa: S301 - of our own parent
    except RuntimeError as error:
        raise ConfigError(
            f"The tensors on the GPU could not be shared with the worker: {first_lines(error)}",
            hint="Give NumPy arrays or CPU tensors.",
        ) from None
    runner.bind(inputs, finite=finite, into=outputs)
    spent = _execute(runner, device)
    runner.bound = {}  # their owner frees them
    return {"ms": spent}


def _execute(runner: Any, device: Any) -> float:
    begin = time.perf_counter()
    runner.run()
    device.synchronize()
    return (time.perf_counter() - begin) * 1e3


def _save(runner: Any, path: Path) -> int:
    # A full disk costs the next process some compiling, not this one its result.
    with contextlib.suppress(OSError):
        return int(runner.save_cache(path))
    return 0
