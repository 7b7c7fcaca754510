"""The precision commands, in a process of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support import SAMPLES, needs_rtx
from tests.support.small_models import mlp, net, save
from workbench import Session


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npy"
    np.save(path, np.random.default_rng(0).standard_normal((16, 8, 8, 8)).astype(np.float32))
    return path


@pytest.mark.slow
def test_quantize_calibration_and_what_is_said(cli, tmp_path: Path, data: Path) -> None:
    model = save(net(), tmp_path / "net.onnx")
    out, cache = tmp_path / "low.onnx", tmp_path / "c.json"
    done = cli("quantize", model, "--to", "int8", "-c", data, "--method", "percentile", "--keep", "conv2", "-o", out, "--save-calibration", cache)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 nodes, 2 Q/DQ pairs" in done.stdout
    assert "1 nodes: kept on request" in done.stdout
    onnx.checker.check_model(str(out), full_check=True)
    told = json.loads(cli("calibration", cache, "--format", "json").stdout)
    assert [t["tensor"] for t in told["tensors"]] == ["x", "f"]
    assert "ratio" in cli("calibration", cache, cache).stdout
    again = cli("quantize", model, "-c", cache, "--keep", "conv2", "-o", out, "--format", "json")
    assert json.loads(again.stdout)["scheme"]["method"] is None
    warned = cli("quantize", model, "-c", "random:8", "-o", out)
    assert "Warning: Calibrated on random numbers" in warned.stderr


def test_cast(cli, tmp_path: Path) -> None:
    out = tmp_path / "half.onnx"
    done = cli("cast", SAMPLES / "residual_block.onnx", "--to", "fp16", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "casts added" in done.stdout
    kinds = {t.data_type for t in onnx.load(str(out)).graph.initializer}
    assert onnx.TensorProto.FLOAT not in kinds


def test_cast_with_lists(cli, tmp_path: Path) -> None:
    model, out = save(net(), tmp_path / "net.onnx"), tmp_path / "half.onnx"
    done = cli("cast", model, "--to", "fp16", "--keep-op", "Gemm", "--keep", "conv1", "--cast-io", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "1 Conv, 1 Gemm" in done.stdout
    made = onnx.load(str(out))
    assert {v.type.tensor_type.elem_type for v in (*made.graph.input, *made.graph.output)} == {onnx.TensorProto.FLOAT16}
    wrong = cli("cast", model, "--to", "fp16", "--only-op", "Softmax", "-o", out)
    assert wrong.returncode == 1
    assert "no operation 'Softmax'" in wrong.stderr


@pytest.mark.slow
def test_refusals_are_one_line_and_a_way_out(cli, tmp_path: Path, data: Path) -> None:
    model = save(net(), tmp_path / "net.onnx")
    out = tmp_path / "o.onnx"
    for arguments, what in [
        (("quantize", model, "-o", out), "needs calibration data"),
        (("quantize", model, "-c", "nowhere", "-o", out), "no calibration data 'nowhere'"),
        (("quantize", model, "-c", "random:2", "-o", out), "at least 8"),
        (("quantize", model, "-c", data, "-o", tmp_path), "is a folder"),
        (("quantize", model, "-c", data, "-o", tmp_path / "no" / "o.onnx"), "no folder"),
        (("quantize", SAMPLES / "conv_relu_qdq_good.onnx", "-c", "random:8", "-o", out), "quantized already"),
        (("audit", "deadbeef"), "No engine"),
        (("audit", model, "--asked", "int3"), "no precision 'int3'"),
        (("calibration", data), "not a calibration cache"),
    ]:
        done = cli(*arguments)
        assert done.returncode == 1, arguments
        assert what in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    (tmp_path / "e.engine").write_bytes(b"ftrt")
    assert "serialized engine" in cli("audit", tmp_path / "e.engine").stderr


@needs_rtx
def test_audit(cli, tmp_path: Path) -> None:
    done = cli(
        "audit",
        SAMPLES / "conv_relu_qdq_bad.onnx",
        "--target",
        "sm89",
        "--against",
        SAMPLES / "conv_relu_qdq_good.onnx",
    )
    assert done.returncode == 0, done.stderr
    assert "asked for int8" in done.stdout
    assert "double_requantization" in done.stdout
    told = json.loads(
        cli("audit", SAMPLES / "residual_block.onnx", "--target", "sm89", "-p", "fp16", "--format", "json").stdout
    )
    assert told["asked"] == "fp16"
    assert set(told["products"]["conv"]) == {"float16"}
    assert {"layer", "reads", "stores", "findings"} <= set(told["layers"][0])


def test_a_session_keeps_what_it_quantized(session: Session, tmp_path: Path) -> None:
    save(mlp(), tmp_path / "mlp.onnx")
    low = session.precision.quantize(tmp_path / "mlp.onnx", "random:8", to="int8")
    assert low.name == "mlp-int8"
    assert set(session.models) == {"mlp", "mlp-int8"}
    assert session.models["mlp-int8"].origin["scheme"]["to"] == "int8"
    assert {"mm1", "act", "mm2"} <= set(session.models["mlp-int8"].provenance) | {n.id for n in low.graph.nodes}


def test_migrate(cli) -> None:
    done = cli("migrate", "--", "trtexec", "--onnx=m.onnx", "--int8", "--fp16", "--calib=c")
    assert done.returncode == 0, done.stderr
    assert "workbench quantize m.onnx --to int8 --calibration DATA --rest fp16 -o m-int8.onnx" in done.stdout
    assert "calibrate again" in done.stdout


@pytest.mark.slow
def test_a_cast_is_checked_on_data(cli, tmp_path: Path, session: Session) -> None:
    from tests.support.small_models import constant, model, node, value
    from workbench import Model
    from workbench.precision.overflow import overflows

    made = model(
        [node("Mul", ["x", "big"], ["h"], "blow"), node("Mul", ["h", "small"], ["y"], "back")],
        [value("x", [1, 8])], [value("y", [1, 8])], [constant("big", 60000.0), constant("small", 1e-4)],
    )  # fmt: skip
    path = save(made, tmp_path / "m.onnx")
    (found,) = overflows(Model("m", path), session.store, data="random:32")
    assert (found.node, found.op, found.tensor) == ("blow", "Mul", "h")
    assert found.amax > 65504
    done = cli("cast", path, "--to", "fp16", "--check", "random:32", "-o", tmp_path / "o.onnx")
    assert done.returncode == 0, done.stderr
    assert "Mul blow gives" in done.stderr
    assert not overflows(Model("m", save(mlp(), tmp_path / "mlp.onnx")), session.store, data="random:8")
    tiny = model(
        [node("Mul", ["x", "small"], ["a"], "small"), node("Mul", ["a", "small"], ["h"], "fade"), node("Mul", ["h", "big"], ["y"], "back")],
        [value("x", [1, 8])], [value("y", [1, 8])], [constant("big", 5e4), constant("small", 6.2e-5)],
    )  # fmt: skip
    (gone,) = overflows(Model("t", save(tiny, tmp_path / "tiny.onnx")), session.store, data="random:8")
    assert (gone.node, gone.vanishes) == ("fade", True)
    assert "h would be all zeros" in gone.text
    brain = cli("cast", path, "--to", "bf16", "--check", "random:4", "-o", tmp_path / "b.onnx")
    assert "Mul" not in brain.stderr  # BF16 has the range of FP32


@pytest.mark.slow
def test_a_check_of_a_model_with_an_open_shape(cli, tmp_path: Path, session: Session) -> None:
    path = save(mlp(batch="n"), tmp_path / "open.onnx")
    done = cli("cast", path, "--to", "fp16", "--check", "random:4", "--shape", "x=2x8", "-o", tmp_path / "o.onnx")
    assert done.returncode == 0, done.stderr
    low = session.precision.cast(path, check="random:4", shapes={"x": "2x8"}, limit=1)
    assert [w for w in low.origin["warnings"] if "random numbers" not in w] == []
    low = session.precision.quantize(path, "random:8", shapes={"x": "2x8"})
    found = session.precision.accuracy(low, "random:8", shapes={"x": "1x8:2x8:4x8"}, limit=2)
    assert found.samples == 4


def test_weights_of_another_model_are_not_written_over(cli, tmp_path: Path, session: Session, monkeypatch) -> None:
    from workbench.cli.model_file import export_model
    from workbench.core.errors import ModelError

    onnx.save(mlp(), str(tmp_path / "big.onnx"), save_as_external_data=True, location="w.data", size_threshold=0)
    model = session.add(tmp_path / "big.onnx")
    place = tmp_path / "out"
    place.mkdir()
    export_model(model, place / "a.onnx")
    export_model(model, place / "b.onnx")  # the same weights
    (place / "w.data").write_bytes(b"of another model")
    with pytest.raises(ModelError, match="weights of another model"):
        export_model(model, place / "c.onnx")
    assert (place / "w.data").read_bytes() == b"of another model"
    assert not (place / "c.onnx").exists()


def test_a_model_that_can_not_be_written_leaves_what_was_there(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.cli import model_file
    from workbench.core.errors import StoreError

    model = session.add(save(mlp(), tmp_path / "m.onnx"))
    out = tmp_path / "out.onnx"
    out.write_bytes(b"precious")

    def full(_source: object, target: Path) -> None:
        Path(target).write_bytes(b"half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_file.shutil, "copyfile", full)
    with pytest.raises(StoreError) as caught:
        model_file.export_model(model, out)
    assert caught.value.code == "disk-full"
    assert out.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir() if "onnx" in p.name) == ["m.onnx", "out.onnx"]


def test_a_cast_tells_what_stays_in_fp32_and_why(cli, tmp_path: Path) -> None:
    from tests.support.small_models import INT64, constant, model, node, value

    made = model(
        [node("Cast", ["pos"], ["pf"], "to_float", to=1), node("Mul", ["pf", "inv"], ["fr"], "freqs"), node("Cos", ["fr"], ["c"], "cos"),
         node("Mul", ["c", "x"], ["h"], "turn"), node("Add", ["h", "eps"], ["e"], "epsilon"), node("Tanh", ["e"], ["y"], "tanh")],
        [value("pos", [16, 1], INT64), value("x", [16, 32])], [value("y", None)],
        [constant("inv", (1 / 10000 ** (np.arange(0, 64, 2) / 64))[None]), constant("eps", 1e-12)],
    )  # fmt: skip
    data = {"pos": np.stack([np.arange(4001, 4017)[:, None]] * 2).reshape(32, 1), "x": np.ones((32, 32), np.float32)}
    np.savez(tmp_path / "d.npz", **data)  # twice the same batch, and a constant input: that does not matter to a check
    done = cli(
        "cast",
        save(made, tmp_path / "m.onnx"),
        "--to",
        "fp16",
        "-o",
        tmp_path / "o.onnx",
        "--check",
        tmp_path / "d.npz",
    )
    assert done.returncode == 0, done.stderr
    assert "to_float, freqs, cos: computed from whole numbers" in " ".join(done.stdout.split())
    assert "eps (1e-12, would be 0) in Add epsilon" in done.stderr
    assert done.stderr.count("Warning") == 1


@needs_rtx
def test_placement(cli, tmp_path: Path) -> None:
    out = tmp_path / "moved.onnx"
    done = cli("placement", SAMPLES / "conv_relu_qdq_bad.onnx", "-o", out, "--target", "sm89")
    assert done.returncode == 0, done.stderr
    assert "stands between a product" in done.stdout
    assert "double_requantization" in done.stdout
    onnx.checker.check_model(str(out), full_check=True)
    told = json.loads(cli("placement", out, "--format", "json").stdout)
    assert not [m for m in told["misplaced"] if m["kind"] == "activation"]
    none = cli("placement", SAMPLES / "residual_block.onnx", "-o", out)
    assert none.returncode == 1
    assert "holds no Q/DQ pairs" in none.stderr


@pytest.mark.slow
def test_caches_of_tensorrt_are_shown_compared_and_written(cli, tmp_path: Path, data: Path) -> None:
    model = save(net(), tmp_path / "net.onnx")
    ours, theirs = tmp_path / "c.json", tmp_path / "c.cache"
    assert cli("quantize", model, "-c", data, "-o", tmp_path / "a.onnx", "--save-calibration", ours).returncode == 0
    assert cli("calibration", ours, "--tensorrt", theirs).returncode == 0
    assert theirs.read_text().startswith("TRT-100000-EntropyCalibration2\nx: ")
    told = json.loads(cli("calibration", theirs, ours, "--format", "json").stdout)
    assert all(abs(t["ratio"] - 1) < 1e-6 for t in told["tensors"])
    assert "it does not name its model" in cli("calibration", theirs).stdout
    low = cli("quantize", model, "-c", theirs, "-o", tmp_path / "b.onnx")
    assert low.returncode == 0, low.stderr


@needs_rtx
def test_compared_counts_are_whole_numbers(cli, tmp_path: Path) -> None:
    model = save(mlp(), tmp_path / "mlp.onnx")
    told = cli("audit", model, "--target", "sm89", "--against", f"{model}@fp16")
    assert told.returncode == 0, told.stderr
    rows = {line.split()[0]: line.split()[1:] for line in told.stdout.splitlines() if line.split()}
    assert all(cell.replace(",", "").isdigit() for name in ("kernels", "products", "bytes") for cell in rows[name][-2:])


@pytest.mark.slow
def test_what_is_read_is_not_overwritten(cli, tmp_path: Path, data: Path) -> None:
    model, cache = save(net(), tmp_path / "net.onnx"), tmp_path / "c.json"
    before, samples = model.read_bytes(), data.read_bytes()
    done = cli("quantize", model, "-c", data, "-o", tmp_path / "low.onnx", "--save-calibration", cache)
    assert done.returncode == 0, done.stderr
    ranges = cache.read_bytes()
    link = tmp_path / "link.onnx"
    link.symlink_to(model)
    for arguments in (
        ("cast", model, "--to", "fp16", "-o", model),
        ("cast", model, "--to", "fp16", "-o", link),
        ("quantize", model, "-c", data, "-o", model),
        ("quantize", model, "-c", data, "-o", tmp_path / "low.onnx", "--save-calibration", data),
        ("calibration", cache, "--tensorrt", cache),
        ("fusions", model, "--target", "sm89", "--engine", model),
        ("fusions", model, "--target", "sm89", "--html", model),
    ):
        told = cli(*arguments)
        assert told.returncode == 1, arguments
        assert "would overwrite it" in told.stderr, arguments
    told = cli("quantize", model, "-c", data, "-o", tmp_path / "a", "--save-calibration", tmp_path / "a")
    assert told.returncode == 1
    assert "name the same file" in told.stderr
    assert (model.read_bytes(), data.read_bytes(), cache.read_bytes()) == (before, samples, ranges)


def test_a_file_that_cannot_be_written_is_told_before_the_work(cli, tmp_path: Path) -> None:
    told = cli("quantize", "resnet50", "-c", "nothere", "-o", tmp_path / "no" / "x.onnx")
    assert told.returncode == 1
    assert "there is no folder" in told.stderr


def test_wrong_choices_are_refused(cli, tmp_path: Path, data: Path) -> None:
    model = save(net(), tmp_path / "net.onnx")
    told = cli("placement", model, "--kind", "foo")
    assert told.returncode == 1
    assert "no kind of misplaced pair 'foo'" in told.stderr
    assert cli("calibration", data, "--method", "minmax_calibration").returncode == 2
    for command in (("samples",), ("doctor",), ("bench", "digits")):
        assert cli(*command, "--format", "csv").returncode == 2, command


def test_migrate_keeps_a_path_with_spaces_whole(cli) -> None:
    for request in (("--onnx=my model.onnx", "--fp16"), ("--onnx='my model.onnx' --fp16",)):
        told = cli("migrate", "--", "trtexec", *request) if len(request) > 1 else cli("migrate", "--", *request)
        assert "workbench audit 'my model.onnx'" in told.stdout


@pytest.mark.slow
def test_a_cast_that_casts_nothing_warns(cli, tmp_path: Path) -> None:
    model, out = save(net(), tmp_path / "net.onnx"), tmp_path / "half.onnx"
    told = cli("cast", model, "--to", "fp16", "--keep", "*", "-o", out)
    assert told.returncode == 0, told.stderr
    assert "Nothing was cast" in told.stderr
    assert "Nothing was cast" not in cli("cast", model, "--to", "fp16", "--keep", "conv1", "-o", out).stderr


def test_what_only_one_cache_has_is_a_dash(cli, tmp_path: Path) -> None:
    one, two = tmp_path / "one.cache", tmp_path / "two.cache"
    one.write_text("TRT-101300-EntropyCalibration2\nx: 3c010a14\n[b] z: 3c010a14\n")
    two.write_text("TRT-101300-EntropyCalibration2\nx: 3c010a14\ny: 3c010a14\n")
    told = cli("calibration", one, two).stdout
    assert "nan" not in told
    assert "None" not in told
    assert "[b] z" in told
    assert "–" in told


@pytest.mark.slow
def test_a_range_check_on_random_numbers_says_so(cli, tmp_path: Path, data: Path) -> None:
    model, out = save(net(), tmp_path / "net.onnx"), tmp_path / "half.onnx"
    assert "random numbers" in cli("cast", model, "--to", "fp16", "--check", "random:4", "-o", out).stderr
    assert "random numbers" not in cli("cast", model, "--to", "fp16", "--check", data, "-o", out).stderr


def test_data_of_a_sample_are_taken_by_name(cli, tmp_path: Path) -> None:
    told = cli("quantize", "conv_bn_relu", "-c", "sample", "-o", tmp_path / "low.onnx")
    assert told.returncode == 1
    assert "conv_bn_relu does not come with data" in told.stderr
