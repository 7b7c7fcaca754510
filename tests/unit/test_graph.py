"""Node ids, names for the compiler, constants and liveness."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.support.small_models import chain, constant, mlp, model, node, value, weights
from workbench.core.errors import ConfigError, LimitError, ModelError
from workbench.model.graph import Graph
from workbench.model.node import nbytes
from workbench.plan.reasons import _value_numbers

pytestmark = pytest.mark.tiny


def test_a_node_without_a_name_of_its_own_is_known_by_its_first_output() -> None:
    graph = Graph(chain(["", "twice", "twice", "own"]))
    assert [n.id for n in graph.nodes] == ["mm", "t1", "t2", "t3", "own"]
    assert set(graph.needs_renaming().values()) == {"t1", "t2", "t3"}


def test_an_output_name_that_is_another_nodes_name_gets_a_number() -> None:
    graph = Graph(chain(["", "t1"]))
    assert [n.id for n in graph.nodes] == ["mm", "t1#2", "t1"]


NAMES = ["a, b", "x[0]", "sprød/ü", "tab\there", "new\nline", " lead", "a]b", "\x1e", "with space", "^caret", "100%"]


def test_names_that_a_log_could_not_carry_are_replaced() -> None:
    graph = Graph(chain(NAMES))
    renamed = graph.needs_renaming()
    assert set(renamed.values()) == set(NAMES) - {"with space", "mm"}
    assert len(set(renamed) | set(graph.by_id)) == len(renamed) + len(graph.by_id)


@settings(max_examples=200, deadline=None)
@given(
    names=st.lists(
        st.one_of(st.sampled_from(["", "a", "b", "t1", "t2", "t1#2", "Relu_1", "Tanh_3"]), st.text(max_size=6)),
        max_size=12,
    )
)
def test_ids_are_unique_and_so_are_the_compilers_names(names: list[str]) -> None:
    names = [n.encode("utf-8", "ignore").decode() for n in names]
    graph = Graph(chain(names))
    ids = [n.id for n in graph.nodes]
    assert len(set(ids)) == len(ids)
    renamed = graph.needs_renaming()
    given_names = [{v: k for k, v in renamed.items()}.get(i, i) for i in ids]
    assert len(set(given_names)) == len(ids)
    for name, own in zip(names, ids[1:], strict=True):
        if name and names.count(name) == 1 and name != "mm":
            assert own == name


def test_bodies_belong_to_their_node() -> None:
    inner = helper.make_graph([node("Relu", ["x"], ["a"], "in")], "t", [], [value("a", [4])])
    graph = Graph(model(
        [node("If", ["c"], ["y"], "if", then_branch=inner, else_branch=inner)],
        [value("c", [], TensorProto.BOOL), value("x", [4])], [value("y", [4])],
    ))  # fmt: skip
    assert [(n.id, n.parent) for n in graph.nodes] == [("if", None), ("a", "if"), ("a#2", "if")]
    assert graph.live == {"if", "a", "a#2"}
    assert graph.constants == frozenset()


def test_constants_are_what_follows_from_weights_and_known_shapes() -> None:
    graph = Graph(model(
        [node("Transpose", ["w"], ["wt"], perm=[1, 0]), node("MatMul", ["x", "wt"], ["y"]), node("Shape", ["x"], ["s"]),
         node("Shape", ["d"], ["sd"]), node("Constant", [], ["c"], value=constant("c", 1.0)),
         node("RandomUniform", [], ["r"], shape=[4]), node("Add", ["c", "c"], ["cc"])],
        [value("x", [4, 8]), value("d", ["n"])], [value("y", [4, 6]), value("sd", [1], TensorProto.INT64)],
        [weights("w", 6, 8)],
    ))  # fmt: skip
    assert graph.constants == {"w", "wt", "s", "c", "cc"}
    assert {n.outputs[0] for n in graph.nodes if n.id in graph.live} == {"wt", "y", "sd"}


def test_liveness_goes_through_what_a_body_reads() -> None:
    inner = helper.make_graph([node("Relu", ["h"], ["a"], "in")], "t", [], [value("a", [4])])
    other = helper.make_graph([node("Exp", ["x"], ["b"], "in2")], "e", [], [value("b", [4])])
    graph = Graph(model(
        [node("Neg", ["x"], ["h"], "neg"), node("Abs", ["x"], ["u"], "abs"),
         node("If", ["c"], ["y"], "if", then_branch=inner, else_branch=other)],
        [value("c", [], TensorProto.BOOL), value("x", [4])], [value("y", [4])],
    ))  # fmt: skip
    assert graph.live == {"neg", "if", "in", "in2"}


def test_value_numbers_tell_the_same_computation() -> None:
    graph = Graph(model(
        [node("Relu", ["x"], ["a"]), node("Relu", ["x"], ["b"]), node("Add", ["a", "one"], ["c"]),
         node("Add", ["b", "uno"], ["d"]), node("Add", ["b", "two"], ["e"]), node("LeakyRelu", ["x"], ["f"], alpha=0.1),
         node("LeakyRelu", ["x"], ["g"], alpha=0.2), node("Sum", ["c", "d", "e", "f", "g"], ["y"])],
        [value("x", [4])], [value("y", [4])], [constant("one", [1.0]), constant("uno", [1.0]), constant("two", [2.0])],
    ))  # fmt: skip
    numbers = _value_numbers(graph)
    assert numbers["a"] == numbers["b"]
    assert numbers["c"] == numbers["d"] != numbers["e"]
    assert numbers["f"] != numbers["g"]


def test_the_name_of_a_tensor_within_a_node_is_no_part_of_its_value() -> None:
    def filled(name: str, fill: float):
        return node("ConstantOfShape", ["shape"], [name], value=constant(name, [fill]))

    graph = Graph(model(
        [filled("a", 1.0), filled("b", 1.0), filled("c", 2.0), node("Sum", ["x", "a", "b", "c"], ["y"])],
        [value("x", [4])], [value("y", [4])], [constant("shape", [4], "int64")],
    ))  # fmt: skip
    numbers = _value_numbers(graph)
    assert numbers["a"] == numbers["b"] != numbers["c"]


def test_random_operations_are_never_the_same_computation() -> None:
    graph = Graph(model(
        [node("RandomNormalLike", ["x"], ["a"]), node("RandomNormalLike", ["x"], ["b"]), node("Add", ["a", "b"], ["y"])],
        [value("x", [4])], [value("y", [4])],
    ))  # fmt: skip
    numbers = _value_numbers(graph)
    assert numbers["a"] != numbers["b"]


def test_large_weights_with_other_bytes_are_other_values(tmp_path) -> None:
    from tests.support.small_models import save
    from workbench.model.onnx_file import read_graph

    made = model(
        [node("Add", ["x", "p"], ["a"]), node("Add", ["x", "q"], ["b"]), node("Mul", ["a", "b"], ["y"])],
        [value("x", [40_000])], [value("y", [40_000])], [weights("p", 40_000), weights("q", 40_000, seed=1)],
    )  # fmt: skip
    graph = Graph(read_graph(save(made, tmp_path / "m.onnx")))
    numbers = _value_numbers(graph)
    assert numbers["a"] != numbers["b"]


def test_at_infers_every_shape() -> None:
    graph = Graph(mlp("n"))
    assert graph.dynamic_inputs == {"x": ("n", 8)}
    fixed = graph.at({"x": (5, 8)})
    assert {n: fixed.tensor(n).shape for n in ("x", "h", "r", "y")} == {
        "x": (5, 8),
        "h": (5, 16),
        "r": (5, 16),
        "y": (5, 4),
    }
    assert graph.tensor("h").elements is None  # the original is not changed


@pytest.mark.parametrize(
    ("shapes", "told"),
    [({"z": (1, 8)}, "not an input"), ({"x": (1, 9)}, "does not fit"), ({"x": (1,)}, "does not fit")],
)
def test_at_refuses_shapes_that_do_not_fit(shapes: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Graph(mlp("n")).at(shapes)


def test_an_operator_of_an_unknown_domain_leaves_shapes_unknown() -> None:
    made = model(
        [node("Magic", ["x"], ["h"], domain="nobody.knows"), node("Relu", ["h"], ["y"])],
        [value("x", ["n", 8])], [value("y", None)], infer=False,
    )  # fmt: skip
    fixed = Graph(made).at({"x": (2, 8)})
    assert fixed.tensor("y").elements is None


def test_a_graph_that_contradicts_itself_keeps_its_unknown_shapes() -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 8])],
        [value("y", None)],
        [weights("w", 9, 4)],
        infer=False,
    )
    assert Graph(made).at({"x": (2, 8)}).tensor("y").elements is None


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [((2, 3), "float32", 24), ((3,), "int4", 2), ((), "float64", 8), ((0, 5), "float16", 0), ((2, "n"), "float32", None),
     ((-1,), "float32", None), (None, "float32", None), ((2,), "", None)],
)  # fmt: skip
def test_bytes_of_a_tensor(shape: tuple | None, dtype: str, expected: int | None) -> None:
    assert nbytes(shape, dtype) == expected


def test_a_type_later_than_this_onnx_is_unknown_not_an_error() -> None:
    made = mlp()
    made.graph.input[0].type.tensor_type.elem_type = 999
    assert Graph(made).tensor("x").dtype == ""


def test_metadata_and_attributes() -> None:
    made = mlp()
    made.graph.node[0].metadata_props.add(key="k", value="v")
    graph = Graph(made)
    assert graph.by_id["mm1"].metadata == {"k": "v"}
    assert graph.by_id["mm1"].attribute("absent", 7) == 7
    assert isinstance(graph.proto, onnx.ModelProto)


@pytest.mark.tiny
def test_nodes_out_of_order_are_sorted_and_stay_alive() -> None:
    made = mlp()
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    graph = Graph(made)
    assert [n.id for n in graph.nodes] == [n.name for n in nodes]
    assert graph.live == {n.name for n in nodes}
    assert [p.code for p in graph.problems] == ["nodes-out-of-order"]
    assert graph.rewritten
    assert [n.name for n in made.graph.node] == [n.name for n in reversed(nodes)]  # the model itself is not changed
    assert [p.code for p in graph.at({"x": (2, 8)}).problems] == ["nodes-out-of-order"]


@pytest.mark.tiny
def test_a_body_is_sorted_too_and_its_node_after_what_the_body_reads() -> None:
    body = helper.make_graph(
        [node("Neg", ["a"], ["b"], "late"), node("Relu", ["h"], ["a"], "early")], "g", [], [value("b", None)]
    )
    made = model(
        [node("If", ["c"], ["y"], "if", then_branch=body, else_branch=body), node("Relu", ["x"], ["h"], "outer")],
        [value("x", [4]), value("c", [], onnx.TensorProto.BOOL)], [value("y", [4])], infer=False,
    )  # fmt: skip
    graph = Graph(made)
    assert [n.op for n in graph.nodes] == ["Relu", "If", "Relu", "Neg", "Relu", "Neg"]
    assert graph.live == {n.id for n in graph.nodes}


@pytest.mark.tiny
def test_nodes_in_a_circle_are_named() -> None:
    made = model(
        [node("Add", ["x", "b"], ["a"], "one"), node("Neg", ["a"], ["b"], "two")],
        [value("x", [4])],
        [value("b", [4])],
        infer=False,
    )
    with pytest.raises(ModelError) as info:
        Graph(made)
    assert info.value.code == "node-cycle"
    assert set(info.value.details["nodes"]) == {"one", "two"}


BROKEN = {
    "undefined-tensor": [node("Add", ["x", "nowhere"], ["y"], "n")],
    "duplicate-tensor": [node("Relu", ["x"], ["y"], "n"), node("Neg", ["x"], ["y"], "m")],
    "missing-input": [node("MatMul", ["x"], ["y"], "n")],
    "wrong-attribute": [node("Transpose", ["x"], ["y"], "n", perm=1.5)],
}


@pytest.mark.tiny
@pytest.mark.parametrize("code", BROKEN)
def test_what_is_wrong_with_a_model_is_told(code: str) -> None:
    from workbench.analysis.checks.model_checks import broken

    graph = Graph(model(BROKEN[code], [value("x", [2, 4])], [value("y", None)], infer=False))
    (problem,) = graph.problems
    assert (problem.code, problem.nodes[0]) == (code, "n")
    (finding,) = broken(graph)
    assert (finding.kind, finding.severity) == (code, "problem")
    # Whoever reads the first input or an attribute of such a node finds nothing instead of failing.
    assert all(len(n.inputs) >= 1 and n.attribute("perm") is None for n in graph.nodes)


SAME = helper.make_graph([node("Relu", ["x"], ["o"], "r")], "g", [], [value("o", None)])


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("nodes", "codes"),
    [
        ([node("Einsum", ["x", "x"], ["y"], "n", equation="ab,ab-")], ["wrong-attribute"]),
        ([node("Cast", ["x"], ["y"], "n")], ["wrong-attribute"]),
        ([node("Resize", ["x", "", "s"], ["y"], "n")], []),
        ([node("Clip", ["x", "", "s0"], ["y"], "n")], []),
        ([node("Whatever", [], ["y"], "n", domain="own")], []),
        ([node("If", ["b"], ["y"], "n", then_branch=SAME, else_branch=SAME)], []),
    ],
)
def test_only_what_is_wrong_is_told(nodes: list[onnx.NodeProto], codes: list[str]) -> None:
    made = model(
        nodes,
        [value("x", [2, 4])],
        [value("y", None)],
        [constant("s", [1.0, 2.0]), constant("s0", 1.0), constant("b", True, "bool")],
        infer=False,
    )
    assert [p.code for p in Graph(made).problems] == codes


@pytest.mark.tiny
@pytest.mark.parametrize("dim", [-1, 2**62])
def test_impossible_dimensions_are_told(dim: int) -> None:
    made = model([node("Relu", ["x"], ["y"], "n")], [value("x", [dim, 4])], [value("y", None)], infer=False)
    graph = Graph(made)
    assert [p.code for p in graph.problems] == ["bad-dimension"]
    assert graph.at({}).tensor("y").bytes in (None, 2**62 * 16)
    with pytest.raises(LimitError) as info:
        Graph(mlp("n")).at({"x": (2**70, 8)})
    assert info.value.code == "limit-tensor-elements"


@pytest.mark.tiny
def test_long_names_are_replaced_for_a_compiler() -> None:
    graph = Graph(chain(["A" * 4000, "B" * 200]))
    assert list(graph.needs_renaming().values()) == ["A" * 4000]


def test_bytes_that_no_tensor_has_are_unknown() -> None:
    from workbench.model.node import nbytes

    assert nbytes([3, 3], "int4") == 5
    assert nbytes([2**20, 2**20], "float32") == 2**42
    assert nbytes([2**62, 2**62], "float32") is None
    assert nbytes([2**62] * 30, "int4") is None
