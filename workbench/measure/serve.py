"""Keep an engine loaded in a worker and execute it on each request of `workbench.measure.running.Running`.

This is the worker's side of `workbench.compilers.base.Runs`. The task opens a `Runner` and calls `serve`. The messages are
JSON objects; arrays go through shared memory (`workbench.core.shared_arrays`):

    first answer, when the engine is open     {"inputs": {name: [dtype, shape]}, "outputs": {...}, "cached_bytes": int,
                                               "gpu": whether it executes on a GPU}
    {"do": "shapes", "inputs": {name: [shape, dtype]}}
                                              {"outputs": {name: [shape, dtype]}}
    {"do": "run", "arrays": place}            {"arrays": place, "types": {name: dtype}, "ms": float}
    {"do": "tensors", "tensors": base64}      {"ms": float}: torch tensors on the GPU, inputs and outputs, pickled as CUDA
                                              IPC handles; they are used where they are
    {"do": "close"}                           {"calls": int}, and the task ends

Inputs that do not fit are answered with an error, and the engine stays open.
"""

from __future__ import annotations

import base64
import contextlib
import pickle
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError, WorkbenchError, first_lines
from workbench.core.shared_arrays import ReceivedArrays, SentArrays
from workbench.hardware.device import GraphDevice

if TYPE_CHECKING:
    from workbench.core.worker import Reporter
    from workbench.measure.runner import Runner


def serve(reporter: Reporter, runner: Runner, *, cache: Path | None = None, finite: bool = True) -> dict[str, Any]:
    """Execute an engine until a close message arrives.

    Args:
        reporter: Receives messages and sends answers.
        runner: The engine.
        cache: File of compiled kernels, written after the first execution and at the end; None keeps none.
        finite: Refuse inputs that contain NaN or infinity.

    Returns:
        ``{"calls": executions}``.
    """
    reporter.answer({
        "inputs": {p.name: [p.dtype, list(p.shape)] for p in runner.inputs},
        "outputs": {p.name: [p.dtype, list(p.shape)] for p in runner.outputs},
        "cached_bytes": runner.cached,
        "gpu": isinstance(runner.device, GraphDevice),
    })  # fmt: skip
    seen, shared = ReceivedArrays(), SentArrays()
    calls = 0
    while True:
        message = reporter.receive()
        if message["do"] == "close":
            break
        try:
            answer = answered(message, runner, seen, shared, finite)
        except WorkbenchError as error:
            reporter.answer(error)
            continue
        if "ms" in answer:
            calls += 1
            if calls == 1 and cache is not None:
                answer["cache_bytes"] = _save(runner, cache)
        reporter.answer(answer)
    if cache is not None and calls:
        _save(runner, cache)
    reporter.answer({"calls": calls})
    return {"calls": calls}


def answered(
    message: dict[str, Any], runner: Runner, seen: ReceivedArrays, shared: SentArrays, finite: bool
) -> dict[str, Any]:
    """The answer to one message other than ``close``.

    Raises:
        ConfigError: the inputs do not fit.
        BuildError: the execution failed.
    """
    device = runner.device
    if message["do"] == "shapes":
        given = {n: SimpleNamespace(shape=tuple(shape), dtype=dtype) for n, (shape, dtype) in message["inputs"].items()}
        return {"outputs": runner.output_shapes(given)}
    if message["do"] == "run":
        outputs = runner.bind(seen.get(message["arrays"]), finite=finite)
        spent = _execute(runner)
        types = {p.name: p.dtype for p in runner.outputs}
        return {
            "arrays": shared.put({n: device.download(t) for n, t in outputs.items()}), "types": types, "ms": spent
        }  # fmt: skip
    # GPU tensors of the other process: inputs and outputs are used in place.
    try:
        inputs, outputs = pickle.loads(base64.b64decode(message["tensors"]))  # noqa: S301 - from the parent process
    except RuntimeError as error:
        raise ConfigError(
            f"The tensors on the GPU could not be shared with the worker: {first_lines(error)}",
            hint="Give NumPy arrays or CPU tensors.",
        ) from None
    runner.bind(inputs, finite=finite, into=outputs)
    spent = _execute(runner)
    runner.release()  # the owner frees the tensors
    return {"ms": spent}


def _execute(runner: Runner) -> float:
    begin = time.perf_counter()
    runner.run()
    runner.device.synchronize()
    return (time.perf_counter() - begin) * 1e3


def _save(runner: Runner, path: Path) -> int:
    # With a full disk, the next process compiles again; this process keeps its result.
    with contextlib.suppress(OSError):
        return runner.save_cache(path)
    return 0
