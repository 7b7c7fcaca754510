"""A session as one file: its models, engines and selection in a zip archive. Opening one trusts nothing in it.

An archive is unpacked and checked in a worker, within limits of time, memory and size; nothing is kept before all of it
was found sound. What it says of itself can't be proven, except by the store that wrote it: ``session.json`` holds the
SHA-256 of every file and a signature with the store's secret. Engines of any other archive are kept under keys that
begin with ``imported-``, where no build looks for them, and the code that its models and engines bring is not run.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path, PurePosixPath
from typing import IO, Any

from workbench import build
from workbench.build_folder import assembled, plan_in, set_trust
from workbench.core import jobs, limits
from workbench.core.errors import LimitError, ModelError, ProfileError, StoreError, WorkbenchError
from workbench.core.events import Selection
from workbench.core.store import IMPORTED, Store
from workbench.engine import load_engine
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.model.trust import mark
from workbench.plan import Plan
from workbench.plan.validate import SchemaError, checker
from workbench.session.session import Session

ARCHIVE = "workbench.session.session/1"

RATIO_FROM = 100e6
"""Bytes below which an archive may be packed as well as it likes."""

_FILES = ("engine", "build.log", "record.json", "plan.json", "build.json")
_DOCUMENTS = ("record.json", "plan.json", "build.json")
_PROFILE = re.compile(r"[0-9]{1,30}\.json")
_CHUNK = 1 << 20

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$(?!\n)"}
_COUNTS = {"type": "object", "additionalProperties": {"type": "integer"}}
_ORIGIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("kind", "name", "spec", "class", "path", "library", "precision"), _TEXT),
        "source": _SHA256,
        "scheme": {"type": "object"},
        "lists": {"type": "object"},
        "warnings": _TEXTS,
        "clipped": _TEXTS,
        "moved": _TEXTS,
        "quantized": _TEXTS,
        "left": {"type": "object", "additionalProperties": _TEXT},
        "ranges": {"type": "object", "additionalProperties": {"type": "number"}},
        "kept": _COUNTS,
        "pairs": {"type": "integer"},
        # The name of a file in the store.
        "calibration": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[0-9a-f]{1,64}$(?!\n)"}]},
    },
}
_check_head = checker(
    {
        "type": "object",
        "properties": {
            "format": {"const": ARCHIVE},
            "name": _TEXT,
            "models": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"sha256": _SHA256, "file": _TEXT, "origin": _ORIGIN},
                    "required": ["sha256", "file", "origin"],
                },
            },
            "engines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "key": {"type": "string", "pattern": f"^({IMPORTED})?[0-9a-f]{{64}}$(?!\n)"},
                        "model": _TEXT,
                    },
                    "required": ["key", "model"],
                },
            },
            "selection": {
                "type": "object",
                "properties": {"kind": {"enum": ["layer", "node"]}, "ids": _TEXTS},
                "required": ["kind", "ids"],
            },
            "files": {"type": "object", "additionalProperties": _SHA256},
            "seal": _TEXT,
        },
        "required": ["format", "name", "models", "engines", "selection"],
    }
)
_check_any = checker({"type": "object"})


# --- writing ----------------------------------------------------------------------------------------


def write(session: Session, path: Path) -> Path:
    """See `Session.export`."""
    files: dict[str, str] = {}
    with (
        session.store.writing(path) as draft,
        zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        models = {}
        stored: dict[str, str] = {}  # one model may have several names
        for name, model in session.models.items():
            if not model.path.is_file():
                raise StoreError(
                    f"The file of model {name} is gone: {model.path}.",
                    hint=f"session.remove({name!r}), or bring it back.",
                    code="model-gone",
                )
            sha256 = model.sha256(session.store)
            file = stored.get(sha256, model.path.name)
            models[name] = {"sha256": sha256, "file": file, "origin": dict(model.origin)}
            if sha256 in stored:
                continue
            stored[sha256] = model.path.name
            for each in [model.path, *model.companions]:
                _add(archive, each, f"models/{sha256}/{each.relative_to(model.path.parent)}", files)
        engines = []
        for engine in session.engines:
            engines.append({"key": engine.key, "model": engine.model})
            profiles = [p for p in (engine.folder / "profiles").glob("*.json") if _PROFILE.fullmatch(p.name)]
            for each in [*(engine.folder / name for name in _FILES), *sorted(profiles)]:
                if each.is_file() and not each.is_symlink():
                    _add(archive, each, f"builds/{engine.key}/{each.relative_to(engine.folder)}", files)
        head: dict[str, Any] = {
            "format": ARCHIVE, "name": session.name, "models": models, "engines": engines,
            "selection": {"kind": session.selection.kind, "ids": list(session.selection.ids)}, "files": files,
        }  # fmt: skip
        seal = session.store.sign(head)
        archive.writestr("session.json", json.dumps({**head, **({"seal": seal} if seal else {})}, indent=1))
    return path


def _add(archive: zipfile.ZipFile, file: Path, name: str, files: dict[str, str]) -> None:
    entry = zipfile.ZipInfo.from_file(file, name, strict_timestamps=False)
    entry.compress_type = zipfile.ZIP_DEFLATED
    digest = hashlib.sha256()
    with file.open("rb") as source, archive.open(entry, "w") as out:
        while data := source.read(_CHUNK):
            digest.update(data)
            out.write(data)
    files[name] = digest.hexdigest()


# --- reading, in a worker ---------------------------------------------------------------------------


def unpack(*, path: str, folder: str) -> dict[str, Any]:
    """Unpack an archive into `folder` and check everything in it; run by `jobs.guarded`.

    Args:
        path: The archive.
        folder: An empty folder.

    Returns:
        Its ``session.json``, with the digest of each engine's files in ``engines``.

    Raises:
        StoreError: it is no archive, it is damaged, or it is of a later version.
        LimitError: it is larger than a limit.
    """
    file = Path(path)
    try:
        with zipfile.ZipFile(file) as archive:
            return _checked(archive, file, Path(folder))
    except (WorkbenchError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - a damaged archive may break in any way
        raise StoreError(
            f"{file.name} is not a session archive, or is damaged ({type(error).__name__}: {str(error)[:200]}).",
            hint="Make one with session.export(path), or copy it again.",
            code="damaged-archive",
        ) from None


def _checked(archive: zipfile.ZipFile, file: Path, folder: Path) -> dict[str, Any]:
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
            raise _unsafe(f"The archive holds an unsafe path: {entry.filename!r}.")
    if len({entry.filename for entry in entries}) < len(entries):
        raise _damaged("it holds two files of one name")
    head = json.loads(_document(archive, "session.json", what))
    found = head.get("format") if isinstance(head, dict) else None
    if isinstance(found, str) and found != ARCHIVE:
        raise StoreError(
            f"{file.name} has format {found!r}; this version reads {ARCHIVE}.",
            hint="Upgrade: pip install -U trt-workbench.",
            code="later-version",
        )
    try:
        _check_head(head, "session.json")
    except SchemaError as error:
        raise _damaged(str(error)) from None
    keys = [engine["key"] for engine in head["engines"]]
    if len(set(keys)) < len(keys):
        raise _damaged("an engine is listed twice")
    for title in [head["name"], *head["models"], *(engine["model"] for engine in head["engines"])]:
        if not title.strip() or len(title) > 300 or not title.isprintable():
            raise _damaged(f"{title[:40]!r} can't be a name")
    digests = _extract(archive, head, folder, what)
    known = head.get("files")
    if known is not None and {name: digests[name] for name in digests if name in known} != known:
        raise _damaged("a file in it is not the one that was put in")
    if known is not None and set(digests) != set(known):
        raise _damaged("it holds files that were not put in when it was made")
    for title, entry in head["models"].items():
        _check_model(title, entry, folder)
    for engine in head["engines"]:
        try:
            engine["digest"] = _check_build(engine["key"], head, folder, digests)
        except LimitError:
            raise
        except WorkbenchError as error:
            if error.code.endswith("-archive"):
                raise
            raise _damaged(f"engine {engine['key'][:12]}: {error.message.rstrip('.')}") from None
    return dict(head)


def _document(archive: zipfile.ZipFile, name: str, what: str) -> bytes:
    entry = archive.getinfo(name)
    limits.check("ARCHIVE_HEAD_BYTES", entry.file_size, f"{what}, by its {name},")
    most = int(limits.limit("ARCHIVE_HEAD_BYTES"))
    with archive.open(entry) as source:
        data = source.read(most + 1)
    limits.check("ARCHIVE_HEAD_BYTES", len(data), f"{what}, by its {name},")
    return data


def _extract(archive: zipfile.ZipFile, head: Mapping[str, Any], folder: Path, what: str) -> dict[str, str]:
    """Unpack what ``session.json`` lists; SHA-256 by name. What it does not list stays in the archive."""
    models = {f"models/{entry['sha256']}/" for entry in head["models"].values()}
    builds = {f"builds/{engine['key']}/" for engine in head["engines"]}
    left = limits.limit("ARCHIVE_BYTES")
    digests = {}
    for entry in archive.infolist():
        kind, _, rest = entry.filename.partition("/")
        inside, _, name = rest.partition("/")
        place = f"{kind}/{inside}/"
        wanted = place in models or (
            place in builds and (name in _FILES or (name.startswith("profiles/") and _PROFILE.fullmatch(name[9:])))
        )
        if entry.is_dir() or not wanted:
            continue
        if place in builds and (name in _DOCUMENTS or name.startswith("profiles/")):
            limits.check("ARCHIVE_HEAD_BYTES", entry.file_size, f"{what}, by its {entry.filename},")
        target = folder / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("xb") as out:
            size, digests[entry.filename] = _copy(source, out, left, what)
        left -= size
    return digests


def _copy(source: IO[bytes], out: IO[bytes], most: float, what: str) -> tuple[int, str]:
    """Copy at most `most` bytes, whatever the archive says of their number; size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    while data := source.read(_CHUNK):
        size += len(data)
        if size > most:
            raise limits.exceeded("ARCHIVE_BYTES", f"{what} unpacks to more bytes than it says, and than the limit.")
        digest.update(data)
        out.write(data)
    return size, digest.hexdigest()


