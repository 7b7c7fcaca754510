"""The Session: the only object a user must know.

A session is a name. Whoever opens that name, in this notebook, another one, a script or the shell, sees the
same models, engines and selection, live. It keeps no results in memory only: what was built is found again
after a kernel is restarted.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
import time
import weakref
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from workbench.build import Build, Engine, load_engine
from workbench.config import BuildConfig, ShapeProfile
from workbench.errors import ConfigError, StoreError, WorkbenchError
from workbench.events import PROCESS, Event, Selection, call
from workbench.jobs import Job
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.model.sources import resolve
from workbench.plan import Plan
from workbench.store import Database, Store

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
ARCHIVE = "workbench.session/1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Events:
    """The session's history, newest last; `subscribe` for news."""

    _session: Session = field(repr=False)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._session._events_after(0))

    def __len__(self) -> int:
        return int(self._session._db.row("SELECT COUNT(*) FROM events")[0])

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener(event)` for each new event, also from other processes; returns the way to stop.

        Events of this process arrive at once, in a thread that caused one; those of others within a
        fraction of a second, in a thread of the session's. A listener that raises is logged.
        """
        return self._session._subscribe(listener)


class Session:
    """Models, engines, profiles and the selection under one name.

    Args:
        name: Letters, digits, dots, dashes and underscores. Opened if it exists, else created.
        store: Where it lives; `WORKBENCH_HOME` or the user's data folder by default.

    Raises:
        StoreError: the name does not fit, or the session can't be read.
    """

    def __init__(self, name: str = "default", *, store: Store | Path | str | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise StoreError(
                f"{name!r} can't be a session's name.",
                hint="Use letters, digits, dots, dashes and underscores.",
            )
        self.name = name
        self.store = store if isinstance(store, Store) else Store(Path(store) if store else None)
        self._path = self.store.session_file(name)
        self._db = Database(self._path)
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Event], None]] = []
        self._telling = False
        self._builds: list[Build] = []
        self._watcher: threading.Thread | None = None
        self._closed = threading.Event()
        self._create()
        self._seen = self._last_event()
        self.events = Events(self)

    def _create(self) -> None:
        version = int(self._db.row("PRAGMA user_version")[0])
        if version > FORMAT:
            raise StoreError(
                f"Session {self.name} was written by a later version of the workbench (format {version}, known: {FORMAT}).",
                hint="Upgrade: pip install -U trt-workbench. Nothing was changed.",
            )
        if version == FORMAT:
            return
        with self._db.write() as db:
            for statement in (
                "CREATE TABLE IF NOT EXISTS models (name TEXT PRIMARY KEY, data TEXT NOT NULL, added REAL NOT NULL)",
                "CREATE TABLE IF NOT EXISTS engines (key TEXT PRIMARY KEY, model TEXT NOT NULL, used REAL NOT NULL)",
                "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, "
                "origin TEXT NOT NULL, time REAL NOT NULL, data TEXT NOT NULL)",
                "CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
                f"PRAGMA user_version = {FORMAT}",
            ):
                db.execute(statement)

    # --- models -------------------------------------------------------------------------------------

    def add(
        self,
        source: Any,
        inputs: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        on_job: Callable[[Job], None] | None = None,
    ) -> Model:
        """Take a model into the session.

        Args:
            source: A path to an ONNX file, a sample's name, ``package.module:factory``, a torch module (with
                `inputs`), an `onnx.ModelProto`, or a Model.
            inputs: Example inputs of a torch module, by position or by name.
            name: What to call it; the file's or class's name by default. An existing name is replaced.
            shapes: Shapes to export at, such as ``{"x": "1x3x224x224:8x3x224x224:32x3x224x224"}``.
            on_job: Called with each job that is started, to show progress.

        Raises:
            ModelError: there is no such model, or it can't be read or exported.
        """
        profile = _profile(shapes)
        model = resolve(source, self.store, inputs=inputs, name=name, profile=profile, on_job=on_job)
        data = {
            "path": str(model.path.resolve()),
            "origin": dict(model.origin),
        }
        with self._db.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?)",
                (model.name, json.dumps(data), time.time()),
            )
        self._emit("model-added", {"model": model.name})
        return model

    def quantize(self, model: Any, data: Any = None, *, name: str | None = None, **options: Any) -> Model:
        """A quantized version of `model`, added to the session under a name of its own.

        Args:
            model: A Model, the name of one in the session, or anything that `add` takes.
            data: Calibration data; see `workbench.precision.quantize`.
            name: What to call it; the model's name with the precision behind it by default.
            options: Fields of `workbench.precision.Scheme` and arguments of `workbench.precision.quantize`.

        Raises:
            ModelError: the model can't be quantized.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.quantize import quantize

        low = quantize(self._resolve(model, BuildConfig(), options.get("on_job")), self.store, data=data, **options)
        title = name or f"{low.name}-{low.origin['scheme']['to']}"
        return self.add(replace(low, name=title))

    @property
    def models(self) -> dict[str, Model]:
        """The session's models by name, in the order of adding."""
        rows = self._db.rows("SELECT name, data FROM models ORDER BY added")
        return {name: _model(name, json.loads(data)) for name, data in rows}

    def model(self, name: str) -> Model:
        """The model called `name`.

        Raises:
            StoreError: the session has none of that name.
        """
        row = self._db.row("SELECT data FROM models WHERE name = ?", name)
        if row is None:
            known = ", ".join(self.models) or "none yet"
            raise StoreError(f"Session {self.name} has no model {name!r}.", hint=f"It has: {known}.")
        return _model(name, json.loads(row[0]))

    def remove(self, name: str) -> None:
        """Forget the model called `name`; files and engines stay in the store.

        Raises:
            StoreError: the session has none of that name.
        """
        self.model(name)
        with self._db.write() as db:
            db.execute("DELETE FROM models WHERE name = ?", (name,))
        self._emit("model-removed", {"model": name})

    # --- engines ------------------------------------------------------------------------------------

    def start_build(
        self,
        model: Any,
        config: BuildConfig | None = None,
        *,
        time_limit: float | None = None,
        on_job: Callable[[Job], None] | None = None,
        **options: Any,
    ) -> Build:
        """Begin to build `model`; returns once the model is there. See `build` for the arguments.

        A model that must be exported first is exported here; `on_job` is called with that job, to show its
        progress or cancel it. All that follows is the Build's.
        """
        config = _config(config, options)
        resolved = self._resolve(model, config, on_job)
        build = Build(resolved, config, self.store, time_limit=time_limit, keep=self._keep)
        build.on_change(self._on_build)
        self._builds.append(build)
        self._emit("build-started", {"model": resolved.name, "config": config.to_dict()})
        return build.start()

    def build(
        self,
        model: Any,
        config: BuildConfig | None = None,
        *,
        time_limit: float | None = None,
        **options: Any,
    ) -> Engine:
        """Build `model` and wait for the engine.

        Args:
            model: A Model, the name of one in the session, or anything that `add` takes.
            config: What to ask of the compiler. Options may be given by name instead or in addition, such
                as ``target="sm89", precision="fp16", shapes={"x": "1x3x224x224"}``.
            time_limit: Seconds after which the build is stopped.
            options: Fields of `BuildConfig`; `target` and `shapes` are short for `targets` and `profiles`.

        Raises:
            ConfigError: an option is wrong or the compiler lacks it.
            BuildError: the compiler refused the model.
            WorkerCrashedError: the compiler crashed; the session is unharmed.
        """
        return self.start_build(model, config, time_limit=time_limit, **options).result()

    def _resolve(self, model: Any, config: BuildConfig, on_job: Callable[[Job], None] | None = None) -> Model:
        if isinstance(model, Model):
            found = model
        elif isinstance(model, str) and self._db.row("SELECT 1 FROM models WHERE name = ?", model):
            found = self.model(model)
        else:
            return self.add(model, shapes=config.profiles[0] if config.profiles else None, on_job=on_job)
        if found.origin.get("kind") in {"sample", "factory"} and config.profiles:
            # It was exported at other shapes: export it again at those that are asked for.
            given = {n: r.opt for n, r in config.profiles[0].inputs.items()}
            try:
                found.graph.check_shapes(given)
                if not any(not r.fixed for r in config.profiles[0].inputs.values()) or found.graph.dynamic_inputs:
                    return found
            except ConfigError:
                pass
            source = found.origin.get("spec") or found.origin["name"]
            return resolve(source, self.store, name=found.name, profile=config.profiles[0], on_job=on_job)
        return found

    def _keep(self, engine: Engine) -> None:
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO engines VALUES (?, ?, ?)", (engine.key, engine.model, time.time()))

    def _on_build(self, build: Build) -> None:
        if build.status == "running" or build not in self._builds:
            return
        self._builds.remove(build)
        if self._closed.is_set():
            return
        if build.engine is not None:
            engine = build.engine
            self.current = engine
            self._emit("build-finished", {"engine": engine.key, "model": engine.model, "cached": engine.cached})
        else:
            error = build.error.to_dict() if build.error else {}
            self._emit("build-failed", {"model": build.model.name, "status": build.status, "error": error})

    @property
    def builds(self) -> list[Build]:
        """Builds that this process has under way."""
        return list(self._builds)

    @property
    def engines(self) -> list[Engine]:
        """The session's engines, newest last."""
        rows = self._db.rows("SELECT key, model FROM engines ORDER BY used")
        found = ((self.store.build(key), model) for key, model in rows)
        return [load_engine(folder, model) for folder, model in found if folder is not None]

    def engine(self, key: str | int = -1) -> Engine:
        """An engine by (the beginning of) its key, or by position.

        Raises:
            StoreError: there is no such engine.
        """
        engines = self.engines
        if isinstance(key, int):
            if not -len(engines) <= key < len(engines):
                raise StoreError(
                    f"Session {self.name} has {len(engines)} engines.",
                    hint="Build one: session.build(model).",
                )
            return engines[key]
        found = [engine for engine in engines if engine.key.startswith(key)]
        if len(found) != 1:
            raise StoreError(
                f"{len(found) or 'No'} engines of session {self.name} begin with {key!r}.",
                hint="They are " + ", ".join(f"{e.id} ({e.model})" for e in engines) + "." if engines else None,
            )
        return found[0]

    # --- measuring ----------------------------------------------------------------------------------

    def start_profile(
        self,
        engine: Engine | str | int | None = None,
        *,
        inputs: Mapping[str, Any] | str | Path | None = None,
        reference: Mapping[str, Any] | str | Path | bool = True,
        **options: Any,
    ) -> Job:
        """Begin to measure an engine on this machine's GPU; returns at once. See `profile` for the arguments."""
        from workbench.measure.profiling import start

        chosen = self._chosen(engine)

        def done(job: Job) -> None:
            if job.status == "done" and not self._closed.is_set():
                self._emit("profile-added", {"engine": chosen.key, "model": chosen.model})

        return start(chosen, inputs=inputs, reference=reference, options=options, on_change=done)

    def profile(
        self,
        engine: Engine | str | int | None = None,
        *,
        inputs: Mapping[str, Any] | str | Path | None = None,
        reference: Mapping[str, Any] | str | Path | bool = True,
        **options: Any,
    ) -> dict[str, Any]:
        """Measure an engine on this machine's GPU and wait: latency, time of each layer, error of the outputs.

        The result is kept beside the engine; see `Engine.profiles` and `Engine.measured`.

        Args:
            engine: Which engine (see `engine`); the current one by default.
            inputs: Arrays by input name, or an .npz file of them; random values by default.
            reference: What is right: True for the model as written, run by ONNX Runtime on the CPU in its own
                precision; False for nothing; arrays by output name, an .npz file of them, or an ONNX file.
            options: Arguments of `workbench.measure.run.profile`, such as ``duration_ms`` or ``graph``.

        Returns:
            The document that `workbench.measure.run.profile` describes.

        Raises:
            CompilerUnavailableError: there is no GPU, or the flavour is not installed.
            BuildError: the engine can't be used here, in words.
            ConfigError: inputs or reference do not fit the engine.
        """
        return self.start_profile(engine, inputs=inputs, reference=reference, **options).result()

    def _chosen(self, engine: Engine | str | int | None) -> Engine:
        if isinstance(engine, Engine):
            return engine
        return (self.current or self.engine()) if engine is None else self.engine(engine)

    def plan(self, key: str | int = -1) -> Plan:
        """The plan of an engine: the newest by default; see `engine`."""
        return self.engine(key).plan

    def inspect(
        self,
        layers: str | Path,
        *,
        profile: str | Path | None = None,
        times: str | Path | None = None,
        metadata: Sequence[str | Path] = (),
        model: Any = None,
    ) -> Plan:
        """The plan of an engine that was built elsewhere, from the files that trtexec wrote of it.

        Args:
            layers: File of ``--exportLayerInfo`` (TensorRT 8 to 11, RTX), or a plan as JSON.
            profile: File of ``--exportProfile``, for the time of each layer.
            times: File of ``--exportTimes``, for the end-to-end latency.
            metadata: Files that say which GPU it was and how it was built.
            model: The model that it was built from, or anything that `add` takes. Without it the costs before
                fusion and the nodes in no layer are unknown.

        Raises:
            ProfileError: a file can't be read or belongs to another engine or model.
            ListingError: the layers do not follow a known schema.
        """
        from workbench import trtexec

        found = None if model is None else self._resolve(model, BuildConfig())
        sha256 = None if found is None else found.sha256(self.store)
        plan = trtexec.inspect(layers, profile=profile, times=times, metadata=metadata, model=found, sha256=sha256)
        files = {
            "layers": str(layers), "profile": str(profile) if profile else None, "times": str(times) if times else None,
            "metadata": [str(file) for file in metadata], "model": None if found is None else found.name,
        }  # fmt: skip
        return replace(plan, facts={**plan.facts, "inspected": files})

    def to_frame(self) -> pd.DataFrame:
        """One row an engine: what was asked, what it took, what fusion saved."""
        import pandas as pd

        rows = []
        for engine in self.engines:
            s = engine.plan.summary
            rows.append(
                {
                    "engine": engine.id, "model": engine.model, "compiler": engine.config.compiler,
                    "target": "+".join(engine.config.targets), "precision": engine.config.precision,
                    "nodes": s["nodes"], "layers": s["layers"], "launches_before": s["launches_before"],
                    "launches_after": s["launches_after"], "bytes_before": s["bytes_before"],
                    "bytes_after": s["bytes_after"], "build_s": engine.seconds["total"], "engine_bytes": engine.bytes,
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def current(self) -> Engine | None:
        """The engine that panels show: the newest one, or the one that was chosen; None without engines.

        May be set to an Engine, (the beginning of) its key, or None for the newest.
        """
        row = self._db.row("SELECT value FROM state WHERE key = 'current'")
        if row is not None:
            place = self.store.build(json.loads(row[0]))
            model = self._db.row("SELECT model FROM engines WHERE key = ?", json.loads(row[0]))
            if place is not None and model is not None:
                return load_engine(place, model[0])
        engines = self.engines
        return engines[-1] if engines else None

    @current.setter
    def current(self, value: Engine | str | None) -> None:
        key = value.key if isinstance(value, Engine) else None if value is None else self.engine(value).key
        row = self._db.row("SELECT value FROM state WHERE key = 'current'")
        if row is not None and json.loads(row[0]) == key:
            return
        with self._db.write() as db:
            if key is None:
                db.execute("DELETE FROM state WHERE key = 'current'")
            else:
                db.execute("INSERT OR REPLACE INTO state VALUES ('current', ?)", (json.dumps(key),))
        self._emit("current", {"engine": key})

    # --- views --------------------------------------------------------------------------------------

    def panel(self, name: str, plan: Plan | None = None, *, model: Any = None) -> Any:
        """A panel for a notebook: model, graph, fusions, build, memory, streams, profile or engine.

        Args:
            name: Which one.
            plan: A plan to show in place of the session's engines, such as `inspect` gives: fusions and profile.
            model: The model that `plan` was built from, where that is known, or anything that `add` takes.

        Raises:
            StoreError: there is no panel of that name, or it can't show a plan.
            CompilerUnavailableError: ipywidgets is not installed.
        """
        from workbench.panels import panel

        return panel(self, name, plan, None if model is None else self._resolve(model, BuildConfig()))

    def app(self) -> Any:
        """All panels in one, as tabs."""
        from workbench.panels import app

        return app(self)

    def report(self, path: str | Path, engine: Engine | Plan | str | int | None = None, *, model: Any = None) -> Path:
        """Write one HTML file with the map, tables and charts of an engine; it needs no kernel and no network.

        Args:
            path: The .html file to write.
            engine: Which engine (see `engine`), or a plan such as `inspect` gives; the current engine by default.
            model: The model that a plan was built from, where that is known, or anything that `add` takes.

        Raises:
            StoreError: there is no such engine, or the file can't be written.
        """
        from workbench.report import report
        from workbench.widgets.lens import Lens

        if isinstance(engine, Plan):
            found = None if model is None else self._resolve(model, BuildConfig())
            return report(Lens.of_plan(engine, found), path)
        return report(Lens.of(self._chosen(engine)), path)

    # --- selection ----------------------------------------------------------------------------------

    @property
    def selection(self) -> Selection:
        """What is selected in every view of this session; may be set to an id, several, or None."""
        row = self._db.row("SELECT value FROM state WHERE key = 'selection'")
        if row is None:
            return Selection()
        data = json.loads(row[0])
        return Selection(data["kind"], tuple(data["ids"]), data["origin"])

    @selection.setter
    def selection(self, value: Selection | str | Iterable[str] | None) -> None:
        if isinstance(value, Selection):
            self.select(value, origin=value.origin or None)
            return
        chosen = Selection.of(value)
        if chosen.ids and (engines := self.engines):
            # An id says itself whether it is a layer or a node of the newest plan.
            plan = engines[-1].plan
            if not any(i in plan.by_id for i in chosen.ids) and any(
                i in plan.layers_of or i in plan.reasons for i in chosen.ids
            ):
                chosen = replace(chosen, kind="node")
        self.select(chosen)

    def select(self, selection: Selection, *, origin: str | None = None) -> None:
        """Set the selection in the name of `origin` (a view); no event where nothing changes."""
        chosen = replace(selection, origin=origin or f"{PROCESS}/python")
        now = self.selection
        if (now.kind, now.ids) == (chosen.kind, chosen.ids):
            return
        data = {"kind": chosen.kind, "ids": list(chosen.ids), "origin": chosen.origin}
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO state VALUES ('selection', ?)", (json.dumps(data),))
        self._emit("selection", data, origin=chosen.origin)

    # --- events -------------------------------------------------------------------------------------

    def _emit(self, kind: str, data: Mapping[str, Any], origin: str | None = None) -> None:
        with self._db.write() as db:
            db.execute(
                "INSERT INTO events (kind, origin, time, data) VALUES (?, ?, ?, ?)",
                (kind, origin or f"{PROCESS}/python", time.time(), json.dumps(data)),
            )
        self._deliver()

    def _last_event(self) -> int:
        return int(self._db.row("SELECT COALESCE(MAX(number), 0) FROM events")[0])

    def _events_after(self, number: int) -> list[Event]:
        rows = self._db.rows(
            "SELECT number, kind, origin, time, data FROM events WHERE number > ? ORDER BY number", number
        )
        return [Event(n, kind, origin, when, json.loads(data)) for n, kind, origin, when, data in rows]

    def _deliver(self) -> None:
        """Tell the listeners what is new, in order, each event once.

        One thread tells at a time, and no lock is held meanwhile, so that a listener may do anything, also
        wait for a build. What happens while it speaks is told by the thread that is at it already.
        """
        while True:
            with self._lock:
                fresh = [] if self._telling else self._events_after(self._seen)
                if not fresh:
                    return
                self._seen = fresh[-1].number
                self._telling = True
                listeners = list(self._listeners)
            try:
                for event in fresh:
                    call(listeners, event)
            finally:
                with self._lock:
                    self._telling = False

    def _subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        with self._lock:
            if not self._listeners:
                self._seen = self._last_event()
            self._listeners.append(listener)
            if self._watcher is None:
                # The thread holds no reference to the session, so that the session can be collected.
                self._watcher = threading.Thread(
                    target=_watch,
                    args=(weakref.ref(self), self._closed),
                    name=f"session {self.name}",
                    daemon=True,
                )
                self._watcher.start()

        def stop() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    def close(self) -> None:
        """Stop watching and close the file; builds under way are cancelled."""
        self._closed.set()
        for build in self.builds:
            build.cancel()
        self._db.close()

    # --- archive ------------------------------------------------------------------------------------

    def export(self, path: str | Path) -> Path:
        """Write the session with its models and engines into one archive (zip).

        Raises:
            StoreError: a model's file is gone, or the archive can't be written.
        """
        path = Path(path)
        draft = path.with_name(path.name + ".part")
        try:
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                models = {}
                for name, model in self.models.items():
                    if not model.path.is_file():
                        raise StoreError(
                            f"The file of model {name} is gone: {model.path}.",
                            hint=f"session.remove({name!r}), or bring it back.",
                        )
                    sha256 = model.sha256(self.store)
                    models[name] = {
                        "sha256": sha256,
                        "file": model.path.name,
                        "origin": dict(model.origin),
                    }
                    for file in [model.path, *model.companions]:
                        archive.write(file, f"models/{sha256}/{file.relative_to(model.path.parent)}")
                engines = []
                for engine in self.engines:
                    engines.append({"key": engine.key, "model": engine.model})
                    for file in sorted(f for f in engine.folder.rglob("*") if f.is_file()):
                        archive.write(file, f"builds/{engine.key}/{file.relative_to(engine.folder)}")
                head = {"format": ARCHIVE, "name": self.name, "models": models, "engines": engines,
                        "selection": {"kind": self.selection.kind, "ids": list(self.selection.ids)}}  # fmt: skip
                archive.writestr("session.json", json.dumps(head, indent=1))
            draft.replace(path)
        except OSError as error:
            raise StoreError(
                f"{path} can't be written: {error}.",
                hint="Is there space, and may you write there?",
            ) from None
        finally:
            draft.unlink(missing_ok=True)
        return path

    @classmethod
    def import_(cls, path: str | Path, name: str | None = None, *, store: Store | Path | str | None = None) -> Session:
        """Open an archive as a session; what the session already holds stays.

        Args:
            path: What `export` wrote.
            name: The session's name; the archive's own by default.
            store: As for `Session`.

        Raises:
            StoreError: it is no such archive, it is damaged, or it comes from a later version.
        """
        place = store if isinstance(store, Store) else Store(Path(store) if store else None)
        try:
            with zipfile.ZipFile(path) as archive, place.scratch("import") as scratch:
                head = json.loads(archive.read("session.json"))
                if head.get("format") != ARCHIVE:
                    raise StoreError(
                        f"{path} has format {head.get('format')!r}; this version reads {ARCHIVE}.",
                        hint="Upgrade: pip install -U trt-workbench.",
                    )
                _extract(archive, scratch)
                return cls._take(scratch, head, name, place)
        except FileNotFoundError:
            raise StoreError(f"There is no file {path}.") from None
        except WorkbenchError:
            raise
        except Exception as error:  # noqa: BLE001 - a damaged archive may break in any way
            raise StoreError(
                f"{path} is not a session archive, or is damaged ({type(error).__name__}: {error}).",
                hint="Make one with session.export(path), or copy it again.",
            ) from None

    @classmethod
    def _take(cls, folder: Path, head: Mapping[str, Any], name: str | None, store: Store) -> Session:
        """Everything is looked at before anything is kept: a bad archive leaves no half session."""
        models: dict[str, Mapping[str, Any]] = dict(head["models"])
        engines: list[tuple[str, str]] = [(str(e["key"]), str(e["model"])) for e in head["engines"]]
        selection = Selection(head["selection"]["kind"], tuple(head["selection"]["ids"]))
        name = name or str(head["name"])
        for title, entry in models.items():
            sha256, file = str(entry["sha256"]), PurePosixPath(entry["file"])
            if not _SHA256.fullmatch(sha256) or len(file.parts) != 1 or file.name in {"", ".."}:
                raise StoreError(f"Model {title} in the archive has an unsafe path.", hint="Do not open it.")
            source = folder / "models" / sha256 / file.name
            if fingerprint(source, set(Model(title, source).companions)) != sha256:
                raise StoreError(f"Model {title} in the archive is damaged.", hint="Copy the archive again.")
        for key, title in engines:
            if not _SHA256.fullmatch(key):
                raise StoreError(f"An engine of {title} in the archive has an unsafe path.", hint="Do not open it.")
            if load_engine(folder / "builds" / key).key != key:
                raise StoreError(f"An engine of {title} in the archive is damaged.", hint="Copy the archive again.")
        session = cls(name, store=store)
        now = time.time()
        rows = []
        for title, entry in models.items():
            source = folder / "models" / entry["sha256"]
            target = store.path / "models" / entry["sha256"]
            if not target.is_dir():
                store.add_model(source, entry["sha256"], None, {})
            elif not (target / entry["file"]).exists():  # known, under another file name
                shutil.copyfile(source / entry["file"], target / entry["file"])
            data = {"path": str(target / entry["file"]), "origin": entry["origin"]}
            rows.append((title, json.dumps(data), now))
        for key, _ in engines:
            if store.build(key) is None:
                store.add_build(folder / "builds" / key, key)
        with session._db.write() as db:
            db.executemany("INSERT OR REPLACE INTO models VALUES (?, ?, ?)", rows)
            db.executemany("INSERT OR REPLACE INTO engines VALUES (?, ?, ?)", [(*e, now) for e in engines])
        session.select(selection)
        return session

    def delete(self) -> None:
        """Remove the session; models and engines stay in the store for others."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"<Session {self.name}: {len(self.models)} models, {len(self.engines)} engines, {self.store.path}>"


def _watch(reference: weakref.ref[Session], closed: threading.Event) -> None:
    """Deliver what other processes write, until the session is closed or collected."""
    version = -1
    while not closed.wait(_POLL_SECONDS):
        session = reference()
        if session is None:
            return
        if not session._path.exists():
            event = Event(session._seen + 1, "deleted", f"{PROCESS}/watcher", time.time(), {})
            for listener in list(session._listeners):
                listener(event)
            return
        try:
            # Changes when another connection has written: far cheaper than a query.
            now = int(session._db.row("PRAGMA data_version")[0])
            if now != version:
                version = now
                session._deliver()
        except StoreError:
            if closed.is_set():
                return
            raise
        del session


def _config(config: BuildConfig | None, options: dict[str, Any]) -> BuildConfig:
    if "target" in options:
        options["targets"] = options.pop("target")
    if "shapes" in options:
        options["profiles"] = (_profile(options.pop("shapes")),)
    return (config or BuildConfig()).replace(**options) if options else config or BuildConfig()


def _profile(shapes: Mapping[str, Any] | ShapeProfile | None) -> ShapeProfile | None:
    if shapes is None or isinstance(shapes, ShapeProfile):
        return shapes
    return ShapeProfile.parse({n: s if isinstance(s, str) else "x".join(map(str, s)) for n, s in shapes.items()})


def _model(name: str, data: Mapping[str, Any]) -> Model:
    return Model(name, Path(data["path"]), data["origin"])


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    """Unpack, refusing entries that would land outside `folder`."""
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename).parts
        if entry.filename.startswith("/") or ".." in parts or (parts and ":" in parts[0]):
            raise StoreError(f"The archive holds an unsafe path: {entry.filename!r}.", hint="Do not open it.")
        if entry.is_dir():
            continue
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
