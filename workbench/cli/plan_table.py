"""Prints a plan: its sums, its layers as a table, and notes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.cli.options import Format, console, write_csv, write_json

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.hardware.devices import DeviceSpec
    from workbench.plan import Layer, Plan
    from workbench.plan.columns import Column, Rows


def device_of(name: str | None) -> DeviceSpec | None:
    """The GPU of that name or architecture; None for None."""
    from workbench.hardware.devices import device

    return None if name is None else device(name)


def write_plan(plan: Plan, output: Format, device: DeviceSpec | None) -> None:
    """Write the plan to standard output as JSON or CSV, with estimates for `device` if there is one."""
    from workbench.analysis import roofline

    found = roofline.estimates(plan, device) if device else {}
    if output is Format.JSON:
        document = plan.to_dict()
        facts = {**document["facts"], **({"estimate": roofline.document(found, device)} if device else {})}
        write_json({**document, "facts": facts})
        return
    frame = plan.to_frame()
    if device:
        frame["estimated_ms"] = [found[layer.id].time_ms for layer in plan.layers]
        frame["efficiency"] = [found[layer.id].efficiency for layer in plan.layers]
    write_csv(frame)


def print_plan(engine: Engine, *, full: bool, device: DeviceSpec | None = None) -> None:
    """Print the plan of an engine, with how it was built."""
    from rich.markup import escape

    plan, out = engine.plan, console()
    how = "from the cache" if engine.cached else f"built in {plan.seconds['total']:.1f} s"
    compiler = "for {target} by {name} {version}".format_map(plan.compiler)
    out.print(
        f"\n[bold]{escape(str(plan.model['name']))}[/] " + escape(f"{compiler}, {engine.config.precision}, {how}")
    )
    print_layers(plan, full=full, device=device)


def print_layers(plan: Plan, *, full: bool, device: DeviceSpec | None = None) -> None:
    """Print the sums of a plan, its layers as a table, and notes. Times and estimates have columns if they are known."""
    from rich.markup import escape
    from rich.table import Table

    from workbench.analysis import roofline
    from workbench.core.units import bytes_text, flops_text
    from workbench.plan import traffic
    from workbench.plan.columns import Rows, columns
    from workbench.plan.memory import disagreement
    from workbench.plan.reasons import NO_KERNEL

    out = console()
    s = plan.summary
    names = {name for layer in plan.layers for name in layer.nodes}
    modelled = s["launches_before"] is not None
    before = f"{s['launches_before']} → " if modelled else ""
    told = any(layer.bytes is not None for layer in plan.layers)
    peak = traffic.at_least(s["peak_activation_bytes"], s.get("peak_unknown", 0))
    out.print(
        f"[bold]{before}{s['launches_after']}[/] {plan.launches_name}   "
        + (f"[bold]{escape(traffic.moved_text(s))}[/]   " if told else "")
        + (f"{flops_text(s['flops'], s.get('flops_unknown') or 0)}   " if modelled else "")
        + (f"peak activations {peak}   weights {bytes_text(s['weight_bytes'])}" if told else "")
    )
    found = roofline.estimates(plan, device) if device else {}
    rows = Rows(
        plan,
        estimates={name: estimate.time_ms for name, estimate in found.items()},
        efficiencies={name: estimate.efficiency for name, estimate in found.items()},
    )
    # Without the model there are only names of nodes and no sources, so these columns would be empty.
    by_name = not modelled and all(layer.title == " + ".join(layer.nodes) for layer in plan.layers if layer.nodes)
    placed = any(layer.sources for layer in plan.layers)
    shown = [
        c for c in columns(rows, "cli") if not (c.name == "names" and by_name) and (c.name != "source" or placed)
    ]  # fmt: skip
    table = Table(box=None, pad_edge=False, header_style="bold dim")
    for c in shown:
        look: dict[str, Any] = dict(_LOOKS.get(c.name, {}))
        if c.name == "title":
            look |= {"ratio": 1} if by_name else {"max_width": 44}
        justify: Literal["left", "right"] = "right" if c.type in {"number", "bytes"} else "left"
        heading = _HEADINGS.get(c.name, c.label.lower())
        table.add_column(
            heading, justify=justify, style="italic" if c.source == "estimated" else look.pop("style", None), **look
        )
    hidden = 0
    for layer in plan.layers:
        if layer.kind in {"sync", "noop", "control"} and not full:
            hidden += 1
            continue
        table.add_row(*(_cell(c, layer, rows, full=full) for c in shown))
    out.print(table)
    notes = [text.removesuffix(".") for text in plan.problems[:8]]
    if hidden:
        notes.append(
            f"{hidden} layers that launch nothing (stream events, jumps, no-operations) are not shown (--full)"
        )
    if device:
        notes += roofline.notes(found, device)
    if not modelled:
        notes.append(
            "without the model (--model) nodes are the names that the compiler reports, and operations are not counted"
        )
    if plan.unclaimed:
        needless = {reason: n for reason, n in s["unclaimed"].items() if reason in NO_KERNEL}
        rest = {reason: n for reason, n in s["unclaimed"].items() if reason not in NO_KERNEL}
        if needless:
            reasons = ", ".join(f"{n} {reason}" for reason, n in needless.items())
            notes.append(f"{sum(needless.values())} of {s['nodes']} nodes need no kernel of their own: {reasons}")
        if rest:
            reasons = ", ".join(f"{n} {reason}" for reason, n in rest.items())
            notes.append(f"which kernel runs {sum(rest.values())} of {s['nodes']} nodes is not known: {reasons}")
    guessed = len({name for layer in plan.layers for name in layer.inferred})
    if guessed:
        notes.append(
            f"{guessed} node{'s are' if guessed > 1 else ' is'} placed in a kernel by inference: the compiler does not name "
            f"{'them' if guessed > 1 else 'it'} there"
        )
    if s.get("other_branches"):
        notes.append(
            f"of each If one branch runs: {s['other_branches']} launches of the smaller branches are not in the sums"
        )
    if s.get("repeated"):
        notes.append(f"{s['repeated']} kernels run at each turn of a loop and count as one launch each")
    if wrong := disagreement(plan.facts):
        notes.append(wrong)
    if s["merged"]:
        notes.append(f"{s['merged']} layers do sibling operations in one launch")
    if s["bytes_unknown"]:
        notes.append(f"bytes of {s['bytes_unknown']} nodes or layers are not known and not in the sums")
    if not names and any(layer.kind != "sync" for layer in plan.layers):
        notes.append("no layer carries the name of a node of the model, so which node runs where is not known")
    for note in notes:
        out.print(f"[dim]{escape(note)}[/]")


_HEADINGS = {"names": "nodes", "time": "ms", "share": "%", "least": "est. ms", "efficiency": "of peak"}
"""Headings that are shorter than the columns' names, since a terminal is narrow."""


