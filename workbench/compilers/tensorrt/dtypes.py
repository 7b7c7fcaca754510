"""TensorRT's names of data types, and the names of `workbench.core.dtypes` for them."""

from __future__ import annotations

_ENUM = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "INT32": "int32", "INT64": "int64",
    "BOOL": "bool", "UINT8": "uint8", "FP8": "float8e4m3fn", "INT4": "int4", "FP4": "float4e2m1", "E8M0": "float8e8m0",
}  # fmt: skip

_INSPECTOR = {
    "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Int8": "int8", "Int32": "int32", "Int64": "int64",
    "Bool": "bool", "UInt8": "uint8", "FP8": "float8e4m3fn", "Int4": "int4", "FP4": "float4e2m1", "E8M0": "float8e8m0",
}  # fmt: skip

_OTHER = {
    "FP32": "float32", "FP16": "float16", "FP8E4M3": "float8e4m3fn", "Float8E4M3FN": "float8e4m3fn", "FP4E2M1": "float4e2m1",
}  # fmt: skip
"""Spellings that only some versions write."""

NAMES = {**_ENUM, **_INSPECTOR, **_OTHER}
"""The name of a data type by every spelling that TensorRT's log, inspector or Python API uses."""

ENUM = {name: key for key, name in _ENUM.items()}
"""The member of ``tensorrt.DataType`` by name."""

INSPECTOR = {name: key for key, name in _INSPECTOR.items()}
"""What the inspector of TensorRT 11 writes, by name."""