def _check_model(title: str, entry: Mapping[str, Any], folder: Path) -> None:
    sha256, file = entry["sha256"], PurePosixPath(entry["file"])
    if len(file.parts) != 1 or file.name in {"", ".."}:
        raise _unsafe(f"Model {title} in the archive has an unsafe path.")
    place = folder / "models" / sha256
    source = place / file.name
    try:
        companions = set(Model(title, source).companions)
    except ModelError as error:
        raise _damaged(f"model {title}: {error.message}") from None
    for companion in companions:
        parts = companion.relative_to(place).parts if companion.is_relative_to(place) else ("..",)
        if ".." in parts or (companion.name == "model.onnx" and len(parts) == 1):
            raise _unsafe(f"Model {title} in the archive keeps weights at an unsafe path.")
    if fingerprint(source, companions) != sha256:
        raise _damaged(f"model {title} is not the one that was put in")
    if entry["origin"].get("kind") in {"quantize", "cast", "placement"}:
        _check_origin(title, entry["origin"])


def _check_origin(title: str, origin: Mapping[str, Any]) -> None:
    """Refuse a model that says it was rewritten by the workbench and lacks what the workbench writes."""
    from workbench.precision.scheme import Scheme

    needed = {
        "quantize": ("source", "scheme", "warnings", "left", "quantized", "pairs"),
        "cast": ("source", "warnings"),
        "placement": ("source", "moved"),
    }
    for name in needed[origin["kind"]]:
        if name not in origin and name != "warnings":
            raise _damaged(f"model {title} does not say its {name!r}")
    if "scheme" in origin:
        try:
            Scheme(**origin["scheme"])
        except (TypeError, WorkbenchError) as error:
            raise _damaged(f"the scheme of model {title} is none: {error}") from None


