"""`workbench fusions` against a bare script that parses, builds and keeps the log, in one run.

`make bench`. Ratios are of medians of interleaved runs; single runs on shared machines say little.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import onnx
import pytest
from measure import run

from workbench import Session

RUNS = 5
HERE = Path(__file__).parent
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light/light_densenet121.onnx"


@pytest.mark.parametrize("name", ["resnet50", "bert-base", "light_densenet121"])
def test_fusions_against_bare_script(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "models"))
    model = LIGHT if name.startswith("light") else Session("bench").add(name).path
    ours, bare = [], []
    for i in range(RUNS + 1):  # the first of each warms the page cache and is not counted
        bare.append(
            run([sys.executable, str(HERE / "bare_build.py"), str(model), str(tmp_path / "e"), str(tmp_path / "l")])
        )
        home = {"WORKBENCH_HOME": str(tmp_path / f"home{i}")}
        command = [sys.executable, "-m", "workbench", "fusions", str(model), "--target", "sm89"]
        ours.append(run(command, home))
    seconds = [statistics.median(r.seconds for r in runs[1:]) for runs in (ours, bare)]
    peak = [statistics.median(r.peak for r in runs[1:]) for runs in (ours, bare)]
    print(
        f"\n{name}: workbench {seconds[0]:.2f} s, bare {seconds[1]:.2f} s, ratio {seconds[0] / seconds[1]:.2f}, "
        f"over 1.10 x bare by {seconds[0] - 1.10 * seconds[1]:+.2f} s (limit +0.4); "
        f"memory {peak[0] / 1e6:.0f} / {peak[1] / 1e6:.0f} MB = {peak[0] / peak[1]:.2f} (limit 1.2)"
    )
    assert seconds[0] <= 1.10 * seconds[1] + 0.4
    assert peak[0] <= 1.2 * peak[1]


def test_cached_build(tmp_path: Path) -> None:
    session = Session("bench", store=tmp_path)
    model = session.add("bert-base")
    begin = time.perf_counter()
    first = session.build(model, target="sm89")
    middle = time.perf_counter()
    second = session.build(model, target="sm89")
    end = time.perf_counter()
    assert not first.cached
    assert second.cached
    ratio = (middle - begin) / (end - middle)
    print(f"\nbert-base: first {middle - begin:.2f} s, cached {(end - middle) * 1e3:.1f} ms, {ratio:.0f} times faster")
    assert ratio >= 50


def test_import_time() -> None:
    code = "import time; t = time.perf_counter(); import workbench; print(time.perf_counter() - t)"
    import subprocess

    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    print(f"\nimport workbench: {statistics.median(times) * 1e3:.1f} ms")
    assert statistics.median(times) < 0.15


def test_listing_grows_linearly() -> None:
    from workbench.compilers.tensorrt.listing import parse_listing

    tensor = (
        "{ Name: t, Dimensions: [1,64,56,56], Strides: [200704,1,3584,64], StrideOrder: [3,0,2,1], "
        "Datatype: Float, Format: (NHWC) Channel major format }"
    )
    line = (
        f"Name: n, LayerType: kgen, Inputs: [ {tensor}, {tensor}], Constants: [ {tensor}], Outputs: [ {tensor}], "
        "TacticName: x, StreamId: 0, Metadata: [ONNX Layer: a]\x1e[ONNX Layer: b]"
    )

    def seconds(layers: int) -> float:
        text = "Layers:\n" + "\n".join([line] * layers) + "\n\nI/O Tensors:\n"
        begin = time.perf_counter()
        assert len(parse_listing(text).layers) == layers
        return time.perf_counter() - begin

    small, large = (min(seconds(n) for _ in range(3)) for n in (1_000, 10_000))
    print(
        f"\nlisting: 1,000 layers {small * 1e3:.0f} ms, 10,000 layers {large * 1e3:.0f} ms, ratio {large / small:.1f}"
    )
    assert large / small < 15
