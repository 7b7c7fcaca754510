"""What the README shows of docs/results is what lies there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import draw_results
from workbench.core.limits import LIMITS

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_tables_are_those_of_the_data() -> None:
    shown = set(README.splitlines())
    lines = draw_results.table() + draw_results.quantized() + draw_results.h200()
    assert len(lines) > 30
    assert [line for line in lines if line not in shown] == []


def test_the_picture_is_that_of_the_data() -> None:
    assert draw_results.PICTURE.read_text() == draw_results.picture(), "python3 tests/benchmarks/draw_results.py"


@pytest.mark.parametrize("phrases", [draw_results.architectures, draw_results.h200_phrases])
def test_what_is_said_is_what_was_found(phrases: Callable[[], list[str]]) -> None:
    text = " ".join(README.split())
    assert [phrase for phrase in phrases() if phrase not in text] == []


def test_the_limits_are_listed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "trust.md").read_text()
    assert [n for n, (v, what) in LIMITS.items() if f"| `{n}` | {v:,.0f} | {what} |" not in text] == []
