"""What all panels share: a frame with a title, the engine chooser, errors in sight, and "show as code"."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any, TypeVar

import ipywidgets as w

from workbench.charts import palette
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event
from workbench.core.store import IMPORTED
from workbench.present.lens import Lens

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from workbench.core.jobs import Progress
    from workbench.engine import Engine
    from workbench.plan import Plan
    from workbench.workspace import Workspace

F = TypeVar("F", bound=Callable[..., Any])

# Every color has a fallback: Voila's page may not define Jupyter's variables.
_STYLE = Template("""<style>
.wbp { --wbp-text: var(--jp-content-font-color1, ${text}); --wbp-quiet: var(--jp-content-font-color2, ${quiet});
  --wbp-line: var(--jp-border-color2, ${line}); --wbp-face: var(--jp-layout-color1, ${face});
  --wbp-accent: ${accent}; --wbp-problem: ${problem}; --wbp-cost: ${cost}; --wbp-warning: ${warning}; font-size: 13px; color: var(--wbp-text); }
body[data-jp-theme-light="false"] .wbp { --wbp-accent: ${accent_dark}; --wbp-problem: ${problem_dark};
  --wbp-cost: ${cost_dark}; --wbp-warning: ${warning_dark}; }
.wbp.widget-box, .wbp .widget-box { overflow: visible; }
.wbp-head { border-bottom: 1px solid var(--wbp-line); padding: 0 0 6px; margin: 0 0 8px; align-items: center; }
.wbp h3.wbp-title { margin: 0; font-size: 15px; font-weight: 600; line-height: 28px; color: var(--wbp-text); }
.wbp .wbp-quiet { color: var(--wbp-quiet); }
.wbp .widget-html, .wbp .widget-html-content { line-height: 1.45; height: auto; }
.wbp .widget-html-content p { margin: 8px 0; overflow-wrap: anywhere; }
.wbp-head .widget-dropdown > select { padding-right: 22px; }
body[data-jp-theme-light="false"] .wbp select { color-scheme: dark; }
body[data-jp-theme-light="false"] .wbp .widget-dropdown > select { background-image: url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='10' height='6'%3E%3Cpath d='M1 1l4 4 4-4' fill='none' stroke='%23bbb' stroke-width='1.5'/%3E%3C/svg%3E"); background-size: 10px 6px;
  background-position: right 8px center; }
.wbp .widget-tab .widget-tab-contents.jupyter-widget-TabPanel-tabContents { padding: 10px 0 0; border: 0; overflow: visible;
  background: transparent; }
.wbp .wbp-plot .jp-OutputArea, .wbp .wbp-plot .jp-OutputArea-child, .wbp .wbp-plot .jp-RenderedPlotly { height: 100%; }
/* Above, plotly's buttons would lie on the legend. */
.wbp .js-plotly-plot .modebar-container { height: 100%; pointer-events: none; }
.wbp .js-plotly-plot .plotly .modebar { top: auto; bottom: 2px; pointer-events: auto; }
.wbp .wbp-scroll { overflow-x: auto; }
.wbp .wbp-facts { display: flex; flex-wrap: wrap; gap: 8px 24px; margin: 4px 0 8px; }
.wbp .wbp-fact b { display: block; font-size: 17px; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; }
.wbp .wbp-fact span { color: var(--wbp-quiet); font-size: 12px; }
.wbp .wbp-error { border: 1px solid ${problem}; border-left-width: 4px; border-radius: 6px; padding: 8px 12px; margin: 6px 0;
  background: rgba(192, 57, 43, .08); white-space: pre-wrap; overflow-wrap: anywhere; }
.wbp .wbp-error b { color: var(--wbp-problem); }
.wbp .wbp-warn { border: 1px solid ${warning_line}; border-left-width: 4px; border-radius: 6px; padding: 8px 12px; margin: 6px 0;
  background: rgba(217, 144, 47, .1); overflow-wrap: anywhere; }
.wbp .wbp-warn b { color: var(--wbp-warning); }
.wbp button.wbp-link { background: none; border: 0; box-shadow: none; padding: 0 4px 0 0; text-align: left; width: auto; height: auto;
  line-height: 1.5; color: var(--wbp-accent); white-space: normal; overflow: visible; }
