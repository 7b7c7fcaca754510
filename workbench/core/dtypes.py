"""The one table of data types: names, sizes and the short labels that people see.

Plans, models and charts use ONNX's names in lower case (``float16``). Views show the labels (``fp16``); the colors in
``charts/palette.json`` are keyed by them. A compiler's own names for these types are in its folder
(`workbench.compilers.tensorrt.dtypes`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataType:
    """One data type.

    Attributes:
        name: ONNX's name in lower case; NumPy (with ml_dtypes) has the same names but for ``float8e…`` and ``float4e…``.
        bits: Bits per element.
        label: The short name that people see.
        quantized: Whether engines use it for quantized values.
    """

    name: str
    bits: int
    label: str = ""
    quantized: bool = False

    @property
    def short(self) -> str:
        """The label, or the name where it is short enough."""
        return self.label or self.name


DTYPES = {
    dtype.name: dtype
    for dtype in (
        DataType("float32", 32, "fp32"), DataType("float64", 64), DataType("float16", 16, "fp16"),
        DataType("bfloat16", 16, "bf16"),
        DataType("float8e4m3fn", 8, "fp8", True), DataType("float8e5m2", 8, quantized=True),
        DataType("float8e4m3fnuz", 8), DataType("float8e5m2fnuz", 8), DataType("float8e8m0", 8),
        DataType("float4e2m1", 4, quantized=True),
        DataType("int4", 4, quantized=True), DataType("uint4", 4, quantized=True), DataType("int2", 2), DataType("uint2", 2),
        DataType("int8", 8, quantized=True), DataType("uint8", 8, quantized=True), DataType("bool", 8),
        DataType("int16", 16), DataType("uint16", 16), DataType("int32", 32), DataType("uint32", 32),
        DataType("int64", 64), DataType("uint64", 64), DataType("complex64", 64), DataType("complex128", 128),
    )
}  # fmt: skip
"""Every data type by name."""

BITS = {name: dtype.bits for name, dtype in DTYPES.items()}
"""Bits per element by name."""

QUANTIZED = frozenset(name for name, dtype in DTYPES.items() if dtype.quantized)
"""Names of the types that hold quantized values."""

_BY_LABEL = {dtype.label: dtype.name for dtype in DTYPES.values() if dtype.label}


def label_of(name: str) -> str:
    """The short name of a data type: ``float16`` -> ``fp16``; names without one stay as they are."""
    found = DTYPES.get(name)
    return name if found is None else found.short


def name_of(label: str) -> str:
    """The name of a data type from its label: ``fp16`` -> ``float16``; other names stay as they are."""
    return _BY_LABEL.get(label, label)
