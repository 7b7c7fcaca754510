"""What tests share: paths, what is installed here, and waiting. No test lives here."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "sample_models"
DATA = ROOT / "tests" / "data"
HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
HAS_TORCH = importlib.util.find_spec("torch") is not None and importlib.util.find_spec("onnxscript") is not None

needs_rtx = pytest.mark.skipif(not HAS_RTX, reason="tensorrt_rtx is not installed: pip install tensorrt-rtx")
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether `condition` came true within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fail a test whose pure Python code hangs, after `seconds`: a guard, not a measurement."""

    def late(*_: object) -> None:
        raise AssertionError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def gone(pid: int) -> bool:
    """Whether the process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
