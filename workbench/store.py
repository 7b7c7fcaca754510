"""Where everything lives: one folder, shared by every notebook, script and shell of a user.

``WORKBENCH_HOME`` names the folder; without it the user's data folder is used. In it:

    format              version of this layout
    index.db            what files were fingerprinted, and which derived models were made (SQLite, WAL)
    models/<sha256>/    models that the workbench made: exported, cast, imported
    builds/<key>/       one built engine: engine, build.log, record.json, build.json
    sessions/<name>.db  one session each (SQLite, WAL)
    locks/, tmp/        locks of builds under way, and their unfinished folders

A build is made in ``tmp`` and moved into place whole, so a folder in ``builds`` is always complete.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_data_dir

from workbench.errors import CancelledError, StoreError

FORMAT = 1
"""Version of the layout; a store of a later version is refused, not damaged."""

BUSY_SECONDS = 60.0


def home() -> Path:
    """The folder in use: ``$WORKBENCH_HOME`` or the user's data folder."""
    return Path(os.environ.get("WORKBENCH_HOME") or user_data_dir("trt-workbench", appauthor=False))


class Database:
    """An SQLite file that many processes and threads share: WAL, and a wait instead of "database is locked".

    Args:
        path: The file; created if absent, with its folder.

    Raises:
        StoreError: it can't be opened, or is no SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # One connection, one thread at a time: SQLite's own threading rules are easy to break.
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._use_wal()
            self._db.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{path} can't be opened: {error}.",
                hint="If it is damaged, move it away; what it held is lost, everything else goes on.",
            ) from None
        except OSError as error:
            raise StoreError(
                f"{path.parent} can't be used: {error}.", hint="Point WORKBENCH_HOME at a folder that you may write to."
            ) from None

    def _use_wal(self) -> None:
        # Switching to WAL needs the file alone for a moment, and does not wait by itself.
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

    def rows(self, query: str, *values: Any) -> list[Any]:
        """All rows of a query.

        Raises:
            StoreError: the file can't be read, or is closed.
        """
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self._path.name} can't be read: {error}.", hint="Open the session again.") from None

    def row(self, query: str, *values: Any) -> Any:
        """The first row of a query, or None."""
        found = self.rows(query, *values)
        return found[0] if found else None

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, serialized with other writers.

        Raises:
            StoreError: the disk is full, or another process kept the file locked for a minute.
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    if self._db.in_transaction:  # a full disk has rolled back by itself
                        self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if "full" in str(error):
                    raise StoreError(
                        "The disk is full; nothing was changed.", hint="Free some space and try again."
                    ) from None
                raise StoreError(f"{self._path.name} could not be written: {error}.", hint="Try again.") from None

    def close(self) -> None:
        """Close the file; later calls raise `StoreError`."""
        with self._lock:
            self._db.close()


class Store:
    """The folder and what is in it.

    Args:
        path: The folder; created if absent.

    Raises:
        StoreError: the folder can't be used, or was written by a later version.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = Path(path) if path is not None else home()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._check_format()
        except OSError as error:
            raise StoreError(
                f"{self.path} can't be used: {error}.",
                hint="Point WORKBENCH_HOME at a folder that you may write to.",
            ) from None
        self._index = Database(self.path / "index.db")
        with self._index.write() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS fingerprints "
                "(path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL)"
            )
            db.execute(
                "CREATE TABLE IF NOT EXISTS derived (key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, info TEXT NOT NULL)"
            )

    def _check_format(self) -> None:
        marker = self.path / "format"
        try:
            text = marker.read_text().strip()
        except FileNotFoundError:
            text = ""
        if not text:
            # Replaced whole, so that another process that looks at the same moment sees all or nothing.
            with whole(marker) as draft:
                draft.write_text(f"{FORMAT}\n")
            return
        if not text.isdigit() or int(text) > FORMAT:
            raise StoreError(
                f"{self.path} was written by a later version of the workbench (layout {text}, known: {FORMAT}).",
                hint="Upgrade: pip install -U trt-workbench. Or point WORKBENCH_HOME elsewhere. Nothing was changed.",
            )

    def sessions(self) -> list[str]:
        """Names of the sessions, sorted."""
        return sorted(p.stem for p in (self.path / "sessions").glob("*.db"))

    def session_file(self, name: str) -> Path:
        """Where the session `name` lives."""
        return self.path / "sessions" / f"{name}.db"

    @contextlib.contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """A folder for work under way; whatever is still there at the end is removed."""
        folder = self.path / "tmp" / f"{prefix}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir(parents=True)
            yield folder
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
                raise StoreError(
                    f"{self.path} can't be written: {error.strerror}.",
                    hint="Free some space, or point WORKBENCH_HOME at a larger disk.",
                ) from None
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(
        self, name: str, waiting: Callable[[], None] | None = None, stop: Callable[[], bool] | None = None
    ) -> Iterator[None]:
        """Hold the lock `name` among all processes; `waiting` is called once if another one has it.

        The operating system releases it when its holder dies, however that happens.

        Raises:
            CancelledError: `stop` said so while another process had it.
        """
        (self.path / "locks").mkdir(exist_ok=True)
        lock = FileLock(self.path / "locks" / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting is not None:
                waiting()
            while not lock.is_locked:
                if stop is not None and stop():
                    raise CancelledError("Cancelled while another process was at work.") from None
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=0.2)
        try:
            yield
        finally:
            lock.release()

    # --- models -------------------------------------------------------------------------------------

    def fingerprint(self, path: Path, compute: Callable[[], str], companions: Callable[[], list[Path]]) -> str:
        """SHA-256 of a model file, computed once for each state of the file (size, time, inode).

        A file changed within the last two seconds is not remembered: a second change could leave the
        same stamp.

        Args:
            path: The model file.
            compute: Computes the fingerprint.
            companions: The files beside it that hold weights.
        """
        known = self.known_fingerprint(path)
        if known is not None:
            return known
        files = [path, *companions()]
        before = _stamp(files)
        sha256 = compute()
        newest = max(file.stat().st_mtime for file in files)
        if before == _stamp(files) and time.time() - newest > 2:
            with self._index.write() as db:
                db.execute(
                    "INSERT OR REPLACE INTO fingerprints VALUES (?, ?, ?)", (str(path.resolve()), before, sha256)
                )
        return sha256

    def known_fingerprint(self, path: Path) -> str | None:
        """The remembered SHA-256 of `path`, or None where it is new or changed. Opens no model."""
        if path.parent.parent == self.path / "models":
            return path.parent.name  # the store's own models lie under their fingerprint
        row = self._index.row("SELECT stamp, sha256 FROM fingerprints WHERE path = ?", str(path.resolve()))
        if row is None:
            return None
        names = [name for name, *_ in json.loads(row[0])]
        try:
            now = _stamp([path, *(path.parent / name for name in names[1:])])
        except OSError:
            return None  # a file is gone: whoever reads the model says so
        return str(row[1]) if row[0] == now else None

    def derived(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """The model made under `key` earlier, with what was noted of it; None where there is none."""
        row = self._index.row("SELECT sha256, info FROM derived WHERE key = ?", key)
        if row is None:
            return None
        path = self.path / "models" / str(row[0]) / "model.onnx"
        return (path, json.loads(row[1])) if path.is_file() else None

    def add_model(self, folder: Path, sha256: str, key: str | None, info: dict[str, Any]) -> Path:
        """Move a finished model folder (``model.onnx`` and its data) into the store.

        Args:
            folder: A folder from `scratch`.
            sha256: Fingerprint of the model in it.
            key: What it was made from; `derived` finds it again by this.
            info: JSON-able notes kept with it.
        """
        place = self.path / "models" / sha256
        _move(folder, place)
        if key is not None:
            with self._index.write() as db:
                db.execute(
                    "INSERT OR REPLACE INTO derived VALUES (?, ?, ?)",
                    (key, sha256, json.dumps(info)),
                )
        return place / "model.onnx"

    # --- builds -------------------------------------------------------------------------------------

    def build(self, key: str) -> Path | None:
        """The folder of the engine with this key, or None where it was not built."""
        place = self.path / "builds" / key
        return place if (place / "build.json").is_file() else None

    def add_build(self, folder: Path, key: str) -> Path:
        """Move a finished build folder into the store."""
        place = self.path / "builds" / key
        _move(folder, place)
        return place


@contextlib.contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A draft to write in place of `file`, which it becomes at the end: nobody ever reads half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _move(folder: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(place)
    except OSError:
        if not place.is_dir():
            raise  # else: another process was first with the same content


def _stamp(files: list[Path]) -> str:
    stats = [(file, file.stat()) for file in files]
    return json.dumps([(f.name, s.st_size, s.st_mtime_ns, s.st_ino) for f, s in stats])
