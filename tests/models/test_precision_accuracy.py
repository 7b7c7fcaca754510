"""Errors against FP32: on paper for the figures, on a trained model for what quantization costs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import HAS_TORCH, SAMPLES, needs_rtx
from tests.support.small_models import constant, mlp, model, net, node, save, value, weights
from workbench import Model, Session
from workbench.core.errors import CalibrationError, ConfigError, ModelError
from workbench.precision import cast, quantize
from workbench.precision.accuracy import accuracy
from workbench.precision.audit import audit
from workbench.precision.error_figures import errors
from workbench.precision.mixed import mixed
from workbench.precision.sensitivity import sensitivity

try:
    import sklearn  # noqa: F401

    HAS_DIGITS = HAS_TORCH
except ImportError:
    HAS_DIGITS = False
needs_digits = pytest.mark.skipif(not HAS_DIGITS, reason="torch or scikit-learn is not installed")


@pytest.fixture(scope="module")
def digits(shared: Session, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, dict[str, np.ndarray]]:
    """The trained model as ONNX with a dynamic batch, and its data."""
    sys.path.insert(0, str(SAMPLES))
    try:
        import digits as sample
    finally:
        sys.path.remove(str(SAMPLES))
    x, _, tx, ty = sample.data()
    model = shared.add(sample.train(), inputs=(tx[:1],), name="digits", shapes={"x": "1x1x8x8:64x1x8x8:600x1x8x8"})
    return model, {"x": x.numpy(), "tx": tx.numpy(), "ty": ty.numpy()}


@needs_digits
@pytest.mark.parametrize(("to", "points"), [("int8", 1.0), ("fp8", 1.0)])
def test_digits_within_a_point_of_fp32(shared: Session, digits, to: str, points: float) -> None:
    exact, data = digits
    low = quantize(exact, shared.store, to=to, data=data["x"][:256])
    half = cast(exact, "fp16", shared.store)
    found = accuracy(exact, {"low": low, "fp16": half}, shared.store, data=data["tx"], labels=data["ty"], along=True)
    table = found.models
    assert found.samples == 597
    assert table["fp32"]["accuracy"] > 0.95  # it has learned
    assert abs(table["low"]["accuracy"] - table["fp32"]["accuracy"]) * 100 <= points
    assert table["fp16"]["top1"] > 0.99
    assert table["low"]["snr_db"] > 20
    along = found.along("low")
    assert len(along) > 5
    assert along["relative_l2"].between(0, 0.2).all()
    assert along["relative_l2"].iloc[-1] == pytest.approx(table["low"]["relative_l2"], rel=0.1)
    print(found.to_frame())


def test_kept_outputs_of_fp32_are_used_again(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(net(), tmp_path / "net.onnx"))
    low = cast(exact, "fp16", session.store)
    data = {"x": np.random.default_rng(0).standard_normal((8, 8, 8, 8), dtype=np.float32)}
    totals: list[int] = []
    watch = {"keep": tmp_path / "kept", "data": data,
             "on_job": lambda job: job.on_change(lambda j: totals.extend(p.total for p in j.progress))}  # fmt: skip
    plain = accuracy(exact, {"low": low}, session.store, data=data).models
    first = accuracy(exact, {"one": low}, session.store, labels=[0] * 8, **watch).models
    once = max(totals)
    totals.clear()
    again = accuracy(exact, {"two": low}, session.store, labels=[1] * 8, **watch).models
    assert max(totals) == once // 2  # the FP32 model did not run
    assert first["one"]["relative_l2"] == again["two"]["relative_l2"] == plain["low"]["relative_l2"]


@needs_digits
@needs_rtx
def test_digits_builds_in_int8(shared: Session, digits) -> None:
    exact, data = digits
    low = quantize(exact, shared.store, data=data["x"][:256])
    plan = shared.build(low, target="sm89", shapes={"x": "64x1x8x8"}).plan
    assert audit(plan).products == {"conv": {"int8": 3}, "gemm": {"int8": 1}}


@needs_digits
def test_sensitivity_ranks_and_a_budget_is_met_with_few_layers(shared: Session, digits) -> None:
    exact, data = digits
    low = quantize(exact, shared.store, data=data["x"][:256], weights="tensor", method="minmax")
    jobs: list = []
    given = {"data": data["tx"], "labels": data["ty"], "on_job": jobs.append}
    ranking = sensitivity(exact, low, shared.store, **given)
    frame = ranking.to_frame()
    assert len(frame) == 4
    assert frame["relative_l2"].is_monotonic_decreasing
    assert set(frame["op"]) == {"Conv", "Gemm"}
    whole = accuracy(exact, {"low": low}, shared.store, data=data["tx"])
    full = float(whole.models["low"]["relative_l2"] or 0)
    assert frame["relative_l2"].iloc[0] < full * 1.05
    chosen = mixed(exact, low, shared.store, budget=full * 0.8, metric="relative_l2", **given)
    assert chosen.met
    assert 1 <= len(chosen.keep) < 4
    assert chosen.value <= full * 0.8
    applied = quantize(
        exact, shared.store, data=data["x"][:256], weights="tensor", method="minmax", keep=chosen.keep, rest="fp32"
    )
    again = accuracy(exact, {"low": applied}, shared.store, data=data["tx"])
    assert float(again.models["low"]["relative_l2"] or 0) == pytest.approx(chosen.value, rel=0.05)
    easy = mixed(exact, low, shared.store, budget=0.5, metric="accuracy", **given)
    assert easy.keep == ()
    never = mixed(exact, low, shared.store, budget=1.0, metric="accuracy", **given)
    assert not never.met
    count = len(jobs)
    assert sensitivity(exact, low, shared.store, **given) == ranking
    assert len(jobs) == count  # found, not measured again


def test_figures_on_paper() -> None:
    want = {"y": [np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), np.array([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])]}
    got = {"y": [want["y"][0] + np.array([[0, 0, 0, 0, 0, -2.0]]), want["y"][1]]}
    found = errors(got, want, [5, 0])
    assert found["max_abs"] == 2
    assert found["relative_max"] == pytest.approx(2 / 6)
    assert found["relative_l2"] == pytest.approx(2 / np.sqrt(2 * 91))
    assert found["snr_db"] == pytest.approx(20 * np.log10(np.sqrt(182) / 2))
    assert found["top1"] == 0.5
    assert found["top5"] == 1.0
    assert found["accuracy"] == 0.5
    same = errors(want, want)
    assert (same["relative_l2"], same["snr_db"], same["top1"]) == (0, None, 1)
    with pytest.raises(ConfigError, match="Labels need"):
        errors({"y": [np.ones(3)]}, {"y": [np.ones(3)]}, [1])
    with pytest.raises(ConfigError, match="the reference"):
        errors({"y": [np.ones(3)]}, {"y": [np.ones(2)]})
    with pytest.raises(ConfigError, match="no output y"):
        errors({"z": [np.ones(3)]}, {"y": [np.ones(3)]})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_no_small_error(bad: float) -> None:
    want = {"y": [np.array([[9.0, 2.0, 3.0, 4.0, 5.0, 6.0], [9.0, 5.0, 4.0, 3.0, 2.0, 1.0]])]}
    got = {"y": [want["y"][0].copy()]}
    got["y"][0][0, 0] = bad
    found = errors(got, want, [0, 0])
    assert found["not_finite"] == 1
    assert found["relative_l2"] == found["relative_max"] == found["max_abs"] == np.inf
    assert (found["snr_db"], found["cosine"]) == (-np.inf, None)
    assert found["top1"] == found["top5"] == found["accuracy"] == 0.5
    all_bad = errors({"y": [np.full((2, 6), bad)]}, want, [0, 0])
    assert (all_bad["relative_l2"], all_bad["top1"], all_bad["accuracy"]) == (np.inf, 0, 0)
    masked = {"y": [np.array([[1.0, -np.inf], [2.0, 1.0]])]}  # meant: FP32 has it too
    assert errors(masked, masked)["relative_l2"] == 0
    assert errors(masked, masked)["top1"] == 1


def test_a_layer_that_breaks_the_output_ranks_first_and_is_kept(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(mlp(8), tmp_path / "net.onnx"))
    low = quantize(exact, session.store, data="random:8", weights="tensor")
    ranges = dict(low.origin["ranges"])
    ranges["r"] = 1e-30  # so that this layer gives next to nothing
    broken = Model(low.name, low.path, {**low.origin, "ranges": ranges}, original=exact)
    data = np.random.default_rng(1).standard_normal((16, 8), dtype=np.float32)
    ranking = sensitivity(exact, broken, session.store, data=data).layers
    assert [row["node"] for row in ranking] == ["mm2", "mm1"]
    assert ranking[0]["relative_l2"] > 0.9 > 0.1 > ranking[1]["relative_l2"]
    chosen = mixed(exact, broken, session.store, data=data, budget=0.5, metric="relative_l2")
    assert chosen.keep == ("mm2",)
    assert chosen.met


def test_batches_of_different_lengths_and_outputs_without_classes(session: Session, tmp_path: Path) -> None:
    words = model(
        [node("MatMul", ["x", "w"], ["y"], "mm")], [value("x", [1, "length", 8])], [value("y", [1, "length", 4])],
        [weights("w", 8, 4)],
    )  # fmt: skip
    exact = session.add(save(words, tmp_path / "words.onnx"))
    rng = np.random.default_rng(0)
    data = [rng.standard_normal((1, n, 8)).astype(np.float32) for n in range(1, 9)]
    low = quantize(exact, session.store, data=data)
    found = accuracy(exact, {"low": low}, session.store, data=data, keep=tmp_path / "kept").models["low"]
    assert 0 < float(found["relative_l2"] or 0) < 0.1
    assert accuracy(exact, {"again": low}, session.store, data=data, keep=tmp_path / "kept").models["again"] == found
    with pytest.raises(ConfigError, match="no top1") as raised:
        mixed(exact, low, session.store, data=data, budget=0.9, metric="top1")
    assert raised.value.hint == "Metrics it has: relative_l2."


def test_what_is_refused(session: Session, tmp_path: Path) -> None:
    exact = Model("net", save(net(), tmp_path / "net.onnx"))
    low = quantize(exact, session.store, data="random:8")
    with pytest.raises(CalibrationError, match="2 labels for 8 samples"):
        accuracy(exact, {"low": low}, session.store, data="random:8", labels=[1, 2])
    with pytest.raises(ModelError, match="not made by the workbench"):
        sensitivity(exact, exact, session.store, data="random:8")
    with pytest.raises(ConfigError, match="needs labels"):
        mixed(exact, low, session.store, data="random:8", budget=0.9)
    with pytest.raises(ConfigError, match="no metric"):
        mixed(exact, low, session.store, data="random:8", budget=0.9, metric="f1")


def test_a_mask_near_the_end_of_fp32_has_an_error_along_the_graph(session: Session, tmp_path: Path) -> None:
    masked = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Add", ["h", "mask"], ["m"], "mask"), node("Softmax", ["m"], ["y"], "soft")],
        [value("x", [8, 8])], [value("y", [8, 4])],
        [weights("w", 8, 4), constant("mask", [0.0, 0.0, 0.0, -3.4e38])],
    )  # fmt: skip
    exact = session.add(save(masked, tmp_path / "masked.onnx"))
    low = quantize(exact, session.store, data="random:8", rest="fp32")
    data = np.random.default_rng(0).standard_normal((8, 8), dtype=np.float32)
    along = accuracy(exact, {"low": low}, session.store, data=data, along=True).tensors["low"]
    assert along["m"] < 1e-30  # the mask is all of its norm
    assert 0 < along["y"] < 0.1


@pytest.mark.parametrize(("batch", "limit", "used"), [(8, None, 16), (8, 1, 8), ("n", 2, 16)])
def test_labels_of_samples_that_are_left_out(
    session: Session, tmp_path: Path, batch: int | str, limit: int | None, used: int
) -> None:
    exact = session.add(save(mlp(batch), tmp_path / "net.onnx"))
    data = np.random.default_rng(0).standard_normal((20, 8), dtype=np.float32)
    import onnxruntime as ort

    run = ort.InferenceSession(str(exact.path)).run
    labels = np.concatenate([run(None, {"x": part})[0] for part in (data[:8], data[8:16])]).argmax(axis=1).tolist()
    wrong = [(label + 1) % 4 for label in labels[: used // 2]] + labels[used // 2 :] + [0] * 4
    found = accuracy(exact, {}, session.store, data=data, labels=wrong, limit=limit)
    assert found.samples == used
    assert found.models["fp32"]["accuracy"] == 0.5


def test_a_generator_is_read_once_for_a_mix(session: Session, tmp_path: Path) -> None:
    exact = session.add(save(mlp(8), tmp_path / "net.onnx"))
    low = quantize(exact, session.store, data="random:8")
    data = np.random.default_rng(0).standard_normal((4, 8, 8), dtype=np.float32)
    given = {"budget": 1e-4, "metric": "relative_l2", "limit": 3}
    found = mixed(exact, low, session.store, data=iter(data), **given)
    assert found == mixed(exact, low, session.store, data=list(data), **given)
    assert len(found.tried) > 1
