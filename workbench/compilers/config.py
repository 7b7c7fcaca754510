"""What is asked of a compiler: target, precision, shapes, builder options.

A `BuildConfig` is immutable, validated and hashable. Its `digest` is part of the key under which a
built engine is kept, so two equal requests share one engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from workbench.core.frozen import Frozen
from workbench.model.shape_profile import ShapeProfile

Precision = Literal["fp32", "fp16", "bf16"]


class BuildConfig(Frozen):
    """Everything asked of a compiler. ``None`` means the compiler's own default, everywhere.

    Options that a compiler's version lacks are refused by name when the build starts; `workbench
    doctor` and `workbench.compilers.describe` list what each has.
    """

    compiler: str = Field("tensorrt", description="Which compiler: see `workbench doctor`.")
    targets: tuple[str, ...] = Field(
        (),
        description="GPU architectures (sm75 ... sm121, current); empty: this machine's GPU, or sm89 without one. Users report "
        "wrong results on sm75: see `workbench doctor`.",
    )
    precision: Precision = Field("fp32", description="fp32 leaves the graph as it is; fp16 and bf16 convert it first.")
    profiles: tuple[ShapeProfile, ...] = Field((), description="Shapes of dynamic inputs.")
    workspace: int | None = Field(None, gt=0, description="Scratch memory limit, bytes.")
    optimization_level: int | None = Field(None, ge=0, le=5, description="Builder effort, 0 to 5.")
    tf32: bool | None = Field(None, description="TF32 tensor cores for FP32 (on by default).")
    sparse_weights: bool = Field(False, description="Use 2:4 structured sparsity where found.")
    strip_plan: bool = Field(False, description="Leave weights out of the engine (needs refit).")
    refit: bool = Field(False, description="Make weights replaceable after the build.")
    weight_streaming: bool = Field(False, description="Allow weights to stay in host memory.")
    version_compatible: bool = Field(False, description="Run on later minor versions too.")
    hardware_compatibility: str | None = Field(None, description="HardwareCompatibilityLevel name.")
    max_aux_streams: int | None = Field(None, ge=0, description="Auxiliary CUDA streams at most.")
    tiling_level: Literal["none", "fast", "moderate", "full"] | None = Field(
        None, description="TilingOptimizationLevel."
    )
    l2_limit: int | None = Field(None, gt=0, description="L2 bytes that tiling may use.")
    avg_timing_iterations: int | None = Field(None, gt=0, description="Runs averaged per tactic.")
    build_route: str | None = Field(None, description="Fusion switches, where the flavour has them.")
    flags: tuple[str, ...] = Field((), description="Further BuilderFlag names.")
    verbosity: Literal["detailed", "layer_names_only", "none"] = Field(
        "detailed", description="ProfilingVerbosity; the plan needs detailed."
    )

    @field_validator("targets", mode="before")
    @classmethod
    def _split_targets(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part for part in value.replace("+", ",").split(",") if part]
        if not isinstance(value, list | tuple | set | frozenset):
            raise ValueError("targets are names such as sm89, in a list or with commas")  # noqa: TRY004 - pydantic's way
        return tuple(str(part).lower() for part in value)

    @field_validator("profiles", mode="before")
    @classmethod
    def _one_profile(cls, value: Any) -> Any:
        return (value,) if isinstance(value, ShapeProfile) else value

    def replace(self, **changes: Any) -> BuildConfig:
        """A copy with some options changed.

        Raises:
            ConfigError: an option does not exist or its value does not fit.
        """
        return BuildConfig(**{**{name: getattr(self, name) for name in BuildConfig.model_fields}, **changes})

    def to_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults, as JSON-able data; `from_dict` reads it back."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> BuildConfig:
        """The inverse of `to_dict`."""
        return BuildConfig(**data)

    @property
    def digest(self) -> str:
        """SHA-256 of what differs from the defaults, so that a new option does not unkey old engines."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
