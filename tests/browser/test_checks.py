"""The Checks panel in a real JupyterLab: an operator that TensorRT refuses, found, shown and selected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import Lab, until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from tests.support.browser import Watch

    Window = Callable[..., tuple[BrowserContext, Watch]]


@pytest.mark.parametrize(("theme", "width"), [("JupyterLab Light", 1280), ("JupyterLab Dark", 1920)])
def test_an_operator_that_is_refused(theme: str, width: int, lab: Lab, context: Window, shots: Path) -> None:
    name = f"checks-{width}"
    begin = f"from workbench import Session\nsession = Session({name!r})\nsession.add('unsupported')"
    lab.write(f"{name}.ipynb", [begin, "session.panel('checks')"])
    window, _ = context(width, 1000)
    book = lab.open(window, f"{name}.ipynb")
    book.theme(theme)
    book.run_all()
    assert book.errors() == []
    panel = book.panel("Checks")
    panel.button("Ask TensorRT").click()
    panel.box.get_by_text("TensorRT does not support Det").wait_for(timeout=60_000)
    # Seven nodes, the one that falls back, and three: the strip says so.
    assert panel.box.locator(".wbc-part").count() == 3
    assert panel.box.locator(".wbc-part.wbc-back").inner_text().split("\n") == ["falls back", "Det"]
    book.page.screenshot(path=shots / f"{name}-model.png")
    panel.button("Select 1 node").click()
    until(lambda: "node_Det_6" in book.run("session.selection.ids"), what="the selection")
    panel.button("Show as code").click()
    panel.box.get_by_text("session.select(Selection(").wait_for()
    book.page.screenshot(path=shots / f"{name}-selected.png")
    # An engine's findings: the panel follows what is built.
    book.run("engine = session.build('resnet50', target='sm89', precision='fp16')", 200)
    panel.box.get_by_text("The engine requires sm89").wait_for(timeout=30_000)
    book.show(1)
    book.page.screenshot(path=shots / f"{name}-engine.png")
    # Nothing is wider than its place.
    assert panel.box.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
