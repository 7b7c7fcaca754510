"""The committed notebooks: without outputs, and they run."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.tiny
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_outputs_are_committed(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert cells
    for cell in cells:
        assert not cell.get("outputs"), cell.source
        assert not cell.get("execution_count"), cell.source


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the notebooks build with TensorRT for RTX")
    if path.stem == "01_precision":
        pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    from nbclient import NotebookClient

    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, store_widget_state=False, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    text = nbformat.writes(notebook)
    assert "wbp-error" not in text
    for report in tmp_path.glob("*.html"):
        assert report.stat().st_size < 3_000_000
    assert path.stem != "00_tour" or (tmp_path / "resnet50.html").is_file()
