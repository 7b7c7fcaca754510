"""Post-training quantization to INT8, FP8 and INT4 with Q/DQ pairs.

    from workbench.precision import quantize
    low = quantize(model, store, to="int8", data="calibration.npz")

The FP32 model runs on the calibration data (`workbench.precision.calibration`), Q/DQ pairs are inserted where
TensorRT expects them (`workbench.passes.insert_qdq`), and the rest of the model is cast to `rest`. All of this
happens in one worker (`workbench.precision.quantize_worker`), and the result is cached.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
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
from workbench.precision.calibration import Calibration
from workbench.precision.calibration_cache import TensorRTCache
from workbench.precision.data import MIN_SAMPLES, Batches, gather
from workbench.precision.inputs import inputs_of
from workbench.precision.scheme import Scheme

if TYPE_CHECKING:
    from workbench.model.shape_profile import Shape

TENSORRT_CACHE = "calibration.cache"
"""Name of a cache in TensorRT's format, in a worker's folder."""

RANGES = "ranges.json"
"""Name of the ranges of another quantized version of the model, in a worker's folder."""

VERSION = 9
"""Increase this number when the same request gives another graph; cached models are then rebuilt."""


@dataclass(frozen=True)
class Ranges:
    """The ranges of a quantized model, to quantize its FP32 model again if the calibration is gone.

    Attributes:
        model: Fingerprint of the FP32 model.
        scheme: The scheme that determined them.
        ends: The upper end of each tensor's range as a magnitude, by name.
    """

    model: str
    scheme: Scheme
    ends: Mapping[str, float] = field(repr=False)

    @staticmethod
    def of(low: Model) -> Ranges:
        """The ranges recorded in a model from `quantize`.

        Raises:
            CalibrationError: it does not record them.
        """
        if low.origin.get("kind") != "quantize" or not low.origin.get("ranges"):
            raise CalibrationError(
                f"The calibration of {low.name} is no longer in the store, and {low.name} does not record its ranges.",
                hint="Quantize its FP32 model again with data: session.precision.quantize(model, data, keep=[...]).",
            )
        return Ranges(low.origin["source"], Scheme(**low.origin["scheme"]), low.origin["ranges"])

    def check(self, model: str, scheme: Scheme) -> None:
        """Refuse another model, or a scheme with other ranges.

        Raises:
            CalibrationError: the model or the scheme does not match.
        """
        if self.model != model:
            raise CalibrationError("These ranges belong to another model.", hint="Calibrate again: give data.")
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
    """Quantize `model` in a worker and cache the result; its `origin` records which nodes were quantized.

    Args:
        model: An FP32 model.
        store: Where the result is cached.
        scheme: How to quantize; you can pass its fields by name instead.
        data: Calibration data (see `workbench.precision.data.batches`), or a `Calibration`, or
            the path of one that was saved as ``.json``, or the `Ranges` of another version. INT4 needs none.
        shapes: Sizes of dynamic inputs, for data without sizes.
        limit: At most this many batches.
        min_samples: Smallest number of calibration samples accepted.
        on_job: Called with the job, to show progress or cancel.
        options: Fields of `Scheme`.

    Raises:
        ModelError: it is already quantized, its opset can't be raised to what the scheme needs, or `keep` or `only`
            matches no node.
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
                f"workbench.precision.{'modelopt' if foreign else 'quantize_worker'}:quantize_task",
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
    """Raise `ModelError` if the model already contains quantized operations."""
    from workbench.passes.qdq_values import QUANTIZED

    found = {op: n for op, n in model.operators().items() if op in QUANTIZED}
    if found:
        listed = ", ".join(f"{n} {op}" for op, n in found.items())
        raise ModelError(
            f"{model.name} is quantized already: it contains {listed}.",
            hint="Start from the FP32 model. Or build this one unchanged, or inspect it with `workbench audit` and "
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
    """The source of a quantized model's ranges, for `quantize`: its calibration, or else the recorded ranges.

    Raises:
        CalibrationError: neither exists.
    """
    name = model.origin.get("calibration")
    return calibration(model, store) if name and _kept(store, name).is_file() else Ranges.of(model)


def _kept(store: Store, name: str) -> Path:
    return store.path / "calibrations" / f"{name}.json"


def _calibration(
    model: Model, scheme: Scheme, data: Any, source: str, shapes: Mapping[str, Shape] | None,
    limit: int | None, min_samples: int, folder: Path,
) -> tuple[Path | None, Batches | None]:  # fmt: skip
    """A calibration cache, or batches to compute one from."""
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
    """Name and version of the compiler whose calibrators are used.

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
    """TensorRT 10's calibration cache for the batches; it is cached, so the calibrator runs once."""
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


def summary(model: Model) -> Sequence[tuple[str, str]]:
    """How a quantized model was made, as labels and values to display."""
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
            cost += f", in addition to {', '.join(entry['shared'])}, which other nodes still read"
        out.append(("weight computed", f"{node}: {entry['weight']}, {cost}"))
    if info.get("kept"):
        out.append(("in FP32", ", ".join(f"{n} {op}" for op, n in info["kept"].items())))
    if info.get("clipped"):
        out.append(("clipped", ", ".join(info["clipped"][:5])))
    return out
