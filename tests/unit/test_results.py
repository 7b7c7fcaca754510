"""What the README shows of docs/results is what lies there."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import draw_results

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_tables_are_those_of_the_data() -> None:
    shown = set(README.splitlines())
    lines = draw_results.table() + draw_results.quantized()
    assert len(lines) > 30
    assert [line for line in lines if line not in shown] == []


def test_the_picture_is_that_of_the_data() -> None:
    assert draw_results.PICTURE.read_text() == draw_results.picture(), "python3 tests/benchmarks/draw_results.py"


def test_what_is_said_of_architectures_is_what_was_found() -> None:
    text = " ".join(README.split())
    assert [phrase for phrase in draw_results.architectures() if phrase not in text] == []
