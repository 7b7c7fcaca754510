"""Runs TensorRT 10's INT8 calibrators on the workbench's calibration data, in a worker on a GPU.

TensorRT 11 and TensorRT for RTX have no calibrators, but can use their results: the scales of the cache become Q/DQ pairs in the
graph (`workbench.precision.quantize`, method ``entropy_calibration_2`` and others).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.config import BuildConfig
from workbench.compilers.tensorrt.build import builder_refused, load, parser_refused
from workbench.compilers.tensorrt.builder import log_to, progress_monitor
from workbench.compilers.tensorrt.case import words
from workbench.core.errors import CalibrationError, ConfigError
from workbench.core.store import replacing

if TYPE_CHECKING:
    from workbench.core.worker import Reporter
    from workbench.hardware.device import GraphDevice

CALIBRATORS = {
    "entropy_calibration_2": "IInt8EntropyCalibrator2",
    "entropy_calibration": "IInt8EntropyCalibrator",
    "minmax_calibration": "IInt8MinMaxCalibrator",
    "legacy_calibration": "IInt8LegacyCalibrator",
}
"""Calibration methods of TensorRT 10, named as in CalibrationAlgoType, and their classes."""


def calibrate(
    reporter: Reporter,
    *,
    module: str,
    model: str,
    method: str,
    batches: str,
    cache: str,
    folder: str,
    percentile: float = 99.99,
    device: GraphDevice | None = None,
) -> dict[str, Any]:
    """Let TensorRT calibrate `model` on the batches, and write its cache.

    Args:
        reporter: Where progress goes.
        module: The TensorRT module to use.
        model: Path of the ONNX file, in FP32.
        method: A key of `CALIBRATORS`.
        batches: Folder of batches that `workbench.precision.data.gather` wrote.
        cache: The cache file: if it exists it is read, and TensorRT runs no batch; otherwise it is written.
        folder: For the build log.
        percentile: For the legacy calibrator.
        device: The GPU; torch's by default.

    Returns:
        ``batches``: how many TensorRT read; ``read``: whether the cache already existed.

    Raises:
        ConfigError: this flavor has no such calibrator; the hint is the strongly typed alternative.
        CalibrationError: it wrote no cache.
        BuildError: the parser or the builder refused the model.
    """
    trt = load(module)
    check(trt, method)
    if device is None:
        from workbench.hardware.cuda import TorchDevice

        device = TorchDevice()
    logger = log_to(trt, Path(folder) / "calibration.log")
    builder = trt.Builder(logger)
    # Not strongly typed: a calibrator needs the builder to choose types.
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(model):
        raise parser_refused(trt, parser, model, logger, BuildConfig(compiler="tensorrt"))
    made = calibrator(trt, method, Path(batches), Path(cache), device, reporter, percentile)
    options = builder.create_builder_config()
    options.set_flag(trt.BuilderFlag.INT8)
    options.int8_calibrator = made
    if hasattr(options, "progress_monitor"):
        options.progress_monitor = progress_monitor(trt, reporter)
    inputs = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    if any(d < 0 for tensor in inputs.values() for d in tensor.shape):
        profile = builder.create_optimization_profile()
        for name, shape in made.shapes.items():
            profile.set_shape(name, shape, shape, shape)
        options.add_optimization_profile(profile)
        options.set_calibration_profile(profile)
    known = Path(cache).is_file()
    if builder.build_serialized_network(network, options) is None:
        raise builder_refused(trt, BuildConfig(compiler="tensorrt"), logger, Path(model))
    logger.close()
    if not Path(cache).is_file():
        raise CalibrationError(
            f"{CALIBRATORS[method]} wrote no calibration cache"
            + (f". TensorRT's last error: {words(logger.errors[-1])}" if logger.errors else "."),
            hint="The workbench's own methods need no calibrator: entropy, minmax.",
        )
    return {"batches": made.done, "read": known}


def check(trt: Any, method: str) -> None:
    """Refuse a calibrator that this flavor lacks.

    Raises:
        ConfigError: this flavor lacks it; the message names it.
    """
    name = CALIBRATORS[method]
    if hasattr(trt, name) and hasattr(trt.BuilderFlag, "INT8"):
        return
    from workbench.precision.migrate import migrate

    equivalent = migrate(name).python[-2]
    raise ConfigError(
        f"{trt.__name__} {getattr(trt, '__version__', '')} has no {name} ({method.upper()}): calibrators ended with "
        "TensorRT 10.",
        hint=f"Strongly typed networks get the same result from Q/DQ in the graph: {equivalent}",
    )


def calibrator(
    trt: Any, method: str, batches: Path, cache: Path, device: GraphDevice, reporter: Reporter, percentile: float
) -> Any:
    """An instance of TensorRT's calibrator class that reads `batches` and keeps `cache`.

    ``shapes`` has the shapes of the first batch by input, ``done`` how many batches were read.
    """
    import numpy as np

    from workbench.precision.data import read_batches

    base: Any = getattr(trt, CALIBRATORS[method])
    total = len(list(batches.glob("*.npz")))
    first: Mapping[str, Any] = next(read_batches(batches), {})
    if not first:
        raise CalibrationError("There is no calibration batch.")

    class Calibrator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)  # pybind11 requires calling the base by name
            self.shapes = {name: tuple(array.shape) for name, array in first.items()}
            self.done = 0
            self._left = read_batches(batches)
            self._held: list[Any] = []

        def get_batch_size(self) -> int:
            shape = next(iter(self.shapes.values()))
            return int(shape[0]) if shape else 1

        def get_batch(self, names: list[str]) -> list[int] | None:
            batch = next(self._left, None)
            if batch is None:
                return None
            self._held = [device.upload(np.ascontiguousarray(batch[n]), str(batch[n].dtype)) for n in names]
            device.synchronize()
            self.done += 1
            reporter.progress("Calibrating", self.done, total)
            return [device.pointer(tensor) for tensor in self._held]

        def read_calibration_cache(self) -> bytes | None:
            return cache.read_bytes() if cache.is_file() else None

        def write_calibration_cache(self, data: Any) -> None:
            with replacing(cache) as draft:
                draft.write_bytes(bytes(data))

        # Only the legacy calibrator calls this.
        def get_quantile(self) -> float:
            return percentile / 100

        def get_regression_cutoff(self) -> float:
            return 1.0

        def read_histogram_cache(self, _length: int) -> None:
            return None

        def write_histogram_cache(self, _data: Any, _length: int) -> None:
            return None

    return Calibrator()
