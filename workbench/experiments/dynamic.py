"""Measure the cost of a dynamic shape: build a model for one shape and for a range, and run both at the opt shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.compilers.config import BuildConfig
from workbench.core.errors import ConfigError
from workbench.model.shape_profile import ShapeProfile, ShapeRange, ValueRange

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.workspace import Workspace


def dynamic_overhead(session: Workspace, model: Any, config: BuildConfig, **options: Any) -> dict[str, Any]:
    """Build and measure a fixed and a dynamic engine of `model`; see `session.measure.dynamic`."""
    if not config.profiles or config.profiles[0].fixed:
        raise ConfigError(
            "There is no range of shapes to compare with a fixed one.",
            hint='Give one: shapes={"x": "1x3x224x224:8x3x224x224:32x3x224x224"}.',
        )
    usual = {name: ShapeRange(min=r.opt, opt=r.opt, max=r.opt) for name, r in config.profiles[0].inputs.items()}
    values = {name: ValueRange(min=r.opt, opt=r.opt, max=r.opt) for name, r in config.profiles[0].values.items()}
    at = {name: list(r.opt) for name, r in usual.items()}
    fixed = session.build(model, config.replace(profiles=(ShapeProfile(inputs=usual, values=values),)))
    dynamic = session.build(model, config)
    found = {
        "fixed": _measured(session, fixed, options),
        "dynamic": _measured(session, dynamic, {**options, "shapes": at}),
    }
    if found["dynamic"].pop("specialization"):
        # The cost of a new shape, or of a CUDA graph that was captured too early.
        found["fallback"] = _measured(session, dynamic, {**options, "shapes": at, "specialization": "none"})
    for one in found.values():
        one.pop("specialization", None)
    # Comparing a CUDA graph with separate launches would compare launch overhead.
    way = "graph" if all("graph" in one["ways"] for one in found.values()) else "plain"
    for one in found.values():
        one["latency"] = one.pop("ways")[way]
    before, after = (found[which]["latency"]["median_ms"] for which in ("fixed", "dynamic"))
    return {
        **found,
        "way": way,
        "model": dynamic.model,
        "shapes": at,
        "overhead_ms": after - before,
        "overhead": after / before - 1,
    }


def _measured(session: Workspace, engine: Engine, options: dict[str, Any]) -> dict[str, Any]:
    document = session.measure.profile(engine, **options)
    summary = engine.plan.summary
    return {
        "specialization": document.get("specialization"), "engine": engine.key, "ways": document["latency"], "error": document["error"],
        "launches": summary["launches_after"], "build_s": engine.seconds["total"],
        "profile": engine.config.profiles[0].texts,
    }  # fmt: skip
