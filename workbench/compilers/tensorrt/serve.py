"""The worker task that keeps an engine of TensorRT loaded; see `workbench.measure.serve`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.tensorrt.runtime import open_runner
from workbench.measure import serve as measure_serve

if TYPE_CHECKING:
    from workbench.core.worker import Reporter
    from workbench.hardware.device import GraphDevice


def serve(
    reporter: Reporter,
    *,
    module: str,
    engine: str,
    built: Mapping[str, Any] | None = None,
    shape_profile: int = 0,
    weight_budget: int | None = None,
    cache: str | None = None,
    finite: bool = True,
    device: GraphDevice | None = None,
) -> dict[str, Any]:
    """Load an engine and execute it on request until it is closed.

    Args:
        reporter: Where messages come from and answers go.
        module: The TensorRT module to use.
        engine: Path of the serialized engine.
        built: What made the engine, if known; see `compatibility.check_file`.
        shape_profile: Which shape profile to use.
        weight_budget: See `runtime.Runner`.
        cache: File of compiled kernels, written after the first execution and at the end.
        finite: Refuse inputs that hold NaN or infinity.
        device: The GPU; torch's by default.

    Returns:
        ``{"calls": executions}``.

    Raises:
        BuildError: the engine can't be used here; the message says why.
        ConfigError: there is no such shape profile or weight budget.
        CompilerUnavailableError: there is no GPU, or the flavor is not installed.
    """
    kept = Path(cache) if cache else None
    runner = open_runner(
        module=module, engine=engine, built=built, shape_profile=shape_profile, device=device,
        weight_budget=weight_budget, cache=kept,
    )  # fmt: skip
    return measure_serve.serve(reporter, runner, cache=kept, finite=finite)
