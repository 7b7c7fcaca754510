"""Which tactics a build tried, with their times, read from its VERBOSE log.

The full TensorRT times tactics while it builds and logs each. TensorRT for RTX chooses them when an engine first runs, so its
logs have none. The formats are those of TensorRT 7 to 10; unknown lines are skipped, because the log is not a documented
format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from workbench.compilers.base import Tactic

_HEAD = re.compile(
    r"^(?:\[[^\]]*\]\s*)+(?:VERBOSE: )?"
)  # [V], trtexec's [date] [V] [TRT], Python's [TensorRT] VERBOSE:
_COSTS = re.compile(r"=+ Computing costs for (.*?)(?: =*)?$")
_FORMATS = re.compile(r"\*{5,} Autotuning (?:format combination|Reformat): ?(.*?) \*{5,}")
_RUNNER = re.compile(r"-{5,} Timing Runner: (.*) \(([^()]*)\)$")
_NUMBER = r"(0x[0-9a-fA-F]+|-?\d+)"
_TRIED = re.compile(rf"(?:Tactic Name: (.*?) )?Tactic: {_NUMBER} [Tt]ime:? ([\d.eE+-]+)")
_SET_NAME = re.compile(r"(.*) \(([^()]*)\) Set Tactic Name: (\S+)(?: Tactic: (\S+))?$")
_CHOSE = re.compile(rf">{{5,}} Chose Runner Type: (\S+) Tactic: {_NUMBER}")
_LISTED = re.compile(r"^(?:\[[^\]]*\] )?(?:Layers:)?\s*Name: (.*?), LayerType: ")
_VALUE = re.compile(rf", TacticValue: {_NUMBER}\b")
_TACTIC_NAME = re.compile(r", TacticName: ([^,]+)(?:,|$)")


@dataclass
class _Group:
    """The tactics of one layer in one combination of formats, and the one that the builder chose."""

    layer: str
    rows: list[Tactic] = field(default_factory=list)
    taken: str = ""


def parse_tactics(lines: Iterable[str]) -> list[Tactic]:
    """The tactics in a VERBOSE build log, in its order.

    A tactic counts as chosen if the builder chose it for a combination of formats and the listing of the finished engine
    names it, by number or name, for the layer. For a layer without such an entry, the builder's choice counts if only one
    combination was tried. Otherwise nothing is marked: the fastest tactic alone need not be in the engine.

    Args:
        lines: The log.

    Returns:
        Empty for a log without tactics.
    """
    groups: list[_Group] = []
    listed: dict[str, set[str]] = {}
    layer = formats = runner = ""
    group: _Group | None = None
    names: dict[str, str] = {}  # in logs of older versions, by number
    coming = ""  # in the oldest logs: the name of the next tactic
    for line in lines:
        if found := _LISTED.match(line):
            named = {m[1].strip() for m in (_VALUE.search(line), _TACTIC_NAME.search(line)) if m}
            listed.setdefault(found[1], set()).update(named)
            continue
        if "actic" not in line and "=====" not in line and "*****" not in line and "-----" not in line:
            continue
        text = _HEAD.sub("", line.rstrip())
        if found := _COSTS.match(text):
            layer, formats, runner, group = found[1], "", "", None
        elif found := _FORMATS.match(text):
            formats, group = found[1], None
        elif found := _RUNNER.match(text):
            if group is None or found[1] != layer:
                layer = found[1]
                group = _Group(layer)
                groups.append(group)
            runner = found[2].partition("[")[0]
        elif found := _SET_NAME.match(text):
            if found[4]:
                names[found[4]] = found[3]
            else:
                coming = found[3]
        elif group is not None and (found := _CHOSE.match(text)):
            group.taken = found[2]
            group = None
        elif group is not None and (found := _TRIED.match(text)):
            number, time_ms = found[2], _milliseconds(found[3])
            if time_ms is None:
                continue
            group.rows.append({
                "layer": layer, "tactic": number, "name": found[1] or coming or names.get(number, ""), "runner": runner,
                "formats": formats, "time_ms": time_ms, "chosen": False,
            })  # fmt: skip
            coming = ""
    _mark(groups, listed)
    return [row for one in groups for row in one.rows]


def _milliseconds(text: str) -> float | None:
    """A time in the log; None for text that is not a number (``1.2.3``), as in a truncated line."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _mark(groups: list[_Group], listed: dict[str, set[str]]) -> None:
    tried: dict[str, int] = {}
    for one in groups:
        tried[one.layer] = tried.get(one.layer, 0) + bool(one.rows)
    for one in groups:
        engine = listed.get(one.layer, set())
        for row in one.rows:
            if one.taken and row["tactic"] != one.taken:
                continue
            if engine:
                row["chosen"] = row["tactic"] in engine or (bool(row["name"]) and row["name"] in engine)
            else:
                row["chosen"] = bool(one.taken) and tried[one.layer] == 1
