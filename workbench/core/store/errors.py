"""Errors of files and folders that can't be read or written."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import stat
from pathlib import Path

from workbench.core.errors import StoreError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk."""

UNWRITABLE = frozenset({"disk-full", "read-only", "not-permitted"})
"""Codes of errors for a place that can't be written now, although nothing in it is wrong."""

_DENIED = {errno.EACCES, errno.EPERM}


def unwritable(path: Path | str, error: OSError, *, store: bool = False) -> StoreError:
    """The error for a file or folder that could not be written, from the operating system's error.

    Args:
        path: What could not be written.
        error: The system's error.
        store: Whether `path` is in the workbench's own folder, so that ``WORKBENCH_HOME`` can point elsewhere.
    """
    elsewhere = "point WORKBENCH_HOME at a folder that you may write to" if store else "name a file elsewhere"
    other = f"{elsewhere[:1].upper()}{elsewhere[1:]}."
    if error.errno in FULL:
        return StoreError(
            f"The disk is full: {path} could not be written.",
            hint=f"Free some space, or {elsewhere}.",
            code="disk-full",
        )
    if error.errno == errno.EROFS:
        return StoreError(f"{path} is on a read-only file system.", hint=other, code="read-only")
    if error.errno in _DENIED:
        return StoreError(f"{path} can't be written: permission denied.", hint=other, code="not-permitted")
    if error.errno == errno.ELOOP:
        return StoreError(
            f"{path} is a symbolic link, and the workbench does not follow links here.",
            hint="Remove the link.",
            code="symlink",
        )
    return StoreError(f"{path} can't be written: {error}.", hint=other, code="not-written")


def check_file(path: Path) -> None:
    """Check that a file can be read and written, without opening it.

    Raises:
        OSError: it is gone, a symbolic link or a folder, or may not be written.
    """
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "a symbolic link")
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "a folder")
    if not os.access(path, os.R_OK | os.W_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        raise OSError(errno.EROFS if read_only else errno.EACCES, "not writable")


def database_error(path: Path, error: sqlite3.Error) -> StoreError:
    """The error for an SQLite file, from SQLite's message and the state of the file system."""
    text = str(error)
    if "full" in text:
        return unwritable(path, OSError(errno.ENOSPC, "full"), store=True)
    if "readonly" in text:
        return unwritable(path, OSError(errno.EROFS, "read-only"), store=True)
    if "not a database" in text or "malformed" in text:
        return StoreError(
            f"{path} is damaged: {text}.",
            hint="Move the file away and open it again: a list of models and engines starts empty, and an index is "
            "rebuilt. Models and engines in the store are not touched.",
            code="damaged",
        )
    if "I/O error" in text or "unable to open" in text:
        with contextlib.suppress(OSError):
            if shutil.disk_usage(path.parent).free == 0:
                return unwritable(path, OSError(errno.ENOSPC, "full"), store=True)
        try:
            check_file(path)
        except OSError as why:
            return unwritable(path, why, store=True)
    return StoreError(f"{path} can't be read or written: {text}.", hint="Try again.", code="database")
