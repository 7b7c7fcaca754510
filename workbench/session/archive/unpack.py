"""Unpack an archive and check everything in it: in a worker, within limits of time, memory and size."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from workbench.build_folder import BuildNote, assembled, note_in, plan_in
from workbench.core import limits
from workbench.core.documents import DocumentError
from workbench.core.errors import LimitError, ModelError, ProfileError, StoreError, WorkbenchError
from workbench.engine import load_engine
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.model.origin import Origin
from workbench.plan import Plan
from workbench.session.archive.format import (
    CHUNK,
    DOCUMENTS,
    FILES,
    MANIFEST,
    OPTIONAL,
    PROFILE,
    RATIO_FROM,
    Manifest,
    ManifestModel,
    damaged,
    unsafe,
)
from workbench.versions import analysis


def unpack(*, path: str, folder: str) -> Manifest:
    """Unpack an archive into `folder` and check everything in it; runs in `jobs.guarded`.

    Args:
        path: The archive.
        folder: An empty folder.

    Returns:
        Its ``session.json``, with the digest of each engine's files in ``engines``.

    Raises:
        StoreError: it is not an archive, is damaged, or was written by a later version.
        LimitError: it is larger than a limit.
    """
    file = Path(path)
    try:
        with zipfile.ZipFile(file) as archive:
            return _checked(archive, file, Path(folder))
    except (WorkbenchError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - a damaged archive can raise any exception
        raise StoreError(
            f"{file.name} is not a session archive, or is damaged ({type(error).__name__}: {str(error)[:200]}).",
            hint="Make one with session.files.export(path), or copy it again.",
            code="damaged-archive",
        ) from None


def _checked(archive: zipfile.ZipFile, file: Path, folder: Path) -> Manifest:
    what = f"The archive {file.name}"
    entries = archive.infolist()
    limits.check("ARCHIVE_ENTRIES", len(entries), what)
    total = sum(entry.file_size for entry in entries)
    limits.check("ARCHIVE_BYTES", total, what)
    if total > RATIO_FROM:
        limits.check("ARCHIVE_RATIO", total / max(1, file.stat().st_size), what)
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        if entry.filename.startswith("/") or ".." in parts or (parts and ":" in parts[0]) or "\\" in entry.filename:
            raise unsafe(f"The archive holds an unsafe path: {entry.filename!r}.")
    if len({entry.filename for entry in entries}) < len(entries):
        raise damaged("it contains two files with the same name")
    data = json.loads(_document(archive, "session.json", what))
    found = data.get("format") if isinstance(data, dict) else None
    if isinstance(found, str) and found != MANIFEST.id:
        raise StoreError(
            f"{file.name} has format {found!r}; this version reads {MANIFEST.id}.",
            hint="Upgrade: pip install -U trt-workbench.",
            code="later-version",
        )
    try:
        head = MANIFEST.check(data, "session.json")
    except DocumentError as error:
        raise damaged(str(error)) from None
    keys = [engine["key"] for engine in head["engines"]]
    if len(set(keys)) < len(keys):
        raise damaged("it lists an engine twice")
    for title in [head["name"], *head["models"], *(engine["model"] for engine in head["engines"])]:
        if not title.strip() or len(title) > 300 or not title.isprintable():
            raise damaged(f"{title[:40]!r} is not a valid name")
    digests = _extract(archive, head, folder, what)
    known = head.get("files")
    if known is not None and {name: digests[name] for name in digests if name in known} != known:
        raise damaged("a file in it was changed")
    if known is not None and set(digests) != set(known):
        raise damaged("files were added to it")
    for title, model in head["models"].items():
        _check_model(title, model, folder)
    for engine in head["engines"]:
        try:
            engine["digest"] = _check_build(engine["key"], head, folder, digests)
        except LimitError:
            raise
        except WorkbenchError as error:
            if error.code.endswith("-archive"):
                raise
            raise damaged(f"engine {engine['key'][:12]}: {error.message.rstrip('.')}") from None
    return head


def _document(archive: zipfile.ZipFile, name: str, what: str) -> bytes:
    entry = archive.getinfo(name)
    limits.check("ARCHIVE_HEAD_BYTES", entry.file_size, f"{what}, by its {name},")
    most = int(limits.limit("ARCHIVE_HEAD_BYTES"))
    with archive.open(entry) as source:
        data = source.read(most + 1)
    limits.check("ARCHIVE_HEAD_BYTES", len(data), f"{what}, by its {name},")
    return data


def _extract(archive: zipfile.ZipFile, head: Manifest, folder: Path, what: str) -> dict[str, str]:
    """Unpack the files that ``session.json`` lists, and no others; returns the SHA-256 by name."""
    models = {f"models/{entry['sha256']}/" for entry in head["models"].values()}
    builds = {f"builds/{engine['key']}/" for engine in head["engines"]}
    left = limits.limit("ARCHIVE_BYTES")
    digests = {}
    for entry in archive.infolist():
        kind, _, rest = entry.filename.partition("/")
        inside, _, name = rest.partition("/")
        place = f"{kind}/{inside}/"
        wanted = place in models or (
            place in builds and (name in FILES or (name.startswith("profiles/") and PROFILE.fullmatch(name[9:])))
        )
        if entry.is_dir() or not wanted:
            continue
        if place in builds and (name in DOCUMENTS or name.startswith("profiles/")):
            limits.check("ARCHIVE_HEAD_BYTES", entry.file_size, f"{what}, by its {entry.filename},")
        target = folder / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("xb") as out:
            size, digests[entry.filename] = _copy(source, out, left, what)
        left -= size
    return digests


def _copy(source: IO[bytes], out: IO[bytes], most: float, what: str) -> tuple[int, str]:
    """Copy at most `most` bytes, whatever size the archive states; returns size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    while data := source.read(CHUNK):
        size += len(data)
        if size > most:
            raise limits.exceeded(
                "ARCHIVE_BYTES", f"{what} unpacks to more bytes than it states, and more than the limit."
            )
        digest.update(data)
        out.write(data)
    return size, digest.hexdigest()


