"""Back ends, one room each, behind one protocol (`workbench.compilers.base`)."""

from workbench.compilers.base import Ability, Compiler, CompilerInfo
from workbench.compilers.registry import compilers, describe, get, require
from workbench.plan.record import Record

__all__ = ["Ability", "Compiler", "CompilerInfo", "Record", "compilers", "describe", "get", "require"]
