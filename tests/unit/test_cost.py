"""FLOPs and bytes against numbers worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.small_models import constant, model, node, save, value, weights
from workbench.core.units import flops_text
from workbench.model import Model
from workbench.model.cost import CONTAINERS, node_cost, node_costs, totals
from workbench.model.cost_rules import _MOVES, RULES, SHAPES, VIEWS
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


MS = "com.microsoft"


def flops_of(op: str, inputs: list, output: object, domain: str = "", opset: int = 24, **attributes: object):
    """FLOPs of one node; inputs as shapes (data), arrays (constants) or None (left out)."""
    values, initializers, names = [], [], []
    for i, given in enumerate(inputs):
        names.append("" if given is None else f"i{i}")
        if isinstance(given, list):
            values.append(value(f"i{i}", given))
        elif given is not None:
            initializers.append(numpy_helper.from_array(given, f"i{i}"))
    made = helper.make_model(
        helper.make_graph([helper.make_node(op, names, ["y"], "n", domain=domain, **attributes)], "g", values,
                          [value("y", output)], initializers),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(MS, 1), helper.make_opsetid("mine", 1)],
    )  # fmt: skip
    graph = Graph(made)
    return node_cost(graph, graph.by_id["n"]).flops


@pytest.mark.parametrize(
    ("op", "domain"),
    [
        ("NonMaxSuppression", ""), ("Unique", ""), ("Det", ""), ("StringConcat", ""), ("TfIdfVectorizer", ""),
        ("MyOp", "mine"), ("MatMul", "mine"), ("Relu", "mine"), ("Reshape", "mine"), ("If", "mine"), ("Shape", MS),
        ("MoE", MS), ("DecoderMaskedMultiHeadAttention", MS), ("TreeEnsembleRegressor", "ai.onnx.ml"),
    ],
)  # fmt: skip
def test_an_operator_without_a_rule_is_unknown_and_not_0(op: str, domain: str) -> None:
    assert flops_of(op, [[2, 3, 4], [4, 5]], [2, 3, 5], domain) is None


def test_every_standard_operator_has_a_rule_or_is_named_as_unknown() -> None:
    unknown = {
        "BlackmanWindow", "CausalConvWithState", "Det", "HammingWindow", "HannWindow", "ImageDecoder", "LinearAttention",
        "MaxRoiPool", "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss", "NonMaxSuppression", "RegexFullMatch",
        "SoftmaxCrossEntropyLoss", "StringConcat", "StringNormalizer", "StringSplit", "SwiGLU", "TfIdfVectorizer", "Unique",
    }  # fmt: skip
    standard = {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}
    ruled = {op for domain, op in RULES if domain == ""} | CONTAINERS
    assert standard - ruled <= unknown
    assert not ruled & unknown


def test_zero_comes_from_a_rule_only() -> None:
    """Over all rules: on operands that are not empty, only what moves data and the containers count 0."""
    zero = {
        key for key in RULES
        if flops_of(key[1], [[2, 3, 4, 4]] * 5, [2, 3, 4, 4], key[0], kernel_shape=[2, 2], equation="abcd,abcd->abcd",
                    num_heads=1, kv_num_heads=1, sampling_ratio=1) == 0
    }  # fmt: skip
    moves = {("", op) for op in VIEWS | SHAPES | _MOVES} | {
        ("", op) for op in ("Scatter", "ScatterElements", "ScatterND")
    }
    assert zero <= moves | {key for key in zero if key[0] == MS and key[1] in {
        "ExpandDims", "GatherND", "Pad", "QuantizeBFP", "DequantizeBFP", "Range", "Trilu"}}  # fmt: skip


@pytest.mark.parametrize(
    ("equation", "shapes", "right"),
    [
        ("...ij,...jk->...ik", ([2, 3, 4], [2, 4, 5]), 2 * 2 * 3 * 4 * 5),
        ("...ij,...jk", ([2, 3, 4], [2, 4, 5]), 2 * 2 * 3 * 4 * 5),
        ("...ij,jk->...ik", ([7, 2, 3, 4], [4, 5]), 2 * 7 * 2 * 3 * 4 * 5),
        ("...ij,...jk->...ik", ([1, 3, 4], [6, 4, 5]), 2 * 6 * 3 * 4 * 5),  # the ellipsis broadcasts
        ("...ij,...jk->...ik", ([6, 2, 3, 4], [2, 4, 5]), 2 * 6 * 2 * 3 * 4 * 5),  # of other ranks
        ("bij , bjk -> bik", ([2, 3, 4], [2, 4, 5]), 2 * 2 * 3 * 4 * 5),
        ("i,j->ij", ([3], [4]), 12),  # nothing is summed
        ("bhd,bhd->bhd", ([2, 3, 4], [2, 3, 4]), 24),
        ("ij->ji", ([3, 4],), 0),  # a transpose
        ("ij->i", ([3, 4],), 12),
        ("ij", ([3, 4],), 0),
        ("ij,jk,kl->il", ([2, 3], [3, 4], [4, 5]), 2 * 2 * 3 * 4 + 2 * 2 * 4 * 5),  # left to right
        ("ij,jk->ik", ([3], [3, 4]), None),  # contradicts itself
        ("i.j,jk->ik", ([3, 3], [3, 4]), None),
    ],
)
def test_einsum(equation: str, shapes: tuple, right: int | None) -> None:
    assert flops_of("Einsum", list(shapes), None, equation=equation) == right


def test_rotary_embedding_counts_what_is_rotated() -> None:
    cache = [[32, 8], [32, 8], [1, 8]]
    assert flops_of("RotaryEmbedding", [[1, 4, 8, 16], *cache], [1, 4, 8, 16]) == 3 * 4 * 8 * 16
    half = {"rotary_embedding_dim": 8, "num_heads": 4}
    assert flops_of("RotaryEmbedding", [[1, 4, 8, 16], *cache], [1, 4, 8, 16], **half) == 3 * 4 * 8 * 8
    assert flops_of("RotaryEmbedding", [[1, 8, 64], *cache], [1, 8, 64], **half) == 3 * 4 * 8 * 8
    assert flops_of("RotaryEmbedding", [[1, 8, 64], [1, 8], *cache[:2]], None, MS, **half) == 3 * 4 * 8 * 8


# A cache of 5 before 3 new positions: 8 keys for each of 3 queries; 4 heads of 16, V of 32; 2 heads of K and V.
def test_attention_with_a_cache_and_groups() -> None:
    inputs = [[2, 4, 3, 16], [2, 2, 3, 16], [2, 2, 3, 32], None, [2, 2, 5, 16], [2, 2, 5, 32]]
    assert flops_of("Attention", inputs, [2, 4, 3, 32]) == 2 * 2 * 4 * 3 * 8 * (16 + 32)
    flat = [[2, 3, 64], [2, 3, 32], [2, 3, 64]]
    assert flops_of("Attention", flat, [2, 3, 128], q_num_heads=4, kv_num_heads=2) == 2 * 2 * 4 * 3 * 3 * (16 + 32)
    assert flops_of("Attention", flat, [2, 3, 128]) is None  # heads are missing
    assert flops_of("Attention", [[2, 4, "n", 16], [2, 2, 3, 16], [2, 2, 3, 32]], None) is None


# The same attention as ONNX Runtime's fused operators: 2 sequences of 3, width 64 = 4 heads of 16.
def test_attentions_of_onnx_runtime() -> None:
    products = 2 * 2 * 4 * 3 * 3 * (16 + 16)
    projection = 2 * 2 * 3 * 64 * 192
    assert flops_of("Attention", [[2, 3, 64], [64, 192]], None, MS, num_heads=4) == projection + products
    biased = flops_of("Attention", [[2, 3, 64], [64, 192], [192]], None, MS, num_heads=4)
    assert biased == projection + 2 * 3 * 192 + products
    past = [[2, 3, 64], [64, 192], None, None, [2, 2, 4, 5, 16]]
    assert flops_of("Attention", past, None, MS, num_heads=4) == projection + 2 * 2 * 4 * 3 * 8 * 32
    assert flops_of("Attention", past, None, MS, num_heads=4, past_present_share_buffer=1) is None
    quantized = [[2, 3, 64], [64, 192], [192], [], []]
    assert flops_of("QAttention", quantized, None, MS, num_heads=4) == biased

    q, kv = [2, 3, 64], [2, 7, 64]
    assert flops_of("MultiHeadAttention", [q, kv, kv], None, MS, num_heads=4) == 2 * 2 * 4 * 3 * 7 * 32
    assert flops_of("MultiHeadAttention", [q, [2, 7, 4, 2, 16]], None, MS, num_heads=4) == 2 * 2 * 4 * 3 * 7 * 32
    assert flops_of("MultiHeadAttention", [[2, 3, 4, 3, 16]], None, MS, num_heads=4) == products
    with_bias = flops_of("MultiHeadAttention", [q, kv, kv, [192]], None, MS, num_heads=4)
    assert with_bias == 2 * 2 * 4 * 3 * 7 * 32 + 2 * (3 + 7 + 7) * 64
    cross = [q, [2, 4, 7, 16], [2, 4, 7, 16]]
    assert flops_of("MultiHeadAttention", cross, None, MS, num_heads=4) == 2 * 2 * 4 * 3 * 7 * 32

    total = np.asarray(8, np.int32)
    grouped = [q, [2, 3, 32], [2, 3, 32], [2, 2, 5, 16], [2, 2, 5, 16], [2], total]
    heads = {"num_heads": 4, "kv_num_heads": 2}
    assert flops_of("GroupQueryAttention", grouped, None, MS, **heads) == 2 * 2 * 4 * 3 * 8 * 32
    packed = [[2, 3, 128], None, None, *grouped[3:]]
    assert flops_of("GroupQueryAttention", packed, None, MS, **heads) == 2 * 2 * 4 * 3 * 8 * 32
    rotated = flops_of("GroupQueryAttention", [*grouped, [32, 8], [32, 8]], None, MS, do_rotary=1, **heads)
    assert rotated == 2 * 2 * 4 * 3 * 8 * 32 + 3 * 2 * 3 * (4 + 2) * 16
    # How long the cache is, only the run tells.
    assert flops_of("GroupQueryAttention", [*grouped[:6], [1]], None, MS, **heads) is None


def test_products_of_onnx_runtime() -> None:
    a = [2, 3, 8]
    assert flops_of("FusedMatMul", [a, [8, 5]], None, MS) == 2 * 2 * 3 * 8 * 5
    assert flops_of("FusedMatMul", [a, [5, 8]], None, MS, transB=1) == 2 * 2 * 3 * 8 * 5
    assert flops_of("FusedMatMul", [[8, 3], [8, 5]], None, MS, transA=1) == 2 * 3 * 8 * 5
    assert flops_of("FusedMatMul", [a, [2, 8, 5]], [2, 3, 5], MS) == 2 * 2 * 3 * 8 * 5
    assert flops_of("FusedMatMul", [a, [2, 8, 5]], None, MS, transA=1, transBatchA=1) is None
    assert flops_of("FusedMatMul", [a, [2, 8, 5]], None, MS) is None
    assert flops_of("FusedGemm", [[3, 8], [5, 8], [5]], None, MS, transB=1) == 2 * 3 * 8 * 5 + 2 * 15
    packed = [a, [5, 1, 4], [5]]
    assert flops_of("MatMulNBits", packed, None, MS, K=8, N=5, bits=4, block_size=16) == 2 * 2 * 3 * 8 * 5
    assert flops_of("MatMulIntegerToFloat", [a, [8, 5]], None, MS) == 2 * 2 * 3 * 8 * 5
    assert flops_of("QGemm", [[3, 8], [], [], [8, 5], [], []], None, MS) == 2 * 3 * 8 * 5
    conv = flops_of("FusedConv", [[1, 6, 4, 4], [8, 6, 1, 1], [8], [1, 8, 4, 4]], [1, 8, 4, 4], MS, activation="Relu")
    assert conv == 128 * (2 * 6 + 3)
    assert flops_of("QLinearAdd", [[2, 3], [], [], [3], [], [], [], []], None, MS) == 2 * 6 + 2 * 3 + 6 * (1 + 3)
    assert flops_of("SkipLayerNormalization", [[2, 3, 8], [2, 3, 8], [8]], None, MS) == 48 * 9


def test_quantized_products_count_as_their_float_forms() -> None:
    scalar: list = []
    conv = [[2, 6, 10, 10], scalar, scalar, [12, 6, 3, 3], scalar, scalar, scalar, scalar]
    assert flops_of("QLinearConv", conv, [2, 12, 8, 8]) == 2 * 1536 * 54
    assert flops_of("QLinearConv", [*conv, [12]], [2, 12, 8, 8]) == 2 * 1536 * 54 + 1536
    assert flops_of("QLinearMatMul", [[3, 8], scalar, scalar, [8, 5], scalar, scalar], [3, 5]) == 2 * 15 * 8
    assert flops_of("ConvInteger", [[2, 6, 10, 10], [12, 6, 3, 3], scalar, scalar], [2, 12, 8, 8]) == 2 * 1536 * 54


# 16,000 samples, a window of 512 every 160: 101 frames, 257 frequencies of a real and an imaginary part.
def test_stft_and_dft_count_as_products() -> None:
    inputs = [[1, 16512], np.asarray(160), [512], np.asarray(512)]
    products = 2 * (101 * 257 * 2) * 512
    assert products == pytest.approx(53e6, rel=0.01)
    assert flops_of("STFT", inputs, [1, 101, 257, 2], opset=17) == products + 101 * 512
    assert flops_of("STFT", [*inputs[:2], None, inputs[3]], [1, 101, 257, 2], opset=17) == products
    assert flops_of("STFT", [*inputs[:2], None, [1]], [1, 101, 257, 2], opset=17) is None
    assert flops_of("DFT", [[3, 64, 1]], [3, 64, 2], opset=17, axis=1) == 2 * (3 * 64 * 2) * 64
    assert flops_of("DFT", [[3, 64, 2]], [3, 64, 2], opset=20) == 2 * (3 * 64 * 2) * 64 * 2
    assert flops_of("DFT", [[3, 64, 1], None, np.asarray(1)], [3, 33, 2], opset=20, onesided=1) == 2 * (3 * 33 * 2) * 64


# 8 outputs of 4x4 from 6 inputs with 3x3: a sample of each of 6 x 9 values for each of 16 places.
def test_deformable_convolution() -> None:
    inputs = [[2, 6, 6, 6], [8, 6, 3, 3], [2, 18, 4, 4]]
    plain = 2 * (2 * 8 * 16) * 54
    assert flops_of("DeformConv", inputs, [2, 8, 4, 4]) == plain + 8 * (2 * 6 * 9 * 16)
    masked = [*inputs, [8], [2, 9, 4, 4]]
    assert flops_of("DeformConv", masked, [2, 8, 4, 4]) == plain + 2 * 8 * 16 + 9 * (2 * 6 * 9 * 16)


def test_other_rules() -> None:
    assert flops_of("Hardmax", [[2, 8]], [2, 8]) == 16
    assert flops_of("RMSNormalization", [[2, 8], [8]], [2, 8]) == 5 * 16
    assert flops_of("Sum", [[2, 8], [2, 8], [8]], [2, 8]) == 2 * 16
    assert flops_of("Max", [[2, 8], [2, 8]], [2, 8]) == 16
    assert flops_of("Mean", [[2, 8], [2, 8]], [2, 8]) == 2 * 16
    assert flops_of("ScatterElements", [[9], [4], [4]], [9]) == 0
    assert flops_of("ScatterElements", [[9], [4], [4]], [9], reduction="add") == 4
    assert flops_of("RoiAlign", [[1, 2, 9, 9], [3, 4], [3]], [3, 2, 2, 2], sampling_ratio=2) == 24 * 8 * 4
    assert flops_of("RoiAlign", [[1, 2, 9, 9], [3, 4], [3]], [3, 2, 2, 2]) is None
    assert flops_of("GRU", [[7, 2, 5], [2, 24, 5], [2, 24, 8]], None) == 2 * 7 * 2 * (2 * 24 * 13)
    assert flops_of("AffineGrid", [[2, 2, 3], [4]], [2, 4, 5, 2]) == 2 * (2 * 4 * 5 * 2) * 3


@pytest.mark.parametrize(
    "key", sorted({(op, domain) for domain, op in RULES} | {("Loop", ""), ("Scan", ""), ("If", "")})
)
def test_nodes_that_lack_inputs_or_have_attributes_of_other_types_are_unknown_and_no_error(key: tuple) -> None:
    wrong = dict.fromkeys(("kernel_shape", "num_heads", "equation", "axis", "transA", "qkv_hidden_sizes", "N"), "text")
    for inputs in ([], [None] * 9, [[]] * 9, [[0]] * 9, [["n"]] * 3):
        for attributes in ({}, wrong):
            found = flops_of(key[0], inputs, None, key[1], **attributes)
            assert found is None or found >= 0


# --- bodies -----------------------------------------------------------------------------------------------


ONCE = 2 * 4 * 16 * 16 + 64
"""Of one iteration: [4, 16] @ [16, 16] and a Tanh."""


def loop(trips: object, condition: object = True, stays: str = "c"):
    """x [4, 16] -> a Loop of MatMul and Tanh; the cost of the whole."""
    body = helper.make_graph(
        [node("MatMul", ["s", "w"], ["m"], "mm"), node("Tanh", ["m"], ["s2"], "tanh"),
         node("Identity", ["c"], ["same"], "id"), node("Constant", [], ["no"], "k", value=constant("", False, "bool")),
         node("IsNaN", ["m"], ["nan"], "nan"), node("ReduceMax", ["nan"], ["data"], "any", keepdims=0)],
        "body", [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("s", [4, 16])],
        [value(stays, [], TensorProto.BOOL), value("s2", [4, 16])],
    )  # fmt: skip
    given = [constant("w", np.ones((16, 16)))]
    inputs = [value("x", [4, 16])]
    names = []
    for name, what, kind in (("n", trips, TensorProto.INT64), ("t", condition, TensorProto.BOOL)):
        if isinstance(what, str):
            inputs.append(value(name, [], kind))
        elif what is not None:
            given.append(constant(name, what, "bool" if kind == TensorProto.BOOL else "int64"))
        names.append("" if what is None else name)
    made = model([node("Loop", [*names, "x"], ["y"], "loop", body=body)], inputs, [value("y", [4, 16])], given)
    return Graph(made)


@pytest.mark.parametrize(
    ("trips", "condition", "stays", "runs"),
    [
        (5, True, "same", 5), (5, None, "same", 5), (1, True, "same", 1), (0, True, "same", 0), (-3, True, "same", 0),
        (5, False, "same", 0), (5, True, "no", 1), (5, True, "data", None), (5, "input", "same", None),
        ("input", True, "same", None), (None, True, "same", None),
    ],
)  # fmt: skip
def test_a_loop_counts_its_iterations(trips, condition, stays, runs) -> None:
    graph = loop(trips, condition, stays)
    costs = node_costs(graph)
    assert costs["mm"].runs == runs
    assert costs["mm"].flops == (None if runs is None else runs * 2 * 4 * 16 * 16)
    assert costs["mm"].bytes_written == (None if runs is None else runs * 4 * 4 * 16)
    assert node_cost(graph, graph.by_id["mm"]) == costs["mm"]
    assert (costs["loop"].flops, costs["loop"].launches) == (0, False)
    known, unknown = totals(graph, costs)
    if runs is None:
        assert unknown
    else:
        assert (known, unknown) == (runs * (ONCE + 64 + 64), 0)  # IsNaN and ReduceMax


def test_a_trip_count_from_a_shape_counts() -> None:
    graph = loop("input")
    del graph.proto.graph.input[1]
    shaped = onnx.ModelProto()
    shaped.CopyFrom(graph.proto)
    for made in (
        node("Gather", ["shape", "zero"], ["n"], "take", axis=0),
        node("Shape", ["x"], ["shape"], "shape_of"),
    ):
        shaped.graph.node.insert(0, made)
    shaped.graph.initializer.append(constant("zero", 0, "int64"))
    assert node_costs(Graph(shaped))["tanh"].flops == 4 * 64


def test_a_scan_counts_the_length_of_what_it_scans() -> None:
    body = helper.make_graph([node("Add", ["s", "e"], ["s2"], "add"), node("Relu", ["s2"], ["o"], "relu")], "b",
                             [value("s", [8]), value("e", [8])], [value("s2", [8]), value("o", [8])])  # fmt: skip

    def scan(shape: list, **attributes: object):
        made = model([node("Scan", ["s0", "x"], ["last", "all"], "scan", body=body, num_scan_inputs=1, **attributes)],
                     [value("s0", [8]), value("x", shape)], [value("last", [8]), value("all", None)])  # fmt: skip
        return node_costs(Graph(made))["add"].flops

    assert scan([5, 8]) == 5 * 8
    assert scan([8, 6], scan_input_axes=[1]) == 6 * 8
    assert scan(["n", 8]) is None


def test_loops_in_loops_multiply() -> None:
    inner = helper.make_graph([node("Relu", ["s"], ["s2"], "relu"), node("Identity", ["c"], ["c2"])], "in",
                              [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("s", [8])],
                              [value("c2", [], TensorProto.BOOL), value("s2", [8])])  # fmt: skip
    outer = helper.make_graph([node("Loop", ["three", "", "u"], ["u2"], "inner", body=inner), node("Identity", ["d"], ["d2"])],
                              "out", [value("j", [], TensorProto.INT64), value("d", [], TensorProto.BOOL), value("u", [8])],
                              [value("d2", [], TensorProto.BOOL), value("u2", [8])])  # fmt: skip
    made = model([node("Loop", ["four", "", "x"], ["y"], "outer", body=outer)], [value("x", [8])], [value("y", [8])],
                 [constant("three", 3, "int64"), constant("four", 4, "int64")])  # fmt: skip
    costs = node_costs(Graph(made))
    assert costs["relu"].flops == 3 * 4 * 8


def branches(condition: bool | None, other: str):
    """An If of a Relu or a Softmax (or Exp), over x [2, 8]."""
    then = helper.make_graph([node("Relu", ["x"], ["a"], "then")], "t", [], [value("a", [2, 8])])
    orelse = helper.make_graph([node(other, ["x"], ["b"], "else")], "e", [], [value("b", [2, 8])])
    given = [] if condition is None else [constant("c", condition, "bool")]
    inputs = [value("x", [2, 8])] + ([value("c", [], TensorProto.BOOL)] if condition is None else [])
    made = model([node("If", ["c"], ["y"], "if", then_branch=then, else_branch=orelse), node("Neg", ["y"], ["z"], "neg")],
                 inputs, [value("z", [2, 8])], given)  # fmt: skip
    graph = Graph(made)
    return node_costs(graph), totals(graph, node_costs(graph))


def test_a_total_counts_one_branch() -> None:
    # Both cost the same: the total is known. The branches' nodes keep their own.
    costs, whole = branches(None, "Exp")
    assert (costs["then"].flops, costs["else"].flops, whole) == (16, 16, (16 + 16, 0))
    # They differ: at least the cheaper one, and one unknown.
    costs, whole = branches(None, "Softmax")
    assert (costs["then"].flops, costs["else"].flops, whole) == (16, 80, (16 + 16, 1))
    # The condition is known.
    costs, whole = branches(True, "Softmax")
    assert (costs["then"].flops, costs["else"].flops, costs["else"].launches, whole) == (16, 0, False, (16 + 16, 0))
    assert branches(False, "Softmax")[1] == (80 + 16, 0)


def test_unknown_flops_are_shown_as_unknown(tmp_path) -> None:
    made = model([node("MatMul", ["x", "w"], ["h"], "mm"), helper.make_node("Mine", ["h"], ["y"], "own", domain="mine")],
                 [value("x", [4, 8])], [value("y", [4, 8])], [weights("w", 8, 8)], domains=["mine"])  # fmt: skip
    frame = Model("m", save(made, tmp_path / "m.onnx")).to_frame().set_index("node")
    assert frame.loc["mm", "flops"] == 2 * 4 * 8 * 8
    assert math.isnan(frame.loc["own", "flops"])
    graph = Graph(made)
    known, unknown = totals(graph, node_costs(graph))
    assert (known, unknown) == (2 * 4 * 8 * 8, 1)
    assert flops_text(known, unknown) == ">= 512 FLOP"
    assert (flops_text(0, 1), flops_text(None), flops_text(0)) == ("? FLOP", "? FLOP", "0 FLOP")
