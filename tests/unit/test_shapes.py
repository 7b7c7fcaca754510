"""Shapes that follow from values known before anything runs, against what ONNX Runtime makes of the same inputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.support.small_models import constant, model, node, value, weights
from workbench.core.errors import LimitError, WorkbenchError, WorkerCrashedError
from workbench.model import shapes
from workbench.model.graph import Graph
from workbench.model.shapes import infer_shapes

BATCH = [
    node("Shape", ["x"], ["shape"]),
    node("Gather", ["shape", "zero"], ["batch"]),
    node("Unsqueeze", ["batch", "axis"], ["batch1"]),
]
CONSTANTS = [
    constant("zero", 0, "int64"), constant("one", 1, "int64"), constant("axis", [0], "int64"), constant("ones", [1, 1], "int64"),
    constant("eight", [8], "int64"), constant("minus", [-1], "int64"),
]  # fmt: skip
GRAPHS = {
    "positions": [*BATCH, node("Range", ["zero", "batch", "one"], ["r"]), node("Cast", ["r"], ["f"], to=1),
                  node("Unsqueeze", ["f", "one1"], ["u"]), node("Add", ["x", "u"], ["y"])],
    "repeats": [*BATCH, node("Concat", ["batch1", "axis1"], ["times"], axis=0), node("Tile", ["w", "times"], ["t"]), node("Add", ["x", "t"], ["y"])],
    "a mask": [*BATCH, node("Range", ["zero", "batch", "one"], ["r"]), node("Unsqueeze", ["r", "one1"], ["u"]),
               node("Concat", ["batch1", "eight"], ["full"], axis=0), node("Expand", ["u", "full"], ["e"]), node("Less", ["e", "one"], ["m"]),
               node("Where", ["m", "x", "w"], ["y"])],
    "twice": [*BATCH, node("Range", ["zero", "batch", "one"], ["r"]), node("Concat", ["r", "r"], ["rr"], axis=0), node("Shape", ["rr"], ["n"]),
              node("Gather", ["n", "zero"], ["n0"]), node("Range", ["zero", "n0", "one"], ["q"]), node("Cast", ["q"], ["y"], to=1)],
    "a split": [*BATCH, node("Add", ["batch1", "batch1"], ["two"]), node("Concat", ["batch1", "two"], ["both"], axis=0),
                node("Split", ["both"], ["first", "rest"], axis=0, num_outputs=2), node("ConstantOfShape", ["first"], ["c"]),
                node("Concat", ["c", "c"], ["y"], axis=0)],
}  # fmt: skip


def made(nodes: list[onnx.NodeProto], output: int = 1) -> onnx.ModelProto:
    return model(
        nodes, [value("x", ["n", 8])], [value("y", None, output)],
        [*CONSTANTS, constant("one1", [1], "int64"), constant("axis1", [1], "int64"), weights("w", 1, 8)],
    )  # fmt: skip


@pytest.mark.parametrize("kind", GRAPHS)
def test_every_shape_is_that_of_a_run(kind: str) -> None:
    import onnxruntime as ort

    proto = made(GRAPHS[kind])
    graph = Graph(proto).at({"x": (4, 8)})
    names = [o for n in proto.graph.node for o in n.output if o]
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    kinds = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(n, kinds[n], None) for n in names if n != "y")
    run = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = [o.name for o in run.get_outputs()]
    truth = dict(zip(outputs, run.run(outputs, {"x": np.zeros((4, 8), np.float32)}), strict=True))
    assert {name: graph.tensor(name).shape for name in names} == {name: truth[name].shape for name in names}
    assert [n.op for n in graph.nodes] == [n.op_type for n in proto.graph.node]  # none is folded away


def test_values_that_can_not_be_told_stay_unknown() -> None:
    # Their size depends on the data.
    graph = Graph(made([node("NonZero", ["x"], ["i"]), node("Cast", ["i"], ["y"], to=1)])).at({"x": (4, 8)})
    assert graph.tensor("i").elements is None
    # Divided by zero, with no axis such as this: no error, and nothing claimed.
    for bad in ([node("Div", ["batch", "zero"], ["d"])], [node("Squeeze", ["shape", "one1"], ["d"])]):
        proto = made([*BATCH, *bad, node("Range", ["zero", "d", "one"], ["r"]), node("Cast", ["r"], ["y"], to=1)])
        assert Graph(infer_shapes(proto)).tensor("y").elements is None


@pytest.mark.parametrize(
    ("op", "inputs"),
    [("Range", [0, 10**9, 1]), ("Range", [0, 4, 0]), ("Tile", [[0], [10**9]]), ("Expand", [[0], [10**9]]), ("ConstantOfShape", [[10**9]]),
     ("Concat", [[0] * 10_000, [0] * 10_000])],
)  # fmt: skip
def test_what_would_fill_the_memory_is_not_computed(op: str, inputs: list) -> None:
    names = [f"i{k}" for k in range(len(inputs))]
    made = node(op, names, ["v"], **({"axis": 0} if op == "Concat" else {}))
    values = {name: np.asarray(i) for name, i in zip(names, inputs, strict=True)}
    assert shapes.computed(made, values, {}, {"": 20}) == []


def test_a_graph_that_is_known_costs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(shapes, "computed", lambda *args: seen.append(args) or [])
    graph = Graph(made([node("Relu", ["x"], ["y"])])).at({"x": (4, 8)})
    assert graph.tensor("y").shape == (4, 8)
    assert not seen


LONG = 2**33
BOMBS = {
    "Range": [node("Range", ["zero", "many", "one"], ["r"]), node("Cast", ["r"], ["f"], to=1), node("Relu", ["f"], ["y"])],
    "ConstantOfShape": [node("Unsqueeze", ["many", "axis"], ["s"]), node("ConstantOfShape", ["s"], ["y"])],
    "Expand": [node("Unsqueeze", ["many", "axis"], ["s"]), node("Expand", ["one", "s"], ["e"]), node("Cast", ["e"], ["y"], to=1)],
    "Tile": [node("Unsqueeze", ["many", "axis"], ["s"]), node("Tile", ["axis", "s"], ["t"]), node("Cast", ["t"], ["y"], to=1)],
    "a Range of a dimension": [*BATCH, node("Range", ["zero", "batch", "one"], ["r"]), node("Cast", ["r"], ["y"], to=1)],
    "a flat input": [node("Reshape", ["x", "minus"], ["f"]), node("Mul", ["f", "f"], ["g"]), node("Cast", ["g"], ["h"], to=7),
                     node("Add", ["h", "one"], ["i"]), node("Cast", ["i"], ["y"], to=1)],
    "an outer product": [node("Range", ["zero", "wide", "one"], ["r"]), node("Unsqueeze", ["r", "axis"], ["a"]),
                         node("Unsqueeze", ["r", "one1"], ["b"]), node("Add", ["a", "b"], ["c"]), node("Cast", ["c"], ["y"], to=1)],
    "a gather": [node("Range", ["zero", "wide", "one"], ["r"]), node("Unsqueeze", ["r", "axis"], ["a"]), node("Mul", ["r", "zero"], ["i"]),
                 node("Gather", ["a", "i"], ["c"], axis=0), node("Cast", ["c"], ["y"], to=1)],
}  # fmt: skip
RESULTS = {
    "Range": (LONG,), "ConstantOfShape": (LONG,), "Expand": (LONG,), "Tile": (LONG,), "a Range of a dimension": (LONG,),
    "a flat input": (LONG * 8,), "an outer product": (16_000, 16_000), "a gather": (16_000, 16_000),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_values_that_would_fill_the_memory_are_not_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_LIMIT_SHAPE_BYTES", "1.5e9")  # of address space: the libraries alone take 1 GB
    proto = model(
        BOMBS[name], [value("x", ["n", 8])], [value("y", None)],
        [*CONSTANTS, constant("many", LONG, "int64"), constant("wide", 16_000, "int64"), constant("one1", [1], "int64")], infer=False,
    )  # fmt: skip
    graph = Graph(proto).at({"x": (LONG, 8)})
    assert graph.tensor("y").shape == RESULTS[name]
    assert graph.problems == ()


def test_an_equation_on_which_onnx_never_returns_is_not_given_to_it() -> None:
    for equation in ("ab,ab-", "a.b,ab", "ab,ab-a"):
        proto = model(
            [node("Einsum", ["x", "x"], ["e"], "ein", equation=equation), node("Relu", ["x"], ["y"])],
            [value("x", [2, 4])], [value("y", None), value("e", None)], infer=False,
        )  # fmt: skip
        graph = Graph(proto).at({})
        assert graph.tensor("y").shape == (2, 4)
        assert graph.tensor("e").shape is None
        assert (graph.nodes[0].op, graph.nodes[0].domain, graph.nodes[0].outputs) == ("Einsum", "", ("e",))


def test_what_a_body_would_fill_the_memory_with_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only nodes of the main graph are hidden from ONNX: the limit of time strikes, and shapes are found without values."""
    monkeypatch.setenv("WORKBENCH_LIMIT_SHAPE_SECONDS", "2")
    body = onnx.helper.make_graph(
        [node("Range", ["zero", "many", "one"], ["r"]), node("Cast", ["r"], ["f"], to=1), node("Abs", ["f"], ["b"])],
        "b",
        [],
        [value("b", None)],
    )
    proto = model(
        [node("If", ["c"], ["i"], "if", then_branch=body, else_branch=body), node("Relu", ["x"], ["y"], "r")],
        [value("x", [2, 4]), value("c", [], onnx.TensorProto.BOOL)], [value("y", None), value("i", None)],
        [*CONSTANTS, constant("many", LONG, "int64")], infer=False,
    )  # fmt: skip
    graph = Graph(proto).at({})
    assert graph.tensor("y").shape == (2, 4)
    # How far ONNX comes in that time depends on the machine; what is asked is that the model is there at once.
    assert {p.code for p in graph.problems} <= {"shapes-unknown"}


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (LimitError("slow", code="limit-reader-seconds"), "WORKBENCH_LIMIT_SHAPE_SECONDS"),
        (LimitError("large", code="limit-reader-bytes"), "WORKBENCH_LIMIT_SHAPE_BYTES"),
        (WorkerCrashedError("gone"), "crashed"),
    ],
)
def test_where_inference_fails_the_model_is_kept_and_the_reason_told(
    monkeypatch: pytest.MonkeyPatch, error: WorkbenchError, word: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    proto = model([node("Relu", ["x"], ["y"], "r")], [value("x", [2, 4])], [value("y", None)], infer=False)
    with monkeypatch.context() as patch:
        patch.setattr(shapes, "guarded", fails)
        graph = Graph(proto).at({})
    assert [n.id for n in graph.nodes] == ["r"]
    assert graph.tensor("y").shape is None
    assert {p.code for p in graph.problems} == {"shapes-unknown"}
    assert all(word in p.text for p in graph.problems)
    assert Graph(proto).at({}).tensor("y").shape == (2, 4)


def test_shapes_of_more_dimensions_than_any_compiler_knows_stay_unknown() -> None:
    proto = model(
        [node("Expand", ["x", "many"], ["e"]), node("Relu", ["e"], ["y"])], [value("x", [1])], [value("y", None)],
        [constant("many", [1] * 10_000, "int64")], infer=False,
    )  # fmt: skip
    assert Graph(proto).at({}).tensor("y").shape is None
