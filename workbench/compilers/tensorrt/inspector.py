"""Read the engine inspector's JSON: ``trtexec --exportLayerInfo`` or ``IEngineInspector.get_engine_information``.

Two generations of the schema are in use, and both become the records that `listing` makes of a build log:

- TensorRT 8 to 10, TensorRT for RTX 1.4: ``Bindings`` is a list of names; a tensor has ``Format/Datatype``.
- TensorRT 11, TensorRT for RTX 1.5 and later: ``I/O Tensors`` is a list of objects with ``ProfileInfo``; a
  tensor has ``Format`` and ``Datatype``, and may have ``Strides``; a layer may have ``Constants``.

From TensorRT 8.6 on, ``Metadata`` lists the ONNX nodes that a layer executes (evidence "reported"). Before that,
the nodes are known only from the layer's name: ``conv1 + relu1``, ``PWN(mul, sigmoid)``, ``q || k || v`` (evidence "name").
An engine built without ``--profilingVerbosity=detailed`` has only the names of layers: their tensors are unknown.

Layer parameters that are not needed here (``Kernel``, ``Stride`` ...) differ by layer type and version and are
ignored. A layer or tensor that lacks a needed field is an error that names it; no layer is ever left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.compilers.tensorrt.dtypes import NAMES
from workbench.compilers.tensorrt.listing import RANK, owners, split_format
from workbench.core import limits
from workbench.core.documents import parse_json, read_text
from workbench.core.errors import ListingError, ProfileError
from workbench.plan.document import IODocument, Mode
from workbench.plan.record import LayerRecord, TensorRecord

KINDS = {
    "layers": "layer information (--exportLayerInfo)",
    "profile": "a per-layer profile (--exportProfile)",
    "times": "times of each iteration (--exportTimes)",
    "profile-metadata": "a summary of a profiling run",
    "build-metadata": "a summary of a build",
    "device-metadata": "properties of a GPU",
    "plan": "a plan that the workbench wrote",
}
"""Descriptions of the kinds of files that `kind_of_file` distinguishes."""

_WEIGHTS = ("Weights", "Bias", "ConvWeights", "ConvBias")
_MADE = re.compile(
    r"\(Unnamed Layer\*|(unsqueeze_node_after|copied_squeeze_after|squeeze_after|"
    r"reshape_after|reshape_before|shuffle_after|shuffle_before)_|__my[el]"
)
"""Prefixes of the names of layers that TensorRT added."""
_REFORMAT = "Reformatting CopyNode for "
_SCALE = re.compile(r"_(?:de)?quantize_scale_node$")
_REGION = ("{ForeignNode[", "]}")
_FURTHER = re.compile(r" \[profile [0-9]+\]$")
_MARK = re.compile(r"\(| \+ | \|\| ")
_MARK_OR_COMMA = re.compile(r"\(| \+ | \|\| |, |,")
_PIECE = re.compile(r"[-+.0-9eE]{1,3}|t|tr|tru|f|fa|fal|fals|n|nu|nul")
"""The rest of a number or word at the end of a file that was cut off."""
_MARKS = re.compile(r"[\x1d-\x1f]+")


@dataclass
class Inspection:
    """The content of the file.

    Attributes:
        layers: In execution order.
        io: Inputs and outputs of the engine.
        generation: "8 to 10" or "11": which TensorRT's schema it follows.
        detailed: Whether layers have tensors and types; otherwise only their names are known.
        evidence: "reported" if any layer names its nodes in its metadata, else "name".
    """

    layers: list[LayerRecord] = field(default_factory=list)
    io: list[IODocument] = field(default_factory=list)
    generation: str = "8 to 10"
    detailed: bool = True
    evidence: str = "name"


def read_json(path: str | Path) -> Any:
    """Read a file of trtexec; control characters inside strings, which TensorRT 8.6 wrote, are accepted.

    Raises:
        ProfileError: there is no such file, or it is not JSON.
        LimitError: it is too large or nested too deeply.
    """
    place = Path(path)
    try:
        text = read_text(place)
    except OSError as error:
        raise ProfileError(f"{place} can't be read: {error.strerror or error}.", code="file-unreadable") from None
    if not text.strip():
        raise ProfileError(
            f"{place} is empty.",
            hint="trtexec may have failed before it wrote it; look at its output.",
            code="file-empty",
        )
    try:
        return parse_json(text, str(place), strict=False)
    except json.JSONDecodeError as error:
        rest = text[error.pos :].strip()
        if rest and not error.msg.startswith("Unterminated") and not (error.pos and _PIECE.fullmatch(rest)):
            raise ProfileError(
                f"{place} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}.",
                hint="Give a file of --exportLayerInfo, --exportProfile or --exportTimes.",
                code="not-json",
            ) from None
        raise ProfileError(
            f"{place} ends in the middle of its JSON, after {len(text)} characters.",
            hint="It was cut off: copy it again, or run trtexec again.",
            code="file-cut",
        ) from None
    except ValueError as error:
        raise ProfileError(f"{place} can't be read: {error}.", code="not-json") from None


def kind_of_file(data: Any) -> str:
    """Which of `KINDS` the JSON document is; "" if none."""
    if isinstance(data, Mapping):
        if data.get("schema") == "workbench.plan/1":
            return "plan"
        for key, kind in (
            ("Layers", "layers"),
            ("performance_summary", "profile-metadata"),
            ("build_options", "build-metadata"),
            ("model_options", "build-metadata"),
        ):
            if key in data:
                return kind
        return ""
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        first = data[1] if len(data) > 1 and set(data[0]) == {"count"} else data[0]
        if "ComputeCapability" in first or "COMPUTE_CAPABILITY_MAJOR" in first:
            return "device-metadata"
        if set(data[0]) == {"count"} or ("name" in first and {"timeMs", "averageMs", "medianMs"} & set(first)):
            return "profile"
        if {"latencyMs", "computeMs"} & set(first):
            return "times"
    return ""


def expect(data: Any, wanted: str, path: str | Path) -> None:
    """Refuse a document of another kind than `wanted`.

    Raises:
        ProfileError: it is of another kind; the message names it.
    """
    found = kind_of_file(data)
    if found == wanted:
        return
    is_what = f"is {KINDS[found]}" if found else "is of an unknown kind"
    options = {"layers": "as the first argument", "profile": "with --profile", "times": "with --times"}
    raise ProfileError(
        f"{path} {is_what}; {KINDS[wanted]} was expected.",
        hint=f"Give it {options[found]}." if found in options else "See `trtexec --help`: Reporting Options.",
        details={"found": found, "expected": wanted},
    )


def read_layers(path: str | Path, known: Collection[str] = ()) -> Inspection:
    """Read a file of layer information; see `parse_inspection`.

    Raises:
        ProfileError: it can't be read or is another kind of file.
        ListingError: it does not follow a known schema.
    """
    data = read_json(path)
    expect(data, "layers", path)
    return parse_inspection(data, str(path), known)


def parse_inspection(data: Mapping[str, Any] | str, name: str = "", known: Collection[str] = ()) -> Inspection:
    """Read the inspector's document.

    Args:
        data: The document, or its text.
        name: What to call it in errors.
        known: Ids of the model's nodes, where there is a model; names that contain TensorRT's separators
            can then be distinguished from lists of names.

    Raises:
        ListingError: it does not follow a known schema; the error names the layer and the field.
    """
    if isinstance(data, str):
        try:
            data = parse_json(data, f"The layer information {name}", strict=False)
        except json.JSONDecodeError as error:
            raise _bad(name, f"it is not JSON ({error.msg} at character {error.pos})") from None
        except ValueError as error:
            raise _bad(name, str(error)) from None
    if not isinstance(data, Mapping) or not isinstance(data.get("Layers"), list):
        raise _bad(name, "it has no list of Layers")
    layers: list[Any] = data["Layers"]
    if not layers:
        raise _bad(
            name,
            "its list of Layers is empty",
            "An engine built with --profilingVerbosity=none has no layer information.",
        )
    objects = [layer for layer in layers if isinstance(layer, Mapping)]
    found = Inspection(detailed=bool(objects))
    reported = any(_metadata(layer, name) for layer in objects)
    found.evidence = "reported" if reported else "name"
    found.generation = "11" if "I/O Tensors" in data or any(_is_new(layer) for layer in objects) else "8 to 10"
    nodes = frozenset(known)
    for i, layer in enumerate(layers):
        if isinstance(layer, str):
            found.layers.append(_bare(layer, nodes))
        elif isinstance(layer, Mapping):
            found.layers.append(_layer(layer, f"{name}, layer {i}", reported, nodes))
        else:
            raise _bad(name, f"layer {i} is neither an object nor a name but {type(layer).__name__}")
    if "I/O Tensors" in data:
        found.io = [_io(entry, name) for entry in _list(data, "I/O Tensors", name)]
    else:
        found.io = _bindings(_list(data, "Bindings", name), found.layers, name)
    return found


def nodes_in(name: str, known: Collection[str] = ()) -> list[str]:
    """The nodes in a layer's name, in order; see the module's docstring for the forms.

    Names of layers that TensorRT added are left out, and the suffixes that it gives to quantization nodes
    are removed. Constants that were merged into a layer look like nodes; a model distinguishes them.
    """
    if name in known:
        return [name]
    if name.startswith(_REFORMAT):
        return []
    begin, end = name.find(_REGION[0]), name.rfind(_REGION[1])
    if 0 <= begin < end:
        ends = [part for part in name[begin + len(_REGION[0]) : end].split("...") if part]
        return list(dict.fromkeys(node for part in ends for node in _listed(part, known)))
    return _listed(name, known)


def _listed(name: str, known: Collection[str]) -> list[str]:
    """The nodes of a list such as ``a + PWN(PWN(b), c) || d``, in order, without duplicates.

    Lists may be nested as deeply as a chain of pointwise operations is long: each character is read once.
    """
    if name in known:
        return [name]
    closing = _pairs_of(name)
    found: dict[str, None] = {}
    # Parts still to read, the next one last: where they begin and end, and whether commas separate as well.
    waiting = [(0, len(name), False)]
    while waiting:
        begin, end, commas = waiting.pop()
        parts = _split(name, begin, end, closing, commas=commas)
        if len(parts) > 1:
            waiting += [(*part, False) for part in reversed(parts)]
            continue
        begin, end = _stripped(name, begin, end)
        if name.startswith("PWN(", begin, end) and closing.get(begin + 3) == end - 1:
            waiting.append((begin + 4, end - 1, True))
        elif begin < end and not _MADE.match(name, begin, end):
            text = name[begin:end]
            found[text if text in known else _SCALE.sub("", text)] = None
    return list(found)


def _stripped(text: str, begin: int, end: int) -> tuple[int, int]:
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    return begin, end


def _pairs_of(text: str) -> dict[int, int]:
    """The position of each parenthesis's closing one; unclosed ones are left out."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for at in (match.start() for match in re.finditer(r"[()]", text)):
        if text[at] == "(":
            opened.append(at)
        elif opened:
            found[opened.pop()] = at
    return found


