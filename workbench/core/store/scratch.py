"""Folders of unfinished work, which are removed at the end, or later if their process was killed."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import time
import uuid
from pathlib import Path

import psutil

from workbench.core.store.drafts import DRAFT, discard_noted
from workbench.core.store.folders import make_folder
from workbench.core.store.locks import hold, release

_scratches: dict[Path, int] = {}
"""Folders in use, with the process that made them."""


def claim(place: Path, prefix: str) -> tuple[Path, int]:
    """A new folder in `place`, and a lock next to it that shows that its process is alive; `discard` removes both.

    Raises:
        OSError: it can't be made.
    """
    make_folder(place)
    folder = place / f"{prefix}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    lock = folder.with_name(f"{folder.name}.lock")
    held = None
    while held is None:  # `sweep` may hold a lock for a moment, to check whether it is locked
        held = hold(lock)
    try:
        folder.mkdir(mode=0o700)
    except OSError:
        lock.unlink(missing_ok=True)
        release(held)
        raise
    _scratches[folder] = os.getpid()
    return folder, held


def discard(folder: Path, held: int) -> None:
    """Remove a folder, the draft that is noted in it, and its lock."""
    discard_noted(folder)
    _remove(folder)
    release(held)
    _scratches.pop(folder, None)


def sweep(place: Path) -> None:
    """Remove the folders of `place` whose process is gone: killed, or ended by a signal.

    A released lock shows that. A folder of an earlier version has no lock and is removed a day after its process
    ended.
    """
    try:
        names = {entry.name for entry in os.scandir(place)}
    except OSError:
        return
    for name in names:
        path = place / name
        with contextlib.suppress(OSError):  # the next sweep tries again
            if name.endswith(".lock"):
                held = hold(path, create=False)
                if held is not None:
                    discard(path.with_suffix(""), held)
            elif f"{name}.lock" not in names and (match := re.fullmatch(r".+-(\d+)-[0-9a-f]{8}", name)):
                old = time.time() - path.lstat().st_mtime > 86400
                if old and not path.is_symlink() and not psutil.pid_exists(int(match[1])):
                    shutil.rmtree(path, ignore_errors=True)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


@atexit.register
def _remove_all() -> None:
    """Remove open folders at exit: threads that end with the interpreter do not clean up."""
    for folder, pid in list(_scratches.items()):
        # Not the folders of the process that this one was forked from. The next process removes a noted draft.
        if pid == os.getpid() and not (folder / DRAFT).exists():
            _remove(folder)
