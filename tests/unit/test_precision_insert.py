"""Which nodes are quantized, at which scales, and that nothing is quantized in silence or left in silence."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.support.small_models import INT64, constant, mlp, model, net, node, save, value, weights
from workbench.core.errors import CalibrationError, ConfigError, ModelError
from workbench.passes.fold import folded
from workbench.passes.insert_qdq import Insertion
from workbench.passes.opset import upgrade
from workbench.passes.qdq_choice import choose, kept
from workbench.passes.qdq_values import LIMIT, quantize_array, scale_of
from workbench.precision.audit import scheme_in
from workbench.precision.scheme import Scheme

KIND = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16, "fp32": np.float32}


def read(proto: onnx.ModelProto) -> ir.Model:
    return ir.serde.deserialize_model(proto)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-30, 1e6), st.sampled_from(sorted(LIMIT)), st.sampled_from(sorted(KIND)))
def test_scales_are_exact_in_the_rests_type_and_cut_nothing_off(amax: float, to: str, rest: str) -> None:
    scale = scale_of(amax, to, rest)
    assert scale.dtype == np.float32
    assert float(scale) > 0
    assert float(np.asarray(scale).astype(KIND[rest]).astype(np.float64)) == pytest.approx(float(scale), rel=1e-7)
    if float(scale) < 60000:
        assert float(scale) * LIMIT[to] >= amax * (1 - 1e-6)


def test_rounding_is_to_nearest_and_stays_in_range() -> None:
    values = np.array([[-1.0, 0.5, 0.996], [4.0, -8.0, 0.0]], np.float32)
    low = quantize_array(values, np.array([1 / 127, 8 / 127], np.float32), "int8", axis=0)
    assert low.tolist() == [[-127, 64, 126], [64, -127, 0]]
    f8 = quantize_array(values * 1000, np.float32(1), "fp8", axis=None)
    assert f8.dtype == ml_dtypes.float8_e4m3fn
    assert np.abs(f8.astype(np.float32)).max() == 448  # clipped, not NaN
    i4 = quantize_array(
        np.arange(-8, 8, dtype=np.float32).reshape(4, 4), np.ones((2, 4), np.float32), "int4", axis=0, block=2
    )
    assert i4.astype(int).reshape(-1).tolist() == list(range(-8, 8))


def test_what_is_left_is_listed_with_its_reason() -> None:
    proto = model(
        [
            node("MatMul", ["x", "w"], ["a"], "weighted"), node("MatMul", ["a", "a"], ["b"], "attention"),
            node("MatMul", ["w", "b"], ["c"], "left"), node("Cast", ["c"], ["i"], "cast", to=INT64), node("MatMul", ["i", "iw"], ["j"], "integers"),
            node("Transpose", ["w"], ["wt"], "t"), node("Gemm", ["c", "wt"], ["d"], "computed"), node("Gemm", ["c", "w"], ["e"], "alpha", alpha=2.0),
            node("MatMul", ["c", "w"], ["y"], "wanted"),
        ],
        [value("x", [4, 4])], [value(n, None) for n in "jdey"], [weights("w", 4, 4), constant("iw", np.eye(4), "int64")],
    )  # fmt: skip
    choices = choose(read(proto), "int8", keep=["want*"])
    assert [c.node for c in choices.taken] == ["weighted", "computed"]
    assert choices.folded == {"computed": "Transpose of w"}
    assert {k: v.split()[0] for k, v in choices.left.items()} == {
        "attention": "both", "left": "its", "integers": "its", "alpha": "a", "wanted": "kept",
    }  # fmt: skip
    assert choices.left["integers"] == "its inputs are not FP32"
    only = choose(read(proto), "int8", only=["wanted"])
    assert [c.node for c in only.taken] == ["wanted"]
    int4 = choose(read(net()), "int4")
    assert [c.node for c in int4.taken] == ["fc"]
    assert int4.left["conv1"] == "INT4 is for matrix products"


def inserted(proto: onnx.ModelProto, to: str = "int8", **options: object) -> onnx.ModelProto:
    made = read(proto)
    choices = choose(made, to)
    Insertion(made, choices, dict.fromkeys(choices.tensors, 2.0), to=to, **options).run()
    out = ir.serde.serialize_model(made)
    onnx.checker.check_model(out, full_check=True)
    return out


def out_scale(proto: onnx.ModelProto, of: onnx.NodeProto) -> np.ndarray:
    """The scale at which the weight of a node is dequantized."""
    (back,) = [n for n in proto.graph.node if of.input[1] in n.output]
    (scale,) = [t for t in proto.graph.initializer if t.name == back.input[1]]
    return onnx.numpy_helper.to_array(scale)


def test_pairs_stand_on_inputs_only_and_serve_all_readers() -> None:
    out = inserted(net(), weights="channel", residual=True)
    readers: dict[str, list[onnx.NodeProto]] = {}
    made = {name: n for n in out.graph.node for name in n.output}
    for n in out.graph.node:
        for name in n.input:
            readers.setdefault(name, []).append(n)
    pairs = [n for n in out.graph.node if n.op_type == "QuantizeLinear"]
    assert len(pairs) == 3  # x, r1, f
    for pair in pairs:
        (back,) = readers[pair.output[0]]
        assert back.op_type == "DequantizeLinear"
        assert all(r.op_type in {"Conv", "Gemm", "Add"} for r in readers[back.output[0]])
    for n in out.graph.node:
        if n.op_type in {"Conv", "Gemm"}:
            assert made[n.input[0]].op_type == made[n.input[1]].op_type == "DequantizeLinear"
            assert all(r.op_type != "QuantizeLinear" for r in readers.get(n.output[0], []))
            assert len(n.input) < 3 or n.input[2] == "b1"  # the bias stays
    add = next(n for n in out.graph.node if n.op_type == "Add")
    assert made[add.input[1]].op_type == "DequantizeLinear"
    assert made[add.input[0]].op_type == "Conv"
    plain = inserted(net(), weights="channel")
    assert next(n for n in plain.graph.node if n.op_type == "Add").input[1] == "r1"


def test_weights_are_stored_once_quantized_and_shared_ones_stay_shared() -> None:
    proto = net()
    for n in proto.graph.node:
        if n.name == "conv2":
            n.input[1] = "w1"
    out = inserted(proto, weights="channel")
    stored = {t.name: t for t in out.graph.initializer}
    assert "w1" not in stored
    assert stored["w1_quantized"].data_type == onnx.TensorProto.INT8
    assert list(stored["w1_scale"].dims) == [8]
    assert sum("w1_quantized" in n.input for n in out.graph.node) == 1
    # Read elsewhere in full precision, it stays.
    tied = model(
        [node("Gather", ["table", "ids"], ["e"], "emb"), node("MatMul", ["e", "tt"], ["y"], "mm")],
        [value("ids", [2], INT64)], [value("y", None)], [weights("table", 8, 8), weights("tt", 8, 8)],
    )  # fmt: skip
    tied.graph.node[1].input[1] = "table"
    names = {t.name for t in inserted(tied).graph.initializer}
    assert {"table", "table_quantized"} <= names


@pytest.mark.parametrize("how", ["initializer", "Constant"])
@pytest.mark.parametrize("way", ["channel-after", "channel", "tensor"])
def test_a_matrix_that_products_share_is_stored_once(how: str, way: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    matrix = weights("w", 64, 64)
    nodes = [node("MatMul", [f"t{i}", "w"], [f"t{i + 1}"], f"mm{i}") for i in range(6)]
    made = [node("Constant", [], ["w"], "table", value=matrix)] if how == "Constant" else []
    proto = model([*made, *nodes], [value("t0", [4, 64])], [value("t6", [4, 64])], [] if made else [matrix])
    out = inserted(proto, weights=way)
    stored = [t for t in out.graph.initializer if len(t.dims) == 2]
    assert [(t.name, t.data_type, list(t.dims)) for t in stored] == [("w_quantized", onnx.TensorProto.INT8, [64, 64])]
    assert "Constant" not in {n.op_type for n in out.graph.node}
    assert sum(n.op_type == "DequantizeLinear" and n.input[0] == "w_quantized" for n in out.graph.node) == 1
    x = np.random.default_rng(0).uniform(-1, 1, (4, 64)).astype(np.float32)
    got = ort.InferenceSession(out.SerializeToString()).run(None, {"t0": x})[0]
    exact = ort.InferenceSession(proto.SerializeToString()).run(None, {"t0": x})[0]
    assert np.linalg.norm(got - exact) < 0.1 * np.linalg.norm(exact)


def test_channels_behind_compute_what_channels_within_do() -> None:
    ort = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 8)).astype(np.float32)
    got = {}
    for way in ("channel", "channel-after", "tensor"):
        out = inserted(net(), weights=way, rest="fp32")
        names = {n.name for n in out.graph.node}
        assert {n.name for n in net().graph.node} <= names
        assert [o.name for o in out.graph.output] == ["y"]
        got[way] = ort.InferenceSession(out.SerializeToString()).run(None, {"x": x})[0]
    exact = ort.InferenceSession(net().SerializeToString()).run(None, {"x": x})[0]
    scale = np.abs(exact).max()
    assert np.abs(got["channel"] - got["channel-after"]).max() / scale < 1e-3
    for way in got.values():
        assert np.abs(way - exact).max() / scale < 0.1


def transposed(width: int, out: int = 8, **attributes: object) -> onnx.ModelProto:
    """A transposed convolution whose output channels differ in size by up to 2**(out - 1)."""
    inner = out // int(str(attributes.get("group", 1)))
    kernel = onnx.numpy_helper.to_array(weights("w", 8, inner, 1, 3)) * 2.0 ** -np.arange(inner)[None, :, None, None]
    return model(
        [node("ConvTranspose", ["x", "w", "b"], ["y"], "up", pads=[0, 1, 0, 1], **attributes)],
        [value("x", [1, 8, 4, width])], [value("y", [1, out, 4, width])], [constant("w", kernel), weights("b", out, seed=2)],
    )  # fmt: skip


@pytest.mark.parametrize("width", [5, 8])  # as many columns as channels, and not
@pytest.mark.parametrize("to", ["int8", "fp8"])
@pytest.mark.parametrize("rest", ["fp16", "fp32"])
def test_transposed_convolutions_are_scaled_by_channel(width: int, to: str, rest: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    proto = transposed(width)
    x = np.random.default_rng(0).uniform(-2, 2, (1, 8, 4, width)).astype(np.float32)
    bias = onnx.numpy_helper.to_array(proto.graph.initializer[1]).reshape(1, 8, 1, 1)
    exact = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0] - bias
    for way in ("channel-after", "channel"):
        out = inserted(proto, to, weights=way, rest=rest)
        (product,) = [n for n in out.graph.node if n.op_type == "ConvTranspose"]
        assert out_scale(out, product).ndim == (0 if way == "channel-after" and to == "int8" else 1)
        got = ort.InferenceSession(out.SerializeToString()).run(None, {"x": x})[0] - bias
        for channel in range(8):  # the small ones as exactly as the large ones
            right = exact[:, channel]
            assert np.linalg.norm(got[:, channel] - right) < {"int8": 0.02, "fp8": 0.06}[to] * np.linalg.norm(right)
    grouped = choose(read(transposed(width, group=2)), to)
    assert grouped.left == {"up": "a grouped transposed convolution has no single output-channel axis"}


@pytest.mark.parametrize("width", [5, 8])
def test_grouped_convolutions_are_scaled_by_channel(width: int) -> None:
    ort = pytest.importorskip("onnxruntime")
    proto = model([node("Conv", ["x", "w", "b"], ["y"], "conv", pads=[1] * 4, group=4)],
                  [value("x", [1, 8, 4, width])], [value("y", [1, 8, 4, width])],
                  [weights("w", 8, 2, 3, 3), weights("b", 8, seed=2)])  # fmt: skip
    x = np.random.default_rng(0).uniform(-2, 2, (1, 8, 4, width)).astype(np.float32)
    sessions = [ort.InferenceSession(p.SerializeToString()) for p in (proto, inserted(proto, weights="channel-after"))]
    exact, got = (s.run(None, {"x": x})[0] for s in sessions)
    assert np.linalg.norm(got - exact) < 0.02 * np.linalg.norm(exact)


def two_products() -> onnx.ModelProto:
    """Two products of one input, the weights of one a hundred times larger, and one whose bias is scaled."""
    return model(
        [
            node("MatMul", ["x", "wide"], ["a"], "mm1"), node("MatMul", ["x", "narrow"], ["b"], "mm2"),
            node("Add", ["a", "b"], ["s"], "add"), node("Gemm", ["s", "w", "bias"], ["y"], "fc", beta=2.0),
        ],
        [value("x", [4, 64])], [value("y", [4, 8])],
        [weights("wide", 64, 16, scale=10.0), weights("narrow", 64, 16, seed=1), weights("w", 16, 8, seed=2), weights("bias", 8, seed=3)],
    )  # fmt: skip


@pytest.mark.parametrize("to", ["int8", "fp8"])
def test_products_with_an_fp16_rest_have_one_scale_inside(to: str) -> None:
    """TensorRT applies a channel's scale behind what it has stored in FP16; one scale for all it applies before."""
    out = inserted(two_products(), weights="channel-after", rest="fp16", to=to)
    sizes = {n.name: out_scale(out, n) for n in out.graph.node if n.op_type in {"MatMul", "Gemm"}}
    assert sizes["mm1"].shape == sizes["mm2"].shape == ()
    assert float(sizes["mm1"]) == float(sizes["mm2"])  # else TensorRT could not make one product of them
    assert sizes["fc"].shape == (8,)  # its bias is scaled: left as it is
    # Nothing overflows in a rest that can't: there the scales stay inside.
    for rest in ("bf16", "fp32"):
        inside = inserted(two_products(), weights="channel-after", rest=rest, to=to)
        assert all(out_scale(inside, n).ndim == 1 for n in inside.graph.node if n.op_type in {"MatMul", "Gemm"})


