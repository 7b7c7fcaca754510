"""ONNX Runtime's verbose log: which optimizers changed the graph, and warnings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) \[(?P<level>[VIWEF]):onnxruntime:[^,]*, [^\]]*\] ?(?P<text>.*)"
)
_STEP = re.compile(r"Graph transformer step (\d+) of (\d+) for level (\d+) started")
_APPLYING = re.compile(r"Applying graph transformer (.+) on step \d+\.")
_APPLIED = re.compile(r"GraphTransformer (.+) modified: ([01]) with status: OK")


@dataclass
class Pass:
    """One optimizer at one level.

    Attributes:
        name: Its name, as ``disabled_optimizers`` takes it.
        level: The level that it ran at: 1 basic, 2 extended, 3 layout; 0 if the log names none.
        runs: How often it ran.
        modified: How often it changed the graph.
        ms: Milliseconds of all runs, from the log's timestamps.
    """

    name: str
    level: int
    runs: int = 0
    modified: int = 0
    ms: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "name": self.name,
            "level": self.level,
            "runs": self.runs,
            "modified": self.modified,
            "ms": round(self.ms, 3),
        }


@dataclass
class Log:
    """The content of a log.

    Attributes:
        passes: Optimizers, in the order in which they first ran.
        warnings: Messages of level warning, without duplicates.
    """

    passes: list[Pass] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def fired(self) -> list[Pass]:
        """The optimizers that changed the graph."""
        return [each for each in self.passes if each.modified]


def read(lines: Iterable[str]) -> Log:
    """Read a log; skip lines of any other form."""
    log = Log()
    found: dict[tuple[int, str], Pass] = {}
    level, begun = 0, None
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        text = match["text"].strip()
        if match["level"] == "W" and text not in log.warnings:
            log.warnings.append(text)
        elif step := step_of(text):
            level = step[2]
        elif _APPLYING.match(text):
            begun = _moment(match["time"])
        elif done := _APPLIED.match(text):
            entry = found.setdefault((level, done[1]), Pass(done[1], level))
            entry.runs += 1
            entry.modified += int(done[2])
            if begun is not None:
                entry.ms += max(0.0, (_moment(match["time"]) - begun).total_seconds() * 1e3)
            begun = None
    log.passes = list(found.values())
    return log


def step_of(text: str) -> tuple[int, int, int] | None:
    """Step, maximum number of steps and level, if `text` reports that a round of optimization begins."""
    found = _STEP.search(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def _moment(text: str) -> datetime:
    return datetime.strptime(text[:26], "%Y-%m-%d %H:%M:%S.%f")
