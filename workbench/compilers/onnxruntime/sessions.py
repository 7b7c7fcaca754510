"""Sessions of ONNX Runtime on the CPU, their tensors, and the meaning of their errors. Used in workers only."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BuildError, CompilerUnavailableError, UnsupportedNodesError, first_lines
from workbench.core.store import ENGINE_FILES
from workbench.model.onnx_file import tensors_of as tensors_in
from workbench.precision.ort_errors import ways_out

if TYPE_CHECKING:
    import onnx

    from workbench.model.graph import Graph

PROVIDER = "CPUExecutionProvider"

INSTALL = "pip install onnxruntime"

LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}
"""ONNX Runtime's graph optimization levels by their names in `Options`."""

DATA = ENGINE_FILES[1]
"""The file next to an engine that holds its weights if it is too large for one ONNX file."""

_NO_KERNEL = re.compile(
    r"Could not find an implementation for (?P<op>[^()]+)\(\d+\) node with name '(?P<name>.*)'", re.DOTALL
)
_NOT_KNOWN = re.compile(
    r"Fatal error: (?P<domain>.*):(?P<op>[^:()]+)\(-?\d+\) is not a registered function/op", re.DOTALL
)
_AT_NODE = re.compile(r"Node \((?P<name>.*?)\) Op \((?P<op>[^)]*)\)", re.DOTALL)
_NAMED = re.compile(r"[Nn]ode(?: with)? [Nn]ame:? ?'(?P<name>[^']*)'")

_DTYPES = {
    "float": "float32", "double": "float64", "float8e4m3fn": "float8e4m3fn", "float8e4m3fnuz": "float8e4m3fnuz",
    "float8e5m2": "float8e5m2", "float8e5m2fnuz": "float8e5m2fnuz",
}  # fmt: skip


def load() -> Any:
    """The `onnxruntime` module.

    Raises:
        CompilerUnavailableError: it, or a library that it needs, is absent.
    """
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise CompilerUnavailableError(f"ONNX Runtime can't be loaded: {error}", hint=INSTALL) from None
    return onnxruntime


def options(ort: Any, level: str, threads: int | None = None) -> Any:
    """`SessionOptions` with a level of `LEVELS` and that many threads within an operator (None: ONNX Runtime decides)."""
    made = ort.SessionOptions()
    made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
    if threads is not None:
        made.intra_op_num_threads = threads
    made.log_severity_level = 3
    return made


def open_engine(ort: Any, engine: Path, threads: int | None = None, *, profile: Path | None = None) -> Any:
    """A session of a built engine. The graph is executed as it was saved, without further optimization.

    Args:
        ort: The module.
        engine: The engine's file.
        threads: Threads within an operator.
        profile: Prefix of the file that ONNX Runtime's profiler writes; None does not profile.

    Raises:
        BuildError: ONNX Runtime refuses the file.
    """
    made = options(ort, "disable", threads)
    if profile is not None:
        made.enable_profiling = True
        made.profile_file_prefix = str(profile)
    try:
        return ort.InferenceSession(str(engine), made, providers=[PROVIDER])
    except Exception as error:  # noqa: BLE001 - its exceptions have no common base
        code, hint = ways_out(error)
        raise BuildError(
            f"ONNX Runtime can't load the engine {engine.name}: {first_lines(error)}",
            hint=hint or "An engine optimized for the layout of one kind of CPU may not run on another: build it here.",
            code=code or "engine-refused",
        ) from None


def give_external_data(made: Any, model: Path, proto: onnx.ModelProto) -> list[mmap.mmap]:
    """Pass weights behind symbolic links to a session: ONNX Runtime follows no link out of the model's folder.

    Returns:
        The mapped files. Keep them until the session exists.
    """
    folder = model.parent.resolve()
    away = [p for p in places_of(proto, model) if not (folder / p).resolve().is_relative_to(folder)]
    maps = []
    for place in away:
        with (folder / place).open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if away:
        made.add_external_initializers_from_files_in_memory(away, maps, [len(each) for each in maps])
    return maps


def places_of(proto: onnx.ModelProto, model: Path) -> list[str]:
    """Files next to `model` that hold its weights, as the model names them."""
    found = {e.value for tensor in tensors_in(proto) for e in tensor.external_data if e.key == "location"}
    return sorted(found - {model.name})


