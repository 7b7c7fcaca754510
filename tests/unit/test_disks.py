"""Full, read-only and shared disks; what is left behind by whoever is killed; who may look in."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, wait_for
from tests.support.disks import fill, mounted
from tests.support.small_models import mlp, save
from workbench import Session
from workbench.core.errors import CancelledError, StoreError
from workbench.core.store import Store, output, replacing, unwritable

FAKE = {"compiler": "fake"}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return save(mlp(), tmp_path / "files" / "small.onnx")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- files that a user named -------------------------------------------------------------------------


def writers(session: Session, small: Path) -> dict[str, Callable[[Path], object]]:
    """Everything that writes a file which the user named."""
    from workbench.cli.model_file import export_model

    engine = session.build(small, **FAKE)
    low = session.precision.cast(small, "fp16")
    return {
        "engine": engine.save, "report": session.report, "archive": session.files.export,
        "cast": lambda path: export_model(low, path),
    }  # fmt: skip


KINDS = ("engine", "report", "archive", "cast")


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_keeps_the_file_that_was_there(session: Session, small: Path, tmp_path: Path, kind: str) -> None:
    write = writers(session, small)[kind]
    with mounted(tmp_path / "disk", "size=1m") as disk:
        target = disk / "out"
        target.write_text("precious")
        fill(disk)
        with pytest.raises(StoreError) as told:
            write(target)
        assert told.value.code == "disk-full"
        assert target.read_text() == "precious"
        assert {p.name for p in disk.iterdir()} == {"out", "filler"}
        with pytest.raises(StoreError) as told:
            write(disk / "new")
        assert told.value.code == "disk-full"
        assert not (disk / "new").exists()
        (disk / "filler").unlink()
        write(target)
        assert target.stat().st_size != len("precious")
        assert {p.name for p in disk.iterdir()} == {"out"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_only_disk_is_called_so(session: Session, small: Path, tmp_path: Path, kind: str) -> None:
    write = writers(session, small)[kind]
    with mounted(tmp_path / "disk", "size=1m") as disk:
        (disk / "out").write_text("precious")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for target in (disk / "out", disk / "new"):
            with pytest.raises(StoreError) as told:
                write(target)
            assert told.value.code == "read-only"
        assert (disk / "out").read_text() == "precious"


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_and_an_absent_folder(session: Session, small: Path, tmp_path: Path, kind: str) -> None:
    write = writers(session, small)[kind]
    for target, code in ((tmp_path, "is-folder"), (tmp_path / "absent" / "out", "no-folder")):
        with pytest.raises(StoreError) as told:
            write(target)
        assert told.value.code == code
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_written_file_follows_a_link_and_keeps_its_mode(
    session: Session, small: Path, tmp_path: Path, kind: str
) -> None:
    write = writers(session, small)[kind]
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_size > 3
    assert mode(tmp_path / "real") == 0o640
    os.umask(mask := os.umask(0))
    write(tmp_path / "new")
    assert mode(tmp_path / "new") == 0o666 & ~mask


def test_a_device_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with output(pipe) as draft:
        draft.write_text("hello")
    assert os.read(reader, 100) == b"hello"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_error_of_what_is_read_is_not_blamed_on_what_is_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as told, output(tmp_path / "out"):
        (tmp_path / "absent" / "source").read_bytes()
    assert "source" in told.value.message
    assert told.value.code == "not-written"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(28, "disk-full"), (122, "disk-full"), (30, "read-only"), (13, "not-permitted"), (5, "not-written")],
)
def test_what_the_system_says_is_told(number: int, code: str) -> None:
    error = unwritable("x", OSError(number, os.strerror(number)))
    assert error.code == code
    assert "damaged" not in str(error)


# --- a home that can't be written --------------------------------------------------------------------


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home on a read-only disk, with a session that has a model and an engine."""
    with mounted(tmp_path / "disk", "size=8m") as disk:
        home = disk / "home"
        monkeypatch.setenv("WORKBENCH_HOME", str(home))
        code = "import sys, workbench; s = workbench.Session('kept'); s.build(sys.argv[1], compiler='fake'); s.close()"
        subprocess.run([sys.executable, "-c", code, save(mlp(), tmp_path / "m.onnx")], check=True, cwd=ROOT)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield home


