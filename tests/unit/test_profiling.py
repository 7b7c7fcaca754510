"""A session measures its engines, keeps what was found, and says where they can run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import ROOT, SAMPLES, profiles
from tests.support.small_models import mlp, save
from workbench import Session
from workbench.compilers import compatibility, require
from workbench.compilers.base import Runs
from workbench.compilers.config import BuildConfig
from workbench.compilers.fake import Fake
from workbench.compilers.tensorrt import compatibility as bound
from workbench.compilers.tensorrt import flavour
from workbench.core.errors import CompilerUnavailableError, ConfigError, ProfileError
from workbench.core.jobs import Job
from workbench.engine import Engine
from workbench.hardware.machine import Gpu, gpus, this_platform
from workbench.measure.inputs import read_arrays

pytestmark = pytest.mark.tiny
BLOCK = str(SAMPLES / "residual_block.onnx")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, able: None) -> None:
    """A worker that keeps what it was asked, in place of a GPU."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(Fake, "profile_task", "tests.support.worker_tasks:measured")


def test_a_profile_is_kept_with_the_engine_and_told(session: Session, pretended: None, tmp_path: Path) -> None:
    engine = session.build(BLOCK, compiler="fake")
    assert (engine.profile, engine.profiles) == (None, [])
    assert engine.measured == engine.plan
    x = np.ones((1, 64, 56, 56), "float32")
    found = session.measure.profile(engine, inputs={"x": x}, reference=False, duration_ms=5.0)
    assert found["sums"] == {"x": float(x.sum())}
    assert found["duration_ms"] == 5.0
    assert found["reference"] is None
    assert found["built"]["name"] == "fake"
    assert [e.data for e in session.events if e.kind == "profile-added"] == [
        {"engine": engine.key, "model": engine.model}
    ]
    session.measure.profile()  # of the current engine, against the model as it was written
    assert len(engine.profiles) == 2
    assert engine.profile is not None
    assert Path(engine.profile["reference"]) == Path(BLOCK)
    other = Session.from_archive(session.files.export(tmp_path / "all.zip"), "copy", store=tmp_path / "elsewhere")
    assert other.engines[-1].profiles == engine.profiles


def test_bfloat16_inputs_and_numpy_batches(session: Session, pretended: None, tmp_path: Path) -> None:
    import ml_dtypes

    engine = session.build(BLOCK, compiler="fake")
    with pytest.raises(ConfigError, match="No batch size"):
        session.measure.profile(engine, batches=[0])
    half = np.full((1, 64, 56, 56), 1.5, ml_dtypes.bfloat16)
    given = {"x": half, "reference": False, "batches": [np.int64(8)]}
    assert session.measure.profile(engine, inputs={"x": given.pop("x")}, **given)["batches"] == [8]
    np.savez(tmp_path / "half.npz", x=half)
    assert read_arrays(str(tmp_path / "half.npz"))["x"].dtype == ml_dtypes.bfloat16


def test_the_reference_of_a_cast_engine_is_the_model_as_written(session: Session, pretended: None) -> None:
    engine = session.build(BLOCK, compiler="fake", precision="fp16")
    assert Path(session.measure.profile(engine)["reference"]) == Path(BLOCK)
    assert engine.source().path != Path(BLOCK)


@pytest.mark.parametrize("which", ["inputs", "reference"])
def test_a_file_that_is_not_there(session: Session, pretended: None, which: str) -> None:
    session.build(BLOCK, compiler="fake")
    with pytest.raises(ConfigError, match=r"There is no file nowhere\.npz"):
        session.measure.profile(**{which: "nowhere.npz"})


def test_shapes_as_a_build_takes_them(session: Session, pretended: None) -> None:
    session.build(BLOCK, compiler="fake")
    given = {"x": "4x3x8x8", "y": "1x2:2x2:8x2", "z": [5, 6]}
    assert session.measure.profile(shapes=given)["shapes"] == {"x": [4, 3, 8, 8], "y": [2, 2], "z": [5, 6]}
    with pytest.raises(ConfigError, match="is not valid"):
        session.measure.profile(shapes={"x": "many"})


