"""One suite over every compiler that can build here."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from tests.support import SAMPLES
from workbench import Plan, Session, compilers
from workbench.compilers.base import Ability, Builds, offered
from workbench.core.errors import ConfigError
from workbench.core.worker import Reporter
from workbench.plan.reasons import REASONS

BUILDERS = [n for n in compilers.compilers() if n != "tensorrt" and compilers.info_of(n).available]
SMALL = sorted(p.stem for p in SAMPLES.glob("*.onnx") if p.stem != "unsupported")


def check(plan: Plan, folder: Path, validate) -> None:
    """What holds for every plan of every compiler."""
    record = json.loads((folder / "record.json").read_text())
    assert [layer.name for layer in plan.layers] == [raw["name"] for raw in record["layers"]]
    assert [layer.type for layer in plan.layers] == [raw["type"] for raw in record["layers"]]
    assert len(plan.by_id) == len(plan.layers)
    claimed = {n for layer in plan.layers for n in layer.nodes}
    left = {u.node for u in plan.unclaimed}
    assert not claimed & left
    assert len(claimed) + len(left) == plan.model["nodes"] == plan.summary["nodes"]
    assert all(u.reason in REASONS and u.text for u in plan.unclaimed)
    assert all((layer.evidence == "none") == (not layer.nodes) for layer in plan.layers)
    assert plan.summary["layers"] == len(plan.layers)
    assert plan.summary["launches_after"] + plan.summary["other_branches"] == sum(la.launches for la in plan.layers)
    assert not plan.facts["activation_memory_disagrees"], plan.facts["activation_memory_computed"]
    products = [la for la in plan.layers if la.kind in {"conv", "gemm", "attention"}]
    assert [la.name for la in products if la.flops == 0] == []  # unknown is None
    assert sum(plan.summary["kinds"].values()) == len(plan.layers)
    assert plan.summary["peak_activation_bytes"] >= 0
    validate(plan.to_dict())
    assert Plan.from_dict(json.loads(plan.to_json())).to_json() == plan.to_json()


def flops_claimed(model, plan: Plan) -> int:
    from workbench.build_folder import opt_shapes
    from workbench.compilers.config import BuildConfig
    from workbench.model.cost import node_cost

    graph = model.graph.at(opt_shapes(BuildConfig.from_dict(plan.config)))
    claimed = {n for layer in plan.layers for n in layer.nodes}
    return sum(node_cost(graph, graph.by_id[n]).flops or 0 for n in claimed if n in graph.by_id)


@pytest.mark.parametrize("compiler", BUILDERS)
@pytest.mark.parametrize("name", SMALL)
def test_samples(shared: Session, compiler: str, name: str, validate) -> None:
    engine = shared.build(SAMPLES / f"{name}.onnx", compiler=compiler)
    check(engine.plan, engine.folder, validate)
    assert sum(layer.flops or 0 for layer in engine.plan.layers) == flops_claimed(shared.models[name], engine.plan)
    assert not any(u.reason == "unknown" for u in engine.plan.unclaimed)
    assert engine.path.stat().st_size == engine.bytes > 0
    assert engine.log
    assert shared.build(name, compiler=compiler).cached


@pytest.mark.parametrize("compiler", compilers.compilers())
def test_descriptions_match_the_protocols(compiler: str) -> None:
    made = compilers.get(compiler)
    info = compilers.info_of(compiler)
    assert info.error is None
    assert info.abilities <= offered(made)
    assert set(info.abilities) | set(info.missing) == set(Ability)
    assert not set(info.abilities) & set(info.missing)
    assert all(info.missing.values())
    assert info.version is not None or info.install


@pytest.mark.parametrize("compiler", BUILDERS)
def test_the_task_takes_what_the_build_sends(compiler: str) -> None:
    import importlib

    made = compilers.get(compiler, Builds)
    module, _, function = made.build_task.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    assert next(iter(parameters.values())).annotation in (Reporter, "Reporter")
    assert set(parameters) - {next(iter(parameters))} == {"model", "config", "folder", "cache", *made.arguments()}


@pytest.mark.parametrize("compiler", BUILDERS)
def test_complete_names_the_target_and_is_stable(compiler: str) -> None:
    from workbench import BuildConfig

    made = compilers.get(compiler, Builds)
    first = made.complete(BuildConfig(compiler=compiler))
    assert first.targets
    assert first.compiler == made.name
    assert made.complete(first) == first
    assert made.version() == made.version()


def test_an_unknown_compiler_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="tensorflow") as info:
        compilers.get("tensorflow")
    assert "tensorrt_rtx" in str(info.value.hint)
