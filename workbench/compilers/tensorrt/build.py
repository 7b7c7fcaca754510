"""The build task: parse, configure, build, and read the layers from the log.

One code path serves `tensorrt` 10 and 11 and `tensorrt_rtx` 1.4 to 1.7. They differ in which attributes
exist, so this module checks for attributes, never for version numbers.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.compilers.config import BuildConfig
from workbench.compilers.tensorrt import refused
from workbench.compilers.tensorrt.builder import log_to, network_flags, progress_monitor
from workbench.compilers.tensorrt.case import Case, words
from workbench.compilers.tensorrt.listing import Listing, parse_listing
from workbench.compilers.tensorrt.options import options_of_tensorrt
from workbench.core.errors import BuildError, CompilerUnavailableError, ConfigError, ListingError, UnsupportedNodesError
from workbench.core.store import replacing
from workbench.core.worker import Reporter
from workbench.hardware.machine import gpus
from workbench.hardware.target import CURRENT
from workbench.model.shape_profile import ShapeProfile
from workbench.plan.document import SecondsDocument, TimingCacheDocument
from workbench.plan.record import Record

MOST_TIMED = 50
"""How many entries of a timing cache are listed."""


def build(
    reporter: Reporter, *, module: str, model: str, config: dict[str, Any], folder: str, cache: str | None = None
) -> dict[str, Any]:
    """Build an engine into `folder`: ``engine``, ``build.log``, ``record.json``.

    Args:
        reporter: Where progress goes.
        module: The TensorRT module to use.
        model: Path of the ONNX file.
        config: `BuildConfig` as a dict.
        folder: An existing folder.
        cache: File in which timings of kernels are kept for the next build on this GPU, if the flavor keeps any.

    Returns:
        ``{"seconds": total}``; everything else is in ``record.json``.

    Raises:
        ConfigError: an option that this flavor lacks, or shapes that do not fit.
        UnsupportedNodesError: the parser refused nodes.
        BuildError: the builder refused the network.
        ListingError: the log has no readable listing.
    """
    begin = time.perf_counter()
    trt = load(module)
    wanted = BuildConfig.from_dict(config)
    out = Path(folder)
    logger = log_to(trt, out / "build.log")
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    loaded = time.perf_counter()

    reporter.progress("Parsing", 0, 1)
    if not parser.parse_from_file(model):
        raise parser_refused(trt, parser, model, logger, wanted)
    fixed = _fix_shapes(network, wanted, Path(model))
    reporter.progress("Parsing", 1, 1)
    parsed = time.perf_counter()

    options = builder.create_builder_config()
    _configure(trt, builder, network, options, wanted, fixed)
    timings = None
    # TensorRT for RTX accepts a timing cache but does not use it: it times no kernels while it builds.
    if (
        cache is not None
        and not hasattr(trt, "IRuntimeCache")
        and "disable_timing_cache" not in options_of_tensorrt(wanted).flags
    ):
        timings = _Timings(options, Path(cache))
    if hasattr(options, "progress_monitor"):
        options.progress_monitor = progress_monitor(trt, reporter)
    serialized = builder.build_serialized_network(network, options)
    logger.flush()  # if something fails from here on, the log is complete
    if serialized is None:
        raise builder_refused(trt, wanted, logger, Path(model))
    built = time.perf_counter()

    with (out / "engine").open("wb") as file:
        file.write(memoryview(serialized))
        size = file.tell()
    version = f"{module} {getattr(trt, '__version__', '')}".strip()
    listing = _listing(logger, version, [network.get_output(i).name for i in range(network.num_outputs)])
    seconds: SecondsDocument = {
        "load": round(loaded - begin, 4), "parse": round(parsed - loaded, 4), "build": round(built - parsed, 4),
        "total": round(time.perf_counter() - begin, 4),
    }  # fmt: skip
    record: Record = {
        "compiler": {
            "name": module, "version": str(getattr(trt, "__version__", "")),
            "target": wanted.target,
        },
        "seconds": seconds,
        "layers": listing.layers,
        "io": listing.io,
        "tensors": _tensors(network),
        "facts": {
            "network_layers": network.num_layers,
            "phases": {phase: float(value) for phase, value in logger.phases},
            "memory": dict(logger.memory),
            **({"timing_cache": {**timings.save(), "hits": logger.hits or None}} if timings is not None else {}),
        },
        "warnings": logger.warnings,
        "engine_bytes": size,
    }  # fmt: skip
    logger.close()
    (out / "record.json").write_text(json.dumps(record, separators=(",", ":")))
    return {"seconds": seconds["total"]}


def features(_reporter: Reporter, *, module: str) -> dict[str, Any]:
    """What this TensorRT offers, read from the module: targets, flags, options."""
    trt = load(module)
    names = _members
    return {
        "version": str(getattr(trt, "__version__", "")),
        "targets": [n.lower() for n in names(getattr(trt, "ComputeCapability", None)) if n != "NONE"] or ["current"],
        "flags": names(trt.BuilderFlag),
        "options": [n for n in dir(trt.IBuilderConfig) if not n.startswith("_")],
        "tiling": names(getattr(trt, "TilingOptimizationLevel", None)),
        "hardware_compatibility": names(getattr(trt, "HardwareCompatibilityLevel", None)),
    }


def load(module: str) -> Any:
    """Import a TensorRT module.

    Raises:
        CompilerUnavailableError: it, or a library that it needs, is missing.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise CompilerUnavailableError(
            f"{module} can't be loaded: {error}",
            hint="Run `workbench doctor`; for a machine without a GPU: pip install tensorrt-rtx",
        ) from None


