"""What every compiler offers, whoever made it.

A compiler has a description (what it is, whether it is here, what it can do) and a task that a worker
runs. The task's answer is a `Record`: plain data in which each layer carries the names that the
compiler itself reported. Turning a record into a `workbench.plan.Plan` happens elsewhere, with the model
at hand, so that a better analysis needs no second build.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from workbench.compilers.config import BuildConfig


class Ability(str, Enum):
    """Something that a compiler may or may not be able to do here."""

    BUILD = "build"
    TARGET = "target"
    PROGRESS = "progress"
    INSPECT = "inspect"
    RUN = "run"
    PROFILE = "profile"


@dataclass(frozen=True)
class CompilerInfo:
    """What a compiler is and can do on this machine, found without loading it.

    Attributes:
        name: Name of the flavour, such as ``tensorrt_rtx``.
        version: Its version, or None where it is not installed.
        targets: GPU architectures that it can build for, where that can be told.
        abilities: What it can do here.
        missing: Reason by ability for what it cannot do here.
        install: The command that would make it available or better.
    """

    name: str
    version: str | None
    targets: tuple[str, ...] = ()
    abilities: frozenset[Ability] = frozenset()
    missing: Mapping[Ability, str] = field(default_factory=dict)
    install: str | None = None

    @property
    def available(self) -> bool:
        """Whether it can build."""
        return Ability.BUILD in self.abilities


class Compiler(Protocol):
    """One back end."""

    name: str
    evidence: str
    task: str
    preload: tuple[str, ...]

    def describe(self) -> CompilerInfo:
        """What it is and can do here; quick, loads no compiler."""
        ...

    def complete(self, config: BuildConfig) -> BuildConfig:
        """Fill in what the config leaves open (the target), so that equal builds have equal keys.

        Raises:
            ConfigError: the config asks for what this compiler lacks.
            CompilerUnavailableError: the compiler is not installed.
        """
        ...

    def version(self) -> str:
        """Exact version, part of an engine's key."""
        ...

    def arguments(self) -> dict[str, Any]:
        """What `task` needs beside ``model``, ``config``, ``folder`` and ``cache``."""
        ...
