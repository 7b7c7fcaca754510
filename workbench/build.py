"""Build an Engine from a Model and a BuildConfig: cast, look up, build in a worker, assemble the plan, store.

Equal requests share one engine: the key is a hash of the model's bytes, the config, and the compiler's
exact version. While one process builds an engine, other processes that request it wait and use the result.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from workbench import compilers
from workbench.build_folder import BuildNote, assembled, damaged, encoded, note_in, plan_in
from workbench.compilers.base import Builds
from workbench.compilers.config import BuildConfig, check_profiles
from workbench.core.documents import DocumentError
from workbench.core.errors import BuildError, CancelledError, StoreError, WorkbenchError, with_own_names
from workbench.core.events import call
from workbench.core.jobs import Job, Progress, Status
from workbench.core.store import Store, read_seal, unwritable
from workbench.engine import Engine, load_engine
from workbench.hardware.host import HostDevice
from workbench.hardware.machine import gpus, this_platform
from workbench.hardware.target import CPU, CURRENT
from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.model.provenance import Source
from workbench.plan import assemble
from workbench.plan.record import RECORD
from workbench.versions import READING, analysis

HASH_FIRST_BELOW = 32_000_000
"""Models up to this size (bytes) are fingerprinted before the build begins."""

MOST_PLACES = 5
"""Most nodes of a refused model whose source location the message shows; the error's details hold all of them."""


class _Work:
    """Inputs and output of one build: the model file for the compiler, and the folder that becomes the engine's."""

    def __init__(self, model: Model, config: BuildConfig, compiler: Builds, scratch: Path) -> None:
        self.model, self.config, self.compiler = model, config, compiler
        self.folder = scratch / "build"
        self.folder.mkdir()
        self.renamed = model.graph.needs_renaming()
        # A compiler also inlines functions and sorts nodes, but chooses different names for the inlined nodes.
        own = bool(self.renamed) or model.graph.rewritten
        self.file = _with_names(model, self.renamed, scratch) if own else model.path.resolve()


