"""Text that the tables of causes share: nodes, dimensions, shapes, and TensorRT's names in plain English."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from workbench.compilers.tensorrt.case import Case, Explanation, Rule
from workbench.model.graph import Graph
from workbench.model.node import Node

TYPE = {"Float": "FP32", "Half": "FP16", "BFloat16": "BF16", "Int32": "INT32", "Int64": "INT64", "Int8": "INT8", "UInt8": "UINT8",
         "Bool": "BOOL", "float": "FP32", "half": "FP16", "bfloat16": "BF16"}  # fmt: skip


ONNX_TYPE = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16"}


def label(node: Node | None, otherwise: str = "A node") -> str:
    """Operation and id of a node, or `otherwise` if it is unknown."""
    return otherwise if node is None else f"{node.op} {node.id}"


def ids(*nodes: Node | None) -> list[str]:
    """Ids of the nodes that are known."""
    return [n.id for n in nodes if n is not None]


def listed(parts: Iterable[str]) -> str:
    """``a, b and c``."""
    found = list(parts)
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def dims_of(text: str) -> list[int]:
    """The whole numbers in a text such as ``[1,3,-1]``."""
    return [int(d) for d in re.findall(r"-?\d+", text)]


def show_dims(dims: Sequence[int]) -> str:
    """``[1, 3, -1]``."""
    return "[" + ", ".join(map(str, dims)) + "]"


def shape_hint(case: Case) -> str:
    """What to change if shapes do not fit each other."""
    given = [f"{n}={r}" for p in case.config.profiles[:1] for n, r in p.inputs.items()]
    if given:
        return (
            f"The build's shapes are {', '.join(given)}. Give shapes that fit together (--shape), or export the model so that "
            "these dimensions are open."
        )
    return "No shape was given, so the model's own shapes disagree: export it again, or correct this node."


def shortened(node: Node, graph: Graph) -> str:
    """How to cut off a node at the end of a model: the tensors that it reads become outputs."""
    reads = [name for name in node.inputs if name and name not in graph.constants]
    return f"onnx.utils.extract_model(MODEL, OUT, INPUTS, {reads})"


def plain(code: str, pattern: str, message: str, hint: str | None = None, *, quote: bool = True) -> Rule:
    """A rule whose pattern alone proves the message: ``{node}`` is the node, ``{1}`` the first group of the pattern.

    Groups that are shapes or types are written as everywhere else. `hint` None: shapes disagree, see `shape_hint`.
    """

    def explain(m: re.Match[str], case: Case) -> Explanation:
        node = case.subject(m.string)
        groups = [show_dims(dims_of(g)) if g.startswith("[") else TYPE.get(g, g) for g in (m[0], *m.groups(""))]
        text = message.format(*groups, node=label(node))
        return Explanation(text, shape_hint(case) if hint is None else hint, ids(node), quote)

    return Rule(code, re.compile(pattern, re.DOTALL), explain)
