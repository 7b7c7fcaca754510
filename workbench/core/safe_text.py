"""Names from a stranger's file, made safe for where they are shown: a terminal, a spreadsheet, a chart."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pandas as pd

_Data = TypeVar("_Data")

_HALVES = re.compile("[\ud800-\udfff]")
# Control characters but for tab and line feed; marks that set the direction of text; line and paragraph separators;
# tags and other characters that take no room; the byte order mark.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def visible(text: str) -> str:
    r"""`text` with control and direction characters written out, so that a terminal shows them and obeys none.

    ``\x1b[31m`` is shown as these seven characters. Tabs and line feeds stay.
    """
    return _UNSEEN.sub(lambda found: _written(found[0]), text)


def whole(data: _Data) -> _Data:
    r"""JSON-able data with half surrogate pairs written out in its strings (``\ud800``, ``\xff`` of a stray byte).

    No file can be written with such a character.
    """
    made: Any = data
    if isinstance(data, str):
        made = _HALVES.sub(lambda found: _written(found[0]), data)
    elif isinstance(data, Mapping):
        made = {whole(key): whole(value) for key, value in data.items()}
    elif isinstance(data, list):
        made = [whole(value) for value in data]
    result: _Data = made
    return result


def _written(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_text(document: Any, indent: int | None = None) -> str:
    """One JSON document, the same data as `document`, whose text holds no character that a terminal would obey.

    A number that is NaN or infinite becomes null: JSON has none.
    """
    try:
        text = json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), indent=indent, ensure_ascii=False)
    # Such characters stand only inside strings, where JSON has a notation for each.
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data


def cell(value: Any) -> Any:
    """A cell of a CSV file: text that a spreadsheet would take for a formula gets an apostrophe in front.

    As OWASP advises on CSV injection: text that begins with ``= + - @``, a tab, a carriage return or a line feed.
    Other control characters are written out. Numbers stay numbers.
    """
    if not isinstance(value, str):
        return value
    return visible(f"'{value}" if value.startswith(_FORMULA) else value)


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV without its index, headings and texts made safe by `cell`."""
    safe = frame.map(cell) if len(frame) else frame
    return safe.rename(columns=cell).to_csv(index=False)
