"""Start a worker that measures an engine; the profile is stored with the engine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import compilers
from workbench.compilers.base import Profiles
from workbench.core.errors import ConfigError
from workbench.core.jobs import Job
from workbench.measure.inputs import check_batches
from workbench.measure.running import host
from workbench.model.shape_profile import sizes_of

if TYPE_CHECKING:
    from workbench.engine import Engine


def _number(engine: Engine) -> int:
    """The number of the next profile: larger than all earlier ones, even if the clock was set back."""
    stems = [file.stem for file in (engine.folder / "profiles").glob("*.json")]
    return max([time.time_ns(), *(int(stem) + 1 for stem in stems if stem.isdecimal())])


def start(
    engine: Engine,
    *,
    inputs: Mapping[str, Any] | str | Path | None,
    reference: Mapping[str, Any] | str | Path | bool,
    options: Mapping[str, Any],
    on_change: Callable[[Job], None],
) -> Job:
    """Start to measure `engine`; see `session.measure.profile`. `on_change` is called at each progress and at the end.

    The worker writes the profile into ``profiles/`` of the engine's folder when it is complete.

    Raises:
        ConfigError: a file does not exist, or a shape is invalid.
    """
    check_batches(options.get("batches"))
    compiler = compilers.get(engine.config.compiler, Profiles)
    scratch = tempfile.TemporaryDirectory(prefix="workbench-profile-")
    folder = Path(scratch.name)
    try:
        arguments = {
            **compiler.arguments(),
            "engine": str(engine.path),
            "folder": str(engine.folder / "profiles"),
            "file": f"{_number(engine)}.json",
            "inputs": _arrays(inputs, folder / "inputs.npz"),
            "reference": _reference(engine, reference, folder),
            "built": {**engine.plan.compiler, **_compatible(engine)},
            **options,
            **({"batches": [int(b) for b in options["batches"]]} if options.get("batches") is not None else {}),
            **({"shapes": sizes_of(options["shapes"])} if options.get("shapes") else {}),
        }
    except BaseException:
        scratch.cleanup()
        raise

    def ended(job: Job) -> None:
        if job.status != "running":
            scratch.cleanup()

    job = Job(compiler.profile_task, arguments, title=f"profile of {engine.model}")
    job.on_change(ended)
    job.on_change(on_change)
    return job.start()


def _compatible(engine: Engine) -> dict[str, Any]:
    config = engine.config
    return {name: config.option(name) for name in ("version_compatible", "hardware_compatibility")}


def _reference(engine: Engine, given: Mapping[str, Any] | str | Path | bool, folder: Path) -> str | None:
    if given is False:
        return None
    if given is True:
        model = engine.source()
        return str((model.original or model).path.absolute())
    return _arrays(given, folder / "reference.npz")


def _arrays(given: Mapping[str, Any] | str | Path | None, place: Path) -> str | None:
    """The path of an .npz (or ONNX) file: the given one, or `place` with the given arrays."""
    if given is None:
        return None
    if isinstance(given, str | Path):
        if not Path(given).is_file():
            raise ConfigError(f"There is no file {given}.", hint="Name an .npz file of arrays by name.")
        return str(Path(given).resolve())
    import numpy as np

    np.savez(place, **{name: host(name, value) for name, value in given.items()})
    return str(place)
