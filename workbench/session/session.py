"""The Session: the only object a user must know.

A session is a name. Whoever opens that name, in this notebook, another one, a script or the shell, sees the
same models, engines and selection, live. It keeps no results in memory only: what was built is found again
after a kernel is restarted.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.build import Build
from workbench.build_folder import set_trust
from workbench.compilers import require
from workbench.compilers.base import Profiles
from workbench.compilers.config import BuildConfig
from workbench.core.errors import (
    CompilerUnavailableError,
    ConfigError,
    ExportWarning,
    ModelError,
    StoreError,
    WorkbenchError,
)
from workbench.core.events import PROCESS, Events, Selection
from workbench.core.jobs import Job
from workbench.core.store import IMPORTED, Database, Store
from workbench.engine import Engine, load_engine
from workbench.model.model import Model
from workbench.model.shape_profile import ShapeProfile, ShapeRange, ValueRange, sizes_of
from workbench.model.sources import resolve
from workbench.model.trust import imported, mark, torch_source, trusted
from workbench.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

    from workbench.analysis.checks import Gotchas
    from workbench.compilers.torch_tensorrt import Partition
    from workbench.compilers.torch_tensorrt.live import Compiled
    from workbench.experiments.whatif import WhatIf
    from workbench.precision.accuracy import Accuracy
    from workbench.precision.calibration import Calibration
    from workbench.precision.mixed import Mixed
    from workbench.precision.scheme import Scheme
    from workbench.precision.sensitivity import Sensitivity

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Session:
    """Models, engines, profiles and the selection under one name.

    Args:
        name: Letters, digits, dots, dashes and underscores. Opened if it exists, else created.
        store: Where it lives; `WORKBENCH_HOME` or the user's data folder by default.
        reading: Go on where that folder can't be written: what is added is then kept until this process ends, and
            `Store.unwritable` says why. For commands that only look.

    Raises:
        StoreError: the name does not fit, or the session can't be read.
    """

    def __init__(
        self, name: str = "default", *, store: Store | Path | str | None = None, reading: bool = False
    ) -> None:
        if not _NAME.fullmatch(name):
            raise StoreError(
                f"{name!r} can't be a session's name.",
                hint="Use letters, digits, dots, dashes and underscores.",
            )
        self.name = name
        self.store = (
            store if isinstance(store, Store) else Store(Path(store) if store else None, reading=reading)
        )  # fmt: skip
        self._path = self.store.session_file(name)
        self._db = Database(self._path)
        self._builds: list[Build] = []
        self._create()
        self.events = Events(self._db, self._path)

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
        check: Literal["error", "warn", "off"] | bool | None = None,
        renew: bool = False,
        on_step: Callable[[str], None] | None = None,
    ) -> Model:
        """Take a model into the session.

        Args:
            source: A path to an ONNX file, a sample's name, ``package.module:factory``, a torch module (with
                `inputs`), an `onnx.ModelProto`, or a Model.
            inputs: Example inputs of a torch module, by position or by name.
            name: What to call it; the file's or class's name by default. An existing name is replaced.
            shapes: Shapes to export at, such as ``{"x": "1x3x224x224:8x3x224x224:32x3x224x224"}``.
            on_job: Called with each job that is started, to show progress.
            check: What is exported from PyTorch is run in ONNX Runtime and compared: "error" refuses what differs, "warn"
                keeps it with a warning, "off" compares nothing. By default the value of ``WORKBENCH_EXPORT_CHECK``,
                else "error".
            on_step: Called with what is done next, in words, while a torch module is exported in this process: `print`.
            renew: Export what a factory makes again, also where its sources did not change.

        Warns:
            ExportWarning: something about the export should be known; ``origin["warnings"]`` keeps it.

        Raises:
            ModelError: there is no such model, or it can't be read or exported.
        """
        profile = profile_of(shapes)
        model = resolve(
            source, self.store, inputs=inputs, name=name, profile=profile, on_job=on_job, check=check, renew=renew,
            on_step=on_step,
        )  # fmt: skip
        if model.origin.get("kind") in {"module", "factory", "sample"}:
            for told in model.origin.get("warnings", ()):
                warnings.warn(f"{model.name}: {told}", ExportWarning, stacklevel=2)
        data = {
            "path": str(model.path.resolve()),
            "origin": dict(model.origin),
        }
        with self._db.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?)",
                (model.name, json.dumps(data), time.time()),
            )
        self.events.emit("model-added", {"model": model.name})
        return model

    def cast(
        self,
        model: Any,
        to: str = "fp16",
        *,
        name: str | None = None,
        check: Any = None,
        shapes: Mapping[str, Any] | None = None,
        limit: int | None = None,
        **options: Any,
    ) -> Model:
        """`model` in FP16 or BF16, added to the session under a name of its own.

        `build(..., precision="fp16")` does the same without lists; use this where some nodes shall stay in FP32.

        Args:
            model: A Model, the name of one in the session, or anything that `add` takes.
            to: "fp16" or "bf16".
            name: What to call it; the model's name with the precision behind it by default.
            check: Data (as for calibration, or "sample") on which the FP32 model and its cast are run first; what goes
                wrong there is named in ``origin["warnings"]``, beside what the graph alone says.
            shapes: Sizes of dynamic inputs, for `check`.
            limit: At most this many batches of `check`.
            options: Arguments of `workbench.passes.cast`: ``keep``, ``keep_ops``, ``only``, ``only_ops``, ``keep_io``.

        Raises:
            ModelError: the model can't be rewritten, or no node is what a list names.
            CalibrationError: the data of `check` do not fit.
        """
        from workbench.passes.cast import cast, lists_of
        from workbench.precision.overflow import warnings as overflows

        found = self._resolve(model, BuildConfig(), options.get("on_job"))
        told: list[str] = []
        if check is not None:
            on_job = options.get("on_job")
            told = overflows(
                found,
                self.store,
                to,
                check,
                shapes=sizes_of(shapes),
                lists=lists_of(options),
                limit=limit,
                on_job=on_job,
            )
        low = cast(found, to, self.store, **options)
        origin = {**low.origin, "warnings": [*low.origin.get("warnings", ()), *told]}
        return self.add(replace(low, name=name or f"{found.name}-{to}", origin=origin))

    def quantize(self, model: Any, data: Any = None, *, name: str | None = None, **options: Any) -> Model:
        """A quantized version of `model`, added to the session under a name of its own.

        Args:
            model: A Model, the name of one in the session, or anything that `add` takes.
            data: Calibration data; see `workbench.precision.quantize`, or "sample" for those that a sample brings.
            name: What to call it; the model's name with the precision behind it by default.
            options: Fields of `workbench.precision.Scheme` and arguments of `workbench.precision.quantize`.

        Raises:
            ModelError: the model can't be quantized.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.quantize import quantize
        from workbench.precision.samples import data_of

        found = self._resolve(model, BuildConfig(), options.get("on_job"))
        given = data_of(found, self.store, data, on_job=options.get("on_job"))
        low = quantize(found, self.store, data=given.calibration, **_sized(options))
        title = name or f"{low.name}-{low.origin['scheme']['to']}"
        return self.add(replace(low, name=title))

    def what_if(
        self,
        model: Any,
        schemes: str | Scheme | Mapping[str, Any] | Sequence[str | Scheme | Mapping[str, Any]] = (
            "fp32",
            "fp16",
            "int8",
        ),
        *,
        target: str = "sm89",
        data: Any = "random:8",
        test: Any = None,
        labels: Any = None,
        shapes: Mapping[str, Any] | None = None,
        limit: int | None = None,
        errors: bool = True,
        on_variant: Callable[[WhatIf], Any] | None = None,
        on_job: Callable[[Job | Build], Any] | None = None,
    ) -> WhatIf:
        """Build `model` in several precisions and set them side by side: kernels, bytes, operations, time, error.

        Every step is kept, so that the second time is a look-up. Quantized models are added to the session as
        ``MODEL-int8`` and so on, engines as by `build`.

        Args:
            model: In FP32: a Model, the name of one in the session, or anything that `add` takes.
            schemes: fp32, fp16, bf16, int8, fp8, int4; a `workbench.precision.Scheme`, or its fields as a dict. One
                or several.
            target: GPU architecture to build for.
            data: Calibration data (see `workbench.precision.data.batches`), or "sample" for those that a
                sample model brings.
            test: Data for the errors; by default the calibration data, or the sample's own test images.
            labels: The right class of each test sample, or an .npy file of them: gives a true accuracy.
            shapes: Sizes of dynamic inputs.
            limit: At most this many batches, of calibration and of test.
            errors: Whether errors are measured, with ONNX Runtime on the CPU.
            on_variant: Called with the result so far after each variant.
            on_job: Called with each job and build, to show progress or cancel; a cancel ends the whole.

        Raises:
            ConfigError: there is no such precision or option.
            CancelledError: a job was cancelled. What goes wrong with one variant is in its row instead.
        """
        from workbench.experiments.whatif import what_if

        return what_if(
            self, model, schemes, target=target, data=data, test=test, labels=labels, shapes=shapes, limit=limit,
            errors=errors, on_variant=on_variant, on_job=on_job,
        )  # fmt: skip

    def original(self, low: Model | Engine | str) -> Model:
        """The FP32 model that a cast or quantized one was made from.

        Args:
            low: A model (or its name) made by `cast` or `quantize`, or an engine of one.

        Raises:
            ModelError: it was not made here, or its FP32 model is no longer in the session.
        """
        model = self._source(low)
        if (exact := model.original) is not None:
            found = next((m for m in self.models.values() if m.path == exact.path), exact)
            # Pairs that were moved: what it was made from is quantized itself.
            return self.original(found) if model.origin.get("kind") == "placement" else found
        source = model.origin.get("source")
        if source is None:
            raise ModelError(
                f"{model.name} was not made by the workbench's cast or quantize, so its FP32 model is not known.",
                hint="low = session.quantize(model, data), or session.cast(model).",
            )
        for other in self.models.values():
            if other.path.is_file() and other.sha256(self.store) == source:
                return self.original(other) if model.origin.get("kind") == "placement" else other
        raise ModelError(
            f"The FP32 model that {model.name} was made from is not in session {self.name}.",
            hint="Add it again: session.add(...), the same file.",
        )

    def _source(self, low: Model | Engine | str) -> Model:
        """The model that was built, as the session knows it."""
        if isinstance(low, str):
            return self.model(low)
        if isinstance(low, Model):
            return low
        built = low.source()
        return next((m for m in self.models.values() if m.path == built.path), built)

    def calibrate(self, model: Any, data: Any, **options: Any) -> Calibration:
        """The distribution of each activation on `data`: a calibration cache, to look at or to quantize with.

        Args:
            model: A Model, the name of one in the session, or anything that `add` takes.
            data: See `workbench.precision.data.batches`, or "sample".
            options: Arguments of `workbench.precision.calibrate.calibrate`.

        Raises:
            ModelError: the model can't be quantized.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.calibrate import calibrate
        from workbench.precision.samples import data_of

        found = self._resolve(model, BuildConfig(), options.get("on_job"))
        given = data_of(found, self.store, data, on_job=options.get("on_job"))
        return calibrate(found, self.store, data=given.calibration, **_sized(options))

    def accuracy(self, low: Model | Engine | str, data: Any, *, labels: Any = None, **options: Any) -> Accuracy:
        """The error of a cast or quantized model against its FP32 one, at the outputs and along the graph.

        What is measured along the graph colours the map of its engines from then on.

        Args:
            low: A model (or its name) made by `cast` or `quantize`, or an engine of one.
            data: Data to test with, or "sample".
            labels: The right class of each sample, or an .npy file of them.
            options: Arguments of `workbench.precision.accuracy.accuracy`; ``along`` is true by default.

        Raises:
            ModelError: it has no FP32 model, or ONNX Runtime can't run one of them.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.accuracy import accuracy

        model, exact, given, options = self._tested(low, data, labels, options)
        options = {"along": True, **options}
        found = accuracy(exact, {model.name: model}, self.store, data=given.test, labels=given.labels, **options)
        if options["along"]:
            self.events.emit("errors-added", {"model": model.name})
        return found

    def sensitivity(self, low: Model | str, data: Any, *, labels: Any = None, **options: Any) -> Sensitivity:
        """What each layer of a quantized model costs when it alone is quantized, the most costly first.

        Args:
            low: A model (or its name) made by `quantize`.
            data: Data to test with, or "sample".
            labels: The right class of each sample, or an .npy file of them.
            options: Arguments of `workbench.precision.sensitivity.sensitivity`.

        Raises:
            ModelError: it was not made by `quantize`, or its FP32 model is gone.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.sensitivity import sensitivity

        model, exact, given, options = self._tested(low, data, labels, options)
        return sensitivity(exact, model, self.store, data=given.test, labels=given.labels, **options)

    def mixed(self, low: Model | str, data: Any, budget: float, *, labels: Any = None, **options: Any) -> Mixed:
        """Few layers of a quantized model to leave in higher precision so that `budget` is met.

        ``session.quantize(original, calibration, keep=found.keep)`` makes that model.

        Args:
            low: A model (or its name) made by `quantize`.
            data: Data to test with, or "sample".
            budget: At least this accuracy or top-1 agreement (0..1), or at most this relative error.
            labels: The right class of each sample, or an .npy file of them.
            options: Arguments of `workbench.precision.mixed.mixed`, such as ``metric``.

        Raises:
            ModelError: it was not made by `quantize`, or its FP32 model is gone.
            ConfigError: there is no such metric, or it needs labels.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.mixed import mixed

        model, exact, given, options = self._tested(low, data, labels, options)
        return mixed(exact, model, self.store, data=given.test, labels=given.labels, budget=budget, **options)

    def _tested(
        self, low: Any, data: Any, labels: Any, options: dict[str, Any]
    ) -> tuple[Model, Model, Any, dict[str, Any]]:
        """A model in lower precision, its FP32 one, the data to test both with, and the options with sizes as tuples."""
        from workbench.precision.samples import data_of

        exact = self.original(low)
        given = data_of(exact, self.store, data, None, labels, on_job=options.get("on_job"))
        return self._source(low), exact, given, _sized(options)

    def requantize(
        self, low: Model | str, *, keep: Sequence[str] | str, name: str | None = None, **options: Any
    ) -> Model:
        """A quantized model once more, with the same scheme and ranges and more nodes in higher precision.

        Args:
            low: A model (or its name) made by `quantize`.
            keep: Names of nodes, such as `mixed` gives them, or one name.
            name: What to call it; the model's name and "-mixed" by default.
            options: As for `quantize`.

        Raises:
            ModelError: it was not made by `quantize`, or its FP32 model is gone.
            CalibrationError: its calibration is no longer in the store, and `options` ask for ranges that it does not tell.
        """
        from workbench.precision.mixed import literal
        from workbench.precision.quantize import ranges_of
        from workbench.precision.scheme import Scheme, scheme_of

        model = self._source(low)
        scheme = scheme_of(model)
        ranges = ranges_of(model, self.store) if Scheme(**scheme).calibrated else None
        scheme["keep"] = [*scheme["keep"], *map(literal, (keep,) if isinstance(keep, str) else keep)]
        return self.quantize(self.original(model), ranges, name=name or f"{model.name}-mixed", **{**scheme, **options})

    @property
    def models(self) -> dict[str, Model]:
        """The session's models by name, in the order of adding."""
        # By number, which SQLite counts up, and not by time: a clock may be set back.
        rows = self._db.rows("SELECT name, data FROM models ORDER BY rowid")
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
        self.events.emit("model-removed", {"model": name})

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
        self.events.emit("build-started", {"model": resolved.name, "config": config.to_dict()})
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
                as ``target="sm89", precision="fp16", shapes={"x": "1x3x224x224"}``. Values of an input that the model
                reads as a shape begin with an equals sign: ``shapes={"n": "=1:8:32"}``.
            time_limit: Seconds after which the build is stopped.
            options: Fields of `BuildConfig`; `target` and `shapes` are short for `targets` and `profiles`.

        Raises:
            ConfigError: an option is wrong or the compiler lacks it; or shapes or values are missing, and
                ``details["shapes"]`` suggests some.
            BuildError: the compiler refused the model.
            WorkerCrashedError: the compiler crashed; the session is unharmed.
        """
        return self.start_build(model, config, time_limit=time_limit, **options).result()

    def _resolve(self, model: Any, config: BuildConfig, on_job: Callable[[Job], Any] | None = None) -> Model:
        if isinstance(model, Model):
            found = model
        elif isinstance(model, str) and self._db.row("SELECT 1 FROM models WHERE name = ?", model):
            found = self.model(model)
        else:
            return self.add(model, shapes=config.profiles[0] if config.profiles else None, on_job=on_job)
        if not config.profiles or self._fits(found, config) or (source := torch_source(found)) is None:
            return found
        # It was exported at other shapes: export it again at those that are asked for.
        return resolve(source, self.store, name=found.name, profile=config.profiles[0], on_job=on_job)

    def _fits(self, model: Model, config: BuildConfig) -> bool:
        """Whether the shapes that are asked for can be built of the model as it was exported."""
        profile = config.profiles[0]
        try:
            model.graph.check_shapes(profile.sizes)
        except ConfigError:
            return False
        return all(r.fixed for r in profile.inputs.values()) or bool(model.graph.dynamic_inputs)

    def _keep(self, engine: Engine) -> None:
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO engines VALUES (?, ?, ?)", (engine.key, engine.model, time.time()))

    def _on_build(self, build: Build) -> None:
        if build.status == "running" or build not in self._builds:
            return
        self._builds.remove(build)
        if self.events.closed:
            return
        if build.engine is not None:
            engine = build.engine
            self.current = engine
            self.events.emit("build-finished", {"engine": engine.key, "model": engine.model, "cached": engine.cached})
        else:
            error = build.error.to_dict() if build.error else {}
            data = {
                "model": build.model.name, "status": build.status, "error": error, "failure": build.failure,
                "config": (build.completed or build.config).to_dict(),
            }  # fmt: skip
            self.events.emit("build-failed", data)

    @property
    def builds(self) -> list[Build]:
        """Builds that this process has under way."""
        return list(self._builds)

    @property
    def failures(self) -> list[Failure]:
        """Failed builds that are still kept, newest first.

        A failed build keeps its log, request and record for a week, or until there is no room.
        """
        found = []
        for event in list(self.events)[::-1]:
            name = event.data.get("failure") if event.kind == "build-failed" else None
            folder = self.store.failure(name) if isinstance(name, str) else None
            if folder is not None:
                error = WorkbenchError.from_dict(event.data["error"])
                config = BuildConfig.from_dict(event.data["config"])
                found.append(Failure(event.data["model"], config, error, folder, event.time))
        return found

    @property
    def engines(self) -> list[Engine]:
        """The session's engines, newest last."""
        rows = self._db.rows("SELECT key, model FROM engines ORDER BY rowid")
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
        found = [e for e in engines if e.key.startswith(key) or e.key.removeprefix(IMPORTED).startswith(key)]
        if len(found) != 1:
            listed = "They are " + ", ".join(f"{e.id} ({e.model})" for e in engines) + "." if engines else None
            if not found and self._foreign(key):
                raise StoreError(
                    f"Engine {key[:12]} is in the store but was not built by it: its seal is absent or another store's.",
                    hint="Build it here: session.build(model, ...). Or bring it as an archive: Session.import_(path).",
                    code="foreign-build",
                )
            raise StoreError(
                f"{len(found) or 'No'} engines of session {self.name} begin with {key!r}.",
                hint=listed,
                code="no-engine" if not found else "ambiguous",
            )
        return found[0]

    def _foreign(self, key: str) -> bool:
        rows = self._db.rows("SELECT key FROM engines")
        return any(known.startswith(key) and self.store.standing(known) == "foreign" for (known,) in rows)

    # --- PyTorch ------------------------------------------------------------------------------------

    def partition(
        self,
        model: Any,
        inputs: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        method: Literal["torch_tensorrt", "parser", "builder"] | None = None,
        on_job: Callable[[Job], None] | None = None,
        **options: Any,
    ) -> Partition:
        """Which operators of a model run in TensorRT, which fall back, and how many engines that makes.

        Torch-TensorRT's partitioner and TensorRT's parser plan: nothing is built, and what they take can still be refused.
        The builder builds, cuts out what it refuses, and builds the rest.

        Args:
            model: A torch module (with `inputs`), a sample's name, ``package.module:factory``, the name of a
                model in the session, or anything that `add` takes.
            inputs: Example inputs of a torch module, by position or by name.
            shapes: Shapes such as ``{"x": "1x3x224x224:8x3x224x224:32x3x224x224"}``, and values of inputs that are read as
                a shape, such as ``{"n": "=1:8:32"}``.
            method: ``torch_tensorrt`` for Torch-TensorRT's own partitioner; ``parser`` for TensorRT's ONNX parser and
                ``builder`` for its builder, which also take ONNX files. By default the first where it is installed and the
                model is torch's; else the builder of TensorRT for RTX where the model is small
                (`workbench.compilers.torch_tensorrt.by_parser.QUICK_NODES`, `QUICK_BYTES`) and its shapes are known; else the parser.
            on_job: Called with each job that is started.
            options: For torch_tensorrt: ``precision``, ``min_block_size``, ``torch_executed_ops``, ``target`` (the GPU
                to plan for), ``build`` (False plans also where there is a GPU). For the parser and the builder:
                ``precision``, ``target``.

        Raises:
            CompilerUnavailableError: what `method` needs is not installed.
            ModelError: the model can't be read or exported.
            ConfigError: an option does not fit.
        """
        from workbench.compilers.torch_tensorrt.planned import partition

        def as_onnx() -> Model:
            if hasattr(model, "forward"):
                return resolve(model, self.store, inputs=inputs, profile=profile_of(shapes), on_job=on_job)
            return self._resolve(model, _config(None, {"shapes": shapes} if shapes else {}), on_job)

        known = self.model(model) if isinstance(model, str) and model in self.models else model
        return partition(
            known,
            as_onnx,
            self.store,
            method=method,
            inputs=inputs,
            profile=profile_of(shapes),
            on_job=on_job,
            **options,
        )

    def compile_torch(
        self,
        module: Any,
        inputs: Sequence[Any] | Mapping[str, Any],
        *,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        **options: Any,
    ) -> Compiled:
        """Compile a torch module with Torch-TensorRT on this machine's GPU.

        Args:
            module: The module; it stays as it is, a copy of it is compiled.
            inputs: Example inputs, by position or by name.
            shapes: Shapes, with min:opt:max where a dimension is open.
            options: ``how`` (``export``, which can be saved, or ``torch.compile``), ``precision`` (fp32, fp16, bf16),
                ``workspace`` (bytes), ``min_block_size``, ``torch_executed_ops``, and further settings of Torch-TensorRT.

        Returns:
            A callable that holds the compiled module, its partition, and `save`; `workbench.compilers.torch_tensorrt.live.load`
            reads it back.

        Raises:
            CompilerUnavailableError: there is no GPU, or no usable torch_tensorrt.
            BuildError: Torch-TensorRT failed.
        """
        from workbench.compilers.torch_tensorrt.live import compile_module

        return compile_module(module, inputs, shapes=profile_of(shapes), **options)

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
        chosen.check_trusted()
        require(chosen.config.compiler, Profiles)

        def done(job: Job) -> None:
            if job.status == "done" and not self.events.closed:
                self.events.emit("profile-added", {"engine": chosen.key, "model": chosen.model})

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
            options: Arguments of `workbench.measure.profile.profile`, such as ``duration_ms`` or ``graph``.

        Returns:
            The profile; see `workbench.measure.profile.profile`.

        Raises:
            CompilerUnavailableError: the engine's compiler can't measure here: there is no GPU, or it is not installed.
            BuildError: the engine can't be used here, in words.
            ConfigError: inputs or reference do not fit the engine.
            StoreError: it came from an archive and is not trusted; see `Engine.check_trusted`.
        """
        return self.start_profile(engine, inputs=inputs, reference=reference, **options).result()

    def dynamic_overhead(
        self, model: Any, config: BuildConfig | None = None, *, measure: Mapping[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """What a dynamic shape costs on this GPU: the model built for its usual shape alone and for the whole range.

        Args:
            model: As for `build`.
            config: As for `build`; its first shape profile must hold a range, as in
                ``shapes={"x": "1x3x224x224:8x3x224x224:32x3x224x224"}``.
            measure: Arguments of `profile`, the same for both engines.
            options: Fields of `BuildConfig`.

        Returns:
            ``fixed`` and ``dynamic``, each with ``engine`` (its key), ``latency`` at the usual shape, ``launches``,
            ``build_s``, ``error``; with TensorRT for RTX also ``fallback``, the dynamic engine with the kernels for any
            shape that run until those for the shape at hand are compiled; ``shapes``; ``overhead_ms`` of the medians,
            and ``overhead`` as a part of the fixed engine's.

        Raises:
            ConfigError: there is no range.
            CompilerUnavailableError: there is no GPU.
        """
        from workbench.experiments.dynamic import dynamic_overhead

        config = _config(config, options)
        require(config.compiler, Profiles)  # before two engines are built
        return dynamic_overhead(self, model, config, **(measure or {}))

    def rebuild(self, engine: Engine | str | int | None = None, **changes: Any) -> Engine:
        """Build an engine again on this machine, with the compiler that is here and for the GPU that is here.

        Engines are not portable between GPUs and versions: see `Engine.compatibility`.

        Args:
            engine: Which engine (see `engine`); the current one by default.
            changes: Fields of `BuildConfig` to change.

        Raises:
            ModelError: the model's file is gone.
            BuildError: the compiler refused the model.
        """
        return self.start_rebuild(engine, **changes).result()

    def start_rebuild(self, engine: Engine | str | int | None = None, **changes: Any) -> Build:
        """Begin to build an engine again; see `rebuild`."""
        from workbench.compilers.compatibility import here

        chosen = self._chosen(engine)
        model = chosen.source()
        return self.start_build(model.original or model, here(chosen.config).replace(**changes))

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
        from workbench.compilers.tensorrt import trtexec

        found = None if model is None else self._resolve(model, BuildConfig())
        sha256 = None if found is None else found.sha256(self.store)
        plan = trtexec.inspect(layers, profile=profile, times=times, metadata=metadata, model=found, sha256=sha256)
        files = {
            "layers": str(layers), "profile": str(profile) if profile else None, "times": str(times) if times else None,
            "metadata": [str(file) for file in metadata], "model": None if found is None else found.name,
        }  # fmt: skip
        return replace(plan, facts={**plan.facts, "inspected": files})

    def gotchas(
        self,
        model: Any = None,
        *,
        parser: bool = True,
        ask: Literal["parser", "builder"] | None = None,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        target: str | None = None,
        precision: Literal["fp32", "fp16", "bf16"] = "fp32",
        on_job: Callable[[Job], None] | None = None,
    ) -> Gotchas:
        """What is likely to surprise about an engine or a model: only what its own data prove.

        Args:
            model: An Engine or (the beginning of) its key; a Model, the name of one in the session, or anything that
                `add` takes. By default the current engine, else the newest model. A name means the model.
            parser: Whether TensorRT is asked which nodes of a model it takes (in a worker, about a second).
            ask: Who of it: the ``parser``, or the ``builder``, which refuses some of what the parser takes. By default
                the builder where that is quick (see `partition`).
            shapes: Shapes and values that the model is to be built with.
            target: GPU that it is to be built for; the builder is asked for it.
            precision: That it is to be built in.
            on_job: Called with each job that is started.

        Raises:
            StoreError: the session has neither model nor engine.
            ModelError: there is no such model.
            ConfigError: the shapes or the target do not fit.
        """
        from workbench.analysis import checks as of
        from workbench.build import check_profiles
        from workbench.compilers.registry import get
        from workbench.hardware.machine import gpus

        engine = self.current if model is None else model if isinstance(model, Engine) else None
        if engine is None and isinstance(model, str) and model not in self.models:
            engine = next((e for e in self.engines if len(model) >= 4 and e.key.startswith(model)), None)
        if engine is not None:
            info = get(engine.config.compiler).describe()
            installed = info.version if info.name == engine.config.compiler else None
            return of.of_engine(engine, here=gpus(), installed=installed, others=self.engines)
        if model is None and not (models := self.models):
            raise StoreError(f"Session {self.name} has no model yet.", hint='Add one: session.add("resnet50").')
        profile = profile_of(shapes)
        asked = _config(None, {"shapes": profile} if profile else {})
        found = list(models.values())[-1] if model is None else self._resolve(model, asked, on_job)
        if profile is not None:
            found.graph.check_shapes(profile.sizes)
            found.graph.check_values(profile.usual)
        unchecked: list[str] = [] if parser else ["which nodes TensorRT takes: it was not asked"]
        partition = None
        if parser:
            options: dict[str, Any] = {
                "precision": precision,
                **({"target": target} if target and ask != "parser" else {}),
            }
            try:
                if ask == "builder":
                    check_profiles(found, asked)
                partition = self.partition(found, method=ask, shapes=profile, on_job=on_job, **options)
                unchecked += [note.rstrip(".") for note in partition.notes]
            except CompilerUnavailableError as error:
                unchecked.append(f"which nodes TensorRT takes: {error.message}")
        return of.of_model(found, partition, unchecked, profile, precision)

    def to_frame(self) -> pd.DataFrame:
        """One row an engine: what was asked, what it took, what fusion saved."""
        import pandas as pd

        rows = []
        for engine in self.engines:
            s = engine.plan.summary
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
        self.events.emit("current", {"engine": key})
        chosen = self.selection
        if chosen.ids and (now := self.current) is not None and not any(_kind_of(i, now.plan) for i in chosen.ids):
            self.select(Selection(chosen.kind))  # of another model: here it names nothing

    # --- views --------------------------------------------------------------------------------------

    def panel(self, name: str, plan: Plan | None = None, *, model: Any = None) -> Any:
        """A panel for a notebook; `workbench.panels.PANELS` lists their names: model, graph, build, fusions, ...

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
        from workbench.panels import all_panels

        return all_panels(self)

    def report(
        self, path: str | Path, engine: Engine | Plan | str | int | None = None, *, model: Any = None,
        sources: bool = False,
    ) -> Path:  # fmt: skip
        """Write one HTML file with the map, tables and charts of an engine; it needs no kernel and no network.

        Args:
            path: The .html file to write.
            engine: Which engine (see `engine`), or a plan such as `inspect` gives; the current engine by default.
            model: The model that a plan was built from, where that is known, or anything that `add` takes.
            sources: Whether source lines from the folders that ``WORKBENCH_SOURCES`` names go into it.

        Raises:
            StoreError: there is no such engine, or the file can't be written.
        """
        from workbench.present.lens import Lens
        from workbench.report import report

        if isinstance(engine, Plan):
            found = None if model is None else self._resolve(model, BuildConfig())
            return report(Lens.of_plan(engine, found), path, sources=sources)
        return report(Lens.of(self._chosen(engine)), path, sources=sources)

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
        if chosen.ids and self._are_nodes(chosen.ids):
            chosen = replace(chosen, kind="node")
        self.select(chosen)

    def _are_nodes(self, ids: Sequence[str]) -> bool:
        """Whether `ids` name nodes and no layer: in the current plan, else in a model of the session."""
        engine = self.current
        kinds = {_kind_of(i, engine.plan) for i in ids} if engine is not None else {None}
        if kinds != {None}:
            return "layer" not in kinds
        for model in self.models.values():
            with contextlib.suppress(ModelError):  # its file is gone: it has no nodes to select
                if any(i in model.graph.by_id for i in ids):
                    return True
        return False

    def select(self, selection: Selection, *, origin: str | None = None) -> None:
        """Set the selection in the name of `origin` (a view); no event where nothing changes."""
        chosen = replace(selection, origin=origin or f"{PROCESS}/python")
        now = self.selection
        if (now.kind, now.ids) == (chosen.kind, chosen.ids):
            return
        data = {"kind": chosen.kind, "ids": list(chosen.ids), "origin": chosen.origin}
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO state VALUES ('selection', ?)", (json.dumps(data),))
        self.events.emit("selection", data, origin=chosen.origin)

    def close(self) -> None:
        """Stop watching and close the file; builds under way are cancelled."""
        self.events.close()
        for build in self.builds:
            build.cancel()
        self._db.close()

    # --- archive ------------------------------------------------------------------------------------

    def export(self, path: str | Path) -> Path:
        """Write the session with its models and engines into one archive (zip).

        Raises:
            StoreError: a model's file is gone, or the archive can't be written.
        """
        from workbench.session.archive import write

        return write(self, Path(path))

    @classmethod
    def import_(
        cls, path: str | Path, name: str | None = None, *, store: Store | Path | str | None = None, trust: bool = False
    ) -> Session:
        """Open an archive as a session; what the session already holds stays.

        A model of the archive whose name the session has for another model gets a number behind its name. An engine
        keeps a key of its own (``imported-``...), so that no build is ever found in an archive, unless this very store
        wrote the archive.

        Args:
            path: What `export` wrote.
            name: The session's name; the archive's own by default.
            store: As for `Session`.
            trust: Whether code in the archive may be run: the factory that a model names, when it is built at another
                shape, and engines. It is remembered with each model and engine; `trust` changes it later. Inspecting
                needs none.

        Raises:
            StoreError: it is no such archive, it is damaged, or it comes from a later version.
            LimitError: it is larger than a limit of `workbench.core.limits`.
        """
        from workbench.session.archive import read

        return read(path, name, store if isinstance(store, Store) else Store(Path(store) if store else None), trust)

    def trust(self, name: str | Engine) -> None:
        """Allow code of a model or an engine that came in an archive: its factory may be called, the engine may be run.

        Args:
            name: A model of the session, or an engine or (the beginning of) its key.

        Raises:
            StoreError: the session has no such model or engine.
        """
        if isinstance(name, str) and name in self.models:
            model = self.model(name)
            if not trusted(model):
                known = imported(model) or {}
                self._put_model(mark(model, str(known.get("archive", "")), trust=True))
            return
        engine = name if isinstance(name, Engine) else self.engine(name)
        if not engine.trusted:
            set_trust(engine.folder, self.store)

    def _put_model(self, model: Model) -> None:
        """Change what is known of a model that the session has; it keeps its place."""
        data = {"path": str(model.path), "origin": dict(model.origin)}
        with self._db.write() as db:
            db.execute("UPDATE models SET data = ? WHERE name = ?", (json.dumps(data), model.name))

    def take_in(self, models: Sequence[Model], engines: Sequence[tuple[str, str]]) -> None:
        """What an archive holds, once everything in it was found sound; for `workbench.session.archive`."""
        now = time.time()
        rows = [
            (m.name, json.dumps({"path": str(m.path), "origin": dict(m.origin)}), now) for m in models
        ]  # fmt: skip
        with self._db.write() as db:
            db.executemany("INSERT OR REPLACE INTO models VALUES (?, ?, ?)", rows)
            db.executemany("INSERT OR REPLACE INTO engines VALUES (?, ?, ?)", [(*e, now) for e in engines])
        for model in models:
            self.events.emit("model-added", {"model": model.name})

    def delete(self) -> None:
        """Remove the session; models and engines stay in the store for others."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"<Session {self.name}: {len(self.models)} models, {len(self.engines)} engines, {self.store.path}>"


@dataclass(frozen=True)
class Failure:
    """A build that failed, as far as it is kept.

    Attributes:
        model: Name of the model.
        config: What was asked for.
        error: Why it failed.
        folder: What is kept: ``build.log``, ``request.json``, ``error.json``, ``record.json``, as far as there are any.
        time: When, in seconds since the epoch.
    """

    model: str
    config: BuildConfig
    error: WorkbenchError
    folder: Path
    time: float

    @property
    def code(self) -> str:
        """The error's code."""
        return self.error.code

    @property
    def message(self) -> str:
        """The error's message."""
        return self.error.message

    @property
    def log(self) -> str:
        """The build log, as far as it was written; empty where the build failed before it wrote one.

        Raises:
            StoreError: it is no longer kept.
        """
        if not self.folder.is_dir():
            raise StoreError(f"The log of this build is no longer kept: {self.folder}.", code="failure-gone")
        try:
            return (self.folder / "build.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def __repr__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.time))
        return f"<Failure of {self.model} at {when}: {self.code}: {self.message[:80]} ({self.folder})>"


def _kind_of(item: str, plan: Plan) -> Literal["layer", "node"] | None:
    """What `item` is in `plan`; None where it is nothing there."""
    if item in plan.by_id:
        return "layer"
    return "node" if item in plan.layers_of or item in plan.reasons else None


def _config(config: BuildConfig | None, options: dict[str, Any]) -> BuildConfig:
    if "target" in options:
        options["targets"] = options.pop("target")
    if "shapes" in options:
        profile = profile_of(options.pop("shapes"))
        options |= {"profiles": (profile,)} if profile is not None else {}
    return config.replace(**options) if config is not None else BuildConfig.of(**options)


def profile_of(shapes: Mapping[str, Any] | ShapeProfile | None) -> ShapeProfile | None:
    """Shapes as people write them, as a profile."""
    if shapes is None or isinstance(shapes, ShapeProfile):
        return shapes
    texts = {
        n: str(s) if isinstance(s, (str, ShapeRange, ValueRange)) else "x".join(map(str, s)) for n, s in shapes.items()
    }
    return ShapeProfile.parse(texts)


def _sized(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "shapes": sizes_of(options["shapes"])} if options.get("shapes") else options


def _model(name: str, data: Mapping[str, Any]) -> Model:
    return Model(name, Path(data["path"]), data["origin"])
