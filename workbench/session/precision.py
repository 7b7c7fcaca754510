"""``session.precision``: casts and quantization, and their effect on accuracy and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.model.shape_profile import sizes_of
from workbench.session.options import with_sizes

if TYPE_CHECKING:
    from workbench.build import Build
    from workbench.core.jobs import Job
    from workbench.engine import Engine
    from workbench.experiments.whatif import WhatIf
    from workbench.model.model import Model
    from workbench.model.origin import Origin
    from workbench.precision.accuracy import Accuracy
    from workbench.precision.calibration import Calibration
    from workbench.precision.mixed import Mixed
    from workbench.precision.scheme import Scheme
    from workbench.precision.sensitivity import Sensitivity
    from workbench.workspace import Workspace


class Precision:
    """Creates models in lower precision and compares them with FP32 and with each other."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

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
        """Convert `model` to FP16 or BF16 and add the result to the session under another name.

        ``session.build(..., precision="fp16")`` converts too; use this to keep some nodes in FP32.

        Args:
            model: A Model, the name of one in the session, or anything that `Session.add` takes.
            to: "fp16" or "bf16".
            name: Name of the result; by default the model's name with the precision appended.
            check: Data (as for calibration, or "sample") on which the FP32 model and its cast run first; problems
                are listed in ``origin["warnings"]``, together with those found in the graph.
            shapes: Sizes of dynamic inputs, for `check`.
            limit: At most this many batches of `check`.
            options: Arguments of `workbench.passes.cast`: ``keep``, ``keep_ops``, ``only``, ``only_ops``, ``keep_io``.

        Raises:
            ModelError: the model can't be rewritten, or a list names a node that does not exist.
            CalibrationError: the `check` data do not fit.
        """
        from workbench.passes.cast import cast, lists_of
        from workbench.precision.overflow import warnings as overflows

        found = self._workspace.models.resolve(model, on_job=options.get("on_job"))
        found_overflows: list[str] = []
        if check is not None:
            on_job = options.get("on_job")
            found_overflows = overflows(
                found,
                self._workspace.store,
                to,
                check,
                shapes=sizes_of(shapes),
                lists=lists_of(options),
                limit=limit,
                on_job=on_job,
            )
        low = cast(found, to, self._workspace.store, **options)
        origin: Origin = {**low.origin, "warnings": [*low.origin.get("warnings", ()), *found_overflows]}
        return self._workspace.add(replace(low, name=name or f"{found.name}-{to}", origin=origin))

    def quantize(self, model: Any, data: Any = None, *, name: str | None = None, **options: Any) -> Model:
        """Quantize `model` and add the result to the session under another name.

        Args:
            model: A Model, the name of one in the session, or anything that `Session.add` takes.
            data: Calibration data; see `workbench.precision.quantize`, or "sample" for the sample's own.
            name: Name of the result; by default the model's name with the precision appended.
            options: Fields of `workbench.precision.Scheme` and arguments of `workbench.precision.quantize`.

        Raises:
            ModelError: the model can't be quantized.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.quantize import quantize
        from workbench.precision.samples import data_of

        found = self._workspace.models.resolve(model, on_job=options.get("on_job"))
        given = data_of(found, self._workspace.store, data, on_job=options.get("on_job"))
        low = quantize(found, self._workspace.store, data=given.calibration, **with_sizes(options))
        title = name or f"{low.name}-{low.origin['scheme']['to']}"
        return self._workspace.add(replace(low, name=title))

    def calibrate(self, model: Any, data: Any, **options: Any) -> Calibration:
        """The distribution of each activation on `data`: a calibration cache, to inspect or to quantize with.

        Args:
            model: A Model, the name of one in the session, or anything that `Session.add` takes.
            data: See `workbench.precision.data.batches`, or "sample".
            options: Arguments of `workbench.precision.calibrate.calibrate`.

        Raises:
            ModelError: the model can't be quantized.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.calibrate import calibrate
        from workbench.precision.samples import data_of

        found = self._workspace.models.resolve(model, on_job=options.get("on_job"))
        given = data_of(found, self._workspace.store, data, on_job=options.get("on_job"))
        return calibrate(found, self._workspace.store, data=given.calibration, **with_sizes(options))

    def requantize(
        self, low: Model | str, *, keep: Sequence[str] | str, name: str | None = None, **options: Any
    ) -> Model:
        """Quantize again with the same scheme and ranges, and keep more nodes in higher precision.

        Args:
            low: A model (or its name) from `quantize`.
            keep: Names of nodes, such as those from `mixed`, or one name.
            name: Name of the result; the model's name and "-mixed" by default.
            options: As for `quantize`.

        Raises:
            ModelError: `quantize` did not create it, or its FP32 model is gone.
            CalibrationError: its calibration is no longer in the store, and `options` need ranges that it does not have.
        """
        from workbench.precision.mixed import literal
        from workbench.precision.quantize import ranges_of
        from workbench.precision.scheme import Scheme, scheme_of

        model = self._workspace.models.of(low)
        scheme = scheme_of(model)
        ranges = ranges_of(model, self._workspace.store) if Scheme(**scheme).calibrated else None
        scheme["keep"] = [*scheme["keep"], *map(literal, (keep,) if isinstance(keep, str) else keep)]
        return self.quantize(
            self._workspace.models.original(model), ranges, name=name or f"{model.name}-mixed", **{**scheme, **options}
        )

    def accuracy(self, low: Model | Engine | str, data: Any, *, labels: Any = None, **options: Any) -> Accuracy:
        """The error of a cast or quantized model against its FP32 model, at the outputs and along the graph.

        Errors along the graph are stored; the map of its engines can then show them as colors.

        Args:
            low: A model (or its name) from `cast` or `quantize`, or an engine of one.
            data: Data to test with, or "sample".
            labels: The correct class of each sample, or an .npy file of them.
            options: Arguments of `workbench.precision.accuracy.accuracy`; ``along`` is true by default.

        Raises:
            ModelError: it has no FP32 model, or ONNX Runtime can't run one of them.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.accuracy import accuracy

        model, exact, given, options = self._tested(low, data, labels, options)
        options = {"along": True, **options}
        found = accuracy(
            exact, {model.name: model}, self._workspace.store, data=given.test, labels=given.labels, **options
        )
        if options["along"]:
            self._workspace.events.emit("errors-added", {"model": model.name})
        return found

    def sensitivity(self, low: Model | str, data: Any, *, labels: Any = None, **options: Any) -> Sensitivity:
        """The error that each layer of a quantized model causes when only that layer is quantized, largest first.

        Args:
            low: A model (or its name) from `quantize`.
            data: Data to test with, or "sample".
            labels: The correct class of each sample, or an .npy file of them.
            options: Arguments of `workbench.precision.sensitivity.sensitivity`.

        Raises:
            ModelError: `quantize` did not create it, or its FP32 model is gone.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.sensitivity import sensitivity

        model, exact, given, options = self._tested(low, data, labels, options)
        return sensitivity(exact, model, self._workspace.store, data=given.test, labels=given.labels, **options)

    def mixed(self, low: Model | str, data: Any, budget: float, *, labels: Any = None, **options: Any) -> Mixed:
        """Find a small set of layers of a quantized model to keep in higher precision so that it meets `budget`.

        ``session.precision.quantize(original, calibration, keep=found.keep)`` creates that model.

        Args:
            low: A model (or its name) from `quantize`.
            data: Data to test with, or "sample".
            budget: At least this accuracy or top-1 agreement (0..1), or at most this relative error.
            labels: The correct class of each sample, or an .npy file of them.
            options: Arguments of `workbench.precision.mixed.mixed`, such as ``metric``.

        Raises:
            ModelError: `quantize` did not create it, or its FP32 model is gone.
            ConfigError: there is no such metric, or it needs labels.
            CalibrationError: the data do not fit.
        """
        from workbench.precision.mixed import mixed

        model, exact, given, options = self._tested(low, data, labels, options)
        return mixed(
            exact, model, self._workspace.store, data=given.test, labels=given.labels, budget=budget, **options
        )

    def _tested(
        self, low: Any, data: Any, labels: Any, options: dict[str, Any]
    ) -> tuple[Model, Model, Any, dict[str, Any]]:
        """The model in lower precision, its FP32 model, test data for both, and the options with sizes as tuples."""
        from workbench.precision.samples import data_of

        exact = self._workspace.models.original(low)
        given = data_of(exact, self._workspace.store, data, None, labels, on_job=options.get("on_job"))
        return self._workspace.models.of(low), exact, given, with_sizes(options)

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
        """Build `model` in several precisions and compare them: kernels, bytes, operations, time, error.

        Every step is cached. Quantized models are added to the session as ``MODEL-int8`` and so on, engines as by
        `Session.build`.

        Args:
            model: In FP32: a Model, the name of one in the session, or anything that `Session.add` takes.
            schemes: fp32, fp16, bf16, int8, fp8, int4; a `workbench.precision.Scheme`, or its fields as a dict. One
                or several.
            target: GPU architecture to build for.
            data: Calibration data (see `workbench.precision.data.batches`), or "sample" for the sample's
                own.
            test: Data for the errors; by default the calibration data, or the sample's own test images.
            labels: The correct class of each test sample, or an .npy file of them, to compute the accuracy.
            shapes: Sizes of dynamic inputs.
            limit: At most this many batches, of calibration and of test.
            errors: Whether to measure errors, with ONNX Runtime on the CPU.
            on_variant: Called with the partial result after each variant.
            on_job: Called with each job and build, to show progress or cancel; canceling one stops the comparison.

        Raises:
            ConfigError: there is no such precision or option.
            CancelledError: a job was canceled. An error of one variant is in its row instead.
        """
        from workbench.experiments.whatif import what_if

        return what_if(
            self._workspace, model, schemes, target=target, data=data, test=test, labels=labels, shapes=shapes, limit=limit,
            errors=errors, on_variant=on_variant, on_job=on_job,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Precision of session {self._workspace.name}>"