def test_a_profile_of_another_engine_is_refused(session: Session, pretended: None) -> None:
    engine = session.build(BLOCK, compiler="fake")
    session.measure.profile(engine)
    (file,) = (engine.folder / "profiles").glob("*.json")
    layers = [{"name": "x", "mean_ms": 1, "median_ms": 1}]
    file.write_text(json.dumps(profiles.document(1.0, layers=layers, layer_iterations=1)))
    with pytest.raises(ProfileError):
        _ = engine.measured


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(session: Session, no_job: None) -> None:
    pytest.importorskip("tensorrt_rtx")
    engine = session.build("residual_block", target="sm89")
    with pytest.raises(
        CompilerUnavailableError, match="tensorrt_rtx can't profile engines here: it needs an NVIDIA GPU"
    ):
        session.measure.profile()
    with pytest.raises(CompilerUnavailableError, match="tensorrt_rtx can't run engines here: it needs an NVIDIA GPU"):
        engine.open()
    assert session.engines[-1].profiles == []


@pytest.fixture
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker may be started to measure or to run."""

    real = Job.__post_init__

    def spawn(job: Job) -> None:
        assert not job.task.startswith(("workbench.measure", "workbench.compilers.tensorrt.refit")), job.task
        real(job)

    monkeypatch.setattr(Job, "__post_init__", spawn)


def test_what_a_compiler_cant_do_is_refused_before_anything_is_started(
    session: Session, no_job: None, tmp_path: Path
) -> None:
    """An engine of the fake compiler runs nowhere, whatever GPU is here."""
    engine = session.build(BLOCK, compiler="fake")
    x = {"x": np.ones((1, 64, 56, 56), "float32")}
    asked: list[tuple[str, Callable[[], Any]]] = [
        ("profile", session.measure.profile), ("profile", lambda: session.measure.start_profile(engine)), ("run", engine.open),
        ("run", lambda: engine.run(x)), ("refit", lambda: engine.refit({}, tmp_path / "new")),
        ("profile", lambda: session.measure.dynamic(BLOCK, compiler="fake", shapes={"x": "1x64x56x56:2x64x56x56:4x64x56x56"})),
    ]  # fmt: skip
    for what, call in asked:
        with pytest.raises(CompilerUnavailableError, match=f"fake can't {what} engines here: the fake") as info:
            call()
        assert "workbench doctor" in str(info.value.hint)
    assert [e.kind for e in session.events].count("build-started") == 1  # dynamic_overhead built nothing
    assert len(session.engines) == 1


def test_what_would_make_a_compiler_able_is_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavour, "_version", lambda _: None)
    with pytest.raises(CompilerUnavailableError, match="tensorrt_rtx can't run engines here: not installed") as info:
        require("tensorrt_rtx", Runs)
    assert info.value.hint == "pip install tensorrt-rtx"
    monkeypatch.setattr(flavour, "_version", lambda _: "1.5")
    monkeypatch.setattr(flavour, "gpus", lambda: (Gpu("H100", "sm90", 1, "1"),))
    require("tensorrt_rtx", Runs)
    with pytest.raises(ConfigError, match="no compiler 'gone'"):
        require("gone", Runs)


def test_what_a_dynamic_shape_costs(session: Session, pretended: None, tmp_path: Path) -> None:
    model = save(mlp(batch="n"), tmp_path / "mlp.onnx")
    found = session.measure.dynamic(
        str(model), compiler="fake", shapes={"x": "1x8:4x8:16x8"}, measure={"duration_ms": 1.0}
    )
    assert found["shapes"] == {"x": [4, 8]}
    assert found["fixed"]["profile"] == {"x": "4x8"}
    assert found["dynamic"]["profile"] == {"x": "1x8:4x8:16x8"}
    assert found["fixed"]["engine"] != found["dynamic"]["engine"]
    assert found["way"] == "plain"
    assert (found["overhead_ms"], found["overhead"]) == (
        1.0,
        0.5,
    )  # the pretended worker: 2 ms, and 3 ms at given shapes
    assert found["fallback"]["latency"]["median_ms"] == 4.5
    assert found["fallback"]["engine"] == found["dynamic"]["engine"]
    assert not any("specialization" in found[which] for which in ("fixed", "dynamic", "fallback"))
    with pytest.raises(ConfigError, match="no range of shapes"):
        session.measure.dynamic(str(model), compiler="fake", shapes={"x": "4x8"})


# --- where an engine runs --------------------------------------------------------------------------------

BUILT = {"name": "tensorrt_rtx", "version": "1.5.0.114", "target": "sm80", "gpu": None}


def told(monkeypatch: pytest.MonkeyPatch, present: str | None, version: str = "1.5.0.114", built: dict[str, Any] = BUILT,
         made_on: str = "", installed: str | None = None, **config: Any) -> dict[str, tuple[bool | None, str]]:  # fmt: skip
    here = installed or built["name"]
    monkeypatch.setattr(flavour, "_version", lambda module: version if module == here else None)
    monkeypatch.setattr(bound, "gpus", lambda: (Gpu("Card", present, 1, "580"),) if present else ())
    found = compatibility.compatibility(built, BuildConfig.of(**config), made_on)
    return {f.what: (f.ok, f.text) for f in found}


def test_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, "sm80", made_on=this_platform())
    assert {what: ok for what, (ok, _) in found.items()} == {
        "compiler": True,
        "version": True,
        "GPU": True,
        "platform": True,
    }


@pytest.mark.parametrize(
    ("what", "ok", "words", "arguments"),
    [
        ("compiler", False, "made by tensorrt; here is tensorrt_rtx 1.5.0.114, which can't read it",
         {"built": {**BUILT, "name": "tensorrt"}, "installed": "tensorrt_rtx"}),
        ("version", False, "Made by 1.5.0.114; here is 1.7.1.116", {"version": "1.7.1.116"}),
        ("version", True, "version-compatible", {"version": "1.7.1.116", "version_compatible": True}),
        ("GPU", False, "Built for sm80; this is Card (sm75): rebuild it for this GPU.", {"present": "sm75"}),
        ("GPU", None, "check its outputs", {"present": "sm90"}),
        ("GPU", False, "rebuild it for this GPU", {"present": "sm90", "built": {**BUILT, "name": "tensorrt"}}),
        ("GPU", True, "which its hardware compatibility allows",
         {"present": "sm90", "built": {**BUILT, "name": "tensorrt"}, "hardware_compatibility": "ampere_plus"}),
        ("GPU", None, "There is no NVIDIA GPU here", {"present": None}),
        ("GPU", True, "Built for sm89",
         {"present": "sm89", "built": {**BUILT, "target": "current", "gpu": {"name": "L4", "sm": "sm89"}}}),
        ("platform", False, "Built on Windows AMD64", {"made_on": "Windows AMD64"}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(
    monkeypatch: pytest.MonkeyPatch, what: str, ok: bool | None, words: str, arguments: dict[str, Any]
) -> None:
    found = told(monkeypatch, **{"present": "sm80", **arguments})
    assert found[what][0] is ok
    assert words in found[what][1]


def test_rebuilding_here(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = session.build(BLOCK, compiler="fake", precision="fp16", target="sm80")
    assert isinstance(engine, Engine)
    findings = engine.compatibility()
    assert [f.what for f in findings] == ["compiler", "version", "platform"]
    again = session.engines.rebuild(engine)
    assert again.key == engine.key  # nothing here is otherwise: it is found ready made
    assert again.cached
    monkeypatch.setattr(compatibility, "gpus", lambda: (Gpu("Card", "sm89", 1, "580"),))
    assert session.engines.rebuild(engine).config.target == "current"
    assert session.engines.rebuild(engine, precision="fp32").config.precision == "fp32"


def test_an_option_that_no_profile_has_is_refused_by_name() -> None:
    from workbench.measure.profile import check_options

    check_options(graph=False, seed=1)
    with pytest.raises(ConfigError) as info:
        check_options(duration=5.0)
    assert info.value.code == "unknown-option"
    assert "duration_ms" in str(info.value.hint)
