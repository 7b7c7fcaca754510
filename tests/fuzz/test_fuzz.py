"""A few thousand mutated inputs for every reader; ``python -m tests.fuzz --count 500000`` tries as many as there is time for."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import run
from tests.fuzz.mutate import fields, message, mutated
from tests.fuzz.readers import READERS
from workbench.core.errors import WorkbenchError

pytest.importorskip("PIL")
pytest.importorskip("plotly")

SEED = 20261129
FAST = [name for name, each in READERS.items() if each.weight == 1.0]
SLOW = [name for name in READERS if name not in FAST]


@pytest.mark.parametrize("name", list(READERS))
def test_every_seed_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))  # some readers set it; it is restored after the test
    read = 0
    for i, data in enumerate(READERS[name].seeds()):
        folder = tmp_path / str(i)
        folder.mkdir()
        try:
            READERS[name].read(data, folder)
            read += 1
        except WorkbenchError:
            continue  # some seeds are refused: too few samples, a profile of another engine
    assert read * 2 >= len(READERS[name].seeds()) > 0 or name in {"labels", "npy"}


def test_there_are_at_least_nineteen_readers() -> None:
    assert len(READERS) >= 19


def test_no_input_ends_in_a_raw_exception(tmp_path: Path) -> None:
    """Failing inputs are made again by ``python -m tests.fuzz --show READER NUMBER``."""
    print(f"seed {SEED}")
    found = run.merged([run.run_chunk(SEED, FAST, 0, 110, tmp_path), run.run_chunk(SEED, SLOW, 0, 12, tmp_path)])
    assert sum(found.tried.values()) >= 2000
    assert not found.failures, "\n".join(f"{f.reader} {f.number}: {f.site}: {f.what}" for f in found.failures[:20])


def test_the_harness_sees_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes, _folder: Path) -> object:
        if b"slow" in data:
            while True:
                pass
        if b"large" in data:
            return len(bytearray(b"x" * (13 * 10**8)))
        if b"ours" in data:
            raise WorkbenchError("refused")
        if b"no" in data:
            raise WorkbenchError("refused", details={"a": object()})
        return {}[data]

    monkeypatch.setitem(READERS, "planted", run.READERS["error"].__class__("planted", lambda: [b"x"], read))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with run.watched():
        assert run.try_one("planted", b"ours", tmp_path) is None
        assert "KeyError" in (run.try_one("planted", b"x", tmp_path) or ("", ""))[1]
        assert "TooSlowError" in (run.try_one("planted", b"slow", tmp_path, 0.2) or ("", ""))[1]
        assert "error of WorkbenchError" in (run.try_one("planted", b"no", tmp_path) or ("", ""))[1]
        assert (run.try_one("planted", b"large", tmp_path) or ("", ""))[1] == "memory"
        site = (run.try_one("planted", b"x", tmp_path) or ("", ""))[1]
        assert len(run.minimized("planted", b"0123456789", site)) == 0
    # The limits are not those of the tests that follow.
    assert resource.getrlimit(resource.RLIMIT_AS) == limits


def test_inputs_follow_from_the_seed() -> None:
    assert run.input_of(1, "listing", 7) == run.input_of(1, "listing", 7)
    assert len({run.input_of(1, "calibration", n) for n in range(30)}) > 25
    for name, each in READERS.items():
        changed = sum(mutated(Random(n), each.seeds(), each.mutators) not in each.seeds() for n in range(20))
        assert changed >= 10, name


def test_messages_are_taken_apart_and_put_together() -> None:
    data = READERS["onnx"].seeds()[0]
    entries = fields(data)
    assert entries
    assert message(entries) == data
    assert fields(b"\xff\xff") is None
    assert json.dumps([number for number, _, _ in entries])
