"""The cast: a pass over an onnx_ir graph that records which nodes it kept in FP32 and which constants it clipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError
from workbench.passes.constants import constant, has_body, low_limit
from workbench.passes.guard import REASONS, Guard
from workbench.passes.ir import TYPE_ATTRIBUTES, free_name, some

if TYPE_CHECKING:
    import onnx_ir as ir

    from workbench.core.worker import Reporter
    from workbench.model.origin import ListsDocument


VERSION = 5
"""Increase this number when the cast of a model changes; stored models are then made again."""


class Casting:
    """One pass over the graph in its order. Each FP32 value has a low and a high version.

    Nodes that `guard.Guard` keeps in FP32 stay in FP32, unless the lists name them as nodes to cast.
    """

    def __init__(self, model: ir.Model, low: ir.DataType, reporter: Reporter, lists: Lists | None = None) -> None:
        import onnx_ir as ir

        self.ir = ir
        self.lists = lists or Lists()
        self.model = model
        self.low = low
        self.high = ir.DataType.FLOAT
        self.reporter = reporter
        self.casts = 0
        self.lowered = 0
        """Number of nodes that read or write a tensor in the low type that was FP32."""
        self.kept: dict[str, int] = {}
        self.clipped: list[str] = []
        self.guarded: dict[str, list[str]] = {}
        """Names of the nodes that the guard kept in FP32, by rule (a key of `guard.REASONS`)."""
        self._versions: dict[tuple[int, ir.DataType, float], ir.Value] = {}
        self._names = {v.name for g in model.graphs() for n in g for v in n.outputs if v.name}
        self._names |= {name for g in model.graphs() for name in g.initializers}
        self._names |= {v.name for g in model.graphs() for v in g.inputs if v.name}
        self._node_names = {n.name for g in model.graphs() for n in g if n.name}
        self._suffix = "fp16" if low == ir.DataType.FLOAT16 else "bf16"
        self._unify()
        self.types = self._types()
        self._was = {id(v) for v in self._values() if self._tensor(v, self.high)}
        self._mixed = {id(v) for v in self._values() if v.type is not None and not isinstance(v.type, ir.TensorType)}
        self.guard = Guard(model, low, lambda node: not self.lists.names(node.name or "", node.op_type))

    def run(self) -> None:
        """Convert the whole model."""
        graph = self.model.graph
        outputs = list(graph.outputs)
        wide = [id(value) in self._was for value in outputs]
        nodes = list(graph)
        if not self.lists.keep_io:
            for value in graph.inputs:
                if id(value) in self._was:
                    value.dtype = self.low
        for i, node in enumerate(nodes):
            self._node(node)
            self.reporter.progress("Converting", i + 1, len(nodes))
        self._constants()
        wanted = self.high if self.lists.keep_io else self.low
        for place, value in enumerate(outputs):
            if wide[place] and value.dtype != wanted:
                self._restore_output(place, value, wanted)
        self._drop_unused()

    @property
    def report(self) -> dict[str, Any]:
        """What changed, JSON-able; see `cast_task`."""
        return {
            "casts": self.casts, "lowered": self.lowered, "kept": self.kept, "clipped": self.clipped,
            "guarded": self.guarded, "changed": [asdict(one) for one in self.guard.changed],
            "warnings": self.warnings(),
        }  # fmt: skip

    def warnings(self) -> list[str]:
        """What a user must know about the result, in sentences."""
        name, out = self._suffix.upper(), []
        if not self.lowered:
            out.append(f"Nothing was cast: {self._nothing()}")
        elif left := {t: n for t, n in self.types.items() if t == "DOUBLE"}:
            out.append(f"{left['DOUBLE']} tensors are in DOUBLE, which a cast to {name} leaves as it is.")
        if changed := self.guard.changed:
            text = some([one.text for one in changed], 8)
            out.append(
                f"{name} would change {len(changed)} constant{'s'[: len(changed) != 1]} too much (by more than 1 percent, 5 "
                f"for an epsilon), so the nodes that read them stay in FP32: {text}."
            )
        return out

    def _nothing(self) -> str:
        """A sentence that explains why nothing was cast."""
        wide = sum(n for t, n in self.types.items() if t == "FLOAT")
        name = self._suffix.upper()
        if not wide:
            names = {"FLOAT16": "FP16", "BFLOAT16": "BF16"}
            held = [f"{n} in {names.get(t, t)}" for t, n in self.types.items()]
            if not held:
                return "the model has no floating-point tensors."
            hint = " Export it in FP32 first." if "DOUBLE" in self.types else ""
            return f"none of its tensors is in FP32 ({', '.join(held)}).{hint}"
        if self.guarded:
            text = "; ".join(f"{some(names, 3)}: {REASONS[rule]}" for rule, names in self.guarded.items())
            return f"every node that could run in {name} has to stay in FP32 ({text})."
        return (
            f"ONNX defines none of these operations in {name} at this opset, or the lists leave them all in FP32. Export "
            "with a later opset (in BF16 convolutions need 22)."
        )

    # --- nodes --------------------------------------------------------------------------------------

    def _node(self, node: ir.Node) -> None:
        floats = [v for v in (*node.inputs, *node.outputs) if v is not None and id(v) in self._was]
        if has_body(node):
            self._keep_high(node)
            return
        if not floats or (node.op_type == "Constant" and node.domain in {"", "ai.onnx"}):
            return  # its readers determine the type of a constant: see `_constants`
        if not self.lists.admits(node.name or "", node.op_type):
            self._keep_high(node)
            return
        if id(node) in self.guard.kept:
            self.guarded.setdefault(self.guard.kept[id(node)], []).append(node.name or "")
            self._keep_high(node)
            return
        variables = self._low_variables(node)
        if variables is None or not (any(variables[0]) or any(variables[1])):
            self._keep_high(node)
            return
        inputs, outputs = variables
        self.lowered += 1
        for i, value in enumerate(node.inputs):
            if value is not None and id(value) in self._was:
                node.replace_input_with(i, self._version(value, self.low if inputs[i] else self.high, node))
        if any(outputs):
            self._attributes(node)
        for i, value in enumerate(node.outputs):
            if outputs[i]:
                value.dtype = self.low

    def _keep_high(self, node: ir.Node) -> None:
        """Leave the node in FP32, and everything that its bodies read."""
        touched = False
        for i, value in enumerate(node.inputs):
            if value is not None and id(value) in self._was:
                node.replace_input_with(i, self._version(value, self.high, node))
                touched = True
        for attribute in node.attributes.values():
            bodies = []
            if attribute.type == self.ir.AttributeType.GRAPH:
                bodies = [attribute.as_graph()]
            elif attribute.type == self.ir.AttributeType.GRAPHS:
                bodies = list(attribute.as_graphs())
            for body in bodies:
                for inner in self.ir.traversal.RecursiveGraphIterator(body):
                    for i, value in enumerate(inner.inputs):
                        if value is not None and id(value) in self._was and value.dtype == self.low:
                            inner.replace_input_with(i, self._version(value, self.high, node))
        if touched or any(id(v) in self._was for v in node.outputs):
            self.kept[node.op_type] = self.kept.get(node.op_type, 0) + 1

    def _schema(self, node: ir.Node) -> Any:
        """ONNX's schema of the operation; None if the operation does not belong to ONNX."""
        import onnx

        try:
            domain = "" if node.domain == "ai.onnx" else node.domain
            return onnx.defs.get_schema(node.op_type, self.model.graph.opset_imports.get(node.domain, 1), domain)
        except onnx.defs.SchemaError:
            return None

    def _low_variables(self, node: ir.Node) -> tuple[list[bool], list[bool]] | None:
        """For each input and output: is it FP32, and may it have the low type? None if the node must not change.

        The type variables of the schema connect the types of a node's tensors. An attribute or its default gives a
        type that no input determines.
        """
        schema = self._schema(node)
        if schema is None or any(v is not None and id(v) in self._mixed for v in (*node.inputs, *node.outputs)):
            return None
        wanted = f"tensor({'float16' if self.low == self.ir.DataType.FLOAT16 else 'bfloat16'})"
        allowed = {c.type_param_str: wanted in c.allowed_type_strs for c in schema.type_constraints}
        open_ = {c.type_param_str for c in schema.type_constraints if "tensor(float)" in c.allowed_type_strs}
        names = [self._type_of(schema.inputs, i) for i in range(len(node.inputs))]
        made = [self._type_of(schema.outputs, i) for i in range(len(node.outputs))]
        for name, value in zip((*names, *made), (*node.inputs, *node.outputs), strict=True):
            if value is not None and value.name and value.dtype is None and name in open_ and value.uses():
                return None  # of unknown type, after an operation of another library
        inputs = [
            v is not None and id(v) in self._was and allowed.get(name, name == wanted)
            for v, name in zip(node.inputs, names, strict=True)
        ]
        lowered = {name for name, low in zip(names, inputs, strict=True) if low}
        typed = self._typed(node, schema)
        outputs = []
        for value, name in zip(node.outputs, made, strict=True):
            low = id(value) in self._was and allowed.get(name, name == wanted)
            if low and name not in names:  # no input determines it
                if "stash_type" in schema.attributes:
                    low = False
                elif typed is not None:
                    low = typed
                else:
                    low = bool(lowered)
            elif low:
                low = name in lowered
            outputs.append(low)
        return inputs, outputs

    def _type_of(self, formal: Any, place: int) -> str:
        return str(formal[min(place, len(formal) - 1)].type_str) if formal else ""

    def _typed(self, node: ir.Node, schema: Any) -> bool | None:
        """Whether an attribute, or its default, gives FP32; None if the operation has no such attribute."""
        if node.op_type == "ConstantOfShape":
            return "value" not in node.attributes or node.attributes["value"].as_tensor().dtype == self.high
        for name in TYPE_ATTRIBUTES:
            if name in node.attributes:
                if (kind := node.attributes[name].as_int()) or name == "to":
                    return kind == int(self.high)
            elif name in schema.attributes and schema.attributes[name].default_value.i:
                return bool(schema.attributes[name].default_value.i == int(self.high))
        return None

    def _attributes(self, node: ir.Node) -> None:
        """Adapt types and values in the node's attributes, or their defaults."""
        ir = self.ir
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == self.high:
                limit = self.guard.limits.get((id(node.outputs[0]), id(node)))
                made = self._convert(attribute.as_tensor(), node.name or name, limit)
                node.attributes[name] = ir.AttrTensor(name, made)
            elif (
                attribute.type == ir.AttributeType.INT
                and name in TYPE_ATTRIBUTES
                and attribute.as_int() == int(self.high)
            ):
                node.attributes[name] = ir.AttrInt64(name, int(self.low))
        schema = self._schema(node)
        for name in TYPE_ATTRIBUTES:
            default = schema.attributes[name].default_value.i if name in schema.attributes else 0
            if name not in node.attributes and default == int(self.high):
                node.attributes[name] = ir.AttrInt64(name, int(self.low))
        if node.op_type == "ConstantOfShape" and "value" not in node.attributes:
            import numpy as np

            zero = ir.tensor(np.zeros(1, dtype=self.low.numpy()), dtype=self.low, name="value")
            node.attributes["value"] = ir.AttrTensor("value", zero)

    def _constants(self) -> None:
        """Convert Constant nodes whose readers all run in the low type."""
        ir, graph = self.ir, self.model.graph
        outputs = {id(v) for v in graph.outputs}
        for node in list(graph):
            if node.op_type != "Constant" or node.domain not in {"", "ai.onnx"} or id(node.outputs[0]) not in self._was:
                continue
            value = node.outputs[0]
            lows = [made for (key, dtype, _), made in self._versions.items() if key == id(value) and dtype == self.low]
            if value.uses() or id(value) in outputs or len(lows) != 1 or constant(value) is None:
                continue
            for name in ("value_float", "value_floats"):
                node.attributes.pop(name, None)
            node.attributes["value"] = ir.AttrTensor("value", lows[0].const_value)
            value.dtype = self.low
            ir.convenience.replace_all_uses_with(lows[0], value)
            graph.initializers.pop(str(lows[0].name))

    # --- values -------------------------------------------------------------------------------------

    def _values(self) -> list[ir.Value]:
        graph = self.model.graph
        return [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]

    def _tensor(self, value: ir.Value, dtype: Any) -> bool:
        return value.dtype == dtype and (value.type is None or isinstance(value.type, self.ir.TensorType))

    def _types(self) -> dict[str, int]:
        """Number of tensors of each floating-point type with 16 bits or more."""
        found: dict[str, int] = {}
        for value in self._values():
            if value.dtype is not None and value.dtype.name in {"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"}:
                found[value.dtype.name] = found.get(value.dtype.name, 0) + 1
        return found

    def _unify(self) -> None:
        """Find types that inference left unknown, from the other tensors of the same node."""
        for node in self.model.graph:
            if all(v is None or v.dtype is not None for v in (*node.inputs, *node.outputs)):
                continue
            if (schema := self._schema(node)) is None:
                continue
            slots = [
                (self._type_of(formal, i), value)
                for formal, values in ((schema.inputs, node.inputs), (schema.outputs, node.outputs))
                for i, value in enumerate(values)
                if value is not None
            ]
            known = {name: v.dtype for name, v in slots if v.dtype is not None}
            for name, value in slots:
                if value.dtype is None and name in known and not name.startswith("tensor("):
                    value.dtype = known[name]

    def _version(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        """`value` in `dtype`: itself, a converted constant, or a cast directly after its producer."""
        limit = self.guard.limits.get((id(value), id(before)), 0.0)
        held = constant(value)
        if value.dtype == dtype and not (limit and held is not None):
            return value
        key = (id(value), dtype, limit)
        if key in self._versions:
            return self._versions[key]
        ir, graph = self.ir, self.model.graph
        if held is not None:
            suffix = self._suffix if dtype == self.low else "fp32_clipped"
            name = self._free(f"{value.name}_{suffix}")
            made = ir.Value(
                name=name,
                shape=held.shape,
                type=ir.TensorType(dtype),
                const_value=self._convert(held, name, limit or None, dtype),
            )
            graph.register_initializer(made)
        else:
            suffix = self._suffix if dtype == self.low else "fp32"
            node = ir.Node(
                "",
                "Cast",
                [value],
                [ir.AttrInt64("to", int(dtype))],
                name=self._free(f"{value.name}_to_{suffix}", self._node_names),
            )
            made = node.outputs[0]
            made.name = self._free(f"{value.name}_{suffix}")
            made.dtype, made.shape = dtype, value.shape
            producer = value.producer()
            if producer is not None:
                graph.insert_after(producer, node)
            elif len(graph) and graph[0] is not before:
                graph.insert_before(graph[0], node)
            else:
                graph.insert_before(before, node)
            self.casts += 1
        self._versions[key] = made
        return made

    def _free(self, name: str, taken: set[str] | None = None) -> str:
        return free_name(name, self._names if taken is None else taken)

    def _restore_output(self, place: int, value: ir.Value, wanted: ir.DataType) -> None:
        """Give a model output its final type (its own, or without `keep_io` the low one), and its name."""
        ir, graph = self.ir, self.model.graph
        was, now = (self._suffix, "fp32") if wanted == self.high else ("fp32", self._suffix)
        name = value.name
        value.name = self._free(f"{name}_{was}")
        title = self._free(f"{name}_to_{now}", self._node_names)
        node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(wanted))], name=title)
        made = node.outputs[0]
        made.name, made.dtype, made.shape = name, wanted, value.shape
        graph.append(node)
        graph.outputs[place] = made
        self.casts += 1

    def _convert(self, tensor: Any, name: str, limit: float | None, dtype: ir.DataType | None = None) -> Any:
        """The tensor in the low type (or `dtype`), computed when it is saved. Finite numbers beyond `limit` are clipped.

        Without a limit, the type's range is the limit. This only happens for nodes that a list names as nodes to cast.
        """
        import numpy as np

        ir = self.ir
        wanted = dtype or self.low
        kind, largest = low_limit(self.low)
        most = limit or largest
        if limit is not None and name not in self.clipped:
            self.clipped.append(name)

        fits = limit is None and self.guard.fits(tensor)

        def make() -> Any:
            values = tensor.numpy().astype(np.float32, copy=False)
            # An infinity is intended; a finite number beyond the range would become one by mistake.
            if not fits and values.size and bool((np.isfinite(values) & (np.abs(values) > most)).any()):
                if name not in self.clipped:
                    self.clipped.append(name)
                values = np.where(np.isfinite(values), np.clip(values, -most, most), values)
            return ir.tensor(values.astype(kind if wanted == self.low else np.float32), dtype=wanted, name=name)

        return ir.LazyTensor(make, dtype=wanted, shape=tensor.shape, name=name)

    def _drop_unused(self) -> None:
        graph = self.model.graph
        outputs = {id(v) for v in graph.outputs}
        for name, value in list(graph.initializers.items()):
            if not value.uses() and id(value) not in outputs:
                del graph.initializers[name]


