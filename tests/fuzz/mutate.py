"""Mutations of a seed: of its bytes, of its text, and of what the bytes mean (JSON, protobuf, zip). All from one `Random`."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutator = Callable[[Random, bytes, Sequence[bytes]], bytes]

TOKENS = [
    b"", b"\x00", b"\xff", b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[31m", "\u202e".encode(), b"\r", b"\n", b"\t", b" ", b"\x1e", b"\x1f", b"-", b"-1",
    b"0", b"1e999", b"-0", b"NaN", b"Infinity", b"9" * 20, b"9" * 400, b"12-18", b"1.5", b"true", b"null", b"[", b"]", b"{", b"}", b"[" * 300, b"(",
    b")", b"PWN(", b"PWN(" * 40, b", ", b" + ", b" || ", b"{ForeignNode[", b"]}", b"...", b'"', b"'", b"\\", b"\\ud800", b"%", b"../", b"~x", b"=",
    b":", b"[ONNX Layer: ", b"Name: ", b", Dimensions: [", b" }", b", LayerType: ", b"Layers:\n", b"Bindings:\n", b"I/O Tensors:\n", b"<a href=x>", "²".encode(),
    "٣".encode(), "é".encode(), b"x" * 5000,
]  # fmt: skip
"""Pieces that readers stumble over."""


def _at(rng: Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def _piece(rng: Random, data: bytes) -> tuple[int, int]:
    begin = _at(rng, data)
    return begin, min(len(data), begin + rng.choice((1, 1, 2, 4, 8, 16, 64, 256)))


def of_bytes(rng: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """One change of bytes: flipped, set, cut, taken out, doubled, put in, moved, or joined with another seed."""
    begin, end = _piece(rng, data)
    how = rng.randrange(9)
    if how == 0 and begin < len(data):
        return data[:begin] + bytes([data[begin] ^ (1 << rng.randrange(8))]) + data[begin + 1 :]
    if how == 1 and begin < len(data):
        return (
            data[:begin] + bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x20, rng.randrange(256)))]) + data[begin + 1 :]
        )
    if how == 2:
        return data[:begin] if rng.random() < 0.7 else data[begin:]
    if how == 3:
        return data[:begin] + data[end:]
    if how == 4:
        return data[:begin] + data[begin:end] * rng.choice((2, 3, 20)) + data[end:]
    if how == 5:
        return data[:begin] + rng.choice(TOKENS) + data[begin:]
    if how == 6:
        return data[:begin] + rng.choice(TOKENS) + data[end:]
    if how == 7:
        other = rng.choice(seeds)
        return data[:begin] + other[_at(rng, other) :]
    place = _at(rng, data)
    return data[:place] + data[begin:end] + data[place:]


# --- JSON -------------------------------------------------------------------------------------------

_RAW = "@raw@"


def _strange(rng: Random) -> Any:
    """A value of some other kind; texts that begin with `_RAW` are written without quotes."""
    return rng.choice((
        None, True, False, 0, -1, 1, 2, 1.5, -1.5, 1e308, 2**31, 2**53, 2**63, -(2**63), 10**18, 10**30, f"{_RAW}NaN", f"{_RAW}Infinity",
        f"{_RAW}-Infinity", f"{_RAW}1e999", f"{_RAW}{'9' * 400}", f"{_RAW}{'[' * 90}{']' * 90}", f"{_RAW}{'[' * 3000}{']' * 3000}", f"{_RAW}-0", "", "x",
        "\x1b[31m", "\u202e", "\x00", "\ud800", f'{_RAW}"\\udcff"', "../x", "/dev/zero", "~x", "<a href='x'>", "9" * 400, "PWN(" * 30, "x" * 5000, [], {}, [[]],
        [{}], {"a": 1}, [1, "x", None], [0] * 300, [-1, 2**40], {"": ""}, "sm89", "float32", "input",
    ))  # fmt: skip


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every container with a key or index in it."""
    found: list[tuple[Any, Any]] = []
    waiting = [data]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            waiting.append(node[key])
    return found


