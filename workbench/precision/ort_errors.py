"""Table of known ONNX Runtime errors: code, pattern, remedy. A message that matches no row has no hint."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

_Error = TypeVar("_Error", bound=Exception)

_NO_KERNEL = (
    "ONNX Runtime has no CPU kernel for this operator in this type. Measure such a model as an engine, on a GPU."
)
_INVALID = "The model is not valid ONNX: `python -m onnx.checker FILE` gives details. Export it again."

RULES: tuple[tuple[str, re.Pattern[str], str | None], ...] = tuple(
    (code, re.compile(pattern), hint)
    for code, pattern, hint in (
        ("ort-no-kernel", r": NOT_IMPLEMENTED : Could not find an implementation for ", _NO_KERNEL),
        ("ort-unknown-operator", r"is not a registered function/op|No Op registered for ",
         "ONNX Runtime does not know this operator. Measure such a model as an engine, on a GPU."),
        ("ort-type-mismatch", r"Type Error: Type (?:parameter \(\w+\) of Optype |\(.*?\) of output arg )", _INVALID),
        ("ort-invalid-model", r"the graph is not acyclic|is not a graph input, initializer, or output of a previous node|"
         r"Error No opset import for domain|\[ShapeInferenceError\]|\[TypeInferenceError\]", _INVALID),
        ("ort-not-a-model", r": INVALID_PROTOBUF : ", "This file is not an ONNX model, or it is truncated: get it again."),
        ("ort-no-file", r": NO_SUCHFILE : ", "Check the path."),
        ("ort-too-new", r"Unsupported model IR version: \d+, max supported IR version: \d+|only \*guarantees\* support for models stamped",
         "The model is newer than this ONNX Runtime: install a newer one, or export with an earlier opset."),
        ("ort-weights-missing", r"External data path does not exist", "Put the weights file in the model's folder."),
        ("ort-weights-short", r"are out of bounds or can not be read in full",
         "The weights file is shorter than the model states: get it again."),
        ("ort-out-of-memory", r"Failed to allocate memory for requested buffer of size \d+|\bstd::bad_alloc\b",
         "Use smaller shapes, a smaller batch, or a machine with more memory."),
        ("ort-data", r"Got invalid dimensions for input: |Unexpected input data type\. Actual: |Invalid [Ff]eed Input Name|"
         r"Required inputs \(.*\) are missing", "Give data with the names, shapes and types of the model's inputs."),
        ("ort-shape-mismatch", r"Attempting to broadcast an axis by a dimension other than 1|The input tensor cannot be reshaped to the requested",
         "The model does not support these shapes: give data of another shape, or export it with dynamic dimensions."),
        ("ort-index", r"indices element out of data bounds", "An index in the data is outside the range of its lookup table."),
    )
)  # fmt: skip
"""Recorded with ONNX Runtime 1.23 to 1.30; `tests/unit/test_ort_errors.py` has a model for each."""


def ways_out(error: BaseException) -> tuple[str | None, str | None]:
    """Code and hint of an exception of ONNX Runtime; None and None if its message matches no known cause."""
    said = str(error)[:4000]
    return next(((code, hint) for code, pattern, hint in RULES if pattern.search(said)), (None, None))


def raised(kind: Callable[..., _Error], doing: str, error: BaseException) -> _Error:
    """An error of class `kind` with ONNX Runtime's message, and a code and a hint if the cause is known."""
    code, hint = ways_out(error)
    return kind(f"{doing}: {error}", hint=hint, code=code)
