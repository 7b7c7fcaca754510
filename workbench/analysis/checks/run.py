"""Run all checks of a model or an engine; worst findings first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.analysis.checks.engine_checks import (
    bare_layers,
    bound_to_gpu,
    dynamic_shapes,
    host_shapes,
    long_build,
    precision,
    reported_target,
)
from workbench.analysis.checks.finding import Findings, worst_first
from workbench.analysis.checks.model_checks import (
    branch_ranks,
    broken,
    file_size,
    full_attention,
    int32_quantization,
    int64_casts,
    large_constants,
    missing_profiles,
    runtime_shapes,
    shape_inputs,
    unsupported,
    zero_points,
)
from workbench.model.model import Model

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.hardware.machine import Gpu
    from workbench.model.shape_profile import ShapeProfile
    from workbench.plan.partition import Partition


def of_model(
    model: Model, partition: Partition | None = None, unchecked: Sequence[str] = (), profile: ShapeProfile | None = None,
    precision: str = "fp32",
) -> Findings:  # fmt: skip
    """Findings from the graph and from TensorRT's parser or builder.

    Args:
        model: The model.
        partition: By TensorRT's parser or builder (`session.torch.partition`); None if neither ran.
        unchecked: Checks that could not run.
        profile: Shapes and values of the planned build.
        precision: Precision of the planned build; fp32 leaves the graph unchanged.
    """
    graph = model.graph
    at = graph if profile is None else graph.at(profile.sizes, profile.usual)
    found = [
        *broken(graph), *(unsupported(partition) if partition else []), *file_size(model), *missing_profiles(graph, profile),
        *shape_inputs(graph, profile), *(full_attention(at) if precision == "fp32" else []), *int32_quantization(graph),
        *zero_points(graph), *branch_ranks(at), *large_constants(graph), *int64_casts(graph), *runtime_shapes(graph),
    ]  # fmt: skip
    return Findings(model.name, "", worst_first(found), tuple(unchecked), partition)


def of_engine(
    engine: Engine, *, here: Sequence[Gpu] = (), installed: str | None = None, others: Sequence[Engine] = ()
) -> Findings:
    """Findings from an engine's plan, record and measurements, and from the graph if its file still exists.

    Args:
        engine: The engine.
        here: The GPUs of this machine.
        installed: Installed version of the compiler; None if it is not installed.
        others: Engines of the same session, to compare measurements.
    """
    from workbench.core.errors import ModelError, ProfileError

    plan, unchecked = engine.plan, []
    found = [
        *bound_to_gpu(plan, here, installed), *reported_target(plan), *long_build(plan), *precision(plan), *bare_layers(plan),
        *host_shapes(plan),
    ]  # fmt: skip
    try:
        found += dynamic_shapes(engine, others)
    except ProfileError as error:
        unchecked.append(f"the cost of dynamic shapes: {error.message}")
    except (KeyError, TypeError) as error:
        unchecked.append(f"the cost of dynamic shapes: a profile is incomplete: {error}")
    try:
        source = engine.source()
        graph = engine.graph()
        found += [*broken(graph), *file_size(source), *large_constants(graph, plan), *int64_casts(graph, plan)]
    except ModelError as error:
        unchecked.append(f"the graph: {error.message}")
    return Findings(engine.model, engine.id, worst_first(found), tuple(unchecked))
