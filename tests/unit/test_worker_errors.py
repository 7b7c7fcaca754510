"""What a worker says of an exception that nobody expected, and a job of a worker that ended: no cause without a proof."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from tests.support import wait_for
from workbench.core.errors import StoreError, WorkbenchError, WorkerCrashedError
from workbench.core.jobs import Job
from workbench.core.worker import _unexpected


@pytest.mark.parametrize(
    ("error", "code", "said", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full", "The disk is full", "WORKBENCH_HOME"),
        (OSError(errno.EDQUOT, "Quota exceeded"), "disk-full", "quota", "WORKBENCH_HOME"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "read-only", "The disk is read-only", "another folder"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "no-permission", "/x", "permission"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), "no-such-file", "/x", "path"),
        (OSError(errno.EMFILE, "Too many open files"), "too-many-files", "too many files open", "ulimit -n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out-of-memory", "too little free memory", "smaller model"),
        (MemoryError(), "out-of-memory", "ran out of memory", "smaller model"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "gpu-out-of-memory", "2.00 GiB", "nvidia-smi"),
        (
            RuntimeError("CUDA error: out of memory\nCUDA kernel errors"),
            "gpu-out-of-memory",
            "CUDA error",
            "nvidia-smi",
        ),
    ],
)
def test_what_is_proven(error: Exception, code: str, said: str, hint: str) -> None:
    told = _unexpected(error)
    assert told.code == code
    assert said in told.message
    assert hint in str(told.hint)
    assert isinstance(told, StoreError) == (code == "disk-full")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ECONNREFUSED, "Connection refused"),
        OSError("libfoo.so: cannot open shared object file"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("node '/CUDA/out of memory' is odd"),
        ValueError("CUDA out of memory is the name of a node"),
        RuntimeError("expected out of memory order on CUDA"),
        KeyError("memory"),
    ],
)
def test_what_is_not(error: Exception) -> None:
    told = _unexpected(error)
    assert (type(told), told.code) == (WorkbenchError, "unexpected")
    assert told.message == f"{type(error).__name__}: {error}"
    for words in ("permission", "log has", "nvidia-smi", "Close other work", "Free some space"):
        assert words not in str(told.hint)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        (signal.SIGKILL, "worker-killed", "`dmesg`"), (signal.SIGTERM, "worker-killed", "Another process"),
        (signal.SIGSEGV, "worker-crashed", "Native code"), (signal.SIGABRT, "worker-crashed", "Native code"),
        (signal.SIGUSR1, "worker-exited", "unharmed"),
    ],
)  # fmt: skip
def test_a_signal_is_named_and_its_sender_is_not_guessed(how: signal.Signals, code: str, said: str) -> None:
    work = Job("tests.support.worker_tasks:hang", {}).start()
    assert wait_for(lambda: work.progress)
    os.kill(work.pid, how)
    with pytest.raises(WorkerCrashedError, match=how.name) as info:
        work.result(20)
    assert info.value.code == code
    assert said in str(info.value.hint)
    for guess in ("out of memory", "smaller model", "The compiler", "optimization level"):
        assert guess not in str(info.value)
