"""Whether a document has the form that a JSON schema asks for.

Documents come from archives and files of other people, and code behind them reads fields without asking what they are.
The schemas here use few of JSON Schema's words, so reading them takes no library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], None]

LARGEST = 2**63 - 1
"""A larger number fits no counter; converting one of hundreds of digits fails."""

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_NAMES = {
    "object": "an object", "array": "a list", "string": "a text", "integer": "a whole number", "number": "a number",
    "boolean": "true or false", "null": "null",
}  # fmt: skip
_KNOWN = {
    "$schema", "$id", "$defs", "$ref", "title", "description", "type", "properties", "required", "additionalProperties",
    "items", "enum", "const", "anyOf", "pattern", "minimum", "minLength", "minItems", "maxItems", "uniqueItems", "allOf",
    "if", "then", "else", "not",
}  # fmt: skip


class SchemaError(ValueError):
    """A document does not fit its schema; the message says where."""


def checker(schema: Mapping[str, Any]) -> Check:
    """A function ``check(document, where)`` that raises `SchemaError` at the first thing that does not fit.

    Beside the schema it refuses numbers that are not finite or fit no 64-bit integer, and texts that are no Unicode.

    Args:
        schema: A JSON schema in the words that this module knows.
    """
    definitions: dict[str, Check] = {}

    def by_name(name: str) -> Check:
        if name not in definitions:
            definitions[name] = build(schema["$defs"][name])
        return definitions[name]

    def build(part: Mapping[str, Any]) -> Check:
        unknown = set(part) - _KNOWN
        assert not unknown, unknown
        checks: list[Check] = []
        if "$ref" in part:
            checks.append(by_name(part["$ref"].rpartition("/")[2]))
        if "type" in part:
            checks.append(_type(part["type"]))
        if "const" in part or "enum" in part:
            checks.append(_one_of(part.get("enum", [part.get("const")])))
        if "anyOf" in part:
            checks.append(_any([build(each) for each in part["anyOf"]]))
        if {"pattern", "minLength", "minimum", "minItems", "maxItems", "uniqueItems"} & set(part):
            checks.append(_bounds(part))
        if "items" in part:
            checks.append(_items(build(part["items"])))
        if {"properties", "required", "additionalProperties"} & set(part):
            properties = {name: build(each) for name, each in part.get("properties", {}).items()}
            more = part.get("additionalProperties", True)
            rest = build(more) if isinstance(more, dict) else _anything if more else None
            checks.append(_object(properties, part.get("required", []), rest))
        elif part.get("type") == "object":
            checks.append(_anything)
        checks += [build(each) for each in part.get("allOf", ())]
        if "if" in part:
            checks.append(_either(build(part["if"]), build(part.get("then", {})), build(part.get("else", {}))))
        if "not" in part:
            checks.append(_not(build(part["not"])))
        if len(checks) == 1:
            return checks[0]

        def check(value: Any, where: str) -> None:
            for each in checks:
                each(value, where)

        return check

    return build(schema)


def _fits(check: Check, value: Any) -> bool:
    try:
        check(value, "")
    except SchemaError:
        return False
    return True


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, dict | list) else "an object" if isinstance(value, dict) else "a list"
    return text if len(text) <= 60 else text[:57] + "..."


def _finite(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise SchemaError(f"{where} is {value}, not a finite number")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise SchemaError(f"{where} has more digits than a 64-bit number")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SchemaError(f"{where} is no Unicode text") from None


def _anything(value: Any, where: str) -> None:
    """Numbers and texts in an open part of a document, at any depth."""
    stack = [(value, where)]
    while stack:
        each, place = stack.pop()
        if isinstance(each, dict):
            stack += [(v, f"{place}.{k}") for k, v in each.items()]
            for name in each:
                _finite(name, f"a name in {place}")
        elif isinstance(each, list):
            stack += [(v, f"{place}[{i}]") for i, v in enumerate(each)]
        else:
            _finite(each, place)


def _type(wanted: str | list[str]) -> Check:
    names = [wanted] if isinstance(wanted, str) else wanted
    types = tuple(t for name in names for t in _TYPES[name])
    flags = "boolean" in names

    def check(value: Any, where: str) -> None:
        if not isinstance(value, types) or (isinstance(value, bool) and not flags):
            raise SchemaError(f"{where} must be {' or '.join(_NAMES[n] for n in names)}, not {_shown(value)}")
        _finite(value, where)

    return check


def _one_of(values: list[Any]) -> Check:
    def check(value: Any, where: str) -> None:
        if not any(value == each and type(value) is type(each) for each in values):
            raise SchemaError(f"{where} must be {' or '.join(map(repr, values))}, not {_shown(value)}")

    return check


def _any(checks: list[Check]) -> Check:
    def check(value: Any, where: str) -> None:
        said = []
        for each in checks:
            try:
                each(value, where)
            except SchemaError as error:
                said.append(str(error))
            else:
                return
        raise SchemaError("; or ".join(said))

    return check


def _bounds(part: Mapping[str, Any]) -> Check:
    pattern = re.compile(part["pattern"]) if "pattern" in part else None
    least, most = part.get("minItems", part.get("minLength", 0)), part.get("maxItems", math.inf)

    def check(value: Any, where: str) -> None:
        if isinstance(value, str) and pattern is not None and not pattern.search(value):
            raise SchemaError(f"{where} is {_shown(value)}, which does not match {pattern.pattern}")
        if isinstance(value, str | list) and not least <= len(value) <= most:
            raise SchemaError(f"{where} has length {len(value)}")
        if isinstance(value, int | float) and "minimum" in part and value < part["minimum"]:
            raise SchemaError(f"{where} is {value}, less than {part['minimum']}")
        if part.get("uniqueItems") and isinstance(value, list) and len(set(map(repr, value))) < len(value):
            raise SchemaError(f"{where} holds an entry twice")

    return check


def _items(each: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if isinstance(value, list):
            for i, item in enumerate(value):
                each(item, f"{where}[{i}]")

    return check


def _object(properties: Mapping[str, Check], required: list[str], rest: Check | None) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            return
        for name in required:
            if name not in value:
                raise SchemaError(f"{where} has no {name!r}")
        for name, item in value.items():
            found = properties.get(name, rest)
            if found is None:
                raise SchemaError(f"{where} has an unknown field {_shown(name)}")
            if found is rest:
                _finite(name, f"a name in {where}")
            found(item, f"{where}.{name}")

    return check


def _either(condition: Check, then: Check, otherwise: Check) -> Check:
    def check(value: Any, where: str) -> None:
        (then if _fits(condition, value) else otherwise)(value, where)

    return check


def _not(inner: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if _fits(inner, value):
            raise SchemaError(f"{where} is {_shown(value)}")

    return check
