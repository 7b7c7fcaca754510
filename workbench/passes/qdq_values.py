"""Scales, and values rounded as a quantizer rounds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.core.errors import CalibrationError, ModelError
from workbench.passes.fold import folded

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir


QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
"""Operations that only occur in a quantized model."""


def scale_of(amax: Any, to: str, rest: str) -> Any:
    """Scales for magnitudes `amax`, rounded up to float32 numbers that the rest's type holds exactly.

    They are rounded up, so that the largest value is not clipped; they are never 0, so that no division by 0 occurs.

    Raises:
        CalibrationError: a magnitude is NaN, infinite, or negative (code ``calibration-range``), so has no scale.
    """
    import ml_dtypes
    import numpy as np

    ends = np.asarray(amax, dtype=np.float64)
    if not (np.isfinite(ends) & (ends >= 0)).all():
        raise CalibrationError(
            f"A range ends at {float(ends[~(np.isfinite(ends) & (ends >= 0))].flat[0]):g}, which is not a magnitude.",
            hint="The calibration, or the cache that it came from, is damaged: calibrate again with data.",
            code="calibration-range",
        )
    scale = ends / LIMIT[to]
    kind: Any = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16, "fp32": np.float32}[rest]
    smallest = float(np.finfo(kind).smallest_subnormal) if rest != "bf16" else 1e-38
    scale = np.clip(scale, smallest, float(np.finfo(kind).max if rest != "bf16" else 3e38))
    low = scale.astype(kind)
    below = low.astype(np.float64) < scale
    step = low.view(np.uint32 if rest == "fp32" else np.uint16)
    up = (step + below.astype(step.dtype)).astype(step.dtype).view(kind)
    return np.where(np.isfinite(up.astype(np.float32)), up, low).astype(np.float32)


def round_to(values: Any, rest: str) -> Any:
    """`values`, rounded to the nearest float32 numbers that the rest's type holds exactly."""
    import ml_dtypes
    import numpy as np

    kind: Any = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16, "fp32": np.float32}[rest]
    return np.asarray(values).astype(kind).astype(np.float32)


def quantize_array(values: np.ndarray, scale: np.ndarray, to: str, *, axis: int | None, block: int = 0) -> Any:
    """`values` / `scale` in the quantized type (int8, float8e4m3fn, int4), rounded to nearest even."""
    import ml_dtypes
    import numpy as np

    if block:
        spread = np.repeat(scale, block, axis=axis)  # blocks run along `axis`
        spread = spread[tuple(slice(0, n) for n in values.shape)]
    else:
        spread = scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    ratio = values.astype(np.float32) / spread.astype(np.float32)
    top = LIMIT[to]
    if to == "fp8":
        return np.clip(ratio, -top, top).astype(ml_dtypes.float8_e4m3fn)
    rounded = np.clip(np.rint(ratio), -top if to == "int8" else -8, top).astype(np.int8)
    return rounded if to == "int8" else rounded.astype(ml_dtypes.int4)


def largest_of(weight: ir.Value) -> float:
    """The largest magnitude of a constant weight."""
    import numpy as np

    return float(np.abs(weights_of(weight)).max())


LIMIT = {"int8": 127.0, "fp8": 448.0, "int4": 7.0}
"""The largest magnitude that each type holds, symmetric around 0."""


def weights_of(value: ir.Value) -> Any:
    """A stored weight as float32.

    Raises:
        ModelError: it holds a NaN or infinite number.
    """
    import numpy as np

    values = folded(value).numpy().astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        raise ModelError(
            f"Weight {value.name} holds {bad} NaN or infinite value{'s'[: bad != 1]}: no scale fits it.",
            hint="The FP32 model itself holds these values; check how it was trained or exported.",
        )
    return values
