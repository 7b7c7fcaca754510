"""Archives from other people: nothing in them is run, planted, believed or unpacked without end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_models import mlp, save
from workbench import Session
from workbench.core.errors import LimitError, StoreError, WorkbenchError
from workbench.core.store import Store
from workbench.model.trust import trusted

FAKE = {"compiler": "fake"}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What someone else exported: one model, one engine."""
    with contextlib.closing(Session("gift", store=tmp_path / "attacker")) as theirs:
        theirs.build(save(mlp(), tmp_path / "files" / "m.onnx"), **FAKE)
        return theirs.files.export(tmp_path / "gift.zip")


@pytest.fixture
def victim(tmp_path: Path) -> Store:
    return Store(tmp_path / "victim")


def rewritten(
    source: Path, target: Path, *, head: Callable[[dict[str, Any]], object] | None = None,
    files: dict[str, Callable[[bytes], bytes | None]] | None = None, checksums: bool = False,
) -> Path:  # fmt: skip
    """A copy with ``session.json`` and files changed, by the end of their names; without checksums as a clever attacker
    leaves it, since checksums prove nothing but damage."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            data: bytes | None = old.read(entry)
            if entry.filename == "session.json":
                document = json.loads(old.read(entry))
                if not checksums:
                    del document["files"]
                if head is not None:
                    head(document)
                data = json.dumps(document).encode()
            for end, change in (files or {}).items():
                if entry.filename.endswith(end):
                    data = change(data or b"")
            if data is not None:
                new.writestr(entry.filename, data)
    return target


def left_behind(store: Store) -> list[Path]:
    """What a refusal must not leave: builds, models, sessions, unfinished work."""
    return [f for name in ("builds", "models", "sessions", "tmp", "failures") for f in (store.path / name).rglob("*")]


def refused(path: Path, store: Store, **options: Any) -> WorkbenchError:
    """The error that an archive is refused with; nothing of it is kept."""
    before = left_behind(store)
    with pytest.raises(WorkbenchError) as told:
        Session.from_archive(path, store=store, **options)
    assert left_behind(store) == before
    return told.value


def as_json(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def of(data: bytes) -> bytes:
        document = json.loads(data)
        return json.dumps(change(document) or document).encode()

    return of


# --- S4, S5: code that an archive names --------------------------------------------------------------


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the current folder; the file appears when its function is called."""
    work = tmp_path / "downloads"
    work.mkdir()
    (work / "payload_of_test.py").write_text(f"def go():\n    open({str(work / 'CALLED')!r}, 'w').close()\n")
    monkeypatch.chdir(work)
    yield work / "CALLED"
    sys.modules.pop("payload_of_test", None)


ORIGINS = [
    {"kind": "factory", "spec": "payload_of_test:go"},
    {"kind": "sample", "name": "payload_of_test:go"},
    {"kind": "factory", "spec": "os:abort"},
    {"kind": "sample", "name": "residual_block"},
    {"kind": "factory", "spec": "payload_of_test:go", "imported": {"archive": "x", "trust": True}},
    {"kind": "factory", "spec": "payload_of_test:go", "imported": None},
]


@pytest.mark.parametrize("origin", ORIGINS)
def test_code_that_an_archive_names_is_not_run(
    archive: Path, victim: Store, tmp_path: Path, payload: Path, origin: dict[str, Any]
) -> None:
    bad = rewritten(archive, tmp_path / "bad.zip", head=lambda h: h["models"]["m"].update(origin=origin))
    session = Session.from_archive(bad, store=victim)
    for ask in (
        lambda: session.build("m", shapes={"x": "7x8"}, **FAKE),
        lambda: session.torch.partition("m", method="torch_tensorrt"),
        lambda: session.build(session.models["m"], shapes={"x": "7x8"}, **FAKE),
    ):
        with pytest.raises(WorkbenchError) as told:
            ask()
        assert told.value.code == "untrusted"
        assert "session.models.trust('m')" in str(told.value.hint)
        assert "workbench trust m" not in str(told.value.hint)
        assert "workbench trust m" in str(told.value.shell_hint)
    assert session.build("m", **FAKE).plan.layers  # as it is: no code is needed
    assert not payload.exists()
    session.close()
    # It is remembered: with the session, and through another archive.
    again = Session(session.name, store=victim)
    second = again.files.export(tmp_path / "second.zip")
    for opened in (again, Session.from_archive(second, "third", store=victim)):
        assert not trusted(opened.models["m"])
        with pytest.raises(WorkbenchError) as told:
            opened.build("m", shapes={"x": "7x8"}, **FAKE)
        assert told.value.code == "untrusted"
        opened.close()
    assert not payload.exists()


