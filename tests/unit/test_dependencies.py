"""Every direct dependency has a lower bound and a pinned version that satisfies it."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.bounds import ROOT, lowest, requirements, tomllib

pytestmark = pytest.mark.tiny


def direct() -> list[str]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [e for e in document["project"]["optional-dependencies"] if e != "all"]
    return [*requirements(*extras), *document["build-system"]["requires"]]


def pinned() -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            entry = Requirement(line)
            found.setdefault(entry.name.lower(), []).append(entry)
    return found


@pytest.mark.parametrize("text", direct())
def test_a_direct_dependency_is_pinned_within_its_bounds(text: str) -> None:
    assert lowest(text)
    asked = Requirement(text)
    entries = pinned()[asked.name.lower()]
    exact = [s.version for e in entries for s in e.specifier if s.operator == "=="]
    assert exact, f"{asked.name} has no exact version"
    assert all(asked.specifier.contains(Version(v), prereleases=True) for v in exact)


def test_no_pinned_version_has_a_known_fault() -> None:
    from workbench.core.environments import RECIPES

    for recipe in RECIPES.values():
        for pin in recipe.pins:
            if match := re.fullmatch(r"filelock==(.+)", pin):
                # Before it, a symbolic link in place of a lock file was followed.
                assert Version(match[1]) >= Version("3.20.1")
