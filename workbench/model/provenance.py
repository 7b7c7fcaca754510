"""Where a node comes from: module scope, class, source file and line, original torch operation.

Read from the metadata that ``torch.onnx.export(dynamo=True)`` writes on each node
(``pkg.torch.onnx.*``). Tools that rewrite a graph often drop it, so it is always looked up in the
original model, by node name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.model.graph import Node

_PREFIX = "pkg.torch.onnx."
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>[0-9]{1,9}), in (?P<function>\S+)\n?\s*(?P<code>[^\n]*)')
_LONGEST = 100_000
"""Characters of a list of scopes; the exporter writes some hundreds."""
_TARGET = re.compile(r"target=([^\]]+)\]")
# Frames of the library say how torch is written, not where the user asked for the operation.
_LIBRARY = re.compile(
    r"^<eval_with_key>|(^|[\\/])torch[\\/](nn|_ops|_dynamo|_refs|_decomp|_higher_order_ops|export|onnx|fx|ao)\b"
)


@dataclass(frozen=True, slots=True)
class Source:
    """The place in the user's program that a node stands for.

    Attributes:
        scope: Path of the module instance, such as ``encoder.layer.0.attention``.
        module: Class of that module.
        file: Source file, as the exporter saw it.
        line: Line number in it, from 1.
        code: The text of that line.
        op: The torch operation, such as ``aten.linear.default``.
    """

    scope: str = ""
    module: str = ""
    file: str = ""
    line: int = 0
    code: str = ""
    op: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The source as JSON-able data."""
        return asdict(self)


def source_of(node: Node) -> Source | None:
    """What the exporter recorded on `node`, or None where there is nothing."""
    metadata = node.metadata
    if not any(key.startswith(_PREFIX) for key in metadata) and "namespace" not in metadata:
        return None
    scopes = _strings(metadata.get(_PREFIX + "name_scopes", ""))
    classes = _strings(metadata.get(_PREFIX + "class_hierarchy", ""))
    scope = scope_of(metadata)
    module = classes[len(scopes) - 2].rpartition(".")[2] if len(scopes) > 1 and len(classes) >= len(scopes) - 1 else ""
    target = _TARGET.search(metadata.get(_PREFIX + "fx_node", ""))
    file, line, code = _frame(metadata.get(_PREFIX + "stack_trace", ""))
    op = target[1].removeprefix("torch.ops.") if target else ""
    return Source(scope=scope, module=module, file=file, line=line, code=code, op=op)


def scope_of(metadata: Mapping[str, str]) -> str:
    """Path of the module instance that a node belongs to, from the node's metadata; empty where it is not known."""
    scopes = _strings(metadata.get(_PREFIX + "name_scopes", ""))
    # The last entry is the operation itself; the one before it is the module that called it.
    return scopes[-2] if len(scopes) > 1 else ""


def source_of_fx(node: Any) -> Source:
    """Where a node of a torch graph (``torch.fx.Node``) comes from; fields that are not recorded are empty."""
    scope = module = ""
    for path, kind in (node.meta.get("nn_module_stack") or {}).values():
        # The innermost module is the last; torch.compile writes paths as L['self'].block[0].
        scope = re.sub(r"^L\['(self|fn)'\]\.?", "", str(path))
        name = kind if isinstance(kind, str) else getattr(kind, "__qualname__", str(kind))
        module = name.rpartition(".")[2]
    file, line, code = _frame(node.meta.get("stack_trace") or "")
    op = str(node.target) if node.op == "call_function" else ""
    return Source(scope=scope, module=module, file=file, line=line, code=code, op=op)


@lru_cache(maxsize=4096)
def _strings(text: str) -> tuple[str, ...]:
    """A Python list literal of strings, as the exporter writes it."""
    if len(text) > _LONGEST:
        return ()
    try:
        value = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: brackets nested too deeply
        return ()
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()


@lru_cache(maxsize=4096)
def _frame(trace: str) -> tuple[str, int, str]:
    """The innermost frame that is not torch's own."""
    frames = [(m["file"], int(m["line"]), m["code"].strip()) for m in _FRAME.finditer(trace)]
    mine = [frame for frame in frames if not _LIBRARY.search(frame[0])]
    return (mine or frames or [("", 0, "")])[-1]
