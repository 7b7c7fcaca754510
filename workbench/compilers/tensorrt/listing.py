"""Read the builder's listing of layers: the ``Layers:`` message of a VERBOSE build log.

With detailed profiling verbosity, TensorRT's builder logs the content of the engine inspector, as text.
That text is the only source of the fusions on a machine without a GPU. Its format is undocumented and
changes: TensorRT for RTX 1.4 writes ``Format/Datatype`` in one field; 1.5 splits it and adds strides and
constants; 1.7 adds an ``Engine Metadata`` part. So the reader's grammar accounts for
every character. A line that does not match is an error that names the line; no layer is ever left out.

    listing  = "Layers:" layer* "I/O Tensors:" io* ["Engine Metadata:" ...]   (1.5 and later)
             | "Layers:" layer* "Bindings:" name*                              (1.4, TensorRT 10)
    layer    = "Name: " name ", LayerType: " type ", Inputs: " tensors [", Constants: " tensors]
               ", Outputs: " tensors {", " key ": " value} ", Metadata: " owners
    tensors  = "[" ["{ " tensor " }" {", { " tensor " }"}] "]"
    owners   = {"[ONNX Layer: " name "]" [note]}, separated by the control character 0x1e or 0x1f, or nothing
    note     = text without brackets, such as "__gemm_from_conv1x1" for a convolution that became a matrix product (1.7)

The text has no end mark. A listing that was cut short lacks something: the part with inputs and outputs (always the
last or the last but one), the end of a line, or an output, which is a tensor that a layer writes and no layer reads.

Every pattern reads a line from left to right without backtracking, so the time is linear in the text's length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from workbench.compilers.tensorrt.dtypes import NAMES
from workbench.core import limits
from workbench.core.errors import ListingError
from workbench.plan.document import IODocument
from workbench.plan.record import LayerRecord, TensorRecord

_TENSOR = "{ Name: "
_ABOUT_BEGINS = ", Dimensions: ["
_ABOUT = re.compile(
    r", Dimensions: \[(?P<shape>[-0-9, ]*)\]"
    r"(?:, Strides: \[(?P<strides>[-0-9, ]*)\])?(?:, StrideOrder: \[[-0-9, ]*\])?"
    r"(?:, Datatype: (?P<dtype>[^,}]*), Format: |, Format/Datatype: )"
)
_CLOSED = re.compile(r" \}(?P<end>, (?=\{ )|\])")
_HEAD = re.compile(r"Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: \[")
_FIELD = re.compile(r", (?P<key>[A-Z][A-Za-z/]*): ")
_OWNER = "[ONNX Layer: "
_IO = re.compile(
    r" Name: (?P<name>.*?), IOMode: (?P<mode>\w+), DataType: (?P<dtype>\w+), Dimensions: \[(?P<shape>[-0-9, ]*)\], "
    r"Location: (?P<location>\w+), IsShapeInferenceIO: \w+, ProfileInfo: \["
)
_RANGE = re.compile(r"MinShape: \[([-0-9, ]*)\], OptShape: \[([-0-9, ]*)\], MaxShape: \[([-0-9, ]*)\]")
_FURTHER = re.compile(r" \[profile [0-9]+\]$")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_PARTS = ("Layers:", "I/O Tensors:", "Bindings:", "Engine Metadata:")

RANK = 64
"""Dimensions that a tensor may have; TensorRT allows 8."""


@dataclass
class Listing:
    """The parts of the message."""

    layers: list[LayerRecord] = field(default_factory=list)
    io: list[IODocument] = field(default_factory=list)


def parse_listing(text: str, version: str = "", outputs: Collection[str] = ()) -> Listing:
    """Read the whole message.

    Args:
        text: The message, from ``Layers:`` on.
        version: Compiler and version, for the error's text.
        outputs: Names of the network's outputs, if known: a listing that lacks one was cut short.

    Raises:
        ListingError: a line does not have the known form (the error holds the line), or the end is missing.
        LimitError: the message or one of its lines is too long.
    """
    limits.check("DOCUMENT_BYTES", len(text), "The layer listing")
    listing = Listing()
    part = ""
    for line in text.split("\n"):
        limits.check("LINE_BYTES", len(line), "A line of the layer listing")
        heading = line.strip()
        if heading in _PARTS and _PARTS.index(heading) > (_PARTS.index(part) if part else -1):
            if not part and heading != "Layers:":
                raise _unreadable(line, 0, version)
            part = heading
        elif not heading:
            continue
        elif part == "Layers:":
            listing.layers.append(_layer(line, version))
        elif part == "I/O Tensors:":
            listing.io.append(_io(line, version))
        elif part == "Bindings:":
            # Each further shape profile names its inputs and outputs again.
            if not _FURTHER.search(heading) and heading not in {io["name"] for io in listing.io}:
                listing.io.append({"name": heading, "mode": "", "dtype": "", "shape": [], "profiles": []})
        elif part != "Engine Metadata:":
            raise _unreadable(line, 0, version)
    if not part:
        raise _unreadable(text[:200], 0, version)
    _check_end(listing, part, version, outputs)
    return listing


def _check_end(listing: Listing, part: str, version: str, outputs: Collection[str]) -> None:
    """Refuse a listing whose end is missing; see the module's docstring."""
    if part == "Layers:":
        raise _cut("it ends before the part with inputs and outputs", version)
    named = [io["name"] for io in listing.io]
    read = {t["name"] for layer in listing.layers for t in (*layer["inputs"], *layer["constants"])}
    written = dict.fromkeys(t["name"] for layer in listing.layers for t in layer["outputs"])
    if absent := [name for name in outputs or written if name not in named and (outputs or name not in read)]:
        raise _cut(f"output {absent[0]} is not among its inputs and outputs", version)
    known = read | set(written)
    last = named[-1] if named else ""
    if named and last not in known and not listing.io[-1]["mode"]:
        # The name in the last line of Bindings may be cut.
        longer = next((name for name in known if name.startswith(last) or last.startswith(f"{name} [")), None)
        if longer is not None:
            raise _cut(f"its last name, {last}, is not whole", version)


