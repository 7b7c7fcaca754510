"""Names of strangers on terminals and in spreadsheets: shown as they are, never obeyed."""

from __future__ import annotations

import csv
import io
import json

import pandas as pd
import pytest

from tests.support.commands import unseen
from workbench.cli.options import console, warn, write, write_csv, write_json
from workbench.core.safe_text import cell, csv_text, json_text, visible, whole

pytestmark = pytest.mark.tiny
HOSTILE = [
    "\x1b[31mred", "\x1b]8;;https://elsewhere.example\x07link\x1b]8;;\x07", "\x9b2J", "back\b\b\b", "\rover", "\u202ereversed", "\u2066isolated\u2069",
    "zero\u200bwidth", "\ufefforder", "tag\U000e0041", "half\udcff", "half\ud800", "\x7f", "\x00", "line\u2028separator",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_terminal_would_obey_is_written_out(name: str) -> None:
    assert unseen(name)
    assert not unseen(visible(name))
    assert visible(name).encode()
    assert (
        visible("plain name/with:all-that [is] usual, é, 中文 and 🎉\tand\n")
        == "plain name/with:all-that [is] usual, é, 中文 and 🎉\tand\n"
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_messages_json_and_csv_hold_no_such_character(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(name))
    table.add_column(escape(name))
    table.add_row(f"[bold]{escape(name)}[/]")
    console().print(table)
    console().print(name, markup=False)
    console(stderr=True).print(f"[red]{escape(name)}[/]")
    write(name + "\n")
    warn(name)
    write_json({name: [name]}, indent=1)
    write_csv(pd.DataFrame([{name: name}]))
    out = capsys.readouterr()
    assert not unseen(out.out)
    assert not unseen(out.err)
    assert "\\x1b[31mred" in out.out or name != HOSTILE[0]


@pytest.mark.parametrize("name", HOSTILE)
def test_json_is_the_same_data(name: str) -> None:
    assert json.loads(json_text({name: [name, 1.5, None]})) == {name: [name, 1.5, None]}


def test_json_has_no_numbers_that_json_has_not() -> None:
    text = json_text({"a": [float("nan"), float("inf"), 1.0], "b": (-float("inf"),)})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, None, 1.0], "b": [None]}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "\n=1", "＝1"])
def test_a_cell_is_no_formula(text: str) -> None:
    frame = pd.DataFrame([{text: text, "n": -1, "f": -1.5}, {text: "a", "n": 2, "f": 0.5}])
    rows = list(csv.reader(io.StringIO(csv_text(frame))))
    assert rows[0][0] == rows[1][0] == visible(f"'{text}")
    assert rows[1][1:] == ["-1", "-1.5"]  # numbers stay numbers
    assert rows[2][0] == "a"
    assert cell(text).startswith("'")
    assert csv_text(pd.DataFrame(columns=["a"])) == "a\n"


def test_half_pairs_are_written_out_in_keys_and_values() -> None:
    assert whole({"a\udcff": ["\ud800", 1, {"b": "\x1b"}]}) == {"a\\xff": ["\\ud800", 1, {"b": "\x1b"}]}
