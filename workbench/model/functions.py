"""Inlines a model's local functions: the nodes of the function's body replace every call.

A compiler inlines them too, but gives the nodes of two calls the same names. Here each node is named after its call:
``layer1/mm`` is the node ``mm`` of the function that the node ``layer1`` calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workbench.core import limits
from workbench.core.errors import ModelError

if TYPE_CHECKING:
    import onnx

_DEPTH = 60
"""Maximum nesting depth of calls, and of If and Loop bodies, that is inlined."""

Key = tuple[str, str, str]


def inlined(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model without calls of local functions, and the reasons why some calls remain.

    The argument is not changed. If no node calls a function, it is returned as it is.

    Raises:
        ModelError: a function calls itself (``function-cycle``), or a call has more inputs or outputs than the
            function (``function-arity``).
        LimitError: the inlined model would be larger than `limits` allow.
    """
    functions = {_key(f.domain, f.name, f.overload): f for f in model.functions}
    if not functions or not any(_called(n) in functions for n in _all_nodes(model.graph.node)):
        return model, ()
    opener = _Opener(model, functions)
    return opener.open(), tuple(opener.left)


def _key(domain: str, name: str, overload: str) -> Key:
    return ("" if domain == "ai.onnx" else domain, name, overload)


def _called(node: onnx.NodeProto) -> Key:
    return _key(node.domain, node.op_type, node.overload)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    todo = [iter(nodes)]
    while todo:
        node = next(todo[-1], None)
        if node is None:
            todo.pop()
            continue
        yield node
        todo += [iter(graph.node) for graph in _graphs(node)]


