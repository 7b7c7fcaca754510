"""Constants of an onnx_ir graph, and helpers for its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir


def constant(value: ir.Value | None) -> Any:
    """The tensor of a value: that of an initializer or a Constant node; None if it is computed."""
    import numpy as np
    import onnx_ir as ir

    if value is None:
        return None
    if value.is_initializer():
        return value.const_value
    producer = value.producer()
    if producer is None or producer.op_type != "Constant" or producer.domain not in {"", "ai.onnx"}:
        return None
    if "value" in producer.attributes:
        return producer.attributes["value"].as_tensor()
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        if name in producer.attributes:
            return ir.tensor(np.array(producer.attributes[name].value, dtype=kind), name=value.name)
    return None


def is_tensor(value: ir.Value | None, dtype: Any) -> bool:
    """Whether a value is a tensor (not a sequence, not an optional) of this type."""
    import onnx_ir as ir

    return value is not None and value.dtype == dtype and (value.type is None or isinstance(value.type, ir.TensorType))


def has_body(node: ir.Node) -> bool:
    """Whether a node holds graphs: If, Loop, Scan, SequenceMap."""
    import onnx_ir as ir

    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def low_limit(low: ir.DataType) -> tuple[Any, float]:
    """NumPy's type for FP16 or BF16, and its largest finite number."""
    import ml_dtypes
    import numpy as np

    if low.name == "FLOAT16":
        return np.float16, float(np.finfo(np.float16).max)
    return ml_dtypes.bfloat16, float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)


def attribute_of(node: ir.Node, name: str, default: Any) -> Any:
    """An attribute's value; `default` if the node does not have the attribute."""
    return node.attributes[name].value if name in node.attributes else default
