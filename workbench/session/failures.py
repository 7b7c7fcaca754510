"""Failed builds that the store still keeps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from workbench.compilers.config import BuildConfig
from workbench.core.errors import StoreError, WorkbenchError
from workbench.core.events import Events
from workbench.core.store import Store


@dataclass(frozen=True)
class Failure:
    """A failed build and the files that the store keeps of it.

    Attributes:
        model: Name of the model.
        config: The requested config.
        error: Why it failed.
        folder: Folder with ``build.log``, ``request.json``, ``error.json``, ``record.json``, if they exist.
        time: When, in seconds since the epoch.
    """

    model: str
    config: BuildConfig
    error: WorkbenchError
    folder: Path
    time: float

    @property
    def code(self) -> str:
        """The error's code."""
        return self.error.code

    @property
    def message(self) -> str:
        """The error's message."""
        return self.error.message

    @property
    def log(self) -> str:
        """The build log; empty if the build failed before it wrote one.

        Raises:
            StoreError: the store no longer keeps it (code ``failure-gone``).
        """
        if not self.folder.is_dir():
            raise StoreError(f"The log of this build is no longer kept: {self.folder}.", code="failure-gone")
        try:
            return (self.folder / "build.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def __repr__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.time))
        return f"<Failure of {self.model} at {when}: {self.code}: {self.message[:80]} ({self.folder})>"


def failures(events: Events, store: Store) -> list[Failure]:
    """The failed builds among `events` that `store` still keeps, newest first."""
    found = []
    for event in events.of_kind("build-failed")[::-1]:
        name = event.data.get("failure")
        folder = store.failure(name) if isinstance(name, str) else None
        if folder is not None:
            error = WorkbenchError.from_dict(event.data["error"])
            config = BuildConfig.from_dict(event.data["config"])
            found.append(Failure(event.data["model"], config, error, folder, event.time))
    return found
