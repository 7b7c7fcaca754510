"""The Session: the only class that you need to know.

A session has a name. Every notebook, script and shell that opens that name sees the same models, engines and
selection, live. All results are stored on disk: after a kernel restart, your engines are still there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.core.errors import ExportWarning, StoreError
from workbench.core.events import Events, Selection
from workbench.core.store import Store
from workbench.model.shape_profile import ShapeProfile, profile_of
from workbench.model.sources import resolve
from workbench.plan import Plan
from workbench.session import selection as shared
from workbench.session.engines import Engines
from workbench.session.file import SessionFile
from workbench.session.files import Files
from workbench.session.measure import Measure
from workbench.session.models import Models
from workbench.session.precision import Precision
from workbench.session.torch import Torch

if TYPE_CHECKING:
    from workbench.analysis.checks.finding import Findings
    from workbench.compilers.config import BuildConfig
    from workbench.core.jobs import Job
    from workbench.engine import Engine
    from workbench.model.model import Model

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Session:
    """Models, engines, profiles and the selection under one name.

    Args:
        name: Letters, digits, dots, dashes and underscores. The session is opened if it exists, else created.
        store: Location of its files; `WORKBENCH_HOME` or the user's data folder by default.
        reading: Continue if that folder can't be written: additions then last until this process ends, and
            `Store.unwritable` gives the reason. For commands that only read.

    Attributes:
        name: The session's name.
        store: Location of its files.
        events: The session's events; use `Events.subscribe` to be notified.
        models: Models by name.
        engines: Engines, newest last; the current one; builds.
        precision: Casts, quantization, accuracy.
        measure: Measurements on this machine's GPU.
        torch: Torch-TensorRT.
        files: Archives and trtexec's files.

    Raises:
        StoreError: the name is invalid, or the session can't be read.
    """

    def __init__(
        self, name: str = "default", *, store: Store | Path | str | None = None, reading: bool = False
    ) -> None:
        if not _NAME.fullmatch(name):
            raise StoreError(
                f"{name!r} is not a valid session name.",
                hint="Use letters, digits, dots, dashes and underscores.",
                code="session-name",
            )
        self.name = name
        self.store = store if isinstance(store, Store) else Store(Path(store) if store else None, reading=reading)
        self._file = SessionFile(self.store.session_file(name), name)
        self.events = Events(self._file.db, self._file.path)
        self.models = Models(self, self._file)
        self.engines = Engines(self, self._file)
        self.precision = Precision(self)
        self.measure = Measure(self)
        self.torch = Torch(self)
        self.files = Files(self)

    @classmethod
    def from_archive(
        cls, path: str | Path, name: str | None = None, *, store: Store | Path | str | None = None, trust: bool = False
    ) -> Session:
        """Open an archive as a session; existing models and engines of the session are kept.

        If the session already uses a model's name for another model, a number is appended. Unless this store wrote
        the archive, its engines get other keys (``imported-...``), so that builds never find them.

        Args:
            path: A file that `session.files.export` wrote.
            name: The session's name; the archive's own by default.
            store: As for `Session`.
            trust: Whether code in the archive may run: engines, and the factory of a model when it is exported at
                another shape. This is stored for each model and engine; `session.models.trust` and
                `session.engines.trust` change it later. Inspecting them runs no code.

        Raises:
            StoreError: it is not such an archive, is damaged, or was written by a later version.
            LimitError: it is larger than a limit of `workbench.core.limits`.
        """
        from workbench.session.archive.keep import opened

        home = store if isinstance(store, Store) else Store(Path(store) if store else None)
        with opened(Path(path), home) as content:
            session = cls(content.session_name(name), store=home)
            try:
                fresh = not session.models and not session.engines
                models, engines = content.keep(session.models, trust)
                session._file.put(models, engines)
                for model in models:
                    session.events.emit("model-added", {"model": model.name})
                if fresh:
                    session.select(content.selection)
            except BaseException:
                session.close()
                raise
        return session

    def add(
        self,
        source: Any,
        inputs: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        on_job: Callable[[Job], None] | None = None,
        check: Literal["error", "warn", "off"] | bool | None = None,
        renew: bool = False,
        on_step: Callable[[str], None] | None = None,
    ) -> Model:
        """Add a model to the session.

        Args:
            source: A path to an ONNX file, a sample's name, ``package.module:factory``, a torch module (with
                `inputs`), an `onnx.ModelProto`, or a Model.
            inputs: Example inputs of a torch module, by position or by name.
            name: Name of the model; the file's or class's name by default. A model of the same name is replaced.
            shapes: Shapes to export at, such as ``{"x": "1x3x224x224:8x3x224x224:32x3x224x224"}``.
            on_job: Called with each job that is started, to show progress.
            check: How to check a model exported from PyTorch, by running it in ONNX Runtime: "error" refuses a model
                whose outputs differ, "warn" keeps it with a warning, "off" does not compare. By default the value of
                ``WORKBENCH_EXPORT_CHECK``, else "error".
            renew: Export a factory's model again even if its sources did not change.
            on_step: Called with the next step, as text, while a torch module is exported in this process: `print`.

        Warns:
            ExportWarning: something about the export that you should know; ``origin["warnings"]`` keeps it.

        Raises:
            ModelError: there is no such model, or it can't be read or exported.
        """
        model = resolve(
            source, self.store, inputs=inputs, name=name, profile=profile_of(shapes), on_job=on_job, check=check,
            renew=renew, on_step=on_step,
        )  # fmt: skip
        if model.origin.get("kind") in {"module", "factory", "sample"}:
            for text in model.origin.get("warnings", ()):
                warnings.warn(f"{model.name}: {text}", ExportWarning, stacklevel=2)
        self._file.put([replace(model, path=model.path.resolve())])
        self.events.emit("model-added", {"model": model.name})
        return model

    def build(
        self, model: Any, config: BuildConfig | None = None, *, time_limit: float | None = None, **options: Any
    ) -> Engine:
        """Build `model` and wait for the engine; ``session.engines.start`` returns at once.

        Args:
            model: A Model, the name of one in the session, or anything that `add` takes.
            config: Build settings. You can also pass options by name, such
                as ``target="sm89", precision="fp16", shapes={"x": "1x3x224x224"}``. If the model reads an input as a
                shape, write its values after an equals sign: ``shapes={"n": "=1:8:32"}``.
            time_limit: Seconds after which to stop the build.
            options: Fields of `BuildConfig`; `target` and `shapes` are short for `targets` and `profiles`.

        Raises:
            ConfigError: an option is wrong or the compiler lacks it; or shapes or values are missing, and
                ``details["shapes"]`` suggests some.
            BuildError: the compiler refused the model.
            WorkerCrashedError: the compiler crashed; the session is not affected.
        """
        return self.engines.start(model, config, time_limit=time_limit, **options).result()

    def checks(
        self,
        model: Any = None,
        *,
        parser: bool = True,
        ask: Literal["parser", "builder"] | None = None,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        target: str | None = None,
        precision: Literal["fp32", "fp16", "bf16"] = "fp32",
        on_job: Callable[[Job], None] | None = None,
    ) -> Findings:
        """Problems found in an engine or a model, each with evidence from its own data.

        Args:
            model: An Engine or (the beginning of) its key; a Model, the name of one in the session, or anything that
                `add` takes. By default the current engine, else the newest model. A name refers to the model.
            parser: Whether to check which nodes TensorRT supports (in a worker, about a second).
            ask: What checks them: the ``parser``, or the ``builder``, which refuses some nodes that the parser
                accepts. By default the builder if that is fast (see `session.torch.partition`).
            shapes: Shapes and values of the planned build.
            target: GPU of the planned build; the builder builds for it.
            precision: Precision of the planned build.
            on_job: Called with each job that is started.

        Raises:
            StoreError: the session has neither model nor engine.
            ModelError: there is no such model.
            ConfigError: the shapes or the target do not fit.
        """
        from workbench.session.checks import checks

        return checks(
            self, model, parser=parser, ask=ask, shapes=shapes, target=target, precision=precision, on_job=on_job
        )  # fmt: skip

    def panel(self, name: str, plan: Plan | None = None, *, model: Any = None) -> Any:
        """A panel for a notebook; `workbench.panels.PANELS` lists their names: model, graph, build, fusions, ...

        Args:
            name: Which panel.
            plan: A plan to show instead of the session's engines, such as one from `session.files.inspect`; the fusions
                and profile panels support this.
            model: The model that `plan` was built from, if it is known, or anything that `add` takes.

        Raises:
            StoreError: there is no panel of that name, or it can't show a plan.
            CompilerUnavailableError: ipywidgets is not installed.
        """
        from workbench.panels import panel

        return panel(self, name, plan, None if model is None else self.models.resolve(model))

    def app(self) -> Any:
        """All panels in one, as tabs."""
        from workbench.panels import all_panels

        return all_panels(self)

    def report(
        self, path: str | Path, engine: Engine | Plan | str | int | None = None, *, model: Any = None,
        sources: bool = False,
    ) -> Path:  # fmt: skip
        """Write one HTML file with the map, tables and charts of an engine; it needs no kernel and no network.

        Args:
            path: The .html file to write.
            engine: Which engine (see `session.engines.find`), or a plan such as one from `session.files.inspect`; the
                current engine by default.
            model: The model that a plan was built from, if it is known, or anything that `add` takes.
            sources: Whether to include source lines from the folders in ``WORKBENCH_SOURCES``.

        Raises:
            StoreError: there is no such engine, or the file can't be written.
        """
        from workbench.present.lens import Lens
        from workbench.report import report

        if isinstance(engine, Plan):
            found = None if model is None else self.models.resolve(model)
            return report(Lens.of_plan(engine, found), path, sources=sources)
        return report(Lens.of(self.engines.find(engine)), path, sources=sources)

    @property
    def selection(self) -> Selection:
        """The selection of every view of this session. Set it to an id, several ids, or None."""
        return shared.selected(self._file)

    @selection.setter
    def selection(self, value: Selection | str | Iterable[str] | None) -> None:
        chosen = shared.read(self, value)
        self.select(chosen, origin=chosen.origin or None)

    def select(self, selection: Selection, *, origin: str | None = None) -> None:
        """Set the selection on behalf of `origin` (a view); no event if nothing changes."""
        shared.select(self, self._file, selection, origin)

    def close(self) -> None:
        """Stop watching and close the file; running builds are canceled."""
        self.events.close()
        for build in self.engines.running:
            build.cancel()
        self._file.close()

    def delete(self) -> None:
        """Remove the session; models and engines stay in the store for other sessions."""
        self.close()
        self._file.delete()

    def __repr__(self) -> str:
        return f"<Session {self.name}: {len(self.models)} models, {len(self.engines)} engines, {self.store.path}>"
