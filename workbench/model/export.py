"""From a torch module to an ONNX file that can be trusted.

`torch.onnx.export(dynamo=True)` records for every node which module and source line it came from. It has
one trap: a dimension that was asked to be dynamic can be silently fixed to the example's size when that
size is 1. So examples are enlarged to at least 2 along dynamic dimensions, and the exported file is run
at a second shape and compared with torch before anyone builds from it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.config import Shape, ShapeProfile
from workbench.errors import CompilerUnavailableError, ModelError, WorkbenchError, first_lines
from workbench.model.provenance import collect_sources, keep_sources

if TYPE_CHECKING:
    import torch

    from workbench.worker import Reporter

TOLERANCE = 1e-2
"""Largest difference from torch, relative to the largest output, that an export may show."""

EXTERNAL_ABOVE = 1_800_000_000
"""Bytes of weights from which on they go into a file of their own: a protobuf ends at 2 GB."""


def export_module(
    module: torch.nn.Module,
    inputs: Sequence[Any] | Mapping[str, Any],
    path: Path,
    *,
    profile: ShapeProfile | None = None,
    opset: int | None = None,
    root: Path | None = None,
    check: bool = True,
) -> dict[str, Any]:
    """Export `module` to `path`, verify it, and say how it went.

    Args:
        module: Exported in evaluation mode; its own mode is restored.
        inputs: Example inputs by position or by name.
        path: The .onnx file to write.
        profile: Shapes by input name. A dimension whose min and max differ becomes dynamic; others are
            fixed at the profile's shape. None: everything static at the example's shapes.
        opset: ONNX opset; None for the exporter's own choice.
        root: Source paths under this folder are recorded relative to it, so that the file may be shared.
        check: Compare with torch in ONNX Runtime, at the example's shapes and at a second set.

    Returns:
        ``inputs`` (shapes), ``dynamic`` (dims by input), ``error`` (largest relative difference from
        torch by shape set, or why it was not compared), ``torch`` (version).

    Raises:
        ModelError: the module can't be exported, a dynamic dimension was specialised, or results differ.
        ConfigError: a shape profile names no input.
    """
    torch = _torch()
    examples, names = _named(module, inputs)
    dynamic: dict[str, dict[int, str]] = {}
    if profile is not None:
        for name, shapes in profile.inputs.items():
            if name not in examples:
                raise ModelError(
                    f"{name} is not an input of the module.",
                    hint="Its inputs are " + ", ".join(examples) + ".",
                )
            dims = {d: f"{name}_{d}" for d, (a, b) in enumerate(zip(shapes.min, shapes.max, strict=True)) if a != b}
            if dims:
                dynamic[name] = dims
            # At least 2 along dynamic dimensions: a 1 would be taken for a constant.
            size = [max(2, n) if d in dims else n for d, n in enumerate(shapes.opt)]
            examples[name] = resize_example(examples[name], tuple(size))
        _tie(dynamic, examples)
    training = module.training
    module.eval()
    try:
        with torch.no_grad(), _quiet():
            program = _export(torch, module, examples, names, dynamic, opset)
            weights = sum(t.nbytes for t in program.model.graph.initializers.values() if t.const_value is not None
                          for t in [t.const_value])  # fmt: skip
            if root is not None:
                _relative_paths(program.model, root)
            program.save(str(path), external_data=weights > EXTERNAL_ABOVE)
            traces = (n.metadata_props.get("pkg.torch.onnx.stack_trace", "") for n in program.model.graph.all_nodes())
            keep_sources(path, collect_sources(traces, root and root.parent))
            report: dict[str, Any] = {
                "inputs": {name: list(t.shape) for name, t in examples.items() if hasattr(t, "shape")},
                "dynamic": {name: {str(d): s for d, s in dims.items()} for name, dims in dynamic.items()},
                "torch": torch.__version__,
            }
            del program
            if check:
                report["error"] = _verify(torch, module, path, examples, dynamic, profile)
    finally:
        module.train(training)
    return report


def export_task(
    reporter: Reporter, *, source: dict[str, Any], profile: dict[str, Any] | None, folder: str
) -> dict[str, Any]:
    """Export a sample or a factory in a worker; writes ``model.onnx`` into `folder`.

    Args:
        reporter: Where progress goes.
        source: ``{"kind": "sample", "file": ..., "root": ...}`` or ``{"kind": "factory", "spec": ...,
            "folder": ...}``.
        profile: `ShapeProfile` as a dict, or None.
        folder: An existing folder.
    """
    reporter.progress("Loading the module", 0, 1)
    _torch()
    if source["kind"] == "sample":
        made = load_sample(source["file"])
        root = Path(source["root"])
    else:
        made = _call_factory(source["spec"], source["folder"])
        root = None
    module, inputs = _pair(made, source.get("spec", source["kind"]))
    reporter.progress("Loading the module", 1, 1)
    reporter.progress("Exporting to ONNX", 0, 1)
    shapes = ShapeProfile(**profile) if profile else None
    report = export_module(module, inputs, Path(folder) / "model.onnx", profile=shapes, root=root)
    reporter.progress("Exporting to ONNX", 1, 1)
    return report


def load_sample(file: str) -> Any:
    """What ``build()`` of a sample model's file returns: the module and its example inputs."""
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.build()


