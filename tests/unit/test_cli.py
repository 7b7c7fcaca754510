"""The shell: exit codes, what goes to which stream, and every bad input told in plain words."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import SAMPLES, needs_rtx
from tests.support.small_models import mlp, model, node, save, value, weights
from workbench import Session

ATTENTION = SAMPLES / "attention.onnx"


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    return save(mlp("batch"), tmp_path / "dynamic.onnx")


def refused(done: subprocess.CompletedProcess[str], *told: str, code: int = 1) -> str:
    """Nothing on stdout, one short paragraph on stderr, no traceback."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert 0 < len(done.stderr.splitlines()) <= 30
    for word in told:
        assert word in done.stderr, done.stderr
    return done.stderr


@needs_rtx
def test_json_is_one_valid_document_on_stdout_and_nothing_else(cli, validate) -> None:
    done = cli("fusions", ATTENTION, "--target", "sm89", "--format", "json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    validate(plan)
    assert done.stderr == ""
    assert plan["schema"] == "workbench.plan/1"
    assert plan["model"]["name"] == "attention"
    assert plan["compiler"]["target"] == "sm89"
    assert plan["layers"][0]["sources"][0]["file"] == "sample_models/attention.py"
    assert len(plan["layers"][0]["merged"][0]) == 3  # Q, K and V in one product


@needs_rtx
def test_csv_and_table(cli) -> None:
    done = cli("fusions", ATTENTION, "-t", "sm89", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows[0]["kind"] == "gemm"
    assert len(rows) == 9
    table = cli("fusions", ATTENTION, "-t", "sm89")
    assert table.returncode == 0
    assert "attention" in table.stdout
    assert "kernel launches" in table.stdout
    assert "from the cache" in table.stdout
    assert "\x1b" not in table.stdout
    assert "unclaimed" not in cli("fusions", ATTENTION, "-t", "sm89", "--full").stdout.splitlines()[0]


@needs_rtx
def test_the_session_and_the_engine_are_kept(cli, home: Path, tmp_path: Path) -> None:
    done = cli("fusions", "pointwise_chain", "--session", "mine", "--engine", tmp_path / "out.engine", "-f", "json")
    assert done.returncode == 0, done.stderr
    session = Session("mine")
    assert [e.model for e in session.engines] == ["pointwise_chain"]
    assert (tmp_path / "out.engine").read_bytes() == session.engines[0].path.read_bytes()
    session.close()
    refused(cli("fusions", "pointwise_chain", "-f", "json", "--engine", "/nowhere/at/all/x"), "/nowhere/at/all/x")


@needs_rtx
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_precision(cli, validate, precision: str) -> None:
    done = cli("fusions", "layernorm_mlp", "--precision", precision, "-f", "json", "-t", "sm89")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    validate(plan)
    low = {"fp16": "float16", "bf16": "bfloat16"}[precision]
    assert {la["inputs"][0]["dtype"] for la in plan["layers"] if la["kind"] == "gemm"} == {low}


@needs_rtx
def test_shapes(cli, dynamic: Path) -> None:
    done = cli("fusions", dynamic, "-s", "x=1x8:4x8:16x8", "-f", "json", "-t", "sm89")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["io"][0]["profiles"] == [{"min": [1, 8], "opt": [4, 8], "max": [16, 8]}]
    assert plan["summary"]["bytes_unknown"] == 0
    assert plan["summary"]["flops"] == 4 * (2 * 16 * 8 + 16 + 2 * 4 * 16)
    fixed = json.loads(cli("fusions", dynamic, "-s", "x=4x8", "-f", "json", "-t", "sm89").stdout)
    assert fixed["summary"]["flops"] == plan["summary"]["flops"]


@needs_rtx
@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], ["x", "dynamic", "--shape x="]), (["-s", "x=4x8:2x8:8x8"], ["min", "max"]), (["-s", "y=1x8"], ["y", "not an input", "x"]),
     (["-s", "x=1x9"], ["does not fit", "x"]), (["-s", "x"], ["no input name"]), (["-s", "x=1xb"], ["not valid"]),
     (["-s", "x=1x8", "-t", "sm42"], ["sm42", "sm89"]), (["-s", "x=1x8", "-t", "current"], ["current", "sm89"]),
     (["-s", "x=1x8", "--compiler", "nope"], ["nope", "tensorrt_rtx"]), (["-s", "x=1x8", "--optimization-level", "9"], ["optimization_level"]),
     (["-s", "x=1x8", "--session", "../x"], ["name"]), (["-s", "x=1x8", "-s", "x=2x8"], ["two shapes"])],
)  # fmt: skip
def test_wrong_shapes_targets_and_options(cli, dynamic: Path, arguments: list[str], told: list[str]) -> None:
    if "current" in arguments:
        from workbench.hardware.machine import gpus

        if gpus():
            pytest.skip("this machine has a GPU: current is no error")
    refused(cli("fusions", dynamic, "-f", "json", *arguments), *told)


