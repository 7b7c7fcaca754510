"""What a worker process runs: `main`, started by `workbench.core.jobs` with modules to import ahead as arguments.

It reads one JSON line ``{"task": "module:function", "arguments": {...}}`` from standard input, runs the
function, and writes JSON lines to what was standard output: ``progress``, then ``result`` or ``error``. A task
may read later lines with `Reporter.receive` and answer each with `Reporter.answer`.
All output of libraries, C++ included, goes to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import queue
import re
import signal
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO

from workbench.core.errors import WorkbenchError, first_lines

_INTERVAL = 0.08  # seconds between two progress messages of one phase


class Reporter:
    """Sends progress and answers of a task to its parent process."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._begun: dict[str, float] = {}
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()

    def receive(self, seconds: float | None = None) -> dict[str, Any]:
        """Wait for the next message of `Job.ask`. The worker ends if its parent ends meanwhile.

        Raises:
            queue.Empty: none came within `seconds`.
        """
        return self.heard.get(timeout=seconds)

    def answer(self, found: dict[str, Any] | WorkbenchError) -> None:
        """Answer a message; `Job.ask` raises an error, and the task goes on."""
        if isinstance(found, WorkbenchError):
            self.send({"event": "answer", "error": found.to_dict()})
        else:
            self.send({"event": "answer", "answer": found})

    def progress(self, phase: str, done: int, total: int, parent: str | None = None) -> None:
        """Report the progress of `phase`. Messages that come too often are dropped, but never the first and the last."""
        now = time.monotonic()
        begun = self._begun.setdefault(phase, now)
        if done < total and now - self._last.get(phase, -1.0) < _INTERVAL:
            return
        self._last[phase] = now
        step = {
            "phase": phase,
            "done": done,
            "total": total,
            "parent": parent,
            "seconds": now - begun,
        }
        self.send({"event": "progress", "step": step})

    def send(self, message: dict[str, Any]) -> None:
        """Write one message."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._out.write(data)
            self._out.flush()


def main() -> None:
    """Run the one task that standard input names."""
    _die_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    reporter = Reporter(out)
    for name in sys.argv[1:]:
        # This only saves time: the task that needs a missing or broken module reports it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    line = sys.stdin.readline()
    if not line:
        return
    threading.Thread(target=_listen, args=(reporter,), daemon=True).start()
    request = json.loads(line)
    module, _, function = request["task"].partition(":")
    try:
        task = getattr(importlib.import_module(module), function)
        reporter.send({"event": "result", "result": task(reporter, **request["arguments"])})
    except WorkbenchError as error:
        reporter.send({"event": "error", "error": error.to_dict()})
    except Exception as error:  # noqa: BLE001 - the boundary of the process: everything is reported
        reporter.send({"event": "error", "error": _unexpected(error).to_dict()})
    out.flush()
    # Skip interpreter teardown: some compilers crash or take seconds in their destructors.
    sys.stderr.flush()
    os._exit(0)


_SYSTEM = {
    errno.ENOSPC: (
        "disk-full",
        "The disk is full",
        "Free some space, or point WORKBENCH_HOME at a larger disk; then try again.",
    ),
    errno.EDQUOT: (
        "disk-full",
        "Your quota on the disk is used up",
        "Free some space, or point WORKBENCH_HOME at another disk.",
    ),
    errno.EROFS: (
        "read-only",
        "The disk is read-only",
        "Write to another folder, or point WORKBENCH_HOME at another disk.",
    ),
    errno.EACCES: (
        "no-permission",
        "Permission is denied",
        "Give yourself permission for that file or folder, or use another.",
    ),
    errno.EPERM: (
        "no-permission",
        "Permission is denied",
        "Give yourself permission for that file or folder, or use another.",
    ),
    errno.ENOENT: ("no-such-file", "A file or folder does not exist", "Check the path."),
    errno.EMFILE: ("too-many-files", "This process has too many files open", "Raise the limit: ulimit -n."),
    errno.ENFILE: ("too-many-files", "The system has too many files open", "Close other programs."),
    errno.ENOMEM: (
        "out-of-memory",
        "The machine has too little free memory",
        "Stop other programs, or use a smaller model.",
    ),
}
"""Code, message and hint by error number of the operating system. Other numbers have no hint."""

_GPU_MEMORY = re.compile(r"\A(?:[\w.]*Error: )?CUDA (?:error: )?out of memory|\bcudaErrorMemoryAllocation\b")
"""The beginning of torch's message: for an allocation ("CUDA out of memory. Tried ..."), or for CUDA's start."""


def hint_of(error: OSError) -> str | None:
    """What to do about an error of the operating system, by its number; None if the number is unknown."""
    return _SYSTEM[error.errno][2] if error.errno in _SYSTEM else None


def _unexpected(error: Exception) -> WorkbenchError:
    """The meaning of an unexpected exception, if its type, number or message proves it."""
    from workbench.core.errors import StoreError

    if isinstance(error, OSError) and error.errno in _SYSTEM:
        code, what, hint = _SYSTEM[error.errno]
        return (StoreError if code == "disk-full" else WorkbenchError)(f"{what}: {error}.", hint=hint, code=code)
    if isinstance(error, MemoryError):
        return WorkbenchError(
            "The worker ran out of memory.", hint="Stop other programs, or use a smaller model.", code="out-of-memory"
        )
    if isinstance(error, RuntimeError) and _GPU_MEMORY.search(str(error)):
        return WorkbenchError(
            f"The GPU has too little free memory: {first_lines(error)}",
            hint="Stop other programs that use the GPU (nvidia-smi lists them), or use a smaller batch.",
            code="gpu-out-of-memory",
        )
    traceback.print_exc()
    return WorkbenchError(
        f"{type(error).__name__}: {error}",
        hint="The workbench does not expect this error. Please report it; details['traceback'] has where it came from.",
        details={"traceback": traceback.format_exc()},
        code="unexpected",
    )


def serve(reporter: Reporter, *, idle_seconds: float) -> dict[str, Any]:
    """The task behind `jobs.guarded`: run the function that each message names, within its memory limit.

    Args:
        reporter: The connection to the parent process.
        idle_seconds: Seconds without a message after which the worker ends.
    """
    while True:
        try:
            message = reporter.receive(idle_seconds)
        except queue.Empty:
            return {}
        try:
            for name in [name for name in os.environ if name.startswith("WORKBENCH_LIMIT_")]:
                del os.environ[name]
            os.environ.update(message["limits"])
            _limit_memory(message["memory"])
            module, _, function = message["task"].partition(":")
            reporter.answer(getattr(importlib.import_module(module), function)(**message["arguments"]))
        except WorkbenchError as error:
            reporter.answer(error)
        except Exception as error:  # noqa: BLE001 - the boundary of the process: everything is reported
            if isinstance(error, MemoryError) or "bad_alloc" in str(error):
                reporter.answer(WorkbenchError("The reader ran out of memory.", code="reader-memory"))
            else:
                reporter.answer(_unexpected(error))


def _limit_memory(size: int) -> None:
    """Limit this process's address space to `size` bytes, if the system supports it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _die_with_parent() -> None:
    """End this process when the one that started it ends, even if this one is busy or another process holds its pipes."""
    parent = int(os.environ.pop("WORKBENCH_PARENT", "0"))
    if not parent:
        return
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG in <sys/prctl.h>
        if ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0) == 0:
            if os.getppid() != parent:  # it ended before this took effect
                os._exit(3)
            return
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(3)


def _listen(reporter: Reporter) -> None:
    """Pass on the parent's messages. A worker must end with its notebook: standard input closes then."""
    with contextlib.suppress(ValueError):  # half a message: its sender was interrupted
        for line in sys.stdin:
            reporter.heard.put(json.loads(line))
    os._exit(3)


if __name__ == "__main__":
    main()
