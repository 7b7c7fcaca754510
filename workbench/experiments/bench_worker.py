"""The benchmark in a worker: draw calibration samples and time one row, all ways on the same inputs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from workbench.core.errors import CompilerUnavailableError, WorkbenchError, first_lines

if TYPE_CHECKING:
    from workbench.core.worker import Reporter

LAYER_ITERATIONS = 10
"""Runs with the layer profiler; layer times are their mean."""


def draw(reporter: Reporter, *, file: str, out: str, count: int, shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    """Write calibration samples like the inputs of a sample model to an .npz file; in a worker.

    Floating-point inputs are normally distributed with the mean and standard deviation of the example; token ids are
    drawn at random from the ids of the example; inputs that contain only 0 and 1 (masks) are repeated unchanged.
    """
    import numpy as np

    from workbench.model.export import load_sample, resize_example

    rng = np.random.default_rng(0)
    _, inputs = load_sample(file)
    arrays = {}
    for (name, shape), example in zip(shapes.items(), inputs, strict=True):
        values = example.numpy()
        if values.dtype.kind == "f":
            arrays[name] = (values.mean() + values.std() * rng.standard_normal(shape)).astype(values.dtype)
        elif values.max() > 1:
            arrays[name] = rng.choice(values.ravel(), size=shape)
        else:
            arrays[name] = resize_example(example, tuple(shape)).numpy()
        reporter.progress("Drawing samples", len(arrays), len(shapes))
    np.savez(out, **arrays)
    return {"samples": count}


def measure(
    reporter: Reporter,
    *,
    file: str,
    shapes: Mapping[str, list[int]],
    precision: str,
    engine: Mapping[str, Any] | None,
    ways: Sequence[str],
    duration_ms: float,
    torch_tensorrt: str,
) -> dict[str, Any]:
    """Measure one row in a worker: all ways on the same inputs.

    Args:
        reporter: Receives progress.
        file: The sample model's Python file.
        shapes: The shape of each input.
        precision: fp32 or fp16, for PyTorch's ways.
        engine: ``runner`` and ``arguments`` for `open_runner`; None if there is no engine.
        ways: The ways to time.
        duration_ms: Minimum duration of each measurement, in milliseconds.
        torch_tensorrt: ``module:function`` that compiles the module with Torch-TensorRT.

    Returns:
        ``ways``: by name the latency (`Latency.to_dict`) with ``error`` against FP32; ``missing``: why a way was
        not timed; ``torch``: its version; ``layers``: name and mean milliseconds of each layer, for the engine
        without a CUDA graph.
    """
    import torch

    from workbench.hardware.cuda import TorchDevice
    from workbench.measure.accuracy import compare
    from workbench.measure.latency import measured_latency
    from workbench.measure.runner import open_runner
    from workbench.model.export import load_sample, resize_example

    device = TorchDevice()
    module, inputs = load_sample(file)
    values = [resize_example(t, tuple(shapes[n])) for n, t in zip(shapes, inputs, strict=True)]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    on_gpu = [t.cuda() for t in values]
    with torch.no_grad():
        module = module.cuda()
        reference = {"output": device.download(_first(module(*on_gpu)).float())}
        # Use TF32 from here on, as TensorRT does for FP32 by default.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if precision == "fp16":
            module = module.half()
            on_gpu = [t.half() if t.is_floating_point() else t for t in on_gpu]
        found: dict[str, Any] = {}
        missing: dict[str, str] = {}
        layers: list[tuple[str, float]] = []

        def note(way: str, step: Callable[[], None], output: Callable[[], Any], method: str) -> None:
            step()
            device.synchronize()
            torch.cuda.synchronize()
            error = compare({"output": device.download(_first(output()).float())}, reference)
            taken = measured_latency(device, step, method, 200.0, duration_ms, way, reporter).to_dict()
            found[way] = {**taken, "error": {"relative_l2": error["relative_l2"], "ok": error["ok"]}}

        def guarded(way: str, make: Callable[[], None]) -> None:
            if way not in ways:
                return
            try:
                make()
            except Exception as error:  # noqa: BLE001 - if one way fails, the others are still timed
                missing[way] = first_lines(error, 2)
            torch.cuda.empty_cache()

        def torch_way(way: str, function: Callable[..., Any], method: str) -> None:
            last: list[Any] = []

            def step() -> None:
                last[:] = [function(*on_gpu)]

            for _ in range(3):
                step()
            note(way, step, lambda: last[0], method)

        guarded("eager", lambda: torch_way("eager", module, "CUDA events around each call"))
        guarded(
            "torch.compile",
            lambda: torch_way(
                "torch.compile", torch.compile(module, mode="reduce-overhead"), "mode reduce-overhead, CUDA graphs"
            ),
        )

        def through_torch_tensorrt() -> None:
            name, _, function = torch_tensorrt.partition(":")
            compiled, method = getattr(importlib.import_module(name), function)(module, on_gpu, precision)
            torch_way("torch_tensorrt", compiled, method)

        guarded("torch_tensorrt", through_torch_tensorrt)

        def through_tensorrt(way: str) -> None:
            if engine is None:
                raise CompilerUnavailableError(missing.get(way, "no engine was built"))
            runner = open_runner(engine["runner"], {**engine["arguments"], "device": device})
            outputs = runner.bind(dict(zip(shapes, values, strict=True)))
            runner.run()
            device.synchronize()
            step = device.capture(runner.run) if way.endswith("graph") else runner.run
            note(way, step, lambda: next(iter(outputs.values())), "CUDA graph" if way.endswith("graph") else "enqueue")
            if not way.endswith("graph"):
                try:
                    rows = runner.layer_times(LAYER_ITERATIONS)
                    layers[:] = [(name, sum(times) / len(times)) for name, times in rows]
                except WorkbenchError as error:  # the latency is valid without layer times
                    missing["layers"] = error.message

        for way in ("tensorrt", "tensorrt graph"):
            if engine is not None:
                guarded(way, partial(through_tensorrt, way))
    return {"ways": found, "missing": missing, "torch": torch.__version__, "layers": layers}


def _first(value: Any) -> Any:
    if isinstance(value, Mapping):
        return next(iter(value.values()))
    return value[0] if isinstance(value, tuple | list) else value
