"""The commands for separate Python environments: ``env create``, ``env list``, ``env remove``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import FormatOption, Output, write, write_json

if TYPE_CHECKING:
    from workbench.core.jobs import Job

app = typer.Typer(
    no_args_is_help=True, help="Manage separate Python environments for libraries that conflict with others."
)
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The environment, such as modelopt; see `workbench env list`.")
]


@app.command()
def create(
    name: NameArgument,
    pip_options: Annotated[
        list[str] | None, typer.Argument(metavar="PIP_OPTIONS", help="After --: more options for pip install.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Create it again even if it is ready.")] = False,
) -> None:
    """Create an environment from exact pins, or repair it."""
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
def list_(how: FormatOption = Output.TABLE) -> None:
    """List the environments, and the command that creates each one that is missing."""
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
    """Delete an environment."""
    from workbench.core import environments

    gone = environments.remove(name)
    write(f"{name} was removed.\n" if gone else f"There was no environment {name}.\n")
