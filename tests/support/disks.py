"""Small file systems that are full or read-only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A tmpfs, mounted at `place`."""
    place.mkdir(parents=True, exist_ok=True)
    tool = shutil.which("mount")
    if os.geteuid() != 0 or tool is None:
        pytest.skip("only root may mount a file system to fill")
    done = subprocess.run([tool, "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine mounts no tmpfs: {done.stderr.decode()[:100]}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
