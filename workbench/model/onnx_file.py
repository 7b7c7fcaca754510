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
import re
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workbench.core.errors import ModelError, first_lines
from workbench.core.limits import check, limit

if TYPE_CHECKING:
    import onnx

INLINE_LIMIT = 16 * 1024
"""Tensors up to this many bytes stay in the graph: shape constants are needed for shape inference."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_DEPTH = 100
"""Messages in each other that protobuf itself reads."""

_COUNT_ABOVE = 4_000_000
"""Bytes of a graph from which on its fields are counted before protobuf makes objects of them."""

_LFS = b"version https://git-lfs"

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

    Time and memory follow the size of the graph, not of the weights; a 2 GB file reads like a small one. What can be
    known about the file without its weights is checked here, so that every command gives the same answer.

    Raises:
        ModelError: the file can't be read as ONNX. Its code says why: ``no-file``, ``is-folder``, ``not-a-file``,
            ``no-permission``, ``empty-file``, ``git-lfs-pointer``, ``not-onnx``, ``cut-short``, ``no-graph``,
            ``too-deep``, ``external-data-outside``, ``external-data-missing``,
            ``external-data-invalid``, ``external-data-short`` or ``tensor-short``.
        LimitError: the graph is larger than a limit of `workbench.core.limits`.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = Path(path)
    _check_name(path)
    try:
        _check_kind(path)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ModelError(f"{path} is empty.", hint="Export or download the model again.", code="empty-file")
            # A name relative to the model's folder: absolute locations are refused by ONNX readers.
            skeleton = _skeleton(file, size, path.name.encode(errors="surrogateescape"))
    except (OSError, ValueError) as error:
        raise _no_file(path, error) from None
    except _WireError as error:
        raise _not_onnx(path, error) from None
    check_fields(skeleton, f"The graph of {path.name}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(skeleton)
    except DecodeError as error:
        raise _not_onnx(path, error) from None
    if not model.HasField("graph") or (not model.graph.node and not model.graph.output):
        raise _not_onnx(path, None)
    _read_strings(model)
    _check_data(model, path)
    return model


def _check_kind(path: Path) -> None:
    """Refuse what is not a regular file before it is opened: a pipe would wait forever, a device has no end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        inside = sorted(p.name for p in islice(path.glob("*.onnx"), 100))
        raise ModelError(
            f"{path} is a folder, not a file.",
            hint=f"Name one of the .onnx files in it: {', '.join(inside[:5])}."
            if inside
            else "It holds no .onnx file.",
            details={"files": inside},
            code="is-folder",
        )
    if not stat.S_ISREG(mode):
        raise ModelError(f"{path} is not a regular file.", hint="Name an .onnx file.", code="not-a-file")


def _no_file(path: Path, error: OSError | ValueError) -> ModelError:
    """Why a file can't be opened or read."""
    name = str(path) if len(str(path)) < 300 else f"{str(path)[:300]}..."
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ModelError(f"There is no file {name}.", hint=_near(path), code="no-file")
    if isinstance(error, PermissionError):
        return ModelError(f"{name} may not be read.", hint="Check its permissions.", code="no-permission")
    why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return ModelError(f"{name!r} can't be read: {why}.", hint="Check the path.", code="unreadable-file")


def _not_onnx(path: Path, error: Exception | None) -> ModelError:
    """Why the bytes of a file are no ONNX model; what they are instead is said only where it was recognized."""
    found = _what_else(path)
    if found is not None:
        kind, told, hint = found
        code = "git-lfs-pointer" if kind == "git-lfs" else "not-onnx"
        return ModelError(f"{path} is not an ONNX model: it is {told}.", hint=hint, details={"found": kind}, code=code)
    if isinstance(error, _WireError) and error.cut:
        return ModelError(
            f"{path} is not a complete ONNX file ({error}).",
            hint="If it is an ONNX model, it was cut short: export or download it again.",
            code="cut-short",
        )
    if isinstance(error, _WireError) and error.deep:
        return ModelError(
            f"{path} nests graphs too deep ({error}).", hint="No ONNX library reads such a file.", code="too-deep"
        )
    if error is not None:
        return ModelError(
            f"{path} is not an ONNX file: it does not hold a protobuf message of ONNX ({first_lines(error)}).",
            hint="Pass a file made by torch.onnx.export.",
            code="not-onnx",
        )
    return ModelError(f"{path} holds no ONNX graph.", hint="Pass a file made by torch.onnx.export.", code="no-graph")


