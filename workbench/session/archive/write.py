"""Write a session into an archive."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core.errors import StoreError
from workbench.core.store import output
from workbench.session.archive.format import CHUNK, FILES, PROFILE, Manifest, ManifestEngine, ManifestModel

if TYPE_CHECKING:
    from workbench.workspace import Workspace


def write(session: Workspace, path: Path) -> Path:
    """Write models, engines and the selection of `session` into the archive `path`; see `Files.export`.

    Raises:
        StoreError: a model's file is gone (code ``model-gone``), or the archive can't be written.
    """
    files: dict[str, str] = {}
    with (
        output(path, store=session.store) as draft,
        zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        models: dict[str, ManifestModel] = {}
        stored: dict[str, str] = {}  # one model may have several names
        for name, model in session.models.items():
            if not model.path.is_file():
                raise StoreError(
                    f"The file of model {name} is gone: {model.path}.",
                    hint=f"session.models.remove({name!r}), or put the file back.",
                    code="model-gone",
                )
            sha256 = model.sha256(session.store)
            file = stored.get(sha256, model.path.name)
            models[name] = {"sha256": sha256, "file": file, "origin": model.origin}
            if sha256 in stored:
                continue
            stored[sha256] = model.path.name
            for each in [model.path, *model.companions]:
                _add(archive, each, f"models/{sha256}/{each.relative_to(model.path.parent)}", files)
        engines: list[ManifestEngine] = []
        for engine in session.engines:
            engines.append({"key": engine.key, "model": engine.model})
            profiles = [p for p in (engine.folder / "profiles").glob("*.json") if PROFILE.fullmatch(p.name)]
            for each in [*(engine.folder / name for name in FILES), *sorted(profiles)]:
                if each.is_file() and not each.is_symlink():
                    _add(archive, each, f"builds/{engine.key}/{each.relative_to(engine.folder)}", files)
        head: Manifest = {
            "format": "workbench.session/1", "name": session.name, "models": models, "engines": engines,
            "selection": {"kind": session.selection.kind, "ids": list(session.selection.ids)}, "files": files,
        }  # fmt: skip
        seal = session.store.sign(head)
        if seal:
            head["seal"] = seal
        archive.writestr("session.json", json.dumps(head, indent=1))
    return path


def _add(archive: zipfile.ZipFile, file: Path, name: str, files: dict[str, str]) -> None:
    entry = zipfile.ZipInfo.from_file(file, name, strict_timestamps=False)
    entry.compress_type = zipfile.ZIP_DEFLATED
    digest = hashlib.sha256()
    with file.open("rb") as source, archive.open(entry, "w") as out:
        while data := source.read(CHUNK):
            digest.update(data)
            out.write(data)
    files[name] = digest.hexdigest()
