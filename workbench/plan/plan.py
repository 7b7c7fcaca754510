"""The Plan: layers in execution order, their tensors, and which ONNX nodes each executes.

A Plan is plain data. It does not depend on sessions, widgets, or the compiler's objects; `to_dict`
returns the machine-readable form ``workbench.plan/1``, which `workbench.plan.document` describes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from workbench.core.documents import DocumentError
from workbench.core.errors import StoreError
from workbench.hardware.target import Target
from workbench.model.provenance import Source
from workbench.plan.document import PLAN

if TYPE_CHECKING:
    import pandas as pd

    from workbench.plan.document import (
        CompilerDocument,
        Evidence,
        FactsDocument,
        IODocument,
        Kind,
        LayerDocument,
        ModelDocument,
        PlanDocument,
        Reason,
        SecondsDocument,
        SummaryDocument,
        TensorDocument,
        UnclaimedDocument,
    )

CONVERSIONS = ("layout", "cast")
"""Kinds of layers that only move or convert data."""

HOST = ("sync", "shape", "noop", "control")
"""Kinds of layers that launch no kernel: stream events, shape arithmetic on the host, no-ops, and control flow."""


@dataclass(frozen=True, slots=True)
class PlanTensor:
    """A tensor of a layer.

    Attributes:
        name: The compiler's name for it.
        shape: Its shape at the profile's opt shapes; None if it is not known.
        dtype: ONNX data type, lower case.
        format: Memory layout, with the compiler's name.
        strides: In elements, if reported.
        bytes: Size of the dense tensor at `shape`; None if unknown.
        dynamic: Whether the compiler reported a shape with open dimensions, so that `shape` is
            inferred from the model's.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str
    format: str = ""
    strides: tuple[int, ...] | None = None
    bytes: int | None = None
    dynamic: bool = False

    def to_dict(self) -> TensorDocument:
        """JSON-able form."""
        out: TensorDocument = {
            "name": self.name, "shape": None if self.shape is None else list(self.shape),
            "dtype": self.dtype, "format": self.format, "bytes": self.bytes,
        }  # fmt: skip
        if self.strides is not None:
            out["strides"] = list(self.strides)
        if self.dynamic:
            out["dynamic"] = True
        return out

    @staticmethod
    def from_dict(data: TensorDocument) -> PlanTensor:
        """The inverse of `to_dict`."""
        return PlanTensor(
            name=data["name"], shape=None if data["shape"] is None else tuple(data["shape"]),
            dtype=data["dtype"], format=data.get("format", ""), bytes=data.get("bytes"),
            strides=tuple(data["strides"]) if "strides" in data else None,
            dynamic=data.get("dynamic", False),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layer:
    """One entry of the plan: a kernel launch, a group of them, or a stream event.

    Attributes:
        id: Unique in the plan; the compiler's name if that is unique.
        name: The compiler's name.
        title: A readable name.
        type: The compiler's type.
        kind: conv, gemm, attention, pointwise, reduction, softmax, norm, pooling, gather, layout, cast,
            shape, sync, noop, control, foreign, other.
        nodes: Ids of the ONNX nodes that it executes, wholly or in part, in the compiler's order.
        evidence: How `nodes` is known: reported, name, tensor-region, fx-join, module, inferred, or
            "none" if the layer has no node.
        flops: Floating-point operations (of its nodes; see `workbench.model.cost`).
        bytes_read: Distinct inputs and constants, once each. None if a shape is unknown.
        bytes_written: Outputs.
        sources: Places in the user's program, one per distinct line.
        merged: Groups of sibling nodes that this layer executes in one kernel (horizontal merge).
        partial: Ids among `nodes` that other layers execute parts of.
        inferred: Ids among `nodes` that the compiler does not name here but that a rule of the workbench assigns.
        branch: The branches of If nodes that it is in, outermost first, as ``if_1: then``; empty: it always runs.
        repeated: Whether it runs once in each iteration of a loop; FLOPs and bytes are those of all iterations.
        time_ms: Measured milliseconds, if a profile was joined.
    """

    id: str
    name: str
    title: str
    type: str
    kind: str
    nodes: tuple[str, ...]
    evidence: str
    inputs: tuple[PlanTensor, ...] = ()
    outputs: tuple[PlanTensor, ...] = ()
    constants: tuple[PlanTensor, ...] = ()
    tactic: str = ""
    stream: int = 0
    event: int | None = None
    flops: int | None = 0
    bytes_read: int | None = 0
    bytes_written: int | None = 0
    sources: tuple[Source, ...] = ()
    merged: tuple[tuple[str, ...], ...] = ()
    partial: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()
    branch: tuple[str, ...] = ()
    repeated: bool = False
    time_ms: float | None = None

    @property
    def launches(self) -> bool:
        """Whether it is work for the GPU and not a stream event or host arithmetic."""
        return self.kind not in HOST

    @property
    def bytes(self) -> int | None:
        """Bytes read and written."""
        if self.bytes_read is None or self.bytes_written is None:
            return None
        return self.bytes_read + self.bytes_written

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity, FLOPs per byte; None if either is unknown or no bytes are moved."""
        return None if not self.bytes or self.flops is None else self.flops / self.bytes

    @property
    def scope(self) -> str:
        """The module scope that all of its nodes share; "" if there is none."""
        scopes = [s.scope.split(".") for s in self.sources if s.scope]
        shared = []
        for parts in zip(*scopes, strict=False):
            if len(set(parts)) > 1:
                break
            shared.append(parts[0])
        return ".".join(shared)

    @property
    def precision(self) -> str:
        """Data type that it computes in: that of its first floating-point or integer data input, or else of its output.

        It comes from the tensors; a tensor core may accumulate in a wider type (or, with TF32, multiply in a narrower).
        """
        for tensor in (*self.inputs, *self.outputs):
            if tensor.dtype and tensor.dtype not in {"int64", "int32", "bool"}:
                return tensor.dtype
        return next((t.dtype for t in (*self.inputs, *self.outputs)), "")

    @property
    def converts(self) -> tuple[str, ...]:
        """What the layer changes between its main input and output: "layout", "precision", both, or neither."""
        if not self.inputs or not self.outputs:
            return ()
        before, after = self.inputs[0], self.outputs[0]
        out = []
        if before.format != after.format and len(before.shape or ()) > 1:
            out.append("layout")
        if before.dtype != after.dtype and "bool" not in {before.dtype, after.dtype}:
            out.append("precision")
        return tuple(out)

    def to_dict(self) -> LayerDocument:
        """JSON-able form."""
        out: LayerDocument = {
            "id": self.id, "name": self.name, "title": self.title, "type": self.type, "kind": cast("Kind", self.kind),
            "nodes": list(self.nodes), "evidence": cast("Evidence", self.evidence),
            "inputs": [t.to_dict() for t in self.inputs], "outputs": [t.to_dict() for t in self.outputs],
            "constants": [t.to_dict() for t in self.constants],
            "tactic": self.tactic, "stream": self.stream, "event": self.event,
            "flops": self.flops, "bytes_read": self.bytes_read, "bytes_written": self.bytes_written,
            "sources": [s.to_dict() for s in self.sources],
            "merged": [list(group) for group in self.merged], "partial": list(self.partial),
        }  # fmt: skip
        if self.inferred:
            out["inferred"] = list(self.inferred)
        if self.branch:
            out["branch"] = list(self.branch)
        if self.repeated:
            out["repeated"] = True
        if self.time_ms is not None:
            out["time_ms"] = self.time_ms
        return out

    @staticmethod
    def from_dict(data: LayerDocument) -> Layer:
        """The inverse of `to_dict`."""

        def tensors(documents: list[TensorDocument]) -> tuple[PlanTensor, ...]:
            return tuple(PlanTensor.from_dict(t) for t in documents)

        return Layer(
            id=data["id"], name=data["name"], title=data.get("title", ""), type=data["type"], kind=data["kind"],
            nodes=tuple(data["nodes"]), evidence=data["evidence"], inputs=tensors(data["inputs"]),
            outputs=tensors(data["outputs"]), constants=tensors(data["constants"]), tactic=data["tactic"],
            stream=data["stream"], event=data.get("event"), flops=data["flops"], bytes_read=data["bytes_read"],
            bytes_written=data["bytes_written"], sources=tuple(Source(**s) for s in data["sources"]),
            merged=tuple(tuple(g) for g in data.get("merged", ())), partial=tuple(data.get("partial", ())),
            inferred=tuple(data.get("inferred", ())), branch=tuple(data.get("branch", ())),
            repeated=data.get("repeated", False), time_ms=data.get("time_ms"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A node that no layer executes, with the reason.

    Attributes:
        node: Its id.
        reason: constant, shape, dead, view, layout, weights, quantization, cast, duplicate, body or unknown.
        text: The reason as text.
    """

    node: str
    reason: str
    text: str

    def to_dict(self) -> UnclaimedDocument:
        """JSON-able form."""
        return {"node": self.node, "reason": cast("Reason", self.reason), "text": self.text}


@dataclass(frozen=True)
class Plan:
    """How a compiler runs a model.

    Attributes:
        model: The model's name, fingerprint and number of nodes.
        compiler: The compiler, and the target.
        config: The build configuration, as `BuildConfig.to_dict`.
        seconds: Duration of each phase of the build.
        layers: In execution order.
        unclaimed: Nodes in no layer.
        io: Inputs and outputs with their shape profiles.
        summary: Totals; see `workbench.plan.traffic.summarize`.
        facts: Other data that the compiler reported (memory, phases), and measurements.
    """

    model: ModelDocument
    compiler: CompilerDocument
    config: Mapping[str, Any]
    seconds: SecondsDocument
    layers: tuple[Layer, ...]
    unclaimed: tuple[Unclaimed, ...]
    io: tuple[IODocument, ...]
    summary: SummaryDocument = field(default_factory=lambda: cast("SummaryDocument", {}))
    facts: FactsDocument = field(default_factory=lambda: cast("FactsDocument", {}))

    @property
    def device_kind(self) -> Literal["gpu", "cpu"]:
        """The kind of device that the plan runs on."""
        return Target.recorded(str(self.compiler.get("target") or "")).kind

    @property
    def launches_name(self) -> str:
        """The unit of ``launches_after`` in the summary: "kernel launches" on a GPU, "kernels" on a CPU."""
        return "kernel launches" if self.device_kind == "gpu" else "kernels"

    @property
    def problems(self) -> tuple[str, ...]:
        """Problems of the model's file, possible losses of a cast, and errors of the compiler that the plan shows."""
        return (
            *self.facts.get("model_problems", ()),
            *self.facts.get("cast_warnings", ()),
            *self.facts.get("compiler_problems", ()),
        )

    @cached_property
    def by_id(self) -> dict[str, Layer]:
        """Layers by id."""
        return {layer.id: layer for layer in self.layers}

    @cached_property
    def layers_of(self) -> dict[str, tuple[Layer, ...]]:
        """Layers that execute a node, by node id."""
        found: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for node in layer.nodes:
                found.setdefault(node, []).append(layer)
        return {node: tuple(layers) for node, layers in found.items()}

    @cached_property
    def reasons(self) -> dict[str, Unclaimed]:
        """Why a node is in no layer, by node id."""
        return {entry.node: entry for entry in self.unclaimed}

    def layer(self, id_or_index: str | int) -> Layer:
        """A layer by id or by position.

        Raises:
            StoreError: the plan has no such layer.
        """
        try:
            return self.layers[id_or_index] if isinstance(id_or_index, int) else self.by_id[id_or_index]
        except (KeyError, IndexError):
            raise StoreError(
                f"The plan has no layer {id_or_index!r}.",
                hint=f"It has {len(self.layers)}; see plan.to_frame().",
            ) from None

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer, for pandas: sizes in bytes, `intensity` in FLOPs per byte."""
        import pandas as pd

        from workbench.plan.columns import Rows, columns

        shown = Rows(self)
        found = columns(shown, "frame") if self.layers else []
        return pd.DataFrame({c.frame or c.name: [c.get(layer, shown) for layer in self.layers] for c in found})

    def to_dict(self) -> PlanDocument:
        """The machine-readable form, ``workbench.plan/1``."""
        return {
            "schema": "workbench.plan/1",
            "model": self.model.copy(),
            "compiler": self.compiler.copy(),
            "config": dict(self.config),
            "seconds": self.seconds.copy(),
            "layers": [layer.to_dict() for layer in self.layers],
            "unclaimed": [entry.to_dict() for entry in self.unclaimed],
            "io": [entry.copy() for entry in self.io],
            "summary": self.summary.copy(),
            "facts": self.facts.copy(),
        }

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    @staticmethod
    def from_dict(data: Any, *, check: bool = True) -> Plan:
        """Read a document that `to_dict` wrote.

        Args:
            data: The document.
            check: Whether to validate it, which takes time; False for a plan that was validated before.

        Raises:
            StoreError: it is another kind of document or a later version (code ``not-a-plan``), or it is damaged: a
                field is absent or has a wrong type (``damaged-plan``).
        """
        found = data.get("schema") if isinstance(data, dict) else None
        if found != PLAN.id:
            said = repr(found)[:80] if isinstance(data, dict) else f"a {type(data).__name__}"
            raise StoreError(
                f"This is not a {PLAN.id} document but {said}.",
                hint="Plans of a later version need a later workbench: pip install -U trt-workbench",
                code="not-a-plan",
            )
        if check:
            try:
                PLAN.check(data, "plan")
            except DocumentError as error:
                raise StoreError(
                    f"This plan is damaged: {error}.",
                    hint="Make it again, or copy the file again.",
                    code="damaged-plan",
                ) from None
        document: PlanDocument = data
        return Plan(
            model=document["model"], compiler=document["compiler"], config=document["config"],
            seconds=document["seconds"], layers=tuple(Layer.from_dict(layer) for layer in document["layers"]),
            unclaimed=tuple(Unclaimed(**entry) for entry in document["unclaimed"]),
            io=tuple(document["io"]), summary=document["summary"], facts=document["facts"],
        )  # fmt: skip

    def __repr__(self) -> str:
        s = self.summary
        kinds = ", ".join(f"{n} {k}" for k, n in Counter(la.kind for la in self.layers).most_common(4))
        return (
            f"<Plan of {self.model.get('name')} by {self.compiler.get('name')} {self.compiler.get('version')} for "
            f"{self.compiler.get('target')}: {s.get('nodes') if s.get('nodes') is not None else '?'} nodes in {len(self.layers)} layers ({kinds})>"
        )
