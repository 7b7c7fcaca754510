"""The plan: memory by liveness, sums, the document form, kinds; no compiler needed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import pytest

from tests.support.plans import planned, raw
from tests.support.small_models import constant, mlp, model, node, value, weights
from workbench.compilers.tensorrt.vocabulary import TensorRTVocabulary
from workbench.compilers.tensorrt.words import words_of
from workbench.core.errors import StoreError
from workbench.model.graph import Graph
from workbench.model.provenance import Source
from workbench.plan import Layer, Plan, PlanTensor, liveness
from workbench.plan.kinds import KINDS, kind_of_ops
from workbench.plan.reasons import REASONS
from workbench.plan.vocabulary import NEUTRAL, Vocabulary, layer_kind, layer_title

pytestmark = pytest.mark.tiny


def tensor(name: str, size: int | None) -> PlanTensor:
    return PlanTensor(name, None if size is None else (size,), "int8", bytes=size)


def layer(name: str, reads: dict[str, int | None], writes: dict[str, int | None]) -> Layer:
    return Layer(
        id=name, name=name, title="", type="kgen", kind="pointwise", nodes=(), evidence="none",
        inputs=tuple(tensor(n, s) for n, s in reads.items()), outputs=tuple(tensor(n, s) for n, s in writes.items()),
    )  # fmt: skip


def test_a_tensor_lives_from_its_writer_to_its_last_reader() -> None:
    # x -> a(10) -> b(20) -> c(5) -> y, and a is read again by the third layer.
    layers = [
        layer("0", {"x": 100}, {"a": 10}), layer("1", {"a": 10}, {"b": 20}), layer("2", {"b": 20, "a": 10}, {"c": 5}),
        layer("3", {"c": 5}, {"y": 100}),
    ]  # fmt: skip
    found = liveness(layers, ["x", "y"])
    assert found.live == (10, 30, 35, 5)
    assert (found.peak, found.peak_layer) == (35, 2)
    assert found.at_peak == (("b", 20), ("a", 10), ("c", 5))
    assert found.unknown == ()


def test_branches_live_side_by_side_and_unread_results_for_one_layer() -> None:
    layers = [layer("0", {"x": 1}, {"a": 8, "b": 8, "unread": 3}), layer("1", {"a": 8}, {"c": 4}),
              layer("2", {"b": 8, "c": 4}, {"y": 1})]  # fmt: skip
    assert liveness(layers, ["x", "y"]).live == (19, 20, 12)


def test_a_tensor_written_in_parts_counts_once() -> None:
    layers = [layer("0", {"x": 1}, {"cat": 8}), layer("1", {"x": 1}, {"cat": 8}), layer("2", {"cat": 8}, {"y": 1})]
    assert liveness(layers, ["x", "y"]).live == (8, 8, 8)


def test_unknown_sizes_are_told_and_no_layers_are_no_error() -> None:
    found = liveness([layer("0", {"x": 1}, {"a": None}), layer("1", {"a": None}, {"y": 1})], ["x", "y"])
    assert (found.unknown, found.peak) == (("a",), 0)
    empty = liveness([], [])
    assert (empty.peak, empty.peak_layer, empty.live) == (0, -1, ())


@pytest.mark.parametrize(
    ("writes", "reads", "shape"),
    [
        # [4, 6, 8] flattened: its writer and its reader have only that.
        (["mm"], ["act"], (24, 8)),
        # The writer has [4, 6, 1] too, which would be [3, 8]; the reader decides.
        (["mm", "sum"], ["act"], (24, 8)),
        # [4, 6, 1] can't be it: its batch would have to be split.
        (["mm", "sum"], ["act", "scale"], (24, 8)),
        # Both sides have [4, 6, 8] and [4, 12, 8]: it is not guessed.
        (["mm", "twice"], ["act", "both"], None),
    ],
)
def test_a_flattened_tensor_of_an_open_shape(writes: list[str], reads: list[str], shape: tuple | None) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("ReduceSum", ["h", "last"], ["s"], "sum"), node("Relu", ["h"], ["r"], "act"),
         node("Neg", ["s"], ["n"], "scale"), node("Add", ["r", "n"], ["y"], "add"),
         node("Concat", ["x", "x"], ["xx"], "twice", axis=1), node("Exp", ["xx"], ["z"], "both")],
        [value("x", ["b", 6, 8])], [value("y", None), value("z", None)], [weights("w", 8, 8), constant("last", [-1], "int64")],
    )  # fmt: skip
    layers = [
        raw("a", "kgen", writes, [("x", (-1, 6, 8))], [("inner", (-1, 8))]),
        raw("b", "kgen", reads, [("inner", (-1, 8))], [("out", (-1, 6, 8))]),
    ]
    plan = planned(Graph(made).at({"x": (4, 6, 8)}), layers, ["x", "y"])
    assert plan.layers[0].outputs[0].shape == plan.layers[1].inputs[0].shape == shape
    # A name of the model's own says it at once.
    for layer in layers:
        for t in (*layer["inputs"], *layer["outputs"]):
            t["name"] = {"inner": "h"}.get(t["name"], t["name"])
    assert planned(Graph(made).at({"x": (4, 6, 8)}), layers, ["x", "y"]).layers[0].outputs[0].shape == (24, 8)


def test_sums_of_a_model_checked_by_hand(validate) -> None:
    # mlp: x [2, 8] @ w1 [8, 16] -> ReLU -> @ w2 [16, 4]; the ReLU rides with the first product.
    graph = Graph(mlp(2))
    plan = planned(graph, [
        raw("g1", "gemm", ["mm1", "act"], [("x", (2, 8))], [("r", (2, 16))], [("w1", (8, 16))]),
        raw("g2", "gemm", ["mm2"], [("r", (2, 16))], [("y", (2, 4))], [("w2", (16, 4))]),
    ], ["x", "y"])  # fmt: skip
    s = plan.summary
    assert (s["nodes"], s["layers"], s["launches_before"], s["launches_after"]) == (3, 2, 3, 2)
    # Before: mm1 64+512 -> 128, ReLU 128 -> 128, mm2 128+256 -> 32 bytes.
    assert s["bytes_before"] == (64 + 512 + 128) + (128 + 128) + (128 + 256 + 32)
    assert s["bytes_after"] == (64 + 512 + 128) + (128 + 256 + 32)
    assert s["flops"] == 2 * 2 * 16 * 8 + 32 + 2 * 2 * 4 * 16
    assert [la.flops for la in plan.layers] == [512 + 32, 256]
    assert (s["peak_activation_bytes"], s["weight_bytes"], s["bytes_unknown"]) == (128, 512 + 256, 0)
    assert (s["kinds"], s["unclaimed"], s["merged"], s["without_nodes"]) == ({"gemm": 2}, {}, 0, 0)
    assert plan.layers[0].intensity == pytest.approx(544 / 704)
    validate(plan.to_dict())
    assert Plan.from_dict(json.loads(plan.to_json())) == plan


def test_flops_of_a_node_in_two_layers_go_where_the_work_is() -> None:
    graph = Graph(mlp(2))
    plan = planned(graph, [
        raw("g1", "gemm", ["mm1"], [("x", (2, 8))], [("h", (2, 16))], [("w1", (8, 16))]),
        raw("__myl_AddRelu_myl0_1", "kgen", ["mm1", "act"], [("h", (2, 16))], [("r", (2, 16))]),
        raw("g2", "gemm", ["mm2"], [("r", (2, 16))], [("y", (2, 4))], [("w2", (16, 4))]),
    ], ["x", "y"])  # fmt: skip
    assert [la.flops for la in plan.layers] == [512, 32, 256]
    assert plan.layers[0].partial == plan.layers[1].partial == ("mm1",)


def test_an_odd_number_of_flops_is_divided_without_loss() -> None:
    graph = Graph(model([node("Relu", ["x"], ["y"], "n")], [value("x", [7])], [value("y", [7])]))
    parts = [raw(f"k{i}", "kgen", ["n"], [("x", (7,))], [("y", (7,))]) for i in range(3)]
    assert [la.flops for la in planned(graph, parts, ["x", "y"]).layers] == [3, 2, 2]


def test_layers_of_one_name_have_ids_of_their_own() -> None:
    graph = Graph(mlp(2))
    parts = [raw(n, "kgen", [], [("x", (2, 8))], [("y", (2, 4))]) for n in ("a", "a", "a#2", "a")]
    ids = [la.id for la in planned(graph, parts, ["x", "y"]).layers]
    assert len(set(ids)) == 4
    assert ids[0] == "a"


def test_siblings_in_one_layer_are_a_horizontal_merge() -> None:
    graph = Graph(model(
        [node("MatMul", ["x", f"w{i}"], [f"y{i}"], f"m{i}") for i in range(3)] + [node("MatMul", ["y0", "w0"], ["z"], "later")],
        [value("x", [4, 8])], [value("y1", [4, 8]), value("y2", [4, 8]), value("z", [4, 8])],
        [weights(f"w{i}", 8, 8, seed=i) for i in range(3)],
    ))  # fmt: skip
    plan = planned(graph, [raw("m", "gemm", ["m0", "m1", "m2", "later"], [("x", (4, 8))], [("z", (4, 8))])], ["x", "z"])
    assert plan.layers[0].merged == (("m0", "m1", "m2"),)
    assert plan.summary["merged"] == 1


def test_conversions_are_told_apart() -> None:
    graph = Graph(mlp(2))
    plan = planned(graph, [
        raw("__myl_Move_myl0_0", "kgen", [], [("x", (2, 8), "float32", "Linear")], [("a", (2, 8), "float32", "NHWC")]),
        raw("__myl_Cast_myl0_1", "kgen", [], [("a", (2, 8), "float32", "NHWC")], [("b", (2, 8), "float16", "NHWC")]),
        raw("s", "signal", [], [], []),
    ], ["x", "y"])  # fmt: skip
    assert [la.kind for la in plan.layers] == ["layout", "cast", "sync"]
    assert [la.converts for la in plan.layers] == [("layout",), ("precision",), ()]
    s = plan.summary
    assert (s["layout_conversions"], s["precision_conversions"], s["launches_after"], s["without_nodes"]) == (
        1,
        1,
        2,
        2,
    )


def test_gather_counts_rows_and_not_the_table() -> None:
    made = model(
        [node("Gather", ["t", "i"], ["y"], "g")], [value("i", [5], 7)], [value("y", [5, 64])], [weights("t", 1000, 64)]
    )
    plan = planned(Graph(made), [
        raw("g", "kgen", ["g"], [("i", (5,), "int64", "")], [("y", (5, 64))], [("t", (1000, 64))])], ["i", "y"])  # fmt: skip
    assert plan.layers[0].bytes_read == 5 * 64 * 4 + 40


UNCLAIMED = {
    "constant": lambda: (model([node("Neg", ["w"], ["n"], "the"), node("Add", ["x", "n"], ["y"], "a")], [value("x", [4])],
                               [value("y", [4])], [weights("w", 4)]), {}),
    "shape": lambda: (model([node("Shape", ["x"], ["n"], "the"), node("Reshape", ["x", "n"], ["y"], "a")], [value("x", ["k", 4])],
                            [value("y", None)]), {}),
    "dead": lambda: (model([node("Neg", ["x"], ["n"], "the"), node("Abs", ["x"], ["y"], "a")], [value("x", [4])], [value("y", [4])]), {}),
    "view": lambda: (model([node("Flatten", ["x"], ["n"], "the"), node("Abs", ["n"], ["y"], "a")], [value("x", [4, 2])], [value("y", None)]), {}),
    "layout": lambda: (model([node("Transpose", ["x"], ["n"], "the"), node("Abs", ["n"], ["y"], "a")], [value("x", [4, 2])], [value("y", None)]), {}),
    "weights": lambda: (model([node("MatMul", ["x", "w"], ["a"], "a"), node("Mul", ["a", "s"], ["y"], "the")], [value("x", [4, 4])],
                              [value("y", None)], [weights("w", 4, 4), constant("s", 2.0)]), {}),
    "quantization": lambda: (model([node("QuantizeLinear", ["x", "s"], ["q"], "the"), node("DequantizeLinear", ["q", "s"], ["y"], "a")],
                                   [value("x", [4])], [value("y", [4])], [constant("s", 0.1)]), {}),
    "cast": lambda: (model([node("Cast", ["x"], ["n"], "the", to=10), node("Abs", ["n"], ["y"], "a")], [value("x", [4])], [value("y", [4], 10)]), {}),
    "duplicate": lambda: (model([node("Exp", ["x"], ["a"], "a"), node("Exp", ["x"], ["b"], "the"), node("Add", ["a", "b"], ["y"], "c")],
                                [value("x", [4])], [value("y", [4])]), {}),
    "identity": lambda: (model([node("Abs", ["x"], ["a"], "a"), node("Resize", ["a", "", "", "size"], ["y"], "the")],
                               [value("x", [1, 1, 4, 4])], [value("y", [1, 1, 4, 4])], [constant("size", [1, 1, 4, 4], "int64")]), {}),
    "unknown": lambda: (model([node("Softmax", ["x"], ["n"], "the"), node("Abs", ["n"], ["y"], "a")], [value("x", [4])], [value("y", [4])]), {}),
}  # fmt: skip


@pytest.mark.parametrize("reason", UNCLAIMED)
def test_the_reason_why_a_node_is_in_no_layer(reason: str) -> None:
    made, _ = UNCLAIMED[reason]()
    graph = Graph(made)
    claimed = [n.id for n in graph.nodes if n.id != "the"]
    plan = planned(graph, [raw("k", "kgen", claimed, [("x", (4,))], [("y", (4,))])], ["x", "y"])
    assert [(u.node, u.reason) for u in plan.unclaimed] == [("the", reason)]
    assert plan.unclaimed[0].text
    assert plan.reasons["the"].reason == reason


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        # A table of constants is looked up by data; data is cut by a constant.
        (model([node("Gather", ["x", "i"], ["n"], "the"), node("Abs", ["n"], ["y"], "a")], [value("x", [4, 2])],
               [value("y", None)], [constant("i", 1, "int64")]), "layout"),
        (model([node("Gather", ["w", "x"], ["n"], "the"), node("Abs", ["n"], ["y"], "a")], [value("x", [4], 7)],
               [value("y", None)], [weights("w", 4, 4)]), "unknown"),
        # A scale behind a product's transposed result is folded; behind an input it is not known where.
        (model([node("MatMul", ["x", "w"], ["a"], "a"), node("Transpose", ["a"], ["t"], "a"), node("Mul", ["t", "s"], ["y"], "the")],
               [value("x", [4, 4])], [value("y", None)], [weights("w", 4, 4), constant("s", 2.0)]), "weights"),
        (model([node("Flatten", ["x"], ["f"], "a"), node("Mul", ["f", "s"], ["n"], "the"), node("Abs", ["n"], ["y"], "a")],
               [value("x", [4, 4])], [value("y", None)], [constant("s", 2.0)]), "unknown"),
        # Only a Resize of the same size has nothing to do.
        (model([node("Abs", ["x"], ["a"], "a"), node("Resize", ["a", "", "", "size"], ["y"], "the")],
               [value("x", [1, 1, 4, 4])], [value("y", None)], [constant("size", [1, 1, 4, 8], "int64")]), "unknown"),
    ],
)  # fmt: skip
def test_a_reason_holds_only_where_it_is_so(made, reason: str) -> None:
    graph = Graph(made).at({})
    claimed = [n.id for n in graph.nodes if n.op in {"MatMul", "Abs"}]
    plan = planned(graph, [raw("k", "kgen", claimed, [("x", (4,))], [("y", (4,))])], ["x", "y"])
    assert plan.reasons["the"].reason == reason


@pytest.mark.parametrize(
    ("layer", "reason"), [("__mye3563_unroll0_myl0_1", "unrolled"), ("__mye3563_myl0_1", "unknown")]
)
def test_a_loop_whose_steps_the_compiler_does_not_name(layer: str, reason: str) -> None:
    made = model(
        [node("GRU", ["x", "w", "r"], ["y"], "the", hidden_size=4)], [value("x", [2, 1, 4])], [value("y", None)],
        [weights("w", 1, 12, 4), weights("r", 1, 12, 4)],
    )  # fmt: skip
    plan = planned(Graph(made), [raw(layer, "gemm", [], [("x", (2, 1, 4))], [("y", (2, 1, 1, 4))])], ["x", "y"])
    assert plan.reasons["the"].reason == reason


def test_a_body_that_the_compiler_reports_as_a_whole() -> None:
    from onnx import helper

    inner = helper.make_graph([node("Relu", ["x"], ["a"], "in")], "t", [], [value("a", [4])])
    made = model(
        [node("If", ["c"], ["y"], "if", then_branch=inner, else_branch=inner)],
        [value("x", [4]), value("c", [], 9)],
        [value("y", [4])],
    )
    plan = planned(Graph(made), [raw("k", "kgen", ["if"], [("x", (4,))], [("y", (4,))])], ["x", "y"])
    assert {u.reason for u in plan.unclaimed} == {"body"}
    assert len(plan.unclaimed) == 2


def test_every_reason_has_words_and_is_in_the_schema() -> None:
    from workbench.plan.document import Reason

    assert set(get_args(Reason)) == set(REASONS)
    assert set(UNCLAIMED) | {"body", "unrolled", "scale"} == set(REASONS)


def test_frame_and_look_ups() -> None:
    graph = Graph(mlp(2))
    plan = planned(graph, [raw("g", "gemm", ["mm1", "act", "mm2"], [("x", (2, 8))], [("y", (2, 4))])], ["x", "y"],
                   provenance={"mm1": Source(scope="net.fc", file="/a/model.py", line=3)})  # fmt: skip
    frame = plan.to_frame()
    assert list(frame["node_names"]) == ["mm1, act, mm2"]
    assert list(frame["source"]) == ["model.py:3"]
    assert "time_ms" not in frame
    assert plan.layer(0) is plan.layer("g")
    assert plan.layers_of["act"] == (plan.layers[0],)
    with pytest.raises(StoreError, match="no layer"):
        plan.layer("nope")
    with pytest.raises(StoreError, match="no layer"):
        plan.layer(5)
    timed = replace(plan, layers=(replace(plan.layers[0], time_ms=0.5),))
    assert list(timed.to_frame()["time_ms"]) == [0.5]
    assert len(planned(graph, [], ["x", "y"]).to_frame()) == 0


def test_a_document_of_another_schema_is_refused() -> None:
    with pytest.raises(StoreError, match=r"workbench\.plan/2"):
        Plan.from_dict({"schema": "workbench.plan/2"})


@pytest.mark.parametrize(
    ("layer_type", "name", "ops", "kind"),
    [("gemm", "a+b_myl0_0", ["MatMul"], "gemm"), ("correlation", "c", ["Conv"], "conv"), ("kgen", "_gemm_mha_v2_0x1", [], "attention"),
     ("kgen", "__myl_Move_myl0_1", [], "layout"), ("kgen", "__myl_MulAddRelu_myl0_1", ["Mul"], "pointwise"),
     ("runtime_fusion", "__myl_CorrMulAddRelu_myl0_7", ["Conv"], "conv"), ("runtime_fusion", "__myl_FcAddErf_myl0_7", ["MatMul"], "gemm"),
     ("signal", "s", [], "sync"), ("wait", "w", [], "sync"), ("maxpool", "p", ["MaxPool"], "pooling"), ("novel", "n", ["Softmax"], "softmax"),
     ("kgen", "__myl_MaxrSubExpSumDivMul_myl0_3", ["Softmax"], "softmax"), ("novel", "n", [], "other")],
)  # fmt: skip
def test_kinds(layer_type: str, name: str, ops: list[str], kind: str) -> None:
    layer = raw(name, layer_type, [], [], [])
    assert layer_kind(layer, ops, TensorRTVocabulary()) == kind
    assert kind in KINDS
    assert layer_title(layer, kind, ops, TensorRTVocabulary())


def test_kinds_and_titles_without_a_vocabulary_follow_from_the_operators() -> None:
    layer = raw("__myl_FcAdd_myl0_1", "kgen", [], [], [])
    assert layer_kind(layer, ["Conv", "Relu", "Relu"], NEUTRAL) == "conv"
    assert layer_title(layer, "conv", ["Conv", "Relu", "Relu"], NEUTRAL) == "Conv + 2 × Relu"
    assert layer_kind(layer, [], NEUTRAL) == "other"
    assert layer_title(layer, "other", [], NEUTRAL) == "kgen"


@pytest.mark.parametrize("vocabulary", [NEUTRAL, TensorRTVocabulary()])
def test_a_kind_and_title_in_the_record_are_used_as_they_are(vocabulary: Vocabulary) -> None:
    layer = {**raw("__myl_FcAdd_myl0_1", "kgen", [], [], []), "kind": "norm", "title": "an RMS norm"}
    assert layer_kind(layer, ["Conv"], vocabulary) == "norm"
    assert layer_title(layer, "norm", ["Conv"], vocabulary) == "an RMS norm"


def test_words() -> None:
    assert words_of("__myl_MulTran_myl0_6") == ["Mul", "Tran"]
    assert words_of("node_conv") == []
    assert kind_of_ops(["Relu", "Conv"]) == "conv"
