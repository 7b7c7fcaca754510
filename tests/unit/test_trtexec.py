"""Engines that trtexec built: its files in and out, on invented sets in the real format and on small samples."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import DATA, trtexec_files
from tests.support.small_models import model, node, save, value, weights
from workbench import Session
from workbench.analysis import times
from workbench.compilers.config import BuildConfig
from workbench.compilers.tensorrt import trtexec
from workbench.core.errors import ConfigError, ListingError, ProfileError
from workbench.model.shape_profile import ShapeProfile
from workbench.plan import Plan
from workbench.plan.join import ProfiledLayer, ProfiledLayers, join

SAMPLES = DATA / "inspector"


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, dict[str, Path]]:
    """The files of three invented engines; see `tests.support.trtexec_files`."""
    return {name: trtexec_files.write(name, tmp_path / "sets") for name in trtexec_files.ENGINES}


def plan_of(files: dict[str, Path]) -> Plan:
    return trtexec.inspect(
        files["graph"], profile=files["profile"], times=files["timing"],
        metadata=[files["metadata"], files["profile.metadata"], files["build.metadata"]],
    )  # fmt: skip


def small(batch: int | str = 2) -> Any:
    """The model of the samples: conv1, relu1, sig, mul."""
    return model(
        [node("Conv", ["x", "w", "b"], ["c"], "conv1", pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"], "relu1"),
         node("Sigmoid", ["r"], ["s"], "sig"), node("Mul", ["r", "s"], ["y"], "mul")],
        [value("x", [batch, 3, 8, 8])], [value("y", [batch, 8, 8, 8])], [weights("w", 8, 3, 3, 3), weights("b", 8)],
    )  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """Layers, profile and times of a sample, written into a folder."""

    def write(name: str = "trt8", rows: list[dict[str, Any]] | None = None) -> dict[str, Path]:
        layers = json.loads((SAMPLES / f"{name}.json").read_text())
        names = [la if isinstance(la, str) else la["Name"] for la in layers["Layers"]]
        rows = rows or [
            {
                "name": n,
                "timeMs": 10.0 * (i + 1),
                "averageMs": float(i + 1),
                "medianMs": float(i + 1),
                "percentage": 1.0,
            }
            for i, n in enumerate(names)
        ]
        out = {
            "layers": tmp_path / "layers.json",
            "profile": tmp_path / "profile.json",
            "times": tmp_path / "times.json",
        }
        out["layers"].write_text(json.dumps(layers))
        out["profile"].write_text(json.dumps([{"count": 10}, *rows]))
        out["times"].write_text(json.dumps([iteration(i, 2.0 + i % 2) for i in range(100)]))
        return out

    return write


def iteration(i: int, compute: float, start: float = 1000.0, copies: float = 0.5) -> dict[str, float]:
    begin = start + 10 * i
    return {
        "startEnqMs": begin, "endEnqMs": begin + 0.1, "startH2dMs": begin, "endH2dMs": begin + copies,
        "startComputeMs": begin + copies, "endComputeMs": begin + copies + compute, "startD2hMs": begin + copies + compute,
        "endD2hMs": begin + 2 * copies + compute, "h2dMs": copies, "computeMs": compute, "d2hMs": copies,
        "latencyMs": compute + 2 * copies,
    }  # fmt: skip


# --- whole sets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", trtexec_files.ENGINES)
def test_sets_are_read_whole(name: str, sets: dict[str, dict[str, Path]], validate: Callable[[dict], None]) -> None:
    engine, plan = trtexec_files.ENGINES[name], plan_of(sets[name])
    validate(plan.to_dict())
    assert Plan.from_dict(json.loads(plan.to_json())).to_dict() == plan.to_dict()
    assert len(plan.layers) == len(trtexec_files.layers(engine))
    assert all(layer.time_ms is not None and layer.bytes for layer in plan.layers)
    raw = json.loads(sets[name]["profile"].read_text())[1:]
    assert [layer.time_ms for layer in plan.layers] == [row["averageMs"] for row in raw]
    assert plan.facts["measured"]["latency"]["mean_ms"] == pytest.approx(engine.latency_ms, rel=0.01)
    assert plan.compiler["target"] == "sm80"
    assert plan.facts["device"]["name"] == "NVIDIA A100 80GB PCIe"
    assert [(entry["name"], entry["mode"], entry["shape"][0]) for entry in plan.io] == [
        ("input.1", "input", 32), ("422", "output", 32),
    ]  # fmt: skip
    assert [layer.time_ms for layer in plan.layers if layer.kind == "noop"] == [0]
    assert {layer.evidence for layer in plan.layers if layer.nodes} == {"name"}
    assert plan.unclaimed == ()
    assert (plan.summary["launches_before"], plan.summary["flops"], plan.layers[0].flops) == (None, None, None)


@pytest.mark.parametrize("name", trtexec_files.ENGINES)
def test_times_agree_with_trtexecs_own_summary(name: str, sets: dict[str, dict[str, Path]]) -> None:
    """Minimum, maximum, mean, median and 99th percentile, warm-up left out."""
    times = trtexec.read_times(sets[name]["timing"])
    said = trtexec.read_metadata(sets[name]["profile.metadata"])["performance_summary"]
    own = (min(times.latency), max(times.latency), times.mean_ms, times.median_ms, times.percentile(99))
    assert own == pytest.approx(said["Latency"], abs=1e-4)
    assert len(times) / said["Total Host Walltime"] == pytest.approx(said["Throughput"], rel=1e-5)
    assert sum(times.compute) / 1e3 == pytest.approx(said["Total GPU Compute Time"], rel=1e-4)
    assert times.wall_ms == pytest.approx(said["Total Host Walltime"] * 1e3, rel=1e-3)
    assert times.warm_up > 100


def test_three_engines_are_compared(sets: dict[str, dict[str, Path]]) -> None:
    fp16, naive, good = (plan_of(files) for files in sets.values())
    latencies = [p.facts["measured"]["latency"]["mean_ms"] for p in (fp16, naive, good)]
    assert latencies[2] < latencies[0] < latencies[1]
    conversions = [p.summary["precision_conversions"] + p.summary["layout_conversions"] for p in (fp16, naive, good)]
    assert conversions == [engine.conversions for engine in trtexec_files.ENGINES.values()]
    for plan in (fp16, naive, good):
        text = "\n".join(times.explain(plan))
        assert "above" in text
        assert "CUDA graph" in text
        assert f"mean {plan.facts['measured']['latency']['mean_ms']:.3f} ms" in text


def test_files_of_two_engines_are_not_joined(sets: dict[str, dict[str, Path]]) -> None:
    with pytest.raises(ProfileError, match=r"are not of one engine: 21 times, 14 layers") as caught:
        trtexec.inspect(sets["fp16"]["graph"], profile=sets["naive"]["profile"])
    assert caught.value.details["extra"][0] == "QuantizeLinear_2"
    assert caught.value.details["first_difference"] == 0


def test_the_command_line_shows_a_set(
    cli: Callable[..., Any], sets: dict[str, dict[str, Path]], validate: Callable[[dict], None]
) -> None:
    files = sets["naive"]
    options = [files["graph"], "--profile", files["profile"], "--times", files["timing"]]
    table = cli("inspect", *options, "--metadata", files["metadata"], "--estimate", "a100")
    assert table.returncode == 0, table.stderr
    mean = plan_of(files).facts["measured"]["latency"]["mean_ms"]
    for said in ("20 kernel launches", "QuantizeLinear_14", f"mean {mean:.3f} ms", "est. ms", "not measured", "A100"):
        assert said in " ".join(table.stdout.split()), said
    document = json.loads(cli("inspect", *options, "--format", "json").stdout)
    validate(document)
    assert sum(layer["time_ms"] for layer in document["layers"]) == pytest.approx(1.1 * 0.91)
    rows = list(csv.DictReader(io.StringIO(cli("inspect", *options, "-f", "csv", "--estimate", "sm80").stdout)))
    assert len(rows) == 21
    assert {"time_ms", "estimated_ms", "efficiency"} <= set(rows[0])


# --- with the model --------------------------------------------------------------------------------------


@pytest.mark.tiny
@pytest.mark.parametrize("name", ["trt8", "trt10", "trt11", "rtx_1_4", "rtx_1_7"])
def test_with_the_model_costs_and_nodes_are_known(
    name: str, session: Session, tmp_path: Path, validate: Callable[[dict], None]
) -> None:
    path = save(small("batch" if name == "trt11" else 2), tmp_path / "small.onnx")
    plan = session.files.inspect(SAMPLES / f"{name}.json", model=path)
    validate(plan.to_dict())
    assert plan.model["nodes"] == 4
    assert len(plan.model["sha256"]) == 64
    assert plan.unclaimed == ()
    convolution = plan.layers_of["conv1"][0]
    assert convolution.nodes == ("conv1", "relu1")
    assert convolution.evidence == ("name" if name == "trt8" else "reported")
    # 2 multiply-adds of 27 terms, a bias and a ReLU for each of 1024 results
    assert convolution.flops == 1024 * (2 * 27 + 1 + 1)
    assert plan.summary["launches_before"] == 4
    if name == "trt11":
        assert convolution.inputs[0].shape == (2, 3, 8, 8)
        assert convolution.inputs[0].dynamic


@pytest.mark.tiny
def test_without_the_model_bytes_are_known_and_operations_are_not(validate: Callable[[dict], None]) -> None:
    plan = trtexec.inspect(SAMPLES / "trt8.json")
    validate(plan.to_dict())
    layer = plan.layers[1]
    assert layer.nodes == ("conv1", "relu1")
    assert layer.bytes_read == 2 * (2 * 3 * 8 * 8) + 2 * 216 + 2 * 8
    assert layer.bytes_written == 2 * 2 * 8 * 8 * 8
    assert layer.flops is None
    assert plan.layers[3].kind == "noop"
    assert plan.summary["launches_after"] == 3
    assert plan.layers[0].title == "another layout for input 0 of conv1 + relu1"
    assert "? nodes in 4 layers" in repr(plan)
    assert plan.to_frame().shape[0] == 4


@pytest.mark.tiny
def test_open_dimensions_stay_unknown_without_the_model(validate: Callable[[dict], None]) -> None:
    plan = trtexec.inspect(SAMPLES / "trt11.json")
    validate(plan.to_dict())
    fused = plan.layers[2]
    assert fused.inputs[0].shape == (2, 3, 8, 8)  # the engine's input, at its opt shape
    assert fused.outputs[0].shape is None
    assert fused.bytes is None
    assert plan.summary["bytes_unknown"] == 2


@pytest.mark.tiny
def test_bare_names_make_a_plan_that_says_so(
    session: Session, tmp_path: Path, validate: Callable[[dict], None]
) -> None:
    path = save(small(), tmp_path / "small.onnx")
    for plan in (
        trtexec.inspect(SAMPLES / "trt8_names.json"),
        session.files.inspect(SAMPLES / "trt8_names.json", model=path),
    ):
        validate(plan.to_dict())
        assert plan.layers[1].bytes is None
        assert "profilingVerbosity=detailed" in plan.facts["warnings"][0]
    assert plan.layers[1].kind == "conv"


@pytest.mark.tiny
def test_another_model_is_refused(session: Session, tmp_path: Path) -> None:
    other = model([node("Relu", ["x"], ["y"], "act")], [value("x", [2, 3, 8, 8])], [value("y", [2, 3, 8, 8])])
    with pytest.raises(ProfileError, match="none of the nodes that its layers name is in the model"):
        session.files.inspect(SAMPLES / "trt10.json", model=save(other, tmp_path / "other.onnx"))
    renamed = model([node("Relu", ["z"], ["y"], "conv1")], [value("z", [2, 3, 8, 8])], [value("y", [2, 3, 8, 8])])
    with pytest.raises(ProfileError, match="the model has no input x"):
        session.files.inspect(SAMPLES / "trt10.json", model=save(renamed, tmp_path / "renamed.onnx"))
    with pytest.raises(ConfigError):
        session.files.inspect(SAMPLES / "trt10.json", model=save(small(5), tmp_path / "batch.onnx"))


@pytest.mark.tiny
def test_names_that_are_no_nodes_are_told(session: Session, tmp_path: Path) -> None:
    data = json.loads((SAMPLES / "trt10.json").read_text())
    data["Layers"][1]["Metadata"] += "\x1e[ONNX Layer: stranger]"
    (tmp_path / "layers.json").write_text(json.dumps(data))
    plan = session.files.inspect(tmp_path / "layers.json", model=save(small(), tmp_path / "small.onnx"))
    assert "stranger" in plan.facts["warnings"][0]


# --- joining ---------------------------------------------------------------------------------------------


@pytest.mark.tiny
def test_a_profile_is_joined_by_position(files: Callable[..., dict[str, Path]]) -> None:
    paths = files()
    plan = trtexec.inspect(paths["layers"], profile=paths["profile"], times=paths["times"])
    assert [layer.time_ms for layer in plan.layers] == [1.0, 2.0, 3.0, 4.0]
    assert plan.facts["measured"]["joined"].startswith("by position")
    assert plan.facts["measured"]["iterations"] == 10


def rows_of(*names: str) -> list[dict[str, Any]]:
    return [{"name": n, "averageMs": float(i)} for i, n in enumerate(names, 1)]


def joined(layers: list[str], rows: list[str], kinds: dict[int, str] | None = None) -> list[float | None]:
    plan = trtexec.inspect(SAMPLES / "trt8.json")
    made = [replace(plan.layers[1], id=f"{i}", name=n, kind=(kinds or {}).get(i, "conv")) for i, n in enumerate(layers)]
    profile = ProfiledLayers(1, tuple(ProfiledLayer(n, i, i, i, None) for i, n in enumerate(rows, 1)))
    return [row.mean_ms if row else None for row in join(profile, made, hint="Measure again.").rows]


@pytest.mark.tiny
def test_another_order_is_joined_by_name() -> None:
    assert joined(["a", "b", "c"], ["c", "a", "b"]) == [2, 3, 1]


@pytest.mark.tiny
def test_equal_names_are_joined_in_their_order() -> None:
    assert joined(["a", "b", "a", "a"], ["a", "a", "b", "a"]) == [1, 3, 2, 4]


@pytest.mark.tiny
def test_layers_that_launch_nothing_may_be_absent() -> None:
    assert joined(["s", "a", "w", "b"], ["a", "b"], {0: "sync", 2: "sync"}) == [None, 1, None, 2]
    with pytest.raises(ProfileError, match="layer without a time: s"):
        joined(["s", "a"], ["a"])


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("layers", "rows", "said"),
    [
        (["a", "b"], ["a"], "layer without a time: b"),
        (["a"], ["a", "b"], "time without a layer: b"),
        (["a", "a"], ["a"], "2 layers but 1 times: a"),
        (["a"], ["a", "a"], "1 layers but 2 times: a"),
        (["conv1"], ["conv2"], "layer without a time: conv1"),
    ],
)
def test_nothing_is_matched_by_likeness(layers: list[str], rows: list[str], said: str) -> None:
    with pytest.raises(ProfileError, match="not of one engine") as caught:
        joined(layers, rows)
    assert said in caught.value.message
    assert caught.value.hint == "Measure again."


@pytest.mark.tiny
def test_any_order_of_any_names_is_joined_as_counted() -> None:
    rng = random.Random(5)
    for _ in range(50):
        names = [rng.choice("abcde") for _ in range(rng.randint(1, 12))]
        shuffled = names[:]
        rng.shuffle(shuffled)
        times = joined(names, shuffled)
        for name in set(names):
            mine = [t for n, t in zip(names, times, strict=True) if n == name]
            assert mine == [i for i, n in enumerate(shuffled, 1) if n == name]


# --- profiles and times ----------------------------------------------------------------------------------


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"count": 0}, *rows_of("a")], "counts 0 profiled iterations"),
        ([{"count": "x"}, *rows_of("a")], "holds 'x' in place of a time or count"),
        ([{"count": 2}], "holds no layer"),
        ([{"count": 2}, {"name": "a"}], "record 0 has no time; it has name"),
        ([{"count": 2}, {"name": "a", "timeMs": None}], "record 0 has no time"),
        ([{"count": 2}, *rows_of("a"), {"timeMs": 1}], "record 1 has no name"),
        ([{"count": 2}, {"name": "a", "timeMs": -1}], r"record 0 \(a\) holds -1"),
        ([{"count": 2}, {"name": "a", "timeMs": math.nan}], "holds the number NaN"),
        ([{"latencyMs": 1}], "--exportTimes.*was expected"),
    ],
)
def test_bad_profiles_are_told(tmp_path: Path, rows: list[Any], said: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(ProfileError, match=said):
        trtexec.read_profile(path)


@pytest.mark.tiny
def test_means_follow_from_totals_and_the_other_way(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([{"count": 4}, {"name": "a", "timeMs": 8}, {"name": "b", "averageMs": 3}]))
    read = trtexec.read_profile(path)
    assert [(r.total_ms, r.mean_ms, r.median_ms) for r in read.rows] == [(8, 2, None), (12, 3, None)]
    assert (read.count, read.sum_ms) == (4, 5)


@pytest.mark.tiny
def test_warm_up_is_left_out_of_the_times(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    rows = [iteration(i, 9.0 if i < 20 else 2.0, start=0.0, copies=0.0) for i in range(50)]
    path.write_text(json.dumps(rows))
    times = trtexec.read_times(path)
    assert (len(times), times.warm_up, times.mean_ms) == (30, 20, 2.0)
    assert len(trtexec.read_times(path, warm_up_ms=0)) == 50
    path.write_text(json.dumps(rows[:5]))
    assert len(trtexec.read_times(path)) == 5  # all in the warm-up: better than none


@pytest.mark.tiny
def test_times_without_copies_and_bad_ones(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(json.dumps([{"computeMs": 3.0}, {"computeMs": 5.0}]))
    times = trtexec.read_times(path)
    assert (times.latency, times.transfers_ms, times.wall_ms) == ((3.0, 5.0), 0.0, None)
    path.write_text(json.dumps([{"latencyMs": 3.0}, {"h2dMs": 5.0}]))
    with pytest.raises(ProfileError, match="iteration 1 has no latencyMs"):
        trtexec.read_times(path)


@pytest.mark.tiny
def test_percentiles_by_nearest_rank() -> None:
    values = tuple(float(v) for v in range(1, 101))
    times = trtexec.Times(values, values, values, values, None)
    assert [times.percentile(p) for p in (0, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]
    one = trtexec.Times((7.0,), (7.0,), (0.0,), (0.0,), None)
    assert (one.percentile(0), one.percentile(99)) == (7.0, 7.0)


@pytest.mark.tiny
def test_the_difference_is_explained(files: Callable[..., dict[str, Path]]) -> None:
    paths = files()
    plan = trtexec.inspect(paths["layers"], profile=paths["profile"], times=paths["times"])
    above = "\n".join(times.explain(plan))
    assert "4 layers take 10.000 ms together (measured, 10 iterations)" in above
    assert "end to end: mean 3.500 ms, median 3.500 ms" in above
    assert "7.500 ms (300%) above the 2.500 ms of computation" in above
    assert "copies between host and GPU take 1.000 ms" in above
    fast = [{"name": layer.name, "averageMs": 0.1} for layer in plan.layers]
    paths = files(rows=fast)
    below = "\n".join(times.explain(trtexec.inspect(paths["layers"], profile=paths["profile"], times=paths["times"])))
    assert "below the 2.500 ms of computation" in below
    assert times.explain(trtexec.inspect(paths["layers"])) == []
    alone = times.explain(trtexec.inspect(paths["layers"], times=paths["times"]))
    assert len(alone) == 1


@pytest.mark.tiny
def test_times_of_zero_are_explained_without_a_share(files: Callable[..., dict[str, Path]]) -> None:
    paths = files()
    paths["times"].write_text(json.dumps([{"latencyMs": 0.0, "computeMs": 0.0}]))
    told = "\n".join(times.explain(trtexec.inspect(paths["layers"], profile=paths["profile"], times=paths["times"])))
    assert "10.000 ms above the 0.000 ms of computation" in told
    assert "(measured, 1 iteration)" in told


# --- files out -------------------------------------------------------------------------------------------


@pytest.mark.tiny
@pytest.mark.parametrize("name", ["trt8", "trt10", "trt11", "rtx_1_4", "rtx_1_7"])
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    plan = trtexec.inspect(SAMPLES / f"{name}.json")
    timed = [replace(layer, time_ms=0.25 * (i + 1)) for i, layer in enumerate(plan.layers)]
    plan = replace(plan, layers=tuple(timed), facts={**plan.facts, "measured": {"iterations": 7}})
    layers, profile = tmp_path / "again.json", tmp_path / "again.profile.json"
    again = trtexec.inspect(trtexec.write_layers(plan, layers), profile=trtexec.write_profile(plan, profile))

    def known(p: Plan) -> list[Any]:
        return [(la.name, la.type, la.kind, la.nodes, la.evidence, la.tactic, la.stream, la.event, la.time_ms,
                 [(t.name, t.shape, t.dtype, t.bytes, t.strides) for t in (*la.inputs, *la.constants, *la.outputs)])
                for la in p.layers]  # fmt: skip

    assert known(again) == known(plan)
    assert again.facts["measured"]["iterations"] == 7
    assert [(io["name"], io["mode"], io["profiles"]) for io in again.io] == [
        (io["name"], io["mode"], io["profiles"]) for io in plan.io
    ]
    rows = json.loads(profile.read_text())
    assert rows[0] == {"count": 7}
    assert sum(row["percentage"] for row in rows[1:]) == pytest.approx(100)


@pytest.mark.tiny
def test_a_plan_without_times_has_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no measured times"):
        trtexec.write_profile(trtexec.inspect(SAMPLES / "trt10.json"), tmp_path / "p.json")


@pytest.mark.tiny
def test_a_plan_that_the_workbench_wrote_takes_times_too(tmp_path: Path, files: Callable[..., dict[str, Path]]) -> None:
    paths = files("trt10")
    document = tmp_path / "plan.json"
    document.write_text(trtexec.inspect(paths["layers"]).to_json())
    plan = trtexec.inspect(document, profile=paths["profile"])
    assert [layer.time_ms for layer in plan.layers] == [1.0, 2.0, 3.0]
    latency = trtexec.inspect(document, times=paths["times"])
    assert all(layer.time_ms is None for layer in latency.layers)


# --- the command -----------------------------------------------------------------------------------------

SHAPES = ShapeProfile.parse(["x:0=1x3x8x8:2x3x8x8:4x3x8x8", "n=1"])


@pytest.mark.tiny
def test_the_command_for_10_and_11_measures_alike() -> None:
    config = BuildConfig.of(profiles=SHAPES, optimization_level=4, workspace=1 << 30, tf32=False)
    old, new = (trtexec.command("m.onnx", config, v) for v in (10, 11))
    for command in (old, new):
        for part in ("--onnx=m.onnx", "--minShapes='x:0':1x3x8x8,n:1", "--optShapes='x:0':2x3x8x8,n:1",
                     "--maxShapes='x:0':4x3x8x8,n:1", "--builderOptimizationLevel=4",
                     "--memPoolSize=workspace:1073741824B", "--noTF32", "--profilingVerbosity=detailed"):  # fmt: skip
            assert part in command.arguments, part
        assert any("defaults differ" in note for note in command.notes)
    extra = {"--stronglyTyped", "--useCudaGraph", "--useSpinWait", "--noDataTransfers", "--separateProfileRun"}
    assert set(old.arguments) - set(new.arguments) == extra
    assert set(new.arguments) <= set(old.arguments)
    assert "'--minShapes='" in str(old)  # quoted for the shell


@pytest.mark.tiny
def test_every_option_of_a_config_is_in_the_command_or_refused() -> None:
    config = BuildConfig.of(
        sparse_weights=True, strip_plan=True, refit=True, weight_streaming=True, version_compatible=True,
        hardware_compatibility="AMPERE_PLUS", max_aux_streams=0, tiling_level="full", l2_limit=1000,
        avg_timing_iterations=3, build_route="r", flags=("DIRECT_IO",), targets="sm90", precision="fp16",
    )  # fmt: skip
    command = trtexec.command("m.onnx", config, 11, measure=False)
    for part in ("--sparsity=enable", "--stripWeights", "--refit", "--allowWeightStreaming", "--versionCompatible",
                 "--hardwareCompatibilityLevel=ampere+", "--maxAuxStreams=0", "--tilingOptimizationLevel=3",
                 "--l2LimitForTiling=1000", "--avgTiming=3", "--setBuildRoute=r", "--directIO", "--skipInference"):  # fmt: skip
        assert part in command.arguments, part
    assert any("fp16 conversion" in note for note in command.notes)
    assert any("run it on sm90" in note for note in command.notes)
    assert not any("--fp16" in part for part in command.arguments)
    with pytest.raises(ConfigError, match="build routes"):
        trtexec.command("m.onnx", config, 10)
    with pytest.raises(ConfigError, match="builder flag MONITOR_MEMORY"):
        trtexec.command("m.onnx", BuildConfig.of(flags=("MONITOR_MEMORY",)), 11)
    with pytest.raises(ConfigError, match="hardware compatibility"):
        trtexec.command("m.onnx", BuildConfig.of(hardware_compatibility="moon"), 11)
    with pytest.raises(ConfigError, match="trtexec 9"):
        trtexec.command("m.onnx", BuildConfig(), 9)


@pytest.mark.tiny
def test_several_profiles_and_one_point_ranges() -> None:
    config = BuildConfig(profiles=(ShapeProfile.parse(["x=1x3"]), ShapeProfile.parse(["x=1x3:2x3:4x3"])))
    command = trtexec.command("m.onnx", config, 10)
    assert [a for a in command.arguments if a.startswith("--profile=")] == ["--profile=0", "--profile=1"]
    assert any("a range of one size" in note for note in command.notes)
    static = trtexec.command("m.onnx", config, 10, dynamic=())
    assert not any("Shapes" in a or "--profile=" in a for a in static.arguments)
    assert not any("a range of one size" in note for note in static.notes)


@pytest.mark.tiny
def test_values_stand_where_shapes_do() -> None:
    config = BuildConfig(profiles=ShapeProfile.parse(["x=1x3:2x3:4x3", "n==1:8:32", "size==4,8"]))
    command = trtexec.command("m.onnx", config, 11)
    for which, n in (("min", "1x3,n:1"), ("opt", "2x3,n:8"), ("max", "4x3,n:32")):
        assert f"--{which}Shapes=x:{n},size:4x8" in command.arguments
    assert any("n, size" in note and "reads as a shape" in note for note in command.notes)
    only = BuildConfig(profiles=ShapeProfile.parse(["n==1:8:32"]))
    # No input has an open shape, and the values must be there all the same.
    assert "--minShapes=n:1" in trtexec.command("m.onnx", only, 11, dynamic=()).arguments


@pytest.mark.tiny
def test_copies_that_our_own_latency_does_not_hold() -> None:
    way = {
        "mean_ms": 1.0,
        "median_ms": 1.0,
        "p99_ms": 1.0,
        "iterations": 9,
        "compute_mean_ms": 1.0,
        "transfers_mean_ms": 0.5,
    }
    plan = trtexec.inspect(SAMPLES / "trt10.json")
    plan = replace(plan, layers=tuple(replace(layer, time_ms=0.5) for layer in plan.layers))
    told = "\n".join(times.explain(replace(plan, facts={"measured": {"latency": way, "ways": {"plain": way}}})))
    assert "copies between host and GPU come on top of it, with 0.500 ms" in told


@pytest.mark.tiny
def test_a_plan_that_is_not_whole_and_one_that_needs_no_model(tmp_path: Path) -> None:
    document = tmp_path / "plan.json"
    document.write_text('{"schema": "workbench.plan/1", "layers": []}')
    with pytest.raises(ProfileError, match="This plan is damaged") as told:
        trtexec.inspect(document)
    assert told.value.code == "damaged-plan"
    document.write_text(trtexec.inspect(SAMPLES / "trt10.json").to_json())
    with pytest.raises(ConfigError, match="Leave out the model"):
        trtexec.inspect(document, metadata=[document])


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("entry", "sm"),
    [({"ComputeCapability": [9, 0]}, "sm90"), ({"ComputeCapability": "9.0"}, None),
     ({"COMPUTE_CAPABILITY_MAJOR": 8, "COMPUTE_CAPABILITY_MINOR": 9}, "sm89"),
     ({"ComputeCapability": ["a", None]}, None)],
)  # fmt: skip
def test_the_architecture_in_metadata_of_a_device(tmp_path: Path, entry: dict[str, Any], sm: str | None) -> None:
    path = tmp_path / "device.json"
    path.write_text(json.dumps([{"Name": "x", **entry}]))
    assert trtexec.read_metadata(path)["device"]["sm"] == sm


@pytest.mark.tiny
@pytest.mark.parametrize("told", [{}, {"Compute Capability": None}, {"Compute Capability": "8.x"}])
def test_an_architecture_that_is_not_told_stays_unknown(tmp_path: Path, told: dict[str, Any], validate) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"performance_summary": {}, "inference_options": {}, "device_information": told}))
    plan = trtexec.inspect(SAMPLES / "trt8.json", metadata=[path])
    assert plan.compiler["target"] == ""
    validate(plan.to_dict())


def test_the_command_line_prints_a_command(cli: Callable[..., Any], tmp_path: Path) -> None:
    path = save(small("n"), tmp_path / "small.onnx")
    done = cli("trtexec", path, "--for", "10", "--shape", "x=1x3x8x8:2x3x8x8:4x3x8x8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("trtexec --onnx=")
    assert done.stdout.count("\n") == 1
    assert "defaults differ" in done.stderr
    fixed = cli("trtexec", save(small(1), tmp_path / "fixed.onnx"))
    assert fixed.returncode == 0, fixed.stderr
    assert "Shapes" not in fixed.stdout  # trtexec refuses shapes for a model that has none open
    assert "one-point range" not in fixed.stderr
    missing = cli("trtexec", path)
    assert missing.returncode == 1
    assert "--shape x=" in missing.stderr


def test_the_command_line_tells_bad_input(cli: Callable[..., Any], files: Callable[..., dict[str, Path]]) -> None:
    paths = files()
    for arguments, said in (
        ([paths["profile"]], "is a per-layer profile"),
        ([paths["layers"], "--profile", paths["times"]], "is times of each iteration"),
        ([paths["layers"], "--times", paths["layers"]], "is layer information"),
        ([paths["layers"], "--metadata", paths["layers"]], "is layer information"),
        ([paths["layers"], "--estimate", "rtx-9000"], "no datasheet value for 'rtx-9000'"),
        ([paths["layers"].parent / "none.json"], "No such file"),
    ):
        done = cli("inspect", *arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.tiny
def test_any_one_field_lost_or_replaced_gives_a_plan_or_an_error_in_words(tmp_path: Path) -> None:
    """No change to a file ends in anything but a plan or a WorkbenchError."""
    rng = random.Random(11)
    path = tmp_path / "layers.json"
    for name in ("trt8", "trt11", "rtx_1_7"):
        original = json.loads((SAMPLES / f"{name}.json").read_text())
        for _ in range(150):
            data = copy.deepcopy(original)
            place: Any = data
            while True:
                key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
                inner = place[key]
                if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.2:
                    break
                place = inner
            if rng.random() < 0.4:
                del place[key]
            else:
                place[key] = rng.choice([None, 5, -1.5, "x", [], {}, True, [None], {"Name": 3}])
            path.write_text(json.dumps(data))
            with contextlib.suppress(ProfileError, ListingError):
                trtexec.inspect(path).to_json()


@pytest.mark.tiny
def test_a_report_needs_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Callable[..., dict[str, Path]]
) -> None:
    from workbench import report
    from workbench.present.lens import Lens

    monkeypatch.setattr(report, "bundle", lambda: b"export const mountReport = () => {}")
    paths = files()
    plan = trtexec.inspect(paths["layers"], profile=paths["profile"], times=paths["times"])
    text = report.report(Lens(plan, missing="it was not given"), tmp_path / "report.html").read_text()
    assert "3 kernel launches" in text
    assert "None" not in text.split("<noscript>")[1].split("</noscript>")[0]


@pytest.mark.parametrize("read", [trtexec.read_profile, trtexec.read_times])
def test_files_cut_off_anywhere_are_refused(tmp_path: Path, read: Any) -> None:
    rows = rows_of("a", "b") if read is trtexec.read_profile else [{"latencyMs": 1.5, "computeMs": 1.25}] * 2
    text = json.dumps([{"count": 2}, *rows] if read is trtexec.read_profile else rows)
    path = tmp_path / "cut.json"
    path.write_text(text)
    assert read(path)
    for end in range(len(text)):
        path.write_text(text[:end])
        with pytest.raises(ProfileError) as caught:
            read(path)
        assert caught.value.code in {"file-cut", "file-empty"}


@pytest.mark.parametrize("value", [1e13, 10**30, "1", True, None, [1]])
@pytest.mark.parametrize("key", ["startH2dMs", "endD2hMs", "latencyMs"])
def test_times_that_can_not_be_are_refused(tmp_path: Path, key: str, value: object) -> None:
    row = {"startH2dMs": 1.0, "endD2hMs": 2.0, "latencyMs": 1.0, key: value}
    path = tmp_path / "t.json"
    path.write_text(json.dumps([row]))
    if value is None and key != "latencyMs":
        assert trtexec.read_times(path).wall_ms is None  # not told
        return
    with pytest.raises(ProfileError):
        trtexec.read_times(path)


def test_metadata_can_not_pass_for_what_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(
        json.dumps(
            {
                "build_options": {},
                "kind": "device-metadata",
                "device": 5,
                "device_information": {"Selected Device": [1]},
            }
        )
    )
    found = trtexec.read_metadata(path)
    assert (found["kind"], found["device"]) == ("build-metadata", {"name": None, "sm": None})
    path.write_text(json.dumps([{"ComputeCapability": [8, 0], "Name": "A100", "sm": 5, "name": []}]))
    assert trtexec.read_metadata(path)["device"]["sm"] == "sm80"
