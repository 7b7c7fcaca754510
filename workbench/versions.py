"""Which kept plans and engines are still what this version would make."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from workbench import compilers
from workbench.compilers.base import Compiler
from workbench.compilers.config import DEFAULT_COMPILER

READING = 2
"""Part of every engine's key. Raise it if workers read another record from the same engine: engines are then built
again. It is a number and not derived, because a build takes minutes; `tests/unit/test_versions.py` fails if recorded
listings are read differently and the number is the same."""

ANALYZING = ("workbench.plan", "workbench.model")
"""The packages that make a plan of a record and a model."""


def analysis(config: Mapping[str, Any]) -> str:
    """The version of the analysis of a build with this config: a plan of another version is made again from its record.

    It is a hash of the source files that make plans: those of `ANALYZING`, and the package of the compiler, which
    explains its own layers. So it changes with every edit, and never has to be remembered.
    """
    found = compilers.find(str(config.get("compiler", DEFAULT_COMPILER)), Compiler)
    package = None if found is None else importlib.import_module(type(found).__module__).__package__
    return _hash(*ANALYZING, *([package] if package else []))


@cache
def _hash(*packages: str) -> str:
    digest = hashlib.sha256()
    for package in packages:
        for file in sorted(files(package).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(f"{package}/{file.name}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
