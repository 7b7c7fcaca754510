"""The errors of a refused model: the rules of `causes` applied to the messages of TensorRT's parser and builder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.compilers.tensorrt.case import DRIVER, LONGEST, Case, Explanation, Rule, words
from workbench.compilers.tensorrt.causes import PARSER, REPLACE
from workbench.compilers.tensorrt.causes_builder import BUILDER
from workbench.compilers.tensorrt.causes_text import ids, label
from workbench.core.errors import BuildError, ConfigError, UnsupportedNodesError
from workbench.hardware.target import CURRENT, DEFAULT_GPU
from workbench.model.graph import Graph
from workbench.model.node import Node

_FOLLOWS = re.compile(
    r"Output shape can not be computed for node |Error while computing output extent of node |"
    r"check IErrorRecorder for details|Assertion std::all_of\(d\.d, |Assertion getWindowSize\(\) == windowSize failed"
)
"""Messages that only follow from the one before."""


def _first(rules: Sequence[Rule], texts: Sequence[str], case: Case) -> tuple[str, Explanation, str] | None:
    for each in rules:
        for text in texts:
            found = each.pattern.search(text)
            if found is not None and (explained := each.explain(found, case)) is not None:
                return each.code, explained, text
    return None


def builder_error(case: Case) -> BuildError | ConfigError:
    """The meaning of the builder's last message; the message itself if no rule matches.

    Earlier errors are not causes: the builder logs errors of kernels that it tries and discards.
    """
    raw = [e.strip() for e in case.said]
    details: dict[str, Any] = {"errors": [r[:LONGEST] for r in raw[-10:]]}
    if not case.words:
        return _without_words(case, raw, details)
    said = [e for e in reversed(raw) if words(e) in case.words]
    last = next((i for i, e in enumerate(said) if not _FOLLOWS.search(e)), 0)
    for text in case.words[: last + 1]:
        if (at := re.search(r"Output shape can not be computed for node (.+?)\.\s*\Z", text)) is not None:
            case.blamed = case.blamed or case.node_of(at[1])
    # The kind of an error ("OutOfMemory") is part of the wrapping, so some rules need the raw message.
    found = _first(BUILDER, [words(said[last]), said[last][:LONGEST]], case)
    if found is None:
        node = case.subject(words(said[last]))
        about = f" at {label(node)}" if node is not None else ""
        details |= {"nodes": ids(node)} if node is not None else {}
        return BuildError(
            f"TensorRT could not build the engine{about}: {words(said[last])}", details=details, code="build-failed"
        )
    code, explained, text = found
    details |= {"nodes": list(explained.nodes)} if explained.nodes else {}
    message = f"{explained.message}\nTensorRT: {words(text)[:500]}" if explained.quote else explained.message
    return explained.kind(message, hint=explained.hint, details=details, code=code)


def _without_words(case: Case, raw: Sequence[str], details: dict[str, Any]) -> BuildError | ConfigError:
    """The error if TensorRT gave no message, or only that the driver is missing or too old."""
    if not any(DRIVER.search(text) for text in raw):
        last = words(raw[-1]) if raw else "it gave no reason"
        return BuildError(f"TensorRT could not build the engine: {last}", details=details, code="build-failed")
    here = (
        f"the driver of {case.gpus[0]} is too old for this TensorRT" if case.gpus else "there is no NVIDIA driver here"
    )
    if not case.config.targets or CURRENT in case.config.targets:
        return ConfigError(
            f"Target {case.targets if case.config.targets else 'current'} means the GPU of this machine, and {here}.",
            hint="Update the driver." if case.gpus
            else f'Name the GPU to build for, such as target="{_suggested(case.offered)}".',
            shell_hint=None if case.gpus
            else f"Name the GPU to build for, such as --target {_suggested(case.offered)} (`workbench doctor` lists them).",
            details=details, code="no-driver",
        )  # fmt: skip
    return BuildError(
        f"This build for {case.targets} needs an NVIDIA driver, and {here}.",
        hint="Build on a machine with a GPU.", details=details, code="needs-driver",
    )  # fmt: skip


def _suggested(offered: Sequence[str]) -> str:
    return str(DEFAULT_GPU) if str(DEFAULT_GPU) in offered or not offered else offered[-1]


@dataclass(frozen=True)
class Complaint:
    """One error of TensorRT's parser, as plain data. `index` is -1 if the parser names no node."""

    code: str
    index: int
    name: str
    op: str
    text: str
    function: str = ""
    file: str = ""

    @staticmethod
    def of(error: Any) -> Complaint:
        """Read a ``ParserError`` of TensorRT."""
        return Complaint(
            str(error.code()).rpartition(".")[2], error.node(), error.node_name(), error.node_operator(), error.desc(),
            error.func() if hasattr(error, "func") else "", str(error.file()) if hasattr(error, "file") else "",
        )  # fmt: skip


