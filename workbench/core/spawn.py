"""Starts worker processes from one permanent thread, so that a worker ends with this process and not before."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

PARENT = "WORKBENCH_PARENT"
"""The environment variable that holds the process id of a worker's parent."""


ready: dict[tuple[str, tuple[str, ...]], subprocess.Popen[bytes]] = {}


def prepare(preload: tuple[str, ...]) -> None:
    """Start a worker ahead for the next `Job` with the same `preload`; unused, it ends with this process.

    For a command that knows its task before it has read its input.
    """
    key = (sys.executable, preload)
    if key not in ready:
        ready[key] = spawn(sys.executable, preload, None)


# What a worker runs first. `python -c` puts the working directory at the head of the module path, where a file next to
# a model (`queue.py`, `onnx_ir.py`) would be imported instead of the real module; `sys` is built in, so it is safe.
# The package itself comes from the folder of this file: another environment does not have it, and a checkout that is
# not installed is found by its working directory alone.
_BOOT = """
import sys
if sys.path and not sys.path[0]:
    del sys.path[0]
import importlib.util
place = sys.argv.pop(1)
spec = importlib.util.spec_from_file_location("workbench", place + "/__init__.py", submodule_search_locations=[place])
sys.modules["workbench"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from workbench.core.worker import main
main()
"""


def spawn(python: str, preload: tuple[str, ...], log: BinaryIO | None) -> subprocess.Popen[bytes]:
    """Start a worker process that waits for its task on standard input and ends with this process.

    Args:
        python: The interpreter: this one, or the one of an environment in `workbench.core.environments`.
        preload: Modules to import at once, while the task is prepared here.
        log: Where its output goes; a pipe without one.
    """
    # Another environment must not see the packages of this one.
    isolated = [] if python == sys.executable else ["-I"]
    command = [python, *isolated, "-c", _BOOT, str(Path(__file__).parents[1]), *preload]
    environment = {
        # The order in which `machine.gpus` counts; CUDA's default order differs on a machine with several kinds of GPU.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
        PARENT: str(os.getpid()),
    }
    if "PYTHONPATH" in os.environ:  # relative entries mean this working directory, not the worker's
        entries = [os.path.abspath(entry) for entry in os.environ["PYTHONPATH"].split(os.pathsep) if entry]  # noqa: PTH100
        environment["PYTHONPATH"] = os.pathsep.join(entries)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log or subprocess.PIPE,
            start_new_session=True,
            cwd=os.path.abspath(os.sep),  # noqa: PTH100 - other users can't place a file or library there
            env=environment,
        )

    return _in_lasting_thread(start)


_starts: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()


_starter: threading.Thread | None = None


_starter_lock = threading.Lock()


def _in_lasting_thread(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Call `start` in a thread that runs as long as this process.

    Linux ends a worker when the *thread* that started it ends (``PR_SET_PDEATHSIG``), and builds start workers from
    threads that end before their worker does.
    """
    global _starter, _starts  # noqa: PLW0603 - one for each process
    with _starter_lock:
        if _starter is None:
            _starts = queue.SimpleQueue()
            _starter = threading.Thread(target=_serve_starts, args=(_starts,), name="workbench-start", daemon=True)
            _starter.start()
    done: Future[subprocess.Popen[bytes]] = Future()
    _starts.put((start, done))
    return done.result()


def _serve_starts(starts: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]) -> None:
    while True:
        start, done = starts.get()
        try:
            done.set_result(start())
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            done.set_exception(error)


def _after_fork() -> None:
    """A forked child has no threads or workers of its parent, and a lock may stay locked forever."""
    global _starter, _starter_lock
    _starter, _starter_lock = None, threading.Lock()
    ready.clear()


os.register_at_fork(after_in_child=_after_fork)
