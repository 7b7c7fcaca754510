"""Makes a `Plan` from the files that trtexec wrote about an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.compilers.tensorrt.inspector import kind_of_file, read_json, read_layers
from workbench.compilers.tensorrt.trtexec.read import read_metadata, read_profile, read_times
from workbench.compilers.tensorrt.vocabulary import TensorRTVocabulary
from workbench.core.errors import ConfigError, ProfileError, StoreError
from workbench.plan.join import ProfiledLayer, join

if TYPE_CHECKING:
    from workbench.model.model import Model
    from workbench.plan.document import FactsDocument
    from workbench.plan.measured import MeasuredDocument
    from workbench.plan.plan import Plan
    from workbench.plan.record import Record

_ONE_RUN = "Export both in one run of trtexec: --exportLayerInfo=LAYERS.json --exportProfile=PROFILE.json."


def inspect(
    layers: str | Path,
    *,
    profile: str | Path | None = None,
    times: str | Path | None = None,
    metadata: Sequence[str | Path] = (),
    model: Model | None = None,
    sha256: str | None = None,
    name: str | None = None,
) -> Plan:
    """The Plan of an engine that was built elsewhere, from the files that trtexec wrote about it.

    Args:
        layers: File of ``--exportLayerInfo``, or a plan that the workbench wrote.
        profile: File of ``--exportProfile``: sets `Layer.time_ms`, the mean per iteration.
        times: File of ``--exportTimes``: end-to-end latency, stored in ``facts["measured"]["latency"]``.
        metadata: Files about the GPU and the build.
        model: The ONNX model that the engine was built from; without it costs and reasons stay unknown.
        sha256: The model's fingerprint.
        name: The name of the plan; by default the model's or the file's.

    Raises:
        ProfileError: a file can't be read, is another kind of file, or belongs to another engine or model.
        ListingError: the layers do not follow a known schema.
    """
    from workbench.plan.from_layers import with_times

    plan = _plan(layers, metadata, model, sha256, name)
    measured: MeasuredDocument = {}
    rows: tuple[ProfiledLayer | None, ...] = ()
    if profile is not None:
        read = read_profile(profile)
        joined = join(read, plan.layers, layers_file=str(layers), hint=_ONE_RUN)
        rows = joined.rows
        measured |= {
            "method": "trtexec --exportProfile: CUDA events around each layer, mean per iteration",
            "iterations": read.count, "joined": joined.how, "sum_ms": read.sum_ms, "error": None,
        }  # fmt: skip
    if times is not None:
        measured["latency"] = read_times(times).to_dict()
    if not measured:
        return plan
    milliseconds = [row.mean_ms if row else None for row in rows] or [layer.time_ms for layer in plan.layers]
    return with_times(plan, milliseconds, measured)


def _plan(
    layers: str | Path, metadata: Sequence[str | Path], model: Model | None, sha256: str | None, name: str | None
) -> Plan:
    from workbench.plan.from_layers import from_layers
    from workbench.plan.plan import Plan

    data = read_json(layers)
    if kind_of_file(data) == "plan":
        if metadata or model:
            raise ConfigError(
                f"{layers} is a plan that the workbench wrote: its nodes and its compiler are known.",
                hint="Leave out the model and the metadata, or give trtexec's own layer information.",
            )
        try:
            return Plan.from_dict(data)
        except StoreError as error:
            raise ProfileError(f"{layers}: {error.message}", hint="Export it again.", code=error.code) from None
    found = read_layers(layers, model.graph.by_id if model else ())
    known = {part["kind"]: part for part in map(read_metadata, metadata)}
    device = next((part["device"] for part in known.values() if part.get("device")), None)
    facts: dict[str, Any] = {
        "source": "engine inspector", "file": str(layers), "schema": f"TensorRT {found.generation}",
        "detailed": found.detailed,
    }  # fmt: skip
    if device:
        facts["device"] = {key: device[key] for key in ("name", "sm")}
    for kind, part in known.items():
        facts[kind.replace("-", "_")] = {k: v for k, v in part.items() if k not in {"kind", "device"}}
    warnings = []
    if not found.detailed:
        warnings.append(
            "only the layers' names are known: build with --profilingVerbosity=detailed to see types, tensors and bytes"
        )
    record: Record = {
        "compiler": {"name": "tensorrt", "version": "", "target": (device["sm"] or "") if device else ""},
        "seconds": {}, "layers": found.layers, "io": found.io, "facts": cast("FactsDocument", facts), "warnings": warnings,
    }  # fmt: skip
    return from_layers(
        record, name=name or (model.name if model else Path(layers).name.partition(".")[0]), evidence=found.evidence,
        model=model, sha256=sha256, vocabulary=TensorRTVocabulary(),
    )  # fmt: skip
