"""The store and the session: many processes, full disks, later versions, archives."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT, SAMPLES, wait_for
from tests.support.disks import fill, mounted
from tests.support.slow_compiler import BUILD, SLOW
from tests.support.small_models import chain, mlp, save
from workbench import Selection, Session
from workbench.core.errors import BuildError, CancelledError, ModelError, StoreError, WorkbenchError, WorkerCrashedError
from workbench.core.events import Event
from workbench.core.store import Store

FAKE = {"compiler": "fake"}


def in_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT,
    )  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return save(mlp(), tmp_path / "files" / "small.onnx")


# --- models, engines, events -----------------------------------------------------------------------


def test_add_build_and_find_again(session: Session, small: Path) -> None:
    model = session.add(small)
    assert list(session.models) == ["small"]
    engine = session.build("small", **FAKE)
    again = session.build(model, **FAKE)
    assert (engine.cached, again.cached, engine.key == again.key) == (False, True, True)
    assert [layer.nodes for layer in engine.plan.layers] == [("mm1", "act"), ("mm2",)]
    kinds = ["model-added", "build-started", "build-finished", "build-started", "build-finished"]
    assert [e.kind for e in session.events if e.kind != "current"] == kinds
    session.close()
    later = Session("test")
    assert [e.key for e in later.engines] == [engine.key]
    assert later.engines[-1].plan == engine.plan
    assert later.engines.find(engine.id).key == engine.key
    assert later.engines.to_frame()["model"].tolist() == ["small"]
    assert "test" in later.store.sessions()
    later.close()


def test_engines_by_name_or_position_that_do_not_exist(session: Session) -> None:
    for key in (-1, 0, "abc"):
        with pytest.raises(StoreError):
            session.engines.find(key)
    with pytest.raises(StoreError, match="no model"):
        session.models["nope"]
    with pytest.raises(StoreError, match="no model"):
        session.models.remove("nope")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 101, "ü", "a\n"])
def test_names_that_a_session_can_not_have(name: str) -> None:
    with pytest.raises(StoreError, match="name"):
        Session(name)


def test_a_changed_model_file_gives_another_engine_and_a_deleted_one_an_error(session: Session, small: Path) -> None:
    session.add(small)
    first = session.build("small", **FAKE)
    save(chain(["a", "b"]), small)
    second = session.build("small", **FAKE)
    assert second.key != first.key
    assert not second.cached
    assert [n for la in second.plan.layers for n in la.nodes] == ["mm", "a", "b"]
    small.unlink()
    with pytest.raises(ModelError, match="no file"):
        session.build("small", **FAKE)
    assert len(session.engines) == 2  # what was built stays


def test_external_data_that_changed_or_went(session: Session, tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "m.onnx"
    onnx.save(mlp(), str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    first = session.build(path, **FAKE)
    with (tmp_path / "m.data").open("r+b") as file:
        file.write(b"\x01\x02\x03")
    assert session.build(path, **FAKE).key != first.key
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match="not in the same folder"):
        session.build(path, **FAKE)


def test_a_failed_build_leaves_the_session_unharmed(session: Session, small: Path) -> None:
    session.add(small)
    with pytest.raises(BuildError, match="failed as requested"):
        session.build("small", **FAKE, flags=("fail",))
    with pytest.raises(WorkerCrashedError, match="SIGSEGV"):
        session.build("small", **FAKE, flags=("crash",))
    with pytest.raises(StoreError, match="disk is full"):
        session.build("small", **FAKE, flags=("full",))
    assert not session.engines
    assert session.engines.running == []
    assert [e.data["status"] for e in session.events if e.kind == "build-failed"] == ["failed"] * 3
    assert session.build("small", **FAKE).plan.layers
    assert list((session.store.path / "tmp").iterdir()) == []


def test_a_worker_killed_in_the_middle(session: Session, small: Path) -> None:
    build = session.engines.start(small, **FAKE, flags=("hang",))
    assert wait_for(lambda: build.progress)
    assert build.pid is not None
    os.kill(build.pid, 9)
    with pytest.raises(WorkerCrashedError, match="SIGKILL"):
        build.result(20)
    assert build.status == "failed"
    assert not session.build(small, **FAKE).cached


def test_cancel_a_build(session: Session, small: Path) -> None:
    seen: list[str] = []
    build = session.engines.start(small, **FAKE, flags=("hang",))
    build.on_change(lambda b: seen.append(b.status))
    assert wait_for(lambda: build.progress)
    build.cancel()
    with pytest.raises(CancelledError):
        build.result(20)
    assert build.status == seen[-1] == "cancelled"
    assert [e.kind for e in session.events][-1] == "build-failed"
    assert session.engines.running == []


def test_closing_a_session_cancels_its_builds(small: Path) -> None:
    session = Session("closing")
    build = session.engines.start(small, **FAKE, flags=("hang",))
    assert wait_for(lambda: build.progress)
    session.close()
    with pytest.raises(CancelledError):
        build.result(20)
    with pytest.raises(StoreError):
        _ = list(session.models)


def test_a_time_limit(session: Session, small: Path) -> None:
    with pytest.raises(WorkbenchError, match="limit"):
        session.build(small, **FAKE, flags=("hang",), time_limit=0.5)


def test_a_listener_of_a_build_that_raises_does_not_fail_the_build(session: Session, small: Path) -> None:
    build = session.engines.start(small, **FAKE)
    build.on_change(lambda b: 1 / 0)
    assert build.result(20).plan.layers
    assert wait_for(lambda: session.engines)


def test_a_listener_of_events_that_raises_does_not_silence_the_others(session: Session, small: Path) -> None:
    heard: list[str] = []
    session.events.subscribe(lambda e: 1 / 0)
    session.events.subscribe(lambda e: heard.append(e.kind))
    session.add(small)
    session.build("small", **FAKE)
    assert [kind for kind in heard if kind != "current"] == ["model-added", "build-started", "build-finished"]


def test_a_listener_may_build_and_wait(session: Session, small: Path) -> None:
    """It runs while other threads of the session emit events of their own: nobody may wait for a lock."""
    built: list[str] = []

    def listener(event: Event) -> None:
        if event.kind == "model-added":
            build = session.engines.start(event.data["model"], **FAKE)
            built.append(build.result(20).key)

    session.events.subscribe(listener)
    session.add(small)
    assert wait_for(lambda: built, 25)


def test_selection_and_its_events(session: Session, small: Path) -> None:
    heard: list[Event] = []
    stop = session.events.subscribe(heard.append)
    session.build(small, **FAKE)
    heard.clear()
    session.selection = "mm2"
    assert session.selection == Selection("layer", ("mm2",), session.selection.origin)
    session.selection = ["act", "mm2"]
    assert session.selection.kind == "layer"
    session.selection = "act"
    assert session.selection.kind == "node"
    session.selection = "act"  # no news
    session.select(Selection("node", ("mm1",)), origin="graph")
    session.selection = None
    assert [e.data["ids"] for e in heard] == [["mm2"], ["act", "mm2"], ["act"], ["mm1"], []]
    assert heard[3].origin == session.selection.origin or heard[3].origin == "graph"
    stop()
    session.selection = "mm2"
    assert len(heard) == 5


def test_deleting_a_session_is_told_to_every_listener(home: Path, small: Path) -> None:
    here, other = Session("gone"), Session("gone")
    heard: list[str] = []
    here.events.subscribe(lambda e: 1 / 0)
    here.events.subscribe(lambda e: heard.append(e.kind))
    other.add(small)
    assert wait_for(lambda: heard)
    other.delete()
    assert wait_for(lambda: "deleted" in heard)
    assert heard == ["model-added", "deleted"]
    here.close()


def test_a_session_that_nobody_holds_is_collected_and_its_watcher_ends(home: Path) -> None:
    session = Session("dropped")
    session.events.subscribe(lambda e: None)
    [watcher] = [t for t in threading.enumerate() if t.name == "session dropped"]
    reference = weakref.ref(session)
    del session
    gc.collect()
    assert reference() is None
    watcher.join(10)
    assert not watcher.is_alive()


# --- several processes ----------------------------------------------------------------------------

LISTEN = """
import sys, time
from workbench import Session
session = Session("live")
session.events.subscribe(lambda e: print(e.kind, e.data.get("model") or e.data.get("ids"), e.origin, flush=True))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.serial
def test_the_same_name_in_two_processes_is_live(home: Path, small: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == "ready\n"
    session = Session("live")
    begin = time.monotonic()
    session.add(small)
    assert other.stdout.readline().startswith("model-added small")
    session.select(Selection("node", ("mm1",)), origin="view-7")
    assert other.stdout.readline() == "selection ['mm1'] view-7\n"
    assert time.monotonic() - begin < 3
    session.close()
    other.stdin.close()
    assert other.wait(10) == 0
    other.stdout.close()


WRITE = """
import sys
from workbench import Selection, Session
number, path = sys.argv[1:]
session = Session("crowd")
for i in range(5):
    session.add(path, name=f"model-{number}-{i}")
    session.select(Selection("node", (number, str(i))))
session.close()
"""


@pytest.mark.serial
@pytest.mark.slow
def test_twenty_processes_write_to_one_session(home: Path, small: Path) -> None:
    # None of them finds a home: that they all create it at once is part of the test.
    crowd = [in_process(WRITE, number, small) for number in range(20)]
    for process in crowd:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    session = Session("crowd")
    assert set(session.models) == {f"model-{n}-{i}" for n in range(20) for i in range(5)}
    events = list(session.events)
    assert [e.number for e in events] == list(range(1, len(events) + 1))
    assert sum(e.kind == "model-added" for e in events) == 100
    assert sum(e.kind == "selection" for e in events) >= 20
    assert session.selection.ids == tuple([e for e in events if e.kind == "selection"][-1].data["ids"])
    session.close()


def test_processes_that_want_the_same_engine_share_one_build(tmp_path: Path, small: Path, monkeypatch) -> None:
    (tmp_path / "slow_compiler.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.setenv("COUNT_FILE", str(tmp_path / "count"))
    crowd = [
        subprocess.Popen([sys.executable, "-c", "import slow_compiler\n" + BUILD, str(small), f"s{i}"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(3)
    ]  # fmt: skip
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    answers = []
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in crowd:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        answers.append(out.split())
    assert (tmp_path / "count").read_text() == "built\n"
    assert len({key for _, key in answers}) == 1
    assert sorted(cached for cached, _ in answers) == ["False", "True", "True"]


def test_cancel_while_another_process_builds_the_same(session: Session, small: Path, home: Path) -> None:
    other = Session("other")
    hanging = other.engines.start(small, **FAKE, flags=("hang",))
    assert wait_for(lambda: hanging.progress)
    waiting = session.engines.start(small, **FAKE, flags=("hang",))
    assert wait_for(lambda: "waiting" in waiting.message)
    waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result(5)
    hanging.cancel()
    with pytest.raises(CancelledError):
        hanging.result(5)
    other.close()


def test_the_one_who_waits_takes_over_when_the_other_gives_up(session: Session, small: Path) -> None:
    other = Session("other")
    hanging = other.engines.start(small, **FAKE, flags=("hang",))
    assert wait_for(lambda: hanging.progress)
    waiting = session.engines.start(small, **FAKE, flags=("hang",))
    assert wait_for(lambda: "waiting" in waiting.message)
    hanging.cancel()
    assert wait_for(lambda: waiting.progress and waiting.progress[0].phase == "Hanging")
    waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result(10)
    other.close()


# --- later versions, damage, full and read-only disks ----------------------------------------------


def test_a_session_of_a_later_version_is_refused_and_not_changed(session: Session) -> None:
    path = session.store.session_file("test")
    session.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE novel (x)")
        db.commit()
    with pytest.raises(StoreError, match="later version"):
        Session("test")
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)


@pytest.mark.parametrize("text", ["2\n", "99", "workbench 3.0"])
def test_a_store_of_a_later_version_is_refused(home: Path, text: str) -> None:
    home.mkdir()
    (home / "format").write_text(text)
    with pytest.raises(StoreError, match="later version"):
        Session("test")
    assert sorted(p.name for p in home.iterdir()) == ["format"]


def test_an_empty_format_file_is_a_store_that_is_just_being_made(home: Path) -> None:
    home.mkdir()
    (home / "format").write_text("")
    Session("test").close()
    assert (home / "format").read_text().strip() == "1"


def test_a_session_file_that_is_no_database(home: Path) -> None:
    Session("other").close()
    (home / "sessions" / "test.db").write_bytes(b"this is no database, not at all" * 100)
    with pytest.raises(StoreError) as info:
        Session("test")
    assert info.value.code == "damaged"
    Session("other").close()


def test_a_home_that_can_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StoreError, match="can't be written") as info:
        Session("test")
    assert "WORKBENCH_HOME" in str(info.value.hint)


def test_a_read_only_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        monkeypatch.setenv("WORKBENCH_HOME", str(disk))
        with pytest.raises(StoreError) as info:
            Session("test")
        assert info.value.code == "read-only"


def test_a_home_that_became_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    with mounted(tmp_path / "disk", "size=4m") as disk:
        monkeypatch.setenv("WORKBENCH_HOME", str(disk))
        subprocess.run([sys.executable, "-c", "import workbench; workbench.Session('test').close()"], check=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreError) as info:
            Session("test").add(small)
        assert info.value.code == "read-only"
        assert "damaged" not in str(info.value)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    with mounted(tmp_path / "disk", "size=2m") as disk:
        monkeypatch.setenv("WORKBENCH_HOME", str(disk))
        session = Session("test")
        session.add(small)
        fill(disk)
        with pytest.raises(StoreError, match=r"[Ff]ull|space"):
            for i in range(2000):
                session.add(small, name=f"m{i}")
        known = set(session.models)
        with pytest.raises(StoreError, match=r"[Ff]ull|space") as info:
            session.build("small", **FAKE)
        assert info.value.hint
        with pytest.raises(StoreError, match=r"[Ff]ull|space"):
            session.add(mlp(), name="proto")
        (disk / "filler").unlink()
        assert set(session.models) == known
        assert session.build("small", **FAKE).plan.layers
        session.close()


# --- archives -------------------------------------------------------------------------------------


def test_an_archive_round_trip(session: Session, small: Path, tmp_path: Path) -> None:
    import onnx

    big = tmp_path / "big.onnx"
    (tmp_path / "data").mkdir()
    onnx.save(chain(["a", "b"]), str(big), save_as_external_data=True, location="data/big.bin", size_threshold=0)
    session.add(small)
    session.add(big, name="ext")
    built = [session.build("small", **FAKE), session.build("ext", **FAKE)]
    session.selection = "mm2"
    path = session.files.export(tmp_path / "out.wbs")
    assert not list(tmp_path.glob("*.part"))
    other = Session.from_archive(path, store=tmp_path / "elsewhere")
    assert other.name == "test"
    assert set(other.models) == {"small", "ext"}
    assert all(e.key.startswith("imported-") and e.archive == "out.wbs" for e in other.engines)
    assert {e.plan.to_json() for e in other.engines} == {e.plan.to_json() for e in built}
    assert other.selection.ids == ("mm2",)
    for name, engine in zip(("small", "ext"), built, strict=True):
        assert other.models[name].path.is_relative_to(tmp_path / "elsewhere")
        again = other.build(name, **FAKE)
        assert (again.cached, again.key) == (False, engine.key)
        assert other.models[name].path.name == "model.onnx"  # as all that the store makes itself
    again = Session.from_archive(path, "copy", store=tmp_path / "elsewhere")  # twice, under another name
    assert set(again.models) == {"small", "ext"}
    for made in (other, again):
        made.close()


def test_a_model_that_the_store_already_has_under_another_file_name(session: Session, tmp_path: Path) -> None:
    session.add(mlp(), name="proto")
    copy = tmp_path / "copy.onnx"
    shutil.copyfile(session.models["proto"].path, copy)
    other = Session("second")
    other.add(copy)
    path = other.files.export(tmp_path / "out.wbs")
    third = Session.from_archive(path, "third")
    assert third.build("copy", **FAKE).plan.layers
    for made in (other, third):
        made.close()


def test_a_model_of_two_names_is_in_the_archive_once(session: Session, small: Path, tmp_path: Path) -> None:
    session.add(small)
    copy = tmp_path / "copy.onnx"
    shutil.copyfile(small, copy)
    session.add(copy, name="second")
    path = session.files.export(tmp_path / "out.wbs")
    with zipfile.ZipFile(path) as archive:
        assert sum(name.startswith("models/") for name in archive.namelist()) == 1
    other = Session.from_archive(path, store=tmp_path / "elsewhere")
    assert set(other.models) == {"small", "second"}
    assert all(model.path.is_file() for model in other.models.values())
    other.close()


def test_export_of_a_model_whose_file_is_gone(session: Session, small: Path, tmp_path: Path) -> None:
    session.add(small)
    small.unlink()
    with pytest.raises(StoreError, match="is gone"):
        session.files.export(tmp_path / "out.wbs")
    assert not list(tmp_path.glob("out*"))


@pytest.fixture
def archive(session: Session, small: Path, tmp_path: Path) -> Path:
    session.build(small, **FAKE)
    return session.files.export(tmp_path / "good.wbs")


def rewritten(source: Path, target: Path, change: object) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == "session.json":
                head = json.loads(data)
                head = change(head) or head  # type: ignore[operator]
                data = json.dumps(head).encode()
            new.writestr(entry.filename, data)
    return target


@pytest.mark.parametrize("name", ["../../evil.txt", "/tmp/evil.txt", "builds/../../../evil.txt", "C:/evil.txt"])
def test_an_archive_that_would_write_elsewhere_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, "evil")
    with pytest.raises(StoreError, match="unsafe"):
        Session.from_archive(archive, store=tmp_path / "elsewhere")
    assert not list(tmp_path.rglob("evil.txt"))


EVIL = {
    "engine key": lambda h: h["engines"][0].update(key="../../../victim"),
    "model file": lambda h: next(iter(h["models"].values())).update(file="../../../../victim/x"),
    "model sha": lambda h: next(iter(h["models"].values())).update(sha256="../../../victim"),
    "no models": lambda h: h.pop("models") and None,
    "a list": lambda h: [1, 2],
    "a number": lambda h: 7,
    "text engines": lambda h: h.update(engines="abc"),
    "session name": lambda h: h.update(name="../../x"),
    "selection": lambda h: h.update(selection=None),
    "later format": lambda h: h.update(format="workbench.session/9"),
}


@pytest.mark.parametrize("kind", EVIL)
def test_an_archive_whose_contents_lie(archive: Path, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "build.json").write_text("{}")
    bad = rewritten(archive, tmp_path / "bad.wbs", EVIL[kind])
    with pytest.raises(StoreError):
        Session.from_archive(bad, store=tmp_path / "elsewhere" / "home")
    assert (victim / "build.json").is_file()
    assert Store(tmp_path / "elsewhere" / "home").sessions() == []


def test_a_damaged_archive_is_refused_wherever_the_damage_is(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    bad = tmp_path / "bad.wbs"
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        data = bytearray(whole)
        data[place] ^= 0xFF
        bad.write_bytes(data)
        with contextlib.suppress(StoreError):  # a few bytes, such as times, carry nothing
            Session.from_archive(bad, store=tmp_path / "elsewhere").close()
    for length in (0, 10, len(whole) // 2, len(whole) - 5):
        bad.write_bytes(whole[:length])
        with pytest.raises(StoreError):
            Session.from_archive(bad, store=tmp_path / "elsewhere")


def test_something_that_is_no_archive(tmp_path: Path, small: Path) -> None:
    for path in (small, tmp_path / "absent.wbs", tmp_path):
        with pytest.raises(StoreError):
            Session.from_archive(path)


def test_delete(session: Session, small: Path) -> None:
    engine = session.build(small, **FAKE)
    session.delete()
    assert session.store.sessions() == []
    assert engine.path.is_file()


def test_threads_share_a_session(session: Session, small: Path) -> None:
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            for i in range(10):
                session.add(small, name=f"m{number}-{i}")
                _ = session.models, list(session.events)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(session.models) == 80


DAMAGE = ["", '{"key": "ab', "[]", "3", "{}", "[" * 100_000, '{"schema": "workbench.plan/1"}', "\udcff"]


@pytest.mark.parametrize("text", DAMAGE)
def test_a_damaged_build_is_told_with_its_folder(session: Session, text: str) -> None:
    folder = session.build("conv_bn_relu", compiler="fake").folder
    (folder / "build.json").write_text(text, errors="surrogatepass")
    with pytest.raises(StoreError, match=r"is damaged: build\.json") as told:
        _ = session.build("conv_bn_relu", compiler="fake").plan
    assert told.value.code == "damaged"
    assert str(folder) in str(told.value.hint)


@pytest.mark.parametrize("text", DAMAGE)
def test_a_damaged_plan_is_made_again_from_the_record(session: Session, text: str) -> None:
    engine = session.build("conv_bn_relu", compiler="fake")
    good = engine.plan.to_json()
    (engine.folder / "plan.json").write_text(text, errors="surrogatepass")
    assert session.engines.find(engine.key).plan.to_json() == good  # looked at: the file stays as it is
    again = session.build("conv_bn_relu", compiler="fake")
    assert again.cached
    assert again.plan.to_json() == good == (engine.folder / "plan.json").read_text()


def test_a_plan_that_was_changed_is_made_again(session: Session) -> None:
    engine = session.build("conv_bn_relu", compiler="fake")
    good = engine.plan.to_json()
    changed = json.loads(good)
    changed["summary"]["launches_after"] = 1000
    (engine.folder / "plan.json").write_text(json.dumps(changed))
    assert session.build("conv_bn_relu", compiler="fake").plan.to_json() == good


def test_a_plan_whose_record_is_damaged_too_is_an_error(session: Session) -> None:
    engine = session.build("conv_bn_relu", compiler="fake")
    (engine.folder / "plan.json").write_text("{}")
    (engine.folder / "record.json").write_text('{"layers": 3}')
    for attempt in (
        lambda: session.engines.find(engine.key).plan,
        lambda: session.build("conv_bn_relu", compiler="fake"),
    ):
        with pytest.raises(StoreError) as told:
            attempt()
        assert told.value.code == "damaged"
    with pytest.raises(StoreError):
        _ = session.engines.find(engine.key).record


def test_an_engine_whose_model_was_changed_keeps_its_plan(session: Session, small: Path) -> None:
    """Making a damaged plan again needs the model that was built, not what is in its place now."""
    engine = session.build(small, **FAKE)
    save(chain(["a", "b"]), small)
    (engine.folder / "plan.json").write_text("{}")
    with pytest.raises(StoreError) as told:
        _ = session.engines.find(engine.key).plan
    assert told.value.code == "damaged"


def test_an_engine_that_was_cut_short_is_not_handed_out(session: Session, tmp_path: Path) -> None:
    engine = session.build("conv_bn_relu", compiler="fake")
    assert engine.save(tmp_path / "whole.engine").stat().st_size == engine.plan.facts["engine_bytes"]
    engine.path.chmod(0o644)
    engine.path.write_bytes(engine.path.read_bytes()[:1])
    (tmp_path / "cut.engine").write_text("precious")
    with pytest.raises(StoreError, match="is damaged: it has 1 bytes"):
        engine.save(tmp_path / "cut.engine")
    engine.path.write_bytes(b"evil")  # as long as the one that was built
    with pytest.raises(StoreError, match="content has changed since it was built"):
        engine.save(tmp_path / "cut.engine")
    assert (tmp_path / "cut.engine").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.glob("*.engine*")) == ["cut.engine", "whole.engine"]
    assert not list(tmp_path.glob(".*"))


def test_an_engine_that_was_cut_short_is_not_found_in_the_cache(session: Session) -> None:
    engine = session.build("conv_bn_relu", compiler="fake")
    engine.path.write_bytes(b"f")
    with pytest.raises(StoreError) as told:
        session.build("conv_bn_relu", compiler="fake")
    assert told.value.code == "damaged"
    assert str(engine.folder) in str(told.value.hint)


# --- seals, order, failures ------------------------------------------------------------------------


def test_a_build_that_this_store_did_not_make_is_not_found(session: Session, small: Path, tmp_path: Path) -> None:
    other = Session("other", store=tmp_path / "other")
    theirs = other.build(small, **FAKE)
    shutil.copytree(theirs.folder, session.store.path / "builds" / theirs.key)
    assert session.store.standing(theirs.key) == "foreign"
    mine = session.build(small, **FAKE)
    assert (mine.cached, mine.key) == (False, theirs.key)
    assert session.store.standing(mine.key) == "own"
    assert session.build(small, **FAKE).cached
    shutil.rmtree(mine.folder)
    shutil.copytree(theirs.folder, mine.folder)
    assert not session.engines
    with pytest.raises(StoreError) as told:
        session.engines.find(mine.key)
    assert told.value.code == "foreign-build"
    other.close()


def test_a_build_under_another_key_is_not_found(session: Session, small: Path) -> None:
    first = session.build(small, **FAKE)
    other = session.build(small, **FAKE, flags=("x",))
    shutil.rmtree(other.folder)
    shutil.copytree(first.folder, other.folder)
    assert session.store.standing(other.key) == "foreign"
    assert not session.build(small, **FAKE, flags=("x",)).cached


def test_builds_of_an_earlier_version_still_open(session: Session, small: Path) -> None:
    """They have no seal, and were there before this store had a secret."""
    engine = session.build(small, **FAKE)
    good = engine.plan.to_json()
    (engine.folder / "seal.json").unlink()
    assert Store().standing(engine.key) == "foreign"  # seals are made here since long
    (session.store.path / "secret").unlink()
    (session.store.path / "adopted").unlink()
    later = Session("later")
    assert later.store.standing(engine.key) == "own"
    again = later.build(small, **FAKE)
    assert (again.cached, again.plan.to_json()) == (True, good)
    shutil.copytree(engine.folder, later.store.path / "builds" / ("a" * 64))
    assert later.store.standing("a" * 64) == "foreign"  # it came without a seal after that
    later.close()


def test_an_old_analysis_is_renewed_and_sealed_again(session: Session, small: Path) -> None:
    engine = session.build(small, **FAKE)
    note = json.loads((engine.folder / "build.json").read_text())
    session.store.replace_in_build(
        engine.folder, {"build.json": json.dumps({**note, "analysis": 0}).encode(), "plan.json": b"{}"}
    )
    again = session.build(small, **FAKE)
    assert again.cached
    assert again.plan.to_json() == engine.plan.to_json()
    assert session.store.standing(engine.key) == "own"
    seal = json.loads((engine.folder / "seal.json").read_text())
    assert all(len(known) == 1 for known in seal["files"].values())


def test_newest_is_by_number_when_the_clock_is_set_back(
    session: Session, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.add(small, name="first")
    one = session.build("first", **FAKE)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 1e6)
    session.add(save(chain(["a", "b"]), small.with_name("b.onnx")), name="second")
    two = session.build("second", **FAKE)
    assert list(session.models) == ["first", "second"]
    assert session.engines[-1].key == two.key
    assert [e.key for e in session.engines] == [one.key, two.key]
    session.engines.current = None
    assert session.engines.current is not None
    assert session.engines.current.key == two.key


def test_a_failed_build_keeps_its_log_and_says_where(session: Session, small: Path) -> None:
    with pytest.raises(BuildError) as told:
        session.build(small, **FAKE, flags=("fail",))
    log = Path(told.value.details["log"])
    assert log.read_text().startswith("building")
    assert str(log) in str(told.value)
    with pytest.raises(WorkerCrashedError):
        session.build(small, **FAKE, flags=("crash",))
    crash, fail = session.engines.failures
    assert (fail.model, fail.code, fail.config.options.flags, fail.folder) == ("small", "build", ("fail",), log.parent)
    assert (crash.code, crash.config.options.flags) == ("worker-crashed", ("crash",))
    assert fail.log == log.read_text()
    request = json.loads((fail.folder / "request.json").read_text())
    assert request["config"] == fail.config.to_dict()
    assert request["model"]["sha256"] == session.models["small"].sha256(session.store)
    assert json.loads((fail.folder / "error.json").read_text())["message"] == fail.message
    assert not (fail.folder / "engine").exists()
    shutil.rmtree(fail.folder)
    assert [f.code for f in session.engines.failures] == ["worker-crashed"]


def test_an_error_promises_no_log_that_is_not_there(session: Session, small: Path) -> None:
    with pytest.raises(WorkerCrashedError) as told:
        session.build(small, **FAKE, flags=("crash",))  # before it writes a line
    assert "log" not in told.value.details
    assert "build log" not in str(told.value)
    assert session.engines.failures[0].log == ""


def test_a_cancelled_build_is_no_failure(session: Session, small: Path) -> None:
    build = session.engines.start(small, **FAKE, flags=("hang",))
    assert wait_for(lambda: build.progress)
    build.cancel()
    with pytest.raises(CancelledError):
        build.result(20)
    assert session.engines.failures == []


def test_failed_builds_go_after_a_week_or_without_room(
    session: Session, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for flag in ("fail", "crash"):
        with pytest.raises(WorkbenchError):
            session.build(small, **FAKE, flags=(flag,))
    old, new = session.engines.failures[1].folder, session.engines.failures[0].folder
    os.utime(old, (time.time() - 8 * 86400,) * 2)
    Store()
    assert [f.folder for f in session.engines.failures] == [new]
    monkeypatch.setattr("workbench.core.store.failures.ROOM_BYTES", 2.0**80)
    Store()
    assert session.engines.failures == []


def test_failed_builds_in_the_shell(session: Session, small: Path, cli) -> None:
    with pytest.raises(BuildError):
        session.build(small, **FAKE, flags=("fail",))
    [failure] = session.engines.failures
    done = cli("failures", "--session", "test")
    assert str(failure.folder) in done.stdout
    assert "failed as requested" in done.stdout
    rows = json.loads(cli("failures", "--session", "test", "--format", "json").stdout)
    assert [row["code"] for row in rows] == ["build"]
    assert cli("failures", "--session", "test", "--log", "0").stdout == failure.log
    assert cli("failures", "--session", "test", "--log", "1").returncode == 2


def test_a_forked_child_holds_no_lock(home: Path) -> None:
    store = Store()
    with store.lock("k"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with store.lock("k", stop=lambda: True):  # CancelledError where it is still held
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_damaged_secret_is_no_new_one(home: Path) -> None:
    Store()
    (home / "secret").write_bytes(b"")
    with pytest.raises(StoreError) as info:
        Store()
    assert info.value.code == "damaged"
    assert "secret" in str(info.value.hint)


def test_builds_are_not_adopted_where_a_secret_was_lost(session: Session) -> None:
    sealed = session.build("residual_block", compiler="fake")
    planted = sealed.folder.with_name("f" * 64)
    shutil.copytree(sealed.folder, planted)
    (planted / "seal.json").unlink()
    (session.store.path / "secret").unlink()
    again = Store(session.store.path)
    assert again.standing("f" * 64) == "foreign"


def test_an_engine_that_was_changed_is_refused_before_it_runs(session: Session) -> None:
    engine = session.build("residual_block", compiler="fake")
    data = bytearray(engine.path.read_bytes())
    data[-1] ^= 1
    engine.path.write_bytes(data)
    with pytest.raises(StoreError) as info:
        engine.check_trusted()
    assert info.value.code == "damaged"


def test_a_model_of_a_relative_path_outlives_the_folder(session: Session, tmp_path: Path, monkeypatch) -> None:
    from workbench.measure.profiling import _reference

    shutil.copy(SAMPLES / "residual_block.onnx", tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    engine = session.build("m.onnx", compiler="fake")
    monkeypatch.chdir("/")
    assert engine.graph().nodes
    assert _reference(engine, True, tmp_path) == str(tmp_path / "m.onnx")