@pytest.mark.parametrize("how", ["import", "name"])
def test_code_of_an_archive_is_run_once_it_is_trusted(
    archive: Path, victim: Store, tmp_path: Path, payload: Path, how: str
) -> None:
    origin = {"kind": "factory", "spec": "payload_of_test:go"}
    bad = rewritten(archive, tmp_path / "bad.zip", head=lambda h: h["models"]["m"].update(origin=origin))
    with contextlib.closing(Session.from_archive(bad, store=victim, trust=how == "import")) as session:
        if how == "name":
            session.models.trust("m")
        with pytest.raises(WorkbenchError) as told:
            session.build("m", shapes={"x": "7x8"}, **FAKE)
        assert told.value.code != "untrusted"  # it was asked for a module, and gave none
    with contextlib.closing(Session(session.name, store=victim)) as again:
        assert trusted(again.models["m"])
    assert payload.exists()


def test_a_name_in_an_archive_is_not_taken_for_code(
    archive: Path, victim: Store, tmp_path: Path, payload: Path
) -> None:
    """A name that the session does not know is looked for as a file, a sample, a factory."""

    def name(head: dict[str, Any]) -> None:
        head["models"] = {"payload_of_test:go": head["models"].pop("m")}
        head["engines"][0]["model"] = "payload_of_test:go"

    bad = rewritten(archive, tmp_path / "bad.zip", head=name)
    with contextlib.closing(Session.from_archive(bad, store=victim)) as session:
        assert list(session.models) == ["payload_of_test-go"] == [e.model for e in session.engines]
        session.models.remove("payload_of_test-go")
        with pytest.raises(WorkbenchError):
            session.build(session.engines[0].model, **FAKE)
    alone = rewritten(archive, tmp_path / "alone.zip", head=lambda h: (name(h), h.update(models={})))
    with contextlib.closing(Session.from_archive(alone, "alone", store=victim)) as session:
        assert [e.model for e in session.engines] == ["payload_of_test-go"]
    assert not payload.exists()


def test_an_engine_of_an_archive_is_not_run(archive: Path, victim: Store, able: None) -> None:
    with contextlib.closing(Session.from_archive(archive, store=victim)) as session:
        [engine] = session.engines
        for ask in (
            engine.open,
            lambda: engine.run({}),
            session.measure.profile,
            lambda: session.measure.start_profile(engine),
        ):
            with pytest.raises(StoreError) as told:
                ask()
            assert told.value.code == "untrusted"
            assert engine.id in str(told.value.hint)
        assert not engine.trusted
        session.engines.trust(engine.id)
        assert session.engines.find(engine.key).trusted
        assert victim.standing(engine.key) == "imported"  # its seal was renewed with it
        with pytest.raises(WorkbenchError) as told:
            session.engines.find(engine.key).run({})
        assert told.value.code != "untrusted"


def test_trust_from_the_shell(archive: Path, cli: Callable[..., Any]) -> None:
    done = cli("import", archive)
    assert done.returncode == 0, done.stderr
    with contextlib.closing(Session("gift")) as session:
        [engine] = session.engines
        assert not trusted(session.models["m"])
        for name in ("m", engine.id):
            assert cli("trust", name, "--session", "gift").returncode == 0
        assert trusted(session.models["m"])
        assert session.engines.find(engine.key).trusted
    assert cli("trust", "nobody", "--session", "gift").returncode == 1
    done = cli("import", "--trust", "--session", "all", archive)
    assert done.returncode == 0
    with contextlib.closing(Session("all")) as session:
        assert trusted(session.models["m"])


