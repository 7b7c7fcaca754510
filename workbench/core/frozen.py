"""The base of immutable, validated values. An invalid value raises a ConfigError that names the field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from workbench.core.errors import ConfigError


class Frozen(BaseModel):
    """An immutable pydantic model that refuses unknown fields with a `ConfigError`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise _as_config_error(type(self).__name__, error) from None


def _as_config_error(what: str, error: ValidationError) -> ConfigError:
    lines = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{place}: {what} has no such option")
        else:
            lines.append(f"{place}: {item['msg']}" if place else str(item["msg"]).removeprefix("Value error, "))
    return ConfigError(f"The {what} is not valid. " + "; ".join(lines))
