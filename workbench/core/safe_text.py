"""Makes names from untrusted files safe to show in a terminal, a spreadsheet or a chart."""

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
# Control characters except tab and line feed; marks that set the direction of text; line and paragraph separators;
# tags and other characters of zero width; the byte order mark.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def visible(text: str) -> str:
    r"""`text` with control and direction characters written out, so that a terminal shows them and does not act on them.

    ``\x1b[31m`` is shown as these seven characters. Tabs and line feeds stay.
    """
    return _UNSEEN.sub(lambda found: _written(found[0]), text)


def whole(data: _Data) -> _Data:
    r"""JSON-able data with half surrogate pairs written out in its strings (``\ud800``, ``\xff`` of a stray byte).

    Such a character can't be written to a file.
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
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not valid UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_text(document: Any, indent: int | None = None) -> str:
    """One JSON document, the same data as `document`, without characters that a terminal would act on.

    NaN and infinite numbers become null, because JSON has neither.
    """
    try:
        text = json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), indent=indent, ensure_ascii=False)
    # Such characters occur only inside strings, where JSON can escape each.
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data


def cell(value: Any) -> Any:
    """A cell of a CSV file: text that a spreadsheet would read as a formula gets an apostrophe in front.

    OWASP recommends this against CSV injection, for text that begins with ``= + - @``, a tab, a carriage return or a line feed.
    Other control characters are written out. Numbers stay numbers.
    """
    if not isinstance(value, str):
        return value
    return visible(f"'{value}" if value.startswith(_FORMULA) else value)


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV without its index, headings and texts made safe by `cell`."""
    safe = frame.map(cell) if len(frame) else frame
    return safe.rename(columns=cell).to_csv(index=False)
