"""What a record may say of its layers beyond names and tensors: kind, title, branch, repetition, folded nodes."""

from __future__ import annotations

import pytest

from tests.support.small_models import model, node, value, weights
from workbench.model.graph import Graph
from workbench.plan import assemble

pytestmark = pytest.mark.tiny


def layer(name: str, nodes: list[str], **more: object) -> dict[str, object]:
    tensor = {"name": "t", "shape": [4, 8], "strides": None, "dtype": "float32", "format": ""}
    return {"name": name, "type": "SomeType", "nodes": nodes, "inputs": [tensor], "outputs": [tensor], **more}


def plan(graph: Graph, layers: list[dict[str, object]], renamed: dict[str, str] | None = None, **more: object):
    record = {
        "compiler": {"name": "other", "version": "1", "target": "cpu"}, "seconds": {"total": 1.0},
        "layers": layers, "io": [], **more,
    }  # fmt: skip
    return assemble(graph, record, model=("m", "0" * 64), config={}, evidence="tensor-region", renamed=renamed)


def small() -> Graph:
    nodes = [
        node("Neg", ["w"], ["n"], "neg"), node("Relu", ["x"], ["r"], "relu"), node("Add", ["r", "n"], ["y"], "add"),
        node("Exp", ["x"], ["z"], "exp"),
    ]  # fmt: skip
    return Graph(model(nodes, [value("x", [4, 8])], [value("y", [4, 8]), value("z", [4, 8])], [weights("w", 4, 8)]))


def test_the_compilers_own_kind_and_title_are_used() -> None:
    found = plan(small(), [layer("a", ["relu", "add"], kind="norm", title="My title"), layer("b", ["exp"])])
    assert [(la.kind, la.title) for la in found.layers] == [("norm", "My title"), ("pointwise", "Exp")]


def test_folded_nodes_are_constants() -> None:
    graph = small()
    found = plan(graph, [layer("a", ["add", "exp"])], folded=["relu"])
    assert {u.node: u.reason for u in found.unclaimed} == {"neg": "constant", "relu": "constant"}


def test_branches_and_repetition_are_taken_from_the_record() -> None:
    found = plan(small(), [layer("a", ["relu"], branch=[["relu", 1]]), layer("b", ["add"], repeated=True)])
    assert [la.branch for la in found.layers] == [("relu: else",), ()]
    assert [la.repeated for la in found.layers] == [False, True]


def test_folded_and_removed_nodes_go_by_the_names_that_the_compiler_got() -> None:
    found = plan(small(), [layer("a", ["add"])], {"Relu_1": "relu"}, folded=["Relu_1"], removed=["exp"])
    assert {u.node: u.reason for u in found.unclaimed} == {"neg": "constant", "relu": "constant", "exp": "dead"}
