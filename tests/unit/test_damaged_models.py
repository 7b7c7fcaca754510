"""Models damaged at random: each is read, or refused with one of the workbench's own errors."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.damaged_models import damaged, rewired, seeds
from workbench.analysis.checks.run import of_model
from workbench.core.errors import WorkbenchError
from workbench.model.model import Model
from workbench.present import wire
from workbench.present.lens import Lens

SEEDS = seeds()
NAMES = list(SEEDS)
COUNT = 2000
FOUND = [50, 95, 568, 587, 699, 846, 1836, 20129, 21348, 20703, 20976, 21078, 21112]
"""Seeds that once ended in a raw exception: data types that no onnx knows, names that are not UTF-8, a giant opset."""


def read(path: Path) -> None:
    """What the workbench does with a model before anything is built."""
    model = Model("m", path)
    graph = model.graph
    _ = graph.constants, graph.live, graph.problems, graph.needs_renaming(), model.companions, model.operators()
    at = graph.at({})
    shapes = {n: tuple(d if isinstance(d, int) and d > 0 else 2 for d in s) for n, s in graph.dynamic_inputs.items()}
    for node in (graph.at(shapes) if shapes else at).nodes:
        _ = node.metadata, [node.attribute(a.name) for a in node.proto.attribute]


def look(path: Path) -> None:
    """What views and checks make of it."""
    model = Model("m", path)
    lens = Lens.of_model(model)
    assert lens.graph is not None
    wire.graph_data(lens)
    wire.node_table(lens)
    for node in lens.graph.nodes:
        wire.details(lens, "node", node.id)
    of_model(model)


def bytes_of(seed: int) -> bytes:
    dice = random.Random(seed)
    name = dice.choice(NAMES)
    return damaged(SEEDS[name].SerializeToString(), dice) if dice.random() < 0.4 else rewired(SEEDS[name], dice)


def test_the_models_themselves_are_good(tmp_path: Path) -> None:
    for name, proto in SEEDS.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(proto.SerializeToString())
        read(path)
        look(path)
        assert Model(name, path).graph.problems == (), name


@pytest.mark.parametrize("part", range(5))
def test_a_damaged_model_is_read_or_refused_in_words(tmp_path: Path, part: int) -> None:
    path = tmp_path / "m.onnx"
    answers = 0
    for seed in [*FOUND, *range(part, COUNT, 5)]:
        path.write_bytes(bytes_of(seed))
        try:
            read(path)
            if seed % 4 == 0 or seed in FOUND:
                look(path)
        except WorkbenchError as error:
            if error.code == "error":  # a worker's answer to what it did not expect
                raise AssertionError(f"seed {seed}: {error}") from error
            answers += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert COUNT // 20 < answers < COUNT // 5 - COUNT // 20  # some are read, some are refused
