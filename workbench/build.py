"""From a Model and a BuildConfig to an Engine: cast, look up, build in a worker, assemble, keep.

Equal requests share one engine: the key is made of the model's bytes, the config, and the compiler's
exact version. While one process builds, others that want the same wait for it and take its result.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import compilers
from workbench.compatibility import Finding, compatibility, this_platform
from workbench.config import BuildConfig, Shape
from workbench.errors import BuildError, CancelledError, ConfigError, ProfileError, StoreError, WorkbenchError
from workbench.events import call
from workbench.jobs import Job, Progress, Status
from workbench.machine import gpus
from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.plan import Plan, assemble
from workbench.store import Store, whole

if TYPE_CHECKING:
    from workbench.compilers.tensorrt.tactics import Tactic
    from workbench.measure.running import Running

HASH_FIRST_BELOW = 32_000_000
"""Bytes of a model up to which its fingerprint is taken before the build begins."""

ANALYSIS = 4
"""Raise it when `workbench.plan.assemble` gives another plan for the same record: kept plans are renewed."""

READING = 2
"""Raise it when workers make another record of the same build: engines are then built anew."""


@dataclass(frozen=True)
class Engine:
    """A built engine and everything known of it.

    Attributes:
        key: Its identity: model bytes, config, compiler version.
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
        return self.key[:12]

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
            StoreError: the engine's folder was removed, or its plan is damaged.
        """
        text = self._text("plan.json")
        try:
            plan = Plan.from_dict(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(self.folder, "plan.json", error) from None
        return plan if plan.model["name"] == self.model else replace(plan, model={**plan.model, "name": self.model})

    @property
    def profiles(self) -> list[dict[str, Any]]:
        """What was measured of it (`workbench.measure.run.profile`), oldest first."""
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
        from workbench.measure.run import apply

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
        note = json.loads((self.folder / "build.json").read_text())
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
        note = json.loads((self.folder / "build.json").read_text())
        original = Model(self.model, Path(note["original"])) if note.get("original") else None
        return Model(self.model, Path(note["model"]["path"]), original=original)

    def graph(self) -> Graph:
        """The graph at the shapes that the plan was made for.

        Raises:
            ModelError: the model's file is gone.
        """
        return self.source().graph.at(opt_shapes(self.config))

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
        found: dict[str, Any] = json.loads(self._text("record.json"))
        return found

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(errors="replace")
        except FileNotFoundError:
            raise StoreError(f"Engine {self.id} is no longer in the store.", hint="Build it again.") from None

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
        """
        from workbench.measure.running import Running

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

        compilers.require(self.config.compiler, compilers.Ability.RUN)
        return refit(self, weights, Path(out), time_limit)

    def save(self, path: str | Path) -> Path:
        """Copy the serialized engine to `path`.

        Raises:
            StoreError: the engine's folder was removed, it is damaged, or `path` can't be written.
        """
        import shutil

        if not self.path.is_file():
            raise StoreError(f"Engine {self.id} is no longer in the store.", hint="Build it again.")
        size, told = self.path.stat().st_size, self.plan.facts.get("engine_bytes")
        if told is not None and size != told:
            raise StoreError(
                f"The engine in {self.folder} is damaged: it has {size:,} bytes and was built with {told:,}.",
                hint="Remove that folder and build again.",
            )
        try:
            return Path(shutil.copyfile(self.path, path))
        except OSError as error:
            raise StoreError(
                f"{path} can't be written: {error}.", hint="Name a file in a folder that exists."
            ) from None

    def __repr__(self) -> str:
        return (
            f"<Engine {self.id} of {self.model} for {'+'.join(self.config.targets)} {self.config.precision}: "
            f"{self.bytes / 1e6:.1f} MB, built in {self.seconds['total']:.1f} s{', from the cache' if self.cached else ''}>"
        )


def _profile_in(file: Path) -> dict[str, Any]:
    from workbench.measure.run import SCHEMA

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


def _note(folder: Path) -> dict[str, Any]:
    """What a build folder says of itself."""
    try:
        note: dict[str, Any] = json.loads((folder / "build.json").read_text())
        _ = note["key"], note["model"]["name"], note["config"], note["created"], note["seconds"]
        return note
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, "build.json", error) from None


