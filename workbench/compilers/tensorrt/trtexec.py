"""trtexec's files in and out, and the trtexec command that equals a BuildConfig.

``--exportProfile`` writes the count of iterations and then a record per layer; ``--exportTimes`` a record per
iteration. `workbench.plan.join` joins a profile to layers.
"""

from __future__ import annotations

import json
import re
import shlex
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.compilers.tensorrt.dtypes import INSPECTOR
from workbench.compilers.tensorrt.inspector import expect, kind_of_file, read_json, read_layers
from workbench.compilers.tensorrt.options import options_of_tensorrt
from workbench.compilers.tensorrt.vocabulary import TensorRTVocabulary
from workbench.core.errors import ConfigError, ProfileError, StoreError
from workbench.core.store import output
from workbench.hardware.target import CURRENT
from workbench.measure.latency import percentiles
from workbench.plan.join import ProfiledLayer, ProfiledLayers, join

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig
    from workbench.model.model import Model
    from workbench.model.shape_profile import ShapeProfile
    from workbench.plan.document import FactsDocument
    from workbench.plan.measured import EndToEndDocument, MeasuredDocument
    from workbench.plan.plan import Plan, PlanTensor
    from workbench.plan.record import Record

WARM_UP_MS = 200.0
"""trtexec's default of ``--warmUp``. The file holds the iterations of the warm-up too, its summary does not."""

LONGEST_MS = 1e12
"""The longest time that a file may hold, 30 years: sums of such times stay numbers."""

TIME_FIELDS = ("h2dMs", "computeMs", "d2hMs", "latencyMs")


