"""Long work of a panel: one piece at a time, with progress, Cancel, and errors shown in the panel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

import ipywidgets as w

from workbench.core.errors import CancelledError, WorkbenchError
from workbench.panels.parts import Bars

if TYPE_CHECKING:
    from workbench.core.jobs import BackgroundTask
    from workbench.panels.base import Panel

R = TypeVar("R")

_EVERY_SECONDS = 0.15
CANCELED, FAILED = "<b>Canceled.</b>", "<b>Failed.</b>"


class Work:
    """Runs one function at a time in a thread, so that the kernel stays free for the Cancel button.

    The function passes what it starts (`Job`, `Build`) to `watch` or `result_of`. While it runs, a second thread draws
    the progress of the newest of these. The panel places the widgets, or takes all of them with `row`.

    Args:
        panel: Shows errors. Closing it cancels the work.
        buttons: Are disabled while something runs.
        hold: Are disabled too, such as the choice of the model: a result must not appear under another model's name.
        keep_bars: Whether the bars of finished work stay.
    """

    def __init__(
        self, panel: Panel, buttons: Sequence[w.Button], *, hold: Sequence[w.Widget] = (), keep_bars: bool = False
    ) -> None:
        self._panel = panel
        self.buttons = list(buttons)
        self._hold = list(hold)
        self._keep_bars = keep_bars
        self.cancel = w.Button(description="Cancel", icon="stop", disabled=True, layout=w.Layout(width="100px"))
        self.status = w.HTML(layout=w.Layout(margin="2px 8px"))
        self.bars = Bars()
        self.widgets: list[w.Widget] = [self.cancel, self.status, self.bars]
        self.busy = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._task: BackgroundTask[Any] | None = None
        self._canceled = self._closed = False
        self._blocked = ""
        self.cancel.on_click(panel.guard(lambda _: self.stop()))

    def row(self, *more: w.Widget, buttons: Sequence[w.Button] | None = None) -> w.VBox:
        """Buttons, Cancel and status in one row, with the bars below.

        Args:
            more: Widgets between Cancel and the status.
            buttons: Which buttons; all by default.
        """
        line = [*(self.buttons if buttons is None else buttons), self.cancel, *more, self.status]
        layout = w.Layout(flex_flow="row wrap", align_items="center", width="100%", margin="4px 0")
        return w.VBox([w.HBox(line, layout=layout), self.bars], layout=w.Layout(width="100%"))

    def run(self, function: Callable[[], str], text: str, *, about: Callable[[], str] | None = None) -> None:
        """Start `function` in a thread and return.

        Args:
            function: Returns the status to show at the end, as HTML.
            text: The status until something is watched, as HTML.
            about: Called at the end for HTML to add to the status, such as which engine it is about.

        Raises:
            WorkbenchError: something runs already (code ``busy``).
        """
        with self._starting:
            if self.busy:
                raise WorkbenchError("This panel is busy.", hint="Wait, or press Cancel.", code="busy")
            self.busy = True
        self._panel.show_error("")
        self._canceled, self._task = self._closed, None
        self.bars.show([])
        self._enable(text)
        self._thread = threading.Thread(target=self._work, args=(function, about), daemon=True)
        self._thread.start()

    def watch(self, task: BackgroundTask[Any]) -> None:
        """Show the progress of `task`, and cancel it if Cancel was or is pressed. Pass this as ``on_job``."""
        self._task = task
        if self._canceled:
            task.cancel()

    def result_of(self, task: BackgroundTask[R]) -> R:
        """Watch `task` and wait for its result.

        Raises:
            WorkbenchError: why there is no result.
        """
        self.watch(task)
        return task.result()

    def stop(self) -> None:
        """Cancel what runs, and what it would start next."""
        self._canceled = True
        if self._task is not None:
            self._task.cancel()

    def block(self, reason: str) -> None:
        """Keep the buttons disabled and say why, as HTML; "" allows them again."""
        self._blocked = reason
        if not self.busy:
            self._enable(reason or "Ready.")

    def wait(self, seconds: float = 120.0) -> None:
        """Wait until the work has ended; for scripts and tests."""
        if self._thread is not None:
            self._thread.join(seconds)

    def close(self) -> None:
        """Cancel what runs. Nothing is shown anymore."""
        self._closed = True
        self.stop()

    # --- the threads --------------------------------------------------------------------------------

    def _work(self, function: Callable[[], str], about: Callable[[], str] | None) -> None:
        ended = threading.Event()
        poll = threading.Thread(target=self._poll, args=(ended,), daemon=True)
        poll.start()
        failed = True
        try:
            text = function()
            failed = False
        except CancelledError:
            text = CANCELED
        except Exception as error:  # noqa: BLE001 - the boundary of the thread: the panel shows it
            text = FAILED
            if not self._closed:
                self._panel.show_error(error)
        ended.set()
        poll.join()
        self.busy = False
        if self._closed:
            return
        if failed or not self._keep_bars:
            self.bars.show([])  # half-filled bars would look like work that goes on
        else:
            self._draw()
        more = about() if about is not None else ""
        self._enable(f"{text} <span class='wbp-quiet'>{more}</span>" if more else text)

    def _poll(self, ended: threading.Event) -> None:
        while not ended.wait(_EVERY_SECONDS):
            self._panel.guard(self._draw)()

    def _draw(self) -> None:
        """Show the progress of the newest task."""
        task = self._task
        if task is None or self._closed:
            return
        title = task.title[:1].upper() + task.title[1:]
        now = f"{task.message}, " if task.message else ""
        self.status.value = f"<b>{escape(title)}</b> <span class='wbp-quiet'>{escape(now)}{task.seconds:.1f} s</span>"
        self.bars.show(task.progress)

    def _enable(self, text: str) -> None:
        """Enable the buttons, or Cancel while something runs, and show `text` as the status."""
        for button in self.buttons:
            button.disabled = self.busy or bool(self._blocked)
        for field in self._hold:
            field.disabled = self.busy
        self.cancel.disabled = not self.busy
        self.status.value = text
