"""Typed events, the journal of a session's, and the shared selection.

Panels, notebooks and scripts talk through these and never to each other. Every event carries its
`origin`, so that a view can tell its own echo from news.
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

_POLL_SECONDS = 0.2

PROCESS = f"{os.getpid()}-{uuid.uuid4().hex[:6]}"
"""Names this process in origins."""


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
        ids: Ids, in the order of selecting.
        origin: Who selected.
    """

    kind: Literal["layer", "node"] = "layer"
    ids: tuple[str, ...] = ()
    origin: str = ""

    @staticmethod
    def of(value: Selection | str | Iterable[str] | None, kind: Literal["layer", "node"] = "layer") -> Selection:
        """A Selection from what people write: an id, several, nothing, or a Selection."""
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


def call(listeners: Iterable[Callable[[T], object]], news: T) -> None:
    """Tell every listener; one that raises is logged and keeps nobody else from hearing."""
    for listener in list(listeners):
        try:
            listener(news)
        except Exception:
            logging.getLogger("workbench").exception("A listener failed on %s", type(news).__name__)


class Events:
    """A session's history, newest last; `subscribe` for news.

    Args:
        db: The session's file, with its table of events.
        path: Where that file lies; listeners are told once it is gone.
    """

    def __init__(self, db: Database, path: Path) -> None:
        self._db = db
        self._path = path
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Event], None]] = []
        self._telling = False
        self._watcher: threading.Thread | None = None
        self._closed = threading.Event()
        self._seen = self._last()

    def __iter__(self) -> Iterator[Event]:
        return iter(self._after(0))

    def __len__(self) -> int:
        return int(self._db.row("SELECT COUNT(*) FROM events")[0])

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener(event)` for each new event, also from other processes; returns the way to stop.

        Events of this process arrive at once, in a thread that caused one; those of others within a
        fraction of a second, in a thread of the session's. A listener that raises is logged.
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
        """Write an event down and tell the listeners.

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
        self._deliver()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """Stop watching for what other processes write."""
        self._closed.set()

    def _last(self) -> int:
        return int(self._db.row("SELECT COALESCE(MAX(number), 0) FROM events")[0])

    def _after(self, number: int) -> list[Event]:
        rows = self._db.rows(
            "SELECT number, kind, origin, time, data FROM events WHERE number > ? ORDER BY number", number
        )
        return [Event(n, kind, origin, when, json.loads(data)) for n, kind, origin, when, data in rows]

    def _deliver(self) -> None:
        """Tell the listeners what is new, in order, each event once.

        One thread tells at a time, and no lock is held meanwhile, so that a listener may do anything, also
        wait for a build. What happens while it speaks is told by the thread that is at it already.
        """
        while True:
            with self._lock:
                fresh = [] if self._telling else self._after(self._seen)
                if not fresh:
                    return
                self._seen = fresh[-1].number
                self._telling = True
                listeners = list(self._listeners)
            try:
                for event in fresh:
                    call(listeners, event)
            finally:
                with self._lock:
                    self._telling = False


def _watch(reference: weakref.ref[Events], closed: threading.Event) -> None:
    """Deliver what other processes write, until the session is closed or collected."""
    version = -1
    while not closed.wait(_POLL_SECONDS):
        events = reference()
        if events is None:
            return
        if not events._path.exists():
            call(events._listeners, Event(events._seen + 1, "deleted", f"{PROCESS}/watcher", time.time(), {}))
            return
        try:
            # Changes when another connection has written: far cheaper than a query.
            now = int(events._db.row("PRAGMA data_version")[0])
            if now != version:
                version = now
                events._deliver()
        except StoreError:
            if closed.is_set():
                return
            raise
        del events
