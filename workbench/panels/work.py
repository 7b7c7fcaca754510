"""Long work of a panel: buttons that start it, one that cancels it, and how far it is."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.core.errors import CancelledError, ConfigError, WorkbenchError
from workbench.core.jobs import Job
from workbench.model.sample_models import samples
from workbench.panels.base import lay_out
from workbench.precision.samples import has_data

if TYPE_CHECKING:
    from workbench.build import Build
    from workbench.model.model import Model
    from workbench.panels.base import Panel

_EVERY_SECONDS = 0.15


class Work(w.HBox):  # type: ignore[misc]
    """One piece of work at a time, in a thread, so that the kernel stays free to hear Cancel.

    Args:
        panel: Shows what goes wrong.
        buttons: Are disabled while something runs.
        subject: The choice of what the work is about; it is held too, so that nothing is shown under another name.
    """

    def __init__(self, panel: Panel, buttons: Sequence[w.Button], subject: w.Widget) -> None:
        self._panel = panel
        self.buttons = list(buttons)
        self._subject = subject
        self.cancel = w.Button(description="Cancel", icon="stop", disabled=True, layout=w.Layout(width="100px"))
        self.status = w.HTML(layout=w.Layout(margin="2px 8px"))
        self.bar = w.FloatProgress(
            value=0, max=1, layout=w.Layout(width="180px", height="12px", margin="10px 8px", display="none")
        )
        self.thread: threading.Thread | None = None
        self._running: Job | Build | None = None
        self._cancelled = False
        self._drawn = 0.0
        self.cancel.on_click(panel.guard(self._cancel))
        super().__init__(
            [*self.buttons, self.cancel, self.bar, self.status],
            layout=w.Layout(flex_flow="row wrap", align_items="center", width="100%", margin="4px 0"),
        )

    def run(self, function: Callable[[], str], text: str) -> None:
        """Begin `function`, which gives `watch` to what it calls and returns what to say at the end.

        Raises:
            WorkbenchError: something runs already.
        """
        if self.thread is not None and self.thread.is_alive():
            raise WorkbenchError("Other work of this panel is still under way.", hint="Wait for it, or press Cancel.")
        self._panel.show_error("")
        self._cancelled, self._running = False, None
        self._busy(True, text)
        self.thread = threading.Thread(target=self._work, args=(function,), daemon=True)
        self.thread.start()

    def wait(self, seconds: float = 120.0) -> None:
        """Until what runs has ended; for scripts and tests."""
        if self.thread is not None:
            self.thread.join(seconds)

    def watch(self, job: Job | Build) -> None:
        """Show how far `job` is, and end it when Cancel is pressed: pass this as ``on_job``."""
        self._running = job
        job.on_change(self._show)
        if self._cancelled:
            job.cancel()

    def _work(self, function: Callable[[], str]) -> None:
        try:
            text = function()
        except CancelledError:
            text = "<b>Cancelled.</b>"
        except Exception as error:  # noqa: BLE001 - the thread's boundary: shown in the panel
            self._panel.show_error(error)
            text = "<b>Failed.</b>"
        self._busy(False, text)

    def _busy(self, busy: bool, text: str) -> None:
        for field in (*self.buttons, self._subject):
            field.disabled = busy
        self.cancel.disabled = not busy
        self.bar.layout.display = None if busy else "none"
        self.bar.value = 0
        self.status.value = text

    def _show(self, job: Any) -> None:
        steps = list(job.progress) if isinstance(job, Job) else job.progress
        now = time.monotonic()
        if job.status != "running" or now - self._drawn < _EVERY_SECONDS:
            return
        self._drawn = now
        step = next((s for s in steps[::-1] if s.total), None)
        title = job.title if isinstance(job, Job) else f"build of {job.model.name}"
        detail = f" {step.phase} {step.done}/{step.total}" if step else ""
        self.status.value = f"<b>{escape(title)}</b> <span class='wbp-quiet'>{escape(detail)}</span>"
        self.bar.max, self.bar.value = (step.total, step.done) if step else (1, 0)

    def _cancel(self, _button: Any) -> None:
        self._cancelled = True
        if self._running is not None:
            self._running.cancel()


class DataFields:
    """Where data come from: a field for calibration, for test, and for labels, as a panel needs them."""

    def __init__(self, *, calibration: bool = True, test: bool = True) -> None:
        place = "sample, random:32, a folder, .npz, .npy, or module:factory"
        style = {"description_width": "92px"}
        common = {"ensure_option": False, "continuous_update": False, "style": style}
        self.calibration = w.Combobox(description="Calibration", placeholder=place, options=[], layout=wide(), **common)
        self.test = w.Combobox(
            description="Test data",
            placeholder="as calibration" if calibration else place,
            options=[],
            layout=wide(),
            **common,
        )
        self.labels = w.Text(
            description="Labels", placeholder="an .npy file of classes, for a true accuracy", continuous_update=False,
            layout=wide(), style=style,
        )  # fmt: skip
        self.limit = w.IntText(
            value=0,
            description="Batches",
            tooltip="Use at most this many; 0 for all",
            layout=w.Layout(width="190px"),
            style=style,
        )
        self.note = w.HTML()
        self.fields: list[w.Widget] = [
            *([self.calibration] if calibration else []), *([self.test, self.labels] if test else []), self.limit, self.note
        ]  # fmt: skip
        self.widgets = [self.calibration, self.test, self.labels, self.limit, self.note]  # also those not shown
        self._main = self.calibration if calibration else self.test
        self._main.observe(self._noted, "value")

    def offer(self, model: Model | None) -> None:
        """Offer what fits a model: its own data, where it is a sample that brings some."""
        own = model is not None and has_data(model)
        options = ["sample", "random:32"] if own else ["random:8", "random:32"]
        for box in (self.calibration, self.test):
            box.options = options
        now = self._main.value
        if not now or (now == "sample" and not own) or (now == "random:8" and own):
            self._main.value = options[0]
        self._noted(None)

    def _noted(self, _change: object) -> None:
        text = self._main.value
        if text == "sample":
            brings = ", ".join(name for name, entry in samples().items() if "data" in entry)
            note = f"The sample's own data ({brings}): ranges from training images, errors on others, with labels."
        elif text.startswith("random"):
            note = "Random numbers: to look at fusions, bytes and speed. Ranges and errors say nothing about your data."
        else:
            note = ""
        self.note.value = (
            f"<span class='wbp-quiet' style='display:block;padding-left:96px'>{note}</span>" if note else ""
        )

    def values(self) -> dict[str, Any]:
        """What is filled in, as keyword arguments: ``data``, ``test``, ``labels``, ``limit``."""
        out: dict[str, Any] = {}
        for name, box in (("data", self.calibration), ("test", self.test), ("labels", self.labels)):
            if box in self.fields and box.value.strip():
                out[name] = box.value.strip()
        if self.limit.value > 0:
            out["limit"] = self.limit.value
        return out


def state_of(model: Model | None) -> tuple[Any, ...] | None:
    """Tells whether a name still stands for the same model: its file with size and time of change."""
    if model is None:
        return None
    note = model.path.stat() if model.path.is_file() else None
    return (str(model.path), None if note is None else (note.st_size, note.st_mtime_ns))


def wide() -> w.Layout:
    """A layout as wide as its place; each widget needs one of its own, or hiding one would hide all."""
    return w.Layout(width="100%")


def halves(table: w.Widget, figure: w.Widget, least: int = 600) -> w.HBox:
    """A table and its chart side by side, one under the other where the table would have less than `least` pixels."""
    for part, width in ((table, least), (figure, 400)):
        lay_out(part, flex=f"1 1 {width}px", min_width="0", max_width="100%")
    return w.HBox(
        [table, figure], layout=w.Layout(width="100%", flex_flow="row wrap", align_items="flex-start", grid_gap="12px")
    )


def form(left: Sequence[w.Widget], right: Sequence[w.Widget]) -> w.HBox:
    """Two columns of fields, one under the other where the page is narrow."""
    columns = [
        w.VBox(list(fields), layout=w.Layout(flex="1 1 380px", max_width="620px", min_width="0"))
        for fields in (left, right)
    ]
    return w.HBox(
        columns, layout=w.Layout(width="100%", flex_flow="row wrap", align_items="flex-start", grid_gap="2px 32px")
    )


def arguments(values: dict[str, Any]) -> str:
    """Keyword arguments as Python writes them, with a leading comma."""
    return "".join(f", {name}={value!r}" for name, value in values.items())


def split(text: str) -> list[str]:
    """Names in a field, separated by commas or spaces; one that has either within is written in quotes.

    Raises:
        ConfigError: A quote is not closed.
    """
    words = shlex.shlex(text, posix=True)
    words.whitespace = ", \t\n"
    words.whitespace_split = True
    words.escape = words.commenters = ""  # both are parts of names
    try:
        return list(words)
    except ValueError as error:
        raise ConfigError(
            f"A quote is not closed in {text!r}.", hint="Write names apart, those with spaces in quotes: a 'b c'."
        ) from error


def joined(names: Sequence[str]) -> str:
    """The text that `split` reads as these names."""
    return " ".join(shlex.quote(n) if set(n) & set(" ,\t\n'\"") else n for n in names)