@pytest.mark.slow
def test_bad_files(cli, tmp_path: Path) -> None:
    import onnx

    good = mlp().SerializeToString()
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "cut.onnx").write_bytes(good[: len(good) * 2 // 3])
    (tmp_path / "empty.onnx").write_bytes(b"")
    onnx.save(mlp(), str(tmp_path / "ext.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    refused(cli("fusions", tmp_path / "text.onnx"), "text.onnx", "ONNX")
    refused(cli("fusions", tmp_path / "cut.onnx"), "cut.onnx", "incomplete")
    refused(cli("fusions", tmp_path / "empty.onnx"), "empty")
    refused(cli("fusions", tmp_path / "ext.onnx"), "w.bin", "not in the same folder")
    refused(cli("fusions", tmp_path / "absent.onnx"), "absent.onnx")
    refused(cli("fusions", "resnet5"), "resnet50")
    refused(cli("fusions", tmp_path), str(tmp_path))
    refused(cli("fusions", "no_such_module:thing"), "no_such_module")
    refused(cli("fusions", "tests.unit:thing"), "thing")


@needs_rtx
def test_an_unsupported_operator_names_the_nodes_and_how_to_see_the_parts(cli) -> None:
    told = refused(cli("fusions", "unsupported", "-t", "sm89", "-f", "json"), "node_Det_6", "Det")
    assert "workbench partition" in told
    assert "would still build" not in told


@pytest.mark.slow
@needs_rtx
def test_turing_refuses_fp32_products(cli) -> None:
    refused(cli("fusions", "attention", "-t", "sm75", "-f", "json"), "sm75", "FP32 GEMM", "node_MatMul", "fp16")
    assert cli("fusions", "attention", "-t", "sm75", "-p", "fp16", "-f", "csv").returncode == 0


@needs_rtx
def test_a_graph_that_the_compiler_can_not_read(cli, tmp_path: Path) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["y"], "m")],
        [value("x", [2, 8])],
        [value("y", [2, 4])],
        [weights("w", 9, 4)],
        infer=False,
    )
    refused(cli("fusions", save(made, tmp_path / "wrong.onnx"), "-t", "sm89"), "m")


def test_a_full_disk_and_an_unusable_home(cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(cli("fusions", ATTENTION, env={"WORKBENCH_HOME": str(tmp_path / "file" / "x")}), "WORKBENCH_HOME")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["fusions"], ["fusions", "x", "--nope"], ["fusions", "x", "-p", "fp8"], ["fusions", "x", "-f", "xml"],
                  ["fusions", "x", "--optimization-level", "high"], ["samples", "extra"]],
)  # fmt: skip
def test_wrong_use_is_exit_code_2(cli, arguments: list[str]) -> None:
    refused(cli(*arguments), code=2)


def test_samples(cli) -> None:
    table = cli("samples")
    assert table.returncode == 0
    assert "resnet50" in table.stdout
    entries = json.loads(cli("samples", "-f", "json").stdout)
    assert {"resnet50", "unet", "bert-base", "gpt2-small", "attention"} <= {e["name"] for e in entries}


@needs_rtx
def test_doctor(cli) -> None:
    done = cli("doctor")
    assert done.returncode == 0
    assert "tensorrt_rtx" in done.stdout
    assert "Traceback" not in done.stderr
    report = json.loads(cli("doctor", "-f", "json").stdout)
    assert report["can_build"]
    assert all(row["state"] in {"yes", "partly", "no"} and row["found"] for row in report["checks"])
    assert "sm89" in report["compilers"]["tensorrt_rtx"]["targets"]
    missing = [row for row in report["checks"] if row["state"] == "no" and row["what"] not in {"GPU", "store"}]
    assert all(row["command"] for row in missing)


@needs_rtx
def test_demo(cli) -> None:
    done = cli("demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kernel launches") == 2


@needs_rtx
def test_time_limit(cli) -> None:
    refused(cli("fusions", "attention", "-t", "sm89", "--time-limit", "0.01"), "limit")


def test_ctrl_c_ends_the_worker_and_is_no_traceback(home: Path) -> None:
    code = (
        # A shell that starts the tests in the background makes them, and what they start, ignore Ctrl-C.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from workbench import Session; s = Session('x'); "
        f"b = s.engines.start({str(ATTENTION)!r}, compiler='fake', flags=('hang',)); "
        "import time\nwhile not b.progress: time.sleep(0.01)\nprint(b.pid, flush=True)\nb.result()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    end = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_how_exports_are_checked_is_an_option_of_all_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from workbench.cli.main import app

    monkeypatch.setenv("WORKBENCH_EXPORT_CHECK", "error")
    assert CliRunner().invoke(app, ["--check", "warn", "samples"]).exit_code == 0
    assert os.environ["WORKBENCH_EXPORT_CHECK"] == "warn"
    assert CliRunner().invoke(app, ["--check", "maybe", "samples"]).exit_code == 2
