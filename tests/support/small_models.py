"""Small ONNX models, made by hand so that every number in the tests can be checked on paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64


def value(name: str, shape: Sequence[int | str | None] | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weights(name: str, *shape: int, seed: int = 0, scale: float = 0.1, dtype: str = "float32") -> onnx.TensorProto:
    data = np.random.default_rng(seed).standard_normal(shape) * scale
    return numpy_helper.from_array(np.asarray(data.astype(dtype)), name)


def constant(name: str, data: object, dtype: str = "float32") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(data, dtype=dtype), name)


def node(
    op: str, inputs: Sequence[str], outputs: Sequence[str], name: str = "", **attributes: object
) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), name=name, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 20,
    name: str = "small",
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
    infer: bool = True,
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    made = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)
    return onnx.shape_inference.infer_shapes(made, data_prop=True) if infer else made


def save(proto: onnx.ModelProto, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, str(path))
    return path


def mlp(batch: int | str = 2) -> onnx.ModelProto:
    """x [batch, 8] @ w1 [8, 16] -> ReLU -> @ w2 [16, 4]."""
    return model(
        [node("MatMul", ["x", "w1"], ["h"], "mm1"), node("Relu", ["h"], ["r"], "act"),
         node("MatMul", ["r", "w2"], ["y"], "mm2")],
        [value("x", [batch, 8])], [value("y", [batch, 4])], [weights("w1", 8, 16), weights("w2", 16, 4, seed=1)],
    )  # fmt: skip


def chain(names: Sequence[str], ops: Sequence[str] = ("Relu", "Sigmoid", "Tanh", "Exp")) -> onnx.ModelProto:
    """A MatMul (named "mm") followed by pointwise nodes with the given names."""
    nodes = [node("MatMul", ["x", "w"], ["t0"], "mm")]
    nodes += [node(ops[i % len(ops)], [f"t{i}"], [f"t{i + 1}"], name) for i, name in enumerate(names)]
    return model(nodes, [value("x", [4, 8])], [value(f"t{len(names)}", [4, 8])], [weights("w", 8, 8)])


def net(**convolution: object) -> onnx.ModelProto:
    """Two convolutions with ReLU around a residual addition, and a classifier."""
    return model(
        [
            node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4, **convolution), node("Relu", ["c1"], ["r1"], "relu1"),
            node("Conv", ["r1", "w2", "b1"], ["c2"], "conv2", pads=[1] * 4), node("Add", ["c2", "r1"], ["s"], "add"),
            node("Relu", ["s"], ["r2"], "relu2"), node("GlobalAveragePool", ["r2"], ["g"], "pool"),
            node("Flatten", ["g"], ["f"], "flat"), node("Gemm", ["f", "w3"], ["y"], "fc", transB=1),
        ],
        [value("x", [1, 8, 8, 8])], [value("y", [1, 4])],
        [weights("w1", 8, 8, 3, 3), weights("w2", 8, 8, 3, 3, seed=1), weights("b1", 8, seed=2), weights("w3", 4, 8, seed=3)],
    )  # fmt: skip


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
