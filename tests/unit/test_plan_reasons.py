"""Which kernel computes a node that the compiler does not name, and why a node needs none; no compiler needed."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import ModelProto

from tests.support.plans import planned, raw
from tests.support.small_models import constant, model, node, value, weights
from workbench.model.graph import Graph
from workbench.plan import Plan
from workbench.plan.memory import FACTOR, disagreement
from workbench.plan.reasons import NO_KERNEL, REASONS
from workbench.plan.traffic import comparable, moved, moved_text
from workbench.present.facts import plan_facts

pytestmark = pytest.mark.tiny


def behind_a_product(*nodes: Any, constants: tuple = ()) -> ModelProto:
    """x @ w -> h, then `nodes` to y."""
    return model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), *nodes],
        [value("x", [4, 8])],
        [value("y", None)],
        [weights("w", 8, 8), *constants],
    )


def kernel(
    name: str, made: ModelProto, claimed: list[str], kind: str = "runtime_fusion", constants: tuple = ()
) -> Plan:
    layer = raw(name, kind, claimed, [("x", (4, 8))], [("y", (4, 8))], [("w", (8, 8)), *constants])
    return planned(Graph(made).at({}), [layer], ["x", "y"])


NUMBER = constant("s", 2.0)
ROW = weights("v", 8)


@pytest.mark.parametrize(
    ("name", "nodes", "constants", "claimed"),
    [
        ("__myl_FcElu_myl0_0", [node("Elu", ["h"], ["y"], "the")], (), ["mm"]),
        ("__myl_FcRelu_myl0_0", [node("Relu", ["h"], ["y"], "the")], (), ["mm"]),
        ("__myl_FcMaxMin_myl0_0", [node("Clip", ["h", "lo", "hi"], ["y"], "the")], (constant("lo", 0.0), constant("hi", 6.0)), ["mm"]),
        # Its scale is computed there, whatever could be folded.
        ("__myl_FcMul_myl0_0", [node("Mul", ["h", "v"], ["y"], "the")], (ROW,), ["mm"]),
        ("__myl_FcMulAdd_myl0_0", [node("Mul", ["h", "v"], ["a"], "the"), node("Add", ["a", "v"], ["y"], "add")], (ROW,), ["mm", "add"]),
        # A subtraction of a constant is an addition.
        ("__myl_FcAdd_myl0_0", [node("Sub", ["h", "v"], ["y"], "the")], (ROW,), ["mm"]),
    ],
)  # fmt: skip
def test_an_operation_in_a_kernels_name_is_computed_there(
    name: str, nodes: list, constants: tuple, claimed: list[str], validate: Any
) -> None:
    plan = kernel(name, behind_a_product(*nodes, constants=constants), claimed)
    assert "the" in plan.layers[0].nodes
    assert plan.layers[0].inferred == ("the",)
    assert plan.layers[0].evidence == "reported"  # of the others
    assert name in plan.facts["inferred"]["the"]
    assert plan.unclaimed == ()
    validate(plan.to_dict())
    assert Plan.from_dict(plan.to_dict()) == plan


def test_a_silu_is_one_word_for_two_nodes() -> None:
    two = [node("Sigmoid", ["h"], ["g"], "sig"), node("Mul", ["h", "g"], ["y"], "mul")]
    assert kernel("__myl_FcAddSilu_myl0_0", behind_a_product(*two), ["mm"]).layers[0].inferred == ("sig", "mul")
    assert kernel("__myl_FcAddSilu_myl0_0", behind_a_product(*two), ["mm", "sig"]).layers[0].inferred == ("mul",)
    # A gate is no SiLU: its product is with other data.
    gate = [node("Sigmoid", ["h"], ["g"], "sig"), node("Mul", ["x", "g"], ["y"], "mul")]
    assert kernel("__myl_FcSilu_myl0_0", behind_a_product(*gate), ["mm"]).layers[0].inferred == ("sig",)


def test_flops_of_an_inferred_node_are_its_kernels() -> None:
    plan = kernel("__myl_FcRelu_myl0_0", behind_a_product(node("Relu", ["h"], ["y"], "the")), ["mm"])
    assert plan.layers[0].flops == 2 * 4 * 8 * 8 + 32 == plan.summary["flops"]


@pytest.mark.parametrize(
    ("name", "nodes", "constants", "reason"),
    [
        # Its word is spent on another node.
        ("__myl_FcRelu_myl0_0", [node("Relu", ["h"], ["a"], "a"), node("Relu", ["a"], ["y"], "the")], (), "unknown"),
        # A product's own name lists nothing: scale and shift are in its weights.
        ("mm_myl0_0", [node("Relu", ["h"], ["a"], "a"), node("Exp", ["a"], ["y"], "the")], (), "unknown"),
        ("mm_myl0_0", [node("Mul", ["h", "v"], ["y"], "the")], (ROW,), "weights"),
        ("__myl_FcRelu_myl0_0", [node("Mul", ["h", "v"], ["b"], "the"), node("Relu", ["b"], ["y"], "a")], (ROW,), "weights"),
        # The list is cut: what is not in it may be there.
        ("__myl_FcReluEtc_myl0_0", [node("Mul", ["h", "v"], ["b"], "the"), node("Relu", ["b"], ["y"], "a")], (ROW,), "unknown"),
        # Not behind weights.
        ("__myl_FcRelu_myl0_0", [node("Relu", ["h"], ["a"], "a"), node("Mul", ["a", "v"], ["y"], "the")], (ROW,), "unknown"),
    ],
)  # fmt: skip
def test_a_reason_is_given_only_where_it_holds(name: str, nodes: list, constants: tuple, reason: str) -> None:
    claimed = ["mm", *(n.name for n in nodes if n.name != "the")]
    plan = kernel(name, behind_a_product(*nodes, constants=constants), claimed)
    assert [(u.node, u.reason) for u in plan.unclaimed] == [("the", reason)]
    if reason == "weights":
        assert "mm" in plan.unclaimed[0].text


def test_a_shift_before_a_padded_convolution_is_not_in_its_weights() -> None:
    made = model([node("Add", ["x", "s"], ["a"], "the"), node("Conv", ["a", "w"], ["y"], "conv", pads=[1] * 4)],
                 [value("x", [1, 3, 8, 8])], [value("y", None)], [weights("w", 4, 3, 3, 3), NUMBER])  # fmt: skip
    layer = raw(
        "conv_myl0_0", "correlation", ["conv"], [("x", (1, 3, 8, 8))], [("y", (1, 4, 8, 8))], [("w", (4, 3, 3, 3))]
    )
    assert planned(Graph(made), [layer], ["x", "y"]).reasons["the"].reason == "unknown"
    made.graph.node[0].op_type = "Mul"
    assert planned(Graph(made), [layer], ["x", "y"]).reasons["the"].reason == "weights"


def attention() -> ModelProto:
    return model(
        [node("Mul", ["q", "s"], ["qs"], "scale"), node("Transpose", ["k"], ["t"], "turn", perm=[0, 2, 1]), node("MatMul", ["qs", "t"], ["p"], "scores"),
         node("Softmax", ["p"], ["a"], "soft"), node("MatMul", ["a", "v"], ["y"], "mix")],
        [value(n, [2, 8, 4]) for n in "qkv"], [value("y", None)], [NUMBER],
    )  # fmt: skip


def test_an_attentions_scale_is_computed_by_its_kernel() -> None:
    reads = [(n, (2, 8, 4)) for n in "qkv"]
    plan = planned(
        Graph(attention()),
        [raw("_gemm_mha_v2_myl0_0", "kgen", ["scores", "soft", "mix"], reads, [("y", (2, 8, 4))])],
        [*"qkv", "y"],
    )
    assert plan.layers[0].inferred == ("scale",)
    assert "attention" in plan.facts["inferred"]["scale"]
    # As a product of its own, the scale may be its alpha or in weights before it: that is said, not decided.
    plan = planned(Graph(attention()), [
        raw("scores_myl0_0", "gemm", ["scores"], reads[:2], [("p", (2, 8, 8))], [("__mye1scores_alpha_myl0", (1,))]),
        raw("__myl_MaxrSubExpSumDiv_myl0_1", "kgen", ["soft"], [("p", (2, 8, 8))], [("a", (2, 8, 8))]),
        raw("mix_myl0_2", "gemm", ["mix"], [("a", (2, 8, 8)), reads[2]], [("y", (2, 8, 4))], [("__mye1mix_alpha_myl0", (1,))]),
    ], [*"qkv", "y"])  # fmt: skip
    assert plan.reasons["scale"].reason == "scale"
    assert "scores_myl0_0" in plan.reasons["scale"].text


def test_unknown_nodes_are_not_said_to_need_no_kernel() -> None:
    assert not {"unknown", "unrolled", "body"} & NO_KERNEL
    assert set(REASONS) > NO_KERNEL


# --- sums with gaps ---------------------------------------------------------------------------------------


def gaps(**changed: int | None) -> dict[str, Any]:
    whole = {
        "bytes_before": 1_580_000,
        "bytes_after": 517_000,
        "bytes_unknown_before": 0,
        "bytes_unknown_after": 0,
        "repeated": 0,
    }
    found = {**whole, **changed}
    return {**found, "bytes_unknown": (found["bytes_unknown_before"] or 0) + (found["bytes_unknown_after"] or 0)}


def test_sums_with_gaps_are_marked_and_not_compared() -> None:
    assert moved_text(gaps()) == "1.58 MB → 517 kB moved"
    assert comparable(gaps())
    after = gaps(bytes_unknown_after=6)
    assert moved(after) == ("1.58 MB", "at least 517 kB")
    assert "→" not in moved_text(after)
    assert "6 kernels" in moved_text(after)
    both = gaps(bytes_unknown_before=1, bytes_unknown_after=1)
    assert moved(both) == ("at least 1.58 MB", "at least 517 kB")
    assert "1 node and 1 kernel are" in moved_text(both)
    assert not comparable(both)
    assert moved_text(gaps(bytes_before=None, bytes_unknown_before=None)) == "517 kB moved"
    assert moved(gaps(bytes_after=0, bytes_unknown_after=2))[1] == "?"


def test_a_peak_above_the_compilers_own_total_is_marked() -> None:
    made = behind_a_product(node("Relu", ["h"], ["y"], "act"))
    layers = [
        raw("mm", "gemm", ["mm"], [("x", (4, 8))], [("h", (4, 8))], [("w", (8, 8))]),
        raw("__myl_Relu_myl0_1", "kgen", ["act"], [("h", (4, 8))], [("y", (4, 8))]),
    ]

    def facts(total: int | None) -> dict[str, Any]:
        memory = {} if total is None else {"memory": {"Total Activation Memory": total}}
        return dict(planned(Graph(made), layers, ["x", "y"], facts=memory).facts)

    peak = 4 * 8 * 4
    assert facts(peak)["activation_memory_reported"] == peak
    assert [facts(total)["activation_memory_disagrees"] for total in (peak, int(peak / FACTOR) - 1, None)] == [
        False,
        True,
        False,
    ]
    assert disagreement(facts(peak)) is None
    assert "128 B" in str(disagreement(facts(64)))


def test_shell_and_report_say_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    from workbench.cli.plan_table import print_layers

    made = model([node("Concat", ["x", "x"], ["c"], "cat", axis=1), node("Exp", ["x"], ["e"], "exp"), node("Softmax", ["c"], ["s"], "soft"),
                  node("Add", ["s", "s"], ["y"], "add"), node("Flatten", ["e"], ["z"], "flat")],
                 [value("x", ["n", "l", 8])], [value("y", None), value("z", None)])  # fmt: skip
    graph = Graph(made).at({"x": (2, 6, 8)})
    plan = planned(graph, [
        raw("__myl_ConcExp_myl0_0", "kgen", ["cat", "exp"], [("x", (-1, -1, 8))], [("one", (-1, 8)), ("two", (-1, -1, 8))]),
        raw("__myl_Add_myl0_1", "kgen", ["add"], [("two", (-1, -1, 8))], [("y", (-1, -1, 8))]),
    ], ["x", "y", "z"], profiles={"x": [{"min": [1, 4, 8], "opt": [2, 6, 8], "max": [4, 10, 8]}]})  # fmt: skip
    assert plan.summary["bytes_unknown_after"] == 1
    print_layers(plan, full=False)
    told = " ".join(capsys.readouterr().out.split())
    assert "at least" in told
    assert "B → " not in told
    assert "bytes of 1 kernel are not known" in told
    assert "1 of 5 nodes need no kernel of their own: 1 view" in told
    assert "which kernel runs 1 of 5 nodes is not known: 1 unknown" in told
    rows = {fact["name"]: fact for fact in plan_facts(plan)}
    assert "→" not in str(rows["Bytes moved"]["value"])
    assert str(rows["Bytes moved"]["value"]).startswith("at least")
    assert "less" not in str(rows["Bytes moved"]["note"])
