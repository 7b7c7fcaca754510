"""What all panels share: a frame with a title, the choice of an engine, visible errors, and "Show as code"."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, TypeVar

import ipywidgets as w

from workbench.charts import palette
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event
from workbench.core.store import IMPORTED
from workbench.panels.closing import close_tree
from workbench.present.lens import Lens

if TYPE_CHECKING:
    from workbench.engine import Engine
    from workbench.model.model import Model
    from workbench.panels.work import Work
    from workbench.plan import Plan
    from workbench.workspace import Workspace

F = TypeVar("F", bound=Callable[..., Any])

_CSS = Template(Path(__file__).with_name("panel.css").read_text()).substitute(palette.PANELS)
_STYLE = f"<style>{_CSS}</style>"


class Panel(w.VBox):  # type: ignore[misc]
    """A frame around the widgets of a panel.

    Subclasses set `title`, put their widgets into `body`, and give the code of what was clicked with `set_code`.
    Callbacks are wrapped with `guard`, so that an error shows in the panel. A subclass with long work sets `work`; the
    panel cancels that work when it is closed.

    Args:
        session: What it shows and follows.
        engines: Whether it shows one of the session's engines and lets the user choose which.
        lens: A plan to show instead, without an engine; see `show_lens`.
    """

    title = ""
    work: Work | None = None
    _closing = False

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
            options=[], description="Engine", tooltip="The engine to show", style={"description_width": "initial"},
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
        """`function`, with its errors shown in the panel."""

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - a callback has no caller who could handle it
                self.show_error(error)
                return None

        return guarded  # type: ignore[return-value]

    def show_error(self, error: BaseException | str) -> None:
        """Show what went wrong and what to do next; an empty text clears it."""
        if isinstance(error, WorkbenchError):
            hint = f"\n{escape(error.hint)}" if error.hint else ""
            self._errors.value = (
                f"<div class='wbp-error' role='alert' data-code='{escape(error.code)}'>"
                f"<b>{escape(error.message)}</b>{hint}</div>"
            )
        elif error:
            text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
            self._errors.value = f"<div class='wbp-error' role='alert'><b>{escape(text)}</b></div>"
        else:
            self._errors.value = ""

    @property
    def error(self) -> str:
        """The error that is shown, as HTML; "" if there is none."""
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
                    f"Session {name} was deleted elsewhere. The workbench no longer keeps what you do here.",
                    hint=f"Create it again: session = Session({name!r}). Its engines are still in the store.",
                    code="session-deleted",
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
        options = [(engine_label(e), e.key) for e in engines]
        value = current.key if current else None
        self.chooser.layout.display = None if options else "none"
        self.fill(self.chooser, options, value)
        self._shown(current)

    def _choose(self, key: str | None) -> None:
        if key and (self.session.engines.current is None or self.session.engines.current.key != key):
            self.session.engines.current = key

    def fill(self, box: w.Dropdown, options: Sequence[Any], value: Any) -> None:
        """Give `box` new options and a value without counting that as a user's choice."""
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
        """Give `box` the session's models, newest first, and choose `wanted`, or what was chosen before.

        Returns:
            The name that is chosen now; None if there is no model.
        """
        names = list(self.session.models)[::-1]
        value = next((n for n in (wanted, box.value) if n in names), next(iter(names), None))
        self.fill(box, names, value)
        return value

    def on_choice(self, box: w.Dropdown, function: Callable[[Any], None]) -> None:
        """Call `function(value)` when a user chooses in `box`."""

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
        """Show another engine; None if there is none yet. Subclasses override it."""

    def show_lens(self, lens: Lens) -> None:
        """Show a plan that belongs to no engine of the session. Subclasses that can do this override it."""

    def close(self) -> None:
        """Cancel the panel's work, stop following the session, and leave the page."""
        if self._closing:  # by `close_tree`, with all that the panel holds
            super().close()
            return
        self._closing = True
        if self.work is not None:
            self.work.close()
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


def engine_label(engine: Engine) -> str:
    """How lists of engines name one."""
    return f"{engine.model}   {engine.config.target}   {engine.config.precision}   {_short_id(engine)}"


def state_of(model: Model | None) -> tuple[Any, ...] | None:
    """Tells whether a name still stands for the same model: its file, with size and time of change."""
    if model is None:
        return None
    note = model.path.stat() if model.path.is_file() else None
    return (str(model.path), None if note is None else (note.st_size, note.st_mtime_ns))
