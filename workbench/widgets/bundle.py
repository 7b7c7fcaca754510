"""The built JavaScript: where it lies, and its hash."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from workbench.core.errors import WorkbenchError

STATIC = Path(__file__).parent / "static"


@lru_cache(maxsize=1)
def bundle() -> bytes:
    """The bundle's text.

    Raises:
        WorkbenchError: it was not built.
    """
    path = STATIC / "workbench.js"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise WorkbenchError(
            "The views' JavaScript is not built.", hint="In a checkout: make js. Else reinstall trt-workbench."
        ) from None


@lru_cache(maxsize=1)
def bundle_key() -> str:
    """Names the bundle's content, so that a page never mixes two versions."""
    return hashlib.sha256(bundle()).hexdigest()[:16]
