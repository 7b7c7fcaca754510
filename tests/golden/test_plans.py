"""The plans of the sample models and the onnx package's light models are those of the golden files, layer by layer.

`python -m tests.golden.plans check --all` checks the large samples and the architectures too.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.golden import plans
from tests.golden.plans import ASPECTS, Case
from tests.support import needs_rtx


@pytest.fixture(scope="module")
def golden_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One session for all cases: a model that two cases share is read once."""
    with plans.session_in(tmp_path_factory.mktemp("golden")) as session:
        yield session


@functools.cache
def golden(group: str) -> dict[str, Any]:
    return plans.golden(group)


@needs_rtx
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=() if case.group == "samples" else pytest.mark.slow)
        for case in plans.cases(everything=False)
    ],
)
def test_a_plan_is_its_golden_one(golden_session: Any, case: Case) -> None:
    made, here = golden(case.group)["versions"], plans.versions()
    if made["tensorrt_rtx"] != here["tensorrt_rtx"]:
        pytest.skip(f"golden files are of TensorRT for RTX {made['tensorrt_rtx']}, here is {here['tensorrt_rtx']}")
    found = plans.differences(golden(case.group)["plans"][case.name], plans.plan_of(golden_session, case))
    assert not found, f"if this is intended: python -m tests.golden.plans make --only '{case.name}'"


def test_every_case_has_a_golden_plan() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    everything = plans.cases(everything=True)
    assert len({(case.group, case.name) for case in everything}) == len(everything)
    for group in {case.group for case in everything}:
        assert set(golden(group)["plans"]) == {case.name for case in everything if case.group == group}


def plan() -> dict[str, Any]:
    """A plan of two layers, as `plans.canonical` gives it."""
    layers = [
        {field: f"{field} {i}" for fields in ASPECTS.values() for field in fields} | {"id": f"layer_{i}"}
        for i in range(2)
    ]
    return {
        "model": {"sha256": "0" * 64}, "layers": layers, "unclaimed": [["a", "view"], ["b", "constant"]], "io": [],
        "totals": {"flops": 2}, "texts": {"unclaimed": ["a view", "a constant"]},
    }  # fmt: skip


@pytest.mark.tiny
@pytest.mark.parametrize("aspect", ASPECTS)
def test_a_changed_field_is_found_in_its_aspect_alone(aspect: str) -> None:
    for field in ASPECTS[aspect]:
        now = plan()
        now["layers"][1][field] = "other"
        found = plans.differences(plans.short(plan()), now, plan())
        assert list(found) == [aspect]
        assert len(found[aspect]) == 1
        assert field in found[aspect][0]


@pytest.mark.tiny
def test_what_is_no_layers_is_compared() -> None:
    was = plans.short(plan())
    assert plans.differences(was, plan()) == {}
    for aspect, value in (
        ("unclaimed", [["a", "constant"], ["b", "constant"]]), ("totals", {"flops": 3}), ("io", [{"name": "x"}]),
        ("texts", {"unclaimed": ["another word", "a constant"]}),
    ):  # fmt: skip
        assert list(plans.differences(was, {**plan(), aspect: value})) == [aspect]
    assert plans.differences(was, {"refused": "build"}) == {"refused": ["a plan -> build"]}
    assert plans.differences({"refused": "build"}, {"refused": "build"}) == {}


@pytest.mark.tiny
def test_a_layer_that_came_is_named_and_the_others_are_paired() -> None:
    now = plan()
    now["layers"].insert(1, copy.deepcopy(now["layers"][0]) | {"id": "new", "name": "new"})
    now["layers"][2]["title"] = "another"
    found = plans.differences(plans.short(plan()), now)
    assert found["compiler"] == ["layer 1 is new: new"]
    assert len(found["title"]) == 1
    assert "layer_1" in found["title"][0]


def test_a_store_is_copied_without_its_plans(tmp_path: Path) -> None:
    build = tmp_path / "store" / "builds" / "key"
    build.mkdir(parents=True)
    for name in ("plan.json", "record.json", "engine"):
        (build / name).write_text(name)
    with plans.copied(tmp_path / "store") as home:
        assert sorted(p.name for p in (home / "builds" / "key").iterdir()) == ["engine", "record.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]
