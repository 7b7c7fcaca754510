"""Atomic replacement of files: a draft is written next to the file and replaces it at the end.

`replacing` is for the workbench's own files, `output` for a file that the user named. The next
process that replaces the same file removes a draft that a killed process left. If `output` was given a store, the next
process that opens the store does so too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core.errors import StoreError
from workbench.core.store.errors import FULL, unwritable
from workbench.core.store.locks import hold, release

if TYPE_CHECKING:
    from workbench.core.store.store import Store

DRAFT = "draft"
"""File in a scratch folder that holds the path of a draft."""


@contextlib.contextmanager
def replacing(file: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """A draft that replaces `file` at the end: readers never see half a file.

    Raises:
        OSError: it can't be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    for old in _drafts(file):
        _remove(old)
    draft = file.with_name(f".{file.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    held = None
    while held is None:  # another process may hold it for a moment, to check whether it is locked
        held = hold(draft, mode=mode)
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
        release(held)


@contextlib.contextmanager
def output(path: str | Path, *, parents: bool = False, store: Store | None = None) -> Iterator[Path]:
    """A draft of a file that the user named. It replaces the file at the end; until then, the old file stays.

    A device or pipe, such as /dev/stdout, is written directly.

    Args:
        path: The file.
        parents: Whether to make missing folders.
        store: A store that notes the draft; the next process that opens it removes the draft of a killed one.

    Raises:
        StoreError: it can't be written; the code is the reason: ``disk-full``, ``read-only``, ``not-permitted``,
            ``no-folder``, ``is-folder``, ``not-written``.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise StoreError(f"{path} is a folder.", hint=f"Name a file: {path / 'NAME'}", code="is-folder")
    if parents:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path, error) from None
    if not target.parent.is_dir():
        raise StoreError(
            f"{path} can't be written: there is no folder {path.parent}.",
            hint="Name a file in a folder that exists.",
            code="no-folder",
        )
    with contextlib.ExitStack() as stack:
        note = stack.enter_context(store.scratch("write")) / DRAFT if store is not None else None
        try:
            if target.exists() and not target.is_file():
                yield target
                return
            if target.exists() and not os.access(target, os.W_OK):
                ro = os.statvfs(target).f_flag & os.ST_RDONLY
                raise OSError(errno.EROFS if ro else errno.EACCES, "not writable")
            with replacing(target) as draft:
                if note is not None:
                    note.write_text(str(draft))
                yield draft
                if target.exists():
                    shutil.copymode(target, draft)
        except OSError as error:
            # A file that was read meanwhile may also be the cause; the system's message names it.
            ours = error.filename is None or Path(os.fsdecode(error.filename)).parent == target.parent
            if not ours and error.errno not in FULL:
                raise StoreError(f"{path} could not be written: {error}.", code="not-written") from None
            raise unwritable(path, error) from None


def discard_noted(folder: Path) -> None:
    """Remove the draft that is noted in a scratch folder, if there is one and its process is gone."""
    with contextlib.suppress(OSError):
        draft = Path((folder / DRAFT).read_text())
        if re.fullmatch(r"\..+\.\d+-[0-9a-f]{8}", draft.name):
            _remove(draft)


def _remove(draft: Path) -> None:
    """Remove a draft that no process holds."""
    with contextlib.suppress(OSError):
        held = hold(draft, create=False)
        if held is not None:
            draft.unlink(missing_ok=True)
            release(held)


def _drafts(file: Path) -> list[Path]:
    pattern = re.compile(re.escape(f".{file.name}.") + r"\d+-[0-9a-f]{8}")
    with os.scandir(file.parent) as entries:
        return [file.parent / entry.name for entry in entries if pattern.fullmatch(entry.name)]
