"""Many processes on one session, and processes killed at any point: nothing is lost, nothing is corrupt.

``WORKBENCH_LONG_TESTS=1`` makes it 10 processes for 60 seconds and 42 points instead of 4 for 5 seconds and 12.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.slow_compiler import BUILD, SLOW
from tests.support.small_models import mlp, save
from workbench import Session
from workbench.core.events import KEPT
from workbench.core.store import Store, read_seal, sound

LONG = bool(os.environ.get("WORKBENCH_LONG_TESTS"))
PROCESSES, SECONDS, POINTS = (10, 60, 42) if LONG else (4, 5, 12)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return save(mlp(), tmp_path / "files" / "small.onnx")


def check_store(store: Store) -> None:
    """Everything in the store is whole."""
    for folder in (store.path / "builds").iterdir():
        assert store.standing(folder.name) in {"own", "imported"}, folder
        seal = read_seal(folder)
        assert seal is not None
        assert set(seal["files"]) >= {"engine", "record.json", "plan.json", "build.json"}
        assert all(sound(folder, name) for name in seal["files"]), folder
        json.loads((folder / "plan.json").read_text())
    for folder in (store.path / "models").glob("*"):
        assert (folder / "model.onnx").is_file()
    for file in [*store.path.glob("*.db"), *(store.path / "sessions").glob("*.db")]:
        with contextlib.closing(sqlite3.connect(file)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


CROWD = """
import random, sys, time
from workbench import Selection, Session
number, path, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
rng = random.Random(int(number))
session = Session("crowd")
end = time.monotonic() + seconds
i = 0
while time.monotonic() < end or i == 0:
    name = f"m-{number}-{i}"
    session.add(path, name=name)
    print("model", name, flush=True)
    session.select(Selection("node", (number, str(i))))
    engine = session.build(path, compiler="fake", flags=(f"f{rng.randrange(6)}",))
    print("engine", engine.key, flush=True)
    assert engine.plan.layers
    assert all(e.plan.layers for e in session.engines[-3:])
    if i % 5 == 4:
        session.models.remove(f"m-{number}-{i - 1}")
        print("removed", f"m-{number}-{i - 1}", flush=True)
    i += 1
session.close()
"""


@pytest.mark.serial
@pytest.mark.slow
def test_a_crowd_on_one_session_loses_nothing(home: Path, small: Path) -> None:
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(n), str(small), str(SECONDS)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for n in range(PROCESSES)
    ]  # fmt: skip
    said: list[tuple[str, str]] = []
    for process in crowd:
        out, errors = process.communicate(timeout=SECONDS + 240)
        assert process.returncode == 0, errors
        said += [(line.split()[0], line.split()[1]) for line in out.splitlines()]
    told = {kind: {name for k, name in said if k == kind} for kind in ("model", "engine", "removed")}
    session = Session("crowd")
    assert told["model"] - told["removed"] <= set(session.models) <= told["model"] - told["removed"] | {"small"}
    assert {e.key for e in session.engines} == told["engine"]
    events = list(session.events)
    numbers = [e.number for e in events]
    assert numbers == sorted(set(numbers))
    # Only the newest selections are kept; nothing else is missing.
    counts, told_counts = Counter(e.kind for e in events), Counter(kind for kind, _ in said)
    assert counts["selection"] <= KEPT["selection"]
    assert counts["build-started"] == counts["build-finished"] == told_counts["engine"]
    assert counts["model-removed"] == told_counts["removed"]
    added = [e.data["model"] for e in events if e.kind == "model-added" and e.data["model"] != "small"]
    assert sorted(added) == sorted(name for kind, name in said if kind == "model")
    check_store(session.store)
    assert list((home / "tmp").iterdir()) == []
    session.close()


def test_one_build_for_four_who_ask(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_compiler.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.setenv("COUNT_FILE", str(tmp_path / "count"))
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", "import slow_compiler\n" + BUILD, str(small), f"s{i}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(4)
    ]  # fmt: skip
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = []
    for process in crowd:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        answers.append(out.split())
    assert (tmp_path / "count").read_text() == "built\n"
    assert len({key for _, key in answers}) == 1
    assert sorted(cached for cached, _ in answers) == ["False", "True", "True", "True"]


# The process kills itself with SIGKILL before the n-th time that it opens, renames, makes or removes something in its
# home or in the folder of the archive. With n = 0 it counts.
VICTIM = """
import os, signal, sys
from pathlib import Path
point, path, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
from workbench import Session
import workbench.build, workbench.session.archive.keep, workbench.session.archive.write, workbench.passes.cast
places = (os.environ["WORKBENCH_HOME"], str(out.parent))
count = 0
EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "sqlite3.connect"}
def hook(event, arguments):
    global count
    if event not in EVENTS or not any(isinstance(a, (str, Path)) and str(a).startswith(places) for a in arguments):
        return
    count += 1
    if count == point:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
session = Session("victim")
session.add(path)
print("model", flush=True)
engine = session.build("small", compiler="fake")
print("engine", engine.key, flush=True)
try:
    session.build("small", compiler="fake", flags=("fail",))
except Exception:
    pass
session.files.export(out)
print("archive", flush=True)
other = Session.from_archive(out, "copy")
print("copy", len(other.engines), flush=True)
session.store.replace_in_build(engine.folder, {"plan.json": (engine.folder / "plan.json").read_bytes()})
print("count", count, flush=True)
"""


def run_victim(home: Path, small: Path, out: Path, point: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", VICTIM, str(point), str(small), str(out)], check=False, capture_output=True, text=True,
        cwd=ROOT, timeout=120, env={**os.environ, "WORKBENCH_HOME": str(home)},
    )  # fmt: skip


@pytest.mark.serial
@pytest.mark.slow
def test_killed_at_any_point_nothing_is_corrupt(home: Path, small: Path, tmp_path: Path) -> None:
    place = tmp_path / "archives"
    place.mkdir()
    out = place / "out.zip"
    counted = run_victim(home, small, out, 0)
    assert counted.returncode == 0, counted.stderr
    total = int(counted.stdout.split()[-1])
    shutil.rmtree(home)
    out.write_text("precious")
    killed = 0
    for number in range(POINTS):
        point = 1 + number * total // POINTS
        done = run_victim(home, small, out, point)
        # One that finds a home that is there already does less, and may end before its point.
        assert done.returncode in {-9, 0}, done.stderr
        killed += done.returncode == -9
        session = Session("victim")  # opens, and what was said to be there is there
        assert list(session.models) == ["small"] or "model" not in done.stdout
        if "engine" in done.stdout:
            key = done.stdout.split("engine ")[1].split()[0]
            assert session.engines.find(key).plan.layers
        assert "archive" not in done.stdout or Session.from_archive(out, f"copy{number}").models
        assert all(e.plan.layers for e in session.engines)
        if (home / "builds").is_dir():
            check_store(session.store)
        assert not list((home / "tmp").glob("*"))
        session.close()
        if number % 3 == 2:  # the next begins with nothing again
            shutil.rmtree(home)
    assert killed > POINTS / 2
    last = run_victim(home, small, out, 0)  # whatever was left behind is in nobody's way
    assert last.returncode == 0, last.stderr
    check_store(Store(home))
    assert [p.name for p in place.iterdir()] == ["out.zip"]
    left = [p for p in home.rglob(".*") if p.is_file()]
    assert left == []
