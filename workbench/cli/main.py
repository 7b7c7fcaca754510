"""The command line: it assembles the commands and reports errors.

Exit codes: 0 success, 1 the model or the build failed (the reason is on standard error), 2 wrong usage. With
``--format json`` standard output holds one JSON document and nothing else.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from enum import Enum
from typing import Annotated, Any

import typer

from workbench.cli import archive, audit, bench, build, calibration, checks, convert, environments, machine, partition
from workbench.cli.options import console, in_shell
from workbench.core.errors import ExportWarning, WorkbenchError
from workbench.core.safe_text import visible

app = typer.Typer(
    add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="See what an inference compiler makes of your model.",
)  # fmt: skip


class CheckName(str, Enum):
    """What to do if a model exported from PyTorch differs from its module."""

    ERROR = "error"
    WARN = "warn"
    OFF = "off"


@app.callback(help="See what an inference compiler makes of your model.")
def _for_all(
    check: Annotated[
        CheckName | None,
        typer.Option(help="Compare models exported from PyTorch with the PyTorch module: if they differ, stop (error, the default) or "
                          "warn (warn); off compares nothing."),
    ] = None,
) -> None:  # fmt: skip
    if check is not None:
        os.environ["WORKBENCH_EXPORT_CHECK"] = check.value


for _commands in (build, partition, checks, bench, machine, convert, audit, calibration, archive):
    _commands.register(app)
app.add_typer(environments.app, name="env")


def main() -> None:
    """Run the command line. An error that a user can fix is printed without a traceback."""
    warnings.showwarning = _warn
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores the signal
            signal.signal(number, _end)  # an exception, so that unfinished files are removed
    _open_streams()
    try:
        try:
            app(standalone_mode=True)
        finally:
            sys.stdout.flush()  # so that an error while writing is still reported
    except WorkbenchError as error:
        _fail(error)
    except BrokenPipeError:  # the reader of the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        from workbench.core.store import UNWRITABLE, unwritable

        found = unwritable(error.filename or "The disk", error)
        plain = WorkbenchError(f"{error}.", hint="Check the path and its permissions.")
        _fail(found if found.code in UNWRITABLE - {"not-permitted"} else plain)
    except KeyboardInterrupt:
        sys.stderr.write("Cancelled.\n")
        sys.exit(130)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    del filename, lineno, file, line
    from rich.markup import escape

    words = str(message) if issubclass(category, ExportWarning) else f"{category.__name__}: {message}"
    console(stderr=True).print(f"[yellow]{escape(visible(words))}[/]", soft_wrap=True)


def _end(number: int, _frame: Any) -> Any:
    sys.exit(128 + number)


def _open_streams() -> None:
    """Open closed standard streams to the null device, and escape characters that the terminal's encoding lacks.

    Otherwise a file that is opened later could become standard output and be overwritten.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, mode, closefd=False)  # noqa: SIM115 - for as long as the process lives
            setattr(sys, name, stream)
        if mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(error: WorkbenchError) -> Any:
    from rich.markup import escape

    out = console(stderr=True)
    out.print(f"[bold red]Error:[/] {escape(error.message)}", soft_wrap=True)
    if hint := in_shell(error.shell_hint or error.hint, error.details.get("shapes")):
        out.print(f"[cyan]{escape(hint)}[/]", soft_wrap=True)
    sys.exit(1)
