"""Checks that a rewritten model is valid, before the file gets its final name.

ONNX's checker checks the graph with full inference of types and shapes, ONNX Runtime loads it, and every scale of Q/DQ
must be a positive number. The checks read no large weights: these become inputs of the checked graph. If the source
fails the same check, the model is accepted: then the rewrite is not the cause.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError, first_lines

if TYPE_CHECKING:
    import onnx

    from workbench.core.worker import Reporter

SCALED = {"QuantizeLinear": (1,), "DequantizeLinear": (1,), "QLinearConv": (1, 4, 6), "QLinearMatMul": (1, 4, 6)}
"""Operations with scales, and the position of that input."""


def check_written(path: Path, source: Path | None, reporter: Reporter) -> None:
    """Raise an error if a model was written incorrectly.

    Args:
        path: The model that was written.
        source: The model that it was made from; None if there is nothing to compare with.
        reporter: Receives the progress.

    Raises:
        ModelError: the model at `path` is invalid (code ``invalid-result``) or holds a scale that is not a positive
            number (``bad-scale``), and `source` does not have the same problem.
    """
    reporter.progress("Checking the result", 0, 1)
    if (scale := bad_scale(path)) is not None and (source is None or bad_scale(source) is None):
        raise ModelError(
            f"The scale {scale} is not a positive number; the model was not written.",
            hint="Check the calibration: a range that is NaN, infinite or negative gives such a scale.",
            code="bad-scale",
        )
    for look in (checked, loaded):
        fault = look(path)
        if fault is None or (source is not None and look(source) is not None):
            continue
        raise ModelError(
            f"The result is not a valid ONNX model and was not kept: {fault}",
            hint="The source is valid, so this is an error of the workbench. Please report it with the model. Keeping the "
            "named node in FP32 (keep=) may help.",
            shell_hint="The source is valid, so this is an error of the workbench. Please report it with the model. Keeping "
            "the named node in FP32 (--keep) may help.",
            code="invalid-result",
        )
    reporter.progress("Checking the result", 1, 1)


def checked(path: Path) -> str | None:
    """The error of ONNX's checker, with types and shapes, for the model at `path`; None if there is none."""
    import onnx

    from workbench.model.onnx_file import read_graph

    try:
        onnx.checker.check_model(_without_weights(read_graph(path)), full_check=True)
    except Exception as error:  # noqa: BLE001 - the checker's C++ code raises several types of errors
        return first_lines(error, 3)
    return None


def loaded(path: Path) -> str | None:
    """The error of ONNX Runtime for the graph at `path`; a missing kernel does not count as an error."""
    from workbench.model.onnx_file import read_graph

    try:
        import onnxruntime as ort
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError:
        return None
    model = _without_weights(read_graph(path))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except state.NotImplemented:
        return None  # the CPU has few kernels for FP16 and BF16; the types were checked before that
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
        if "InsertedPrecisionFreeCast" in str(error):
            return None  # a cast that ONNX Runtime inserted and can't resolve
        return first_lines(error, 2)
    return None


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its large tensors as inputs, so that their bytes are not read."""
    from onnx import helper

    graph = model.graph
    weights = [t for t in graph.initializer if t.external_data]
    kept = [t for t in graph.initializer if not t.external_data]
    have = {v.name for v in graph.input}
    made = [(t.name, t) for t in weights if t.name not in have]
    nodes = []
    for node in graph.node:
        big = [a.t for a in node.attribute if a.name == "value" and a.HasField("t") and a.t.external_data]
        if node.op_type == "Constant" and big:
            made.append((node.output[0], big[0]))
        else:
            nodes.append(node)
    if made or len(kept) < len(graph.initializer):
        graph.input.extend(helper.make_tensor_value_info(name, t.data_type, list(t.dims)) for name, t in made)
        names = {name for name, _ in made}
        info = [v for v in graph.value_info if v.name not in names]
        for field, values in (("initializer", kept), ("node", nodes), ("value_info", info)):
            copies = [type(v).FromString(v.SerializeToString()) for v in values]
            model.graph.ClearField(field)
            getattr(model.graph, field).extend(copies)
    return model


def bad_scale(path: Path) -> str | None:
    """The name of a Q/DQ scale that is NaN, infinite, 0, or negative; None if all are positive numbers."""
    import numpy as np
    from onnx import numpy_helper

    from workbench.model.onnx_file import read_graph

    model = read_graph(path)
    held: dict[str, Any] = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                held[node.output[0]] = attribute.t
    for node in model.graph.node:
        for place in SCALED.get(node.op_type, ()):
            name = node.input[place] if len(node.input) > place else ""
            if (tensor := held.get(name)) is not None:
                values = numpy_helper.to_array(tensor, base_dir=str(path.parent)).astype(np.float32)
                if not (np.isfinite(values) & (values > 0)).all():
                    return name
    return None
