"""The worker task that measures an engine of TensorRT; see `workbench.measure.profile`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.compilers.tensorrt.runtime import SPECIALIZATIONS, open_runner
from workbench.core.errors import ConfigError
from workbench.measure.profile import check_options
from workbench.measure.profile import profile as measure_profile

if TYPE_CHECKING:
    from workbench.core.worker import Reporter
    from workbench.hardware.device import GraphDevice
    from workbench.measure.document import Profile


def profile(
    reporter: Reporter,
    *,
    module: str,
    engine: str,
    folder: str,
    built: Mapping[str, Any] | None = None,
    shape_profile: int = 0,
    specialization: str = "eager",
    device: GraphDevice | None = None,
    **options: Any,
) -> Profile:
    """Measure, and write the profile into `folder`.

    Args:
        reporter: Where progress goes.
        module: The TensorRT module to use.
        engine: Path of the serialized engine.
        folder: Where the profile goes; created if absent.
        built: What made the engine, if known; see `compatibility.check_file`.
        shape_profile: Which shape profile to use.
        specialization: When TensorRT for RTX compiles kernels for the current shapes of an engine with open shapes:
            "eager", before anything is timed; "none", never: its kernels for any shape are timed; "lazy", its default,
            in the background, so that different kernels are timed at different moments.
        device: The GPU; torch's by default.
        options: Of `workbench.measure.profile.profile`.

    Returns:
        See `workbench.measure.profile.profile`; also ``specialization``, None where it does not apply, and
        ``inspector``, the layers as the engine inspector reports them.

    Raises:
        BuildError: the engine can't be used here; the message says why.
        ConfigError: inputs, shapes or reference do not fit the engine, or an option is out of range.
        CompilerUnavailableError: there is no GPU, or the flavor is not installed.
    """
    check_options(**options)
    if specialization not in SPECIALIZATIONS:
        raise ConfigError(
            f"There is no specialization {specialization!r}.", hint=f"One of {', '.join(SPECIALIZATIONS)}."
        )
    if device is None:
        from workbench.hardware.cuda import TorchDevice

        device = TorchDevice()
    gpu = device

    def open_engine() -> Any:
        return open_runner(
            module=module, engine=engine, built=built, shape_profile=shape_profile, device=gpu,
            specialization=specialization,
        )  # fmt: skip

    return measure_profile(reporter, gpu, open_engine, engine=engine, folder=folder, **options)
