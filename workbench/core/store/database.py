"""An SQLite file that many processes and threads share, and the migration of its format."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workbench.core.errors import StoreError
from workbench.core.safe_text import visible
from workbench.core.store.errors import check_file, database_error, unwritable
from workbench.core.store.folders import make_folder

BUSY_SECONDS = 60.0
"""How long to wait for another process that writes."""


_opening = threading.Lock()


def _prepare(path: Path) -> None:
    """Create the file if it is not there; refuse one that SQLite should not open.

    An existing file is never opened and closed here: closing any descriptor of a file releases all POSIX locks that this
    process has on it, among them SQLite's. Another process would then delete the write-ahead log of an open connection.

    Raises:
        OSError: it can't be created or written, or is a symbolic link.
    """
    if not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):  # another process was first
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    check_file(path)


class Database:
    """An SQLite file that many processes and threads share: WAL, and a wait instead of "database is locked".

    Args:
        path: The file; created if absent, with its folder.

    Raises:
        StoreError: it can't be opened, is not an SQLite file, or is a symbolic link.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # One connection, one thread at a time: SQLite's own threading rules are easy to break.
        self._lock = threading.RLock()
        try:
            make_folder(path.parent)
            with _opening:
                _prepare(path)
                self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._use_wal()
            self._db.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as error:
            raise database_error(path, error) from None
        except OSError as error:
            raise unwritable(path, error, store=True) from None

    def _use_wal(self) -> None:
        # Switching to WAL needs exclusive access for a moment, and SQLite does not wait for it.
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def migrate(self, steps: Sequence[Sequence[str]], what: str) -> None:
        """Bring the file to the newest format: ``PRAGMA user_version`` counts the completed steps.

        All missing steps and the new number are one transaction. A process that dies in it leaves the file as it was;
        two processes take turns, and the second finds nothing left to do.

        Args:
            steps: The SQL statements from format i to i + 1, for each i.
            what: What the file is, for the message.

        Raises:
            StoreError: a later version wrote the file (code ``later-version``); it is left as it is. Or it can't be
                read or written.
        """
        known = len(steps)
        found = self._format()
        if found > known:
            raise StoreError(
                f"{what} was written by a later version of the workbench (format {found}, known: {known}).",
                hint="Upgrade: pip install -U trt-workbench. Nothing was changed.",
                code="later-version",
            )
        if found == known:
            return
        with self.write() as db:
            for step in steps[self._format() :]:  # check again: another process may have been first
                for statement in step:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {known}")

    def _format(self) -> int:
        return int(self.row("PRAGMA user_version")[0])

    def rows(self, query: str, *values: Any) -> list[Any]:
        """All rows of a query.

        Raises:
            StoreError: the file can't be read, or is closed.
        """
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except UnicodeEncodeError as error:
                raise _not_utf8(error) from None
            except sqlite3.ProgrammingError as error:  # closed
                raise StoreError(f"{self._path.name} can't be read: {error}.", hint="Open the session again.") from None
            except sqlite3.Error as error:
                raise database_error(self._path, error) from None

    def row(self, query: str, *values: Any) -> Any:
        """The first row of a query, or None."""
        found = self.rows(query, *values)
        return found[0] if found else None

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all or nothing, serialized with other writers.

        Raises:
            StoreError: the disk is full, or another process kept the file locked for a minute.
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    if self._db.in_transaction:  # on a full disk, SQLite has already rolled back
                        self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except UnicodeEncodeError as error:
                raise _not_utf8(error) from None
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):  # the file is closed or can't be written
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.ProgrammingError):
                    raise StoreError(
                        f"{self._path.name} could not be written: {error}.", hint="Open the session again."
                    ) from None
                raise database_error(self._path, error) from None

    def close(self) -> None:
        """Close the file; later calls raise `StoreError`."""
        with self._lock:
            self._db.close()


def _not_utf8(error: UnicodeEncodeError) -> StoreError:
    return StoreError(
        f"The name {visible(error.object)} can't be stored: it is not UTF-8.", hint="Rename the file.", code="not-utf8"
    )