.wbp button.wbp-link:hover { text-decoration: underline; box-shadow: none; }
.wbp button.wbp-on { background: var(--wbp-accent); color: var(--wbp-face); }
.wbp h4.wbp-part { margin: 14px 0 4px; font-size: 13px; font-weight: 600; color: var(--wbp-text); }
.wbp .jupyter-widget-tab > .lm-TabBar .lm-TabBar-tab, .wbp-app > .lm-TabBar .lm-TabBar-tab { flex: 0 0 auto !important;
  min-width: 64px; padding: 0 12px; }
.wbp-app > .lm-TabBar > .lm-TabBar-content { flex-wrap: wrap; }
.wbp pre.wbp-raw { max-height: 420px; background: var(--jp-layout-color2, ${raw}); padding: 8px 10px; border-radius: 6px; white-space: pre; overflow-x: auto; }
.wbp pre.wbp-code { background: var(--jp-layout-color2, ${raw}); color: var(--wbp-text); border-radius: 6px; padding: 10px 12px;
  margin: 6px 0; font-size: 12px; line-height: 1.5; overflow-x: auto; white-space: pre; user-select: all; }
.wbp table.wbp-table { border-collapse: collapse; font-size: 12px; width: 100%; }
.wbp table.wbp-table th { text-align: left; font-weight: 600; color: var(--wbp-quiet); }
.wbp table.wbp-table th, .wbp table.wbp-table td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--wbp-line);
  white-space: nowrap; line-height: 1.5; }
.wbp table.wbp-wrap td { white-space: normal; overflow-wrap: anywhere; } .wbp table.wbp-wrap td:first-child { white-space: nowrap; }
.wbp table.wbp-table td.n, .wbp table.wbp-table th.n { text-align: right; font-variant-numeric: tabular-nums; }
.wbp .wbp-empty { border: 1px dashed var(--wbp-line); border-radius: 8px; padding: 28px; text-align: center; color: var(--wbp-quiet); }
.wbp .wbp-empty.wbp-told { text-align: left; padding: 12px 16px; margin: 6px 0; line-height: 1.55; }
.wbp .wbp-empty code { color: var(--wbp-text); }
.wbp pre.wbp-log { margin: 0; font-size: 11px; line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 260px;
  overflow-y: auto; color: var(--wbp-text); background: transparent; }