def _check_build(key: str, head: Mapping[str, Any], folder: Path, digests: Mapping[str, str]) -> str:
    """Check one engine; the digest of its files, as they were in the archive."""
    from workbench.measure.measured import apply

    place = folder / "builds" / key
    own = {name.removeprefix(f"builds/{key}/"): d for name, d in digests.items() if name.startswith(f"builds/{key}/")}
    missing = [name for name in _FILES if name not in own and name != "build.log"]
    if missing:
        raise _damaged(f"engine {key[:12]} lacks {', '.join(missing)}")
    engine = load_engine(place)
    if engine.key != key:
        raise _damaged(f"engine {key[:12]} says that it is another")
    record, note = engine.record, json.loads((place / "build.json").read_bytes())
    sizes = {size for size in (record.get("engine_bytes"), _bytes_of(place)) if size is not None}
    if sizes - {engine.bytes}:
        raise _damaged(f"engine {key[:12]} has {engine.bytes:,} bytes and was built with {max(sizes):,}")
    if note.get("analysis") != build.ANALYSIS:
        _renew(place, note, head, folder)
    plan = plan_in(place)
    if plan.model["sha256"] != note["model"]["sha256"]:
        raise _damaged(f"the plan of engine {key[:12]} is of another model")
    for profile in engine.profiles:
        try:
            _check_any(profile, "profile")
            Plan.from_dict(json.loads(apply(plan, profile).to_json()))
        except (KeyError, ProfileError):
            continue  # it lacks something, or is of another engine: told when it is used
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise _damaged(f"a profile of engine {key[:12]} is not whole: {error}") from None
    return hashlib.sha256(json.dumps(sorted(own.items())).encode()).hexdigest()


