"""One page in Voila: a panel with its map, no code, no notebook around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from tests.support import HAS_RTX, HAS_TORCH
from tests.support.browser import Panel, Server, until

CODE = """\
from workbench import Session
session = Session("voila")
session.build("residual_block", target="sm89")
session.panel("fusions")"""


@pytest.fixture(scope="module")
def voila(tmp_path_factory: pytest.TempPathFactory, lab_home: Path, chromium: str) -> Iterator[Server]:
    pytest.importorskip("voila", reason="Voila is not installed: pip install voila")
    if not (HAS_RTX and HAS_TORCH):
        pytest.skip("the page builds a model: pip install 'trt-workbench[rtx,torch]'")
    folder = tmp_path_factory.mktemp("voila")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "page.ipynb")
    # Notebook 7's own extension, where that is installed, fails on Voila's page and says so in the console.
    command = ["voila", "--no-browser", "--port={port}", "--Voila.ip=127.0.0.1", "--token={token}",
               "--VoilaConfiguration.extension_denylist=['@jupyter-notebook/lab-extension']",
               "--VoilaConfiguration.allow_theme_override=YES", "{folder}"]  # fmt: skip
    started = Server(folder, lab_home, command)
    yield started
    started.stop()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_panel_in_voila(voila: Server, context: Callable, shots: Path, theme: str) -> None:
    window, watch = context(1280, 900)
    # Voila's own page names this style sheet; ours asks for nothing, and works where it does not come.
    watch.ignored.append("cdn.jsdelivr.net/npm/@fortawesome")
    page = window.new_page()
    page.goto(f"{voila.url}/voila/render/page.ipynb?token={voila.token}&theme={theme}", timeout=120_000)
    box = page.locator(".wbp").first
    box.wait_for(timeout=120_000)
    panel = Panel(page, box)
    after = panel.view("after")
    after.click_a_card()
    until(lambda: "1 selected" in after.status, what="the selection")
    box.locator(".wb-details h3").first.wait_for()
    assert box.locator(f".wb-root[data-theme={theme}]").count() == box.locator(".wb-root").count()
    page.screenshot(path=shots / f"voila-{theme}-1280.png")
    assert box.locator(".wbp-error").count() == 0