@dataclass(frozen=True)
class Lists:
    """Which nodes are cast, and whether the model's inputs and outputs are.

    A node is left in FP32 if its name matches `keep` or its operation is in `keep_ops`, or if `only` or
    `only_ops` are given and it is in neither.

    Attributes:
        keep: Names or patterns (``*``, ``?``) of nodes to leave in FP32.
        keep_ops: Operations to leave in FP32, such as ``Softmax``.
        only: Names or patterns of the only nodes to cast.
        only_ops: The only operations to cast.
        keep_io: Whether the model's inputs and outputs keep their types.
    """

    keep: tuple[str, ...] = ()
    keep_ops: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    only_ops: tuple[str, ...] = ()
    keep_io: bool = True

    def to_dict(self) -> ListsDocument:
        """JSON-able form."""
        return {
            "keep": list(self.keep), "keep_ops": list(self.keep_ops), "only": list(self.only),
            "only_ops": list(self.only_ops), "keep_io": self.keep_io,
        }  # fmt: skip

    def admits(self, name: str, op: str) -> bool:
        """Whether a node may be cast."""
        if op in self.keep_ops or any(fnmatchcase(name, pattern) for pattern in self.keep):
            return False
        if not self.only and not self.only_ops:
            return True
        return op in self.only_ops or any(fnmatchcase(name, pattern) for pattern in self.only)

    def names(self, name: str, op: str) -> bool:
        """Whether `only` or `only_ops` name the node: then it is cast even if a rule would keep it."""
        return op in self.only_ops or any(fnmatchcase(name, pattern) for pattern in self.only)

    def check(self, nodes: Sequence[tuple[str, str]], model: str) -> None:
        """Refuse an entry that no node (name, operation) matches: it is a mistake.

        Raises:
            ModelError: no node matches a pattern, or has an operation.
        """
        operations = {op for _, op in nodes}
        for pattern in (*self.keep, *self.only):
            if not any(fnmatchcase(name, pattern) for name, _ in nodes):
                raise ModelError(
                    f"No node of {model} matches {pattern!r}.", hint=f"Nodes: {some([n for n, _ in nodes])}."
                )
        for op in (*self.keep_ops, *self.only_ops):
            if op not in operations:
                raise ModelError(f"{model} has no operation {op!r}.", hint=f"It has: {some(sorted(operations), 30)}.")
