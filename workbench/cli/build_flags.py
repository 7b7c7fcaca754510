"""Flags for what a build asks of a compiler: made from the fields of `BuildConfig` and of every compiler's options.

A command gets them with ``cls=BuildCommand``, takes a ``typer.Context`` and reads them with `asked`. They are made when the
command is parsed, so other commands load no compiler's options.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand
from typer.main import get_command

if TYPE_CHECKING:
    from workbench.compilers.options import OptionField

_KEY = "workbench.build"
_SHORT = {"targets": ("--target", "-t"), "precision": ("--precision", "-p")}
"""Flags of fields whose flag is not just their name."""
_PYTHON: dict[str, Any] = {"boolean": bool, "integer": int, "number": float, "text": str, "list": list[str]}


class BuildCommand(TyperCommand):
    """A command that also takes a flag for each build option; an option named like one of its own flags has none."""

    compilers: tuple[str, ...] | None = None
    """The compilers whose options it takes; None for all."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters, and the flags."""
        if not any(param.name in _SHORT for param in self.params):
            taken = {name for param in self.params if (name := param.name)}
            core, own = _parameters(taken, self.compilers)
            at = sum(param.param_type_name == "argument" for param in self.params)
            self.params = [*self.params[:at], *core, *self.params[at:], *own]
        return super().get_params(ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run it; the flags go to `asked` instead of the function's arguments."""
        own = set(inspect.signature(self.callback).parameters) if self.callback is not None else set()
        ctx.meta[_KEY] = {name: ctx.params.pop(name) for name in list(ctx.params) if name not in own}
        return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, with the known issues of targets at its end."""
        from workbench.compilers import compilers, find, info_of
        from workbench.compilers.base import Diagnoses

        found: dict[str, None] = {}
        for name in compilers() if self.compilers is None else self.compilers:
            if (compiler := find(name, Diagnoses)) is not None:
                info = info_of(name)
                built = {"name": info.name, "target": "+".join(map(str, info.targets))}
                found |= dict.fromkeys(compiler.known_issues(built).values())
        self.epilog = " ".join(found) or None
        super().format_help(ctx, formatter)


class TensorRTCommand(BuildCommand):
    """A command that takes the build options of TensorRT only."""

    compilers = ("tensorrt",)


def asked(context: typer.Context) -> dict[str, Any]:
    """The build options that were given, as keywords of `BuildConfig.of`."""
    given = {name: value for name, value in context.meta[_KEY].items() if value not in (None, [], ())}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def build_fields(compilers: Iterable[str] | None = None) -> dict[str, tuple[OptionField, tuple[str, ...]]]:
    """Every option that a build can be asked for: its field, and the compilers that have it; () for all compilers.

    Args:
        compilers: Whose options, if the compiler can't be chosen; None for every compiler that can be loaded.
    """
    from workbench.compilers import compilers as every
    from workbench.compilers import find
    from workbench.compilers.base import Builds
    from workbench.compilers.config import BuildConfig
    from workbench.compilers.options import option_fields

    left_out = {"profiles", "options"} if compilers is None else {"profiles", "options", "compiler"}
    found = {n: (f, ()) for n, f in option_fields(BuildConfig).items() if n not in left_out}
    owned: dict[str, tuple[OptionField, tuple[str, ...]]] = {}
    for name in every() if compilers is None else compilers:
        compiler = find(name, Builds)
        for option, field in {} if compiler is None else option_fields(compiler.options).items():
            first, owners = owned.get(option, (field, ()))
            if not first.same_values(field):
                first = replace(first, kind="text", choices=())  # the compiler that is chosen reads it
            owned[option] = (first, (*owners, name))
    return {**found, **owned}


def _parameters(taken: set[str], compilers: Iterable[str] | None) -> tuple[list[Any], list[Any]]:
    """Parameters of a Typer command: those for every compiler, and those for some. Typer makes them of a signature."""
    annotations: dict[str, Any] = {}
    fields = {name: entry for name, entry in build_fields(compilers).items() if name not in taken}
    for name, (field, owners) in fields.items():
        kind = Literal[field.choices] if field.choices else _PYTHON[field.kind]
        if name == "targets":
            kind = str  # several are written with +, as in Python; for other lists the flag is repeated
        flags = _SHORT.get(name, (f"{field.flag}/--no-{field.flag[2:]}" if field.kind == "boolean" else field.flag,))
        default = "" if field.default in (None, (), False) else f" Default: {field.default}."
        repeat = " Repeat for more." if kind == list[str] else ""
        whose = f" [{', '.join(owners)}]" if owners and compilers is None else ""
        annotations[name] = Annotated[
            kind | None,
            typer.Option(
                *flags,
                help=f"{field.description}{default}{repeat}{whose}",
                metavar="NAME" if kind == list[str] else None,
                show_default=False,
            ),
        ]

    def command(**_: Any) -> None: ...

    command.__annotations__ = annotations
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=a)
            for n, a in annotations.items()
        ]
    )
    app = typer.Typer(add_completion=False)
    app.command()(command)
    made: list[Any] = list(get_command(app).params)
    return [p for p in made if not fields[p.name][1]], [p for p in made if fields[p.name][1]]