def _split(text: str, begin: int, end: int, closing: Mapping[int, int], *, commas: bool) -> list[tuple[int, int]]:
    """Cut at `` + `` and `` || `` (and commas) that are not inside parentheses."""
    marks = _MARK_OR_COMMA if commas else _MARK
    parts, start, at = [], begin, begin
    while found := marks.search(text, at, end):
        if found[0] == "(":
            at = closing.get(found.start(), end) + 1
        else:
            parts.append((start, found.start()))
            start = at = found.end()
        if at >= end:
            break
    return [*parts, (start, end)]


def _bare(name: str, known: Collection[str]) -> LayerRecord:
    return {
        "name": name, "type": "", "inputs": [], "constants": [], "outputs": [], "tactic": "", "stream": 0, "event": None,
        "nodes": nodes_in(name, known), "metadata": "", "evidence": "name", "detailed": False,
    }  # fmt: skip


def _layer(layer: Mapping[str, Any], where: str, reported: bool, known: Collection[str]) -> LayerRecord:
    if not isinstance(layer.get("Name"), str):
        raise _bad(where, f"it has no Name; it has {_keys(layer)}")
    name: str = layer["Name"]
    where = f"{where} ({name[:60]})"
    if not {"LayerType", "Inputs", "Outputs"} & set(layer):
        return _bare(name, known)
    metadata = _metadata(layer, where)
    if reported:
        names = owners(metadata)
        if names is None:
            raise _bad(where, "its Metadata names ONNX layers that can't be separated")
        nodes = names
        if not nodes and metadata.strip():  # Torch-TensorRT and others write their own marks
            nodes = list(dict.fromkeys(part.strip() for part in _MARKS.split(metadata) if part.strip()))
    else:
        nodes = nodes_in(name, known)
    constants = _tensors(layer, "Constants", where)
    for key in _WEIGHTS:
        value = layer.get(key)
        if isinstance(value, Mapping) and value.get("Count"):
            dtype = _text(value, "Type", where)
            constants.append(
                {"name": f"{name} {key}", "shape": _shape([value["Count"]], where, key), "strides": None,
                 "dtype": NAMES.get(dtype, dtype.lower()), "format": ""}
            )  # fmt: skip
    return {
        "name": name,
        "type": _text(layer, "LayerType", where),
        "inputs": _tensors(layer, "Inputs", where),
        "constants": constants,
        "outputs": _tensors(layer, "Outputs", where),
        "tactic": _text(layer, "TacticName", where),
        "stream": _integer(layer.get("StreamId", 0), where, "StreamId"),
        "event": None if layer.get("EventId") is None else _integer(layer["EventId"], where, "EventId"),
        "nodes": nodes,
        "metadata": metadata,
        "evidence": "reported" if reported else "name",
        "detailed": "Inputs" in layer or "Outputs" in layer,
    }


