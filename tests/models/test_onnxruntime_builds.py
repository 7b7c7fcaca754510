"""ONNX Runtime on real models: every node is claimed or listed with a reason, at every level, and tensors that match are equal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support import SAMPLES, needs_torch, wait_for
from workbench import Plan, Session
from workbench.compilers.onnxruntime.regions import match
from workbench.core.errors import CancelledError, WorkerCrashedError
from workbench.model.graph import Graph
from workbench.model.onnx_file import read_graph

onnxruntime = pytest.importorskip("onnxruntime")
ORT = {"compiler": "onnxruntime"}
LIGHT = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data" / "light").glob("light_*.onnx"))
SMALL = sorted(SAMPLES.glob("*.onnx"))
LEVELS = ("disable", "basic", "extended", "all")


def check_claims(plan: Plan) -> None:
    claimed = {n for layer in plan.layers for n in layer.nodes}
    left = {u.node: u.reason for u in plan.unclaimed}
    assert len(claimed) + len(left) == plan.model["nodes"]
    assert set(left.values()) <= {"constant", "view", "duplicate", "dead"}
    assert all(layer.kind in {"layout", "cast", "noop"} for layer in plan.layers if not layer.nodes)
    assert {layer.evidence for layer in plan.layers} <= {"tensor-region", "name", "none"}
    assert plan.summary["bytes_unknown_after"] == 0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("path", [*SMALL, *LIGHT], ids=lambda p: p.stem)
def test_every_node_is_claimed_or_listed(shared: Session, path: Path, level: str) -> None:
    plan = shared.build(path, **ORT, graph_optimization=level).plan
    check_claims(plan)
    if level == "disable":
        assert not any(u.reason == "view" for u in plan.unclaimed)
        assert all(len(layer.nodes) == 1 for layer in plan.layers)


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize("name", ["attention_sdpa", "residual_block", "layernorm_mlp", "digits"])
def test_tensors_that_match_are_equal(shared: Session, name: str, level: str) -> None:
    path = SAMPLES / f"{name}.onnx"
    engine = shared.build(path, **ORT, graph_optimization=level)
    anchors = match(Graph(read_graph(path)), Graph(read_graph(engine.path))).anchors
    same = {t for t, o in anchors.items() if t == o}
    values = [everything(file, same) for file in (path, engine.path)]
    assert len(same) > 1
    for t in same:
        before, after = (v[t] for v in values)
        assert before.shape == after.shape
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4, err_msg=t)


def everything(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    """The tensors of a model by name, for inputs that are the same for each model with the same inputs."""
    proto = onnx.load(str(path))
    have = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=t) for t in sorted(names - have))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    inputs = {port.name: rng.standard_normal(port.shape).astype(np.float32) for port in session.get_inputs()}
    found = [port.name for port in session.get_outputs()]
    return dict(zip(found, session.run(found, inputs), strict=True))


@needs_torch
@pytest.mark.parametrize(
    ("sample", "titles"),
    [
        ("resnet50", {"Conv + Relu", "Conv + Add + Relu", "MaxPool", "reorder from NCHWc", "Gemm"}),
        ("unet", {"Conv", "reorder to NCHWc"}),
    ],
)
def test_a_reference_model(shared: Session, sample: str, titles: set[str]) -> None:
    plan = shared.build(sample, **ORT).plan
    check_claims(plan)
    assert titles <= {layer.title for layer in plan.layers}
    order = [row["name"] for row in shared.measure.profile(duration_ms=1, warm_up_ms=0, layer_iterations=2)["layers"]]
    assert order == [layer.name for layer in plan.layers]


@needs_torch
def test_a_small_bert(shared: Session, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=100
    )
    module = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    ids = torch.ones(2, 16, dtype=torch.int64)
    exported = torch.onnx.export(module, (ids,), dynamo=True, verbose=False)
    exported.save(str(tmp_path / "bert.onnx"))
    for level in LEVELS:
        check_claims(shared.build(tmp_path / "bert.onnx", **ORT, graph_optimization=level).plan)
    plan = shared.build(tmp_path / "bert.onnx", **ORT).plan
    assert {"SkipLayerNormalization", "Gemm", "FusedMatMul"} <= {layer.title for layer in plan.layers}


@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_a_build_ended_in_the_middle(session: Session, how: str) -> None:
    build = session.engines.start(next(p for p in LIGHT if "densenet" in p.stem), **ORT)
    assert wait_for(lambda: build.progress or build.status != "running")
    pid = build.pid
    assert build.status == "running"
    assert pid is not None
    if how == "cancel":
        build.cancel()
    else:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(CancelledError if how == "cancel" else WorkerCrashedError):
        build.result(30)
    assert not session.engines
