"""From a Model and a BuildConfig to an Engine: cast, look up, build in a worker, assemble, keep.

Equal requests share one engine: the key is made of the model's bytes, the config, and the compiler's
exact version. While one process builds, others that want the same wait for it and take its result.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench import compilers
from workbench.compilers.tensorrt.compatibility import Finding, compatibility, this_platform
from workbench.config import BuildConfig, Shape
from workbench.core.errors import BuildError, CancelledError, ProfileError, StoreError, WorkbenchError
from workbench.core.events import call
from workbench.core.jobs import Job, Progress, Status
from workbench.core.store import IMPORTED, Store, read_seal, sound, unwritable, written
from workbench.hardware.machine import gpus
from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.model.provenance import Source
from workbench.plan import Plan, assemble
from workbench.plan.validate import SchemaError, checker

if TYPE_CHECKING:
    from workbench.compilers.tensorrt.tactics import Tactic
    from workbench.measure.running import Running
    from workbench.plan.record import Record

HASH_FIRST_BELOW = 32_000_000
"""Bytes of a model up to which its fingerprint is taken before the build begins."""

MOST_PLACES = 5
"""Nodes of a refused model whose place in the source is told in the message; all are in its details."""

ANALYSIS = 6
"""Raise it when `workbench.plan.assemble` gives another plan for the same record: kept plans are renewed."""

READING = 2
"""Raise it when workers make another record of the same build: engines are then built anew."""


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
    seconds: Mapping[str, float]
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
                plan = assembled(self.folder, _note(self.folder))
            except WorkbenchError:
                raise damaged from None
        return plan if plan.model["name"] == self.model else replace(plan, model={**plan.model, "name": self.model})

    @property
    def profiles(self) -> list[dict[str, Any]]:
        """What was measured of it (`workbench.compilers.tensorrt.profile.profile`), oldest first."""
        return [_profile_in(file) for file in sorted((self.folder / "profiles").glob("*.json"))]

    @property
    def profile(self) -> dict[str, Any] | None:
        """The newest of `profiles`; None before anything was measured."""
        files = sorted((self.folder / "profiles").glob("*.json"))
        return _profile_in(files[-1]) if files else None

    @property
    def measured(self) -> Plan:
        """The plan with the times of the newest profile; the plan itself where there is none.

        Raises:
            ProfileError: the profile's layers are not the plan's, or it can't be read.
        """
        from workbench.compilers.tensorrt.profile import apply

        profile = self.profile
        if profile is None:
            return self.plan
        try:
            return apply(self.plan, profile)
        except (KeyError, TypeError) as error:
            raise ProfileError(
                f"The newest profile of {self.id} is not whole: {error}.", hint="Measure again."
            ) from None

    def compatibility(self) -> list[Finding]:
        """Whether it can run on this machine: compiler, version, GPU, platform, each in words."""
        note = _note(self.folder)
        return compatibility(self.plan.compiler, self.config, note.get("platform", ""))

    @property
    def errors(self) -> dict[str, Any] | None:
        """Errors against FP32 along the graph, measured with ONNX Runtime on the CPU; None before `Session.accuracy`.

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
        note = _note(self.folder)
        original = Model(self.model, Path(note["original"])) if note.get("original") else None
        return Model(self.model, Path(note["model"]["path"]), original=original)

    def graph(self) -> Graph:
        """The graph at the shapes that the plan was made for.

        Raises:
            ModelError: the model's file is gone.
        """
        return self.source().graph.at(opt_shapes(self.config), opt_values(self.config))

    @property
    def log(self) -> str:
        """The whole build log, VERBOSE.

        Raises:
            StoreError: the engine's folder was removed.
        """
        return self._text("build.log")

    @property
    def record(self) -> dict[str, Any]:
        """What the compiler answered, as `workbench.compilers.base.Record`: the raw layers among it.

        Raises:
            StoreError: the engine's folder was removed.
        """
        try:
            return _record_in(self.folder)
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
        imported = _note(self.folder).get("imported")
        return None if imported is None else str(imported["archive"])

    @property
    def trusted(self) -> bool:
        """Whether it may be run: it was built here, or its user said so (`Session.trust`)."""
        imported = _note(self.folder).get("imported")
        return imported is None or imported["trust"] is True

    def check_trusted(self) -> None:
        """Refuse to run an engine that came from an archive, or that was changed: a serialized engine is code.

        Raises:
            StoreError: it came from an archive and nobody said that it is to be trusted (code ``untrusted``), or its
                bytes are not those that were sealed (``damaged``).
        """
        if self.trusted:
            if not sound(self.folder, "engine"):
                raise _damaged(self.folder, "engine", SchemaError("its bytes are not those that were built"))
            return
        raise StoreError(
            f"Engine {self.id} came in the archive {self.archive} and was not built here. A serialized engine is code, "
            "and running it runs that code.",
            hint=f"Build it here from its model: session.rebuild({self.id!r}). If you trust who made it: "
            f"session.trust({self.id!r}), or workbench trust {self.id} --session NAME.",
            code="untrusted",
        )

    @cached_property
    def tactics(self) -> list[Tactic]:
        """Every tactic that the build timed, by layer, with the builder's own times and which the engine runs.

        Empty where the log tells of none: TensorRT for RTX times tactics when an engine first runs, not here.
        """
        from workbench.compilers.tensorrt.tactics import parse_tactics

        with (self.folder / "build.log").open(errors="replace") as lines:
            return parse_tactics(lines)

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
        compilers.require(self.config.compiler, compilers.Ability.RUN)
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
        compilers.require(self.config.compiler, compilers.Ability.RUN)
        return refit(self, weights, Path(out), time_limit)

    def save(self, path: str | Path) -> Path:
        """Copy the serialized engine to `path`; what was there is replaced only by the whole file.

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
        with written(path) as draft, self.path.open("rb") as source, draft.open("wb") as out:
            digest = hashlib.sha256()
            while data := source.read(1 << 20):
                digest.update(data)
                out.write(data)
            if known is not None and digest.hexdigest() not in [each for _, each in known]:
                raise self._broken("its bytes are not those that were built")
        return Path(path)

    def _broken(self, why: str) -> StoreError:
        return StoreError(
            f"The engine in {self.folder} is damaged: {why}.",
            hint="Remove that folder and build again.",
            code="damaged",
        )

    def __repr__(self) -> str:
        return (
            f"<Engine {self.id} of {self.model} for {'+'.join(self.config.targets)} {self.config.precision}: "
            f"{self.bytes / 1e6:.1f} MB, built in {self.seconds['total']:.1f} s{', from the cache' if self.cached else ''}"
            f"{', from an archive' if self.key.startswith(IMPORTED) else ''}>"
        )


def _profile_in(file: Path) -> dict[str, Any]:
    from workbench.compilers.tensorrt.profile import SCHEMA

    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ProfileError(
            f"The profile {file.name} can't be read: {error}.", hint=f"Remove {file} and measure again."
        ) from None
    if not isinstance(document, dict) or document.get("schema", SCHEMA) != SCHEMA:
        raise ProfileError(f"{file.name} is no {SCHEMA} document.", hint=f"Remove {file} and measure again.")
    return document


def load_engine(folder: Path, model: str | None = None, *, cached: bool = True) -> Engine:
    """The engine in a build folder.

    Raises:
        StoreError: what is there is damaged.
    """
    note = _note(folder)
    return Engine(
        key=note["key"], folder=folder, model=model or note["model"]["name"],
        config=BuildConfig.from_dict(note["config"]), created=note["created"], seconds=note["seconds"], cached=cached,
    )  # fmt: skip


def set_trust(folder: Path, store: Store) -> None:
    """Remember that an engine from an archive may be run."""
    note = _note(folder)
    if note.get("imported") is not None:
        note["imported"]["trust"] = True
        store.replace_in_build(folder, {"build.json": _encoded(json.dumps(note))})


def _note(folder: Path) -> dict[str, Any]:
    """What a build folder says of itself."""
    try:
        data = (folder / "build.json").read_bytes()
        if not sound(folder, "build.json", data):
            raise SchemaError("it is not what was written")
        note: dict[str, Any] = json.loads(data)
        _check_note(note, "build.json")
        return note
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, "build.json", error) from None


def plan_in(folder: Path) -> Plan:
    """The plan that a build folder holds.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is damaged.
    """
    try:
        data = (folder / "plan.json").read_bytes()
        if not sound(folder, "plan.json", data):
            raise SchemaError("it is not what was written")
        # One with a seal was made here, or looked at when it came.
        return Plan.from_dict(json.loads(data), check=read_seal(folder) is None)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, "plan.json", error) from None
    except StoreError as error:
        raise _damaged(folder, "plan.json", error) from None


def _record_in(folder: Path) -> dict[str, Any]:
    """The compiler's answer that a build folder holds.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is damaged.
    """
    try:
        data = (folder / "record.json").read_bytes()
        if not sound(folder, "record.json", data):
            raise SchemaError("it is not what was written")
        record: dict[str, Any] = json.loads(data)
        _check_record(record, "record.json")
        return record
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, "record.json", error) from None


def assembled(
    folder: Path, note: Mapping[str, Any], asked: Model | None = None, sha256: Callable[[Model], str] | None = None
) -> Plan:
    """The plan of a build, made again from the record that the compiler left.

    Args:
        folder: The build.
        note: What its folder says.
        asked: The model that a build was asked of; by default the file that it was built from.
        sha256: Computes a model's fingerprint.

    Raises:
        WorkbenchError: the record is damaged, or the model's file is gone or was changed.
    """
    config = BuildConfig.from_dict(note["config"])
    model = Model(note["model"]["name"], Path(note["model"]["path"]))
    if note.get("original"):
        model = replace(model, original=asked or Model(model.name, Path(note["original"])))
    elif asked is not None:
        model = replace(asked, name=model.name)
    now = sha256(model) if sha256 is not None else fingerprint(model.path, set(model.companions))
    if now != note["model"]["sha256"]:
        raise StoreError(
            f"{model.path} is no longer the model that was built.", hint="Build it again.", code="model-changed"
        )
    try:
        record = _record_in(folder)
    except FileNotFoundError as error:
        raise _damaged(folder, "record.json", error) from None
    return assemble(
        model.graph.at(opt_shapes(config), opt_values(config)), cast("Record", record), model={k: note["model"][k] for k in ("name", "sha256")},
        config=note["config"], evidence=compilers.get(config.compiler).evidence, renamed=note["renamed"],
        provenance=model.provenance,
    )  # fmt: skip


def _damaged(folder: Path, name: str, error: Exception) -> StoreError:
    why = error.message if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
    return StoreError(
        f"The stored build {folder.name[:12]} is damaged: {name}: {why}{'' if why.endswith('.') else '.'}",
        hint=f"Remove {folder} and build again.",
        code="damaged",
    )


_TEXT_OR_NULL = {"type": ["string", "null"]}
_WHOLE = {"type": "integer"}
_WHOLES = {"type": "array", "items": _WHOLE}

_check_note = checker(
    {
        "type": "object",
        "properties": {
            "key": {"type": "string"},
            "created": {"type": "number"},
            "analysis": _WHOLE,
            "config": {"type": "object"},
            "model": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                    "path": {"type": "string"},
                },
                "required": ["name", "sha256", "path"],
            },
            "original": _TEXT_OR_NULL,
            "renamed": {"type": "object", "additionalProperties": {"type": "string"}},
            "seconds": {"type": "object", "additionalProperties": {"type": "number"}, "required": ["total"]},
            "platform": {"type": "string"},
            "imported": {
                "type": "object",
                "properties": {"archive": {"type": "string"}, "key": {"type": "string"}, "trust": {"type": "boolean"}},
                "required": ["archive", "key", "trust"],
            },
        },
        "required": ["key", "created", "config", "model", "renamed", "seconds"],
    }
)
"""Checks a ``build.json``."""

_TENSOR_RECORDS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "shape": _WHOLES,
            "strides": {"anyOf": [_WHOLES, {"type": "null"}]},
            "dtype": {"type": "string"},
            "format": {"type": "string"},
        },
        "required": ["name"],
    },
}

_check_record = checker(
    {
        "type": "object",
        "properties": {
            "compiler": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "version": {"type": "string"}, "target": {"type": "string"}},
                "required": ["name", "version", "target"],
            },
            "seconds": {"type": "object", "additionalProperties": {"type": "number"}},
            "layers": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "type": {"type": "string"},
                        "inputs": _TENSOR_RECORDS,
                        "outputs": _TENSOR_RECORDS,
                        "constants": _TENSOR_RECORDS,
                        "tactic": {"type": "string"},
                        "stream": _WHOLE,
                        "event": {"type": ["integer", "null"]},
                        "nodes": {"type": "array", "items": {"type": "string"}},
                        "metadata": {"type": "string"},
                        "evidence": {"type": "string"},
                        "detailed": {"type": "boolean"},
                    },
                    "required": ["name", "type"],
                },
            },
            "io": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "mode": {"type": "string"},
                        "dtype": {"type": "string"},
                        "shape": _WHOLES,
                        "format": {"type": "string"},
                        "location": {"type": "string"},
                        "profiles": {
                            "type": "array",
                            "items": {"type": "object", "additionalProperties": _WHOLES},
                        },
                    },
                    "required": ["name"],
                },
            },
            "tensors": {"type": "object", "additionalProperties": {"type": "array"}},
            "folded": {"type": "array", "items": {"type": "string"}},
            "facts": {"type": "object"},
            "warnings": {"type": "array", "items": {"type": "string"}},
            "engine_bytes": {"type": "integer", "minimum": 0},
        },
        "required": ["compiler", "seconds", "layers", "io"],
    }
)
"""Checks a ``record.json``: a compiler's `Record`."""


