"""A compiler from a separate package: found by its entry point, without any change in the workbench.

The package is `tests/contract/plugin`; docs/adding-a-compiler.md shows it. It is copied beside metadata that declares the
entry point, as `pip install` leaves them, and put on the module path.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.small_models import mlp, save
from workbench import Session, compilers, doctor
from workbench.compilers import registry
from workbench.compilers.base import Ability, Builds, Compiler, Partitions, Profiles, Runs
from workbench.compilers.testing import CompilerContract
from workbench.core.errors import CompilerUnavailableError, ConfigError

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Put a package with an entry point of the workbench on the module path, here and in workers."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", str(place), prepend=":")
    before = set(sys.modules)

    def make(name: str, entry: str, source: str | Path | None) -> Path:
        info = place / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[workbench.compilers]\n{name} = {entry}\n")
        if isinstance(source, Path):
            shutil.copytree(source, place / source.name)
        elif source is not None:
            (place / f"{name}.py").write_text(source)
        return place

    yield make
    registry.forget()
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(place)):
            del sys.modules[module]


@pytest.fixture
def plugin(install: Callable[..., Path]) -> Path:
    return install("onnx_reference", "onnx_reference:compiler", PLUGIN / "onnx_reference")


class TestOnnxReference(CompilerContract):
    """It passes the public suite."""

    compiler = "onnx_reference"

    @pytest.fixture(autouse=True)
    def _installed(self, plugin: Path) -> None:
        """As if it were installed."""


def test_it_is_listed_and_described(plugin: Path) -> None:
    assert "onnx_reference" in compilers.compilers()
    [info] = [i for i in compilers.describe() if i.name == "onnx_reference"]
    assert info.available
    assert info.abilities == {Ability.BUILD, Ability.RUN, Ability.PROFILE}
    assert info.missing[Ability.REFIT] == "it does not offer that"
    assert isinstance(compilers.require("onnx_reference", Runs), Compiler)
    with pytest.raises(
        CompilerUnavailableError, match="onnx_reference can't partition models here: it does not offer that"
    ):
        compilers.require("onnx_reference", Partitions)


def test_the_doctor_shows_it(plugin: Path) -> None:
    found = {row["what"]: row for row in doctor.examine()["checks"]}
    assert found["onnx_reference"]["state"] == "yes"
    assert "builds for cpu" in found["onnx_reference"]["found"]


def test_a_session_builds_runs_and_measures_with_it(plugin: Path, session: Session, tmp_path: Path) -> None:
    model = save(mlp("n"), tmp_path / "m.onnx")
    engine = session.build(str(model), compiler="onnx_reference", shapes={"x": "1x8:2x8:4x8"})
    assert [layer.type for layer in engine.plan.layers] == ["MatMul", "Relu", "MatMul"]
    assert session.build(str(model), compiler="onnx_reference", shapes={"x": "1x8:2x8:4x8"}).cached
    assert [r.what for r in engine.compatibility()] == ["compiler", "version", "platform"]
    x = np.ones((3, 8), "float32")
    with engine.open() as running:
        assert running({"x": x})["y"].shape == (3, 4)
        with pytest.raises(ConfigError, match=r"the engine takes \['1..4', 8\]"):
            running({"x": np.ones((5, 8), "float32")})
    profile = session.measure.profile(engine, duration_ms=5.0, warm_up_ms=1.0)
    assert profile["error"]["relative_l2"] < 1e-5
    assert profile["device"]["kind"] == "cpu"
    assert all(layer.time_ms is not None for layer in engine.measured.layers)
    assert engine.tactics == []


def test_the_shell_builds_with_it(
    plugin: Path, cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    model = save(mlp(2), tmp_path / "m.onnx")
    done = cli("fusions", model, "--compiler", "onnx_reference")
    assert done.returncode == 0, done.stderr
    assert "matmul" in done.stdout.lower()


# --- packages that do not work ---------------------------------------------------------------------------

RAISES = """
class Rude:
    name = "rude"
    def describe(self): raise RuntimeError("no libcudart.so\\nmore")
    def version(self): return "1"
    def arguments(self): return {}
