"""Exports a torch module to an ONNX file, and verifies the file.

`torch.onnx.export(dynamo=True)` records for every node which module and source line it came from. It has
one trap: the exporter can silently fix a dynamic dimension to the example's size if that size is 1. So
examples are enlarged to at least 2 along dynamic dimensions. Before anything is built from the file, it
runs at a second shape and is compared with torch (`workbench.model.verify`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import CompilerUnavailableError, ConfigError, ModelError, WorkbenchError, first_lines
from workbench.model.call import Call, Outputs, evaluation, outputs_of, place_of, plain, run, title_of
from workbench.model.export_errors import export_error, relative_paths
from workbench.model.export_names import dynamic_shapes_of, line_of, name_nodes, point_into_bodies
from workbench.model.made_from import dependencies, reading
from workbench.model.provenance import collect_sources, keep_sources
from workbench.model.shape_profile import Shape, ShapeProfile
from workbench.model.verify import TOLERANCE, Check, check_file, compare

if TYPE_CHECKING:
    import torch

    from workbench.core.worker import Reporter

__all__ = ["TOLERANCE", "check_of", "export_module", "export_task", "load_sample", "resize_example"]

EXTERNAL_ABOVE = 1_800_000_000
"""From this many bytes on, weights go into a separate file: a protobuf message is limited to 2 GB."""


def check_of(check: Check | bool | None) -> Check:
    """How an export is checked: "error", "warn" or "off"; None for ``WORKBENCH_EXPORT_CHECK``, else "error".

    Raises:
        ConfigError: the value is not one of these.
    """
    found = os.environ.get("WORKBENCH_EXPORT_CHECK", "error") if check is None else check
    if isinstance(found, bool):
        return "error" if found else "off"
    known: Check
    for known in ("error", "warn", "off"):
        if found == known:
            return known
    raise ConfigError(f"An export can't be checked by {found!r}.", hint="Choose error, warn or off.")


def export_module(
    module: torch.nn.Module,
    inputs: Sequence[Any] | Mapping[str, Any],
    path: Path,
    *,
    profile: ShapeProfile | None = None,
    opset: int | None = None,
    root: Path | None = None,
    check: Check | bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Export `module` to `path`, verify the file, and report the result.

    Args:
        module: Exported in evaluation mode; its own mode is restored. A compiled or parallel module is unwrapped. A
            traced or scripted module goes through the older exporter, which records no source lines.
        inputs: Example inputs by position or by name, as ``forward`` takes them: lists and dicts of tensors, and values
            that are not tensors (``use_cache=False``), which become constants.
        path: The .onnx file to write.
        profile: Shapes by input name. A dimension whose min and max differ becomes dynamic; others are
            fixed at the profile's shape. None: everything is static at the example's shapes. Tensors in lists and
            dicts are named ``parameter_key``.
        opset: ONNX opset; None for the exporter's own choice.
        root: Source paths under this folder are recorded relative to it, so that the file can be shared.
        check: "error": compare with torch in ONNX Runtime, at the example's shapes and at a second set, and raise an
            error if results differ. "warn": keep the file, with a warning. "off": compare nothing. See `check_of`.
        progress: Called with the name of each step before it starts.

    Returns:
        ``inputs`` (shapes), ``dynamic`` (dims by input), ``error`` (largest relative difference from
        torch by shape set, or why it was not compared), ``warnings``, ``torch`` (version).

    Raises:
        ModelError: the module can't be exported, a dynamic dimension was specialized, or results differ.
        ConfigError: `check` is not known.
    """
    torch, check = _torch(), check_of(check)
    step = progress or (lambda _words: None)
    module = plain(module)
    call, dynamic = _opened(Call.of(module, inputs), profile)
    with evaluation(module), torch.no_grad(), _quiet():
        step("Running the module")
        call, outputs, notes = _usable(module, call, run(module, call))
        step("Exporting to ONNX")
        program = None
        if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
            names = _export_scripted(torch, module, call, dynamic, opset, path)
            notes.append(
                "A traced or scripted module has no source lines. To get them, pass the original Python module."
            )
        else:
            with _unpacked(module, outputs), call.spelled(module):
                program = _export(torch, module, call, dynamic, opset)
                point_into_bodies(torch, module, call, dynamic, program.model)
            names = name_nodes(program.model.graph, call, outputs)
            weights = sum(t.nbytes for t in program.model.graph.initializers.values() if t.const_value is not None
                          for t in [t.const_value])  # fmt: skip
            if root is not None:
                relative_paths(program.model, root)
            program.save(str(path), external_data=weights > EXTERNAL_ABOVE)
            traces = (n.metadata_props.get("pkg.torch.onnx.stack_trace", "") for n in program.model.graph.all_nodes())
            keep_sources(path, collect_sources(traces, root and root.parent))
            program = program.exported_program
        check_file(path)
        report: dict[str, Any] = {
            "inputs": {name: list(t.shape) for name, t in call.tensors.items()},
            "dynamic": {name: {str(d): s for d, s in dims.items()} for name, dims in dynamic.items()},
            "torch": torch.__version__,
        }
        if check != "off":
            step("Comparing with PyTorch")
            calls = {"example": call, **({"second shape": _second(call, dynamic, profile)} if dynamic else {})}
            report["error"], more = compare(
                module, path, calls, dynamic=dynamic, names=names, check=check, program=program
            )
            notes += more
    if notes:
        report["warnings"] = notes
    return report


