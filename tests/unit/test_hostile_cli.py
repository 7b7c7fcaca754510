"""Hostile command lines: whatever a user gives, ``workbench`` answers in its own words, with exit code 1 or 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import time_limit
from tests.support.commands import Ended, run_in_process, unseen
from tests.support.small_models import mlp, save

DATA = Path(__file__).parent.parent / "data"
ESCAPE = "\x1b[31m\u202e"
LONG = "x" * 5000

NOT_MODELS = [
    "MISSING", "FOLDER", "EMPTY", "TEXT", "CUT", "ZIP", "/dev/null", "/dev/zero", "~x.onnx", "~nobody/x.onnx", "", " ", ".", "..", "/", ESCAPE, f"{ESCAPE}.onnx",
    LONG, f"{LONG}.onnx", "\udcff.onnx", "nothing", "a b c", "=1+1", "-", "no-such-module:", ":f", "a:b:c", "LAYERS", "[bold]x[/]", "[/]",
]  # fmt: skip
NOT_SHAPES = [
    "x", "=", "=1x8", "x=", "x=x", "x=1x", "x=x8", "x=-1x8", "x=1x8:2x8", "x=4x8:2x8:1x8", "x=1x8x8", "x=1x9", "y=1x8", "x=1.5x8", "x=1e3x8", "x=½x8", "x=1x8,y=2",
    f"{ESCAPE}=1x8", f"x={'9' * 400}x8", f"x={'9' * 5000}x8", "x=1x8:1x8:1x8:1x8", f"x={'1x' * 3000}1", "x=nan", "x= x8", "x=[1,8]", "=x=1x8",
]  # fmt: skip

LINES: list[list[str]] = []
for bad in NOT_MODELS:
    LINES += [
        ["trtexec", bad], ["checks", bad, "-f", "json"], ["cast", bad, "--to", "fp16", "-o", "OUT"],
        ["quantize", bad, "-o", "OUT", "--to", "int4"],
    ]  # fmt: skip
LINES += [["placement", bad] for bad in NOT_MODELS[:9]]
LINES += [["audit", bad, "-t", "sm89"] for bad in NOT_MODELS[:9]]
LINES += [["partition", bad, "--method", "parser"] for bad in NOT_MODELS[:9]]
LINES += [["fusions", bad, "--compiler", "fake"] for bad in NOT_MODELS[:9]]
for bad in NOT_SHAPES:
    LINES += [["trtexec", "MODEL", "-s", bad], ["checks", "MODEL", "-s", bad]]
LINES += [["fusions", "MODEL", "--compiler", "fake", "-s", bad] for bad in NOT_SHAPES[:6]]
LINES += [["audit", "MODEL", "-s", bad] for bad in NOT_SHAPES[:6]]
LINES += [
    # what the shell refuses itself
    [], ["nothing"], ["--nothing"], ["fusions"], ["fusions", "a", "b"], ["cast", "MODEL"], ["cast", "MODEL", "--to", "fp16"], ["quantize"], ["samples", "x"],
    ["doctor", "-f", "xml"], ["fusions", "MODEL", "-f", "xml"], ["fusions", "MODEL", "-p", "fp7"], ["fusions", "MODEL", "--optimization-level", "abc"],
    ["fusions", "MODEL", "--time-limit", "soon"], ["cast", "MODEL", "--to", "fp32", "-o", "OUT"], ["quantize", "MODEL", "-o", "OUT", "--to", "int2"],
    ["quantize", "MODEL", "-o", "OUT", "--method", ESCAPE], ["quantize", "MODEL", "-o", "OUT", "--percentile", "much"], ["lab", "--port", "x"], ["calibration"],
    ["inspect"], ["trtexec", "MODEL", "--for", "ten"], ["trtexec", "MODEL", "--workspace", "1GB"], ["migrate"], ["bench"], ["env"], ["env", "nothing"],
    # options
    ["fusions", "MODEL", "--compiler", "nothing"], ["fusions", "MODEL", "--compiler", ESCAPE], ["fusions", "MODEL", "--compiler", "fake", "--optimization-level", "99"],
    ["fusions", "MODEL", "--compiler", "fake", "--optimization-level", "-1"], ["fusions", "MODEL", "--compiler", "fake", "--optimization-level", "9" * 30],
    ["fusions", "MODEL", "--estimate", "abacus"], ["fusions", "MODEL", "--estimate", ESCAPE], ["fusions", "MODEL", "--engine", "/nowhere/x"],
    ["fusions", "MODEL", "--engine", "FOLDER"], ["fusions", "MODEL", "--html", "FOLDER"], ["fusions", "MODEL", "--html", "MODEL"],
    ["fusions", "MODEL", "--engine", "OUT", "--html", "OUT"], ["fusions", "MODEL", "--html", LONG], ["fusions", "MODEL", "--session", "../x"],
    ["fusions", "MODEL", "--session", ""], ["fusions", "MODEL", "--session", LONG], ["fusions", "MODEL", "--session", ESCAPE], ["trtexec", "MODEL", "--session", "a/b"],
    ["trtexec", "MODEL", "--for", "9"], ["trtexec", "MODEL", "--for", "9" * 40], ["trtexec", "MODEL", "--workspace", "-1"], ["trtexec", "MODEL", "--optimization-level", "7"],
    ["partition", "MODEL", "--method", "nothing"], ["partition", "MODEL", "--method", ESCAPE],
    ["cast", "MODEL", "--to", "fp16", "-o", "FOLDER"], ["cast", "MODEL", "--to", "fp16", "-o", "MODEL"], ["cast", "MODEL", "--to", "fp16", "-o", "/nowhere/x.onnx"],
    ["cast", "MODEL", "--to", "fp16", "-o", LONG], ["cast", "MODEL", "--to", "fp16", "-o", "OUT", "--library", "onnxruntime"],
    ["cast", "MODEL", "--to", "fp16", "-o", "OUT", "--check", "MISSING"], ["cast", "MODEL", "--to", "fp16", "-o", "OUT", "--check", "TEXT"],
    ["cast", "MODEL", "--to", "fp16", "-o", "OUT", "--check", "random:0"], ["cast", "MODEL", "--to", "fp16", "-o", "OUT", "--library", "modelopt", "--only", "x"],
    *[["quantize", "MODEL", "-o", "OUT", "-c", data] for data in ("MISSING", "FOLDER", "TEXT", "EMPTY", "CUT", "LAYERS", "random:0", "random:-1", "random:x",
      "random:999999999999999", "random:" + "9" * 5000, "nothing:f", "~x.npz", LONG, ESCAPE, "sample", "", "/dev/zero", "NPY", "BADCACHE", "BADTRT", "OBJECTS", "BOMB")],
    ["quantize", "MODEL", "-o", "OUT", "--percentile", "0"], ["quantize", "MODEL", "-o", "OUT", "--percentile", "nan"], ["quantize", "MODEL", "-o", "OUT", "--percentile", "101"],
    ["quantize", "MODEL", "-o", "OUT", "--to", "int4", "--block", "0"], ["quantize", "MODEL", "-o", "OUT", "--to", "int4", "--block", "-5"],
    ["quantize", "MODEL", "-o", "OUT", "-c", "random:8", "--batches", "0"], ["quantize", "MODEL", "-o", "OUT", "-c", "random:8", "--batches", "-1"],
    ["quantize", "MODEL", "-o", "OUT", "--save-calibration", "OUT", "-c", "random:8"], ["quantize", "MODEL", "-o", "FOLDER", "-c", "random:8"], ["quantize", "MODEL", "-o", "OUT"],
    ["placement", "MODEL", "--kind", "nothing"], ["placement", "MODEL", "-o", "MODEL"], ["audit", "0123abcd"], ["audit", "MODEL", "-p", "fp7"], ["audit", "MODEL", "--asked", "fp3"],
    ["audit", "MODEL", "-t", "sm42"], ["audit", "ENGINE"],
    *[["calibration", file] for file in ("MISSING", "FOLDER", "EMPTY", "TEXT", "CUT", "LAYERS", "BADCACHE", "BADTRT", "/dev/zero", ESCAPE, LONG)],
    ["calibration", "CACHE", "MISSING"], ["calibration", "CACHE", "--tensorrt", "FOLDER"], ["calibration", "CACHE", "--tensorrt", "CACHE"], ["calibration", "CACHE", "--method", "x"],
    *[["inspect", file] for file in ("MISSING", "FOLDER", "EMPTY", "TEXT", "CUT", "PROFILE", "NESTED", "DIGITS", "MODEL", "/dev/zero", ESCAPE, LONG, "~x.json", "BADPLAN")],
    ["inspect", "LAYERS", "--profile", "LAYERS"], ["inspect", "LAYERS", "--profile", "MISSING"], ["inspect", "LAYERS", "--times", "PROFILE"], ["inspect", "LAYERS", "--metadata", "TEXT"],
    ["inspect", "LAYERS", "--model", "MISSING"], ["inspect", "LAYERS", "--model", "MODEL"], ["inspect", "LAYERS", "--html", "LAYERS"], ["inspect", "LAYERS", "--estimate", "x"],
    ["inspect", "LAYERS", "--profile", "PROFILE"],
    ["migrate", ""], ["migrate", ESCAPE], ["migrate", "--", "'"], ["migrate", "--", "--nothing=\x1b"], ["migrate", LONG],
    ["bench", "nothing"], ["bench", "digits", "--batch", "x"], ["bench", "digits", "--batch", "1,,2", "--ways", "x"], ["bench", "digits", "--precision", "x"], ["bench", "digits", "--ways", ESCAPE],
    ["bench", "digits", "--results", "TEXT"], ["bench", "digits", "--results", "NESTED"], ["bench", "digits", "--results", "BADBENCH"], ["bench", ESCAPE], ["bench", "digits", "--batch", "²"],
    ["bench", "digits", "--batch", ""], ["bench", "digits", "--batch", "9" * 5000],
    ["env", "create", "nothing"], ["env", "remove", "nothing"], ["env", "create", ESCAPE], ["env", "remove", "../x"],
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files that the lines name."""
    folder = tmp_path_factory.mktemp("hostile")
    layers = DATA / "inspector" / "trt10.json"
    model = save(mlp("batch"), folder / "model.onnx")
    np.save(folder / "a.npy", np.ones((3, 5), np.float32))
    np.save(folder / "o.npy", np.array([{"a": 1}]), allow_pickle=True)
    (folder / "FOLDER").mkdir()
    written = {
        "EMPTY": ("empty.onnx", b""), "TEXT": ("text.onnx", b"hello\n"), "CUT": ("cut.onnx", model.read_bytes()[:200]), "ZIP": ("zip.onnx", b"PK\x03\x04" + b"\0" * 40),
        "PROFILE": ("profile.json", json.dumps([{"count": 1}, {"name": ESCAPE, "timeMs": 1}]).encode()), "NESTED": ("nested.json", b"[" * 100_000),
        "DIGITS": ("digits.json", b'{"Layers": [{"Name": "a", "StreamId": ' + b"9" * 400 + b"}]}"), "ENGINE": ("a.engine", b"x"),
        "CACHE": ("good.cache", b"TRT-101300-EntropyCalibration2\nx: 3c010204\n"), "BADTRT": ("bad.cache", b"TRT-101300-EntropyCalibration2\nx: 7fc00000\n"),
        "BADCACHE": ("bad.json", b'{"schema": "workbench.calibration/1", "model": "m", "data": {}, "tensors": {"\x1b": {"top": NaN}}}'),
        "BADPLAN": ("plan.json", b'{"schema": "workbench.plan/1", "layers": [1]}'), "BADBENCH": ("bench.json", b'{"schema": "workbench.bench/1", "rows": [{}]}'),
        "BOMB": ("bomb.npy", b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,)}"),
    }  # fmt: skip
    for name, content in written.values():
        (folder / name).write_bytes(content)
    return {
        "MODEL": str(model), "MISSING": str(folder / "missing.onnx"), "FOLDER": str(folder / "FOLDER"), "LAYERS": str(layers), "OUT": str(folder / "out.onnx"),
        "NPY": str(folder / "a.npy"), "OBJECTS": str(folder / "o.npy"), **{key: str(folder / name) for key, (name, _) in written.items()},
    }  # fmt: skip


