"""A plan as JSON from someone else: it fits the schema, or it is refused in one kind of error."""

from __future__ import annotations

import copy
import io
import json
import os
import random
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, profiles
from workbench import Session
from workbench.analysis.times import device_of, doubts, explain, measured_ceilings
from workbench.charts import svg
from workbench.cli.options import Format
from workbench.cli.plan_table import print_layers, write_plan
from workbench.compilers.tensorrt import trtexec
from workbench.core.errors import StoreError, WorkbenchError
from workbench.plan import Plan
from workbench.present.facts import plan_facts
from workbench.present.lens import Lens
from workbench.report import report

MUTATIONS = int(os.environ.get("WORKBENCH_MUTATIONS", "600"))
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, float("nan"), float("inf"), 10**400, "", "x", "\ud800", [], {}, [None], {"a": None}, [[1]],
    ["x"], {"name": 3},
]  # fmt: skip


@pytest.fixture
def documents(session: Session) -> list[dict[str, Any]]:
    """Plans of several makers: a build, a build with its profile, and an engine inspector's."""
    engine = session.build("residual_block", compiler="fake")
    profiles.measure(engine)
    inspected = trtexec.inspect(ROOT / "tests" / "data" / "inspector" / "trt10.json")
    plans = [engine.plan, session.engines.find(engine.key).measured, inspected]
    return [json.loads(plan.to_json()) for plan in plans]


def sites(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inner for place in (path + (key,), *sites(each, path + (key,)))]  # noqa: RUF005


def use(plan: Plan, folder: Path, *, page: bool) -> None:
    """What people do with a plan."""
    repr(plan)
    plan.to_frame()
    lens = Lens.of_plan(plan, None)
    plan_facts(plan)
    svg.charts(plan)
    doubts(plan), measured_ceilings(plan), device_of(plan), explain(plan)
    with redirect_stdout(io.StringIO()):
        write_plan(plan, Format.CSV, None)
        print_layers(plan, full=True)
    if page:
        report(lens, folder / "report.html")


def test_a_mutated_plan_is_refused_or_can_be_used(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    rng = random.Random(11)
    places = [sites(document) for document in documents]
    accepted, codes = 0, set()
    for number in range(MUTATIONS):
        which = rng.randrange(len(documents))
        document = copy.deepcopy(documents[which])
        *before, last = rng.choice(places[which])
        target: Any = document
        for key in before:
            target = target[key]
        if rng.random() < 0.15:
            del target[last]
        else:
            target[last] = rng.choice(VALUES)
        try:
            plan = Plan.from_dict(document)
        except StoreError as error:
            codes.add(error.code)
            continue
        accepted += 1
        try:
            use(plan, tmp_path, page=number % 10 == 0)
        except WorkbenchError:
            pass
        except Exception as error:
            raise AssertionError((number, which, before, last, target)) from error
    assert codes <= {"damaged-plan", "not-a-plan"}
    assert 0 < accepted < MUTATIONS


@pytest.mark.parametrize("value", [*VALUES, {"schema": None}, {"schema": ["workbench.plan/1"]}])
def test_what_is_no_plan(value: Any) -> None:
    with pytest.raises(StoreError) as told:
        Plan.from_dict(value)
    assert told.value.code == "not-a-plan"


def test_a_plan_is_read_and_written_without_loss(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        assert Plan.from_dict(document).to_dict() == document
