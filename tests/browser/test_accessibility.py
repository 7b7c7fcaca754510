"""What a screen reader and a reader of weak sight meet: axe-core's rules on the report and on every panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import SAMPLES
from tests.support.browser import Lab
from workbench import Session

pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from tests.support.browser import Watch

    Window = Callable[..., tuple[BrowserContext, Watch]]

# Of a page that is JupyterLab's: that all of it lies in landmarks, and that those of two panels differ.
NOT_OURS = {"region": {"enabled": False}, "landmark-unique": {"enabled": False}}


def broken(page: Page, place: str | None = None, rules: dict[str, Any] | None = None) -> list[str]:
    """Rules that elements on the page break, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=place, options={"rules": rules or {}}).response["violations"]
    return [f"{v['id']}: {n['html'][:160]} {n['failureSummary']}" for v in found for n in v["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report(tmp_path: Path, context: Window, theme: str) -> None:
    session = Session("axe", store=tmp_path / "home")
    session.build(str(SAMPLES / "attention.onnx"), compiler="fake")
    session.report(tmp_path / "report.html")
    session.close()
    window, _ = context(1280, 1000, color_scheme=theme)
    page = window.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.locator(".wb-cy canvas").first.wait_for()
    page.locator("[role=row][data-at='2']").first.click()  # details are open
    assert broken(page) == []


def test_every_panel(lab: Lab, context: Window) -> None:
    from workbench.panels import PANELS

    lab.write(
        "axe.ipynb",
        ["from workbench import Session\nsession = Session('axe')\nsession.build('digits', target='sm89');",
         *(f"session.panel({name!r})" for name in PANELS)],
    )  # fmt: skip
    window, _ = context(1280, 1400)
    book = lab.open(window, "axe.ipynb")
    book.run_all(120)
    for theme in ("Light", "Dark"):
        book.theme(f"JupyterLab {theme}")
        for i, name in enumerate(PANELS, start=1):
            book.show(i)
            book.panel(name.capitalize())
            assert broken(book.page, ".jp-OutputArea .wbp", NOT_OURS) == [], f"{name}, {theme}"
    assert not book.errors()
