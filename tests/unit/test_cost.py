"""FLOPs and bytes against numbers worked out on paper."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from tests.models_small import constant, model, node, value, weights
from workbench.model.cost import node_cost
from workbench.model.graph import Graph

pytestmark = pytest.mark.tiny
X = value("x", [2, 6, 10, 10])


def cost(made: onnx.ModelProto, name: str = "n"):
    graph = Graph(made)
    return node_cost(graph, graph.by_id[name])


def one(op: str, inputs, initializers=(), more_inputs=(), output=None, opset=20, **attributes):
    """The cost of a single node reading x [2, 6, 10, 10]."""
    return cost(
        model(
            [node(op, inputs, ["y"], "n", **attributes)],
            [X, *more_inputs],
            [value("y", output)],
            initializers,
            opset=opset,
        )
    )


# Conv: outputs * 2 * (C_in / groups) * kernel. Here 2 x 12 x 8 x 8 = 1536 outputs.
@pytest.mark.parametrize(("groups", "inner"), [(1, 6), (2, 3), (6, 1)])
def test_convolution(groups: int, inner: int) -> None:
    w, b = weights("w", 12, inner, 3, 3), weights("b", 12)
    assert one("Conv", ["x", "w"], [w], group=groups).flops == 2 * 1536 * inner * 9
    with_bias = one("Conv", ["x", "w", "b"], [w, b], group=groups)
    assert with_bias.flops == 2 * 1536 * inner * 9 + 1536
    assert with_bias.bytes_read == 4 * (1200 + 12 * inner * 9 + 12)
    assert with_bias.bytes_written == 4 * 1536
    assert with_bias.launches


# ConvTranspose: each of the 1200 inputs is multiplied by 5 x 3 x 3 weights. Out: 2 x 5 x 12 x 12 = 1440.
def test_transposed_convolution() -> None:
    w, b = weights("w", 6, 5, 3, 3), weights("b", 5)
    assert one("ConvTranspose", ["x", "w"], [w]).flops == 2 * 1200 * 45
    assert one("ConvTranspose", ["x", "w", "b"], [w, b]).flops == 2 * 1200 * 45 + 1440


# MatMul of [2, 6, 10, 10] by [10, 7]: outputs 2*6*10*7 = 840, inner 10.
def test_matrix_product() -> None:
    assert one("MatMul", ["x", "w"], [weights("w", 10, 7)]).flops == 2 * 840 * 10
    assert one("MatMul", ["x", "w"], [weights("w", 2, 6, 10, 7)]).flops == 2 * 840 * 10
    assert one("MatMul", ["x", "w"], [weights("w", 10)]).flops == 2 * 120 * 10


@pytest.mark.parametrize(("trans_a", "shape"), [(0, (3, 5)), (1, (5, 3))])
def test_gemm(trans_a: int, shape: tuple) -> None:
    a = value("a", shape)

    def made(inputs, i):
        return cost(model([node("Gemm", inputs, ["y"], "n", transA=trans_a)], [a], [value("y", [3, 4])], i))

    assert made(["a", "b"], [weights("b", 5, 4)]).flops == 2 * 12 * 5
    assert made(["a", "b", "c"], [weights("b", 5, 4), weights("c", 4)]).flops == 2 * 12 * 5 + 12


# Attention: 2 batches, 4 heads, 6 queries of 8, 10 keys: QK^T 2*2*4*6*10*8 and the same again for V.
def test_attention() -> None:
    q, kv = value("q", [2, 4, 6, 8]), [value(n, [2, 4, 10, 8]) for n in "kv"]
    made = model([node("Attention", ["q", "k", "v"], ["y"], "n")], [q, *kv], [value("y", [2, 4, 6, 8])], opset=23)
    assert cost(made).flops == 2 * (2 * 2 * 4 * 6 * 10 * 8)
    flat = [value("q", [2, 6, 32]), *(value(n, [2, 10, 32]) for n in "kv")]
    made = model(
        [node("Attention", ["q", "k", "v"], ["y"], "n", q_num_heads=4, kv_num_heads=4)],
        flat,
        [value("y", [2, 6, 32])],
        opset=23,
    )
    assert cost(made).flops == 2 * (2 * 2 * 4 * 6 * 10 * 8)


def test_pooling_counts_one_for_each_element_of_each_window() -> None:
    assert one("MaxPool", ["x"], kernel_shape=[3, 3]).flops == 2 * 6 * 8 * 8 * 9
    assert one("AveragePool", ["x"], kernel_shape=[2, 5], strides=[2, 5]).flops == 2 * 6 * 5 * 2 * 10
    assert one("GlobalAveragePool", ["x"]).flops == 1200


@pytest.mark.parametrize(("op", "each"), [("Relu", 1), ("Exp", 1), ("Softmax", 5), ("HardSwish", 3), ("Gelu", 5)])
def test_pointwise(op: str, each: int) -> None:
    found = one(op, ["x"])
    assert (found.flops, found.bytes_read, found.bytes_written) == (1200 * each, 4800, 4800)


def test_broadcasting_reads_the_small_operand_once() -> None:
    found = one("Add", ["x", "b"], [weights("b", 6, 1, 1)])
    assert (found.flops, found.bytes_read) == (1200, 4800 + 24)
    assert one("Mul", ["x", "x"]).bytes_read == 4800


def test_reduction_and_normalization() -> None:
    axes = constant("axes", [1], "int64")
    assert one("ReduceMean", ["x", "axes"], [axes]).flops == 1200
    assert one("LayerNormalization", ["x", "s"], [weights("s", 10)]).flops == 8 * 1200


# 5 rows of 64 floats out of a table of a thousand.
def test_gather_reads_the_rows_that_it_takes() -> None:
    made = model(
        [node("Gather", ["table", "ids"], ["y"], "n")], [value("ids", [5], TensorProto.INT64)], [value("y", [5, 64])],
        [weights("table", 1000, 64)],
    )  # fmt: skip
    found = cost(made)
    assert (found.flops, found.bytes_read, found.bytes_written) == (0, 5 * 64 * 4 + 5 * 8, 5 * 64 * 4)


def test_slice_reads_what_it_keeps() -> None:
    parts = [constant(n, [v], "int64") for n, v in (("s", 0), ("e", 1), ("a", 1))]
    assert one("Slice", ["x", "s", "e", "a"], parts).bytes_read == 2 * 1 * 100 * 4 + 3 * 8


@pytest.mark.parametrize("op", ["Flatten", "Identity"])
def test_views_cost_nothing(op: str) -> None:
    found = one(op, ["x"])
    assert (found.flops, found.bytes_read, found.bytes_written, found.launches) == (0, 0, 0, False)


def test_what_depends_on_weights_alone_costs_nothing() -> None:
    made = model(
        [node("Transpose", ["w"], ["wt"], "n", perm=[1, 0]), node("MatMul", ["x", "wt"], ["y"])],
        [X], [value("y", [2, 6, 10, 7])], [weights("w", 7, 10)],
    )  # fmt: skip
    assert not cost(made).launches


def test_einsum_and_recurrence() -> None:
    made = model([node("Einsum", ["a", "b"], ["y"], "n", equation="bij,bjk->bik")],
                 [value("a", [2, 3, 4]), value("b", [2, 4, 5])], [value("y", [2, 3, 5])])  # fmt: skip
    assert cost(made).flops == 2 * 2 * 3 * 4 * 5
    made = model([node("LSTM", ["a", "w", "r"], ["y"], "n", hidden_size=8)], [value("a", [7, 2, 5])],
                 [value("y", [7, 1, 2, 8])], [weights("w", 1, 32, 5), weights("r", 1, 32, 8)])  # fmt: skip
    assert cost(made).flops == 2 * 7 * 2 * (32 * 5 + 32 * 8)


def test_an_unknown_shape_gives_none_and_not_a_guess() -> None:
    made = model(
        [node("Conv", ["x", "w"], ["y"], "n")],
        [value("x", ["n", 6, 10, 10])],
        [value("y", None)],
        [weights("w", 12, 6, 3, 3)],
    )
    found = cost(made)
    assert (found.flops, found.bytes_read, found.bytes_written, found.launches) == (None, None, None, True)


def test_nodes_in_a_body_are_counted_and_the_container_is_not() -> None:
    inner = helper.make_graph([node("Relu", ["x"], ["a"], "in")], "t", [], [value("a", [2, 6, 10, 10])])
    other = helper.make_graph([node("Exp", ["x"], ["b"], "in2")], "t", [], [value("b", [2, 6, 10, 10])])
    made = model([node("If", ["c"], ["y"], "n", then_branch=inner, else_branch=other)],
                 [X, value("c", [], TensorProto.BOOL)], [value("y", None)])  # fmt: skip
    assert not cost(made).launches
    assert cost(made, "in").flops == 1200
