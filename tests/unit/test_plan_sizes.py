"""Concrete sizes of what a compiler reports with open dimensions, and the bytes that follow; no compiler needed."""

from __future__ import annotations

import pytest
from onnx import ModelProto

from tests.support.plans import planned, raw
from tests.support.small_models import constant, model, node, value, weights
from workbench.model.graph import Graph
from workbench.plan import Plan, PlanTensor
from workbench.plan.traffic import gathered, read

pytestmark = pytest.mark.tiny
Shape = tuple[int, ...]


def opened(made: ModelProto, shapes: dict[str, tuple[Shape, Shape]], layers: list[dict]) -> Plan:
    """The plan at the first shape of each input, where the profile's largest is the second."""
    graph = Graph(made).at({name: opt for name, (opt, _) in shapes.items()})
    profiles = {n: [{"min": list(opt), "opt": list(opt), "max": list(most)}] for n, (opt, most) in shapes.items()}
    return planned(graph, layers, [*graph.inputs, *graph.outputs], profiles=profiles)


def sizes(plan: Plan) -> dict[str, Shape | None]:
    return {f"{t.name}/{len(t.shape or ())}": t.shape for la in plan.layers for t in (*la.inputs, *la.outputs)}


def tensor(plan: Plan, name: str) -> PlanTensor:
    return next(t for la in plan.layers for t in (*la.outputs, *la.inputs) if t.name == name)


BATCH_AND_LENGTH = {"x": ((2, 6, 8), (4, 10, 8))}


def two_products() -> ModelProto:
    """q and k of the same data, and what is made of each."""
    return model(
        [node("MatMul", ["x", "wq"], ["q"], "q"), node("MatMul", ["x", "wk"], ["k"], "k"),
         node("Relu", ["q"], ["a"], "a"), node("Exp", ["k"], ["b"], "b")],
        [value("x", ["n", "l", 8])], [value("a", None), value("b", None)], [weights("wq", 8, 16), weights("wk", 8, 4)],
    )  # fmt: skip


def test_products_of_the_same_data_lie_beside_each_other_and_are_read_in_parts() -> None:
    plan = opened(two_products(), BATCH_AND_LENGTH, [
        raw("q+k", "gemm", ["q", "k"], [("x", (-1, 8))], [("both", (-1, 20))], [("w", (8, 20))]),
        raw("__myl_Relu_myl0_1", "kgen", ["a"], [("both", (-1, 16))], [("a", (-1, -1, 16))]),
        raw("__myl_Exp_myl0_2", "kgen", ["b"], [("both", (-1, 4))], [("b", (-1, -1, 4))]),
    ])  # fmt: skip
    assert plan.layers[0].inputs[0].shape == (12, 8)
    assert plan.layers[0].outputs[0].shape == (12, 20)
    assert plan.layers[1].inputs[0].shape == (12, 16)  # 20 numbers a row do not divide into rows of 16
    assert plan.layers[2].inputs[0].shape == (12, 4)
    assert plan.layers[1].outputs[0].shape == (2, 6, 16)
    assert plan.summary["bytes_unknown"] == 0


def test_heads_merged_with_the_batch_are_counted_though_their_shape_is_not_told() -> None:
    made = model(
        [node("Reshape", ["x", "s"], ["h"], "split"), node("Transpose", ["h"], ["t"], "turn", perm=[0, 2, 1, 3]), node("Exp", ["t"], ["y"], "exp")],
        [value("x", ["n", "l", 12])], [value("y", None)], [constant("s", [0, 0, 3, 4], "int64")],
    )  # fmt: skip
    plan = opened(made, {"x": ((2, 6, 12), (4, 10, 12))}, [
        raw("__myl_ReshTran_myl0_0", "kgen", ["split", "turn"], [("x", (-1, -1, 12))], [("inner", (-1, -1, 4))]),
        raw("__myl_Exp_myl0_1", "kgen", ["exp"], [("inner", (-1, -1, 4))], [("y", (-1, 3, -1, 4))]),
    ])  # fmt: skip
    inner = tensor(plan, "inner")
    assert (inner.shape, inner.bytes) == (None, 2 * 6 * 12 * 4)  # [6, 6, 4] or [2, 18, 4]: the same bytes
    assert plan.layers[1].outputs[0].shape == (2, 3, 6, 4)


