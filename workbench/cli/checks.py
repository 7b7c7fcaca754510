"""The command ``checks``."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from workbench.cli.options import (
    Format,
    FormatsOption,
    ModelArgument,
    PrecisionName,
    PrecisionOption,
    SessionOption,
    ShapeOption,
    TargetOption,
    console,
    in_shell,
    looking,
    write_csv,
    write_json,
)


class Asked(str, Enum):
    """What decides which nodes TensorRT supports."""

    PARSER = "parser"
    BUILDER = "builder"


def checks(
    model: ModelArgument,
    target: TargetOption = None,
    precision: PrecisionOption = PrecisionName.FP32,
    shape: ShapeOption = None,
    ask: Annotated[
        Asked | None,
        typer.Option(
            help="How to find the nodes that TensorRT does not support: ask its parser, or its builder, which refuses some "
            "nodes that the parser accepts. Default: builder if the model is small, else parser.",
        ),
    ] = None,
    build: Annotated[bool, typer.Option("--build", help="Also build MODEL and check the engine.")] = False,
    output: FormatsOption = Format.TABLE,
    session: SessionOption = "default",
) -> None:
    """Check MODEL for likely problems and avoidable costs, and with --build also its engine."""
    from workbench.model.shape_profile import ShapeProfile

    work = looking(session)
    profile = ShapeProfile.parse(shape) if shape else None
    source = work.add(model, shapes=profile)
    found = [
        work.checks(
            source, ask=ask.value if ask else None, shapes=profile, precision=precision.value,
            target=None if ask is Asked.PARSER else target,
        )
    ]  # fmt: skip
    if build:
        engine = work.build(
            found[0].name, targets=target or (), precision=precision.value, profiles=(profile,) if profile else ()
        )
        found.append(work.checks(engine))
    if output is Format.JSON:
        document = (
            found[-1].to_dict() if len(found) == 1 else {"model": found[0].to_dict(), "engine": found[1].to_dict()}
        )
        write_json(document)
        return
    if output is Format.CSV:
        import pandas as pd

        write_csv(pd.concat([each.to_frame() for each in found]))
        return
    from rich.markup import escape

    out = console()
    colours = {"problem": "red", "cost": "yellow", "note": "blue"}
    for each in found:
        out.print(f"\n[bold]{escape(each.name)}[/]" + (f", engine {each.engine}" if each.engine else ", the model"))
        for one in each:
            out.print(f"[bold {colours[one.severity]}]{one.severity}[/]  [bold]{escape(one.title)}[/]")
            for line in (one.message, one.evidence, in_shell(one.remedy, one.shapes) or ""):
                out.print(f"    {escape(line)}", style=None if line is one.message else "dim")
        if not each.findings:
            out.print("Nothing found.")
        for text in each.unchecked:
            out.print(f"[dim]Not checked: {escape(text)}[/]")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(checks)
