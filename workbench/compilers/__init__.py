"""Compilers behind small protocols (`base`), found by name (`registry`), each in its own folder."""

from workbench.compilers.base import Ability, Compiler, CompilerInfo
from workbench.compilers.registry import compilers, describe, find, get, info_of, require, vocabulary

__all__ = [
    "Ability",
    "Compiler",
    "CompilerInfo",
    "compilers",
    "describe",
    "find",
    "get",
    "info_of",
    "require",
    "vocabulary",
]
