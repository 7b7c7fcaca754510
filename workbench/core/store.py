"""Where everything lives: one folder, shared by every notebook, script and shell of a user.

``WORKBENCH_HOME`` names the folder; without it the user's data folder is used. Only its owner may enter it. In it:

    format              version of this layout
    secret              key of the seals that tell this store's own builds from others
    adopted             builds that were here before there were seals
    index.db            what files were fingerprinted, and which derived models were made (SQLite, WAL)
    models/<sha256>/    models that the workbench made: exported, cast, imported
    builds/<key>/       one built engine: engine, build.log, record.json, plan.json, build.json, seal.json
    failures/<name>/    one failed build: build.log, request.json, error.json, record.json; kept for a week
    sessions/<name>.db  one session each (SQLite, WAL)
    locks/, tmp/        locks of builds under way, and their unfinished folders

A build is made in ``tmp`` and moved into place whole, so a folder in ``builds`` is always complete. Its seal holds
the size and SHA-256 of each file and is signed with the store's secret. A build whose seal this store did not sign is
never found by its key: what an archive brings is kept under a key that begins with ``imported-``.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import sqlite3
import stat
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import psutil
from platformdirs import user_data_dir

from workbench.core.errors import CancelledError, StoreError
from workbench.core.safe_text import visible

FORMAT = 1
"""Version of the layout; a store of a later version is refused, not damaged."""

BUSY_SECONDS = 60.0

IMPORTED = "imported-"
"""Keys of builds that came in an archive begin so."""

SEAL = "seal.json"

FAILURE_SECONDS = 7 * 86400.0
"""How long a failed build is kept."""

FAILURE_BYTES = 2e9
"""All failed builds together; the oldest go first."""

ROOM_BYTES = 100e6
"""Failed builds are removed, the oldest first, while the disk has less room than this."""

Standing = Literal["own", "imported", "foreign", "absent"]

_FOLDERS = (
    "models", "builds", "failures", "sessions", "locks", "tmp", "caches", "calibrations", "data", "errors", "accuracy",
    "environments",
)  # fmt: skip
_FILES = ("format", "secret", "adopted", "index.db", "index.db-wal", "index.db-shm", "index.db-journal")
_DRAFT = "draft"
ENGINE_FILES = ("engine", "engine.data")
"""An engine in a build's folder: the file, and weights beside it where a compiler needs two."""
_SEALED = (*ENGINE_FILES, "build.log", "record.json", "plan.json", "build.json")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM}
_LOCKLESS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
UNWRITABLE = frozenset({"disk-full", "read-only", "not-permitted"})
"""Codes of the errors of a place that can't be written now, though nothing in it is wrong."""


def home() -> Path:
    """The folder in use: ``$WORKBENCH_HOME`` or the user's data folder."""
    return Path(os.environ.get("WORKBENCH_HOME") or user_data_dir("trt-workbench", appauthor=False))


def unwritable(path: Path | str, error: OSError, *, store: bool = False) -> StoreError:
    """The error of a file or folder that could not be written, by what the operating system said.

    Args:
        path: What was to be written.
        error: What was said.
        store: Whether `path` is in the workbench's own folder, so that ``WORKBENCH_HOME`` is a way out.
    """
    elsewhere = "point WORKBENCH_HOME at a folder that you may write to" if store else "name a file elsewhere"
    other = f"{elsewhere[:1].upper()}{elsewhere[1:]}."
    if error.errno in _FULL:
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
            f"{path} is a symbolic link, and the workbench follows none here.", hint="Remove the link.", code="symlink"
        )
    return StoreError(f"{path} can't be written: {error}.", hint=other, code="not-written")


def _of_database(path: Path, error: sqlite3.Error) -> StoreError:
    """The error of an SQLite file, by what SQLite said and what the file system shows."""
    said = str(error)
    if "full" in said:
        return unwritable(path, OSError(errno.ENOSPC, "full"), store=True)
    if "readonly" in said:
        return unwritable(path, OSError(errno.EROFS, "read-only"), store=True)
    if "not a database" in said or "malformed" in said:
        return StoreError(
            f"{path} is damaged: {said}.",
            hint="Move the file away and open it again: a list of models and engines starts empty, and an index is "
            "made again. Models and engines in the store are not touched.",
            code="damaged",
        )
    if "I/O error" in said or "unable to open" in said:
        with contextlib.suppress(OSError):
            if shutil.disk_usage(path.parent).free == 0:
                return unwritable(path, OSError(errno.ENOSPC, "full"), store=True)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as why:
            return unwritable(path, why, store=True)
    return StoreError(f"{path} can't be read or written: {said}.", hint="Try again.", code="database")