# --- profiles and times ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """A file of ``--exportTimes``: milliseconds per iteration, as trtexec took them with CUDA events.

    Attributes:
        latency: Copies to the GPU, computation and copies back.
        compute: Computation alone.
        h2d: Copies to the GPU; 0 where they are not in the measurement.
        d2h: Copies back.
        wall_ms: From the first copy or kernel to the end of the last.
        warm_up: How many iterations at the beginning were left out.
    """

    latency: tuple[float, ...]
    compute: tuple[float, ...]
    h2d: tuple[float, ...]
    d2h: tuple[float, ...]
    wall_ms: float | None
    warm_up: int = 0
    path: str = ""

    def __len__(self) -> int:
        return len(self.latency)

    @property
    def mean_ms(self) -> float:
        """Mean latency."""
        return statistics.fmean(self.latency)

    @property
    def median_ms(self) -> float:
        """Median latency."""
        return statistics.median(self.latency)

    def percentile(self, percent: float) -> float:
        """The latency that `percent` of the iterations stay within (nearest rank)."""
        return percentiles(self.latency, [percent])[0]

    @property
    def transfers_ms(self) -> float:
        """Mean time of copies in both directions."""
        return statistics.fmean(self.h2d) + statistics.fmean(self.d2h)

    def to_dict(self) -> EndToEndDocument:
        """The figures that belong beside a plan."""
        return {
            "iterations": len(self), "warm_up_iterations": self.warm_up, "mean_ms": self.mean_ms, "median_ms": self.median_ms, "min_ms": min(self.latency),
            "max_ms": max(self.latency), "p90_ms": self.percentile(90), "p99_ms": self.percentile(99),
            "compute_mean_ms": statistics.fmean(self.compute), "transfers_mean_ms": self.transfers_ms,
            "percentiles_ms": percentiles(self.latency),
        }  # fmt: skip


def read_profile(path: str | Path) -> ProfiledLayers:
    """Read a file of ``--exportProfile``.

    Raises:
        ProfileError: it can't be read, is another kind of file, or a record lacks its name or time.
    """
    data = read_json(path)
    expect(data, "profile", path)
    head = set(data[0]) == {"count"}
    count = _number(data[0]["count"], path, "the count") if head else 1
    if head and (count < 1 or count != int(count)):
        raise ProfileError(f"{path} counts {count:g} profiled iterations.", hint="Let trtexec write it again.")
    rows = []
    for i, row in enumerate(data[1:] if head else data):
        name = row.get("name")
        if not isinstance(name, str) or all(row.get(key) is None for key in ("timeMs", "averageMs")):
            raise ProfileError(
                f"{path}: record {i} has no {'name' if not isinstance(name, str) else 'time'}; "
                f"it has {', '.join(row) or 'nothing'}.",
                hint="A record of --exportProfile has name, timeMs, averageMs, medianMs and percentage.",
            )
        where = f"record {i} ({name[:60]})"
        values = {
            key: _number(row[key], path, where)
            for key in ("timeMs", "averageMs", "medianMs", "percentage")
            if row.get(key) is not None
        }
        total = values.get("timeMs", values.get("averageMs", 0.0) * count)
        mean = values.get("averageMs", total / count)
        rows.append(ProfiledLayer(name, total, mean, values.get("medianMs"), values.get("percentage")))
    if not rows:
        raise ProfileError(f"{path} holds no layer.", hint="The profiling run of trtexec may have failed.")
    return ProfiledLayers(int(count), tuple(rows), str(path))


def read_times(path: str | Path, warm_up_ms: float = WARM_UP_MS) -> Times:
    """Read a file of ``--exportTimes``.

    Args:
        path: The file.
        warm_up_ms: Iterations that begin earlier than this are left out, as trtexec's own summary does; none
            are where all begin earlier.

    Raises:
        ProfileError: it can't be read, is another kind of file, or an iteration lacks its latency.
    """
    data = read_json(path)
    expect(data, "times", path)
    columns: dict[str, list[float]] = {key: [] for key in TIME_FIELDS}
    begins = [row.get("startComputeMs") for row in data]
    cold = next((i for i, t in enumerate(begins) if not isinstance(t, int | float) or t >= warm_up_ms), 0)
    data = data[cold:]
    for i, row in enumerate(data, cold):
        where = f"iteration {i}"
        compute = _number(row["computeMs"], path, where) if "computeMs" in row else None
        latency = _number(row["latencyMs"], path, where) if "latencyMs" in row else compute
        if latency is None:
            raise ProfileError(f"{path}: {where} has no latencyMs; it has {', '.join(row) or 'nothing'}.")
        for key, fallback in (("h2dMs", 0.0), ("d2hMs", 0.0), ("computeMs", latency)):
            columns[key].append(_number(row[key], path, where) if key in row else fallback)
        columns["latencyMs"].append(latency)
    starts = [r.get("startH2dMs", r.get("startInMs")) for r in data]
    ends = [r.get("endD2hMs", r.get("endOutMs")) for r in data]
    timed = all(value is not None for value in (*starts, *ends))
    if timed:
        starts, ends = ([_number(value, path, "a start or end") for value in values] for values in (starts, ends))
    return Times(
        latency=tuple(columns["latencyMs"]), compute=tuple(columns["computeMs"]), h2d=tuple(columns["h2dMs"]),
        d2h=tuple(columns["d2hMs"]), wall_ms=max(ends) - min(starts) if timed else None, warm_up=cold,
        path=str(path),
    )  # fmt: skip


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read what was kept of a build, a profiling run or a GPU: ``kind`` and the document's own parts.

    Raises:
        ProfileError: it can't be read or is another kind of file.
    """
    data = read_json(path)
    kind = kind_of_file(data)
    if kind not in {"profile-metadata", "build-metadata", "device-metadata"}:
        expect(data, "profile-metadata", path)
    if kind == "device-metadata":
        first = dict(data[0])
        pair = first.get("ComputeCapability")
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            pair = [first.get(f"COMPUTE_CAPABILITY_{part}", "") for part in ("MAJOR", "MINOR")]
        return {
            "kind": kind,
            "device": {**first, "name": _name(first.get("Name")), "sm": _sm(".".join(map(str, pair)))},
        }
    found = {**{key: value for key, value in data.items() if key != "device"}, "kind": kind}
    device = data.get("device_information")
    if isinstance(device, Mapping):
        found["device"] = {
            "name": _name(device.get("Selected Device")), "sm": _sm(str(device.get("Compute Capability"))),
        }  # fmt: skip
    return found


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _sm(capability: str) -> str | None:
    """``sm80`` for 8.0; None where it is not told."""
    return "sm" + capability.replace(".", "") if re.fullmatch(r"[0-9]{1,2}\.[0-9]", capability) else None


