"""The commands ``calibration`` and ``migrate``."""

from __future__ import annotations

import json
import shlex
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.frames import print_frame
from workbench.cli.options import FormatOption, Output, check_written, console, write, write_json


class RangeMethod(str, Enum):
    """How a range is computed from the histograms of a cache."""

    ENTROPY = "entropy"
    PERCENTILE = "percentile"
    MINMAX = "minmax"


def calibration(
    file: Annotated[
        Path, typer.Argument(help="A calibration cache that quantize --save-calibration or TensorRT 10 wrote.")
    ],
    other: Annotated[Path | None, typer.Argument(help="Another cache to compare with, of either kind.")] = None,
    method: Annotated[
        RangeMethod, typer.Option(help="How ranges are computed from the histograms.")
    ] = RangeMethod.ENTROPY,
    tensorrt: Annotated[
        Path | None,
        typer.Option("--tensorrt", metavar="FILE", help="Also write the ranges as a calibration cache of TensorRT 10."),
    ] = None,
    how: FormatOption = Output.TABLE,
) -> None:
    """Show the ranges in a calibration cache, or compare two caches."""
    import pandas as pd

    check_written({"--tensorrt": tensorrt}, [file, other])
    from workbench.precision.calibration import Calibration, side_by_side
    from workbench.precision.calibration_cache import TensorRTCache

    def load(path: Path) -> Calibration | TensorRTCache:
        return TensorRTCache.load(path) if TensorRTCache.is_one(path) else Calibration.load(path)

    def ranges(of: Calibration | TensorRTCache) -> dict[str, float]:
        return of.ranges() if isinstance(of, TensorRTCache) else of.ranges(method.value)

    first = load(file)
    frame = first.to_frame() if other is None else side_by_side(ranges(first), ranges(load(other)))
    if tensorrt is not None:
        (first if isinstance(first, TensorRTCache) else TensorRTCache.of(first, method.value)).save(tensorrt)
    if isinstance(first, TensorRTCache):
        about: dict[str, Any] = {"head": first.head}
        line = f"{first.head}: {len(first.scales)} tensors; it does not name its model"
    else:
        about, data = {"model": first.model, "data": dict(first.data)}, first.data
        line = f"{data['source']}: {data['batches']} batches, {data['samples']} samples; model {first.model[:12]}"
    if how is Output.JSON:
        rows = json.loads(frame.to_json(orient="records"))
        write_json({**about, "tensors": rows}, indent=1)
        return
    console().print(line, markup=False)
    print_frame(frame.map(lambda v: "–" if pd.isna(v) else f"{v:.5g}" if isinstance(v, float) else v))


def migrate(
    request: Annotated[
        list[str], typer.Argument(metavar="REQUEST", help="TensorRT 10 flags (after --), or a line of Python.")
    ],
    data: Annotated[str, typer.Option("--calibration", "-c", help="Calibration data to put into the commands.")] = "DATA",
    how: FormatOption = Output.TABLE,
) -> None:  # fmt: skip
    """Translate precision flags or a calibrator of TensorRT 10 into commands for TensorRT 11."""
    from dataclasses import asdict

    from workbench.precision.migrate import migrate

    made = migrate(request[0] if len(request) == 1 else shlex.join(request), data=data)
    if how is Output.JSON:
        write_json(asdict(made), indent=1)
        return
    for block in (made.shell, ("", *made.python)):
        write("\n".join(block) + "\n")
    for note in made.notes:
        write(f"# {note}\n")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (calibration, migrate):
        app.command()(command)