def _layer(line: str, version: str) -> LayerRecord:
    head = _HEAD.match(line)
    if not head:
        raise _unreadable(line, 0, version)
    inputs, at = _tensors(line, head.end(), version)
    layer: LayerRecord = {
        "name": head["name"], "type": head["type"], "constants": [], "outputs": [], "tactic": "",
        "stream": 0, "event": None, "nodes": [], "metadata": "", "inputs": inputs,
    }  # fmt: skip
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
            # The last field: the rest belongs to it.
            layer["metadata"] = line[at:]
            names = owners(layer["metadata"])
            if names is None:
                raise _unreadable(line, at, version)
            layer["nodes"] = names
            at = len(line)
            continue
        # A simple value ends where the next field begins.
        following = _FIELD.search(line, at)
        end = following.start() if following else len(line)
        value = line[at:end]
        if key == "TacticName":
            layer["tactic"] = value
        elif key in {"StreamId", "EventId"}:
            if not _WHOLE.fullmatch(value):
                raise _unreadable(line, at, version)
            layer["stream" if key == "StreamId" else "event"] = int(value)
        at = end
    return layer


def owners(metadata: str) -> list[str] | None:
    """The unique ONNX node names in a layer's metadata, in order; None if they can't be separated."""
    found = []
    for part in metadata.split(_OWNER)[1:]:
        end = part.rfind("]")
        if end < 0 or end < part.rfind("["):
            return None
        found.append(part[:end])
    return list(dict.fromkeys(found))