@pytest.mark.slow
def test_reading_commands_work_with_a_read_only_home(frozen: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    env = {"WORKBENCH_HOME": str(frozen)}
    layers = ROOT / "tests" / "data" / "layers"
    file = next(layers.rglob("*.json"), None) or next((ROOT / "tests" / "data").rglob("trt10.json"))
    small = tmp_path / "m.onnx"
    for command in (
        ("inspect", file), ("checks", small), ("trtexec", small), ("failures", "--session", "kept"),
        ("export", tmp_path / "out.zip", "--session", "kept"),
    ):  # fmt: skip
        done = cli(*command, env=env)
        assert done.returncode == 0, (command, done.stderr)
        assert "read-only" in done.stderr
        assert "damaged" not in done.stderr
    assert (tmp_path / "out.zip").is_file()
    done = cli("fusions", small, "--compiler", "fake", env=env)
    assert done.returncode == 1
    assert "read-only file system" in done.stderr


def test_a_read_only_home_shows_what_is_in_it(frozen: Path, tmp_path: Path) -> None:
    with contextlib.closing(Session("kept", reading=True)) as session:
        assert session.store.unwritable is not None
        assert session.store.unwritable.code == "read-only"
        assert list(session.models) == ["m"]
        assert session.engines.current is not None
        assert session.engines.current.plan.layers
        session.add(tmp_path / "m.onnx", name="another")
        assert list(session.models) == ["m", "another"]
        with pytest.raises(StoreError) as told:
            session.build(tmp_path / "m.onnx", **FAKE, flags=("new",))
        assert told.value.code == "read-only"
        place = session.store._state
        assert place.is_dir()
    del session, told
    gc.collect()
    assert not place.exists()
    with pytest.raises(StoreError) as told:
        Session("kept")
    assert told.value.code == "read-only"


def test_reading_commands_work_without_a_home(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        monkeypatch.setenv("WORKBENCH_HOME", str(disk / "none"))
        with contextlib.closing(Session("x", reading=True)) as session:
            assert session.add(small).graph.nodes
            assert not session.engines
        assert not (disk / "none").exists()


def test_a_full_home_is_called_full_and_loses_nothing(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "disk", "size=2m") as disk:
        monkeypatch.setenv("WORKBENCH_HOME", str(disk / "home"))
        with contextlib.closing(Session("x")) as session:
            kept = session.build(small, **FAKE)
            fill(disk)
            with pytest.raises(StoreError) as told:
                for number in range(500):
                    session.build(small, **FAKE, flags=(f"f{number}",))
            assert told.value.code == "disk-full"
            assert session.engines.find(kept.key).plan.layers
        with contextlib.closing(Session("x", reading=True)) as session:
            assert session.engines.find(kept.key).plan.layers


# --- left behind -------------------------------------------------------------------------------------

BUSY = """
import sys, workbench
session = workbench.Session("busy")
build = session.engines.start(sys.argv[1], compiler="fake", flags=("hang",))
build.on_change(lambda b: b.progress and print("busy", flush=True))
build.result()
"""

SHELL = """
import sys
from workbench.cli.main import main
sys.argv = ["workbench", "fusions", sys.argv[1], "--compiler", "fake", "--session", "busy"]
from workbench.session.engines import Engines
real = Engines.start
def start(self, model, config=None, **options):
    build = real(self, model, config.replace(flags=("hang",)), **options)
    build.on_change(lambda b: b.progress and print("busy", flush=True))
    return build
Engines.start = start
main()
"""


# A shell that starts the tests in the background makes them, and what they start, ignore Ctrl-C.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def busy(code: str, small: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HEED + code, str(small)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    return process


def unfinished(home: Path) -> list[Path]:
    return list((home / "tmp").iterdir())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_a_killed_process_leaves_is_removed_by_the_next(home: Path, small: Path, number: int) -> None:
    process = busy(BUSY, small)
    assert unfinished(home)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert wait_for(lambda: Store() and not unfinished(home))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_stopped_removes_its_own(home: Path, small: Path, number: int) -> None:
    process = busy(SHELL, small)
    assert unfinished(home)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert unfinished(home) == []


def test_work_of_a_living_process_is_not_removed(home: Path, small: Path) -> None:
    process = busy(BUSY, small)
    before = sorted(unfinished(home))
    Store()
    assert sorted(unfinished(home)) == before
    process.kill()
    process.communicate(timeout=30)


def test_folders_of_an_earlier_version_go_after_a_day(home: Path) -> None:
    store = Store()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old, young = (home / "tmp" / f"build-{gone.pid}-{n}2345678" for n in (1, 2))
    alive = home / "tmp" / f"build-{os.getpid()}-32345678"
    other = home / "tmp" / "notes"
    for folder in (old, young, alive, other):
        folder.mkdir(parents=True)
        (folder / "x").write_text("x")
    for folder in (old, alive, other):
        os.utime(folder, (time.time() - 2 * 86400,) * 2)
    Store(store.path)
    assert sorted(p.name for p in unfinished(home)) == sorted(p.name for p in (young, alive, other))


def test_a_draft_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from workbench.core.store import replacing\n"
        "with replacing(Path(sys.argv[1])) as draft:\n"
        "    draft.write_text('half'); print('x', flush=True); sys.stdin.read()"
    )
    target = tmp_path / "out.zip"
    target.write_text("precious")
    writing = subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert writing.stdout is not None
    assert writing.stdout.readline() == b"x\n"
    with replacing(target) as draft:  # two at a time: neither takes the other's away
        draft.write_text("mine")
    assert len(list(tmp_path.iterdir())) == 2
    writing.kill()
    writing.communicate(timeout=30)
    with replacing(target) as draft:
        draft.write_text("last")
    assert [p.name for p in tmp_path.iterdir()] == ["out.zip"]
    assert target.read_text() == "last"


EXPORT = """
import sys, zipfile
from workbench import Session
session = Session("export")
session.build(sys.argv[1], compiler="fake")
def stop(*_):
    print("busy", flush=True)
    sys.stdin.read()
zipfile.ZipFile.writestr = stop
session.files.export(sys.argv[2])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_archive_half_written_is_removed_by_the_next(home: Path, small: Path, tmp_path: Path, number: int) -> None:
    place = tmp_path / "archives"
    place.mkdir()
    (place / "out.zip").write_text("precious")
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(small), str(place / "out.zip")], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    assert len(list(place.iterdir())) == 2
    Store()
    assert len(list(place.iterdir())) == 2  # it lives
    process.send_signal(number)
    process.communicate(timeout=30)
    Store()
    assert [p.name for p in place.iterdir()] == ["out.zip"]
    assert (place / "out.zip").read_text() == "precious"
    assert unfinished(home) == []


def test_a_file_system_without_locks(home: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    monkeypatch.setattr(Path, "chmod", unsupported)
    with contextlib.closing(Session("x")) as session:
        assert session.build(small, **FAKE).plan.layers
        session.files.export(tmp_path / "out.zip")
        with session.store.scratch("other"):
            Store()
            assert len(unfinished(home)) == 2  # a folder and its lock: whether its process lives can't be told
    assert (tmp_path / "out.zip").is_file()


def test_a_folder_that_another_user_made_look_like_ours_is_left_alone(home: Path, tmp_path: Path) -> None:
    store = Store()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "x").write_text("x")
    (home / "tmp").mkdir(exist_ok=True)
    (home / "tmp" / "build-1-12345678").symlink_to(tmp_path / "precious")
    (home / "tmp" / "build-2-12345678.lock").symlink_to(tmp_path / "precious" / "x")
    (home / "failures").mkdir(exist_ok=True)
    (home / "failures" / "x").symlink_to(tmp_path / "precious")
    os.utime(home / "failures" / "x", (0, 0), follow_symlinks=False)
    Store(store.path)
    assert (tmp_path / "precious" / "x").read_text() == "x"
    assert store.failure("x") is None


# --- who may look in, and links ----------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_home_is_closed_to_other_users(home: Path, small: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        with contextlib.closing(Session("x")) as session:
            session.build(small, **FAKE)
            session.precision.cast(small, "fp16")
    finally:
        os.umask(old)
    assert mode(home) == 0o700
    for path in home.rglob("*"):
        assert not mode(path) & 0o077 or path.parent.name in {"caches", "errors"} or path.is_file(), path
    for name in ("index.db", "secret"):
        assert mode(home / name) == 0o600
    for folder in ("builds", "models", "sessions"):
        for path in (home / folder).rglob("*"):
            assert not mode(path) & 0o077, path


def test_a_home_of_an_earlier_version_is_closed(home: Path, tmp_path: Path) -> None:
    Store()
    (home / "models").mkdir(exist_ok=True)
    for folder in (home, home / "models"):
        folder.chmod(0o755)
    Store()
    assert (mode(home), mode(home / "models")) == (0o700, 0o700)
    # A folder that holds other things as well is not the workbench's to close.
    home.chmod(0o755)
    (home / "my notes").write_text("x")
    (home / "models").chmod(0o755)
    Store()
    assert (mode(home), mode(home / "models")) == (0o755, 0o700)


def test_links_in_the_store_are_not_followed(session: Session, tmp_path: Path, home: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (home / "locks").mkdir(exist_ok=True)
    (home / "locks" / "x.lock").symlink_to(victim)
    with pytest.raises(StoreError) as told, session.store.lock("x"):
        pass
    assert told.value.code == "symlink"
    (home / "sessions" / "linked.db").symlink_to(victim)
    with pytest.raises(StoreError) as told:
        Session("linked")
    assert told.value.code == "symlink"
    (home / "format").unlink()
    (home / "format").symlink_to(tmp_path / "absent")
    (home / "adopted").unlink()
    (home / "adopted").symlink_to(victim)
    secret = (home / "secret").read_bytes()
    (home / "secret").unlink()
    Store()
    assert not (home / "secret").is_symlink()
    (tmp_path / "secret").write_bytes(secret)
    (home / "secret").unlink()
    (home / "secret").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError) as told:
        Store()
    assert told.value.code == "symlink"
    assert victim.read_text() == "precious"
    assert not (tmp_path / "absent").exists()


def test_a_link_in_a_build_is_not_exported(session: Session, small: Path, tmp_path: Path) -> None:
    import zipfile

    engine = session.build(small, **FAKE)
    private = tmp_path / "private"
    private.write_text("private")
    (engine.folder / "build.log").unlink()
    (engine.folder / "build.log").symlink_to(private)
    (engine.folder / "extra").symlink_to(private)
    path = session.files.export(tmp_path / "out.zip")
    with zipfile.ZipFile(path) as archive:
        assert all(b"private" not in archive.read(name) for name in archive.namelist())


def test_a_lock_is_held_by_one(home: Path) -> None:
    store = Store()
    code = (
        "import sys; from workbench.core.store import Store\n"
        "with Store().lock('x'):\n    print('x', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "x\n"
    waited: list[int] = []
    with pytest.raises(CancelledError), store.lock("x", lambda: waited.append(1), lambda: True):
        pass
    assert waited == [1]
    other.kill()
    other.communicate(timeout=30)
    with (
        store.lock("x", lambda: waited.append(2)),
        pytest.raises(CancelledError),
        store.lock("x", stop=lambda: True),  # another thread of this process, say
    ):
        pass
    assert waited == [1]
    shutil.rmtree(home / "locks")
    with store.lock("x"):
        pass
