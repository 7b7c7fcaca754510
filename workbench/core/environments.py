"""Separate virtual environments, for libraries that conflict with the workbench's own packages.

`create` makes one from exact pins; workers then run in it (`Job(python=...)`), also without a network.
Pip's settings on this machine decide where packages come from; `pip_options` adds to them.

    from workbench.core import environments
    environments.create("modelopt")
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.documents import parse_json, read_text
from workbench.core.errors import (
    CancelledError,
    CompilerUnavailableError,
    ConfigError,
    LimitError,
    WorkbenchError,
    WorkerCrashedError,
)

if TYPE_CHECKING:
    from workbench.core.jobs import Job
    from workbench.core.store import Store
    from workbench.core.worker import Reporter

MARKER = "environment.json"


@dataclass(frozen=True)
class Recipe:
    """What an environment holds.

    Attributes:
        why: What it is for.
        pins: Packages with exact versions, installed without their own requirements.
        imports: Modules that must load.
        python: The oldest Python version that the pins support.
    """

    why: str
    pins: tuple[str, ...]
    imports: tuple[str, ...]
    python: tuple[int, int] = (3, 11)


RECIPES = {
    # NVIDIA's extra installs onnxruntime-gpu and CuPy, 650 MB that are not used without a GPU. ONNX Runtime for
    # the CPU and the packages that these two parts of ModelOpt load are enough.
    "modelopt": Recipe(
        "NVIDIA ModelOpt: quantization and AutoCast of ONNX models",
        (
            "torch==2.13.0", "sympy==1.14.0", "mpmath==1.3.0", "networkx==3.6.1", "jinja2==3.1.6", "markupsafe==3.0.4",
            "fsspec==2026.9.0", "filelock==3.32.7", "typing-extensions==4.16.0", "setuptools==84.2.1", "numpy==2.4.6",
            "scipy==1.17.1", "ml-dtypes==0.6.0", "onnx==1.23.2", "protobuf==7.36.2", "onnx-ir==1.1.0",
            "onnxscript==0.7.2", "onnxruntime==1.32.0", "flatbuffers==25.12.19", "packaging==26.3",
            "onnxconverter-common==1.16.0", "onnxslim==0.1.98", "colorama==0.4.6", "onnx-graphsurgeon==0.6.1",
            "polygraphy==0.53.6", "lief==1.0.0", "cppimport==26.4.17", "mako==1.4.3", "pybind11==3.1.0", "pulp==3.3.2",
            "omegaconf==2.4.0", "pyyaml==6.0.3", "nvidia-ml-py==13.615.71", "ninja==1.13.2", "tqdm==4.70.1",
            "regex==2026.11.15", "rich==15.0.0", "markdown-it-py==4.3.0", "mdurl==0.1.2", "pygments==2.21.0",
            "safetensors==0.8.0", "pydantic==2.14.3", "pydantic-core==2.50.4", "annotated-types==0.8.0",
            "typing-inspection==0.4.5", "psutil==7.2.2", "platformdirs==4.14.7", "nvidia-modelopt==0.47.0",
        ),
        ("torch", "onnxruntime", "modelopt.onnx.quantization", "modelopt.onnx.autocast"),
    ),
}  # fmt: skip
"""The environments that can be made, by name."""


@dataclass(frozen=True)
class Environment:
    """The current state of one environment.

    Attributes:
        name: The recipe's name.
        folder: Its folder.
        state: ``ready``, ``absent``, ``broken`` (it was not finished, or its Python is gone) or ``outdated``
            (made from other pins; it still works).
        reason: Why it is not ready; empty if it is.
        packages: The packages that were installed, with versions.
        created: Seconds since the epoch; 0 if it does not exist.
    """

    name: str
    folder: Path
    state: str
    reason: str = ""
    packages: tuple[str, ...] = field(default=(), repr=False)
    created: float = 0.0

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def bytes(self) -> int:
        """Size on disk; 0 if it does not exist."""
        return sum(f.lstat().st_size for f in self.folder.rglob("*") if not f.is_dir()) if self.folder.is_dir() else 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "folder": str(self.folder), "why": RECIPES[self.name].why}


def look(name: str, store: Store | None = None) -> Environment:
    """The environment called `name`, whether it exists or not.

    Raises:
        ConfigError: there is no recipe of that name.
    """
    recipe = _recipe(name)
    folder = _store(store).path / "environments" / name
    found = Environment(name, folder, "absent", "it was not made yet")
    if not folder.exists():
        return found
    try:
        note = parse_json(read_text(folder / MARKER), MARKER)
        packages, created = tuple(map(str, note["packages"])), float(note["created"])
        pins = tuple(note.get("pins", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LimitError):
        return Environment(name, folder, "broken", "it was not finished")
    if not found.python.exists():  # a link to a Python that was removed
        return Environment(name, folder, "broken", "the Python that it was made with is gone", packages, created)
    if pins != recipe.pins:
        return Environment(name, folder, "outdated", "this version of the workbench pins others", packages, created)
    return Environment(name, folder, "ready", "", packages, created)


def listing(store: Store | None = None) -> list[Environment]:
    """All environments that there are recipes for."""
    return [look(name, store) for name in RECIPES]


def python_of(name: str, store: Store | None = None) -> str:
    """The interpreter of an environment, for `Job(python=...)`.

    Raises:
        CompilerUnavailableError: it is missing or broken; the hint is the command that repairs it.
    """
    found = look(name, store)
    if found.state in {"absent", "broken"}:
        raise missing(name, found.reason, found.state)
    return str(found.python)


def missing(name: str, reason: str, state: str = "broken", *, again: bool = False) -> CompilerUnavailableError:
    """The error with the command that repairs an environment; `again` if it looks ready but must be recreated."""
    word = "missing" if state == "absent" else "broken"
    return CompilerUnavailableError(
        f"The {name} environment is {word}: {reason}.",
        hint=f"workbench env create {name}" + " --again" * again,
        details={"state": state},
    )


def result(job: Job, name: str) -> dict[str, Any]:
    """The answer of a worker in an environment. If a package is missing there, the error says how to repair it.

    Raises:
        CompilerUnavailableError: a module does not load there.
        WorkbenchError: what the task raised.
    """
    try:
        return job.result()
    except WorkbenchError as error:
        text = f"{error.message} {job.output if isinstance(error, WorkerCrashedError) else ''}"
        if found := re.search(r"(?:ModuleNotFoundError|ImportError): ([^\n]*)", text):
            raise missing(name, found[1].strip().rstrip("."), again=True) from None
        if isinstance(error, WorkerCrashedError):
            raise WorkerCrashedError(
                error.message,
                hint=f"Run it again; if that does not help, recreate its environment: workbench env create {name} --again",
                details=error.details,
            ) from None
        raise


def create(
    name: str,
    store: Store | None = None,
    *,
    pip_options: Sequence[str] = (),
    again: bool = False,
    on_job: Callable[[Job], Any] | None = None,
) -> Environment:
    """Make an environment, or repair it; one that is ready stays as it is.

    Args:
        name: The recipe's name.
        store: The store that holds it.
        pip_options: Passed to ``pip install``, for example the index of a CPU build of torch.
        again: Recreate it even if it is ready.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        ConfigError: there is no such recipe, or this Python is too old for its pins.
        CompilerUnavailableError: pip failed, or what it installed does not load.
        CancelledError: it was cancelled; the unfinished environment is removed.
    """
    from workbench.core.jobs import Job

    recipe = _recipe(name)
    place = _store(store)
    if sys.version_info < recipe.python:
        raise ConfigError(
            f"The {name} environment needs Python {'.'.join(map(str, recipe.python))} or later; "
            f"this is {sys.version_info.major}.{sys.version_info.minor}.",
            hint="Install the workbench in a later Python.",
        )
    with place.lock(f"environment-{name}"):
        found = look(name, place)
        if found.state == "ready" and not again:
            return found
        if found.folder.exists():
            shutil.rmtree(found.folder)
        job = Job(
            "workbench.core.environments:create_task",
            {"name": name, "folder": str(found.folder), "pip_options": list(pip_options),
             "pins": list(recipe.pins), "imports": list(recipe.imports)},
            title=f"environment {name}",
        )  # fmt: skip
        if on_job is not None:
            on_job(job)
        try:
            job.result()
        except CancelledError:
            shutil.rmtree(found.folder, ignore_errors=True)
            raise
        return look(name, place)


def remove(name: str, store: Store | None = None) -> bool:
    """Remove an environment; False if there was none."""
    found = look(name, store)
    if found.folder.exists():
        shutil.rmtree(found.folder)
        return True
    return False


def create_task(
    reporter: Reporter,
    *,
    name: str,
    folder: str,
    pip_options: Sequence[str],
    pins: Sequence[str],
    imports: Sequence[str],
) -> dict[str, Any]:
    """The worker task: make a virtual environment, install its packages, check that they load, write a marker."""
    place = Path(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    reporter.progress("Making the environment", 0, 1)
    _run([sys.executable, "-m", "venv", str(place)], name, "Python can't make a virtual environment")
    reporter.progress("Making the environment", 1, 1)
    python = str(Environment(name, place, "").python)
    # All at once and without requirements: the pins are complete, and pip can't install a CUDA runtime.
    command = [
        python,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-input",
        "--progress-bar",
        "off",
        *pip_options,
        *pins,
    ]
    total, seen, said = len(pins), 0, []
    reporter.progress("Fetching packages", 0, total)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            said.append(line.rstrip())
            if re.match(r"(Collecting|Requirement already satisfied)", line):
                seen += 1
                reporter.progress("Fetching packages", min(seen, total), total)
            elif line.startswith("Installing collected"):
                reporter.progress("Installing", 0, 1)
    if pip.returncode:
        errors = [line for line in said if line.startswith("ERROR")] or said[-3:]
        raise CompilerUnavailableError(
            f"pip could not install the {name} environment: {' '.join(errors)[:600]}",
            hint=f"Check the network and try again: workbench env create {name} (options for pip go after --).",
            details={"output": said[-40:]},
        )
    reporter.progress("Installing", 1, 1)
    for i, module in enumerate(imports):
        reporter.progress("Checking", i, len(imports))
        hint = "torch must be a build for the CPU; name where pip finds one" if module == "torch" else ""
        _run([python, "-I", "-c", f"import {module}"], name, f"{module} does not load there", hint)
    reporter.progress("Checking", len(imports), len(imports))
    frozen = _run([python, "-m", "pip", "list", "--format=freeze"], name, "pip does not answer").split()
    note = {"pins": list(pins), "packages": frozen, "created": time.time(), "python": sys.version.split()[0]}
    (place / MARKER).write_text(json.dumps(note, indent=1))
    return {"packages": len(frozen)}


def _run(command: list[str], name: str, what: str, more: str = "") -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise CompilerUnavailableError(
            f"The {name} environment could not be made: {what}: {last[0][:300]}",
            hint=f"workbench env create {name}" + (f" -- --index-url ADDRESS ({more})" if more else ""),
        )
    return done.stdout


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ConfigError(f"There is no environment {name!r}.", hint=f"There are: {', '.join(RECIPES)}.")
    return RECIPES[name]


def _store(store: Store | None) -> Store:
    from workbench.core.store import Store as Made

    return store if store is not None else Made()
