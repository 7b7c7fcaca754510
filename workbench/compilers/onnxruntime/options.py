"""Options of ONNX Runtime, in addition to those of every compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from workbench.compilers.options import Options
from workbench.core.errors import ConfigError

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig

_LEVELS = ("disable", "basic", "extended", "layout", "all", "all")
"""The level for each value of `BuildConfig.optimization_level`."""


class OnnxRuntimeOptions(Options):
    """Options of ONNX Runtime."""

    graph_optimization: Literal["disable", "basic", "extended", "layout", "all"] | None = Field(
        None,
        description="GraphOptimizationLevel (ONNX Runtime's default is all). The optimization level sets it too: 0 disable, "
        "1 basic, 2 extended, 3 layout, 4 and 5 all.",
    )
    threads: int | None = Field(
        None, ge=1, description="Threads within an operator (intra_op_num_threads); by default one for each core."
    )
    disabled_optimizers: tuple[str, ...] = Field(
        (),
        description="Names of optimizers to leave out, such as MatMulAddFusion; the build's facts list those that changed the graph.",
    )


def options_of(config: BuildConfig) -> OnnxRuntimeOptions:
    """The config's options of ONNX Runtime; the defaults if it has none."""
    return config.options if isinstance(config.options, OnnxRuntimeOptions) else OnnxRuntimeOptions()


def level_of(config: BuildConfig) -> str:
    """The graph optimization level of a config.

    Raises:
        ConfigError: it names two different ones (code ``two-levels``).
    """
    named = options_of(config).graph_optimization
    if config.optimization_level is None:
        return named or "all"
    found = _LEVELS[config.optimization_level]
    if named not in {None, found}:
        raise ConfigError(
            f"optimization_level={config.optimization_level} means {found}, but graph_optimization is {named}.",
            hint="Set one of the two.",
            code="two-levels",
        )
    return found
