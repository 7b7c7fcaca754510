"""Typed documents: what their types admit is what their JSON schema admits, and damaged ones are refused."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support import ROOT, profiles
from workbench import Session
from workbench.build_folder import NOTE
from workbench.core.documents import DocumentError
from workbench.core.errors import ProfileError, StoreError
from workbench.core.typed_document import DocumentType
from workbench.experiments.bench import Bench, table
from workbench.experiments.bench_document import BENCH
from workbench.measure.document import PROFILE, read_profile
from workbench.model.origin import ORIGIN
from workbench.plan.document import PLAN
from workbench.plan.partition import Operator, Partition, Segment
from workbench.plan.record import RECORD

VALUES: list[Any] = [None, True, 0, -1, 1.5, "", "x", [], {}, [None], {"a": None}, [[1]], ["x"], {"name": 3}]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A document of each kind, by the id of its schema, as a build and a profile write them."""
    session = Session("documents", store=tmp_path_factory.mktemp("home"))
    engine = session.build("residual_block", compiler="fake")
    profile = profiles.measure(engine)
    note, record = (json.loads((engine.folder / f"{name}.json").read_text()) for name in ("build", "record"))
    plan = json.loads(session.engines.find(engine.key).measured.to_json())
    origin = json.loads(json.dumps(session.models["residual_block"].origin))
    session.close()
    return {PLAN.id: plan, RECORD.id: record, NOTE.id: note, PROFILE.id: profile, ORIGIN.id: origin}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inner for place in (path + (key,), *places(each, path + (key,)))]  # noqa: RUF005


@pytest.mark.parametrize("form", [PLAN, RECORD, NOTE, PROFILE, ORIGIN], ids=lambda form: form.id)
def test_the_check_agrees_with_the_json_schema(form: DocumentType[Any], built: dict[str, Any]) -> None:
    good = built[form.id]
    assert form.check(good, "it") is good
    validator = jsonschema.Draft202012Validator(form.schema())
    validator.check_schema(form.schema())
    rng = random.Random(3)
    found = places(good)
    answers = set()
    for _ in range(250):
        document = copy.deepcopy(good)
        *before, last = rng.choice(found)
        target: Any = document
        for key in before:
            target = target[key]
        if rng.random() < 0.2:
            del target[last]
        else:
            target[last] = rng.choice(VALUES)
        try:
            form.check(document, "it")
            fits = True
        except DocumentError:
            fits = False
        # The check may refuse more: what no JSON schema can say, and 1.0 for an integer. It never admits more.
        assert fits <= validator.is_valid(document), (before, last)
        answers.add(fits)
    assert answers == {True, False}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "\ud800", {"a": [float("nan")]}, {"\ud800": 1}])
def test_numbers_and_texts_that_no_reader_can_use(value: object, built: dict[str, Any]) -> None:
    plan = copy.deepcopy(built[PLAN.id])
    plan["config"]["flags"] = value  # an open part of the document
    with pytest.raises(DocumentError):
        PLAN.check(plan, "plan")


@pytest.mark.parametrize(
    "change",
    [
        lambda la: la.update(nodes=[*la["nodes"], la["nodes"][0]]),
        lambda la: la.update(evidence="none"),
        lambda la: la.update(nodes=[]),
    ],
    ids=["a node twice", "no evidence for nodes", "evidence without nodes"],
)
def test_what_the_json_schema_does_not_say(change: Any, built: dict[str, Any]) -> None:
    plan = copy.deepcopy(built[PLAN.id])
    change(next(layer for layer in plan["layers"] if layer["nodes"]))
    with pytest.raises(DocumentError):
        PLAN.check(plan, "plan")


def test_an_error_names_the_place(built: dict[str, Any]) -> None:
    plan = copy.deepcopy(built[PLAN.id])
    plan["layers"][1]["kind"] = "convolution"
    with pytest.raises(DocumentError, match=r"^plan\.layers\[1\]\.kind: "):
        PLAN.check(plan, "plan")


RESULTS = [f for f in sorted((ROOT / "docs" / "results").glob("*.json")) if BENCH.id in f.read_text()[:200]]


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_results_that_were_measured_earlier_open(file: Path) -> None:
    work = Bench(None, ["digits"], out=file)  # type: ignore[arg-type]
    assert len(table(work.document)) == len(json.loads(file.read_text())["rows"]) > 0


def test_a_damaged_partition_is_refused() -> None:
    good = Partition("m", "parser", True, (Segment("fallback", (Operator("a", "Relu"),)),)).to_dict()
    assert Partition.from_dict(good).to_dict() == good
    for damaged in (
        {**good, "segments": [{}]},
        {**good, "coverage": float("nan")},
        {k: good[k] for k in ("schema", "model")},
    ):
        with pytest.raises(StoreError) as told:
            Partition.from_dict(damaged)
        assert told.value.code == "damaged-partition"
    with pytest.raises(StoreError) as told:
        Partition.from_dict({**good, "schema": "workbench.partition/2"})
    assert told.value.code == "not-a-partition"


def test_a_profile_of_a_later_version_is_refused(built: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(built[PROFILE.id]))
    assert read_profile(file) == built[PROFILE.id]
    for text in (
        json.dumps({**built[PROFILE.id], "schema": "workbench.profile/2"}),
        "{}",
        "[",
        json.dumps({"schema": PROFILE.id}),
    ):
        file.write_text(text)
        with pytest.raises(ProfileError):
            read_profile(file)
