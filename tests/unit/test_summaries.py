"""Listing engines reads no build twice, and shows what the builds are now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_models import mlp, save
from workbench import Engine, Session, build_folder
from workbench.core.errors import StoreError
from workbench.session import summaries

FAKE = {"compiler": "fake"}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return save(mlp(), tmp_path / "files" / "small.onnx")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the builds whose ``build.json`` is read."""
    found: list[str] = []
    real = summaries.load_engine

    def load(folder: Path, *arguments: Any, **options: Any) -> Engine:
        found.append(folder.name)
        return real(folder, *arguments, **options)

    monkeypatch.setattr(summaries, "load_engine", load)
    return found


def test_a_list_reads_each_build_once(session: Session, small: Path, reads: list[str]) -> None:
    one, two = session.build(small, **FAKE), session.build(small, **FAKE, optimization_level=1)
    listed = session.engines[:]
    assert [e.key for e in listed] == [one.key, two.key]
    assert [(e.config, e.created, e.seconds, e.model) for e in listed] == [
        (e.config, e.created, e.seconds, e.model) for e in (one, two)
    ]
    reads.clear()
    assert session.engines[:] == listed
    assert session.engines.find(two.key[:12]) == listed[1]
    assert session.engines.current == listed[1]
    assert len(session.engines) == 2
    assert reads == []
    frame = session.engines.to_frame()
    assert sorted(reads) == sorted([one.key, two.key])  # the totals of the plans, for the first time
    assert frame["nodes"].tolist() == [e.plan.summary["nodes"] for e in listed]
    reads.clear()
    assert session.engines.to_frame().equals(frame)
    other = Session("other")
    other.build(small, **FAKE)
    assert [e.key for e in other.engines] == [one.key]
    assert reads == []
    other.close()


def test_a_build_that_is_removed_renewed_or_changed(session: Session, small: Path, reads: list[str]) -> None:
    one, two = session.build(small, **FAKE), session.build(small, **FAKE, optimization_level=1)
    assert len(session.engines[:]) == 2
    note = {**build_folder.note_in(one.folder), "created": 7.0}
    session.store.replace_in_build(one.folder, {"build.json": json.dumps(note).encode()})
    reads.clear()
    assert [e.created for e in session.engines] == [7.0, two.created]
    assert reads == [one.key]
    shutil.rmtree(two.folder)
    assert [e.key for e in session.engines] == [one.key]
    assert session.engines.current is not None
    assert session.engines.current.key == one.key
    (one.folder / "build.json").write_text(json.dumps({**note, "created": 8.0}))  # not by the store
    with pytest.raises(StoreError) as info:
        session.engines[:]
    assert info.value.code == "damaged"


def test_a_summary_does_not_make_a_foreign_build_valid(session: Session, small: Path) -> None:
    engine = session.build(small, **FAKE)
    assert len(session.engines[:]) == 1
    seal = json.loads((engine.folder / "seal.json").read_text())
    (engine.folder / "seal.json").write_text(json.dumps({**seal, "mac": "0" * 64}))
    assert not session.engines
    with pytest.raises(StoreError) as info:
        session.engines.find(engine.key)
    assert info.value.code == "foreign-build"


def test_a_store_that_lost_its_secret_trusts_no_summary(home: Path, small: Path) -> None:
    session = Session("test")
    session.build(small, **FAKE)
    assert len(session.engines[:]) == 1
    session.close()
    (home / "secret").unlink()
    session = Session("test")
    assert not session.engines
    session.close()