def _read_strings(model: onnx.ModelProto) -> None:
    r"""Make text of names that are not UTF-8, as old exporters on other code pages wrote: ``\xc4`` for a byte.

    Protobuf gives such a name as bytes, which nothing else expects.
    """

    def text(message: Any, *fields: str) -> None:
        for name in fields:
            value: Any = getattr(message, name)
            if isinstance(value, bytes):
                setattr(message, name, value.decode("utf-8", "backslashreplace"))

    def texts(values: Any) -> None:
        for i, value in enumerate(values):
            if isinstance(value, bytes):
                values[i] = value.decode("utf-8", "backslashreplace")

    def of_value(value: onnx.ValueInfoProto) -> None:
        text(value, "name")
        if value.type.HasField("tensor_type"):
            for dim in value.type.tensor_type.shape.dim:
                text(dim, "dim_param")

    def of_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
        for node in nodes:
            text(node, "name", "op_type", "domain", "overload")
            texts(node.input)
            texts(node.output)
            for attribute in node.attribute:
                text(attribute, "name", "ref_attr_name")
                if attribute.HasField("g"):
                    of_graph(attribute.g)
                for graph in attribute.graphs:
                    of_graph(graph)
            for entry in node.metadata_props:
                text(entry, "key", "value")

    def of_graph(graph: onnx.GraphProto) -> None:
        text(graph, "name")
        for value in (*graph.input, *graph.output, *graph.value_info):
            of_value(value)
        of_nodes(graph.node)

    of_graph(model.graph)
    for entry in (*model.metadata_props, *model.graph.metadata_props):
        text(entry, "key", "value")
    for opset in model.opset_import:
        text(opset, "domain")
    for function in model.functions:
        text(function, "name", "domain", "overload")
        for values in (function.input, function.output, function.attribute):
            texts(values)
        for attribute in function.attribute_proto:
            text(attribute, "name")
        for opset in function.opset_import:
            text(opset, "domain")
        of_nodes(function.node)
    for tensor in tensors_of(model):
        text(tensor, "name")
        for pair in tensor.external_data:
            text(pair, "key", "value")


def _check_data(model: onnx.ModelProto, path: Path) -> None:
    """Check that each tensor's bytes exist: in the file, or in the files of external data beside it."""
    sizes: dict[str, int | None] = {}
    missing: list[str] = []
    for tensor in tensors_of(model):
        needed = _bytes_needed(tensor)
        if tensor.data_location != tensor.EXTERNAL and not tensor.external_data:
            if tensor.HasField("raw_data") and needed is not None and len(tensor.raw_data) < needed:
                raise ModelError(
                    f"Tensor {_cut(tensor.name)} of {path} holds {len(tensor.raw_data):,} bytes; its shape "
                    f"{list(tensor.dims)[:16]} needs {needed:,}.",
                    hint="The file is damaged: export or download it again.",
                    code="tensor-short",
                )
            continue
        entries = {pair.key: pair.value for pair in tensor.external_data}
        location = entries.get("location", "")
        place = _inside(path, location)
        offset, length = (_number(path, tensor.name, key, entries.get(key)) for key in ("offset", "length"))
        if location not in sizes:
            sizes[location] = _size(place)
            if sizes[location] is None:
                missing.append(location)
            elif location != path.name:
                _check_pointer(place)
        size = sizes[location]
        if size is None:
            continue
        begin = offset or 0
        have = max(size - begin, 0) if length is None else length
        if begin + (length or 0) > size or (needed is not None and have < needed):
            raise ModelError(
                f"{_cut(location)} is too short: tensor {_cut(tensor.name)} needs "
                f"{(needed if length is None else length) or 0:,} bytes from byte {begin:,} on, "
                + (f"and the entry gives it {have:,}." if begin + have <= size and length is not None
                   else f"and the file has {size:,}."),
                hint=f"Copy or download {_cut(location)} again, whole.",
                details={"file": location, "tensor": tensor.name, "size": size, "offset": begin, "length": length},
                code="external-data-short",
            )  # fmt: skip
    if missing:
        names = ", ".join(_cut(name) for name in missing[:5])
        raise ModelError(
            f"{path} keeps weights in {names}, which {'is' if len(missing) == 1 else 'are'} not beside it.",
            hint=f"Copy the missing file{'s' if len(missing) > 1 else ''} into {path.parent}.",
            details={"missing": sorted(missing)},
            code="external-data-missing",
        )


