"""What a GPU architecture can do: one table, used by every message that names a target.

Which types a target has was tried with TensorRT for RTX 1.7.1: a small model of each type was built for each target that it
offers (sm75, sm80, sm86, sm89, sm120, sm121); `tests/models/test_failing_builds.py` does it again. For architectures that
it does not offer (sm87, sm90, sm100, ...) the source is the "Hardware and Precision" table of NVIDIA's support matrix:
https://docs.nvidia.com/deeplearning/tensorrt/latest/getting-started/support-matrix.html
"""

from __future__ import annotations

from collections.abc import Iterable

FIRST = {"fp32": 75, "fp16": 75, "int8": 75, "bf16": 80, "int4": 80, "fp8": 89, "fp4": 100}
"""The first architecture that has each type; later ones have it, too."""

NAMES = {
    "b16": "bf16",
    "bf16": "bf16",
    "fp8_e4m3": "fp8",
    "fp8": "fp8",
    "int4": "int4",
    "fp4_e2m1": "fp4",
    "fp4": "fp4",
}
"""TensorRT's names of types in its errors, in the words that are used here."""

REPORTED = {
    "sm75": "Users report that engines of TensorRT for RTX for Turing (sm75) gave zeros, had no execution context or crashed "
    "when they ran (pytorch/TensorRT pull request 4643, TensorRT-RTX issues 11 and 33). Check their outputs on that GPU.",
}  # fmt: skip
"""What users report about running engines of TensorRT for RTX on a target, by target. Not reproduced here: no such GPU."""

CAN_NOT = {"sm75": "It also builds no matrix products in FP32 for sm75: use --precision fp16."}
"""What TensorRT for RTX does not build for a target, whatever the GPU could do (tried with 1.7.1)."""


def number(target: str) -> int | None:
    """``sm89`` -> 89; None for ``current`` and what names no architecture."""
    digits = target.lower().removeprefix("sm")
    return int(digits) if target.lower().startswith("sm") and digits.isdecimal() else None


def has(target: str, kind: str) -> bool | None:
    """Whether an architecture has a type (a key of `FIRST`); None where that is not known."""
    found, first = number(target), FIRST.get(kind)
    return None if found is None or first is None else found >= first


def having(kinds: Iterable[str], offered: Iterable[str]) -> list[str]:
    """Those of the `offered` targets that have every type of `kinds`."""
    kinds = list(kinds)
    return [t for t in offered if number(t) is not None and all(has(t, k) for k in kinds)]


def advice(kinds: Iterable[str], offered: Iterable[str]) -> str:
    """``--target sm80, sm86 or sm89``: the offered targets that have all of `kinds`; "" where there is none."""
    fit = sorted(having(kinds, offered), key=lambda t: number(t) or 0)
    return "" if not fit else "--target " + (" or ".join([", ".join(fit[:-1]), fit[-1]]) if len(fit) > 1 else fit[0])


def reported(targets: Iterable[str]) -> list[str]:
    """What is known of running on these targets, one sentence each; empty for most."""
    return [REPORTED[t] for t in targets if t in REPORTED]
