"""NVIDIA ModelOpt's quantization and AutoCast, run by workers in ModelOpt's own environment.

ModelOpt needs other packages than the workbench, so it is installed in a separate virtual environment
(`workbench env create modelopt`). ModelOpt chooses which nodes get Q/DQ, a scale for each channel of a weight, and which
nodes stay in FP32. `workbench audit` shows its result next to the workbench's placement.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench.core.errors import ModelError, first_lines

if TYPE_CHECKING:
    from workbench.core.jobs import Job
    from workbench.core.store import Store
    from workbench.core.worker import Reporter
    from workbench.model.model import Model
    from workbench.model.origin import Origin

ENVIRONMENT = "modelopt"
VERSION = 2
"""Increase this number when the same request gives another graph; cached models are then rebuilt."""

METHODS = {"entropy": "entropy", "minmax": "max"}
"""ModelOpt's calibration methods by the workbench's names."""


def autocast(
    model: Model,
    precision: str,
    store: Store,
    *,
    keep: tuple[str, ...] = (),
    data_max: float = 512.0,
    on_job: Callable[[Job], Any] | None = None,
) -> Model:
    """Convert `model` to FP16 or BF16 with ModelOpt's AutoCast and cache it; nodes with large values stay in FP32.

    Args:
        model: An FP32 model.
        precision: fp16 or bf16.
        store: Where the result is cached.
        keep: Nodes to leave in FP32: names or patterns of nodes, or of the PyTorch modules that they come from.
        data_max: Nodes that read or write a larger magnitude (on random inputs) stay in FP32.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        CompilerUnavailableError: ModelOpt's environment is missing or broken.
        ModelError: ModelOpt refused the model, or `keep` matches no node.
    """
    from workbench.core.environments import python_of, result
    from workbench.core.jobs import Job
    from workbench.model.model import Model as Made
    from workbench.model.onnx_file import fingerprint

    source = model.sha256(store)
    identity = [maker(store), source, precision, keep, data_max]
    key = "autocast-" + hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    if (found := model.derived(store, key)) is not None:
        return found
    with store.lock(hashlib.sha256(key.encode()).hexdigest()), store.scratch("autocast") as folder:
        if (found := model.derived(store, key)) is not None:
            return found
        work = folder / "model"
        work.mkdir()
        job = Job(
            "workbench.precision.modelopt:autocast_task",
            {"path": str(model.path.resolve()), "precision": precision, "folder": str(work), "keep": list(keep),
             "data_max": data_max},
            title=f"AutoCast of {model.name} to {precision}", python=python_of(ENVIRONMENT, store),
        )  # fmt: skip
        if on_job is not None:
            on_job(job)
        report = cast("Origin", result(job, ENVIRONMENT))
        draft = Made(model.name, work / "model.onnx")
        sha256 = fingerprint(draft.path, set(draft.companions))
        info: Origin = {"kind": "cast", "library": "modelopt", "precision": precision, "source": source, **report}
        return Made(model.name, store.add_model(work, sha256, key, {**info}), info, original=model)


def maker(store: Store) -> str:
    """Versions of ModelOpt, its dependencies and this module, for cache keys.

    These are the versions that the environment was created with, even if outdated. Without an environment, they are the
    versions that a new one would get.
    """
    from workbench.core.environments import RECIPES, look

    versions = dict(pin.split("==") for pin in RECIPES[ENVIRONMENT].pins)
    for package in look(ENVIRONMENT, store).packages:
        name, _, there = package.partition("==")
        if (name := re.sub(r"[-_.]+", "-", name).lower()) in versions:
            versions[name] = there
    return ", ".join(f"{name} {version}" for name, version in versions.items()) + f", {VERSION}"


def quantize_task(
    reporter: Reporter, *, path: str, scheme: Mapping[str, Any], folder: str, batches: str | None, **_: Any
) -> dict[str, Any]:
    """Quantize with ModelOpt and its placement, in a worker; writes ``model.onnx`` into `folder`.

    Returns:
        As `workbench.precision.quantize_worker.quantize_task`.
    """
    quantization = _load("modelopt.onnx.quantization")
    # For INT4, ModelOpt compiles an extension on first use. Setuptools would then read a project in the current
    # folder and the worker's arguments.
    os.chdir(Path(folder).parent)
    sys.argv = sys.argv[:1]
    from workbench.precision.data import read_batches

    source, names = _named(reporter, Path(path), Path(folder), tuple(scheme["keep"]))
    out = Path(folder) / "model.onnx"
    method = (
        "rtn_dq"
        if scheme["to"] == "int4"
        else METHODS[scheme["method"] or ("minmax" if scheme["to"] == "fp8" else "entropy")]
    )
    total = len(list(Path(batches).glob("*.npz"))) if batches else 0

    class Reader:
        """ONNX Runtime's calibration reader: returns the next batch, or None; `rewind` restarts it."""

        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._left, None)
            if batch is not None:
                self._done += 1
                reporter.progress("Calibrating", self._done, total)
            return batch

        def get_first(self) -> dict[str, Any]:
            assert batches is not None
            return next(read_batches(Path(batches)))

        def rewind(self) -> None:
            self._left, self._done = (read_batches(Path(batches)) if batches else iter(())), 0

    more: dict[str, Any] = {}
    if batches:
        from onnxruntime.quantization import CalibrationDataReader

        more["calibration_data_reader"] = type("BatchReader", (Reader, CalibrationDataReader), {})()
    if scheme["to"] == "int4":
        more["block_size"] = scheme["block"]
    reporter.progress("ModelOpt", 0, 1)
    _told(
        "quantize",
        lambda: quantization.quantize(
            str(source), quantize_mode=scheme["to"], calibration_method=method, calibration_eps=["cpu"],
            nodes_to_exclude=[f"{re.escape(n)}$" for n in names] or None, output_path=str(out), log_level="ERROR",
            high_precision_dtype=scheme["rest"], **more,
        ),
    )  # fmt: skip
    if not out.is_file():
        raise ModelError(
            "ModelOpt wrote no model: it found nothing to quantize.",
            hint='Try library="workbench".',
            shell_hint="Try --library workbench.",
        )
    reporter.progress("ModelOpt", 1, 1)
    quantized, left, pairs = _what_was_done(out, set(names))
    return {"casts": 0, "kept": {}, "clipped": [], "quantized": quantized, "left": left, "pairs": pairs,
            "calibration": None, "ranges": {}, "warnings": []}  # fmt: skip


