"""What TensorRT can build for each GPU architecture, used by every message that names a target.

The types of each target were tested with TensorRT for RTX 1.7.1: a small model of each type was built for each target that it
offers; `tests/models/test_failing_builds.py` does it again. For the architectures that it does not offer (sm87, sm90,
sm100, ...) the source is the "Hardware and Precision" table of NVIDIA's support matrix:
https://docs.nvidia.com/deeplearning/tensorrt/latest/getting-started/support-matrix.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from workbench.hardware.target import CURRENT, GPUS, Target

FIRST = {"fp32": 75, "fp16": 75, "int8": 75, "bf16": 80, "int4": 80, "fp8": 89, "fp4": 100}
"""The first architecture that has each type; later ones also have it."""

NAMES = {
    "b16": "bf16",
    "bf16": "bf16",
    "fp8_e4m3": "fp8",
    "fp8": "fp8",
    "int4": "int4",
    "fp4_e2m1": "fp4",
    "fp4": "fp4",
}
"""TensorRT's names of types in its errors, as the workbench names them."""

REPORTED = {
    "sm75": "Users report that engines of TensorRT for RTX for Turing (sm75) gave zeros, had no execution context or crashed "
    "when they ran (pytorch/TensorRT pull request 4643, TensorRT-RTX issues 11 and 33). Check their outputs on that GPU.",
}  # fmt: skip
"""What users report about engines of TensorRT for RTX on a target. Not reproduced by the workbench's authors."""

CAN_NOT = {"sm75": "It also builds no matrix products in FP32 for sm75: use --precision fp16."}
"""What TensorRT for RTX does not build for a target, although the GPU has it (tested with 1.7.1)."""

_OFFERED = {(1, 4): "sm75 sm80 sm86 sm89 sm120", (1, 7): "sm75 sm80 sm86 sm89 sm120 sm121"}
"""``ComputeCapability`` of TensorRT for RTX up to a version, from the Python bindings of 1.4.0, 1.5.0, 1.6.1 and 1.7.1."""


def offered_targets(version: str | None) -> tuple[Target, ...]:
    """The targets of a version of TensorRT for RTX; None means the latest known version.

    A later version gets every architecture: which ones it supports is known only when it builds.
    """
    found = re.match(r"(\d+)\.(\d+)", version or "1.7")
    names = next((names for last, names in _OFFERED.items() if found and (int(found[1]), int(found[2])) <= last), None)
    gpus = GPUS if names is None else tuple(Target.parse(name) for name in names.split())
    return (*gpus, CURRENT)


def number(target: str) -> int | None:
    """``sm89`` -> 89; None for ``current`` and for text that is not an architecture."""
    return Target.recorded(target).number


def has(target: str, kind: str) -> bool | None:
    """Whether an architecture has a type (a key of `FIRST`); None if that is not known."""
    found, first = number(target), FIRST.get(kind)
    return None if found is None or first is None else found >= first


def having(kinds: Iterable[str], offered: Iterable[str]) -> list[str]:
    """The `offered` targets that have every type of `kinds`."""
    kinds = list(kinds)
    return [t for t in offered if number(t) is not None and all(has(t, k) for k in kinds)]


def advice(kinds: Iterable[str], offered: Iterable[str]) -> str:
    """``--target sm80, sm86 or sm89``: the offered targets that have all of `kinds`; "" if there is none."""
    fit = sorted(having(kinds, offered), key=lambda t: number(t) or 0)
    return "" if not fit else "--target " + (" or ".join([", ".join(fit[:-1]), fit[-1]]) if len(fit) > 1 else fit[0])