def test_fp8_convolutions_have_a_scale_for_each_channel() -> None:
    for to, dimensions in (("int8", 0), ("fp8", 1)):
        out = inserted(net(), weights="channel-after", rest="fp16", to=to)
        assert {out_scale(out, n).ndim for n in out.graph.node if n.op_type == "Conv"} == {dimensions}


def test_products_scaled_behind_compute_what_they_do_within() -> None:
    ort = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    got = [
        ort.InferenceSession(inserted(two_products(), weights=way).SerializeToString()).run(None, {"x": x})[0]
        for way in ("channel", "channel-after")
    ]
    assert np.linalg.norm(got[0] - got[1]) / np.linalg.norm(got[0]) < 1e-2


def test_names_that_the_pairs_would_take_are_left_alone() -> None:
    proto = net()
    for n in proto.graph.node:
        if n.name == "relu1":
            n.name = "x_QuantizeLinear"
    out = inserted(proto)
    names = [n.name for n in out.graph.node]
    assert len(names) == len(set(names))
    assert next(n for n in out.graph.node if n.name == "x_QuantizeLinear").op_type == "Relu"


def test_int4_pads_its_last_block() -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["y"], "mm")],
        [value("x", [2, 20])],
        [value("y", [2, 6])],
        [weights("w", 20, 6)],
        opset=21,
    )
    out = inserted(proto, "int4", block=8)
    stored = {t.name: t for t in out.graph.initializer}
    assert list(stored["w_scale"].dims) == [3, 6]
    assert stored["w_quantized"].data_type == onnx.TensorProto.INT4


