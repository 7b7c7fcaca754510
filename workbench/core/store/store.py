"""The store: the folder and what is in it."""

from __future__ import annotations

import contextlib
import errno
import hmac
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir

from workbench.core.errors import CancelledError, StoreError
from workbench.core.store import failures, scratch
from workbench.core.store.drafts import replacing
from workbench.core.store.errors import FULL, UNWRITABLE, unwritable
from workbench.core.store.folders import close_to_others, make_folder, move_in
from workbench.core.store.index import Index
from workbench.core.store.locks import hold, release
from workbench.core.store.seals import Seals, Standing, is_key, make_secret, read_secret

FORMAT = 1
"""Version of the layout; a store of a later version is refused and not changed. Each SQLite file has its own format."""

_FOLDERS = (
    "models", "builds", "failures", "sessions", "locks", "tmp", "caches", "calibrations", "data", "errors", "accuracy",
    "environments",
)  # fmt: skip
_FILES = ("format", "secret", "adopted", "index.db", "index.db-wal", "index.db-shm", "index.db-journal")


def home() -> Path:
    """The folder in use: ``$WORKBENCH_HOME`` or the user's data folder."""
    return Path(os.environ.get("WORKBENCH_HOME") or user_data_dir("trt-workbench", appauthor=False))


@dataclass(frozen=True)
class KnownBuild:
    """A build in the store, with what the index knows about it.

    Attributes:
        key: The build's key.
        folder: Its folder.
        state: Identifies the current content of the folder; None if that requires reading it.
        summary: The summary kept for this state; None if there is none.
    """

    key: str
    folder: Path
    state: str | None
    summary: Mapping[str, Any] | None


