"""Finds compilers by name. Other packages add theirs with the entry point group ``workbench.compilers``.

A compiler that can't be imported, or whose description raises, is listed with the error; the others are not affected.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, TypeVar, overload

from workbench.compilers.base import PROTOCOLS, Ability, Compiler, CompilerInfo, HasVocabulary, offered
from workbench.core.errors import CompilerUnavailableError, ConfigError, first_lines
from workbench.plan.vocabulary import NEUTRAL, Vocabulary

GROUP = "workbench.compilers"
"""The entry point group: a name, and ``module:function`` that returns the compiler. A class works too."""

_OWN = {
    "tensorrt": "workbench.compilers.tensorrt:active",
    "tensorrt_rtx": "workbench.compilers.tensorrt:rtx",
    "onnxruntime": "workbench.compilers.onnxruntime.compiler:OnnxRuntime",
    "fake": "workbench.compilers.fake:compiler",
}

_VERBS = {
    Ability.BUILD: "build engines",
    Ability.RUN: "run engines",
    Ability.PROFILE: "profile engines",
    Ability.CALIBRATE: "calibrate models",
    Ability.PARTITION: "partition models",
    Ability.REFIT: "refit engines",
    Ability.DIAGNOSE: "say where engines run",
    Ability.EXAMINE: "say what its library offers",
    Ability.TACTICS: "list tactics",
}

P = TypeVar("P", bound=Compiler)


def compilers() -> list[str]:
    """Names of all compilers, including those that can't be loaded."""
    return list(dict.fromkeys([*_OWN, *_entry_points()]))


@overload
def get(name: str) -> Compiler: ...
@overload
def get(name: str, protocol: type[P]) -> P: ...
def get(name: str, protocol: type[Any] = Compiler) -> Any:
    """The compiler called `name`; ``tensorrt`` is the full TensorRT if installed, else TensorRT for RTX.

    Args:
        name: One of `compilers`.
        protocol: What it must offer, such as `workbench.compilers.base.Runs`; `require` also checks this machine.

    Raises:
        ConfigError: there is no compiler of that name.
        CompilerUnavailableError: it can't be loaded, or does not offer `protocol`.
    """
    compiler = _load(name)
    if not isinstance(compiler, protocol):
        raise _refused(_described(name, compiler), _ability(protocol))
    return compiler


def find(name: str, protocol: type[P]) -> P | None:
    """The compiler called `name`; None if there is none of that name, or it does not offer `protocol`."""
    try:
        return get(name, protocol)
    except (CompilerUnavailableError, ConfigError):
        return None


def vocabulary(name: str) -> Vocabulary:
    """The vocabulary of the compiler called `name`.

    It is the neutral vocabulary if the compiler has none or is not installed: a plan may come from another machine.
    """
    found = find(name, Compiler)
    return found.vocabulary() if isinstance(found, HasVocabulary) else NEUTRAL


def require(name: str, protocol: type[P]) -> P:
    """The compiler called `name`, if it can do what `protocol` describes on this machine.

    Call this before starting any work: it raises an error with the reason if the compiler can't do it.

    Raises:
        CompilerUnavailableError: it can't; the message says why.
        ConfigError: there is no compiler of that name.
    """
    compiler = _load(name)
    info = _described(name, compiler)
    ability = _ability(protocol)
    if not isinstance(compiler, protocol) or ability not in info.abilities:
        raise _refused(info, ability)
    return compiler


def describe() -> list[CompilerInfo]:
    """What each compiler is and can do on this machine; loads no native library.

    A compiler that can't be loaded or described has no version and no abilities, and its ``error`` says why.
    """
    seen: dict[str, CompilerInfo] = {}
    for name in compilers():
        info = info_of(name)
        seen.setdefault(info.name, info)
    return list(seen.values())


def info_of(name: str) -> CompilerInfo:
    """What the compiler called `name` is and can do here; see `describe`.

    Raises:
        ConfigError: there is no compiler of that name.
    """
    try:
        compiler = _load(name)
    except CompilerUnavailableError as error:
        return _broken(name, error.message)
    return _described(name, compiler)


def forget() -> None:
    """Search for compilers again at the next request, after packages were installed or removed."""
    _load.cache_clear()


@cache
def _load(name: str) -> Compiler:
    place = _OWN.get(name)
    if place is None:
        place = _entry_points().get(name)
    if place is None:
        raise ConfigError(
            f"There is no compiler {name!r}.",
            hint="There are: " + ", ".join(compilers()) + ".",
        )
    module, _, factory = place.partition(":")
    try:
        compiler = getattr(importlib.import_module(module), factory)()
    except (
        Exception,
        SystemExit,
    ) as error:  # the boundary to another package: its errors do not affect other compilers
        raise CompilerUnavailableError(
            f"The compiler {name} can't be loaded from {place}: {type(error).__name__}: {first_lines(error)}",
            hint="Reinstall or remove the package that adds it; `workbench doctor` lists all compilers.",
            code="compiler-broken",
        ) from error
    if not isinstance(compiler, Compiler):
        raise CompilerUnavailableError(
            f"The compiler {name} can't be loaded from {place}: it returned a {type(compiler).__name__}, which lacks "
            f"{', '.join(n for n in ('name', 'describe', 'version', 'arguments') if not hasattr(compiler, n))}.",
            hint="See `workbench.compilers.base.Compiler` for what a compiler must have.",
            code="compiler-broken",
        )
    return compiler


def _entry_points() -> dict[str, str]:
    """``module:function`` by name, of the installed packages."""
    from importlib.metadata import entry_points  # takes 0.1 s to import

    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def _described(name: str, compiler: Compiler) -> CompilerInfo:
    """`Compiler.describe`, with a reason for every ability that is missing without one."""
    try:
        info = compiler.describe()
        if not isinstance(info, CompilerInfo):
            raise TypeError(f"describe() returned a {type(info).__name__}, not a CompilerInfo")
        unexplained = set(Ability) - info.abilities - set(info.missing)
    except Exception as error:  # noqa: BLE001 - the boundary to another package: its errors do not affect other compilers
        return _broken(name, f"The compiler {name} can't be described: {type(error).__name__}: {first_lines(error)}")
    if not unexplained:
        return info
    there = offered(compiler)
    reasons = {a: "it does not say why" if a in there else "it does not offer that" for a in unexplained}
    return CompilerInfo(**{**vars(info), "missing": {**info.missing, **reasons}})


def _broken(name: str, message: str) -> CompilerInfo:
    return CompilerInfo(name, None, missing=dict.fromkeys(Ability, message.rstrip(".")), error=message)


def _ability(protocol: type[Any]) -> Ability:
    return next(ability for ability, each in PROTOCOLS.items() if each is protocol)


def _refused(info: CompilerInfo, ability: Ability) -> CompilerUnavailableError:
    reason = info.missing.get(ability, "it does not offer that")
    return CompilerUnavailableError(
        f"{info.name} can't {_VERBS[ability]} here: {reason}.",
        hint=info.install or "`workbench doctor` shows what each compiler can do on this machine.",
        code="compiler-broken" if info.error else None,
    )
