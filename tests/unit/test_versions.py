"""A changed analysis renews kept plans; a changed record asks for a new `READING`."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import DATA, ROOT
from workbench import Session, build_folder, versions
from workbench.compilers.tensorrt.inspector import parse_inspection
from workbench.compilers.tensorrt.listing import parse_listing

RECORDS = {2: "05709b6180e6c9674ae240d5598bb0f41f2399a28f8ede244115f881be6c16cc"}
"""SHA-256 of what is read from the recorded listings and inspector files, by `READING`."""


def read_all() -> str:
    """SHA-256 of what is read from every recorded file."""
    found: dict[str, Any] = {}
    for path in sorted((DATA / "listings").glob("*/*.txt")):
        found[str(path.relative_to(DATA))] = dataclasses.asdict(parse_listing(path.read_text(), path.parent.name))
    for path in sorted((DATA / "inspector").glob("*.json")):
        found[str(path.relative_to(DATA))] = dataclasses.asdict(parse_inspection(path.read_text(), path.name))
    assert len(found) > 10
    return hashlib.sha256(json.dumps(found, sort_keys=True, default=str).encode()).hexdigest()


@pytest.mark.tiny
def test_a_changed_record_needs_a_new_number() -> None:
    assert max(RECORDS) == versions.READING
    assert RECORDS[versions.READING] == read_all(), "raise READING in workbench/versions.py and add its line to RECORDS"


def sources(module: str) -> Path | None:
    """The file of a module of workbench."""
    place = ROOT.joinpath(*module.split("."))
    return next((f for f in (place / "__init__.py", place.with_suffix(".py")) if f.is_file()), None)


def imported(module: str, file: Path) -> set[str]:
    """The modules of workbench that a file imports when it runs, also inside functions."""
    tree = ast.parse(file.read_text())
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in hidden and (node.module or "").startswith("workbench"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if sources(whole) else str(node.module))
    return found


@pytest.mark.tiny
def test_the_version_covers_every_module_that_makes_a_plan() -> None:
    seen: set[str] = set()
    todo = {"workbench.plan.assemble"}
    while todo:
        module = todo.pop()
        seen.add(module)
        file = sources(module)
        assert file is not None, module
        todo |= imported(module, file) - seen
    outside = {module for module in seen if not module.startswith(tuple(f"{p}." for p in versions.ANALYZING))}
    # The core carries errors, limits and jobs. It has no say in what a plan holds.
    assert {module for module in outside if not module.startswith("workbench.core")} <= set(versions.ANALYZING)


@pytest.mark.tiny
def test_the_version_changes_with_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "analyzed"
    place.mkdir()
    (place / "__init__.py").write_text("")
    (place / "one.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(versions, "ANALYZING", ("analyzed",))
    seen = set()
    for text in ("a = 1\n", "a = 2\n"):
        (place / "one.py").write_text(text)
        versions._hash.cache_clear()
        seen.add(versions.analysis({"compiler": "fake"}))
    (place / "two.py").write_text("")
    versions._hash.cache_clear()
    seen.add(versions.analysis({"compiler": "fake"}))
    assert len(seen) == 3
    versions._hash.cache_clear()


@pytest.mark.tiny
def test_each_compiler_has_its_version_and_an_unknown_one_too() -> None:
    found = [
        versions.analysis(config) for config in ({}, {"compiler": "onnxruntime"}, {"compiler": "no such compiler"})
    ]
    assert len(set(found)) == 3
    assert versions.analysis({}) == versions.analysis({"compiler": "tensorrt_rtx"})


def test_a_plan_of_another_version_is_made_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = session.build("pointwise_chain", compiler="fake")
    good = (engine.folder / "plan.json").read_bytes()
    assert build_folder.note_in(engine.folder)["analysis"] == versions.analysis({"compiler": "fake"})
    for old in (6, "another"):  # 0.1.0 wrote a number
        note = {**build_folder.note_in(engine.folder), "analysis": old}
        session.store.replace_in_build(
            engine.folder, {"plan.json": b"{}", "build.json": json.dumps(note).encode()}
        )  # fmt: skip
        again = session.build("pointwise_chain", compiler="fake")
        assert again.cached
        assert (engine.folder / "plan.json").read_bytes() == good
        assert build_folder.note_in(engine.folder)["analysis"] == versions.analysis({"compiler": "fake"})
