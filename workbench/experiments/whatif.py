"""What if: compare one model in several precisions before you run it.

    found = session.precision.what_if("digits", ["fp32", "fp16", "int8"], target="sm89", data="sample")
    found.to_frame()
    found.warnings

Every variant is converted, built and compared with the workbench's API (`cast`, `quantize`, `Session.build`,
`accuracy`), which caches each result. A variant that fails is a row with the reason, and the others continue.

Kernels, operations and bytes are computed from the plan; times are estimated (`workbench.analysis.roofline`) unless
the engine was profiled on a GPU; errors are measured with ONNX Runtime on the CPU, FP16 and BF16 simulated
(`workbench.precision.simulate`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.config import BuildConfig
from workbench.core.errors import CancelledError, ConfigError, WorkbenchError
from workbench.core.jobs import Job
from workbench.model.shape_profile import profile_of
from workbench.passes.casting import Lists
from workbench.precision.audit import Audit, audit
from workbench.precision.audit_changes import Change, changes
from workbench.precision.scheme import Scheme

if TYPE_CHECKING:
    import pandas as pd

    from workbench.build import Build
    from workbench.engine import Engine
    from workbench.model.model import Model
    from workbench.plan import Plan
    from workbench.workspace import Workspace

FLOATS = ("fp32", "fp16", "bf16")
QUANTIZED = ("int8", "fp8", "int4")
SLOWER = 1.02
"""From this ratio of times, a quantized variant is reported as slower than FP16."""

Asked = str | Scheme | Mapping[str, Any]


@dataclass(frozen=True)
class Cast:
    """FP16 or BF16 with lists of the nodes that stay in FP32."""

    to: str
    lists: Lists


@dataclass(frozen=True)
class Variant:
    """One tested precision.

    Attributes:
        name: Description, unique among the variants of a `WhatIf`.
        to: fp32, fp16, bf16, int8, fp8 or int4.
        asked: The request, in the form that `what_if` takes.
        model: Name of the model in the session; the FP32 model's name if only the build casts.
        engine: The engine; None if the build failed.
        problem: Why there is no engine.
        error: Figures of `workbench.precision.accuracy.Accuracy.models`, measured with ONNX Runtime on the CPU;
            empty if not measured.
        error_problem: Why there is no error.
        warnings: Warnings about the data and the quantization.
        samples: Number of samples for the error.
    """

    name: str
    to: str
    asked: str | Scheme | Cast
    model: str
    engine: Engine | None
    problem: WorkbenchError | None = None
    error: Mapping[str, float | None] = field(default_factory=dict)
    error_problem: WorkbenchError | None = None
    warnings: tuple[str, ...] = ()
    samples: int = 0

    @cached_property
    def audit(self) -> Audit | None:
        """The audit of the plan against the request."""
        scheme = self.asked.to_dict() if isinstance(self.asked, Scheme) else None
        return None if self.engine is None else audit(self.engine.plan, self.to, scheme)

    @cached_property
    def time(self) -> tuple[float | None, str, str]:
        """Milliseconds, "measured" or "estimated", and on which GPU.

        Measured is the median latency of the engine's newest profile, in a CUDA graph if available; estimated is the roofline's
        lower bound on the representative GPU of the target.
        """
        from workbench.analysis import roofline
        from workbench.hardware.devices import device

        if self.engine is None:
            return None, "", ""
        profile = self.engine.profile
        if profile is not None:
            best = profile["latency"].get("graph") or profile["latency"]["plain"]
            return best["median_ms"], "measured", str(profile["device"].get("name") or "")
        target = str(self.engine.plan.compiler.get("target") or "")
        try:
            card = device(target.partition("+")[0])
        except ConfigError:
            return None, "", ""
        if not card.peaks:
            return None, "", card.name
        return roofline.total_ms(roofline.estimates(self.engine.plan, card))[0], "estimated", card.name

    def row(self) -> dict[str, Any]:
        """The variant as one flat row; see `WhatIf.to_frame`."""
        out: dict[str, Any] = {"variant": self.name, "to": self.to, "model": self.model}
        if self.audit is None or self.engine is None:
            return {**out, "problem": str(self.problem or "")}
        figures, (time, source, gpu) = self.audit.figures, self.time
        out |= {
            "engine": self.engine.id, "kernels": figures["kernels"], "bytes": figures["bytes"],
            **{f"flops_{dtype}": row["flops"] for dtype, row in self.audit.by_precision.items() if row["flops"]},
            "flops_unknown": sum(row["flops_unknown"] for row in self.audit.by_precision.values()),
            "weight_bytes": self.engine.plan.summary["weight_bytes"], "engine_bytes": self.engine.bytes,
            "time_ms": time, "time_source": source, "time_on": gpu,
            **{name: self.error.get(name) for name in ("relative_l2", "cosine", "snr_db", "not_finite", "top1", "accuracy")},
            "findings": len(self.audit.findings), "problem": str(self.error_problem or ""),
        }  # fmt: skip
        return out


@dataclass(frozen=True)
class WhatIf:
    """Comparison of the variants of one model.

    Attributes:
        model: Name of the FP32 model.
        target: GPU architecture of the builds.
        variants: The variants in the requested order.
    """

    model: str
    target: str
    variants: tuple[Variant, ...]

    def __getitem__(self, name: str) -> Variant:
        for variant in self.variants:
            if name in (variant.name, variant.to):
                return variant
        raise ConfigError(f"{name!r} was not tried.", hint=f"Tried: {', '.join(v.name for v in self.variants)}.")

    def behind(self, earlier: WhatIf | None) -> WhatIf:
        """These variants, preceded by those of an earlier comparison of the same model and target."""
        if earlier is None or (earlier.model, earlier.target) != (self.model, self.target):
            return self
        fresh = {v.name for v in self.variants}
        return replace(self, variants=(*(v for v in earlier.variants if v.name not in fresh), *self.variants))

    def to_frame(self) -> pd.DataFrame:
        """One row per variant.

        Columns: ``kernels``; ``bytes`` moved; operations by the type that kernels read (``flops_int8``, ...), and
        the number of kernels without known operations (``flops_unknown``);
        ``weight_bytes`` (constants of the layers); ``engine_bytes`` (the file); ``time_ms`` with ``time_source``
        and ``time_on``; errors against FP32; ``findings`` of the audit; ``problem``.
        """
        import pandas as pd

        return pd.DataFrame([variant.row() for variant in self.variants])

    @property
    def figures(self) -> pd.DataFrame:
        """The audit's figures, one column per variant."""
        import pandas as pd

        rows = {v.name: v.audit.figures for v in self.variants if v.audit is not None}
        return pd.DataFrame(rows, dtype=object)

    def losses(self, low: str) -> tuple[Change, ...]:
        """Where a quantized variant moves more bytes than FP16, largest first.

        Raises:
            ConfigError: FP16 or this variant was not built.
        """
        plans = []
        for variant in (self[low], self["fp16"]):
            if variant.engine is None:
                raise ConfigError(f"{variant.name} was not built, so bytes can't be compared.")
            plans.append(variant.engine.plan)
        return tuple(c for c in changes(*plans) if c.more > 0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the variants before you run them, for example that INT8 moves more bytes than FP16."""
        from workbench.analysis import roofline
        from workbench.precision.audit_changes import verdict

        out = []
        half = next((v for v in self.variants if v.to == "fp16" and v.engine is not None), None)
        for variant in self.variants:
            if variant.to not in QUANTIZED or variant.engine is None or half is None or half.engine is None:
                continue
            if moves_more(variant.engine.plan, half.engine.plan):
                out.append(verdict(variant.engine.plan, half.engine.plan, (variant.name, half.name)))
            (mine, source, gpu), (theirs, *same) = variant.time, half.time
            if mine and theirs and [source, gpu] == same and mine > theirs * SLOWER:
                counts = [v.audit.figures["kernels"] for v in (variant, half) if v.audit is not None]
                out.append(
                    f"{variant.name} is {'measured' if source == 'measured' else 'estimated to be'} slower than {half.name}: "
                    f"{mine:.3g} ms against {theirs:.3g} ms{f' on {gpu}' if gpu else ''}, {counts[0]} kernels against {counts[1]}."
                )
            elif mine and theirs and [source, gpu] == same and source == "estimated" and mine < theirs:
                out.append(
                    f"Faster than {half.name} only by an estimate: {roofline.QUANTIZED}. Measure it on your GPU."
                )
        return tuple(dict.fromkeys([*out, *(w for v in self.variants for w in v.warnings)]))

    def __repr__(self) -> str:
        return f"<WhatIf {self.model} for {self.target}: {', '.join(v.name for v in self.variants)}>"


def moves_more(low: Plan, wide: Plan) -> bool:
    """Whether the first plan moves more bytes than the second."""
    return bool(audit(low).figures["bytes"] > audit(wide).figures["bytes"])


def title(asked: str | Scheme | Cast) -> str:
    """A short description of a variant: only the differences from the scheme's defaults."""
    if isinstance(asked, str):
        return asked
    if isinstance(asked, Cast):
        listed = asdict(asked.lists)
        left = [
            _listed(what, names)
            for key, what in (("keep", "without"), ("keep_ops", "without"), ("only", "only"), ("only_ops", "only"))
            if (names := listed[key])
        ]
        return ", ".join([asked.to, *left, *([] if asked.lists.keep_io else ["inputs and outputs too"])])
    plain = Scheme(to=asked.to, placement="modelopt" if asked.placement == "modelopt" else "tensorrt")
    words: list[str] = [asked.to]
    if asked.placement != "tensorrt":
        words.append(f"placed by {'ModelOpt' if asked.placement == 'modelopt' else 'ONNX Runtime'}")
    if asked.ranging != plain.ranging:
        words.append(asked.ranging + (f" {asked.percentile:g}" if asked.ranging == "percentile" else ""))
    if asked.weights != plain.weights and asked.to != "int4":
        words.append(
            {"channel": "scales in weights", "tensor": "one scale", "channel-after": "scales behind"}[asked.weights]
        )
    if asked.block != plain.block and asked.to == "int4":
        words.append(f"blocks of {asked.block}")
    if asked.rest != plain.rest:
        words.append(f"rest {asked.rest}")
    if asked.residual is not None:
        words.append("residuals quantized" if asked.residual else "residuals wide")
    if asked.keep:
        words.append(_listed("without", asked.keep))
    if asked.only is not None:
        words.append(_listed("only", asked.only))
    return ", ".join(words)


def _listed(what: str, names: Sequence[str]) -> str:
    """The first two names; for more names also digits of a hash of all, because titles must be unique."""
    if len(names) <= 2:
        return f"{what} {', '.join(names) or 'none'}"
    digits = hashlib.sha256("\n".join(names).encode()).hexdigest()[:4]
    return f"{what} {', '.join(names[:2])} and {len(names) - 2} more ({digits})"


def parse(asked: Asked) -> str | Scheme | Cast:
    """Convert user input to a scheme: "int8", ``{"to": "int8", "weights": "tensor"}`` or a Scheme.

    Raises:
        ConfigError: there is no such precision or option.
    """
    if isinstance(asked, Scheme):
        return asked
    if isinstance(asked, str):
        if asked in FLOATS:
            return asked
        if asked in QUANTIZED:
            return Scheme(to=asked)
        raise ConfigError(f"There is no precision {asked!r}.", hint=f"Precisions: {', '.join((*FLOATS, *QUANTIZED))}.")
    data = dict(asked)
    if data.get("to") in FLOATS:
        to = str(data.pop("to"))
        known = {f.name for f in fields(Lists)}
        if (unknown := sorted(set(data) - known)) or (data and to == "fp32"):
            raise ConfigError(
                f"{to} has no option {(unknown or list(data))[0]!r}.",
                hint=f"fp16 and bf16 have {', '.join(sorted(known))}.",
            )
        given: dict[str, Any] = {k: (v,) if isinstance(v, str) else v for k, v in data.items()}
        if wrong := [k for k, v in given.items() if not isinstance(v, bool | list | tuple | set | frozenset)]:
            raise ConfigError(f"{to}: {wrong[0]} is {given[wrong[0]]!r:.60}, not names, true or false.")
        options: dict[str, Any] = {k: v if isinstance(v, bool) else tuple(v) for k, v in given.items()}
        lists = Lists(**options)
        return to if lists == Lists() else Cast(to, lists)
    return Scheme(**data)


def what_if(
    session: Workspace,
    model: Any,
    schemes: Asked | Sequence[Asked] = ("fp32", "fp16", "int8"),
    *,
    target: str = "sm89",
    data: Any = "random:8",
    test: Any = None,
    labels: Any = None,
    shapes: Mapping[str, Any] | None = None,
    limit: int | None = None,
    errors: bool = True,
    config: BuildConfig | None = None,
    on_variant: Callable[[WhatIf], Any] | None = None,
    on_job: Callable[[Job | Build], Any] | None = None,
) -> WhatIf:
    """See `session.precision.what_if`."""
    from workbench.precision.samples import data_of

    several = (schemes,) if isinstance(schemes, str | Scheme | Mapping) else schemes
    asked = list(dict.fromkeys(parse(scheme) for scheme in several))
    if not asked:
        raise ConfigError("No precision is given.", hint=f"Precisions: {', '.join((*FLOATS, *QUANTIZED))}.")
    build = (config or BuildConfig()).replace(targets=target)
    if shapes:
        build = build.replace(profiles=(profile_of(shapes),))
    exact = session.models.resolve(model, build.profiles[0] if build.profiles else None, on_job=on_job)
    sizes = build.profiles[0].sizes if build.profiles else None
    given = data_of(exact, session.store, data, test, labels, on_job=on_job)
    done: list[Variant] = []
    with session.store.scratch("what-if") as folder:
        work = _One(session, exact, build, given, sizes, limit, errors, on_job, folder)
        for scheme in asked:
            done.append(work.variant(scheme))
            if on_variant is not None:
                on_variant(WhatIf(exact.name, target, tuple(done)))
    return WhatIf(exact.name, target, tuple(done))


@dataclass
class _One:
    """Processes the variants in sequence; `folder` holds shared files."""

    session: Workspace
    exact: Model
    config: BuildConfig
    data: Any
    sizes: Mapping[str, Any] | None
    limit: int | None
    errors: bool
    on_job: Callable[[Job | Build], Any] | None
    folder: Path
    _read: list[tuple[Any, Any]] = field(default_factory=list)

    def _batches(self, data: Any) -> Any:
        """The data as batches that are read once for all variants, because an iterator yields them only once.

        A calibration, or the path of one, is returned unchanged.
        """
        from workbench.precision.calibration import Calibration
        from workbench.precision.calibration_cache import TensorRTCache
        from workbench.precision.data import gather
        from workbench.precision.inputs import inputs_of

        if data is None or isinstance(data, Calibration):
            return data
        if isinstance(data, str | Path) and (str(data).endswith(".json") or TensorRTCache.is_one(str(data))):
            return data
        found = next((made for known, made in self._read if known is data), None)
        if found is None:
            place = self.folder / f"batches-{len(self._read)}"
            try:
                inputs = inputs_of(self.exact.graph, self.sizes)
                found = gather(data, inputs, place, limit=self.limit, min_samples=1)
            except CancelledError:
                raise
            except WorkbenchError as error:
                found = error  # an error in the data applies to all variants
            self._read.append((data, found))
        if isinstance(found, WorkbenchError):
            raise found
        return found

    def variant(self, scheme: str | Scheme | Cast) -> Variant:
        """The variant, or the reason why it failed."""
        to = scheme if isinstance(scheme, str) else scheme.to
        empty = Variant(title(scheme), to, scheme, self.exact.name, None)
        try:
            low, warnings = self._made(scheme)
            engine = self._built(low, scheme)
        except CancelledError:
            raise
        except WorkbenchError as error:
            return replace(empty, problem=error)
        made = replace(empty, model=low.name, engine=engine, warnings=warnings)
        if not self.errors or self.data.test is None:
            return made
        try:
            figures, samples = self._error(low, scheme)
        except CancelledError:
            raise
        except WorkbenchError as error:
            return replace(made, error_problem=error)
        return replace(made, error=figures, samples=samples)

    def _made(self, scheme: str | Scheme | Cast) -> tuple[Model, tuple[str, ...]]:
        from workbench.passes.cast import cast
        from workbench.precision.quantize import quantize

        if isinstance(scheme, str):
            return self.exact, ()
        if isinstance(scheme, Cast):
            low = cast(self.exact, scheme.to, self.session.store, on_job=self.on_job, **asdict(scheme.lists))
        else:
            data = self._batches(self.data.calibration) if scheme.calibrated else None
            given: dict[str, Any] = {"data": data, "shapes": self.sizes, "limit": self.limit, "on_job": self.on_job}
            low = quantize(self.exact, self.session.store, scheme, **given)
        low = replace(low, name=f"{self.exact.name}-{_slug(title(scheme))}")
        known = self.session.models.get(low.name)
        if known is None or known.path != low.path:
            self.session.add(low)
        return low, tuple(low.origin.get("warnings", ()))

    def _built(self, low: Model, scheme: str | Scheme | Cast) -> Engine:
        config = self.config.replace(precision=scheme) if isinstance(scheme, str) else self.config
        build = self.session.engines.start(low, config)
        if self.on_job is not None:
            self.on_job(build)
        return build.result()

    def _error(self, low: Model, scheme: str | Scheme | Cast) -> tuple[Mapping[str, float | None], int]:
        from workbench.passes.cast import cast
        from workbench.precision.accuracy import accuracy

        given: dict[str, Any] = {
            "data": self._batches(self.data.test), "labels": self.data.labels, "shapes": self.sizes, "limit": self.limit,
            "keep": self.folder, "on_job": self.on_job,
        }  # fmt: skip
        if scheme == "fp32":
            found = accuracy(self.exact, {}, self.session.store, **given)
            return found.models["fp32"], found.samples
        if isinstance(scheme, str):
            low = cast(self.exact, scheme, self.session.store, on_job=self.on_job)
        found = accuracy(self.exact, {"low": low}, self.session.store, **given)
        return found.models["low"], found.samples


def _slug(text: str) -> str:
    """A title as part of a model's name; if pattern characters are lost, a hash of the title replaces them."""
    plain = text.replace(", ", "-").replace(" ", "-")
    slug = "".join(c if c.isalnum() or c in "._-" else "-" for c in plain)
    return slug if slug == plain else f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:4]}"
