"""Replaces the weights of a built engine, in a worker. The kernels stay the same, without a new build.

Written for `Refitter` and `OnnxParserRefitter` of TensorRT 10.13, 11.4 and RTX 1.7. Not yet tested: building a refittable engine
needs a driver.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.compilers.tensorrt.build import load
from workbench.compilers.tensorrt.compatibility import check_file
from workbench.compilers.tensorrt.dtypes import ENUM
from workbench.compilers.tensorrt.runtime import Log, logger
from workbench.core.errors import BuildError, ConfigError
from workbench.core.shared_arrays import Place, ReceivedArrays
from workbench.core.store import output
from workbench.core.worker import Reporter
from workbench.hardware.cuda import need_gpu
from workbench.hardware.machine import gpus


def refit(
    reporter: Reporter,
    *,
    module: str,
    engine: str,
    out: str,
    weights: Place | None = None,
    model: str | None = None,
    built: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a copy of the engine with other weights.

    Args:
        reporter: Where progress goes.
        module: The TensorRT module to use.
        engine: Path of the serialized engine.
        out: Path of the new engine.
        weights: Arrays by the names of the model's initializers, in shared memory; or
        model: Path of an ONNX file with the same graph and other weights.
        built: What made the engine, if known; see `compatibility.check_file`.

    Returns:
        ``{"bytes": size, "weights": how many were replaced}``; ``weights`` is None for an ONNX file.

    Raises:
        ConfigError: the engine can't be refitted; a weight that is not in it, does not fit it, or is missing.
        BuildError: TensorRT refused the engine or the weights.
        CompilerUnavailableError: there is no GPU, or the flavor is not installed.
    """
    need_gpu(bool(gpus()))
    trt = load(module)
    here = {"name": module, "version": str(getattr(trt, "__version__", "")), "sm": gpus()[0].sm}
    check_file(Path(engine), built, here)
    log = Log()
    heard = logger(trt, log)

    def refused(what: str) -> BuildError:
        reason = log.errors[-1] if log.errors else "it gives no reason"
        return BuildError(
            f"{what}: {reason}.",
            hint="Build the model again.",
            details={"errors": log.errors[-10:]},
            code="refit-failed",
        )

    reporter.progress("Refitting", 0, 3)
    runtime = trt.Runtime(heard)
    loaded = runtime.deserialize_cuda_engine(Path(engine).read_bytes())
    if loaded is None:
        raise refused("The engine can't be used here")
    if not loaded.refittable:
        raise ConfigError("The engine can't be refitted.", hint="Build it with refit=True.", code="not-refittable")
    refitter = trt.Refitter(loaded, heard)
    count = None
    reporter.progress("Refitting", 1, 3)
    if model is not None:
        parser = trt.OnnxParserRefitter(refitter, heard)
        if not parser.refit_from_file(model):
            said = [str(parser.get_error(i).desc()) for i in range(parser.num_errors)] or log.errors[-1:]
            raise ConfigError(
                f"The weights of {Path(model).name} do not fit the engine: {'; '.join(said) or 'no reason is given'}.",
                hint="The graph must be the one that was built, node by node, with the same shapes.",
                code="other-model",
            )
        arrays: dict[str, Any] = {}
    else:
        assert weights is not None
        arrays = ReceivedArrays().get(weights)
        count = len(arrays)
        _set(trt, refitter, arrays)
        missing = [name for name in refitter.get_missing_weights() if name]
        if missing:
            raise ConfigError(
                f"These weights were fused with the given ones, so they are needed too: {', '.join(missing[:10])}.",
                hint="Give them too.",
                code="weights-missing",
                details={"missing": missing},
            )
    if not refitter.refit_cuda_engine():
        raise refused("The engine was not refitted")
    reporter.progress("Refitting", 2, 3)
    serialization = loaded.create_serialization_config()
    serialization.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)  # a stripped engine has its weights from here on
    if hasattr(trt.SerializationFlag, "INCLUDE_REFIT"):
        serialization.set_flag(trt.SerializationFlag.INCLUDE_REFIT)
    data = loaded.serialize_with_config(serialization)
    if data is None:
        raise refused("The refitted engine can't be written")
    with output(out, parents=True) as draft:
        size = draft.write_bytes(data)
    reporter.progress("Refitting", 3, 3)
    return {"bytes": size, "weights": count}


def _set(trt: Any, refitter: Any, arrays: dict[str, Any]) -> None:
    known = list(refitter.get_all_weights())
    strange = [name for name in arrays if name not in known]
    if strange:
        raise ConfigError(
            f"The engine has no weights {', '.join(strange[:10])}.",
            hint="It has " + ", ".join(known[:10]) + (f" and {len(known) - 10} more." if len(known) > 10 else "."),
            details={"weights": known},
            code="no-such-weights",
        )
    for name, array in arrays.items():
        kind = getattr(trt.DataType, ENUM.get(array.dtype.name, ""), None)
        if kind is None:
            raise ConfigError(f"Weights {name} are {array.dtype.name}, which is not a type of weights in TensorRT.",
                              hint="Convert them to the type that the model has.", code="weights-type")  # fmt: skip
        wanted = refitter.get_weights_prototype(name)
        if wanted.dtype != kind or wanted.size != array.size:
            raise ConfigError(
                f"Weights {name} are {array.size} values of {array.dtype.name}; the engine has {wanted.size} of {wanted.dtype.name}.",
                hint="Give them in the type and shape that the model has.",
                code="weights-mismatch",
            )
        # The memory is shared with the caller's process, which keeps it until this process has answered.
        if not refitter.set_named_weights(name, trt.Weights(kind, array.ctypes.data, array.size)):
            raise ConfigError(f"Weights {name} were refused by TensorRT.", hint="Their values must be finite numbers.",
                              code="weights-refused")  # fmt: skip