def of_json(rng: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """One change of a JSON document's structure; of its bytes where it is none (any more)."""
    try:
        document = json.loads(data.decode("utf-8", "surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        return of_bytes(rng, data, seeds)
    places = _places(document)
    if not places:
        return _dump(_strange(rng))
    # Few places of a document are near its top, and they matter most.
    node, key = rng.choice(places if rng.random() < 0.7 else places[:20])
    how = rng.randrange(8)
    if how < 3:
        node[key] = _strange(rng)
    elif how == 3:
        del node[key]
    elif how == 4:
        other, place = rng.choice(places)
        node[key] = json.loads(json.dumps(other[place]))
    elif how == 5 and isinstance(node, list):
        node[key:key] = [node[key]] * rng.choice((1, 2, 50))
    elif how == 5:
        node[str(_strange(rng))] = node.pop(key)
    elif how == 6 and isinstance(node[key], int | float) and not isinstance(node[key], bool):
        node[key] = rng.choice(
            (node[key] * -1, node[key] + 1, node[key] * 10**6, node[key] // 3, str(node[key]), node[key] - 1)
        )
    elif how == 6 and isinstance(node[key], str):
        node[key] = of_bytes(rng, node[key].encode("utf-8", "surrogatepass"), [b"x"]).decode("utf-8", "replace")
    elif isinstance(node, dict):
        node[rng.choice(("count", "name", "kind", "schema", "x", "Name", "Layers", "device", "data"))] = _strange(rng)
    else:
        node.append(_strange(rng))
    return _dump(document)


def _dump(document: Any) -> bytes:
    try:
        text = json.dumps(document, ensure_ascii=False)
    except (RecursionError, ValueError):
        return b"{}"
    parts = text.split(f'"{_RAW}')
    for i, part in enumerate(parts[1:], 1):
        raw, _, rest = part.partition('"')
        if raw == "":  # an escaped text inside
            raw, _, rest = part.partition('" ')
        parts[i] = raw.replace('\\"', '"') + rest
    return "".join(parts).encode("utf-8", "surrogatepass")


# --- protobuf ---------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append((value & 0x7F) | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
        shift += 7
    raise ValueError


def fields(data: bytes) -> list[tuple[int, int, Any]] | None:
    """Number, wire type and value of each field; None where the bytes are no message."""
    found: list[tuple[int, int, Any]] = []
    at = 0
    try:
        while at < len(data):
            tag, at = _read_varint(data, at)
            kind, number = tag & 7, tag >> 3
            value: Any
            if number == 0 or kind not in (0, 1, 2, 5):
                return None
            if kind == 0:
                value, at = _read_varint(data, at)
            else:
                size = {1: 8, 5: 4}.get(kind)
                if size is None:
                    size, at = _read_varint(data, at)
                value = data[at : at + size]
                at += size
                if len(value) < size:
                    return None
            found.append((number, kind, value))
    except ValueError:
        return None
    return found


def message(entries: Sequence[tuple[int, int, Any]]) -> bytes:
    """The bytes of `fields`."""
    out = []
    for number, kind, value in entries:
        out.append(_varint(number << 3 | kind))
        if kind == 0:
            out.append(_varint(value))
        else:
            out.append((_varint(len(value)) if kind == 2 else b"") + value)
    return b"".join(out)


def of_protobuf(rng: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """One change of a message, or of one inside it: a field's value, number, type or place; of its bytes else."""
    entries = fields(data)
    if not entries or rng.random() < 0.1:
        return of_bytes(rng, data, seeds)
    place = rng.randrange(len(entries))
    number, kind, value = entries[place]
    if kind == 2 and value and rng.random() < 0.75:
        entries[place] = (number, kind, of_protobuf(rng, value, [value]))
        return message(entries)
    how = rng.randrange(7)
    if how == 0:
        del entries[place]
    elif how == 1:
        entries[place:place] = [entries[place]] * rng.choice((1, 2, 30))
    elif how == 2:
        entries[place] = (rng.choice((1, 2, 3, 4, 5, 7, 8, 9, 14, 20, 100, number + 1)), kind, value)
    elif how == 3 and kind == 0:
        entries[place] = (number, 0, rng.choice((0, 1, 2, 7, 16, 23, 99, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**40)))
    elif how == 3:
        entries[place] = (number, 2, rng.choice(TOKENS))
    elif how == 4:
        other = rng.choice(entries)
        entries[place] = (number, other[1], other[2])
    elif how == 5:
        deep = value if isinstance(value, bytes) else b""
        for _ in range(rng.choice((2, 20, 200))):
            deep = message([(number, 2, deep)])[:20_000]
        entries[place] = (number, 2, deep)
    else:
        entries.append(rng.choice(entries))
        rng.shuffle(entries)
    return message(entries)


# --- zip --------------------------------------------------------------------------------------------


def of_zip(rng: Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """One change of an entry of an archive, of the list of entries, or of the archive's bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except Exception:  # noqa: BLE001 - damaged by a change before
        return of_bytes(rng, data, seeds)
    if not entries or rng.random() < 0.15:
        return of_bytes(rng, data, seeds)
    place = rng.randrange(len(entries))
    name, inside = entries[place]
    how = rng.randrange(8)
    if how < 5:
        kind = of_json if name.endswith(".json") else of_protobuf if name.endswith(".onnx") else of_bytes
        entries[place] = (name, kind(rng, inside, [inside]))
    elif how == 5:
        del entries[place]
    elif how == 6:
        entries[place] = (
            rng.choice(
                (
                    "../x",
                    "/x",
                    "x" * 300,
                    "a/../../b",
                    "",
                    "con",
                    name + "\x00",
                    name.upper(),
                    "session.json",
                    name + "/",
                )
            ),
            inside,
        )
    else:
        entries.append((rng.choice(entries)[0], inside))
    out = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", packing) as archive:
        warnings.simplefilter("ignore")  # names that occur twice
        for entry, content in entries:
            try:
                archive.writestr(entry, content)
            except (ValueError, IndexError):
                continue  # a name that can't be written
    return out.getvalue()


def mutated(rng: Random, seeds: Sequence[bytes], mutators: Sequence[Mutator]) -> bytes:
    """A seed with one to four changes, at most 200 kB."""
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        data = rng.choice(mutators)(rng, data, seeds)[:200_000]
    return data