def _inside(path: Path, location: str) -> Path:
    """The file of external data that a tensor names, which must lie below the model's folder."""
    if not location or "\0" in location or len(location) > 4096:
        raise ModelError(
            f"{path} names no usable file for the data of a tensor: {_cut(location)!r}.",
            hint="Save the model again with its data beside it.",
            code="external-data-invalid",
        )
    parts = re.split(r"[\\/]", location)
    if Path(location).is_absolute() or ".." in parts or re.match(r"[A-Za-z]:", location):
        raise ModelError(
            f"{path} names weights outside its own folder: {_cut(location)}.",
            hint="ONNX forbids that: save the model again with its data beside it, or do not open it.",
            code="external-data-outside",
        )
    return path.parent / location


def _number(path: Path, tensor: str, key: str, text: str | None) -> int | None:
    """Offset or length of external data."""
    if text is None or text == "":
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise ModelError(
            f"{path}: the {key} of the data of tensor {_cut(tensor)} is no number of bytes: {_cut(text)!r}.",
            hint="Save the model again with its data beside it.",
            code="external-data-invalid",
        )
    return int(text)


def _size(file: Path) -> int | None:
    """Size of a regular file in bytes; None where there is none."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _check_pointer(file: Path) -> None:
    try:
        with file.open("rb") as data:
            pointer = data.read(len(_LFS)) == _LFS
    except OSError as error:
        raise _no_file(file, error) from None
    if pointer:
        raise ModelError(
            f"{file.name} holds no weights: it is a Git LFS pointer.",
            hint=f"Run `git lfs pull` in {file.parent} to get the weights.",
            details={"file": file.name},
            code="git-lfs-pointer",
        )


def _bytes_needed(tensor: onnx.TensorProto) -> int | None:
    """Bytes that the tensor's shape and type ask for; None where the type has no fixed size."""
    from workbench.model.node import dtype_name, nbytes

    return nbytes(tensor.dims, dtype_name(tensor.data_type))


def _cut(text: str) -> str:
    """A name for a message: the whole of it is in the details."""
    return text if len(text) <= 120 else f"{text[:80]}...{text[-30:]}"


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
    """The bytes are no protobuf message; `cut` where a field runs past the end, `deep` where messages nest too deep."""

    def __init__(self, message: str, *, cut: bool = False, deep: bool = False) -> None:
        super().__init__(message)
        self.cut, self.deep = cut, deep


class _Frame:
    """A message that is being copied: where it ends, and where its head belongs once its new length is known."""

    __slots__ = ("children", "end", "head", "length", "tag", "tensor")

    def __init__(self, message: str, end: int, head: int, tag: bytes) -> None:
        self.children = _CHILDREN.get(message, {})
        self.tensor = message == "TensorProto"
        self.end, self.head, self.tag, self.length = end, head, tag, 0