@dataclass
class Build:
    """A build in progress; a `workbench.core.jobs.BackgroundTask`. It runs in a worker process.

    `session.engines.start` creates one. `result()` waits for it; `cancel()` stops it immediately.
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
    """Name of the folder in the store's ``failures`` that holds the files of a failed build."""
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
        self._thread = threading.Thread(target=self._work, name=self.title, daemon=True)

    def start(self) -> Build:
        """Start the build. A second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()
        return self

    @property
    def title(self) -> str:
        """A title to display, such as "build of resnet50"."""
        return f"build of {self.model.name}"

    @property
    def progress(self) -> list[Progress]:
        """Phases of the current step, in the order in which they started."""
        return self._job.progress if self._job else []

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
        """The error of a failed build; None while the build runs and after success."""
        return self._error

    @property
    def engine(self) -> Engine | None:
        """The result, if the build succeeded; None before."""
        return self._engine

    def on_change(self, listener: Callable[[Build], None]) -> None:
        """Call `listener(build)` at each step and at the end, from a build thread."""
        self._listeners.append(listener)

    def cancel(self) -> None:
        """Stop the build by ending its worker. Safe to call at any time."""
        self._cancelled.set()
        if self._job is not None:
            self._job.cancel()

    def result(self, timeout: float | None = None) -> Engine:
        """Wait for the engine.

        Raises:
            WorkbenchError: the build failed.
            TimeoutError: `timeout` seconds passed; the build continues.
        """
        try:
            if not self._done.wait(timeout):
                raise TimeoutError(f"The build of {self.model.name} is still running.")
        except KeyboardInterrupt:
            self.cancel()
            self._done.wait(5)  # until the worker has ended and its unfinished folder is removed
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
        except Exception as error:  # noqa: BLE001 - top of the thread: result() raises the error
            self._error = WorkbenchError(
                f"{type(error).__name__}: {error}",
                hint="This is a bug in the workbench; please report it.",
            )
            self._error.__cause__ = error
        self._end = time.monotonic()
        self.status = status
        self._tell()  # before waiting threads continue
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
        compiler = compilers.get(self.config.compiler, Builds)
        config = self.completed = compiler.complete(self.config)
        model = self.model
        if (found := self._known(compiler, config)) is not None:
            return found
        self.store.check_writable()
        # Start the worker first: it loads the compiler while this process reads the model.
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
                    self._launch(task, work)  # a large file is fingerprinted during the build, not before it
                sha256 = model.sha256(self.store)
                key = engine_key(sha256, config, compiler.version())
                if (found := self._found(key)) is not None:
                    return found
                with self.store.lock(key, waiting=partial(self._wait, task), stop=self._cancelled.is_set):
                    if (found := self._found(key)) is not None:
                        return found
                    if task.status == "cancelled" and not self._cancelled.is_set():
                        task = self._spawn(
                            compiler
                        )  # the other process gave up, and this process has ended its own worker
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
        """Store the log, the request and the record of a failed build, and add their location to the error."""
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
            if error.shell_hint:
                error.shell_hint = f"{error.shell_hint}\n{kept}"

    def _spawn(self, compiler: Builds) -> Job:
        title = f"build of {self.model.name}"
        return Job(compiler.build_task, {}, title=title, preload=compiler.preload, time_limit=self.time_limit)

    def _wait(self, task: Job) -> None:
        self._tell("Another process is building the same engine; waiting")
        task.cancel()  # leave the machine to the process that builds

    def _known(self, compiler: Builds, config: BuildConfig) -> Engine | None:
        """The engine of an earlier build of an unchanged file, found without opening the model or starting a worker."""
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
                self._tell("This store did not build the engine cached under this key; building")
            return None
        if not self._current(folder):
            with self.store.lock(f"renew-{key}"):
                if not self._current(folder):
                    self._renew(folder)
        engine = load_engine(folder, self.model.name)
        seal = read_seal(folder)
        if seal is not None and engine.bytes not in [size for size, _ in seal["files"].get("engine", [])]:
            raise damaged(
                folder, "engine", DocumentError(f"its size changed to {engine.bytes:,} bytes after the build")
            )
        self._tell("Found in the cache")
        return engine

    def _current(self, folder: Path) -> bool:
        """Whether the plan in a build folder is complete and was made by the current analysis version."""
        note = note_in(folder)
        if note.get("analysis") != analysis(note["config"]):
            return False
        try:
            plan_in(folder)
        except (StoreError, FileNotFoundError):
            return False
        return True

    def _launch(self, task: Job, work: _Work) -> None:
        if self._job is task:
            return  # started before the fingerprint was known
        self._use(task)
        self._tell("Building")
        task.start(
            model=str(work.file), config=work.config.to_dict(), folder=str(work.folder),
            cache=str(self._cache(work.compiler)), **work.compiler.arguments(),
        )  # fmt: skip

    def _cache(self, compiler: Builds) -> Path:
        """File for the kernel timings that the next build with this version on this GPU can reuse."""
        here = [(g.name, g.driver) for g in gpus()[:1]]
        identity = json.dumps([compiler.name, compiler.version(), here])
        return self.store.path / "caches" / "builds" / hashlib.sha256(identity.encode()).hexdigest()

    def _finish(self, task: Job, work: _Work, sha256: str, key: str) -> Engine:
        model, config = work.model, work.config
        # Runs while the worker builds: shapes, costs and provenance need only the graph.
        graph = model.graph.at(config.opt_shapes, config.opt_values)
        _ = graph.constants, graph.live, model.provenance
        try:
            task.result()
        except BuildError as error:
            raise _with_places(with_own_names(error, work.renamed), model.provenance) from None
        record = RECORD.check(json.loads((work.folder / "record.json").read_text()), "record.json")
        record["compiler"]["gpu"] = gpus()[0].to_dict() if gpus() and CURRENT in config.targets else None
        if model is not self.model and (warned := model.origin.get("warnings")):
            record.setdefault("facts", {})["cast_warnings"] = list(warned)
            (work.folder / "record.json").write_text(
                json.dumps(record, separators=(",", ":"))
            )  # plans are made again from it
        plan = assemble(
            graph,
            record,
            model=(self.model.name, sha256),
            config=config.to_dict(),
            evidence=work.compiler.evidence,
            renamed=work.renamed,
            provenance=model.provenance,
            vocabulary=compilers.vocabulary(work.compiler.name),
        )
        note: BuildNote = {
            "key": key,
            "created": time.time(),
            "analysis": analysis(config.to_dict()),
            "config": config.to_dict(),
            "model": {"name": self.model.name, "sha256": sha256, "path": str(model.path)},
            "original": str(self.model.path) if model is not self.model else None,
            "renamed": work.renamed,
            "seconds": record["seconds"],
            "platform": this_platform(),
        }
        (work.folder / "plan.json").write_bytes(encoded(plan.to_json()))
        (work.folder / "build.json").write_bytes(encoded(json.dumps(note)))
        return load_engine(self.store.add_build(work.folder, key), self.model.name, cached=False)

    def _renew(self, folder: Path) -> None:
        """Assemble the plan again from the record that the compiler left."""
        note = note_in(folder)
        plan = assembled(folder, note, self.model, lambda model: model.sha256(self.store))
        # Write the note last: without a current note, the plan is assembled again.
        self.store.replace_in_build(
            folder,
            {
                "plan.json": encoded(plan.to_json()),
                "build.json": encoded(json.dumps({**note, "analysis": analysis(note["config"])})),
            },
        )


def engine_key(sha256: str, config: BuildConfig, version: str) -> str:
    """Identity of an engine. For a build on this machine's GPU or CPU, it includes the name of that device."""
    gpu = CURRENT in config.targets or not config.targets
    here: list[object] = [(g.name, g.sm) for g in gpus()[:1]] if gpu else []
    if CPU in config.targets:
        here.append(HostDevice().facts()["name"])
    identity = json.dumps([sha256, config.digest, config.compiler, version, here, READING])
    return hashlib.sha256(identity.encode()).hexdigest()


def _with_names(model: Model, renamed: Mapping[str, str], folder: Path) -> Path:
    """A copy of the graph in which the nodes in `renamed` have names that are valid in a log.

    Weights are not copied: the copy references the original file, which is linked next to it.
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
    return model.write_copy(copy, place / "workbench-named.onnx")


def _with_places(error: BuildError, provenance: Mapping[str, Source]) -> BuildError:
    """Add the module and source line of each failing node to the error, if they are known.

    The message shows the first `MOST_PLACES`; ``details["sources"]`` holds all of them, by node.
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
