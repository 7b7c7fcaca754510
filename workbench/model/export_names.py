"""Names exported nodes by module scope and source line, also inside bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError
from workbench.model.call import Call, Outputs, of_library

if TYPE_CHECKING:
    pass

TRACE = "pkg.torch.onnx.stack_trace"


def dynamic_shapes_of(torch: Any, call: Call, dynamic: Mapping[str, Mapping[int, str]]) -> dict[str, Any] | None:
    """Open dimensions as ``torch.export`` takes them."""
    if not dynamic:
        return None
    return call.dynamic_shapes({n: dict.fromkeys(dims, torch.export.Dim.DYNAMIC) for n, dims in dynamic.items()})


def name_nodes(graph: Any, call: Call, outputs: Outputs) -> list[str]:
    """Name a graph's inputs after the module's parameters and its outputs after their keys; the outputs' names.

    This runs after the export. ``input_names`` is not used: if an output has the same name as an input, it does not
    rename the output, and the file is not valid ONNX.
    """
    if len(graph.inputs) != len(call.names):
        raise ModelError(
            f"The module received the tensors {', '.join(call.names)}, but the exported model takes "
            f"{', '.join(v.name for v in graph.inputs) or 'none'}.",
            hint="Report this to PyTorch, with the module.",
            code="export-inputs",
        )
    values = {v.name: v for v in [*graph.inputs, *graph.initializers.values()]}
    for node in graph.all_nodes():
        values.update((v.name, v) for v in node.outputs if v.name)
        for attribute in node.attributes.values():
            for body in _graphs(attribute):
                values.update((v.name, v) for v in [*body.inputs, *body.initializers.values()])

    def rename(value: Any, name: str, *, firm: bool) -> None:
        other = values.get(name)
        if other is value:
            return
        unique, k = name, 0
        while unique in values:
            k += 1
            unique = f"{name}_{k}"
        if other is not None and firm:  # an input keeps its name; another tensor with that name is renamed
            del values[name]
            other.name = unique
            values[unique] = other
            unique = name
        values.pop(value.name, None)
        value.name = unique
        values[unique] = value

    for value, name in zip(graph.inputs, call.names, strict=True):
        rename(value, name, firm=True)
    taken: set[int] = {id(value) for value in graph.inputs}
    for value, (name, _) in zip(graph.outputs, outputs.tensors, strict=False):
        if name and id(value) not in taken:
            rename(value, name, firm=False)
        taken.add(id(value))
    return [str(value.name) for value in graph.outputs]


def _graphs(attribute: Any) -> list[Any]:
    """The bodies in an attribute of a node."""
    kind = getattr(attribute.type, "name", "")
    return [attribute.value] if kind == "GRAPH" else list(attribute.value) if kind == "GRAPHS" else []


def _bodies(model: Any) -> list[Any]:
    """Nodes in the bodies of If, Loop and Scan."""
    top = {id(node) for node in model.graph}
    return [node for node in model.graph.all_nodes() if id(node) not in top]


def point_into_bodies(
    torch: Any, module: Any, call: Call, dynamic: Mapping[str, Mapping[int, str]], model: Any
) -> None:
    """Make nodes in bodies (``torch.cond``) point to the user's lines and not to code that torch generated.

    ``torch.export`` loses these lines, since it traces bodies twice; in its strict mode it keeps them.
    """
    bodies = [node for node in _bodies(model) if "<eval_with_key>" in node.metadata_props.get(TRACE, "")]
    if not bodies:
        return
    try:
        strict = torch.export.export(
            module, call.args, call.kwargs, dynamic_shapes=dynamic_shapes_of(torch, call, dynamic), strict=True
        )
        other = torch.onnx.export(strict, dynamo=True, verbose=False).model
        better = [node for node in _bodies(other) if TRACE in node.metadata_props]
    except Exception:  # noqa: BLE001 - strict mode takes fewer modules; then the line of torch.cond itself is kept
        better = []
    mine = [node for node in _bodies(model) if TRACE in node.metadata_props]
    if [node.op_type for node in mine] == [node.op_type for node in better]:
        for node, source in zip(mine, better, strict=True):
            # Strict mode calls the module itself _export_root.
            node.metadata_props.update(
                {
                    "pkg.torch.onnx.name_scopes": re.sub(
                        r"_export_root\.?", "", source.metadata_props.get("pkg.torch.onnx.name_scopes", "")
                    ),
                    "pkg.torch.onnx.class_hierarchy": source.metadata_props.get("pkg.torch.onnx.class_hierarchy", ""),
                    TRACE: source.metadata_props[TRACE],
                }
            )
    for node in mine:
        frames = re.split(r'(?=File ")', node.metadata_props[TRACE])
        node.metadata_props[TRACE] = "".join(f for f in frames if not f.startswith('File "<eval_with_key>'))


def line_of(torch: Any, module: Any, call: Call, op: str) -> str:
    """Where the user's code calls `op`: the exporter's error does not contain it."""
    try:
        program = torch.export.export(module, call.args, call.kwargs).run_decompositions()
        traces = (n.meta.get("stack_trace") or "" for n in program.graph.nodes if str(n.target).startswith(op))
        trace = next((t for t in traces if t), "")
    except Exception:  # noqa: BLE001 - this only improves the message
        return ""
    frames = [m for m in re.findall(r'File "([^"]+)", line (\d+), in', trace) if not of_library(m[0])]
    return f" at {frames[-1][0]}:{frames[-1][1]}" if frames else ""
