"""Typed documents: a `TypedDict` states the fields of a JSON document, pydantic checks them and writes the JSON schema.

Documents come from archives and from other people's files, and the code that uses them reads fields without checking
them first. So each reader checks the whole document once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Generic, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from workbench.core.documents import DocumentError

T = TypeVar("T")

LARGEST = 2**63 - 1
"""Larger integers are refused: they do not fit 64 bits, and printing one of thousands of digits fails."""

closed = with_config(ConfigDict(strict=True, extra="forbid"))
"""Class decorator of a `TypedDict`: a field that it does not name is refused."""

extensible = with_config(ConfigDict(strict=True, extra="allow"))
"""Class decorator of a `TypedDict`: other fields may be present, with any JSON value."""

Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DocumentType(Generic[T]):
    """A kind of JSON document.

    Args:
        form: The `TypedDict`. Nested ones need `closed` or `extensible` too.
        title: For example ``Plan``.
        schema: The schema's id, with the version of the format, for example ``workbench.plan/1``.
        check: What a JSON schema can't say; raises `ValueError`.
    """

    def __init__(self, form: type[T], *, title: str, schema: str, check: Callable[[T], None] | None = None) -> None:
        self.form = form
        self.title = title
        self.id = schema
        self._check = check

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self.form)  # built on first use: it takes some 10 ms

    def check(self, data: Any, what: str) -> T:
        """Return `data` itself, checked; `what` names it in errors.

        Raises:
            DocumentError: a field is missing, unknown or of a wrong type, a number is not finite or needs more than 64
                bits, or a string is not valid Unicode. The message says which, and where.
        """
        check_values(data, what)
        try:
            self._adapter.validate_python(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
            raise DocumentError(f"{what}{place}: {first['msg']}") from None
        document: T = data
        if self._check is not None:
            try:
                self._check(document)
            except ValueError as error:
                raise DocumentError(f"{what}: {error}") from None
        return document

    def schema(self) -> dict[str, Any]:
        """The JSON schema, without the descriptions of the fields."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": self.id,
            **self._adapter.json_schema(ref_template="#/$defs/{model}"),
            "title": self.title,
        }


def check_values(data: Any, what: str) -> None:
    """Refuse numbers that are not finite or need more than 64 bits, and strings that are not valid Unicode, at any depth.

    Raises:
        DocumentError: there is one; `what` and the place are in the message.
    """
    if not _sound(data):
        _refuse(data, what)


def _sound(data: Any) -> bool:
    stack = [data]
    while stack:
        value = stack.pop()
        kind = type(value)
        if kind is str:
            if not value.isascii() and not _unicode(value):
                return False
        elif kind is int:
            if not -LARGEST <= value <= LARGEST:
                return False
        elif kind is float:
            if not math.isfinite(value):
                return False
        elif kind is dict:
            stack.extend(value)
            stack.extend(value.values())
        elif kind is list:
            stack.extend(value)
    return True


def _unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(data: Any, what: str) -> None:
    """Raise `DocumentError` for the first value that `_sound` refuses."""
    stack = [(data, what)]
    while stack:
        value, where = stack.pop()
        if isinstance(value, dict):
            for name in value:
                if not _sound(name):
                    raise DocumentError(f"a field name in {where} is not valid Unicode")
            stack += [(each, f"{where}.{name}") for name, each in value.items()]
        elif isinstance(value, list):
            stack += [(each, f"{where}[{i}]") for i, each in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            raise DocumentError(f"{where} is {value}, not a finite number")
        elif isinstance(value, int) and abs(value) > LARGEST:
            raise DocumentError(f"{where} needs more than 64 bits")
        elif isinstance(value, str) and not _unicode(value):
            raise DocumentError(f"{where} is not valid Unicode")
