"""A profile: the measurements of an engine as a JSON document, ``workbench.profile/1``.

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
    """The compiler whose runtime ran the engine."""

    name: str
    version: str
    validity: str | None
    """The compiler's information about the engine on this machine."""


@extensible
class ProfiledDevice(DeviceDocument, total=False):
    """The device that ran the engine."""

    memory: int
    """Bytes."""
    free: int
    """Bytes of free memory."""
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
    """The layer that launched it; null if unknown."""


@extensible
class KernelsDocument(TypedDict):
    """The kernels of one execution."""

    rows: list[KernelDocument]
    joined: str
    """How kernels were matched with layers; empty if none was matched."""


@extensible
class InspectedLayer(TypedDict):
    """A layer as reported by the engine: a name, a type, and usually the other fields of a `LayerRecord`."""

    name: str
    type: str


@extensible
class InspectorDocument(TypedDict):
    """The engine's information about its layers."""

    layers: list[InspectedLayer]
    io: list[IODocument]
    evidence: str


@extensible
class SweepDocument(TypedDict):
    """Latency at one batch size, or the reason why it is missing."""

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
    """The measurements of an engine. Values that could not be measured are absent or null, and `notes` says why."""

    schema: Literal["workbench.profile/1"]
    engine: NotRequired[str]
    """Path of the engine."""
    compiler: NotRequired[ProfiledCompiler]
    device: ProfiledDevice
    machine: MachineDocument
    time: NotRequired[float]
    """Time of the measurement, in seconds since the epoch."""
    shapes: dict[str, list[int]]
    """Of the inputs."""
    first_ms: NotRequired[float]
    """The first execution, which may compile kernels."""
    latency: dict[str, LatencyDocument]
    """By way of running: always plain; graph and transfers if they were measured."""
    layers: list[LayerTimeDocument]
    """In the order of execution; empty if layers were not timed."""
    layer_iterations: Count
    """Number of executions in which layers were timed."""
    layer_statistic: NotRequired[Literal["mean", "median"]]
    """Which of a layer's times is shown; if absent, the mean."""
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
    """When kernels for the current shapes were compiled; null if not applicable."""
    ceilings: NotRequired[CeilingsDocument | None]
    """Measured peaks of this GPU."""
    inspector: NotRequired[InspectorDocument]
    notes: list[str]
    sweep: NotRequired[list[SweepDocument]]


def _with_plain(document: Profile) -> None:
    if "plain" not in document["latency"]:
        raise ValueError("latency has no plain executions")


PROFILE = DocumentType(Profile, title="Profile", schema="workbench.profile/1", check=_with_plain)


def read_profile(file: Path) -> Profile:
    """Read the profile in `file`.

    Raises:
        ProfileError: it can't be read, is another kind of document, or is damaged.
    """
    hint = f"Remove {file} and measure again."
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ProfileError(f"The profile {file.name} can't be read: {error}.", hint=hint) from None
    if not isinstance(data, dict) or data.get("schema") != PROFILE.id:
        raise ProfileError(f"{file.name} is not a {PROFILE.id} document.", hint=hint)
    try:
        return PROFILE.check(data, "profile")
    except DocumentError as error:
        raise ProfileError(f"The profile {file.name} is damaged: {error}.", hint=hint) from None