def blamed(complaint: Complaint, graph: Graph) -> Node | None:
    """The node of a parser error: by the parser's node name, else by an index that matches the operation.

    If the parser gives neither (index -1), the importer's function names the operation, and the node is known if the model
    has only one of it. In the body of an If or Loop the index counts the outer node's, so it must agree with the operation.
    """
    if complaint.name and complaint.name in graph.by_id and complaint.op in {"", graph.by_id[complaint.name].op}:
        return graph.by_id[complaint.name]
    outer = [n for n in graph.nodes if n.parent is None]
    if 0 <= complaint.index < len(outer) and outer[complaint.index].op == complaint.op:
        return outer[complaint.index]
    op = complaint.op or re.sub(r"\A(?:import|check)", "", complaint.function)
    same = [n for n in graph.nodes if n.op == op]
    return same[0] if len(same) == 1 else None


def reason(text: str) -> str:
    """The parser's message, without the C++ assertion around it and without what only follows from a missing driver."""
    lines = [words(line) for line in text[:LONGEST].splitlines() if not DRIVER.search(line)]
    lines = [line for line in lines if line and not line.startswith("Invalid Node - ")]
    if not lines:
        return "the parser gives no reason" if "Invalid Node" in text else "the parser does not know this operation"
    found = lines[-1].removeprefix("Assertion failed: ").replace('" "', "")
    quoted = re.findall(r'&& "([^"]+)"', found)
    if quoted:
        found = quoted[-1]
    elif found != lines[-1]:  # ``condition: words``
        found = found.partition("): ")[2] or found.partition(": ")[2] or found
    found = found.strip()
    return "the parser does not know this operation" if found in {"", "false"} else found


def parser_error(complaints: Sequence[Complaint], case: Case) -> UnsupportedNodesError:
    """Each error of the parser with its node and meaning.

    Args:
        complaints: The parser's errors; at least one.
        case: The model; `Case.said` holds the log's errors.
    """
    nodes: list[dict[str, Any]] = []
    lines: list[str] = []
    hints: list[str] = []
    for complaint in dict.fromkeys(complaints):
        node = blamed(complaint, case.graph)
        case.blamed, case.source = node, complaint.file
        said = [words(line) for line in complaint.text[:LONGEST].splitlines() if not DRIVER.search(line)]
        texts = list(reversed([line for line in said if line and not line.startswith("Invalid Node - ")]))
        if not texts and "Invalid Node" not in complaint.text:
            texts = [complaint.text.strip()]
        found = _first(PARSER, texts, case)
        own = reason(complaint.text)
        code, explained = found[:2] if found else (_without_rule(complaint), Explanation("", REPLACE, ids(node)))
        name = node.id if node is not None else (explained.nodes[0] if explained.nodes else complaint.name)
        where = f"{complaint.op or (node.op if node else '') or 'node'} {name}" if name else "The parser names no node"
        line = explained.message or f"{where}: {own}"
        nodes.append({
            "node": name, "index": complaint.index, "op": complaint.op or (case.graph.by_id[name].op if name in case.graph.by_id else ""),
            "code": complaint.code, "cause": code, "reason": own, "hint": explained.hint,
        })  # fmt: skip
        if line not in lines:
            lines.append(line)
        if explained.hint and explained.hint not in hints:
            hints.append(explained.hint)
    count = len({n["node"] for n in nodes if n["node"]})
    head = (
        f"TensorRT's parser refused {count} node{'s' if count > 1 else ''}"
        if count
        else "TensorRT's parser refused the model"
    )
    return UnsupportedNodesError(
        f"{head}:\n" + "\n".join("  " + line for line in lines[:20]),
        hint=" ".join(hints), details={"nodes": nodes}, code=nodes[0]["cause"],
    )  # fmt: skip


def _without_rule(complaint: Complaint) -> str:
    """An error code from the parser's own code, if no rule matches its message."""
    return "refused-by-parser" if "Invalid Node" in complaint.text else complaint.code.lower().replace("_", "-")
