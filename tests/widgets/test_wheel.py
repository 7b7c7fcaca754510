"""The wheel holds all that an installation needs, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy of what git knows: without ``node_modules`` and bundle, and with no node of the machine's."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of the repository")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    # Whoever calls the machine's own node fails: only the one that comes with the build requirements may be used.
    trap = tmp_path_factory.mktemp("no-node")
    for name in ("node", "npm"):
        (trap / name).write_text("#!/bin/sh\nexit 97\n")
        (trap / name).chmod(0o755)
    made = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--disable-pip-version-check", "-w", str(out), str(copy)],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "PATH": f"{trap}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    said = made.stdout + made.stderr
    offline = ("No matching distribution", "Connection", "Temporary failure", "ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT")
    if made.returncode and any(word in said for word in offline):
        pytest.skip(f"the build requirements can't be had without a network: {said.strip().splitlines()[-1]}")
    assert made.returncode == 0, said[-3000:]
    return zipfile.ZipFile(next(out.glob("*.whl")))


@pytest.mark.slow
def test_what_is_inside(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for wanted in (
        "workbench/widgets/static/workbench.js", "workbench/widgets/static/THIRD_PARTY_NOTICES.txt",
        "workbench/widgets/loader.js", "workbench/widgets/netron.js", "workbench/schemas/plan.schema.json", "workbench/charts/palette.json",
        "workbench/_samples/manifest.json", "workbench/_samples/resnet50.py", "workbench/_samples/attention.onnx",
        "workbench/_notebooks/00_tour.ipynb",
    ):  # fmt: skip
        assert wanted in names, wanted
    assert any(name.endswith("jupyter_server_config.d/workbench.json") for name in names)
    assert any(name.endswith("LICENSE") for name in names)
    assert not [
        name for name in names if "node_modules" in name or name.startswith(("js/", "tests/")) or name.endswith(".pyc")
    ]


@pytest.mark.slow
def test_the_bundle_is_this_checkouts_and_its_licences_are_told(wheel: zipfile.ZipFile) -> None:
    bundle = wheel.read("workbench/widgets/static/workbench.js")
    assert b"mountReport" in bundle
    assert 300_000 < len(bundle) < 750_000
    notices = wheel.read("workbench/widgets/static/THIRD_PARTY_NOTICES.txt").decode()
    for package in ("cytoscape", "@dagrejs/dagre", "@dagrejs/graphlib"):
        assert package in notices
    assert notices.count("MIT") >= 3
