"""Back ends, one room each, behind one protocol (`workbench.compilers.base`)."""

from workbench.compilers.base import Ability, Compiler, CompilerInfo, Record
from workbench.compilers.registry import compilers, describe, get, require

__all__ = ["Ability", "Compiler", "CompilerInfo", "Record", "compilers", "describe", "get", "require"]
