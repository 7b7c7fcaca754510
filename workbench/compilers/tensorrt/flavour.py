"""Which TensorRT is installed, and facts about it that are known without loading it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from workbench.compilers.base import Ability, CompilerInfo, Requirement, Tactic
from workbench.compilers.compatibility import targets_of
from workbench.compilers.config import check_targets
from workbench.compilers.tensorrt import compatibility
from workbench.compilers.tensorrt import targets as table
from workbench.compilers.tensorrt.options import TensorRTOptions
from workbench.compilers.tensorrt.tactics import parse_tactics
from workbench.core.errors import CompilerUnavailableError, ConfigError
from workbench.hardware.machine import gpus
from workbench.hardware.target import CURRENT, DEFAULT_GPU

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig
    from workbench.plan.vocabulary import Vocabulary

_INSTALL = {
    "tensorrt_rtx": "pip install tensorrt-rtx",
    "tensorrt": "pip install tensorrt --extra-index-url, as NVIDIA's installation guide says (needs a GPU)",
}


class TensorRT:
    """One or several flavors of TensorRT; the first that is installed is used.

    Implements every protocol of `workbench.compilers.base`.

    Args:
        modules: Python modules to look for, in order of preference.
        options: The type of its options; the full TensorRT has all of them.
    """

    evidence = "reported"
    build_task = "workbench.compilers.tensorrt.build:build"
    runner = "workbench.compilers.tensorrt.runtime:open_runner"
    run_task = "workbench.compilers.tensorrt.serve:serve"
    profile_task = "workbench.compilers.tensorrt.profile:profile"
    calibrate_task = "workbench.compilers.tensorrt.calibrators:calibrate"
    partition_task = "workbench.compilers.tensorrt.support:support"
    refit_task = "workbench.compilers.tensorrt.refit:refit"
    examine_task = "workbench.compilers.tensorrt.build:features"

    def __init__(self, modules: tuple[str, ...], options: type[TensorRTOptions]) -> None:
        self._modules = modules
        self.options = options

    @property
    def name(self) -> str:
        """The module in use: the first that is installed, else the last candidate."""
        return next((m for m in self._modules if _version(m)), self._modules[-1])

    @property
    def preload(self) -> tuple[str, ...]:
        """Modules that a worker can import while it waits."""
        return (self.name, self.build_task.partition(":")[0])

    def version(self) -> str:
        """The installed version.

        Raises:
            CompilerUnavailableError: no flavor is installed.
        """
        found = _version(self.name)
        if found is None:
            raise CompilerUnavailableError(
                f"{' or '.join(self._modules)} is not installed.", hint=_INSTALL["tensorrt_rtx"]
            )
        return found

    def describe(self) -> CompilerInfo:
        """What this flavor is and can do here."""
        name, found = self.name, _version(self.name)
        gpu = bool(gpus())
        need_gpu = "it needs an NVIDIA GPU and its driver"
        missing: dict[Ability, str] = {}
        notes: tuple[str, ...] = ()
        if found is None:
            missing = dict.fromkeys(Ability, "not installed")
        else:
            if not gpu:
                missing = dict.fromkeys((Ability.RUN, Ability.PROFILE, Ability.REFIT), need_gpu)
            if name == "tensorrt":
                notes = ("It builds for the GPU that is present.",)
                if not gpu:
                    missing[Ability.BUILD] = need_gpu
            if name != "tensorrt" or not _before_11(found):
                missing[Ability.CALIBRATE] = "calibrators ended with TensorRT 10"
            elif not gpu:
                missing[Ability.CALIBRATE] = need_gpu
        return CompilerInfo(
            name=name, version=found, targets=(CURRENT,) if name == "tensorrt" else table.offered_targets(found), abilities=frozenset(set(Ability) - set(missing)), missing=missing,
            install=None if found else _INSTALL[name], notes=notes,
        )  # fmt: skip

    def complete(self, config: BuildConfig) -> BuildConfig:
        """Set the flavor and the target if the config leaves them open.

        Raises:
            CompilerUnavailableError: no flavor is installed.
            ConfigError: this flavor does not build for a target, the target is this machine's GPU and there is none, the
                precision is BF16 and a target has no BF16, or this flavor has no such option.
        """
        found = self.version()
        config = config.replace(compiler=self.name)
        full = self.name == "tensorrt"
        check_targets(config, (CURRENT,) if full else table.offered_targets(found), several=not full)
        targets = config.targets
        if not targets:
            targets = (CURRENT if gpus() or full else DEFAULT_GPU,)
        if CURRENT in targets and not gpus():
            raise ConfigError(
                "Target current means the GPU of this machine, and no NVIDIA driver answers here.",
                hint="The full TensorRT builds for no other target; TensorRT for RTX does." if full
                else f'Name the GPU to build for, such as target="{DEFAULT_GPU}".',
                shell_hint=None if full
                else f"Name the GPU to build for, such as --target {DEFAULT_GPU} (`workbench doctor` lists them).",
                code="no-driver",
            )  # fmt: skip
        built_for = [gpus()[0].sm if t == CURRENT else str(t) for t in targets]
        if lacking := [t for t in built_for if config.precision == "bf16" and table.has(t, "bf16") is False]:
            first = table.FIRST["bf16"]
            raise ConfigError(
                f"{' and '.join(lacking)} {'have' if len(lacking) > 1 else 'has'} no BF16: BF16 needs sm{first} or later.",
                hint=f'Use precision="fp16", or target="sm{first}" or later.',
                shell_hint=f"Use --precision fp16, or --target sm{first} or later (`workbench doctor` lists them).",
                code="target-type",
            )
        return config.replace(targets=targets)

    def vocabulary(self) -> Vocabulary:
        """The meaning of TensorRT's names."""
        from workbench.compilers.tensorrt.vocabulary import TensorRTVocabulary

        return TensorRTVocabulary()

    def arguments(self) -> dict[str, Any]:
        """The module that tasks import."""
        return {"module": self.name}

    def requirements(self, built: Mapping[str, Any], config: BuildConfig) -> list[Requirement]:
        """See `workbench.compilers.base.Diagnoses`."""
        return compatibility.requirements(built, config, _version(self.name))

    def runs_on(self, arch: str, built: Mapping[str, Any], config: Mapping[str, Any]) -> bool | None:
        """See `workbench.compilers.base.Diagnoses`."""
        level = config.get("hardware_compatibility")
        return compatibility.runs_on(arch, targets_of(built), str(built.get("name")), level)

    def known_issues(self, built: Mapping[str, Any]) -> dict[str, str]:
        """What users report about engines of TensorRT for RTX; nothing is reported about the full TensorRT."""
        targets = targets_of(built) if built.get("name") == "tensorrt_rtx" else []
        return {t: f"{table.REPORTED[t]} {table.CAN_NOT.get(t, '')}".strip() for t in targets if t in table.REPORTED}

    def tactics(self, log: Iterable[str]) -> list[Tactic]:
        """The tactics in a VERBOSE build log; TensorRT for RTX times none while it builds."""
        return parse_tactics(log)


def _before_11(found: str) -> bool:
    major = found.partition(".")[0]
    return not major.isdigit() or int(major) < 11


def _version(module: str) -> str | None:
    spec = importlib.util.find_spec(module)
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        # A spec without a place is an alias: torch_tensorrt, once imported, registers TensorRT for RTX as `tensorrt`.
        return None
    for distribution in (module, f"{module}_cu13", f"{module}_cu12", f"{module}_cu13_bindings"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"
