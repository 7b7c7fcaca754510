"""A compiler from a separate package: ONNX's reference evaluator, which executes one node after another on the CPU."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from workbench.compilers.base import CompilerInfo, offered
from workbench.compilers.config import BuildConfig, check_targets
from workbench.compilers.options import Options
from workbench.hardware.target import CPU

WORKER = "onnx_reference.worker"


class OnnxReference:
    """What the workbench sees of it. Loads nothing heavy."""

    name = "onnx_reference"
    evidence = "reported"
    build_task = f"{WORKER}:build"
    run_task = f"{WORKER}:serve"
    runner = f"{WORKER}:open_runner"
    profile_task = f"{WORKER}:profile"
    preload = (WORKER,)
    options = Options

    def version(self) -> str:
        return version("onnx")

    def describe(self) -> CompilerInfo:
        return CompilerInfo(self.name, self.version(), (CPU,), abilities=offered(self))

    def complete(self, config: BuildConfig) -> BuildConfig:
        check_targets(config, [CPU])
        return config.replace(compiler=self.name, targets=(CPU,))

    def arguments(self) -> dict[str, Any]:
        return {}


def compiler() -> OnnxReference:
    """The entry point."""
    return OnnxReference()
