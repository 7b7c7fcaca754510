"""One refused model, and the rules that explain it; used by `causes`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.compilers.config import BuildConfig
from workbench.core.errors import BuildError, ConfigError
from workbench.model.graph import Graph
from workbench.model.node import Node
from workbench.model.onnx_file import read_graph

MOST_COLONS = 20
"""How many colons of a message may end a node's name: names may contain colons."""
LONGEST = 4_000
"""Characters of one message that are read: a message may contain a whole graph."""

_WRAPPED = re.compile(
    r"\A(?:[\w:]+: |\[[^\]\n]{0,200}\] )?(?:Error Code:? \d+: )(?P<kind>[A-Za-z ]{1,40}) \((?P<words>.*)\)\s*\Z",
    re.DOTALL,
)
_SUFFIX = re.compile(r"_[\w.]*")
_BARE = re.compile(r"\AError Code:? \d+: (?P<words>.*)\Z", re.DOTALL)
_PLACE = re.compile(r"\s*In \S{1,80} at /\S{1,200}:\d+\.?")
_MYELIN = re.compile(r"\A\[\w+\.\w+:\d+: \w+\] (?:MyelinCheckException: )?")
DRIVER = re.compile(r"cudaError 35\b|failure with error: 35\b|CUDA driver version is insufficient")
"""TensorRT adds this to any API error on a machine without a driver: a cause only if there is no other message."""
_IMPORTER = re.compile(r"\A\w+\.cpp:\d+: |\A\s*--- (?:Begin|End) node ---")
"""Lines in which the parser reports a complaint that it also gives as an object."""


@dataclass
class Case:
    """One refused model.

    Attributes:
        config: The build's config.
        model: The ONNX file that TensorRT got.
        said: The builder's error messages, in the order of the log.
        offered: Targets that the installed TensorRT offers, such as ``sm89``; empty if it builds only for the present GPU.
        compiler: Name and version of TensorRT.
        gpus: GPUs of this machine, as text; empty without a driver.
        blamed: The node that the parser names, or that a message reports as not computable.
        source: The source file in the parser's error; for an input, the input's name.
    """

    config: BuildConfig
    model: Path
    said: Sequence[str]
    offered: Sequence[str] = ()
    compiler: str = "TensorRT"
    gpus: Sequence[str] = ()
    blamed: Node | None = None
    source: str = ""

    @cached_property
    def graph(self) -> Graph:
        """The model's graph."""
        return Graph(read_graph(self.model))

    @cached_property
    def words(self) -> list[str]:
        """The messages without the wrapping, and without those that only follow from a missing driver; the last first."""
        kept = [words(text) for text in self.said if not DRIVER.search(text) and not _IMPORTER.search(text)]
        return list(dict.fromkeys(reversed([text for text in kept if text])))

    @property
    def targets(self) -> str:
        """The targets as text."""
        return self.config.target or "this GPU"

    def node_of(self, layer: str) -> Node | None:
        """The node that a layer of TensorRT was made from, by the layer's name.

        The parser names layers after nodes and adds to them (``nms_0``, ``att_AttentionInput``, ``if_OutputLayer``), so it is
        the node with the longest name that `layer` begins with. None if there is none.
        """
        layer = re.sub(r"\AI[A-Z]\w*Layer ", "", layer)
        best: Node | None = None
        for node in self.graph.nodes:
            name = node.id
            rest = layer[len(name) :]
            if (
                name
                and layer.startswith(name)
                and (not rest or _SUFFIX.fullmatch(rest))
                and (best is None or len(name) > len(best.id))
            ):
                best = node
        return best

    def subject(self, text: str) -> Node | None:
        """The node that a message begins with (``/model/Reshape: volume mismatch``), else `blamed`."""
        for end in [m.start() for m in re.finditer(":", text)][:MOST_COLONS]:
            if (node := self.node_of(text[:end])) is not None:
                return node
        return self.blamed

    def nodes_in(self, layer: str) -> list[Node]:
        """The nodes of a layer whose name joins several with `` + `` or ``...``, in brackets or not."""
        inner = re.sub(r"\A\{?(?:ForeignNode)?\[|\]\}?\Z|[{}]", "", layer)
        found = [self.node_of(part.strip()) for part in re.split(r" \+ |\.\.\.", inner)]
        return list({n.id: n for n in found if n is not None}.values())

    def value(self, name: str) -> list[Any] | None:
        """A small constant of the graph as a flat list; None if it is not a constant, or not stored in the graph."""
        import onnx

        proto = next((t for t in self.graph.proto.graph.initializer if t.name == name), None)
        if proto is None and (producer := self.graph.producer.get(name)) is not None and producer.op == "Constant":
            proto = producer.attribute("value")
        if proto is None or not isinstance(proto, onnx.TensorProto) or proto.data_location == onnx.TensorProto.EXTERNAL:
            return None
        try:
            return list(onnx.numpy_helper.to_array(proto).reshape(-1).tolist())
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Explanation:
    """A rule's explanation of an error.

    Attributes:
        message: What happened.
        hint: What to do; None if unknown.
        nodes: Ids of the nodes concerned.
        quote: Whether to add TensorRT's message.
        kind: The class of the error.
    """

    message: str
    hint: str | None = None
    nodes: Sequence[str] = ()
    quote: bool = True
    kind: type[BuildError] | type[ConfigError] = BuildError


@dataclass(frozen=True)
class Rule:
    """`explain` is called if `pattern` matches a message; it returns None if the graph does not confirm the cause."""

    code: str
    pattern: re.Pattern[str]
    explain: Callable[[re.Match[str], Case], Explanation | None] = field(repr=False)


def rule(code: str, pattern: str) -> Callable[[Callable[[re.Match[str], Case], Explanation | None]], Rule]:
    """Make a `Rule` of the decorated function."""
    return lambda explain: Rule(code, re.compile(pattern, re.DOTALL), explain)


def words(text: str) -> str:
    """A message of TensorRT without its error code, C++ function and source file."""
    text = text.strip()[:LONGEST]
    found = _WRAPPED.match(text) or _BARE.match(text)
    return _MYELIN.sub("", _PLACE.sub("", found["words"] if found else text).strip())