class _Opener:
    def __init__(self, model: onnx.ModelProto, functions: dict[Key, onnx.FunctionProto]) -> None:
        self.model, self.functions = model, functions
        self.opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
        self.left: list[str] = []
        self.bytes = 0
        reasons = {key: self._reason(f) for key, f in functions.items()}
        for key, why in reasons.items():
            if why:
                self.left.append(f"Calls of function {key[1]} are shown as one node: {why}")
        self.open_keys = {key for key, why in reasons.items() if not why}
        self._check_size()
        self.names = {n.name for n in _all_nodes(model.graph.node)}
        self.values = {name for n in _all_nodes(model.graph.node) for name in (*n.input, *n.output)}

    def open(self) -> onnx.ModelProto:
        import onnx

        out = onnx.ModelProto()
        out.CopyFrom(self.model)
        self._open_graph(out.graph, 0)
        kept = [f for f in out.functions if _key(f.domain, f.name, f.overload) not in self.open_keys]
        del out.functions[:]
        out.functions.extend(kept)
        known = {o.domain for o in out.opset_import}
        for function in self.model.functions:
            for opset in function.opset_import:
                if opset.domain not in known and not (opset.domain in {"", "ai.onnx"} and known & {"", "ai.onnx"}):
                    known.add(opset.domain)
                    out.opset_import.add(domain=opset.domain, version=opset.version)
        return out

    def _reason(self, function: onnx.FunctionProto) -> str:
        """Why a function can't be inlined: an operator of its body has another meaning at the model's opset."""
        wanted = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in function.opset_import}
        for node in _all_nodes(function.node):
            domain = "" if node.domain == "ai.onnx" else node.domain
            if _called(node) in self.functions:
                continue
            mine, its = self.opsets.get(domain), wanted.get(domain)
            if mine is None or its is None or mine == its:
                continue
            if _since(node.op_type, domain, mine) != _since(node.op_type, domain, its):
                return (
                    f"it is written for opset {its} of {domain or 'ai.onnx'} and the model for {mine}, "
                    f"between which {node.op_type} changed."
                )
        return ""

    def _check_size(self) -> None:
        """Before anything is copied, refuse functions that call themselves or whose inlined size exceeds the limits."""
        sizes: dict[Key, tuple[float, float, int]] = {}  # nodes, bytes, depth
        for root in self.open_keys:
            trail: list[Key] = []
            todo = [(root, False)]
            while todo:
                key, done = todo.pop()
                body = list(_all_nodes(self.functions[key].node)) if done or key not in sizes else []
                inner = [k for n in body if (k := _called(n)) in self.open_keys]
                if done:
                    trail.pop()
                    sizes[key] = (
                        len(body) + sum(sizes[k][0] for k in inner),
                        sum(n.ByteSize() for n in self.functions[key].node) + sum(sizes[k][1] for k in inner),
                        1 + max((sizes[k][2] for k in inner), default=0),
                    )
                    limits.check("NESTING", sizes[key][2], f"Function {key[1]}, with the functions that it calls,")
                elif key not in sizes:
                    if key in trail:
                        raise ModelError(
                            "A function of the model calls itself: "
                            + " -> ".join(k[1] for k in [*trail[trail.index(key):], key]) + ".",
                            hint="ONNX forbids that: export the model again.", code="function-cycle",
                        )  # fmt: skip
                    trail.append(key)
                    todo.append((key, True))
                    todo += [(k, False) for k in dict.fromkeys(inner)]
        calls = [sizes[k] for n in _all_nodes(self.model.graph.node) if (k := _called(n)) in self.open_keys]
        limits.check("GRAPH_NODES", sum(c[0] for c in calls), "The model with its functions opened")
        limits.check("GRAPH_BYTES", sum(c[1] for c in calls), "The model with its functions opened")

    def _open_graph(self, graph: onnx.GraphProto, depth: int) -> None:
        """Inline the calls among the nodes of a graph, in place."""
        if not any(_called(n) in self.open_keys for n in _all_nodes(graph.node)):
            return
        nodes = self._opened(list(graph.node), depth)
        copies = [_copy(n) for n in nodes]
        del graph.node[:]
        graph.node.extend(copies)

    def _opened(self, nodes: list[onnx.NodeProto], depth: int) -> list[onnx.NodeProto]:
        if depth > _DEPTH:
            raise ModelError(f"The model nests functions and bodies more than {_DEPTH} levels deep.", code="too-deep")
        out = []
        for node in nodes:
            if _called(node) in self.open_keys:
                out += self._opened(self._instance(node), depth + 1)
            else:
                for graph in _graphs(node):
                    self._open_graph(graph, depth + 1)
                out.append(node)
        return out

    def _instance(self, call: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The nodes of a called function, with the names and attributes of this call."""
        from onnx import helper

        function = self.functions[_called(call)]
        if len(call.input) > len(function.input) or len(call.output) > len(function.output):
            raise ModelError(
                f"Node {call.name or call.op_type} calls function {function.name} with {len(call.input)} inputs and "
                f"{len(call.output)} outputs; it has {len(function.input)} and {len(function.output)}.",
                hint="Export the model again.",
                code="function-arity",
            )
        inner = list(_all_nodes(function.node))
        own = {name for n in inner for name in n.output}
        prefix = self._prefix(call, inner, own)
        given = dict(zip(function.input, call.input, strict=False))
        value = {name: given.get(name, "") for name in function.input}
        passed: list[tuple[str, str]] = []  # outputs that are inputs, or listed twice
        for name, outer in zip(function.output, call.output, strict=False):
            if not outer:
                continue
            if name in own and name not in value:
                value[name] = outer
            else:
                passed.append((value.get(name, prefix + name), outer))
        attributes = {a.name: a for a in (*function.attribute_proto, *call.attribute)}

        def rename(name: str) -> str:
            if not name:
                return ""
            if name not in value:
                value[name] = prefix + name
                self.values.add(value[name])
            return value[name]

        def fit_graph(graph: onnx.GraphProto) -> None:
            for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
                item.name = rename(item.name)
            for sparse in graph.sparse_initializer:
                sparse.values.name = rename(sparse.values.name)
            for node in graph.node:
                fit(node)

        def fit(node: onnx.NodeProto) -> None:
            if node.name:
                node.name = prefix + node.name
                self.names.add(node.name)
            inputs, outputs = [rename(n) for n in node.input], [rename(n) for n in node.output]
            del node.input[:], node.output[:]
            node.input.extend(inputs)
            node.output.extend(outputs)
            for graph in _graphs(node):
                fit_graph(graph)
            if any(a.ref_attr_name for a in node.attribute):
                resolved = []
                for attribute in node.attribute:
                    if not attribute.ref_attr_name:
                        resolved.append(attribute)
                    elif (actual := attributes.get(attribute.ref_attr_name)) is not None:
                        bound = type(attribute)()
                        bound.CopyFrom(actual)
                        bound.name = attribute.name
                        resolved.append(bound)
                kept = [_copy(a) for a in resolved]
                del node.attribute[:]
                node.attribute.extend(kept)
            have = {entry.key for entry in node.metadata_props}
            for entry in call.metadata_props:  # the place of the call, unless the node has its own metadata
                if entry.key not in have:
                    node.metadata_props.add(key=entry.key, value=entry.value)

        nodes = [_copy(n) for n in function.node]
        for node in nodes:
            fit(node)
        nodes += [
            helper.make_node("Identity", [a], [b], name=f"{prefix}Identity_{i}") for i, (a, b) in enumerate(passed)
        ]
        self.bytes += sum(n.ByteSize() for n in nodes)
        limits.check("GRAPH_BYTES", self.bytes, "The model with its functions opened")
        return nodes

    def _prefix(self, call: onnx.NodeProto, inner: list[onnx.NodeProto], own: set[str]) -> str:
        """The prefix for the names of this call, chosen so that none of them is already used."""
        base = call.name or next((o for o in call.output if o), "") or call.op_type
        k, prefix = 1, f"{base}/"
        while any(prefix + n.name in self.names for n in inner if n.name) or any(
            prefix + v in self.values for v in own
        ):
            k += 1
            prefix = f"{base}#{k}/"
        return prefix


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


@lru_cache(maxsize=4096)
def _since(op: str, domain: str, version: int) -> int | None:
    """The opset that defines an operator at `version`; None if onnx does not know the operator."""
    import onnx

    try:
        return int(onnx.defs.get_schema(op, version, domain).since_version)
    except (onnx.defs.SchemaError, TypeError):  # TypeError: not a valid opset number
        return None
