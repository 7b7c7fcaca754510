"""Widgets for a compiler's targets and for the options of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench import compilers
from workbench.core.errors import WorkbenchError
from workbench.hardware.target import DEFAULT_GPU

if TYPE_CHECKING:
    from workbench.compilers.options import OptionField


def target_choices(compiler: str) -> list[tuple[str, str]]:
    """What a compiler builds for, as labels and values of a list to choose from."""
    return [(target.label, str(target)) for target in compilers.info_of(compiler).targets]


def default_choice(choices: list[tuple[str, str]]) -> tuple[str, ...]:
    """The value to begin with: the default GPU, else the first."""
    values = [value for _, value in choices]
    return (str(DEFAULT_GPU),) if str(DEFAULT_GPU) in values else tuple(values[:1])


def widget_of(field: OptionField) -> w.Widget:
    """The widget for one option."""
    common = {
        "description": field.label, "tooltip": field.description, "layout": w.Layout(width="100%"),
        "style": {"description_width": "150px"},
    }  # fmt: skip
    if field.kind == "boolean" and field.default is not None:
        return w.Checkbox(value=field.default, indent=True, **common)
    if field.kind == "boolean":
        return w.Dropdown(options=["default", "on", "off"], **common)
    if field.kind == "choice":
        unset = [] if field.default is not None else ["default"]
        return w.Dropdown(options=[*unset, *field.choices], value=field.default or "default", **common)
    return w.Text(placeholder="default", continuous_update=False, **common)


def value_of(field: OptionField, shown: Any) -> Any:
    """The value of an option from what its widget shows.

    Raises:
        WorkbenchError: the option is a number, and this is not one (code ``not-a-number``).
    """
    if isinstance(shown, bool):
        return shown
    text = str(shown).strip()
    if text in {"", "default"}:
        return field.default
    if field.kind == "boolean":
        return text == "on"
    if field.kind == "list":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if field.kind not in {"integer", "number"}:
        return text
    try:
        return int(text.replace("_", "")) if field.kind == "integer" else float(text)
    except ValueError:
        what = "a whole number" if field.kind == "integer" else "a number"
        raise WorkbenchError(f"{field.label} must be {what}, not {text!r}.", code="not-a-number") from None