class Database:
    """An SQLite file that many processes and threads share: WAL, and a wait instead of "database is locked".

    Args:
        path: The file; created if absent, with its folder.

    Raises:
        StoreError: it can't be opened, is no SQLite file, or is a symbolic link.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # One connection, one thread at a time: SQLite's own threading rules are easy to break.
        self._lock = threading.RLock()
        try:
            _folder(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._use_wal()
            self._db.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as error:
            raise _of_database(path, error) from None
        except OSError as error:
            raise unwritable(path, error, store=True) from None

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
            except UnicodeEncodeError as error:
                raise _unstorable(error) from None
            except sqlite3.ProgrammingError as error:  # closed
                raise StoreError(f"{self._path.name} can't be read: {error}.", hint="Open the session again.") from None
            except sqlite3.Error as error:
                raise _of_database(self._path, error) from None

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
            except UnicodeEncodeError as error:
                raise _unstorable(error) from None
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):  # of a closed file, or one that can't be written at all
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.ProgrammingError):
                    raise StoreError(
                        f"{self._path.name} could not be written: {error}.", hint="Open the session again."
                    ) from None
                raise _of_database(self._path, error) from None

    def close(self) -> None:
        """Close the file; later calls raise `StoreError`."""
        with self._lock:
            self._db.close()


def _unstorable(error: UnicodeEncodeError) -> StoreError:
    return StoreError(
        f"The name {visible(error.object)} can't be stored: it is not UTF-8.", hint="Rename the file.", code="not-utf8"
    )


class Store:
    """The folder and what is in it.

    Args:
        path: The folder; created if absent.
        reading: Go on where the folder can't be written: what is noted is then kept in a temporary folder until this
            process ends, and `unwritable` says why.

    Raises:
        StoreError: the folder can't be used, or was written by a later version.
    """

    def __init__(self, path: Path | None = None, *, reading: bool = False) -> None:
        # Workers have another working directory.
        self.path = (Path(path) if path is not None else home()).absolute()
        self.unwritable: StoreError | None = None
        # Where databases, locks and unfinished work lie: elsewhere only where the folder can't be written.
        self._state = self.path
        try:
            self._prepare()
            self._open_index()
            self._secret = self._own_secret()
            sweep(self.path / "tmp")
            self._forget_failures()
        except StoreError as error:
            if not reading or error.code not in UNWRITABLE:
                raise
            self.unwritable = error
            self._state = self._borrowed()
            self._open_index()
            self._secret = _read_secret(self.path / "secret")

    def _prepare(self) -> None:
        try:
            if not self.path.is_dir():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_format()
            _keep_private(self.path)
        except OSError as error:
            raise unwritable(self.path, error, store=True) from None

    def _open_index(self) -> None:
        self._index = Database(self._state / "index.db")
        with self._index.write() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS fingerprints "
                "(path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL)"
            )
            db.execute(
                "CREATE TABLE IF NOT EXISTS derived (key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, info TEXT NOT NULL)"
            )

    def _borrowed(self) -> Path:
        """A temporary folder with copies of the databases; it is removed with this object or process."""
        place = Path(tempfile.mkdtemp(prefix="workbench-home-"))
        weakref.finalize(self, _remove_own, place, os.getpid())
        self._check_format(create=False)
        for folder in (self.path, self.path / "sessions"):
            for file in [*folder.glob("*.db"), *folder.glob("*.db-wal")]:
                if file.is_file() and not file.is_symlink():
                    copy = place / file.relative_to(self.path)
                    copy.parent.mkdir(exist_ok=True)
                    shutil.copyfile(file, copy)
        return place

    def _check_format(self, *, create: bool = True) -> None:
        marker = self.path / "format"
        try:
            text = marker.read_text().strip()
        except FileNotFoundError:
            text = ""
        if not text and not create:
            return
        if not text:
            # Replaced whole, so that another process that looks at the same moment sees all or nothing.
            with whole(marker) as draft:
                draft.write_text(f"{FORMAT}\n")
            return
        if not text.isdigit() or int(text) > FORMAT:
            raise StoreError(
                f"{self.path} was written by a later version of the workbench (layout {text}, known: {FORMAT}).",
                hint="Upgrade: pip install -U trt-workbench. Or point WORKBENCH_HOME elsewhere. Nothing was changed.",
                code="later-version",
            )

    def _own_secret(self) -> bytes | None:
        """The key of this store's seals; made once.

        Builds that are there when it is made have no seal. They were made here, or came from an archive that an
        earlier version let in; nothing in them tells which, so they stay as they are and are listed as adopted. What
        comes without a seal later was not made by this store.
        """
        path = self.path / "secret"
        if (known := _read_secret(path)) is not None:
            return known
        with self.lock("secret"):
            if (known := _read_secret(path)) is not None:
                return known
            made = secrets.token_bytes(32)
            try:
                builds = self.path / "builds"
                there = sorted(p.name for p in builds.iterdir() if p.is_dir()) if builds.is_dir() else []
                if any((builds / name / SEAL).exists() for name in there):
                    there = []  # a secret was lost: builds without a seal are no longer from before there was one
                # First this list, then the secret: whoever is interrupted between the two begins again.
                with whole(self.path / "adopted") as draft:
                    draft.write_text("".join(f"{key}\n" for key in there))
                with whole(path, mode=0o600) as draft, draft.open("wb") as file:
                    file.write(made)
                    file.flush()
                    os.fsync(file.fileno())  # an empty secret after a power cut would make all builds foreign
            except OSError as error:
                raise unwritable(path, error, store=True) from None
            return made

    def check_writable(self) -> None:
        """Refuse work whose result can't be kept.

        Raises:
            StoreError: the store was opened for reading, and can't be written.
        """
        if (why := self.unwritable) is not None:
            raise StoreError(why.message, hint=why.hint, code=why.code)

    def sessions(self) -> list[str]:
        """Names of the sessions, sorted."""
        return sorted(p.stem for p in (self._state / "sessions").glob("*.db"))

    def session_file(self, name: str) -> Path:
        """Where the session `name` lives."""
        return self._state / "sessions" / f"{name}.db"

    @contextlib.contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """A folder for work under way; whatever is still there at the end is removed.

        A process that is killed leaves its folder; the next one that opens the store removes it.
        """
        try:
            folder, held = _claim(self._state / "tmp", prefix)
        except OSError as error:
            raise unwritable(self._state / "tmp", error, store=True) from None
        _scratches[folder] = os.getpid()
        try:
            yield folder
        except OSError as error:
            if error.errno in _FULL or error.errno == errno.EROFS:
                raise unwritable(error.filename or self.path, error, store=True) from None
            raise
        finally:
            _discard(folder, held)

    @contextlib.contextmanager
    def writing(self, path: str | Path) -> Iterator[Path]:
        """A draft of a file that the user named, as `written`.

        If this process is killed, the next one that opens the store removes the draft.

        Raises:
            StoreError: it can't be written.
        """
        with self.scratch("write") as folder, written(path) as draft:
            (folder / _DRAFT).write_text(str(draft))
            yield draft

    @contextlib.contextmanager
    def lock(
        self, name: str, waiting: Callable[[], None] | None = None, stop: Callable[[], bool] | None = None
    ) -> Iterator[None]:
        """Hold the lock `name` among all processes; `waiting` is called once if another one has it.

        The operating system releases it when its holder dies, however that happens.

        Raises:
            CancelledError: `stop` said so while another process had it.
            StoreError: the lock's file can't be made, or is a symbolic link.
        """
        path = self._state / "locks" / f"{name}.lock"
        try:
            _folder(path.parent)
            held = _hold(path)
            if held is None and waiting is not None:
                waiting()
            while held is None:
                if stop is not None and stop():
                    raise CancelledError("Cancelled while another process was at work.")
                time.sleep(0.1)
                held = _hold(path)
        except OSError as error:
            raise unwritable(path, error, store=True) from None
        try:
            yield
        finally:
            _release(held)

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
        self.check_writable()
        place = self.path / "models" / sha256
        try:
            _move(folder, place)
        except OSError as error:
            raise unwritable(place, error, store=True) from None
        if key is not None:
            with self._index.write() as db:
                db.execute(
                    "INSERT OR REPLACE INTO derived VALUES (?, ?, ?)",
                    (key, sha256, json.dumps(info)),
                )
        return place / "model.onnx"

    # --- builds -------------------------------------------------------------------------------------

    def build(self, key: str) -> Path | None:
        """The folder of the engine with this key; None where it was not built, or not by this store.

        See `standing` for what is there instead.
        """
        return self.path / "builds" / key if self.standing(key) in {"own", "imported"} else None

    def standing(self, key: str) -> Standing:
        """What is under `key`.

        ``own``: built by this store. ``imported``: from an archive, as it came. ``foreign``: its seal is absent or was
        not signed by this store, so it says nothing about who made it. ``absent``: nothing.
        """
        place = self.path / "builds" / key
        if not _is_key(key) or not (place / "build.json").is_file():
            return "absent"
        if not self._signed(place, key):
            return "foreign"
        return "imported" if key.startswith(IMPORTED) else "own"

    def _signed(self, place: Path, key: str) -> bool:
        seal = read_seal(place)
        if seal is None:
            if self._secret is None:
                return not key.startswith(IMPORTED)  # no store of this version ever wrote here: as before
            return not (place / SEAL).exists() and key in self._adopted()
        mac = self.sign({"key": key, "files": seal["files"]})
        return seal.get("key") == key and mac is not None and hmac.compare_digest(mac, str(seal.get("mac")))

    def _adopted(self) -> set[str]:
        try:
            return set((self.path / "adopted").read_text().split())
        except OSError:
            return set()

    def sign(self, document: Any) -> str | None:
        """The signature of a JSON-able document with the store's secret, in hex; None where there is no secret."""
        if self._secret is None:
            return None
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def seal(self, folder: Path, key: str) -> None:
        """Write down size and SHA-256 of each file of a build that was just made, signed."""
        files = {name: [list(_digest(folder / name))] for name in _SEALED if stat.S_ISREG(_mode(folder / name))}
        self._write_seal(folder, key, files)

    def _write_seal(self, folder: Path, key: str, files: Mapping[str, list[list[Any]]]) -> None:
        document = {"key": key, "files": files}
        with whole(folder / SEAL) as draft:
            draft.write_text(json.dumps({**document, "mac": self.sign(document)}))

    def replace_in_build(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Replace files of a build, in the order given. While that goes on either content is sound.

        Raises:
            StoreError: the store can't be written.
        """
        new = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()}
        try:
            if read_seal(folder) is None:
                self.seal(folder, folder.name)
            seal = read_seal(folder) or {"files": {}}
            known: dict[str, list[list[Any]]] = seal["files"]
            both = {name: [*known.get(name, ()), entry] for name, entry in new.items()}
            self._write_seal(folder, folder.name, {**known, **both})
            for name, data in files.items():
                with whole(folder / name) as draft:
                    draft.write_bytes(data)
            self._write_seal(folder, folder.name, {**known, **{name: [entry] for name, entry in new.items()}})
        except OSError as error:
            raise unwritable(folder, error, store=True) from None

    def add_build(self, folder: Path, key: str) -> Path:
        """Seal a finished build folder and move it into the store; what is foreign there gives way."""
        self.check_writable()
        place = self.path / "builds" / key
        try:
            self.seal(folder, key)
            if self.standing(key) == "foreign" or (place.exists() and not (place / "build.json").is_file()):
                with self.scratch("foreign") as trash:
                    place.rename(trash / "build")
                    _move(folder, place)
            else:
                _move(folder, place)
        except OSError as error:
            raise unwritable(place, error, store=True) from None
        return place

    # --- failures -----------------------------------------------------------------------------------

    def keep_failure(self, folder: Path, name: str, notes: Mapping[str, Any]) -> Path | None:
        """Keep what a failed build left, for a week or until there is no room; None where there is none now.

        Args:
            folder: The build's unfinished folder: its log and its record are taken from there.
            name: What to call it: letters, digits and dashes.
            notes: JSON-able documents by the file's name: ``request.json``, ``error.json``.
        """
        self._forget_failures()
        place = self.path / "failures" / f"{name}-{uuid.uuid4().hex[:8]}"
        try:
            with self.scratch("failure") as scratch:
                work = scratch / "failure"
                work.mkdir()
                for file in ("build.log", "record.json"):
                    if (folder / file).is_file() and (folder / file).stat().st_size:
                        (folder / file).replace(work / file)
                for file, note in notes.items():
                    (work / file).write_text(json.dumps(note, indent=1))
                _move(work, place)
        except (StoreError, OSError):
            return None  # what the build failed of must be told, whatever is wrong with the store
        return place

    def failure(self, name: str) -> Path | None:
        """The folder of a failed build that is still kept."""
        place = self.path / "failures" / name
        return place if _is_key(name) and place.is_dir() and not place.is_symlink() else None

    def _forget_failures(self) -> None:
        """Remove failed builds that are older than a week, or for which there is no room."""
        folder = self.path / "failures"
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
                if shutil.disk_usage(self.path).free > ROOM_BYTES:
                    break
                shutil.rmtree(place, ignore_errors=True)


def read_seal(folder: Path) -> dict[str, Any] | None:
    """What a build's seal says; None where it has none, or one that can't be read. Its signature is not checked."""
    try:
        seal = json.loads((folder / SEAL).read_text())
        files = {
            str(name): [(int(size), str(sha256)) for size, sha256 in known] for name, known in seal["files"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return {**seal, "files": {name: [list(each) for each in known] for name, known in files.items()}}


def sound(folder: Path, name: str, data: bytes | None = None) -> bool:
    """Whether a file of a build is what its seal says; true where the build has no seal, since nothing is known.

    Args:
        folder: The build.
        name: The file.
        data: Its content, where it was read already.
    """
    seal = read_seal(folder)
    known = seal["files"].get(name) if seal is not None else None
    if known is None:
        return seal is None
    try:
        size = (folder / name).stat().st_size if data is None else len(data)
        if all(size != each for each, _ in known):
            return False
        now = list(_digest(folder / name)) if data is None else [size, hashlib.sha256(data).hexdigest()]
    except OSError:
        return False
    return now in known


def _is_key(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", text) is not None


def _read_secret(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unwritable(path, error, store=True) from None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(64)
    if len(data) != 32:
        raise StoreError(
            f"The store's secret, {path}, is damaged: it has {len(data)} bytes instead of 32.",
            hint=f"Remove {path}. Builds that were sealed with it are then built again.",
            code="damaged",
        )
    return data


def _digest(file: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        size = 0
        while data := opened.read(1 << 20):
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()


def _mode(file: Path) -> int:
    try:
        return file.lstat().st_mode
    except OSError:
        return 0


# --- files and folders ------------------------------------------------------------------------------


def _folder(path: Path) -> None:
    """Make a folder that only its owner may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _chmod(path: Path, mode: int) -> None:
    """Set a mode; some mounted file systems have none, and that is no reason not to work there."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in {errno.EPERM, *_LOCKLESS}:
            raise


def _remove_own(folder: Path, pid: int) -> None:
    """Remove a folder that the process `pid` made; a forked child must leave it."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _keep_private(place: Path) -> None:
    """Close an existing store to other users: its folders, and itself where it holds nothing but a store."""
    with os.scandir(place) as entries:
        names = {entry.name for entry in entries}
    folders = [place / name for name in _FOLDERS if name in names]
    if all(name in _FOLDERS or name in _FILES or name.startswith(".format.") for name in names):
        folders.append(place)
    for folder in folders:
        found = folder.lstat()
        own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX
        if own and found.st_mode & 0o077:
            _chmod(folder, 0o700)


_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


def _hold(path: Path, *, create: bool = True, mode: int = 0o600) -> int | None:
    """Lock a file among all processes; its descriptor, or None where another one holds it.

    Raises:
        OSError: it can't be made, or is a symbolic link.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    while True:
        held = os.open(path, flags, mode)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if create and error.errno in _LOCKLESS:
                _held.add(held)  # a file system without locks: what is left behind there stays
                return held
            os.close(held)
            if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, *_LOCKLESS}:
                return None
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(held).st_ino == os.stat(path, follow_symlinks=False).st_ino:  # noqa: PTH116
                _held.add(held)
                return held
        os.close(held)  # its last holder removed it between our two steps
        if not create:
            return None


def _release(held: int) -> None:
    """Let go of a lock that `_hold` gave. In a child that was forked meanwhile it is not held any more."""
    if held in _held:
        _held.discard(held)
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_UN)  # closing alone is not enough while a forked child has a copy
        os.close(held)


def _leave_locks() -> None:
    """A forked child must not keep its parent's locks held once that ends."""
    for held in _held:
        with contextlib.suppress(OSError):
            os.close(held)
    _held.clear()


os.register_at_fork(after_in_child=_leave_locks)


_scratches: dict[Path, int] = {}
"""Folders of work under way, with the process that made them."""


def _claim(place: Path, prefix: str) -> tuple[Path, int]:
    """A new folder in `place`, and the lock beside it that says that its process lives."""
    _folder(place)
    folder = place / f"{prefix}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    lock = folder.with_name(f"{folder.name}.lock")
    held = None
    while held is None:  # `sweep` may hold a lock for a moment, to look whether it is held
        held = _hold(lock)
    try:
        folder.mkdir(mode=0o700)
    except OSError:
        lock.unlink(missing_ok=True)
        _release(held)
        raise
    return folder, held


def _discard(folder: Path, held: int) -> None:
    _discard_draft(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)
    _release(held)
    _scratches.pop(folder, None)


def _discard_draft(folder: Path) -> None:
    """Remove the draft beside a user's file that was not finished, if one is noted in `folder`."""
    with contextlib.suppress(OSError):
        draft = Path((folder / _DRAFT).read_text())
        if re.fullmatch(r"\..+\.\d+-[0-9a-f]{8}", draft.name) and (found := _hold(draft, create=False)) is not None:
            draft.unlink(missing_ok=True)
            _release(found)


@atexit.register
def _discard_all() -> None:
    """Threads that are stopped with the interpreter do not clean up."""
    for folder, pid in list(_scratches.items()):
        # Not of the process that this one was forked from; and a draft that is noted there is removed by the next.
        if pid == os.getpid() and not (folder / _DRAFT).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


def sweep(place: Path) -> None:
    """Remove the folders of `place` whose process is gone: killed, or ended by a signal.

    A lock that the operating system releases tells; a folder of an earlier version has none, and goes a day after its
    process ended.
    """
    try:
        names = {entry.name for entry in os.scandir(place)}
    except OSError:
        return
    for name in names:
        path = place / name
        with contextlib.suppress(OSError):  # what can't be removed now stays for the next time
            if name.endswith(".lock"):
                held = _hold(path, create=False)
                if held is not None:
                    _discard(path.with_suffix(""), held)
            elif f"{name}.lock" not in names and (match := re.fullmatch(r".+-(\d+)-[0-9a-f]{8}", name)):
                old = time.time() - path.lstat().st_mtime > 86400
                if old and not path.is_symlink() and not psutil.pid_exists(int(match[1])):
                    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def whole(file: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """A draft to write in place of `file`, which it becomes at the end: nobody ever reads half a file.

    A draft that a killed process left beside `file` is removed.

    Raises:
        OSError: it can't be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    for old in _drafts(file):
        with contextlib.suppress(OSError):
            held = _hold(old, create=False)
            if held is not None:
                old.unlink(missing_ok=True)
                _release(held)
    draft = file.with_name(f".{file.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    held = None
    while held is None:  # another one may hold it for a moment, to look whether it is held
        held = _hold(draft, mode=mode)
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
        _release(held)


def _drafts(file: Path) -> list[Path]:
    pattern = re.compile(re.escape(f".{file.name}.") + r"\d+-[0-9a-f]{8}")
    with os.scandir(file.parent) as entries:
        return [file.parent / entry.name for entry in entries if pattern.fullmatch(entry.name)]


@contextlib.contextmanager
def written(path: str | Path, *, parents: bool = False) -> Iterator[Path]:
    """A draft of a file that the user named; at the end it takes its place. Until then what was there stays.

    A device or pipe, such as /dev/stdout, is written as it is.

    Args:
        path: The file.
        parents: Whether folders that are not there are made.

    Raises:
        StoreError: it can't be written; the code says why: ``disk-full``, ``read-only``, ``not-permitted``,
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
    try:
        if target.exists() and not target.is_file():
            yield target
            return
        if target.exists() and not os.access(target, os.W_OK):
            ro = os.statvfs(target).f_flag & os.ST_RDONLY
            raise OSError(errno.EROFS if ro else errno.EACCES, "not writable")
        with whole(target) as draft:
            yield draft
            if target.exists():
                shutil.copymode(target, draft)
    except OSError as error:
        # What was read meanwhile may be at fault as well; the system's own words name it.
        ours = error.filename is None or Path(os.fsdecode(error.filename)).parent == target.parent
        if not ours and error.errno not in _FULL:
            raise StoreError(f"{path} could not be written: {error}.", code="not-written") from None
        raise unwritable(path, error) from None


def _move(folder: Path, place: Path) -> None:
    _folder(place.parent)
    for file in [folder, *folder.rglob("*")]:
        if not file.is_symlink():
            _chmod(file, 0o700 if file.is_dir() else 0o600)
    try:
        folder.rename(place)
    except OSError:
        if not place.is_dir():
            raise  # else: another process was first with the same content


def _stamp(files: list[Path]) -> str:
    stats = [(file, file.stat()) for file in files]
    return json.dumps([(f.name, s.st_size, s.st_mtime_ns, s.st_ino) for f, s in stats])
