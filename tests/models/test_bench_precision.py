"""INT8 and FP8 rows of the performance table: quantized and built for real, timed by a pretended GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import needs_rtx, needs_torch
from workbench import Session
from workbench.core.errors import BuildError, ConfigError
from workbench.core.jobs import Job
from workbench.experiments import bench
from workbench.experiments.bench import Bench, Variant, right, table

pytestmark = [needs_rtx, needs_torch]
MODEL = "linear_bias_gelu"


class Timed:
    """Stands for the worker that needs a GPU: every layer takes `ms`, outputs are off by `error`."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012 - reset by the fixture
    draws = 0

    def __init__(self, task: str, arguments: dict[str, Any], **_: Any) -> None:
        assert task == "workbench.experiments.bench_worker:measure"

    def start(self, **arguments: Any) -> None:
        self.arguments = arguments
        Timed.asked.append(arguments)

    def result(self) -> dict[str, Any]:
        engine = self.arguments["engine"]
        ways: dict[str, Any] = {"eager": {"median_ms": 4.0, "error": {"relative_l2": 0.001, "ok": True}}}
        layers: list[Any] = []
        if engine:
            record = json.loads((Path(engine["arguments"]["engine"]).parent / "record.json").read_text())
            quantized = "QuantizeLinear" in json.dumps(record["layers"]) or "Roun" in json.dumps(record["layers"])
            layers = [[layer["name"], 2.0 if quantized else 1.0] for layer in record["layers"]]
            for way in ("tensorrt", "tensorrt graph"):
                ways[way] = {"median_ms": 2.0, "error": {"relative_l2": 0.03 if quantized else 0.001, "ok": True}}
        return {"ways": ways, "missing": {}, "torch": "0", "layers": layers}


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"schema": "other"}', '{"schema": "workbench.bench/1"}'])
def test_a_file_that_holds_no_results_is_refused(session: Session, tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match="is not a results file"):
        Bench(session, [MODEL], out=file)
    assert file.read_text() == text


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    Timed.asked, Timed.draws = [], 0

    def job(task: str, arguments: dict[str, Any], **options: Any) -> Any:
        Timed.draws += task.endswith(":draw")
        return (Timed if task.endswith(":measure") else Job)(task, arguments, **options)

    monkeypatch.setattr(bench, "Job", job)
    monkeypatch.setattr(bench, "gpus", lambda: ["a pretended one"])
    return Timed.asked


def test_quantized_rows_stand_beside_fp16(session: Session, tmp_path: Path, timed: list[dict[str, Any]]) -> None:
    out = tmp_path / "out" / "rows.json"
    work = Bench(session, [MODEL], [1, 32], ["fp16", "int8", "fp8"], out)
    rows = work.run()["rows"]
    assert [(r["batch"], r["precision"]) for r in rows] == [
        (b, p) for b in (1, 32) for p in ("fp16", "int8", "fp8")
    ]  # fmt: skip
    assert {a["precision"] for a in timed} == {"fp16"}  # eager stands in FP16 beside the quantized engines
    int8 = rows[1]
    assert int8["scheme"]["to"] == "int8"
    assert int8["scheme"]["rest"] == "fp16"
    assert int8["quantized"] == 1
    assert int8["calibration"].startswith("32 samples")
    assert int8["missing"]["torch.compile"] == "not measured in int8"
    assert all(ms is not None for ms in int8["layer_ms"])
    against = int8["against_fp16"]
    assert against["fp16_ms"] > 0
    assert sum(r["lost_ms"] for r in against["lost"]) >= against["low_ms"] - against["fp16_ms"] > 0
    assert all(r["low"] for r in against["lost"])
    cells = next(c for c in table(work.document) if c[1:3] == ["1", "int8"])
    assert "error 3.0%" in cells[-1]
    assert "2.0×" in cells[-1]
    # One calibration serves all schemes of a model and batch: FP8 ran no model again.
    assert Timed.draws == 2

    again = Bench(session, [MODEL], [1, 32], ["fp16", "int8", "fp8"], out)
    before = len(timed)
    again.run()
    assert len(timed) == before
    assert again.document["rows"] == rows


