"""The formats of a store's SQLite files move on whole or not at all, from what 0.1.0 wrote."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.small_models import mlp, save
from tests.support.store_0_1 import unpack
from workbench import Session
from workbench.core.errors import StoreError
from workbench.core.events import KEPT, Selection
from workbench.core.store import Database, Store
from workbench.core.store.index import STEPS as INDEX_STEPS
from workbench.session.file import STEPS as SESSION_STEPS

FILES = ("index.db", "sessions/lab.db")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return save(mlp(), tmp_path / "files" / "small.onnx")


def content(home: Path) -> dict[str, Any]:
    """Every row of every table that 0.1.0 knew."""
    found = {}
    for name in FILES:
        with closing(sqlite3.connect(home / name)) as db:
            for table in ("fingerprints", "derived", "models", "engines", "events", "state"):
                if db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                    found[f"{name}:{table}"] = db.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid").fetchall()
    return found


def formats(home: Path) -> list[int]:
    found = []
    for name in FILES:
        with closing(sqlite3.connect(home / name)) as db:
            found.append(db.execute("PRAGMA user_version").fetchone()[0])
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return found


def in_child(work: Callable[[], object]) -> int:
    """Start `work` in a forked process; its id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the child must never return into the test runner
            os._exit(1)
        os._exit(0)
    return pid


def opened(home: Path) -> None:
    Session("lab", store=home).close()


def test_a_store_of_0_1_is_migrated_and_nothing_is_lost(tmp_path: Path) -> None:
    home, _ = unpack(tmp_path)
    before = content(home)
    assert formats(home) == [0, 1]
    assert sum(map(len, before.values())) > 20
    opened(home)
    assert formats(home) == [len(INDEX_STEPS), len(SESSION_STEPS)]
    assert content(home) == before
    opened(home)  # there is nothing left to do
    assert content(home) == before


def killed_at(statement: int, home: Path) -> int:
    """Open the store in a process that is killed before this statement (from 1); its wait status."""
    real, count = sqlite3.connect, 0

    def trace(_: str) -> None:
        nonlocal count
        count += 1
        if count == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        made = real(*arguments, **options)
        made.set_trace_callback(trace)
        return made

    def work() -> None:
        sqlite3.connect = connect
        opened(home)

    _, status = os.waitpid(in_child(work), 0)
    return status


def test_a_process_killed_in_the_middle_of_a_migration_loses_nothing(tmp_path: Path) -> None:
    home, _ = unpack(tmp_path / "made")
    before, seen = content(home), set()
    for statement in range(1, 200):
        copy = tmp_path / "copy"
        shutil.copytree(home, copy)
        status = killed_at(statement, copy)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        seen.add(tuple(formats(copy)))
        assert content(copy) == before
        opened(copy)
        assert formats(copy) == [len(INDEX_STEPS), len(SESSION_STEPS)]
        assert content(copy) == before
        shutil.rmtree(copy)
    else:
        pytest.fail("the migration never ended")
    # Killed before, between and after the two transactions.
    assert seen == {(0, 1), (len(INDEX_STEPS), 1), (len(INDEX_STEPS), len(SESSION_STEPS))}


def test_two_processes_migrate_at_once(tmp_path: Path) -> None:
    home, _ = unpack(tmp_path)
    before = content(home)
    children = [in_child(lambda: opened(home)) for _ in range(4)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0, 0]
    assert formats(home) == [len(INDEX_STEPS), len(SESSION_STEPS)]
    assert content(home) == before


@pytest.mark.tiny
def test_a_step_that_fails_leaves_the_format_before_it(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    first = ("CREATE TABLE one (a)", "INSERT INTO one VALUES (1)")
    Database(path).migrate([first], "It")
    with pytest.raises(StoreError):
        Database(path).migrate([first, ("UPDATE one SET a = 2", "CREATE TABLE two (b)", "CREATE TABLE two (b)")], "It")
    database = Database(path)
    assert database.row("PRAGMA user_version")[0] == 1
    assert database.rows("SELECT a FROM one") == [(1,)]
    assert database.rows("SELECT name FROM sqlite_master") == [("one",)]


@pytest.mark.tiny
@pytest.mark.parametrize("file", ["index.db", "sessions/later.db"])
def test_a_file_of_a_later_version_is_refused_and_not_changed(home: Path, file: str) -> None:
    Session("later").close()
    with closing(sqlite3.connect(home / file)) as db:
        db.execute("PRAGMA user_version = 99")
    data = (home / file).read_bytes()
    with pytest.raises(StoreError) as info:
        Session("later")
    assert info.value.code == "later-version"
    assert (home / file).read_bytes() == data


@pytest.mark.tiny
def test_old_selections_are_removed_and_other_events_stay(home: Path) -> None:
    session = Session("busy")
    session.events.emit("current", {"engine": None})
    for number in range(KEPT["selection"] + 20):
        session.select(Selection("node", (str(number),)))
    kinds = [event.kind for event in session.events]
    assert kinds.count("selection") == KEPT["selection"]
    assert kinds[0] == "current"
    newest = session.events.of_kind("selection")
    assert newest[-1].data["ids"] == [str(KEPT["selection"] + 19)]
    assert newest[0].data["ids"] == ["20"]
    session.close()


def test_the_migration_prunes_selections(tmp_path: Path) -> None:
    home, _ = unpack(tmp_path)
    with closing(sqlite3.connect(home / "sessions" / "lab.db")) as db, db:
        db.executemany(
            "INSERT INTO events (kind, origin, time, data) VALUES ('selection', 'x/y', 0, ?)",
            [(json.dumps({"kind": "node", "ids": [str(i)], "origin": "x/y"}),) for i in range(300)],
        )
    others = [row for row in content(home)["sessions/lab.db:events"] if row[2] != "selection"]
    opened(home)
    rows = content(home)["sessions/lab.db:events"]
    assert [row for row in rows if row[2] != "selection"] == others
    kept = [json.loads(row[5])["ids"] for row in rows if row[2] == "selection"]
    assert kept == [[str(i)] for i in range(300 - KEPT["selection"], 300)]


@pytest.mark.tiny
def test_an_index_that_was_removed_is_made_again(home: Path, small: Path) -> None:
    session = Session("again")
    session.add(small)
    session.close()
    for file in home.glob("index.db*"):
        file.unlink()
    assert Store().derived("nothing") is None
    session = Session("again")
    assert list(session.models) == ["small"]
    session.close()


OUTSIDER = """
import sys
from pathlib import Path
from workbench.core.store import Database
database = Database(Path(sys.argv[1]))
with database.write() as db:
    db.execute("INSERT INTO one VALUES ('theirs')")
database.close()
"""


def test_a_second_connection_does_not_release_the_locks_of_the_first(tmp_path: Path) -> None:
    """Closing any descriptor of a file releases the POSIX locks that SQLite has on it in the same process."""
    path = tmp_path / "x.db"
    first = Database(path)
    first.migrate([("CREATE TABLE one (a)",)], "It")
    for number in range(1, 4):
        second = Database(path)
        subprocess.run([sys.executable, "-c", OUTSIDER, str(path)], check=True, cwd=ROOT)
        assert path.with_name("x.db-wal").exists()  # the other process was not the last
        with first.write() as db:
            db.execute("INSERT INTO one VALUES ('ours')")
        for database in (first, second):
            assert sorted(database.rows("SELECT a FROM one")) == [("ours",)] * number + [("theirs",)] * number
        second.close()
