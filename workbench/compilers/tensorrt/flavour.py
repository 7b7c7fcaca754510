"""Which TensorRT is installed, and what can be told of it without loading it."""

from __future__ import annotations

import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from workbench.compilers.base import Ability, CompilerInfo
from workbench.compilers.config import BuildConfig
from workbench.compilers.tensorrt import targets as table
from workbench.core.errors import CompilerUnavailableError, ConfigError
from workbench.hardware.machine import gpus

DEFAULT_TARGET = "sm89"
"""Built for where there is no GPU and none is named: Ada, the newest that every RTX version offers."""

_INSTALL = {
    "tensorrt_rtx": "pip install tensorrt-rtx",
    "tensorrt": "pip install tensorrt --extra-index-url, as NVIDIA's installation guide says (needs a GPU)",
}


class TensorRT:
    """One or several flavours, the first that is installed taken.

    Args:
        modules: Python modules to look for, in order of preference.
    """

    evidence = "reported"
    task = "workbench.compilers.tensorrt.build:build"

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._modules = modules

    @property
    def name(self) -> str:
        """The module in use: the first that is installed, else the last of the candidates."""
        return next((m for m in self._modules if _version(m)), self._modules[-1])

    @property
    def preload(self) -> tuple[str, ...]:
        """What a worker can import while it waits."""
        return (self.name, self.task.partition(":")[0])

    def version(self) -> str:
        """The installed version.

        Raises:
            CompilerUnavailableError: none of the flavours is installed.
        """
        found = _version(self.name)
        if found is None:
            raise CompilerUnavailableError(
                f"{' or '.join(self._modules)} is not installed.", hint=_INSTALL["tensorrt_rtx"]
            )
        return found

    def describe(self) -> CompilerInfo:
        """What this flavour is and can do here."""
        name, found = self.name, _version(self.name)
        gpu = bool(gpus())
        abilities, missing = set(), {}
        need_gpu = "it needs an NVIDIA GPU and its driver"
        if found is None:
            missing = dict.fromkeys(Ability, "not installed")
        else:
            for ability in Ability:
                if (ability in {Ability.INSPECT, Ability.RUN, Ability.PROFILE} and not gpu) or (
                    ability is Ability.BUILD and name == "tensorrt" and not gpu
                ):
                    missing[ability] = need_gpu
                elif ability is Ability.TARGET and name == "tensorrt":
                    missing[ability] = "the full TensorRT builds for the GPU that is present"
                else:
                    abilities.add(ability)
        return CompilerInfo(
            name=name, version=found, abilities=frozenset(abilities), missing=missing,
            install=None if found else _INSTALL[name],
        )  # fmt: skip

    def complete(self, config: BuildConfig) -> BuildConfig:
        """Name the flavour and the target where the config leaves them open.

        Raises:
            CompilerUnavailableError: none of the flavours is installed.
            ConfigError: the present GPU is asked for and there is none, or a target has no BF16 and that is asked for.
        """
        self.version()
        targets = config.targets
        if "current" in targets and not gpus():
            raise ConfigError(
                "Target current means the GPU of this machine, and no NVIDIA driver answers here.",
                hint=f"Name the GPU to build for, such as --target {DEFAULT_TARGET} (`workbench doctor` lists them).",
                code="no-driver",
            )
        if not targets:
            targets = ("current",) if gpus() else (DEFAULT_TARGET,)
        built_for = [gpus()[0].sm if t == "current" else t for t in targets]
        if lacking := [t for t in built_for if config.precision == "bf16" and table.has(t, "bf16") is False]:
            first = table.FIRST["bf16"]
            raise ConfigError(
                f"{' and '.join(lacking)} {'have' if len(lacking) > 1 else 'has'} no BF16: BF16 needs sm{first} or later.",
                hint=f"Use --precision fp16, or --target sm{first} or later (`workbench doctor` lists them).",
                code="target-type",
            )
        return config.replace(compiler=self.name, targets=targets)

    def arguments(self) -> dict[str, Any]:
        """What the worker's task needs to know of this flavour."""
        return {"module": self.name}


def _version(module: str) -> str | None:
    spec = importlib.util.find_spec(module)
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        # The second is a stand-in: where torch_tensorrt was imported, it gives TensorRT for RTX the name `tensorrt`.
        return None
    for distribution in (module, f"{module}_cu13", f"{module}_cu12", f"{module}_cu13_bindings"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"