def _damaged(folder: Path, name: str, error: Exception) -> StoreError:
    return StoreError(
        f"The stored build {folder.name[:12]} is damaged: {name}: {type(error).__name__}: {error}.",
        hint=f"Remove {folder} and build again.",
    )


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
    status: Status = field(default="running", init=False)
    message: str = field(default="", init=False)

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
            hint = "Free some space, or point WORKBENCH_HOME at a larger disk." if error.errno == 28 else None
            self._error = StoreError(f"{error}", hint=hint)
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
        job.on_change(lambda _job: self._tell())
        if self._cancelled.is_set():
            job.cancel()
        return job

    def _run(self) -> Engine:
        compiler = compilers.get(self.config.compiler)
        config = compiler.complete(self.config)
        model = self.model
        if (found := self._known(compiler, config)) is not None:
            return found
        # Start the worker before anything else: it loads the compiler while the model is looked at here.
        task = self._spawn(compiler)
        try:
            check_profiles(model, config)
            if config.precision != "fp32":
                from workbench.precision import cast

                self._tell(f"Converting to {config.precision}")
                model = cast(model, config.precision, self.store, on_job=self._use)
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
                    return self._finish(task, work, sha256, key)
        finally:
            task.cancel()

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
            from workbench.precision.cast import known_cast

            cast = known_cast(self.model, config.precision, sha256, self.store)
            sha256 = self.store.known_fingerprint(cast.path) if cast is not None else None
        return None if sha256 is None else self._found(engine_key(sha256, config, compiler.version()))

    def _found(self, key: str) -> Engine | None:
        folder = self.store.build(key)
        if folder is None:
            return None
        if _note(folder).get("analysis") != ANALYSIS:
            self._renew(folder)
        self._tell("Found in the cache")
        return load_engine(folder, self.model.name)

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
        graph = model.graph.at(opt_shapes(config))
        _ = graph.constants, graph.live, model.provenance
        try:
            task.result()
        except BuildError as error:
            raise _in_own_names(error, work.renamed) from None
        record = json.loads((work.folder / "record.json").read_text())
        record["compiler"]["gpu"] = gpus()[0].to_dict() if gpus() and "current" in config.targets else None
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
        (work.folder / "plan.json").write_text(plan.to_json())
        (work.folder / "build.json").write_text(json.dumps(note))
        return load_engine(self.store.add_build(work.folder, key), self.model.name, cached=False)

    def _renew(self, folder: Path) -> None:
        """Assemble the plan again from the record that the compiler left."""
        note = json.loads((folder / "build.json").read_text())
        record = json.loads((folder / "record.json").read_text())
        config = BuildConfig.from_dict(note["config"])
        model = Model(note["model"]["name"], Path(note["model"]["path"]))
        if note.get("original"):
            model = replace(model, original=self.model)
        plan = assemble(
            model.graph.at(opt_shapes(config)), record, model={k: note["model"][k] for k in ("name", "sha256")},
            config=note["config"], evidence=compilers.get(config.compiler).evidence, renamed=note["renamed"],
            provenance=model.provenance,
        )  # fmt: skip
        for name, text in (
            ("plan.json", plan.to_json()),
            ("build.json", json.dumps({**note, "analysis": ANALYSIS})),
        ):
            with whole(folder / name) as draft:
                draft.write_text(text)


def engine_key(sha256: str, config: BuildConfig, version: str) -> str:
    """Identity of an engine. A build for the present GPU depends on which one that is."""
    here = [(g.name, g.sm) for g in gpus()[:1]] if "current" in config.targets or not config.targets else []
    identity = json.dumps([sha256, config.digest, config.compiler, version, here, READING])
    return hashlib.sha256(identity.encode()).hexdigest()


def opt_shapes(config: BuildConfig) -> dict[str, Shape]:
    """Shapes at which costs are counted: the opt shapes of the first profile."""
    return config.profiles[0].sizes if config.profiles else {}


def check_profiles(model: Model, config: BuildConfig) -> None:
    """Tell wrong or missing shapes before a worker is asked.

    Raises:
        ConfigError: a profile names no input or does not fit it; a dynamic input has no shape.
    """
    graph: Graph = model.graph
    for profile in config.profiles:
        for which in ("min", "opt", "max"):
            graph.check_shapes({name: getattr(r, which) for name, r in profile.inputs.items()})
    given = set().union(*(p.inputs for p in config.profiles)) if config.profiles else set()
    missing = {n: s for n, s in graph.dynamic_inputs.items() if n not in given}
    if missing:
        listed = ", ".join(
            f"{n} [{', '.join(str(d if d is not None else '?') for d in s)}]" for n, s in missing.items()
        )
        name, shape = next(iter(missing.items()))
        example = "x".join(str(d) if isinstance(d, int) and d > 0 else "1" for d in shape)
        raise ConfigError(
            f"{'Inputs' if len(missing) > 1 else 'Input'} {listed} of {model.name} "
            f"{'are' if len(missing) > 1 else 'is'} dynamic and {'have' if len(missing) > 1 else 'has'} no shape.",
            hint=f"Give a shape, --shape {name}={example}, or a range, --shape {name}=MIN:OPT:MAX.",
            details={"inputs": list(missing)},
        )


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
