"""Matching an optimized graph of ONNX Runtime with its model, and reading its log."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.small_models import model, node, value, weights
from workbench.compilers.onnxruntime import log, trace, words
from workbench.compilers.onnxruntime.layers import Optimized, layers_of, warnings_of
from workbench.compilers.onnxruntime.regions import folded, match
from workbench.model.graph import Graph

pytestmark = pytest.mark.tiny
NCHWC = "com.microsoft.nchwc"


def graph(nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str], constants: list[str] = ()) -> Graph:
    def tensor(name: str) -> onnx.ValueInfoProto:
        return value(name, [1, 8, 4, 4])

    return Graph(
        model(
            nodes,
            [tensor(n) for n in inputs],
            [tensor(n) for n in outputs],
            [weights(c, 8, 8, 1, 1) for c in constants],
            infer=False,
        )
    )


def owned(before: Graph, after: Graph) -> dict[str, tuple[str, ...]]:
    return {n.id: found for n, found in zip(after.nodes, match(before, after).nodes, strict=True)}


CHAIN = [
    node("Conv", ["x", "w"], ["c"], "conv"),
    node("Relu", ["c"], ["r"], "relu"),
    node("Softmax", ["r"], ["y"], "soft"),
]


def test_a_fused_node_owns_the_region_back_to_the_anchors() -> None:
    before = graph(CHAIN, ["x"], ["y"], ["w"])
    fused = node("FusedConv", ["x", "w"], ["r"], "fused conv", domain="com.microsoft", activation="Relu")
    after = graph([fused, CHAIN[2]], ["x"], ["y"], ["w"])
    found = match(before, after)
    assert found.nodes == (("conv", "relu"), ("soft",))
    assert found.evidence == ("tensor-region", "tensor-region")


def test_reorders_own_nothing_and_a_blocked_node_is_known_by_its_name() -> None:
    before = graph(CHAIN, ["x"], ["y"], ["w"])
    after = graph(
        [
            node("ReorderInput", ["x"], ["t0"], "ReorderInput", domain=NCHWC),
            node("Conv", ["t0", "w2"], ["t1"], "c_nchwc", domain=NCHWC, activation="Relu"),
            node("ReorderOutput", ["t1"], ["r"], "ReorderOutput", domain=NCHWC),
            CHAIN[2],
        ],
        ["x"], ["y"], ["w2"],
    )  # fmt: skip
    found = match(before, after)
    assert found.nodes == ((), ("conv", "relu"), (), ("soft",))
    assert found.evidence == ("none", "name", "none", "tensor-region")
    layers = layers_of(Optimized(after), before, found)
    assert [(la["kind"], la["title"]) for la in layers] == [
        ("layout", "reorder to NCHWc"), ("conv", "Conv + Relu"), ("layout", "reorder from NCHWc"), ("softmax", "Softmax"),
    ]  # fmt: skip
    assert [la["outputs"][0]["format"] for la in layers] == ["NCHWc", "NCHWc", "row-major", "row-major"]


def test_a_blocked_convolution_with_a_sum_owns_the_addition_and_the_activation() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"), node("Add", ["c", "z"], ["a"], "add"), node("Relu", ["a"], ["y"], "relu"),
    ]  # fmt: skip
    before = graph(nodes, ["x", "z"], ["y"], ["w"])
    after = graph(
        [
            node("ReorderInput", ["x"], ["t0"], "r0", domain=NCHWC),
            node("ReorderInput", ["z"], ["t1"], "r1", domain=NCHWC),
            node("Conv", ["t0", "w2", "", "t1"], ["t2"], "c_nchwc", domain=NCHWC, activation="Relu"),
            node("ReorderOutput", ["t2"], ["y"], "r2", domain=NCHWC),
        ],
        ["x", "z"], ["y"], ["w2"],
    )  # fmt: skip
    assert owned(before, after) == {"r0": (), "r1": (), "c_nchwc": ("conv", "add", "relu"), "r2": ()}
    assert words.title(after.by_id["c_nchwc"]) == "Conv + Add + Relu"


def test_inserted_reshapes_own_nothing_beside_a_product() -> None:
    before = graph(
        [node("MatMul", ["x", "w"], ["m"], "mm"), node("Add", ["m", "w"], ["y"], "add")], ["x"], ["y"], ["w"]
    )
    after = graph(
        [
            node("Reshape", ["x", "s"], ["t0"], "in"),
            node("Gemm", ["t0", "w", "w"], ["t1"], "mm/MatMulAddFusion"),
            node("Reshape", ["t1", "s"], ["y"], "out"),
        ],
        ["x"], ["y"], ["w", "s"],
    )  # fmt: skip
    assert owned(before, after) == {"in": (), "mm/MatMulAddFusion": ("mm", "add"), "out": ()}


def test_of_two_equal_nodes_that_run_once_the_other_is_a_duplicate() -> None:
    nodes = [
        node("Relu", ["x"], ["a"], "first"), node("Relu", ["x"], ["b"], "second"), node("Exp", ["a"], ["y"], "left"),
        node("Neg", ["b"], ["z"], "right"),
    ]  # fmt: skip
    before = graph(nodes, ["x"], ["y", "z"])
    after = graph([nodes[0], nodes[2], node("Neg", ["a"], ["z"], "right")], ["x"], ["y", "z"])
    assert owned(before, after) == {"first": ("first",), "left": ("left",), "right": ("right",)}


def test_a_removed_view_belongs_to_nobody() -> None:
    nodes = [node("Identity", ["x"], ["i"], "id"), node("Relu", ["i"], ["y"], "relu")]
    before = graph(nodes, ["x"], ["y"])
    after = graph([node("Relu", ["x"], ["y"], "relu")], ["x"], ["y"])
    assert owned(before, after) == {"relu": ("relu",)}


def test_what_became_a_constant_is_folded() -> None:
    nodes = [node("Transpose", ["w"], ["t"], "turn"), node("Add", ["x", "t"], ["y"], "add")]
    before = graph(nodes, ["x"], ["y"], ["w"])
    after = graph([node("Add", ["x", "t"], ["y"], "add")], ["x"], ["y"], ["t"])
    assert owned(before, after) == {"add": ("add",)}
    assert folded(before, after, ["add"]) == ["turn"]


def test_a_tensor_that_changed_its_type_is_no_anchor() -> None:
    nodes = [node("Relu", ["x"], ["r"], "relu"), node("Exp", ["r"], ["y"], "exp")]
    before = graph(nodes, ["x"], ["y"])
    before.tensors["r"] = value_of("r", TensorProto.FLOAT, before)
    after = graph([node("Relu", ["x"], ["r"], "relu 16"), node("Exp", ["r"], ["y"], "exp")], ["x"], ["y"])
    after.tensors["r"] = value_of("r", TensorProto.FLOAT16, after)
    found = match(before, after)
    assert "r" not in found.anchors
    assert set(found.nodes[0] + found.nodes[1]) == {"relu", "exp"}


def value_of(name: str, kind: int, of: Graph):
    from workbench.model.graph import Tensor

    return Tensor(name, of.tensor("x").shape, {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}[kind])


def test_bodies_are_matched_within_their_branch() -> None:
    def body(op: str, out: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(op, ["x"], [out], f"{op} in a branch")], op, [], [value(out, [1, 8, 4, 4])]
        )

    branch = node("If", ["c"], ["y"], "if", then_branch=body("Relu", "t"), else_branch=body("Neg", "e"))
    proto = model([branch], [value("x", [1, 8, 4, 4]), value("c", [], TensorProto.BOOL)], [value("y", [1, 8, 4, 4])])
    before, after = Graph(proto), Graph(proto)
    found = match(before, after)
    assert found.executed == {"if"}
    layers = layers_of(Optimized(after), before, found)
    assert [(la["name"], la["nodes"], la.get("branch")) for la in layers] == [
        ("if", ["if"], None),
        ("Neg in a branch", ["Neg in a branch"], [("if", 1)]),
        ("Relu in a branch", ["Relu in a branch"], [("if", 0)]),
    ]
    assert layers[0]["kind"] == "control"


@pytest.mark.parametrize(("dtype", "warned"), [("float8e4m3fn", True), ("uint8", False)])
def test_a_relu_that_vanished_before_an_fp8_quantization_is_reported(dtype: str, warned: bool) -> None:
    nodes = [node("Relu", ["x"], ["r"], "relu"), node("QuantizeLinear", ["r", "s", "z"], ["y"], "q")]
    before = graph(nodes, ["x"], ["y"], ["s", "z"])
    after = graph([node("QuantizeLinear", ["x", "s", "z"], ["y"], "q")], ["x"], ["y"], ["s", "z"])
    optimized = Optimized(after, {"y": ([1, 8, 4, 4], dtype)})
    after.tensors.pop("y")
    layers = layers_of(optimized, before, match(before, after))
    found = warnings_of(before, layers)
    assert bool(found) is warned
    assert not warned or ("relu" in found[0] and "ReluQuantRewrite" in found[0])


def test_kinds_and_titles_of_its_own_operators() -> None:
    def made(op: str, domain: str = "com.microsoft", name: str = "n", **attributes: object):
        return graph([node(op, ["x"], ["y"], name, domain=domain, **attributes)], ["x"], ["y"]).nodes[0]

    assert words.kind(made("SkipLayerNormalization")) == "norm"
    assert words.kind(made("FusedMatMul")) == "gemm"
    assert words.kind(made("Attention")) == "attention"
    assert words.kind(made("QuickGelu")) == "pointwise"
    assert words.kind(made("DynamicQuantizeLinear", "")) == "cast"
    assert words.kind(made("Reshape", "")) == "noop"
    assert words.kind(made("Reshape", ""), ["y"]) == "layout"
    assert words.title(made("FusedGemm", activation="Tanh")) == "Gemm + Tanh"
    assert words.title(made("Conv", NCHWC, "x_bn_nchwc")) == "BatchNormalization as a convolution"


LOG = """\
2026-11-29 21:43:29.261054421 [I:onnxruntime:, inference_session.cc:778 TraceSessionOptions] Session Options {  }
2026-11-29 21:43:29.270000000 [V:onnxruntime:, graph_transformer_mgr.cc:43 ApplyTransformers] Graph transformer step 1 of 10 for level 1 started.
2026-11-29 21:43:29.271000000 [V:onnxruntime:, graph_transformer_mgr.cc:55 ApplyTransformers] Applying graph transformer MatMulAddFusion on step 1.
2026-11-29 21:43:29.273000000 [I:onnxruntime:, graph_transformer.cc:15 Apply] GraphTransformer MatMulAddFusion modified: 1 with status: OK
2026-11-29 21:43:29.274000000 [V:onnxruntime:, graph_transformer_mgr.cc:43 ApplyTransformers] Graph transformer step 1 of 10 for level 2 started.
2026-11-29 21:43:29.275000000 [V:onnxruntime:, graph_transformer_mgr.cc:55 ApplyTransformers] Applying graph transformer GeluFusionL2 on step 1.
2026-11-29 21:43:29.276000000 [I:onnxruntime:, graph_transformer.cc:15 Apply] GraphTransformer GeluFusionL2 modified: 0 with status: OK
2026-11-29 21:43:29.277000000 [W:onnxruntime:, graph.cc:1 Do] Something to know.
a library wrote this past the logger
"""


def test_the_log_tells_which_optimizers_fired_at_which_level() -> None:
    found = log.read(LOG.splitlines())
    assert [p.to_dict() for p in found.fired] == [
        {"name": "MatMulAddFusion", "level": 1, "runs": 1, "modified": 1, "ms": 2.0}
    ]
    assert [p.name for p in found.passes] == ["MatMulAddFusion", "GeluFusionL2"]
    assert found.warnings == ["Something to know."]
    assert log.step_of(LOG.splitlines()[4]) == (1, 10, 2)


def event(name: str, ts: int, dur: int, cat: str = "Node") -> dict[str, object]:
    return {"cat": cat, "name": name if cat == "Session" else f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {}}


def test_node_times_are_per_execution_and_bodies_are_not_counted_twice() -> None:
    events = []
    for start in (0, 1000, 2000):
        events += [
            event("model_run", start, 900, "Session"), event("a", start + 10, 100), event("loop", start + 200, 500),
            event("inner", start + 210, 100), event("inner", start + 320, 100), event("b", start + 800, 50),
        ]  # fmt: skip
    times, _ = trace.node_times(events, skip=1, owners=["loop"])
    assert times == [
        ("a", [0.1, 0.1]), ("loop", [pytest.approx(0.3)] * 2), ("inner", [0.2, 0.2]), ("b", [0.05, 0.05]),
    ]  # fmt: skip
    assert trace.rows(times)[0] == {"name": "a", "mean_ms": pytest.approx(0.1), "median_ms": 0.1}
