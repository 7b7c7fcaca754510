"""FP32 to FP16 or BF16, in the graph.

Strongly typed compilers (TensorRT 11, TensorRT for RTX) take the precision from the graph, so a request
for FP16 means rewriting the graph. Which operations may run in the low type is not a list of names kept
here but ONNX's own operator schemas: where a schema's type constraint admits it, the operation runs
in it; where it does not, casts are put around it. Inputs and outputs of the model keep their types. Node
names and metadata are kept; the casts that are added have names of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import ConfigError, ModelError
from workbench.jobs import Job
from workbench.machine import REWRITERS, made_by
from workbench.model.model import Model
from workbench.model.onnx_file import fingerprint
from workbench.store import Store

if TYPE_CHECKING:
    import onnx_ir as ir

    from workbench.worker import Reporter

VERSION = 3
"""Raise it when the same model is cast differently, so that kept models are made anew."""

EXTERNAL_ABOVE = 1_800_000_000


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

    def admits(self, name: str, op: str) -> bool:
        """Whether a node may be cast."""
        if op in self.keep_ops or any(fnmatchcase(name, pattern) for pattern in self.keep):
            return False
        if not self.only and not self.only_ops:
            return True
        return op in self.only_ops or any(fnmatchcase(name, pattern) for pattern in self.only)

    def check(self, nodes: Sequence[tuple[str, str]], model: str) -> None:
        """Refuse what no node (name, operation) matches: a list that does nothing was not meant.

        Raises:
            ModelError: the pattern or operation that no node has.
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


def free_name(name: str, taken: set[str]) -> str:
    """`name`, with a number behind it where something else has it; taken from then on."""
    unique, k = name, 1
    while unique in taken:
        k += 1
        unique = f"{name}_{k}"
    taken.add(unique)
    return unique


def some(names: Sequence[str], count: int = 6) -> str:
    """The first of the names, and how many more there are."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def cast(
    model: Model,
    precision: str,
    store: Store,
    *,
    keep: Sequence[str] | str = (),
    keep_ops: Sequence[str] | str = (),
    only: Sequence[str] | str = (),
    only_ops: Sequence[str] | str = (),
    keep_io: bool = True,
    on_job: Callable[[Job], Any] | None = None,
) -> Model:
    """`model` with its FP32 tensors in `precision` ("fp16" or "bf16"), made in a worker and kept.

    Args:
        model: In FP32.
        precision: "fp16" or "bf16".
        store: Where it is kept: the same request is a look-up.
        keep: See `Lists`, as for the next three.
        keep_ops: Operations to leave in FP32.
        only: The only nodes to cast.
        only_ops: The only operations to cast.
        keep_io: Whether the model's inputs and outputs keep their types.
        on_job: Called with the job, to show progress or cancel.

    Raises:
        ConfigError: there is no such precision.
        ModelError: the model can't be rewritten, or no node is what a list names.
    """
    if precision not in {"fp16", "bf16"}:
        raise ConfigError(f"A cast gives fp16 or bf16, not {precision!r}.", hint="For int8, fp8 and int4: quantize.")
    lists = Lists(_names(keep), _names(keep_ops), _names(only), _names(only_ops), keep_io)
    lists.check([(node.id, node.op) for node in model.graph.nodes], model.name)
    source = model.sha256(store)
    if (found := known_cast(model, precision, source, store, lists)) is not None:
        return found
    key = _key(precision, source, lists)
    with store.lock(hashlib.sha256(key.encode()).hexdigest()), store.scratch("cast") as folder:
        if (found := known_cast(model, precision, source, store, lists)) is not None:
            return found
        work = folder / "model"
        work.mkdir()
        job = Job(
            "workbench.precision.cast:cast_task",
            {"path": str(model.path.resolve()), "precision": precision, "folder": str(work), "lists": asdict(lists)},
            title=f"conversion of {model.name} to {precision}",
        )
        if on_job is not None:
            on_job(job)
        report = job.result()
        draft = Model(model.name, work / "model.onnx")
        sha256 = fingerprint(draft.path, set(draft.companions))
        info = {"kind": "cast", "precision": precision, "source": source, "lists": asdict(lists), **report}
        return Model(model.name, store.add_model(work, sha256, key, info), info, original=model)


def known_cast(model: Model, precision: str, sha256: str, store: Store, lists: Lists | None = None) -> Model | None:
    """The conversion made earlier of the model with this fingerprint, or None."""
    found = store.derived(_key(precision, sha256, lists or Lists()))
    return None if found is None else Model(model.name, found[0], found[1], original=model)


def _key(precision: str, sha256: str, lists: Lists) -> str:
    listed = ""
    if lists != Lists():
        listed = "-" + hashlib.sha256(json.dumps(asdict(lists), sort_keys=True).encode()).hexdigest()
    return f"cast-{VERSION}-{made_by(*REWRITERS)}-{precision}-{sha256}{listed}"


def cast_task(
    reporter: Reporter, *, path: str, precision: str, folder: str, lists: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The conversion itself, in a worker; writes ``model.onnx`` into `folder`.

    Returns:
        ``casts`` (how many were added), ``kept`` (nodes left in FP32, by operation), ``clipped``
        (constants beyond the type's range, brought to its largest value).
    """
    import onnx_ir as ir

    model = load_ir(Path(path), reporter)
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in (lists or {}).items()
    }
    low = ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.BFLOAT16
    work = Casting(model, low, reporter, Lists(**given))
    work.run()
    save_ir(model, Path(folder) / "model.onnx")
    return {"casts": work.casts, "kept": work.kept, "clipped": work.clipped}