def _check_model(title: str, entry: ManifestModel, folder: Path) -> None:
    sha256, file = entry["sha256"], PurePosixPath(entry["file"])
    if len(file.parts) != 1 or file.name in {"", ".."}:
        raise unsafe(f"Model {title} in the archive has an unsafe path.")
    place = folder / "models" / sha256
    source = place / file.name
    try:
        companions = set(Model(title, source).companions)
    except ModelError as error:
        raise damaged(f"model {title}: {error.message}") from None
    for companion in companions:
        parts = companion.relative_to(place).parts if companion.is_relative_to(place) else ("..",)
        if ".." in parts or (companion.name == "model.onnx" and len(parts) == 1):
            raise unsafe(f"Model {title} in the archive keeps weights at an unsafe path.")
    if fingerprint(source, companions) != sha256:
        raise damaged(f"model {title} was changed")
    if entry["origin"].get("kind") in {"quantize", "cast", "placement"}:
        _check_origin(title, entry["origin"])


def _check_origin(title: str, origin: Origin) -> None:
    """Refuse a model that claims to be rewritten by the workbench but lacks the metadata that the workbench writes."""
    from workbench.precision.scheme import Scheme

    needed = {
        "quantize": ("source", "scheme", "warnings", "left", "quantized", "pairs"),
        "cast": ("source", "warnings"),
        "placement": ("source", "moved"),
    }
    for name in needed[origin["kind"]]:
        if name not in origin and name != "warnings":
            raise damaged(f"model {title} lacks {name!r} in its metadata")
    if "scheme" in origin:
        try:
            Scheme(**origin["scheme"])
        except (TypeError, WorkbenchError) as error:
            raise damaged(f"the scheme of model {title} is invalid: {error}") from None


def _check_build(key: str, head: Manifest, folder: Path, digests: Mapping[str, str]) -> str:
    """Check one engine; returns the digest of its files as they were in the archive."""
    from workbench.measure.measured import apply

    place = folder / "builds" / key
    own = {name.removeprefix(f"builds/{key}/"): d for name, d in digests.items() if name.startswith(f"builds/{key}/")}
    missing = [name for name in FILES if name not in own and name not in OPTIONAL]
    if missing:
        raise damaged(f"engine {key[:12]} lacks {', '.join(missing)}")
    engine = load_engine(place)
    if engine.key != key:
        raise damaged(f"engine {key[:12]} has the key of another engine in its build.json")
    record, note = engine.record, note_in(place)
    sizes = {size for size in (record.get("engine_bytes"), _bytes_of(place)) if size is not None}
    if sizes - {engine.bytes}:
        raise damaged(f"engine {key[:12]} has {engine.bytes:,} bytes, but {max(sizes):,} when built")
    if note.get("analysis") != analysis(note["config"]):
        _renew(place, note, head, folder)
    plan = plan_in(place)
    if plan.model["sha256"] != note["model"]["sha256"]:
        raise damaged(f"the plan of engine {key[:12]} belongs to another model")
    for profile in engine.profiles:
        try:
            Plan.from_dict(json.loads(apply(plan, profile).to_json()))
        except (KeyError, ProfileError):
            continue  # it lacks a part or belongs to another engine: reported when it is used
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise damaged(f"a profile of engine {key[:12]} is incomplete: {error}") from None
    return hashlib.sha256(json.dumps(sorted(own.items())).encode()).hexdigest()


def _bytes_of(place: Path) -> int | None:
    """The engine size that a plan states; other fields are ignored."""
    try:
        size = json.loads((place / "plan.json").read_bytes())["facts"]["engine_bytes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return size if isinstance(size, int) else None


def _renew(place: Path, note: BuildNote, head: Manifest, folder: Path) -> None:
    """Assemble the plan of an earlier version again if the archive contains the model; otherwise leave it unchanged."""
    sha256 = note["model"]["sha256"]
    entry = next((e for e in head["models"].values() if e["sha256"] == sha256), None)
    if entry is None or note.get("original"):
        return
    model = Model(note["model"]["name"], folder / "models" / sha256 / entry["file"])
    plan = assembled(place, note, model)
    (place / "plan.json").write_bytes(plan.to_json().encode("utf-8", "surrogatepass"))
    (place / "build.json").write_text(json.dumps({**note, "analysis": analysis(note["config"])}))
