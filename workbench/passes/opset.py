"""Converts a graph to a later opset of ONNX, if the operations of a scheme need one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from workbench.core.errors import ModelError

if TYPE_CHECKING:
    import onnx


def upgrade(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """`model` at `opset`, or unchanged if it has a later one; node names and metadata are kept.

    Raises:
        ModelError: ONNX's converter can't convert it; the message names the operation.
    """
    import onnx

    now = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    if now >= opset:
        return model
    try:
        made = onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # noqa: BLE001 - the converter's C++ code raises many types of errors
        raise ModelError(
            f"This model has opset {now}, but the scheme needs {opset}, and ONNX can't convert it: {error}.",
            hint=f"Export it again with opset_version={opset} or later.",
        ) from None
    before = Counter(node.name for node in model.graph.node)
    after = Counter(node.name for node in made.graph.node)
    if lost := sorted((before - after).keys()):
        raise ModelError(
            f"Converting this model from opset {now} to {opset} lost {', '.join(lost[:5])}.",
            hint=f"Export it again with opset_version={opset} or later.",
        )
    kept = {node.name: node.metadata_props for node in model.graph.node}
    for node in made.graph.node:
        if node.name in kept and not node.metadata_props:
            node.metadata_props.extend(kept[node.name])
    made.ir_version = max(made.ir_version, 10 if opset >= 21 else 9)
    return made
