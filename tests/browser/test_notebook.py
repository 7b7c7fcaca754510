"""The same panels in Notebook 7, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import HAS_RTX, HAS_TORCH
from tests.support.browser import Lab, until


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory, lab_home: Path, chromium: str) -> Iterator[Lab]:
    pytest.importorskip("notebook", reason="Notebook 7 is not installed: pip install notebook")
    if not (HAS_RTX and HAS_TORCH):
        pytest.skip("the page builds a model: pip install 'trt-workbench[rtx,torch]'")
    started = Lab(tmp_path_factory.mktemp("notebook"), lab_home, "notebook")
    yield started
    started.stop()


def test_a_panel_in_notebook_7(notebook: Lab, context: Callable, shots: Path) -> None:
    code = "from workbench import Session\nsession = Session('seven')\nsession.build('residual_block', target='sm89')"
    notebook.write("page.ipynb", [code, "session.panel('fusions')"])
    window, watch = context(1280, 1000)
    # Notebook 7.6 raises this itself when its settings load, also on a notebook of one sum.
    watch.ignored.append("Cannot read properties of undefined (reading 'schema')")
    book = notebook.open(window, "page.ipynb")
    book.run_all()
    panel = book.panel("Fusions")
    after = panel.view("after")
    after.click_a_card()
    until(lambda: "1 selected" in after.status, what="the selection")
    panel.box.locator(".wb-details h3").first.wait_for()
    assert book.run("len(session.selection)") == "1"
    for theme in ("Light", "Dark"):
        book.theme(f"JupyterLab {theme}")
        book.show(1)
        assert panel.box.locator(f".wb-root:not([data-theme={theme.lower()}])").count() == 0
        book.page.screenshot(path=shots / f"notebook7-{theme.lower()}-1280.png")
    assert panel.box.locator(".wbp-error").count() == 0
    assert not book.errors()