</style>""").substitute(palette.PANELS)


class Panel(w.VBox):  # type: ignore[misc]
    """A frame around a panel's own widgets.

    Subclasses set `title` and `name`, build their widgets in `body`, and give the code of what was clicked
    with `set_code`. Callbacks are wrapped with `guard`, so that an error shows in the panel.

    Args:
        session: What it shows and follows.
        engines: Whether it shows one of the session's engines and lets the reader choose which.
        lens: A plan to show instead, without an engine; see `show_lens`.
    """

    title = ""

    def __init__(self, session: Workspace, *, engines: bool = True, lens: Lens | None = None) -> None:
        self.session = session
        self._fixed = lens
        self._errors = w.HTML()
        self._code = w.HTML(layout=w.Layout(display="none"))
        self._show_code = w.ToggleButton(
            value=False, description="Show as code", icon="code", tooltip="The Python that repeats what was clicked",
            layout=w.Layout(width="140px"),
        )  # fmt: skip
        self._show_code.observe(self._toggle_code, "value")
        self.chooser = w.Dropdown(
            options=[], description="Engine", tooltip="Engine to show", style={"description_width": "initial"},
            layout=w.Layout(width="auto", max_width="520px", margin="2px 2px 2px 14px"),
        )  # fmt: skip
        heading = w.HTML(f"{_STYLE}<h3 class='wbp-title'>{escape(self.title)}</h3>")
        middle: list[w.Widget] = [self.chooser] if engines else []
        if lens is not None:
            middle = [w.HTML(f"<span class='wbp-quiet'>{escape(_plan_label(lens.plan))}</span>")]
        head = w.HBox([heading, *middle, w.HBox(layout=w.Layout(flex="1")), self._show_code])
        head.add_class("wbp-head")
        self.body = w.VBox()
        super().__init__(
            [head, self._code, self._errors, self.body], layout=w.Layout(width="100%", padding="4px 6px 4px 0")
        )
        self.add_class("wbp")
        self._stop: Callable[[], None] | None = None
        self._listen()
        if lens is not None:
            self.guard(self.show_lens)(lens)
        elif engines:
            self._fill_chooser()
            self.on_choice(self.chooser, self._choose)

    # --- errors and code ----------------------------------------------------------------------------

    def guard(self, function: F) -> F:
        """`function` with its errors shown in the panel instead of lost in a log."""

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - a callback has no caller who could handle it
                self.show_error(error)
                return None

        return guarded  # type: ignore[return-value]

    def show_error(self, error: BaseException | str) -> None:
        """Show what went wrong and what to do next; empty text clears it."""
        if isinstance(error, WorkbenchError):
            hint = f"\n{escape(error.hint)}" if error.hint else ""
            self._errors.value = f"<div class='wbp-error' role='alert'><b>{escape(error.message)}</b>{hint}</div>"
        elif error:
            text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
            self._errors.value = f"<div class='wbp-error' role='alert'><b>{escape(text)}</b></div>"
        else:
            self._errors.value = ""

    @property
    def error(self) -> str:
        """The error that is shown, as HTML; "" where there is none."""
        return str(self._errors.value)

    def set_code(self, lines: Sequence[str]) -> None:
        """The exact Python that repeats what was clicked."""
        text = "\n".join(["from workbench import Session", f"session = Session({self.session.name!r})", *lines])
        self.code = text
        self._code.value = f"<pre class='wbp-code' tabindex='0'>{escape(text)}</pre>"

    def _toggle_code(self, change: dict[str, Any]) -> None:
        self._code.layout.display = None if change["new"] else "none"

    # --- the session --------------------------------------------------------------------------------

    def _listen(self) -> None:
        receive = weakref.WeakMethod(self._heard)

        def listener(event: Event) -> None:
            method = receive()
            if method is not None:
                method(event)

        self._stop = self.session.events.subscribe(listener)

    def _heard(self, event: Event) -> None:
        if event.kind == "deleted":
            name = self.session.name
            self.show_error(
                WorkbenchError(
                    f"Session {name} was deleted elsewhere; what is done here is no longer kept.",
                    hint=f"Open it anew: session = Session({name!r}). Engines are still in the store.",
                )
            )
            return
        self.guard(self.heard)(event)

    def heard(self, event: Event) -> None:
        """React to the session's events; subclasses extend it."""
        if self._fixed is not None:
            return
        if event.kind in {"build-finished", "current"}:
            self._fill_chooser()
        if event.kind == "profile-added" and self._shown_key == event.data.get("engine"):
            self._shown_key = "unset"  # the same engine, with times
            self._shown(self.session.engines.current)

    def _fill_chooser(self) -> None:
        engines = self.session.engines[::-1]
        current = self.session.engines.current
        options = [(_label(e), e.key) for e in engines]
        value = current.key if current else None
        self.chooser.layout.display = None if options else "none"
        self.fill(self.chooser, options, value)
        self._shown(current)

    def _choose(self, key: str | None) -> None:
        if key and (self.session.engines.current is None or self.session.engines.current.key != key):
            self.session.engines.current = key

    def fill(self, box: w.Dropdown, options: Sequence[Any], value: Any) -> None:
        """Give `box` new options and a value without that counting as a reader's choice."""
        self._filling = True
        try:
            if tuple(box.options) != tuple(options):
                box.options = options
            if box.value != value:
                box.value = value
        finally:
            self._filling = False

    _filling = False

    def fill_models(self, box: w.Dropdown, wanted: str | None = None) -> str | None:
        """Give `box` the session's models, newest first; `wanted`, else what was chosen, stays chosen.

        Returns:
            The name that is chosen now; None where there is no model.
        """
        names = list(self.session.models)[::-1]
        value = next((n for n in (wanted, box.value) if n in names), next(iter(names), None))
        self.fill(box, names, value)
        return value

    def on_choice(self, box: w.Dropdown, function: Callable[[Any], None]) -> None:
        """Call `function(value)` when a reader chooses in `box`."""

        def chosen(change: dict[str, Any]) -> None:
            if not self._filling:
                function(change["new"])

        box.observe(self.guard(chosen), "value")

    _shown_key: str | None = "unset"

    def _shown(self, engine: Engine | None) -> None:
        key = engine.key if engine else None
        if key != self._shown_key:
            self._shown_key = key
            self.show_error("")
            self.guard(self.show_engine)(engine)

    def show_engine(self, engine: Engine | None) -> None:
        """Show another engine (None: there is none yet); subclasses override it."""

    def show_lens(self, lens: Lens) -> None:
        """Show a plan that is no engine of the session; subclasses that can do it override it."""

    def close(self) -> None:
        """Leave the session and the page."""
        if self._stop is not None:
            self._stop()
            self._stop = None
        close_tree(self)


