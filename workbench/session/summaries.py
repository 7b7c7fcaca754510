"""Summaries of engines: what a list of engines needs, kept in the store's index so that no build is read for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.compilers.config import BuildConfig
from workbench.core.errors import StoreError
from workbench.core.store import UNWRITABLE, Store
from workbench.engine import Engine, load_engine


@dataclass(frozen=True)
class Summary:
    """An engine as a list shows it.

    Attributes:
        engine: The engine.
        plan: The totals of its plan (`Plan.summary`); empty if they were not asked for.
    """

    engine: Engine
    plan: Mapping[str, Any]


def summaries(store: Store, engines: Sequence[tuple[str, str]], *, plans: bool = False) -> list[Summary]:
    """The engines that the store has.

    What is not in the index is read from the builds, and kept there for the next time.

    Args:
        store: The store.
        engines: Key and name of the model of each.
        plans: Whether the totals of the plans are needed.

    Raises:
        StoreError: a build is damaged.
    """
    models = dict(engines)
    found, fresh = [], []
    for build in store.known_builds(models):
        data = build.summary
        if data is None or (plans and data["plan"] is None):
            engine = load_engine(build.folder, models[build.key])
            data = {
                "config": engine.config.to_dict(),
                "created": engine.created,
                "seconds": dict(engine.seconds),
                "plan": dict(engine.plan.summary) if plans else None,
            }
            fresh.append(replace(build, summary=data))
        else:
            config = BuildConfig.from_dict(data["config"])
            engine = Engine(
                build.key, build.folder, models[build.key], config, data["created"], data["seconds"], cached=True
            )  # fmt: skip
        found.append(Summary(engine, data["plan"] or {}))
    try:
        store.keep_summaries(fresh)
    except StoreError as error:
        if error.code not in UNWRITABLE:  # a store that can't be written is read each time
            raise
    return found
