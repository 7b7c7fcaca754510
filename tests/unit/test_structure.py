"""The structure of the package: no circles, no private names across modules, no long module without a reason.

Which folder may import which is in pyproject.toml (`[tool.importlinter]`), checked by ``lint-imports`` in ``make lint``.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.tiny
FILES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted((ROOT / "workbench").rglob("*.py"))
}
LONGEST = 500
LONG = "Long because"


def imports(name: str) -> Iterator[tuple[str, str | None]]:
    """Modules of the package that a module imports, also within functions, with the name taken from each; not for type checking."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
                for other in child.orelse:
                    yield from [other, *walk(other)]
            else:
                yield child
                yield from walk(child)

    package = name if FILES[name].stem == "__init__" else name.rpartition(".")[0]
    nodes = list(walk(ast.parse(FILES[name].read_text())))
    modules: dict[str, str] = {}  # what a name stands for in this module
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in FILES:
                    modules[alias.asname or alias.name] = alias.name
                    yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(filter(None, [base, node.module]))
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                if whole in FILES:
                    modules[alias.asname or alias.name] = whole
                    yield whole, None
                elif source in FILES:
                    yield source, alias.name
    for node in nodes:
        if isinstance(node, ast.Attribute) and (module := modules.get(ast.unparse(node.value))):
            yield module, node.attr


EDGES = {name: sorted(imports(name), key=str) for name in FILES}


def test_there_is_no_circle() -> None:
    graph = {name: {module for module, _ in edges if module != name} for name, edges in EDGES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # a CycleError shows the circle


def test_no_private_name_crosses_modules() -> None:
    found = {
        (name, f"{module}.{taken}" if taken else module)
        for name, edges in EDGES.items()
        for module, taken in edges
        if module != name
        and any(p.startswith("_") and not p.startswith("__") for p in [*module.split("."), taken or ""])
    }
    assert found == set()


def test_a_long_module_says_why() -> None:
    """The first lines of its docstring say "Long because ..."."""
    found = set()
    for name, path in FILES.items():
        text = path.read_text()
        if text.count("\n") > LONGEST and LONG not in (ast.get_docstring(ast.parse(text)) or ""):
            found.add(name)
    assert found == set()


SHARED_BY_TESTS: set[tuple[str, str]] = {("tests/models/test_real_builds.py", "tests.contract.test_compilers")}
"""Test modules that another test module imports: what they share belongs in tests/support."""


def test_tests_share_through_support_only() -> None:
    found = set()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and re.search(
                r"^tests\.(.*\.)?(test_\w+|conftest)$", node.module or ""
            ):
                found.add((path.relative_to(ROOT).as_posix(), str(node.module)))
    assert found == SHARED_BY_TESTS
