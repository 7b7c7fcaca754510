"""Local functions of a model, opened: the same numbers as before, and names that lead back to the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.support.small_models import constant, model, node, value, weights
from workbench.core.errors import LimitError, ModelError
from workbench.model.functions import inlined
from workbench.model.graph import Graph
from workbench.model.provenance import source_of

OPSET = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]


def function(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    nodes: Sequence[onnx.NodeProto],
    domain: str = "mine",
    **more: Any,
) -> onnx.FunctionProto:
    return helper.make_function(domain, name, inputs, outputs, list(nodes), OPSET, **more)


def call(
    name: str, inputs: Sequence[str], outputs: Sequence[str], label: str = "", **attributes: Any
) -> onnx.NodeProto:
    return node(name, inputs, outputs, label, domain="mine", **attributes)


def whole(nodes: Sequence[onnx.NodeProto], functions: Sequence[onnx.FunctionProto], **more: Any) -> onnx.ModelProto:
    return model(
        nodes, [value("x", [2, 4])], more.get("outputs", [value("y", [2, 4])]), [weights("w", 4, 4), constant("cond", True, "bool")],
        functions=functions, domains=["mine"], infer=False,
    )  # fmt: skip


def leaky(**default: float) -> onnx.FunctionProto:
    slope = node("LeakyRelu", ["A"], ["B"], "leaky")
    slope.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    if default:
        made = function("Leaky", ["A"], ["B"], [slope])
        made.attribute_proto.append(helper.make_attribute("slope", default["slope"]))
        return made
    return function("Leaky", ["A"], ["B"], [slope], attributes=["slope"])


LINEAR = function(
    "Linear", ["X", "W"], ["Y"], [node("MatMul", ["X", "W"], ["m"], "mm"), call("Leaky", ["m"], ["Y"], "act")]
)
BRANCH = function(
    "Branch", ["X", "C"], ["Y"],
    [node("If", ["C"], ["Y"], "if",
          then_branch=helper.make_graph([node("Relu", ["X"], ["t"], "r"), call("Leaky", ["t"], ["u"], "l")], "t", [], [value("u", None)]),
          else_branch=helper.make_graph([node("Neg", ["X"], ["e"], "n")], "e", [], [value("e", None)]))],
)  # fmt: skip
MODELS = {
    "called twice": whole([call("Linear", ["x", "w"], ["h"], "one"), call("Linear", ["h", "w"], ["y"], "two")], [leaky(slope=0.3), LINEAR]),
    "attributes": whole([call("Leaky", ["x"], ["h"], "one", slope=0.5), call("Leaky", ["h"], ["y"], "two", slope=0.1)], [leaky()]),
    "a default": whole([call("Leaky", ["x"], ["h"], "one"), call("Leaky", ["h"], ["y"], "two", slope=0.1)], [leaky(slope=0.7)]),
    "no names": whole([call("Linear", ["x", "w"], ["h"]), call("Linear", ["h", "w"], ["y"])], [leaky(slope=0.3), LINEAR]),
    "in a branch": whole([call("Branch", ["x", "cond"], ["h"], "one"), call("Branch", ["h", "cond"], ["y"], "two")], [leaky(slope=0.3), BRANCH]),
    "an output that is an input": whole(
        [call("Both", ["x"], ["h", "k"], "one"), node("Add", ["h", "k"], ["y"], "add")],
        [function("Both", ["A"], ["A", "B"], [node("Relu", ["A"], ["B"], "r")])]),
    "an output that nobody wants": whole(
        [call("Two", ["x"], ["", "y"], "one")],
        [function("Two", ["A"], ["B", "C"], [node("Neg", ["A"], ["B"], "n"), node("Relu", ["B"], ["C"], "r")])]),
    "an input left out": whole(
        [call("Clipped", ["x"], ["y"], "one")], [function("Clipped", ["A", "low"], ["B"], [node("Clip", ["A", "low"], ["B"], "c")])]),
    "names that are taken": whole(
        [node("Neg", ["x"], ["one/m"], "one/mm"), call("Linear", ["one/m", "w"], ["y"], "one")], [leaky(slope=0.3), LINEAR]),
    "called in a body": whole(
        [node("If", ["cond"], ["y"], "if",
              then_branch=helper.make_graph([call("Linear", ["x", "w"], ["a"], "one")], "t", [], [value("a", None)]),
              else_branch=helper.make_graph([node("Neg", ["x"], ["b"], "n")], "e", [], [value("b", None)]))], [leaky(slope=0.3), LINEAR]),
}  # fmt: skip


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    return np.asarray(
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
            None, {"x": x}
        )[0]
    )


@pytest.mark.tiny
@pytest.mark.parametrize("name", MODELS)
def test_an_opened_model_computes_the_same(name: str) -> None:
    graph = Graph(MODELS[name])
    onnx.checker.check_model(graph.proto, full_check=True)
    assert not graph.proto.functions
    assert all(n.domain == "" for n in graph.nodes)
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    taken = name != "an output that is an input"  # ONNX Runtime does not take such a function
    expected = run(MODELS[name], x) if taken else x + np.maximum(x, 0)
    np.testing.assert_array_equal(run(graph.proto, x), expected)
    assert graph.rewritten
    assert graph.problems == ()
    assert len({n.id for n in graph.nodes}) == len(graph.nodes)


@pytest.mark.tiny
def test_nodes_are_named_after_their_calls() -> None:
    graph = Graph(MODELS["called twice"])
    assert [n.id for n in graph.nodes] == ["one/mm", "one/act/leaky", "two/mm", "two/act/leaky"]
    assert graph.needs_renaming() == {}
    assert [n.outputs for n in graph.nodes] == [("one/m",), ("h",), ("two/m",), ("y",)]
    assert graph.at({}).tensor("one/m").shape == (2, 4)
    assert [n.id for n in Graph(MODELS["no names"]).nodes][:2] == ["h/mm", "h/act/leaky"]


@pytest.mark.tiny
def test_nodes_come_from_where_they_say_and_else_from_the_call() -> None:
    inner = node("Relu", ["A"], ["b"], "r")
    inner.metadata_props.add(key="pkg.torch.onnx.stack_trace", value='File "inner.py", line 7, in f\n  relu\n')
    made = whole(
        [call("F", ["x"], ["y"], "one")], [function("F", ["A"], ["B"], [inner, node("Neg", ["b"], ["B"], "n")])]
    )
    made.graph.node[0].metadata_props.add(
        key="pkg.torch.onnx.stack_trace", value='File "outer.py", line 3, in g\n  f(x)\n'
    )
    found = [source_of(n) for n in Graph(made).nodes]
    assert [(s.file, s.line) for s in found if s] == [("inner.py", 7), ("outer.py", 3)]


@pytest.mark.tiny
def test_a_function_stands_before_an_operator_of_its_name() -> None:
    made = whole(
        [node("Relu", ["x"], ["y"], "one")],
        [function("Relu", ["A"], ["B"], [node("Neg", ["A"], ["B"], "n")], domain="")],
    )
    assert [n.op for n in Graph(made).nodes] == ["Neg"]
    other = whole(
        [node("Gelu", ["x"], ["y"], "one", domain="mine")],
        [function("Gelu", ["A"], ["B"], [node("Tanh", ["A"], ["B"], "t")])],
    )
    assert [n.op for n in Graph(other).nodes] == ["Tanh"]


@pytest.mark.tiny
def test_a_model_without_calls_is_not_copied() -> None:
    made = whole([node("Relu", ["x"], ["y"], "one")], [leaky(slope=0.3), LINEAR])
    assert inlined(made) == (made, ())
    assert not Graph(made).rewritten


@pytest.mark.tiny
def test_a_function_whose_operators_changed_since_is_left_and_named() -> None:
    old = [helper.make_opsetid("", 12)]
    squeeze = helper.make_function("mine", "Old", ["A"], ["B"], [node("Squeeze", ["A"], ["B"], "s", axes=[0])], old)
    relu = helper.make_function(
        "mine", "Same", ["A"], ["B"], [node("Neg", ["A"], ["B"], "n")], [helper.make_opsetid("", 13)]
    )
    graph = Graph(whole([call("Same", ["x"], ["h"], "one"), call("Old", ["h"], ["y"], "two")], [squeeze, relu]))
    assert [n.op for n in graph.nodes] == ["Neg", "Old"]
    (problem,) = graph.problems
    assert problem.code == "function-kept"
    assert "Squeeze changed" in problem.text
    assert len(graph.proto.functions) == 1


@pytest.mark.tiny
@pytest.mark.parametrize("circle", [["A"], ["A", "B"], ["A", "B", "C"]])
def test_functions_that_call_each_other_in_a_circle_are_refused(circle: list[str]) -> None:
    functions = [
        function(name, ["a"], ["b"], [call(circle[(i + 1) % len(circle)], ["a"], ["b"], "c")])
        for i, name in enumerate(circle)
    ]
    with pytest.raises(ModelError) as info:
        Graph(whole([call("A", ["x"], ["y"])], functions))
    assert info.value.code == "function-cycle"


@pytest.mark.tiny
def test_functions_that_grow_without_bounds_are_refused() -> None:
    chain = [
        function(f"F{i}", ["a"], ["c"], [call(f"F{i + 1}", ["a"], ["b"]), call(f"F{i + 1}", ["b"], ["c"])])
        for i in range(40)
    ]
    with pytest.raises(LimitError) as info:
        Graph(whole([call("F0", ["x"], ["y"])], [*chain, function("F40", ["a"], ["c"], [node("Relu", ["a"], ["c"])])]))
    assert info.value.code == "limit-graph-nodes"
    deep = [function(f"F{i}", ["a"], ["c"], [call(f"F{i + 1}", ["a"], ["c"])]) for i in range(500)]
    with pytest.raises(LimitError) as info:
        Graph(whole([call("F0", ["x"], ["y"])], [*deep, function("F500", ["a"], ["c"], [node("Relu", ["a"], ["c"])])]))
    assert info.value.code == "limit-nesting"


@pytest.mark.tiny
def test_a_call_with_too_many_inputs_is_refused() -> None:
    with pytest.raises(ModelError) as info:
        Graph(whole([call("Leaky", ["x", "x"], ["y"], "one")], [leaky(slope=0.1)]))
    assert info.value.code == "function-arity"