def _number(value: Any, path: str | Path, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_MS:
        raise ProfileError(f"{path}: {where} holds {value!r:.60} in place of a time or count.", code="profile-number")
    return float(value)


_ONE_RUN = "Let one run of trtexec write both: --exportLayerInfo=LAYERS.json --exportProfile=PROFILE.json."


# --- a plan of files -------------------------------------------------------------------------------------


def inspect(
    layers: str | Path,
    *,
    profile: str | Path | None = None,
    times: str | Path | None = None,
    metadata: Sequence[str | Path] = (),
    model: Model | None = None,
    sha256: str | None = None,
    name: str | None = None,
) -> Plan:
    """The Plan of an engine that was built elsewhere, from the files that trtexec wrote of it.

    Args:
        layers: File of ``--exportLayerInfo``, or a plan that the workbench wrote.
        profile: File of ``--exportProfile``: sets `Layer.time_ms`, the mean per iteration.
        times: File of ``--exportTimes``: end-to-end latency, in ``facts["measured"]["latency"]``.
        metadata: Files that say which GPU it was and how it was built.
        model: The ONNX model that the engine was built from; without it costs and reasons stay unknown.
        sha256: The model's fingerprint.
        name: What to call it.

    Raises:
        ProfileError: a file can't be read, is of another kind, or belongs to another engine or model.
        ListingError: the layers do not follow a known schema.
    """
    from workbench.plan.from_layers import with_times

    plan = _plan(layers, metadata, model, sha256, name)
    measured: MeasuredDocument = {}
    rows: tuple[ProfiledLayer | None, ...] = ()
    if profile is not None:
        read = read_profile(profile)
        joined = join(read, plan.layers, layers_file=str(layers), hint=_ONE_RUN)
        rows = joined.rows
        measured |= {
            "method": "trtexec --exportProfile: CUDA events around each layer, mean per iteration",
            "iterations": read.count, "joined": joined.how, "sum_ms": read.sum_ms, "error": None,
        }  # fmt: skip
    if times is not None:
        measured["latency"] = read_times(times).to_dict()
    if not measured:
        return plan
    milliseconds = [row.mean_ms if row else None for row in rows] or [layer.time_ms for layer in plan.layers]
    return with_times(plan, milliseconds, measured)


def _plan(
    layers: str | Path, metadata: Sequence[str | Path], model: Model | None, sha256: str | None, name: str | None
) -> Plan:
    from workbench.plan.from_layers import from_layers
    from workbench.plan.plan import Plan

    data = read_json(layers)
    if kind_of_file(data) == "plan":
        if metadata or model:
            raise ConfigError(
                f"{layers} is a plan that the workbench wrote: its nodes and its compiler are known.",
                hint="Leave out the model and the metadata, or give trtexec's own layer information.",
            )
        try:
            return Plan.from_dict(data)
        except StoreError as error:
            raise ProfileError(f"{layers}: {error.message}", hint="Export it again.", code=error.code) from None
    found = read_layers(layers, model.graph.by_id if model else ())
    known = {part["kind"]: part for part in map(read_metadata, metadata)}
    device = next((part["device"] for part in known.values() if part.get("device")), None)
    facts: dict[str, Any] = {
        "source": "engine inspector", "file": str(layers), "schema": f"TensorRT {found.generation}",
        "detailed": found.detailed,
    }  # fmt: skip
    if device:
        facts["device"] = {key: device[key] for key in ("name", "sm")}
    for kind, part in known.items():
        facts[kind.replace("-", "_")] = {k: v for k, v in part.items() if k not in {"kind", "device"}}
    warnings = []
    if not found.detailed:
        warnings.append(
            "only the layers' names are known: build with --profilingVerbosity=detailed to see types, tensors and bytes"
        )
    record: Record = {
        "compiler": {"name": "tensorrt", "version": "", "target": (device["sm"] or "") if device else ""},
        "seconds": {}, "layers": found.layers, "io": found.io, "facts": cast("FactsDocument", facts), "warnings": warnings,
    }  # fmt: skip
    return from_layers(
        record, name=name or (model.name if model else Path(layers).name.partition(".")[0]), evidence=found.evidence,
        model=model, sha256=sha256, vocabulary=TensorRTVocabulary(),
    )  # fmt: skip


# --- files out -------------------------------------------------------------------------------------------


def layers_document(plan: Plan) -> dict[str, Any]:
    """The plan as ``--exportLayerInfo`` of TensorRT 11 writes it; `inspect` reads it back."""
    return {
        "Layers": [
            {
                "Name": layer.name, "LayerType": layer.type,
                "Inputs": [_tensor(t) for t in layer.inputs], "Constants": [_tensor(t) for t in layer.constants],
                "Outputs": [_tensor(t) for t in layer.outputs], "TacticName": layer.tactic, "StreamId": layer.stream,
                **({} if layer.event is None else {"EventId": layer.event}),
                # Metadata is the compiler's own word: nodes that are known in another way are not passed off as that.
                "Metadata": "\x1e".join(f"[ONNX Layer: {n}]" for n in layer.nodes if layer.evidence == "reported" and n not in layer.inferred),
            }
            for layer in plan.layers
        ],
        "I/O Tensors": [
            {
                "Name": io["name"], "IOMode": io["mode"].capitalize(), "DataType": INSPECTOR.get(io["dtype"], io["dtype"]),
                "Dimensions": list(io["shape"]), "Location": (io.get("location") or "device").capitalize(),
                "IsShapeInferenceIO": False,
                "ProfileInfo": [
                    {"MinShape": p["min"], "OptShape": p["opt"], "MaxShape": p["max"], "Format": io.get("format", "")}
                    for p in io["profiles"]
                ] or [{"Format": io.get("format", "")}],
            }
            for io in plan.io
        ],
    }  # fmt: skip


def profile_document(plan: Plan) -> list[dict[str, Any]]:
    """The plan's times as ``--exportProfile`` writes them.

    Raises:
        ProfileError: no layer has a time.
    """
    timed = [(layer.name, layer.time_ms) for layer in plan.layers if layer.time_ms is not None]
    if not timed:
        raise ProfileError("The plan has no measured times.", hint="Profile the engine on a GPU first.")
    count = int((plan.facts.get("measured") or {}).get("iterations") or 1)
    total = sum(t for _, t in timed)
    return [
        {"count": count},
        *(
            {"name": name, "timeMs": t * count, "averageMs": t, "medianMs": t,
             "percentage": 100 * t / total if total else 0.0}
            for name, t in timed
        ),
    ]  # fmt: skip


def write_layers(plan: Plan, path: str | Path) -> Path:
    """Write `layers_document` to `path`."""
    return _write(layers_document(plan), path)


def write_profile(plan: Plan, path: str | Path) -> Path:
    """Write `profile_document` to `path`."""
    return _write(profile_document(plan), path)


def _write(document: Any, path: str | Path) -> Path:
    with output(path, parents=True) as draft:
        draft.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return Path(path)


def _tensor(tensor: PlanTensor) -> dict[str, Any]:
    out: dict[str, Any] = {"Name": tensor.name, "Dimensions": [-1] if tensor.shape is None else list(tensor.shape)}
    if tensor.strides is not None:
        out["Strides"] = list(tensor.strides)
    return {**out, "Datatype": INSPECTOR.get(tensor.dtype, tensor.dtype), "Format": tensor.format}


# --- the command -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A trtexec call. `notes` say in words what it does not, or does otherwise than the workbench."""

    arguments: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return shlex.join(self.arguments)


_OLD_RUN = ("--useCudaGraph", "--useSpinWait", "--noDataTransfers", "--separateProfileRun")
_HARDWARE = {"ampere_plus": "ampere+", "same_compute_capability": "sameComputeCapability", "none": "none"}
_TILING = {"none": 0, "fast": 1, "moderate": 2, "full": 3}
_FLAGS = {"DIRECT_IO": "--directIO", "GPU_FALLBACK": "--allowGPUFallback",
          "EXCLUDE_LEAN_RUNTIME": "--excludeLeanRuntime", "DISTRIBUTIVE_INDEPENDENCE": "--distributiveIndependence",
          "DISABLE_COMPILATION_CACHE": "--noCompilationCache",
          "ERROR_ON_TIMING_CACHE_MISS": "--errorOnTimingCacheMiss"}  # fmt: skip


def command(
    model: str | Path,
    config: BuildConfig,
    version: int,
    *,
    engine: str | Path = "model.engine",
    outputs: str = "model",
    measure: bool = True,
    dynamic: Collection[str] | None = None,
) -> Command:
    """The trtexec call that builds what `config` asks for and writes the files that `inspect` reads.

    Args:
        model: The ONNX file, already in the config's precision.
        config: What to build.
        version: 10 or 11, whose options and defaults differ.
        engine: Where trtexec saves the engine.
        outputs: Beginning of the names of the files that it writes.
        measure: Also run and profile the engine, the same way in both versions.
        dynamic: The model's inputs of open shape; None where they are not known, and all may be. trtexec refuses
            shapes for a model that has none open.

    Raises:
        ConfigError: `version` is neither 10 nor 11, or an option has no equal in that trtexec.
    """
    if version not in (10, 11):
        raise ConfigError(f"trtexec {version} is not known here.", hint="Commands are written for 10 and for 11.")
    notes: list[str] = []
    options = options_of_tensorrt(config)
    arguments = ["trtexec", f"--onnx={model}", f"--saveEngine={engine}", f"--profilingVerbosity={options.verbosity}"]
    if version == 10:
        arguments.append("--stronglyTyped")
        notes.append("--stronglyTyped: the ONNX file says the precision, as in TensorRT 11, which has no other way")
    if config.precision != "fp32":
        notes.append(f"{model} must be the {config.precision} conversion: trtexec converts nothing here")
    profiles = tuple(p for p in config.profiles if dynamic is None or dynamic or p.values)
    arguments += _shape_options(profiles)
    valued = sorted({name for p in profiles for name in p.values})
    if valued:
        notes.append(
            f"{', '.join(valued)}: in --minShapes, --optShapes and --maxShapes trtexec takes the values of an input that is "
            "read as a shape (as its source says; not run here)"
        )
    if any(p.inputs and all(r.fixed for r in p.inputs.values()) for p in profiles):
        notes.append(
            "the workbench builds a network of fixed shapes where min = max; trtexec keeps the model's open dimensions "
            "with a one-point range, which can choose other kernels"
        )
    if config.workspace is not None:
        arguments.append(f"--memPoolSize=workspace:{config.workspace}B")
    for option, value in (
        ("--builderOptimizationLevel", config.optimization_level),
        ("--maxAuxStreams", options.max_aux_streams),
        ("--avgTiming", options.avg_timing_iterations),
        ("--l2LimitForTiling", options.l2_limit),
        ("--tilingOptimizationLevel", None if options.tiling_level is None else _TILING[options.tiling_level]),
    ):
        if value is not None:
            arguments.append(f"{option}={value}")
    for option, on in (
        ("--noTF32", options.tf32 is False), ("--sparsity=enable", options.sparse_weights),
        ("--stripWeights", options.strip_plan), ("--refit", options.refit),
        ("--allowWeightStreaming", options.weight_streaming), ("--versionCompatible", options.version_compatible),
    ):  # fmt: skip
        if on:
            arguments.append(option)
    if options.hardware_compatibility is not None:
        level = _HARDWARE.get(options.hardware_compatibility.lower())
        if level is None:
            raise ConfigError(f"trtexec knows no hardware compatibility level {options.hardware_compatibility!r}.",
                              hint="It knows " + ", ".join(_HARDWARE) + ".")  # fmt: skip
        arguments.append(f"--hardwareCompatibilityLevel={level}")
    if (route := config.option("build_route")) is not None:
        if version == 10:
            raise ConfigError("trtexec 10 has no option for build routes.", hint="Use --for 11 (11.1 or later).")
        arguments.append(f"--setBuildRoute={route}")
    for flag in options.flags:
        option = _FLAGS.get(flag.upper(), "")
        if not option:
            raise ConfigError(f"trtexec has no option for builder flag {flag}.", hint="Build it through the workbench.")
        arguments.append(option)
    targets = [str(t) for t in config.targets if t != CURRENT]
    if targets:
        notes.append(f"trtexec builds for the GPU that it runs on: run it on {' or '.join(targets)}")
    if config.compiler == "tensorrt_rtx":
        notes.append("TensorRT for RTX and the full TensorRT are two compilers: their layers may differ")
    arguments.append(f"--exportLayerInfo={outputs}.layers.json")
    if not measure:
        return Command((*arguments, "--skipInference"), tuple(notes))
    arguments += [f"--exportProfile={outputs}.profile.json", f"--exportTimes={outputs}.times.json"]
    if version == 10:
        arguments += _OLD_RUN
        notes.append(
            "defaults differ: CUDA graph, spin wait, no data transfers and a profiling run of its own are off in "
            "trtexec 10 and on in 11; here they are asked for, so that both measure alike"
        )
    else:
        notes.append(
            "defaults differ: trtexec 11 uses a CUDA graph, spin wait, no data transfers and a profiling run of its own "
            "unless told otherwise (--noCudaGraph, --noSpinWait, --includeDataTransfers); trtexec 10 needs "
            + " ".join(_OLD_RUN) + " to measure alike"
        )  # fmt: skip
    return Command(tuple(arguments), tuple(notes))


def _shape_options(profiles: Sequence[ShapeProfile]) -> list[str]:
    options: list[str] = []
    for index, profile in enumerate(profiles):
        if len(profiles) > 1:
            options.append(f"--profile={index}")
        for which in ("min", "opt", "max"):
            # trtexec takes the values of a shape tensor where a shape stands, in the same form.
            shapes = ",".join(
                f"{_quoted(name)}:{'x'.join(map(str, getattr(r, which))) or 'scalar'}"
                for name, r in (*profile.inputs.items(), *profile.values.items())
            )
            options.append(f"--{which}Shapes={shapes}")
    return options


def _quoted(name: str) -> str:
    """An input's name as trtexec reads it: those with a colon stand in single quotes."""
    return f"'{name}'" if ":" in name else name