def _skeleton(file: BinaryIO, size: int, location: bytes) -> bytes:
    """The bytes of the model with large tensor payloads made external; one pass, without recursion."""
    out: list[bytes] = [b""]
    stack = [_Frame("ModelProto", size, 0, b"")]
    allowed, fields_allowed = limit("GRAPH_BYTES"), limit("GRAPH_FIELDS")
    data, base, window = b"", 0, 4096
    position = run = total = fields = 0  # bytes from `run` to `position` are copied as they are

    def flush() -> None:
        nonlocal total
        if position > run:
            total += position - run
            if total > allowed:
                check("GRAPH_BYTES", total, "The model without its weights")
            file.seek(run)
            piece = file.read(position - run)
            if len(piece) < position - run:
                raise _WireError(f"the file ends at byte {run + len(piece)}", cut=True)
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
                raise _WireError(f"the file ends at byte {base + len(data)}", cut=True)
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
                raise _WireError(f"unknown field at byte {position}")
            if tag < 8:
                raise _WireError(f"unknown field at byte {position}")
            if stop > end:
                raise _WireError(f"the field at byte {position} runs past the end", cut=True)
            if stop - body > INLINE_LIMIT:
                if tensor and tag >> 3 in _TENSOR_PAYLOAD:
                    flush()
                    out.append(_external(location, body, stop - body))
                    frame.length += len(out[-1])
                    run = stop
                elif tag >> 3 in children:
                    flush()
                    if len(stack) >= _DEPTH:
                        raise _WireError(f"more than {_DEPTH} messages in each other", deep=True)
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
    """Refuse a serialized model of too many fields: each may be two bytes there and hundreds in memory.

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
    except (_WireError, IndexError):
        return  # protobuf says what is wrong


@lru_cache(maxsize=1)
def _messages() -> dict[str, dict[int, str]]:
    """For each message of ONNX which of its fields hold which message."""
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
            raise _WireError("a number is cut short", cut=True)
        if shift > 63:
            raise _WireError("a number has more than 64 bits")
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


_MAGIC: tuple[tuple[bytes, int, str, str, str], ...] = (
    (_LFS, 0, "git-lfs", "a Git LFS pointer", "Run `git lfs pull` to get the model itself."),
    (b"\x89HDF", 0, "hdf5", "an HDF5 file, which Keras writes", "Convert it with tf2onnx first."),
    (b"TFL3", 4, "tflite", "a TFLite model", "Convert it to ONNX, for example with tf2onnx --tflite."),
    (b"ORTM", 4, "ort", "a model in ONNX Runtime's own format (.ort)", "Pass the .onnx file that it was made from."),
    (b"ftrt", 0, "engine", "a TensorRT engine", "Pass the model that it was built from."),
    (b"vtrt", 0, "engine", "an engine of TensorRT for RTX", "Pass the model that it was built from."),
    (b"GGUF", 0, "gguf", "a GGUF file of llama.cpp", "Pass an ONNX export of the model."),
    (b"\x1f\x8b", 0, "gzip", "a gzip archive", "Unpack it and pass the .onnx file."),
    (b"BZh", 0, "bzip2", "a bzip2 archive", "Unpack it and pass the .onnx file."),
    (b"\xfd7zXZ\0", 0, "xz", "an xz archive", "Unpack it and pass the .onnx file."),
    (b"\x28\xb5\x2f\xfd", 0, "zstd", "a Zstandard archive", "Unpack it and pass the .onnx file."),
    (b"7z\xbc\xaf\x27\x1c", 0, "7z", "a 7z archive", "Unpack it and pass the .onnx file."),
    (b"ustar", 257, "tar", "a tar archive", "Unpack it and pass the .onnx file."),
    (b"\x93NUMPY", 0, "npy", "a NumPy array", "Pass the .onnx file."),
    (b"\x7fELF", 0, "elf", "a Linux program or library", "Pass the .onnx file."),
    (b"%PDF", 0, "pdf", "a PDF document", "Pass the .onnx file."),
    (b"\x89PNG", 0, "image", "a PNG image", "Pass the .onnx file."),
    (b"\xff\xd8\xff", 0, "image", "a JPEG image", "Pass the .onnx file."),
)  # fmt: skip
"""First bytes, their offset, a name for programs, words, and the way out."""


def _what_else(path: Path) -> tuple[str, str, str] | None:
    """What the file is instead, as its first bytes prove: a name, words, and the way out; None where they do not say."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return None
    for magic, at, kind, told, hint in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return kind, told, hint
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(head)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 2:
        return "pickle", "a Python pickle, which torch.save wrote before 1.6", "Load it in Python and pass the module."
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return "safetensors", "a safetensors file: weights without a graph", "Load it in Python and pass the module."
    try:
        text = head[: 4096 if size > 4096 else len(head)].decode("utf-8", "strict" if size <= 4096 else "ignore")
    except UnicodeDecodeError:
        return None
    if any(c < " " and c not in "\t\n\r\f" for c in text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return "html", "an HTML page", "A web page was saved instead of the model: download the file itself."
    if start.startswith(("<?xml", "<net ")) and "<net " in start:
        return "openvino", "an OpenVINO model (.xml)", "Pass the ONNX file that it was made from."
    if start.startswith(("<", "{", "[")):
        return "text", f"a {'JSON' if start[0] in '{[' else 'XML'} text", "Download or export the model again."
    return "text", "a text file", "Download or export the model again."


def _zip_kind(head: bytes) -> tuple[str, str, str]:
    """What a zip archive holds, by the name of its first entry."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")].decode("utf-8", "replace")
    if name.endswith(("/data.pkl", "/archive_format", "/.format_version", "/byteorder", "/version", "/.data/version")):
        return "torch", "an archive of torch.save, torch.jit or torch.export", "Load it in Python and pass the module."
    if name.endswith(".npy"):
        return "npz", "an archive of NumPy arrays (.npz)", "Pass the .onnx file."
    return "zip", f"a zip archive (its first entry is {_cut(name)!r})", "Unpack it and pass the .onnx file."


def _near(path: Path) -> str | None:
    import difflib

    if not path.parent.is_dir():
        return f"There is no folder {path.parent} either."
    names = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.onnx")], n=3)
    return f"Did you mean {' or '.join(names)}?" if names else None
