"""Notebooks that were run and saved, with and without the state of their widgets."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.support import SAMPLES

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

CELLS = [
    f"from workbench import Session\nsession = Session('saved')\nsession.build({str(SAMPLES / 'attention.onnx')!r}, compiler='fake')",
    "session.panel('fusions')", "session.panel('graph')", "session.panel('memory')",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("state", [False, True])
def test_a_notebook_with_three_panels_stays_small(state: bool, tmp_path: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(book, timeout=120, store_widget_state=state).execute()
    text = nbformat.writes(book)
    print(f"\nthree panels saved, {'with' if state else 'without'} widget state: {len(text) / 1e3:.0f} kB")
    assert len(text) < 1_000_000
    assert ("application/vnd.jupyter.widget-state+json" in book.metadata.get("widgets", {})) == state
    assert "class='wbp-error'" not in text