def _members(enum: Any) -> list[str]:
    return [] if enum is None else [n for n in dir(enum) if not n.startswith("_") and n.isupper()]


class _Timings:
    """The builder's timing cache, kept in a file between builds.

    The file holds measurements of this version on this GPU; TensorRT refuses the file of another. Two builds at the same
    time lose nothing: entries that another one wrote meanwhile are merged before the file is replaced.
    """

    def __init__(self, options: Any, path: Path) -> None:
        self._options, self._path = options, path
        self._loaded = data = self._read()
        self._cache = options.create_timing_cache(data)
        if data and (self._cache is None or options.set_timing_cache(self._cache, False) is False):
            data, self._cache = b"", options.create_timing_cache(b"")  # start with an empty one
        self.before = len(data)
        if not data:
            options.set_timing_cache(self._cache, False)

    def save(self) -> TimingCacheDocument:
        """Write it; ``bytes_before`` and ``bytes_after`` this build, and the cache's content (see `_contents`)."""
        cache = self._options.get_timing_cache() or self._cache
        meanwhile = self._read()
        if meanwhile and meanwhile != self._loaded:
            other = self._options.create_timing_cache(meanwhile)
            if other is not None:
                cache.combine(other, False)
        data, held = cache.serialize(), _contents(cache)
        # A full disk makes the next build slower, but must not fail this one.
        with contextlib.suppress(OSError), replacing(self._path) as draft:
            return {"bytes_before": self.before, "bytes_after": draft.write_bytes(data), **held}
        return {"bytes_before": self.before, "bytes_after": self.before, **held}

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            return b""


def _contents(cache: Any) -> TimingCacheDocument:
    """The content of a timing cache: ``entries``, their number, and ``slowest``, each with tactic hash and milliseconds.

    TensorRT 10.13 and 11 report it, TensorRT 8 does not. Keys are hashes of layers, so the layer of an entry is
    unknown. A negative or NaN time means no time (TimingCacheValue in NVIDIA's C++ reference).
    """
    if not hasattr(cache, "queryKeys"):
        return {}
    try:
        values = [cache.query(key) for key in cache.queryKeys()]
    except RuntimeError:  # documented behavior; the file is kept anyway
        return {}
    timed = sorted(((v.timingMSec, v.tacticHash) for v in values if v.timingMSec >= 0), reverse=True)
    return {"entries": len(values), "slowest": [[f"{tactic:#018x}", ms] for ms, tactic in timed[:MOST_TIMED]]}


