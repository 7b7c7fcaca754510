"""Reads ONNX files at protobuf's wire level: a graph without its weights, in one pass."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from workbench.core.limits import check, limit

if TYPE_CHECKING:
    pass


INLINE_LIMIT = 16 * 1024
"""Tensors up to this many bytes stay in the graph: shape constants are needed for shape inference."""


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


_DEPTH = 100
"""The nesting depth of messages that protobuf itself reads."""


_COUNT_ABOVE = 4_000_000
"""From this many bytes on, the fields of a graph are counted before protobuf creates objects from them."""


# For each message: the fields that hold a message that may contain a tensor.
_CHILDREN: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 25: "FunctionProto"},
    "FunctionProto": {7: "NodeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
}


_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14


# Packed fixed-width fields are, byte for byte, what raw_data would hold (little-endian).
_TENSOR_PAYLOAD = {_RAW_DATA, 4, 10}


def shortened(text: str) -> str:
    """A name, shortened for a message; the details hold all of it."""
    return text if len(text) <= 120 else f"{text[:80]}...{text[-30:]}"


class WireError(Exception):
    """The bytes are not a protobuf message; `cut` if a field runs past the end, `deep` if messages nest too deeply."""

    def __init__(self, message: str, *, cut: bool = False, deep: bool = False) -> None:
        super().__init__(message)
        self.cut, self.deep = cut, deep


class _Frame:
    """A message that is being copied: where it ends, and where to write its header when the new length is known."""

    __slots__ = ("children", "end", "head", "length", "tag", "tensor")

    def __init__(self, message: str, end: int, head: int, tag: bytes) -> None:
        self.children = _CHILDREN.get(message, {})
        self.tensor = message == "TensorProto"
        self.end, self.head, self.tag, self.length = end, head, tag, 0


def skeleton(file: BinaryIO, size: int, location: bytes) -> bytes:
    """The bytes of the model with large tensor payloads replaced by external data, in one pass without recursion."""
    out: list[bytes] = [b""]
    stack = [_Frame("ModelProto", size, 0, b"")]
    allowed, fields_allowed = limit("GRAPH_BYTES"), limit("GRAPH_FIELDS")
    data, base, window = b"", 0, 4096
    position = run = total = fields = 0  # bytes from `run` to `position` are copied unchanged

    def flush() -> None:
        nonlocal total
        if position > run:
            total += position - run
            if total > allowed:
                check("GRAPH_BYTES", total, "The model without its weights")
            file.seek(run)
            piece = file.read(position - run)
            if len(piece) < position - run:
                raise WireError(f"the file ends at byte {run + len(piece)}", cut=True)
            out.append(piece)
            stack[-1].length += len(piece)

    while stack:
        frame = stack[-1]
        end, children, tensor = frame.end, frame.children, frame.tensor
        entered = False
        while position < end:
            at = position - base
            if at < 0 or (at + 20 > len(data) and base + len(data) < size):
                window = min(2 * window, 1 << 20) if 0 <= at <= len(data) else 4096
                file.seek(position)
                data, base, at = file.read(window), position, 0
            fields += 1
            if fields > fields_allowed:
                check("GRAPH_FIELDS", fields, "The model")
            if at + 1 >= len(data):
                raise WireError(f"the file ends at byte {base + len(data)}", cut=True)
            tag, used = (data[at], at + 1) if data[at] < 128 else _varint(data, at)
            wire = tag & 7
            if wire == _BYTES:
                if used < len(data) and data[used] < 128:
                    body = base + used + 1
                    stop = body + data[used]
                else:
                    length, used = _varint(data, used)
                    body = base + used
                    stop = body + length
            elif wire == _VARINT:
                body = stop = base + _varint(data, used)[1]
            elif wire in (_FIXED64, _FIXED32):
                body = stop = base + used + (8 if wire == _FIXED64 else 4)
            else:
                raise WireError(f"unknown field at byte {position}")
            if tag < 8:
                raise WireError(f"unknown field at byte {position}")
            if stop > end:
                raise WireError(f"the field at byte {position} runs past the end", cut=True)
            if stop - body > INLINE_LIMIT:
                if tensor and tag >> 3 in _TENSOR_PAYLOAD:
                    flush()
                    out.append(_external(location, body, stop - body))
                    frame.length += len(out[-1])
                    run = stop
                elif tag >> 3 in children:
                    flush()
                    if len(stack) >= _DEPTH:
                        raise WireError(f"messages are nested more than {_DEPTH} levels deep", deep=True)
                    stack.append(_Frame(children[tag >> 3], stop, len(out), _encode(tag)))
                    out.append(b"")
                    run = position = body
                    entered = True
                    break
            position = stop
        if entered:
            continue
        flush()
        run = position
        stack.pop()
        if stack:
            out[frame.head] = frame.tag + _encode(frame.length)
            stack[-1].length += len(out[frame.head]) + frame.length
    return b"".join(out)


def check_fields(skeleton: bytes, what: str) -> None:
    """Refuse a serialized model with too many fields: each may take two bytes there and hundreds in memory.

    Raises:
        LimitError: there are more than ``GRAPH_FIELDS`` of `workbench.core.limits`; nothing is counted up to 4 MB.
    """
    if len(skeleton) <= _COUNT_ABOVE:
        return
    messages = _messages()
    allowed = limit("GRAPH_FIELDS")
    stack = [(messages["ModelProto"], len(skeleton))]
    position = fields = 0
    try:
        while stack:
            children, end = stack.pop()
            while position < end:
                fields += 1
                if fields > allowed:
                    check("GRAPH_FIELDS", fields, what)
                tag, used = (
                    (skeleton[position], position + 1) if skeleton[position] < 128 else _varint(skeleton, position)
                )
                if tag & 7 == _BYTES:
                    length, position = _varint(skeleton, used)
                    if tag >> 3 in children and length and len(stack) < _DEPTH:
                        stack.append((children, end))
                        children, end = messages[children[tag >> 3]], min(position + length, end)
                    else:
                        position += length
                elif tag & 7 == _VARINT:
                    position = _varint(skeleton, used)[1]
                else:
                    position = used + (8 if tag & 7 == _FIXED64 else 4)
    except (WireError, IndexError):
        return  # protobuf reports the error


@lru_cache(maxsize=1)
def _messages() -> dict[str, dict[int, str]]:
    """For each message of ONNX, which of its fields hold which message."""
    import onnx

    found: dict[str, dict[int, str]] = {}
    todo = [onnx.ModelProto.DESCRIPTOR]
    while todo:
        message = todo.pop()
        if message.name not in found:
            inner = [f for f in message.fields if f.message_type is not None]
            found[message.name] = {f.number: f.message_type.name for f in inner}
            todo += [f.message_type for f in inner]
    return found


def _external(location: bytes, offset: int, length: int) -> bytes:
    entries = [(b"location", location), (b"offset", b"%d" % offset), (b"length", b"%d" % length)]
    out = b""
    for key, value in entries:
        body = b"\x0a" + _encode(len(key)) + key + b"\x12" + _encode(len(value)) + value
        out += _encode(_EXTERNAL_DATA << 3 | _BYTES) + _encode(len(body)) + body
    return out + _encode(_DATA_LOCATION << 3) + b"\x01"  # DataLocation.EXTERNAL


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise WireError("a number is truncated", cut=True)
        if shift > 63:
            raise WireError("a number has more than 64 bits")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
