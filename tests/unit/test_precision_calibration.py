"""Calibration data are looked at before use; ranges come from counts; a cache knows its model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.small_models import mlp, save
from workbench import Model
from workbench.core.errors import CalibrationError, ConfigError
from workbench.precision.calibration import Calibration, side_by_side
from workbench.precision.data import gather, read_batches
from workbench.precision.histogram import BINS, Histogram
from workbench.precision.inputs import Input, inputs_of

X = [Input("x", (4, 8), "float32")]
FREE = [Input("x", ("n", 8), "float32")]
TWO = [Input("ids", ("n", 5), "int64"), Input("mask", ("n", 5), "bool")]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def shapes_of(folder: Path) -> list[tuple[int, ...]]:
    return [batch["x"].shape for batch in read_batches(folder)]


# --- what is taken ----------------------------------------------------------------------------------


def test_an_array_is_cut_into_the_models_own_batches(tmp_path: Path) -> None:
    made = gather(normal(18, 8), X, tmp_path)
    assert (made.count, made.samples) == (4, 16)
    assert shapes_of(tmp_path) == [(4, 8)] * 4


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_files_generators_loaders_and_dicts_give_the_same_digest(tmp_path: Path, suffix: str) -> None:
    data = normal(16, 8)
    if suffix == ".npy":
        np.save(tmp_path / "d.npy", data)
    else:
        np.savez(tmp_path / "d.npz", anything=data)
    forms = [
        str(tmp_path / f"d{suffix}"), tmp_path / f"d{suffix}", data, {"x": data}, (data[i : i + 4] for i in range(0, 16, 4)),
        [(data[i : i + 4], "label") for i in range(0, 16, 4)], [{"x": data[:8]}, {"x": data[8:], "y": 1}], lambda: data,
    ]  # fmt: skip
    digests = {gather(form, X, tmp_path / f"out{i}").digest for i, form in enumerate(forms)}
    assert len(digests) == 1
    assert gather(data + 1, X, tmp_path / "other").digest not in digests


def test_a_folder_of_arrays_and_samples_without_their_batch_axis(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(9):
        np.save(folder / f"{i}.npy", normal(8, seed=i))
    assert gather(folder, FREE, tmp_path / "out").samples == 9
    assert gather([normal(8, seed=i) for i in range(9)], FREE, tmp_path / "out2").samples == 9


def test_a_factory_is_found_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_batches.py").write_text(
        "import numpy as np\ndef make():\n    r = np.random.default_rng(0)\n    for _ in range(4):\n"
        "        yield r.standard_normal((4, 8), dtype=np.float32)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert gather("my_batches:make", X, tmp_path / "out").count == 4
    with pytest.raises(CalibrationError, match="my_batches:nothing can't be loaded"):
        gather("my_batches:nothing", X, tmp_path / "out2")


def test_random_numbers_are_told_apart_and_repeatable(tmp_path: Path) -> None:
    a, b = gather("random:8", X, tmp_path / "a"), gather("random:8", X, tmp_path / "b")
    assert a.digest == b.digest
    assert gather("random:8", X, tmp_path / "c", seed=1).digest != a.digest
    assert "random numbers" in a.warnings[0]
    assert gather("random:16", TWO, tmp_path / "d").samples == 16  # integers and booleans too


def test_torch_loaders(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    data = torch.from_numpy(normal(16, 8))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data, torch.zeros(16)), batch_size=4)
    assert gather(loader, X, tmp_path).digest == gather(data.numpy(), X, tmp_path / "b").digest


def test_images(tmp_path: Path) -> None:
    images = [Input("x", (1, 3, 6, 5), "float32")]
    folder = tmp_path / "img"
    folder.mkdir()
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    gather(folder, images, tmp_path / "out")
    for batch in read_batches(tmp_path / "out"):
        assert batch["x"].shape == (1, 3, 6, 5)
        assert 0 <= batch["x"].min() < batch["x"].max() <= 1


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ([], "contains no batch"),
        (normal(0, 8), "contains no batch"),
        (normal(4, 8), "contains 4 samples; at least 8"),
        (np.ones((16, 8), np.float32), "1 in every element"),
        ([normal(4, 8)] * 4, "the same"),
        ([normal(4, 9)] * 4, r"shape \[4, 9\]; the model declares \[4, 8\]"),
        ([normal(4, 8, 1)] * 4, r"shape \[4, 8, 1\]"),
        ([normal(3, 8)] * 4, "has 3 samples; the model takes exactly 4"),
        (np.arange(128).reshape(16, 8), "is int64; the model takes float32"),
        (np.where(np.arange(128).reshape(16, 8) == 5, np.nan, normal(16, 8)), "1 NaN"),
        (np.where(np.arange(128).reshape(16, 8) == 5, np.inf, normal(16, 8)), "1 infinite"),
        ([{"y": normal(4, 8)}], "no input x"),
        ({"y": normal(16, 8)}, "no data for input x"),
        ("random:0", "does not give a number of batches"),
        ("random:many", "does not give a number of batches"),
        ("random:²", "does not give a number of batches"),
        ("no/such/place", "no calibration data 'no/such/place'"),
        ("no_such_module:f", "can't be loaded"),
        (7, "An object of type int is not calibration data"),
    ],
    ids=lambda v: v if isinstance(v, str) else "data",
)
def test_bad_data_are_refused_with_the_reason(data: object, what: str, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=what):
        gather(data, X, tmp_path / "out")


def test_unreadable_files_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"nothing of the kind")
    (tmp_path / "pickled.npy").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, what in [
        ("bad.npz", "can't be read"), ("pickled.npy", "can't be read"), ("object.npy", "can't be read"), ("empty", "neither"),
    ]:  # fmt: skip
        with pytest.raises(CalibrationError, match=what) as refused:
            gather(tmp_path / name, X, tmp_path / "out")
        assert "unsafely" not in str(refused.value)


def test_dynamic_axes_need_a_size_for_random_data(tmp_path: Path) -> None:
    path = save(mlp("batch"), tmp_path / "m.onnx")
    graph = Model("m", path).graph
    assert gather("random:8", inputs_of(graph), tmp_path / "a").samples == 8
    assert gather("random:2", inputs_of(graph, {"x": (16, 8)}), tmp_path / "b").samples == 32
    free = [Input("x", ("n", "length"), "float32")]
    with pytest.raises(CalibrationError, match="dynamic axes") as raised:
        gather("random:8", free, tmp_path / "c")
    assert "shapes={'x': " in (raised.value.hint or "")
    assert "--shape x=" in (raised.value.shell_hint or "")
    with pytest.raises(ConfigError):
        inputs_of(graph, {"x": (1, 9)})


def test_several_inputs_need_names_or_their_order(tmp_path: Path) -> None:
    ids, mask = np.random.default_rng(0).integers(0, 9, (16, 5)), np.ones((16, 5), bool)
    assert gather({"ids": ids, "mask": mask}, TWO, tmp_path / "a").samples == 16
    assert gather([(ids, mask)], TWO, tmp_path / "b").samples == 16
    with pytest.raises(CalibrationError, match="gives no input names"):
        gather(ids, TWO, tmp_path / "c")
    with pytest.raises(CalibrationError, match="different numbers"):
        gather({"ids": ids, "mask": mask[:3]}, TWO, tmp_path / "d")
    with pytest.raises(CalibrationError, match="is float32; the model takes int64"):
        gather({"ids": ids.astype(np.float32), "mask": mask}, TWO, tmp_path / "e")


# --- ranges -----------------------------------------------------------------------------------------


def test_counts_are_exact_whatever_the_order() -> None:
    parts = [normal(1000, seed=i) * (10.0 ** (i - 2)) for i in range(5)]
    histograms = []
    for order in (parts, parts[::-1]):
        h = Histogram()
        for part in order:
            h.observe(part)
        histograms.append(h)
        assert h.counts.sum() == h.elements == 5000
        assert h.amax == pytest.approx(max(np.abs(p).max() for p in parts))
        assert h.top > h.amax
        edges = np.linspace(0, h.top, BINS + 1)
        expected, _ = np.histogram(np.abs(np.concatenate(parts)), edges)
        assert np.abs(expected - h.counts).sum() <= 20  # only values at a bin's edge may round the other way
    assert histograms[0].low == histograms[1].low


def test_methods() -> None:
    h = Histogram()
    h.observe(np.concatenate([normal(200_000), [50.0]]).astype(np.float32))
    assert h.range("minmax") == pytest.approx(50)
    assert h.range("percentile", 99.99) == pytest.approx(np.quantile(np.abs(normal(200_000)), 0.9999), abs=0.05)
    assert 2.5 < h.range("entropy") < 8  # the outlier is cut off, the body is kept
    with pytest.raises(CalibrationError, match="no calibration method"):
        h.range("mean")
    zero = Histogram()
    zero.observe(np.zeros(10, np.float32))
    assert [zero.range(m) for m in ("minmax", "percentile", "entropy")] == [0, 0, 0]


def test_entropy_does_not_cut_off_data_of_few_distinct_values() -> None:
    h = Histogram()
    h.observe((np.random.default_rng(0).integers(0, 17, 10_000) / 16).astype(np.float32))
    assert h.range("entropy") > 0.99


@pytest.mark.slow
def test_entropy_agrees_with_the_librarys_search_over_as_many_bins() -> None:
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    for data in (normal(100_000), np.abs(normal(100_000)) ** 2, np.concatenate([normal(100_000), normal(50) * 20])):
        h = Histogram()
        h.observe(data.astype(np.float32))
        collector = calibrate.HistogramCollector("entropy", True, 2 * BINS, 256, 99.99, "same")
        collector.collect_value({"t": data.astype(np.float32)})
        theirs = float(collector.compute_entropy()["t"][1])
        assert h.range("entropy") == pytest.approx(theirs, rel=0.25)
    # With the library's own default of 128 bins there is nothing to search: it gives the largest value.
    collector = calibrate.HistogramCollector("entropy", True, 128, 128, 99.99, "same")
    collector.collect_value({"t": data.astype(np.float32)})
    low, high = collector.compute_entropy()["t"][:2]
    assert max(-float(low), float(high)) == pytest.approx(h.amax, rel=1e-3)


def test_not_finite_values_are_counted_apart() -> None:
    h = Histogram()
    h.observe(np.array([1.0, np.nan, -2.0, np.inf], np.float32))
    assert (h.bad, h.elements, h.low, h.high) == (2, 2, -2.0, 1.0)
    h.observe(np.array([np.nan], np.float32))
    assert h.bad == 3


# --- the cache --------------------------------------------------------------------------------------


def made(scale: float = 1.0, model: str = "a" * 64) -> Calibration:
    h, k = Histogram(), Histogram()
    h.observe(normal(1000) * scale)
    k.observe(normal(1000, seed=1))
    return Calibration(model, {"digest": "d", "source": "random:8", "batches": 8, "samples": 8}, {"h": h, "k": k})


def test_a_cache_is_saved_read_inspected_and_compared(tmp_path: Path) -> None:
    first, second = made(), made(2.0)
    again = Calibration.load(first.save(tmp_path / "c.json"))
    assert again.ranges() == first.ranges()
    assert again.data == first.data
    frame = first.to_frame()
    assert list(frame["tensor"]) == ["h", "k"]
    assert {"entropy", "percentile", "minmax", "low", "high"} <= set(frame.columns)
    compared = first.compare(second, "minmax")
    assert compared["tensor"][0] == "h"
    assert compared["ratio"][0] == pytest.approx(2)
    assert compared["ratio"][1] == pytest.approx(1)


def test_a_cache_of_another_model_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="another model"):
        made().check("b" * 64)
    for text in (
        "",
        "TRT-101100-EntropyCalibration2\nx: 3c010a14",
        "{}",
        json.dumps({"schema": "workbench.calibration/9"}),
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(CalibrationError, match="not a calibration cache"):
            Calibration.load(tmp_path / "x.json")
    with pytest.raises(CalibrationError, match=r"absent\.json can.t be read"):
        Calibration.load(tmp_path / "absent.json")


def test_tiny_values_are_counted_as_larger_ones_are() -> None:
    values = np.abs(normal(4096)) + np.float32(0.01)
    tiny, plain = Histogram(), Histogram()
    tiny.observe(values * np.float32(1e-36))
    plain.observe(values)
    assert int(tiny.counts.sum()) == 4096
    assert np.abs(np.cumsum(tiny.counts) - np.cumsum(plain.counts)).max() < 20  # but for rounding at the bins' borders
    assert tiny.range("percentile", 50) == pytest.approx(plain.range("percentile", 50) * 1e-36, rel=0.01)
    grown = Histogram()
    grown.observe(values * np.float32(1e-36))
    grown.observe(values)
    assert grown.counts.sum() == 8192
    assert grown.range("minmax") == float(values.max())


def test_inputs_with_different_numbers_of_batches_are_refused(tmp_path: Path) -> None:
    ids, mask = np.zeros((9, 4, 5), np.int64), np.ones((8, 4, 5), bool)
    with pytest.raises(CalibrationError, match="different numbers of batches: ids 9, mask 8"):
        gather({"ids": ids, "mask": mask}, TWO, tmp_path)


@pytest.mark.parametrize("harm", ["cut", "inside"])
def test_a_damaged_archive_is_named(tmp_path: Path, harm: str) -> None:
    file = tmp_path / "data.npz"
    np.savez_compressed(file, x=normal(64, 8))
    raw = bytearray(file.read_bytes())
    if harm == "cut":
        raw = raw[: len(raw) // 2]
    else:
        raw[len(raw) // 2 : len(raw) // 2 + 64] = bytes(64)
    file.write_bytes(raw)
    with pytest.raises(CalibrationError, match=r"data\.npz can't be read as NumPy data"):
        gather(file, FREE, tmp_path / "out")


@pytest.mark.parametrize("harm", ["no image", "cut"])
def test_a_damaged_image_is_named(tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(8):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
    bad = folder / "5.png"
    bad.write_bytes(b"no image at all" if harm == "no image" else bad.read_bytes()[:1500])
    with pytest.raises(CalibrationError, match=r"5\.png can't be read as an image"):
        gather(folder, [Input("x", ("n", 3, 16, 16), "float32")], tmp_path / "out")


def test_labels_follow_their_samples(tmp_path: Path) -> None:
    labels = list(range(18))
    data = normal(18, 8)
    made = gather(data, X, tmp_path / "fixed")
    assert (made.samples, made.total, made.cut) == (16, 18, False)
    assert any("2 of 18 samples of The given array were left out" in text for text in made.warnings)
    assert made.labels(labels) == labels[:16]
    assert made.labels(labels[:16]) == labels[:16]
    with pytest.raises(CalibrationError, match="17 labels for 18 samples"):
        made.labels(labels[:17])
    cut = gather(data, FREE, tmp_path / "cut", limit=1, min_samples=1)
    assert (cut.samples, cut.cut) == (8, True)
    assert cut.labels(labels) == labels[:8]
    assert not cut.warnings
    with pytest.raises(CalibrationError, match="7 labels"):
        cut.labels(labels[:7])
    both = gather([data[:10], data[10:]], X, tmp_path / "both", limit=3)  # 2 samples of the first batch fill none
    assert both.places == (*range(8), *range(10, 14))
    assert both.labels(labels) == [*range(8), *range(10, 14)]
    for place, sample in zip(both.places, np.concatenate([b["x"] for b in both]), strict=True):
        np.testing.assert_array_equal(sample, data[place])
    assert gather(normal(16, 8), X, tmp_path / "all").warnings == ()


def test_batches_are_taken_as_they_are(tmp_path: Path) -> None:
    made = gather(iter(normal(2, 4, 8)), X, tmp_path / "once", min_samples=1)
    assert gather(made, X, tmp_path / "again", min_samples=8, limit=1) is made
    assert not (tmp_path / "again").exists()
    with pytest.raises(CalibrationError, match="8 samples; at least 9 are needed"):
        gather(made, X, tmp_path / "again", min_samples=9)


def midway() -> Iterator[np.ndarray]:
    yield normal(4, 8)
    raise KeyError("sample 5")


def refuses() -> None:
    raise RuntimeError("no disk")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (midway(), r"failed at .*test_precision_calibration.py:\d+: KeyError: 'sample 5'"),
        (refuses, r"refuses failed at .*RuntimeError: no disk"),
        (f"{__name__}:refuses", r"refuses failed at .*RuntimeError: no disk"),
        (f"{__name__}:midway", r"KeyError: 'sample 5'"),
        ({"x": np.float32(3)}, "input x are a single number"),
    ],
    ids=["generator", "function", "factory", "factory of a generator", "a number"],
)
def test_what_the_users_code_raises_is_told_with_its_place(data: object, what: str, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=what):
        gather(data, X, tmp_path / "out")


def test_a_module_that_does_not_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unparsed_data.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CalibrationError, match=r"unparsed_data:f failed at .*SyntaxError"):
        gather("unparsed_data:f", X, tmp_path / "out")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_no_batches_is_named(limit: int, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=f"A limit of {limit} batches leaves no data"):
        gather(normal(64, 8), X, tmp_path / "out", limit=limit)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"schema": "workbench.calibration/1", "tensors": {}, "model": "m", "data": {}}', "does not record its data's"),
        ('{"schema": "workbench.calibration/1", "tensors": [], "model": "m", "data": {"source": 1, "digest": 1, '
         '"batches": 1, "samples": 1}}', "does not record its data's source"),
        ('{"schema": "workbench.calibration/1", "tensors": [], "model": "m", "data": {"source": "s", "digest": "d", '
         '"batches": 1, "samples": 1}}', "it has no tensors"),
        ('{"schema": "workbench.calibration/1"}', "does not record its model"),
        ('{"schema": "workb', "Unterminated"),
    ],
)  # fmt: skip
def test_damaged_caches_are_refused(text: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(text)
    with pytest.raises(CalibrationError, match=what) as refused:
        Calibration.load(file)
    assert "--save-calibration" in str(refused.value.hint)
    file.write_bytes(b"\xa4\xff")
    with pytest.raises(CalibrationError, match="Expecting value"):
        Calibration.load(file)
    with pytest.raises(CalibrationError, match="can't be read: No such file"):
        Calibration.load(tmp_path / "none.json")


def cache_of(tmp_path: Path, **change: object) -> Path:
    """A cache of one tensor, with fields of its histogram replaced."""
    h = Histogram()
    h.observe(normal(4000, seed=3))
    document = {
        "schema": "workbench.calibration/1", "model": "m",
        "data": {"source": "s", "digest": "d", "batches": 1, "samples": 8},
        "tensors": {"conv/out": {**h.to_dict(), **change}},
    }  # fmt: skip
    file = tmp_path / "cache.json"
    file.write_text(json.dumps(document))
    return file


COUNTS = {
    "short": lambda c: c[:100], "negative": lambda c: [-n for n in c], "all zero": lambda c: [0] * len(c), "empty": lambda c: [],
    "nested": lambda c: [c], "huge": lambda c: [10**30] * len(c), "text": lambda c: [str(n) for n in c], "null": lambda c: None,
    "floats": lambda c: [float(n) for n in c], "true": lambda c: [*c[:-1], True],
    "one more": lambda c: [c[0] + 1, *c[1:]],
}  # fmt: skip


@pytest.mark.parametrize("what", COUNTS)
def test_counts_that_can_not_be_are_refused_with_the_tensor(tmp_path: Path, what: str) -> None:
    good = cache_of(tmp_path)
    counts = json.loads(good.read_text())["tensors"]["conv/out"]["counts"]
    assert Calibration.load(good).ranges()["conv/out"] > 1
    with pytest.raises(CalibrationError) as caught:
        Calibration.load(cache_of(tmp_path, counts=COUNTS[what](counts)))
    assert (caught.value.code, caught.value.details) == ("calibration-histogram", {"tensor": "conv/out"})
    assert "conv/out" in caught.value.message


@pytest.mark.parametrize("value", [-1.0, "3", None, True, [1.0], {}, 1e39, 1e308, 10**30, 1e-30, 0, 1000.0])
@pytest.mark.parametrize("key", ["top", "low", "high", "elements", "bad"])
def test_fields_that_can_not_be_are_refused_with_the_tensor(tmp_path: Path, key: str, value: object) -> None:
    if (key, value) in [("low", -1.0), ("low", 0), ("low", 1e-30), ("bad", 0)]:
        return  # these can be: the largest magnitude is the other end
    with pytest.raises(CalibrationError) as caught:
        Calibration.load(cache_of(tmp_path, **{key: value}))
    assert (caught.value.code, caught.value.details) == ("calibration-histogram", {"tensor": "conv/out"})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(tmp_path: Path, number: str) -> None:
    file = cache_of(tmp_path, top=-777)
    file.write_text(file.read_text().replace("-777", number))
    with pytest.raises(CalibrationError) as caught:
        Calibration.load(file)
    assert (caught.value.code, caught.value.details) == ("calibration-histogram", {"tensor": "conv/out"})


def test_a_cache_that_names_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    file = cache_of(tmp_path)
    text = file.read_text()
    entry = text[text.index('"conv/out"') :].removesuffix("}}")
    file.write_text(text.replace(entry, f"{entry}, {entry}"))
    with pytest.raises(CalibrationError, match="'conv/out' twice"):
        Calibration.load(file)


@pytest.mark.parametrize("seed", range(20))
def test_every_histogram_that_can_be_is_read_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h = Histogram()
    for _ in range(int(rng.integers(1, 6))):
        values = rng.standard_normal(int(rng.integers(1, 500))) * 10.0 ** rng.integers(-40, 38)
        with np.errstate(over="ignore"):
            h.observe(np.clip(np.where(rng.random(values.shape) < 0.3, 0, values), -3e38, 3e38).astype(np.float32))
    again = Histogram.from_dict(json.loads(json.dumps(h.to_dict())))
    assert again.to_dict() == h.to_dict()


@pytest.mark.parametrize("end", [float("nan"), float("inf"), -1.0, 1e39, "1", None, True])
def test_no_range_that_is_no_number_reaches_a_model(end: object) -> None:
    import onnx_ir as ir

    from tests.support.small_models import mlp
    from workbench.passes.insert_qdq import Insertion
    from workbench.passes.qdq_choice import Choices

    with pytest.raises(CalibrationError) as caught:
        Insertion(ir.from_proto(mlp()), Choices(), {"h": end}, to="int8")  # type: ignore[dict-item]
    assert (caught.value.code, caught.value.details) == ("calibration-range", {"tensor": "h"})


def test_ranges_that_are_both_zero_are_the_same() -> None:
    assert side_by_side({"x": 0.0, "y": 2.0}, {"x": 0.0, "y": 3.0})["ratio"].to_list() == [1.5, 1.0]


@pytest.mark.parametrize(
    ("dtype", "value"), [("float32", 1e300), ("float16", 1e6), ("uint8", 300), ("int32", 2**40), ("bool", 2)]
)
def test_values_that_the_input_can_not_hold_are_refused(tmp_path: Path, dtype: str, value: float) -> None:
    data = (np.arange(16) // 3 % 2).reshape(16, 1).astype("float64" if isinstance(value, float) else "int64")
    assert gather(data, [Input("x", ("n", 1), dtype)], tmp_path / "a").samples == 16
    data[3] = value
    with pytest.raises(CalibrationError, match=f"values from 0 to .*, which {dtype} can't represent"):
        gather(data, [Input("x", ("n", 1), dtype)], tmp_path / "b")
