"""The ONNX graph as the rest of the workbench sees it: nodes, tensors, and who feeds whom.

Built once from a weightless `onnx.ModelProto` (see `onnx_file`). A node is known by its name in the
original file; where it has none of its own, by its first output.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workbench.errors import ConfigError

if TYPE_CHECKING:
    import onnx

    from workbench.config import Shape

Dim = int | str | None
"""A dimension: a number, a symbol, or unknown."""

BITS = {
    "float32": 32, "float64": 64, "float16": 16, "bfloat16": 16,
    "float8e4m3fn": 8, "float8e5m2": 8, "float8e4m3fnuz": 8, "float8e5m2fnuz": 8, "float8e8m0": 8,
    "float4e2m1": 4, "int4": 4, "uint4": 4, "int2": 2, "uint2": 2,
    "int8": 8, "uint8": 8, "bool": 8, "int16": 16, "uint16": 16,
    "int32": 32, "uint32": 32, "int64": 64, "uint64": 64, "complex64": 64, "complex128": 128,
}  # fmt: skip
"""Bits per element of each ONNX data type, by its lower-case name."""

# Their value does not follow from their inputs alone, so they can't be folded.
RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}
_SAFE_NAME = re.compile(r"[A-Za-z0-9_./:;\-$@#()<>=*!?~|+& ]+")


def nbytes(shape: Iterable[Dim] | None, dtype: str) -> int | None:
    """Bytes of a dense tensor, or None where a dimension or the type is unknown."""
    if shape is None or dtype not in BITS:
        return None
    elements = 1
    for dim in shape:
        if not isinstance(dim, int) or dim < 0:
            return None
        elements *= dim
    return math.ceil(elements * BITS[dtype] / 8)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the graph. `shape` is None where inference found nothing."""

    name: str
    shape: tuple[Dim, ...] | None
    dtype: str

    @property
    def bytes(self) -> int | None:
        """Size in bytes, None where unknown."""
        return nbytes(self.shape, self.dtype)

    @property
    def elements(self) -> int | None:
        """Number of elements, None where unknown."""
        if self.shape is None or any(not isinstance(d, int) or d < 0 for d in self.shape):
            return None
        return math.prod(d for d in self.shape if isinstance(d, int))


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `parent` is the id of the If/Loop/Scan node whose body holds it."""

    id: str
    op: str
    domain: str
    index: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parent: str | None
    proto: Any = field(repr=False, compare=False)

    @property
    def metadata(self) -> dict[str, str]:
        """The node's ``metadata_props``."""
        return {entry.key: entry.value for entry in self.proto.metadata_props}

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value as Python data (numbers, bytes decoded, lists), or `default`."""
        import onnx

        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode(errors="replace") if isinstance(value, bytes) else value
        return default


class Graph:
    """Nodes and tensors of a model, indexed.

    Args:
        model: The weightless model; kept, never changed.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.proto = model
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
                inputs=tuple(proto.input), outputs=tuple(proto.output),
                parent=None if parent is None else ids[parent], proto=proto,
            )
            for i, (proto, parent) in enumerate(found)
        ]  # fmt: skip
        self.by_id = {node.id: node for node in self.nodes}
        inputs = [value.name for value in model.graph.input]
        self.inputs = [name for name in inputs if name not in self.initializers]
        self.outputs = [value.name for value in model.graph.output]
        self.producer = {name: node for node in self.nodes for name in node.outputs if name}
        self.consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                self.consumers.setdefault(name, []).append(node)

    def _read(self, graph: Any, parent: int | None, found: list[tuple[Any, int | None]]) -> None:
        # Bodies beside each other, such as the branches of an If, may use one name for different tensors.
        mine = {v.name for v in graph.input} | {name for proto in graph.node for name in proto.output}
        shared = mine & self._defined
        self._defined |= mine
        for value in [*graph.input, *graph.output, *graph.value_info]:
            known = self.tensors.get(value.name)
            if known is not None and value.name in shared:
                other = _tensor(value)
                if other.shape != known.shape and other.shape is not None:
                    self.tensors[value.name] = Tensor(value.name, None, known.dtype)
            elif known is None or known.shape is None:
                self.tensors[value.name] = _tensor(value)
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
        """The tensor `name`; unknown shape and type where nothing is known of it."""
        return self.tensors.get(name) or Tensor(name, None, "")

    @property
    def dynamic_inputs(self) -> dict[str, tuple[Dim, ...]]:
        """Inputs with a dimension that is not a number, with their declared shapes."""
        shapes = {name: self.tensor(name).shape or () for name in self.inputs}
        return {n: s for n, s in shapes.items() if any(not isinstance(d, int) or d < 0 for d in s)}

    @cached_property
    def constants(self) -> frozenset[str]:
        """Tensors whose value is known before any input arrives.

        Initializers, and whatever is computed from them alone; also shapes of tensors whose shape is
        known. This is what a compiler can fold.
        """
        known = set(self.initializers) | {""}
        for node in self.nodes:
            if node.parent is not None:
                continue
            if node.op in {"Shape", "Size"} and node.domain in {"", "ai.onnx"}:
                folds = bool(node.inputs) and self.tensor(node.inputs[0]).elements is not None
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
        """The nodes directly in each body of an If, Loop or Scan: by the id of that node, then by the attribute's name."""
        inside: dict[str, list[Node]] = {}
        for node in self.nodes:
            if node.parent is not None:
                inside.setdefault(node.parent, []).append(node)
        found: dict[str, dict[str, list[Node]]] = {}
        for container, nodes in inside.items():
            rest = iter(nodes)  # in the order in which `_read` met them
            for attribute in self.by_id[container].proto.attribute:
                held = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
                if held:
                    body = [node for graph, node in zip([g for g in held for _ in g.node], rest, strict=False)]
                    found.setdefault(container, {})[attribute.name] = body
        return found

    @cached_property
    def live(self) -> frozenset[str]:
        """Ids of nodes that some output of the graph depends on."""
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

    def at(self, shapes: Mapping[str, Shape]) -> Graph:
        """The same graph with its inputs fixed to `shapes` and all other shapes inferred from them.

        Raises:
            ConfigError: a name is not an input, or a shape contradicts the declared one.
        """
        import onnx

        from workbench.model.shapes import infer_shapes

        self.check_shapes(shapes)
        complete = all(t in self.tensors and self.tensors[t].elements is not None
                       for node in self.nodes for t in node.outputs if t)  # fmt: skip
        if complete and all(self.tensor(n).shape == tuple(s) for n, s in shapes.items()):
            return self
        model = onnx.ModelProto()
        model.CopyFrom(self.proto)
        # Declared shapes hold symbols; once the inputs are numbers, inference does better alone.
        keep = [v for v in model.graph.value_info if _tensor(v).elements is not None]
        del model.graph.value_info[:]
        model.graph.value_info.extend(keep if not shapes else [])
        for value in model.graph.input:
            if value.name in shapes:
                del value.type.tensor_type.shape.dim[:]
                for size in shapes[value.name]:
                    value.type.tensor_type.shape.dim.add().dim_value = size
        if shapes:
            for value in model.graph.output:
                value.type.tensor_type.ClearField("shape")
        return Graph(infer_shapes(model))

    def with_shapes(self, known: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        """Fill shapes that inference left open from what a compiler reported, by tensor name."""
        for name, (shape, dtype) in known.items():
            have = self.tensors.get(name)
            if (have is None or have.elements is None) and all(d >= 0 for d in shape):
                self.tensors[name] = Tensor(name, tuple(shape), (have and have.dtype) or dtype)

    def check_shapes(self, shapes: Mapping[str, Shape]) -> None:
        """Raise `ConfigError` where `shapes` names no input or does not fit the declared shape."""
        for name, shape in shapes.items():
            if name not in self.inputs:
                raise ConfigError(
                    f"{name} is not an input of the model.",
                    hint="Its inputs are " + ", ".join(
                        f"{n} {list(self.tensor(n).shape or ())}" for n in self.inputs) + ".",
                )  # fmt: skip
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
                )

    def needs_renaming(self) -> dict[str, str]:
        """New name -> node id, for each node whose own name a compiler's log could not carry safely.

        Unnamed and duplicate names say nothing in a log, and brackets, commas, control characters or
        characters outside ASCII may be cut or altered in it.
        """
        out = {}
        taken = set(self.by_id)
        for node in self.nodes:
            if node.proto.name == node.id and _SAFE_NAME.fullmatch(node.id) and node.id == node.id.strip():
                continue
            name = f"{node.op}_{node.index}"
            while name in taken:
                name += "_"
            taken.add(name)
            out[name] = node.id
        return out


def dtype_name(data_type: int) -> str:
    """The lower-case ONNX name of a `TensorProto.DataType` value ('' for undefined or later than this onnx)."""
    import onnx

    try:
        name: str = onnx.TensorProto.DataType.Name(data_type)
    except ValueError:
        return ""
    return {"FLOAT": "float32", "DOUBLE": "float64", "UNDEFINED": ""}.get(name, name.lower())


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Tensor(value.name, None, "")
    shape: tuple[Dim, ...] | None = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in kind.shape.dim)
    return Tensor(value.name, shape, dtype_name(kind.elem_type))


def _unique_ids(nodes: list[Any]) -> list[str]:
    """An id for each node: its name where that is its own, else its first output."""
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
