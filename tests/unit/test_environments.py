"""Environments of their own: made from pins, looked at, mended, used by workers. No network: a wheel made here."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench import Model, Session
from workbench.core import environments
from workbench.core.environments import Recipe, create, look, python_of, remove
from workbench.core.errors import CancelledError, CompilerUnavailableError, ConfigError, WorkerCrashedError
from workbench.core.jobs import Job
from workbench.core.store import Store
from workbench.precision.modelopt import autocast, maker
from workbench.precision.quantize import quantize
from workbench.precision.scheme import Scheme


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


@pytest.mark.slow
def test_an_environment_is_made_used_and_mended(
    session: Session, wheels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = session.store
    with pytest.raises(CompilerUnavailableError, match="missing: it was not made yet") as info:
        python_of("modelopt", store)
    assert info.value.hint == "workbench env create modelopt"
    phases: list[str] = []
    made = create(
        "modelopt",
        store,
        pip_options=wheels,
        on_job=lambda j: j.on_change(lambda k: phases.extend(p.phase for p in k.progress)),
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
    assert broken.value.hint == "workbench env create modelopt --again"
    with pytest.raises(CompilerUnavailableError, match="environment is broken: No module named"):
        session.precision.quantize(model, "random:8", library="modelopt")
    # The command that is named does something: without --again a ready environment would be left as it is.
    assert create("modelopt", store, pip_options=wheels, again=True, on_job=jobs.append).state == "ready"
    assert len(jobs) == 1
    made.python.unlink()
    made.python.write_text("#!/bin/sh\nexit 3\n")
    made.python.chmod(0o755)
    with pytest.raises(WorkerCrashedError, match="exited with code 3") as crashed:
        autocast(model, "fp16", store)
    assert "workbench env create modelopt --again" in str(crashed.value.hint)

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


@pytest.fixture
def pretended(session: Session, tmp_path: Path) -> Callable[[str], None]:
    """Makes an environment whose ModelOpt, of the version that it is told, gives models back as they are."""
    package = tmp_path / "foreign" / "modelopt" / "onnx"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    (package / "quantization.py").write_text(
        "import shutil\n\ndef quantize(source, *, output_path, **options):\n    shutil.copyfile(source, output_path)\n"
    )
    (package / "autocast.py").write_text(
        "import onnx\n\ndef convert_to_mixed_precision(*, onnx_path, **options):\n    return onnx.load(onnx_path)\n"
    )

    def make(version: str) -> None:
        folder = session.store.path / "environments" / "modelopt"
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        python = folder / "bin" / "python"
        # A worker in an environment is started with -I, which would hide the package.
        python.write_text(f'#!/bin/sh\nshift\nPYTHONPATH="{package.parent.parent}" exec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        note = {"pins": [], "packages": ["pip==26.1", f"nvidia_modelopt=={version}"], "created": 1.0}
        (folder / environments.MARKER).write_text(json.dumps(note))

    return make


def test_the_maker_names_what_modelopt_stands_on(session: Session, pretended: Callable[[str], None]) -> None:
    pretended("0.46.0")
    before = maker(session.store)
    assert "nvidia-modelopt 0.46.0" in before
    file = session.store.path / "environments" / "modelopt" / environments.MARKER
    note = json.loads(file.read_text())
    file.write_text(json.dumps({**note, "packages": [*note["packages"], "ONNX_Runtime==0.1", "onnxruntime==9.9"]}))
    assert "onnxruntime 9.9" in maker(session.store) != before  # another ONNX Runtime calibrates otherwise


@pytest.mark.parametrize("what", ["quantize", "autocast"])
def test_models_of_modelopt_are_kept_by_the_version_that_made_them(
    session: Session, pretended: Callable[[str], None], what: str
) -> None:
    model = session.add("residual_block")
    jobs: list[Job] = []
    scheme = Scheme(to="int8")

    def made() -> Path:
        if what == "autocast":
            low = autocast(model, "fp16", session.store, on_job=jobs.append)
        else:
            low = quantize(model, session.store, scheme, data="random:8", library="modelopt", on_job=jobs.append)
        assert low.origin["source"] == model.sha256(session.store)
        assert session.models.original(Model("again", low.path, low.origin)).path == model.path
        return low.path

    pretended("0.46.0")
    assert look("modelopt", session.store).state == "outdated"
    first = made()
    made()
    assert len(jobs) == 1
    newest = environments.RECIPES["modelopt"].pins[-1].partition("==")[2]
    pretended(newest)
    made()
    assert len(jobs) == 2
    pretended("0.46.0")
    assert made() == first
    assert len(jobs) == 2
    remove("modelopt", session.store)
    made()  # what the pinned version made is there still
    assert len(jobs) == 2
    with pytest.raises(CompilerUnavailableError, match="missing"):
        if what == "autocast":
            autocast(model, "bf16", session.store)
        else:
            session.precision.quantize(model, "random:8", library="modelopt", rest="bf16")


@pytest.mark.slow
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
    # What nobody chose takes the default that fits, there and back; what was chosen is not given up in silence.
    assert Scheme().but(library="modelopt") == Scheme(library="modelopt")
    assert Scheme(library="modelopt").but(library="workbench") == Scheme()
    assert Scheme(to="fp8").but(library="modelopt", keep="a") == Scheme(to="fp8", library="modelopt", keep="a")
    assert Scheme(library="modelopt").but(rest="bf16").weights == "channel"
    with pytest.raises(ConfigError, match="weights='channel'"):
        Scheme(weights="tensor").but(library="modelopt")
    for how in ("channel-after", "channel", "tensor"):
        assert Scheme(library="onnxruntime", rest="fp32", weights=how).title == "int8, as ONNX Runtime places it"
    for wrong, told in (
        ({"method": "percentile"}, "entropy or minmax"), ({"weights": "tensor"}, "weights='channel'"),
        ({"only": ("a",)}, "keep, not only"), ({"method": "entropy_calibration_2"}, "workbench's placement"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            Scheme(library="modelopt", **wrong)
    with pytest.raises(ConfigError, match="placement"):
        Scheme(library="keras")


@pytest.mark.slow
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
