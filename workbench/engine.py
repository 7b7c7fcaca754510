"""Engine: a built engine as a value, with its plan, profiles and logs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import compilers
from workbench.build_folder import assembled, damaged, note_in, plan_in, record_in
from workbench.compilers.base import ListsTactics, Refits, Requirement, Runs, Tactic
from workbench.compilers.compatibility import compatibility
from workbench.compilers.config import BuildConfig
from workbench.core.documents import DocumentError
from workbench.core.errors import StoreError, WorkbenchError
from workbench.core.store import ENGINE_FILES, IMPORTED, output, read_seal, sound
from workbench.measure.document import Profile, read_profile
from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.plan import Plan

if TYPE_CHECKING:
    from workbench.measure.running import Running
    from workbench.plan.document import SecondsDocument
    from workbench.plan.record import Record


@dataclass(frozen=True)
class Engine:
    """A built engine, with its plan, profiles and logs.

    Attributes:
        key: Hash of model bytes, config and compiler version; for an engine from an archive ``imported-`` and a hash of
            its files.
        folder: Its folder, which contains ``engine``, ``build.log``, ``record.json``, ``plan.json``, ``build.json``.
        model: Name of the model that it was built from.
        config: The requested config, with the compiler and target filled in.
        created: Seconds since the epoch.
        seconds: Build time by phase: load, parse, build, total.
        cached: Whether this call found it in the cache.
    """

    key: str
    folder: Path
    model: str
    config: BuildConfig
    created: float
    seconds: SecondsDocument
    cached: bool = False

    @property
    def id(self) -> str:
        """A short form of `key` to display."""
        head, mark, rest = self.key.rpartition(IMPORTED)
        return f"{head}{mark}{rest[:12]}"

    @property
    def path(self) -> Path:
        """The serialized engine."""
        return self.folder / "engine"

    @property
    def bytes(self) -> int:
        """Size of the serialized engine."""
        return self.path.stat().st_size

    @cached_property
    def plan(self) -> Plan:
        """The plan: layers, fusions and costs of this engine.

        Raises:
            StoreError: the engine's folder was removed, or its plan is damaged and its record can't replace it.
        """
        try:
            plan = plan_in(self.folder)
        except FileNotFoundError:
            raise self._gone() from None
        except StoreError as damaged:
            try:
                plan = assembled(self.folder, note_in(self.folder))
            except WorkbenchError:
                raise damaged from None
        return plan if plan.model["name"] == self.model else replace(plan, model={**plan.model, "name": self.model})

    @property
    def profiles(self) -> list[Profile]:
        """Stored profiles of this engine, oldest first.

        Raises:
            ProfileError: a profile is damaged.
        """
        return [read_profile(file) for file in sorted((self.folder / "profiles").glob("*.json"))]

    @property
    def profile(self) -> Profile | None:
        """The newest of `profiles`; None if there are none.

        Raises:
            ProfileError: it is damaged.
        """
        files = sorted((self.folder / "profiles").glob("*.json"))
        return read_profile(files[-1]) if files else None

    @property
    def measured(self) -> Plan:
        """The plan with the times of the newest profile; the plan without times if there is no profile.

        Raises:
            ProfileError: the profile's layers do not match the plan's, or the profile can't be read.
        """
        from workbench.measure.measured import apply

        profile = self.profile
        return self.plan if profile is None else apply(self.plan, profile)

    def compatibility(self) -> list[Requirement]:
        """Findings on whether it can run on this machine: compiler, version, GPU, platform."""
        note = note_in(self.folder)
        return compatibility(self.plan.compiler, self.config, note.get("platform", ""))

    @property
    def errors(self) -> dict[str, Any] | None:
        """Errors against FP32 along the graph, measured with ONNX Runtime on the CPU; None before `session.precision.accuracy`.

        ``tensors`` (relative L2 error by name), ``samples``, ``source`` (a description of the data).
        """
        from workbench.precision.accuracy import errors_file

        file = errors_file(self.folder.parent.parent, str(self.plan.model["sha256"]))
        return json.loads(file.read_text()) if file.is_file() else None

    def source(self) -> Model:
        """The model that was built. After a cast this is the cast model; its `original` is the model as written.

        Raises:
            ModelError: its file is gone.
        """
        note = note_in(self.folder)
        original = note.get("original")
        return Model(
            self.model,
            Path(note["model"]["path"]),
            original=Model(self.model, Path(original)) if original else None,
        )

    def graph(self) -> Graph:
        """The graph at the plan's shapes.

        Raises:
            ModelError: the model's file is gone.
        """
        return self.source().graph.at(self.config.opt_shapes, self.config.opt_values)

    @property
    def log(self) -> str:
        """The complete build log at VERBOSE level.

        Raises:
            StoreError: the engine's folder was removed.
        """
        return self._text("build.log")

    @property
    def record(self) -> Record:
        """What the compiler reported, with the raw layers.

        Raises:
            StoreError: the engine's folder was removed.
        """
        try:
            return record_in(self.folder)
        except FileNotFoundError:
            raise self._gone() from None

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(errors="replace")
        except FileNotFoundError:
            raise self._gone() from None

    def _gone(self) -> StoreError:
        return StoreError(f"Engine {self.id} is no longer in the store.", hint="Build it again.", code="engine-gone")

    @property
    def archive(self) -> str | None:
        """Name of the archive that it was imported from; None if it was built here."""
        imported = note_in(self.folder).get("imported")
        return None if imported is None else str(imported["archive"])

    @property
    def trusted(self) -> bool:
        """Whether it may run: it was built here, or the user trusted it (`session.engines.trust`)."""
        imported = note_in(self.folder).get("imported")
        return imported is None or imported["trust"] is True

    def check_trusted(self) -> None:
        """Refuse to run an untrusted engine from an archive, or a changed one: a serialized engine is code.

        Raises:
            StoreError: it came from an archive and you have not trusted it (code ``untrusted``), or its
                bytes do not match its seal (``damaged``).
        """
        if self.trusted:
            for name in ENGINE_FILES:
                if (self.folder / name).is_file() and not sound(self.folder, name):
                    raise damaged(self.folder, name, DocumentError("its content has changed since it was built"))
            return
        raise StoreError(
            f"Engine {self.id} came in the archive {self.archive} and was not built here. A serialized engine is code, "
            "and running it runs that code.",
            hint=f"Build it here from its model: session.engines.rebuild({self.id!r}). If you trust who made it: "
            f"session.engines.trust({self.id!r}).",
            shell_hint=f"Build it here from its model. If you trust its author: workbench trust {self.id} --session NAME.",
            code="untrusted",
        )

    @cached_property
    def tactics(self) -> list[Tactic]:
        """Every tactic that the build timed, by layer, with the builder's times and the tactic that the engine runs.

        Empty if the log lists none: TensorRT for RTX times tactics when an engine first runs, not during the build.
        """
        compiler = compilers.find(self.config.compiler, ListsTactics)
        if compiler is None:
            return []
        with (self.folder / "build.log").open(errors="replace") as lines:
            return compiler.tactics(lines)

    def open(self, profile: int = 0, *, weight_budget: int | None = None, finite: bool = True) -> Running:
        """Load it into a worker process and keep it loaded: ``with engine.open() as running: running({"x": x})``.

        Args:
            profile: Which shape profile to use.
            weight_budget: Bytes of weights on the GPU, for an engine built with ``weight_streaming=True``; the rest
                stays in the host's memory and is streamed. None leaves the choice to the engine.
            finite: Refuse inputs that hold NaN or infinity.

        Raises:
            CompilerUnavailableError: its compiler can't run engines here: there is no NVIDIA GPU, or it is not installed.
            BuildError: it can't run here; the message gives the reason.
            ConfigError: there is no such shape profile, or the engine does not support weight streaming.
            StoreError: it came from an archive and is not trusted; see `check_trusted`.
        """
        from workbench.measure.running import Running

        self.check_trusted()
        compilers.require(self.config.compiler, Runs)
        return Running(self, profile, weight_budget=weight_budget, finite=finite)

    def run(self, inputs: Mapping[str, Any], *, profile: int = 0) -> dict[str, Any]:
        """Run it once: load, run, unload. Use `open` to keep it loaded for several runs.

        Args:
            inputs: NumPy arrays or torch tensors by name; see `workbench.measure.running.Running`.
            profile: Which shape profile to use.

        Returns:
            The outputs by name, of the same type and on the same device as the inputs.

        Raises:
            WorkbenchError: as for `open`; `ConfigError` if the inputs do not fit.
        """
        with self.open(profile) as running:
            return running(inputs)

    def refit(
        self, weights: Mapping[str, Any] | str | Path, out: str | Path, *, time_limit: float | None = None
    ) -> Path:
        """Write a copy with other weights and the same kernels to `out`, in a worker and without a build.

        Needs a GPU and an engine built with ``refit=True`` or ``strip_plan=True``. Written against TensorRT's API;
        not yet tested on a GPU.

        Args:
            weights: NumPy arrays by initializer name, in the types of the model; weights left out are unchanged.
                Or the path of an ONNX file with the same graph.
            out: Path of the new engine.
            time_limit: Seconds after which the worker is stopped.

        Returns:
            `out`.

        Raises:
            ConfigError: the engine was not built for refitting, or the weights do not fit it.
            CompilerUnavailableError: as `open`.
        """
        from workbench.measure.running import refit

        self.check_trusted()
        compilers.require(self.config.compiler, Refits)
        return refit(self, weights, Path(out), time_limit)

    def save(self, path: str | Path) -> Path:
        """Copy the serialized engine to `path`; an existing file is replaced only when the copy is complete.

        Weights in a separate file are copied into the same folder, under the file name that the engine expects.

        Raises:
            StoreError: the engine's folder was removed, it is damaged, or `path` can't be written.
        """
        if not self.path.is_file():
            raise self._gone()
        seal = read_seal(self.folder)
        known = seal["files"].get("engine", []) if seal is not None else None
        size, told = self.path.stat().st_size, self.plan.facts.get("engine_bytes")
        if (told is not None and size != told) or (known is not None and size not in [each for each, _ in known]):
            wanted = told if told is not None else known[0][0] if known else 0
            raise self._broken(f"it has {size:,} bytes, but had {wanted:,} when built")
        with output(path) as draft, self.path.open("rb") as source, draft.open("wb") as out:
            digest = hashlib.sha256()
            while data := source.read(1 << 20):
                digest.update(data)
                out.write(data)
            if known is not None and digest.hexdigest() not in [each for _, each in known]:
                raise self._broken("its content has changed since it was built")
        for extra in ENGINE_FILES[1:]:
            if (self.folder / extra).is_file():
                if not sound(self.folder, extra):
                    raise self._broken(f"the content of {extra} has changed since it was built")
                with output(Path(path).parent / extra) as draft:
                    shutil.copyfile(self.folder / extra, draft)
        return Path(path)

    def _broken(self, why: str) -> StoreError:
        return StoreError(
            f"The engine in {self.folder} is damaged: {why}.",
            hint="Remove that folder and build again.",
            code="damaged",
        )

    def __repr__(self) -> str:
        return (
            f"<Engine {self.id} of {self.model} for {self.config.target} {self.config.precision}: "
            f"{self.bytes / 1e6:.1f} MB, built in {self.seconds['total']:.1f} s{', from the cache' if self.cached else ''}"
            f"{', from an archive' if self.key.startswith(IMPORTED) else ''}>"
        )


def load_engine(folder: Path, model: str | None = None, *, cached: bool = True) -> Engine:
    """The engine in a build folder.

    Raises:
        StoreError: the folder's content is damaged.
    """
    note = note_in(folder)
    return Engine(
        key=note["key"], folder=folder, model=model or note["model"]["name"],
        config=BuildConfig.from_dict(note["config"]), created=note["created"], seconds=note["seconds"], cached=cached,
    )  # fmt: skip
