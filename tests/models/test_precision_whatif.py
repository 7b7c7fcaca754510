"""What-if on the digits sample: every number of a row against one that is worked out here, from the files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import HAS_TORCH, needs_rtx, profiles
from tests.support.small_models import net, save
from workbench import Session
from workbench.build import Build
from workbench.core.errors import CancelledError
from workbench.core.worker import Reporter
from workbench.experiments.whatif import WhatIf
from workbench.hardware.devices import device
from workbench.passes.ir import load_ir, save_ir
from workbench.precision.simulate import simulate

pytestmark = needs_rtx
pytest.importorskip("sklearn", reason="the digits are scikit-learn's: pip install scikit-learn")
needs_digits = pytest.mark.skipif(not HAS_TORCH, reason="the sample's data need torch")
PLACED = {"to": "int8", "rest": "fp32", "placement": "onnxruntime"}


@pytest.fixture(scope="module")
def found(shared: Session) -> WhatIf:
    shared.add("digits", name="digits-whatif")
    return shared.precision.what_if(
        "digits-whatif", ["fp32", "fp16", "int8", "fp8", PLACED], target="sm89", data="sample"
    )


@needs_digits
def test_plans_are_counted_again_from_their_files(found: WhatIf) -> None:
    card = device("sm89")
    frame = found.to_frame().set_index("variant")
    for variant in found.variants:
        assert variant.engine is not None
        layers = [
            la for la in json.loads((variant.engine.folder / "plan.json").read_text())["layers"]
            if la["kind"] not in {"sync", "shape", "noop"}
        ]  # fmt: skip
        row = frame.loc[variant.name]
        assert row["kernels"] == len(layers)
        assert row["bytes"] == sum(la["bytes_read"] + la["bytes_written"] for la in layers)
        assert row["engine_bytes"] == (variant.engine.folder / "engine").stat().st_size
        flops = {k.removeprefix("flops_"): v for k, v in row.items() if k.startswith("flops_") and not np.isnan(v)}
        assert sum(flops.values()) == sum(la["flops"] for la in layers)
        # The slower of memory and arithmetic, and a launch: see the head of workbench.analysis.roofline.
        least = sum((la["bytes_read"] + la["bytes_written"]) / card.bandwidth * 1e3 + 2e-3 for la in layers)
        assert row["time_source"] == "estimated"
        assert row["time_on"] == card.name
        assert least - 1e-9 <= row["time_ms"] < least * 1.1  # digits is bound by memory and launches
    assert frame.loc["int8", "weight_bytes"] < frame.loc["fp16", "weight_bytes"] * 0.6
    assert frame.loc["fp16", "weight_bytes"] < frame.loc["fp32", "weight_bytes"] * 0.6


@needs_digits
def test_errors_are_measured_again_with_onnx_runtime(found: WhatIf, shared: Session, tmp_path: Path) -> None:
    import onnxruntime as ort

    place = next((shared.store.path / "data").glob("digits-*"))
    x, labels = np.load(place / "test.npy"), np.load(place / "labels.npy")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL

    def outputs(name: str) -> np.ndarray:
        model = load_ir(shared.models[name].path, Reporter(io.BytesIO()))
        simulate(model)  # FP16, where there is some; tests/models/test_precision_simulate.py compares that with NumPy
        save_ir(model, tmp_path / "model.onnx")
        session = ort.InferenceSession(str(tmp_path / "model.onnx"), options)
        return np.concatenate([session.run(None, {"x": one[None]})[0] for one in x])

    want = outputs("digits-whatif")
    assert found["fp32"].error["accuracy"] == pytest.approx(float((want.argmax(1) == labels).mean()))
    for name in ("int8", "fp8", found.variants[-1].name):
        variant = found[name]
        got = outputs(variant.model)
        assert variant.samples == len(x) == 597
        assert variant.error["relative_l2"] == pytest.approx(
            float(np.linalg.norm(got - want) / np.linalg.norm(want)), rel=1e-4
        )
        assert variant.error["top1"] == pytest.approx(float((got.argmax(1) == want.argmax(1)).mean()))
        assert variant.error["accuracy"] == pytest.approx(float((got.argmax(1) == labels).mean()))
    assert abs(found["int8"].error["accuracy"] - found["fp32"].error["accuracy"]) <= 0.01


@needs_digits
def test_quicker_by_an_estimate_alone_is_told(found: WhatIf, monkeypatch: pytest.MonkeyPatch) -> None:
    half, source, gpu = found["fp16"].time
    assert half
    assert source == "estimated"

    def said(ms: float) -> list[str]:
        monkeypatch.setitem(found["int8"].__dict__, "time", (ms, source, gpu))
        return [text for text in found.warnings if text.startswith("Faster than fp16 only by an estimate")]

    assert not said(2 * half)
    (one,) = said(half / 2)
    assert "none in INT8 or FP8 was faster" in one


@needs_digits
def test_the_panel_can_say_what_moves_more_than_fp16(found: WhatIf) -> None:
    placed = found.variants[-1]
    said = [text for text in found.warnings if "may be slower" in text]
    # Ours moves less in INT8. FP8 convolutions have a scale for each channel inside, and store FP32.
    assert [text.partition(" moves ")[0] for text in said] == ["fp8", placed.name]
    # Fewer bytes, and yet slower: two kernels more at 2 microseconds each outweigh them.
    slow = [text for text in found.warnings if "estimated to be slower" in text]
    assert [text.partition(" is ")[0] for text in slow] == ["int8", "fp8", placed.name]
    assert "9 kernels against 7" in slow[0]
    assert placed.engine is not None
    assert found["fp16"].engine is not None
    difference = placed.audit.figures["bytes"] - found["fp16"].audit.figures["bytes"]  # type: ignore[union-attr]
    losses = found.losses(placed.name)
    assert all(c.more > 0 for c in losses)
    assert sum(c.more for c in losses) >= difference > 0
    assert {i for c in losses for i in c.layers} <= set(placed.engine.plan.by_id)
    side = found.figures
    assert side.loc["double_requantization", placed.name] > 0
    assert side.loc["double_requantization", "int8"] == 0


@needs_digits
def test_the_second_time_is_a_look_up(found: WhatIf, shared: Session) -> None:
    begun: list[object] = []
    rows: list[int] = []
    again = shared.precision.what_if(
        "digits-whatif", ["fp32", "fp16", "int8", "fp8", PLACED], data="sample", on_job=begun.append,
        on_variant=lambda w: rows.append(len(w.variants)),
    )  # fmt: skip
    assert rows == [1, 2, 3, 4, 5]
    assert len(begun) == 5
    assert all(isinstance(job, Build) and job.engine is not None and job.engine.cached for job in begun)
    assert again.to_frame().equals(found.to_frame())


def test_what_can_not_be_is_a_row_with_the_reason_and_the_rest_goes_on(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    low = session.precision.quantize(exact, "random:8", rest="fp32")
    found = session.precision.what_if(low, ["fp32", "int8"], data="random:8")
    assert found["fp32"].engine is not None
    assert "quantized already" in str(found["int8"].problem)
    assert "quantized already" in found.to_frame().set_index("variant").loc["int8", "problem"]

    found = session.precision.what_if(exact, ["fp16", "int8", "bf16"], data="random:2")
    assert "at least 8 are needed" in str(found["int8"].problem)
    assert found["fp16"].engine is not None
    assert found["bf16"].engine is not None
    assert 0 < float(found["bf16"].error["relative_l2"] or 0) < 0.05

    fp8 = session.precision.what_if(exact, ["fp8"], target="sm80", data="random:8")["fp8"]
    assert fp8.engine is None
    assert fp8.problem is not None

    random = session.precision.what_if(exact, ["int8"], data="random:8", errors=False)
    assert "random numbers" in random.warnings[0]
    assert random["int8"].error == {}


def test_cancel_ends_the_whole(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    with pytest.raises(CancelledError):
        session.precision.what_if(exact, ["int8", "fp16"], data="random:8", on_job=lambda job: job.cancel())
    assert not session.engines


def test_a_cast_with_lists_is_a_variant(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    found = session.precision.what_if(exact, ["fp16", {"to": "fp16", "keep_ops": ["Conv"]}], data="random:8")
    plain, kept = found.variants
    assert kept.name == "fp16, without Conv"
    assert plain.audit is not None
    assert kept.audit is not None
    assert plain.audit.products.get("conv", {}).get("float32", 0) == 0
    assert kept.audit.products["conv"]["float32"] >= 1  # the compiler may read one from FP16, through its own cast
    assert [f.kind for f in kept.audit.findings if f.kind == "fp32-product"]
    assert kept.error["relative_l2"] < plain.error["relative_l2"]  # type: ignore[operator]


def test_a_profiled_engine_shows_its_measured_time(session: Session, tmp_path: Path) -> None:
    """The profile is made up here: there is no GPU; its form is that of `workbench.measure.profile.profile`."""
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    found = session.precision.what_if(exact, ["fp16", "int8"], data="random:8", errors=False)
    assert found["int8"].time[1] == "estimated"
    for name, plain in (("int8", 3.0), ("fp16", 2.0)):
        engine = found[name].engine
        assert engine is not None
        (engine.folder / "profiles").mkdir()
        slow, quick = (profiles.document(ms)["latency"]["plain"] for ms in (9.0, plain))
        note = profiles.document(9.0, latency={"plain": slow, "graph": quick}, device={"name": "NVIDIA Test"})
        (engine.folder / "profiles/1.json").write_text(json.dumps(note))
    again = session.precision.what_if(exact, ["fp16", "int8"], data="random:8", errors=False)
    assert again["int8"].time == (3.0, "measured", "NVIDIA Test")
    assert any("int8 is measured slower than fp16: 3 ms against 2 ms on NVIDIA Test" in text for text in again.warnings)


def test_a_generator_serves_every_variant(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    data = np.random.default_rng(0).standard_normal((16, 1, 8, 8, 8), dtype=np.float32)
    schemes = ["fp32", "fp16", "int8", {"to": "int8", "weights": "tensor"}]
    found = session.precision.what_if(exact, schemes, data=iter(data))
    assert [str(v.problem or v.error_problem or "") for v in found.variants] == [""] * 4
    assert {v.samples for v in found.variants} == {16}
    again = session.precision.what_if(exact, schemes, data=list(data))
    assert [dict(v.error) for v in again.variants] == [dict(v.error) for v in found.variants]
