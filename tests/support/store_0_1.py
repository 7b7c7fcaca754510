"""Unpack the store that version 0.1.0 wrote (``tests/data/store_0.1``). Uses nothing of workbench, on purpose."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "store_0.1" / "store.tar.xz"
PLACE = b"/tmp/workbench-store-0.1"
"""Where the store was made; `unpack` replaces it in every document."""


def unpack(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Unpack the store below `folder`.

    The store holds absolute paths, so they are changed to `folder`, and the builds that this changes are sealed again
    with the store's own secret, as 0.1.0 does it.

    Returns:
        The store's folder, for ``WORKBENCH_HOME``, and what 0.1.0 found in it: for each session its ``models``,
        ``engines``, ``failures``, ``current``, ``selection`` and ``events``.
    """
    with tarfile.open(ARCHIVE) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None, f"{member.name} is not a plain file"
            place = folder / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            content = file.read()
            if place.suffix in {".json", ".log"}:
                content = content.replace(PLACE, bytes(folder))
            place.write_bytes(content)
            place.chmod(member.mode)
    home = folder / "home"
    for database in (home / "index.db", *(home / "sessions").glob("*.db")):
        _move(database, folder)
    secret = (home / "secret").read_bytes()
    for build in (home / "builds").iterdir():
        _seal(build, secret)
    return home, json.loads((folder / "contents.json").read_text())


def _move(database: Path, folder: Path) -> None:
    """Change the paths in the text columns of a database."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
                if kind == "TEXT":
                    old, new = PLACE.decode(), str(folder)
                    connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))


def _seal(build: Path, secret: bytes) -> None:
    """Write the seal of a build again: size and SHA-256 of each file that it names, signed."""
    seal = json.loads((build / "seal.json").read_text())
    files = {}
    for name in seal["files"]:
        content = (build / name).read_bytes()
        files[name] = [[len(content), hashlib.sha256(content).hexdigest()]]
    document = {"key": seal["key"], "files": files}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    (build / "seal.json").write_text(json.dumps({**document, "mac": signature}))
