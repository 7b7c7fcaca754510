"""The command line in this process: what it wrote, and how it ended."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """Exit code and what was written."""

    code: int
    out: str
    err: str


def run_in_process(arguments: Sequence[str]) -> Ended:
    """``workbench ARGUMENTS`` as a shell would start it; any exception but the end of the process is the caller's."""
    from workbench.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    before, shown = sys.argv, warnings.showwarning
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    sys.argv = ["workbench", *arguments]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as end:
                code = end.code
    finally:
        sys.argv, warnings.showwarning = before, shown
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Ended(code if isinstance(code, int) else 0 if code is None else 1, out.getvalue(), err.getvalue())


def unseen(text: str) -> bool:
    return any(
        ch != "\n" and ch != "\t" and (ord(ch) < 32 or 0x7F <= ord(ch) < 0xA0 or ch in "\u202e\u2066\u2069\u200b\ufeff\u2028" or 0xD800 <= ord(ch) < 0xE000 or ord(ch) == 0xE0041)
        for ch in text
    )  # fmt: skip
