"""FP16 and BF16: the graph is rewritten, builds, and still computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.conftest import SAMPLES, needs_rtx
from tests.models_small import FLOAT, INT64, constant, mlp, model, node, save, value, weights
from workbench import Model, Session
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


def random_inputs(path: Path) -> dict[str, np.ndarray]:
    proto = onnx.load(str(path), load_external_data=False)
    rng = np.random.default_rng(0)
    made = {}
    for item in proto.graph.input:
        kind = item.type.tensor_type
        shape = [d.dim_value or 2 for d in kind.shape.dim]
        if kind.elem_type == FLOAT:
            made[item.name] = rng.standard_normal(shape).astype(np.float32)
        elif kind.elem_type == TensorProto.BOOL:
            made[item.name] = np.ones(shape, dtype=bool)
        else:
            made[item.name] = rng.integers(0, 4, shape)
    return made


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
    made = model([node("Add", ["x", "c"], ["y"], "add")], [value("x", [2])], [value("y", [2])], [constant("c", [7e4, 1])])
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
