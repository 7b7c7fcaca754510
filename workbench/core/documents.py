"""Reads untrusted text and JSON within `workbench.core.limits`. Each reader turns these errors into its own."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, Literal

from workbench.core import limits
from workbench.core.safe_text import whole


class DocumentError(ValueError):
    """What is wrong with a document; its reader adds the file's name."""


def expanded(path: str | Path) -> Path:
    """`path` with a leading ``~`` replaced by the home folder; a path such as ``~x.onnx`` without such a user stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def kind_of(path: str | Path) -> Literal["file", "folder", ""]:
    """The kind of what is at `path`; "" for nothing, a device, or text that can't be a path (too long, or with a null)."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return ""
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else ""


def read_text(path: str | Path) -> str:
    """The text of a file as UTF-8; an invalid byte becomes a surrogate, which `safe_text.whole` writes out.

    Raises:
        OSError: it can't be read, or is a device or a named pipe.
        LimitError: it is larger than ``DOCUMENT_BYTES``.
    """
    # Opening a named pipe would wait for a writer.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        given = str(path).startswith(("/dev/fd/", "/proc/self/fd/", "/dev/stdin"))  # such as <(command) in a shell
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or (stat.S_ISFIFO(mode) and not given):
            raise OSError(f"{path} is a device or a named pipe")
        os.set_blocking(file.fileno(), True)
        data = file.read(int(limits.limit("DOCUMENT_BYTES")) + 1)
    limits.check("DOCUMENT_BYTES", len(data), f"{path}")
    return data.decode("utf-8-sig", "surrogateescape")


def parse_json(text: str, what: str, *, strict: bool = True, finite: bool = True) -> Any:
    r"""The document in `text`.

    It refuses numbers that are not finite or have hundreds of digits, keys that occur twice in an object, and deep
    nesting. Half a surrogate pair, which can't be written to a file, becomes visible text, as ``\\\\ud800``.

    Args:
        text: JSON.
        what: Its name in errors.
        strict: Whether control characters inside strings are refused, as the standard says.
        finite: Whether NaN and infinite numbers are refused here; False if the caller checks them, with a better message.

    Raises:
        ValueError: it is not JSON (`json.JSONDecodeError`), or holds something that is refused (`DocumentError`).
        LimitError: it is longer than ``DOCUMENT_BYTES``, nested deeper than ``NESTING``, or a number has more than
            ``NUMBER_DIGITS`` digits.
    """
    limits.check("DOCUMENT_BYTES", len(text), what)
    digits = limits.limit("NUMBER_DIGITS")

    def integer(number: str) -> int:
        if len(number) > digits:
            limits.check("NUMBER_DIGITS", len(number.lstrip("-")), f"A number in {what}")
        return int(number)

    def constant(number: str) -> float:
        if finite:
            raise DocumentError(f"it holds the number {number}")
        return float(number)

    try:
        data = json.loads(text, strict=strict, parse_int=integer, parse_constant=constant, object_pairs_hook=_object)
    except RecursionError:
        raise limits.exceeded("NESTING", f"{what} is nested too deeply.") from None
    depth = 0
    level = [data]
    while level:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list | float)
        ]
        for child in level:
            if finite and isinstance(child, float) and not math.isfinite(child):
                raise DocumentError(f"it holds the number {child}")
        limits.check("NESTING", depth, what)
    return whole(data) if "\\ud" in text.lower() or not text.isascii() else data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DocumentError(f"it holds {twice[:200]!r} twice in one object")
    return made
