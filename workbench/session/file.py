"""The SQLite file of one session: its models, engines, events, and the state that views share."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.core.events import KEPT, prune
from workbench.core.store import Database
from workbench.model.model import Model

STEPS = (
    (
        "CREATE TABLE IF NOT EXISTS models (name TEXT PRIMARY KEY, data TEXT NOT NULL, added REAL NOT NULL)",
        "CREATE TABLE IF NOT EXISTS engines (key TEXT PRIMARY KEY, model TEXT NOT NULL, used REAL NOT NULL)",
        "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, "
        "origin TEXT NOT NULL, time REAL NOT NULL, data TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    ),
    (  # selections and failed builds are looked up by kind
        "CREATE INDEX events_by_kind ON events (kind, number)",
        *(prune(kind) for kind in KEPT),
    ),
)
"""What each format of the file adds (``PRAGMA user_version``); `Database.migrate` runs the missing statements."""


class SessionFile:
    """The tables of one session. Every write is one transaction.

    Args:
        path: The file; created if absent.
        name: The session's name, for messages.

    Raises:
        StoreError: the file can't be read or written, or was written by a later version (code ``later-version``).
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.db = Database(path)
        self.db.migrate(STEPS, f"Session {name}")

    # --- models -------------------------------------------------------------------------------------

    def models(self) -> dict[str, Model]:
        """The models by name, in the order in which they were added."""
        # By row number, not by time: the clock may be set back.
        rows = self.db.rows("SELECT name, data FROM models ORDER BY rowid")
        return {name: _model(name, data) for name, data in rows}

    def model(self, name: str) -> Model | None:
        """The model called `name`, or None."""
        row = self.db.row("SELECT data FROM models WHERE name = ?", name)
        return None if row is None else _model(name, row[0])

    def put(self, models: Iterable[Model], engines: Iterable[tuple[str, str]] = ()) -> None:
        """Add models and engines (key, name of the model); entries with the same name or key are replaced."""
        now = time.time()
        with self.db.write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?)", [(m.name, _data(m), now) for m in models]
            )  # fmt: skip
            db.executemany("INSERT OR REPLACE INTO engines VALUES (?, ?, ?)", [(*e, now) for e in engines])

    def update(self, model: Model) -> None:
        """Update a model; it keeps its place in the order."""
        with self.db.write() as db:
            db.execute("UPDATE models SET data = ? WHERE name = ?", (_data(model), model.name))

    def remove(self, name: str) -> None:
        """Remove the model called `name`."""
        with self.db.write() as db:
            db.execute("DELETE FROM models WHERE name = ?", (name,))

    # --- engines ------------------------------------------------------------------------------------

    def engines(self) -> list[tuple[str, str]]:
        """Key and model name of each engine, oldest first."""
        return [(key, model) for key, model in self.db.rows("SELECT key, model FROM engines ORDER BY rowid")]

    def engine(self, key: str) -> str | None:
        """Name of the model of the engine with this key, or None."""
        row = self.db.row("SELECT model FROM engines WHERE key = ?", key)
        return None if row is None else str(row[0])

    # --- shared state -------------------------------------------------------------------------------

    def get(self, key: str) -> Any:
        """The JSON value stored under `key`, or None."""
        row = self.db.row("SELECT value FROM state WHERE key = ?", key)
        return None if row is None else json.loads(row[0])

    def set(self, key: str, value: Any) -> None:
        """Store a JSON value under `key`; None removes it."""
        with self.db.write() as db:
            if value is None:
                db.execute("DELETE FROM state WHERE key = ?", (key,))
            else:
                db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, json.dumps(value)))

    # --- the file -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def delete(self) -> None:
        """Close the file and remove it."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)


def _data(model: Model) -> str:
    return json.dumps({"path": str(model.path), "origin": dict(model.origin)})


def _model(name: str, text: str) -> Model:
    data = json.loads(text)
    return Model(name, Path(data["path"]), data["origin"])
