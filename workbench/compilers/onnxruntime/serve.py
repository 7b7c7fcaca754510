"""Open an engine in a worker and run it on request, or measure it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.onnxruntime import sessions
from workbench.compilers.onnxruntime.runner import OrtRunner
from workbench.hardware.host import HostDevice
from workbench.measure.profile import check_options
from workbench.measure.profile import profile as measure_profile
from workbench.measure.serve import serve as measure_serve

if TYPE_CHECKING:
    from workbench.core.worker import Reporter
    from workbench.measure.document import Profile


def open_engine(*, engine: str, built: Mapping[str, Any] | None = None, shape_profile: int = 0) -> OrtRunner:  # noqa: ARG001
    """The runner of an engine, in this process: for workers only.

    Args:
        engine: Path of the engine.
        built: Not used: ONNX Runtime checks the file itself.
        shape_profile: Which shape profile inputs must fit.

    Raises:
        BuildError: ONNX Runtime refuses the file.
        CompilerUnavailableError: ONNX Runtime is not installed.
        ConfigError: there is no such shape profile.
    """
    return OrtRunner(sessions.load(), Path(engine), shape_profile)


def serve(
    reporter: Reporter,
    *,
    engine: str,
    built: Mapping[str, Any] | None = None,
    shape_profile: int = 0,
    cache: str | None = None,  # noqa: ARG001 - no kernels are compiled
    finite: bool = True,
) -> dict[str, Any]:
    """Open an engine and execute it until asked to close; see `workbench.measure.serve`.

    Args:
        reporter: Where messages come from and answers go.
        engine: Path of the engine.
        built: Not used: ONNX Runtime checks the file itself.
        shape_profile: Which shape profile inputs must fit.
        cache: Not used: ONNX Runtime compiles no kernels.
        finite: Refuse inputs that hold NaN or infinity.

    Raises:
        BuildError: the engine can't be used here.
        CompilerUnavailableError: ONNX Runtime is not installed.
        ConfigError: there is no such shape profile.
    """
    runner = open_engine(engine=engine, built=built, shape_profile=shape_profile)
    return measure_serve(reporter, runner, finite=finite)


def profile(
    reporter: Reporter,
    *,
    engine: str,
    folder: str,
    built: Mapping[str, Any] | None = None,
    shape_profile: int = 0,
    **options: Any,
) -> Profile:
    """Measure an engine, and write the profile into `folder`.

    Args:
        reporter: Where progress goes.
        engine: Path of the engine.
        folder: Where the profile goes; created if absent.
        built: Not used: ONNX Runtime checks the file itself.
        shape_profile: Which shape profile to use.
        options: Of `workbench.measure.profile.profile`.

    Returns:
        See `workbench.measure.profile.profile`; also ``profiler``: the medians of executions with ONNX Runtime's profiler
        and without.

    Raises:
        BuildError: the engine can't be used here.
        CompilerUnavailableError: ONNX Runtime is not installed.
        ConfigError: inputs, shapes or reference do not fit the engine, or an option is out of range.
    """
    check_options(**options)

    def opened() -> OrtRunner:
        return open_engine(engine=engine, built=built, shape_profile=shape_profile)

    return measure_profile(reporter, HostDevice(), opened, engine=engine, folder=folder, **options)
