"""Makes a Model from a file, the name of a sample, a factory, or a torch module."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.core.documents import expanded, kind_of
from workbench.core.errors import CompilerUnavailableError, ModelError
from workbench.core.jobs import Job
from workbench.core.store import Store
from workbench.hardware.machine import REWRITERS, installed, made_by
from workbench.model.call import title_of
from workbench.model.export import check_of
from workbench.model.made_from import unchanged
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint, read_graph
from workbench.model.origin import Origin
from workbench.model.sample_models import sample_folder, samples
from workbench.model.shape_profile import ShapeProfile

if TYPE_CHECKING:
    from workbench.model.verify import Check

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""The form of a factory, a function that makes a model: ``package.module:factory``."""


def resolve(
    source: Any,
    store: Store,
    *,
    inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    name: str | None = None,
    profile: ShapeProfile | None = None,
    on_job: Callable[[Job], None] | None = None,
    check: Check | bool | None = None,
    renew: bool = False,
    on_step: Callable[[str], None] | None = None,
) -> Model:
    """The Model of `source`.

    Args:
        source: A path to an ONNX file; the name of a sample; ``package.module:factory``, a function
            that returns ``(module, example inputs)``; a torch module (with `inputs`); an
            `onnx.ModelProto`; or a Model.
        store: Where exported models are kept.
        inputs: Example inputs of a torch module.
        name: Its name in the session.
        profile: Shapes to export at, for models from torch; see `export.export_module`.
        on_job: Called with each job that is started, to show progress or cancel.
        check: How an export is compared with torch: "error", "warn", or "off"; see `export.check_of`.
        on_step: Called with the name of each step before it starts, while a torch module is exported.
        renew: Export a factory's model again, even if nothing that it depends on seems changed.

    Raises:
        ModelError: there is no such model, or it can't be read or exported.
        CompilerUnavailableError: it must be exported and torch is not installed.
    """
    if isinstance(source, Model):
        return source
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        path = expanded(text)
        if kind_of(path) == "file" or path.suffix == ".onnx":
            # Absolute: the model outlives this working directory, in the store and in workers.
            model = Model(name or path.stem, path.absolute(), {"kind": "file", "path": str(path.resolve())})
            _ = model.graph  # a bad file raises an error here, not at its first use
            return model
        if text in samples():
            return _sample(text, store, name, profile, on_job, check)
        if FACTORY.fullmatch(text):
            origin = {"kind": "factory", "spec": text, "folder": str(Path.cwd())}
            key = _factory_key(origin, profile, check)
            return _exported(origin, store, name or text.partition(":")[2], profile, key, on_job, check, renew=renew)
        if kind_of(path) == "folder":
            read_graph(path)  # the error says that it is a folder, and which models it holds
        near = difflib.get_close_matches(text, [*samples(), *(p.name for p in Path().glob("*.onnx"))], n=3)
        raise ModelError(
            f"There is no model {text[:300]!r}: no file, sample, or package.module:factory has that name.",
            hint=(f"Did you mean {' or '.join(near)}? " if near else "")
            + "`workbench samples` lists the sample models.",
        )
    if hasattr(source, "forward") and hasattr(source, "parameters"):
        return _module(source, store, inputs, name, profile, check, on_step)
    if hasattr(source, "SerializeToString") and hasattr(source, "graph"):
        return _proto(source, store, name or source.graph.name or "model")
    raise ModelError(
        f"The workbench can't make a model from an object of type {type(source).__name__}.",
        hint="Pass a path to an ONNX file, a torch module with inputs=, the name of a sample, or package.module:factory.",
    )


def _sample(
    key: str,
    store: Store,
    name: str | None,
    profile: ShapeProfile | None,
    on_job: Callable[[Job], None] | None,
    check: Check | bool | None,
) -> Model:
    entry = samples()[key]
    folder = sample_folder()
    committed = entry.get("committed_onnx")
    if committed and (profile is None or entry.get("builder") == "onnx"):
        return Model(name or key, folder / committed, {"kind": "sample", "name": key})
    file = folder / entry["file"]
    origin = {"kind": "sample", "name": key, "file": str(file), "root": str(folder)}
    made_from = [file.read_bytes(), _exporter(), profile.model_dump_json() if profile else ""]
    mode = check_of(check)
    made_from += [mode] if mode != "error" else []
    identity = hashlib.sha256(repr(made_from).encode()).hexdigest()
    return _exported(origin, store, name or key, profile, f"sample-{identity}", on_job, check)


