"""Builds a Plan from an engine's description, with or without the model that the engine was built from.

With the model, `assemble` builds the Plan with costs, sources, and why a node is in no layer. Without it, a layer's
nodes are the names that the compiler reported, and bytes are computed from the tensors. Everything that needs the
model stays unknown: operations, the cost before fusion, the source, and which nodes are in no layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ProfileError
from workbench.model.node import nbytes
from workbench.plan.assemble import assemble, layer_ids, total
from workbench.plan.plan import Layer, Plan, PlanTensor
from workbench.plan.traffic import summarize
from workbench.plan.vocabulary import NEUTRAL, Vocabulary, layer_kind, layer_title

if TYPE_CHECKING:
    from workbench.model.model import Model
    from workbench.plan.document import IODocument
    from workbench.plan.measured import MeasuredDocument
    from workbench.plan.record import Record, TensorRecord


def from_layers(
    record: Record,
    *,
    name: str,
    evidence: str = "name",
    config: Mapping[str, Any] | None = None,
    model: Model | None = None,
    sha256: str | None = None,
    vocabulary: Vocabulary = NEUTRAL,
) -> Plan:
    """Build the Plan.

    Args:
        record: The layers, inputs and outputs; see `workbench.compilers.tensorrt.inspector`.
        name: The model's name if there is no model.
        evidence: How the layers name their nodes, for layers that do not contain it.
        config: The build configuration, as far as it is known.
        model: The model that the engine was built from.
        sha256: The model's fingerprint.
        vocabulary: The meaning of the compiler's names.

    Raises:
        ProfileError: the engine was not built from this model.
        ConfigError: the engine's shapes do not fit the model.
    """
    if model is not None:
        return _with_model(record, model, sha256, evidence, config or {}, vocabulary)
    owners = Counter(node for raw in record["layers"] for node in dict.fromkeys(raw["nodes"]))
    opts = {io["name"]: tuple(io["profiles"][0]["opt"]) for io in record["io"] if io.get("profiles")}
    ids = layer_ids([raw["name"] for raw in record["layers"]])
    layers = []
    for unique, raw in zip(ids, record["layers"], strict=True):
        nodes = tuple(dict.fromkeys(raw["nodes"]))
        known = raw.get("detailed", True)
        inputs, outputs, constants = (
            tuple(_tensor(t, opts) for t in tensors)
            for tensors in (raw["inputs"], raw["outputs"], raw.get("constants", []))
        )
        kind = layer_kind(raw, (), vocabulary)
        layers.append(
            Layer(
                id=unique, name=raw["name"], title=layer_title(raw, kind, nodes, vocabulary) or raw["name"],
                type=raw["type"], kind=kind, nodes=nodes,
                evidence=raw.get("evidence", evidence) if nodes else "none", inputs=inputs, outputs=outputs,
                constants=constants, tactic=raw.get("tactic", ""), stream=raw.get("stream", 0), event=raw.get("event"),
                flops=None, bytes_read=total({t.name: t.bytes for t in (*inputs, *constants)}) if known else None,
                bytes_written=total({t.name: t.bytes for t in outputs}) if known else None,
                partial=tuple(n for n in nodes if owners[n] > 1),
            )
        )  # fmt: skip
    return Plan(
        model={"name": name, "sha256": None, "nodes": None},
        compiler={"gpu": None, **record["compiler"]},
        config=dict(config or {}),
        seconds=record["seconds"],
        layers=tuple(layers),
        unclaimed=(),
        io=tuple(record["io"]),
        summary=summarize(None, {}, layers, (), [entry["name"] for entry in record["io"]]),
        facts={**record.get("facts", {}), "warnings": record.get("warnings", []), "engine_bytes": None},
    )


def input_shapes(io: Sequence[IODocument]) -> dict[str, tuple[int, ...]]:
    """Shapes of an engine's inputs: fixed shapes, and for the others the opt shapes of the first profile."""
    found = {}
    for entry in io:
        shape = tuple(entry["profiles"][0]["opt"] if entry.get("profiles") else entry["shape"])
        if entry["mode"] == "input" and shape and -1 not in shape:
            found[entry["name"]] = shape
    return found


def with_times(plan: Plan, times: Sequence[float | None], measured: MeasuredDocument) -> Plan:
    """The plan with measured milliseconds on its layers, and their origin in ``facts["measured"]``."""
    layers = tuple(replace(layer, time_ms=t) for layer, t in zip(plan.layers, times, strict=True))
    return replace(plan, layers=layers, facts={**plan.facts, "measured": measured})


def _with_model(
    record: Record, model: Model, sha256: str | None, evidence: str, config: Mapping[str, Any], vocabulary: Vocabulary
) -> Plan:
    graph = model.graph
    inputs = [io for io in record["io"] if io["mode"] == "input"]
    strange = [io["name"] for io in inputs if io["name"] not in graph.inputs]
    if strange:
        raise ProfileError(
            f"The engine was not built from {model.name}: the model has no input {', '.join(strange[:4])}.",
            hint=f"The model's inputs are {', '.join(graph.inputs) or 'none'}.",
            details={"engine": [io["name"] for io in inputs], "model": list(graph.inputs)},
        )
    named = list(dict.fromkeys(n for raw in record["layers"] for n in raw["nodes"]))
    unknown = [n for n in named if n not in graph.by_id and n not in graph.constants]
    if named and not any(n in graph.by_id for n in named):
        raise ProfileError(
            f"The engine was not built from {model.name}: none of the nodes that its layers name is in the model.",
            hint="Give the ONNX file that the engine was built from. The layers name "
            f"{', '.join(named[:4])}; the model has {', '.join(list(graph.by_id)[:4])}.",
            details={"engine": named[:20], "model": list(graph.by_id)[:20]},
        )
    warnings = list(record.get("warnings", []))
    if unknown:
        warnings.append(
            f"{len(unknown)} names that the layers report are no nodes of the model, such as {', '.join(unknown[:3])}"
        )
    return assemble(
        graph.at(input_shapes(record["io"])), {**record, "warnings": warnings}, model=(model.name, sha256),
        config=config, evidence=evidence, provenance=model.provenance, vocabulary=vocabulary,
    )  # fmt: skip


def _tensor(raw: TensorRecord, opts: Mapping[str, tuple[int, ...]]) -> PlanTensor:
    reported = tuple(raw["shape"])
    dynamic = -1 in reported
    shape = opts.get(raw["name"]) if dynamic else reported
    strides = raw.get("strides")
    return PlanTensor(
        name=raw["name"], shape=shape, dtype=raw["dtype"], format=raw.get("format", ""),
        strides=None if strides is None or dynamic else tuple(strides),
        bytes=nbytes(shape, raw["dtype"]), dynamic=dynamic,
    )  # fmt: skip
