"""Fields that several panels have in their forms, and the text in them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.core.errors import ConfigError
from workbench.model.sample_models import samples
from workbench.panels.parts import wide
from workbench.precision.samples import has_data

if TYPE_CHECKING:
    from workbench.model.model import Model


class DataFields:
    """Where data come from: fields for calibration, test and labels, as a panel needs them."""

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
        self.widgets = [
            self.calibration,
            self.test,
            self.labels,
            self.limit,
            self.note,
        ]  # including those that are not shown
        self._main = self.calibration if calibration else self.test
        self._main.observe(self._noted, "value")

    def offer(self, model: Model | None) -> None:
        """Offer what fits a model; a sample may bring its own data."""
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
            note = f"The sample's own data ({brings}): training images for ranges, other images with labels for errors."
        elif text.startswith("random"):
            note = "Random numbers: good for fusions, bytes and speed. Ranges and errors say nothing about your data."
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


def form(left: Sequence[w.Widget], right: Sequence[w.Widget]) -> w.HBox:
    """Two columns of fields, stacked if the page is narrow."""
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
    """Names in a field, separated by commas or spaces. A name that contains either is written in quotes.

    Raises:
        ConfigError: a quote is not closed.
    """
    words = shlex.shlex(text, posix=True)
    words.whitespace = ", \t\n"
    words.whitespace_split = True
    words.escape = words.commenters = ""  # names may contain these characters
    try:
        return list(words)
    except ValueError as error:
        raise ConfigError(
            f"A quote is not closed in {text!r}.",
            hint="Separate names by spaces or commas. Quote a name with spaces: a 'b c'.",
        ) from error


def joined(names: Sequence[str]) -> str:
    """The text that `split` reads as these names."""
    return " ".join(shlex.quote(n) if set(n) & set(" ,\t\n'\"") else n for n in names)
