"""Typed events and the shared selection.

Panels, notebooks and scripts talk through these and never to each other. Every event carries its
`origin`, so that a view can tell its own echo from news.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")

EventKind = Literal[
    "model-added", "model-removed", "build-started", "build-finished", "build-failed", "selection", "current", "deleted",
    "profile-added", "cleared", "errors-added",
]  # fmt: skip

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
    kind: str
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
