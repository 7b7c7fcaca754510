"""Arguments, output helpers and checks that several commands share."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.core.errors import ConfigError
from workbench.core.safe_text import csv_text, json_text, visible
from workbench.hardware.devices import ARCHITECTURES

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from workbench.session.session import Session


class Output(str, Enum):
    """How a result is written."""

    TABLE = "table"
    JSON = "json"


class Format(str, Enum):
    """How a result is written, if it can also be a CSV table."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class PrecisionName(str, Enum):
    """Precisions of a build."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


def console(*, stderr: bool = False) -> Console:
    """A console for tables and messages; wide enough for tables if it is not a terminal.

    Names from files may hold control characters: they are printed as text and never sent to the terminal.
    """
    from rich.console import Console
    from rich.text import Text

    class Shown(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(visible(text), **options)

    made = Shown(stderr=stderr, highlight=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = 140  # a pipe has no width; tables need room
    return made


def write(text: str) -> None:
    """Write text to standard output; control characters are printed as text."""
    sys.stdout.write(visible(text))


def write_json(document: Any, indent: int | None = None) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json_text(document, indent) + "\n")


def write_csv(frame: pd.DataFrame) -> None:
    """Write a table as CSV to standard output; text that a spreadsheet would run as a formula gets an apostrophe."""
    sys.stdout.write(csv_text(frame))


def warn(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(visible(text) + "\n")


def in_shell(text: str | None, shapes: object) -> str | None:
    """A hint that suggests shapes in Python, rewritten with command-line options.

    Args:
        text: The hint; it may hold ``shapes={...}`` as `workbench.model.suggest.Suggestion.python` writes it.
        shapes: The suggested shapes by input; anything else leaves the text unchanged.
    """
    if not text or not isinstance(shapes, Mapping) or not shapes:
        return text
    from workbench.model.suggest import Suggestion

    suggestion = Suggestion({str(n): str(t) for n, t in shapes.items()}, tried=True)
    return text.replace(suggestion.python, suggestion.flags)


def check_written(files: dict[str, Path | None], read: list[Path | str | None]) -> None:
    """Refuse an output file that can't be written, or that the command also reads, before any work is done.

    Args:
        files: The output files, by the option that names each; None if the option was not given.
        read: What the command reads: paths, or other text such as a sample's name.

    Raises:
        ConfigError: the folder does not exist, the path is a folder, or the command reads the file.
    """
    written = {option: file for option, file in files.items() if file is not None}
    for option, file in written.items():
        if file.is_dir():
            raise ConfigError(f"{file} is a folder.", hint=f"Name a file: {option} {file / 'NAME'}")
        if not file.parent.is_dir():
            raise ConfigError(
                f"{file} can't be written: there is no folder {file.parent}.",
                hint=f"mkdir -p {shlex.quote(str(file.parent))}",
            )
        for given in read:
            if given and Path(given).is_file() and file.exists() and file.samefile(given):
                raise ConfigError(
                    f"{file} is read, and {option} would overwrite it.", hint=f"Give {option} another name."
                )
    if len({file.resolve() for file in written.values()}) < len(written):
        raise ConfigError(f"{' and '.join(written)} name the same file.", hint="Give each a different name.")


def looking(name: str) -> Session:
    """The session for a command that only reads. It also works, with a warning, if WORKBENCH_HOME can't be written."""
    from workbench.session.session import Session

    work = Session(name, reading=True)
    if (why := work.store.unwritable) is not None:
        warn(f"{why.message} Results are not kept.")
    return work


ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="An ONNX file, a sample's name, or package.module:factory.")
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape", "-s", metavar="NAME=SHAPE",
        help="Shape of an input: 1x3x224x224, or min:opt:max. Repeat for more inputs. For an input that the model reads as a "
        "shape give its values, with two equals signs: NAME==8, NAME==1:8:32; commas separate several values.",
    ),
]  # fmt: skip
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target", "-t",
        help=f"GPU to build for: {', '.join(ARCHITECTURES)}, or current; join several with +. `workbench doctor` lists the "
        "targets of each compiler and known issues.",
    ),
]  # fmt: skip
SizeOption = Annotated[
    list[str] | None,
    typer.Option("--shape", "-s", metavar="NAME=SHAPE", help="Size of a dynamic input. Repeat for more."),
]
FormatOption = Annotated[Output, typer.Option("--format", "-f", help="How to write the result.")]
SessionOption = Annotated[str, typer.Option("--session", help="Name of the session.")]
EstimateOption = Annotated[
    str | None,
    typer.Option(
        "--estimate", metavar="GPU",
        help="Also show the shortest possible time of each layer on a GPU (a100, rtx-4090, sm89 ...), estimated from its "
        "datasheet.",
    ),
]  # fmt: skip
FormatsOption = Annotated[Format, typer.Option("--format", "-f", help="How to write the result.")]
PrecisionOption = Annotated[PrecisionName, typer.Option("--precision", "-p", help="Precision of the build.")]
FullOption = Annotated[bool, typer.Option("--full", help="Show all node names, and layers that launch no kernel.")]
