"""The public contract suite over every compiler that is registered here."""

from __future__ import annotations

from workbench import compilers
from workbench.compilers.testing import CompilerContract


def _suite(name: str) -> type[CompilerContract]:
    return type(f"Test_{name}", (CompilerContract,), {"compiler": name, "__module__": __name__})


# "tensorrt" means TensorRT for RTX where the full TensorRT is not installed: one suite for one compiler.
for _name in dict.fromkeys(compilers.get(name).name for name in compilers.compilers()):
    globals()[f"Test_{_name}"] = _suite(_name)
