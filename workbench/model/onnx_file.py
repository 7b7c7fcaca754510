"""Reads an ONNX graph without its weights.

An ONNX file is a protobuf message, and a protobuf library can only read all of it. A graph viewer needs
kilobytes of the gigabytes. So this module reads protobuf's wire format (tag, length, payload) and replaces
each large tensor payload with what ONNX calls external data: the path of the file, and the offset and length
of those bytes. The result is a valid, small `onnx.ModelProto` whose weights any ONNX library can still find.

Field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError
from workbench.model.not_onnx import LFS, no_file, not_onnx
from workbench.model.onnx_wire import WireError, check_fields, shortened, skeleton

if TYPE_CHECKING:
    import onnx


def _check_name(path: Path) -> None:
    """Refuse a file whose name is not UTF-8: an ONNX file can't hold such a name."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise ModelError(f"The name of {path} is not UTF-8.", hint="Rename the file.", code="not-utf8") from None


def read_graph(path: Path) -> onnx.ModelProto:
    """The model at `path` with every tensor above `INLINE_LIMIT` left on disk.

    Time and memory depend on the size of the graph, not of the weights: a 2 GB file reads like a small one. All checks
    that do not need the weights are here, so that every command reports the same errors.

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
            # A name relative to the model's folder: ONNX readers refuse absolute locations.
            read = skeleton(file, size, path.name.encode(errors="surrogateescape"))
    except (OSError, ValueError) as error:
        raise no_file(path, error) from None
    except WireError as error:
        raise not_onnx(path, error) from None
    check_fields(read, f"The graph of {path.name}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(read)
    except DecodeError as error:
        raise not_onnx(path, error) from None
    if not model.HasField("graph") or (not model.graph.node and not model.graph.output):
        raise not_onnx(path, None)
    _read_strings(model)
    _check_data(model, path)
    return model


def _check_kind(path: Path) -> None:
    """Refuse anything but a regular file before it is opened: a pipe would wait forever, and a device has no end."""
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


def _read_strings(model: onnx.ModelProto) -> None:
    r"""Convert names that are not UTF-8 to text, with ``\xc4`` for a byte. Old exporters on other code pages wrote such names.

    Protobuf returns such a name as bytes, which no other code expects.
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
    """Check that each tensor's bytes exist: in the file, or in the files of external data next to it."""
    sizes: dict[str, int | None] = {}
    missing: list[str] = []
    for tensor in tensors_of(model):
        needed = _bytes_needed(tensor)
        if tensor.data_location != tensor.EXTERNAL and not tensor.external_data:
            if tensor.HasField("raw_data") and needed is not None and len(tensor.raw_data) < needed:
                raise ModelError(
                    f"Tensor {shortened(tensor.name)} of {path} holds {len(tensor.raw_data):,} bytes; its shape "
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
                f"{shortened(location)} is too short: tensor {shortened(tensor.name)} needs "
                f"{(needed if length is None else length) or 0:,} bytes from byte {begin:,} on, "
                + (f"and the entry gives it {have:,}." if begin + have <= size and length is not None
                   else f"and the file has {size:,}."),
                hint=f"Copy or download {shortened(location)} again, completely.",
                details={"file": location, "tensor": tensor.name, "size": size, "offset": begin, "length": length},
                code="external-data-short",
            )  # fmt: skip
    if missing:
        names = ", ".join(shortened(name) for name in missing[:5])
        raise ModelError(
            f"{path} keeps weights in {names}, which {'is' if len(missing) == 1 else 'are'} not in the same folder.",
            hint=f"Copy the missing file{'s' if len(missing) > 1 else ''} into {path.parent}.",
            details={"missing": sorted(missing)},
            code="external-data-missing",
        )


def _inside(path: Path, location: str) -> Path:
    """The file of external data that a tensor names, which must be below the model's folder."""
    if not location or "\0" in location or len(location) > 4096:
        raise ModelError(
            f"{path} names no usable file for the data of a tensor: {shortened(location)!r}.",
            hint="Save the model again with its data beside it.",
            code="external-data-invalid",
        )
    parts = re.split(r"[\\/]", location)
    if Path(location).is_absolute() or ".." in parts or re.match(r"[A-Za-z]:", location):
        raise ModelError(
            f"{path} names weights outside its folder: {shortened(location)}.",
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
            f"{path}: the {key} of the data of tensor {shortened(tensor)} is not a number of bytes: {shortened(text)!r}.",
            hint="Save the model again with its data beside it.",
            code="external-data-invalid",
        )
    return int(text)


def _size(file: Path) -> int | None:
    """Size of a regular file in bytes; None if there is no such file."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _check_pointer(file: Path) -> None:
    try:
        with file.open("rb") as data:
            pointer = data.read(len(LFS)) == LFS
    except OSError as error:
        raise no_file(file, error) from None
    if pointer:
        raise ModelError(
            f"{file.name} holds no weights: it is a Git LFS pointer.",
            hint=f"Run `git lfs pull` in {file.parent} to get the weights.",
            details={"file": file.name},
            code="git-lfs-pointer",
        )


def _bytes_needed(tensor: onnx.TensorProto) -> int | None:
    """Bytes that the tensor's shape and type require; None if the type has no fixed size."""
    from workbench.model.node import dtype_name, nbytes

    return nbytes(tensor.dims, dtype_name(tensor.data_type))


def external_files(model: onnx.ModelProto, path: Path) -> set[Path]:
    """The files next to `path` in which the model keeps weights, without `path` itself."""
    return {path.parent / location for location in _locations(model) if location != path.name}


def _locations(model: onnx.ModelProto) -> set[str]:
    entries = (entry for tensor in tensors_of(model) for entry in tensor.external_data)
    return {entry.value for entry in entries if entry.key == "location"}


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the model: initializers and attributes, including nested graphs and functions."""

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
