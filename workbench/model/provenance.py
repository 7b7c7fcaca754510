"""Where a node comes from: module scope, class, source file and line, and original torch operation.

Read from the metadata that ``torch.onnx.export(dynamo=True)`` writes on each node
(``pkg.torch.onnx.*``). Tools that rewrite a graph often drop it, so it is always read from the
original model, by node name.
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from workbench.core.errors import ModelError
from workbench.core.limits import check, limit
from workbench.core.typed_document import Count, closed

if TYPE_CHECKING:
    from workbench.model.node import Node

_PREFIX = "pkg.torch.onnx."
_LONGEST = 100_000
"""Maximum number of characters of a stack trace or a list that are read; the exporter writes a few thousand."""

_FRAME = re.compile(
    r'File "(?P<file>[^"\n]{1,4096})", line (?P<line>\d{1,9}), in (?P<function>\S+)\n?[^\S\n]*(?P<code>[^\n]*)'
)
_TARGET = re.compile(r"target=([^\]]+)\]")
# Frames of the library show how torch is written, not where the user's code calls the operation.
_LIBRARY = re.compile(
    r"^<eval_with_key>|(^|[\\/])torch[\\/](nn|_ops|_dynamo|_refs|_decomp|_higher_order_ops|export|onnx|fx|ao)\b"
)


@closed
class SourceDocument(TypedDict):
    """The JSON form of a `Source`."""

    scope: str
    """Path of the module instance."""
    module: str
    """Its class."""
    file: str
    line: Count
    code: str
    op: str
    """The torch operation."""


@dataclass(frozen=True, slots=True)
class Source:
    """The place in the user's program that a node comes from.

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

    def to_dict(self) -> SourceDocument:
        """The source as JSON-able data."""
        return {
            "scope": self.scope, "module": self.module, "file": self.file, "line": self.line, "code": self.code,
            "op": self.op,
        }  # fmt: skip


def source_of(node: Node) -> Source | None:
    """What the exporter recorded on `node`; None if there is nothing."""
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
    """Path of the module instance that a node belongs to, from the node's metadata; empty if it is not known."""
    scopes = _strings(metadata.get(_PREFIX + "name_scopes", ""))
    # The last entry is the operation itself; the one before it is the module that called it.
    return scopes[-2] if len(scopes) > 1 else ""


def source_of_fx(node: Any) -> Source:
    """The source of a node of a torch graph (``torch.fx.Node``); fields that are not recorded are empty."""
    scope = module = ""
    for path, kind in (node.meta.get("nn_module_stack") or {}).values():
        # The innermost module is the last; torch.compile writes paths as L['self'].block[0].
        scope = re.sub(r"^L\['(self|fn)'\]\.?", "", str(path))
        name = kind if isinstance(kind, str) else getattr(kind, "__qualname__", str(kind))
        module = name.rpartition(".")[2]
    file, line, code = _frame(node.meta.get("stack_trace") or "")
    op = str(node.target) if node.op == "call_function" else ""
    return Source(scope=scope, module=module, file=file, line=line, code=code, op=op)


# --- the text of source lines -------------------------------------------------------------------------

AROUND = 4
"""Number of source lines that are kept before and after each line that a node comes from."""

FOLDERS = "WORKBENCH_SOURCES"
"""Environment variable: folders below which source files named by a model may be read, separated as in ``PATH``."""

Lines = dict[str, dict[int, str]]


@dataclass(frozen=True)
class Sources:
    """Where the text of source lines may be read from. A model may name any file of this machine, so few are allowed.

    Attributes:
        kept: Text that was kept when the workbench exported the model, by file and line.
        folders: Folders that the user named; regular text files below them may be read.
        samples: Whether the files of the sample models may be read.
        missing: Why the text that was kept can't be read; "" if it can, or if none was kept.
    """

    kept: Lines = field(default_factory=dict)
    folders: tuple[Path, ...] = ()
    samples: bool = True
    missing: str = ""

    @staticmethod
    def named() -> tuple[Path, ...]:
        """The folders that ``WORKBENCH_SOURCES`` names."""
        return tuple(Path(p).expanduser() for p in os.environ.get(FOLDERS, "").split(os.pathsep) if p)

    def lines(self, source: Source, around: int = 2) -> tuple[str, int, list[str]] | None:
        """The file, the number of the first line, and the lines around the line of a source.

        If their text is not known or differs from what the exporter saw, only the line that the exporter recorded.
        None if that is not known either.
        """
        if not source.file or source.line < 1:
            return None
        wanted = range(max(1, source.line - around), source.line + around + 1)
        kept = self.kept.get(source.file, {})
        if source.line in kept:
            first = source.line
            while first > wanted[0] and first - 1 in kept:
                first -= 1
            last = source.line
            while last < wanted[-1] and last + 1 in kept:
                last += 1
            return source.file, first, [kept[n] for n in range(first, last + 1)]
        for path in self._places(source.file):
            text = _text(path)
            if text is None or source.line > len(text):
                continue
            if not source.code or text[source.line - 1].strip() == source.code:
                return source.file, wanted[0], list(text[wanted[0] - 1 : wanted[-1]])
        return (source.file, source.line, [source.code]) if source.code else None

    def _places(self, file: str) -> Iterable[Path]:
        """Files on this machine that `file` may refer to, links resolved; all are below a folder that may be read."""
        from workbench.model.sample_models import sample_folder

        folders = [*self.folders, *([sample_folder()] if self.samples else [])]
        if "\0" in file or len(file) > 4096:
            return
        parts = [part for part in re.split(r"[\\/]", file) if part not in {"", ".", ".."}]
        for folder in folders:
            try:
                root = folder.resolve()
            except (OSError, RuntimeError):
                continue
            # The file itself, or, if the model was exported on another machine, a file of its name in the named folder.
            for place in (Path(file), *(root.joinpath(*parts[i:]) for i in range(len(parts)))):
                try:
                    real = place.resolve() if place.is_absolute() else (root / place).resolve()
                except (OSError, RuntimeError):
                    continue
                if real.is_relative_to(root):
                    yield real