def resize_example(tensor: Any, shape: Shape) -> Any:
    """`tensor` with another shape of the same rank; values repeat, so token ids and masks stay valid.

    Raises:
        ModelError: the rank differs.
    """
    if len(shape) != tensor.ndim:
        raise ModelError(
            f"Shape {list(shape)} has {len(shape)} dimensions; the example input has {tensor.ndim} ({list(tensor.shape)})."
        )
    import torch

    for dim, size in enumerate(shape):
        if tensor.shape[dim] != size:
            tensor = tensor.index_select(dim, torch.arange(size) % tensor.shape[dim])
    return tensor.contiguous()


def _torch() -> Any:
    try:
        import onnxscript  # noqa: F401 - the exporter needs it and says so less clearly
        import torch
    except ImportError as error:
        raise CompilerUnavailableError(
            f"Exporting from PyTorch needs {error.name}, which is not installed.",
            hint="pip install 'trt-workbench[torch]'",
        ) from None
    return torch


def _named(module: Any, inputs: Sequence[Any] | Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Inputs by the parameter names of ``forward``."""
    if isinstance(inputs, Mapping):
        return dict(inputs), list(inputs)
    if not isinstance(inputs, tuple | list):
        inputs = (inputs,)
    parameters = [
        p.name for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]  # fmt: skip
    names = [parameters[i] if i < len(parameters) else f"input_{i}" for i in range(len(inputs))]
    return dict(zip(names, inputs, strict=True)), names


def _tie(dynamic: dict[str, dict[int, str]], examples: Mapping[str, Any]) -> None:
    """One symbol for the leading dimension of all inputs that have it dynamic: it is the batch."""
    leading = [name for name, dims in dynamic.items() if 0 in dims]
    if len({examples[name].shape[0] for name in leading}) == 1:
        for name in leading:
            dynamic[name][0] = "batch"


def _export(
    torch: Any, module: Any, examples: Mapping[str, Any], names: list[str], dynamic: Mapping[str, Mapping[int, str]],
    opset: int | None,
) -> Any:  # fmt: skip
    wanted = None
    if dynamic:
        wanted = {name: dict.fromkeys(dynamic.get(name, {}), torch.export.Dim.DYNAMIC) or None for name in names}
    try:
        return torch.onnx.export(
            module, (), kwargs=dict(examples), dynamo=True, verbose=False, dynamic_shapes=wanted,
            input_names=names, opset_version=opset,
        )  # fmt: skip
    except Exception as error:
        raise _export_error(error, lambda op: _line_of(torch, module, examples, op)) from error


def _line_of(torch: Any, module: Any, examples: Mapping[str, Any], op: str) -> str:
    """Where the user's code calls `op`: the exporter's own error does not say."""
    try:
        program = torch.export.export(module, (), kwargs=dict(examples)).run_decompositions()
        traces = (n.meta.get("stack_trace") or "" for n in program.graph.nodes if str(n.target).startswith(op))
        trace = next((t for t in traces if t), "")
    except Exception:  # noqa: BLE001 - only a help for the message
        return ""
    frames = [m for m in re.findall(r'File "([^"]+)", line (\d+), in', trace) if "/torch/" not in m[0]]
    return f" at {frames[-1][0]}:{frames[-1][1]}" if frames else ""


def _export_error(error: Exception, line_of: Callable[[str], str]) -> WorkbenchError:
    """Torch's long report cut down to the cause and the user's own line."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(str(e) for e in chain)
    missing = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text)
    where = [m for m in re.findall(r'File "([^"]+)", line (\d+), in (\w+)', text) if "/torch/" not in m[0]]
    place = f" at {where[-1][0]}:{where[-1][1]}" if where else ""
    if missing:
        place = place or line_of(missing[1])
        experts = "Before the export: model.set_experts_implementation('batched_mm'), which has one. Else: "
        return ModelError(
            f"The torch operation {missing[1]}{place} has no ONNX form.",
            hint=(experts if "grouped_mm" in missing[1] else "")
            + "Rewrite that line with operations that have one, or register a translation "
            "(torch.onnx.export, custom_translation_table).",
            details={"op": missing[1]},
        )
    if "data-dependent" in text or "GuardOnDataDependent" in text:
        return ModelError(
            f"The module branches on the values of a tensor{place}, which a graph can't hold.",
            hint="Use torch.where or torch.cond for it, or make the choice from shapes alone.",
        )
    return ModelError(
        f"torch.onnx.export failed{place}: {first_lines(chain[-1])}",
        hint="Does the module run with these inputs? Try module(*inputs) and torch.export.export first.",
    )