def _fix_shapes(network: Any, config: BuildConfig, model: Path) -> set[str]:
    """Give inputs with only one shape that shape, so that the network is built static.

    Returns:
        Names of the inputs that need no optimization profile: they are static, and not read as a shape.

    Raises:
        ConfigError: a shape or values do not fit, or are missing.
    """
    inputs = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    for name in dict.fromkeys(n for p in config.profiles for n in (*p.inputs, *p.values)):
        if name not in inputs:
            raise ConfigError(f"{name} is not an input of the model.", hint="Its inputs are " + ", ".join(inputs) + ".")
    valued = {name: len(v.opt) for p in config.profiles for name, v in p.values.items()}
    for name, count in valued.items():
        if len(inputs[name].shape) == 1 and inputs[name].shape[0] < 0:
            inputs[name].shape = (count,)  # a shape tensor must have a fixed length
    read = {name for name, tensor in inputs.items() if getattr(tensor, "is_shape_tensor", False)}
    for name in valued:
        if name not in read:
            raise ConfigError(
                f"TensorRT does not read input {name} as a shape, so it takes no values.",
                hint=f"Leave out {name}==." if all(d >= 0 for d in inputs[name].shape) else "Give its shape.",
                code="value-mismatch",
            )
    fixed = {name for name, tensor in inputs.items() if all(d >= 0 for d in tensor.shape)}
    if len(config.profiles) == 1:
        for name, shapes in config.profiles[0].inputs.items():
            declared = tuple(inputs[name].shape)
            fits = len(declared) == len(shapes.opt) and all(
                d < 0 or low == high == d for d, low, high in zip(declared, shapes.min, shapes.max, strict=True)
            )
            if not fits:
                raise ConfigError(
                    f"Shape {shapes} does not fit input {name}, which the model declares as {list(declared)}.",
                    hint="Dimensions that are numbers are fixed in the model; -1 may be chosen.",
                )
            if shapes.fixed:
                inputs[name].shape = shapes.opt
                fixed.add(name)
    open_inputs = [n for n in inputs if n not in fixed and not any(n in p.inputs for p in config.profiles)]
    unknown = [n for n in inputs if n in read and n not in valued]
    if open_inputs or unknown:
        from workbench.model.graph import Graph
        from workbench.model.onnx_file import read_graph
        from workbench.model.suggest import missing_shapes

        graph = Graph(read_graph(model))
        unknown = [n for n in inputs if n in unknown or (n in open_inputs and n in graph.shape_inputs)]
        raise missing_shapes("the model", graph, [n for n in open_inputs if n not in unknown], unknown)
    return fixed - read


def _configure(trt: Any, builder: Any, network: Any, settings: Any, config: BuildConfig, fixed: set[str]) -> None:
    """Set every option that the config names; raise an error that names an option that this TensorRT lacks."""
    options = options_of_tensorrt(config)

    def lacks(what: str, have: list[str]) -> ConfigError:
        return ConfigError(
            f"{trt.__name__} {getattr(trt, '__version__', '')} has no {what}.",
            hint="It has: " + ", ".join(have) + "." if have else None,
        )

    def prop(name: str, value: Any) -> None:
        if value is None:
            return
        if not hasattr(settings, name):
            raise lacks(name, [])
        setattr(settings, name, value)

    def member(enum: str, name: str) -> Any:
        kind = getattr(trt, enum, None)
        if kind is None or not hasattr(kind, name):
            raise lacks(f"{enum} {name}", _members(kind))
        return getattr(kind, name)

    settings.profiling_verbosity = member("ProfilingVerbosity", options.verbosity.upper())
    _set_targets(trt, settings, config, lacks)
    if config.workspace is not None:
        settings.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, config.workspace)
    prop("builder_optimization_level", config.optimization_level)
    prop("max_aux_streams", options.max_aux_streams)
    prop("avg_timing_iterations", options.avg_timing_iterations)
    prop("l2_limit_for_tiling", options.l2_limit)
    if options.tiling_level is not None:
        prop("tiling_optimization_level", member("TilingOptimizationLevel", options.tiling_level.upper()))
    if options.hardware_compatibility is not None:
        level = member("HardwareCompatibilityLevel", options.hardware_compatibility.upper())
        prop("hardware_compatibility_level", level)
    if (route := config.option("build_route")) is not None:
        if not getattr(settings, "all_build_routes", ""):
            raise lacks("build_route", [])
        settings.build_route = route
    if options.tf32 is not None:
        (settings.set_flag if options.tf32 else settings.clear_flag)(member("BuilderFlag", "TF32"))
    named = {
        "SPARSE_WEIGHTS": options.sparse_weights,
        "STRIP_PLAN": options.strip_plan,
        "REFIT": options.refit,
        "WEIGHT_STREAMING": options.weight_streaming,
        "VERSION_COMPATIBLE": options.version_compatible,
    }
    for flag in [*(name for name, on in named.items() if on), *(f.upper() for f in options.flags)]:
        settings.set_flag(member("BuilderFlag", flag))
    inputs = [network.get_input(i).name for i in range(network.num_inputs)]
    if any(name not in fixed for name in inputs):
        for index, profile in enumerate(config.profiles):
            settings.add_optimization_profile(_profile(builder, network, profile, fixed, index))