# --- S6: planted engines -----------------------------------------------------------------------------


def test_an_archive_plants_no_engine_for_a_later_build(archive: Path, victim: Store, tmp_path: Path) -> None:
    def plan(document: dict[str, Any]) -> None:
        document["summary"]["launches_after"] = 1

    bad = rewritten(archive, tmp_path / "bad.zip", files={"/engine": lambda _: b"EVIL", "plan.json": as_json(plan)})
    with contextlib.closing(Session.from_archive(bad, store=victim)) as theirs:
        [planted] = theirs.engines
        assert planted.key.startswith("imported-")
        assert victim.standing(planted.key) == "imported"
        assert planted.plan.summary["launches_after"] == 1  # it is shown, as what it is
        assert planted.archive == "bad.zip"
    with contextlib.closing(Session("mine", store=victim)) as mine:
        got = mine.build(tmp_path / "files" / "m.onnx", **FAKE)
        assert not got.cached
        assert got.path.read_bytes() == b"fake"
        assert got.plan.summary["launches_after"] != 1
        assert (got.trusted, got.archive) == (True, None)
        assert mine.build(tmp_path / "files" / "m.onnx", **FAKE).cached


def test_an_archive_of_this_very_store_gives_its_builds_back(tmp_path: Path, victim: Store) -> None:
    small = save(mlp(), tmp_path / "m.onnx")
    with contextlib.closing(Session("mine", store=victim)) as mine:
        built = mine.build(small, **FAKE)
        path = mine.files.export(tmp_path / "mine.zip")
    shutil.rmtree(built.folder)
    with contextlib.closing(Session.from_archive(path, "again", store=victim)) as again:
        assert [e.key for e in again.engines] == [built.key]
        assert (again.engines[0].trusted, trusted(again.models["m"])) == (True, True)
        assert again.build(small, **FAKE).cached
    changed = rewritten(
        path, tmp_path / "changed.zip", head=lambda h: h["selection"]["ids"].append("x"), checksums=True
    )
    with contextlib.closing(Session.from_archive(changed, "changed", store=victim)) as other:
        assert other.engines[0].key.startswith("imported-")
        assert not trusted(other.models["m"])


def test_an_archive_can_not_name_a_file_of_this_machine_as_its_model(
    archive: Path, victim: Store, tmp_path: Path
) -> None:
    secret = save(mlp(), tmp_path / "secret.onnx")

    def build(document: dict[str, Any]) -> None:
        document["model"]["path"] = document["original"] = str(secret)

    bad = rewritten(archive, tmp_path / "bad.zip", files={"build.json": as_json(build)})
    with contextlib.closing(Session.from_archive(bad, store=victim)) as session:
        source = session.engines[0].source()
        for model in (source, source.original):
            assert model is not None
            assert model.path.is_relative_to(victim.path)
        assert session.engines.rebuild(session.engines[0], compiler="fake").plan.layers


def test_an_archive_does_not_replace_what_the_session_has(archive: Path, victim: Store, tmp_path: Path) -> None:
    from tests.support.small_models import chain

    mine = Session("gift", store=victim)
    own = mine.add(save(chain(["a"]), tmp_path / "m.onnx"))
    mine.selection = "a"
    with contextlib.closing(Session.from_archive(archive, store=victim)) as apart:
        assert apart.name == "gift-2"  # a stranger does not choose one of my sessions
        assert set(apart.models) == {"m"}
    assert set(mine.models) == {"m"}
    with contextlib.closing(Session.from_archive(archive, "gift", store=victim)) as both:
        assert set(both.models) == {"m", "m-2"}
        assert both.models["m"].path == own.path
        assert both.engines[0].model == "m-2"
        assert both.selection.ids == ("a",)
    Session.from_archive(archive, "gift", store=victim).close()  # the same once more
    assert set(mine.models) == {"m", "m-2"}
    mine.close()


