"""FP16 and BF16: the graph is rewritten, builds, and still computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support import SAMPLES, needs_rtx
from tests.support.small_models import FLOAT, INT64, constant, mlp, model, node, random_inputs, save, value, weights
from workbench import Model, Session
from workbench.core.errors import ModelError, WorkbenchError
from workbench.precision import cast

NAMES = sorted(p.stem for p in SAMPLES.glob("*.onnx") if p.stem != "unsupported")
LOW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
DTYPE = {"fp16": "float16", "bf16": "bfloat16"}


def run(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def close(a: Path, b: Path, limit: float = 2e-2, **inputs: np.ndarray) -> None:
    inputs = inputs or random_inputs(a)
    for ours, theirs in zip(run(a, **inputs), run(b, **inputs), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        scale = float(np.abs(ours).max()) or 1.0
        assert float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()) / scale < limit


def casted(session: Session, proto: onnx.ModelProto, tmp_path: Path, precision: str = "fp16") -> Model:
    path = save(proto, tmp_path / "m.onnx")
    onnx.checker.check_model(str(path))
    low = cast(Model("m", path), precision, session.store)
    onnx.checker.check_model(str(low.path))
    before, after = onnx.load(str(path)), onnx.load(str(low.path))
    assert [(i.name, i.type.tensor_type.elem_type) for i in (*before.graph.input, *before.graph.output)] == [
        (i.name, i.type.tensor_type.elem_type) for i in (*after.graph.input, *after.graph.output)
    ]
    return low


@needs_rtx
@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("name", NAMES)
def test_samples_build_with_no_fp32_product_left(shared: Session, name: str, precision: str) -> None:
    path = SAMPLES / f"{name}.onnx"
    engine = shared.build(path, compiler="tensorrt_rtx", targets="sm89", precision=precision)
    low = cast(Model(name, path), precision, shared.store)
    before, after = Model(name, path).graph, low.graph
    assert {n.id for n in before.nodes} <= {n.id for n in after.nodes}
    for node_ in before.nodes:
        assert after.by_id[node_.id].op == node_.op
        assert node_.metadata.items() <= after.by_id[node_.id].metadata.items()
    heavy = [la for la in engine.plan.layers if la.kind in {"gemm", "conv", "attention"}]
    quantized = "qdq" in name
    assert heavy or name in {"pointwise_chain", "unfusable"}
    # What ONNX itself does not define in BF16 (Conv before opset 22) stays in FP32, and the report says so.
    left = {"float32", "bfloat16"} if precision == "bf16" and "Conv" in low.origin["kept"] else {DTYPE[precision]}
    for layer in heavy:
        assert layer.inputs[0].dtype in ({"int8"} if quantized else left), layer.name
    assert engine.plan.layers_of
    assert any(la.sources for la in engine.plan.layers)


@pytest.mark.parametrize("name", NAMES)
def test_fp16_computes_the_same(shared: Session, name: str) -> None:
    path = SAMPLES / f"{name}.onnx"
    low = cast(Model(name, path), "fp16", shared.store)
    if name == "unfusable":
        pytest.skip("top-k and prefix sums of close values differ by right in fewer bits")
    close(path, low.path, 5e-2 if "qdq" in name else 2e-2)


def test_a_mask_is_clipped_and_other_constants_beyond_the_range_keep_their_node(
    session: Session, tmp_path: Path
) -> None:
    made = model(
        [node("Where", ["m", "x", "low"], ["w"], "where"), node("Add", ["w", "mask"], ["a"], "add"), node("Softmax", ["a"], ["s"], "soft"),
         node("Add", ["s", "big"], ["b"], "far"), node("Sub", ["b", "big"], ["y"], "back"), node("Mul", ["x", "inf"], ["z"], "mul")],
        [value("x", [3]), value("m", [3], TensorProto.BOOL)], [value("y", [3]), value("z", [3])],
        [constant("low", -3.4e38), constant("mask", [0.0, -3.4e38, -1e9]), constant("big", [1.0, 2.0, 70000.0]), constant("inf", [1.0, 1.0, np.inf])],
    )  # fmt: skip
    low = casted(session, made, tmp_path)
    after = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(low.path)).graph.initializer}
    assert sorted(low.origin["clipped"]) == ["low_fp16", "mask_fp16"]
    assert after["mask_fp16"].tolist() == [0.0, -32752.0, -32752.0]  # half of the range: a score is added to it
    assert after["low_fp16"] == -32752
    assert np.isinf(after["inf_fp16"][2])
    assert low.origin["guarded"] == {"constants": ["far", "back"]}
    assert [(c["constant"], c["value"]) for c in low.origin["changed"]] == [("big", 70000.0)] * 2
    (told,) = low.origin["warnings"]
    assert "big (up to 7e+04, would be inf) in Add far" in told


def test_what_a_list_names_is_cast_and_clipped_all_the_same(session: Session, tmp_path: Path) -> None:
    made = model(
        [node("Add", ["x", "c"], ["y"], "add")], [value("x", [2])], [value("y", [2])], [constant("c", [7e4, 1])]
    )
    path = save(made, tmp_path / "m.onnx")
    low = cast(Model("m", path), "fp16", session.store, only="add")
    assert low.origin["clipped"] == ["c_fp16"]
    assert low.origin["guarded"] == {}


def test_bodies_stay_in_fp32_and_get_what_they_read(session: Session, tmp_path: Path) -> None:
    then = helper.make_graph([node("Add", ["h", "w"], ["t"], "inner")], "t", [], [value("t", [4, 4])])
    other = helper.make_graph([node("Relu", ["h"], ["e"], "inner2")], "e", [], [value("e", [4, 4])])
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("If", ["c"], ["i"], "if", then_branch=then, else_branch=other),
         node("MatMul", ["i", "w"], ["y"], "mm2")],
        [value("x", [4, 4]), value("c", [], TensorProto.BOOL)], [value("y", [4, 4])], [weights("w", 4, 4)],
    )  # fmt: skip
    low = casted(session, made, tmp_path)
    close(tmp_path / "m.onnx", low.path)
    assert low.graph.tensor(low.graph.by_id["mm"].inputs[1]).dtype == "float16"


def test_a_loop(session: Session, tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("Add", ["v", "h"], ["v2"], "add"), node("Identity", ["cond"], ["cond2"], "id")], "body",
        [value("i", [], INT64), value("cond", [], TensorProto.BOOL), value("v", [4, 4])],
        [value("cond2", [], TensorProto.BOOL), value("v2", [4, 4])],
    )  # fmt: skip
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Loop", ["n", "", "h"], ["l"], "loop", body=body), node("Relu", ["l"], ["y"], "r")],
        [value("x", [4, 4])], [value("y", [4, 4])], [weights("w", 4, 4), constant("n", 3, "int64")],
    )  # fmt: skip
    close(tmp_path / "m.onnx", casted(session, made, tmp_path).path)


@needs_rtx
@pytest.mark.parametrize("as_node", [False, True])
def test_resize_keeps_its_scales_exact(session: Session, tmp_path: Path, as_node: bool) -> None:
    scales = constant("s", [1.0, 1.0, 1.3333334, 1.3333334])
    nodes = [node("Conv", ["x", "w"], ["h"], "conv"), node("Resize", ["h", "", "s"], ["y"], "up", mode="nearest")]
    if as_node:
        nodes.insert(0, node("Constant", [], ["s"], "const", value=scales))
    made = model(
        nodes,
        [value("x", [1, 4, 9, 9])],
        [value("y", None)],
        [weights("w", 4, 4, 1, 1), *([] if as_node else [scales])],
    )
    low = casted(session, made, tmp_path)
    close(tmp_path / "m.onnx", low.path)
    assert session.build(tmp_path / "m.onnx", targets="sm89", precision="fp16").plan.layers


@needs_rtx
@pytest.mark.parametrize("precision", LOW)
def test_large_constant_attributes_functions_and_external_data(
    session: Session, tmp_path: Path, precision: str
) -> None:
    big = weights("big", 128, 128)
    function = helper.make_function(
        "own", "F", ["fx"], ["fy"],
        [node("Constant", [], ["fc"], value=weights("fc", 128, 128, seed=2)), node("MatMul", ["fx", "fc"], ["fy"])],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    made = model(
        [node("Constant", [], ["c"], "const", value=big), node("MatMul", ["x", "c"], ["h"], "mm"), node("F", ["h"], ["g"], "call", domain="own"),
         node("MatMul", ["g", "w"], ["y"], "mm2")],
        [value("x", [2, 128])], [value("y", [2, 128])], [weights("w", 128, 128, seed=1)], functions=[function], domains=["own"], infer=False,
    )  # fmt: skip
    low = casted(session, made, tmp_path, precision)
    if precision == "fp16":
        close(tmp_path / "m.onnx", low.path)
    heavy = [
        la
        for la in session.build(tmp_path / "m.onnx", targets="sm89", precision=precision).plan.layers
        if la.kind == "gemm"
    ]
    assert {la.inputs[0].dtype for la in heavy} == {DTYPE[precision]}
    ext = tmp_path / "e.onnx"
    onnx.save(made, str(ext), save_as_external_data=True, location="e.data", size_threshold=0)
    again = cast(Model("e", ext), precision, session.store)
    assert sum(t.ByteSize() for t in onnx.load(str(again.path)).graph.initializer) > 128 * 128 * 2


def test_names_that_the_casts_would_take_are_left_alone(session: Session, tmp_path: Path) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["y_fp16"], "x_to_fp16"), node("Relu", ["y_fp16"], ["x_fp16"], "r"), node("Add", ["x_fp16", "w_fp16"], ["y"], "a")],
        [value("x", [4, 4])], [value("y", [4, 4])], [weights("w", 4, 4), weights("w_fp16", 4, 4, seed=1)],
    )  # fmt: skip
    low = casted(session, made, tmp_path)
    close(tmp_path / "m.onnx", low.path)
    assert {"x_to_fp16", "r", "a"} <= set(low.graph.by_id)


def test_an_output_that_is_also_read_inside_and_one_given_twice(session: Session, tmp_path: Path) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Relu", ["h"], ["y"], "r"), node("Identity", ["w"], ["wo"], "id")],
        [value("x", [4, 4])], [value("h", [4, 4]), value("y", [4, 4]), value("wo", [4, 4])], [weights("w", 4, 4)],
    )  # fmt: skip
    close(tmp_path / "m.onnx", casted(session, made, tmp_path).path)


def test_a_model_without_floats_and_an_input_that_is_an_output(session: Session, tmp_path: Path) -> None:
    made = model([node("Add", ["x", "x"], ["y"], "a")], [value("x", [4], INT64)], [value("y", [4], INT64)])
    close(tmp_path / "m.onnx", casted(session, made, tmp_path).path)


def test_unnamed_nodes_keep_their_ids(session: Session, tmp_path: Path) -> None:
    made = mlp()
    for item in made.graph.node:
        item.name = ""
    low = casted(session, made, tmp_path)
    assert {"h", "r"} <= {n.id for n in low.graph.nodes}
    path = tmp_path / "m.onnx"
    plan = session.build(path, compiler="fake", precision="fp16").plan
    assert {n for la in plan.layers for n in la.nodes} >= {"h", "r", "y"}


# --- types that are kept ------------------------------------------------------------------------------

HALF, DOUBLE, BF16 = TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16


def types(low: Model) -> dict[str, int]:
    """Types of the tensors that the file declares, by name."""
    proto = onnx.load(str(low.path))
    found = {t.name: t.data_type for t in proto.graph.initializer}
    for item in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        found[item.name] = item.type.tensor_type.elem_type
    return found


@pytest.mark.parametrize(
    ("kind", "dtype", "word"), [(HALF, "float16", "FP16"), (DOUBLE, "float64", "DOUBLE"), (BF16, None, "BF16")]
)
@pytest.mark.parametrize("precision", LOW)
def test_a_model_without_fp32_stays_as_it_is_and_that_is_told(
    session: Session, tmp_path: Path, kind: int, dtype: str | None, word: str, precision: str
) -> None:
    data = np.eye(4, dtype=dtype or "float32")
    held = helper.make_tensor("w", kind, [4, 4], data.ravel().tolist()) if dtype is None else constant("w", data, dtype)
    made = model(
        [node("MatMul", ["x", "w"], ["y"], "mm")],
        [value("x", [4, 4], kind)],
        [value("y", [4, 4], kind)],
        [held],
        opset=22,
    )
    low = casted(session, made, tmp_path, precision)
    assert low.origin["casts"] == low.origin["lowered"] == 0
    assert low.origin["warnings"][0].startswith(f"Nothing was cast: none of its tensors is in FP32 (3 in {word}).")
    assert {types(low)[n] for n in "xwy"} == {kind}


def test_islands_of_fp32_in_an_fp16_model_were_meant(session: Session, tmp_path: Path) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["h"], "mm"), node("Cast", ["h"], ["f"], "up", to=FLOAT), node("Tanh", ["f"], ["t"], "tanh"),
         node("Mul", ["t", "k"], ["u"], "times"), node("Cast", ["u"], ["y"], "down", to=HALF)],
        [value("x", [4, 4], HALF)], [value("y", [4, 4], HALF)], [weights("w", 4, 4, dtype="float16"), constant("k", 0.1)],
    )  # fmt: skip
    low = casted(session, made, tmp_path)
    assert low.origin["guarded"] == {"upcast": ["up", "tanh", "times", "down"]}
    assert types(low)["f"] == types(low)["u"] == FLOAT
    with pytest.raises(ModelError, match="nope"):
        cast(Model("m", tmp_path / "m.onnx"), "fp16", session.store, keep="nope")
    kept = cast(
        Model("m", tmp_path / "m.onnx"), "fp16", session.store, keep="mm"
    )  # it is in FP16: that is no reason to cast
    assert types(kept)["h"] == HALF


def test_doubles_in_an_fp32_model(session: Session, tmp_path: Path) -> None:
    made = model(
        [node("Cast", ["x"], ["d"], "wide", to=DOUBLE), node("Mul", ["d", "k"], ["e"], "exact"), node("Cast", ["e"], ["f"], "back", to=FLOAT),
         node("MatMul", ["f", "w"], ["y"], "mm")],
        [value("x", [4, 4])], [value("y", [4, 4])], [constant("k", 0.1, "float64"), weights("w", 4, 4)],
    )  # fmt: skip
    low = casted(session, made, tmp_path)
    close(tmp_path / "m.onnx", low.path)
    assert low.origin["warnings"] == ["3 tensors are in DOUBLE, which a cast to FP16 leaves as it is."]


@pytest.mark.parametrize("keep_io", [True, False])
def test_outputs_of_either_type(session: Session, tmp_path: Path, keep_io: bool) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["y"], "mm"), node("Cast", ["y"], ["half"], "half", to=HALF), node("Softmax", ["y"], ["s"], "soft")],
        [value("x", [4, 4])], [value("y", [4, 4]), value("half", [4, 4], HALF), value("s", [4, 4])], [weights("w", 4, 4)],
    )  # fmt: skip
    path = save(made, tmp_path / "m.onnx")
    low = cast(Model("m", path), "fp16", session.store, keep_io=keep_io, keep_ops="Softmax")
    onnx.checker.check_model(str(low.path), full_check=True)
    wide = FLOAT if keep_io else HALF
    assert [types(low)[n] for n in ("x", "y", "half", "s")] == [wide, wide, HALF, wide]


def test_sequences_and_optionals_keep_their_type(session: Session, tmp_path: Path) -> None:
    made = model(
        [
            node("Relu", ["x"], ["r"], "relu"), node("SequenceConstruct", ["r", "x"], ["seq"], "sequence"), node("SequenceInsert", ["seq", "r"], ["seq2"], "insert"),
            node("Identity", ["seq2"], ["seq3"], "same"), node("SequenceAt", ["seq3", "zero"], ["at"], "at"), node("ConcatFromSequence", ["seq3"], ["all"], "concat", axis=0),
            node("SplitToSequence", ["all"], ["parts"], "split", axis=0), node("SequenceLength", ["parts"], ["n"], "length"), node("Optional", ["at"], ["o"], "optional"),
            node("OptionalGetElement", ["o"], ["got"], "get"), node("Add", ["got", "x"], ["y"], "add"),
        ],
        [value("x", [2, 4])], [value("y", None), value("n", [], INT64)], [constant("zero", 0, "int64")],
    )  # fmt: skip
    low = casted(session, made, tmp_path)
    close(tmp_path / "m.onnx", low.path)
    assert low.origin["lowered"] >= 2


def test_a_sequence_that_comes_in_and_goes_out(session: Session, tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("seq", FLOAT, [2])
    out = helper.make_tensor_sequence_value_info("out", FLOAT, None)
    made = model([node("SequenceAt", ["seq", "i"], ["a"], "at"), node("Tanh", ["a"], ["b"], "tanh"), node("SequenceInsert", ["seq", "b"], ["out"], "insert")],
                 [sequence, value("i", [], INT64)], [out])  # fmt: skip
    low = cast(Model("m", save(made, tmp_path / "m.onnx")), "fp16", session.store)
    proto = onnx.load(str(low.path))
    onnx.checker.check_model(proto, full_check=True)
    assert proto.graph.output[0].type.sequence_type.elem_type.tensor_type.elem_type == FLOAT
    items = [np.ones(2, np.float32), np.zeros(2, np.float32)]
    [got] = run(low.path, seq=items, i=np.array(0))
    assert np.allclose(got[2], np.tanh(1), atol=1e-3)


@pytest.mark.parametrize("linear", [True, False])
def test_sparse_weights(session: Session, tmp_path: Path, linear: bool) -> None:
    made = model([node("MatMul", ["x", "w"], ["y"], "mm")], [value("x", [2, 4])], [value("y", [2, 3])], infer=False)
    places = [1, 5, 11] if linear else [[0, 1], [1, 2], [3, 2]]
    indices = constant("w_indices", places, "int64")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(constant("w", [1.0, 2.0, 3.0]), indices, [4, 3]))
    low = cast(Model("m", save(made, tmp_path / "m.onnx")), "fp16", session.store)
    onnx.checker.check_model(str(low.path), full_check=True)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    dense = np.zeros((4, 3), np.float32)
    dense[[0, 1, 3], [1, 2, 2]] = [1, 2, 3]
    np.testing.assert_allclose(run(low.path, x=x)[0], x @ dense, rtol=1e-3)


def test_a_sparse_weight_that_does_not_fit_or_is_too_large_is_refused(session: Session, tmp_path: Path) -> None:
    for places, dims, code in (([999], [4, 3], "bad-sparse"), ([0], [1 << 20, 1 << 20], "limit-reader-bytes")):
        made = model(
            [node("MatMul", ["x", "w"], ["y"], "mm")], [value("x", [2, dims[0]])], [value("y", None)], infer=False
        )
        made.graph.sparse_initializer.append(
            helper.make_sparse_tensor(constant("w", [1.0]), constant("i", places, "int64"), dims)
        )
        with pytest.raises(WorkbenchError) as caught:
            cast(Model("m", save(made, tmp_path / "m.onnx")), "fp16", session.store)
        assert caught.value.code == code


# --- operations that give FP32 by default, or by an attribute -----------------------------------------

FOUR = constant("four", [4], "int64")
GIVERS: dict[str, tuple[list[onnx.NodeProto], list[onnx.TensorProto], bool]] = {
    # what makes "g" (4 numbers, or 4 x 4), its constants, and whether ONNX Runtime can tell that it is the same
    "ConstantOfShape without a value": ([node("ConstantOfShape", ["four"], ["g"], "g")], [FOUR], True),
    "ConstantOfShape": ([node("ConstantOfShape", ["four"], ["g"], "g", value=constant("v", [0.3]))], [FOUR], True),
    "ConstantOfShape of a mask": ([node("ConstantOfShape", ["four"], ["g"], "g", value=constant("v", [-3.4e38]))], [FOUR], False),
    "RandomNormal": ([node("RandomNormal", [], ["g"], "g", shape=[4], seed=1.0)], [], False),
    "RandomUniform as FP32": ([node("RandomUniform", [], ["g"], "g", shape=[4], dtype=FLOAT)], [], False),
    "RandomNormalLike": ([node("RandomNormalLike", ["x"], ["g"], "g")], [], False),
    "RandomUniformLike of integers": ([node("RandomUniformLike", ["n"], ["g"], "g", dtype=FLOAT)], [], False),
    "Bernoulli": ([node("Sigmoid", ["x"], ["p"], "p"), node("Bernoulli", ["p"], ["g"], "g")], [], False),
    "EyeLike": ([node("EyeLike", ["square"], ["g"], "g")], [weights("square", 4, 4)], True),
    "EyeLike of integers": ([node("EyeLike", ["square"], ["g"], "g", dtype=FLOAT)], [constant("square", np.zeros((4, 4)), "int64")], False),
    "Range": ([node("Range", ["zero", "limit", "one"], ["g"], "g")], [constant("zero", 0.0), constant("limit", 4.0), constant("one", 1.0)], True),
    "OneHot": ([node("OneHot", ["at", "depth", "values"], ["g"], "g")], [constant("at", [0, 2, 1, 3], "int64"), constant("depth", 4, "int64"), constant("values", [0.1, 0.9])], True),
    "Cast of booleans": ([node("Greater", ["x", "half"], ["b"], "b"), node("Cast", ["b"], ["g"], "g", to=FLOAT)], [constant("half", 0.5)], True),
    "Cast of integers": ([node("Cast", ["n"], ["g"], "g", to=FLOAT)], [], True),
    "CastLike": ([node("CastLike", ["n", "x"], ["g"], "g")], [], True),
    "Constant of a float": ([node("Constant", [], ["g"], "g", value_float=0.3)], [], True),
    "Constant of floats": ([node("Constant", [], ["g"], "g", value_floats=[0.1, 0.2, 0.3, 0.4])], [], True),
    "Constant, sparse": ([node("Constant", [], ["g"], "g", sparse_value=helper.make_sparse_tensor(constant("sv", [0.5]), constant("si", [2], "int64"), [4]))], [], True),
    "HannWindow": ([node("HannWindow", ["size"], ["g"], "g")], [constant("size", 4, "int64")], False),
    "BlackmanWindow as FP32": ([node("BlackmanWindow", ["size"], ["g"], "g", output_datatype=FLOAT)], [constant("size", 4, "int64")], False),
    "MelWeightMatrix": ([node("MelWeightMatrix", ["bins", "size", "rate", "low", "high"], ["m"], "m"), node("ReduceMax", ["m"], ["g"], "g", keepdims=0)],
                        [constant("bins", 4, "int64"), constant("size", 16, "int64"), constant("rate", 8000, "int64"), constant("low", 0.0), constant("high", 4000.0)], False),
    "Dropout": ([node("Dropout", ["x", "ratio"], ["g", "mask"], "g")], [constant("ratio", 0.4)], True),
    "DequantizeLinear": ([node("DequantizeLinear", ["q", "s"], ["g"], "g")], [constant("q", [1, 2, 3, 4], "int8"), constant("s", 0.1)], True),
    "QuantizeLinear and back": ([node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"), node("DequantizeLinear", ["q", "s", "z"], ["g"], "g")], [constant("s", 0.1), constant("z", 0, "int8")], True),
    "DynamicQuantizeLinear": ([node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "q"), node("DequantizeLinear", ["q", "s", "z"], ["g"], "g")], [], True),
    "LayerNormalization with its statistics": ([node("LayerNormalization", ["x", "lg"], ["ln", "mean", "inv"], "ln"), node("Mul", ["ln", "inv"], ["g"], "g")], [constant("lg", np.ones(4))], True),
    "TopK": ([node("TopK", ["x", "four"], ["g", "at"], "g")], [FOUR], True),
    "Compress": ([node("Relu", ["x"], ["r"], "r"), node("Compress", ["r", "which"], ["g"], "g")], [constant("which", np.ones(4), "bool")], True),
    "Unique": ([node("Unique", ["x"], ["g"], "g")], [], True),
    "Resize by sizes": ([node("Unsqueeze", ["x", "ax"], ["u"], "u"), node("Resize", ["u", "", "sc"], ["rs"], "rs", mode="nearest"), node("Squeeze", ["rs", "ax"], ["g"], "g")],
                        [constant("ax", [0, 1], "int64"), constant("sc", [1.0, 1.0, 1.0])], True),
}  # fmt: skip


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("what", GIVERS)
def test_what_gives_fp32_by_default_or_by_an_attribute(
    session: Session, tmp_path: Path, what: str, precision: str
) -> None:
    nodes, held, same = GIVERS[what]
    made = model([*nodes, node("Add", ["x", "g"], ["a"], "a"), node("Softmax" if "mask" in what else "Sigmoid", ["a"], ["y"], "end")],
                 [value("x", [4]), value("n", [4], INT64)], [value("y", None)], held)  # fmt: skip
    del made.graph.value_info[:]  # the cast finds them itself
    low = casted(session, made, tmp_path, precision)
    onnx.checker.check_model(str(low.path), full_check=True)
    assert low.origin["lowered"] >= 1
    if same and precision == "fp16":
        rng = np.random.default_rng(2)
        close(tmp_path / "m.onnx", low.path, x=rng.standard_normal(4).astype(np.float32), n=np.arange(4))


def test_batch_normalization_in_training(session: Session, tmp_path: Path) -> None:
    made = model(
        [node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y", "mean", "var"], "bn", training_mode=1)], [value("x", [2, 3, 4])],
        [value("y", None), value("mean", None), value("var", None)], [constant("g", np.ones(3)), constant("b", np.zeros(3)), constant("m", np.zeros(3)), constant("v", np.ones(3))],
    )  # fmt: skip
    low = casted(session, made, tmp_path)
    assert {types(low)[n] for n in ("y", "mean", "var")} == {FLOAT}


def test_old_upsample_and_its_scales(session: Session, tmp_path: Path) -> None:
    made = model([node("Relu", ["x"], ["r"], "r"), node("Upsample", ["r", "s"], ["y"], "up")], [value("x", [1, 2, 3, 3])], [value("y", None)],
                 [constant("s", [1.0, 1.0, 2.0, 2.0])], opset=9)  # fmt: skip
    made.ir_version = 4
    low = casted(session, made, tmp_path)
    close(tmp_path / "m.onnx", low.path)


def test_what_an_operation_of_another_library_gives_has_a_type_all_the_same(session: Session, tmp_path: Path) -> None:
    """Inference knows nothing behind it; the other input of the addition says that it is FP32."""
    made = model(
        [node("Relu", ["x"], ["r"], "r"), node("Own", ["r"], ["o"], "own", domain="mine"), node("Add", ["o", "w"], ["a"], "add"), node("Tanh", ["a"], ["y"], "tanh"),
         node("Own", ["y"], ["p"], "own2", domain="mine"), node("Sigmoid", ["p"], ["q"], "sigmoid"), node("Cast", ["q"], ["z"], "int", to=INT64)],
        [value("x", [4])], [value("y", [4]), value("z", [4], INT64)], [weights("w", 4)], domains=["mine"], infer=False,
    )  # fmt: skip
    low = cast(Model("m", save(made, tmp_path / "m.onnx")), "fp16", session.store)
    onnx.checker.check_model(str(low.path))
    proto = onnx.load(str(low.path))
    reads = {n.name: list(n.input) for n in proto.graph.node}
    assert reads["own"] == ["r_fp32"]  # FP32 as it was
    assert reads["add"] == ["o_fp16", "w_fp16"]


def test_bodies_read_constants_and_inputs_of_the_outer_graph_in_fp32(session: Session, tmp_path: Path) -> None:
    inner = helper.make_graph([node("Add", ["k", "x"], ["i"], "inner")], "inner", [], [value("i", [4])])
    inner2 = helper.make_graph([node("Mul", ["k", "h"], ["i2"], "inner2")], "inner2", [], [value("i2", [4])])
    then = helper.make_graph(
        [node("If", ["c"], ["t"], "nested", then_branch=inner, else_branch=inner2)], "then", [], [value("t", [4])]
    )
    other = helper.make_graph([node("Sub", ["h", "w"], ["e"], "outer")], "other", [], [value("e", [4])])
    made = model(
        [node("Constant", [], ["k"], "k", value_floats=[0.1, 0.2, 0.3, 0.4]), node("Mul", ["x", "k"], ["h"], "h"),
         node("If", ["c"], ["y"], "if", then_branch=then, else_branch=other), node("Add", ["h", "w"], ["z"], "z")],
        [value("x", [4]), value("c", [], TensorProto.BOOL)], [value("y", [4]), value("z", [4])], [weights("w", 4)],
    )  # fmt: skip
    low = casted(session, made, tmp_path)
    x = np.arange(4, dtype=np.float32)
    for c in (True, False):
        close(tmp_path / "m.onnx", low.path, x=x, c=np.array(c))


def test_what_was_written_wrong_is_not_kept(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from workbench.core.worker import Reporter
    from workbench.passes.cast import cast_task
    from workbench.passes.casting import Casting

    path = save(mlp(), tmp_path / "m.onnx")
    keep = Casting._version

    def careless(self: Casting, item: object, dtype: object, before: object) -> object:
        return item if getattr(before, "op_type", "") == "MatMul" else keep(self, item, dtype, before)  # type: ignore[arg-type]

    monkeypatch.setattr(Casting, "_version", careless)
    with pytest.raises(ModelError) as caught:
        cast_task(Reporter(io.BytesIO()), path=str(path), precision="fp16", folder=str(tmp_path))
    assert caught.value.code == "invalid-result"


@pytest.mark.parametrize("scale", [0.0, -0.1, float("nan"), float("inf")])
def test_no_scale_that_is_no_positive_number_gets_into_a_model(tmp_path: Path, scale: float) -> None:
    import io

    from workbench.core.worker import Reporter
    from workbench.passes.result import check_written

    def made(s: float) -> onnx.ModelProto:
        return model([node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"), node("DequantizeLinear", ["q", "s", "z"], ["y"], "dq")],
                     [value("x", [4])], [value("y", [4])], [constant("s", s), constant("z", 0, "int8")])  # fmt: skip

    good, bad = save(made(0.1), tmp_path / "good.onnx"), save(made(scale), tmp_path / "bad.onnx")
    quiet = Reporter(io.BytesIO())
    check_written(good, None, quiet)
    check_written(bad, bad, quiet)  # it came that way
    with pytest.raises(ModelError) as caught:
        check_written(bad, good, quiet)
    assert caught.value.code == "bad-scale"


@pytest.mark.parametrize("work", ["cast", "quantize"])
def test_an_equation_that_libraries_never_finish_is_refused(session: Session, tmp_path: Path, work: str) -> None:
    node = helper.make_node("Einsum", ["x", "x"], ["y"], equation="abc,abc-", name="e")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4])
    graph = helper.make_graph([node], "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    model = session.add(path)
    with pytest.raises(ModelError) as info:
        if work == "cast":
            session.precision.cast(model, "fp16")
        else:
            session.precision.quantize(model, "random:8")
    assert info.value.code == "bad-equation"
    assert info.value.details["nodes"] == ["e"]


def test_a_build_shows_what_its_cast_warns_of(session: Session, tmp_path: Path) -> None:
    made = model(
        [node("Mul", ["x", "tiny"], ["m"], "mul"), node("Add", ["m", "x"], ["y"], "add")],
        [value("x", [4, 8])], [value("y", [4, 8])], [constant("tiny", 3e-9)],
    )  # fmt: skip
    engine = session.build(save(made, tmp_path / "m.onnx"), precision="fp16", compiler="fake")
    assert any("tiny" in text for text in engine.plan.problems)
    assert any("tiny" in text for text in session.panel("fusions")._facts.value.splitlines())
    again = session.build(str(tmp_path / "m.onnx"), precision="fp16", compiler="fake")
    assert again.cached
    assert again.plan.problems == engine.plan.problems
