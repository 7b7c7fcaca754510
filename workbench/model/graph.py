"""The ONNX graph as the rest of the workbench sees it: nodes, tensors, and their connections.

Built once from an `onnx.ModelProto` without weights (see `onnx_file`). The id of a node is its name in the
original file, or, if it has no unique name, its first output.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workbench.core import limits
from workbench.core.errors import ConfigError
from workbench.model.node import (
    RANDOM,
    VALUE_TYPES,
    Dim,
    Node,
    Problem,
    Tensor,
    dtype_name,
    padded,
    tensor_of,
)
from workbench.model.order import ordered
from workbench.model.problems import find_problems

if TYPE_CHECKING:
    import onnx

    from workbench.model.shape_inputs import ShapeInput
    from workbench.model.shape_profile import Shape
    from workbench.model.suggest import Suggestion


LONGEST_NAME = 200
"""Maximum length of a node name that a compiler receives: a log line holds the names of all fused nodes."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_./:;\-$@#()<>=*!?~|+& ]+")


class Graph:
    """Nodes and tensors of a model, indexed. Calls of the model's local functions are inlined, and nodes are sorted.

    Args:
        model: The weightless model; never changed.
        problems: Problems of the model that are already known.

    Attributes:
        proto: The model that the nodes belong to: `model`, or a copy if functions were inlined or nodes moved.
        rewritten: Whether `proto` is such a copy. Then give `proto` to a compiler, so that it names the same nodes.

    Raises:
        ModelError: nodes or functions depend on each other in a cycle (``node-cycle``, ``function-cycle``).
        LimitError: there are more nodes than ``GRAPH_NODES`` of `workbench.core.limits`.
    """

    def __init__(self, model: onnx.ModelProto, problems: Iterable[Problem] = ()) -> None:
        from workbench.model.functions import inlined

        opened, kept = inlined(model)
        self.proto, moved = ordered(opened)
        self.rewritten = self.proto is not model
        model = self.proto
        self.opset = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
        self.tensors: dict[str, Tensor] = {}
        self.initializers: set[str] = set()
        self._defined: set[str] = set()
        found: list[tuple[Any, int | None]] = []
        self._read(model.graph, None, found)
        ids = _unique_ids([proto for proto, _ in found])
        self.nodes = [
            Node(
                id=ids[i], op=proto.op_type, domain=proto.domain, index=i,
                inputs=padded(proto, 0), outputs=padded(proto, 1),
                parent=None if parent is None else ids[parent], proto=proto,
            )
            for i, (proto, parent) in enumerate(found)
        ]  # fmt: skip
        self.by_id = {node.id: node for node in self.nodes}
        inputs = [value.name for value in model.graph.input]
        self.inputs = [name for name in inputs if name not in self.initializers]
        self.outputs = [value.name for value in model.graph.output]
        self.producer = {name: node for node in self.nodes for name in node.outputs if name}
        # Names that were not UTF-8 in the file (see `onnx_file`): a compiler's output with them could not be read as text.
        self.rewritten |= any("\\" in name for name in (*self.producer, *inputs, *self.initializers))
        self.consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                self.consumers.setdefault(name, []).append(node)
        self._known = [*problems, *(Problem("function-kept", text) for text in kept)]
        if moved:
            self._known.append(
                Problem(
                    "nodes-out-of-order",
                    f"{len(moved)} node{'s' if len(moved) > 1 else ''} in the file stood before a node that "
                    f"{'they read' if len(moved) > 1 else 'it reads'} from. ONNX requires an order in which each node "
                    "follows its inputs; the nodes were sorted.",
                    tuple(self.producer[n].id for n in moved if n in self.producer),
                )
            )

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """Problems of the model as its file describes it; empty if there are none."""
        return (*self._known, *find_problems(self))

    def _read(self, graph: Any, parent: int | None, found: list[tuple[Any, int | None]]) -> None:
        limits.check("GRAPH_NODES", len(found) + len(graph.node), "The model")
        # Sibling bodies, such as the branches of an If, may use one name for different tensors.
        mine = {v.name for v in graph.input} | {name for proto in graph.node for name in proto.output}
        shared = mine & self._defined
        self._defined |= mine
        for value in [*graph.input, *graph.output, *graph.value_info]:
            known = self.tensors.get(value.name)
            if known is not None and value.name in shared:
                other = tensor_of(value)
                if other.shape != known.shape and other.shape is not None:
                    self.tensors[value.name] = Tensor(value.name, None, known.dtype)
            elif known is None or known.shape is None:
                self.tensors[value.name] = tensor_of(value)
        for tensor in graph.initializer:
            self.initializers.add(tensor.name)
            self.tensors[tensor.name] = Tensor(tensor.name, tuple(tensor.dims), dtype_name(tensor.data_type))
        for sparse in graph.sparse_initializer:
            self.initializers.add(sparse.values.name)
            self.tensors[sparse.values.name] = Tensor(
                sparse.values.name, tuple(sparse.dims), dtype_name(sparse.values.data_type)
            )
        for proto in graph.node:
            place = len(found)
            found.append((proto, parent))
            for attribute in proto.attribute:
                if attribute.HasField("g"):
                    self._read(attribute.g, place, found)
                for nested in attribute.graphs:
                    self._read(nested, place, found)

    def tensor(self, name: str) -> Tensor:
        """The tensor `name`; its shape and type are unknown if the graph has no information about it."""
        return self.tensors.get(name) or Tensor(name, None, "")

    @property
    def dynamic_inputs(self) -> dict[str, tuple[Dim, ...]]:
        """Inputs with a dimension that is not a number, with their declared shapes."""
        shapes = {name: self.tensor(name).shape or () for name in self.inputs}
        return {n: s for n, s in shapes.items() if any(not isinstance(d, int) or d < 0 for d in s)}

    @cached_property
    def constants(self) -> frozenset[str]:
        """Tensors whose value is known before any input arrives.

        Initializers, and everything that is computed only from them; also shapes of tensors whose shape is
        known. A compiler can fold all of this.
        """
        known = set(self.initializers) | {""}
        for node in self.nodes:
            if node.parent is not None:
                continue
            if node.op in {"Shape", "Size"} and node.domain in {"", "ai.onnx"} and node.inputs:
                folds = self.tensor(node.inputs[0]).elements is not None
            else:
                # A body (If, Loop) may read any tensor of the graph around it.
                folds = (
                    node.op not in RANDOM
                    and all(name in known for name in node.inputs)
                    and not any(a.HasField("g") or a.graphs for a in node.proto.attribute)
                )
            if folds:
                known.update(node.outputs)
        return frozenset(known - {""})

    @cached_property
    def bodies(self) -> dict[str, dict[str, list[Node]]]:
        """The nodes directly in each body of an If, Loop, or Scan: by the id of that node, then by the attribute's name."""
        inside: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.parent is not None:
                inside.setdefault(node.parent, []).append(node)
        found: dict[str, dict[str, list[Node]]] = {}
        for container, nodes in inside.items():
            rest = iter(nodes)  # in the order in which `_read` visited them
            for attribute in self.by_id[container].proto.attribute:
                held = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
                if held:
                    body = [node for graph, node in zip([g for g in held for _ in g.node], rest, strict=False)]
                    found.setdefault(container, {})[attribute.name] = body
        return found

    @cached_property
    def live(self) -> frozenset[str]:
        """Ids of nodes that at least one output of the graph depends on."""
        wanted = set(self.outputs)
        alive: set[str] = set()
        bodies: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.parent is not None:
                bodies.setdefault(node.parent, []).append(node)

        def keep(node: Node) -> None:
            alive.add(node.id)
            wanted.update(node.inputs)
            for inner in bodies.get(node.id, []):
                keep(inner)

        for node in reversed([n for n in self.nodes if n.parent is None]):
            if wanted.intersection(node.outputs):
                keep(node)
        return frozenset(alive)

    @cached_property
    def shape_inputs(self) -> dict[str, ShapeInput]:
        """Inputs whose values a node reads as a shape, by name; see `workbench.model.shape_inputs`."""
        from workbench.model.shape_inputs import shape_inputs

        return shape_inputs(self)

    @cached_property
    def suggestion(self) -> Suggestion:
        """Suggested shapes and values for inputs that need them; see `workbench.model.suggest`."""
        from workbench.model.suggest import suggest

        return suggest(self)

    def at(self, shapes: Mapping[str, Shape], values: Mapping[str, Shape] | None = None) -> Graph:
        """The same graph with its inputs fixed to `shapes` and all other shapes inferred from them.

        Args:
            shapes: The shape of each input to fix.
            values: Values of inputs that are read as a shape (`shape_inputs`), to infer the shapes that depend on them.

        Raises:
            ConfigError: a name is not an input, or a shape contradicts the declared one.
        """
        import onnx

        from workbench.model.shapes import infer

        self.check_shapes(shapes)
        self.check_values(values or {})
        complete = all(t in self.tensors and self.tensors[t].elements is not None
                       for node in self.nodes for t in node.outputs if t)  # fmt: skip
        if complete and all(self.tensor(n).shape == tuple(s) for n, s in shapes.items()):
            return self
        model = onnx.ModelProto()
        model.CopyFrom(self.proto)
        # Declared shapes hold symbols; with numeric input shapes, inference gives better results without them.
        keep = [v for v in model.graph.value_info if tensor_of(v).elements is not None]
        del model.graph.value_info[:]
        model.graph.value_info.extend(keep if not (shapes or values) else [])
        for value in model.graph.input:
            if value.name in shapes:
                del value.type.tensor_type.shape.dim[:]
                for size in shapes[value.name]:
                    value.type.tensor_type.shape.dim.add().dim_value = size
        if shapes or values:
            for value in model.graph.output:
                value.type.tensor_type.ClearField("shape")
        inputs = [_copied(value) for value in model.graph.input]
        _bind_values(model.graph, values or {})
        found, reasons = infer(model)
        if values:
            # They are still inputs: the inferred shapes are valid for these values, and no node may be folded with them.
            kept = [tensor for tensor in found.graph.initializer if tensor.name not in values]
            del found.graph.initializer[:], found.graph.input[:]
            found.graph.initializer.extend(kept)
            found.graph.input.extend(inputs)
        known = [p for p in self._known if p.code != "shapes-unknown"]
        graph = Graph(found, [*known, *(Problem("shapes-unknown", text) for text in reasons)])
        graph.rewritten = self.rewritten
        return graph

    def with_shapes(self, known: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        """Fill shapes that inference left open with the shapes that a compiler reported, by tensor name."""
        for name, (shape, dtype) in known.items():
            have = self.tensors.get(name)
            if (have is None or have.elements is None) and all(d >= 0 for d in shape):
                self.tensors[name] = Tensor(name, tuple(shape), (have and have.dtype) or dtype)

    def check_shapes(self, shapes: Mapping[str, Shape]) -> None:
        """Check that the shapes fit the model.

        Raises:
            ConfigError: a name is not an input (``not-an-input``), or a shape contradicts the declared one
                (``shape-mismatch``).
            LimitError: an input has more elements than ``TENSOR_ELEMENTS`` of `workbench.core.limits`.
        """
        for name, shape in shapes.items():
            if name not in self.inputs:
                raise ConfigError(
                    f"{name} is not an input of the model.",
                    hint="Its inputs are " + ", ".join(
                        f"{n} {list(self.tensor(n).shape or ())}" for n in self.inputs) + ".",
                    code="not-an-input",
                )  # fmt: skip
            limits.check("TENSOR_ELEMENTS", math.prod(shape), f"Input {name}")
            declared = self.tensor(name).shape
            if declared is None:
                continue
            fits = len(declared) == len(shape) and all(
                not isinstance(d, int) or d < 0 or d == s for d, s in zip(declared, shape, strict=True)
            )
            if not fits:
                raise ConfigError(
                    f"Shape {list(shape)} does not fit input {name}, which is declared as {list(declared)}.",
                    hint="Dimensions that are numbers are fixed in the model; export it with dynamic "
                    "dimensions to change them.",
                    code="shape-mismatch",
                )

    def check_values(self, values: Mapping[str, Shape]) -> None:
        """Raise `ConfigError` if `values` names anything but integer inputs, or the number of values of one is wrong."""
        for name, each in values.items():
            if name not in self.inputs:
                raise ConfigError(
                    f"{name} is not an input of the model.",
                    hint="Its inputs are " + ", ".join(self.inputs) + ".",
                )
            tensor = self.tensor(name)
            if tensor.dtype and tensor.dtype not in VALUE_TYPES:
                raise ConfigError(
                    f"Input {name} is {tensor.dtype}; TensorRT takes values of INT32 and INT64 inputs only.",
                    hint=f"Make {name} a constant of the model.",
                    code="value-mismatch",
                )
            rank = None if tensor.shape is None else len(tensor.shape)
            if (rank is not None and rank > 1) or tensor.elements not in (None, len(each)):
                raise ConfigError(
                    f"{len(each)} value{'s' if len(each) != 1 else ''} of input {name} {'are' if len(each) != 1 else 'is'} "
                    f"given, and it is declared as {list(tensor.shape or ())}.",
                    hint="Give one value for each element, with commas.",
                    code="value-mismatch",
                )

    def needs_renaming(self) -> dict[str, str]:
        """New name -> node id, for each node whose own name is not safe in a compiler's log.

        Missing and duplicate names identify no node. A log may cut or alter names with brackets, commas, control
        characters, or characters outside ASCII, and names longer than `LONGEST_NAME`.
        """
        out = {}
        taken = set(self.by_id)
        for node in self.nodes:
            safe = len(node.id) <= LONGEST_NAME and _SAFE_NAME.fullmatch(node.id) and node.id == node.id.strip()
            if node.proto.name == node.id and safe:
                continue
            name = f"{node.op}_{node.index}"
            while name in taken:
                name += "_"
            taken.add(name)
            out[name] = node.id
        return out


def _copied(value: Any) -> Any:
    copy = type(value)()
    copy.CopyFrom(value)
    return copy


def _bind_values(graph: Any, values: Mapping[str, Shape]) -> None:
    """Turn the inputs of an ``onnx.GraphProto`` that have `values` into constants."""
    from onnx import helper

    for value in [v for v in graph.input if v.name in values]:
        kind, given = value.type.tensor_type, values[value.name]
        dims = [len(given)] if len(kind.shape.dim) else []
        graph.input.remove(value)
        graph.initializer.append(helper.make_tensor(value.name, kind.elem_type, dims, given))


def _unique_ids(nodes: list[Any]) -> list[str]:
    """An id for each node: its name if that is unique, otherwise its first output."""
    names = Counter(node.name for node in nodes)
    taken = {name for name, count in names.items() if name and count == 1}
    ids = []
    for i, node in enumerate(nodes):
        if node.name and names[node.name] == 1:
            ids.append(node.name)
            continue
        base = next((name for name in node.output if name), "") or f"{node.op_type}_{i}"
        name, k = base, 1
        while name in taken:
            k += 1
            name = f"{base}#{k}"
        taken.add(name)
        ids.append(name)
    return ids
