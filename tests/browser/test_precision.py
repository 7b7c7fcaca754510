"""The precision, calibration and sensitivity panels on the digits, in a real JupyterLab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import Lab, until

pytest.importorskip("sklearn", reason="the digits are scikit-learn's: pip install scikit-learn")

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from tests.support.browser import Watch

    Window = Callable[..., tuple[BrowserContext, Watch]]

OPEN = "from workbench import Session\nsession = Session('precision-{}')\nsession.add('digits');"


@pytest.mark.parametrize("width", [1280, 1920])
def test_from_fp16_to_int8_on_the_digits(width: int, lab: Lab, context: Window, shots: Path) -> None:
    panels = ("precision", "calibration", "sensitivity", "fusions")
    lab.write(
        f"precision-{width}.ipynb",
        [OPEN.format(width), *(f"session.panel({name!r})" for name in panels), "session.app()"],
    )
    window, _ = context(width, 1500)
    book = lab.open(window, f"precision-{width}.ipynb")
    page = book.page
    if width == 1280:
        page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    book.run_all()
    book.show(1)
    precision = book.panel("Precision")
    precision.button("Compare").click()
    table = precision.view("Precisions")
    table.wait_status("3 rows")
    precision.box.get_by_text("3 built").wait_for(timeout=120_000)
    precision.button("Compare placements").click()
    precision.box.get_by_text("placed by ONNX Runtime, rest fp32 moves").wait_for(timeout=120_000)
    until(lambda: precision.button("Compare").is_enabled(), 120, "the end of the comparison")
    table.wait_status("4 rows")
    # The row chosen is the engine that every view shows.
    table.box.get_by_role("gridcell", name="fp16", exact=True).click()
    precision.box.get_by_text("What the layers got: fp16").wait_for()
    assert "fp16" in book.run("print(session.engines.current.config.precision)")
    book.show(1)
    table.box.locator("[role=row]", has_text="placed by").click()
    precision.box.get_by_text("quantizes, dequantizes and quantizes again").first.wait_for()
    losses = precision.view("Losses")
    losses.box.locator("[role=row][data-at='0']").click()
    until(lambda: int(book.run("print(len(session.selection.ids))")) >= 1, what="the selection")
    book.show(1)
    precision.button("Measure along the graph").click()
    precision.box.get_by_text("tensors measured").wait_for(timeout=120_000)

    book.show(2)
    calibration = book.panel("Calibration")
    calibration.button("Calibrate").click()
    tensors = calibration.view("Tensors")
    tensors.wait_status("4 rows")
    tensors.box.locator("[role=row]", has_text="relu_1").click()
    calibration.box.get_by_text("Magnitudes of relu_1").wait_for()

    book.show(3)
    sensitivity = book.panel("Sensitivity")
    sensitivity.button("Find the mix").click()
    sensitivity.box.get_by_text("layers in higher precision give").wait_for(timeout=120_000)
    sensitivity.button("Make this model").click()
    sensitivity.box.get_by_text("is in the session").wait_for(timeout=60_000)

    # The map has the overlay now.
    book.show(4)
    fusions = book.panel("Fusions")
    after = fusions.view("after")
    after.box.get_by_label("Color by").select_option(label="Error against FP32")
    after.box.locator(".wb-legend b", has_text="Error against FP32").wait_for()
    assert "%" in after.box.locator(".wb-legend").first.inner_text()

    for theme in ("Light", "Dark"):
        book.theme(f"JupyterLab {theme}")
        for i, name in enumerate(panels, start=1):
            book.show(i)
            panel = book.panel(name.capitalize())
            page.wait_for_timeout(1200)
            page.screenshot(path=shots / f"{name}-{theme.lower()}-{width}.png")
            # Charts stay where they are when the theme changes.
            for chart in panel.box.locator(".js-plotly-plot:visible").all():
                size = chart.bounding_box()
                assert size is not None
                assert size["height"] > 60
            assert panel.box.evaluate("e => e.scrollWidth <= e.clientWidth + 1")  # nothing sticks out
    book.theme("JupyterLab Light")
    # All tabs of the app are in sight, in as many rows as they need.
    book.show(5)
    tabs = page.locator(".wbp-app > .lm-TabBar .lm-TabBar-tab")
    right = page.locator(".wbp-app").first.bounding_box()
    assert right is not None
    for tab in tabs.all():
        place = tab.bounding_box()
        assert place is not None
        assert place["x"] + place["width"] <= right["x"] + right["width"] + 1
        label = tab.locator(".lm-TabBar-tabLabel")
        assert label.evaluate("e => e.scrollWidth <= e.clientWidth + 1")  # its word is whole
    page.screenshot(path=shots / f"app-tabs-{width}.png")
    assert not book.errors()
