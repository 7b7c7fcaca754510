"""Drawings of a plan as plain SVG text: for the report, and for pages where no script runs.

They hold no script, no font and no address, and their colors work on light and dark pages.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape as _escape
from typing import Any

from workbench.analysis.times import (
    LayerTimes,
    by_kind,
    ceilings,
    device_of,
    measured_times,
    roofline_points,
    slowest,
)
from workbench.charts.palette import ACCENT, GREY, LINE, QUIET, TEXT, kind_color, precision_color
from workbench.charts.plan import bytes_by_kind
from workbench.charts.time import WAYS, ways_of
from workbench.core.dtypes import label_of
from workbench.core.units import bytes_text, count_text, ms_text
from workbench.hardware.devices import DeviceSpec
from workbench.plan import Plan, liveness
from workbench.plan.columns import capital
from workbench.plan.traffic import at_least, moved

_FONT = "font-family='system-ui,-apple-system,Segoe UI,Roboto,sans-serif'"
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ROWS = 60
"""Layers that the static picture and table show."""


def escape(text: str) -> str:
    """Text for HTML and SVG: some compilers put control characters in names, and XML can't hold them at all."""
    return _escape(_NO_XML.sub("", text))


def strip(plan: Plan, rows: int = ROWS) -> str:
    """The plan as a strip of kernels: height 1 row, width by bytes moved, color by kind; and a legend."""
    layers = [layer for layer in plan.layers if layer.kind != "sync"][: max(rows, 1)]
    total = sum(max(la.bytes or 0, 1) for la in layers) or 1
    width, height, gap = 880.0, 46.0, 1.0
    x = 0.0
    boxes = []
    usable = width - gap * len(layers)
    smallest = 3.0
    spare = max(usable - smallest * len(layers), 0.0)
    for la in layers:
        w = smallest + spare * max(la.bytes or 0, 1) / total
        title = escape(f"{capital(la.title)}: {len(la.nodes)} nodes, {bytes_text(la.bytes)}")
        boxes.append(
            f"<rect x='{x:.1f}' y='4' width='{w:.1f}' height='{height:.0f}' rx='2' "
            f"fill='{kind_color(la.kind)}'><title>{title}</title></rect>"
        )
        x += w + gap
    kinds = list(dict.fromkeys(la.kind for la in layers))
    legend, at = [], 0.0
    step = min(1.0, width / max(sum(28 + 6.6 * len(kind) for kind in kinds), 1))
    for kind in kinds:
        legend.append(
            f"<rect x='{at:.0f}' y='62' width='10' height='10' rx='2' fill='{kind_color(kind)}'/>"
            f"<text x='{at + 15:.0f}' y='71' font-size='11' fill='{TEXT}'>{escape(kind)}</text>"
        )
        at += step * (28 + 6.6 * len(kind))
    label = escape(f"{len(layers)} kernels in order; width is bytes moved, color is kind")
    return _svg(width, 80, label, "".join(boxes + legend))


def bars(title: str, rows: Sequence[tuple[str, float, str, str]], *, width: float = 420.0) -> str:
    """Horizontal bars. Each row: label, value, text of the value, color."""
    top, step = 26.0, 24.0
    largest = max((value for _, value, _, _ in rows), default=1) or 1
    left, right = 150.0, 110.0
    parts = [f"<text x='0' y='12' font-size='13' font-weight='600' fill='{TEXT}'>{escape(title)}</text>"]
    for i, (label, value, text, color) in enumerate(rows):
        y = top + i * step
        w = max((width - left - right) * value / largest, 1.0)
        parts.append(
            f"<text x='{left - 8:.0f}' y='{y + 12:.0f}' font-size='11' text-anchor='end' fill='{TEXT}'>{escape(label if len(label) <= 22 else label[:21] + '…')}</text>"
            f"<rect x='{left:.0f}' y='{y:.0f}' width='{w:.1f}' height='16' rx='2' fill='{color}'/>"
            f"<text x='{left + w + 6:.1f}' y='{y + 12:.0f}' font-size='11' fill='{QUIET}'>{escape(text)}</text>"
        )
    return _svg(width, top + step * len(rows) + 4, title, "".join(parts))


