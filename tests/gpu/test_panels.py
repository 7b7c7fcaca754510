"""On a real GPU: the Profile and Engine panels measure, and show what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait_for
from tests.support.gpu import needs_gpu, target
from workbench import Session
from workbench.analysis.times import measured_ceilings, roofline_points

pytest.importorskip("anywidget", reason="the panels need anywidget: pip install 'trt-workbench[lab]'")
pytestmark = needs_gpu


def opened(panel: Any) -> list[str]:
    for i in range(len(panel._tabs.titles)):
        panel._tabs.selected_index = i
        assert panel.error == "", panel._tabs.titles[i]
    return list(panel._tabs.titles)


@pytest.mark.long
def test_measure_in_the_panel(session: Session, tmp_path: Path) -> None:
    engine = session.build("resnet50", shapes={"x": "1x3x224x224:8x3x224x224:16x3x224x224"}, **target(session))
    panel = session.panel("profile")
    assert not panel.button.disabled
    assert "Nothing is measured yet" in panel._words.value
    panel.form.transfers.value, panel.form.duration.value, panel.form.batches.value = True, 200, "1, 8, 99"
    panel.button.click()
    assert wait_for(lambda: "Measured in" in panel.work.status.value or panel.error, 300)
    assert panel.error == ""
    assert wait_for(lambda: "Latency" in panel._tabs.titles)
    tabs = opened(panel)
    assert {"Latency", "Layers", "Timeline", "Modules", "Roofline", "Batches", "Conditions"} <= set(tabs)
    plan = engine.measured
    assert "The outputs are wrong" not in panel._facts.value
    # No layer does more than what this GPU was seen to reach, by more than the error of two measurements.
    reached = measured_ceilings(plan)
    assert reached is not None
    from workbench.analysis.times import measured_times

    times = measured_times(plan)
    assert times is not None
    points, _ = roofline_points(plan, times, reached)
    shares = sorted(p.share for p in points if p.share is not None)
    print(f"\nshares of measured ceilings: median {shares[len(shares) // 2]:.2f}, largest {shares[-1]:.2f}")
    assert shares[len(shares) // 2] < 1.0
    rows = {row["batch"]: row for row in (engine.profile or {})["sweep"]}
    assert rows[8]["throughput"] > rows[1]["throughput"]
    assert rows[99]["missing"]
    assert sum(len(json.dumps(out.outputs)) for out, _ in panel._charts.values()) < 200_000
    assert opened(session.panel("engine"))
    report = session.report(tmp_path / "resnet50.html")
    print(f"report with times: {report.stat().st_size / 1e6:.2f} MB")
    assert report.stat().st_size < 3_000_000


def test_cancel_ends_the_measuring(session: Session) -> None:
    session.build("attention", **target(session))
    panel = session.panel("profile")
    panel.form.duration.value = 60_000
    panel.button.click()
    assert wait_for(lambda: panel.work.bars.children, 120)
    panel.work.cancel.click()
    assert wait_for(lambda: "Canceled" in panel.work.status.value, 20)
    assert panel.error == ""
    assert session.engines[-1].profile is None
