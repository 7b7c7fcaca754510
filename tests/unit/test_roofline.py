"""Estimates: the formula on numbers that can be checked on paper, and what the table must hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.plans import CARD
from workbench.analysis.roofline import (
    ERROR,
    QUANTIZED,
    Estimate,
    document,
    estimate,
    estimate_error,
    notes,
    total_ms,
)
from workbench.plan import Layer, Plan, PlanTensor

pytestmark = pytest.mark.tiny


def layer(kind: str = "gemm", dtype: str = "float16", **values: object) -> Layer:
    tensor = PlanTensor("x", (1,), dtype)
    made = Layer(id="a", name="a", title="a", type="t", kind=kind, nodes=(), evidence="none", inputs=(tensor,),
                 flops=16_000_000_000, bytes_read=300_000_000, bytes_written=200_000_000)  # fmt: skip
    return replace(made, **values)  # type: ignore[arg-type]


def test_the_larger_of_both_and_the_overhead() -> None:
    found = estimate(layer(), CARD, launch_seconds=1e-5)
    assert (found.compute_ms, found.memory_ms, found.overhead_ms) == (1.0, 0.5, 0.01)
    assert found.time_ms == pytest.approx(1.01)
    assert (found.bound, found.estimated, found.complete) == ("compute", True, True)
    assert found.efficiency is None
    memory = estimate(layer(bytes_read=3_000_000_000), CARD)
    assert (memory.bound, memory.memory_ms) == ("memory", 3.2)
    tiny = estimate(layer(flops=1, bytes_read=1, bytes_written=0), CARD)
    assert tiny.bound == "launch"


@pytest.mark.parametrize(
    ("kind", "dtype", "tf32", "milliseconds"),
    [
        ("gemm", "float16", True, 1.0),
        ("conv", "int8", True, 0.5),
        ("attention", "float32", True, 2.0),
        ("gemm", "float32", False, 16.0),
        ("pointwise", "float16", True, 16.0),  # not on tensor cores
        ("gemm", "float8e4m3fn", True, None),  # the card has no such rate
        ("gemm", "int64", True, None),
    ],
)
def test_the_rate_is_of_the_type_and_the_kind(kind: str, dtype: str, tf32: bool, milliseconds: float | None) -> None:
    assert estimate(layer(kind, dtype), CARD, tf32=tf32).compute_ms == milliseconds


def test_what_is_unknown_stays_unknown() -> None:
    no_flops = estimate(layer(flops=None), CARD)
    assert (no_flops.compute_ms, no_flops.memory_ms, no_flops.bound) == (None, 0.5, "memory")
    assert not no_flops.complete
    nothing = estimate(layer(flops=None, bytes_read=None, time_ms=1.0), CARD)
    assert (nothing.time_ms, nothing.efficiency, nothing.bound) == (None, None, "")
    copying = estimate(layer("layout", flops=0), CARD)
    assert (copying.compute_ms, copying.bound) == (0.0, "memory")


def test_efficiency_is_of_the_work_without_the_overhead() -> None:
    assert estimate(layer(time_ms=4.0), CARD).efficiency == 0.25
    assert estimate(layer(time_ms=0.0), CARD).efficiency is None


@pytest.mark.parametrize("kind", ["sync", "shape", "noop"])
def test_what_launches_nothing_takes_no_time(kind: str) -> None:
    assert estimate(layer(kind), CARD).time_ms == 0


def test_sums_and_notes_say_what_they_leave_out() -> None:
    found = {"a": estimate(layer(), CARD), "b": estimate(layer(flops=None, bytes_read=None), CARD),
             "c": estimate(layer(flops=None), CARD)}  # fmt: skip
    total, unknown = total_ms(found)
    assert total == pytest.approx(1.0 + 0.5 + 0.004)
    assert unknown == 1
    text = "\n".join(notes(found, CARD))
    for said in (
        "estimated on card",
        "datasheet values, not measured",
        "made up",
        "for 1 layers only",
        "1 layers are left",
    ):
        assert said in text
    written = document(found, CARD)
    assert written["estimated"] is True
    assert written["device"]["source"] == "made up"
    assert written["layers"]["b"]["time_ms"] is None
    assert "measured ceilings" in notes(found, replace(CARD, measured=True))[0]


def test_an_estimate_without_figures_has_no_time() -> None:
    assert Estimate(None, None, 0.002, "", None).time_ms is None


def test_how_far_estimates_are_from_what_was_measured() -> None:
    # Estimated: 1.002 ms each, of which 2 µs for the launch.
    layers = tuple(replace(layer(), id=f"l{i}", time_ms=ms) for i, ms in enumerate([1.002, 2.004, 3.006, 0.001, None]))
    plan = Plan(model={"name": "m", "sha256": "", "nodes": 0}, compiler={"name": "c", "version": "1", "target": "sm80", "gpu": None},
                config={}, seconds={}, layers=layers, unclaimed=(), io=())  # fmt: skip
    found = estimate_error(plan, CARD)
    assert found["layers"] == 3  # one took less than the profiler can tell, one was not measured
    assert found["measured_over_estimated"] == {
        "p10": pytest.approx(1),
        "p50": pytest.approx(2),
        "p90": pytest.approx(3),
    }
    assert found["total"] == pytest.approx(2)
    assert found["basis"] == "datasheet values"
    nothing = estimate_error(replace(plan, layers=()), CARD)
    assert (nothing["layers"], nothing["total"], nothing["measured_over_estimated"]["p50"]) == (0, None, None)


def test_the_stated_error_is_the_recorded_one() -> None:
    recorded = json.loads((Path(__file__).parents[2] / "docs/results/h100_profiles_rtx_1.5.json").read_text())

    def median(case: str) -> str:
        found = next(e for e in recorded[case]["estimate_error"] if e["basis"] == "datasheet values")
        return f"{found['measured_over_estimated']['p50']:.1f}"

    bert, resnet = "bert-base fp16 {0}x128 {0}x128", "resnet50 fp16 {}x3x224x224"
    unet, gpt2 = median("unet fp16 32x3x256x256"), median("gpt2-small fp16 32x128")
    assert gpt2 == median(bert.format(32))
    assert f"batch 32 {unet} (unet), {gpt2} (gpt2-small, bert-base) and {median(resnet.format(32))} (resnet50)" in ERROR
    assert f"batch 1 {median(bert.format(1))} (bert-base) and {median(resnet.format(1))} (resnet50)" in ERROR
    assert ERROR in notes({}, CARD)


def test_the_stated_error_of_quantized_engines_is_the_recorded_one() -> None:
    file = Path(__file__).parents[2] / "docs/results/h100_precision_rtx_1.5.json"
    rows = json.loads(file.read_text())["estimates"]["rows"]
    half = {r["model"]: r for r in rows if r["precision"] == "fp16"}
    low = [r for r in rows if r["precision"] != "fp16"]
    spread = [
        f"{min(ratios):.1f} to {max(ratios):.1f}"
        for ratios in ([r["measured_ms"] / r["estimated_ms"] for r in some] for some in (low, list(half.values())))
    ]
    assert f"took {spread[0]} times as long, in FP16 {spread[1]} times" in QUANTIZED
    assert all(r["measured_ms"] > half[r["model"]]["measured_ms"] for r in low)
