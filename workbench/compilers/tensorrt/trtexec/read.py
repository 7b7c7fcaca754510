"""Reads the JSON files that trtexec writes: profiles, times, and metadata about the build or the GPU.

``--exportProfile`` writes the count of iterations and then a record for each layer; ``--exportTimes`` a record for each
iteration. `workbench.plan.join` matches a profile with layers.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.compilers.tensorrt.inspector import expect, kind_of_file, read_json
from workbench.core.errors import ProfileError
from workbench.measure.latency import percentiles
from workbench.plan.join import ProfiledLayer, ProfiledLayers

if TYPE_CHECKING:
    from workbench.plan.measured import EndToEndDocument

WARM_UP_MS = 200.0
"""trtexec's default for ``--warmUp``. The file also holds the warm-up iterations; trtexec's summary leaves them out."""

LONGEST_MS = 1e12
"""The longest time that a file may hold (about 30 years), so that sums stay finite."""

TIME_FIELDS = ("h2dMs", "computeMs", "d2hMs", "latencyMs")


@dataclass(frozen=True)
class Times:
    """A file of ``--exportTimes``: milliseconds per iteration, which trtexec measured with CUDA events.

    Attributes:
        latency: Copies to the GPU, computation and copies from the GPU.
        compute: Computation alone.
        h2d: Copies to the GPU; 0 if they were not measured.
        d2h: Copies from the GPU.
        wall_ms: From the first copy or kernel to the end of the last.
        warm_up: How many iterations at the beginning were left out.
    """

    latency: tuple[float, ...]
    compute: tuple[float, ...]
    h2d: tuple[float, ...]
    d2h: tuple[float, ...]
    wall_ms: float | None
    warm_up: int = 0
    path: str = ""

    def __len__(self) -> int:
        return len(self.latency)

    @property
    def mean_ms(self) -> float:
        """Mean latency."""
        return statistics.fmean(self.latency)

    @property
    def median_ms(self) -> float:
        """Median latency."""
        return statistics.median(self.latency)

    def percentile(self, percent: float) -> float:
        """The latency that `percent` of the iterations do not exceed (nearest rank)."""
        return percentiles(self.latency, [percent])[0]

    @property
    def transfers_ms(self) -> float:
        """Mean time of copies in both directions."""
        return statistics.fmean(self.h2d) + statistics.fmean(self.d2h)

    def to_dict(self) -> EndToEndDocument:
        """The numbers that are stored with a plan."""
        return {
            "iterations": len(self), "warm_up_iterations": self.warm_up, "mean_ms": self.mean_ms, "median_ms": self.median_ms, "min_ms": min(self.latency),
            "max_ms": max(self.latency), "p90_ms": self.percentile(90), "p99_ms": self.percentile(99),
            "compute_mean_ms": statistics.fmean(self.compute), "transfers_mean_ms": self.transfers_ms,
            "percentiles_ms": percentiles(self.latency),
        }  # fmt: skip


def read_profile(path: str | Path) -> ProfiledLayers:
    """Read a file of ``--exportProfile``.

    Raises:
        ProfileError: it can't be read, is another kind of file, or a record lacks its name or time.
    """
    data = read_json(path)
    expect(data, "profile", path)
    head = set(data[0]) == {"count"}
    count = _number(data[0]["count"], path, "the count") if head else 1
    if head and (count < 1 or count != int(count)):
        raise ProfileError(f"{path} counts {count:g} profiled iterations.", hint="Export it again with trtexec.")
    rows = []
    for i, row in enumerate(data[1:] if head else data):
        name = row.get("name")
        if not isinstance(name, str) or all(row.get(key) is None for key in ("timeMs", "averageMs")):
            raise ProfileError(
                f"{path}: record {i} has no {'name' if not isinstance(name, str) else 'time'}; "
                f"it has {', '.join(row) or 'nothing'}.",
                hint="A record of --exportProfile has name, timeMs, averageMs, medianMs and percentage.",
            )
        where = f"record {i} ({name[:60]})"
        values = {
            key: _number(row[key], path, where)
            for key in ("timeMs", "averageMs", "medianMs", "percentage")
            if row.get(key) is not None
        }
        total = values.get("timeMs", values.get("averageMs", 0.0) * count)
        mean = values.get("averageMs", total / count)
        rows.append(ProfiledLayer(name, total, mean, values.get("medianMs"), values.get("percentage")))
    if not rows:
        raise ProfileError(f"{path} holds no layer.", hint="The profiling run of trtexec may have failed.")
    return ProfiledLayers(int(count), tuple(rows), str(path))


def read_times(path: str | Path, warm_up_ms: float = WARM_UP_MS) -> Times:
    """Read a file of ``--exportTimes``.

    Args:
        path: The file.
        warm_up_ms: Iterations that begin earlier than this are left out, as in trtexec's own summary. If all
            begin earlier, none is left out.

    Raises:
        ProfileError: it can't be read, is another kind of file, or an iteration lacks its latency.
    """
    data = read_json(path)
    expect(data, "times", path)
    columns: dict[str, list[float]] = {key: [] for key in TIME_FIELDS}
    begins = [row.get("startComputeMs") for row in data]
    cold = next((i for i, t in enumerate(begins) if not isinstance(t, int | float) or t >= warm_up_ms), 0)
    data = data[cold:]
    for i, row in enumerate(data, cold):
        where = f"iteration {i}"
        compute = _number(row["computeMs"], path, where) if "computeMs" in row else None
        latency = _number(row["latencyMs"], path, where) if "latencyMs" in row else compute
        if latency is None:
            raise ProfileError(f"{path}: {where} has no latencyMs; it has {', '.join(row) or 'nothing'}.")
        for key, fallback in (("h2dMs", 0.0), ("d2hMs", 0.0), ("computeMs", latency)):
            columns[key].append(_number(row[key], path, where) if key in row else fallback)
        columns["latencyMs"].append(latency)
    starts = [r.get("startH2dMs", r.get("startInMs")) for r in data]
    ends = [r.get("endD2hMs", r.get("endOutMs")) for r in data]
    timed = all(value is not None for value in (*starts, *ends))
    if timed:
        starts, ends = ([_number(value, path, "a start or end") for value in values] for values in (starts, ends))
    return Times(
        latency=tuple(columns["latencyMs"]), compute=tuple(columns["computeMs"]), h2d=tuple(columns["h2dMs"]),
        d2h=tuple(columns["d2hMs"]), wall_ms=max(ends) - min(starts) if timed else None, warm_up=cold,
        path=str(path),
    )  # fmt: skip


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read metadata about a build, a profiling run or a GPU: ``kind`` and the document's own parts.

    Raises:
        ProfileError: it can't be read or is another kind of file.
    """
    data = read_json(path)
    kind = kind_of_file(data)
    if kind not in {"profile-metadata", "build-metadata", "device-metadata"}:
        expect(data, "profile-metadata", path)
    if kind == "device-metadata":
        first = dict(data[0])
        pair = first.get("ComputeCapability")
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            pair = [first.get(f"COMPUTE_CAPABILITY_{part}", "") for part in ("MAJOR", "MINOR")]
        return {
            "kind": kind,
            "device": {**first, "name": _name(first.get("Name")), "sm": _sm(".".join(map(str, pair)))},
        }
    found = {**{key: value for key, value in data.items() if key != "device"}, "kind": kind}
    device = data.get("device_information")
    if isinstance(device, Mapping):
        found["device"] = {
            "name": _name(device.get("Selected Device")), "sm": _sm(str(device.get("Compute Capability"))),
        }  # fmt: skip
    return found


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _sm(capability: str) -> str | None:
    """``sm80`` for 8.0; None if it is unknown."""
    return "sm" + capability.replace(".", "") if re.fullmatch(r"[0-9]{1,2}\.[0-9]", capability) else None


def _number(value: Any, path: str | Path, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_MS:
        raise ProfileError(f"{path}: {where} holds {value!r:.60} in place of a time or count.", code="profile-number")
    return float(value)
