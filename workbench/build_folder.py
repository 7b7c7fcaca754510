"""The folder that keeps a build: ``build.json`` (the note), ``record.json``, ``plan.json``, ``build.log``, ``engine``.

Each reader checks what it reads, and says which file is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench import compilers
from workbench.compilers.base import Builds
from workbench.compilers.config import BuildConfig
from workbench.core.errors import StoreError, WorkbenchError
from workbench.core.store import Store, read_seal, sound
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.model.shape_profile import Shape
from workbench.plan import Plan, assemble
from workbench.plan.validate import SchemaError, checker

if TYPE_CHECKING:
    from workbench.plan.record import Record


def set_trust(folder: Path, store: Store) -> None:
    """Remember that an engine from an archive may be run."""
    note = note_in(folder)
    if note.get("imported") is not None:
        note["imported"]["trust"] = True
        store.replace_in_build(folder, {"build.json": encoded(json.dumps(note))})


def note_in(folder: Path) -> dict[str, Any]:
    """What a build folder says of itself."""
    try:
        data = (folder / "build.json").read_bytes()
        if not sound(folder, "build.json", data):
            raise SchemaError("it is not what was written")
        note: dict[str, Any] = json.loads(data)
        check_note(note, "build.json")
        return note
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, "build.json", error) from None


def plan_in(folder: Path) -> Plan:
    """The plan that a build folder holds.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is damaged.
    """
    try:
        data = (folder / "plan.json").read_bytes()
        if not sound(folder, "plan.json", data):
            raise SchemaError("it is not what was written")
        # One with a seal was made here, or looked at when it came.
        return Plan.from_dict(json.loads(data), check=read_seal(folder) is None)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, "plan.json", error) from None
    except StoreError as error:
        raise damaged(folder, "plan.json", error) from None


def record_in(folder: Path) -> dict[str, Any]:
    """The compiler's answer that a build folder holds.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it is damaged.
    """
    try:
        data = (folder / "record.json").read_bytes()
        if not sound(folder, "record.json", data):
            raise SchemaError("it is not what was written")
        record: dict[str, Any] = json.loads(data)
        check_record(record, "record.json")
        return record
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, "record.json", error) from None


def assembled(
    folder: Path, note: Mapping[str, Any], asked: Model | None = None, sha256: Callable[[Model], str] | None = None
) -> Plan:
    """The plan of a build, made again from the record that the compiler left.

    Args:
        folder: The build.
        note: What its folder says.
        asked: The model that a build was asked of; by default the file that it was built from.
        sha256: Computes a model's fingerprint.

    Raises:
        WorkbenchError: the record is damaged, or the model's file is gone or was changed.
    """
    config = BuildConfig.from_dict(note["config"])
    model = Model(note["model"]["name"], Path(note["model"]["path"]))
    if note.get("original"):
        model = replace(model, original=asked or Model(model.name, Path(note["original"])))
    elif asked is not None:
        model = replace(asked, name=model.name)
    now = sha256(model) if sha256 is not None else fingerprint(model.path, set(model.companions))
    if now != note["model"]["sha256"]:
        raise StoreError(
            f"{model.path} is no longer the model that was built.", hint="Build it again.", code="model-changed"
        )
    try:
        record = record_in(folder)
    except FileNotFoundError as error:
        raise damaged(folder, "record.json", error) from None
    return assemble(
        model.graph.at(opt_shapes(config), opt_values(config)), cast("Record", record), model={k: note["model"][k] for k in ("name", "sha256")},
        config=note["config"], evidence=compilers.get(config.compiler, Builds).evidence, renamed=note["renamed"],
        provenance=model.provenance, vocabulary=compilers.vocabulary(config.compiler),
    )  # fmt: skip


def opt_shapes(config: BuildConfig) -> dict[str, Shape]:
    """Shapes at which costs are counted: the opt shapes of the first profile."""
    return config.profiles[0].sizes if config.profiles else {}


def opt_values(config: BuildConfig) -> dict[str, Shape]:
    """Values of inputs that are read as a shape, at which costs are counted: the opt values of the first profile."""
    return config.profiles[0].usual if config.profiles else {}


def damaged(folder: Path, name: str, error: Exception) -> StoreError:
    """The error for a damaged file `name` in the build `folder`; `error` says what is wrong with it."""
    why = error.message if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
    return StoreError(
        f"The stored build {folder.name[:12]} is damaged: {name}: {why}{'' if why.endswith('.') else '.'}",
        hint=f"Remove {folder} and build again.",
        code="damaged",
    )


def encoded(text: str) -> bytes:
    """`text` in UTF-8; names from a model may hold lone surrogates, which are kept."""
    return text.encode("utf-8", "surrogatepass")


_TEXT_OR_NULL = {"type": ["string", "null"]}
_WHOLE = {"type": "integer"}
_WHOLES = {"type": "array", "items": _WHOLE}

check_note = checker(
    {
        "type": "object",
        "properties": {
            "key": {"type": "string"},
            "created": {"type": "number"},
            "analysis": _WHOLE,
            "config": {"type": "object"},
            "model": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                    "path": {"type": "string"},
                },
                "required": ["name", "sha256", "path"],
            },
            "original": _TEXT_OR_NULL,
            "renamed": {"type": "object", "additionalProperties": {"type": "string"}},
            "seconds": {"type": "object", "additionalProperties": {"type": "number"}, "required": ["total"]},
            "platform": {"type": "string"},
            "imported": {
                "type": "object",
                "properties": {"archive": {"type": "string"}, "key": {"type": "string"}, "trust": {"type": "boolean"}},
                "required": ["archive", "key", "trust"],
            },
        },
        "required": ["key", "created", "config", "model", "renamed", "seconds"],
    }
)
"""Checks a ``build.json``."""

_TENSOR_RECORDS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "shape": _WHOLES,
            "strides": {"anyOf": [_WHOLES, {"type": "null"}]},
            "dtype": {"type": "string"},
            "format": {"type": "string"},
        },
        "required": ["name"],
    },
}

check_record = checker(
    {
        "type": "object",
        "properties": {
            "compiler": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "version": {"type": "string"}, "target": {"type": "string"}},
                "required": ["name", "version", "target"],
            },
            "seconds": {"type": "object", "additionalProperties": {"type": "number"}},
            "layers": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "type": {"type": "string"},
                        "inputs": _TENSOR_RECORDS,
                        "outputs": _TENSOR_RECORDS,
                        "constants": _TENSOR_RECORDS,
                        "tactic": {"type": "string"},
                        "stream": _WHOLE,
                        "event": {"type": ["integer", "null"]},
                        "nodes": {"type": "array", "items": {"type": "string"}},
                        "metadata": {"type": "string"},
                        "evidence": {"type": "string"},
                        "detailed": {"type": "boolean"},
                        "kind": {"type": "string"},
                        "title": {"type": "string"},
                        "branch": {"type": "array", "items": {"type": "array"}},
                        "repeated": {"type": "boolean"},
                    },
                    "required": ["name", "type"],
                },
            },
            "io": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "mode": {"type": "string"},
                        "dtype": {"type": "string"},
                        "shape": _WHOLES,
                        "format": {"type": "string"},
                        "location": {"type": "string"},
                        "profiles": {
                            "type": "array",
                            "items": {"type": "object", "additionalProperties": _WHOLES},
                        },
                    },
                    "required": ["name"],
                },
            },
            "tensors": {"type": "object", "additionalProperties": {"type": "array"}},
            "folded": {"type": "array", "items": {"type": "string"}},
            "facts": {"type": "object"},
            "warnings": {"type": "array", "items": {"type": "string"}},
            "engine_bytes": {"type": "integer", "minimum": 0},
        },
        "required": ["compiler", "seconds", "layers", "io"],
    }
)
"""Checks a ``record.json``: a compiler's `Record`."""
