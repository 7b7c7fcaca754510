"""The Profile and Engine panels in a real JupyterLab, on a profile that another process lays beside the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import profiles
from tests.support.browser import Lab, Panel, until
from workbench import Session

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from tests.support.browser import Watch

    Window = Callable[..., tuple[BrowserContext, Watch]]

OPEN = "from workbench import Session\nsession = Session('measured')"


def charts_have_room(panel: Panel) -> None:
    """Each chart in sight is drawn as high as it should be: a chart made in a hidden place has no height."""
    plots = panel.box.locator(".js-plotly-plot:visible")
    plots.first.wait_for()
    panel.page.wait_for_timeout(600)
    for i in range(plots.count()):
        size = plots.nth(i).bounding_box()
        assert size is not None
        drawn = plots.nth(i).locator("svg.main-svg").first.bounding_box()
        assert drawn is not None
        assert size["height"] > 100
        assert abs(size["height"] - drawn["height"]) <= 12
        # Plotly's buttons are below, where they cover no legend.
        buttons = plots.nth(i).locator(".modebar").first.bounding_box()
        assert buttons is not None
        assert buttons["y"] > size["y"] + size["height"] / 2
        named = [b.get_attribute("data-title") or "" for b in plots.nth(i).locator(".modebar-btn").all()]
        assert any("Download" in name for name in named)
        assert not [name for name in named if "hare" in name or "loud" in name]  # nothing is sent to a server


# A profile lies beside its engine: each width has an engine of its own.
@pytest.mark.parametrize(("width", "target"), [(1280, "sm89"), (1920, "sm86")])
def test_measured_elsewhere_looked_at_here(
    lab: Lab, lab_home: Path, context: Window, shots: Path, width: int, target: str
) -> None:
    name = f"measured{width}"
    lab.write(
        f"{name}.ipynb",
        [OPEN.replace("measured", name), f"engine = session.build('attention', target='{target}')", "session.panel('profile')",
         "session.panel('engine')"],
    )  # fmt: skip
    window, _ = context(width, 1000)
    book = lab.open(window, f"{name}.ipynb")
    book.run_all(120)
    book.show(2)
    panel = book.panel("Profile")
    panel.box.get_by_text("Nothing is measured yet.").wait_for()
    assert panel.button("Measure").is_disabled()
    panel.box.get_by_text("needs an NVIDIA GPU").wait_for()
    charts_have_room(panel)
    book.page.screenshot(path=shots / f"profile-estimate-light-{width}.png")

    # Another process measures: the panel follows without a cell being run.
    other = Session(name, store=lab_home)
    engine = other.engines[-1]
    profiles.measure(engine)
    profiles.tell(other, engine)
    panel.box.get_by_text("median latency").wait_for()
    for tab in ("Latency", "Timeline", "Roofline", "Layers"):
        panel.tab(tab)
        charts_have_room(panel)
        book.page.screenshot(path=shots / f"profile-{tab.lower()}-light-{width}.png")

    # A click in the table is the session's selection, and what the Engine panel shows.
    table = panel.view("Layers")
    table.box.locator("[role=row][data-at='0']").click()
    table.wait_status("1 selected")
    slowest = max(engine.measured.layers, key=lambda la: la.time_ms or 0).id
    # It is sorted by time.
    until(
        lambda: book.run("print(*session.selection.ids)").strip() == slowest, what="the selection of the slowest layer"
    )
    book.show(3)
    looked = book.panel("Engine")
    looked.tab("Layers")
    looked.box.locator("pre.wbp-raw", has_text=engine.plan.by_id[slowest].name).first.wait_for()
    looked.box.locator("pre.wbp-raw", has_text="pretended tactic of").wait_for()
    book.page.screenshot(path=shots / f"engine-layers-light-{width}.png")
    looked.box.locator("input[placeholder^='search']").fill("no such thing")
    looked.box.locator("input[placeholder^='search']").press("Enter")
    looked.box.get_by_text(f"0 of {len(engine.plan.layers)} layers").wait_for()
    for tab in ("Memory", "Log", "Compare", "Overview"):
        looked.tab(tab)
        book.page.wait_for_timeout(500)
        book.page.screenshot(path=shots / f"engine-{tab.lower()}-light-{width}.png")
    looked.box.locator("input[placeholder^='path/to']").fill(str(lab.folder / f"{name}.engine"))
    looked.button("Save as").click()
    until((lab.folder / f"{name}.engine").is_file, what="the saved engine")
    for one in (panel, looked):
        assert one.box.evaluate("e => e.scrollWidth - e.clientWidth") <= 4
        assert one.box.locator(".wbp-error").count() == 0
    book.theme("JupyterLab Dark")
    book.show(2)
    charts_have_room(panel)
    book.page.screenshot(path=shots / f"profile-layers-dark-{width}.png")
    other.close()
    assert not book.errors()


def test_all_tabs_of_the_app_can_be_read(lab: Lab, context: Window, shots: Path) -> None:
    lab.write("tabs.ipynb", [OPEN, "session.build('attention', target='sm89')\nsession.app()"])
    window, _ = context(1280, 1000)
    book = lab.open(window, "tabs.ipynb")
    book.run_all(120)
    app = book.page.locator(".jp-OutputArea .widget-tab").first
    room = app.bounding_box()
    assert room is not None
    tabs = app.locator(":scope > .lm-TabBar .lm-TabBar-tab")
    names = tabs.all_inner_texts()
    assert {"Profile", "Engine"} <= {name.strip() for name in names}
    for i, name in enumerate(names):
        place = tabs.nth(i).bounding_box()
        assert place is not None
        assert place["x"] + place["width"] <= room["x"] + room["width"] + 1, name
        assert tabs.nth(i).locator(".lm-TabBar-tabLabel").evaluate("e => e.scrollWidth <= e.clientWidth + 1"), name
    for name in ("Profile", "Engine"):
        tabs.filter(has_text=name).first.click()
        app.locator(f"h3.wbp-title:text-is('{name}'):visible").wait_for()
        book.page.wait_for_timeout(800)
        book.page.screenshot(path=shots / f"app-{name.lower()}-light-1280.png")
    assert not book.errors()
