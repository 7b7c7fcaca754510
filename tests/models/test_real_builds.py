"""Real builds: odd names, shapes, samples, the onnx package's models, and transformers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.contract.test_compilers import check
from tests.support import HAS_TORCH, SAMPLES, needs_rtx
from tests.support.small_models import chain, constant, model, node, save, value, weights
from workbench import Plan, Session
from workbench.core.errors import BuildError, CancelledError, ConfigError, ModelError, WorkerCrashedError
from workbench.model import samples

pytestmark = needs_rtx
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("light_*.onnx"))
SM89 = {"compiler": "tensorrt_rtx", "targets": "sm89"}


def claimed(plan: Plan) -> set[str]:
    return {n for layer in plan.layers for n in layer.nodes}


ODD = {
    "empty": ["", "", "", ""],
    "duplicate": ["same", "same", "same", "other"],
    "punctuation": ["a, b", "x[0]", "{n}", "], Outputs: ["],
    "unicode": ["sprød", "層", "🙂", "ü ö"],
    "control": ["a\tb", "c\nd", "\x1e", "e\x1ff"],
    "spaces": [" lead", "trail ", "in side", "  "],
    "shadow": ["Sigmoid_2", "t1", "", "Relu_1"],
    "long": ["A" * 4000, "B" * 4000, "layer/" * 2000, "C"],
    "metadata": ["[ONNX Layer: x]", "Name: n, LayerType: t", "a]\x1e[ONNX Layer: b", "^"],
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_node_names(session: Session, tmp_path: Path, kind: str, validate) -> None:
    path = save(chain(ODD[kind]), tmp_path / "odd.onnx")
    engine = session.build(path, **SM89)
    check(engine.plan, engine.folder, validate)
    ids = {n.id for n in session.models["odd"].graph.nodes}
    assert len(ids) == 5
    assert claimed(engine.plan) == ids


def test_odd_names_of_tensors_files_and_models(session: Session, tmp_path: Path) -> None:
    made = model(
        [node("MatMul", ["in, put]", "w x"], ["h[0]: {"], "mm"), node("Softmax", ["h[0]: {"], ["größe"], "sm")],
        [value("in, put]", [4, 64])], [value("größe", [4, 64])], [weights("w x", 64, 64)],
    )  # fmt: skip
    engine = session.build(save(made, tmp_path / "my modél, v1.onnx"), **SM89)
    assert claimed(engine.plan) == {"mm", "sm"}
    assert engine.plan.model["name"] == "my modél, v1"
    assert {entry["name"] for entry in engine.plan.io} == {"in, put]", "größe"}


def test_an_error_speaks_of_the_models_own_names(session: Session, tmp_path: Path) -> None:
    made = chain(["a, b", "", "ü"])
    made.graph.node.insert(2, node("Det", ["t1"], ["d"], "the [Det], node"))
    made.graph.node[3].input[0] = "d"
    with pytest.raises(BuildError, match=r"the \[Det\], node"):
        session.build(save(made, tmp_path / "m.onnx"), **SM89)


def test_large_weights_in_a_renamed_copy_are_found(session: Session, tmp_path: Path) -> None:
    made = chain(["", ""])
    made.graph.initializer[0].CopyFrom(weights("w", 8, 8))
    big = model(
        [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])], [value("x", [4, 256])], [value("y", [4, 256])],
        [weights("w", 256, 256)],
    )  # fmt: skip
    inside = session.build(save(big, tmp_path / "inside.onnx"), **SM89)
    (tmp_path / "ext" / "data").mkdir(parents=True)
    onnx.save(
        big, str(tmp_path / "ext" / "m.onnx"), save_as_external_data=True, location="data/m.bin", size_threshold=0
    )
    outside = session.build(tmp_path / "ext" / "m.onnx", **SM89)
    for engine in (inside, outside):
        assert claimed(engine.plan) == {"h", "y"}
        assert engine.plan.summary["weight_bytes"] >= 256 * 256 * 4
        assert engine.bytes > 256 * 256 * 4


def test_q_k_and_v_become_one_product(shared: Session) -> None:
    plan = shared.build(SAMPLES / "attention.onnx", **SM89).plan
    merged = [group for layer in plan.layers for group in layer.merged]
    assert [len(g) for g in merged] == [3]
    assert plan.summary["merged"] == 1
    assert plan.summary["launches_after"] == 9


@pytest.mark.parametrize(("name", "batch"), [("conv_bn_relu", "16x32x32"), ("linear_bias_gelu", "128x64")])
def test_bytes_are_known_at_the_opt_shape(shared: Session, tmp_path: Path, name: str, batch: str) -> None:
    made = onnx.load(str(SAMPLES / f"{name}.onnx"))
    for item in (*made.graph.input, *made.graph.output):
        item.type.tensor_type.shape.dim[0].dim_param = "batch"
    del made.graph.value_info[:]
    path = save(made, tmp_path / f"{name}_dynamic.onnx")
    engine = shared.build(path, shapes={"x": f"1x{batch}:4x{batch}:8x{batch}"}, **SM89)
    s = engine.plan.summary
    assert s["bytes_unknown"] == s["flops_unknown"] == 0
    static = shared.build(SAMPLES / f"{name}.onnx", **SM89).plan.summary
    assert s["flops"] == 4 * static["flops"]
    assert any(
        t.dynamic and t.shape and t.shape[0] == 4 for la in engine.plan.layers for t in (*la.inputs, *la.outputs)
    )
    fixed = shared.build(path, shapes={"x": f"4x{batch}"}, **SM89).plan.summary
    assert fixed["bytes_before"] == s["bytes_before"]


def test_two_profiles(session: Session, tmp_path: Path) -> None:
    from tests.support.small_models import mlp
    from workbench import BuildConfig, ShapeProfile

    path = save(mlp("n"), tmp_path / "m.onnx")
    profiles = tuple(ShapeProfile.parse([t]) for t in ("x=1x8:1x8:4x8", "x=8x8:16x8:32x8"))
    plan = session.build(path, BuildConfig(**SM89, profiles=profiles)).plan
    assert [p["opt"] for p in plan.io[0]["profiles"]] == [[1, 8], [16, 8]]


def test_options_that_rtx_offers_and_lacks(session: Session) -> None:
    path = SAMPLES / "layernorm_mlp.onnx"
    keys = {session.build(path, **SM89, **o).key for o in (
        {}, {"tf32": False}, {"workspace": 1 << 28}, {"optimization_level": 1}, {"max_aux_streams": 0}, {"sparse_weights": True})}  # fmt: skip
    assert len(keys) == 6
    assert session.build(path, compiler="tensorrt_rtx", targets="sm86+sm89").plan.compiler["target"] == "sm86+sm89"
    with pytest.raises(ConfigError, match="NONSENSE"):
        session.build(path, **SM89, flags=("nonsense",))
    with pytest.raises(ConfigError, match="build_route"):
        session.build(path, **SM89, build_route="x")


def test_control_flow_and_functions(session: Session, tmp_path: Path, validate) -> None:
    then = helper.make_graph([node("Relu", ["x"], ["a"], "in")], "t", [], [value("a", [4, 8])])
    other = helper.make_graph([node("Exp", ["x"], ["b"], "in2")], "e", [], [value("b", [4, 8])])
    made = model(
        [node("If", ["c"], ["i"], "if", then_branch=then, else_branch=other), node("MatMul", ["i", "w"], ["y"], "mm")],
        [value("c", [], TensorProto.BOOL), value("x", [4, 8])], [value("y", [4, 8])], [weights("w", 8, 8)],
    )  # fmt: skip
    engine = session.build(save(made, tmp_path / "if.onnx"), **SM89)
    check(engine.plan, engine.folder, validate)
    assert claimed(engine.plan) == {"if", "in", "in2", "mm"}
    assert engine.plan.unclaimed == ()
    assert {la.branch for la in engine.plan.layers if la.launches} == {("if: then",), ("if: else",), ()}
    s = engine.plan.summary
    assert (s["launches_after"], s["other_branches"], s["kinds"]["control"]) == (2, 1, 5)
    function = helper.make_function(
        "own", "F", ["fx"], ["fy"], [node("Relu", ["fx"], ["fr"], "fn"), node("Exp", ["fr"], ["fy"], "fe")],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    made = model(
        [node("F", ["x"], ["h"], "call", domain="own"), node("MatMul", ["h", "w"], ["y"], "mm")], [value("x", [4, 8])],
        [value("y", [4, 8])], [weights("w", 8, 8)], functions=[function], domains=["own"],
    )  # fmt: skip
    engine = session.build(save(made, tmp_path / "fn.onnx"), **SM89)
    check(engine.plan, engine.folder, validate)
    assert claimed(engine.plan) == {"call/fn", "call/fe", "mm"}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_function_called_twice_has_its_nodes_twice(
    session: Session, tmp_path: Path, precision: str, validate
) -> None:
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    slope = node("LeakyRelu", ["A"], ["B"], "leaky")
    slope.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    inner = helper.make_function("own", "Act", ["A"], ["B"], [slope], opset)
    inner.attribute_proto.append(helper.make_attribute("slope", 0.25))
    outer = helper.make_function(
        "own", "Linear", ["X", "W"], ["Y"],
        [node("MatMul", ["X", "W"], ["m"], "mm"), node("Act", ["m"], ["Y"], "act", domain="own")], opset,
    )  # fmt: skip
    made = model(
        [node("Linear", ["x", "w"], ["h"], "one", domain="own"), node("Linear", ["h", "w"], ["y"], "two", domain="own")],
        [value("x", [8, 64])], [value("y", [8, 64])], [weights("w", 64, 64)], functions=[inner, outer], domains=["own"], infer=False,
    )  # fmt: skip
    engine = session.build(save(made, tmp_path / "fn.onnx"), **SM89, precision=precision)
    check(engine.plan, engine.folder, validate)
    names = {f"{call}/{n}" for call in ("one", "two") for n in ("mm", "act/leaky")}
    assert names <= claimed(engine.plan)
    products = sum(layer.flops or 0 for layer in engine.plan.layers if any(n.endswith("/mm") for n in layer.nodes))
    assert products >= 2 * (2 * 8 * 64 * 64)


def test_nodes_out_of_order_and_names_that_are_not_utf8(session: Session, tmp_path: Path) -> None:
    made = chain(["relu", "sigmoid", "tanh"])
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    engine = session.build(save(made, tmp_path / "order.onnx"), **SM89)
    assert claimed(engine.plan) == {"mm", "relu", "sigmoid", "tanh"}
    assert "order" in engine.plan.facts["model_problems"][0]
    data = (
        chain(["relu", "NODE", "tanh"])
        .SerializeToString()
        .replace(b"NODE", b"\xc4\xe3\xba\xff")
        .replace(b"\x02t1", b"\x02\xc4\xe3")
    )
    (tmp_path / "bytes.onnx").write_bytes(data)
    engine = session.build(tmp_path / "bytes.onnx", **SM89)
    assert claimed(engine.plan) == {"mm", "relu", r"\xc4\xe3\xba\xff", "tanh"}


@pytest.mark.parametrize("turns", [None, 4])
def test_a_loop(session: Session, tmp_path: Path, turns: int | None, validate) -> None:
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"], "keep"), node("MatMul", ["s", "w"], ["m"], "mul"), node("Tanh", ["m"], ["n"], "act")],
        "b", [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("s", [4, 8])], [value("on", [], TensorProto.BOOL), value("n", [4, 8])],
    )  # fmt: skip
    count = [] if turns is None else [constant("n_turns", turns, "int64")]
    given = [value("n_turns", [], TensorProto.INT64)] if turns is None else []
    made = model([node("Loop", ["n_turns", "true", "x"], ["y"], "loop", body=body)], [value("x", [4, 8]), *given], [value("y", [4, 8])],
                 [weights("w", 8, 8), constant("true", True, "bool"), *count])  # fmt: skip
    plan = session.build(save(made, tmp_path / "loop.onnx"), **SM89).plan
    assert {"mul", "act"} <= claimed(plan)
    products = [la for la in plan.layers if la.kind == "gemm"]
    assert products
    assert all("mul" in la.nodes for la in products)
    assert all(la.kind == "control" for la in plan.layers if "hc_init" in la.name or la.type == "cjmp")
    # Either its turns are laid out, or what runs at each turn says so.
    assert all(la.repeated for la in products) or len(products) == turns


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrences(session: Session, tmp_path: Path, op: str, direction: str, validate) -> None:
    gates, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 2 if direction == "bidirectional" else 1
    made = model(
        [node(op, ["x", "w1", "r1", "b"], ["y1"], "one", hidden_size=32, direction=direction), node("Transpose", ["y1"], ["t"], "turn", perm=[0, 2, 1, 3]),
         node("Reshape", ["t", "s"], ["f"], "flat"), node(op, ["f", "w2", "r2"], ["y"], "two", hidden_size=32, direction=direction)],
        [value("x", [4, 2, 16])], [value("y", None)],
        [weights("w1", ways, gates * 32, 16), weights("r1", ways, gates * 32, 32), weights("b", ways, 2 * gates * 32),
         weights("w2", ways, gates * 32, 32 * ways), weights("r2", ways, gates * 32, 32), constant("s", [4, 2, 32 * ways], "int64")],
    )  # fmt: skip
    engine = session.build(save(made, tmp_path / "m.onnx"), **SM89)
    plan = engine.plan
    check(plan, engine.folder, validate)
    accounted(plan, op)
    products = [la for la in plan.layers if la.kind == "gemm"]
    assert {n for la in products for n in la.nodes} >= {"one", "two"}
    assert all(la.flops for la in products)
    assert not any("unroll" in la.name and not la.nodes for la in plan.layers)
    assert sum(la.flops or 0 for la in plan.layers) == plan.summary["flops"]
    assert all(not la.flops for la in plan.layers if la.kind == "reduction")  # sums of biases


def test_an_operation_that_only_a_name_tells(session: Session, tmp_path: Path, validate) -> None:
    made = chain(["elu"], ("Elu",))
    engine = session.build(save(made, tmp_path / "m.onnx"), **SM89)
    check(engine.plan, engine.folder, validate)
    assert engine.plan.unclaimed == ()
    assert engine.plan.layers[0].inferred == ("elu",)


def test_an_image_of_open_size_is_counted_whole(session: Session, tmp_path: Path, validate) -> None:
    made = model(
        [node("Conv", ["x", "w1"], ["c1"], "stem", pads=[1] * 4, strides=[2, 2]), node("Conv", ["c1", "w2"], ["p5"], "down", pads=[1] * 4, strides=[2, 2]),
         node("Shape", ["c1"], ["sh"], "sh"), node("Slice", ["sh", "i2", "i4"], ["hw"], "hw"), node("Shape", ["p5"], ["sh5"], "sh5"),
         node("Slice", ["sh5", "i0", "i2"], ["nc"], "nc"), node("Concat", ["nc", "hw"], ["sz"], "cat", axis=0),
         node("Resize", ["p5", "", "", "sz"], ["up"], "resize"), node("Concat", ["up", "c1"], ["cc"], "fpn", axis=1),
         node("Conv", ["cc", "w3"], ["p4"], "lateral"), node("GlobalAveragePool", ["p5"], ["g"], "gap")],
        [value("x", ["b", 3, "h", "w"])], [value("p4", ["b", 8, "h2", "w2"]), value("g", ["b", 16, 1, 1])],
        [weights("w1", 8, 3, 3, 3), weights("w2", 16, 8, 3, 3), weights("w3", 8, 24, 1, 1), constant("i0", [0], "int64"),
         constant("i2", [2], "int64"), constant("i4", [4], "int64")],
    )  # fmt: skip
    path = save(made, tmp_path / "m.onnx")
    for precision in ("fp32", "fp16"):
        engine = session.build(path, precision=precision, shapes={"x": "1x3x32x32:2x3x64x96:8x3x128x128"}, **SM89)
        check(engine.plan, engine.folder, validate)
        assert engine.plan.summary["bytes_unknown"] == 0
        down = next(la for la in engine.plan.layers if "down" in la.nodes and la.kind == "conv")
        assert down.outputs[0].shape == (2, 16, 16, 24)


def test_cached_builds_need_no_worker(shared: Session) -> None:
    shared.build(SAMPLES / "attention.onnx", **SM89)
    build = shared.engines.start(SAMPLES / "attention.onnx", **SM89)
    engine = build.result()
    assert engine.cached
    assert engine.seconds["total"] > 0


@pytest.mark.serial
@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_a_real_build_ended_in_the_middle(session: Session, how: str) -> None:
    build = session.engines.start(next(p for p in LIGHT if "densenet" in p.stem), **SM89)
    end = time.monotonic() + 30
    while not any(p.phase != "Parsing" for p in build.progress) and time.monotonic() < end:
        time.sleep(0.01)
    pid = build.pid
    assert pid is not None
    assert build.status == "running"
    begin = time.monotonic()
    if how == "cancel":
        build.cancel()
    else:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(CancelledError if how == "cancel" else WorkerCrashedError):
        build.result(20)
    assert time.monotonic() - begin < 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not session.engines
    assert not session.build(SAMPLES / "pointwise_chain.onnx", **SM89).cached


# Nodes that RTX does not account for, by model, with what they are. Anything not in it fails the test.
UNKNOWN: dict[str, str] = {}


def accounted(plan: Plan, name: str) -> None:
    unknown = [u.node for u in plan.unclaimed if u.reason == "unknown"]
    assert len(unknown) == 0 or name in UNKNOWN, unknown[:10]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("path", LIGHT, ids=lambda p: p.stem)
def test_light_models_of_the_onnx_package(shared: Session, path: Path, precision: str, validate) -> None:
    engine = shared.build(path, precision=precision, **SM89)
    check(engine.plan, engine.folder, validate)
    accounted(engine.plan, path.stem)
    assert engine.plan.summary["bytes_unknown"] == 0


def test_there_are_nine_light_models() -> None:
    assert len(LIGHT) == 9


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [n for n, e in samples().items() if not e["committed_onnx"]])
def test_reference_models(shared: Session, name: str, precision: str, validate) -> None:
    engine = shared.build(name, precision=precision, **SM89)
    check(engine.plan, engine.folder, validate)
    accounted(engine.plan, name)
    s = engine.plan.summary
    assert s["bytes_unknown"] == s["flops_unknown"] == 0
    assert s["launches_after"] < s["launches_before"]
    own = {n.id for n in shared.models[name].graph.nodes}  # casts for FP16 are no line's
    assert all(la.sources for la in engine.plan.layers if own & {*la.nodes})
    if name == "resnet50":
        assert s["flops"] == pytest.approx(8.2e9, rel=0.01)
        assert s["flops"] == sum(la.flops for la in engine.plan.layers)
        products = [la for la in engine.plan.layers if la.title.endswith(" as a matrix product")]
        assert s["kinds"]["conv"] + len(products) == 53
        assert bool(products) == (precision == "fp16")
        assert {la.kind for la in products} <= {"gemm"}


def transformer(kind: str):
    import torch
    import transformers as tf

    torch.manual_seed(0)
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    ids = {"input_ids": torch.arange(32).reshape(2, 16)}
    image = {"pixel_values": torch.randn(1, 3, 64, 64)}
    if kind == "bert":
        return tf.BertModel(tf.BertConfig(**small, vocab_size=100)), ids
    if kind == "llama":
        return tf.LlamaModel(tf.LlamaConfig(**small, num_key_value_heads=1, vocab_size=100, use_cache=False)), ids
    if kind == "gpt2":
        config = tf.GPT2Config(n_embd=64, n_layer=2, n_head=2, vocab_size=100, use_cache=False)
        return tf.GPT2Model(config), ids
    if kind == "vit":
        return tf.ViTModel(tf.ViTConfig(**small, image_size=64, patch_size=16)), image
    config = tf.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1])
    return tf.ResNetModel(config), image


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "vit", "resnet"])
def test_transformers(shared: Session, kind: str, validate) -> None:
    pytest.importorskip("transformers")
    module, inputs = transformer(kind)
    shared.add(module, inputs, name=kind)
    for precision in ("fp32", "fp16"):
        engine = shared.build(kind, precision=precision, **SM89)
        check(engine.plan, engine.folder, validate)
        accounted(engine.plan, kind)
        assert any("transformers" in s.file for la in engine.plan.layers for s in la.sources)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_transformers_with_an_open_batch(shared: Session, kind: str, validate) -> None:
    pytest.importorskip("transformers")
    module, inputs = transformer(kind)
    shared.add(module, inputs, name=f"{kind}-open", shapes={"input_ids": "1x16:4x16:8x16"})
    engine = shared.build(f"{kind}-open", precision="fp16", shapes={"input_ids": "1x16:4x16:8x16"}, **SM89)
    check(engine.plan, engine.folder, validate)
    accounted(engine.plan, kind)
    assert any(d["shape"][:1] == [-1] for d in engine.plan.io)
    s = engine.plan.summary
    assert s["bytes_unknown"] == s["flops_unknown"] == 0
    assert all(la.bytes is not None for la in engine.plan.layers)


def open_architecture(session: Session, name: str, precision: str) -> Plan:
    """A small random model of an architecture, with its batch and lengths open."""
    import torch

    from tests.benchmarks import sweep_architectures as sweep

    torch.manual_seed(0)
    module, inputs = sweep.ARCHITECTURES[name]()
    shapes = sweep.open_shapes(inputs, lengths=True)
    if f"{name}-both" not in session.models:
        session.add(module.eval(), inputs, name=f"{name}-both", shapes=shapes)
    return session.build(f"{name}-both", precision=precision, shapes=shapes, **SM89).plan


@pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")
def test_a_transformer_with_batch_and_length_open(shared: Session) -> None:
    pytest.importorskip("transformers")
    plan = open_architecture(shared, "bert", "fp16")
    assert plan.summary["bytes_unknown"] == plan.summary["flops_unknown"] == 0
    assert not plan.facts["activation_memory_disagrees"]


# Tensors that two of the model's fit equally well: their bytes stay unknown, in so many nodes and kernels.
AMBIGUOUS = {"bart": 2, "deberta-v2": 4, "dinov2": 2, "segformer": 8}


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")
@pytest.mark.parametrize(
    "name",
    ["albert", "bart", "bert", "bloom", "deberta-v2", "dinov2", "gemma", "gpt2", "llama", "lstm", "mixtral", "modernbert", "opt", "phi", "qwen2",
     "segformer", "t5 (encoder)", "wav2vec2"],
)  # fmt: skip
def test_architectures_with_batch_and_lengths_open(shared: Session, name: str) -> None:
    pytest.importorskip("transformers")
    for precision in ("fp32", "fp16"):
        plan = open_architecture(shared, name, precision)
        accounted(plan, name)
        unknown = [la.name for la in plan.layers if la.launches and la.bytes is None and not la.repeated]
        assert len(unknown) + plan.summary["bytes_unknown_before"] <= AMBIGUOUS.get(name, 0), unknown
        assert not plan.facts["activation_memory_disagrees"]


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")
def test_a_scan_of_an_open_batch(shared: Session) -> None:
    tf = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(0)
    module = tf.MambaModel(tf.MambaConfig(hidden_size=256, num_hidden_layers=1, vocab_size=100, use_cache=False))
    shapes = {"input_ids": "1x32:2x32:4x32"}
    shared.add(module, {"input_ids": torch.arange(64).reshape(2, 32)}, name="mamba-open", shapes=shapes)
    plan = shared.build("mamba-open", shapes=shapes, **SM89).plan
    rows = [t.shape for la in plan.layers for t in la.outputs if t.dynamic and t.shape and t.shape[1:] == (512, 1, 16)]
    assert rows
    assert set(rows) == {(2, 512, 1, 16)}
    assert plan.summary["peak_activation_bytes"] < plan.facts["activation_memory_reported"]


@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")
def test_a_mixture_of_experts_is_told_the_way_and_then_built(shared: Session, validate) -> None:
    tf = pytest.importorskip("transformers", minversion="5")
    module = tf.MixtralModel(tf.MixtralConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=64, vocab_size=100,
        num_local_experts=4, use_cache=False,
    ))  # fmt: skip
    inputs = transformer("bert")[1]
    with pytest.raises(ModelError, match="grouped_mm") as told:
        shared.add(module, inputs, name="experts")
    assert "set_experts_implementation" in str(told.value.hint)
    module.set_experts_implementation("batched_mm")
    shared.add(module, inputs, name="experts")
    engine = shared.build("experts", shapes=None, **SM89)  # none are given: as if it were not said
    check(engine.plan, engine.folder, validate)
    accounted(engine.plan, "experts")
