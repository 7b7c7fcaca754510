"""Small parts that panels are made of: bars, a log, tables and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.core.errors import WorkbenchError
from workbench.panels.closing import close_tree

if TYPE_CHECKING:
    from workbench.core.jobs import Progress


class Bars(w.VBox):  # type: ignore[misc]
    """The progress of the newest phases, as bars."""

    children: Any

    def __init__(self, most: int = 6) -> None:
        self._most = most
        super().__init__(layout=w.Layout(width="100%"))

    def show(self, phases: Sequence[Progress]) -> None:
        """Show these phases, in the order in which they began, without those of unknown length."""
        steps = [p for p in phases if p.total > 0][-self._most :]
        while len(self.children) < len(steps):
            label = w.HTML(layout=w.Layout(flex="0 0 290px", width="290px"))
            bar = w.FloatProgress(layout=w.Layout(width="100%", height="14px", margin="6px 0"))
            self.children = (*self.children, w.HBox([label, bar], layout=w.Layout(width="100%")))
        extra = self.children[len(steps) :]
        self.children = self.children[: len(steps)]
        for row in extra:
            close_tree(row)
        # Change them in place: new widgets at every step would flicker and pile up.
        for row, step in zip(self.children, steps, strict=True):
            label, bar = row.children
            label.value = f"<span class='wbp-quiet'>{escape(step.phase)} {step.done}/{step.total}</span>"
            bar.max, bar.value = max(step.total, 1), step.done
            bar.bar_style = "success" if step.done >= step.total else "info"


class LogBox(w.VBox):  # type: ignore[misc]
    """The last lines of a log, with a filter."""

    LINES = 300

    def __init__(self) -> None:
        wide = w.Layout(width="100%")
        self.filter = w.Text(
            placeholder="filter the log, such as Warning or Memory", continuous_update=False, layout=wide
        )
        self._shown = w.HTML(layout=wide)
        self._text = ""
        super().__init__([self.filter, self._shown], layout=wide)
        self.filter.observe(lambda _: self.show(self._text), "value")

    def show(self, text: str) -> None:
        """Show the lines of `text` that contain the filter's text."""
        self._text = text
        wanted = self.filter.value.lower()
        lines = [line for line in text.splitlines() if wanted in line.lower()]
        head = f"{len(lines)} lines" + (f", the last {self.LINES} shown" if len(lines) > self.LINES else "")
        last = "\n".join(line[:400] for line in lines[-self.LINES :])
        self._shown.value = (
            f"<span class='wbp-quiet'>{head}</span><pre class='wbp-log' tabindex='0'>{escape(last)}</pre>"
        )


def empty(text: str) -> w.HTML:
    """What a panel shows while it has nothing to show."""
    return w.HTML(f"<div class='wbp-empty'>{text}</div>", layout=w.Layout(width="100%"))


def lay_out(widget: w.Widget, **style: str) -> None:
    """Replace the layout of a widget, and close the old one."""
    before, widget.layout = widget.layout, w.Layout(**style)
    before.close()


def beside(view: w.Widget, details: w.Widget) -> w.HBox:
    """A wide view with its details to the right, or below where there is no room for both."""
    lay_out(view, flex="1 1 680px", min_width="0")
    lay_out(details, flex="1 1 300px", min_width="0", max_width="100%")
    return w.HBox(
        [view, details], layout=w.Layout(width="100%", flex_flow="row wrap", align_items="stretch", grid_gap="10px")
    )


NO_ENGINE = (
    'No engine yet. Build one in the Build panel, or in a cell: <code>session.build("resnet50", target="sm89")</code>'
)


def fact_row(facts: Sequence[Mapping[str, Any]]) -> str:
    """Headline figures, as HTML."""
    cells = "".join(
        f"<div class='wbp-fact'><b>{escape(str(f['value']))}</b><span>{escape(str(f['name']))}"
        f"{', ' + escape(str(f['note'])) if f.get('note') else ''}</span></div>"
        for f in facts
    )
    return f"<div class='wbp-facts'>{cells}</div>"


def table_html(
    headings: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] = (), *, wrap: bool = False
) -> str:
    """A small table, as HTML; columns in `numeric` are right-aligned. With `wrap`, long texts break instead of scrolling."""

    def cell(tag: str, i: int, text: str) -> str:
        return f"<{tag}{' class=n' if i in numeric else ''}>{escape(text)}</{tag}>"

    head = "".join(cell("th" if h else "td", i, h) for i, h in enumerate(headings))
    body = "".join("<tr>" + "".join(cell("td", i, c) for i, c in enumerate(row)) + "</tr>" for row in rows)
    wide = " wbp-wrap" if wrap else ""
    return f"<div class='wbp-scroll'><table class='wbp-table{wide}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def warning(texts: Sequence[str]) -> str:
    """What a user must know before going on, as HTML; "" if there is nothing."""
    return "".join(f"<div class='wbp-warn'><b>Note</b> {escape(text)}</div>" for text in texts)


def wide() -> w.Layout:
    """A layout as wide as its place. Each widget needs its own: hiding one would hide all that share a layout."""
    return w.Layout(width="100%")


def profile_error(reason: str) -> WorkbenchError:
    """The profile of an engine can't be shown."""
    return WorkbenchError(
        f"The profile of this engine can't be shown: {reason}",
        hint="Measure again in the Profile panel, or with session.measure.profile(). Everything else is shown.",
        code="profile-unreadable",
    )


def halves(table: w.Widget, figure: w.Widget, least: int = 600) -> w.HBox:
    """A table and its chart side by side, or stacked if the table would have less than `least` pixels."""
    for part, width in ((table, least), (figure, 400)):
        lay_out(part, flex=f"1 1 {width}px", min_width="0", max_width="100%")
    return w.HBox(
        [table, figure], layout=w.Layout(width="100%", flex_flow="row wrap", align_items="flex-start", grid_gap="12px")
    )
