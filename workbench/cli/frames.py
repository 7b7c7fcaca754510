"""Prints data frames as tables."""

from __future__ import annotations

from typing import Any

from workbench.cli.options import console


def print_frame(frame: Any) -> None:
    """Print a data frame as a table; text columns are aligned left, all others right."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for name in frame.columns:
        table.add_column(
            escape(str(name)), overflow="fold", justify="right" if name not in {"", "tensor", "layer"} else "left"
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(str(v)) for v in row))
    console().print(table)


def print_compared(frame: Any) -> None:
    """Print the numbers of several plans side by side; fractions have two digits."""
    print_frame(frame.map(lambda v: f"{v:.2f}" if isinstance(v, float) else f"{v:,}").reset_index(names=""))
