"""The generated files in the repository are current: ``python -m tests.support.generate`` writes them."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tests.support import ROOT
from tests.support.generate import DOCUMENTS, files

pytestmark = pytest.mark.tiny
GENERATED = files()


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_current(name: str) -> None:
    assert (ROOT / name).read_text() == GENERATED[name], f"{name} is not current: python -m tests.support.generate"


def test_every_schema_is_generated() -> None:
    here = {f"workbench/schemas/{path.name}" for path in (ROOT / "workbench" / "schemas").glob("*.json")}
    assert here == {name for name in GENERATED if name.endswith(".schema.json")}
    assert len(here) == len(DOCUMENTS)


@pytest.mark.parametrize("name", [name for name in GENERATED if name.endswith(".schema.json")])
def test_a_schema_is_valid_and_says_what_fields_mean(name: str) -> None:
    schema = json.loads(GENERATED[name])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["description"]
    for part in schema["$defs"].values():
        assert "properties" not in part or part["description"]
