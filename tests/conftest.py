"""Fixtures of the whole suite: a private home for each test, a shared home for expensive builds, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from workbench import Session
from workbench.compilers.base import Ability, CompilerInfo
from workbench.compilers.fake import Fake
from workbench.hardware.target import Target

# A busy machine is no fault of a test.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A WORKBENCH_HOME of the test's own; nothing ever touches the user's."""
    place = tmp_path / "home"
    monkeypatch.setenv("WORKBENCH_HOME", str(place))
    return place


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    """A session in the private home."""
    made = Session("test")
    yield made
    made.close()


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake compiler says that it can do everything here, for tests with fake workers."""
    info = CompilerInfo("fake", "1", (Target("gpu", "sm89"),), frozenset(Ability))
    monkeypatch.setattr(Fake, "describe", lambda _: info)
    for task in ("runner", "run_task", "profile_task", "refit_task"):
        monkeypatch.setattr(Fake, task, "tests.support.worker_tasks:none", raising=False)


@pytest.fixture(scope="session")
def worker() -> str:
    """The process of pytest-xdist that this is, or ``main``."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory, worker: str) -> Path:
    """One home for expensive builds, shared by all tests of a run, in whichever process."""
    base = tmp_path_factory.getbasetemp()
    home = (base if worker == "main" else base.parent) / "shared-home"
    home.mkdir(exist_ok=True)
    return home


@pytest.fixture(scope="session")
def shared(shared_home: Path, worker: str) -> Iterator[Session]:
    """A session in the shared home: an engine that one test built is found by the next."""
    made = Session(f"shared-{worker}", store=shared_home)
    yield made
    made.close()


@pytest.fixture
def cli(home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a separate process."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "200", **options.pop("env", {})}  # type: ignore[dict-item]
        return subprocess.run(
            [sys.executable, "-m", "workbench", *map(str, arguments)],
            capture_output=True, text=True, timeout=300, env=environment, check=False, **options,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def validate() -> Callable[[dict], None]:
    """Check a document against the plan's JSON schema."""
    jsonschema = pytest.importorskip("jsonschema")
    from workbench.plan.document import PLAN

    validator = jsonschema.Draft202012Validator(PLAN.schema())

    def check(document: dict) -> None:
        # Through text, so that tuples and numpy numbers can't hide.
        errors = sorted(validator.iter_errors(json.loads(json.dumps(document))), key=lambda e: list(e.path))
        assert not errors, "\n".join(f"{list(e.path)}: {e.message[:200]}" for e in errors[:5])

    return check
