"""From a TensorRT 10 style request (precision flags, a calibrator) to the strongly typed one of TensorRT 11.

TensorRT 11 and TensorRT for RTX have no FP16, BF16, INT8 or FP8 flags and no calibrators: precision is in the
graph. What was a flag becomes a step before the build; what was a calibrator becomes calibration data.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from workbench.errors import ConfigError

FLAGS = {"fp16": "fp16", "bf16": "bf16", "int8": "int8", "fp8": "fp8", "int4": "int4", "best": "best", "half": "fp16"}
CALIBRATORS = {
    "IInt8EntropyCalibrator2": "entropy", "ENTROPY_CALIBRATION_2": "entropy", "IInt8EntropyCalibrator": "entropy",
    "ENTROPY_CALIBRATION": "entropy", "IInt8MinMaxCalibrator": "minmax", "MINMAX_CALIBRATION": "minmax",
    "IInt8LegacyCalibrator": "percentile", "LEGACY_CALIBRATION": "percentile",
}  # fmt: skip
"""TensorRT 10's calibrators and the method that does the same."""


@dataclass(frozen=True)
class Migration:
    """The same request for a strongly typed compiler.

    Attributes:
        flags: What was understood of the old request.
        python: Lines for a notebook.
        shell: The same as commands.
        notes: What is different now, in words.
    """

    flags: tuple[str, ...]
    python: tuple[str, ...]
    shell: tuple[str, ...]
    notes: tuple[str, ...]


def migrate(request: str, *, model: str = "model.onnx", data: str = "DATA", target: str = "sm89") -> Migration:
    """Translate flags of trtexec (``--fp16 --int8 --calib=cache``), ``BuilderFlag.FP16`` or a line of Python.

    Args:
        request: The old request.
        model: The model, where the request names none.
        data: Calibration data to put into the commands.
        target: GPU to build for.

    Raises:
        ConfigError: it holds no precision flag, calibrator or trtexec option.
    """
    words = [w.lstrip("-").lower() for w in re.findall(r"--?[A-Za-z][\w]*(?==|\s|$)", request)]
    words += [w.lower() for w in re.findall(r"BuilderFlag\.(\w+)", request)]
    words += [w.lower() for w in re.findall(r"\b(fp16|bf16|int8|fp8|half)\s*=\s*True", request)]
    flags = list(dict.fromkeys(FLAGS[w] for w in words if w in FLAGS))
    method = next((m for name, m in CALIBRATORS.items() if re.search(rf"\b{name}\b", request)), None)
    named = re.search(r"--onnx=(\S+)", request)
    model = named[1] if named else model
    if method is not None or re.search(r"--calib=|int8_calibrator", request):
        flags = list(dict.fromkeys([*flags, "int8"]))
    if not flags and not named and "stronglyTyped" not in request:
        raise ConfigError(
            f"{request!r} holds no precision flag or calibrator of TensorRT 10.",
            hint="Such as: --fp16 --int8 --calib=cache, BuilderFlag.FP16, IInt8EntropyCalibrator2.",
        )
    notes = []
    if "best" in flags:
        notes.append("--best chose among all precisions by timing; nothing does that now. Compare builds instead.")
        flags = [f for f in flags if f != "best"] or ["fp16"]
    rest = next((f for f in ("fp16", "bf16") if f in flags), "fp32")
    low = next((f for f in ("int8", "fp8", "int4") if f in flags), None)
    source, built = shlex.quote(model), shlex.quote(model)
    python = ["from workbench import Session", 'session = Session("migrated")']
    shell = []
    if low is not None:
        if rest == "fp32":
            notes.append(
                f"{low.upper()} alone left the rest in FP32. That is slower than FP16 for matrix products; "
                "rest='fp16' is advised and used here."
            )
            rest = "fp16"
        wanted = f", method={method!r}" if method else ""
        given = "" if low == "int4" else f", {data!r}"
        python.append(f"low = session.quantize({model!r}{given}, to={low!r}, rest={rest!r}{wanted})")
        python.append(f"engine = session.build(low, target={target!r})")
        built = shlex.quote(re.sub(r"\.onnx$", "", model) + f"-{low}.onnx")
        option = "" if low == "int4" else f" --calibration {shlex.quote(data)}"
        shell.append(
            f"workbench quantize {source} --to {low}{option} --rest {rest}{f' --method {method}' if method else ''} -o {built}"
        )
        shell.append(f"workbench audit {built} --target {target}")
        notes.append(
            "Layers are quantized where the graph says so, not where the builder found it faster: audit the result."
        )
        if re.search(r"--calib=|read_calibration_cache|get_calibration_cache", request):
            notes.append(
                "An old calibration cache can stand in for the data where its tensors have the names of this ONNX file; "
                "it does not say which model it was made from. Otherwise calibrate again."
            )
        if method == "percentile":
            notes.append("The legacy calibrator searched a quantile; the percentile method takes the one you give.")
    else:
        option = f", precision={rest!r}" if rest != "fp32" else ""
        python.append(f"engine = session.build({model!r}, target={target!r}{option})")
        shell.append(f"workbench audit {source} --target {target}" + (f" --precision {rest}" if rest != "fp32" else ""))
        if rest != "fp32":
            notes.append(
                f"{rest.upper()} was a permission, layer by layer; now each operation that ONNX allows it in has it."
            )
    if re.search(r"--(layerPrecisions|layerOutputTypes|precisionConstraints)|layer\.precision|OBEY_PRECISION", request):
        notes.append("Precision set on layers becomes keep= patterns of node names: quantize(..., keep='node*').")
    if re.search(r"EXPLICIT_BATCH|explicitBatch", request):
        notes.append("EXPLICIT_BATCH is gone: every network has it.")
    return Migration(tuple(flags), tuple(python), tuple(shell), tuple(notes))