def _verify(
    torch: Any, module: Any, path: Path, examples: Mapping[str, Any], dynamic: Mapping[str, Mapping[int, str]],
    profile: ShapeProfile | None,
) -> dict[str, Any]:  # fmt: skip
    """Largest relative difference from torch at the example's shapes and at a second set."""
    import numpy as np
    import onnxruntime as ort

    sets = {"example": dict(examples)}
    if dynamic:
        assert profile is not None
        changed = {}
        for name, tensor in examples.items():
            dims = dynamic.get(name, {})
            high = profile.inputs[name].max if name in profile.inputs else tuple(tensor.shape)
            low = profile.inputs[name].min if name in profile.inputs else tuple(tensor.shape)
            size = [
                n if d not in dims else (n + 1 if n + 1 <= high[d] else max(low[d], 1))
                for d, n in enumerate(tensor.shape)
            ]
            changed[name] = resize_example(tensor, tuple(size))
        sets["second shape"] = changed
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime has its own gaps; they don't concern TensorRT
        return {"not compared": f"ONNX Runtime can't load it: {first_lines(error)}"}
    wanted = {i.name for i in session.get_inputs()}
    errors: dict[str, Any] = {}
    for label, values in sets.items():
        try:
            expected = list(_flat(module(**values)))
        except Exception as error:
            if label == "example":
                raise
            shapes = ", ".join(f"{n} {list(t.shape)}" for n, t in values.items() if n in dynamic)
            raise ModelError(
                f"The module itself does not run at {shapes}, which its shape range allows: {first_lines(error)}",
                hint="Give a range of shapes that it takes, or fixed shapes.",
            ) from error
        try:
            got = session.run(None, {n: t.detach().numpy() for n, t in values.items() if n in wanted})
        except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises is told as our own error
            if label == "second shape":
                raise _specialised(values, examples, dynamic, str(error)) from None
            raise ModelError(
                f"The exported model does not run: {first_lines(error)}",
                hint="Please check the module with torch.export.export; its ONNX form is not usable.",
            ) from None
        worst = 0.0
        for ours, theirs in zip(expected, got, strict=False):
            ours_np = ours.detach().to(torch.float64).numpy()
            if ours_np.shape != np.shape(theirs):
                raise _specialised(values, examples, dynamic, f"an output has shape {np.shape(theirs)}")
            scale = float(np.abs(ours_np[np.isfinite(ours_np)]).max(initial=0.0)) or 1.0
            difference = np.abs(ours_np - np.asarray(theirs, dtype=np.float64))
            worst = max(worst, float(np.nan_to_num(difference, nan=0.0).max(initial=0.0)) / scale)
        errors[label] = worst
        if worst > TOLERANCE:
            raise ModelError(
                f"The exported model's result differs from torch's by {worst:.2g} of the largest output ({label}).",
                hint="A dimension may have been fixed at export, or an operation is exported wrongly; "
                "compare intermediate outputs to find which.",
                details={"error": worst, "shapes": {n: list(t.shape) for n, t in values.items()}},
            )
    return errors


