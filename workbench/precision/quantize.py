"""INT8, FP8 and INT4 as Q/DQ pairs in the graph, by calibration; no training.

    from workbench.precision import quantize
    low = quantize(model, store, to="int8", data="calibration.npz")

The FP32 model runs on the calibration data (`workbench.precision.calibration`), the pairs go in where
TensorRT wants them (`workbench.passes.insert_qdq`), and what is not quantized is cast to `rest`. All of it
happens in one worker, and the result is kept: the same request is a look-up.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.core import environments
from workbench.core.errors import CalibrationError, ModelError
from workbench.core.jobs import Job
from workbench.core.store import Store
from workbench.hardware.machine import REWRITERS, made_by
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.model.origin import Origin
from workbench.precision import modelopt
from workbench.precision.calibration import Calibration, collect
from workbench.precision.calibration_cache import TensorRTCache
from workbench.precision.data import MIN_SAMPLES, Batches, gather
from workbench.precision.inputs import inputs_of
from workbench.precision.scheme import Scheme

if TYPE_CHECKING:
    import onnx_ir as ir

    from workbench.core.worker import Reporter
    from workbench.model.shape_profile import Shape

TENSORRT_CACHE = "calibration.cache"
"""Name of a cache in TensorRT's own format, in a worker's folder."""

RANGES = "ranges.json"
"""Name of the ranges of another quantized version of the model, in a worker's folder."""

VERSION = 9
"""Raise it when the same request gives another graph, so that kept models are made anew."""


@dataclass(frozen=True)
class Ranges:
    """The ranges of a quantized model, to quantize its FP32 model again where the calibration is gone.

    Attributes:
        model: Fingerprint of the FP32 model.
        scheme: By which they were chosen.
        ends: The magnitude at which each tensor's range ends, by name.
    """

    model: str
    scheme: Scheme
    ends: Mapping[str, float] = field(repr=False)

    @staticmethod
    def of(low: Model) -> Ranges:
        """Those of a model made by `quantize`.

        Raises:
            CalibrationError: it does not tell them.
        """
        if low.origin.get("kind") != "quantize" or not low.origin.get("ranges"):
            raise CalibrationError(
                f"The calibration of {low.name} is no longer in the store, and {low.name} does not tell its ranges.",
                hint="Quantize its FP32 model again with data: session.precision.quantize(model, data, keep=[...]).",
            )
        return Ranges(low.origin["source"], Scheme(**low.origin["scheme"]), low.origin["ranges"])

    def check(self, model: str, scheme: Scheme) -> None:
        """Refuse another model, and a scheme that would choose other ranges.

        Raises:
            CalibrationError: it is one.
        """
        if self.model != model:
            raise CalibrationError("These ranges are of another model.", hint="Calibrate again: give data.")
        mine, theirs = ((s.ranging, s.percentile if s.ranging == "percentile" else None) for s in (self.scheme, scheme))
        if mine != theirs:
            raise CalibrationError(
                f"The calibration is no longer in the store; only the ranges by {self.scheme.ranging} are known.",
                hint=f"Leave the method as it is, or give data to quantize by {scheme.ranging}.",
            )


