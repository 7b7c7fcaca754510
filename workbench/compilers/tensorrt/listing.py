"""Read the builder's listing of layers: the ``Layers:`` message of a VERBOSE build log.

With detailed profiling verbosity, TensorRT's builder logs what the engine inspector would say, as text.
That text is the only account of the fusions on a machine without a GPU. Its form is undocumented and
drifts: TensorRT for RTX 1.4 writes ``Format/Datatype`` in one field; 1.5 splits it and adds strides and
constants; 1.7 adds an ``Engine Metadata`` part. So it is read by a grammar that accounts for every
character, and what does not fit is an error that names the line, never a layer left out.

    listing  = "Layers:" layer* "I/O Tensors:" io* ["Engine Metadata:" ...]   (1.5 and later)
             | "Layers:" layer* "Bindings:" name*                              (1.4, TensorRT 10)
    layer    = "Name: " name ", LayerType: " type ", Inputs: " tensors [", Constants: " tensors]
               ", Outputs: " tensors {", " key ": " value} ", Metadata: " owners
    tensors  = "[" ["{ " tensor " }" {", { " tensor " }"}] "]"
    owners   = {"[ONNX Layer: " name "]" [note]}, set apart by the control character 0x1e or 0x1f, or nothing
    note     = text without brackets, as "__gemm_from_conv1x1" of a convolution that became a matrix product (1.7)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from workbench.compilers.base import IORecord, LayerRecord, TensorRecord
from workbench.errors import ListingError

_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<shape>[-\d, ]*)\]"
    r"(?:, Strides: \[(?P<strides>[-\d, ]*)\])?(?:, StrideOrder: \[[-\d, ]*\])?"
    r"(?:, Datatype: (?P<dtype>[^,}]*), Format: (?P<format>.*?)|, Format/Datatype: (?P<both>.*?))"
    r" \}(?P<end>, (?=\{ )|\])"
)
_HEAD = re.compile(r"Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: \[")
_FIELD = re.compile(r", (?P<key>[A-Z][A-Za-z/]*): ")
_OWNER = re.compile(r"\[ONNX Layer: (.*?)\](?=[^\[\]]*(?:\[ONNX Layer: |$))")
_IO = re.compile(
    r" Name: (?P<name>.*?), IOMode: (?P<mode>\w+), DataType: (?P<dtype>\w+), Dimensions: \[(?P<shape>[-\d, ]*)\], "
    r"Location: (?P<location>\w+), IsShapeInferenceIO: \w+, ProfileInfo: \[(?P<profiles>.*)\]$"
)
_RANGE = re.compile(r"MinShape: \[([-\d, ]*)\], OptShape: \[([-\d, ]*)\], MaxShape: \[([-\d, ]*)\]")

DTYPES = {
    "Float": "float32", "FP32": "float32", "Half": "float16", "FP16": "float16", "BFloat16": "bfloat16",
    "BF16": "bfloat16", "Int8": "int8", "INT8": "int8", "Int32": "int32", "INT32": "int32", "Int64": "int64",
    "INT64": "int64", "Bool": "bool", "BOOL": "bool", "UInt8": "uint8", "UINT8": "uint8", "FP8": "float8e4m3fn",
    "FP8E4M3": "float8e4m3fn", "Float8E4M3FN": "float8e4m3fn", "Int4": "int4", "INT4": "int4", "FP4": "float4e2m1",
    "FP4E2M1": "float4e2m1", "E8M0": "float8e8m0",
}  # fmt: skip
"""TensorRT's names of data types, in all the spellings seen, to ONNX's."""


@dataclass
class Listing:
    """The parts of the message."""

    layers: list[LayerRecord] = field(default_factory=list)
    io: list[IORecord] = field(default_factory=list)


def parse_listing(text: str, version: str = "") -> Listing:
    """Read the whole message.

    Args:
        text: The message, from ``Layers:`` on.
        version: Compiler and version, for the error's text.

    Raises:
        ListingError: a line does not have the known form; the error holds the line.
    """
    listing = Listing()
    part = ""
    for line in text.split("\n"):
        heading = line.strip()
        if heading in {"Layers:", "I/O Tensors:", "Engine Metadata:", "Bindings:"}:
            part = heading
        elif not heading:
            continue
        elif part == "Layers:":
            listing.layers.append(_layer(line, version))
        elif part == "I/O Tensors:":
            listing.io.append(_io(line, version))
        elif part == "Bindings:":
            listing.io.append({"name": line.strip(), "mode": "", "dtype": "", "shape": [], "profiles": []})
        elif part != "Engine Metadata:":
            raise _unreadable(line, 0, version)
    if not part:
        raise _unreadable(text[:200], 0, version)
    return listing


def _layer(line: str, version: str) -> LayerRecord:
    head = _HEAD.match(line)
    if not head:
        raise _unreadable(line, 0, version)
    layer: LayerRecord = {
        "name": head["name"], "type": head["type"], "constants": [], "outputs": [], "tactic": "",
        "stream": 0, "event": None, "nodes": [], "metadata": "",
    }  # fmt: skip
    layer["inputs"], at = _tensors(line, head.end(), version)
    while at < len(line):
        found = _FIELD.match(line, at)
        if not found:
            raise _unreadable(line, at, version)
        key, at = found["key"], found.end()
        if key in {"Constants", "Outputs"} and line.startswith("[", at):
            tensors, at = _tensors(line, at + 1, version)
            layer["constants" if key == "Constants" else "outputs"] = tensors
            continue
        if key == "Metadata":
            # The last field: whatever follows belongs to it.
            layer["metadata"] = line[at:]
            layer["nodes"] = owners(layer["metadata"])
            if layer["metadata"].count("[ONNX Layer: ") != len(_OWNER.findall(layer["metadata"])):
                raise _unreadable(line, at, version)
            at = len(line)
            continue
        # A simple value ends where the next field begins.
        following = _FIELD.search(line, at)
        end = following.start() if following else len(line)
        value = line[at:end]
        if key == "TacticName":
            layer["tactic"] = value
        elif key == "StreamId" and value.lstrip("-").isdigit():
            layer["stream"] = int(value)
        elif key == "EventId" and value.lstrip("-").isdigit():
            layer["event"] = int(value)
        at = end
    return layer


def owners(metadata: str) -> list[str]:
    """The ONNX node names in a layer's metadata, in order, each once."""
    return list(dict.fromkeys(_OWNER.findall(metadata)))


