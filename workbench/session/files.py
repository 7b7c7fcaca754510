"""``session.files``: archives, and files and commands of trtexec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.session.options import config_of

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig
    from workbench.compilers.tensorrt.trtexec import Command
    from workbench.plan import Plan
    from workbench.workspace import Workspace


class Files:
    """Writes the session as one file; reads trtexec's files and writes its commands."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def export(self, path: str | Path) -> Path:
        """Write the session with its models and engines into one archive (zip); `Session.from_archive` opens it.

        Raises:
            StoreError: a model's file is gone, or the archive can't be written.
        """
        from workbench.session.archive.write import write

        return write(self._workspace, Path(path))

    def inspect(
        self,
        layers: str | Path,
        *,
        profile: str | Path | None = None,
        times: str | Path | None = None,
        metadata: Sequence[str | Path] = (),
        model: Any = None,
    ) -> Plan:
        """The plan of an engine that was built elsewhere, from trtexec's output files.

        Args:
            layers: File of ``--exportLayerInfo`` (TensorRT 8 to 11, RTX), or a plan as JSON.
            profile: File of ``--exportProfile``, for the time of each layer.
            times: File of ``--exportTimes``, for the end-to-end latency.
            metadata: Files that state the GPU and how the engine was built.
            model: The model that it was built from, or anything that `Session.add` takes. Without it, the costs
                before fusion and the nodes without a layer are unknown.

        Raises:
            ProfileError: a file can't be read or belongs to another engine or model.
            ListingError: the layers do not follow a known schema.
        """
        from workbench.compilers.tensorrt import trtexec

        found = None if model is None else self._workspace.models.resolve(model)
        sha256 = None if found is None else found.sha256(self._workspace.store)
        plan = trtexec.inspect(layers, profile=profile, times=times, metadata=metadata, model=found, sha256=sha256)
        files = {
            "layers": str(layers), "profile": str(profile) if profile else None, "times": str(times) if times else None,
            "metadata": [str(file) for file in metadata], "model": None if found is None else found.name,
        }  # fmt: skip
        return replace(plan, facts={**plan.facts, "inspected": files})

    def trtexec(
        self,
        model: Any,
        config: BuildConfig | None = None,
        *,
        version: int = 11,
        measure: bool = True,
        **options: Any,
    ) -> Command:
        """The trtexec command that builds `model` as the workbench would; ``notes`` lists caveats.

        A model in FP16 or BF16 is converted first: the command names the converted file.

        Args:
            model: A Model, the name of one in the session, or anything that `Session.add` takes.
            config: What to build.
            version: trtexec's version, 10 or 11.
            measure: Also run and profile the engine.
            options: Fields of `BuildConfig`, as for `Session.build`.

        Raises:
            ConfigError: shapes are missing, or an option has no counterpart in that trtexec.
            ModelError: the model can't be read, exported or converted.
        """
        from workbench.compilers.config import check_profiles
        from workbench.compilers.tensorrt import trtexec
        from workbench.passes.cast import cast

        asked = config_of(config, options)
        found = self._workspace.models.resolve(model, asked.profiles[0] if asked.profiles else None)
        check_profiles(found, asked, values=True)
        if asked.precision != "fp32":
            found = cast(found, asked.precision, self._workspace.store)
        return trtexec.command(
            found.path,
            asked,
            version,
            engine=f"{found.name}.engine",
            outputs=found.name,
            measure=measure,
            dynamic=found.graph.dynamic_inputs,
        )

    def __repr__(self) -> str:
        return f"<Files of session {self._workspace.name}>"