def _plan_label(plan: Plan) -> str:
    device = (plan.facts.get("device") or {}).get("name") or plan.compiler.get("target") or ""
    return "   ".join(str(part) for part in (plan.model["name"], device, plan.facts.get("schema")) if part)


def _short_id(engine: Engine) -> str:
    short = engine.id.removeprefix(IMPORTED)[:6]
    return short if short == engine.id[:6] else f"{short}, from an archive"


def _label(engine: Engine) -> str:
    return f"{engine.model}   {engine.config.target}   {engine.config.precision}   {_short_id(engine)}"


class Bars(w.VBox):  # type: ignore[misc]
    """Progress of phases as bars; the newest few."""

    children: Any

    def __init__(self, most: int = 6) -> None:
        self._most = most
        super().__init__(layout=w.Layout(width="100%"))

    def show(self, phases: Sequence[Progress]) -> None:
        """Show these phases, in the order in which they began; those of unknown length are left out."""
        steps = [p for p in phases if p.total > 0][-self._most :]
        while len(self.children) < len(steps):
            label = w.HTML(layout=w.Layout(flex="0 0 290px", width="290px"))
            bar = w.FloatProgress(layout=w.Layout(width="100%", height="14px", margin="6px 0"))
            self.children = (*self.children, w.HBox([label, bar], layout=w.Layout(width="100%")))
        for gone in self.children[len(steps) :]:
            gone.close()
        self.children = self.children[: len(steps)]
        # In place: new widgets at every step would flicker and pile up.
        for row, step in zip(self.children, steps, strict=True):
            label, bar = row.children
            label.value = f"<span class='wbp-quiet'>{escape(step.phase)} {step.done}/{step.total}</span>"
            bar.max, bar.value = max(step.total, 1), step.done
            bar.bar_style = "success" if step.done >= step.total else "info"


class LogBox(w.VBox):  # type: ignore[misc]
    """A log with a filter; its last lines."""

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
        """Show the lines of `text` that hold the filter's words."""
        self._text = text
        wanted = self.filter.value.lower()
        lines = [line for line in text.splitlines() if wanted in line.lower()]
        head = f"{len(lines)} lines" + (f", the last {self.LINES} shown" if len(lines) > self.LINES else "")
        told = "\n".join(line[:400] for line in lines[-self.LINES :])
        self._shown.value = (
            f"<span class='wbp-quiet'>{head}</span><pre class='wbp-log' tabindex='0'>{escape(told)}</pre>"
        )


class Charts(w.Tab):  # type: ignore[misc]
    """Tabs whose content is made when they are first opened.

    In a hidden place plotly finds no room and computes nonsense; and what nobody opens costs nothing.
    """

    children: Any
    selected_index: Any

    def __init__(self, panel: Panel) -> None:
        self._panel = weakref.ref(panel)
        self._makers: list[Callable[[], w.Widget]] = []
        self._made: set[int] = set()
        self._names: list[str] = []
        super().__init__(layout=w.Layout(width="100%"))
        self.observe(panel.guard(self._opened), "selected_index")

    def fill(self, tabs: Sequence[tuple[str, Callable[[], w.Widget]]]) -> None:
        """Give it other tabs; one of the same name as the open one stays open."""
        before = self._names[self.selected_index] if self._names and self.selected_index is not None else ""
        self._names = [name for name, _ in tabs]
        self._makers = [make for _, make in tabs]
        self._made = set()
        places = [w.VBox(layout=w.Layout(width="100%", min_height="60px")) for _ in tabs]
        put(self, places, self._panel() or self)
        self.titles = self._names
        index = self._names.index(before) if before in self._names else 0
        self.selected_index = index
        self._opened()

    def renew(self, name: str) -> None:
        """Make one tab again, at once if it is open."""
        if name in self._names:
            self._made.discard(self._names.index(name))
            self._opened()

    @property
    def opened(self) -> str:
        """Name of the open tab."""
        return self._names[self.selected_index] if self._names and self.selected_index is not None else ""

    def _opened(self, _change: object = None) -> None:
        index = self.selected_index
        if index is None or index in self._made or index >= len(self._makers):
            return
        self._made.add(index)
        put(self.children[index], [self._makers[index]()], self._panel() or self)


