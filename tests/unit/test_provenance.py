"""Stack traces and lists that an exporter wrote on nodes, and those that someone else did."""

from __future__ import annotations

import pytest

from tests.support import time_limit
from workbench.model.provenance import _frame, _strings

pytestmark = pytest.mark.tiny


def test_the_innermost_frame_that_is_not_torch_is_taken() -> None:
    trace = 'File "/a/net.py", line 3, in forward\n    x = self.a(x)\nFile "/lib/torch/nn/modules/linear.py", line 7, in g\n    y'
    assert _frame(trace) == ("/a/net.py", 3, "x = self.a(x)")
    assert _frame("") == ("", 0, "")


@pytest.mark.parametrize("number", ["9" * 10, "9" * 5000, "-1", "²", ""])
def test_line_numbers_that_can_not_be_are_no_frames(number: str) -> None:
    assert _frame(f'File "/a/net.py", line {number}, in forward\n    x') == ("", 0, "")


@pytest.mark.parametrize(
    "text",
    [
        'File "' * 200_000,
        'File "a", line 1, in f' + "\n " * 200_000,
        'File "a", line 1, in f\n' * 50_000,
        'File "' + "a" * 500_000,
        'File "a", line ' * 50_000,
    ],
)
def test_traces_made_to_take_long_take_as_long_as_others(text: str) -> None:
    with time_limit(20):
        assert len(_frame(text)) == 3


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "(" * 50_000,
        "-" * 50_000 + "1",
        "1" + "+1" * 20_000,
        "'" * 50_001,
        "{" * 9000,
        "[1",
        "\x00",
        "[" + "'a'," * 50_000 + "]",
        "9" * 5000,
        "{'a': 1}",
        "3",
    ],
)
def test_lists_that_are_none_are_empty(text: str) -> None:
    with time_limit(20):
        assert _strings(text) == ()


def test_lists_of_strings_are_read() -> None:
    assert _strings("['', 'a', \"b.c\"]") == ("", "a", "b.c")
