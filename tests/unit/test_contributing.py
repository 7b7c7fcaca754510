"""CONTRIBUTING.md names files that exist and commands that `make` knows."""

from __future__ import annotations

import re

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.tiny
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
TABLE = TEXT.split("## Where")[1].split("\n##")[0]
TASKS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", TABLE, re.MULTILINE)[1:]  # without the head
PENDING: set[str] = set()
"""Files that are named before they are there. A file that is there must not stand here."""


def test_ten_tasks_are_listed() -> None:
    assert len(TASKS) == 10


@pytest.mark.parametrize(("task", "edit", "test"), TASKS)
def test_a_task_names_files_that_exist(task: str, edit: str, test: str) -> None:
    places = re.findall(r"`((?:workbench|tests)/[^`]+)`", f"{edit} {test}")
    assert places, task
    for place in places:
        found = list(ROOT.glob(re.sub(r"<\w+>", "*", place)))
        assert bool(found) == (place not in PENDING), place


def test_pending_files_are_named() -> None:
    assert [place for place in PENDING if f"`{place}`" not in TEXT] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_of_make_exist(name: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ *|`)make ([a-z][\w-]*)", (ROOT / name).read_text(), re.MULTILINE))
    assert named
    assert named <= targets, named - targets


def test_the_style_page_has_twenty_pairs() -> None:
    rows = re.findall(r"^\| .+ \| .+ \|$", TEXT.split("Twenty changes")[1], re.MULTILINE)
    assert len(rows) - 1 == 20
