"""Quantization in a worker: calibrate, insert the Q/DQ pairs and write the model."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import CalibrationError, ModelError
from workbench.model.model import Model
from workbench.precision.calibration import Calibration, collect
from workbench.precision.calibration_cache import TensorRTCache
from workbench.precision.quantize import RANGES, TENSORRT_CACHE
from workbench.precision.scheme import Scheme

if TYPE_CHECKING:
    import onnx_ir as ir

    from workbench.core.worker import Reporter


def quantize_task(
    reporter: Reporter, *, path: str, scheme: Mapping[str, Any], folder: str, batches: str | None, cache: str | None,
    kept: str, about: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Quantize a model in a worker; writes ``model.onnx`` into `folder`.

    Returns:
        ``quantized`` (names of nodes), ``left`` (reasons by name, for bodies too), ``folded`` (nodes whose weight is
        computed from constants, see `Insertion.again`), ``pairs`` (Q/DQ pairs on activations), ``casts``, ``kept``,
        ``clipped`` and the like (see `cast_task`), ``calibration`` (key of the cache).
    """
    from workbench.passes.casting import Casting
    from workbench.passes.insert_qdq import Insertion, needed_opset
    from workbench.passes.ir import load_ir, save_ir
    from workbench.passes.qdq_choice import choose
    from workbench.passes.result import check_written

    how = Scheme(**scheme)
    if how.placement == "onnxruntime":
        assert batches is not None
        return _by_onnxruntime(reporter, Path(path), how, Path(folder), Path(batches))
    opset = needed_opset(how.to, how.rest)
    model = load_ir(Path(path), reporter, opset=opset)
    choices = choose(model, how.to, keep=how.keep, only=how.only)
    missing = [name for name in how.only or () if name not in {c.node for c in choices.taken}]
    if missing:
        raise ModelError(
            f"{missing[0]} can't be quantized: {choices.left.get(missing[0], 'the model has no such node')}.",
            hint="Only Conv, ConvTranspose, Gemm and MatMul are quantized.",
        )
    if not choices.taken:
        reasons = ", ".join(f"{name}: {why}" for name, why in list(choices.left.items())[:4])
        raise ModelError(
            f"Nothing in this model can be quantized to {how.to}" + (f" ({reasons})." if reasons else "."),
            hint="Convolutions, Gemm and MatMul with FP32 data and stored weights are quantized.",
        )
    ranges: dict[str, float] = {}
    name = None
    warnings = []
    if choices.tensors and cache is not None and Path(cache).name == TENSORRT_CACHE:
        ranges = TensorRTCache.load(cache).ranges(choices.tensors)
    elif choices.tensors and cache is not None and Path(cache).name == RANGES:
        known = json.loads(Path(cache).read_text())
        _check_all(choices.tensors, known)
        ranges = {tensor: known[tensor] for tensor in choices.tensors}
    elif choices.tensors:
        name = Calibration.key(about["model"], about["digest"], choices.tensors)
        file = Path(kept) / f"{name}.json"
        if cache is not None:
            found = Calibration.load(cache)
        elif file.is_file():
            found = Calibration.load(file)
        else:
            assert batches is not None
            again = load_ir(Path(path), reporter, opset=opset)
            histograms = collect(again, choices.tensors, Path(batches), reporter, Path(folder).parent)
            data = {key: about[key] for key in ("digest", "source", "batches", "samples")}
            found = Calibration(about["model"], data, histograms)
        if not file.is_file():
            found.save(file)
        _check_all(choices.tensors, found.tensors)
        for i, tensor in enumerate(choices.tensors):
            ranges[tensor] = found.tensors[tensor].range(how.ranging, how.percentile)
            reporter.progress("Choosing ranges", i + 1, len(choices.tensors))
        dead = [t for t in choices.tensors if found.tensors[t].amax == 0.0]
        if dead:
            warnings.append(f"Always zero on the calibration data: {', '.join(dead[:5])}. Their range is a guess.")
            ranges.update(dict.fromkeys(dead, 1.0))
    warnings += _too_small(ranges, how)
    reporter.progress("Inserting Q/DQ", 0, 1)
    work = Insertion(
        model,
        choices,
        ranges,
        to=how.to,
        rest=how.rest,
        weights=how.weights,
        residual=how.shares_residuals,
        block=how.block,
    )
    work.run()
    reporter.progress("Inserting Q/DQ", 1, 1)
    report: dict[str, Any] = {"casts": 0, "kept": {}, "clipped": []}
    if how.rest != "fp32":
        import onnx_ir as ir

        casting = Casting(model, ir.DataType.FLOAT16 if how.rest == "fp16" else ir.DataType.BFLOAT16, reporter)
        casting.run()
        report = casting.report
        warnings += report["warnings"]
    reporter.progress("Writing", 0, 1)
    _add_metadata(model, how, about)
    save_ir(model, Path(folder) / "model.onnx")
    reporter.progress("Writing", 1, 1)
    check_written(Path(folder) / "model.onnx", Path(path), reporter)
    return {
        **report, "quantized": [c.node for c in choices.taken], "left": choices.left, "folded": work.again,
        "pairs": len(choices.tensors), "calibration": name, "ranges": ranges, "warnings": warnings,
    }  # fmt: skip


