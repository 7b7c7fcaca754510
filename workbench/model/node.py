"""Nodes and tensors of a graph, their types, and their schemas."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from workbench.core.dtypes import BITS

Dim = int | str | None
"""A dimension: a number, a symbol, or unknown."""


# Their value does not only depend on their inputs, so they can't be folded.
RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}


VALUE_TYPES = {"int32": 6, "int64": 7}  # TensorProto.INT32, INT64


def nbytes(shape: Iterable[Dim] | None, dtype: str) -> int | None:
    """Bytes of a dense tensor; None if a dimension or the type is unknown, or if the number exceeds 64 bits."""
    if shape is None or dtype not in BITS:
        return None
    elements = 1
    for dim in shape:
        if not isinstance(dim, int) or dim < 0:
            return None
        elements *= dim
    size = -(-elements * BITS[dtype] // 8)
    return size if size < 2**63 else None


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the graph. `shape` is None if inference did not find it."""

    name: str
    shape: tuple[Dim, ...] | None
    dtype: str

    @property
    def bytes(self) -> int | None:
        """Size in bytes; None if unknown."""
        return nbytes(self.shape, self.dtype)

    @property
    def elements(self) -> int | None:
        """Number of elements; None if unknown."""
        if self.shape is None or any(not isinstance(d, int) or d < 0 for d in self.shape):
            return None
        return math.prod(d for d in self.shape if isinstance(d, int))


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `parent` is the id of the If/Loop/Scan node whose body holds it.

    `inputs` and `outputs` have at least as many entries as the operator requires: an entry that the file lacks is "",
    like one that is omitted on purpose.
    """

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
        """An attribute's value as Python data (numbers, bytes decoded, lists), or `default`.

        An attribute whose type contradicts the operator's schema counts as absent; `Graph.problems` lists it.
        """
        import onnx

        for attribute in self.proto.attribute:
            if attribute.name == name:
                if attribute.type == attribute.UNDEFINED or attribute.ref_attr_name:
                    return default
                schema = schema_of(self.op, self.domain)
                if schema is not None and schema.attributes.get(name, attribute.type) != attribute.type:
                    return default
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode(errors="replace") if isinstance(value, bytes) else value
        return default


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a model as its file describes it.

    Attributes:
        code: A stable code: ``nodes-out-of-order``, ``function-kept``, ``shapes-unknown``,
            ``undefined-tensor``, ``duplicate-tensor``, ``missing-input``, ``wrong-attribute`` or ``bad-dimension``.
        text: The description for people.
        nodes: Ids of the affected nodes.
    """

    code: str
    text: str
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Schema:
    """The requirements of an operator on its nodes."""

    least: tuple[int, int]
    single: tuple[bool, ...]
    attributes: Mapping[str, int]
    required: frozenset[str]


@lru_cache(maxsize=4096)
def schema_of(op: str, domain: str, version: int | None = None) -> _Schema | None:
    """The schema of an operator at an opset (by default the newest); None if onnx does not know the operator."""
    import onnx

    domain = "" if domain == "ai.onnx" else domain
    try:
        found = onnx.defs.get_schema(op, domain) if version is None else onnx.defs.get_schema(op, version, domain)
    except (onnx.defs.SchemaError, TypeError):
        return None
    attributes = {name: int(a.type.value) for name, a in found.attributes.items()}
    required = frozenset(name for name, a in found.attributes.items() if a.required)
    single = tuple(i.option == onnx.defs.OpSchema.FormalParameterOption.Single for i in found.inputs)
    return _Schema((found.min_input, found.min_output), single, attributes, required)


def padded(proto: Any, side: Literal[0, 1]) -> tuple[str, ...]:
    """The node's inputs (0) or outputs (1), with "" for each that the file lacks."""
    names = tuple(proto.output if side else proto.input)
    # An operator of another domain may be treated as the ONNX operator with the same name.
    schema = schema_of(proto.op_type, proto.domain) or schema_of(proto.op_type, "")
    return names if schema is None else names + ("",) * (schema.least[side] - len(names))


def dtype_name(data_type: int) -> str:
    """The lower-case ONNX name of a `TensorProto.DataType` value ('' for undefined or later than this onnx)."""
    import onnx

    try:
        name: str = onnx.TensorProto.DataType.Name(data_type)
    except ValueError:
        return ""
    return {"FLOAT": "float32", "DOUBLE": "float64", "UNDEFINED": ""}.get(name, name.lower())


def tensor_of(value: Any) -> Tensor:
    """A tensor from an ONNX ``ValueInfoProto``; properties that it does not give are unknown."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Tensor(value.name, None, "")
    shape: tuple[Dim, ...] | None = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in kind.shape.dim)
    return Tensor(value.name, shape, dtype_name(kind.elem_type))


def attribute_type(kind: int) -> str:
    """The name of an ``AttributeProto.AttributeType``, such as ``INTS``."""
    import onnx

    try:
        return str(onnx.AttributeProto.AttributeType.Name(kind))
    except ValueError:
        return f"type {kind}"
