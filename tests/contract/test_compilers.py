"""The sample models through every compiler that can build here; `test_contract` runs the public suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import SAMPLES
from workbench import Plan, Session, compilers
from workbench.compilers.testing import check_plan
from workbench.core.errors import ConfigError

BUILDERS = [n for n in compilers.compilers() if n != "tensorrt" and compilers.info_of(n).available]
SMALL = sorted(p.stem for p in SAMPLES.glob("*.onnx") if p.stem != "unsupported")


def check(plan: Plan, folder: Path, validate) -> None:
    """What holds for every plan of every compiler."""
    check_plan(plan, json.loads((folder / "record.json").read_text()))
    validate(plan.to_dict())


def flops_claimed(model, plan: Plan) -> int:
    from workbench.compilers.config import BuildConfig
    from workbench.model.cost import node_cost

    graph = model.graph.at(BuildConfig.from_dict(plan.config).opt_shapes)
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


def test_an_unknown_compiler_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="tensorflow") as info:
        compilers.get("tensorflow")
    assert "tensorrt_rtx" in str(info.value.hint)
