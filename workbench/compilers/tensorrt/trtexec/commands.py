"""Writes the trtexec command that builds what a `BuildConfig` asks for."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.compilers.tensorrt.options import options_of_tensorrt
from workbench.core.errors import ConfigError
from workbench.hardware.target import CURRENT

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig
    from workbench.model.shape_profile import ShapeProfile


@dataclass(frozen=True)
class Command:
    """A trtexec call. `notes` describe what it does not do, or does differently from the workbench."""

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
        model: The ONNX file, already converted to the config's precision.
        config: What to build.
        version: 10 or 11, whose options and defaults differ.
        engine: Where trtexec saves the engine.
        outputs: Prefix of the names of the files that it writes.
        measure: Also run and profile the engine, the same way in both versions.
        dynamic: The model's inputs with dynamic shapes; None if unknown. trtexec refuses shapes for a model without
            dynamic inputs.

    Raises:
        ConfigError: `version` is neither 10 nor 11, or an option has no equivalent in that trtexec.
    """
    if version not in (10, 11):
        raise ConfigError(f"trtexec {version} is not supported.", hint="Choose version 10 or 11.")
    notes: list[str] = []
    options = options_of_tensorrt(config)
    arguments = ["trtexec", f"--onnx={model}", f"--saveEngine={engine}", f"--profilingVerbosity={options.verbosity}"]
    if version == 10:
        arguments.append("--stronglyTyped")
        notes.append("--stronglyTyped: the types in the ONNX file set the precision, as always in TensorRT 11")
    if config.precision != "fp32":
        notes.append(f"{model} must be the {config.precision} conversion: trtexec does not convert it")
    profiles = tuple(p for p in config.profiles if dynamic is None or dynamic or p.values)
    arguments += _shape_options(profiles)
    valued = sorted({name for p in profiles for name in p.values})
    if valued:
        notes.append(
            f"{', '.join(valued)}: for an input that the model reads as a shape, --minShapes, --optShapes and --maxShapes "
            "take its values (according to trtexec's source; not tested here)"
        )
    if any(p.inputs and all(r.fixed for r in p.inputs.values()) for p in profiles):
        notes.append(
            "where min = max the workbench builds a network with fixed shapes; trtexec keeps the model's dynamic dimensions "
            "with a range of one size, which can select other kernels"
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
            raise ConfigError(f"trtexec has no option for builder flag {flag}.", hint="Build it with the workbench.")
        arguments.append(option)
    targets = [str(t) for t in config.targets if t != CURRENT]
    if targets:
        notes.append(f"trtexec builds for the GPU that it runs on: run it on {' or '.join(targets)}")
    if config.compiler == "tensorrt_rtx":
        notes.append("TensorRT for RTX and the full TensorRT are different compilers: their layers may differ")
    arguments.append(f"--exportLayerInfo={outputs}.layers.json")
    if not measure:
        return Command((*arguments, "--skipInference"), tuple(notes))
    arguments += [f"--exportProfile={outputs}.profile.json", f"--exportTimes={outputs}.times.json"]
    if version == 10:
        arguments += _OLD_RUN
        notes.append(
            "defaults differ: CUDA graph, spin wait, no data transfers and a separate profiling run are off in "
            "trtexec 10 and on in 11; this command turns them on, so that both measure the same way"
        )
    else:
        notes.append(
            "defaults differ: trtexec 11 uses a CUDA graph, spin wait, no data transfers and a separate profiling run "
            "unless turned off (--noCudaGraph, --noSpinWait, --includeDataTransfers); trtexec 10 needs "
            + " ".join(_OLD_RUN) + " to measure the same way"
        )  # fmt: skip
    return Command(tuple(arguments), tuple(notes))


def _shape_options(profiles: Sequence[ShapeProfile]) -> list[str]:
    options: list[str] = []
    for index, profile in enumerate(profiles):
        if len(profiles) > 1:
            options.append(f"--profile={index}")
        for which in ("min", "opt", "max"):
            # trtexec takes the values of a shape tensor in place of its shape, in the same form.
            shapes = ",".join(
                f"{_quoted(name)}:{'x'.join(map(str, getattr(r, which))) or 'scalar'}"
                for name, r in (*profile.inputs.items(), *profile.values.items())
            )
            options.append(f"--{which}Shapes={shapes}")
    return options


def _quoted(name: str) -> str:
    """An input's name as trtexec reads it: a name with a colon is put in single quotes."""
    return f"'{name}'" if ":" in name else name
