"""Casts a graph from FP32 to FP16 or BF16.

Strongly typed compilers (TensorRT 11, TensorRT for RTX) take the precision from the graph, so a request
for FP16 means rewriting the graph. ONNX's operator schemas, and not a list of names, decide which
operations may run in the low type: if a schema's type constraint allows the type, the operation runs in
it; if not, casts are added around it. Inputs and outputs of the model keep their types. Nodes keep their
names and metadata; the added casts have new names.
"""

from __future__ import annotations

import hashlib
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError
from workbench.core.jobs import Job
from workbench.core.store import Store
from workbench.hardware.machine import REWRITERS, made_by
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.model.origin import Origin
from workbench.passes.casting import VERSION, Casting, Lists
from workbench.passes.ir import load_ir, save_ir
from workbench.passes.result import check_written

if TYPE_CHECKING:
    from workbench.core.worker import Reporter


def lists_of(options: Mapping[str, Any]) -> Lists:
    """The arguments of `cast` that form its `Lists`."""
    listed = {name: _names(options.get(name, ())) for name in ("keep", "keep_ops", "only", "only_ops")}
    return Lists(**listed, keep_io=options.get("keep_io", True))


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def cast(
    model: Model,
    precision: str,
    store: Store,
    *,
    keep: Sequence[str] | str = (),
    keep_ops: Sequence[str] | str = (),
    only: Sequence[str] | str = (),
    only_ops: Sequence[str] | str = (),
    keep_io: bool = True,
    on_job: Callable[[Job], Any] | None = None,
) -> Model:
    """`model` with its FP32 tensors in `precision` ("fp16" or "bf16"), made in a worker and stored.

    Args:
        model: In FP32.
        precision: "fp16" or "bf16".
        store: Where the result is stored; the same request then returns the stored model.
        keep: See `Lists`, also for the next three.
        keep_ops: Operations to leave in FP32.
        only: The only nodes to cast.
        only_ops: The only operations to cast.
        keep_io: Whether the model's inputs and outputs keep their types.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        ConfigError: the precision is not known.
        ModelError: the model can't be rewritten, or an entry of a list matches no node.
    """
    if precision not in {"fp16", "bf16"}:
        raise ConfigError(f"A cast gives fp16 or bf16, not {precision!r}.", hint="For int8, fp8 and int4: quantize.")
    lists = Lists(_names(keep), _names(keep_ops), _names(only), _names(only_ops), keep_io)
    lists.check([(node.id, node.op) for node in model.graph.nodes], model.name)
    source = model.sha256(store)
    if (found := known_cast(model, precision, source, store, lists)) is not None:
        return found
    key = _key(precision, source, lists)
    with store.lock(hashlib.sha256(key.encode()).hexdigest()), store.scratch("cast") as folder:
        if (found := known_cast(model, precision, source, store, lists)) is not None:
            return found
        work = folder / "model"
        work.mkdir()
        job = Job(
            "workbench.passes.cast:cast_task",
            {"path": str(model.path.resolve()), "precision": precision, "folder": str(work), "lists": asdict(lists)},
            title=f"conversion of {model.name} to {precision}",
        )
        if on_job is not None:
            on_job(job)
        report = typing.cast("Origin", job.result())
        draft = Model(model.name, work / "model.onnx")
        sha256 = fingerprint(draft.path, set(draft.companions))
        info: Origin = {"kind": "cast", "precision": precision, "source": source, "lists": lists.to_dict(), **report}
        return Model(model.name, store.add_model(work, sha256, key, {**info}), info, original=model)


def known_cast(model: Model, precision: str, sha256: str, store: Store, lists: Lists | None = None) -> Model | None:
    """The stored conversion of the model with this fingerprint; None if there is none."""
    return model.derived(store, _key(precision, sha256, lists or Lists()))


def _key(precision: str, sha256: str, lists: Lists) -> str:
    listed = ""
    if lists != Lists():
        listed = "-" + hashlib.sha256(json.dumps(asdict(lists), sort_keys=True).encode()).hexdigest()
    return f"cast-{VERSION}-{made_by(*REWRITERS)}-{precision}-{sha256}{listed}"


def cast_task(
    reporter: Reporter, *, path: str, precision: str, folder: str, lists: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Convert the model, in a worker; writes ``model.onnx`` into `folder`.

    Returns:
        ``casts`` (number of casts added), ``lowered`` (number of nodes that run in the type), ``kept`` (nodes left in
        FP32, by operation), ``guarded`` (names of those that a rule kept; see `workbench.passes.guard`), ``changed``
        (constants that the type would change), ``clipped`` (constants clipped to the type's range, because their size
        has no meaning), ``warnings``.

    Raises:
        ModelError: the result is not a valid model, though the source is.
    """
    import onnx_ir as ir

    model = load_ir(Path(path), reporter)
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in (lists or {}).items()
    }
    low = ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.BFLOAT16
    work = Casting(model, low, reporter, Lists(**given))
    work.run()
    out = Path(folder) / "model.onnx"
    save_ir(model, out)
    check_written(out, Path(path), reporter)
    return work.report
