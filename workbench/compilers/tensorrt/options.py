"""Options of TensorRT's builder, in addition to those of every compiler.

The names follow the workbench's Python API; each description names TensorRT's own term. The build worker refuses an option
that the installed version lacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from workbench.compilers.options import Options
from workbench.core.errors import ConfigError

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig


class TensorRTOptions(Options):
    """Options of both TensorRT and TensorRT for RTX."""

    tf32: bool | None = Field(None, description="Use TF32 tensor cores for FP32 (TensorRT's default is on).")
    sparse_weights: bool = Field(False, description="Use 2:4 structured sparsity where the weights have it.")
    strip_plan: bool = Field(False, description="Leave weights out of the engine; refit puts them back.")
    refit: bool = Field(False, description="Make weights replaceable after the build.")
    weight_streaming: bool = Field(False, description="Allow weights to stay in host memory.")
    version_compatible: bool = Field(False, description="Let later minor versions of TensorRT run the engine.")
    hardware_compatibility: str | None = Field(
        None, description="Let other GPUs run the engine: a HardwareCompatibilityLevel, such as ampere_plus."
    )
    max_aux_streams: int | None = Field(None, ge=0, description="The most auxiliary CUDA streams to use.")
    tiling_level: Literal["none", "fast", "moderate", "full"] | None = Field(
        None, description="How hard to search for tiled kernels (TilingOptimizationLevel)."
    )
    l2_limit: int | None = Field(None, gt=0, description="L2 cache that tiling may use, in bytes.")
    avg_timing_iterations: int | None = Field(None, gt=0, description="How many runs to average for each tactic.")
    flags: tuple[str, ...] = Field((), description="Names of further BuilderFlags, such as DIRECT_IO.")
    verbosity: Literal["detailed", "layer_names_only", "none"] = Field(
        "detailed",
        description="ProfilingVerbosity; the plan needs detailed.",
        json_schema_extra={"form": False},
    )


class FullTensorRTOptions(TensorRTOptions):
    """Options of the full TensorRT; it also has those of `TensorRTOptions`."""

    build_route: str | None = Field(None, description="Fusion switches (TensorRT 11.1 and later).")


def options_of_tensorrt(config: BuildConfig) -> TensorRTOptions:
    """The options of a config for either TensorRT.

    Raises:
        ConfigError: the config is for another compiler.
    """
    if not isinstance(config.options, TensorRTOptions):
        raise ConfigError(f"This is a build by {config.compiler}, not by TensorRT.", code="not-tensorrt")
    return config.options