def test_opsets_are_raised_and_metadata_kept() -> None:
    old = mlp()
    old.opset_import[0].version = 13
    entry = old.graph.node[0].metadata_props.add()
    entry.key, entry.value = "k", "v"
    new = upgrade(old, 19)
    assert new.opset_import[0].version == 19
    assert [n.name for n in new.graph.node] == ["mm1", "act", "mm2"]
    assert new.graph.node[0].metadata_props[0].value == "v"
    assert upgrade(old, 12) is old
    ancient = model([node("Upsample", ["x"], ["y"], "up", height_scale=2.0, width_scale=2.0)], [value("x", [1, 1, 4, 4])], [value("y", None)], opset=20, infer=False)  # fmt: skip
    ancient.opset_import[0].version = 1
    with pytest.raises(ModelError, match=r"opset 1\b.*19") as raised:
        upgrade(ancient, 19)
    assert "opset_version=19" in (raised.value.hint or "")


def test_schemes_are_checked() -> None:
    with pytest.raises(ConfigError, match="to"):
        Scheme(to="int2")
    with pytest.raises(ConfigError, match="weigths"):
        Scheme(weigths="channel")
    with pytest.raises(ConfigError, match="FP32 rest"):
        Scheme(placement="onnxruntime")
    assert Scheme(keep="fc*").keep == ("fc*",)
    assert (Scheme().ranging, Scheme(to="fp8").ranging) == ("entropy", "minmax")
    assert "fp16" in Scheme().title


