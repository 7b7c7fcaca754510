"""Read an ONNX graph without its weights.

An ONNX file is a protobuf message, and a protobuf library can only read all of it. A graph viewer needs
kilobytes of the gigabytes. So the file is walked at the level of protobuf's wire format (tag, length,
payload), and each large tensor payload is replaced by what ONNX calls external data: the path of the
file, the offset and the length where those bytes lie. The result is a valid, small `onnx.ModelProto`
whose weights any ONNX library can still find.

Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from workbench.errors import ModelError

if TYPE_CHECKING:
    import onnx

INLINE_LIMIT = 16 * 1024
"""Tensors up to this many bytes stay in the graph: shape constants are needed for shape inference."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# For each message: which of its fields hold a message that may contain a tensor.
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


def _check_name(path: Path) -> None:
    """Refuse a file whose name is not UTF-8: in ONNX files it could not be written down."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise ModelError(f"The name of {path} is not UTF-8.", hint="Rename the file.", code="not-utf8") from None


def read_graph(path: Path) -> onnx.ModelProto:
    """The model at `path` with every tensor above `INLINE_LIMIT` left on disk.

    Time and memory follow the size of the graph, not of the weights; a 2 GB file reads like a small one.

    Raises:
        ModelError: the file is absent, is not ONNX, is cut short, or its external data is missing.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = Path(path)
    _check_name(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ModelError(f"{path} is empty.", hint="Export or download the model again.")
            # A name relative to the model's folder: absolute locations are refused by ONNX readers.
            skeleton = b"".join(_copy(file, "ModelProto", 0, size, path.name.encode()))
    except FileNotFoundError:
        raise ModelError(f"There is no file {path}.", hint=_near(path)) from None
    except IsADirectoryError:
        raise ModelError(f"{path} is a folder.", hint="Name the .onnx file in it.") from None
    except PermissionError:
        raise ModelError(f"{path} may not be read.", hint="Check its permissions.") from None
    except _WireError as error:
        raise ModelError(
            f"{path} is not a complete ONNX file ({error}).",
            hint=_what_else(path) or "It may have been cut short: export or download it again.",
        ) from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(skeleton)
    except DecodeError:
        raise ModelError(
            f"{path} is not an ONNX file.",
            hint=_what_else(path) or "Pass a file made by torch.onnx.export.",
        ) from None
    if not model.HasField("graph") or (not model.graph.node and not model.graph.output):
        raise ModelError(
            f"{path} holds no ONNX graph.",
            hint=_what_else(path) or "Pass a file made by torch.onnx.export.",
        )
    outside = sorted({e for e in _locations(model) if Path(e).is_absolute() or ".." in Path(e).parts})
    if outside:
        raise ModelError(
            f"{path} names weights outside its own folder: {', '.join(outside[:5])}.",
            hint="ONNX forbids that: save the model again with its data beside it, or do not open it.",
        )
    missing = sorted({str(f.relative_to(path.parent)) for f in external_files(model, path) if not f.is_file()})
    if missing:
        raise ModelError(
            f"{path} keeps weights in {', '.join(missing[:5])}, which "
            f"{'is' if len(missing) == 1 else 'are'} not beside it.",
            hint=f"Copy the missing file{'s' if len(missing) > 1 else ''} into {path.parent}.",
            details={"missing": missing},
        )
    return model


def external_files(model: onnx.ModelProto, path: Path) -> set[Path]:
    """The files beside `path` in which the model keeps weights (`path` itself left out)."""
    return {path.parent / location for location in _locations(model) if location != path.name}


def _locations(model: onnx.ModelProto) -> set[str]:
    entries = (entry for tensor in tensors_of(model) for entry in tensor.external_data)
    return {entry.value for entry in entries if entry.key == "location"}


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the model: initializers and attributes, nested graphs and functions too."""

    def of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield sparse.values
            yield sparse.indices
        for node in graph.node:
            yield from of_node(node)

    def of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from of_graph(attribute.g)
            for graph in attribute.graphs:
                yield from of_graph(graph)

    yield from of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from of_node(node)


def fingerprint(path: Path, external: set[Path]) -> str:
    """SHA-256 over the model's bytes and, with their names, those of its external data files."""
    digest = hashlib.sha256()
    _feed(digest, path)
    for file in sorted(external):
        digest.update(b"\0" + file.name.encode() + b"\0")
        _feed(digest, file)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, path: Path) -> None:
    buffer = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])


class _WireError(Exception):
    pass


def _copy(file: BinaryIO, message: str, start: int, end: int, location: bytes) -> Iterator[bytes]:
    """The bytes of `message` at [start, end) with large tensor payloads made external."""
    children = _CHILDREN.get(message, {})
    position = start
    while position < end:
        file.seek(position)
        head = file.read(20)
        tag, used = _varint(head, 0)
        field, wire = tag >> 3, tag & 7
        if field == 0 or wire not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
            raise _WireError(f"unknown field at byte {position}")
        if wire == _BYTES:
            length, used = _varint(head, used)
            body = position + used
            stop = body + length
            if stop > end:
                raise _WireError(f"the field at byte {position} runs past the end")
            if message == "TensorProto" and length > INLINE_LIMIT and field in _TENSOR_PAYLOAD:
                yield _external(location, body, length)
            elif field in children and length > INLINE_LIMIT:
                inner = b"".join(_copy(file, children[field], body, stop, location))
                yield _encode(field << 3 | _BYTES) + _encode(len(inner)) + inner
            else:
                file.seek(position)
                yield file.read(stop - position)
        else:
            stop = position + (_varint(head, used)[1] if wire == _VARINT else used + (8 if wire == _FIXED64 else 4))
            if stop > end:
                raise _WireError(f"the field at byte {position} runs past the end")
            yield head[: stop - position]
        position = stop


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
        if at >= len(data) or shift > 63:
            raise _WireError("a number is cut short")
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


def _what_else(path: Path) -> str | None:
    """What the file is instead, told by its first bytes."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        return "It is a Git LFS pointer: run `git lfs pull` to get the model itself."
    if head.startswith(b"PK\x03\x04"):
        return "It looks like a torch.save or .pt2 archive: load it in Python and pass the module."
    if head.startswith(b"\x89HDF"):
        return "It looks like an HDF5 (Keras) file: convert it with tf2onnx first."
    if head[4:8] == b"TFL3":
        return "It looks like a TFLite file: TensorRT reads ONNX."
    if head.startswith((b"<", b"{")):
        return "It looks like text, not a model: was a web page saved instead of the file?"
    if head.startswith(b"ftrt") or path.suffix in {".engine", ".plan", ".trt"}:
        return "It looks like a built engine: name the model that it was built from."
    return None


def _near(path: Path) -> str | None:
    import difflib

    if not path.parent.is_dir():
        return f"There is no folder {path.parent} either."
    names = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.onnx")], n=3)
    return f"Did you mean {' or '.join(names)}?" if names else None
