"""ONNX Runtime as a compiler of the workbench. Loads no native library."""

from __future__ import annotations

from typing import Any

from workbench.compilers.base import CompilerInfo, offered
from workbench.compilers.config import BuildConfig
from workbench.compilers.onnxruntime.options import OnnxRuntimeOptions, level_of
from workbench.core.errors import CompilerUnavailableError, ConfigError
from workbench.hardware.machine import installed
from workbench.hardware.target import CPU

_TASKS = "workbench.compilers.onnxruntime"
_INSTALL = "pip install onnxruntime"


class OnnxRuntime:
    """ONNX Runtime's CPU execution provider."""

    name = "onnxruntime"
    evidence = "tensor-region"
    build_task = f"{_TASKS}.build:build"
    runner = f"{_TASKS}.serve:open_engine"
    run_task = f"{_TASKS}.serve:serve"
    profile_task = f"{_TASKS}.serve:profile"
    preload: tuple[str, ...] = ("onnxruntime", f"{_TASKS}.build")
    options = OnnxRuntimeOptions

    def version(self) -> str:
        """The installed version.

        Raises:
            CompilerUnavailableError: ONNX Runtime is not installed.
        """
        found = installed("onnxruntime")
        if found is None:
            raise CompilerUnavailableError("ONNX Runtime is not installed.", hint=_INSTALL)
        return found

    def describe(self) -> CompilerInfo:
        """It builds, runs and measures on every machine where it is installed."""
        found = installed("onnxruntime")
        own = offered(self)
        if found is None:
            missing = dict.fromkeys(own, "not installed")
            return CompilerInfo(self.name, None, (CPU,), frozenset(), missing, _INSTALL)
        return CompilerInfo(self.name, found, (CPU,), own)

    def complete(self, config: BuildConfig) -> BuildConfig:
        """Name the target, which is this machine's CPU.

        Raises:
            ConfigError: the config asks for another target, or for two optimization levels.
            CompilerUnavailableError: ONNX Runtime is not installed.
        """
        self.version()
        level_of(config)
        if other := [str(t) for t in config.targets if t != CPU]:
            raise ConfigError(
                f"The onnxruntime compiler builds for the CPU, not for {' and '.join(other)}.",
                hint='Use target="cpu", or leave the target out.',
                shell_hint="Use --target cpu, or leave the target out.",
                code="target-of-another-compiler",
            )
        return config.replace(compiler=self.name, targets=(CPU,))

    def arguments(self) -> dict[str, Any]:
        """Its tasks take no further arguments."""
        return {}
