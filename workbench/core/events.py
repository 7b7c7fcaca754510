"""Typed events, a session's journal of them, and the shared selection.

Panels, notebooks and scripts communicate through these and never with each other. Every event carries its `origin`, so
that a view can distinguish its own changes from others.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from workbench.core.errors import StoreError

if TYPE_CHECKING:
    from workbench.core.store import Database

T = TypeVar("T")

EventKind = Literal[
    "model-added", "model-removed", "build-started", "build-finished", "build-failed", "selection", "current", "deleted",
    "profile-added", "errors-added",
]  # fmt: skip

KEPT: Mapping[EventKind, int] = {"selection": 100}
"""How many of the newest events of a kind are kept; other kinds are kept completely."""

_POLL_SECONDS = 0.2

PROCESS = f"{os.getpid()}-{uuid.uuid4().hex[:6]}"
"""The name of this process in origins."""


@dataclass(frozen=True)
class Event:
    """Something that happened in a session.

    Attributes:
        number: Counts up within the session.
        kind: What happened.
        origin: Who caused it: ``<process>/<view>``.
        time: Seconds since the epoch.
        data: Facts, by kind; JSON-able.
    """

    number: int
    kind: EventKind
    origin: str
    time: float
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """What is selected, in every view at once.

    Attributes:
        kind: Whether `ids` are layers of a plan or nodes of a model.
        ids: Ids, in the order in which they were selected.
        origin: Who made the selection.
    """

    kind: Literal["layer", "node"] = "layer"
    ids: tuple[str, ...] = ()
    origin: str = ""

    @staticmethod
    def of(value: Selection | str | Iterable[str] | None, kind: Literal["layer", "node"] = "layer") -> Selection:
        """A Selection from what users pass: one id, several, None, or a Selection."""
        if isinstance(value, Selection):
            return value
        if value is None:
            return Selection(kind)
        return Selection(kind, (value,) if isinstance(value, str) else tuple(dict.fromkeys(value)))

    def __bool__(self) -> bool:
        return bool(self.ids)

    def __iter__(self) -> Any:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def prune(kind: EventKind) -> str:
    """The SQL statement that removes the oldest events of a kind that is in `KEPT`."""
    return (
        f"DELETE FROM events WHERE kind = '{kind}' AND number <= (SELECT number FROM events "  # noqa: S608 - own names
        f"WHERE kind = '{kind}' ORDER BY number DESC LIMIT 1 OFFSET {KEPT[kind]})"
    )


def call(listeners: Iterable[Callable[[T], object]], news: T) -> None:
    """Call every listener with `news`. If one raises, the exception is logged and the others are still called."""
    for listener in list(listeners):
        try:
            listener(news)
        except Exception:
            logging.getLogger("workbench").exception("A listener failed on %s", type(news).__name__)


class Events:
    """A session's events, newest last; `subscribe` for new ones.

    Only the newest selections are kept (`KEPT`).

    Args:
        db: The session's file, with its table of events.
        path: That file; listeners get a "deleted" event once it is gone.
    """

    def __init__(self, db: Database, path: Path) -> None:
        self._db = db
        self._path = path
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Event], None]] = []
        self._delivering = False
        self._watcher: threading.Thread | None = None
        self._closed = threading.Event()
        self._seen = self._last()

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events("number > ?", 0))

    def __len__(self) -> int:
        return int(self._db.row("SELECT COUNT(*) FROM events")[0])

    def of_kind(self, kind: EventKind) -> list[Event]:
        """The events of one kind, newest last."""
        return self._events("kind = ?", kind)

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener(event)` for each new event of this or another process.

        Events of this process arrive at once, in a thread that caused one; those of other processes within a fraction
        of a second, in a thread of the session. An exception of a listener is logged.

        Returns:
            A function that ends the subscription.
        """
        with self._lock:
            if not self._listeners:
                self._seen = self._last()
            self._listeners.append(listener)
            if self._watcher is None:
                # The thread holds no reference to the session, so that the session can be collected.
                self._watcher = threading.Thread(
                    target=_watch,
                    args=(weakref.ref(self), self._closed),
                    name=f"session {self._path.stem}",
                    daemon=True,
                )
                self._watcher.start()

        def stop() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    def emit(self, kind: EventKind, data: Mapping[str, Any], origin: str | None = None) -> None:
        """Record an event and call the listeners.

        Args:
            kind: What happened.
            data: Facts; JSON-able.
            origin: Who caused it; this process by default.
        """
        with self._db.write() as db:
            db.execute(
                "INSERT INTO events (kind, origin, time, data) VALUES (?, ?, ?, ?)",
                (kind, origin or f"{PROCESS}/python", time.time(), json.dumps(data)),
            )
            if kind in KEPT:
                db.execute(prune(kind))
        self._deliver()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Stop watching for events of other processes."""
        self._closed.set()

    def _last(self) -> int:
        return int(self._db.row("SELECT COALESCE(MAX(number), 0) FROM events")[0])

    def _events(self, where: str, value: object) -> list[Event]:
        rows = self._db.rows(
            f"SELECT number, kind, origin, time, data FROM events WHERE {where} ORDER BY number",  # noqa: S608 - own text
            value,
        )
        return [Event(n, kind, origin, when, json.loads(data)) for n, kind, origin, when, data in rows]

    def _deliver(self) -> None:
        """Call the listeners with each new event, once and in order.

        One thread delivers at a time and holds no lock, so a listener may do anything, even wait for a build. The same
        thread delivers events that happen meanwhile.
        """
        while True:
            with self._lock:
                fresh = [] if self._delivering else self._events("number > ?", self._seen)
                if not fresh:
                    return
                self._seen = fresh[-1].number
                self._delivering = True
                listeners = list(self._listeners)
            try:
                for event in fresh:
                    call(listeners, event)
            finally:
                with self._lock:
                    self._delivering = False


def _watch(reference: weakref.ref[Events], closed: threading.Event) -> None:
    """Deliver events of other processes until the session is closed or collected."""
    version = -1
    while not closed.wait(_POLL_SECONDS):
        events = reference()
        if events is None:
            return
        if not events._path.exists():
            call(events._listeners, Event(events._seen + 1, "deleted", f"{PROCESS}/watcher", time.time(), {}))
            return
        try:
            # data_version changes after another connection wrote, and is far cheaper than a query.
            now = int(events._db.row("PRAGMA data_version")[0])
            if now != version:
                version = now
                events._deliver()
        except StoreError:
            if closed.is_set():
                return
            raise
        del events
