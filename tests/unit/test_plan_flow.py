"""Branches, loops and recurrences in a plan, from hand-made records in the forms that Myelin uses; no compiler needed."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import ModelProto, helper

from tests.support.plans import planned, raw
from tests.support.small_models import constant, model, node, value, weights
from workbench.compilers.tensorrt.vocabulary import TensorRTVocabulary
from workbench.compilers.tensorrt.words import is_control
from workbench.model.graph import Graph
from workbench.plan import Plan
from workbench.plan.traffic import moved, moved_text
from workbench.plan.vocabulary import layer_kind

pytestmark = pytest.mark.tiny


def step(
    kind: str, name: str, nodes: list[str] | None = None, shape: tuple[int, ...] = (1,), dtype: str = "int32"
) -> dict:
    """A layer of one number."""
    made = raw(name, kind, nodes or [], [("n", shape, dtype, "")], [("n", shape, dtype, "")])
    return made if kind not in {"jmp", "cjmp"} else {**made, "outputs": []}


def product(
    name: str, nodes: list[str], source: str, result: str, loop: str = "", shape: tuple[int, int] = (4, 8)
) -> dict:
    constants = [("w", (8, 8))] + ([(f"__mye1$$myelin$$(Unnamed Loop* {loop}_alpha_myl0", (1,))] if loop else [])
    return raw(name, "gemm", nodes, [(source, shape)], [(result, (shape[0], 8))], constants)


# --- If ---------------------------------------------------------------------------------------------------


def branches() -> ModelProto:
    then = helper.make_graph(
        [node("MatMul", ["x", "w"], ["t"], "tm"), node("Relu", ["t"], ["a"], "act"), node("Neg", ["a"], ["a2"], "neg")],
        "t",
        [],
        [value("a2", [4, 8])],
    )
    other = helper.make_graph([node("Exp", ["x"], ["b"], "exp")], "e", [], [value("b", [4, 8])])
    return model(
        [node("If", ["c"], ["i"], "if", then_branch=then, else_branch=other), node("MatMul", ["i", "w"], ["y"], "mm")],
        [value("c", [], 9), value("x", [4, 8])], [value("y", [4, 8])], [weights("w", 8, 8)],
    )  # fmt: skip


def in_branch(name: str, side: str) -> str:
    """A node's name as TensorRT's parser gives it."""
    return f"{name} | {side[0]} ({side}_branch) | if (If)"


@pytest.fixture
def branched() -> Plan:
    return planned(Graph(branches()), [
        step("copy", "copy_d2h___mye1_myl0_0", dtype="bool"),
        step("cjmp", "__mye2cbr_myl0_1", ["if"], dtype="bool"),
        raw("__myl_FcRelu_myl0_2", "runtime_fusion", ["if", in_branch("tm", "then"), in_branch("act", "then")], [("x", (4, 8))], [("a", (4, 8))], [("w", (8, 8))]),
        raw("__myl_Neg_myl0_3", "kgen", ["if", in_branch("neg", "then")], [("a", (4, 8))], [("i", (4, 8))]),
        step("jmp", "jmp__mye3_myl0_4", ["if"]),
        raw("__myl_Exp_myl0_5", "kgen", ["if", in_branch("exp", "else")], [("x", (4, 8))], [("i", (4, 8))]),
        step("jmp", "jmp__mye4_myl0_6", ["if"]),
        product("mm", ["mm"], "i", "y"),
    ], ["c", "x", "y"])  # fmt: skip


def test_nodes_of_a_branch_have_their_kernels(branched: Plan, validate: Any) -> None:
    assert [u.reason for u in branched.unclaimed] == []
    assert [la.nodes for la in branched.layers if la.launches] == [
        ("if", "tm", "act"),
        ("if", "neg"),
        ("if", "exp"),
        ("mm",),
    ]
    assert [la.branch for la in branched.layers if la.launches] == [("if: then",), ("if: then",), ("if: else",), ()]
    validate(branched.to_dict())
    assert Plan.from_dict(branched.to_dict()) == branched


def test_one_branch_is_counted_and_jumps_are_no_launches(branched: Plan) -> None:
    assert [la.kind for la in branched.layers] == [
        "control",
        "control",
        "gemm",
        "pointwise",
        "control",
        "pointwise",
        "control",
        "gemm",
    ]
    s = branched.summary
    assert (s["launches_before"], s["launches_after"], s["other_branches"]) == (
        4,
        3,
        1,
    )  # then, and the product behind it
    assert (s["flops"], s["flops_unknown"]) == (2 * 4 * 8 * 8 + 32, 1)  # at least those of the cheaper branch
    one = 4 * 8 * 4  # bytes of a tensor; the weights are twice that
    assert s["bytes_before"] == 2 * (one + 256 + one) + 2 * 2 * one
    assert s["bytes_after"] == 2 * (one + 256 + one) + 2 * one


def test_weights_of_both_branches_are_there() -> None:
    plan = planned(Graph(branches()), [
        step("cjmp", "__mye2cbr_myl0_1", ["if"], dtype="bool"),
        raw("__myl_Relu_myl0_2", "kgen", ["if", in_branch("tm", "then")], [("x", (4, 8))], [("i", (4, 8))], [("w1", (8, 8))]),
        step("jmp", "jmp__mye3_myl0_4", ["if"]),
        raw("__myl_Exp_myl0_5", "kgen", ["if", in_branch("exp", "else")], [("x", (4, 8))], [("i", (4, 8))], [("w2", (8, 4))]),
        step("jmp", "jmp__mye4_myl0_6", ["if"]),
    ], ["c", "x", "y"])  # fmt: skip
    assert plan.summary["weight_bytes"] == (64 + 32) * 4


def test_jumps_that_do_not_fit_say_nothing() -> None:
    plan = planned(Graph(branches()), [
        step("cjmp", "__mye2cbr_myl0_1", ["if"], dtype="bool"),
        raw("__myl_Exp_myl0_5", "kgen", ["if", in_branch("exp", "else")], [("x", (4, 8))], [("i", (4, 8))]),
        product("mm", ["mm"], "i", "y"),
    ], ["c", "x", "y"])  # fmt: skip
    assert all(not la.branch for la in plan.layers)
    assert plan.summary["other_branches"] == 0


def test_a_layer_without_metadata_is_known_by_its_name() -> None:
    plan = planned(Graph(branches()), [
        product("$$myelin$$(Unnamed IfConditional* 0)^$$myelin$$then^tm_myl0_2", [], "x", "t"), product("mm", ["mm"], "i", "y"),
    ], ["c", "x", "y"])  # fmt: skip
    assert (plan.layers[0].nodes, plan.layers[0].evidence) == (("tm",), "name")


# --- what is no kernel ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (step("memset", "init_hvar^3489i64_myl1_23", dtype="int64"), "control"), (step("add", "adv_off^hvar^3489i64_myl1_40", dtype="int64"), "control"),
        (step("cast", "cast_hvar^3463i64_myl1_51", dtype="int64"), "control"), (step("div", "__mye2170_comp_myl1_20"), "control"),
        (step("copy", "copy_d2h___mye168_myl0_1", dtype="bool"), "control"), (step("jmp", "jmp__mye29_myl0_4"), "control"),
        # Data, not a counter.
        (step("memset", "fill", shape=(4, 8), dtype="float32"), "layout"), (step("copy", "copy", shape=(64,)), "layout"),
        (step("add", "add", shape=(64,), dtype="float32"), "other"), (step("kgen", "__myl_Add_myl0_1"), "pointwise"),
    ],
)  # fmt: skip
def test_steps_of_control_flow_are_told_from_kernels(layer: dict, kind: str) -> None:
    assert layer_kind(layer, (), TensorRTVocabulary()) == kind
    assert is_control(layer) == (kind == "control")


# --- loops ------------------------------------------------------------------------------------------------


def scanned() -> ModelProto:
    body = helper.make_graph(
        [node("MatMul", ["s", "w"], ["m"], "mul"), node("Add", ["m", "e"], ["n"], "add"), node("Identity", ["n"], ["o"], "out")],
        "b", [value("s", [4, 8]), value("e", [4, 8])], [value("n", [4, 8]), value("o", [4, 8])],
    )  # fmt: skip
    return model([node("Scan", ["x0", "xs"], ["f", "ys"], "scan", body=body, num_scan_inputs=1)], [value("x0", [4, 8]), value("xs", [2, 4, 8])],
                 [value("f", [4, 8]), value("ys", [2, 4, 8])], [weights("w", 8, 8)])  # fmt: skip


def test_unrolled_steps_are_linked_to_their_nodes() -> None:
    plan = planned(Graph(scanned()), [
        product("__mye1_unroll0_myl0_0", [], "x0", "m0", "0)^mul"), raw("__myl_AddCast_myl0_1", "kgen", [], [("m0", (4, 8)), ("xs", (2, 4, 8))], [("s1", (4, 8))]),
        product("$$myelin$$(Unnamed Loop* 0)^mul_myl0_2", ["mul"], "s1", "m1", "0)^mul"),
        raw("__myl_AddCast_myl0_3", "kgen", ["add"], [("m1", (4, 8)), ("xs", (2, 4, 8))], [("f", (4, 8))]),
    ], ["x0", "xs", "f", "ys"])  # fmt: skip
    assert [la.nodes for la in plan.layers] == [("mul",), ("add",), ("mul",), ("add",)]
    assert [la.evidence for la in plan.layers] == ["inferred", "inferred", "reported", "reported"]
    assert [la.inferred for la in plan.layers] == [("mul",), ("add",), (), ()]
    assert "loop" in plan.facts["inferred"]["mul"]


def recurrent(op: str = "LSTM") -> ModelProto:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    made = [node(op, ["x", "w1", "r1"], ["y1"], "one", hidden_size=8), node("Squeeze", ["y1", "ax"], ["y1s"], "sq"),
            node(op, ["y1s", "w2", "r2"], ["y"], "two", hidden_size=8)]  # fmt: skip
    return model(made, [value("x", [2, 3, 4])], [value("y", None)], [
        weights("w1", 1, gates * 8, 4), weights("r1", 1, gates * 8, 8), weights("w2", 1, gates * 8, 8), weights("r2", 1, gates * 8, 8),
        constant("ax", [1], "int64")])  # fmt: skip


def test_the_products_of_a_recurrence_have_its_flops() -> None:
    def gemm(name: str, source: str, result: str, inner: int, loop: int) -> dict:
        return raw(name, "gemm", [], [(source, (1, 3, inner))], [(result, (1, 3, 32))],
                   [("w", (1, inner, 32)), (f"__mye9$$myelin$$(Unnamed Loop* {loop})^(Unnamed Layer* 7) [Matrix Multiply]_alpha_myl0", (1,))])  # fmt: skip

    def cell(name: str, nodes: list[str], parts: list[str], result: str) -> dict:
        return raw(name, "kgen", nodes, [(p, (1, 3, 32)) for p in parts], [(result, (1, 3, 8))])

    layers = [raw("__myl_Sum_myl0_0", "kgen", ["one"], [], [("bias", (1, 1, 32))])]
    for loop, (owner, width) in enumerate((("one", 4), ("two", 8))):
        for turn in range(2):
            layers += [
                gemm(f"__mye{loop}{turn}a_unroll{turn}_myl0_1", "x" if not loop else f"h0{turn}", f"a{loop}{turn}", width, loop),
                gemm(f"__mye{loop}{turn}b_unroll{turn}_myl0_1", f"h{loop}{turn - 1}", f"b{loop}{turn}", 8, loop),
                cell("__myl_AddSigmTanhMul_myl0_3", [owner] if turn else [], [f"a{loop}{turn}", f"b{loop}{turn}"], f"h{loop}{turn}"),
            ]  # fmt: skip
    plan = planned(Graph(recurrent()), layers, ["x", "y"])
    assert [la.nodes for la in plan.layers] == [("one",)] * 7 + [("two",)] * 6
    flops = [la.flops for la in plan.layers]
    of_input, of_state = 2 * 3 * 4 * 32, 2 * 3 * 8 * 32
    assert flops == [0, *([of_input, of_state, 0] * 2), *([of_state, of_state, 0] * 2)]
    assert sum(f or 0 for f in flops) == plan.summary["flops"]
    assert plan.summary["without_nodes"] == 0
    assert not any(u.reason == "unrolled" for u in plan.unclaimed)


def test_loops_that_can_not_be_told_apart_are_not_linked() -> None:
    plan = planned(Graph(recurrent()), [
        product("__mye1_unroll0_myl0_0", [], "x", "h", "3)^(Unnamed Layer* 24) [Matrix Multiply]")], ["x", "y"])  # fmt: skip
    assert plan.layers[0].nodes == ()
    assert plan.layers[0].flops is None  # it computes, and what it computes is not known
    assert {u.reason for u in plan.unclaimed} == {"unrolled", "view"}


def test_what_runs_at_each_turn_is_marked() -> None:
    counter = [("n", (1,), "int32", "")]
    plan = planned(Graph(recurrent("RNN")), [
        raw("init", "memset", [], [], counter),
        raw("__myl_Move_myl0_1", "kgen", [], [("x", (2, 3, 4))], [("s", (3, 8))]),
        raw("incr", "add", [], counter, counter),
        raw("__myl_FcTanh_myl0_2", "runtime_fusion", ["one"], [("s", (3, 8))], [("s", (3, 8))], [("w", (8, 8))]),
        step("cjmp", "cbr___mye95_myl0_8"),
        raw("__myl_FcTanh_myl0_3", "runtime_fusion", ["two"], [("s", (3, 8))], [("y", (3, 8))], [("w", (8, 8))]),
    ], ["x", "y"])  # fmt: skip
    assert [la.repeated for la in plan.layers] == [False, False, False, True, False, False]
    assert plan.summary["repeated"] == 1
    assert plan.layers[3].bytes is None  # how many turns are laid out in it is not known
    assert moved(plan.summary)[1].startswith("at least ")
    assert "→" not in moved_text(plan.summary)


@pytest.mark.parametrize(("turns", "known"), [(5, True), (None, False)])
def test_bytes_of_a_loop_are_of_all_turns_where_their_number_is_known(turns: int | None, known: bool) -> None:
    body = helper.make_graph([node("Identity", ["go"], ["on"], "keep"), node("Tanh", ["s"], ["n"], "act")], "b",
                             [value("i", [], 7), value("go", [], 9), value("s", [4, 8])], [value("on", [], 9), value("n", [4, 8])])  # fmt: skip
    given = [value("turns", [], 7)] if turns is None else []
    made = model([node("Loop", ["turns", "true", "x"], ["y"], "loop", body=body)], [value("x", [4, 8]), *given], [value("y", [4, 8])],
                 [constant("true", True, "bool"), *([] if turns is None else [constant("turns", turns, "int64")])])  # fmt: skip
    counter = [("n", (1,), "int32", "")]
    plan = planned(Graph(made), [
        raw("init", "memset", [], [], counter), raw("incr", "add", [], counter, counter),
        raw("__myl_Tanh_myl0_2", "kgen", ["act"], [("s", (4, 8))], [("s", (4, 8))]), step("cjmp", "cbr___mye95_myl0_8"),
    ], ["x", "y"])  # fmt: skip
    assert plan.layers[2].repeated
    assert plan.layers[2].bytes == (5 * 2 * 128 if known else None)