def test_figures_of_two_gpus_do_not_mix(
    session: Session, tmp_path: Path, timed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(name: str, precision: str) -> Any:
        gpu = {"name": name, "sm": "sm89", "memory": 1, "driver": "1"}
        monkeypatch.setattr(bench, "machine", lambda: {"gpus": [gpu]})
        return Bench(session, [MODEL], out=tmp_path / "r.json", ways=["eager"]).row(MODEL, 1, precision)

    on("A", "fp32")
    with pytest.raises(ConfigError, match="was measured on A, driver 1; this machine has B, driver 1"):
        on("B", "fp16")
    assert on("B", "fp32")["ways"]  # what is there can be read anywhere
    on("A", "fp16")
    assert len(timed) == 2


def test_variants_have_names_of_their_own(session: Session, timed: list[dict[str, Any]]) -> None:
    kept = Variant({"to": "int8", "weights": "tensor"}, target="sm86")
    row = Bench(session, [MODEL], [1], ["int8, weights by tensor"], variants={"int8, weights by tensor": kept}).run()[
        "rows"
    ][0]
    assert row["scheme"]["weights"] == "tensor"
    assert row["compiler"]["target"] == "sm86"
    assert "against_fp16" not in row  # no FP16 row was measured
    with pytest.raises(ConfigError, match="int7"):
        Bench(session, [MODEL], [1], ["int7"])


def test_a_build_that_fails_leaves_its_reason_in_the_row(
    session: Session, timed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise BuildError("This version has no INT8 convolutions: conv1.", hint="Quantize to fp8.")

    monkeypatch.setattr(session, "build", refuse)
    row = Bench(session, [MODEL], [1], ["int8"]).run()["rows"][0]
    assert row["missing"]["tensorrt graph"] == "This version has no INT8 convolutions: conv1. Quantize to fp8."
    assert row["ways"]["eager"]["median_ms"] == 4.0
    assert table({"rows": [row]})[0][-1] == "–"


def test_a_quantized_row_may_err_more_than_fp16() -> None:
    def row(precision: str, error: float) -> dict[str, Any]:
        return {"precision": precision, "ways": {"tensorrt": {"error": {"ok": True, "relative_l2": error}}}}

    assert right(row("int8", 0.05), "tensorrt")
    assert not right(row("int8", 0.2), "tensorrt")
    assert not right(row("fp16", 0.05), "tensorrt")


def test_torch_tensorrt_goes_the_other_way_where_torch_compile_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch-TensorRT 2.11's ``torch.compile`` fails for BERT and GPT-2, its export takes them."""
    from workbench.compilers.torch_tensorrt import live
    from workbench.core.errors import BuildError, CompilerUnavailableError
    from workbench.plan.partition import Partition, Segment

    engines = [Segment("tensorrt", (), name="a")]

    def compile_module(module: Any, inputs: Any, *, how: str, precision: str) -> Any:
        assert (module, inputs, precision) == ("module", ["x"], "fp16")
        if how == "torch.compile":
            raise BuildError("Torch-TensorRT could not compile Bert: int64")
        return live.Compiled(lambda x: x, how, {}, Partition("n", "torch_tensorrt", False, tuple(engines), {}, {}, {}))

    monkeypatch.setattr(live, "compile_module", compile_module)
    compiled, method = live.compile_any("module", ["x"], "fp16")
    assert compiled(3) == 3
    assert method.startswith("torch_tensorrt.dynamo.compile, since torch.compile failed (")
    assert "could not compile Bert: int64" in method
    assert method.endswith("1 engine, 0 operators in PyTorch")
    engines.clear()
    with pytest.raises(CompilerUnavailableError, match="no part of the model ran"):
        live.compile_any("module", ["x"], "fp16")


@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError(""), "ValueError"), (ValueError("\n  a\n\nb\nc"), "a b"), (ValueError("x" * 999), "x" * 300)],
)
def test_what_an_error_says_at_first(error: Exception, told: str) -> None:
    from workbench.core.errors import first_lines

    assert first_lines(error, 2) == told
