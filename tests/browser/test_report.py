"""The HTML report, opened from disk with the network off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import SAMPLES
from tests.support.browser import View
from workbench import Session


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    session = Session("report", store=folder / "home")
    session.build(str(SAMPLES / "attention.onnx"), compiler="fake")
    path = folder / "report.html"
    session.report(path)
    session.close()
    return path


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1920)])
def test_it_works_from_disk_without_a_network(
    report: Path, context: Callable, shots: Path, theme: str, width: int
) -> None:
    window, _ = context(width, 1000, color_scheme=theme)
    window.set_offline(True)
    page = window.new_page()
    page.goto(report.as_uri())
    page.locator(".wb-cy canvas").first.wait_for()
    assert page.locator("[role=alert]:visible").count() == 0
    after = View(page, page.locator(".wb-pane").nth(1))
    after.click_a_card()
    page.locator(".wb-details h3").first.wait_for()
    layers = View(page, page.locator('.wb-root[aria-label="Layers"]'))
    layers.wait_status("1 selected")
    layers.box.get_by_label("Filter rows").fill("gemm")
    layers.wait_status("of 1")
    layers.box.get_by_label("Filter rows").fill("")
    layers.box.locator("[role=row][data-at='2']").click()
    after.wait_status("1 selected")
    after.box.get_by_label("Color by").select_option(label="Bytes moved")
    after.box.locator(".wb-legend .wb-ramp").wait_for()
    assert page.locator(f".wb-root:not([data-theme={theme}])").count() == 0
    assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    page.screenshot(path=shots / f"report-{theme}-{width}.png", full_page=True)


def test_without_scripts_the_static_picture_is_shown(report: Path, context: Callable) -> None:
    window, _ = context(java_script_enabled=False)
    page = window.new_page()
    page.goto(report.as_uri())
    assert page.locator("noscript svg, svg").first.is_visible()
    assert page.locator("table tbody tr").count() > 5
