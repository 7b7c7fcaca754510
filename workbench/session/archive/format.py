"""Format of an archive: a zip file with ``session.json``, ``models/<sha256>/`` and ``builds/<key>/``.

Only the store that wrote an archive can verify it: ``session.json`` holds the SHA-256 of every file and a signature
with the store's secret. Engines of any other archive are stored under keys that begin with ``imported-``. Builds
never look up these keys, and the code in such models and engines does not run.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from workbench.core.errors import StoreError
from workbench.core.store import ENGINE_FILES, IMPORTED
from workbench.core.typed_document import DocumentType, Sha256, extensible
from workbench.model.origin import Origin

RATIO_FROM = 100e6
"""Bytes below which an archive may have any compression ratio."""

FILES = (*ENGINE_FILES, "build.log", "record.json", "plan.json", "build.json")
OPTIONAL = (*ENGINE_FILES[1:], "build.log")
DOCUMENTS = ("record.json", "plan.json", "build.json")
PROFILE = re.compile(r"[0-9]{1,30}\.json")
CHUNK = 1 << 20


@extensible
class ManifestModel(TypedDict):
    """A model in the archive, by its title in the session."""

    sha256: Sha256
    """Also the name of its folder under ``models/``."""
    file: str
    origin: Origin


@extensible
class ManifestEngine(TypedDict):
    """An engine in the archive."""

    key: Annotated[str, Field(pattern=f"^({IMPORTED})?[0-9a-f]{{64}}$")]
    """Also the name of its folder under ``builds/``."""
    model: str
    """Title of its model."""
    digest: NotRequired[str]
    """SHA-256 of its files; computed when the archive is read."""


@extensible
class ManifestSelection(TypedDict):
    """What was selected."""

    kind: Literal["layer", "node"]
    ids: list[str]


@extensible
class Manifest(TypedDict):
    """``session.json`` of an archive."""

    format: Literal["workbench.session/1"]
    name: str
    models: dict[str, ManifestModel]
    engines: list[ManifestEngine]
    selection: ManifestSelection
    files: NotRequired[dict[str, Sha256]]
    """SHA-256 of every other file in the archive."""
    seal: NotRequired[str]
    """Signature with the secret of the store that wrote it."""


MANIFEST = DocumentType(Manifest, title="Session archive", schema="workbench.session/1")


def damaged(why: str) -> StoreError:
    """The error for an archive that changed after it was written."""
    return StoreError(
        f"The archive is damaged: {why}.", hint="Copy it again, or export it again.", code="damaged-archive"
    )


def unsafe(message: str) -> StoreError:
    """The error for an archive that tries to write outside its folder."""
    return StoreError(message, hint="Do not open it.", code="unsafe-archive")