def autocast_task(
    reporter: Reporter, *, path: str, precision: str, folder: str, keep: list[str], data_max: float
) -> dict[str, Any]:
    """Run AutoCast in a worker; writes ``model.onnx`` into `folder`.

    Returns:
        As `workbench.passes.cast.cast_task`.
    """
    cast = _load("modelopt.onnx.autocast")
    import onnx

    source, names = _named(reporter, Path(path), Path(folder), tuple(keep))
    reporter.progress("ModelOpt", 0, 1)
    made = _told(
        "convert",
        lambda: cast.convert_to_mixed_precision(
            onnx_path=str(source), low_precision_type=precision, keep_io_types=True, providers=["cpu"],
            data_max=data_max, nodes_to_exclude=[f"{re.escape(n)}$" for n in names],
        ),
    )  # fmt: skip
    onnx.save(made, str(Path(folder) / "model.onnx"))
    reporter.progress("ModelOpt", 1, 1)
    before = {n.name for n in onnx.load(str(source), load_external_data=False).graph.node}
    types = {
        v.name: v.type.tensor_type.elem_type for v in (*made.graph.value_info, *made.graph.output, *made.graph.input)
    }
    types.update({t.name: t.data_type for t in made.graph.initializer})
    kept: dict[str, int] = {}
    for node in made.graph.node:
        if (
            node.name in before
            and any(types.get(o) == onnx.TensorProto.FLOAT for o in node.output)
            and node.op_type != "Cast"
        ):
            kept[node.op_type] = kept.get(node.op_type, 0) + 1
    return {
        "casts": sum(n.op_type == "Cast" and n.name not in before for n in made.graph.node),
        "kept": kept,
        "clipped": [],
    }


def _load(module: str) -> Any:
    """A module of ModelOpt; if the import fails, the error says how to fix the environment."""
    import importlib

    from workbench.core.environments import missing

    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise missing(ENVIRONMENT, f"{module} does not load ({first_lines(error)})") from None


def _told(what: str, step: Callable[[], Any]) -> Any:
    try:
        return step()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - dependencies such as setuptools may call sys.exit
        raise ModelError(
            f"ModelOpt could not {what} the model: {type(error).__name__}: {first_lines(error)}",
            hint='The quantizer of the workbench may support it: library="workbench".',
            shell_hint="The quantizer of the workbench may support it: --library workbench.",
            details={"error": str(error)[:4000]},
        ) from None


def _named(reporter: Reporter, path: Path, folder: Path, keep: tuple[str, ...]) -> tuple[Path, list[str]]:
    """A copy in which each node's name is its id, and the names of the nodes that `keep` matches."""
    from workbench.passes.ir import load_ir, save_ir
    from workbench.passes.qdq_choice import kept

    model = load_ir(path, reporter)
    names = kept(model, keep)
    source = folder.parent / "named.onnx"
    save_ir(model, source)
    return source, names


def _what_was_done(path: Path, kept: set[str]) -> tuple[list[str], dict[str, str], int]:
    """Nodes whose weight (or second factor) is dequantized; the others with a reason; Q/DQ pairs on activations."""
    from workbench.model.onnx_file import read_graph
    from workbench.passes.qdq_choice import HEAVY

    graph = read_graph(path).graph
    produced = {o: n for n in graph.node for o in n.output}
    stored = {t.name for t in graph.initializer}

    def dequantized(name: str) -> bool:
        for _ in range(3):  # there may be casts in between
            node = produced.get(name)
            if node is None:
                return False
            if node.op_type == "DequantizeLinear":
                return True
            if node.op_type not in {"Cast", "Transpose", "Reshape"}:
                return False
            name = node.input[0]
        return False

    quantized, left = [], {}
    for node in graph.node:
        if node.op_type in HEAVY:
            if dequantized(node.input[1]):  # data may be dequantized for another reader
                quantized.append(node.name)
            else:
                left[node.name] = "kept on request" if node.name in kept else "ModelOpt left it"
    pairs = sum(n.op_type == "QuantizeLinear" and n.input[0] not in stored for n in graph.node)
    return quantized, left, pairs
