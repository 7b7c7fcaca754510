"""Errors that say what happened and what to do next.

Every error that a user can cause derives from `WorkbenchError`. A compiler runs in another process, so
an error must survive the trip: `to_dict` and `from_dict` carry it across the pipe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class WorkbenchError(Exception):
    """Something that the user can fix.

    Args:
        message: What happened, in one or two sentences.
        hint: What to do next, for Python and for panels: a call if there is one, and no options of the command line.
        shell_hint: What to do next in the shell, if that differs from `hint`.
        details: Facts for a program to read (node names, versions); JSON-able.
        code: A stable name of the cause in kebab-case, such as ``no-kernel``. Wording may change, a code does not;
            programs and tests match it. Without one it is the class's `default_code`.
    """

    default_code = "error"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        shell_hint: str | None = None,
        details: dict[str, Any] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.shell_hint = shell_hint
        self.details = details or {}
        self.code = code or self.default_code

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-able data: ``kind``, ``code``, ``message``, ``hint``, ``details``; ``shell_hint`` if there is one."""
        return {
            **({"shell_hint": self.shell_hint} if self.shell_hint else {}),
            "kind": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> WorkbenchError:
        """Rebuild an error that `to_dict` wrote; an unknown kind becomes a plain `WorkbenchError`."""
        known = {cls.__name__: cls for cls in _subclasses(WorkbenchError)}
        cls = known.get(str(data.get("kind")), WorkbenchError)
        return cls(
            str(data.get("message", "")),
            hint=data.get("hint"),
            shell_hint=data.get("shell_hint"),
            details=data.get("details") or {},
            code=data.get("code"),
        )


def _subclasses(cls: type[WorkbenchError]) -> list[type[WorkbenchError]]:
    found = [cls]
    for sub in cls.__subclasses__():
        found += _subclasses(sub)
    return found


def first_lines(error: BaseException, count: int = 1, limit: int = 300) -> str:
    """The beginning of an error's message: the first `count` lines that hold text, at most `limit` characters.

    If the message is empty, as for some libraries' errors, this is the name of the class.
    """
    text = error.message if isinstance(error, WorkbenchError) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:count])[:limit] if lines else type(error).__name__


def with_own_names(error: BuildError, names: Mapping[str, str]) -> BuildError:
    """The error with other names of nodes, in its message, hint and details.

    Args:
        error: The compiler's error.
        names: The model's node names, by the names that the compiler got.
    """
    if not names:
        return error
    data = json.dumps(error.to_dict())
    for name in sorted(names, key=len, reverse=True):
        data = data.replace(json.dumps(name)[1:-1], json.dumps(names[name])[1:-1])
    found = WorkbenchError.from_dict(json.loads(data))
    return found if isinstance(found, BuildError) else error


class ModelError(WorkbenchError):
    """The model cannot be read, exported or rewritten."""

    default_code = "model"


class ExportWarning(UserWarning):
    """A problem of a model exported from PyTorch that the user should know."""


class ConfigError(WorkbenchError):
    """The build configuration asks for something that does not exist or does not fit the model."""

    default_code = "config"


class CompilerUnavailableError(WorkbenchError):
    """The compiler is not installed, or cannot do this on this machine."""

    default_code = "compiler-unavailable"


class CalibrationError(WorkbenchError):
    """The calibration data or cache do not fit the model, or have no values for it."""

    default_code = "calibration"


class BuildError(WorkbenchError):
    """The compiler refused the model."""

    default_code = "build"


class UnsupportedNodesError(BuildError):
    """The compiler's parser rejected nodes; ``details["nodes"]`` lists them."""

    default_code = "unsupported-nodes"


class ListingError(WorkbenchError):
    """The compiler's layer listing is missing, or its format is unknown."""

    default_code = "listing"


class ProfileError(WorkbenchError):
    """A file of layers or times can't be read, is of another kind, or does not match the other files."""

    default_code = "profile"


class CancelledError(WorkbenchError):
    """The user stopped the job."""

    default_code = "cancelled"


class WorkerCrashedError(WorkbenchError):
    """The worker process ended without an answer; ``details`` holds the signal and the last output."""

    default_code = "worker-crashed"


class TimeLimitError(WorkbenchError):
    """The job ran longer than its limit and was ended."""

    default_code = "time-limit"


class StoreError(WorkbenchError):
    """The session or its files cannot be read or written."""

    default_code = "store"


class NoModelError(StoreError, KeyError):
    """The session has no model of this name."""

    default_code = "no-model"


class NoEngineError(StoreError, IndexError):
    """The session has no such engine."""

    default_code = "no-engine"


class LimitError(WorkbenchError):
    """A file asks for more than `workbench.core.limits` allows; the message names the limit and how to raise it."""

    default_code = "limit"