def compiler(): return Rude()
"""


@pytest.mark.parametrize(
    ("name", "entry", "source", "said"),
    [
        ("rude", "rude:compiler", RAISES, "The compiler rude can't be described: RuntimeError: no libcudart.so"),
        ("odd", "odd:compiler", RAISES.replace('raise RuntimeError("no libcudart.so\\nmore")', "return {}"),
         "The compiler odd can't be described: TypeError: describe() returned a dict, not a CompilerInfo"),
        ("gone", "no_such_module:compiler", None, "can't be loaded from no_such_module:compiler: ModuleNotFoundError"),
        ("lost", "lost:compiler", "x = 1\n", "can't be loaded from lost:compiler: AttributeError"),
        ("broken", "broken:compiler", "raise OSError('libx.so is missing')\n", "OSError: libx.so is missing"),
        ("wrong", "wrong:compiler", "def compiler(): return object()\n", "returned a object, which lacks name, describe"),
        ("exits", "exits:compiler", "import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)  # fmt: skip
def test_the_others_go_on_and_the_doctor_names_it(
    install: Callable[..., Path], name: str, entry: str, source: str | None, said: str
) -> None:
    install(name, entry, source)
    described = {info.name: info for info in compilers.describe()}
    assert said in str(described[name].error)
    assert not described[name].available
    assert set(described[name].missing) == set(Ability)
    assert described["fake"].available
    assert compilers.get("fake", Builds).name == "fake"
    row = next(row for row in doctor.examine()["checks"] if row["what"] == name)
    assert row["state"] == "no"
    assert said in row["found"]
    with pytest.raises(CompilerUnavailableError) as info:
        compilers.require(name, Profiles)
    assert info.value.code == "compiler-broken"


def test_a_build_with_a_broken_compiler_says_why(
    install: Callable[..., Path], session: Session, tmp_path: Path
) -> None:
    install("gone", "no_such_module:compiler", None)
    with pytest.raises(CompilerUnavailableError, match="can't be loaded") as info:
        session.build(str(save(mlp(2), tmp_path / "m.onnx")), compiler="gone")
    assert info.value.code == "compiler-broken"


def test_compilers_can_be_looked_for_again() -> None:
    first = {name: compilers.get(name).name for name in compilers.compilers()}
    registry.forget()
    assert {name: compilers.get(name).name for name in compilers.compilers()} == first


def test_a_package_can_not_take_the_name_of_another_compiler(install: Callable[..., Path]) -> None:
    install("fake", "rude:compiler", RAISES)
    assert compilers.compilers().count("fake") == 1
    assert compilers.info_of("fake").error is None


# --- what the suite catches -------------------------------------------------------------------------------

DEFECTS = """
import itertools, json
from pathlib import Path
import numpy as np
from onnx_reference import OnnxReference
from onnx_reference import worker

class Unstable(OnnxReference):
    name = "unstable"
    counter = itertools.count()
    def version(self): return str(next(self.counter))

class Loses(OnnxReference):
    build_task = "defects:losing"

class Wrong(OnnxReference):
    run_task = "defects:wrong"

class Silent(OnnxReference):
    def describe(self):
        import dataclasses
        return dataclasses.replace(super().describe(), abilities=frozenset())

def losing(reporter, *, folder, **arguments):
    worker.build(reporter, folder=folder, **arguments)
    file = Path(folder) / "record.json"
    record = json.loads(file.read_text())
    record["layers"] = [layer for layer in record["layers"] if layer["type"] != "Relu"]
    file.write_text(json.dumps(record))
    return {}

def wrong(reporter, **arguments):
    class Off(worker.Evaluator):
        def execute(self, arrays):
            return {name: array + np.float32(1) for name, array in super().execute(arrays).items()}
    worker.Evaluator = Off
    return worker.serve(reporter, **arguments)
"""

SUITES = """
import defects
from workbench.compilers import registry
from workbench.compilers.testing import CompilerContract

class TestUnstable(CompilerContract):
    compiler = "unstable"

class TestLoses(CompilerContract):
    compiler = "loses"

class TestWrong(CompilerContract):
    compiler = "wrong"

class TestSilent(CompilerContract):
    compiler = "silent"

class TestExpected(CompilerContract):
    compiler = "onnx_reference"
    expected_failures = {"test_version_is_stable": "it is stable", "test_build[mlp]": "it builds", "test_gone": "no such test"}

class TestAdmits(CompilerContract):
    compiler = "unstable"
    expected_failures = {"test_version_is_stable": "it counts"}
"""

CAUGHT = {
    "TestUnstable::test_version_is_stable": "FAILED",
    "TestLoses::test_build[mlp]": "FAILED",
    "TestLoses::test_description": "PASSED",
    "TestWrong::test_run[mlp]": "FAILED",
    "TestWrong::test_build[mlp]": "PASSED",
    "TestSilent::test_description": "FAILED",
    "TestExpected::test_version_is_stable": "FAILED",
    "TestExpected::test_build[mlp]": "FAILED",
    "TestExpected::test_build[layout]": "PASSED",
    "TestExpected::test_expected_failures_name_tests": "FAILED",
    "TestAdmits::test_version_is_stable": "XFAIL",
}


def test_the_suite_catches_what_is_wrong(install: Callable[..., Path], tmp_path: Path) -> None:
    install("onnx_reference", "onnx_reference:compiler", PLUGIN / "onnx_reference")
    for name in ("Unstable", "Loses", "Wrong", "Silent"):
        install(name.lower(), f"defects:{name}", None)
    (tmp_path / "site" / "defects.py").write_text(DEFECTS)
    (tmp_path / "test_suites.py").write_text(SUITES)
    chosen = " or ".join(
        ("version_is_stable", "test_description", "test_build", "test_run and mlp", "expected_failures_name_tests")
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-q", "-p", "no:cacheprovider", "-k", chosen, "test_suites.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    found = {}
    for line in done.stdout.splitlines():
        outcome, _, rest = line.partition(" test_suites.py::")
        if rest:
            found[rest.split(" - ")[0].strip()] = outcome
    assert {test: found.get(test) for test in CAUGHT} == CAUGHT, done.stdout[-3000:]
    assert "[XPASS(strict)] it is stable" in done.stdout


DOCS = Path(__file__).parents[2] / "docs" / "adding-a-compiler.md"


@pytest.mark.parametrize("file", ["__init__.py", "worker.py"])
def test_the_page_shows_the_package_as_it_is(file: str) -> None:
    assert (PLUGIN / "onnx_reference" / file).read_text() in DOCS.read_text()