def test_a_slice_keeps_its_batch() -> None:
    # A scan's step reads one row of each state: [2, 512, 1, 16], not the 64 that [2, 512, 32, 16] has elements for.
    made = model(
        [node("Exp", ["x"], ["e"], "exp"), node("Gather", ["e", "i"], ["g"], "take", axis=2), node("Neg", ["g"], ["y"], "neg")],
        [value("x", ["n", 512, 32, 16])], [value("y", None)], [constant("i", 3, "int64")],
    )  # fmt: skip
    plan = opened(made, {"x": ((2, 512, 32, 16), (4, 512, 32, 16))}, [
        raw("__myl_ExpSlic_myl0_0", "kgen", ["exp"], [("x", (-1, 512, 32, 16))], [("row", (-1, 512, 1, 16))]),
        raw("__myl_Neg_myl0_1", "kgen", ["take", "neg"], [("row", (-1, 512, 1, 16))], [("y", (-1, 512, 16))]),
    ])  # fmt: skip
    assert tensor(plan, "row").shape == (2, 512, 1, 16)


def conv_and_pool() -> ModelProto:
    return model(
        [node("Conv", ["x", "w"], ["c"], "conv", pads=[1] * 4), node("GlobalAveragePool", ["c"], ["y"], "gap")],
        [value("x", ["n", 3, "h", "w_"])], [value("y", None)], [weights("w", 16, 3, 3, 3)],
    )  # fmt: skip


IMAGE = {"x": ((2, 3, 16, 24), (4, 3, 32, 32))}


def test_a_layer_without_nodes_makes_nothing_unknown() -> None:
    plan = opened(conv_and_pool(), IMAGE, [
        raw("conv", "correlation", ["conv"], [("x", (-1, 3, -1, -1))], [("c.1_myl0", (-1, 16, -1, -1))], [("w", (16, 3, 3, 3))]),
        raw("__myl_Tran_myl0_1", "kgen", [], [("c.1_myl0", (-1, 16, -1, -1))], [("turned", (-1, -1, -1, 16))]),
        raw("__myl_Mean_myl0_2", "kgen", ["gap"], [("turned", (-1, -1, -1, 16))], [("y", (-1, 16, 1, 1))]),
    ])  # fmt: skip
    assert tensor(plan, "c.1_myl0").shape == (2, 16, 16, 24)
    assert tensor(plan, "turned").bytes == tensor(plan, "c.1_myl0").bytes  # moved, so as many
    assert plan.summary["bytes_unknown"] == 0


def test_channels_of_an_image_are_filled_up() -> None:
    plan = opened(conv_and_pool(), IMAGE, [
        raw("__myl_ReplConc_myl0_0", "kgen", ["conv"], [("x", (-1, 3, -1, -1))], [("wide", (-1, 4, -1, -1))]),
        raw("conv", "correlation", ["conv"], [("wide", (-1, 4, -1, -1))], [("c", (-1, 16, -1, -1))], [("w", (16, 4, 3, 3))]),
    ])  # fmt: skip
    assert tensor(plan, "wide").shape == (2, 4, 16, 24)


