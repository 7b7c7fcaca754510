"""What importing costs, what may be absent, and the public surface."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import workbench

pytestmark = pytest.mark.tiny
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(workbench.__path__, "workbench.") if not m.name.endswith(("__main__",))
)

LIGHT = """
import sys
import workbench
heavy = {"torch", "tensorrt", "tensorrt_rtx", "onnx", "onnx_ir", "ipywidgets", "pandas", "plotly", "numpy", "IPython"}
print(sorted(heavy & set(sys.modules)))
"""


def test_import_workbench_loads_nothing_heavy() -> None:
    out = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


HELP = """
import sys
from typer.testing import CliRunner
from workbench.cli.main import app
done = CliRunner().invoke(app, [*sys.argv[1:], "--help"])
assert done.exit_code == 0, done.output
heavy = {"torch", "tensorrt", "tensorrt_rtx", "onnx", "onnx_ir", "onnxruntime", "numpy", "pandas", "plotly", "ipywidgets", "IPython",
         "jupyter_server"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("command", [(), ("fusions",), ("quantize",)])
def test_help_of_the_command_line_loads_nothing_heavy(command: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", HELP, *command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


BLOCKED = """
import importlib, sys
OPTIONAL = {"torch", "onnxscript", "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "ipywidgets", "anywidget",
            "jupyterlab", "jupyter_server", "netron", "transformers", "hypothesis", "pytest", "jsonschema", "nbclient", "nbformat"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OPTIONAL:
            raise ImportError(f"{name} is blocked by the test", name=name)
sys.meta_path.insert(0, Block())
bad = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        bad.append(f"{name}: {type(error).__name__}: {error}")
print("\\n".join(bad))
"""
# Only Jupyter loads these.
NEEDS_JUPYTER = ("workbench.widgets.views", "workbench.panels", "workbench.server")
# Tests of compilers import it.
NEEDS_PYTEST = "workbench.compilers.testing"


def test_every_module_imports_without_optional_packages() -> None:
    wanted = [m for m in MODULES if not m.startswith((*NEEDS_JUPYTER, NEEDS_PYTEST))]
    out = subprocess.run([sys.executable, "-c", BLOCKED, *wanted], capture_output=True, text=True, check=True).stdout
    assert out.strip() == ""


def test_the_public_surface() -> None:
    assert workbench.__all__ == sorted(workbench.__all__, key=str)
    for name in workbench.__all__:
        value = getattr(workbench, name)
        assert value.__doc__, name
        assert name in dir(workbench)
    with pytest.raises(AttributeError, match="Sesion"):
        _ = workbench.Sesion  # type: ignore[attr-defined]
    assert set(workbench._PLACES) == set(workbench.__all__)


def test_errors_survive_the_trip_between_processes() -> None:
    import json

    from workbench.core import errors

    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.WorkbenchError)]
    assert len(kinds) > 8
    for kind in kinds:
        before = kind("what", hint="do", details={"nodes": [1]})
        after = errors.WorkbenchError.from_dict(json.loads(json.dumps(before.to_dict())))
        assert type(after) is kind
        assert (str(after), after.hint, after.details) == ("what\ndo", "do", {"nodes": [1]})
    assert type(errors.WorkbenchError.from_dict({"kind": "OfALaterVersion", "message": "m"})) is errors.WorkbenchError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8217637232, "8.22 GB"),
        (262e6, "262 MB"),
        (1000, "1 kB"),
        (999, "999 B"),
        (999.7, "1 kB"),
        (999_700, "1 MB"),
        (0, "0 B"),
        (None, "?"),
        (1.5e12, "1.5 TB"),
    ],
)
def test_units(value: float | None, text: str) -> None:
    from workbench.core.units import bytes_text

    assert bytes_text(value) == text
