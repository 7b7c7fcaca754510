"""A profile: what was measured of an engine, as a JSON document, ``workbench.profile/1``.

``workbench/schemas/profile.schema.json`` is generated from these types.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from workbench.core.documents import DocumentError
from workbench.core.errors import ProfileError
from workbench.core.typed_document import Count, DocumentType, extensible
from workbench.hardware.machine import MachineDocument
from workbench.hardware.nvml import ClocksDocument
from workbench.plan.document import IODocument
from workbench.plan.measured import (
    CeilingsDocument,
    DeviceDocument,
    EnergyDocument,
    ErrorDocument,
    LatencyDocument,
)


@extensible
class ProfiledCompiler(TypedDict, total=False):
    """What ran the engine."""

    name: str
    version: str
    validity: str | None
    """What the compiler says about the engine on this machine."""


@extensible
class ProfiledDevice(DeviceDocument, total=False):
    """The device that ran the engine."""

    memory: int
    """Bytes."""
    free: int
    """Bytes of memory that were free."""
    torch: str
    cuda: str


@extensible
class LayerTimeDocument(TypedDict):
    """Times of one layer, in milliseconds, by the compiler's name."""

    name: str
    mean_ms: float
    median_ms: float


@extensible
class KernelDocument(TypedDict):
    """A kernel of one execution."""

    name: str
    ms: NotRequired[float | None]
    layer: NotRequired[str | None]
    """The layer that launched it; null where it is not known."""


@extensible
class KernelsDocument(TypedDict):
    """The kernels of one execution."""

    rows: list[KernelDocument]
    joined: str
    """How kernels were matched with layers; empty where none was."""


@extensible
class InspectedLayer(TypedDict):
    """A layer as the engine describes it: a name, a type, and usually the other fields of a `LayerRecord`."""

    name: str
    type: str


@extensible
class InspectorDocument(TypedDict):
    """What the engine says about its own layers."""

    layers: list[InspectedLayer]
    io: list[IODocument]
    evidence: str


@extensible
class SweepDocument(TypedDict):
    """Latency at one batch size, or why there is none."""

    batch: Count
    way: NotRequired[str]
    median_ms: NotRequired[float]
    p99_ms: NotRequired[float]
    throughput: NotRequired[float]
    """Samples per second."""
    missing: NotRequired[str]
    """Why it was not measured."""


@extensible
class Profile(TypedDict):
    """What was measured of an engine. What could not be measured is absent or null, and `notes` says why."""

    schema: Literal["workbench.profile/1"]
    engine: NotRequired[str]
    """Path of the engine."""
    compiler: NotRequired[ProfiledCompiler]
    device: ProfiledDevice
    machine: MachineDocument
    time: NotRequired[float]
    """When, in seconds since the epoch."""
    shapes: dict[str, list[int]]
    """Of the inputs."""
    first_ms: NotRequired[float]
    """The first execution, which may compile kernels."""
    latency: dict[str, LatencyDocument]
    """By way of running: plain always; graph and transfers where they were measured."""
    layers: list[LayerTimeDocument]
    """In the order of execution; empty where layers were not timed."""
    layer_iterations: Count
    """Executions in which layers were timed."""
    layer_statistic: NotRequired[Literal["mean", "median"]]
    """Which of a layer's times is shown; absent: the mean."""
    layer_method: NotRequired[str]
    """How layers were timed."""
    error: ErrorDocument | None
    """Null without a reference."""
    memory: dict[str, int | None]
    """Bytes by purpose."""
    clocks: NotRequired[ClocksDocument | None]
    energy: NotRequired[EnergyDocument | None]
    kernels: NotRequired[KernelsDocument | None]
    specialization: NotRequired[str | None]
    """When kernels for the shapes at hand were compiled; null where it means nothing."""
    ceilings: NotRequired[CeilingsDocument | None]
    """What this GPU reaches."""
    inspector: NotRequired[InspectorDocument]
    notes: list[str]
    sweep: NotRequired[list[SweepDocument]]


def _with_plain(document: Profile) -> None:
    if "plain" not in document["latency"]:
        raise ValueError("latency has no plain executions")


PROFILE = DocumentType(Profile, title="Profile", schema="workbench.profile/1", check=_with_plain)


def read_profile(file: Path) -> Profile:
    """The profile in `file`.

    Raises:
        ProfileError: it can't be read, is another document, or is damaged.
    """
    hint = f"Remove {file} and measure again."
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ProfileError(f"The profile {file.name} can't be read: {error}.", hint=hint) from None
    if not isinstance(data, dict) or data.get("schema") != PROFILE.id:
        raise ProfileError(f"{file.name} is no {PROFILE.id} document.", hint=hint)
    try:
        return PROFILE.check(data, "profile")
    except DocumentError as error:
        raise ProfileError(f"The profile {file.name} is damaged: {error}.", hint=hint) from None