def _specialised(
    values: Mapping[str, Any],
    examples: Mapping[str, Any],
    dynamic: Mapping[str, Mapping[int, str]],
    why: str,
) -> ModelError:
    tried = ", ".join(f"{n} {list(values[n].shape)}" for n in dynamic)
    used = ", ".join(f"{n} {list(examples[n].shape)}" for n in dynamic)
    return ModelError(
        f"A dimension that should be dynamic was fixed at export: the model, exported at {used}, does not run "
        f"at {tried} ({why.splitlines()[0][:200]}).",
        hint="The module's code uses a size as a plain number (int(x.shape[0]), a stored size, a Python loop). "
        "Use x.shape[0] directly, or build with fixed shapes.",
        details={"exported": used, "tried": tried},
    )


def _flat(value: Any) -> Iterator[Any]:
    if hasattr(value, "detach"):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _flat(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _flat(item)


def _relative_paths(model: Any, root: Path) -> None:
    """Make source paths under `root` relative to its parent, and drop frames that lie elsewhere."""
    key = "pkg.torch.onnx.stack_trace"
    parent = str(root.parent) + os.sep
    for node in model.graph.all_nodes():
        trace = node.metadata_props.get(key)
        if trace:
            frames = re.split(r'(?=File ")', trace)
            kept = [f.replace(parent, "") for f in frames if parent in f]
            node.metadata_props[key] = "".join(kept)


def _call_factory(spec: str, folder: str) -> Any:
    module_name, _, name = spec.partition(":")
    sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(
            f"{module_name} can't be imported: {error}.",
            hint=f"Run the command from the folder that holds it ({folder}).",
        ) from None
    except Exception as error:
        raise ModelError(
            f"{module_name} failed while it was imported: {type(error).__name__}: {error}.",
            hint=f"Does it run from {folder}?",
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ModelError(f"{module_name} has no function {name}.", hint="Write package.module:factory.")
    try:
        return factory()
    except WorkbenchError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise ModelError(
            f"{spec} failed at {frame.filename}:{frame.lineno}: {type(error).__name__}: {error}.",
            hint=f"Does it run from {folder}?",
        ) from error


def _pair(made: Any, what: str) -> tuple[Any, Any]:
    if isinstance(made, tuple | list) and len(made) == 2 and hasattr(made[0], "forward"):
        return made[0], made[1]
    raise ModelError(
        f"{what} returned {type(made).__name__}, not a module and its example inputs.",
        hint="Return (module, inputs): a torch.nn.Module, and a tuple or dict of example tensors.",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's chatter on warnings and logs."""
    import logging

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(previous)