class Store:
    """The folder and what is in it.

    Args:
        path: The folder; created if absent.
        reading: Go on if the folder can't be written: notes are then kept in a temporary folder until this process ends, and
            `unwritable` says why.

    Raises:
        StoreError: the folder can't be used, or was written by a later version.
    """

    def __init__(self, path: Path | None = None, *, reading: bool = False) -> None:
        # Workers have another working directory.
        self.path = (Path(path) if path is not None else home()).absolute()
        self.unwritable: StoreError | None = None
        # The folder of databases, locks and unfinished work: another one only if this folder can't be written.
        self._state = self.path
        try:
            self._prepare()
            self._index = Index(self._state / "index.db", self.path / "models")
            self._seals = Seals(self.path, self._own_secret())
            scratch.sweep(self.path / "tmp")
            failures.forget(self.path)
        except StoreError as error:
            if not reading or error.code not in UNWRITABLE:
                raise
            self.unwritable = error
            self._state = self._borrowed()
            self._index = Index(self._state / "index.db", self.path / "models")
            self._seals = Seals(self.path, read_secret(self.path / "secret"))

    def _prepare(self) -> None:
        try:
            if not self.path.is_dir():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_format()
            close_to_others(self.path, _FOLDERS, _FILES)
        except OSError as error:
            raise unwritable(self.path, error, store=True) from None

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
            # Replaced atomically, so that another process that reads at the same moment sees all or nothing.
            with replacing(marker) as draft:
                draft.write_text(f"{FORMAT}\n")
            return
        if not text.isdigit() or int(text) > FORMAT:
            raise StoreError(
                f"{self.path} was written by a later version of the workbench (layout {text}, known: {FORMAT}).",
                hint="Upgrade: pip install -U trt-workbench. Or point WORKBENCH_HOME elsewhere. Nothing was changed.",
                code="later-version",
            )

    def _own_secret(self) -> bytes:
        """The key of this store's seals; made once."""
        path = self.path / "secret"
        if (known := read_secret(path)) is not None:
            return known
        with self.lock("secret"):
            if (known := read_secret(path)) is not None:
                return known
            try:
                return make_secret(self.path)
            except OSError as error:
                raise unwritable(path, error, store=True) from None

    def check_writable(self) -> None:
        """Refuse work whose result could not be kept.

        Raises:
            StoreError: the store was opened for reading, and can't be written.
        """
        if (why := self.unwritable) is not None:
            raise StoreError(why.message, hint=why.hint, code=why.code)

    def sessions(self) -> list[str]:
        """Names of the sessions, sorted."""
        return sorted(p.stem for p in (self._state / "sessions").glob("*.db"))

    def session_file(self, name: str) -> Path:
        """The file of the session `name`."""
        return self._state / "sessions" / f"{name}.db"

    @contextlib.contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """A folder for unfinished work; it is removed at the end with what is still in it.

        A process that is killed leaves its folder; the next one that opens the store removes it.

        Raises:
            StoreError: the folder can't be made, or the disk is full.
        """
        try:
            folder, held = scratch.claim(self._state / "tmp", prefix)
        except OSError as error:
            raise unwritable(self._state / "tmp", error, store=True) from None
        try:
            yield folder
        except OSError as error:
            if error.errno in FULL or error.errno == errno.EROFS:
                raise unwritable(error.filename or self.path, error, store=True) from None
            raise
        finally:
            scratch.discard(folder, held)

    @contextlib.contextmanager
    def lock(
        self, name: str, waiting: Callable[[], None] | None = None, stop: Callable[[], bool] | None = None
    ) -> Iterator[None]:
        """Hold the lock `name` against all other processes; `waiting` is called once if another process has it.

        The operating system releases it when the process ends, for whatever reason.

        Raises:
            CancelledError: `stop` returned true while another process had it.
            StoreError: the lock's file can't be made, or is a symbolic link.
        """
        path = self._state / "locks" / f"{name}.lock"
        try:
            make_folder(path.parent)
            held = hold(path)
            if held is None and waiting is not None:
                waiting()
            while held is None:
                if stop is not None and stop():
                    raise CancelledError("Canceled while another process was working.")
                time.sleep(0.1)
                held = hold(path)
        except OSError as error:
            raise unwritable(path, error, store=True) from None
        try:
            yield
        finally:
            release(held)

    # --- models -------------------------------------------------------------------------------------

    def fingerprint(self, path: Path, compute: Callable[[], str], companions: Callable[[], list[Path]]) -> str:
        """SHA-256 of a model file, computed once for each state of the file (size, time, inode).

        The fingerprint of a file that changed within the last two seconds is not kept: a second change could leave the
        same state.

        Args:
            path: The model file.
            compute: Computes the fingerprint.
            companions: The files next to it that hold weights.
        """
        return self._index.fingerprint(path, compute, companions)

    def known_fingerprint(self, path: Path) -> str | None:
        """The kept SHA-256 of `path`; None if the file is new or changed. Opens no model."""
        return self._index.known_fingerprint(path)

    def derived(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """The model that was made under `key` earlier, with the notes on it; None if there is none."""
        return self._index.derived(key)

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
            move_in(folder, place)
        except OSError as error:
            raise unwritable(place, error, store=True) from None
        if key is not None:
            self._index.put_derived(key, sha256, info)
        return place / "model.onnx"

    # --- builds -------------------------------------------------------------------------------------

    def build(self, key: str) -> Path | None:
        """The folder of the engine with this key; None where it was not built, or not by this store.

        See `standing` for what is there instead.
        """
        return self.path / "builds" / key if self.standing(key) in {"own", "imported"} else None

    def known_builds(self, keys: Iterable[str]) -> list[KnownBuild]:
        """The builds that `build` finds, with their summaries: a few file states each, and no file is read.

        A build that was rebuilt, replaced or sealed again has no summary until `keep_summaries` gives it one. A build
        whose folder is gone is left out.
        """
        wanted = list(keys)
        if not wanted:
            return []
        kept = self._index.summaries(None if len(wanted) > 1 else wanted[0])
        found = []
        for key in wanted:
            folder = self.path / "builds" / key
            state = self._seals.state(key)
            row = kept.get(key)
            if row is not None and state is not None and hmac.compare_digest(row[0], state):
                found.append(KnownBuild(key, folder, state, json.loads(row[1])))
            elif self.build(key) is not None:
                found.append(KnownBuild(key, folder, state, None))
        return found

    def keep_summaries(self, builds: Iterable[KnownBuild]) -> None:
        """Keep the summaries of builds, as long as the builds stay in the state that `known_builds` saw.

        Raises:
            StoreError: the index can't be written.
        """
        rows = {b.key: (b.state, json.dumps(b.summary)) for b in builds if b.state is not None}
        if rows:
            self._index.put_summaries(rows)

    def standing(self, key: str) -> Standing:
        """The origin of the build under `key`.

        ``own``: built by this store. ``imported``: from an archive, unchanged. ``foreign``: its seal is missing or was
        not signed by this store, so nothing shows who made it. ``absent``: nothing.
        """
        return self._seals.standing(key)

    def sign(self, document: Any) -> str | None:
        """The signature of a JSON-able document with the store's secret, in hex; None if there is no secret."""
        return self._seals.sign(document)

    def seal(self, folder: Path, key: str) -> None:
        """Write the signed size and SHA-256 of each file of a build that was just made.

        Raises:
            OSError: a file can't be read or written.
        """
        self._seals.seal(folder, key)

    def replace_in_build(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Replace files of a build, in the order given. Meanwhile both the old and the new content are valid.

        Raises:
            StoreError: the store can't be written.
        """
        try:
            self._seals.replace(folder, files)
        except OSError as error:
            raise unwritable(folder, error, store=True) from None

    def add_build(self, folder: Path, key: str) -> Path:
        """Seal a finished build folder and move it into the store; a foreign build under this key is removed.

        Raises:
            StoreError: the store can't be written.
        """
        self.check_writable()
        place = self.path / "builds" / key
        try:
            self._seals.seal(folder, key)
            if self.standing(key) == "foreign" or (place.exists() and not (place / "build.json").is_file()):
                with self.scratch("foreign") as trash:
                    place.rename(trash / "build")
                    move_in(folder, place)
            else:
                move_in(folder, place)
        except OSError as error:
            raise unwritable(place, error, store=True) from None
        return place

    # --- failures -----------------------------------------------------------------------------------

    def keep_failure(self, folder: Path, name: str, notes: Mapping[str, Any]) -> Path | None:
        """Keep the files of a failed build for a week or until disk space is low; None if there is no space now.

        Args:
            folder: The build's unfinished folder: the log and the record come from there.
            name: Its name: letters, digits and dashes.
            notes: JSON-able documents by the file's name: ``request.json``, ``error.json``.
        """
        failures.forget(self.path)
        try:
            with self.scratch("failure") as place:
                return failures.keep(self.path, place, folder, name, notes)
        except StoreError:
            return None  # the reason why the build failed must reach the user, whatever is wrong with the store

    def failure(self, name: str) -> Path | None:
        """The folder of a failed build that is still kept."""
        place = self.path / "failures" / name
        return place if is_key(name) and place.is_dir() and not place.is_symlink() else None


def _remove_own(folder: Path, pid: int) -> None:
    """Remove a folder that the process `pid` made; a forked child must leave it."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