def export_task(
    reporter: Reporter,
    *,
    source: dict[str, Any],
    profile: dict[str, Any] | None,
    folder: str,
    check: Check | None = None,
) -> dict[str, Any]:
    """Export a sample or a factory in a worker; writes ``model.onnx`` into `folder`.

    Args:
        reporter: Receives the progress.
        source: ``{"kind": "sample", "file": ..., "root": ...}`` or ``{"kind": "factory", "spec": ...,
            "folder": ...}``.
        profile: `ShapeProfile` as a dict, or None.
        folder: An existing folder.
        check: See `export_module`.

    Returns:
        What `export_module` returns; for a factory also ``made_from``, see `workbench.model.made_from.dependencies`.
    """
    reporter.progress("Loading the module", 0, 1)
    _torch()
    if source["kind"] == "sample":
        made = load_sample(source["file"])
        root = Path(source["root"])
    else:
        with reading() as opened:
            made = call_factory(source["spec"], source["folder"])
        made_from = dependencies(opened, source["folder"])
        root = None
    module, inputs = module_and_inputs(made, source.get("spec", source["kind"]))
    reporter.progress("Loading the module", 1, 1)
    shapes = ShapeProfile(**profile) if profile else None
    done: list[str] = []

    def step(words: str) -> None:
        if done:
            reporter.progress(done[-1], 1, 1)
        done.append(words)
        reporter.progress(words, 0, 1)

    path = Path(folder) / "model.onnx"
    report = export_module(module, inputs, path, profile=shapes, root=root, check=check, progress=step)
    reporter.progress(done[-1], 1, 1)
    if source["kind"] == "factory":
        report["made_from"] = made_from
    return report


def load_sample(file: str) -> Any:
    """The return value of ``build()`` in a sample model's file: the module and its example inputs."""
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
        import onnxscript  # noqa: F401 - the exporter needs it; its own error is less clear
        import torch
    except ImportError as error:
        raise CompilerUnavailableError(
            f"Exporting from PyTorch needs {error.name}, which is not installed.",
            hint="pip install 'trt-workbench[torch]'",
        ) from None
    return torch


def _opened(call: Call, profile: ShapeProfile | None) -> tuple[Call, dict[str, dict[int, str]]]:
    """The examples at the profile's shapes, and a symbol for each open dimension by input."""
    dynamic: dict[str, dict[int, str]] = {}
    examples = call.tensors
    for name, shapes in (profile.inputs if profile is not None else {}).items():
        if name not in examples:
            raise ModelError(
                f"{name} is not an input of the module.",
                hint="Its inputs are " + ", ".join(examples) + ".",
                code="unknown-input",
            )
        dims = {d: f"{name}_{d}" for d, (a, b) in enumerate(zip(shapes.min, shapes.max, strict=True)) if a != b}
        if dims:
            dynamic[name] = dims
        # At least 2 along dynamic dimensions: the exporter would treat a 1 as a constant.
        size = [max(2, n) if d in dims else n for d, n in enumerate(shapes.opt)]
        examples[name] = resize_example(examples[name], tuple(size))
    _tie(dynamic, examples)
    return call.with_tensors(examples), dynamic


def _second(call: Call, dynamic: Mapping[str, Mapping[int, str]], profile: ShapeProfile | None) -> Call:
    """The call with other sizes for the open dimensions."""
    assert profile is not None
    changed = {}
    for name, tensor in call.tensors.items():
        if name not in dynamic:
            continue
        low, high = profile.inputs[name].min, profile.inputs[name].max
        size = [
            n if d not in dynamic[name] else (n + 1 if n + 1 <= high[d] else max(low[d], 1))
            for d, n in enumerate(tensor.shape)
        ]
        changed[name] = resize_example(tensor, tuple(size))
    return call.with_tensors(changed)


def _tie(dynamic: dict[str, dict[int, str]], examples: Mapping[str, Any]) -> None:
    """One symbol for the dynamic leading dimension of all inputs: it is the batch."""
    leading = [name for name, dims in dynamic.items() if 0 in dims]
    if len({examples[name].shape[0] for name in leading}) == 1:
        for name in leading:
            dynamic[name][0] = "batch"


