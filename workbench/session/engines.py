"""``session.engines``: the session's engines, and the builds that make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from workbench.build import Build
from workbench.build_folder import set_trust
from workbench.compilers.config import BuildConfig
from workbench.core.errors import NoEngineError, StoreError
from workbench.core.events import Selection
from workbench.core.store import IMPORTED
from workbench.engine import Engine
from workbench.session.failures import Failure, failures
from workbench.session.options import config_of
from workbench.session.selection import kind_of
from workbench.session.summaries import summaries

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.jobs import Job
    from workbench.session.file import SessionFile
    from workbench.workspace import Workspace


class Engines(Sequence[Engine]):
    """The engines of a session, newest last: ``session.engines[-1]``.

    Always current: engines that another notebook builds appear here immediately. An engine whose folder was removed
    from the store is not listed. ``session.engines[i]`` raises `NoEngineError`, a `StoreError` and an `IndexError`.
    """

    def __init__(self, workspace: Workspace, file: SessionFile) -> None:
        self._workspace = workspace
        self._file = file
        self._running: list[Build] = []

    # --- look up ------------------------------------------------------------------------------------

    def _listed(self, rows: Sequence[tuple[str, str]]) -> list[Engine]:
        """The engines of these rows that exist in the store."""
        return [each.engine for each in summaries(self._workspace.store, rows)]

    @overload
    def __getitem__(self, index: int) -> Engine: ...

    @overload
    def __getitem__(self, index: slice) -> list[Engine]: ...

    def __getitem__(self, index: int | slice) -> Engine | list[Engine]:
        engines = self._listed(self._file.engines())
        try:
            return engines[index]
        except IndexError:
            raise NoEngineError(
                f"Session {self._workspace.name} has {len(engines)} engines.", hint="Build one: session.build(model)."
            ) from None

    def __iter__(self) -> Iterator[Engine]:
        return iter(self[:])

    def __len__(self) -> int:
        return len(self._workspace.store.known_builds(key for key, _ in self._file.engines()))

    def find(self, engine: Engine | str | int | None = None) -> Engine:
        """An engine by (the beginning of) its key or by position; the current one by default.

        Raises:
            NoEngineError: there is no such engine.
            StoreError: several keys have this beginning (code ``ambiguous``), or the engine was not built by this store
                (``foreign-build``).
        """
        if isinstance(engine, Engine):
            return engine
        if engine is None:
            return self.current or self[-1]
        if isinstance(engine, int):
            return self[engine]
        rows = self._file.engines()
        meant = [(k, m) for k, m in rows if k.startswith(engine) or k.removeprefix(IMPORTED).startswith(engine)]
        found = self._listed(meant)
        if len(found) == 1:
            return found[0]
        engines = self._listed(rows)
        listed = "They are " + ", ".join(f"{e.id} ({e.model})" for e in engines) + "." if engines else None
        if found:
            raise StoreError(
                f"{len(found)} engines of session {self._workspace.name} begin with {engine!r}.",
                hint=listed,
                code="ambiguous",
            )
        if any(
            k.startswith(engine) and self._workspace.store.standing(k) == "foreign" for k, _ in self._file.engines()
        ):
            raise StoreError(
                f"Engine {engine[:12]} is in the store but was not built by it: its seal is missing or another store's.",
                hint="Build it here: session.build(model, ...). Or import it: Session.from_archive(path).",
                code="foreign-build",
            )
        raise NoEngineError(f"No engine of session {self._workspace.name} begins with {engine!r}.", hint=listed)

    @property
    def current(self) -> Engine | None:
        """The engine that panels show: the one you chose, else the newest; None if there are no engines.

        Set it to an Engine, (the beginning of) its key, or None for the newest.
        """
        key = self._file.get("current")
        if key is not None:
            model = self._file.engine(key)
            if model is not None and (found := self._listed([(key, model)])):
                return found[0]
        for row in reversed(self._file.engines()):
            if found := self._listed([row]):
                return found[0]
        return None

    @current.setter
    def current(self, value: Engine | str | None) -> None:
        key = None if value is None else self.find(value).key
        if self._file.get("current") == key:
            return
        self._file.set("current", key)
        self._workspace.events.emit("current", {"engine": key})
        chosen = self._workspace.selection
        if chosen.ids and (now := self.current) is not None and not any(kind_of(i, now.plan) for i in chosen.ids):
            self._workspace.select(Selection(chosen.kind))  # the selected ids belong to another model

    def trust(self, engine: Engine | str | int | None = None) -> None:
        """Allow an engine from an archive to run.

        Args:
            engine: Which engine; see `find`.

        Raises:
            NoEngineError: there is no such engine.
        """
        chosen = self.find(engine)
        if not chosen.trusted:
            set_trust(chosen.folder, self._workspace.store)

    def to_frame(self) -> pd.DataFrame:
        """One row per engine: the request, the build time, and what fusion saved."""
        import pandas as pd

        rows = []
        for each in summaries(self._workspace.store, self._file.engines(), plans=True):
            engine, s = each.engine, each.plan
            rows.append(
                {
                    "engine": engine.id, "model": engine.model, "compiler": engine.config.compiler,
                    "target": engine.config.target, "precision": engine.config.precision,
                    "nodes": s["nodes"], "layers": s["layers"], "launches_before": s["launches_before"],
                    "launches_after": s["launches_after"], "bytes_before": s["bytes_before"],
                    "bytes_after": s["bytes_after"], "build_s": engine.seconds["total"], "engine_bytes": engine.bytes,
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    # --- builds -------------------------------------------------------------------------------------

    def start(
        self,
        model: Any,
        config: BuildConfig | None = None,
        *,
        time_limit: float | None = None,
        on_job: Callable[[Job], None] | None = None,
        **options: Any,
    ) -> Build:
        """Start to build `model` and return immediately; `Session.build` has the same arguments and waits.

        A model that must be exported first is exported before this returns; `on_job` is called with that job, to show
        its progress or cancel it.

        Raises:
            ModelError: there is no such model, or it can't be read or exported.
            ConfigError: there is no such option, or its value is invalid.
        """
        asked = config_of(config, options)
        resolved = self._workspace.models.resolve(model, asked.profiles[0] if asked.profiles else None, on_job=on_job)
        build = Build(resolved, asked, self._workspace.store, time_limit=time_limit, keep=self._keep)
        build.on_change(self._on_build)
        self._running.append(build)
        self._workspace.events.emit("build-started", {"model": resolved.name, "config": asked.to_dict()})
        return build.start()

    def rebuild(self, engine: Engine | str | int | None = None, **changes: Any) -> Engine:
        """Build an engine again with this machine's compiler and for its GPU, and wait.

        Engines are not portable between GPUs and compiler versions: see `Engine.compatibility`.

        Args:
            engine: Which engine; see `find`.
            changes: Fields of `BuildConfig` to change.

        Raises:
            ModelError: the model's file is gone.
            BuildError: the compiler refused the model.
        """
        return self.start_rebuild(engine, **changes).result()

    def start_rebuild(self, engine: Engine | str | int | None = None, **changes: Any) -> Build:
        """Start to build an engine again and return immediately; see `rebuild`."""
        from workbench.compilers.compatibility import here

        chosen = self.find(engine)
        model = chosen.source()
        return self.start(model.original or model, here(chosen.config).replace(**changes))

    @property
    def running(self) -> list[Build]:
        """The builds that this process is running."""
        return list(self._running)

    @property
    def failures(self) -> list[Failure]:
        """Failed builds that are still stored, newest first.

        The store keeps the log, request and record of a failed build for a week, or until disk space runs low.
        """
        return failures(self._workspace.events, self._workspace.store)

    def _keep(self, engine: Engine) -> None:
        self._file.put((), [(engine.key, engine.model)])

    def _on_build(self, build: Build) -> None:
        if build.status == "running" or build not in self._running:
            return
        self._running.remove(build)
        events = self._workspace.events
        if events.closed:
            return
        if build.engine is not None:
            engine = build.engine
            self.current = engine
            events.emit("build-finished", {"engine": engine.key, "model": engine.model, "cached": engine.cached})
        else:
            error = build.error.to_dict() if build.error else {}
            data = {
                "model": build.model.name, "status": build.status, "error": error, "failure": build.failure,
                "config": (build.completed or build.config).to_dict(),
            }  # fmt: skip
            events.emit("build-failed", data)

    def __repr__(self) -> str:
        return f"<Engines of session {self._workspace.name}: {', '.join(e.id for e in self) or 'none'}>"