def charts(plan: Plan) -> list[dict[str, str]]:
    """The report's charts: ``title``, ``svg``, ``alt``."""
    s = plan.summary
    by_kind = [
        (f"{kind} ({count})", float(n), text, kind_color(kind))
        for kind, (n, count, text) in bytes_by_kind(plan).items()
    ]
    by_type = [
        (label_of(dtype) or "unknown", float(n), f"{n} layer{'s' * (n != 1)}", precision_color(dtype))
        for dtype, n in s["precisions"].items()
    ]
    by_module = _by_module(plan, {layer.id: layer.bytes for layer in plan.layers}, bytes_text)
    before, after = moved(s)
    launches = plan.launches_name.capitalize()
    out = [
        (launches, bars(launches, [
            *_written(s["launches_before"], str),
            ("as compiled", float(s["launches_after"]), str(s["launches_after"]), ACCENT)])),
        ("Bytes moved", bars("Bytes moved, computed", [
            *_written(s["bytes_before"], lambda _: str(before)),
            ("as compiled", float(s["bytes_after"]), after, ACCENT)])),
        ("Bytes by kind", bars("Bytes moved by kind of layer", by_kind)),
        ("Layers by precision", bars("Layers by precision", by_type)),
        ("Activation memory", memory(plan)),
    ]  # fmt: skip
    if by_module:
        out.insert(4, ("Bytes by module", bars("Bytes moved by module", by_module)))
    out = [*_time_charts(plan), *out]
    return [{"title": title, "svg": svg, "alt": title} for title, svg in out]


def _by_module(
    plan: Plan, amounts: Mapping[str, float | None], text_of: Callable[[float], str]
) -> list[tuple[str, float, str, str]]:
    """Bars of a quantity by block: the module's scope up to its first number."""
    found: dict[str, float] = {}
    for layer in plan.layers:
        scope = layer.scope
        if scope:
            parts = scope.split(".")
            block = ".".join(parts[: next((i + 1 for i, p in enumerate(parts) if p.isdigit()), 1)])
            found[block] = found.get(block, 0.0) + (amounts.get(layer.id) or 0)
    largest = sorted(found.items(), key=lambda item: -item[1])[:12]
    return [(name, value, text_of(value), ACCENT) for name, value in largest]


def _time_charts(plan: Plan) -> list[tuple[str, str]]:
    """Charts of measured time; none where nothing was measured."""
    times = measured_times(plan)
    out: list[tuple[str, str]] = []
    ways = ways_of(plan.facts.get("measured") or {})
    rows = [
        (f"{WAYS.get(name, name)}, {word}", float(ms), ms_text(ms), ACCENT if word == "median" else GREY)
        for name, way in ways.items()
        for ms, word in ((way["median_ms"], "median"), (way["p90_ms"], "p90"), (way["p99_ms"], "p99"))
    ]  # fmt: skip
    if rows:
        out.append(("Latency", bars("Latency, measured", rows)))
    if times is None:
        return out
    position = {layer.id: i for i, layer in enumerate(plan.layers)}
    top, rest, count = slowest(plan, times, 14)
    total = times.total or 1.0
    rows = [
        (f"#{position[la.id]} {la.title}", ms, f"{ms_text(ms)}  {ms / total:.0%}", kind_color(la.kind))
        for la, ms in top
    ]
    if count:
        rows.append((f"{count} other{'s' * (count > 1)}", 0.0, f"{ms_text(rest)}  {rest / total:.0%} together", GREY))
    out.append(("Slowest layers", bars("Slowest layers, measured", rows)))
    kinds = by_kind(plan, times)
    rows = [(kind, ms, f"{ms_text(ms)}  {ms / total:.0%}", kind_color(kind)) for kind, ms in kinds.items()]
    out.append(("Time by kind", bars("Time by kind of layer, measured", rows)))
    if modules := _by_module(plan, times.ms, ms_text):
        out.append(("Time by module", bars("Time by module, measured", modules)))
    if (on := device_of(plan)) is not None and (drawn := roofline(plan, times, on)):
        out.append(("Roofline", drawn))
    return out


