"""``session.measure``: measurements on this machine's GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.compilers import require
from workbench.compilers.base import Profiles
from workbench.session.options import config_of

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig
    from workbench.core.jobs import Job
    from workbench.engine import Engine
    from workbench.measure.document import Profile
    from workbench.workspace import Workspace


class Measure:
    """Measures latency, layer times, and the cost of dynamic shapes on this machine's GPU."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def profile(
        self,
        engine: Engine | str | int | None = None,
        *,
        inputs: Mapping[str, Any] | str | Path | None = None,
        reference: Mapping[str, Any] | str | Path | bool = True,
        **options: Any,
    ) -> Profile:
        """Measure an engine and wait: latency, time of each layer, error of the outputs.

        The result is stored with the engine; see `Engine.profiles` and `Engine.measured`.

        Args:
            engine: Which engine (see `session.engines.find`); the current one by default.
            inputs: Arrays by input name, or an .npz file of them; random values by default.
            reference: What to compare the outputs with: True for the model as written, run by ONNX Runtime on the CPU
                in the model's precision; False for no comparison; arrays by output name, an .npz file of them, or
                an ONNX file.
            options: Arguments of `workbench.measure.profile.profile`, such as ``duration_ms`` or ``graph``.

        Returns:
            The profile; see `workbench.measure.document.Profile`.

        Raises:
            CompilerUnavailableError: the engine's compiler can't measure here: there is no GPU, or it is not installed.
            BuildError: the engine can't run here; the message gives the reason.
            ConfigError: inputs or reference do not fit the engine.
            StoreError: it came from an archive and is not trusted; see `Engine.check_trusted`.
        """
        return cast("Profile", self.start_profile(engine, inputs=inputs, reference=reference, **options).result())

    def start_profile(
        self,
        engine: Engine | str | int | None = None,
        *,
        inputs: Mapping[str, Any] | str | Path | None = None,
        reference: Mapping[str, Any] | str | Path | bool = True,
        **options: Any,
    ) -> Job:
        """Start to measure an engine and return immediately; see `profile`."""
        from workbench.measure.profiling import start

        chosen = self._workspace.engines.find(engine)
        chosen.check_trusted()
        require(chosen.config.compiler, Profiles)
        events = self._workspace.events

        def done(job: Job) -> None:
            if job.status == "done" and not events.closed:
                events.emit("profile-added", {"engine": chosen.key, "model": chosen.model})

        return start(chosen, inputs=inputs, reference=reference, options=options, on_change=done)

    def dynamic(
        self, model: Any, config: BuildConfig | None = None, *, measure: Mapping[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Measure the cost of a dynamic shape: build the model for the opt shape only and for the whole range.

        Args:
            model: As for `Session.build`.
            config: As for `Session.build`; its first shape profile must hold a range, as in
                ``shapes={"x": "1x3x224x224:8x3x224x224:32x3x224x224"}``.
            measure: Arguments of `profile`, the same for both engines.
            options: Fields of `BuildConfig`.

        Returns:
            ``fixed`` and ``dynamic``, each with ``engine`` (its key), ``latency`` at the opt shape, ``launches``,
            ``build_s``, ``error``; with TensorRT for RTX also ``fallback``, the dynamic engine with the
            fallback kernels (for any shape) that run until the kernels for the current shape are compiled;
            ``shapes``; ``overhead_ms`` of the medians, and ``overhead`` as a fraction of the fixed engine's median.

        Raises:
            ConfigError: there is no range.
            CompilerUnavailableError: there is no GPU.
        """
        from workbench.experiments.dynamic import dynamic_overhead

        asked = config_of(config, options)
        require(asked.compiler, Profiles)  # before two engines are built
        return dynamic_overhead(self._workspace, model, asked, **(measure or {}))

    def __repr__(self) -> str:
        return f"<Measurements of session {self._workspace.name}>"