def _tensors(line: str, at: int, version: str) -> tuple[list[TensorRecord], int]:
    """The tensors of a bracketed list whose "[" ends at `at`, and where the list ends."""
    found: list[TensorRecord] = []
    if line.startswith("]", at):
        return found, at + 1
    at += line.startswith(" ", at)
    while True:
        begin = at + len(_TENSOR)
        ends = line.find(_ABOUT_BEGINS, begin) if line.startswith(_TENSOR, at) else -1
        about = _ABOUT.match(line, ends) if ends >= 0 else None
        closed = _CLOSED.search(line, about.end()) if about else None
        if about is None or closed is None:
            raise _unreadable(line, at, version)
        dtype, layout = about["dtype"], line[about.end() : closed.start()]
        if dtype is None:
            dtype, layout = split_format(layout)
        tensor: TensorRecord = {
            "name": line[begin : about.start()],
            "shape": _shape(about["shape"], line, at, version),
            "strides": None if about["strides"] is None else _numbers(about["strides"], line, at, version),
            "dtype": NAMES.get(dtype, dtype.lower()),
            "format": layout,
        }
        found.append(tensor)
        at = closed.end()
        if closed["end"] == "]":
            return found, at


def split_format(text: str) -> tuple[str, str]:
    """``Format/Datatype`` of TensorRT 10 and RTX 1.4: a type alone, or a layout that names the type.

    Examples: ``Float``; ``Row major linear FP16 format``; ``Channel major FP16 format where C == 8``.
    """
    if text in NAMES:
        return text, ""
    for word in text.replace(",", " ").split():
        if word in NAMES:
            return word, text
    return "", text


def _io(line: str, version: str) -> IODocument:
    match = _IO.match(line)
    # The line ends with the bracket of the profiles, which ends with that of the last profile.
    if not match or not (line.endswith(" }]") or (match.end() == len(line) - 1 and line.endswith("]"))):
        raise _unreadable(line, 0, version)
    profiles = line[match.end() : -1]
    layout = re.search(r"Format: (.*?) \}", profiles)
    return {
        "name": match["name"],
        "mode": "input" if match["mode"].lower() == "input" else "output",
        "dtype": NAMES.get(match["dtype"], match["dtype"].lower()),
        "shape": _shape(match["shape"], line, 0, version),
        "location": match["location"].lower(),
        "format": layout[1] if layout else "",
        "profiles": [
            {
                "min": _shape(low, line, 0, version),
                "opt": _shape(usual, line, 0, version),
                "max": _shape(high, line, 0, version),
            }
            for low, usual, high in _RANGE.findall(profiles)
        ],
    }


def _shape(text: str, line: str, at: int, version: str) -> list[int]:
    """Dimensions: none below -1 (an open dimension), and no more elements than a tensor may have."""
    shape = _numbers(text, line, at, version)
    if len(shape) > RANK or any(dimension < -1 for dimension in shape):
        raise _unreadable(line, at, version)
    limits.check("TENSOR_ELEMENTS", math.prod(abs(d) or 1 for d in shape), f"The layer listing: a tensor [{text:.60}]")
    return shape


def _numbers(text: str, line: str, at: int, version: str) -> list[int]:
    """Integers that fit 64 bits, separated by commas."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(_WHOLE.fullmatch(part) for part in parts):
        raise _unreadable(line, at, version)
    return [int(part) for part in parts]


def _unreadable(line: str, at: int, version: str) -> ListingError:
    return ListingError(
        f"The layer listing of {version or 'this compiler'} has a form that the workbench does not know: "
        f"...{line[max(0, at - 40) : at + 120]}...",
        hint="The engine was built, but its layers can't be shown. Please report this with the compiler's "
        "version; versions 1.4, 1.5 and 1.7 of TensorRT for RTX are known to work.",
        code="listing-unknown-form",
        details={"line": line[:2000], "at": at},
    )


def _cut(what: str, version: str) -> ListingError:
    return ListingError(
        f"The layer listing of {version or 'this compiler'} is not complete: {what}.",
        hint="The log was cut short. Copy it again, or build again.",
        code="listing-incomplete",
    )
