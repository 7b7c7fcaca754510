"""Whether an engine can run on this machine, found without opening the engine.

This module checks what applies to every compiler: it must be installed, and the platform must be the same. The compiler
checks the rest (version, GPU), `workbench.compilers.base.Diagnoses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.compilers import registry
from workbench.compilers.base import Diagnoses, Requirement
from workbench.core.errors import CompilerUnavailableError, ConfigError
from workbench.hardware.machine import gpus, this_platform
from workbench.hardware.target import CPU, CURRENT, Target

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig


def compatibility(built: Mapping[str, Any], config: BuildConfig, made_on: str = "") -> list[Requirement]:
    """Whether an engine can run on this machine.

    Args:
        built: What made it: ``name``, ``version``, ``target``, ``gpu`` (of a plan's ``compiler``).
        config: What was requested.
        made_on: `this_platform` of the machine that built it; "" if that was not recorded.
    """
    found = [_compiler(built, config)]
    compiler = registry.find(config.compiler, Diagnoses)
    if compiler is not None:
        found += [r for r in compiler.requirements(built, config) if found[0].ok or r.what != "version"]
    elif found[0].ok:
        version = registry.get(config.compiler).version()
        same = built["version"] == version
        text = f"Both are {version}." if same else (
            f"Made by {built['version']}; here is {version}. Whether it runs is not known: rebuild it to be sure.")  # fmt: skip
        found.append(Requirement("version", True if same else None, text))
    if made_on:
        same = made_on == this_platform()
        text = f"Built on {made_on}, and this is {made_on}." if same else (
            f"Built on {made_on}; this is {this_platform()}. Engines run on the platform that they were built on.")  # fmt: skip
        found.append(Requirement("platform", same, text))
    return found


def here(config: BuildConfig) -> BuildConfig:
    """`config` for this machine: its compiler if that is installed, its targets if the GPU is one of them."""
    try:
        registry.get(config.compiler).version()
    except (CompilerUnavailableError, ConfigError):
        config = config.replace(compiler="tensorrt")
    arch = gpus()[0].sm if gpus() else None
    if arch and not {Target("gpu", arch), CURRENT, CPU}.intersection(config.targets):
        config = config.replace(targets=(CURRENT,))
    return config


def targets_of(built: Mapping[str, Any]) -> list[str]:
    """Architectures that an engine was made for; for a build for the present GPU, that GPU's.

    Args:
        built: As for `compatibility`.
    """
    named = [t for t in str(built.get("target") or "").split("+") if t and t != str(CURRENT)]
    gpu = (built.get("gpu") or {}).get("sm")
    return [*named, gpu] if gpu and gpu not in named else named


def _compiler(built: Mapping[str, Any], config: BuildConfig) -> Requirement:
    try:
        compiler = registry.get(config.compiler)
        version = compiler.version()
    except (CompilerUnavailableError, ConfigError) as error:
        return Requirement(
            "compiler", False, f"It was made by {built['name']}, which is not installed here: {error.message}"
        )
    if compiler.name != built["name"]:  # the name "tensorrt" also means RTX if the full TensorRT is not installed
        return Requirement(
            "compiler", False,
            f"It was made by {built['name']}; here is {compiler.name} {version}, which can't read it. Rebuild it.",
        )  # fmt: skip
    return Requirement("compiler", True, f"It was made by {built['name']}, which is installed here ({version}).")
