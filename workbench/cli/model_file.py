"""Writes a converted model to a file, and prints what was done."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import Output, console, write_json
from workbench.core.errors import ModelError

if TYPE_CHECKING:
    from workbench.model import Model


OutOption = Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")]


def export_model(model: Model, output: Path) -> None:
    """Copy the model out of the store. Its external weight files keep their names, since the ONNX file refers to them.

    Raises:
        ModelError: there is a file with other weights under that name.
        StoreError: the files can't be written; existing files are left unchanged.
    """
    from workbench.core.store import drafts

    beside = {file: output.parent / file.relative_to(model.path.parent) for file in model.companions}
    for file, place in beside.items():
        if place.exists() and not filecmp.cmp(file, place, shallow=False):
            raise ModelError(
                f"{place} holds the weights of another model, and the weights of this model need that name.",
                hint="Write it into an empty folder: -o FOLDER/" + output.name,
            )
    # The model is written last: without its weights it can't be read.
    with drafts.output(output) as draft:
        shutil.copyfile(model.path, draft)
        for file, place in beside.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            with drafts.output(place) as weights:
                shutil.copyfile(file, weights)


def report(how: Output, output: Path, info: dict[str, Any], rows: list[tuple[str, str]]) -> None:
    """Print what was written: `rows` as a table, or `info` as JSON."""
    if how is Output.JSON:
        write_json({"output": str(output), **info}, indent=1)
        return
    from rich.markup import escape
    from rich.table import Table

    from workbench.core.units import bytes_text

    table = Table(box=None, pad_edge=False, show_header=False)
    for label, text in [("written", f"{output} ({bytes_text(output.stat().st_size)})"), *rows]:
        table.add_row(f"[bold]{escape(label)}[/]", escape(text))
    console().print(table)