class _Work:
    """What one build works on: the model as the compiler gets it, and the folder that becomes the engine's."""

    def __init__(self, model: Model, config: BuildConfig, compiler: compilers.Compiler, scratch: Path) -> None:
        self.model, self.config, self.compiler = model, config, compiler
        self.folder = scratch / "build"
        self.folder.mkdir()
        self.renamed = model.graph.needs_renaming()
        # A compiler opens functions and sorts nodes too, but names what it opens in its own way.
        own = bool(self.renamed) or model.graph.rewritten
        self.file = _with_names(model, self.renamed, scratch) if own else model.path.resolve()


@dataclass
class Build:
    """A build under way, in a thread of its own; the work is in a worker process.

    Use `Session.start_build` to make one. `result()` waits; `cancel()` stops it at once.
    """

    model: Model
    config: BuildConfig
    store: Store
    time_limit: float | None = None
    keep: Callable[[Engine], object] | None = None
    on_job: Callable[[Job], object] | None = None
    status: Status = field(default="running", init=False)
    message: str = field(default="", init=False)
    failure: str | None = field(default=None, init=False)
    """Name of the folder in the store's ``failures`` that keeps what a failed build left."""
    completed: BuildConfig | None = field(default=None, init=False)
    """`config` with the compiler and target filled in, once they are known."""

    def __post_init__(self) -> None:
        self._job: Job | None = None
        self._engine: Engine | None = None
        self._error: WorkbenchError | None = None
        self._cancelled = threading.Event()
        self._done = threading.Event()
        self._listeners: list[Callable[[Build], None]] = []
        self._begin = time.monotonic()
        self._end: float | None = None
        self._thread = threading.Thread(target=self._work, name=f"build {self.model.name}", daemon=True)

    def start(self) -> Build:
        """Begin; once."""
        self._thread.start()
        return self

    @property
    def progress(self) -> list[Progress]:
        """Phases of the step under way, in the order in which they began."""
        return list(self._job.progress.values()) if self._job else []

    @property
    def seconds(self) -> float:
        """Seconds since the start, or until the end."""
        return (self._end or time.monotonic()) - self._begin

    @property
    def pid(self) -> int | None:
        """Process id of the worker, once there is one."""
        return self._job.pid if self._job else None

    @property
    def error(self) -> WorkbenchError | None:
        """Why it failed."""
        return self._error

    @property
    def engine(self) -> Engine | None:
        """The result, once there is one."""
        return self._engine

    def on_change(self, listener: Callable[[Build], None]) -> None:
        """Call `listener(build)` at each step and at the end, from a thread of the build's."""
        self._listeners.append(listener)

    def cancel(self) -> None:
        """Stop it; its worker is ended."""
        self._cancelled.set()
        if self._job is not None:
            self._job.cancel()

    def result(self, timeout: float | None = None) -> Engine:
        """Wait for the engine.

        Raises:
            WorkbenchError: why there is none.
            TimeoutError: `timeout` seconds passed; the build goes on.
        """
        try:
            if not self._done.wait(timeout):
                raise TimeoutError(f"The build of {self.model.name} is still running.")
        except KeyboardInterrupt:
            self.cancel()
            self._done.wait(5)  # for its worker's end, and its unfinished folder
            raise
        if self._error is not None:
            raise self._error
        assert self._engine is not None
        return self._engine

    # --- the work -----------------------------------------------------------------------------------

    def _work(self) -> None:
        status: Status = "failed"
        try:
            engine = self._run()
            if self.keep is not None:
                self.keep(engine)
            self._engine = engine
            status = "done"
        except CancelledError as error:
            self._error, status = error, "cancelled"
        except WorkbenchError as error:
            self._error = error
        except OSError as error:
            self._error = unwritable(error.filename or self.store.path, error, store=True)
        except Exception as error:  # noqa: BLE001 - the boundary of the thread: result() raises it
            self._error = WorkbenchError(
                f"{type(error).__name__}: {error}",
                hint="This is a fault of the workbench; please report it.",
            )
            self._error.__cause__ = error
        self._end = time.monotonic()
        self.status = status
        self._tell()  # before anyone who waits goes on
        self._done.set()

    def _tell(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        call(self._listeners, self)

    def _use(self, job: Job) -> Job:
        self._job = job
        if self.on_job is not None:
            self.on_job(job)
        job.on_change(lambda _job: self._tell())
        if self._cancelled.is_set():
            job.cancel()
        return job

    def _run(self) -> Engine:
        compiler = compilers.get(self.config.compiler)
        config = self.completed = compiler.complete(self.config)
        model = self.model
        if (found := self._known(compiler, config)) is not None:
            return found
        self.store.check_writable()
        # Start the worker before anything else: it loads the compiler while the model is looked at here.
        task = self._spawn(compiler)
        try:
            check_profiles(model, config)
            if config.precision != "fp32":
                from workbench.precision import cast as convert

                self._tell(f"Converting to {config.precision}")
                model = convert(model, config.precision, self.store, on_job=self._use)
            with self.store.scratch("build") as scratch:
                work = _Work(model, config, compiler, scratch)
                if model.bytes > HASH_FIRST_BELOW:
                    self._launch(task, work)  # a large file is fingerprinted while it is built, not before
                sha256 = model.sha256(self.store)
                key = engine_key(sha256, config, compiler.version())
                if (found := self._found(key)) is not None:
                    return found
                with self.store.lock(key, waiting=partial(self._wait, task), stop=self._cancelled.is_set):
                    if (found := self._found(key)) is not None:
                        return found
                    if task.status == "cancelled" and not self._cancelled.is_set():
                        task = self._spawn(compiler)  # the other process gave up; this one's worker was ended
                    self._launch(task, work)
                    try:
                        return self._finish(task, work, sha256, key)
                    except CancelledError:
                        raise
                    except WorkbenchError as error:
                        self._keep_failure(work, sha256, error)
                        raise
        finally:
            task.cancel()

    def _keep_failure(self, work: _Work, sha256: str, error: WorkbenchError) -> None:
        """Keep the log, the request and the record of a failed build, and say where in the error."""
        request = {
            "model": {"name": self.model.name, "path": str(self.model.path), "sha256": sha256},
            "config": work.config.to_dict(),
            "compiler": {"name": work.compiler.name, "version": work.compiler.version()},
            "platform": this_platform(),
            "time": time.time(),
        }
        name = re.sub(r"[^A-Za-z0-9]+", "-", self.model.name)[:40].strip("-") or "model"
        folder = self.store.keep_failure(
            work.folder, name, {"request.json": request, "error.json": error.to_dict()}
        )  # fmt: skip
        if folder is None:
            return
        self.failure = folder.name
        error.details = {**error.details, "folder": str(folder)}
        if (folder / "build.log").is_file():
            error.details["log"] = str(folder / "build.log")
            kept = f"The build log is kept for a week: {folder / 'build.log'}"
            error.hint = f"{error.hint}\n{kept}" if error.hint else kept

    def _spawn(self, compiler: compilers.Compiler) -> Job:
        title = f"build of {self.model.name}"
        return Job(compiler.task, {}, title=title, preload=compiler.preload, time_limit=self.time_limit)

    def _wait(self, task: Job) -> None:
        self._tell("Another process is building the same engine; waiting")
        task.cancel()  # leave the machine to the one that builds

    def _known(self, compiler: compilers.Compiler, config: BuildConfig) -> Engine | None:
        """The engine of an earlier build of an unchanged file: nothing is opened, nothing is started."""
        sha256 = self.store.known_fingerprint(self.model.path) if self.model.path.is_file() else None
        if sha256 is not None and config.precision != "fp32":
            from workbench.passes.cast import known_cast

            low = known_cast(self.model, config.precision, sha256, self.store)
            sha256 = self.store.known_fingerprint(low.path) if low is not None else None
        return None if sha256 is None else self._found(engine_key(sha256, config, compiler.version()))

    def _found(self, key: str) -> Engine | None:
        folder = self.store.build(key)
        if folder is None:
            if self.store.standing(key) == "foreign":
                self._tell("What is kept under this key was not built by this store; building")
            return None
        if not self._current(folder):
            with self.store.lock(f"renew-{key}"):
                if not self._current(folder):
                    self._renew(folder)
        engine = load_engine(folder, self.model.name)
        seal = read_seal(folder)
        if seal is not None and engine.bytes not in [size for size, _ in seal["files"].get("engine", [])]:
            raise _damaged(
                folder, "engine", SchemaError(f"it has {engine.bytes:,} bytes, other than when it was built")
            )
        self._tell("Found in the cache")
        return engine

    def _current(self, folder: Path) -> bool:
        """Whether the plan in a build folder is whole and of the present analysis."""
        if _note(folder).get("analysis") != ANALYSIS:
            return False
        try:
            plan_in(folder)
        except (StoreError, FileNotFoundError):
            return False
        return True

    def _launch(self, task: Job, work: _Work) -> None:
        if self._job is task:
            return  # begun before the fingerprint was known
        self._use(task)
        task.start(
            model=str(work.file), config=work.config.to_dict(), folder=str(work.folder),
            cache=str(self._cache(work.compiler)), **work.compiler.arguments(),
        )  # fmt: skip

    def _cache(self, compiler: compilers.Compiler) -> Path:
        """Where timings of kernels may be kept for the next build by this version on this GPU."""
        here = [(g.name, g.driver) for g in gpus()[:1]]
        identity = json.dumps([compiler.name, compiler.version(), here])
        return self.store.path / "caches" / "builds" / hashlib.sha256(identity.encode()).hexdigest()

    def _finish(self, task: Job, work: _Work, sha256: str, key: str) -> Engine:
        model, config = work.model, work.config
        # While the worker builds: shapes, costs and provenance need only the graph.
        graph = model.graph.at(opt_shapes(config), opt_values(config))
        _ = graph.constants, graph.live, model.provenance
        try:
            task.result()
        except BuildError as error:
            raise _with_places(_in_own_names(error, work.renamed), model.provenance) from None
        record = json.loads((work.folder / "record.json").read_text())
        record["compiler"]["gpu"] = gpus()[0].to_dict() if gpus() and "current" in config.targets else None
        if model is not self.model and (warned := model.origin.get("warnings")):
            record["facts"]["cast_warnings"] = list(warned)
            (work.folder / "record.json").write_text(
                json.dumps(record, separators=(",", ":"))
            )  # plans are renewed from it
        head = {"name": self.model.name, "sha256": sha256}
        plan = assemble(
            graph,
            record,
            model=head,
            config=config.to_dict(),
            evidence=work.compiler.evidence,
            renamed=work.renamed,
            provenance=model.provenance,
        )
        note = {
            "key": key,
            "created": time.time(),
            "analysis": ANALYSIS,
            "config": config.to_dict(),
            "model": {**head, "path": str(model.path)},
            "original": str(self.model.path) if model is not self.model else None,
            "renamed": work.renamed,
            "seconds": record["seconds"],
            "platform": this_platform(),
        }
        (work.folder / "plan.json").write_bytes(_encoded(plan.to_json()))
        (work.folder / "build.json").write_bytes(_encoded(json.dumps(note)))
        return load_engine(self.store.add_build(work.folder, key), self.model.name, cached=False)

    def _renew(self, folder: Path) -> None:
        """Assemble the plan again from the record that the compiler left."""
        note = _note(folder)
        plan = assembled(folder, note, self.model, lambda model: model.sha256(self.store))
        # The note last: until it is there the plan counts as one to make again.
        self.store.replace_in_build(
            folder,
            {
                "plan.json": _encoded(plan.to_json()),
                "build.json": _encoded(json.dumps({**note, "analysis": ANALYSIS})),
            },
        )


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def engine_key(sha256: str, config: BuildConfig, version: str) -> str:
    """Identity of an engine. A build for the present GPU depends on which one that is."""
    here = [(g.name, g.sm) for g in gpus()[:1]] if "current" in config.targets or not config.targets else []
    identity = json.dumps([sha256, config.digest, config.compiler, version, here, READING])
    return hashlib.sha256(identity.encode()).hexdigest()


def opt_shapes(config: BuildConfig) -> dict[str, Shape]:
    """Shapes at which costs are counted: the opt shapes of the first profile."""
    return config.profiles[0].sizes if config.profiles else {}


def opt_values(config: BuildConfig) -> dict[str, Shape]:
    """Values of inputs that are read as a shape, at which costs are counted: the opt values of the first profile."""
    return config.profiles[0].usual if config.profiles else {}


def check_profiles(model: Model, config: BuildConfig, *, values: bool = False) -> None:
    """Refuse wrong or missing shapes and values before a worker is asked.

    Args:
        model: The model.
        config: With the profiles.
        values: Whether values that are missing are reason enough. A build leaves them to TensorRT, which knows which
            inputs it reads as a shape; here that is followed through the graph.

    Raises:
        ConfigError: a profile names no input or does not fit it; a dynamic input has no shape; an input that the model
            reads as a shape has no values. ``details["shapes"]`` then holds a suggestion for all of them.
    """
    from workbench.model.suggest import missing_shapes

    graph: Graph = model.graph
    for profile in config.profiles:
        for which in ("min", "opt", "max"):
            graph.check_shapes({name: getattr(r, which) for name, r in profile.inputs.items()})
            graph.check_values({name: getattr(r, which) for name, r in profile.values.items()})
    given = {name for p in config.profiles for name in (*p.inputs, *p.values)}
    valued = {name for p in config.profiles for name in p.values}
    read = [n for n, each in graph.shape_inputs.items() if n not in valued and not each.constant]
    missing = [n for n in graph.dynamic_inputs if n not in given and n not in read]
    if missing or (values and read):
        raise missing_shapes(model.name, graph, missing, read)


def _with_names(model: Model, renamed: Mapping[str, str], folder: Path) -> Path:
    """A copy of the graph in which the nodes of `renamed` have names that a log can carry.

    Weights are not copied: the copy points into the original file, which is linked beside it.
    """
    import onnx

    names = {node_id: name for name, node_id in renamed.items()}
    copy = onnx.ModelProto()
    copy.CopyFrom(model.graph.proto)
    found = {node.id: node for node in Graph(copy).nodes}
    for node_id, name in names.items():
        found[node_id].proto.name = name
    place = folder / "named"
    place.mkdir()
    for file in [model.path, *model.companions]:
        link = place / file.relative_to(model.path.parent)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    path = place / "workbench-named.onnx"
    path.write_bytes(copy.SerializeToString())
    return path


def _in_own_names(error: BuildError, renamed: Mapping[str, str]) -> BuildError:
    """The error with the model's own node names in place of those that the compiler was given."""
    if not renamed:
        return error
    data = json.dumps(error.to_dict())
    for name in sorted(renamed, key=len, reverse=True):
        data = data.replace(json.dumps(name)[1:-1], json.dumps(renamed[name])[1:-1])
    mended = WorkbenchError.from_dict(json.loads(data))
    return mended if isinstance(mended, BuildError) else error


def _with_places(error: BuildError, provenance: Mapping[str, Source]) -> BuildError:
    """The error with the module and the source line of each of its nodes, where they are known.

    They are added to the message (the first `MOST_PLACES`) and to ``details["sources"]``, by node.
    """
    named = error.details.get("nodes")
    names = [n["node"] if isinstance(n, dict) else n for n in named] if isinstance(named, list) else []
    places = {name: provenance[name] for name in dict.fromkeys(names) if name in provenance}
    lines = []
    for name, source in list(places.items())[:MOST_PLACES]:
        module = f"module {source.scope} ({source.module})" if source.scope else ""
        line = (
            f"{Path(source.file).name}:{source.line}" + (f": {source.code}" if source.code else "")
            if source.file
            else ""
        )
        if module or line:
            lines.append(f"\n  {name} is from {', '.join(part for part in (module, line) if part)}")
    if not lines:
        return error
    details = {**error.details, "sources": {name: source.to_dict() for name, source in places.items()}}
    placed = WorkbenchError.from_dict(
        {**error.to_dict(), "message": error.message + "".join(lines), "details": details}
    )
    return placed if isinstance(placed, BuildError) else error
