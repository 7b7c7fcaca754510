"""Locks between processes with ``flock``. The operating system releases a lock when its process ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from workbench.core.store.folders import NO_LOCKS

_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


def hold(path: Path, *, create: bool = True, mode: int = 0o600) -> int | None:
    """Lock a file for this process, against all others.

    Args:
        path: The file.
        create: Create it if it is not there.
        mode: Its mode, if it is created.

    Returns:
        A descriptor for `release`; None if another process holds it.

    Raises:
        OSError: it can't be made, or is a symbolic link.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    while True:
        held = os.open(path, flags, mode)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if create and error.errno in NO_LOCKS:
                _held.add(held)  # a file system without locks: files of a killed process stay there
                return held
            os.close(held)
            if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, *NO_LOCKS}:
                return None
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(held).st_ino == os.stat(path, follow_symlinks=False).st_ino:  # noqa: PTH116
                _held.add(held)
                return held
        os.close(held)  # its last holder removed it between our two steps
        if not create:
            return None


def release(held: int) -> None:
    """Release a lock of `hold`. In a child process that was forked meanwhile this does nothing."""
    if held in _held:
        _held.discard(held)
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_UN)  # closing alone is not enough while a forked child has a copy
        os.close(held)


def _after_fork() -> None:
    """Close the parent's locks in a forked child, so that they end with the parent."""
    for held in _held:
        with contextlib.suppress(OSError):
            os.close(held)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
