"""Known errors of torch.export and Torch-TensorRT, as tables: code, pattern, remedy.

A message that no row matches is shown unchanged, without a hint.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_Rows = Sequence[tuple[str, str, str]]

EXPORT: _Rows = (
    ("fixed-dimension", r"\AConstraints violated",
     "The code fixes this dimension or limits its range: give it one size, or a range that the message allows."),
    ("data-dependent", r"data-dependent expression",
     "The code needs a value of a tensor while it is exported (if, int(), .item(), a shape): use torch.where or torch.cond, or a constant."),
    ("missing-argument", r"\Amissing a required argument: ", "Give an example for each argument of forward."),
)  # fmt: skip
"""Errors of torch.export.export (recorded with torch 2.11 to 2.13)."""

IMPORT: _Rows = (
    ("torch-without-cuda", r"Torch not compiled with CUDA enabled|libtorch_cuda\.so",
     "This torch was built without CUDA, and torch_tensorrt needs a build with CUDA."),
    ("torch-mismatch", r"undefined symbol: ", "The versions of torch_tensorrt and torch must match: install the two together."),
    ("tensorrt-missing", r"Could not find (?:libtensorrt_rtx|libnvinfer)|No module named 'tensorrt(?:_rtx)?(?:_bindings|_libs)?'",
     "It needs TensorRT: install the version that it was built for (torch_tensorrt 2.11 for RTX: tensorrt_rtx 1.3 or 1.4)."),
    ("tensorrt-mismatch", r"module 'tensorrt\w*(?:\.\w+)*' has no attribute ",
     "It was built for another TensorRT version (torch_tensorrt 2.11 for RTX: tensorrt_rtx 1.3 or 1.4)."),
)  # fmt: skip
"""Errors of ``import torch_tensorrt``."""

LOAD: _Rows = (
    ("damaged-file", r"PytorchStreamReader failed|not a ZIP archive|File is not a zip file|Bad magic number",
     "The file is damaged, or was not written by Compiled.save: compile it again."),
    ("engine-mismatch", r"[Uu]nable to deserialize the TensorRT engine|ABI version|different compute capability|"
     r"engine plan file is not compatible|cannot run on this GPU",
     "Engines belong to one GPU and one TensorRT version: compile it again on this machine."),
)  # fmt: skip
"""Of ``torch_tensorrt.load``."""

COMPILE: _Rows = (
    ("gpu-out-of-memory", r"CUDA (?:error: )?out of memory|Error Code:? \d+: OutOfMemory",
     "Stop other programs that use the GPU (nvidia-smi lists them), or use a smaller batch."),
)  # fmt: skip
"""Of ``torch_tensorrt.compile``."""


def way_out(rows: _Rows, error: BaseException) -> tuple[str | None, str | None]:
    """Code and hint of the first row whose pattern matches `error` or one of its causes; None and None without a match."""
    said: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(said) < 5:
        said.append(str(seen)[:4000])
        seen = seen.__cause__
    for code, pattern, hint in rows:
        if any(re.search(pattern, text) for text in said):
            return code, hint
    return None, None
