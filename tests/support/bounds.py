"""Try the oldest or the newest versions of every library that pyproject.toml allows: ``python -m tests.support.bounds lowest``.

Makes a new environment, installs the workbench with TensorRT for RTX and JupyterLab, builds a plan and runs the tests that need no
more than that. PyTorch is left out: its oldest version pulls gigabytes of CUDA. Needs a package index; `make test` does not
run it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:  # the tests' own dependency there
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
TOOLS = ("pytest", "pytest-timeout", "hypothesis", "jsonschema")
TESTS = ("tests/unit/test_config.py", "tests/unit/test_jobs.py", "tests/unit/test_listing.py", "tests/unit/test_onnx_file.py",
         "tests/unit/test_plan.py", "tests/unit/test_shapes.py", "tests/unit/test_store.py", "tests/widgets/test_wire.py")  # fmt: skip


def requirements(*extras: str) -> list[str]:
    """What the base install and `extras` ask for, as pyproject.toml writes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(r for e in extras for r in project["optional-dependencies"][e])]


def lowest(requirement: str) -> str:
    """The requirement with its lower bound as the only version."""
    requirement = requirement.partition(";")[0].strip()
    name, _, version = requirement.partition(">=")
    if not re.fullmatch(r"[\w.-]+", name) or not version:
        raise ValueError(f"{requirement!r} has no lower bound")
    return f"{name}=={version}"


def main(which: str) -> None:
    """Install and try."""
    with tempfile.TemporaryDirectory(prefix="workbench-bounds-") as folder:
        place = Path(folder)
        python = str(place / "venv/bin/python")

        def run(*command: str) -> None:
            print("$", *command, flush=True)
            subprocess.run(command, check=True, cwd=ROOT)

        run(sys.executable, "-m", "venv", str(place / "venv"))
        asked = requirements("rtx", "lab")
        limits = place / "constraints.txt"
        limits.write_text("\n".join(lowest(r) for r in asked) + "\n" if which == "lowest" else "")
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade-strategy", "eager"]
        run("env", "-u", "PIP_CONSTRAINT", *pip, "-c", str(limits), "-e", ".[rtx,lab]", *TOOLS)
        run(python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check")
        run("env", f"WORKBENCH_HOME={place / 'home'}", python, "-m", "workbench", "fusions", "residual_block",
            "--target", "sm89")  # fmt: skip
        run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)


if __name__ == "__main__":
    if sys.argv[1:] not in (["lowest"], ["newest"]):
        sys.exit("usage: python -m tests.support.bounds lowest|newest")
    main(sys.argv[1])
