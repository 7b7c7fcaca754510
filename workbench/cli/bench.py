"""The command ``bench``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import FormatOption, Output, SessionOption, console, write_json


def bench(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Sample models.")],
    batch: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1,32",
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8, fp8, separated by commas.")] = "fp32,fp16",
    output: FormatOption = Output.TABLE,
    results: Annotated[
        Path | None,
        typer.Option("--results", help="File to save results in; rows that it already holds are not measured again."),
    ] = None,
    ways: Annotated[str, typer.Option(help="Columns, separated by commas. Default: all.")] = "",
    session: SessionOption = "bench",
) -> None:
    """Time models in PyTorch, torch.compile, Torch-TensorRT and TensorRT on the GPU of this machine, and measure their errors."""
    from workbench.experiments.bench import WAYS, Bench, table
    from workbench.session.session import Session

    if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6})*", batch):
        raise typer.BadParameter("batch sizes are whole numbers, separated by commas", param_hint="--batch")
    sizes = [int(b) for b in batch.split(",") if b]
    work = Bench(Session(session), models, sizes, precision.split(","), results, ways.split(",") if ways else WAYS)
    progress = console(stderr=True)
    document = work.run(
        lambda row: progress.print(f"{row['model']}, batch {row['batch']}, {row['precision']}: done", markup=False)
    )
    if output is Output.JSON:
        write_json(document, indent=1)
        return
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold dim")
    for heading in ("model", "batch", "precision", *WAYS):
        shown.add_column(heading, justify="left" if heading == "model" else "right")
    for cells in table(document):
        shown.add_row(*map(escape, cells))
    console().print(shown)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(bench)