def collect_sources(traces: Iterable[str], base: Path | None = None) -> Lines:
    """The text around every line in the stack traces of an export, to keep with the model.

    Only for models that this process exports: their files belong to the user.

    Args:
        traces: The nodes' ``pkg.torch.onnx.stack_trace``.
        base: The folder that relative paths in them start from.
    """
    wanted: dict[str, set[int]] = {}
    for trace in traces:
        file, line, _ = _frame(trace)
        if file and line:
            wanted.setdefault(file, set()).update(range(max(1, line - AROUND), line + AROUND + 1))
    found: Lines = {}
    for file, numbers in wanted.items():
        text = _text(base / file if base is not None else Path(file))
        if text is not None:
            found[file] = {n: text[n - 1] for n in sorted(numbers) if n <= len(text)}
    return found


def keep_sources(model: Path, lines: Lines) -> None:
    """Write source text next to an exported model: ``model.sources.json`` for ``model.onnx``."""
    if lines:
        _beside(model).write_text(json.dumps(lines, ensure_ascii=False), encoding="utf-8")


def kept_sources(model: Path) -> Lines:
    """The source text that `keep_sources` wrote; empty if there is none.

    Raises:
        ModelError: the file is damaged (``sources-damaged``).
        LimitError: it is larger than ``DOCUMENT_BYTES`` of `workbench.core.limits`.
    """
    file = _beside(model)
    try:
        data = _bytes(file, limit("DOCUMENT_BYTES") + 1)
    except OSError:
        return {}
    check("DOCUMENT_BYTES", len(data), f"{file.name}")
    try:
        found = json.loads(data)
        return {str(name): {int(number): str(text) for number, text in lines.items()} for name, lines in found.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{file} can't be read: {type(error).__name__}.",
            hint="Remove it, or export the model again.",
            code="sources-damaged",
        ) from None


def _beside(model: Path) -> Path:
    return model.with_name(f"{model.stem}.sources.json")


def _text(file: Path) -> tuple[str, ...] | None:
    """The lines of a regular text file of up to ``SOURCE_BYTES``; None for anything else."""
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit("SOURCE_BYTES"):
            return None
        return _text_of(file, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=64)
def _text_of(file: Path, _changed: int, size: int) -> tuple[str, ...] | None:
    data = _bytes(file, size)
    if b"\0" in data:
        return None
    try:
        return tuple(data.decode("utf-8-sig").splitlines())
    except UnicodeDecodeError:
        return None


def _bytes(file: Path, most: float) -> bytes:
    """At most `most` bytes of a regular file; OSError for anything else. It does not wait for a pipe."""
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as data:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{file} is not a regular file")
        return data.read(int(most))


@lru_cache(maxsize=4096)
def _strings(text: str) -> tuple[str, ...]:
    """A Python list literal of strings, as the exporter writes it."""
    if len(text) > _LONGEST or text.count("[") + text.count("(") + text.count("{") > 100:
        return ()
    try:
        value = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return ()
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()


@lru_cache(maxsize=4096)
def _frame(trace: str) -> tuple[str, int, str]:
    """The innermost frame that does not belong to torch."""
    frames = [(m["file"], int(m["line"]), m["code"].strip()) for m in _FRAME.finditer(trace[-_LONGEST:])]
    mine = [frame for frame in frames if not _LIBRARY.search(frame[0])]
    return (mine or frames or [("", 0, "")])[-1]