def close_tree(widget: w.Widget) -> None:
    """Close a widget, what it shows, what it keeps for later, and their layouts and styles.

    ipywidgets closes one widget alone; the front end and the kernel would keep all the others.
    """
    _close(_tree(widget))


def put(place: w.Box, children: Sequence[w.Widget], owner: w.Widget) -> None:
    """Show other `children` in `place`, and close what it showed before that `owner` no longer reaches."""
    before = _tree(list(place.children))
    place.children = list(children)
    kept = {id(item) for item in _tree(owner)}
    _close([item for item in before if id(item) not in kept])


def _tree(start: Any) -> list[w.Widget]:
    """All widgets that can be reached from `start`: children, layouts, styles, and fields that are not shown now."""
    found: dict[int, w.Widget] = {}
    queue: list[Any] = [start]
    while queue:
        item = queue.pop()
        if isinstance(item, list | tuple | set):
            queue.extend(item)
        elif isinstance(item, dict):
            queue.extend(item.values())
        elif isinstance(item, w.Widget) and id(item) not in found:
            found[id(item)] = item
            queue.extend([getattr(item, "children", ()), getattr(item, "layout", None), getattr(item, "style", None)])
            queue.extend(value for name, value in vars(item).items() if not name.startswith("_trait_"))
        elif not isinstance(item, w.Widget):
            queue.extend(getattr(item, "widgets", ()) if type(item).__module__.startswith("workbench.panels") else ())
    return list(found.values())


def _close(widgets: Sequence[w.Widget]) -> None:
    for item in widgets:
        if isinstance(item, Panel):
            w.VBox.close(item)  # the panel's own `close` closes the rest of its tree
        else:
            item.close()


def empty(text: str) -> w.HTML:
    """What a panel shows before there is something to show."""
    return w.HTML(f"<div class='wbp-empty'>{text}</div>", layout=w.Layout(width="100%"))


def lay_out(widget: w.Widget, **style: str) -> None:
    """Give a widget another layout, and close the one that it had."""
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


def fact_row(facts: Sequence[dict[str, Any]]) -> str:
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
    """A small table, as HTML; columns in `numeric` are set right. With `wrap` long texts break instead of scrolling."""

    def cell(tag: str, i: int, text: str) -> str:
        return f"<{tag}{' class=n' if i in numeric else ''}>{escape(text)}</{tag}>"

    head = "".join(cell("th" if h else "td", i, h) for i, h in enumerate(headings))
    body = "".join("<tr>" + "".join(cell("td", i, c) for i, c in enumerate(row)) + "</tr>" for row in rows)
    wide = " wbp-wrap" if wrap else ""
    return f"<div class='wbp-scroll'><table class='wbp-table{wide}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def warning(texts: Sequence[str]) -> str:
    """What a reader must know before going on, as HTML; "" where there is nothing."""
    return "".join(f"<div class='wbp-warn'><b>Note</b> {escape(text)}</div>" for text in texts)


# The last one sends the chart to a server of Plotly's.
_NO_BUTTONS = ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "sendChartToCloud"]


def chart(figure: go.Figure) -> dict[str, Any]:
    """A plotly figure as a display output; kilobytes, where a FigureWidget is megabytes."""
    data = figure.to_plotly_json()
    import json

    from plotly.utils import PlotlyJSONEncoder

    # Not plotly's own "responsive": at its second resize (a change of theme is one) it takes the height from the
    # page, where none is set, and the chart is gone. Jupyter's renderer resizes to the width by itself.
    config = {"displaylogo": False, "modeBarButtonsToRemove": _NO_BUTTONS, "plotlyServerURL": ""}
    plain = json.loads(json.dumps({**data, "config": config}, cls=PlotlyJSONEncoder))
    title = (figure.layout.title.text or "chart") if figure.layout.title else "chart"
    return {
        "output_type": "display_data",
        "data": {"application/vnd.plotly.v1+json": plain, "text/plain": title},
        "metadata": {},
    }


def chart_area(figure: go.Figure) -> w.Output:
    """A place for a figure, as high as it is.

    Plotly makes a chart as high as its place, and a place that was hidden when the chart was made has no height.
    """
    out = w.Output(outputs=(chart(figure),), layout=w.Layout(width="100%", height=f"{figure.layout.height}px"))
    out.add_class("wbp-plot")
    return out


def lens_of(engine: Engine) -> Lens:
    """The lens of an engine, for views."""
    return Lens.of(engine)