def load_ir(path: Path, reporter: Reporter, *, opset: int | None = None) -> ir.Model:
    """The model to be rewritten: functions inlined, each node named by its id, types inferred, weights on disk.

    Files of IR version 3 list each weight among the graph's inputs as well; here an input is what must be given.

    Args:
        path: The ONNX file.
        reporter: Told how far it is.
        opset: Bring the model to this opset of ONNX first, if it has a lower one.

    Raises:
        ModelError: it can't be brought to that opset.
    """
    import onnx_ir as ir

    from workbench.model.graph import Graph
    from workbench.model.onnx_file import read_graph
    from workbench.model.shapes import infer_shapes

    reporter.progress("Reading the graph", 0, 1)
    graph = Graph(read_graph(path))  # functions are opened, nodes lie in order
    proto = graph.proto
    for node in graph.nodes:
        node.proto.name = node.id  # a node known by its output keeps its id when that output is renamed
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    if len(inputs) < len(proto.graph.input):
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
        proto.ir_version = max(proto.ir_version, 4)  # the first that admits weights which are no inputs
    if opset is not None:
        from workbench.precision.opset import upgrade

        proto = upgrade(proto, opset)
    known = len(proto.graph.value_info) + len(proto.graph.output)
    if known < sum(len(n.output) for n in proto.graph.node):
        proto = infer_shapes(proto)
    model = ir.serde.deserialize_model(proto)
    ir.external_data.set_base_dir(model.graph, path.parent)
    _bring_attributes(model, path.parent)
    reporter.progress("Reading the graph", 1, 1)
    return model


def save_ir(model: ir.Model, out: Path) -> None:
    """Write the model with its weights: into one file, or beside it where they are too large for that."""
    import onnx_ir as ir

    weights = sum(t.nbytes for v in model.graph.initializers.values() if (t := v.const_value) is not None)
    if weights > EXTERNAL_ABOVE:
        ir.save(model, out, external_data=f"{out.name}.data")
    else:
        ir.external_data.load_to_model(model)
        ir.save(model, out)


def _bring_attributes(model: ir.Model, folder: Path) -> None:
    """Load tensors of attributes and of nested graphs that still point into the original file."""
    import onnx_ir as ir

    def own(tensor: Any) -> Any:
        if not isinstance(tensor, ir.ExternalTensor):
            return tensor
        tensor.base_dir = folder
        return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)

    for graph in model.graphs():
        if graph is not model.graph:
            for value in graph.initializers.values():
                value.const_value = own(value.const_value)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR:
                    tensor = attribute.as_tensor()
                    if isinstance(tensor, ir.ExternalTensor):
                        node.attributes[name] = ir.AttrTensor(name, own(tensor))