def test_a_name_is_a_hint_and_nodes_are_evidence() -> None:
    named = opened(two_products(), BATCH_AND_LENGTH, [
        raw("__myl_Quan_myl0_0", "kgen", [], [("x", (-1, -1, 8))], [("q.1_myl0", (-1, -1, 16))])])  # fmt: skip
    assert tensor(named, "q.1_myl0").shape == (2, 6, 16)
    # A copy called after the convolution that reads it is as large as what its writer made.
    made = model(
        [node("MaxPool", ["x"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]), node("Conv", ["p", "w"], ["c"], "conv")],
        [value("x", ["n", 3, "h", "w_"])], [value("c", None)], [weights("w", 3, 3, 5, 5)],
    )  # fmt: skip
    plan = opened(made, IMAGE, [
        raw("pool", "maxpool", ["pool"], [("x", (-1, 3, -1, -1))], [("c.1_48_myl0", (-1, 3, -1, -1))]),
        raw("conv", "correlation", ["conv"], [("c.1_48_myl0", (-1, 3, -1, -1))], [("c", (-1, 3, -1, -1))], [("w", (3, 3, 5, 5))]),
    ])  # fmt: skip
    assert tensor(plan, "c.1_48_myl0").shape == (2, 3, 8, 12)


def test_an_odd_length_is_filled_up_and_heads_stay_in_the_batch() -> None:
    made = model([node("MatMul", ["q", "k"], ["s"], "mm"), node("Exp", ["s"], ["y"], "exp")],
                 [value("q", ["n", 4, 17, 16]), value("k", ["n", 4, 16, 17])], [value("y", None)])  # fmt: skip
    ends = {"q": ((2, 4, 17, 16), (8, 4, 17, 16)), "k": ((2, 4, 16, 17), (8, 4, 16, 17))}
    plan = opened(made, ends, [
        raw("mm", "gemm", ["mm"], [("q1", (-1, 17, 16)), ("k1", (-1, 16, 18))], [("s1", (-1, 17, 18))]),
        raw("__myl_Exp_myl0_1", "kgen", ["exp"], [("s1", (-1, 17, 18))], [("y", (-1, 4, 17, 17))]),
    ])  # fmt: skip
    assert [tensor(plan, n).shape for n in ("q1", "k1", "s1")] == [(8, 17, 16), (8, 16, 18), (8, 17, 18)]


def test_the_operands_of_a_product_are_told_apart_by_their_places() -> None:
    made = model(
        [node("MatMul", ["p", "v"], ["y"], "mm")],
        [value("p", ["n", "l", "m"]), value("v", ["n", "m", 16])],
        [value("y", None)],
    )
    ends = {"p": ((2, 6, 16), (4, 8, 32)), "v": ((2, 16, 16), (4, 32, 16))}
    plan = opened(made, ends, [
        raw("mm", "gemm", ["mm"], [("a", (-1, -1, -1)), ("b", (-1, -1, 16))], [("y", (-1, -1, 16))])])  # fmt: skip
    assert [t.shape for t in plan.layers[0].inputs] == [(2, 6, 16), (2, 16, 16)]


def test_means_that_parts_of_a_normalization_hand_on() -> None:
    made = model([node("LayerNormalization", ["x", "g"], ["n"], "ln"), node("Relu", ["n"], ["y"], "act")],
                 [value("x", ["n", "l", 8])], [value("y", None)], [weights("g", 8)])  # fmt: skip
    plan = opened(made, BATCH_AND_LENGTH, [
        raw("__myl_MeanSubMulMean_myl0_0", "kgen", ["ln"], [("x", (-1, 8))], [("mean", (-1, 1))]),
        raw("__myl_AddSqrtDivMulRelu_myl0_1", "kgen", ["ln", "act"], [("x", (-1, 8)), ("mean", (-1, 1))], [("y", (-1, -1, 8))]),
    ])  # fmt: skip
    assert tensor(plan, "mean").shape == (12, 1)  # not 96, as if the whole tensor were handed on


