"""Files of failed builds: log, request and record, kept for a week or until disk space is low."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.core.errors import StoreError
from workbench.core.store.folders import move_in

FAILURE_SECONDS = 7 * 86400.0
"""How long a failed build is kept."""

FAILURE_BYTES = 2e9
"""Size of all failed builds together; the oldest are removed first."""

ROOM_BYTES = 100e6
"""Failed builds are removed, the oldest first, while the disk has less free space than this."""


def keep(store: Path, scratch: Path, folder: Path, name: str, notes: Mapping[str, Any]) -> Path | None:
    """Move the files of a failed build into the store; see `Store.keep_failure`. `scratch` is an empty folder."""
    place = store / "failures" / f"{name}-{uuid.uuid4().hex[:8]}"
    try:
        work = scratch / "failure"
        work.mkdir()
        for file in ("build.log", "record.json"):
            if (folder / file).is_file() and (folder / file).stat().st_size:
                (folder / file).replace(work / file)
        for file, note in notes.items():
            (work / file).write_text(json.dumps(note, indent=1))
        move_in(work, place)
    except (StoreError, OSError):
        return None  # the reason why the build failed must reach the user, whatever is wrong with the store
    return place


def forget(store: Path) -> None:
    """Remove failed builds that are older than a week, or that there is no space for."""
    folder = store / "failures"
    found = []
    with contextlib.suppress(OSError):
        for place in folder.iterdir():
            if place.is_dir() and not place.is_symlink():
                size = sum(f.lstat().st_size for f in place.iterdir())
                found.append((place.lstat().st_mtime, size, place))
    found.sort(reverse=True)
    kept = 0
    for when, size, place in found:
        kept += size
        if kept > FAILURE_BYTES or abs(time.time() - when) > FAILURE_SECONDS:
            shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(OSError):
        for _, _, place in found[::-1]:
            if shutil.disk_usage(store).free > ROOM_BYTES:
                break
            shutil.rmtree(place, ignore_errors=True)
