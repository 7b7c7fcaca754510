"""The sample models that come with the package."""

from __future__ import annotations

import importlib.resources
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.core.errors import ModelError


@lru_cache(maxsize=1)
def sample_folder() -> Path:
    """The folder of the sample models: in the installed package, or next to it in a checkout."""
    package = Path(str(importlib.resources.files("workbench")))
    for place in (package / "_samples", package.parent / "sample_models"):
        if (place / "manifest.json").is_file():
            return place
    raise ModelError("The sample models are not installed.", hint="Reinstall trt-workbench.")


@lru_cache(maxsize=1)
def samples() -> dict[str, dict[str, Any]]:
    """The sample models by name, from their manifest."""
    entries = json.loads((sample_folder() / "manifest.json").read_text())
    entries = entries["samples"] if isinstance(entries, dict) else entries
    return {entry["name"]: entry for entry in entries}
