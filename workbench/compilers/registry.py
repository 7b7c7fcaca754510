"""Which compilers there are, by name. Third parties add theirs by the entry point ``workbench.compilers``."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points

from workbench.compilers.base import Ability, Compiler, CompilerInfo
from workbench.core.errors import CompilerUnavailableError, ConfigError

_OWN = {
    "tensorrt": "workbench.compilers.tensorrt:active",
    "tensorrt_rtx": "workbench.compilers.tensorrt:rtx",
    "fake": "workbench.compilers.fake:compiler",
}


def compilers() -> list[str]:
    """Names that `get` takes."""
    return [
        *_OWN,
        *(e.name for e in entry_points(group="workbench.compilers") if e.name not in _OWN),
    ]


@cache
def get(name: str) -> Compiler:
    """The compiler called `name`; ``tensorrt`` is the full TensorRT where installed, else RTX.

    Raises:
        ConfigError: there is none of that name.
    """
    place = _OWN.get(name)
    if place is None:
        for entry in entry_points(group="workbench.compilers"):
            if entry.name == name:
                place = entry.value
                break
        else:
            raise ConfigError(f"There is no compiler {name!r}.", hint="There are: " + ", ".join(compilers()) + ".")
    module, _, factory = place.partition(":")
    compiler: Compiler = getattr(importlib.import_module(module), factory)()
    return compiler


def require(name: str, ability: Ability) -> None:
    """Refuse, before anything is started, what the compiler called `name` can't do on this machine.

    Raises:
        CompilerUnavailableError: it can't; the message says why.
        ConfigError: there is no compiler of that name.
    """
    info = get(name).describe()
    if ability not in info.abilities:
        raise CompilerUnavailableError(
            f"{info.name} can't {ability.value} engines here: {info.missing.get(ability, 'it does not offer that')}.",
            hint=info.install or "`workbench doctor` says what each compiler can do on this machine.",
        )


def describe() -> list[CompilerInfo]:
    """What each compiler is and can do on this machine; loads none of them."""
    seen: dict[str, CompilerInfo] = {}
    for name in compilers():
        info = get(name).describe()
        seen.setdefault(info.name, info)
    return list(seen.values())
