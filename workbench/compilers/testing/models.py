"""The models of the contract suite, and their correct outputs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np

OPEN = "open_batch"
"""The model of `write_models` with an open dimension."""


def write_models(folder: Path) -> dict[str, Path]:
    """The small FP32 models of the suite, as ONNX files by name. Their inputs are called ``x``.

    Args:
        folder: Where to write them.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) * 0.1).astype(np.float32), name)

    def save(name: str, nodes: list[Any], x: list[Any], y: list[Any], weights: list[Any]) -> Path:
        graph = helper.make_graph(
            nodes, name, [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)], weights,
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(made)
        path = folder / f"{name}.onnx"
        onnx.save(made, str(path))
        return path

    def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(op, inputs.split(), [output], name=f"{op.lower()}_{output}", **attributes)

    def mlp(name: str, batch: Any) -> Path:
        nodes = [node("Gemm", "x w1 b1", "a"), node("Relu", "a", "b"), node("Gemm", "b w2 b2", "y")]
        sizes = [weight("w1", 8, 16), weight("b1", 16), weight("w2", 16, 4), weight("b2", 4)]
        return save(name, nodes, [batch, 8], [batch, 4], sizes)

    return {
        "mlp": mlp("mlp", 2),
        "open_batch": mlp("open_batch", "batch"),
        "residual": save(
            "residual",
            [
                node("Conv", "x w b", "a", pads=[1, 1, 1, 1]), node("Relu", "a", "c"), node("Add", "c x", "d"),
                node("GlobalAveragePool", "d", "e"), node("Flatten", "e", "f"), node("Softmax", "f", "y", axis=1),
            ],
            [1, 4, 8, 8], [1, 4], [weight("w", 4, 4, 3, 3), weight("b", 4)],
        ),
        "layout": save(
            "layout", [node("Transpose", "x", "a", perm=[0, 2, 1]), node("Mul", "a s", "b"), node("Sigmoid", "b", "y")],
            [2, 3, 4], [2, 4, 3], [weight("s", 3)],
        ),
    }  # fmt: skip


def input_of(model: Path, seed: int) -> np.ndarray[Any, Any]:
    """Random values for a model's input ``x``; an open dimension is 2."""
    import onnx

    (value,) = onnx.load(str(model)).graph.input
    shape = [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def expected(model: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The output ``y`` that ONNX's reference evaluator computes."""
    from onnx.reference import ReferenceEvaluator

    return cast("np.ndarray[Any, Any]", ReferenceEvaluator(str(model)).run(None, {"x": x})[0])


def relative_error(got: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """Norm of the difference divided by the norm of the correct output; infinity for another shape."""
    if got.shape != right.shape:
        return math.inf
    return float(np.linalg.norm(got.astype(np.float64) - right) / np.linalg.norm(right))