def _metadata(layer: Mapping[str, Any], where: str) -> str:
    return _text(layer, "Metadata", where)


def _text(data: Mapping[str, Any], key: str, where: str) -> str:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise _bad(where, f"its {key} is not text but {type(value).__name__}")
    return value or ""


def _is_new(layer: Mapping[str, Any]) -> bool:
    lists = [tensors for key in ("Inputs", "Outputs") if isinstance(tensors := layer.get(key), list)]
    return any("Datatype" in t for tensors in lists for t in tensors if isinstance(t, Mapping))


def _tensors(layer: Mapping[str, Any], key: str, where: str) -> list[TensorRecord]:
    found: list[TensorRecord] = []
    for entry in _list(layer, key, where):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("Name"), str):
            raise _bad(where, f"a tensor of its {key} has no Name")
        place = f"{where}, tensor {entry['Name'][:60]}"
        if "Datatype" in entry:
            dtype, layout = _text(entry, "Datatype", place), _text(entry, "Format", place)
            dtype = NAMES.get(dtype, dtype.lower())
        elif "Format/Datatype" in entry:
            dtype, layout = split_format(_text(entry, "Format/Datatype", place))
            dtype = NAMES.get(dtype, dtype.lower())
        else:
            raise _bad(place, f"it has neither Datatype nor Format/Datatype; it has {_keys(entry)}")
        if "Dimensions" not in entry:
            raise _bad(place, f"it has no Dimensions; it has {_keys(entry)}")
        strides = entry.get("Strides")
        found.append(
            {
                "name": entry["Name"],
                "shape": _shape(entry["Dimensions"], place, "Dimensions"),
                "strides": None if strides is None else _numbers(strides, place, "Strides"),
                "dtype": dtype,
                "format": layout,
            }
        )
    return found


