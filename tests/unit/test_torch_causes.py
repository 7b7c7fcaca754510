"""What the errors of torch.export and Torch-TensorRT prove: each row of the tables by an example, recorded or made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import needs_torch
from workbench.compilers.torch_tensorrt.causes import COMPILE, EXPORT, IMPORT, LOAD, way_out
from workbench.core.errors import ModelError

RECORDED = [
    (IMPORT, "torch-without-cuda", "Torch not compiled with CUDA enabled", "without CUDA"),
    (IMPORT, "torch-without-cuda", "libtorch_cuda.so: cannot open shared object file: No such file or directory", "without CUDA"),
    (IMPORT, "torch-mismatch", "/x/libtorchtrt.so: undefined symbol: _ZN3c10", "must match"),
    (IMPORT, "tensorrt-missing", "import error when try to import _TensorRTProxyModule, got error Could not find libtensorrt_rtx.so.1", "install the version"),
    (IMPORT, "tensorrt-mismatch", "module 'tensorrt_rtx' has no attribute 'IAlgorithmSelector'", "another TensorRT"),
    (LOAD, "damaged-file", "PytorchStreamReader failed reading zip archive: failed finding central directory", "damaged"),
    (LOAD, "engine-mismatch", "Unable to deserialize the TensorRT engine", "one GPU"),
    (COMPILE, "gpu-out-of-memory", "CUDA out of memory. Tried to allocate 2.00 GiB", "nvidia-smi"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "code", "said", "hint"), RECORDED)
def test_recorded_errors(rows: Any, code: str, said: str, hint: str) -> None:
    found = way_out(rows, RuntimeError(said))
    assert found[0] == code
    assert hint in str(found[1])
    outer = RuntimeError("While interpreting the module got an error:")
    outer.__cause__ = RuntimeError(said)
    assert way_out(rows, outer) == found


@pytest.mark.parametrize("rows", [EXPORT, IMPORT, LOAD, COMPILE])
def test_no_hint_without_a_proof(rows: Any) -> None:
    for said in ("something odd", "", "this version is odd", "has no attribute 'x'", "memory", "a dimension is odd"):
        assert way_out(rows, AttributeError(said)) == (None, None)


def test_every_row_is_reached() -> None:
    reached = {code for _, code, _, _ in RECORDED} | {code for code, _, _ in MADE}
    assert {code for rows in (EXPORT, IMPORT, LOAD, COMPILE) for code, _, _ in rows} <= reached


MADE = [
    ("fixed-dimension", "fixed", "give it one size"),
    ("data-dependent", "branches", "torch.where"),
    ("missing-argument", "two", "each argument"),
    ("module-fails", "broken", "The module itself fails on these inputs"),
    ("model", "numpy", None),
]


@needs_torch
@pytest.mark.parametrize(("code", "which", "hint"), MADE)
def test_what_torch_export_refuses(code: str, which: str, hint: str | None) -> None:
    import torch

    from workbench.compilers.torch_tensorrt.export import export

    class Module(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            if which == "fixed":
                return x.reshape(2, 8)
            if which == "branches":
                return x * 2 if x.sum() > 0 else x
            if which == "numpy":
                return torch.from_numpy(x.numpy() * 2)
            return x @ torch.zeros(3, 3)

    class Two(torch.nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    dynamic = {"x": {0: torch.export.Dim("n", min=1, max=8)}} if which == "fixed" else {}
    module = Two() if which == "two" else Module()
    with pytest.raises(ModelError, match=r"torch\.export can.t export") as info:
        export(module, {"x": torch.ones(2, 8)}, dynamic)
    assert info.value.code == code
    assert (info.value.hint is None) if hint is None else hint in str(info.value.hint)
