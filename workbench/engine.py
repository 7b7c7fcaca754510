"""Engine: a built engine as a value, with everything that is known of it."""

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
    """A built engine and everything known of it.

    Attributes:
        key: Its identity: model bytes, config, compiler version. Of one from an archive: ``imported-`` and what is in it.
        folder: Where it lies: ``engine``, ``build.log``, ``record.json``, ``plan.json``, ``build.json``.
        model: Name of the model that it was built from.
        config: What was asked, with the compiler and target filled in.
        created: Seconds since the epoch.
        seconds: Time that the build took: load, parse, build, total.
        cached: Whether this call found it ready made.
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
        """A short form of `key` for people."""
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
        """What the compiler made of the model.

        Raises:
            StoreError: the engine's folder was removed, or its plan is damaged and can't be made again from the record.
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
        """What was measured of it, oldest first.

        Raises:
            ProfileError: a profile is damaged.
        """
        return [read_profile(file) for file in sorted((self.folder / "profiles").glob("*.json"))]

    @property
    def profile(self) -> Profile | None:
        """The newest of `profiles`; None before anything was measured.

        Raises:
            ProfileError: it is damaged.
        """
        files = sorted((self.folder / "profiles").glob("*.json"))
        return read_profile(files[-1]) if files else None

    @property
    def measured(self) -> Plan:
        """The plan with the times of the newest profile; the plan itself where there is none.

        Raises:
            ProfileError: the profile's layers are not the plan's, or it can't be read.
        """
        from workbench.measure.measured import apply

        profile = self.profile
        return self.plan if profile is None else apply(self.plan, profile)

    def compatibility(self) -> list[Requirement]:
        """Whether it can run on this machine: compiler, version, GPU, platform, each in words."""
        note = note_in(self.folder)
        return compatibility(self.plan.compiler, self.config, note.get("platform", ""))

    @property
    def errors(self) -> dict[str, Any] | None:
        """Errors against FP32 along the graph, measured with ONNX Runtime on the CPU; None before `session.precision.accuracy`.

        ``tensors`` (relative L2 error by name), ``samples``, ``source`` (the data in words).
        """
        from workbench.precision.accuracy import errors_file

        file = errors_file(self.folder.parent.parent, str(self.plan.model["sha256"]))
        return json.loads(file.read_text()) if file.is_file() else None

    def source(self) -> Model:
        """The model that was built (after a cast, the cast one; its `original` is then the model as written).

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
        """The graph at the shapes that the plan was made for.

        Raises:
            ModelError: the model's file is gone.
        """
        return self.source().graph.at(self.config.opt_shapes, self.config.opt_values)

    @property
    def log(self) -> str:
        """The whole build log, VERBOSE.

        Raises:
            StoreError: the engine's folder was removed.
        """
        return self._text("build.log")

    @property
    def record(self) -> Record:
        """The compiler's answer, with the raw layers.

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
        """Name of the archive that it came in; None where it was built here."""
        imported = note_in(self.folder).get("imported")
        return None if imported is None else str(imported["archive"])

    @property
    def trusted(self) -> bool:
        """Whether it may be run: it was built here, or its user said so (`session.engines.trust`)."""
        imported = note_in(self.folder).get("imported")
        return imported is None or imported["trust"] is True

    def check_trusted(self) -> None:
        """Refuse to run an engine that came from an archive, or that was changed: a serialized engine is code.

        Raises:
            StoreError: it came from an archive and nobody said that it is to be trusted (code ``untrusted``), or its
                bytes are not those that were sealed (``damaged``).
        """
        if self.trusted:
            for name in ENGINE_FILES:
                if (self.folder / name).is_file() and not sound(self.folder, name):
                    raise damaged(self.folder, name, DocumentError("its bytes are not those that were built"))
            return
        raise StoreError(
            f"Engine {self.id} came in the archive {self.archive} and was not built here. A serialized engine is code, "
            "and running it runs that code.",
            hint=f"Build it here from its model: session.engines.rebuild({self.id!r}). If you trust who made it: "
            f"session.engines.trust({self.id!r}).",
            shell_hint=f"Build it here from its model. If you trust who made it: workbench trust {self.id} --session NAME.",
            code="untrusted",
        )

    @cached_property
    def tactics(self) -> list[Tactic]:
        """Every tactic that the build timed, by layer, with the builder's own times and which the engine runs.

        Empty where the log tells of none: TensorRT for RTX times tactics when an engine first runs, not here.
        """
        compiler = compilers.find(self.config.compiler, ListsTactics)
        if compiler is None:
            return []
        with (self.folder / "build.log").open(errors="replace") as lines:
            return compiler.tactics(lines)

    def open(self, profile: int = 0, *, weight_budget: int | None = None, finite: bool = True) -> Running:
        """Load it into a worker process and keep it there: ``with engine.open() as running: running({"x": x})``.

        Args:
            profile: Which shape profile to use.
            weight_budget: Bytes of weights on the GPU, for an engine built with ``weight_streaming=True``; the rest
                stays in the host's memory and is streamed. None leaves the choice to the engine.
            finite: Refuse inputs that hold NaN or infinity.

        Raises:
            CompilerUnavailableError: its compiler can't run engines here: there is no NVIDIA GPU, or it is not installed.
            BuildError: it can't be used here; the message says why.
            ConfigError: there is no such shape profile, or the engine streams no weights.
            StoreError: it came from an archive and is not trusted; see `check_trusted`.
        """
        from workbench.measure.running import Running

        self.check_trusted()
        compilers.require(self.config.compiler, Runs)
        return Running(self, profile, weight_budget=weight_budget, finite=finite)

    def run(self, inputs: Mapping[str, Any], *, profile: int = 0) -> dict[str, Any]:
        """Execute it once: load, run, unload. `open` keeps it loaded for more.

        Args:
            inputs: NumPy arrays or torch tensors by name; see `workbench.measure.running.Running`.
            profile: Which shape profile to use.

        Returns:
            The outputs by name, of the kind of the inputs and on their device.

        Raises:
            WorkbenchError: as `open`, and `ConfigError` where the inputs do not fit.
        """
        with self.open(profile) as running:
            return running(inputs)

    def refit(
        self, weights: Mapping[str, Any] | str | Path, out: str | Path, *, time_limit: float | None = None
    ) -> Path:
        """Write a copy with other weights and the same kernels to `out`; takes no build. In a worker.

        Needs a GPU and an engine built with ``refit=True`` or ``strip_plan=True``. Written against TensorRT's names;
        not yet run on a GPU.

        Args:
            weights: NumPy arrays by the names of the model's initializers, in its types; those left out stay as they
                are. Or the path of an ONNX file with the same graph.
            out: Where the new engine goes.
            time_limit: Seconds after which it is ended.

        Returns:
            `out`.

        Raises:
            ConfigError: the engine was not built for it, or weights that do not fit it.
            CompilerUnavailableError: as `open`.
        """
        from workbench.measure.running import refit

        self.check_trusted()
        compilers.require(self.config.compiler, Refits)
        return refit(self, weights, Path(out), time_limit)

    def save(self, path: str | Path) -> Path:
        """Copy the serialized engine to `path`; what was there is replaced only by the whole file.

        Weights that are in a file beside the engine are copied into the same folder, under the name that the engine gives.

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
            raise self._broken(f"it has {size:,} bytes and was built with {wanted:,}")
        with output(path) as draft, self.path.open("rb") as source, draft.open("wb") as out:
            digest = hashlib.sha256()
            while data := source.read(1 << 20):
                digest.update(data)
                out.write(data)
            if known is not None and digest.hexdigest() not in [each for _, each in known]:
                raise self._broken("its bytes are not those that were built")
        for extra in ENGINE_FILES[1:]:
            if (self.folder / extra).is_file():
                if not sound(self.folder, extra):
                    raise self._broken(f"the bytes of {extra} are not those that were built")
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
        StoreError: what is there is damaged.
    """
    note = note_in(folder)
    return Engine(
        key=note["key"], folder=folder, model=model or note["model"]["name"],
        config=BuildConfig.from_dict(note["config"]), created=note["created"], seconds=note["seconds"], cached=cached,
    )  # fmt: skip
