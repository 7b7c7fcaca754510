"""What the Engine panel tells about an engine: facts, options, files, memory, tactics, and where it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.core.units import bytes_text, ms_text
from workbench.plan import liveness
from workbench.plan.traffic import at_least

if TYPE_CHECKING:
    from workbench.compilers.config import BuildConfig
    from workbench.engine import Engine
    from workbench.plan import Plan


def readable(record: Mapping[str, Any]) -> str:
    """A record as JSON, with lists of numbers and names on one line."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([^][{}\"]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def facts_of(engine: Engine, plan: Plan) -> list[dict[str, Any]]:
    """Headline facts of an engine."""
    s = plan.summary
    return [
        {"name": "engine file", "value": bytes_text(engine.bytes)},
        {"name": "compiler", "value": plan.compiler["version"], "note": plan.compiler["name"]},
        {"name": "built for", "value": plan.compiler["target"] or "?"},
        {"name": "precision", "value": engine.config.precision, "note": "requested"},
        {"name": "layers", "value": s["layers"], "note": f"{s['launches_after']} kernels"},
        {"name": "built in", "value": f"{engine.seconds['total']:.1f} s"},
    ]


def options_of(config: BuildConfig) -> list[list[str]]:
    """The options that differ from the defaults, as rows of option and value."""
    data = config.to_dict()
    profiles = data.pop("profiles", None)
    rows = [
        [name.replace("_", " "), ", ".join(map(str, v)) if isinstance(v, list) else str(v)] for name, v in data.items()
    ]
    if profiles:
        rows += [[f"shape of {n}", str(r)] for profile in config.profiles for n, r in profile.inputs.items()]
        rows += [[f"values of {n}", str(r)[1:]] for profile in config.profiles for n, r in profile.values.items()]
    rows.append(["all others", "the compiler's defaults"])
    return rows


def files_of(engine: Engine) -> list[list[str]]:
    """The files of an engine's folder with their sizes; profiles counted as one row."""
    words = {
        "engine": "the serialized engine", "build.log": "the compiler's log", "record.json": "what the compiler reported",
        "plan.json": "workbench.plan/1", "build.json": "the request",
    }  # fmt: skip
    rows = [
        [file.name, bytes_text(file.stat().st_size), words.get(file.name, "")]
        for file in sorted(engine.folder.iterdir()) if file.is_file() and not file.name.startswith(".")
    ]  # fmt: skip
    profiles = list((engine.folder / "profiles").glob("*.json"))
    if profiles:
        rows.append(
            [f"profiles ({len(profiles)})", bytes_text(sum(f.stat().st_size for f in profiles)), "measurements"]
        )
    return rows


def memory_rows(engine: Engine, plan: Plan) -> list[list[str]]:
    """What is known of an engine's memory: name, size, source and a note."""
    live = liveness(plan.layers, [entry["name"] for entry in plan.io])
    rows = [
        [name, bytes_text(size), "reported", "by the compiler"]
        for name, size in (plan.facts.get("memory") or {}).items()
    ]
    rows += [
        [
            "peak activations",
            at_least(live.peak, len(live.unknown)),
            "computed",
            f"by liveness, at layer {live.peak_layer}",
        ],
        ["weights of the layers", bytes_text(plan.summary["weight_bytes"]), "reported", "constants, summed"],
        ["engine file", bytes_text(engine.bytes), "measured", "on disk"],
    ]
    cpu = plan.device_kind == "cpu"
    words = {
        "used_bytes": (
            "used by the process" if cpu else "used on the GPU",
            "measured",
            "how much the process grew" if cpu else "engine, context, inputs and outputs; free memory before and after",
        ),
        "arena_peak_bytes": ("arena, at its peak", "reported", "by the runtime"),
        "arena_held_bytes": ("arena, reserved", "reported", "by the runtime"),
        "device_memory_size_v2": ("activations and scratch", "reported", "by the runtime"),
        "device_memory_size": ("activations and scratch", "reported", "by the runtime"),
        "streamable_weights_size": ("weights that can be streamed", "reported", "by the runtime"),
    }
    seen = set()
    for key, size in ((plan.facts.get("measured") or {}).get("memory") or {}).items():
        name, source, note = words.get(key, (key.replace("_", " "), "reported", "by the runtime"))
        if isinstance(size, int) and (name, size) not in seen:
            seen.add((name, size))
            rows.append([name, bytes_text(size), source, note])
    return rows


def tactics_of(engine: Engine) -> list[list[str]]:
    """Tactics that the log names, as rows; empty if it names none."""
    found: Sequence[Mapping[str, Any]] = getattr(engine, "tactics", None) or []
    return [
        [str(one.get("layer", "")), str(one.get("tactic", "")), ms_text(one.get("time_ms")), "yes" if one.get("chosen") else ""]
        for one in found
    ]  # fmt: skip


def timings_text(timings: Mapping[str, Any]) -> str:
    """The timing cache of a build, in a sentence.

    Args:
        timings: ``plan.facts["timing_cache"]``.
    """
    before, after, hits = (timings.get(key) for key in ("bytes_before", "bytes_after", "hits"))
    said = f"Timing cache: {bytes_text(before or 0)} before this build, {bytes_text(after or 0)} after"
    if timings.get("entries") is not None:
        said += f", {timings['entries']} entries"
    if hits:
        said += f"; the log names {hits} hit{'s' * (hits != 1)}, which were not timed again"
    return said + "."


def compatibility_of(engine: Engine) -> list[list[str]]:
    """Where an engine runs, as rows: what, whether it fits, and why."""
    words = {True: "fits", False: "does not fit", None: "unknown here"}
    return [[finding.what, words[finding.ok], finding.text] for finding in engine.compatibility()]
