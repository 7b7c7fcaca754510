"""A partition found by building the model: refused nodes are cut out until the rest builds."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from workbench import compilers
from workbench.compilers.base import Builds
from workbench.compilers.config import BuildConfig, check_profiles
from workbench.core.errors import (
    BuildError,
    ConfigError,
    WorkerCrashedError,
    first_lines,
    with_own_names,
)
from workbench.core.jobs import Job
from workbench.experiments.partition.by_parser import PATIENCE, QUICK_BYTES, QUICK_NODES, Build, OnJob, segments_of
from workbench.experiments.partition.rest import (
    STAND_IN,
    named,
    ordered,
    rest,
    segments,
    sources,
    tops,
)
from workbench.model.model import Model
from workbench.model.shape_profile import ShapeProfile, ValueRange
from workbench.plan.partition import Partition, RefusalDocument

if TYPE_CHECKING:
    from workbench.core.store import Store
    from workbench.model.graph import Graph


def by_builder(model: Model, store: Store, config: BuildConfig, build: Build, *, on_job: OnJob = None) -> Partition:
    """The nodes of an ONNX model that TensorRT's builder supports: refused nodes are cut out and the rest is built.

    The whole model is built as `Session.build` does, so an existing engine gives the answer at once, and a new one is
    kept. The rest is built as one network at the opt shapes, and is not kept.

    Args:
        model: The model.
        store: Where temporary files go.
        config: Target, precision and shapes.
        build: Builds the whole model and keeps the engine.
        on_job: Called with each job.

    Raises:
        ConfigError: shapes or options do not fit.
        CompilerUnavailableError: TensorRT is not installed.
    """
    from workbench.precision import cast

    begin = time.perf_counter()
    compiler = compilers.get(config.compiler, Builds)
    config = compiler.complete(config)
    check_profiles(model, config)
    size: int | None = None
    refused: BuildError | None = None
    try:
        size = build(model, config)
    except BuildError as error:
        refused = error
    if config.precision != "fp32":
        model = cast(model, config.precision, store, on_job=on_job)
    graph = model.graph
    reasons: dict[str, str] = {}
    refusals: list[RefusalDocument] = []
    proven = refused is None
    at = graph if refused is None else graph.at(config.opt_shapes, config.opt_values)
    while refused is not None:
        found = named(refused.details, graph)
        if not found and len(graph.nodes) <= QUICK_NODES and model.bytes <= QUICK_BYTES:
            found = _searched(model, at, set(reasons), config, compiler, store, on_job)
        news = {i: why or first_lines(refused, 2) for i, why in found.items() if i not in reasons}
        refusals.append({"code": refused.code, "message": refused.message, "hint": refused.hint, "nodes": list(news)})
        reasons |= news
        if not news or (len(refusals) > 1 and time.perf_counter() - begin > PATIENCE):
            break
        refused, proven = _builds(model, at, set(reasons), config, compiler, store, on_job)
    nodes = tops(graph)
    if refusals and not reasons:
        # No node is named: only the model as a whole is known to be refused.
        reasons = {n.id: "the builder refused the model and named no node" for n in nodes}
    taken = {i for i, n in enumerate(nodes) if n.id not in reasons}
    parts = segments(taken, sources(graph))
    left = rest(at, {i for i in range(len(nodes)) if i not in taken}) if refusals and proven else None
    notes = (
        f"Some output sizes of refused nodes depend on data; the rest was built with {STAND_IN} for each of them.",
    )
    settings = {
        "target": config.target, "precision": config.precision,
        "shapes": config.profiles[0].texts if config.profiles else {},
    }  # fmt: skip
    return Partition(
        model.name, "builder", False, segments_of(model, parts, reasons, size), settings,
        {compiler.name: compiler.version()}, dict(Counter(n.op for n in nodes if n.id in reasons)),
        round(time.perf_counter() - begin, 3), tuple(refusals), proven,
        notes if left is not None and left[1] else (),
    )  # fmt: skip


def _searched(
    model: Model, at: Graph, cut: set[str], config: BuildConfig, compiler: Builds, store: Store, on_job: OnJob
) -> dict[str, str]:  # fmt: skip
    """The first node with which the model is refused, found by bisection, for an error that names no node.

    Returns:
        Its id with the reason; empty if some part of the model can't be built alone.
    """
    nodes = tops(at)
    order = [nodes[i].id for i in ordered(sources(at)) if nodes[i].id not in cut]
    low, high = 0, len(order)  # the first `low` nodes build, the first `high` are refused
    while high - low > 1:
        middle = (low + high) // 2
        error, built = _builds(model, at, cut | set(order[middle:]), config, compiler, store, on_job)
        if error is None and not built:
            return {}
        low, high = (middle, high) if built else (low, middle)
    if not order:
        return {}
    before = f"without it, the {low} nodes before it build; with it they" if low else "alone it"
    return {order[low]: f"{before} {'are' if low else 'is'} refused by the builder, which names no node"}


def _builds(
    model: Model, at: Graph, cut: set[str], config: BuildConfig, compiler: Builds, store: Store, on_job: OnJob
) -> tuple[BuildError | None, bool]:  # fmt: skip
    """Build the model without the nodes `cut`: the error if it is refused, and whether it was built."""
    nodes = tops(at)
    indices = {i for i, n in enumerate(nodes) if n.id in cut}
    if len(indices) == len(nodes):
        return None, True  # nothing is left that could be refused
    left = rest(at, indices)
    if left is None:
        return None, False
    proto, assumed = left
    values = {n: r for p in config.profiles for n, r in p.values.items() if n in {v.name for v in proto.graph.input}}
    usual = {n: ValueRange(min=r.opt, opt=r.opt, max=r.opt) for n, r in values.items()}
    config = config.replace(profiles=(ShapeProfile(inputs={}, values=usual),) if usual else ())
    with store.scratch("partition") as folder:
        (folder / "model").mkdir()
        (folder / "build").mkdir()
        job = Job(compiler.build_task, {}, title=f"partition of {model.name}", preload=compiler.preload)
        if on_job is not None:
            on_job(job)
        job.start(
            model=str(model.write_copy(proto, folder / "model" / "workbench-rest.onnx")), config=config.to_dict(), folder=str(folder / "build"),
            **compiler.arguments(),
        )  # fmt: skip
        try:
            job.result()
        except BuildError as error:
            if assumed:  # the assumed sizes may be what it refuses
                return None, False
            return with_own_names(error, at.needs_renaming()), False
        except (ConfigError, WorkerCrashedError):
            # The output of a cut node is read as a shape, or the compiler crashed: the rest remains unknown.
            return None, False
    return None, True