def fine(ended: Ended) -> None:
    """One short answer in our words on the right stream, and nothing that a terminal would obey."""
    assert ended.code in (1, 2), (ended.code, ended.err)
    assert "Traceback" not in ended.err
    assert "fault of the workbench" not in ended.err
    assert "bug in the workbench" not in ended.err
    assert ended.err.strip() or "Usage" in ended.out, ended.out
    if ended.code == 1:
        assert ended.out == ""
        assert ended.err.startswith("Error: "), ended.err
        assert not unseen(ended.err), ended.err
        assert len(ended.err) < 12_000


def test_there_are_enough_of_them() -> None:
    assert len({tuple(line) for line in LINES}) >= 200


@pytest.mark.parametrize(
    "line", LINES, ids=lambda line: " ".join(line).encode("unicode_escape", "surrogatepass").decode()[:70] or "nothing"
)
def test_a_hostile_line_is_answered(
    line: list[str], files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with time_limit(60):
        ended = run_in_process([files.get(word, word) for word in line])
    fine(ended)
    assert not Path(files["OUT"]).exists()
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "home"])


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A line of bash in which ``$W`` stands for workbench."""
    env = {**os.environ, "W": f"{sys.executable} -m workbench", **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, timeout=120, env=env, check=False)


@pytest.mark.parametrize(
    "command",
    [
        "$W samples | true",
        "$W samples -f json | head -c 1",
        "$W samples >&-",
        "$W samples 2>&-",
        "$W samples <&-",
        "$W migrate x >&- 2>&-",
    ],
)
def test_streams_that_are_closed(command: str) -> None:
    done = shell(f"set -o pipefail; {command}")
    assert done.returncode in (0, 1, 2), done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_arguments_and_terminals_of_other_encodings(files: dict[str, str], tmp_path: Path) -> None:
    done = shell("$W fusions $'/tmp/\\xff\\xfe.onnx'; $W inspect \"$L\" ", L=files["LAYERS"], PYTHONIOENCODING="ascii")
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert b"\\xff" in done.stderr
    (tmp_path / os.fsdecode(b"\xff.onnx")).write_bytes(Path(files["MODEL"]).read_bytes())
    done = shell(f"$W trtexec {tmp_path}/$'\\xff.onnx' -s x=1x8")
    assert b"Traceback" not in done.stderr
    assert done.returncode in (0, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_files_and_folders_without_permission(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(Path(files["MODEL"]).read_bytes())
    (tmp_path / "m.onnx").chmod(0)
    (tmp_path / "closed").mkdir(mode=0o500)
    for line in (["trtexec", str(tmp_path / "m.onnx")], ["inspect", str(tmp_path / "m.onnx")], ["calibration", str(tmp_path / "m.onnx")],
                 ["cast", files["MODEL"], "--to", "fp16", "-o", str(tmp_path / "closed" / "x.onnx")]):  # fmt: skip
        fine(run_in_process(line))
