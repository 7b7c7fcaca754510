"""Which source text is read: what was kept with the model, and what the user named. Nothing else that a model names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support import needs_torch
from tests.support.small_models import mlp, save
from workbench import Session
from workbench.core.errors import ModelError
from workbench.model.model import Model
from workbench.model.provenance import Source, Sources, collect_sources, keep_sources, kept_sources
from workbench.present import wire
from workbench.present.lens import Lens

SECRET = "".join(f"line {i}: secret {i}\n" for i in range(1, 30))


def naming(path: Path, file: str, line: int = 5, code: str = "") -> Path:
    made = mlp()
    for node in made.graph.node:
        node.metadata_props.add(
            key="pkg.torch.onnx.stack_trace", value=f'File "{file}", line {line}, in forward\n    {code}\n'
        )
    return save(made, path)


def shown(path: Path) -> str:
    lens = Lens.of_model(Model("m", path))
    assert lens.graph is not None
    return json.dumps([wire.details(lens, "node", n.id) for n in lens.graph.nodes])


@pytest.mark.parametrize("relative", [False, True])
def test_a_file_that_a_model_names_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool, session: Session
) -> None:
    (tmp_path / "secret.txt").write_text(SECRET)
    monkeypatch.chdir(tmp_path)
    path = naming(tmp_path / "m.onnx", "secret.txt" if relative else str(tmp_path / "secret.txt"))
    text = shown(path)
    assert "secret 5" not in text
    session.build(path, compiler="fake")
    page = session.report(tmp_path / "r.html")
    assert b"secret 5" not in page.read_bytes()
    assert session.models["m"].provenance  # file and line are known all the same


def test_files_below_a_folder_that_the_user_named_are_read_and_stay_out_of_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "part.py").write_text(SECRET)
    monkeypatch.setenv("WORKBENCH_SOURCES", str(tmp_path))
    for file in (str(tmp_path / "net" / "part.py"), "net/part.py", "/home/other/src/net/part.py"):
        path = naming(tmp_path / "m.onnx", file, 5, "line 5: secret 5")
        assert "secret 6" in shown(path)
    lens = Lens.of_model(Model("m", path))
    assert "secret 6" not in json.dumps(wire.details(lens.for_report(), "node", "mm1"))
    # A file that has changed since is not shown as if it were the same.
    assert "secret 6" not in shown(naming(tmp_path / "m.onnx", "net/part.py", 5, "something else"))


def test_only_small_regular_text_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "in", tmp_path / "secret.py"
    inside.mkdir()
    outside.write_text(SECRET)
    (inside / "link.py").symlink_to(outside)
    os.mkfifo(inside / "pipe.py")
    (inside / "binary.py").write_bytes(b"a\n" * 20 + b"\0")
    (inside / "latin.py").write_bytes(b"\xe4\n" * 20)
    (inside / "large.py").write_text("x = 1\n" * 1000)
    (inside / "folder.py").mkdir()
    (inside / "good.py").write_text(SECRET)
    monkeypatch.setenv("WORKBENCH_LIMIT_SOURCE_BYTES", "2000")
    sources = Sources(folders=(inside,))
    for name in (
        "link.py",
        "pipe.py",
        "binary.py",
        "latin.py",
        "large.py",
        "folder.py",
        "../secret.py",
        "/dev/zero",
        "a\0b",
        "x" * 9000,
    ):
        assert sources.lines(Source(file=name, line=5)) is None, name
        assert sources.lines(Source(file=str(inside / name), line=5)) is None, name
    assert sources.lines(Source(file="good.py", line=5)) == ("good.py", 3, SECRET.splitlines()[2:7])
    assert sources.lines(Source(file="good.py", line=500)) is None


def test_text_is_kept_with_a_model_that_is_exported_here(tmp_path: Path) -> None:
    source = tmp_path / "net.py"
    source.write_text(SECRET)
    traces = [f'File "{source}", line {n}, in forward\n  x\n' for n in (2, 20)]
    keep_sources(tmp_path / "model.onnx", collect_sources(traces))
    source.unlink()
    sources = Sources(kept_sources(tmp_path / "model.onnx"))
    assert sources.lines(Source(file=str(source), line=20)) == (str(source), 18, SECRET.splitlines()[17:22])
    assert sources.lines(Source(file=str(source), line=2)) == (str(source), 1, SECRET.splitlines()[:4])
    assert sources.lines(Source(file=str(source), line=10)) is None  # not around a line that a node comes from
    assert collect_sources(['File "/dev/zero", line 1, in f\n']) == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": {"x": "y"}}', "[" * 100_000])
def test_damaged_text_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.sources.json").write_text(text)
    with pytest.raises(ModelError) as info:
        kept_sources(tmp_path / "m.onnx")
    assert info.value.code == "sources-damaged"
    path = naming(tmp_path / "m.onnx", "net.py", 5, "the line")
    assert "m.sources.json can't be read" in shown(path)  # the model is shown all the same
    assert "the line" in shown(path)


@needs_torch
def test_a_module_shows_its_lines_after_its_file_is_gone(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    import torch

    (tmp_path / "net_of_sources.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        y = x * 2\n"
        "        return torch.relu(y)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("net_of_sources").Net()
    model = session.add(module, inputs=(torch.ones(2, 3),), name="net")
    (tmp_path / "net_of_sources.py").unlink()
    assert (model.path.parent / "model.sources.json").is_file()
    lens = Lens.of_model(session.models["net"])
    assert lens.graph is not None
    (node,) = [n.id for n in lens.graph.nodes if n.op == "Relu"]
    for each in (lens, lens.for_report()):  # it is the user's own, and was kept on purpose
        (code,) = [s for s in wire.details(each, "node", node)["sections"] if s["type"] == "code"]
        assert code["lines"][-2:] == ["        y = x * 2", "        return torch.relu(y)"]


def test_a_sample_shows_its_own_lines() -> None:
    from workbench.model.sample_models import sample_folder

    model = Model("m", sample_folder() / "residual_block.onnx")
    lens = Lens.of_model(model)
    node = next(n for n, s in model.provenance.items() if s.file)
    (code,) = [s for s in wire.details(lens, "node", node)["sections"] if s["type"] == "code"]
    assert len(code["lines"]) > 1