def _bytes_of(place: Path) -> int | None:
    """The size of its engine that a plan states, whatever else is in it."""
    try:
        size = json.loads((place / "plan.json").read_bytes())["facts"]["engine_bytes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return size if isinstance(size, int) else None


def _renew(place: Path, note: Mapping[str, Any], head: Mapping[str, Any], folder: Path) -> None:
    """Make the plan of an earlier version again, where the archive holds the model; else it stays as it is."""
    sha256 = note["model"]["sha256"]
    entry = next((e for e in head["models"].values() if e["sha256"] == sha256), None)
    if entry is None or note.get("original"):
        return
    model = Model(note["model"]["name"], folder / "models" / sha256 / entry["file"])
    plan = assembled(place, note, model)
    (place / "plan.json").write_bytes(plan.to_json().encode("utf-8", "surrogatepass"))
    (place / "build.json").write_text(json.dumps({**note, "analysis": build.ANALYSIS}))


def _damaged(why: str) -> StoreError:
    return StoreError(
        f"The archive is damaged: {why}.", hint="Copy it again, or make it again.", code="damaged-archive"
    )


def _unsafe(message: str) -> StoreError:
    return StoreError(message, hint="Do not open it.", code="unsafe-archive")


# --- keeping ----------------------------------------------------------------------------------------


def read(path: str | Path, name: str | None, store: Store, trust: bool = False) -> Session:
    """See `Session.import_`."""
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"There is no file {path}.", code="no-file")
    size = path.stat().st_size
    with store.scratch("import") as scratch:
        try:
            head = jobs.guarded(
                "workbench.session.archive:unpack",
                {"path": str(path.resolve()), "folder": str(scratch)},
                title=f"reading {path.name}",
                seconds=limits.limit("READER_SECONDS") + size / 2e6,  # a slow disk writes some ten times that
            )
        except LimitError as error:
            raise LimitError(
                f"{path.name} was not opened: {error.message}", hint=error.hint, details=error.details, code=error.code
            ) from None
        return _take(scratch, head, name, store, path.name, trust)