def _io(entry: Any, where: str) -> IODocument:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("Name"), str):
        raise _bad(where, "an entry of its I/O Tensors has no Name")
    place = f"{where}, I/O tensor {entry['Name'][:60]}"
    infos = [info for info in _list(entry, "ProfileInfo", place) if isinstance(info, Mapping)]
    dtype = _text(entry, "DataType", place) or _text(entry, "Datatype", place)
    modes: dict[str, Mode] = {"input": "input", "output": "output"}
    mode = _text(entry, "IOMode", place).lower().removeprefix("k")
    return {
        "name": entry["Name"],
        "mode": modes.get(mode, ""),
        "dtype": NAMES.get(dtype, dtype.lower()),
        "shape": _shape(entry.get("Dimensions", []), place, "Dimensions"),
        "location": _text(entry, "Location", place).lower(),
        "format": next((text for info in infos if (text := _text(info, "Format", place))), ""),
        "profiles": [
            {
                "min": _shape(info["MinShape"], place, "MinShape"),
                "opt": _shape(info["OptShape"], place, "OptShape"),
                "max": _shape(info["MaxShape"], place, "MaxShape"),
            }
            for info in infos
            if {"MinShape", "OptShape", "MaxShape"} <= set(info)
        ],
    }


def _bindings(names: Sequence[Any], layers: list[LayerRecord], where: str) -> list[IODocument]:
    """The engine's inputs and outputs by name; shapes and types come from the layers that read and write them."""
    read = {t["name"]: t for layer in reversed(layers) for t in layer["inputs"]}
    written = {t["name"]: t for layer in layers for t in layer["outputs"]}
    found: list[IODocument] = []
    for name in names:
        if not isinstance(name, str):
            raise _bad(where, f"its Bindings hold {type(name).__name__} in place of names")
        if _FURTHER.search(name):
            continue  # the same input again, for a further shape profile
        tensor = written.get(name) or read.get(name)
        mode: Mode = "output" if name in written else "input" if name in read else ""
        found.append(
            {"name": name, "mode": mode, "dtype": tensor["dtype"] if tensor else "",
             "shape": list(tensor["shape"]) if tensor else [], "profiles": []}
        )  # fmt: skip
    return found