def test_sizes_that_two_tensors_fit_stay_unknown() -> None:
    made = model([node("Concat", ["x", "x"], ["c"], "cat", axis=1), node("Exp", ["x"], ["e"], "exp"), node("Add", ["c", "c"], ["y"], "add"),
                  node("Neg", ["e"], ["z"], "neg")], [value("x", ["n", "l", 8])], [value("y", None), value("z", None)])  # fmt: skip
    plan = opened(made, BATCH_AND_LENGTH, [
        raw("__myl_ConcExp_myl0_0", "kgen", ["cat", "exp"], [("x", (-1, -1, 8))], [("one", (-1, 8))]),
        raw("__myl_AddNeg_myl0_1", "kgen", ["add", "neg"], [("one", (-1, 8))], [("y", (-1, -1, 8)), ("z", (-1, -1, 8))]),
    ])  # fmt: skip
    assert tensor(plan, "one").bytes is None
    assert plan.summary["bytes_unknown_after"] == 2


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_states_and_gates_of_a_recurrence(op: str) -> None:
    gates = {"LSTM": 4, "GRU": 3}[op]
    made = model([node(op, ["x", "w", "r"], ["y"], "rec", hidden_size=8)], [value("x", [5, "n", 4])], [value("y", None)],
                 [weights("w", 1, gates * 8, 4), weights("r", 1, gates * 8, 8)])  # fmt: skip
    plan = opened(made, {"x": ((5, 2, 4), (5, 6, 4))}, [
        raw("g", "gemm", ["rec"], [("x", (1, -1, 4))], [("gates", (1, -1, gates * 8))], [("w", (1, 4, gates * 8))]),
        raw("__myl_SigmTanh_myl0_1", "kgen", ["rec"], [("gates", (1, -1, gates * 8))], [("state", (1, -1, 8))]),
    ])  # fmt: skip
    assert plan.layers[0].inputs[0].shape == (1, 2, 4)
    assert tensor(plan, "gates").shape == (1, 2, gates * 8)
    assert tensor(plan, "state").shape == (1, 2, 8)  # one step's: not the 5 steps that the output holds


# --- what a layer reads ---------------------------------------------------------------------------------


def held(name: str, *shape: int) -> PlanTensor:
    size = 4
    for d in shape:
        size *= d
    return PlanTensor(name, shape, "float32", bytes=size)


def test_gathers_from_an_activation_read_their_rows() -> None:
    made = model(
        [node("Gather", ["x", "i"], ["a"], "one", axis=1), node("Gather", ["x", "j"], ["b"], "two", axis=1), node("Relu", ["x"], ["c"], "all")],
        [value("x", [2, 100, 8])], [value("a", None), value("b", None), value("c", None)],
        [constant("i", 3, "int64"), constant("j", [4, 5], "int64")],
    )  # fmt: skip
    graph = Graph(made).at({})
    assert gathered(graph, ["one"], held("x", 2, 100, 8)) == 2 * 8 * 4
    assert gathered(graph, ["one"], held("x", 200, 8)) == 2 * 8 * 4  # under another view
    assert gathered(graph, ["one", "two"], held("x", 2, 100, 8)) == 2 * 3 * 8 * 4
    assert gathered(graph, ["one", "all"], held("x", 2, 100, 8)) == 2 * 100 * 8 * 4  # another node reads the whole
    whole = [held("y", 2, 100, 8)]
    assert gathered(graph, ["one"], held("x", 2, 100, 8), whole) == 2 * 100 * 8 * 4  # and so does who writes as much
    assert gathered(graph, ["one"], held("x", 2, 50, 8)) == 2 * 50 * 8 * 4


def test_parts_of_one_buffer_are_added_up_to_the_whole() -> None:
    parts = [held("b", 12, 16), held("b", 12, 4), held("b", 12, 4), held("c", 3)]
    assert read([(t, t.bytes) for t in parts], {"b": 960}) == 12 * 20 * 4 + 12
    assert read([(t, t.bytes) for t in parts], {"b": 900}) == 900 + 12
    assert read([(held("b", 2), None)], {}) is None