def roofline(plan: Plan, times: LayerTimes, on: DeviceSpec, *, width: float = 420.0, height: float = 280.0) -> str:
    """Layers under the ceilings of a GPU, both axes logarithmic; "" where no layer can be placed."""
    points, left = roofline_points(plan, times, on)
    peaks = ceilings(plan, on)
    if not points or not peaks:
        return ""
    x0 = math.log10(
        min(min(p.intensity for p in points) / 2, 0.5 * peaks[0][1] / on.bandwidth)
    )  # with a piece of the slope
    x1 = math.log10(max([2 * p.intensity for p in points] + [3 * peak / on.bandwidth for _, peak in peaks]))
    y0 = math.log10(min(p.rate for p in points) / 2)
    y1 = math.log10(max([2 * peaks[0][1]] + [1.5 * p.rate for p in points]))  # some reach more than the table says
    top, bottom, side = 40.0, height - 34.0, 56.0

    def at(intensity: float, rate: float) -> tuple[float, float]:
        x = side + (width - side - 4) * (math.log10(intensity) - x0) / (x1 - x0)
        return x, bottom - (bottom - top) * (math.log10(rate) - y0) / (y1 - y0)

    dash = "" if on.measured else " stroke-dasharray='5 4'"
    basis = "measured ceilings" if on.measured else "datasheet ceilings: an estimate"
    parts = [
        f"<text x='0' y='12' font-size='13' font-weight='600' fill='{TEXT}'>Roofline, layers {times.word}</text>"
        f"<text x='0' y='27' font-size='11' fill='{QUIET}'>{escape(on.name)}, {basis}</text>"
    ]
    for exponent in range(math.ceil(y0), math.floor(y1) + 1):
        _, y = at(10**x0, 10.0**exponent)
        label = count_text(10.0**exponent).replace(" ", "")
        parts.append(f"<line x1='{side:.0f}' x2='{width:.0f}' y1='{y:.1f}' y2='{y:.1f}' stroke='{LINE}'/>"
                     f"<text x='{side - 6:.0f}' y='{y + 4:.1f}' font-size='10' text-anchor='end' fill='{QUIET}'>{label}</text>")  # fmt: skip
    for exponent in range(math.ceil(x0), math.floor(x1) + 1):
        x, _ = at(10.0**exponent, 10**y0)
        parts.append(
            f"<text x='{x:.1f}' y='{bottom + 14:.1f}' font-size='10' text-anchor='middle' fill='{QUIET}'>{10.0**exponent:g}</text>"
        )
    low = max(10**x0, 10**y0 / on.bandwidth)
    line = f"stroke='{QUIET}' stroke-width='1.2'{dash}"
    (xa, ya), (xb, yb) = at(low, low * on.bandwidth), at(peaks[0][1] / on.bandwidth, peaks[0][1])
    parts.append(f"<line x1='{xa:.1f}' y1='{ya:.1f}' x2='{xb:.1f}' y2='{yb:.1f}' {line}/>")
    for name, peak in peaks:
        (xa, ya), (xb, _) = at(peak / on.bandwidth, peak), at(10**x1, peak)
        parts.append(f"<line x1='{xa:.1f}' y1='{ya:.1f}' x2='{xb:.1f}' y2='{ya:.1f}' {line}/><text x='{width:.0f}' y='{ya - 4:.1f}' "
                     f"font-size='10' text-anchor='end' fill='{QUIET}'>{escape(name)} {count_text(peak)}FLOP/s</text>")  # fmt: skip
    longest = max(p.ms for p in points)
    for p in points:
        x, y = at(p.intensity, p.rate)
        size = 2.5 + 5 * math.sqrt(p.ms / longest)
        color = kind_color(p.layer.kind)
        look = f"fill='none' stroke='{color}'" if times.estimated else f"fill='{color}' fill-opacity='0.8'"
        parts.append(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{size:.1f}' {look}><title>{escape(capital(p.layer.title))}: {ms_text(p.ms)}</title></circle>"
        )
    axes = "FLOP/s against FLOPs per byte" + (f"; {left} layers without either left out" if left else "")
    parts.append(f"<text x='{side:.0f}' y='{height - 4:.0f}' font-size='10' fill='{QUIET}'>{axes}</text>")
    return _svg(width, height, "Roofline", "".join(parts))


def memory(plan: Plan, *, width: float = 420.0, height: float = 150.0) -> str:
    """Activation bytes alive at each layer as a step line."""
    live = liveness(plan.layers, [entry["name"] for entry in plan.io])
    title = f"Activation memory by liveness, peak {at_least(live.peak, len(live.unknown))}"
    parts = [f"<text x='0' y='12' font-size='13' font-weight='600' fill='{TEXT}'>{escape(title)}</text>"]
    if live.peak and len(live.live) > 1:
        top, bottom = 28.0, height - 18.0
        step = width / len(live.live)
        points = []
        for i, value in enumerate(live.live):
            y = bottom - (bottom - top) * value / live.peak
            points.append(f"{i * step:.1f},{y:.1f} {(i + 1) * step:.1f},{y:.1f}")
        line = " ".join(points)
        parts.append(
            f"<polygon points='0,{bottom:.1f} {line} {width:.1f},{bottom:.1f}' fill='{ACCENT}' fill-opacity='0.18'/>"
        )
        parts.append(f"<polyline points='{line}' fill='none' stroke='{ACCENT}' stroke-width='1.5'/>")
        parts.append(f"<line x1='0' x2='{width:.0f}' y1='{bottom:.1f}' y2='{bottom:.1f}' stroke='{LINE}'/>")
        parts.append(f"<text x='0' y='{height - 4:.0f}' font-size='11' fill='{QUIET}'>layer 0</text>")
        parts.append(
            f"<text x='{width:.0f}' y='{height - 4:.0f}' font-size='11' text-anchor='end' fill='{QUIET}'>layer {len(live.live) - 1}</text>"
        )
    return _svg(width, height, title, "".join(parts))


def _svg(width: float, height: float, label: str, body: str) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' "
        f"height='{height:.0f}' style='max-width:100%;height:auto' role='img' aria-label='{escape(label)}' {_FONT}>{body}</svg>"
    )


def _written(value: Any, text: Callable[[Any], str]) -> list[tuple[str, float, str, str]]:
    return [] if value is None else [("as written", float(value), text(value), GREY)]