def quantize(
    model: Model,
    store: Store,
    scheme: Scheme | None = None,
    *,
    data: Any = None,
    shapes: Mapping[str, Shape] | None = None,
    limit: int | None = None,
    min_samples: int = MIN_SAMPLES,
    on_job: Callable[[Job], Any] | None = None,
    **options: Any,
) -> Model:
    """`model` quantized, made in a worker and kept; its `origin` says what was done and what was not.

    Args:
        model: In FP32.
        store: Where it is kept.
        scheme: What to do; its fields may be given by name instead.
        data: Calibration data (see `workbench.precision.data.batches`), or a `Calibration`, or
            the path of one that was saved as ``.json``, or the `Ranges` of another version. INT4 needs none.
        shapes: Sizes of dynamic inputs, for data that have none of their own.
        limit: At most this many batches.
        min_samples: Fewer calibration samples are refused.
        on_job: Called with the job, to show progress or cancel.
        options: Fields of `Scheme`.

    Raises:
        ModelError: it is quantized already, its opset can't be raised to what the scheme needs, or no node is what
            `keep` or `only` names.
        CalibrationError: the data do not fit.
        ConfigError: an option is wrong.
        CompilerUnavailableError: with library="modelopt", ModelOpt's environment is missing or broken.
    """
    scheme = (scheme or Scheme()).but(**options)
    refuse_quantized(model)
    source = model.sha256(store)
    foreign = scheme.placement == "modelopt"
    with store.scratch("quantize") as folder:
        work = folder / "model"
        work.mkdir()
        cache, batches = _calibration(model, scheme, data, source, shapes, limit, min_samples, folder)
        digest = "" if not scheme.calibrated else batches.digest if batches else _digest(cache)
        if foreign:
            maker = modelopt.maker(store)
        else:  # ONNX Runtime runs the model on the batches, and may place the pairs
            maker = made_by(*REWRITERS, *(("onnxruntime",) if batches is not None else ()))
            if scheme.calibrator and batches is not None:
                maker += " ".join(("", *_calibrating()))
        identity = [VERSION, source, scheme.to_dict(), digest, maker]
        key = "quantize-" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        if (found := model.derived(store, key)) is not None:
            return found
        with store.lock(hashlib.sha256(key.encode()).hexdigest()):
            if (found := model.derived(store, key)) is not None:
                return found
            if scheme.calibrator and batches is not None:
                cache = _by_tensorrt(model, scheme, store, batches, source, folder, on_job)
            job = Job(
                f"workbench.precision.{'modelopt' if foreign else 'quantize'}:quantize_task",
                {
                    "path": str(model.path.resolve()), "scheme": scheme.to_dict(), "folder": str(work),
                    "batches": str(batches.folder) if batches else None, "cache": str(cache) if cache else None,
                    "kept": str(store.path / "calibrations"),
                    "about": {"model": source, "digest": digest, "source": batches.source if batches else "",
                              "batches": batches.count if batches else 0, "samples": batches.samples if batches else 0},
                },
                title=f"quantization of {model.name} to {scheme.to}",
                python=environments.python_of("modelopt", store) if foreign else sys.executable,
            )  # fmt: skip
            if on_job is not None:
                on_job(job)
            report = cast("Origin", environments.result(job, "modelopt") if foreign else job.result())
            draft = Model(model.name, work / "model.onnx")
            sha256 = fingerprint(draft.path, set(draft.companions))
            warnings = [*(batches.warnings if batches else ()), *report.pop("warnings", [])]
            info: Origin = {
                "kind": "quantize", "scheme": scheme.to_dict(), "warnings": warnings, "source": source, **report,
            }  # fmt: skip
            return Model(model.name, store.add_model(work, sha256, key, {**info}), info, original=model)


def refuse_quantized(model: Model) -> None:
    """Raise `ModelError` where the model holds quantized operations already."""
    from workbench.passes.qdq_values import QUANTIZED

    found = {op: n for op, n in model.operators().items() if op in QUANTIZED}
    if found:
        listed = ", ".join(f"{n} {op}" for op, n in found.items())
        raise ModelError(
            f"{model.name} is quantized already: it holds {listed}.",
            hint="Start from the FP32 model; build this one as it is, or look at it with `workbench audit` and "
            "`workbench placement`.",
        )


def calibration(model: Model, store: Store) -> Calibration:
    """The calibration that a quantized model was made with.

    Raises:
        CalibrationError: it was made without one, or the cache is gone.
    """
    name = model.origin.get("calibration")
    if not name:
        raise CalibrationError(f"{model.name} was not made with a calibration.")
    return Calibration.load(_kept(store, name))


def ranges_of(model: Model, store: Store) -> Calibration | Ranges:
    """What a quantized model's ranges come from, for `quantize`: its calibration, or without it the ranges themselves.

    Raises:
        CalibrationError: neither is known.
    """
    name = model.origin.get("calibration")
    return calibration(model, store) if name and _kept(store, name).is_file() else Ranges.of(model)


def _kept(store: Store, name: str) -> Path:
    return store.path / "calibrations" / f"{name}.json"


