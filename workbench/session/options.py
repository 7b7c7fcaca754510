"""Convert options that users write into a `BuildConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.compilers.config import BuildConfig
from workbench.model.shape_profile import profile_of, sizes_of


def config_of(config: BuildConfig | None, options: Mapping[str, Any]) -> BuildConfig:
    """`config` updated with `options`; ``target`` and ``shapes`` are short for ``targets`` and ``profiles``.

    Raises:
        ConfigError: there is no such option, or its value is invalid.
    """
    changes = dict(options)
    if "target" in changes:
        changes["targets"] = changes.pop("target")
    if "shapes" in changes:
        profile = profile_of(changes.pop("shapes"))
        changes |= {"profiles": (profile,)} if profile is not None else {}
    return config.replace(**changes) if config is not None else BuildConfig.of(**changes)


def with_sizes(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with ``shapes`` as tuples of sizes."""
    return {**options, "shapes": sizes_of(options["shapes"])} if options.get("shapes") else dict(options)