def _usable(module: Any, call: Call, made: Any) -> tuple[Call, Outputs, list[str]]:
    """The call whose results an ONNX file can hold, those results, and warnings about changes and omissions.

    A Hugging Face language model returns its cache of keys and values unless it is called with ``use_cache=False``.
    """
    outputs, notes = outputs_of(made), []
    caches = [(place, value) for place, value in outputs.others if type(value).__name__.endswith("Cache")]
    if caches and call.takes("use_cache"):
        without = call.with_keyword("use_cache", False)
        again = outputs_of(run(module, without))
        if not any(type(value).__name__.endswith("Cache") for _, value in again.others):
            place, value = caches[0]
            notes.append(
                f"{title_of(module)} was exported with use_cache=False: its default returns {place}, a "
                f"{type(value).__name__}, which can't be an output of an ONNX model. For a cache, wrap the module in one "
                "that takes and returns its tensors."
            )
            call, outputs = without, again
    plainly = [place for place, value in outputs.others if isinstance(value, bool | int | float | str)]
    held = [(place, value) for place, value in outputs.others if place not in plainly]
    if held:
        place, value = held[0]
        raise ModelError(
            f"{title_of(module)} returns a {type(value).__name__} ({place}), which can't be an output of an ONNX model.",
            hint="Wrap the module in one that returns tensors, or lists, dicts or dataclasses of tensors.",
            code="export-outputs",
        )
    if not outputs.tensors:
        raise ModelError(
            f"{title_of(module)} returns no tensor with these inputs.",
            hint="Wrap the module in one that returns tensors.",
            code="export-outputs",
        )
    if plainly:
        notes.append(f"Omitted from the outputs, because they are not tensors: {', '.join(plainly)}.")
    return call, outputs, notes


@contextmanager
def _unpacked(module: Any, outputs: Outputs) -> Iterator[None]:
    """`module`, wrapped to return a flat tuple of tensors if torch.export does not know the type that it returns."""
    if outputs.plain:
        yield
        return
    handle = module.register_forward_hook(lambda _m, _i, made: tuple(t for _, t in outputs_of(made).tensors))
    try:
        yield
    finally:
        handle.remove()


def _export(
    torch: Any, module: Any, call: Call, dynamic: Mapping[str, Mapping[int, str]], opset: int | None
) -> Any:  # fmt: skip
    try:
        return torch.onnx.export(
            module, call.args, kwargs=call.kwargs, dynamo=True, verbose=False,
            dynamic_shapes=dynamic_shapes_of(torch, call, dynamic), opset_version=opset,
        )  # fmt: skip
    except Exception as error:
        raise export_error(error, lambda op: line_of(torch, module, call, op)) from error


def _export_scripted(
    torch: Any, module: Any, call: Call, dynamic: Mapping[str, Mapping[int, str]], opset: int | None, path: Path
) -> list[str]:
    """Export with the TorchScript-based exporter, the only one that takes traced and scripted modules.

    Returns:
        The names of the outputs.
    """
    import onnx

    try:
        if not isinstance(module, torch.jit.ScriptModule):  # only a part of it is traced or scripted
            module = torch.jit.trace(
                module, **({"example_kwarg_inputs": call.kwargs} if call.kwargs else {"example_inputs": call.args}),
                check_trace=False, strict=False,
            )  # fmt: skip
        torch.onnx.export(
            module, call.args, str(path), kwargs=call.kwargs, dynamo=False, verbose=False, input_names=list(call.names),
            dynamic_axes={name: dict(dims) for name, dims in dynamic.items()}, opset_version=opset,
        )  # fmt: skip
    except Exception as error:
        raise export_error(error, lambda _op: "") from error
    return [value.name for value in onnx.load(str(path), load_external_data=False).graph.output]


def call_factory(spec: str, folder: str) -> Any:
    """Call the function that `spec` (``package.module:factory``) names, with `folder` as the new working directory.

    Raises:
        ModelError: the module can't be imported, it has no such function, or the function raises an error.
    """
    module_name, _, name = spec.partition(":")
    # The module and the files that it reads are searched for in the folder where the user ran the command.
    sys.path.insert(0, folder)
    os.chdir(folder)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(
            f"{module_name} can't be imported: {error}.",
            hint=f"Run the command from the folder that holds it (now {folder}).",
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
        raise ModelError(
            f"{spec} failed: {type(error).__name__}: {first_lines(error)}{place_of(error)}",
            hint=f"Does it run from {folder}?",
            code="factory-fails",
        ) from error


def module_and_inputs(made: Any, what: str) -> tuple[Any, Any]:
    """The module and its example inputs, as a factory returned them.

    Raises:
        ModelError: `made` is not a module with its example inputs.
    """
    if isinstance(made, tuple | list) and len(made) == 2 and hasattr(made[0], "forward"):
        return made[0], made[1]
    raise ModelError(
        f"{what} returned {type(made).__name__}, not a module and its example inputs.",
        hint="Return (module, inputs): a torch.nn.Module, and a tuple or dict of example tensors.",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the context, the exporter's warnings and log messages are hidden."""
    import logging

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(previous)
