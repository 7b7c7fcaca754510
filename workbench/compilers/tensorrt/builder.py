"""What all uses of TensorRT's builder share: the logger, the progress monitor and the flags of a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from workbench.core.worker import Reporter

_MEMORY = re.compile(r"(Total Activation Memory|Total Weights Memory|Max Scratch Memory): (\d+) bytes")
_HIT = re.compile(r"timing cache.{0,40}\bhit\b|\bhit\b.{0,40}timing cache", re.IGNORECASE)
_PHASE = re.compile(
    r"(Graph construction|Formats and tactics selection|Subgraph compilation|Engine generation) completed in ([\d.eE+-]+) seconds"
)


def log_to(trt: Any, path: Path) -> Any:
    """An `ILogger` that writes the whole VERBOSE log to the file `path` and keeps the lines that are needed later."""
    errors = {int(trt.ILogger.Severity.INTERNAL_ERROR), int(trt.ILogger.Severity.ERROR)}
    warning = int(trt.ILogger.Severity.WARNING)
    letters = {0: "F", 1: "E", 2: "W", 3: "I", 4: "V"}

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.min_severity = trt.ILogger.Severity.VERBOSE
            self.listing: str | None = None
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.memory: list[tuple[str, int]] = []
            self.phases: list[tuple[str, str]] = []
            self.hits = 0
            self._file = path.open("w", encoding="utf-8", errors="surrogateescape", buffering=1 << 16)
            self.write, self.flush = self._file.write, self._file.flush

        def log(self, severity: Any, message: str) -> None:
            level = int(severity)
            self.write(f"[{letters.get(level, level)}] {message}\n")
            if level <= warning:
                (self.errors if level in errors else self.warnings).append(message)
                if level in errors:
                    self.flush()  # the next call may end the process
            elif message.startswith("Layers:"):
                self.listing = message
            elif " Memory: " in message and (found := _MEMORY.match(message)):
                self.memory.append((found[1], int(found[2])))
            elif " completed in " in message and (found := _PHASE.match(message)):
                self.phases.append((found[1], found[2]))
            elif " hit" in message and _HIT.search(message):
                self.hits += 1

        def close(self) -> None:
            self._file.close()

    return Logger()


def progress_monitor(trt: Any, reporter: Reporter) -> Any:
    """An `IProgressMonitor` that sends every phase and step to `reporter`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.sizes: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.sizes[phase] = steps
            reporter.progress(phase, 0, steps, parent)

        def step_complete(self, phase: str, step: int) -> bool:
            reporter.progress(phase, step + 1, self.sizes.get(phase, 0))
            return True  # a cancel kills the process, so it also stops builders that never ask

        def phase_finish(self, phase: str) -> None:
            size = self.sizes.pop(phase, 0)
            reporter.progress(phase, size, size)

    return Monitor()


def network_flags(trt: Any) -> int:
    """Strongly typed networks: the graph defines the precision, in TensorRT 10 as well."""
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