def test_a_module_of_the_program_is_kept_by_its_path() -> None:
    proto = net()
    for i, each in enumerate(proto.graph.node):
        each.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(["", f"layers.{i}.up", "op"]))
    choices = choose(read(proto), "int8", keep=["layers.0.*"])
    assert choices.left == {"conv1": "kept on request"}
    assert [c.node for c in choices.taken] == ["conv2", "fc"]
    assert kept(read(proto), ["layers.2.up", "fc", "f*"]) == ["conv2", "flat", "fc"]  # in the graph's order
    assert kept(read(proto), ()) == []


def test_a_pattern_that_no_node_has_is_refused() -> None:
    for patterns in (["nosuchnode*"], ["fc", "Fc"], [""]):
        with pytest.raises(ModelError, match="No node of this model") as raised:
            choose(read(net()), "int8", keep=patterns)
        assert "conv1, relu1, conv2, add, relu2, pool and 2 more" in str(raised.value.hint)
    assert not choose(read(net()), "int8", keep=["relu*"]).left  # it matches, though nothing there is quantized


@pytest.mark.parametrize("to", ["int8", "fp8", "int4"])
@pytest.mark.parametrize("how", ["channel-after", "channel", "tensor"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_no_scale_fits_is_refused(to: str, how: str, bad: float) -> None:
    made = mlp()
    for initializer in made.graph.initializer:
        array = onnx.numpy_helper.to_array(initializer).copy()
        if array.ndim == 2:
            array.flat[3] = bad
            initializer.CopyFrom(onnx.numpy_helper.from_array(array, initializer.name))
    with pytest.raises(ModelError, match="holds 1 NaN or infinite value: no scale fits it"):
        inserted(made, to, weights=how)


def every_reason() -> onnx.ModelProto:
    """Products that are left, each for another reason, and some with weights that are computed from constants."""
    then = helper.make_graph([node("MatMul", ["x", "w"], ["t"], "inner")], "then", [], [value("t", [4, 4])])
    other = helper.make_graph([node("MatMul", ["x", "x"], ["e"])], "other", [], [value("e", [4, 4])])
    return model(
        [
            node("Transpose", ["w"], ["wt"], "t", perm=[1, 0]), node("MatMul", ["x", "wt"], ["m1"], "tied"),
            node("Identity", ["w"], ["wi"], "i"), node("MatMul", ["x", "wi"], ["m2"], "same"),
            node("Reshape", ["flat", "shape"], ["wr"], "r"), node("Mul", ["wr", "half"], ["wh"], "h"),
            node("Gemm", ["x", "wh"], ["m3"], "scaled"),
            node("MatMul", ["x", "m1"], ["q"], "scores"), node("Softmax", ["q"], ["p"], "soft"), node("MatMul", ["p", "m2"], ["o"], "values"),
            node("MatMul", ["m1", "m2"], ["both"], "both"), node("MatMul", ["w", "x"], ["l"], "left"), node("MatMul", ["w", "wt"], ["c"], "constant"),
            node("RandomNormal", [], ["rn"], "rn", shape=[4, 4]), node("MatMul", ["x", "rn"], ["ra"], "chance"),
            node("Exp", ["w"], ["we"], "exp"), node("MatMul", ["x", "we"], ["ex"], "exponential"), node("Gemm", ["x", "m1"], ["gc"], "computed"),
            node("If", ["which"], ["y"], "if", then_branch=then, else_branch=other), node("Gather", ["w", "ids"], ["g"], "embed"),
        ],
        [value("x", [4, 4]), value("which", [], onnx.TensorProto.BOOL), value("ids", [2], INT64)],
        [value(n, None) for n in ("o", "both", "l", "c", "ra", "ex", "gc", "y", "m3", "g")],
        [weights("w", 4, 4), weights("flat", 16, seed=1), constant("shape", [4, 4], "int64"), constant("half", 0.5)],
    )  # fmt: skip


def test_every_reason_is_true() -> None:
    proto = every_reason()
    choices = choose(read(proto), "int8")
    assert choices.folded == {
        "tied": "Transpose of w", "same": "Identity of w", "scaled": "Mul of Reshape of flat and shape and half",
    }  # fmt: skip
    made = {o: n for n in proto.graph.node for o in n.output}
    constants = {t.name for t in proto.graph.initializer}

    def fixed(name: str) -> bool:
        """Whether a tensor depends on constants alone; worked out on the file itself."""
        if name in constants:
            return True
        maker = made.get(name)
        return maker is not None and maker.op_type != "RandomNormal" and all(map(fixed, maker.input))

    def near_softmax(item: onnx.NodeProto) -> bool:
        readers = [n.op_type for n in proto.graph.node if item.output[0] in n.input]
        return "Softmax" in readers or any(made[i].op_type == "Softmax" for i in item.input if i in made)

    nodes = {n.name: n for n in proto.graph.node}
    bodies = {"inner", "e"}
    assert (
        set(choices.left)
        == {n.name for n in proto.graph.node if n.op_type in {"MatMul", "Gemm"}} - set(choices.folded) | bodies
    )
    for name, reason in choices.left.items():
        if name in bodies:
            assert reason == "it is in a body of If if: bodies are not quantized"
            continue
        data, weight = (fixed(i) for i in nodes[name].input[:2])
        kinds = {
            "both inputs are activations": (not data, not weight, not near_softmax(nodes[name])),
            "both inputs are activations: attention stays one kernel in the precision of the rest": (
                not data, not weight, near_softmax(nodes[name])
            ),
            "its weight is computed, not stored": (not data, not weight, nodes[name].op_type != "MatMul"),
            "its constant is on the left": (data, not weight, True), "its data is constant": (data, weight, True),
        }  # fmt: skip
        if reason.startswith("its weight is computed from constants (Exp of w)"):
            assert (data, weight) == (False, True)
        else:
            assert all(kinds[reason]), (name, reason)


def test_a_folded_weight_is_the_one_that_the_graph_computes() -> None:
    proto = every_reason()
    made = read(proto)
    values = {v.name: v for n in made.graph for v in n.outputs}
    held = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    np.testing.assert_array_equal(folded(values["wt"]).numpy(), held["w"].T)
    np.testing.assert_array_equal(folded(values["wh"]).numpy(), held["flat"].reshape(4, 4) * np.float32(0.5))
    assert folded(values["rn"]) is None
    assert folded(values["m1"]) is None
    work = Insertion(made, choose(made, "int8"), {"x": 3.0}, to="int8")
    work.run()
    assert {k: v["shared"] for k, v in work.again.items()} == {"tied": ["w"], "same": ["w"], "scaled": []}
    left = {n.name for n in made.graph}
    assert {"t", "embed"} <= left  # the product of constants still reads the one
    assert not {"i", "r", "h"} & left
    onnx.checker.check_model(ir.serde.serialize_model(made), full_check=True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_no_scale_comes_of_a_range_that_is_none(bad: float) -> None:
    for ends in (bad, np.array([1.0, bad])):
        with pytest.raises(CalibrationError) as caught:
            scale_of(ends, "int8", "fp16")
        assert caught.value.code == "calibration-range"


def test_the_scheme_is_read_from_the_file(tmp_path: Path) -> None:
    made = mlp()
    assert scheme_in(save(made, tmp_path / "plain.onnx")) is None
    for text, want in (
        ('{"scheme": {"weights": "tensor"}}', {"weights": "tensor"}),
        ("no JSON", None),
        ("[1]", None),
        ('{"scheme": 3}', None),
    ):
        del made.metadata_props[:]
        made.metadata_props.add(key="workbench.quantize", value=text)
        assert scheme_in(save(made, tmp_path / "m.onnx")) == want
