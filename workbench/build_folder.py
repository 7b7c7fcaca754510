"""The folder of a build: ``build.json`` (the note), ``record.json``, ``plan.json``, ``build.log``, ``engine``.

Each function that reads a file checks it, and raises an error that names the file if it is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import NotRequired, TypedDict

from workbench import compilers
from workbench.compilers.base import Builds
from workbench.compilers.config import BuildConfig
from workbench.core.documents import DocumentError
from workbench.core.errors import StoreError, WorkbenchError
from workbench.core.store import Store, read_seal, sound
from workbench.core.typed_document import DocumentType, Sha256, extensible
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.plan import Plan, assemble
from workbench.plan.document import SecondsDocument
from workbench.plan.record import RECORD, Record

T = TypeVar("T")


@extensible
class BuiltModel(TypedDict):
    """The model that was built."""

    name: str
    sha256: Sha256
    path: str


@extensible
class ImportedBuild(TypedDict):
    """Origin of a build that was imported from an archive."""

    archive: str
    key: str
    """Its key in the archive."""
    trust: bool
    """Whether the user allowed it to run."""


@extensible
class BuildNote(TypedDict):
    """Content of ``build.json``: metadata of a build."""

    key: str
    created: float
    """Seconds since the epoch."""
    config: dict[str, Any]
    """`BuildConfig.to_dict`."""
    model: BuiltModel
    renamed: dict[str, str]
    """Node names as passed to the compiler, mapped to node ids."""
    seconds: SecondsDocument
    """`total` is always present."""
    analysis: NotRequired[int | str]
    """Version of the analysis that created the plan."""
    original: NotRequired[str | None]
    """Path of the model before it was cast."""
    platform: NotRequired[str]
    imported: NotRequired[ImportedBuild]


def _with_total(note: BuildNote) -> None:
    if "total" not in note["seconds"]:
        raise ValueError("seconds has no total")


NOTE = DocumentType(BuildNote, title="Build", schema="workbench.build/1", check=_with_total)


def set_trust(folder: Path, store: Store) -> None:
    """Record that the user allowed an engine from an archive to run."""
    note = note_in(folder)
    if "imported" in note:
        note["imported"]["trust"] = True
        store.replace_in_build(folder, {"build.json": encoded(json.dumps(note))})


def note_in(folder: Path) -> BuildNote:
    """Read ``build.json`` of a build folder.

    Raises:
        StoreError: it is missing or damaged.
    """
    try:
        return _read(folder, "build.json", lambda document: NOTE.check(document, "build.json"))
    except FileNotFoundError as error:
        raise damaged(folder, "build.json", error) from None


def plan_in(folder: Path) -> Plan:
    """Read the plan in a build folder.

    Raises:
        FileNotFoundError: there is no plan.
        StoreError: it is damaged.
    """
    # A plan with a seal was created here, or checked when it was imported.
    return _read(folder, "plan.json", lambda document: Plan.from_dict(document, check=read_seal(folder) is None))


def record_in(folder: Path) -> Record:
    """Read the record of a build folder: what the compiler reported.

    Raises:
        FileNotFoundError: there is no record.
        StoreError: it is damaged.
    """
    return _read(folder, "record.json", lambda document: RECORD.check(document, "record.json"))


def _read(folder: Path, name: str, checked: Callable[[Any], T]) -> T:
    """A document of a build folder, if its content is what was sealed.

    Raises:
        FileNotFoundError: it is missing.
        StoreError: it is damaged.
    """
    try:
        data = (folder / name).read_bytes()
        if not sound(folder, name, data):
            raise DocumentError("its content was changed")
        return checked(json.loads(data))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError, StoreError) as error:
        raise damaged(folder, name, error) from None


def assembled(
    folder: Path, note: BuildNote, asked: Model | None = None, sha256: Callable[[Model], str] | None = None
) -> Plan:
    """Assemble the plan of a build again, from its stored record.

    Args:
        folder: The build folder.
        note: Its metadata.
        asked: The model that the build was requested for; by default the file that it was built from.
        sha256: Computes a model's fingerprint.

    Raises:
        WorkbenchError: the record is damaged, or the model's file is gone or was changed.
    """
    config = BuildConfig.from_dict(note["config"])
    model = Model(note["model"]["name"], Path(note["model"]["path"]))
    if original := note.get("original"):
        model = replace(model, original=asked or Model(model.name, Path(original)))
    elif asked is not None:
        model = replace(asked, name=model.name)
    now = sha256(model) if sha256 is not None else fingerprint(model.path, set(model.companions))
    if now != note["model"]["sha256"]:
        raise StoreError(f"{model.path} has changed since it was built.", hint="Build it again.", code="model-changed")
    try:
        record = record_in(folder)
    except FileNotFoundError as error:
        raise damaged(folder, "record.json", error) from None
    return assemble(
        model.graph.at(config.opt_shapes, config.opt_values), record,
        model=(note["model"]["name"], note["model"]["sha256"]),
        config=note["config"], evidence=compilers.get(config.compiler, Builds).evidence, renamed=note["renamed"],
        provenance=model.provenance, vocabulary=compilers.vocabulary(config.compiler),
    )  # fmt: skip


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
