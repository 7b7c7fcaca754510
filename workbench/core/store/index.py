"""The store's index: fingerprints of model files, models made from others, and summaries of engines.

Everything in it can be recomputed. Without it the store is slower but loses nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.core.store.database import Database

STEPS = (
    (  # 0.1.0 wrote these two without a number
        "CREATE TABLE IF NOT EXISTS fingerprints (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS derived (key TEXT PRIMARY KEY, sha256 TEXT NOT NULL, info TEXT NOT NULL)",
    ),
    ("CREATE TABLE summaries (key TEXT PRIMARY KEY, state TEXT NOT NULL, data TEXT NOT NULL)",),
)
"""What each format adds; `Database.migrate` runs what is missing."""


class Index:
    """The store's index.

    Args:
        path: The file; created if absent.
        models: The store's folder of models.

    Raises:
        StoreError: the file can't be read or written, or was written by a later version.
    """

    def __init__(self, path: Path, models: Path) -> None:
        self._models = models
        self._db = Database(path)
        self._db.migrate(STEPS, f"The index {path}")

    def fingerprint(self, path: Path, compute: Callable[[], str], companions: Callable[[], list[Path]]) -> str:
        """See `Store.fingerprint`."""
        known = self.known_fingerprint(path)
        if known is not None:
            return known
        files = [path, *companions()]
        before = _stamp(files)
        sha256 = compute()
        newest = max(file.stat().st_mtime for file in files)
        if before == _stamp(files) and time.time() - newest > 2:
            with self._db.write() as db:
                db.execute(
                    "INSERT OR REPLACE INTO fingerprints VALUES (?, ?, ?)", (str(path.resolve()), before, sha256)
                )
        return sha256

    def known_fingerprint(self, path: Path) -> str | None:
        """See `Store.known_fingerprint`."""
        if path.parent.parent == self._models:
            return path.parent.name  # the store's own models are in folders named by their fingerprint
        row = self._db.row("SELECT stamp, sha256 FROM fingerprints WHERE path = ?", str(path.resolve()))
        if row is None:
            return None
        names = [name for name, *_ in json.loads(row[0])]
        try:
            now = _stamp([path, *(path.parent / name for name in names[1:])])
        except OSError:
            return None  # a file is gone: the code that reads the model reports it
        return str(row[1]) if row[0] == now else None

    def derived(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """See `Store.derived`."""
        row = self._db.row("SELECT sha256, info FROM derived WHERE key = ?", key)
        if row is None:
            return None
        path = self._models / str(row[0]) / "model.onnx"
        return (path, json.loads(row[1])) if path.is_file() else None

    def put_derived(self, key: str, sha256: str, info: Mapping[str, Any]) -> None:
        """Note that the model with this fingerprint was made under `key`."""
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO derived VALUES (?, ?, ?)", (key, sha256, json.dumps(info)))

    def summaries(self, key: str | None = None) -> dict[str, tuple[str, str]]:
        """State and data (JSON) of the summary of one build, or of all, by key."""
        query, values = "SELECT key, state, data FROM summaries", () if key is None else (key,)
        rows = self._db.rows(f"{query} WHERE key = ?" if values else query, *values)
        return {key: (state, data) for key, state, data in rows}

    def put_summaries(self, rows: Mapping[str, tuple[str, str]]) -> None:
        """Keep summaries: state and data by key."""
        with self._db.write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?)", [(key, *row) for key, row in rows.items()]
            )  # fmt: skip


def _stamp(files: list[Path]) -> str:
    stats = [(file, file.stat()) for file in files]
    return json.dumps([(f.name, s.st_size, s.st_mtime_ns, s.st_ino) for f, s in stats])