class Casting:
    """One pass over the graph in its order. For each FP32 value it knows a low and a high version."""

    def __init__(self, model: ir.Model, low: ir.DataType, reporter: Reporter, lists: Lists | None = None) -> None:
        import onnx_ir as ir

        self.ir = ir
        self.lists = lists or Lists()
        self.model = model
        self.low = low
        self.high = ir.DataType.FLOAT
        self.reporter = reporter
        self.casts = 0
        self.kept: dict[str, int] = {}
        self.clipped: list[str] = []
        self._versions: dict[tuple[int, ir.DataType], ir.Value] = {}
        self._exact: dict[int, Any] = {}
        self._names = {v.name for g in model.graphs() for n in g for v in n.outputs if v.name}
        self._names |= {name for g in model.graphs() for name in g.initializers}
        self._names |= {v.name for g in model.graphs() for v in g.inputs if v.name}
        self._node_names = {n.name for g in model.graphs() for n in g if n.name}
        self._suffix = "fp16" if low == ir.DataType.FLOAT16 else "bf16"

    def run(self) -> None:
        """Convert the whole model."""
        graph = self.model.graph
        outputs = list(graph.outputs)
        nodes = list(graph)
        if not self.lists.keep_io:
            for value in graph.inputs:
                if value.dtype == self.high:
                    value.dtype = self.low
        for i, node in enumerate(nodes):
            self._node(node)
            self.reporter.progress("Converting", i + 1, len(nodes))
        for place, value in enumerate(outputs):
            if value.dtype == (self.low if self.lists.keep_io else self.high):
                self._restore_output(place, value)
        self._drop_unused()

    # --- nodes --------------------------------------------------------------------------------------

    def _node(self, node: ir.Node) -> None:
        if any(a.type in (self.ir.AttributeType.GRAPH, self.ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            self._keep_high(node)
            return
        if not self.lists.admits(node.name or "", node.op_type):
            self._keep_high(node)
            return
        variables = self._low_variables(node)
        floats = [v for v in (*node.inputs, *node.outputs) if v is not None and self._is_float(v)]
        if not floats:
            return
        if variables is None:
            self._keep_high(node)
            return
        inputs, outputs = variables
        if not any(outputs) and not any(inputs):
            self._keep_high(node)
            return
        for i, value in enumerate(node.inputs):
            if value is not None and self._is_float(value):
                node.replace_input_with(i, self._version(value, self.low if inputs[i] else self.high, node))
        self._attributes(node)
        for i, value in enumerate(node.outputs):
            if outputs[i] and value.dtype in (self.high, None):
                if value.dtype is None and not any(inputs):
                    continue
                value.dtype = self.low

    def _keep_high(self, node: ir.Node) -> None:
        """Leave the node in FP32, and what its bodies read as well."""
        touched = False
        for i, value in enumerate(node.inputs):
            if value is not None and self._is_float(value):
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
                        outer = value is not None and value.graph is self.model.graph
                        if outer and value is not None and value.dtype == self.low:
                            inner.replace_input_with(i, self._version(value, self.high, node))
        if touched or any(v.dtype == self.high for v in node.outputs):
            self.kept[node.op_type] = self.kept.get(node.op_type, 0) + 1

    def _low_variables(self, node: ir.Node) -> tuple[list[bool], list[bool]] | None:
        """For each input and output: may it have the low type? None where the operation is not ONNX's."""
        import onnx

        version = self.model.graph.opset_imports.get(node.domain, 1)
        try:
            schema = onnx.defs.get_schema(node.op_type, version, node.domain or "")
        except onnx.defs.SchemaError:
            return None
        wanted = f"tensor({'float16' if self.low == self.ir.DataType.FLOAT16 else 'bfloat16'})"
        allowed = {c.type_param_str: wanted in c.allowed_type_strs for c in schema.type_constraints}

        def of(formal: Any, count: int) -> list[bool]:
            out = []
            for i in range(count):
                parameter = formal[min(i, len(formal) - 1)]
                out.append(allowed.get(parameter.type_str, parameter.type_str == wanted))
            return out

        return of(schema.inputs, len(node.inputs)), of(schema.outputs, len(node.outputs))

    def _attributes(self, node: ir.Node) -> None:
        """Types and values that are written into the node itself."""
        ir = self.ir
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == self.high:
                if node.op_type == "Constant":
                    self._exact[id(node.outputs[0])] = attribute.as_tensor()
                node.attributes[name] = ir.AttrTensor(name, self._convert(attribute.as_tensor(), node.name or name))
            elif attribute.type == ir.AttributeType.INT and name in {"to", "dtype", "output_dtype"}:
                if attribute.as_int() == int(self.high):
                    node.attributes[name] = ir.AttrInt64(name, int(self.low))
            elif node.op_type == "Constant" and name in {"value_float", "value_floats"}:
                import numpy as np

                value = np.array(attribute.value, dtype=np.float32)
                del node.attributes[name]
                tensor = ir.tensor(value, name=name)
                self._exact[id(node.outputs[0])] = ir.tensor(value, name=name)
                node.attributes["value"] = ir.AttrTensor("value", self._convert(tensor, node.name or name))

    # --- values -------------------------------------------------------------------------------------

    def _is_float(self, value: ir.Value) -> bool:
        return value.dtype in (self.high, self.low)

    def _version(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        """`value` in `dtype`: itself, a converted constant, or a cast put right after its producer."""
        if value.dtype == dtype:
            return value
        key = (id(value), dtype)
        if key in self._versions:
            return self._versions[key]
        ir, graph = self.ir, self.model.graph
        if dtype == self.high and id(value) in self._exact:
            # Written into the node that makes it: take the number itself, not one that was rounded.
            tensor = self._exact[id(value)]
            name = self._free(f"{value.name}_fp32")
            made = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype), const_value=tensor)
            tensor.name = name
            graph.register_initializer(made)
        elif value.const_value is not None and value.is_initializer():
            name = self._free(f"{value.name}_{self._suffix}")
            made = ir.Value(
                name=name,
                shape=value.shape,
                type=ir.TensorType(dtype),
                const_value=self._convert(value.const_value, name),
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

    def _restore_output(self, place: int, value: ir.Value) -> None:
        """Give a model output the type that it shall have (its own, or without `keep_io` the low one), and its name."""
        ir, graph = self.ir, self.model.graph
        was, now = (self._suffix, "fp32") if self.lists.keep_io else ("fp32", self._suffix)
        wanted = self.high if self.lists.keep_io else self.low
        name = value.name
        value.name = self._free(f"{name}_{was}")
        title = self._free(f"{name}_to_{now}", self._node_names)
        node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(wanted))], name=title)
        made = node.outputs[0]
        made.name, made.dtype, made.shape = name, wanted, value.shape
        graph.append(node)
        graph.outputs[place] = made
        self.casts += 1

    def _convert(self, tensor: Any, name: str) -> Any:
        """The tensor in the low type, computed when it is saved; what is out of range is clipped and noted."""
        import ml_dtypes
        import numpy as np

        ir = self.ir
        if self.low == ir.DataType.FLOAT16:
            kind: Any = np.float16
            limit = float(np.finfo(np.float16).max)
        else:
            kind = ml_dtypes.bfloat16
            limit = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)

        def make() -> Any:
            values = tensor.numpy().astype(np.float32, copy=False)
            # An infinity is meant; a finite number beyond the range is not, and would become one.
            if values.size and bool((np.isfinite(values) & (np.abs(values) > limit)).any()):
                if name not in self.clipped:
                    self.clipped.append(name)
                values = np.where(np.isfinite(values), np.clip(values, -limit, limit), values)
            return ir.tensor(values.astype(kind), dtype=self.low, name=name)

        return ir.LazyTensor(make, dtype=self.low, shape=tensor.shape, name=name)

    def _drop_unused(self) -> None:
        graph = self.model.graph
        outputs = {id(v) for v in graph.outputs}
        for name, value in list(graph.initializers.items()):
            if not value.uses() and id(value) not in outputs:
                del graph.initializers[name]
