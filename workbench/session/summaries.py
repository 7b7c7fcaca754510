"""Summaries of engines for lists, kept in the store's index so that no build files are read."""

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
    """An engine as shown in a list.

    Attributes:
        engine: The engine.
        plan: The totals of its plan (`Plan.summary`); empty if they were not requested.
    """

    engine: Engine
    plan: Mapping[str, Any]


def summaries(store: Store, engines: Sequence[tuple[str, str]], *, plans: bool = False) -> list[Summary]:
    """Summaries of the engines that exist in the store.

    Summaries that are not in the index are read from the builds and added to the index.

    Args:
        store: The store.
        engines: Key and model name of each engine.
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
        if error.code not in UNWRITABLE:  # without write access, the builds are read each time
            raise
    return found
