"""Folders that only their owner may enter."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
"""Error numbers of a file system that lacks an operation, such as locks or modes."""


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter; an existing one stays as it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def close_to_others(place: Path, folders: Collection[str], files: Collection[str]) -> None:
    """Close an existing store to other users: its `folders`, and itself if it holds nothing but `folders` and `files`."""
    with os.scandir(place) as entries:
        names = {entry.name for entry in entries}
    closing = [place / name for name in folders if name in names]
    if all(name in folders or name in files or name.startswith(".format.") for name in names):
        closing.append(place)
    for folder in closing:
        found = folder.lstat()
        own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX
        if own and found.st_mode & 0o077:
            _set_mode(folder, 0o700)


def move_in(folder: Path, place: Path) -> None:
    """Move a finished folder to `place`, closed to other users. If `place` is there already it stays.

    Raises:
        OSError: it can't be moved.
    """
    make_folder(place.parent)
    for file in [folder, *folder.rglob("*")]:
        if not file.is_symlink():
            _set_mode(file, 0o700 if file.is_dir() else 0o600)
    try:
        folder.rename(place)
    except OSError:
        if not place.is_dir():
            raise  # else: another process was first with the same content


def _set_mode(path: Path, mode: int) -> None:
    """Set a mode. Some mounted file systems have no modes; the store works there too."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in {errno.EPERM, *NO_LOCKS}:
            raise
