"""Seals, which distinguish a store's own builds from others.

A build's ``seal.json`` holds size and SHA-256 of each of its files and is signed (HMAC) with the store's secret. A build
whose seal this store did not sign is never found by its key. A build from an archive has a key that begins with
``imported-``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from workbench.core.errors import StoreError
from workbench.core.store.drafts import replacing
from workbench.core.store.errors import unwritable

IMPORTED = "imported-"
"""Beginning of the keys of builds that came in an archive."""

SEAL = "seal.json"

Standing = Literal["own", "imported", "foreign", "absent"]

ENGINE_FILES = ("engine", "engine.data")
"""An engine in a build's folder: the file, and the weights next to it if a compiler writes two files."""

_SEALED = (*ENGINE_FILES, "build.log", "record.json", "plan.json", "build.json")


class Seals:
    """Signs and checks the builds of one store.

    Args:
        path: The store's folder.
        secret: The key of its signatures; None if the store has none and can't be written.
    """

    def __init__(self, path: Path, secret: bytes | None) -> None:
        self._path = path
        self._secret = secret

    def sign(self, document: Any) -> str | None:
        """The signature of a JSON-able document, in hex; None if there is no secret."""
        if self._secret is None:
            return None
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def standing(self, key: str) -> Standing:
        """The origin of the build under `key`; see `Store.standing`."""
        place = self._path / "builds" / key
        if not is_key(key) or not (place / "build.json").is_file():
            return "absent"
        if not self._signed(place, key):
            return "foreign"
        return "imported" if key.startswith(IMPORTED) else "own"

    def state(self, key: str) -> str | None:
        """A signature of the state (size, time, inode) of a build's seal and ``build.json``.

        Every change that the store makes to a build writes its seal again, so it changes the state. None if the build
        has no seal, is not there, or there is no secret.
        """
        place = self._path / "builds" / key
        if not is_key(key):
            return None
        try:
            found = [(place / name).lstat() for name in (SEAL, "build.json")]
        except OSError:
            return None
        if not all(stat.S_ISREG(each.st_mode) for each in found):
            return None
        return self.sign({"key": key, "state": [[s.st_size, s.st_mtime_ns, s.st_ino] for s in found]})

    def _signed(self, place: Path, key: str) -> bool:
        seal = read_seal(place)
        if seal is None:
            if self._secret is None:
                return not key.startswith(IMPORTED)  # no store of this version ever wrote here
            return not (place / SEAL).exists() and key in self._adopted()
        mac = self.sign({"key": key, "files": seal["files"]})
        return seal.get("key") == key and mac is not None and hmac.compare_digest(mac, str(seal.get("mac")))

    def _adopted(self) -> set[str]:
        try:
            return set((self._path / "adopted").read_text().split())
        except OSError:
            return set()

    def seal(self, folder: Path, key: str) -> None:
        """Seal a build that was just made.

        Raises:
            OSError: a file can't be read or written.
        """
        files = {name: [list(_digest(folder / name))] for name in _SEALED if stat.S_ISREG(_mode(folder / name))}
        self._write(folder, key, files)

    def replace(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Replace files of a build, in the order given. Meanwhile the seal allows the old and the new content.

        Raises:
            OSError: a file can't be written.
        """
        new = {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in files.items()}
        if read_seal(folder) is None:
            self.seal(folder, folder.name)
        known: dict[str, list[list[Any]]] = (read_seal(folder) or {"files": {}})["files"]
        both = {name: [*known.get(name, ()), entry] for name, entry in new.items()}
        self._write(folder, folder.name, {**known, **both})
        for name, data in files.items():
            with replacing(folder / name) as draft:
                draft.write_bytes(data)
        self._write(folder, folder.name, {**known, **{name: [entry] for name, entry in new.items()}})

    def _write(self, folder: Path, key: str, files: Mapping[str, list[list[Any]]]) -> None:
        document = {"key": key, "files": files}
        with replacing(folder / SEAL) as draft:
            draft.write_text(json.dumps({**document, "mac": self.sign(document)}))


def read_secret(path: Path) -> bytes | None:
    """The secret in `path`; None if there is no such file.

    Raises:
        StoreError: it can't be read or is damaged.
    """
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


def make_secret(store: Path) -> bytes:
    """Make the secret of the store in this folder; the caller holds the lock for it.

    Existing builds have no seal. They were built here, or an earlier version imported them from an archive; nothing in
    them shows which, so they stay valid and are listed as adopted. A build without a seal that appears
    later was not made by this store.

    Raises:
        OSError: it can't be written.
    """
    made = secrets.token_bytes(32)
    builds = store / "builds"
    there = sorted(p.name for p in builds.iterdir() if p.is_dir()) if builds.is_dir() else []
    if any((builds / name / SEAL).exists() for name in there):
        there = []  # a secret was lost: a build without a seal is no longer from before there were seals
    # First this list, then the secret: a process that is interrupted between the two starts over.
    with replacing(store / "adopted") as draft:
        draft.write_text("".join(f"{key}\n" for key in there))
    with replacing(store / "secret", mode=0o600) as draft, draft.open("wb") as file:
        file.write(made)
        file.flush()
        os.fsync(file.fileno())  # an empty secret after a power failure would make all builds foreign
    return made


def read_seal(folder: Path) -> dict[str, Any] | None:
    """The content of a build's seal; None if it has none, or one that can't be read. The signature is not checked."""
    try:
        seal = json.loads((folder / SEAL).read_text())
        files = {
            str(name): [(int(size), str(sha256)) for size, sha256 in known] for name, known in seal["files"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return {**seal, "files": {name: [list(each) for each in known] for name, known in files.items()}}


def sound(folder: Path, name: str, data: bytes | None = None) -> bool:
    """Whether a file of a build matches its seal; true if the build has no seal, since nothing is known.

    Args:
        folder: The build.
        name: The file.
        data: Its content, if already read.
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


def is_key(text: str) -> bool:
    """Whether `text` can be the key of a build or the name of a failure: no path leads out of its folder."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", text) is not None


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