_LOOKS: dict[str, dict[str, Any]] = {
    "index": {"style": "dim"}, "title": {"overflow": "fold"}, "names": {"overflow": "fold", "ratio": 1},
    "source": {"overflow": "fold", "max_width": 36},
}  # fmt: skip


def _cell(column: Column, layer: Layer, rows: Rows, *, full: bool) -> str:
    """A cell of the table of layers, with Rich markup."""
    from rich.markup import escape

    from workbench.charts.palette import TERMINAL

    if column.name == "kind":
        return f"[{TERMINAL.get(layer.kind, 'default')}]{escape(layer.kind)}[/]"
    if column.name == "title":
        return escape(layer.title)
    if column.name == "names":
        return escape(_nodes(layer, full=full)) or "[dim]none: overhead[/]"
    if column.name == "source":
        return escape(_where(layer))
    if column.unit in {"ms", "%"}:  # one unit for the whole column, so that figures compare
        value = column.get(layer, rows)
        digits = 4 if column.unit == "ms" else 1 if column.source == "measured" else 0
        return "" if value is None else f"{value:.{digits}f}" + "%" * (digits == 0)
    text = column.display(layer, rows)
    return escape(text) if text or column.type != "bytes" else "?"


def _nodes(layer: Layer, *, full: bool) -> str:
    names = list(layer.nodes)
    if full or len(names) <= 4:
        return " + ".join(names)
    return " + ".join(names[:3]) + f" + {len(names) - 3} more"


def _where(layer: Layer) -> str:
    """Module scope, and the lines of the file that holds most of the layer."""
    files: dict[str, set[int]] = {}
    for source in layer.sources:
        if source.file:
            files.setdefault(Path(source.file).name, set()).add(source.line)
    if not files:
        return next((s.scope for s in layer.sources if s.scope), "")
    name = max(files, key=lambda f: len(files[f]))
    lines = sorted(files[name])
    return f"{name}:{','.join(map(str, lines[:4]))}" + ("…" if len(lines) > 4 else "")
