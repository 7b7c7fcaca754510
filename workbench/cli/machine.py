"""The commands ``samples``, ``doctor`` and ``lab``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import FormatOption, Output, console, write_json
from workbench.core.errors import WorkbenchError


def samples(output: FormatOption = Output.TABLE) -> None:
    """List the sample models."""
    from workbench.model import samples as known

    entries = list(known().values())
    if output is Output.JSON:
        write_json(entries, indent=1)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "inputs", "teaches"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        inputs = ", ".join(f"{n} {'x'.join(map(str, i['shape']))}" for n, i in entry["inputs"].items())
        table.add_row(entry["name"], inputs, entry["teaches"])
    console().print(table)


def doctor(
    output: FormatOption = Output.TABLE,
) -> None:
    """Show what works on this machine, and the command that installs each missing part."""
    from workbench.doctor import examine

    report = examine()
    if output is Output.JSON:
        write_json(report, indent=1)
    else:
        from rich.markup import escape
        from rich.table import Table

        out = console()
        table = Table(box=None, pad_edge=False, show_header=False)
        for row in report["checks"]:
            mark = {"yes": "[green]yes[/]", "no": "[red]no[/] ", "partly": "[yellow]partly[/]"}[row["state"]]
            table.add_row(mark, f"[bold]{row['what']}[/]", escape(row["found"]))
            if row.get("command"):
                table.add_row("", "", f"[cyan]{escape(row['command'])}[/]")
        out.print(table)
    if not report["can_build"]:
        raise typer.Exit(1)


def lab(
    notebook: Annotated[Path | None, typer.Argument(help="Notebook to open. Default: the tour.")] = None,
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> None:
    """Open the tour notebook in JupyterLab."""
    import importlib.util
    import subprocess

    if importlib.util.find_spec("jupyterlab") is None:
        raise WorkbenchError("JupyterLab is not installed.", hint="pip install 'trt-workbench[lab]'")
    place = notebook or _tour()
    command = [sys.executable, "-m", "jupyterlab", str(place), "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.port={port}"] if port else []
    command += [] if browser else ["--no-browser"]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _tour() -> Path:
    """The tour: the notebook of a checkout, else a copy in the current folder."""
    import shutil

    package = Path(__file__).parents[1]
    checkout = package.parent / "notebooks" / "00_tour.ipynb"
    if checkout.is_file():
        return checkout
    copy = Path("00_tour.ipynb")
    if not copy.exists():
        shutil.copyfile(package / "_notebooks" / "00_tour.ipynb", copy)
    return copy


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(samples)
    app.command()(doctor)
    app.command()(lab)