def _list(data: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _bad(where, f"its {key} are not a list but {type(value).__name__}")
    return value


def _numbers(value: Any, where: str, key: str) -> list[int]:
    if not isinstance(value, list):
        raise _bad(where, f"its {key} are not a list but {value!r:.60}")
    return [_integer(number, where, key) for number in value]


def _shape(value: Any, where: str, key: str) -> list[int]:
    """Dimensions: none below -1 (an open dimension), and no more elements than a tensor may have."""
    shape = _numbers(value, where, key)
    if len(shape) > RANK or any(dimension < -1 for dimension in shape):
        raise _bad(where, f"its {key} are not a shape: {value!r:.60}")
    limits.check("TENSOR_ELEMENTS", math.prod(abs(d) or 1 for d in shape), f"{where}: {key}")
    return shape


def _integer(value: Any, where: str, key: str) -> int:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not -(2**63) <= value < 2**63
        or value != int(value)
    ):
        raise _bad(where, f"its {key} holds {value!r:.60} in place of a whole number")
    return int(value)


def _keys(data: Mapping[str, Any]) -> str:
    return ", ".join(list(map(str, data))[:12]) or "nothing"


def _bad(where: str, what: str, hint: str | None = None) -> ListingError:
    return ListingError(
        f"The layer information {where} can't be read: {what}.".replace("  ", " "),
        hint=hint
        or "The schemas of TensorRT 8 to 11 and of TensorRT for RTX 1.4 and later are known; please report "
        "others with the version that wrote them.",
    )
