"""Writes a plan as the JSON files that trtexec writes: layers and profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.tensorrt.dtypes import INSPECTOR
from workbench.core.errors import ProfileError
from workbench.core.store import output

if TYPE_CHECKING:
    from workbench.plan.plan import Plan, PlanTensor


def layers_document(plan: Plan) -> dict[str, Any]:
    """The plan as ``--exportLayerInfo`` of TensorRT 11 writes it; `inspect` reads it back."""
    return {
        "Layers": [
            {
                "Name": layer.name, "LayerType": layer.type,
                "Inputs": [_tensor(t) for t in layer.inputs], "Constants": [_tensor(t) for t in layer.constants],
                "Outputs": [_tensor(t) for t in layer.outputs], "TacticName": layer.tactic, "StreamId": layer.stream,
                **({} if layer.event is None else {"EventId": layer.event}),
                # Metadata is what the compiler reported, so nodes that were inferred are left out.
                "Metadata": "\x1e".join(f"[ONNX Layer: {n}]" for n in layer.nodes if layer.evidence == "reported" and n not in layer.inferred),
            }
            for layer in plan.layers
        ],
        "I/O Tensors": [
            {
                "Name": io["name"], "IOMode": io["mode"].capitalize(), "DataType": INSPECTOR.get(io["dtype"], io["dtype"]),
                "Dimensions": list(io["shape"]), "Location": (io.get("location") or "device").capitalize(),
                "IsShapeInferenceIO": False,
                "ProfileInfo": [
                    {"MinShape": p["min"], "OptShape": p["opt"], "MaxShape": p["max"], "Format": io.get("format", "")}
                    for p in io["profiles"]
                ] or [{"Format": io.get("format", "")}],
            }
            for io in plan.io
        ],
    }  # fmt: skip


def profile_document(plan: Plan) -> list[dict[str, Any]]:
    """The plan's times as ``--exportProfile`` writes them.

    Raises:
        ProfileError: no layer has a time.
    """
    timed = [(layer.name, layer.time_ms) for layer in plan.layers if layer.time_ms is not None]
    if not timed:
        raise ProfileError("The plan has no measured times.", hint="Profile the engine on a GPU first.")
    count = int((plan.facts.get("measured") or {}).get("iterations") or 1)
    total = sum(t for _, t in timed)
    return [
        {"count": count},
        *(
            {"name": name, "timeMs": t * count, "averageMs": t, "medianMs": t,
             "percentage": 100 * t / total if total else 0.0}
            for name, t in timed
        ),
    ]  # fmt: skip


def write_layers(plan: Plan, path: str | Path) -> Path:
    """Write `layers_document` to `path`."""
    return _write(layers_document(plan), path)


def write_profile(plan: Plan, path: str | Path) -> Path:
    """Write `profile_document` to `path`."""
    return _write(profile_document(plan), path)


def _write(document: Any, path: str | Path) -> Path:
    with output(path, parents=True) as draft:
        draft.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return Path(path)


def _tensor(tensor: PlanTensor) -> dict[str, Any]:
    out: dict[str, Any] = {"Name": tensor.name, "Dimensions": [-1] if tensor.shape is None else list(tensor.shape)}
    if tensor.strides is not None:
        out["Strides"] = list(tensor.strides)
    return {**out, "Datatype": INSPECTOR.get(tensor.dtype, tensor.dtype), "Format": tensor.format}
