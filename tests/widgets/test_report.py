"""The report: one file, complete, without an address."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import needs_rtx, needs_torch
from tests.support.wire_format import check_graph, check_record, check_table, conforms, part
from workbench import Session
from workbench.core.errors import StoreError
from workbench.present.lens import Lens
from workbench.report import report
from workbench.widgets.bundle import bundle

ADDRESS = re.compile(r"https?://(?!www\.w3\.org/)[\w.-]+")


def check(page: str) -> dict:
    payload = json.loads(part(page, "payload"))
    conforms("ReportPayload", payload)
    for graph in (payload["fusion"]["original"], payload["fusion"]["plan"]):
        check_graph(graph)
    for table in payload["tables"]:
        check_table(table)
        assert all(f"{table['of']}:{item}" in payload["details"] for item in table["id"])
    for record in payload["details"].values():
        check_record(record)
    assert part(page, "bundle") == bundle()
    # What travels as text is looked into as well. The bundle may name documentation, but nothing that is fetched.
    assert not ADDRESS.findall(page)
    assert not ADDRESS.findall(json.dumps({**payload, "details": None}))
    assert not re.findall(rb"(?:fetch|import|src|href|url)\W{1,3}https?://", bundle())
    assert "default-src 'none'" in page
    return payload


def test_one_file_with_everything(built: Session, tmp_path: Path) -> None:
    path = built.report(tmp_path / "report.html")
    page = path.read_text()
    payload = check(page)
    assert payload["title"] == "attention"
    assert page.count("<svg") >= 1  # for a reader without scripts
    assert [f["title"] for f in payload["figures"]][:2] == ["Kernel launches", "Bytes moved"]
    assert all(f["svg"].startswith("<svg") and f["svg"].count("<script") == 0 for f in payload["figures"])
    assert path.stat().st_size < 1_000_000


def test_names_cannot_break_out_of_the_page(lens: Lens, tmp_path: Path) -> None:
    from dataclasses import replace

    bad = "</script><script>alert(1)</script>{x}"
    plan = replace(lens.plan, model={**lens.plan.model, "name": bad})
    page = report(Lens(plan, lens.graph, lens.provenance), tmp_path / "bad.html").read_text()
    assert "<script>alert" not in page
    assert check(page)["title"] == bad


def test_without_its_model_the_plan_is_still_told(lens: Lens, tmp_path: Path) -> None:
    page = report(Lens(lens.plan, missing="attention.onnx is gone"), tmp_path / "r.html").read_text()
    payload = json.loads(part(page, "payload"))
    assert "fusion" not in payload
    check_graph(payload["graph"])
    assert any("attention.onnx is gone" in line for line in payload["footer"])


def test_a_place_that_cannot_be_written(lens: Lens, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be written"):
        report(lens, tmp_path / "no/such/folder.html")


@needs_rtx
@needs_torch
@pytest.mark.slow
def test_resnet50_is_under_three_megabytes(shared: Session, tmp_path: Path) -> None:
    engine = shared.build("resnet50", target="sm89")
    path = shared.report(tmp_path / "resnet50.html", engine.key)
    print(f"\nreport of resnet50: {path.stat().st_size / 1e6:.2f} MB")
    assert path.stat().st_size < 3_000_000
    check(path.read_text())


def test_a_name_of_a_file_that_is_no_text(lens: Lens, tmp_path: Path) -> None:
    from dataclasses import replace

    # As Python reads a file's name that is not UTF-8.
    plan = replace(lens.plan, model={**lens.plan.model, "name": "net\udcff\x1e"})
    page = report(Lens(plan, lens.graph, lens.provenance), tmp_path / "odd.html").read_text()
    assert "<title>net · TensorRT Workbench</title>" in page