def _exporter() -> str:
    try:
        return made_by("torch", "onnxscript", *REWRITERS)
    except CompilerUnavailableError as error:
        raise CompilerUnavailableError(
            f"This sample is exported from PyTorch, and {error.message}",
            hint="pip install 'trt-workbench[torch]', or take a small sample: `workbench samples`.",
        ) from None


def _factory_key(origin: Mapping[str, Any], profile: ShapeProfile | None, check: Check | bool | None) -> str:
    """The key of a factory's export. It does not depend on the sources; the caller checks whether they changed."""
    libraries = [(name, installed(name)) for name in ("torch", "onnxscript", "transformers", *REWRITERS)]
    asked = [origin["spec"], origin["folder"], profile.model_dump_json() if profile else "", check_of(check)]
    place = [sys.version, sys.prefix, os.environ.get("PYTHONPATH", "")]
    return "factory-" + hashlib.sha256(repr([asked, libraries, place]).encode()).hexdigest()


def _exported(
    origin: dict[str, Any], store: Store, name: str, profile: ShapeProfile | None, key: str | None,
    on_job: Callable[[Job], None] | None, check: Check | bool | None = None, *, renew: bool = False,
) -> Model:  # fmt: skip
    begun = time.time()

    def known() -> Model | None:
        found = store.derived(key) if key else None
        if found is None or ("made_from" in found[1] and not unchanged(found[1]["made_from"])):
            return None
        if renew and found[1].get("exported", 0) < begun:
            return None
        return Model(name, found[0], _public(origin, found[1]))

    if (model := known()) is not None:
        return model
    with store.lock(f"export-{key or 'factory'}"), store.scratch("export") as folder:
        if (model := known()) is not None:  # another process made it while this one waited
            return model
        work = folder / "model"
        work.mkdir()
        job = Job(
            "workbench.model.export:export_task",
            {
                "source": origin,
                "profile": profile.model_dump(mode="json") if profile else None,
                "folder": str(work),
                "check": check_of(check),
            },
            title=f"export of {name}",
            folder=folder / "log",
        )
        if on_job is not None:
            on_job(job)
        report = job.result()
        return _keep(work, store, name, {**_public(origin), **report, "exported": time.time()}, key)


def _module(
    module: Any, store: Store, inputs: Sequence[Any] | Mapping[str, Any] | None, name: str | None,
    profile: ShapeProfile | None, check: Check | bool | None, on_step: Callable[[str], None] | None,
) -> Model:  # fmt: skip
    if inputs is None:
        raise ModelError(
            "A torch module needs example inputs to be exported.",
            hint="Pass inputs=(tensor, ...) or inputs={name: tensor}.",
        )
    from workbench.model.export import export_module

    kind = title_of(module)
    title = name or kind
    # Here and not in a worker: the module is in this process, and need not be picklable.
    with store.scratch("export") as folder:
        work = folder / "model"
        work.mkdir()
        report = export_module(module, inputs, work / "model.onnx", profile=profile, check=check, progress=on_step)
        return _keep(
            work,
            store,
            title,
            {"kind": "module", "class": kind, **report},
            None,
        )


def _proto(proto: Any, store: Store, name: str) -> Model:
    import onnx

    with store.scratch("proto") as folder:
        work = folder / "model"
        work.mkdir()
        onnx.save(proto, str(work / "model.onnx"))
        return _keep(work, store, name, {"kind": "proto"}, None)


def _keep(work: Path, store: Store, name: str, info: dict[str, Any], key: str | None) -> Model:
    draft = Model(name, work / "model.onnx")
    sha256 = fingerprint(draft.path, set(draft.companions))
    return Model(name, store.add_model(work, sha256, key, info), _public(info))


def _public(*origins: Mapping[str, Any]) -> Origin:
    """The part of an origin that is stored with a model: no paths of this machine."""
    private = {"file", "root", "folder", "made_from", "exported"}
    return cast("Origin", {k: v for origin in origins for k, v in origin.items() if k not in private})