# --- S7: bombs ---------------------------------------------------------------------------------------


def padded(source: Path, target: Path, name: str, size: int, *, keep: bool = True) -> Path:
    """A copy with `size` more bytes: zeros in a separate file, or spaces after ``session.json``."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == name:
                with new.open(entry.filename, "w") as file:
                    file.write(data + b" " * size)
            else:
                new.writestr(entry.filename, data)
        if keep:
            with new.open("models/zero", "w") as file:
                for _ in range(size >> 20):
                    file.write(bytes(1 << 20))
    return target


def test_a_bomb_is_refused_before_it_is_unpacked(archive: Path, victim: Store, tmp_path: Path) -> None:
    bomb = padded(archive, tmp_path / "bomb.zip", "", 300 << 20)
    assert bomb.stat().st_size < 1 << 20
    error = refused(bomb, victim)
    assert error.code == "limit-archive-ratio"
    assert "WORKBENCH_LIMIT_ARCHIVE_RATIO" in str(error.hint)


LIMITS = {
    "ARCHIVE_BYTES": "1000",
    "ARCHIVE_ENTRIES": "3",
    "ARCHIVE_HEAD_BYTES": "100",
}


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_has_a_name_and_a_way_to_raise_it(
    archive: Path, victim: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"WORKBENCH_LIMIT_{name}", LIMITS[name])
    error = refused(archive, victim)
    assert isinstance(error, LimitError)
    assert error.code == f"limit-{name.lower().replace('_', '-')}"
    assert f"WORKBENCH_LIMIT_{name}" in str(error.hint)
    monkeypatch.delenv(f"WORKBENCH_LIMIT_{name}")
    Session.from_archive(archive, store=victim).close()


def test_an_archive_that_says_it_is_smaller_than_it_is(archive: Path, victim: Store, tmp_path: Path) -> None:
    """The declared size of an entry is set to one byte; whatever is made of that, it is refused."""
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        names = [e.filename for e in file.infolist() if e.filename.endswith("plan.json")]
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        length = struct.unpack_from("<H", data, at + 28)[0]
        if bytes(data[at + 46 : at + 46 + length]).decode() in names:
            struct.pack_into("<I", data, at + 24, 1)
        at += 4
    bad = tmp_path / "bad.zip"
    bad.write_bytes(data)
    assert refused(bad, victim).code == "damaged-archive"


def test_bytes_are_counted_while_they_are_unpacked() -> None:
    import io

    from workbench.session.archive.unpack import _copy

    out = io.BytesIO()
    assert _copy(io.BytesIO(b"12345"), out, 5, "It")[0] == 5
    with pytest.raises(LimitError) as told:
        _copy(io.BytesIO(bytes(10 << 20)), io.BytesIO(), 5, "It")
    assert told.value.code == "limit-archive-bytes"


def test_a_deeply_nested_session_json(archive: Path, victim: Store, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(tmp_path / "bad.zip", "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, b"[" * 1_000_000 if entry.filename == "session.json" else old.read(entry))
    assert refused(tmp_path / "bad.zip", victim).code == "damaged-archive"


# --- S8: what is in an archive is checked -------------------------------------------------------------


def drop(_: bytes) -> None:
    return None


DAMAGE: dict[str, dict[str, Callable[[bytes], bytes | None]]] = {
    "plan: no JSON": {"plan.json": lambda d: d[: len(d) // 2]},
    "plan: a list": {"plan.json": lambda _: b"[]"},
    "plan: nested": {"plan.json": lambda _: b'{"a":' * 100_000},
    "plan: other schema": {"plan.json": as_json(lambda d: {**d, "schema": "workbench.plan/7"})},
    "plan: a layer without a name": {"plan.json": as_json(lambda d: d["layers"][0].pop("name") and None)},
    "plan: text for bytes": {"plan.json": as_json(lambda d: d["layers"][0].update(bytes_read="9"))},
    "plan: NaN": {"plan.json": as_json(lambda d: d["summary"].update(flops=float("nan")))},
    "plan: another model": {"plan.json": as_json(lambda d: d["model"].update(sha256="0" * 64))},
    "plan: a layer twice": {"plan.json": as_json(lambda d: d["layers"].append(d["layers"][0]))},
    "plan: none": {"plan.json": drop},
    "build: no JSON": {"build.json": lambda d: d[:-3]},
    "build: another key": {"build.json": as_json(lambda d: d.update(key="0" * 64))},
    "build: no config": {"build.json": as_json(lambda d: d.update(config={"compiler": 3}))},
    "build: an unknown option": {"build.json": as_json(lambda d: d["config"].update(hocus=1))},
    "build: time": {"build.json": as_json(lambda d: d.update(created="now"))},
    "build: seconds": {"build.json": as_json(lambda d: d.update(seconds=[1]))},
    "build: none": {"build.json": drop},
    "record: no JSON": {"record.json": lambda d: d[: len(d) // 2]},
    "record: layers": {"record.json": as_json(lambda d: d.update(layers={}))},
    "record: a name": {"record.json": as_json(lambda d: d["layers"][0].update(name=3))},
    "record: other size": {"record.json": as_json(lambda d: d.update(engine_bytes=10**9))},
    "record: none": {"record.json": drop},
    "engine: cut": {"/engine": lambda d: d[:-1]},
    "engine: none": {"/engine": drop},
    "model: changed": {".onnx": lambda d: d[:-1] + bytes([d[-1] ^ 1])},
    "model: cut": {".onnx": lambda d: d[: len(d) // 2]},
    "model: none": {".onnx": drop},
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_in_an_archive(archive: Path, victim: Store, tmp_path: Path, kind: str) -> None:
    bad = rewritten(archive, tmp_path / "bad.zip", files=DAMAGE[kind])
    assert refused(bad, victim).code == "damaged-archive"


def test_a_changed_engine_does_not_fit_the_checksum(archive: Path, victim: Store, tmp_path: Path) -> None:
    bad = rewritten(archive, tmp_path / "bad.zip", files={"/engine": lambda _: b"EVIL"}, checksums=True)
    assert refused(bad, victim).code == "damaged-archive"


def test_a_damaged_profile_in_an_archive(archive: Path, victim: Store, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        folder = next(n for n in file.namelist() if n.endswith("/engine")).removesuffix("engine")
    texts = ["[]", "{", '{"latency": NaN}', '{"schema": "x"}', '{"layer_iterations": "many"}']
    for number, text in enumerate(texts):
        bad = rewritten(archive, tmp_path / f"{number}.zip")
        with zipfile.ZipFile(bad, "a") as file:
            file.writestr(f"{folder}profiles/17.json", text)
        assert refused(bad, victim).code == "damaged-archive"


HEADS: dict[str, Callable[[dict[str, Any]], object]] = {
    "origin is a text": lambda h: h["models"]["m"].update(origin="x"),
    "kind is a number": lambda h: h["models"]["m"].update(origin={"kind": 3}),
    "quantize without a scheme": lambda h: h["models"]["m"].update(origin={"kind": "quantize"}),
    "a scheme that is none": lambda h: h["models"]["m"].update(
        origin={
            "kind": "quantize",
            "source": "0" * 64,
            "scheme": {"to": "int1"},
            "left": {},
            "quantized": [],
            "pairs": 0,
        }
    ),
    "a calibration elsewhere": lambda h: h["models"]["m"].update(origin={"kind": "proto", "calibration": "../../x"}),
    "NaN among ranges": lambda h: h["models"]["m"].update(origin={"kind": "x", "ranges": {"a": float("nan")}}),
    "a name with an escape": lambda h: h["models"].update({"\x1b[2J": h["models"].pop("m")}),
    "an empty name": lambda h: h["models"].update({"": h["models"].pop("m")}),
    "a long name": lambda h: h["models"].update({"x" * 9999: h["models"].pop("m")}),
    "a surrogate": lambda h: h["selection"].update(ids=["\ud800"]),
    "an unknown field": lambda h: h["selection"].update(kind="planet"),
    "models is a list": lambda h: h.update(models=[]),
    "a key that is none": lambda h: h["engines"][0].update(key="imported-x"),
    "a key with a line break": lambda h: h["engines"][0].update(key=h["engines"][0]["key"] + "\n"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_session_json_of_wrong_types(archive: Path, victim: Store, tmp_path: Path, kind: str) -> None:
    assert refused(rewritten(archive, tmp_path / "bad.zip", head=HEADS[kind]), victim).code == "damaged-archive"


def test_a_file_twice(archive: Path, victim: Store) -> None:
    with zipfile.ZipFile(archive) as file:
        name = next(n for n in file.namelist() if n.endswith("/engine"))
    with zipfile.ZipFile(archive, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr(name, "EVIL")
    assert refused(archive, victim).code == "damaged-archive"


def test_what_an_archive_does_not_list_is_not_unpacked(archive: Path, victim: Store, tmp_path: Path) -> None:
    bad = rewritten(archive, tmp_path / "bad.zip")
    with zipfile.ZipFile(bad) as file:
        model = next(n for n in file.namelist() if n.endswith(".onnx")).rpartition("/")[0]
        folder = next(n for n in file.namelist() if n.endswith("/engine")).rpartition("/")[0]
    with zipfile.ZipFile(bad, "a") as file:
        for name in ("secret", "locks/x.lock", f"{folder}/seal.json", f"{folder}/x.so", f"{model}/x.py", "builds/x"):
            file.writestr(name, "evil")
    with contextlib.closing(Session.from_archive(bad, store=victim)) as session:
        names = {f.name for f in victim.path.rglob("*")}
        assert not names & {"x.so", "x.py", "x", "x.lock"}
        assert (victim.path / "secret").read_bytes() != b"evil"
        assert (session.engines[0].folder / "seal.json").read_text() != "evil"


def test_every_entry_of_an_archive_may_be_damaged(archive: Path, victim: Store, tmp_path: Path) -> None:
    """A byte changed in each of many places: refused, or harmless, and never an error of another kind."""
    whole = archive.read_bytes()
    bad = tmp_path / "bad.zip"
    for place in range(7, len(whole), max(1, len(whole) // 60)):
        data = bytearray(whole)
        data[place] ^= 0x41
        bad.write_bytes(data)
        with contextlib.suppress(WorkbenchError):
            Session.from_archive(bad, store=victim).close()
    assert not list((victim.path / "tmp").iterdir())


def test_an_archive_that_is_not_read_leaves_nothing(tmp_path: Path, victim: Store) -> None:
    for number, data in enumerate([b"", b"PK\x05\x06" + bytes(18), b"PK\x03\x04", os.urandom(1000)]):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        assert refused(path, victim).code == "damaged-archive"
    assert refused(tmp_path / "absent.zip", victim).code == "no-file"


def test_an_export_that_ends_early_leaves_the_file_that_was_there(
    tmp_path: Path, victim: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.zip"
    target.write_text("precious")
    with contextlib.closing(Session("mine", store=victim)) as mine:
        mine.build(save(mlp(), tmp_path / "m.onnx"), **FAKE)

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(zipfile.ZipFile, "writestr", stop)
        with pytest.raises(KeyboardInterrupt):
            mine.files.export(target)
    assert target.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "out.zip", "victim"]


def test_an_engine_that_is_listed_twice_is_refused(archive: Path, victim: Store, tmp_path: Path) -> None:
    bad = rewritten(archive, tmp_path / "bad.zip", head=lambda head: head["engines"].extend(head["engines"]))
    assert refused(bad, victim).code == "damaged-archive"
