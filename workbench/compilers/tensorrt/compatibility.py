"""Whether an engine can run here, in words, told without touching it: engines are bound to a GPU, a version, a platform."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench import compilers
from workbench.compilers.config import BuildConfig
from workbench.core.errors import CompilerUnavailableError, ConfigError
from workbench.hardware.machine import gpus


@dataclass(frozen=True)
class Finding:
    """One thing on which it depends whether an engine runs.

    Attributes:
        what: compiler, version, GPU or platform.
        ok: Whether it fits; None where that can't be told here.
        words: Why, and what to do.
    """

    what: str
    ok: bool | None
    words: str


def this_platform() -> str:
    """Operating system and processor, as engines are bound to them: ``Linux x86_64``."""
    return f"{platform.system()} {platform.machine()}"


def compatibility(built: Mapping[str, Any], config: BuildConfig, made_on: str = "") -> list[Finding]:
    """Whether an engine can run on this machine.

    Args:
        built: What made it: ``name``, ``version``, ``target``, ``gpu`` (of a plan's ``compiler``).
        config: What was asked of it.
        made_on: `this_platform` of the machine that built it; "" where that was not noted.
    """
    found = [_compiler(built, config)]
    if found[0].ok:
        found.append(_version(built, config))
    found.append(_gpu(built, config))
    if made_on:
        same = made_on == this_platform()
        words = f"Built on {made_on}, and this is {made_on}." if same else (
            f"Built on {made_on}; this is {this_platform()}. Engines run on the platform that they were built on.")  # fmt: skip
        found.append(Finding("platform", same, words))
    return found


def here(config: BuildConfig) -> BuildConfig:
    """`config` for this machine: its compiler where that is installed, its targets where the GPU is one of them."""
    try:
        compilers.get(config.compiler).version()
    except (CompilerUnavailableError, ConfigError):
        config = config.replace(compiler="tensorrt")
    sm = gpus()[0].sm if gpus() else None
    if sm and sm not in config.targets and "current" not in config.targets:
        config = config.replace(targets=("current",))
    return config


def _compiler(built: Mapping[str, Any], config: BuildConfig) -> Finding:
    try:
        compiler = compilers.get(config.compiler)
        version = compiler.version()
    except (CompilerUnavailableError, ConfigError) as error:
        return Finding("compiler", False, f"It was made by {built['name']}, which is not here: {error.message}")
    if compiler.name != built["name"]:  # the name "tensorrt" also means RTX where the full TensorRT is not installed
        words = f"It was made by {built['name']}; here is {compiler.name} {version}, which can't read it: it must be rebuilt."
        return Finding("compiler", False, words)
    return Finding("compiler", True, f"It was made by {built['name']}, which is installed here ({version}).")


def _version(built: Mapping[str, Any], config: BuildConfig) -> Finding:
    version = compilers.get(config.compiler).version()
    if built["version"] == version:
        return Finding("version", True, f"Both are {version}.")
    if config.version_compatible:
        return Finding(
            "version", True, f"Made by {built['version']} as a version-compatible engine; here is {version}."
        )
    return Finding(
        "version", False,
        f"Made by {built['version']}; here is {version}. An engine runs on the version that made it: rebuild it, or "
        "build it with version_compatible=True where the flavour has that.",
    )  # fmt: skip


def targets_of(built: Mapping[str, Any]) -> list[str]:
    """Architectures that an engine was made for; of a build for the present GPU, that GPU's."""
    named = [t for t in str(built.get("target") or "").split("+") if t and t != "current"]
    gpu = (built.get("gpu") or {}).get("sm")
    return [*named, gpu] if gpu and gpu not in named else named


def runs_on(sm: str, made_for: list[str], compiler: str, level: str | None) -> bool | None:
    """Whether an engine made for some architectures runs on another; None where it may.

    Args:
        sm: The GPU's architecture, as ``sm90``.
        made_for: See `targets_of`.
        compiler: What made the engine.
        level: Its hardware compatibility level, if any.
    """
    if sm in made_for:
        return True
    number = _number(sm)
    if (level or "").lower() == "ampere_plus":
        return number >= 80
    if compiler == "tensorrt_rtx" and number >= min(map(_number, made_for), default=999) >= 80:
        return None  # an engine for SM80 was seen to run on SM90
    return False


def _number(sm: str) -> int:
    return int("".join(c for c in sm if c.isdigit()) or 0)


def _gpu(built: Mapping[str, Any], config: BuildConfig) -> Finding:
    made_for = targets_of(built)
    name = " and ".join(made_for) or "an unknown GPU"
    if not gpus():
        return Finding(
            "GPU", None, f"Built for {name}. There is no NVIDIA GPU here: its plan can be read, it can't run."
        )
    present = gpus()[0]
    fits = runs_on(present.sm, made_for, str(built.get("name")), config.hardware_compatibility)
    words = f"Built for {name}; this is {present.name} ({present.sm})"
    more = {
        True: "." if present.sm in made_for else ", which its hardware compatibility allows.",
        None: ", on which TensorRT for RTX may run it: check its outputs, or rebuild it.",
        False: ": it must be rebuilt.",
    }
    return Finding("GPU", fits, words + more[fits])
