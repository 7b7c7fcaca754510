"""A session as one file: its models, engines and selection in a zip archive. Opening one trusts nothing in it."""

from __future__ import annotations

import json
import re
import shutil
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.build import load_engine
from workbench.errors import StoreError, WorkbenchError
from workbench.events import Selection
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.session import Session
from workbench.store import Store

ARCHIVE = "workbench.session/1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def write(session: Session, path: Path) -> Path:
    """See `Session.export`."""
    draft = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            models = {}
            written: dict[str, str] = {}  # one model may have several names
            for name, model in session.models.items():
                if not model.path.is_file():
                    raise StoreError(
                        f"The file of model {name} is gone: {model.path}.",
                        hint=f"session.remove({name!r}), or bring it back.",
                    )
                sha256 = model.sha256(session.store)
                models[name] = {
                    "sha256": sha256,
                    "file": written.get(sha256, model.path.name),
                    "origin": dict(model.origin),
                }
                if sha256 in written:
                    continue
                written[sha256] = model.path.name
                for file in [model.path, *model.companions]:
                    archive.write(file, f"models/{sha256}/{file.relative_to(model.path.parent)}")
            engines = []
            for engine in session.engines:
                engines.append({"key": engine.key, "model": engine.model})
                for file in sorted(f for f in engine.folder.rglob("*") if f.is_file()):
                    archive.write(file, f"builds/{engine.key}/{file.relative_to(engine.folder)}")
            head = {"format": ARCHIVE, "name": session.name, "models": models, "engines": engines,
                    "selection": {"kind": session.selection.kind, "ids": list(session.selection.ids)}}  # fmt: skip
            archive.writestr("session.json", json.dumps(head, indent=1))
        draft.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path} can't be written: {error}.",
            hint="Is there space, and may you write there?",
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    return path


def read(path: str | Path, name: str | None, place: Store) -> Session:
    """See `Session.import_`."""
    try:
        with zipfile.ZipFile(path) as archive, place.scratch("import") as scratch:
            head = json.loads(archive.read("session.json"))
            if head.get("format") != ARCHIVE:
                raise StoreError(
                    f"{path} has format {head.get('format')!r}; this version reads {ARCHIVE}.",
                    hint="Upgrade: pip install -U trt-workbench.",
                )
            _extract(archive, scratch)
            return _take(scratch, head, name, place)
    except FileNotFoundError:
        raise StoreError(f"There is no file {path}.") from None
    except WorkbenchError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged archive may break in any way
        raise StoreError(
            f"{path} is not a session archive, or is damaged ({type(error).__name__}: {error}).",
            hint="Make one with session.export(path), or copy it again.",
        ) from None


def _take(folder: Path, head: Mapping[str, Any], name: str | None, store: Store) -> Session:
    """Everything is looked at before anything is kept: a bad archive leaves no half session."""
    models: dict[str, Mapping[str, Any]] = dict(head["models"])
    engines: list[tuple[str, str]] = [(str(e["key"]), str(e["model"])) for e in head["engines"]]
    selection = Selection(head["selection"]["kind"], tuple(head["selection"]["ids"]))
    name = name or str(head["name"])
    for title, entry in models.items():
        sha256, file = str(entry["sha256"]), PurePosixPath(entry["file"])
        if not _SHA256.fullmatch(sha256) or len(file.parts) != 1 or file.name in {"", ".."}:
            raise StoreError(f"Model {title} in the archive has an unsafe path.", hint="Do not open it.")
        source = folder / "models" / sha256 / file.name
        if fingerprint(source, set(Model(title, source).companions)) != sha256:
            raise StoreError(f"Model {title} in the archive is damaged.", hint="Copy the archive again.")
    for key, title in engines:
        if not _SHA256.fullmatch(key):
            raise StoreError(f"An engine of {title} in the archive has an unsafe path.", hint="Do not open it.")
        if load_engine(folder / "builds" / key).key != key:
            raise StoreError(f"An engine of {title} in the archive is damaged.", hint="Copy the archive again.")
    session = Session(name, store=store)
    now = time.time()
    rows = []
    for title, entry in models.items():
        source = folder / "models" / entry["sha256"]
        file = store.path / "models" / entry["sha256"] / "model.onnx"
        if not file.parent.is_dir():
            # In the store all are called so: the same content may be made here as well, and is looked for by that name.
            (source / entry["file"]).rename(source / "model.onnx")
            store.add_model(source, entry["sha256"], None, {})
        elif not file.exists():  # of an archive read by an earlier version
            shutil.copyfile(source / entry["file"], file)
        data = {"path": str(file), "origin": entry["origin"]}
        rows.append((title, json.dumps(data), now))
    for key, _ in engines:
        if store.build(key) is None:
            store.add_build(folder / "builds" / key, key)
    session.take_in(rows, [(*e, now) for e in engines])
    session.select(selection)
    return session


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    """Unpack, refusing entries that would land outside `folder`."""
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename).parts
        if entry.filename.startswith("/") or ".." in parts or (parts and ":" in parts[0]):
            raise StoreError(f"The archive holds an unsafe path: {entry.filename!r}.", hint="Do not open it.")
        if entry.is_dir():
            continue
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
