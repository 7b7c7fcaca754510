"""The commands for a session as one file: ``export``, ``import``, ``trust``; and ``failures``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import (
    FormatOption,
    Output,
    SessionOption,
    check_written,
    console,
    looking,
    write,
    write_json,
)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The archive.")]


def export(file: FileArgument, session: SessionOption = "default") -> None:
    """Write a session with its models and engines to one file."""
    check_written({"FILE": file}, [])
    from workbench.core.units import bytes_text

    work = looking(session)
    work.files.export(file)
    write(f"{file}: {len(work.models)} models, {len(work.engines)} engines, {bytes_text(file.stat().st_size)}\n")


def import_(
    file: FileArgument,
    name: Annotated[str | None, typer.Option("--session", help="Name of the new session. Default: its name in the archive.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow code in the archive to run: functions that create its models, and its engines.")
    ] = False,
) -> None:  # fmt: skip
    """Open a session that someone else exported. Its code does not run without --trust."""
    from workbench.session.session import Session

    work = Session.from_archive(file, name, trust=trust)
    write(f"session {work.name}: {len(work.models)} models, {len(work.engines)} engines\n")
    for model in work.models.values():
        write(f"model {model.name}\n")
    for engine in work.engines:
        write(f"engine {engine.id} of {engine.model}\n")


def trust(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model of the session, or the beginning of an engine's key.")],
    session: SessionOption = "default",
) -> None:  # fmt: skip
    """Allow the code of a model or engine from an archive to run."""
    from workbench.session.session import Session

    work = Session(session)
    if name in work.models:
        work.models.trust(name)
    else:
        work.engines.trust(name)


def failures(
    log: Annotated[int | None, typer.Option("--log", metavar="NUMBER", help="Print the log of this build.")] = None,
    output: FormatOption = Output.TABLE,
    session: SessionOption = "default",
) -> None:
    """List the failed builds of the last week, newest first, and their log files."""
    found = looking(session).engines.failures
    if log is not None:
        if not 0 <= log < len(found):
            raise typer.BadParameter(f"there are {len(found)} failed builds, from 0", param_hint="--log")
        write(found[log].log)
        return
    if output is Output.JSON:
        rows = [
            {
                "model": f.model, "config": f.config.to_dict(), "code": f.code, "message": f.message,
                "folder": str(f.folder), "time": f.time,
            }
            for f in found
        ]  # fmt: skip
        write_json(rows, indent=1)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for heading in ("#", "when", "model", "code", "message", "folder"):
        table.add_column(heading, overflow="fold")
    for number, each in enumerate(found):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.time))
        cells = (each.model, each.code, each.message, str(each.folder))
        table.add_row(str(number), when, *(escape(cell) for cell in cells))
    console().print(table)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(export)
    app.command(name="import")(import_)
    app.command()(trust)
    app.command()(failures)