def refusal(error: Exception, graph: Graph) -> BuildError:
    """The meaning of an ONNX Runtime error for the model, with the nodes concerned.

    Args:
        error: The session's error.
        graph: The model, with the node names that ONNX Runtime got.
    """
    said = str(error)
    code, hint = ways_out(error)
    nodes: list[str] = []
    if found := _NOT_KNOWN.search(said):
        domain = "" if found["domain"] in {"", "ai.onnx"} else found["domain"]
        nodes = [
            n.id
            for n in graph.nodes
            if n.op == found["op"] and (n.domain or "").replace("ai.onnx", "") in {domain, found["domain"]}
        ]
        what = f"operator {found['domain']}:{found['op']}" if domain else f"operator {found['op']}"
        message = f"ONNX Runtime does not know the {what}."
        hint = "ONNX Runtime has kernels for ONNX's operators and its own. Replace the operator, or build with a compiler that supports it."
    elif found := _NO_KERNEL.search(said):
        nodes = [found["name"]] if found["name"] in graph.by_id else []
        types = _types(graph, nodes)
        message = f"ONNX Runtime has no CPU kernel for {found['op']}" + (f" in {types}" if types else "") + "."
        hint = "Build in FP32 or FP16, or with another compiler." if "bfloat16" in types else hint
    else:
        found = _AT_NODE.search(said) or _NAMED.search(said)
        nodes = [found["name"]] if found and found["name"] in graph.by_id else []
        message = f"ONNX Runtime refused the model: {first_lines(error, 3, 600)}"
        return BuildError(
            message, hint=hint, details={"nodes": _details(graph, nodes, code, said)}, code=code or "ort-refused"
        )
    if nodes:
        message += "".join(f"\n  {name} ({graph.by_id[name].op})" for name in nodes[:20])
        message += f"\n  and {len(nodes) - 20} more" if len(nodes) > 20 else ""
    return UnsupportedNodesError(message, hint=hint, details={"nodes": _details(graph, nodes, code, said)}, code=code)


def _details(graph: Graph, nodes: Sequence[str], code: str | None, said: str) -> list[dict[str, Any]]:
    return [
        {
            "node": name,
            "index": graph.by_id[name].index,
            "op": graph.by_id[name].op,
            "cause": code,
            "reason": said[:1000],
        }
        for name in nodes
    ]


def _types(graph: Graph, nodes: Sequence[str]) -> str:
    """Data types of the floating-point tensors of nodes, for a message."""
    found = {
        graph.tensor(t).dtype for name in nodes for t in (*graph.by_id[name].inputs, *graph.by_id[name].outputs) if t
    }
    return " and ".join(sorted(d for d in found if "float" in d))


def dtype_of(text: str) -> str:
    """ONNX's name of a data type that ONNX Runtime writes as ``tensor(float)``; "" if it is not a tensor."""
    found = re.fullmatch(r"tensor\((\w+)\)", text)
    return "" if found is None else _DTYPES.get(found[1], found[1])


def tensors_of(
    ort: Any, proto: onnx.ModelProto, folder: Path, shapes: Mapping[str, Sequence[int]]
) -> dict[str, tuple[list[int], str]]:
    """Shape (-1 where open) and data type of every tensor of an optimized graph's top level, as ONNX Runtime infers them.

    ONNX Runtime reports shapes and types of outputs only, so each tensor becomes an output of a copy of the graph.

    Args:
        ort: The module.
        proto: The optimized graph; its weights may be in files of `folder`.
        folder: Where the engine is.
        shapes: Shapes to fix inputs at.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.input:
        if value.name in shapes and value.type.HasField("tensor_type"):
            del value.type.tensor_type.shape.dim[:]
            for size in shapes[value.name]:
                value.type.tensor_type.shape.dim.add().dim_value = size
    if shapes:
        del copy.graph.value_info[:]  # their open dimensions would block inference
        for value in copy.graph.output:
            value.type.tensor_type.ClearField("shape")
    have = {value.name for value in copy.graph.output}
    for node in copy.graph.node:
        for name in node.output:
            if name and name not in have:
                have.add(name)
                copy.graph.output.add().name = name
    made = options(ort, "disable", 1)
    made.enable_cpu_mem_arena = made.enable_mem_pattern = False
    made.log_severity_level = 4
    made.add_session_config_entry("session.disable_prepacking", "1")
    made.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = ort.InferenceSession(copy.SerializeToString(), made, providers=[PROVIDER])
    found = {}
    for port in (*session.get_inputs(), *session.get_outputs()):
        sizes = (
            [d if isinstance(d, int) and d >= 0 else -1 for d in port.shape or []]
            if port.type.startswith("tensor")
            else [-1]
        )
        found[port.name] = (sizes, dtype_of(port.type))
    return found
