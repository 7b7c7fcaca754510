"""Environments of their own: made from pins, looked at, mended, used by workers. No network: a wheel made here."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from workbench import Session, environments
from workbench.environments import Recipe, create, look, python_of, remove
from workbench.errors import CancelledError, CompilerUnavailableError, ConfigError
from workbench.jobs import Job
from workbench.precision.modelopt import autocast
from workbench.precision.quantize import Scheme
from workbench.store import Store


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of pip that find the one package there is, and a recipe that wants it under the name modelopt."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tiny_thing-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_thing.py", "number = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    recipe = Recipe("a tiny thing", ("tiny-thing==1.0",), ("tiny_thing",))
    monkeypatch.setitem(environments.RECIPES, "modelopt", recipe)
    return ["--no-index", "--find-links", str(folder)]


def test_an_environment_is_made_used_and_mended(
    session: Session, wheels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = session.store
    with pytest.raises(CompilerUnavailableError, match="missing: it was not made yet") as info:
        python_of("modelopt", store)
    assert info.value.hint == "workbench env create modelopt"
    phases: list[str] = []
    made = create(
        "modelopt", store, pip_options=wheels, on_job=lambda j: j.on_change(lambda k: phases.extend(k.progress))
    )
    assert (made.state, made.reason) == ("ready", "")
    assert "tiny-thing==1.0" in {p.lower().replace("_", "-") for p in made.packages}
    assert {"Making the environment", "Fetching packages", "Installing", "Checking"} <= set(phases)
    assert made.bytes > 1e6
    jobs: list[Job] = []
    assert create("modelopt", store, on_job=jobs.append) == made  # it is there: nothing is done
    assert not jobs

    # A worker runs there with this workbench, and none of the packages of here.
    model = session.add("residual_block")
    with pytest.raises(CompilerUnavailableError, match="environment is broken: No module named") as broken:
        autocast(model, "fp16", store)
    assert broken.value.hint == "workbench env create modelopt"
    with pytest.raises(CompilerUnavailableError, match="environment is broken: No module named"):
        session.quantize(model, "random:8", library="modelopt")

    monkeypatch.setitem(environments.RECIPES, "modelopt", Recipe("newer", ("tiny-thing==2.0",), ()))
    assert look("modelopt", store).state == "outdated"
    assert python_of("modelopt", store) == str(made.python)
    made.python.unlink()
    assert look("modelopt", store).reason == "the Python that it was made with is gone"
    (made.folder / environments.MARKER).unlink()
    with pytest.raises(CompilerUnavailableError, match="broken: it was not finished"):
        python_of("modelopt", store)
    assert remove("modelopt", store)
    assert not remove("modelopt", store)
    assert look("modelopt", store).state == "absent"


def test_what_goes_wrong_is_told_with_the_command(
    session: Session, wheels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = session.store
    monkeypatch.setitem(environments.RECIPES, "modelopt", Recipe("x", ("no-such-thing==1.0",), ()))
    with pytest.raises(CompilerUnavailableError, match=r"pip could not install.*no-such-thing") as info:
        create("modelopt", store, pip_options=wheels)
    assert "workbench env create modelopt" in str(info.value.hint)
    assert look("modelopt", store).state == "broken"
    monkeypatch.setitem(environments.RECIPES, "modelopt", Recipe("x", ("tiny-thing==1.0",), ("torch",)))
    with pytest.raises(CompilerUnavailableError, match="torch does not load there") as cpu:
        create("modelopt", store, pip_options=wheels)
    assert "build for the CPU" in str(cpu.value.hint)
    with pytest.raises(CancelledError):
        create("modelopt", store, pip_options=wheels, on_job=lambda job: job.cancel())
    assert look("modelopt", store).state == "absent"
    monkeypatch.setitem(environments.RECIPES, "modelopt", Recipe("x", (), (), python=(9, 0)))
    with pytest.raises(ConfigError, match=r"needs Python 9\.0 or later"):
        create("modelopt", store)
    with pytest.raises(ConfigError, match="There is no environment 'x'"):
        look("x", store)


@pytest.mark.tiny
def test_pins_are_exact_and_name_no_place() -> None:
    for recipe in environments.RECIPES.values():
        assert all(pin.count("==") == 1 and "/" not in pin for pin in recipe.pins)
        assert len({pin.split("==")[0] for pin in recipe.pins}) == len(recipe.pins)
        assert not any(pin.startswith(("nvidia-c", "onnxruntime-gpu", "cupy", "triton")) for pin in recipe.pins)


@pytest.mark.tiny
def test_schemes_for_other_libraries() -> None:
    assert Scheme(library="modelopt").placement == "modelopt"
    assert Scheme(library="modelopt").weights == "channel"
    assert Scheme(library="workbench") == Scheme()
    assert Scheme(**Scheme(library="modelopt", to="fp8").to_dict()).title == "fp8, as ModelOpt places it, rest fp16"
    for wrong, told in (
        ({"method": "percentile"}, "entropy or minmax"), ({"weights": "tensor"}, "weights='channel'"),
        ({"only": ("a",)}, "keep, not only"), ({"method": "entropy_calibration_2"}, "workbench's placement"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            Scheme(library="modelopt", **wrong)
    with pytest.raises(ConfigError, match="placement"):
        Scheme(library="keras")


def test_the_commands(cli, home: Path) -> None:
    listed = cli("env", "list")
    assert "modelopt: absent (it was not made yet)" in listed.stdout
    assert "workbench env create modelopt" in listed.stdout
    assert '"state": "absent"' in cli("env", "list", "--format", "json").stdout
    assert "There was no environment modelopt" in cli("env", "remove", "modelopt").stdout
    done = cli("env", "create", "keras")
    assert done.returncode == 1
    assert "There is no environment 'keras'" in done.stderr
    refused = cli("quantize", "residual_block", "-c", "random:8", "--library", "modelopt", "-o", home / "o.onnx")
    assert refused.returncode == 1
    assert "workbench env create modelopt" in refused.stderr
    assert Store(home).path.is_dir()
