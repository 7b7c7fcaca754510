"""Panels, report and command line with an engine of the CPU: everything is offered, and no number of a GPU is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import SAMPLES
from workbench import Session
from workbench.charts.svg import charts
from workbench.engine import Engine
from workbench.present.lens import Lens

pytest.importorskip("onnxruntime")
pytest.importorskip("ipywidgets")


@pytest.fixture
def engine(session: Session) -> Engine:
    return session.build(SAMPLES / "residual_block.onnx", compiler="onnxruntime")


def text_of(panel: object) -> str:
    """All text of a panel's widgets."""
    import ipywidgets as w

    def walk(widget: w.Widget) -> list[str]:
        own = str(getattr(widget, "value", "")) if isinstance(widget, w.HTML) else ""
        return [own, *(t for child in getattr(widget, "children", ()) for t in walk(child))]

    return " ".join(walk(panel.body))  # type: ignore[attr-defined]


def test_the_build_panel_offers_it_with_its_target_and_options(session: Session) -> None:
    from workbench.panels.build import BuildPanel

    session.add(SAMPLES / "residual_block.onnx")
    panel = BuildPanel(session)
    assert "onnxruntime" in panel.compiler.options
    panel.compiler.value = "onnxruntime"
    assert panel.targets.value == ("cpu",)
    assert [value for _, value in panel.targets.options] == ["cpu"]


def test_the_profile_panel_estimates_nothing_for_a_cpu(session: Session, engine: Engine) -> None:
    from workbench.panels.profile import ProfilePanel

    panel = ProfilePanel(session)
    panel.show_engine(engine)
    told = text_of(panel)
    assert "for GPUs only" in told
    assert "RTX" not in told
    session.measure.profile(engine, duration_ms=5, warm_up_ms=0, layer_iterations=3)
    panel.show_engine(engine)
    told = text_of(panel)
    assert "for GPUs only" not in told
    titles = panel._tabs.titles
    assert "Layers" in titles
    assert "Roofline" not in titles


def test_the_report_has_measured_times_and_no_roofline(session: Session, engine: Engine, tmp_path: Path) -> None:
    session.measure.profile(engine, duration_ms=5, warm_up_ms=0, layer_iterations=3)
    names = [chart["title"] for chart in charts(Lens.of(engine).plan)]
    assert "Slowest layers" in names
    assert "Roofline" not in names
    session.report(tmp_path / "r.html", engine)
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_the_command_line_prints_fusions(cli, tmp_path: Path) -> None:
    model = SAMPLES / "residual_block.onnx"
    done = cli("fusions", model, "--compiler", "onnxruntime", "--target", "cpu", "--graph-optimization", "all")
    assert done.returncode == 0, done.stderr
    assert "residual_block for cpu by onnxruntime" in done.stdout
    assert "Conv + Relu" in done.stdout
    assert "reorder to NCHWc" in done.stdout
    plan = json.loads(cli("fusions", model, "--compiler", "onnxruntime", "--format", "json").stdout)
    assert plan["compiler"]["target"] == "cpu"
    refused = cli("fusions", model, "--compiler", "onnxruntime", "--estimate", "a100")
    assert refused.returncode != 0
    assert "ceilings only for GPUs" in refused.stderr + refused.stdout


def test_doctor_lists_it(cli) -> None:
    done = cli("doctor")
    assert "onnxruntime" in done.stdout
    assert "builds for cpu" in done.stdout