def _take(
    folder: Path, head: Mapping[str, Any], name: str | None, store: Store, archive: str, trust: bool
) -> Session:  # fmt: skip
    """Keep what an archive holds; everything in it was checked."""
    signed = {key: value for key, value in head.items() if key != "seal"}
    signed["engines"] = [{"key": e["key"], "model": e["model"]} for e in head["engines"]]
    mac = store.sign(signed)
    own = mac is not None and hmac.compare_digest(mac, str(head.get("seal")))
    place = name or head["name"]
    if name is None and not own:  # a stranger does not choose into which of the user's sessions this goes
        place = next(n for n in _others(place, first=True) if n not in store.sessions())
    session = Session(place, store=store)
    try:
        before = session.models
        fresh = not before and not session.engines
        models, titles = [], {}
        taken = set(before) | set(head["models"])
        for title, entry in head["models"].items():
            model = Model(title, _keep_model(folder, entry, store), entry["origin"])
            if not own or trust:
                model = mark(model, archive, trust=trust)
            wanted = title if own else _plain(title)
            if (wanted in before and not _same(before[wanted], entry["sha256"], store)) or wanted != title:
                wanted = next(
                    n
                    for n in _others(wanted, first=wanted != title)
                    if n not in taken or _same(before.get(n), entry["sha256"], store)
                )
                taken.add(wanted)
            model = Model(wanted, model.path, model.origin)
            titles[title] = model.name
            models.append(model)
        engines = []
        for engine in head["engines"]:
            title = titles.get(engine["model"]) or (engine["model"] if own else _plain(engine["model"]))
            engines.append((_keep_build(folder, engine, head, store, archive, own, trust), title))
        session.take_in(models, engines)
        if fresh:
            session.select(Selection(head["selection"]["kind"], tuple(head["selection"]["ids"])))
    except BaseException:
        session.close()
        raise
    return session


def _keep_model(folder: Path, entry: Mapping[str, Any], store: Store) -> Path:
    sha256 = entry["sha256"]
    file = store.path / "models" / sha256 / "model.onnx"
    if file.is_file():
        return file
    source = folder / "models" / sha256
    # In the store all are called so: the same content may be made here as well, and is looked for by that name.
    (source / entry["file"]).rename(source / "model.onnx")
    keep = {source / "model.onnx", *Model("", source / "model.onnx").companions}
    for other in [f for f in source.rglob("*") if f.is_file() and f not in keep]:
        other.unlink()
    if file.parent.is_dir():  # of an archive read by an earlier version, which left the file its name
        shutil.copyfile(source / "model.onnx", file)
        return file
    return store.add_model(source, sha256, None, {})


def _keep_build(
    folder: Path, engine: Mapping[str, Any], head: Mapping[str, Any], store: Store, archive: str, own: bool, trust: bool
) -> str:
    """Put one engine into the store; the key under which it lies there."""
    place = folder / "builds" / engine["key"]
    note = json.loads((place / "build.json").read_bytes())
    key: str = engine["key"]
    if not own:
        key = IMPORTED + engine["digest"]
        sha256 = note["model"]["sha256"]
        # Paths of the machine that made it mean nothing here, or another file.
        note["model"]["path"] = str(store.path / "models" / sha256 / "model.onnx")
        entry = head["models"].get(engine["model"])
        if note.get("original"):
            note["original"] = (
                None if entry is None else str(store.path / "models" / entry["sha256"] / "model.onnx")
            )  # fmt: skip
        note["key"], note["imported"] = key, {"archive": archive, "key": engine["key"], "trust": trust}
        (place / "build.json").write_text(json.dumps(note))
    there = store.build(key)
    if there is None:
        there = store.add_build(place, key)
    if trust and note.get("imported") is not None:
        set_trust(there, store)
    return key


def _same(model: Model | None, sha256: str, store: Store) -> bool:
    return model is not None and model.path.is_file() and model.sha256(store) == sha256


def _plain(title: str) -> str:
    """The name, or another where it would stand in front of a file or a ``package.module:factory`` of that name."""
    return re.sub(r"[:/\\]", "-", title).removesuffix(".onnx") or "model"


def _others(title: str, *, first: bool) -> Iterator[str]:
    """Names to give instead; `first` says whether the name itself is among them."""
    if first:
        yield title
    yield from (f"{title}-{number}" for number in count(2))