def _set_targets(trt: Any, settings: Any, config: BuildConfig, lacks: Callable[[str, list[str]], ConfigError]) -> None:
    named = [t for t in config.targets if t != CURRENT]
    if not named:
        return
    kind = getattr(trt, "ComputeCapability", None)
    if kind is None or not hasattr(settings, "set_compute_capability"):
        raise lacks(f"choice of target ({'+'.join(map(str, named))}): it builds for the GPU that is present", [])
    have = [name.lower() for name in _members(kind) if name != "NONE"]
    for target in config.targets:
        if str(target) not in have:
            raise lacks(f"target {target}", have)
    settings.num_compute_capabilities = len(config.targets)
    for i, target in enumerate(config.targets):
        settings.set_compute_capability(getattr(kind, str(target).upper()), i)


def _profile(builder: Any, network: Any, shapes: ShapeProfile, fixed: set[str], index: int) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if (values := shapes.values.get(tensor.name)) is not None:
            profile.set_shape_input(tensor.name, values.min, values.opt, values.max)
            continue
        wanted = shapes.inputs.get(tensor.name)
        if wanted is None:
            if tensor.name in fixed:
                continue
            what = "no values for input" if getattr(tensor, "is_shape_tensor", False) else "no shape for dynamic input"
            raise ConfigError(f"Shape profile {index} gives {what} {tensor.name}.", code="shapes-missing")
        try:
            profile.set_shape(tensor.name, wanted.min, wanted.opt, wanted.max)
        except (ValueError, RuntimeError, TypeError) as error:
            raise ConfigError(
                f"Shape {wanted} does not fit input {tensor.name} {list(tensor.shape)}: {error}"
            ) from None
    return profile


def _tensors(network: Any) -> dict[str, list[Any]]:
    """Shape and type of each tensor of the parsed network whose shape is static."""
    found: dict[str, list[Any]] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        for j in range(layer.num_outputs):
            tensor = layer.get_output(j)
            if tensor is None:
                continue
            shape = list(tensor.shape)
            if all(d >= 0 for d in shape):
                found[tensor.name] = [shape, ""]
    return found


def _listing(logger: Any, version: str, outputs: list[str]) -> Listing:
    if logger.listing is None:
        raise ListingError(
            f"{version} wrote no layer listing into its VERBOSE log.",
            hint="On a machine with a GPU, use the engine inspector instead.",
        )
    return parse_listing(logger.listing, version, outputs)


def parser_refused(
    trt: Any, parser: Any, model: str, logger: Any, config: BuildConfig
) -> UnsupportedNodesError | BuildError:
    """Every error of the parser with its node and its meaning."""
    complaints = [refused.Complaint.of(parser.get_error(i)) for i in range(parser.num_errors)]
    if not complaints:
        return BuildError(
            "TensorRT could not read the model: "
            + (words(logger.errors[-1]) if logger.errors else "it gave no reason."),
            hint="Check it with `python -m onnx.checker FILE`.",
            code="unreadable-model",
        )
    return refused.parser_error(complaints, _case(trt, config, Path(model), list(logger.errors)))


def builder_refused(trt: Any, config: BuildConfig, logger: Any, model: Path) -> BuildError | ConfigError:
    """The meaning of the builder's errors."""
    return refused.builder_error(_case(trt, config, model, list(logger.errors)))


def _case(trt: Any, config: BuildConfig, model: Path, said: list[str]) -> Case:
    names = {"tensorrt_rtx": "TensorRT for RTX", "tensorrt": "TensorRT"}
    return Case(
        config=config, model=model, said=said, offered=_targets(trt),
        compiler=f"{names.get(trt.__name__, trt.__name__)} {getattr(trt, '__version__', '')}".strip(),
        gpus=[f"{g.name} ({g.sm})" for g in gpus()],
    )  # fmt: skip


def _targets(trt: Any) -> list[str]:
    """The architectures that can be chosen, such as ``sm89``."""
    return [n.lower() for n in _members(getattr(trt, "ComputeCapability", None)) if n not in {"NONE", "CURRENT"}]
