"""What a page without widgets shows of a plan: plain HTML that can be mailed, committed or printed."""

from __future__ import annotations

from workbench.charts.svg import ROWS, escape, strip
from workbench.plan import Layer
from workbench.plan.columns import Column, Rows, columns
from workbench.plan.traffic import moved_text
from workbench.present.facts import change_text
from workbench.present.lens import Lens
from workbench.present.wire.graphs import shown

_CELL = "style='text-align:left;padding:2px 8px'"


def html(lens: Lens, rows: int = ROWS) -> str:
    """An SVG of the plan and a table of its layers."""
    plan = lens.plan
    s = plan.summary
    target = f" for {plan.compiler['target']}" if plan.compiler["target"] else ""  # a file of layers need not name it
    head = (
        f"<p><b>{escape(str(plan.model['name']))}</b>{escape(target)} by "
        f"{escape(str(plan.compiler['name']))} {escape(str(plan.compiler['version']))}: "
        f"{change_text(s['launches_before'], s['launches_after'], str)} {plan.launches_name}, "
        f"{escape(moved_text(s))} (computed).</p>"
    )
    table_rows = Rows(plan)
    found = columns(table_rows, "html")
    heads = "".join(f"<th {_CELL}>{escape(_heading(c))}</th>" for c in found)
    cells = "".join(
        "<tr>" + "".join(f"<td {_CELL}>{escape(_cell(c, layer, table_rows))}</td>" for c in found) + "</tr>"
        for layer in shown(plan)[:rows]
    )
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>"
    rest = len(shown(plan)) - rows
    more = f"<p>{rest} more layers are not shown here.</p>" if rest > 0 else ""
    return f"<div>{head}{strip(plan, rows)}{table}{more}</div>"


def _heading(column: Column) -> str:
    """``Layer`` -> layer, ``ONNX nodes`` as it is; what is no plain count says how it came to be."""
    label = column.label if column.label[1:2].isupper() else column.label[:1].lower() + column.label[1:]
    return f"{label}, {column.source}" if column.source in {"measured", "estimated"} else label


def _cell(column: Column, layer: Layer, rows: Rows) -> str:
    if column.name == "names":
        rest = len(layer.nodes) - 4
        return ", ".join(layer.nodes[:4]) + (f" and {rest} more" if rest > 0 else "") or "none"
    text = column.display(layer, rows)
    return text or "?" if column.type in {"number", "bytes"} else text
