"""Arguments that commands of several files share."""

from __future__ import annotations

from typing import Annotated

import typer

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="An ONNX file, a sample's name, or package.module:factory.")
]
SessionOption = Annotated[str, typer.Option("--session", help="Session to work in.")]
