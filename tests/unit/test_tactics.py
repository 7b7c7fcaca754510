"""Tactics from build logs: wordings as full TensorRT has them, with made-up names and numbers."""

from __future__ import annotations

import pytest

from tests.support import needs_rtx, time_limit
from tests.support.tactic_logs import MODERN, OLD
from workbench import Session
from workbench.compilers.tensorrt.tactics import parse_tactics

pytestmark = pytest.mark.tiny


def test_tactics_tried_and_chosen() -> None:
    rows = parse_tactics(MODERN.splitlines(keepends=True))
    conv = "/conv (a)/Conv + /relu/Relu"
    assert [(r["layer"], r["tactic"][-2:], r["name"], r["time_ms"], r["chosen"]) for r in rows] == [
        (conv, "aa", "kernel_wide", 0.0521752, False),
        (conv, "bb", "kernel_small", 0.0413463, True),
        (conv, "01", "", 0.091, False),
        (conv, "cc", "kernel_half", 0.019, False),  # quickest, but the engine does not run it
        ("/gather", "01", "", 0.27, False),
        ("/gather", "07", "", 0.007, True),  # not in the listing, tried in one combination only
    ]
    assert [r["runner"] for r in rows[:3]] == ["CaskConvolution", "CaskConvolution", "CudnnConvolution"]
    assert rows[0]["formats"] == "Float(150,50,5,1) -> Float(190,30,5,1)"


def test_without_a_listing_several_combinations_leave_it_open() -> None:
    rows = parse_tactics(MODERN[: MODERN.index("[V] Layers:")].splitlines())
    assert [r["chosen"] for r in rows] == [False, False, False, False, False, True]


def test_a_name_in_the_listing_is_enough() -> None:
    rows = parse_tactics(MODERN.replace(", TacticValue: 0x00000000000000bb", "").splitlines())
    assert [r["name"] for r in rows if r["chosen"]] == ["kernel_small", ""]


def test_lines_of_trtexec() -> None:
    lines = [line.replace("[V] ", "[11/01/2026-10:32:48] [V] [TRT] ", 1) for line in MODERN.splitlines()]
    assert parse_tactics(lines) == parse_tactics(MODERN.splitlines())


def test_older_wording() -> None:
    rows = parse_tactics(OLD.replace("[TensorRT] VERBOSE: ", "[V] ").splitlines())
    assert [(r["layer"], r["tactic"], r["name"], r["time_ms"], r["chosen"]) for r in rows] == [
        ("conv1", "12", "old_kernel", 0.020576, False),
        ("conv1", "-9", "", 0.016768, True),
    ]


@pytest.mark.parametrize(
    ("head", "number"),
    [("[TensorRT] VERBOSE: ", ""), ("[TRT]    ", " Tactic: 12"), ("[01/02/2020-10:32:48] [V] [TRT] ", "")],
)
def test_heads_of_other_programs_and_names_without_numbers(head: str, number: str) -> None:
    """As the TensorRT 7 Python logger and NVIDIA's Jetson programs write them; a name is of the tactic that follows."""
    log = OLD.replace("[TensorRT] VERBOSE: ", head).splitlines()
    log[1:3] = [log[2], log[1].replace(" Tactic: 12", number)]
    assert [(r["tactic"], r["name"], r["chosen"]) for r in parse_tactics(log)] == [
        ("12", "old_kernel", False), ("-9", "", True),
    ]  # fmt: skip


@needs_rtx
def test_rtx_tells_of_none(session: Session) -> None:
    engine = session.build("residual_block", target="sm89")
    assert "Chose Runner Type" in engine.log
    assert engine.tactics == []


@pytest.mark.parametrize("time", ["1.2.3", "e", "-", "1e999", "..", "+"])
def test_a_time_that_is_no_number_is_passed_over(time: str) -> None:
    rows = parse_tactics(MODERN.replace("Time: 0.0521752", f"Time: {time}").splitlines(keepends=True))
    assert [r["tactic"][-2:] for r in rows] == ["bb", "01", "cc", "01", "07"]


LONG = [
    "*****" * 50_000 + " Autotuning Reformat: " + "*****" * 50_000 + " tactic", "=Computing costs for" * 50_000 + " actic" + "=" * 50_000, "[V] " * 100_000 + "actic",
    ("[V]" + " " * 20) * 20_000 + "actic", "a (b) Set Tactic Name: " * 50_000, "------ Timing Runner: " + " (" * 100_000, "Tactic: 1" * 100_000 + " Time",
    ">>>>> Chose Runner Type: " + "a Tactic: " * 100_000, "Name: " + ", LayerType" * 50_000 + " actic", "Tactic Name: " * 50_000,
]  # fmt: skip


@pytest.mark.parametrize("line", LONG, ids=range(len(LONG)))
def test_lines_made_to_take_long_take_as_long_as_others(line: str) -> None:
    with time_limit(20):
        assert len(parse_tactics([*MODERN.splitlines(keepends=True)[:5], line])) == 1
