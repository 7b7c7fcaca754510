"""The options of one compiler, and how forms and command lines show an option.

A compiler declares its options as fields of a subclass of `Options`. The Build panel, the flags of ``workbench fusions``
and the JSON schema come from these fields: nothing else has to change when an option is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from workbench.core.frozen import Frozen


class Options(Frozen):
    """A compiler's options, in addition to the fields of `workbench.compilers.config.BuildConfig`.

    Every field has a default (None for the compiler's own default) and a description. A compiler without options
    uses this class.
    """


class RecordedOptions(Options):
    """Options of a stored build whose compiler is not installed: kept as they are, not validated."""

    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True)
class OptionField:
    """One option as forms and command lines show it.

    Attributes:
        name: The field's name, such as ``tiling_level``.
        description: What it does.
        kind: The type of its values; a choice is one of `choices`, a list is several names.
        choices: The values of a choice.
        default: Its default; None for the compiler's own default.
        in_forms: Whether forms show it.
    """

    name: str
    description: str
    kind: Literal["boolean", "choice", "integer", "number", "text", "list"]
    choices: tuple[str, ...] = ()
    default: Any = None
    in_forms: bool = True

    @property
    def label(self) -> str:
        """The name with spaces."""
        return self.name.replace("_", " ")

    def same_values(self, other: OptionField) -> bool:
        """Whether both options take the same values."""
        return (self.kind, self.choices) == (other.kind, other.choices)

    @property
    def flag(self) -> str:
        """The name as a command-line option."""
        return "--" + self.name.replace("_", "-")


def option_fields(model: type[BaseModel]) -> dict[str, OptionField]:
    """The fields of a model by name, in order. ``json_schema_extra={"form": False}`` keeps a field out of forms."""
    schema = model.model_json_schema()
    return {
        name: _field(name, entry, schema.get("$defs", {}), model.model_fields[name].default)
        for name, entry in schema.get("properties", {}).items()
    }


def _field(name: str, entry: Mapping[str, Any], definitions: Mapping[str, Any], default: Any) -> OptionField:
    types = [t for t in entry.get("anyOf", [entry]) if t.get("type") != "null"]
    found = types[0] if len(types) == 1 else {}
    if "$ref" in found:
        found = definitions[found["$ref"].rpartition("/")[2]]
    kinds: dict[str, Literal["boolean", "integer", "number", "list"]] = {
        "boolean": "boolean",
        "integer": "integer",
        "number": "number",
        "array": "list",
    }
    choices = tuple(str(value) for value in found.get("enum", ()))
    return OptionField(
        name=name,
        description=str(entry.get("description", "")),
        kind="choice" if choices else kinds.get(str(found.get("type")), "text"),
        choices=choices,
        default=default,
        in_forms=entry.get("form") is not False,
    )
