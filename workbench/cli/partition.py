"""The command ``partition``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    looking,
    write_csv,
    write_json,
)

if TYPE_CHECKING:
    from workbench.model.provenance import Source
    from workbench.plan.partition import Partition


class Method(str, Enum):
    """How a partition is found."""

    TORCH_TENSORRT = "torch_tensorrt"
    PARSER = "parser"
    BUILDER = "builder"


def partition(
    model: ModelArgument,
    shape: ShapeOption = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="How to find out: torch_tensorrt asks Torch-TensorRT's partitioner, parser asks TensorRT's ONNX parser, and "
            "builder builds the model, since the builder refuses some nodes that the parser accepts. Default: torch_tensorrt "
            "for a PyTorch model if it is installed, else builder if the model is small, else parser.",
        ),
    ] = None,
    min_block_size: Annotated[int | None, typer.Option(help="Fewest operators in an engine (torch_tensorrt).")] = None,
    target: TargetOption = None,
    precision: PrecisionOption = PrecisionName.FP32,
    output: FormatsOption = Format.TABLE,
    session: SessionOption = "default",
) -> None:
    """Show which operators of MODEL run in TensorRT, which fall back, and how many engines result."""
    from workbench.model.shape_profile import ShapeProfile

    given: dict[str, Any] = {
        "min_block_size": min_block_size, "target": target, "precision": precision.value,
    }  # fmt: skip
    found = looking(session).torch.partition(
        model, shapes=ShapeProfile.parse(shape) if shape else None, method=method.value if method else None,
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    if output is Format.JSON:
        write_json(found.to_dict())
        return
    if output is Format.CSV:
        write_csv(found.to_frame())
        return
    _print_partition(found)


def _print_partition(found: Partition) -> None:
    from collections import Counter

    from rich.markup import escape
    from rich.table import Table

    out = console()
    out.print(f"\n[bold]{escape(found.model)}[/] {escape(found.title)}")
    out.print(f"[bold]{escape(found.head)}[/]   {len(found.fallbacks)} fall back")
    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for heading, justify in (
        ("#", "right"),
        ("runs in", "left"),
        ("operators", "right"),
        ("kinds", "left"),
        ("why", "left"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for i, segment in enumerate(found.segments):
        kinds = ", ".join(f"{n} {op}" for op, n in Counter(o.op for o in segment.operators).most_common(4))
        why = dict.fromkeys(
            f"{o.op}{_at(o.source)}: {o.reason}" for o in segment.operators if o.reason
        )  # fmt: skip
        side = "[green]TensorRT[/]" if segment.runs_on == "tensorrt" else "[yellow]fallback[/]"
        if segment.runs_on == "tensorrt" and (found.method == "parser" or not found.proven):
            side = "[green]TensorRT?[/]"
        more = [f"and {len(why) - 4} more"] if len(why) > 4 else []
        table.add_row(
            str(i), side, str(len(segment.operators)), escape(kinds), escape("\n".join([*list(why)[:4], *more]))
        )
    out.print(table)
    for note in found.advice:
        out.print(f"[dim]{escape(note)}[/]")


def _at(source: Source) -> str:
    return f" at {Path(source.file).name}:{source.line}" if source.file else ""


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(partition)
