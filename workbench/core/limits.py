"""Limits on memory and time for untrusted files. Each limit has a name, and the user can raise it.

A model, a log or an archive may be damaged or malicious. Every reader checks these limits before it spends
memory or time. ``WORKBENCH_LIMIT_<NAME>`` raises one: ``WORKBENCH_LIMIT_DOCUMENT_BYTES=2e9``.
"""

from __future__ import annotations

import math
import os

from workbench.core.errors import ConfigError, LimitError

LIMITS: dict[str, tuple[float, str]] = {
    "DOCUMENT_BYTES": (128e6, "bytes of one JSON or text document"),
    "LINE_BYTES": (16e6, "bytes of one line of a build log"),
    "NESTING": (100, "levels of nesting in a document or a model"),
    "NUMBER_DIGITS": (40, "digits of a number in a document"),
    "GRAPH_NODES": (500e3, "nodes of a model, subgraphs and functions included"),
    "GRAPH_FIELDS": (3e6, "fields of a model without its weights"),
    "GRAPH_BYTES": (512e6, "bytes of a model without its weights"),
    "SHAPE_SECONDS": (20, "seconds that shape inference may take"),
    "SHAPE_BYTES": (4e9, "bytes of memory that shape inference may take"),
    "TENSOR_ELEMENTS": (2**40, "elements of one tensor"),
    "SOURCE_BYTES": (2e6, "bytes of one source file"),
    "ARCHIVE_BYTES": (64e9, "bytes of an archive once it is unpacked"),
    "ARCHIVE_ENTRIES": (100e3, "entries of an archive"),
    "ARCHIVE_RATIO": (200, "times its own size once it is unpacked"),
    "ARCHIVE_HEAD_BYTES": (256e6, "bytes of a JSON document in an archive"),
    "SAMPLE_BYTES": (8e9, "bytes of calibration data"),
    "IMAGE_PIXELS": (100e6, "pixels of one image"),
    "READER_SECONDS": (60, "seconds that a library may take to read a file"),
    "READER_BYTES": (8e9, "bytes of memory that a library may take to read a file"),
}
"""Default and meaning of each limit."""


def limit(name: str) -> float:
    """The current value: ``WORKBENCH_LIMIT_<name>`` if it is set, else the default.

    Raises:
        ConfigError: the variable is not a positive number.
    """
    default, meaning = LIMITS[name]
    text = os.environ.get(f"WORKBENCH_LIMIT_{name}")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise ConfigError(
            f"WORKBENCH_LIMIT_{name} must be a positive number ({meaning}), not {text[:80]!r}.",
            hint=f"Unset it; the default is {default:g}.",
            code="limit-invalid",
        )
    return value


def check(name: str, value: float, what: str) -> None:
    """Refuse `value` above the limit `name`.

    Args:
        name: A key of `LIMITS`.
        value: What the file asks for, in the unit of the limit.
        what: What exceeds the limit, for the message: "The archive gift.zip".

    Raises:
        LimitError: it is above the limit; its code is ``limit-`` and the name in kebab-case.
    """
    allowed = limit(name)
    if value > allowed:
        asked = f"{value:,.0f}" if value < 1e18 else "more than 1e18"  # an int of 400 digits does not fit a float
        raise exceeded(name, f"{what} asks for {asked} {LIMITS[name][1]}; the limit is {allowed:,.0f}.")


def exceeded(name: str, message: str) -> LimitError:
    """The error for a limit that was reached; the hint says how to raise it."""
    return LimitError(
        message,
        hint=f"If you trust the file, raise the limit: set WORKBENCH_LIMIT_{name} above {limit(name):.0f}.",
        details={"limit": name, "allowed": limit(name)},
        code="limit-" + name.lower().replace("_", "-"),
    )