def _calibration(
    model: Model, scheme: Scheme, data: Any, source: str, shapes: Mapping[str, Shape] | None,
    limit: int | None, min_samples: int, folder: Path,
) -> tuple[Path | None, Batches | None]:  # fmt: skip
    """A calibration cache, or batches to make one from."""
    if not scheme.calibrated:
        return None, None
    if data is None:
        raise CalibrationError(
            f"{scheme.to} needs calibration data.",
            hint="Give a folder, an .npz or .npy file, module:factory, or random:32 to look at fusions only.",
        )
    text = str(data)
    if isinstance(data, str | Path) and TensorRTCache.is_one(text):
        if scheme.placement != "tensorrt":
            raise CalibrationError("A calibration cache of TensorRT fits the workbench's own placement only.")
        return TensorRTCache.load(text).save(folder / TENSORRT_CACHE), None
    if isinstance(data, str | Path) and text.endswith(".json"):
        data = Calibration.load(text)
    if isinstance(data, Calibration | Ranges):
        if scheme.placement != "tensorrt":
            name = {"onnxruntime": "ONNX Runtime", "modelopt": "ModelOpt"}[scheme.placement]
            raise CalibrationError(f"{name}'s own placement calibrates itself: give data, not a cache.")
        if isinstance(data, Ranges):
            data.check(source, scheme)
            (folder / RANGES).write_text(json.dumps(dict(data.ends)))
            return folder / RANGES, None
        if scheme.calibrator:
            raise CalibrationError(
                f"{scheme.ranging.upper()} calibrates itself: give data, or a cache that TensorRT wrote.",
            )
        data.check(source, model.name)
        return data.save(folder / "calibration.json"), None
    inputs = inputs_of(model.graph, shapes)
    return None, gather(data, inputs, folder / "batches", limit=limit, min_samples=min_samples)


def _calibrating() -> tuple[str, str]:
    """Name and version of the compiler whose calibrators run.

    Raises:
        CompilerUnavailableError: none is installed.
    """
    from workbench import compilers

    compiler = compilers.get("tensorrt")
    return compiler.name, compiler.version()


def _by_tensorrt(
    model: Model, scheme: Scheme, store: Store, batches: Batches, source: str, folder: Path,
    on_job: Callable[[Job], Any] | None,
) -> Path:  # fmt: skip
    """The cache of TensorRT 10's own calibrator on the batches; kept, so that it runs once."""
    from workbench import compilers
    from workbench.compilers.base import Calibrates

    compiler = compilers.get("tensorrt", Calibrates)
    identity = [source, batches.digest, scheme.ranging, scheme.percentile, *_calibrating()]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    place = folder / TENSORRT_CACHE
    kept = store.path / "calibrations" / f"{name}.cache"
    if kept.is_file():
        shutil.copyfile(kept, place)
        return place
    job = Job(
        compiler.calibrate_task,
        {
            **compiler.arguments(), "model": str(model.path.resolve()), "method": scheme.ranging,
            "batches": str(batches.folder), "cache": str(place), "folder": str(folder), "percentile": scheme.percentile,
        },
        title=f"{scheme.ranging.upper()} of {model.name}",
    )  # fmt: skip
    if on_job is not None:
        on_job(job)
    job.result()
    TensorRTCache.load(place).save(kept)
    return place


def _digest(cache: Path | None) -> str:
    return "" if cache is None else hashlib.sha256(cache.read_bytes()).hexdigest()


