"""The commands for environments of their own: ``env create``, ``env list``, ``env remove``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import Output, write, write_json

if TYPE_CHECKING:
    from workbench.core.jobs import Job

app = typer.Typer(no_args_is_help=True, help="Environments for libraries that can't live beside the others.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Such as modelopt; see `workbench env list`.")]


@app.command()
def create(
    name: NameArgument,
    pip_options: Annotated[
        list[str] | None, typer.Argument(metavar="PIP_OPTIONS", help="After --: further options of pip install.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Make it anew even where it is ready.")] = False,
) -> None:
    """Make an environment from exact pins, or mend it."""
    from rich.console import Console

    from workbench.core import environments
    from workbench.core.units import bytes_text

    console = Console(stderr=True, highlight=False)
    with console.status("Starting") as status:

        def tell(job: Job) -> None:
            open_ = [p for p in job.progress if p.done < p.total]
            if open_:
                status.update(f"{job.seconds:5.1f} s  {open_[-1].phase} {open_[-1].done}/{open_[-1].total}")

        made = environments.create(
            name, pip_options=pip_options or (), again=again, on_job=lambda job: job.on_change(tell)
        )
    write(f"{name} is {made.state}: {made.folder} ({len(made.packages)} packages, {bytes_text(made.bytes)})\n")


@app.command(name="list")
def list_(how: Annotated[Output, typer.Option("--format", "-f")] = Output.TABLE) -> None:
    """Show the environments, and the command for each that is not ready."""
    from workbench.core import environments

    found = environments.listing()
    if how is Output.JSON:
        rows: list[dict[str, Any]] = [e.to_dict() for e in found]
        write_json(rows, indent=1)
        return
    for each in found:
        reason = f" ({each.reason})" if each.reason else ""
        write(f"{each.name}: {each.state}{reason}; {environments.RECIPES[each.name].why}\n")
        if each.state != "ready":
            write(f"    workbench env create {each.name}\n")


@app.command()
def remove(name: NameArgument) -> None:
    """Remove an environment from the disk."""
    from workbench.core import environments

    gone = environments.remove(name)
    write(f"{name} was removed.\n" if gone else f"There was no environment {name}.\n")
