"""Long work in a worker process, with progress, a log, cancellation, a time limit and a crash report.

A compiler may crash, hang, leak or never return, and a notebook's kernel must survive all of that. So a
compiler runs in a separate process, started by `Job`. The worker answers in JSON lines (see
`workbench.core.worker`); a thread reads them and calls the listeners. Cancel is a kill.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import psutil

from workbench.core import limits
from workbench.core.errors import CancelledError, ConfigError, TimeLimitError, WorkbenchError, WorkerCrashedError
from workbench.core.events import call
from workbench.core.spawn import ready, spawn

if TYPE_CHECKING:
    from typing_extensions import Self

Result_co = TypeVar("Result_co", covariant=True)

Status = Literal["running", "done", "failed", "cancelled"]

_NATIVE = "The session is unharmed. Native code in the worker failed, or another process sent it this signal."
_ENDS = {
    -signal.SIGKILL: (
        "worker-killed",
        "The session is unharmed. Another process or the system ended the worker. If memory ran out, the system's log says "
        "so (`dmesg`, or `journalctl -k`).",
    ),
    -signal.SIGTERM: ("worker-killed", "The session is unharmed. Another process ended the worker."),
    **dict.fromkeys((-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE), ("worker-crashed", _NATIVE)),
}
"""Error code and hint by exit code. The exit code does not say why the worker ended."""

PATIENCE = 10
"""On a busy machine, a worker may take up to this many times its limit in wall-clock time."""


@dataclass(frozen=True)
class Progress:
    """One step of a phase. `total` is 0 if unknown."""

    phase: str
    done: int
    total: int
    parent: str | None = None
    seconds: float = 0.0


class BackgroundTask(Protocol[Result_co]):
    """Background work that can be watched, awaited and canceled.

    `Job` is one; so is `workbench.build.Build`.
    """

    @property
    def title(self) -> str:
        """A title to display: "build of resnet50"."""

    @property
    def status(self) -> Status:
        """Whether it runs, or how it ended."""

    @property
    def message(self) -> str:
        """What it does now, to display; "" if unknown."""

    @property
    def progress(self) -> Sequence[Progress]:
        """Phases of the current step, in the order in which they began."""

    @property
    def seconds(self) -> float:
        """Seconds since the start, or until the end."""

    @property
    def error(self) -> WorkbenchError | None:
        """Why there is no result; None while it runs and after success."""

    def start(self) -> Self:
        """Begin. A second call does nothing."""

    def on_change(self, listener: Callable[[Self], None]) -> None:
        """Call `listener(task)` at each step and at the end, from a thread of the task."""

    def cancel(self) -> None:
        """Stop it. Safe to call at any time."""

    def result(self, timeout: float | None = None) -> Result_co:
        """Wait for the end and return the result.

        Raises:
            WorkbenchError: why there is none; `CancelledError` after `cancel`.
            TimeoutError: `timeout` seconds passed; the work goes on.
        """


@dataclass
class Job:
    """A task running in its own process; a `BackgroundTask`.

    Args:
        task: ``package.module:function``; called in the worker as ``function(reporter, **arguments)``.
        arguments: JSON-able keyword arguments.
        title: A title to display.
        folder: Where the worker's output is kept (``worker.log``); created if absent.
        python: The interpreter to use: a worker may run in another virtual environment.
        preload: Modules that the worker imports while it waits, to save time.
        time_limit: Seconds after which the job is ended; None for no limit.
    """

    task: str
    arguments: dict[str, Any]
    title: str = ""
    folder: Path | None = None
    python: str = sys.executable
    preload: tuple[str, ...] = ()
    time_limit: float | None = None
    status: Status = field(default="running", init=False)

    def __post_init__(self) -> None:
        self._listeners: list[Callable[[Job], None]] = []
        self._phases: dict[str, Progress] = {}
        self._answer: dict[str, Any] | None = None
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._asking = threading.Lock()
        self._error: WorkbenchError | None = None
        self._finished = threading.Event()
        self._cancelled = False
        self._started = time.monotonic()
        self._ended: float | None = None
        log = None
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            log = (self.folder / "worker.log").open("wb")
        try:
            waiting = ready.pop((self.python, self.preload), None) if log is None else None
            self._process = waiting or spawn(self.python, self.preload, log)
        finally:
            if log is not None:
                log.close()
        self._tail = bytearray()
        self._drainer = threading.Thread(target=self._drain, name="workbench-stderr", daemon=True)
        if log is None:
            self._drainer.start()
        self._sent = False
        self._reader = threading.Thread(target=self._read, name=f"workbench {self.title}", daemon=True)

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called; the worker may still be about to end."""
        return self._cancelled

    @property
    def seconds(self) -> float:
        """Seconds since the start, or until the end."""
        return (self._ended or time.monotonic()) - self._started

    @property
    def progress(self) -> list[Progress]:
        """The newest step of each phase, in the order in which the phases began."""
        return list(self._phases.values())

    @property
    def message(self) -> str:
        """The newest phase; "" before the first."""
        return self.progress[-1].phase if self._phases else ""

    @property
    def error(self) -> WorkbenchError | None:
        """Why there is no result; None while it runs and after success."""
        return self._error

    def start(self, **more: Any) -> Job:
        """Send the task to the worker; `more` adds arguments."""
        if not self._sent and not self._finished.is_set():
            try:
                message = json.dumps({"task": self.task, "arguments": {**self.arguments, **more}})
            except (TypeError, ValueError) as error:
                self.cancel()
                raise ConfigError(f"{self.title} got an argument that can't be sent to its worker: {error}.",
                                  hint="Give plain numbers, texts, lists and dicts.") from None  # fmt: skip
            self._sent = True
            self._write(message)
            self._reader.start()
            if self.time_limit is not None:
                threading.Thread(target=self._watch, name="workbench-limit", daemon=True).start()
        return self

    def _write(self, message: str) -> None:
        with contextlib.suppress(BrokenPipeError, ValueError):  # the worker died; the reader reports how
            assert self._process.stdin is not None
            self._process.stdin.write(message.encode() + b"\n")
            self._process.stdin.flush()

    def ask(self, message: dict[str, Any] | None, seconds: float | None = None) -> dict[str, Any]:
        """Send `message` to a task that calls `Reporter.receive`, and wait for its answer; one at a time.

        None sends nothing and waits for the answer that the task sends on its own.

        Args:
            message: JSON-able.
            seconds: How long the worker may compute before it is ended. On a busy machine this can take up to
                `PATIENCE` times as long in wall-clock time. None waits without a limit.

        Raises:
            WorkbenchError: the task's error answer, after which it goes on; or the error that ended it, which every later
                call raises too.
            TimeoutError: the worker used up its `seconds`.
        """
        self.start()
        with self._asking:
            try:
                begin, used = time.monotonic(), self._computed()
                if message is not None:
                    self._write(json.dumps(message))
                while True:
                    try:
                        found = self._answers.get(timeout=seconds)
                        break
                    except queue.Empty:
                        assert seconds is not None
                        late = time.monotonic() - begin > PATIENCE * seconds
                        if late or self._computed() - used > 0.8 * seconds:
                            self.cancel()
                            raise TimeoutError(
                                f"{self.title or self.task} did not answer within {seconds:g} s."
                            ) from None
            except BaseException:  # half a message was sent, or the next call would receive this answer
                self.cancel()
                raise
            if found is None:
                self._answers.put(None)
                raise self._error or WorkbenchError(f"{self.title or self.task} has ended.")
        if "error" in found:
            raise WorkbenchError.from_dict(found["error"])
        return dict(found["answer"])

    def _computed(self) -> float:
        """Seconds that the worker has computed, on all cores together; 0 where it has ended."""
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)

    def on_change(self, listener: Callable[[Job], None]) -> None:
        """Call `listener(job)` at each progress message and at the end, from a thread of the job.

        `result` returns after the last call, so a listener must not call it.
        """
        self._listeners.append(listener)

    def cancel(self) -> None:
        """Stop the work: end the worker and its child processes. Safe to call at any time."""
        if not self._finished.is_set():
            self._cancelled = True
            self._kill()
            if not self._sent:
                self._process.wait()
                self._finish("cancelled", CancelledError(f"{self.title or self.task} was cancelled."))

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end and return the worker's answer.

        Raises:
            WorkbenchError: what the task raised; `CancelledError`, `TimeLimitError` or
                `WorkerCrashedError` if the worker was ended.
            TimeoutError: `timeout` seconds passed; the job goes on.
        """
        self.start()
        try:
            if not self._finished.wait(timeout):
                raise TimeoutError(f"{self.title or self.task} is still running.")
        except KeyboardInterrupt:
            self.cancel()
            raise
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer

    @property
    def output(self) -> str:
        """The last output of the worker (its stderr, at most 8 kB)."""
        if self.folder is None:
            return self._tail.decode(errors="replace")
        try:
            with (self.folder / "worker.log").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 8192))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _drain(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._tail = (self._tail + line)[-8192:]

    def _read(self) -> None:
        assert self._process.stdout is not None
        answer = failure = None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a library wrote past our redirection; this is not one of our messages
            if not isinstance(message, dict) or "event" not in message:
                continue
            if message["event"] == "progress":
                step = Progress(**message["step"])
                self._phases[step.phase] = step
                self._tell()
            elif message["event"] == "answer":
                self._answers.put(message)
            elif message["event"] == "result":
                answer = message["result"]
            elif message["event"] == "error":
                failure = WorkbenchError.from_dict(message["error"])
        code = self._process.wait()
        if self._drainer.is_alive():
            self._drainer.join(1.0)  # a child of the worker may hold its standard error open
        if self._cancelled:
            self._finish("cancelled", CancelledError(f"{self.title or self.task} was cancelled."))
        elif failure is not None:
            self._finish("failed", failure)
        elif answer is not None:
            self._answer = answer
            self._finish("done", None)
        elif self._error is None:
            self._finish("failed", self._crash(code))
        else:
            self._finish("failed", self._error)

    def _crash(self, code: int) -> WorkerCrashedError:
        if code < 0:
            try:
                how = f"was ended by {signal.Signals(-code).name}"
            except ValueError:
                how = f"was ended by signal {-code}"
        else:
            how = f"exited with code {code}"
        last = [line for line in self.output.strip().splitlines() if line.strip()][-6:]
        name, hint = _ENDS.get(code, ("worker-exited", "The session is unharmed."))
        return WorkerCrashedError(
            f"The worker process for {self.title or self.task} {how} before it answered."
            + ("\nIts last output:\n  " + "\n  ".join(last) if last else ""),
            hint=hint,
            details={"code": code, "output": last},
            code=name,
        )

    def _watch(self) -> None:
        if not self._finished.wait(self.time_limit):
            self._error = TimeLimitError(
                f"{self.title or self.task} took longer than its limit of {self.time_limit:g} s and was ended.",
                hint="Give a larger time limit.",
            )
            self._kill()

    def _kill(self) -> None:
        try:
            children = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        self._process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def _finish(self, status: Status, error: WorkbenchError | None) -> None:
        self._ended = time.monotonic()
        self._error, self.status = error, status
        self._answers.put(None)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._tell()  # before `result` returns
        self._finished.set()

    def _tell(self) -> None:
        call(self._listeners, self)


_IDLE_SECONDS = 240.0
_idle: list[tuple[float, Job]] = []  # when it was last used, the worker
_idle_lock = threading.Lock()


def _after_fork() -> None:
    """A forked child has no threads or workers of its parent, and a lock may stay locked forever."""
    global _idle_lock  # noqa: PLW0603 - one for each process
    _idle_lock = threading.Lock()
    _idle.clear()


os.register_at_fork(after_in_child=_after_fork)


def prepare_guard() -> None:
    """Start a worker for `guarded` ahead, if none waits."""
    if not _idle:
        _give_back(_guard())


def guarded(
    task: str,
    arguments: dict[str, Any],
    *,
    title: str,
    seconds: float | None = None,
    memory: float | None = None,
) -> dict[str, Any]:
    """Run a short task on an untrusted file in a warm worker, within limits of time and memory.

    For native code that this process must survive: a library that hangs or takes all memory costs only a worker.

    Args:
        task: ``package.module:function``, called there as ``function(**arguments)``; it returns a JSON-able dict.
        arguments: JSON-able keyword arguments.
        title: What the task does, for messages: "reading model.onnx".
        seconds: Limit of time; None for ``READER_SECONDS`` of `workbench.core.limits`.
        memory: Limit of the worker's address space in bytes; None for ``READER_BYTES``.

    Raises:
        LimitError: a limit was reached; its code is ``limit-reader-seconds`` or ``limit-reader-bytes``.
        WorkerCrashedError: the library crashed.
        WorkbenchError: what the task raised.
    """
    seconds = limits.limit("READER_SECONDS") if seconds is None else seconds
    memory = limits.limit("READER_BYTES") if memory is None else memory
    what = title[:1].upper() + title[1:]
    job = _guard()
    try:
        # The worker may be older than a limit that was raised meanwhile.
        raised = {name: value for name, value in os.environ.items() if name.startswith("WORKBENCH_LIMIT_")}
        message = {"task": task, "arguments": arguments, "memory": int(memory), "limits": raised}
        return job.ask(message, seconds)
    except TimeoutError:
        raise limits.exceeded("READER_SECONDS", f"{what} took longer than {seconds:g} s and was stopped.") from None
    except WorkerCrashedError as error:
        if error.code != "worker-crashed":  # killed, or exited: this does not prove that the file is at fault
            raise WorkerCrashedError(
                f"{what} did not end: {error.message}", hint=error.hint, details=error.details, code=error.code
            ) from None
        raise WorkerCrashedError(
            f"{what} crashed the library that reads it.",
            hint="The file may be damaged. This process is unharmed.",
            details=error.details,
            code=error.code,
        ) from None
    except WorkbenchError as error:
        if error.code == "reader-memory":
            size = f"{memory / 1e9:g} GB"
            raise limits.exceeded("READER_BYTES", f"{what} needs more than {size} of memory and was stopped.") from None
        raise
    finally:
        _give_back(job)


def _guard() -> Job:
    with _idle_lock:
        while _idle:
            used, job = _idle.pop()
            if job.status == "running" and not job.cancelled and time.monotonic() - used < _IDLE_SECONDS:
                return job
            job.cancel()
    return Job("workbench.core.worker:serve", {"idle_seconds": _IDLE_SECONDS + 60}, title="reader").start()


def _give_back(job: Job) -> None:
    if job.status != "running" or job.cancelled:
        return
    with _idle_lock:
        if len(_idle) < 2:
            _idle.append((time.monotonic(), job))
            return
    job.cancel()