def quantize_task(
    reporter: Reporter, *, path: str, scheme: Mapping[str, Any], folder: str, batches: str | None, cache: str | None,
    kept: str, about: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The work itself, in a worker; writes ``model.onnx`` into `folder`.

    Returns:
        ``quantized`` (names of nodes), ``left`` (reasons by name, for bodies too), ``folded`` (nodes whose weight is
        computed from constants, see `Insertion.again`), ``pairs`` (Q/DQ pairs on activations), ``casts``, ``kept``,
        ``clipped`` and the like (see `cast_task`), ``calibration`` (key of the cache).
    """
    from workbench.passes.casting import Casting
    from workbench.passes.insert_qdq import Insertion, needed_opset
    from workbench.passes.ir import load_ir, save_ir
    from workbench.passes.qdq_choice import choose
    from workbench.passes.result import check_written

    how = Scheme(**scheme)
    if how.placement == "onnxruntime":
        assert batches is not None
        return _by_onnxruntime(reporter, Path(path), how, Path(folder), Path(batches))
    opset = needed_opset(how.to, how.rest)
    model = load_ir(Path(path), reporter, opset=opset)
    choices = choose(model, how.to, keep=how.keep, only=how.only)
    missing = [name for name in how.only or () if name not in {c.node for c in choices.taken}]
    if missing:
        raise ModelError(
            f"{missing[0]} can't be quantized: {choices.left.get(missing[0], 'the model has no such node')}.",
            hint="Only Conv, ConvTranspose, Gemm and MatMul are quantized.",
        )
    if not choices.taken:
        reasons = ", ".join(f"{name}: {why}" for name, why in list(choices.left.items())[:4])
        raise ModelError(
            f"Nothing in this model can be quantized to {how.to}" + (f" ({reasons})." if reasons else "."),
            hint="Convolutions, Gemm and MatMul with FP32 data and stored weights are quantized.",
        )
    ranges: dict[str, float] = {}
    name = None
    warnings = []
    if choices.tensors and cache is not None and Path(cache).name == TENSORRT_CACHE:
        ranges = TensorRTCache.load(cache).ranges(choices.tensors)
    elif choices.tensors and cache is not None and Path(cache).name == RANGES:
        known = json.loads(Path(cache).read_text())
        _check_all(choices.tensors, known)
        ranges = {tensor: known[tensor] for tensor in choices.tensors}
    elif choices.tensors:
        name = Calibration.key(about["model"], about["digest"], choices.tensors)
        file = Path(kept) / f"{name}.json"
        if cache is not None:
            found = Calibration.load(cache)
        elif file.is_file():
            found = Calibration.load(file)
        else:
            assert batches is not None
            again = load_ir(Path(path), reporter, opset=opset)
            histograms = collect(again, choices.tensors, Path(batches), reporter, Path(folder).parent)
            data = {key: about[key] for key in ("digest", "source", "batches", "samples")}
            found = Calibration(about["model"], data, histograms)
        if not file.is_file():
            found.save(file)
        _check_all(choices.tensors, found.tensors)
        for i, tensor in enumerate(choices.tensors):
            ranges[tensor] = found.tensors[tensor].range(how.ranging, how.percentile)
            reporter.progress("Choosing ranges", i + 1, len(choices.tensors))
        dead = [t for t in choices.tensors if found.tensors[t].amax == 0.0]
        if dead:
            warnings.append(f"Always zero on the calibration data: {', '.join(dead[:5])}. Their range is a guess.")
            ranges.update(dict.fromkeys(dead, 1.0))
    warnings += _too_small(ranges, how)
    reporter.progress("Inserting Q/DQ", 0, 1)
    work = Insertion(
        model,
        choices,
        ranges,
        to=how.to,
        rest=how.rest,
        weights=how.weights,
        residual=how.shares_residuals,
        block=how.block,
    )
    work.run()
    reporter.progress("Inserting Q/DQ", 1, 1)
    report: dict[str, Any] = {"casts": 0, "kept": {}, "clipped": []}
    if how.rest != "fp32":
        import onnx_ir as ir

        casting = Casting(model, ir.DataType.FLOAT16 if how.rest == "fp16" else ir.DataType.BFLOAT16, reporter)
        casting.run()
        report = casting.report
        warnings += report["warnings"]
    reporter.progress("Writing", 0, 1)
    _add_metadata(model, how, about)
    save_ir(model, Path(folder) / "model.onnx")
    reporter.progress("Writing", 1, 1)
    check_written(Path(folder) / "model.onnx", Path(path), reporter)
    return {
        **report, "quantized": [c.node for c in choices.taken], "left": choices.left, "folded": work.again,
        "pairs": len(choices.tensors), "calibration": name, "ranges": ranges, "warnings": warnings,
    }  # fmt: skip


def _too_small(ranges: Mapping[str, float], how: Scheme) -> list[str]:
    """A warning that names the tensors whose range is below what a scale of the rest's type can say."""
    from workbench.passes.ir import some
    from workbench.passes.qdq_values import LIMIT, scale_of

    small = [t for t, end in ranges.items() if float(scale_of(end, how.to, how.rest)) * LIMIT[how.to] > 2 * end]
    if not small:
        return []
    return [
        f"The values of {some(small)} are so small that {how.rest.upper()} has no scale for them: they are rounded to "
        "zero, or nearly. Use rest='bf16' or rest='fp32', or keep the nodes that read them."
    ]


def _check_all(wanted: Sequence[str], known: Collection[str]) -> None:
    if absent := [tensor for tensor in wanted if tensor not in known]:
        raise CalibrationError(
            f"The calibration cache has no range for {len(absent)} tensors, the first is {absent[0]}.",
            hint="It was made for fewer nodes: calibrate again with data.",
        )


def _add_metadata(model: ir.Model, scheme: Scheme, about: Mapping[str, Any]) -> None:
    """Leave in the file itself how it was made."""
    model.metadata_props["workbench.quantize"] = json.dumps(
        {"scheme": scheme.to_dict(), "source": about["model"], "data": about["source"], "digest": about["digest"]}
    )


def _by_onnxruntime(reporter: Reporter, path: Path, how: Scheme, folder: Path, batches: Path) -> dict[str, Any]:
    """`quantize_static` with its own placement; for comparison.

    Two of its defaults are changed, since TensorRT refuses the graph otherwise: zero points are 0, and biases
    are not quantized (its parser takes no INT32 in DequantizeLinear).
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    from workbench.passes.ir import load_ir, save_ir
    from workbench.passes.qdq_choice import HEAVY, kept
    from workbench.precision.data import read_batches

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = read_batches(batches)
            self._total, self._done = len(list(batches.glob("*.npz"))), 0

        def get_next(self) -> dict[str, Any] | None:
            reporter.progress("Calibrating", self._done, self._total)
            self._done += 1
            return next(self._batches, None)

    source = folder.parent / "named.onnx"
    model = load_ir(path, reporter)
    names = kept(model, how.keep)
    left = {n.name: "kept on request" for n in model.graph if n.name in names and n.op_type in HEAVY}
    save_ir(model, source)
    methods = {
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
        "minmax": CalibrationMethod.MinMax,
    }
    extra = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    if how.ranging == "percentile":
        extra["CalibPercentile"] = how.percentile  # type: ignore[assignment]
    try:
        quantize_static(
            str(source), str(folder / "model.onnx"), Reader(), quant_format=QuantFormat.QDQ, per_channel=how.weights != "tensor",
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, calibrate_method=methods[how.ranging],
            nodes_to_exclude=names, extra_options=extra,
        )  # fmt: skip
    except Exception as error:  # of whatever kind: it is about this model or these data
        raise CalibrationError(
            f"ONNX Runtime's quantize_static can't quantize this model by {how.ranging}: {error}",
            hint="method='minmax' needs no histogram of values; placement='tensorrt' (the default) calibrates by itself.",
        ) from error
    made = Model("", folder / "model.onnx").graph
    pairs = [n.id for n in made.nodes if n.op == "QuantizeLinear"]
    return {"casts": 0, "kept": {}, "clipped": [], "quantized": pairs, "left": left, "pairs": len(pairs),
            "calibration": None, "ranges": {}, "warnings": []}  # fmt: skip


def summary(model: Model) -> Sequence[tuple[str, str]]:
    """What a quantized model's `origin` says, as label and value, for people."""
    from workbench.core.units import bytes_text

    info = model.origin
    if info.get("kind") != "quantize":
        return ()
    left: dict[str, int] = {}
    for reason in info.get("left", {}).values():
        left[reason] = left.get(reason, 0) + 1
    out = [
        ("scheme", Scheme(**info["scheme"]).title),
        ("quantized", f"{len(info['quantized'])} nodes, {info['pairs']} Q/DQ pairs on activations"),
        *(("left", f"{n} nodes: {reason}") for reason, n in left.items()),
    ]
    for node, entry in info.get("folded", {}).items():
        cost = f"{bytes_text(entry['bytes'])} quantized"
        if entry["shared"]:
            cost += f", beside {', '.join(entry['shared'])}, which other nodes still read"
        out.append(("weight computed", f"{node}: {entry['weight']}, {cost}"))
    if info.get("kept"):
        out.append(("in FP32", ", ".join(f"{n} {op}" for op, n in info["kept"].items())))
    if info.get("clipped"):
        out.append(("clipped", ", ".join(info["clipped"][:5])))
    return out
