"""Time and memory of whole commands, for the benchmarks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Run:
    """Seconds of one run, and the largest sum of resident bytes over its process tree (sampled)."""

    seconds: float
    peak: int


def run(command: list[str], env: dict[str, str] | None = None) -> Run:
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    root = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for member in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += member.memory_info().rss
        peak = max(peak, total)
        time.sleep(0.02)
    seconds = time.perf_counter() - begin
    assert process.stderr is not None
    if process.returncode:
        raise AssertionError(f"{command} failed: {process.stderr.read().decode()[-2000:]}")
    return Run(seconds, peak)
