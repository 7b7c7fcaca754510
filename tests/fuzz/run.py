"""Run readers on mutated inputs in a process that is watched, keep what fails, and make it small.

An input fails where its reader raises anything but a `WorkbenchError`, takes 5 seconds of this process's time, or makes the
process larger by 1 GB. Every input follows from a seed, the reader's name and a number, so any can be made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.mutate import mutated
from tests.fuzz.readers import READERS, ROOT

SECONDS = 5.0
BYTES = 10**9
CHUNK = 4000


def input_of(seed: int, name: str, number: int) -> bytes:
    """The input `number` of a reader."""
    made = READERS[name]
    return mutated(Random(f"{seed}:{name}:{number}"), made.seeds(), made.mutators)


class TooSlowError(Exception):
    """The reader took longer than `SECONDS`."""


@dataclass(frozen=True)
class Failure:
    """What one input did: where it failed in words, and the same without what changes from input to input."""

    reader: str
    number: int
    what: str
    site: str


def try_one(name: str, data: bytes, folder: Path, seconds: float = SECONDS) -> tuple[str, str] | None:
    """What went wrong and where; None where the reader answered or refused in our words."""
    from workbench.core.errors import WorkbenchError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        READERS[name].read(data, folder)
    except WorkbenchError as error:
        if any(words in str(error) for words in ("fault of the workbench", "bug in the workbench")):
            return str(error), "called a bug in the workbench"
        try:
            json.dumps(error.to_dict(), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as wrong:
            return f"its error can't be sent: {wrong}", f"error of {type(error).__name__}"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        signal.setitimer(signal.ITIMER_PROF, 0)
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}workbench{os.sep}" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "tests"
        return f"{type(error).__name__}: {str(error)[:200]}", f"{type(error).__name__} at {place}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return (f"{grown / 1e9:.1f} GB of memory", "memory") if grown > BYTES else None


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Turn time that runs out into `TooSlowError`; native code that never returns ends the process a little later."""

    def late(*_: object) -> None:
        raise TooSlowError(f"more than {SECONDS:g} s")

    size = Path("/proc/self/statm")
    used = int(size.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") if size.is_file() else 2 * BYTES
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CORE)}
    handler = signal.signal(signal.SIGPROF, late)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (used + 6 * BYTES, before[resource.RLIMIT_AS][1]))
        # Native code that holds the interpreter never comes to `late`.
        resource.setrlimit(resource.RLIMIT_CORE, (0, before[resource.RLIMIT_CORE][1]))
        yield
    finally:
        signal.signal(signal.SIGPROF, handler)
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)


def chunk(seed: int, names: Sequence[str], begin: int, end: int, report: Path) -> None:
    """Try inputs `begin` to `end` of each reader, in this process; a line of JSON for each failure, and at the end."""
    with watched(), report.open("a") as out, tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        for name in names:
            for number in range(begin, end):
                (report.parent / f"{report.name}.now").write_text(f"{name} {number}")
                folder = Path(place) / "work"
                folder.mkdir()
                found = try_one(name, input_of(seed, name, number), folder)
                for left in Path(place).iterdir():
                    shutil.rmtree(left, ignore_errors=True)
                if found:
                    out.write(json.dumps([name, number, *found]) + "\n")
                    out.flush()
        out.write(json.dumps(["done"]) + "\n")


@dataclass
class Result:
    """How many inputs were tried, and those that failed."""

    tried: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    @property
    def sites(self) -> dict[tuple[str, str], list[Failure]]:
        """Failures by reader and place."""
        found: dict[tuple[str, str], list[Failure]] = {}
        for failure in self.failures:
            found.setdefault((failure.reader, failure.site), []).append(failure)
        return found