def _too_small(ranges: Mapping[str, float], how: Scheme) -> list[str]:
    """A warning that names the tensors whose range is too small for a scale in the type of the rest of the model."""
    from workbench.passes.ir import some
    from workbench.passes.qdq_values import LIMIT, scale_of

    small = [t for t, end in ranges.items() if float(scale_of(end, how.to, how.rest)) * LIMIT[how.to] > 2 * end]
    if not small:
        return []
    return [
        f"The values of {some(small)} are so small that {how.rest.upper()} has no scale for them: they are rounded to "
        "zero, or nearly. Use rest='bf16' or rest='fp32', or keep the nodes that read them."
    ]


def _check_all(wanted: Sequence[str], known: Collection[str]) -> None:
    if absent := [tensor for tensor in wanted if tensor not in known]:
        raise CalibrationError(
            f"The calibration cache has no range for {len(absent)} tensors, the first is {absent[0]}.",
            hint="It was made for fewer nodes. Calibrate again with data.",
        )


def _add_metadata(model: ir.Model, scheme: Scheme, about: Mapping[str, Any]) -> None:
    """Record in the file how the model was quantized."""
    model.metadata_props["workbench.quantize"] = json.dumps(
        {"scheme": scheme.to_dict(), "source": about["model"], "data": about["source"], "digest": about["digest"]}
    )


def _by_onnxruntime(reporter: Reporter, path: Path, how: Scheme, folder: Path, batches: Path) -> dict[str, Any]:
    """Quantize with ONNX Runtime's `quantize_static`, which chooses the placement; for comparison.

    Two of its defaults are changed, since TensorRT refuses the graph otherwise: zero points are 0, and biases
    are not quantized (its parser takes no INT32 in DequantizeLinear).
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    from workbench.passes.ir import load_ir, save_ir
    from workbench.passes.qdq_choice import HEAVY, kept
    from workbench.precision.data import read_batches

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = read_batches(batches)
            self._total, self._done = len(list(batches.glob("*.npz"))), 0

        def get_next(self) -> dict[str, Any] | None:
            reporter.progress("Calibrating", self._done, self._total)
            self._done += 1
            return next(self._batches, None)

    source = folder.parent / "named.onnx"
    model = load_ir(path, reporter)
    names = kept(model, how.keep)
    left = {n.name: "kept on request" for n in model.graph if n.name in names and n.op_type in HEAVY}
    save_ir(model, source)
    methods = {
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
        "minmax": CalibrationMethod.MinMax,
    }
    extra = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    if how.ranging == "percentile":
        extra["CalibPercentile"] = how.percentile  # type: ignore[assignment]
    try:
        quantize_static(
            str(source), str(folder / "model.onnx"), Reader(), quant_format=QuantFormat.QDQ, per_channel=how.weights != "tensor",
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, calibrate_method=methods[how.ranging],
            nodes_to_exclude=names, extra_options=extra,
        )  # fmt: skip
    except Exception as error:  # any exception: the model or the data caused it
        raise CalibrationError(
            f"ONNX Runtime's quantize_static can't quantize this model by {how.ranging}: {error}",
            hint="method='minmax' needs no histogram of values; placement='tensorrt' (the default) calibrates by itself.",
        ) from error
    made = Model("", folder / "model.onnx").graph
    pairs = [n.id for n in made.nodes if n.op == "QuantizeLinear"]
    return {"casts": 0, "kept": {}, "clipped": [], "quantized": pairs, "left": left, "pairs": len(pairs),
            "calibration": None, "ranges": {}, "warnings": []}  # fmt: skip