def _tensors(line: str, at: int, version: str) -> tuple[list[TensorRecord], int]:
    """The tensors of a bracketed list whose "[" ends at `at`, and where the list ends."""
    found: list[TensorRecord] = []
    if line.startswith("]", at):
        return found, at + 1
    at += line.startswith(" ", at)
    while True:
        match = _TENSOR.match(line, at)
        if not match:
            raise _unreadable(line, at, version)
        dtype, layout = match["dtype"], match["format"]
        if match["both"] is not None:
            dtype, layout = split_format(match["both"])
        tensor: TensorRecord = {
            "name": match["name"],
            "shape": _numbers(match["shape"]),
            "strides": None if match["strides"] is None else _numbers(match["strides"]),
            "dtype": DTYPES.get(dtype, dtype.lower()),
            "format": layout,
        }
        found.append(tensor)
        at = match.end()
        if match["end"] == "]":
            return found, at


def split_format(text: str) -> tuple[str, str]:
    """``Format/Datatype`` of TensorRT 10 and RTX 1.4: a type alone, or a layout that names the type.

    Examples: ``Float``; ``Row major linear FP16 format``; ``Channel major FP16 format where C == 8``.
    """
    if text in DTYPES:
        return text, ""
    for word in text.replace(",", " ").split():
        if word in DTYPES:
            return word, text
    return "", text


def _io(line: str, version: str) -> IORecord:
    match = _IO.match(line)
    if not match:
        raise _unreadable(line, 0, version)
    layout = re.search(r"Format: (.*?) \}", match["profiles"])
    return {
        "name": match["name"],
        "mode": match["mode"].lower(),
        "dtype": DTYPES.get(match["dtype"], match["dtype"].lower()),
        "shape": _numbers(match["shape"]),
        "location": match["location"].lower(),
        "format": layout[1] if layout else "",
        "profiles": [
            {"min": _numbers(low), "opt": _numbers(usual), "max": _numbers(high)}
            for low, usual, high in _RANGE.findall(match["profiles"])
        ],
    }


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")] if text.strip() else []


def _unreadable(line: str, at: int, version: str) -> ListingError:
    return ListingError(
        f"The layer listing of {version or 'this compiler'} has a form that the workbench does not know: "
        f"...{line[max(0, at - 40) : at + 120]}...",
        hint="The engine was built, but its layers can't be shown. Please report this with the compiler's "
        "version; versions 1.4, 1.5 and 1.7 of TensorRT for RTX are known to work.",
        details={"line": line[:2000], "at": at},
    )
