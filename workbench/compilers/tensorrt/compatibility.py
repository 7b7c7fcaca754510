"""Where TensorRT engines run: they depend on a version and a GPU architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.base import Requirement
from workbench.compilers.compatibility import targets_of
from workbench.core.errors import BuildError
from workbench.hardware.machine import gpus

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig

SMALLEST = 64
"""Bytes of an engine's header."""


def requirements(built: Mapping[str, Any], config: BuildConfig, version: str | None) -> list[Requirement]:
    """The version and the GPU that an engine needs, compared with those of this machine.

    Args:
        built: What made it: ``name``, ``version``, ``target``, ``gpu`` (of a plan's ``compiler``).
        config: What was requested.
        version: The installed version; None if TensorRT is not installed.
    """
    found = [] if version is None else [_version(built, config, version)]
    return [*found, _gpu(built, config)]


def _version(built: Mapping[str, Any], config: BuildConfig, version: str) -> Requirement:
    if built["version"] == version:
        return Requirement("version", True, f"Both are {version}.")
    if config.option("version_compatible"):
        return Requirement(
            "version", True, f"Made by {built['version']} as a version-compatible engine; here is {version}."
        )
    return Requirement(
        "version", False,
        f"Made by {built['version']}; here is {version}. An engine runs on the version that made it: rebuild it, or "
        "build it with version_compatible=True where this TensorRT has that option.",
    )  # fmt: skip


def runs_on(arch: str, made_for: Sequence[str], compiler: str, level: str | None) -> bool | None:
    """Whether an engine made for some architectures runs on another; None if it might.

    Args:
        arch: The GPU's architecture, as ``sm90``.
        made_for: See `workbench.compilers.compatibility.targets_of`.
        compiler: What made the engine.
        level: Its hardware compatibility level, if any.
    """
    if arch in made_for:
        return True
    number = _number(arch)
    if (level or "").lower() == "ampere_plus":
        return number >= 80
    if compiler == "tensorrt_rtx" and number >= min(map(_number, made_for), default=999) >= 80:
        return None  # an engine for SM80 has run on SM90
    return False


def check_file(path: Path, built: Mapping[str, Any] | None = None, here: Mapping[str, Any] | None = None) -> None:
    """Refuse an engine file that can't run here, before anything loads it.

    Args:
        path: The engine.
        built: What made it, if known: ``name``, ``version``, ``target``, ``gpu``.
        here: What is installed: ``name``, ``version``, and the GPU's ``sm``.

    Raises:
        BuildError: it is not an engine, or is for another flavor, version or GPU; the hint suggests a rebuild.
    """
    again = "Build it again on this machine: session.build(model, ...) takes the same config."
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BuildError(
            f"{path} can't be read: {error.strerror or error}.", hint=again, code="engine-unreadable"
        ) from None
    if size < SMALLEST:
        raise BuildError(f"{path} is {size} bytes long, too short for an engine.", hint=again, code="not-an-engine")
    if not built or not here:
        return
    if built.get("name") and here.get("name") and built["name"] != here["name"]:
        raise BuildError(f"The engine was made by {built['name']}; {here['name']} can't read it.", hint=again)
    versions = built.get("version"), here.get("version")
    if all(versions) and versions[0] != versions[1] and not built.get("version_compatible"):
        raise BuildError(
            f"The engine was made by {built['name']} {built['version']}; here is {here['version']}. Engines are "
            "not portable between versions.",
            hint=again + " Full TensorRT can also build version-compatible engines (version_compatible=True).",
        )
    sm, made_for = here.get("sm"), targets_of(built)
    if sm and made_for and runs_on(sm, made_for, built["name"], built.get("hardware_compatibility")) is False:
        raise BuildError(
            f"The engine was built for {' and '.join(made_for)}; this GPU is {sm}. Engines are not portable between "
            "architectures.",
            hint=again,
        )


def _number(arch: str) -> int:
    return int("".join(c for c in arch if c.isdigit()) or 0)


def _gpu(built: Mapping[str, Any], config: BuildConfig) -> Requirement:
    made_for = targets_of(built)
    name = " and ".join(made_for) or "an unknown GPU"
    if not gpus():
        return Requirement(
            "GPU", None, f"Built for {name}. There is no NVIDIA GPU here: you can read its plan but not run it."
        )
    present = gpus()[0]
    fits = runs_on(present.sm, made_for, str(built.get("name")), config.option("hardware_compatibility"))
    text = f"Built for {name}; this is {present.name} ({present.sm})"
    more = {
        True: "." if present.sm in made_for else ", which its hardware compatibility allows.",
        None: ", on which TensorRT for RTX may run it: check its outputs, or rebuild it.",
        False: ": rebuild it for this GPU.",
    }
    return Requirement("GPU", fits, text + more[fits])
