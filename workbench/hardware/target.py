"""The target of a build: a GPU architecture, the GPU of this machine, or its CPU."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from workbench.core.errors import ConfigError
from workbench.hardware.devices import ARCHITECTURES

_SM = re.compile(r"sm(\d+)")


@dataclass(frozen=True)
class Target:
    """One target. `str` gives its name: ``sm89``, ``current``, or ``cpu``.

    Attributes:
        kind: The kind of device.
        arch: For a GPU, its architecture such as ``sm89``, or ``current`` for the GPU of this machine. For a CPU, ``host``.
    """

    kind: Literal["gpu", "cpu"]
    arch: str

    @staticmethod
    def parse(text: str) -> Target:
        """A target by its name; case does not matter.

        Raises:
            ConfigError: there is no such target; ``details["nearest"]`` lists the nearest ones.
        """
        found = Target.recorded(text)
        if found in {CPU, CURRENT} or found.arch in ARCHITECTURES:
            return found
        nearest = nearest_targets(found.arch)
        raise ConfigError(
            f"There is no target {text!r}.",
            hint=f"The nearest are {', '.join(nearest)}. All targets: {', '.join(known_targets())}.",
            code="unknown-target",
            details={"target": text, "nearest": nearest},
        )

    @staticmethod
    def recorded(text: str) -> Target:
        """A target from a stored build, which may name an architecture that this version does not know."""
        name = text.strip().lower()
        return CPU if name == "cpu" else Target("gpu", name)

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else self.arch

    @property
    def label(self) -> str:
        """A label for menus: ``sm89 (RTX 40)``, ``current (GPU of this machine)``."""
        if self == CPU:
            return "cpu (this machine)"
        if self == CURRENT:
            return "current (GPU of this machine)"
        return ARCHITECTURES[self.arch].label if self.arch in ARCHITECTURES else self.arch

    @property
    def number(self) -> int | None:
        """89 for ``sm89``; None if the target does not name an architecture."""
        found = _SM.fullmatch(self.arch)
        return int(found[1]) if found else None


CURRENT = Target("gpu", "current")
"""The GPU of this machine."""
CPU = Target("cpu", "host")
"""The CPU of this machine."""
DEFAULT_GPU = Target("gpu", "sm89")
"""The default target without a GPU: the newest architecture that every version of TensorRT for RTX supports."""
GPUS = tuple(Target("gpu", arch) for arch in ARCHITECTURES)
"""All known GPU architectures."""


def known_targets() -> list[str]:
    """All targets that `Target.parse` accepts."""
    return [*ARCHITECTURES, str(CURRENT), str(CPU)]


def nearest_targets(text: str, among: Iterable[str] | None = None, count: int = 3) -> list[str]:
    """The targets whose names are nearest to `text`; architectures are compared by number."""
    names = known_targets() if among is None else list(among)
    if (found := _SM.fullmatch(text)) is not None:
        wanted = int(found[1])
        numbers = {name: int(m[1]) for name in names if (m := _SM.fullmatch(name))}
        return sorted(numbers, key=lambda name: abs(numbers[name] - wanted))[:count]
    return difflib.get_close_matches(text, names, count, cutoff=0.3) or names[:count]
