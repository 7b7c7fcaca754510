"""Sets of files as trtexec of TensorRT 8 writes them, for an invented engine of convolutions at batch 32 on an A100.

The format follows real files; names and numbers are made up. Three engines of one network: FP16; INT8 with a conversion before
each convolution; INT8 with one conversion at the input.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FP32, FP16 = "Row major linear FP32", "Thirty-two wide channel vectorized row major FP16 format"
INT8 = "Thirty-two wide channel vectorized row major Int8 format"
BATCH = 32


@dataclass(frozen=True)
class Engine:
    """One engine: how many convolutions, their type, where it converts, and the mean latency in milliseconds."""

    convolutions: int
    dtype: str
    conversions: int
    latency_ms: float


ENGINES = {"fp16": Engine(10, FP16, 2, 0.86), "naive": Engine(10, INT8, 9, 0.91), "good": Engine(10, INT8, 1, 0.52)}


def layers(engine: Engine) -> list[dict[str, Any]]:
    """The layers in order of execution: conversions, convolutions, a pooling, and a squeeze that costs nothing."""
    found: list[dict[str, Any]] = []
    tensor, dtype = "input.1", FP32

    def add(name: str, kind: str, out: str, to: str, dims: tuple[int, ...], **more: Any) -> None:
        nonlocal tensor, dtype
        before = list(found[-1]["Outputs"][0]["Dimensions"]) if found else [BATCH, 64, 56, 56]
        found.append({
            "Name": name, "LayerType": kind,
            "Inputs": [{"Name": tensor, "Location": "Device", "Dimensions": before, "Format/Datatype": dtype}],
            "Outputs": [{"Name": out, "Location": "Device", "Dimensions": list(dims), "Format/Datatype": to}],
            **more, "TacticValue": "0x00000000000003e8",
        })  # fmt: skip
        tensor, dtype = out, to

    full = (BATCH, 64, 56, 56)
    convolution = {
        "ParameterType": "Convolution", "Kernel": [3, 3], "PaddingMode": "kEXPLICIT_ROUND_DOWN", "PrePadding": [1, 1],
        "PostPadding": [1, 1], "Stride": [1, 1], "Dilation": [1, 1], "OutMaps": 64, "Groups": 1,
        "Weights": {"Type": "Int8" if engine.dtype == INT8 else "Half", "Count": 36864}, "Bias": {"Type": "Float", "Count": 64},
        "HasSparseWeights": 0, "Activation": "RELU", "HasBias": 1, "HasReLU": 1, "TacticName": "ampere_made_up_kernel_v1",
    }  # fmt: skip
    quantized = engine.dtype == INT8
    for i in range(engine.convolutions):
        if i < engine.conversions:
            name = (
                f"QuantizeLinear_{2 + 3 * i}"
                if quantized
                else f"Reformatting CopyNode for Input Tensor 0 to Conv_{3 * i}"
            )
            origin = {"ParameterType": "Reformat", "Origin": "QDQ" if quantized else "REFORMAT"}
            add(name, "Reformat", f"converted_{i}", engine.dtype, full, **origin)
        weight = f"layer{i}.weight + QuantizeLinear_{3 * i + 100} + " if quantized else ""
        # The naive engine leaves INT8 behind each convolution.
        out = FP16 if quantized and engine.conversions > 1 else engine.dtype
        add(f"{weight}Conv_{3 * i} + Relu_{3 * i + 1}", "CaskConvolution", f"act_{i}", out, full, **convolution)
    add("GlobalAveragePool_246", "TiledPooling", "pooled", FP32, (BATCH, 64, 1, 1), ParameterType="Pooling",
        PoolingType="AVERAGE", WindowSize=[56, 56], PaddingMode="kEXPLICIT_ROUND_DOWN", PrePadding=[0, 0], PostPadding=[0, 0],
        Stride=[1, 1], BlendFactor=0, AverageCountExcludesPadding=1)  # fmt: skip
    add("squeeze_after_GlobalAveragePool_246", "NoOp", "422", FP32, (BATCH, 64))
    return found


def iterations(engine: Engine, count: int = 400) -> list[dict[str, float]]:
    """Times of each iteration; those that begin in the first 200 ms are slower."""
    rng, begin, rows = np.random.default_rng(7), 4.0, []
    for _ in range(count):
        compute = engine.latency_ms * float(rng.uniform(0.99, 1.01)) * (1.3 if begin < 200 else 1.0)
        end = begin + compute
        rows.append({
            "startEnqMs": begin, "endEnqMs": begin + 0.01, "startH2dMs": begin, "endH2dMs": begin, "startComputeMs": begin,
            "endComputeMs": end, "startD2hMs": end, "endD2hMs": end, "h2dMs": 0.0, "computeMs": compute, "d2hMs": 0.0,
            "latencyMs": compute,
        })  # fmt: skip
        begin = end
    return rows


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """What trtexec prints of them: minimum, maximum, mean, median and 99th percentile, the warm-up left out."""
    rows = [row for row in rows if row["startEnqMs"] >= 200]
    latency = np.array([row["latencyMs"] for row in rows])
    five = [
        float(v)
        for v in (
            latency.min(),
            latency.max(),
            latency.mean(),
            np.median(latency),
            np.sort(latency)[int(0.99 * len(rows))],
        )
    ]
    wall = (rows[-1]["endD2hMs"] - rows[0]["startEnqMs"]) / 1e3
    return {"Throughput": len(rows) / wall, "Latency": five, "GPU Compute Time": five, "Total Host Walltime": wall,
            "Total GPU Compute Time": float(latency.sum()) / 1e3}  # fmt: skip


def write(name: str, folder: Path) -> dict[str, Path]:
    """The files of an engine, by what they hold."""
    engine = ENGINES[name]
    rows, listed = iterations(engine), layers(engine)
    weight = [
        0.0 if la["LayerType"] == "NoOp" else 3.0 if la["LayerType"] == "CaskConvolution" else 1.0 for la in listed
    ]
    # A profiled layer has events around it: together they take longer than one run.
    times = [1.1 * engine.latency_ms * w / sum(weight) for w in weight]
    documents = {
        "graph": {"Layers": listed, "Bindings": ["input.1", "422"]},
        "profile": [{"count": 1}, *({"name": la["Name"], "timeMs": t, "averageMs": t, "medianMs": t,
                                     "percentage": 100 * t / sum(times)} for la, t in zip(listed, times, strict=True))],
        "timing": rows,
        "metadata": [{"Name": "NVIDIA A100 80GB PCIe", "ComputeCapability": [8, 0], "TotalMemory": 84929216512}],
        "profile.metadata": {
            "performance_summary": summary(rows),
            "inference_options": {"Input inference shape": f"input.1={BATCH}x64x56x56", "CUDA Graph": "Enabled", "Streams": "1",
                                  "Separate profiling": "Enabled", "Data transfers": "Disabled"},
            "device_information": {"Selected Device": "NVIDIA A100 80GB PCIe", "Compute Capability": 8.0},
        },
        "build.metadata": {"model_options": {"Format": "ONNX", "Model": "made_up.onnx"},
                           "build_options": {"Max batch": "explicit batch", "Precision": "FP32+FP16+INT8"}},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    paths = {part: folder / f"{name}.onnx.engine.{part}.json" for part in documents}
    for part, path in paths.items():
        path.write_text(json.dumps(documents[part]))
    return paths
