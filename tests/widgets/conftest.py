"""An engine of the fake compiler, built once; every test opens a session of its own on the same store."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import SAMPLES
from workbench import Session
from workbench.present.lens import Lens

pytest.importorskip("anywidget", reason="the views need anywidget: pip install 'trt-workbench[lab]'")
_count = itertools.count()


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("widgets-home")


@pytest.fixture
def built(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session with one engine, of `attention`; the engine itself comes from the cache after the first test."""
    monkeypatch.setenv("WORKBENCH_HOME", str(place))
    session = Session(f"s{next(_count)}")
    session.add(SAMPLES / "attention.onnx", name="attention")
    session.build("attention", compiler="fake")
    yield session
    session.close()


@pytest.fixture
def lens(built: Session) -> Lens:
    return Lens.of(built.engines[-1])
