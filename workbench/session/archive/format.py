"""What an archive holds: a zip file with ``session.json``, ``models/<sha256>/`` and ``builds/<key>/``.

What an archive says about itself can't be proven, except by the store that wrote it: ``session.json`` holds the SHA-256
of every file and a signature with the store's secret. Engines of any other archive are kept under keys that begin with
``imported-``, where no build looks for them, and the code that its models and engines bring is not run.
"""

from __future__ import annotations

import re
from typing import Any

from workbench.core.errors import StoreError
from workbench.core.store import ENGINE_FILES, IMPORTED
from workbench.plan.validate import checker

ARCHIVE = "workbench.session/1"

RATIO_FROM = 100e6
"""Bytes below which an archive may be packed as well as it likes."""

FILES = (*ENGINE_FILES, "build.log", "record.json", "plan.json", "build.json")
OPTIONAL = (*ENGINE_FILES[1:], "build.log")
DOCUMENTS = ("record.json", "plan.json", "build.json")
PROFILE = re.compile(r"[0-9]{1,30}\.json")
CHUNK = 1 << 20

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$(?!\n)"}
_COUNTS = {"type": "object", "additionalProperties": {"type": "integer"}}
_ORIGIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("kind", "name", "spec", "class", "path", "library", "precision"), _TEXT),
        "source": _SHA256,
        "scheme": {"type": "object"},
        "lists": {"type": "object"},
        "warnings": _TEXTS,
        "clipped": _TEXTS,
        "moved": _TEXTS,
        "quantized": _TEXTS,
        "left": {"type": "object", "additionalProperties": _TEXT},
        "ranges": {"type": "object", "additionalProperties": {"type": "number"}},
        "kept": _COUNTS,
        "pairs": {"type": "integer"},
        # The name of a file in the store.
        "calibration": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[0-9a-f]{1,64}$(?!\n)"}]},
    },
}
check_head = checker(
    {
        "type": "object",
        "properties": {
            "format": {"const": ARCHIVE},
            "name": _TEXT,
            "models": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"sha256": _SHA256, "file": _TEXT, "origin": _ORIGIN},
                    "required": ["sha256", "file", "origin"],
                },
            },
            "engines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "key": {"type": "string", "pattern": f"^({IMPORTED})?[0-9a-f]{{64}}$(?!\n)"},
                        "model": _TEXT,
                    },
                    "required": ["key", "model"],
                },
            },
            "selection": {
                "type": "object",
                "properties": {"kind": {"enum": ["layer", "node"]}, "ids": _TEXTS},
                "required": ["kind", "ids"],
            },
            "files": {"type": "object", "additionalProperties": _SHA256},
            "seal": _TEXT,
        },
        "required": ["format", "name", "models", "engines", "selection"],
    }
)


def damaged(why: str) -> StoreError:
    """The error of an archive that is not as it was written."""
    return StoreError(
        f"The archive is damaged: {why}.", hint="Copy it again, or export it again.", code="damaged-archive"
    )


def unsafe(message: str) -> StoreError:
    """The error of an archive that tries to write outside its folder."""
    return StoreError(message, hint="Do not open it.", code="unsafe-archive")