def run_chunk(seed: int, names: Sequence[str], begin: int, end: int, folder: Path) -> Result:
    """Run `chunk` in a separate process; after an input that ended it, continue with the next one."""
    result = Result()
    waiting = [(list(names), begin)]
    while waiting:
        rest, start = waiting.pop()
        report = folder / f"{hashlib.sha256(repr((rest, start, time.time_ns())).encode()).hexdigest()[:12]}.jsonl"
        command = [
            sys.executable,
            "-m",
            "tests.fuzz",
            "--chunk",
            ",".join(rest),
            str(start),
            str(end),
            str(report),
            "--seed",
            str(seed),
        ]
        environment = {**os.environ, "WORKBENCH_HOME": str(folder / "home"), "PYTHONWARNINGS": "ignore"}
        ended = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        now = report.parent / f"{report.name}.now"
        said = _wait(ended, now)
        rows = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
        result.failures += [Failure(*row) for row in rows if row != ["done"]]
        if rows and rows[-1] == ["done"]:
            done, place = rest, end
        elif now.exists():
            name, number = now.read_text().split()
            site = "hang" if said == "hang" else f"the process ended ({ended.returncode})"
            result.failures.append(Failure(name, int(number), said[-500:], site))
            done, place = rest[: rest.index(name)], int(number) + 1
            # The reader goes on behind this input, the others from the beginning.
            if place < end:
                waiting.append(([name], place))
            result.tried[name] += place - start
            others = rest[rest.index(name) + 1 :]
            if others:
                waiting.append((others, begin))
        else:
            raise RuntimeError(f"The worker did not start: {said}")
        for name in done:
            result.tried[name] += end - start
    return result


def _wait(process: subprocess.Popen[str], now: Path) -> str:
    """What the process wrote to standard error; "hang" where it stayed at one input for a minute and was ended."""
    assert process.stderr is not None
    last, since = "", time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=2)[1]
        current = now.read_text() if now.exists() else ""
        if current != last:
            last, since = current, time.monotonic()
        elif time.monotonic() - since > 60:
            process.kill()
            process.communicate()
            return "hang"


def minimized(name: str, data: bytes, site: str, seconds: float = 20.0) -> bytes:
    """A shorter input that fails at the same place: pieces are taken out as long as that stays so."""
    deadline = time.monotonic() + seconds

    def fails(candidate: bytes) -> bool:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
            folder = Path(place) / "work"
            folder.mkdir()
            found = try_one(name, candidate, folder)
        return found is not None and found[1] == site

    size = max(len(data) // 2, 1)
    while size and time.monotonic() < deadline:
        at = 0
        while at < len(data) and time.monotonic() < deadline:
            candidate = data[:at] + data[at + size :]
            if fails(candidate):
                data = candidate
            else:
                at += size
        size //= 2
    return data


def keep(seed: int, result: Result, folder: Path) -> list[str]:
    """Write one input for each place that failed, made small where that is simple; what to say of each."""
    lines = []
    for (name, site), failures in sorted(result.sites.items()):
        first = min(failures, key=lambda f: len(input_of(seed, name, f.number)))
        data = input_of(seed, name, first.number)
        if (
            site not in {"hang", "memory"}
            and "process ended" not in site
            and not name.startswith(("archive", "command"))
        ):
            with watched():
                data = minimized(name, data, site)
        digest = hashlib.sha256(f"{name} {site}".encode()).hexdigest()[:8]
        file = folder / f"{name}-{digest}.bin"
        folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        lines.append(
            f"{len(failures):6d} {name}: {site}: {first.what[:160]!r} ({len(data)} bytes in {file}, number {first.number})"
        )
    return lines


def counts_of(total: int, names: Sequence[str]) -> dict[str, int]:
    """How many inputs each reader gets."""
    weight = sum(READERS[name].weight for name in names)
    return {name: max(1, round(total * READERS[name].weight / weight)) for name in names}


def plan_of(total: int, names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Pieces of work, mixed, so that every reader is tried early."""
    pieces: list[tuple[str, int, int]] = []
    for name, count in counts_of(total, names).items():
        pieces += [(name, begin, min(begin + CHUNK, count)) for begin in range(0, count, CHUNK)]
    return sorted(pieces, key=lambda piece: piece[1])


def merged(results: Sequence[Any]) -> Result:
    """One result of several."""
    whole = Result()
    for each in results:
        whole.tried += each.tried
        whole.failures += each.failures
    return whole
