"""Convert a TensorRT 10 request (precision flags, a calibrator) to a strongly typed request for TensorRT 11.

TensorRT 11 and TensorRT for RTX have no FP16, BF16, INT8 or FP8 flags and no calibrators: precision is in the
graph. A flag becomes a step before the build; a calibrator becomes calibration data.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from workbench.core.errors import ConfigError

FLAGS = {"fp16": "fp16", "bf16": "bf16", "int8": "int8", "fp8": "fp8", "int4": "int4", "best": "best", "half": "fp16"}
CALIBRATORS = {
    "IInt8EntropyCalibrator2": "entropy", "ENTROPY_CALIBRATION_2": "entropy", "IInt8EntropyCalibrator": "entropy",
    "ENTROPY_CALIBRATION": "entropy", "IInt8MinMaxCalibrator": "minmax", "MINMAX_CALIBRATION": "minmax",
    "IInt8LegacyCalibrator": "percentile", "LEGACY_CALIBRATION": "percentile",
}  # fmt: skip
"""TensorRT 10's calibrators and the equivalent methods."""

_READ = {"onnx", "calib", "saveengine", "stronglytyped", "layerprecisions", "layeroutputtypes", "precisionconstraints",
         "explicitbatch"}  # fmt: skip


@dataclass(frozen=True)
class Migration:
    """The same request for a strongly typed compiler.

    Attributes:
        flags: The recognized parts of the old request.
        python: Lines for a notebook.
        shell: The same as commands.
        notes: What changed.
    """

    flags: tuple[str, ...]
    python: tuple[str, ...]
    shell: tuple[str, ...]
    notes: tuple[str, ...]


def migrate(request: str, *, model: str = "model.onnx", data: str = "DATA", target: str = "sm89") -> Migration:
    """Translate flags of trtexec (``--fp16 --int8 --calib=cache``), ``BuilderFlag.FP16`` or a line of Python.

    Args:
        request: The old request.
        model: The model, if the request names none.
        data: Calibration data for the commands.
        target: GPU to build for.

    Raises:
        ConfigError: it contains no precision flag, calibrator or trtexec option.
    """
    options = _options(request)
    words = [name.lower() for name in options]
    words += [w.lower() for w in re.findall(r"BuilderFlag\.(\w+)", request)]
    words += [w.lower() for w in re.findall(r"\b(fp16|bf16|int8|fp8|half)\s*=\s*True", request)]
    flags = list(dict.fromkeys(FLAGS[w] for w in words if w in FLAGS))
    method = next((m for name, m in CALIBRATORS.items() if re.search(rf"\b{name}\b", request)), None)
    model = options.get("onnx") or model
    if method is not None or "calib" in options or "int8_calibrator" in request:
        flags = list(dict.fromkeys([*flags, "int8"]))
    if not flags and "onnx" not in options and "stronglyTyped" not in request:
        raise ConfigError(
            f"{request!r} contains no precision flag or calibrator of TensorRT 10.",
            hint="For example: --fp16 --int8 --calib=cache, BuilderFlag.FP16, IInt8EntropyCalibrator2.",
        )
    notes = []
    if "best" in flags:
        notes.append("--best chose among all precisions by timing; this no longer exists. Compare builds instead.")
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
                "rest='fp16' is recommended and used here."
            )
            rest = "fp16"
        wanted = f", method={method!r}" if method else ""
        given = "" if low == "int4" else f", {data!r}"
        python.append(f"low = session.precision.quantize({model!r}{given}, to={low!r}, rest={rest!r}{wanted})")
        python.append(f"engine = session.build(low, target={target!r})")
        built = shlex.quote(re.sub(r"\.onnx$", "", model) + f"-{low}.onnx")
        option = "" if low == "int4" else f" --calibration {shlex.quote(data)}"
        shell.append(
            f"workbench quantize {source} --to {low}{option} --rest {rest}{f' --method {method}' if method else ''} -o {built}"
        )
        shell.append(f"workbench audit {built} --target {target}")
        notes.append("The graph determines which layers are quantized, not the builder's timing: audit the result.")
        if "calib" in options or re.search(r"read_calibration_cache|get_calibration_cache", request):
            notes.append(
                "An old calibration cache can replace the data if its tensors have the names of this ONNX file; "
                "it does not record its model. Otherwise calibrate again."
            )
        if method == "percentile":
            notes.append("The legacy calibrator searched for a quantile; the percentile method uses the one you give.")
    else:
        option = f", precision={rest!r}" if rest != "fp32" else ""
        python.append(f"engine = session.build({model!r}, target={target!r}{option})")
        shell.append(f"workbench audit {source} --target {target}" + (f" --precision {rest}" if rest != "fp32" else ""))
        if rest != "fp32":
            notes.append(
                f"{rest.upper()} was optional for each layer; now every operation that supports it in ONNX uses it."
            )
    if re.search(r"--(layerPrecisions|layerOutputTypes|precisionConstraints)|layer\.precision|OBEY_PRECISION", request):
        notes.append("Precision set on layers becomes keep= patterns of node names: quantize(..., keep='node*').")
    if re.search(r"EXPLICIT_BATCH|explicitBatch", request):
        notes.append("EXPLICIT_BATCH was removed: every network uses it.")
    if other := [name for name in options if name.lower() not in {*FLAGS, *_READ}]:
        shapes = any("shapes" in name.lower() for name in other)
        notes.append(
            f"Not converted, because it does not concern precision: {', '.join('--' + name for name in other)}."
            + " Shapes are given as --shape NAME=MIN:OPT:MAX, shapes= in Python." * shapes
        )
    return Migration(tuple(flags), tuple(python), tuple(shell), tuple(notes))


def _options(request: str) -> dict[str, str]:
    """The options of a command line and their values, by name without dashes; quoted text is kept together."""
    try:
        words = shlex.split(request)
    except ValueError:  # an unclosed quote: part of a line of Python
        words = request.split()
    found = {}
    for i, word in enumerate(words):
        if match := re.match(r"--?([A-Za-z]\w*)(?:=(.*))?", word, re.DOTALL):
            value = match[2]
            if value is None and match[1] == "onnx" and i + 1 < len(words):
                value = words[i + 1]
            found[match[1]] = value or ""
    return found
