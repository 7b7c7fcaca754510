"""Move the content of an archive into the store after all of it has been checked."""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import cast

from workbench.build_folder import note_in, set_trust
from workbench.core import jobs, limits
from workbench.core.errors import LimitError, StoreError
from workbench.core.events import Selection
from workbench.core.store import IMPORTED, Store
from workbench.model.model import Model
from workbench.model.trust import mark
from workbench.session.archive.format import Manifest, ManifestEngine, ManifestModel


@dataclass(frozen=True)
class Content:
    """An unpacked and checked archive.

    Attributes:
        folder: Where it was unpacked.
        head: Its ``session.json``.
        archive: The archive's file name.
        store: The store that it is read into.
        own: Whether this store wrote it.
    """

    folder: Path
    head: Manifest
    archive: str
    store: Store
    own: bool

    def session_name(self, name: str | None) -> str:
        """Name of the session to open the archive as; `name` if given."""
        if name is not None or self.own:
            return name or str(self.head["name"])
        # An archive from another store must not choose which of the user's sessions it is opened into.
        known = self.store.sessions()
        return next(n for n in _others(self.head["name"], first=True) if n not in known)

    @property
    def selection(self) -> Selection:
        """The session's selection."""
        return Selection(self.head["selection"]["kind"], tuple(self.head["selection"]["ids"]))

    def keep(self, before: Mapping[str, Model], trust: bool) -> tuple[list[Model], list[tuple[str, str]]]:
        """Move models and engines into the store.

        Args:
            before: The models that the session already has; archive models with the same name are renamed.
            trust: Whether code in the archive may run.

        Returns:
            The models, and the key and model name of each engine, for the session to list.

        Raises:
            StoreError: the store can't be written.
        """
        models, names = [], {}
        taken = set(before) | set(self.head["models"])
        for title, entry in self.head["models"].items():
            model = Model(title, _keep_model(self.folder, entry, self.store), entry["origin"])
            if not self.own or trust:
                model = mark(model, self.archive, trust=trust)
            wanted = title if self.own else _plain(title)
            if (wanted in before and not self._same(before[wanted], entry["sha256"])) or wanted != title:
                wanted = next(
                    n
                    for n in _others(wanted, first=wanted != title)
                    if n not in taken or self._same(before.get(n), entry["sha256"])
                )
                taken.add(wanted)
            names[title] = wanted
            models.append(replace(model, name=wanted))
        engines = []
        for engine in self.head["engines"]:
            title = names.get(engine["model"]) or (engine["model"] if self.own else _plain(engine["model"]))
            engines.append((self._keep_build(engine, trust), title))
        return models, engines

    def _same(self, model: Model | None, sha256: str) -> bool:
        return model is not None and model.path.is_file() and model.sha256(self.store) == sha256

    def _keep_build(self, engine: ManifestEngine, trust: bool) -> str:
        """Move one engine into the store; returns its key there."""
        place = self.folder / "builds" / engine["key"]
        note = note_in(place)
        key = engine["key"]
        if not self.own:
            key = IMPORTED + engine["digest"]
            # Paths from the machine that wrote it are missing here, or name a different file.
            kept = self.store.path / "models"
            note["model"]["path"] = str(kept / note["model"]["sha256"] / "model.onnx")
            entry = self.head["models"].get(engine["model"])
            if note.get("original"):
                note["original"] = None if entry is None else str(kept / entry["sha256"] / "model.onnx")
            note["key"], note["imported"] = key, {"archive": self.archive, "key": engine["key"], "trust": trust}
            (place / "build.json").write_text(json.dumps(note))
        there = self.store.build(key)
        if there is None:
            there = self.store.add_build(place, key)
        if trust and "imported" in note:
            set_trust(there, self.store)
        return key


@contextlib.contextmanager
def opened(path: Path, store: Store) -> Iterator[Content]:
    """Unpack and check an archive; at the end, unpacked files that were not moved into the store are removed.

    Raises:
        StoreError: the file does not exist, is not an archive, is damaged, or was written by a later version.
        LimitError: it is larger than a limit.
    """
    if not path.is_file():
        raise StoreError(f"File {path} does not exist.", code="no-file")
    size = path.stat().st_size
    with store.scratch("import") as scratch:
        try:
            head = jobs.guarded(
                "workbench.session.archive.unpack:unpack",
                {"path": str(path.resolve()), "folder": str(scratch)},
                title=f"reading {path.name}",
                seconds=limits.limit("READER_SECONDS") + size / 2e6,  # even a slow disk writes about ten times as fast
            )
        except LimitError as error:
            raise LimitError(
                f"{path.name} was not opened: {error.message}", hint=error.hint, details=error.details, code=error.code
            ) from None
        signed = {key: value for key, value in head.items() if key != "seal"}
        signed["engines"] = [{"key": e["key"], "model": e["model"]} for e in head["engines"]]
        mac = store.sign(signed)
        own = mac is not None and hmac.compare_digest(mac, str(head.get("seal")))
        yield Content(scratch, cast("Manifest", head), path.name, store, own)


def _keep_model(folder: Path, entry: ManifestModel, store: Store) -> Path:
    sha256 = entry["sha256"]
    file = store.path / "models" / sha256 / "model.onnx"
    if file.is_file():
        return file
    source = folder / "models" / sha256
    # All model files in the store have this name: a model created here with the same content is found under it.
    (source / entry["file"]).rename(source / "model.onnx")
    keep = {source / "model.onnx", *Model("", source / "model.onnx").companions}
    for other in [f for f in source.rglob("*") if f.is_file() and f not in keep]:
        other.unlink()
    if file.parent.is_dir():  # an earlier version imported this model and kept its file name
        shutil.copyfile(source / "model.onnx", file)
        return file
    return store.add_model(source, sha256, None, {})


def _plain(title: str) -> str:
    """The name, or another one if it would hide a file or a ``package.module:factory`` of the same name."""
    return re.sub(r"[:/\\]", "-", title).removesuffix(".onnx") or "model"


def _others(title: str, *, first: bool) -> Iterator[str]:
    """Alternative names; `first` says whether the name itself is included."""
    if first:
        yield title
    yield from (f"{title}-{number}" for number in count(2))
