"""Rules that decide which nodes of a graph must stay in FP32 when the rest is cast to FP16 or BF16.

FP16 has 11 significant bits and a maximum of 65504; BF16 has 8 bits. Most of a network tolerates that. These rules find
the exceptions before anything is cast, without data. Long because the rules share what they find out about a graph:

- **Positions.** Integers above 2,048 (256 in BF16) are rounded. Everything that is computed only from integers and
  constants stays in FP32, up to a bounded function (sine, cosine, a comparison); so does an addition of
  such numbers that feeds a softmax or a comparison.
- **Phases.** The error of a sine's argument is absolute: arithmetic directly before a sine or cosine stays in FP32.
- **Squares and sums.** A sum of squares (a variance, a norm), a long sum, and the nodes up to the division by it.
- **Exponentials and logarithms** that are written out: softplus, log of a softmax, log-sum-exp.
- **Constants** that the type changes by more than `CHANGED` (`EPSILON`): an epsilon of 1e-12 becomes 0, a scale of 1e-9 too, and
  1e6 is beyond FP16. The nodes that read them, and the divisions after them, stay in FP32, and a warning lists the
  constants.
- **Decisions on inputs.** Comparisons, ArgMax, TopK, and rounding of a model's FP32 inputs stay in FP32.

Large negative constants before a softmax or a maximum are masks: their size has no meaning, so they are clipped to the
type's range and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.passes.constants import constant, has_body, is_tensor, low_limit

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

CHANGED = 0.01
"""A constant is changed if the type moves it by more than this share (of its norm, for a tensor)."""

EPSILON = 0.05
"""The same for a single number that is added, or that is a bound: an epsilon must be small, not exact."""

LONG = 512
"""A sum over at least this many elements is long; so is a sum of unknown length."""

LARGE = 16_384
"""Tensors with more elements are weights: only their largest magnitude is checked, if that is enough."""

MOVES = frozenset({
    "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile", "Slice", "Gather",
    "GatherElements", "GatherND", "Concat", "Split", "Pad", "Trilu",
})  # fmt: skip
"""Operations that only move values."""

POINTWISE = frozenset({
    "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Pow", "Sqrt", "Reciprocal", "Exp", "Log", "Max", "Min", "Clip", "Mod",
    "Floor", "Ceil", "Round", "Where", "Cast", "Sum",
})  # fmt: skip
"""Arithmetic that the rules follow."""

BOUNDED = frozenset({
    "Sin", "Cos", "Tan", "Tanh", "Sigmoid", "HardSigmoid", "Softmax", "LogSoftmax", "Erf", "Sign", "Atan", "Asin", "Acos",
    "LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization",
})  # fmt: skip
"""Operations whose result is small, or normalized: errors are relative from there on."""

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})

DECISIONS = frozenset({
    "ArgMax", "ArgMin", "TopK", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "NonZero", "Floor", "Ceil",
    "Round", "Mod", "Unique", "NonMaxSuppression",
})  # fmt: skip
"""Operations whose result jumps where their input crosses a limit."""

SUMS = frozenset({"ReduceSum", "ReduceL1", "CumSum"})
SQUARES = frozenset({"ReduceSumSquare", "ReduceL2", "LpNormalization", "GlobalLpPool", "LpPool"})
PRODUCTS_OF_ALL = frozenset({"ReduceProd", "ReduceLogSum", "ReduceLogSumExp"})

SOFT = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
MASKED = SOFT | {"ReduceMax", "ReduceLogSumExp", "ArgMax", "TopK", "MaxPool", "GlobalMaxPool", "Sigmoid"}
"""Operations for which a very negative value has no effect."""

EXACT_INTEGERS = frozenset({"BOOL", "INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2"})
"""Integers up to this are exact in both low types."""

REASONS = {
    "positions": "computed from whole numbers (positions), which the type rounds",
    "phase": "the argument of a sine or cosine, whose error is absolute",
    "squares": "a sum of squares, and what it divides",
    "sums": "a long sum, and what it divides",
    "exp": "an exponential or a logarithm that is written out",
    "constants": "reads a constant that the type changes by more than 1 percent (5 for an epsilon)",
    "decision": "decides on the model's own FP32 inputs",
    "upcast": "was brought to FP32 on purpose, by a Cast in the model",
}
"""Why a node stays in FP32, by rule."""


@dataclass(frozen=True)
class Changed:
    """A constant that the low type would change by more than `CHANGED`, or `EPSILON`.

    Attributes:
        constant: Its name.
        node: A node that reads it.
        op: That node's operation.
        value: The number; for a tensor, the number with the largest magnitude.
        becomes: The value in the low type; infinite if it is beyond the range.
        size: Its number of elements.
    """

    constant: str
    node: str
    op: str
    value: float
    becomes: float
    size: int = 1

    @property
    def text(self) -> str:
        """A description for people."""
        what = f"{self.value:.4g}" if self.size == 1 else f"up to {self.value:.4g}"
        return f"{self.constant} ({what}, would be {self.becomes:.4g}) in {self.op} {self.node}"


class Guard:
    """Applies the rules to the main graph of `model`, without changing it.

    Args:
        model: In FP32, with types inferred.
        low: FLOAT16 or BFLOAT16.
        free: Whether a node may be kept in FP32; not if the user named it as a node to cast.

    Attributes:
        kept: For each node (by ``id``) that stays in FP32, a key of `REASONS`.
        changed: Constants that the type would change.
        limits: For a constant (by ``id``) and a node that reads it (by ``id``), the magnitude to which the constant is
            clipped, in any type that the node runs in: masks and bounds.
    """

    def __init__(self, model: ir.Model, low: ir.DataType, free: Callable[[ir.Node], bool] | None = None) -> None:
        import onnx_ir as ir

        self.ir = ir
        self.graph = model.graph
        self.low = low
        self.kind, self.largest = low_limit(low)
        self.half = low == ir.DataType.FLOAT16
        self.kept: dict[int, str] = {}
        self.changed: list[Changed] = []
        self.limits: dict[tuple[int, int], float] = {}
        self._free = free or (lambda _node: True)
        self._whole: set[int] = set()
        self._moved: set[tuple[int, int]] = set()
        self._masks_known: dict[tuple[int, int], bool] = {}
        self._seen: set[tuple[int, bool, bool]] = set()
        self._norms: dict[int, tuple[Any, tuple[float, float, float, float] | None]] = {}
        self.nodes = [n for n in self.graph if n.domain in {"", "ai.onnx"}]
        self._masks()
        self._upcasts()
        self._positions()
        self._phases()
        self._reductions()
        if self.half:
            self._exponentials()
        self._constants()
        self._decisions()

    # --- helpers --------------------------------------------------------------------------------------

    def _float(self, value: ir.Value | None) -> bool:
        return is_tensor(value, self.ir.DataType.FLOAT)

    def _keep(self, node: ir.Node, reason: str) -> bool:
        """Mark a node, and return whether it is new."""
        if id(node) in self.kept or not self._free(node):
            return False
        self.kept[id(node)] = reason
        return True

    def _readers(self, value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
        for node, place in value.uses():
            if node.graph is self.graph and node.domain in {"", "ai.onnx"}:
                yield node, place

    def _computed(self, node: ir.Node, but: ir.Value | None = None) -> list[ir.Value]:
        """The floating-point inputs that are neither constants nor `but`."""
        return [v for v in node.inputs if v is not None and v is not but and self._float(v) and constant(v) is None]

    def _follow(self, value: ir.Value, reason: str, joins: Collection[str]) -> None:
        """Keep nodes that compute from `value` and constants alone, and the first of `joins` with another value."""
        seen: set[int] = set()
        values = [value]
        for _ in range(12):
            ahead = []
            for each in values:
                for node, _place in self._readers(each):
                    if id(node) in seen:
                        continue
                    seen.add(id(node))
                    op, others = node.op_type, self._computed(node, each)
                    if others and op in joins:
                        self._keep(node, reason)
                    elif not others and op in POINTWISE | MOVES | BOUNDED and self._float(node.outputs[0]):
                        self._keep(node, reason)
                        if op not in BOUNDED and op != "Log":
                            ahead.append(node.outputs[0])
            values = ahead

    def _back(self, value: ir.Value | None, reason: str, through: Collection[str], steps: int) -> None:
        """Keep the nodes that compute `value`, back through operations of `through`."""
        seen: set[int] = set()
        values = [value]
        for _ in range(steps):
            behind: list[ir.Value | None] = []
            for each in values:
                node = each.producer() if each is not None else None
                if node is None or id(node) in seen or node.graph is not self.graph:
                    continue
                seen.add(id(node))
                if node.op_type not in through and not ("Einsum" in through and self._outer(node)):
                    continue
                if node.op_type == "Cast" and not self._float(node.inputs[0]):
                    continue  # from integers: the rule of positions applies
                self._keep(node, reason)
                behind += [v for v in node.inputs if self._float(v)]
            values = behind

    # --- rules ----------------------------------------------------------------------------------------

    def _masks(self) -> None:
        """Very negative constants before a softmax or a maximum, and bounds that have no effect."""
        for node in self.nodes:
            op = node.op_type
            if op in MASKED and node.inputs:
                self._mask(node.inputs[0], node, added=False, scaled=False, left=16)
            elif op == "Attention" and len(node.inputs) > 3:
                self._mask(node.inputs[3], node, added=True, scaled=False, left=16)
            elif op in {"Clip", "Max", "Min"}:
                for place, value in enumerate(node.inputs):
                    low = op == "Max" or (op == "Clip" and place == 1)
                    if (op != "Clip" or place) and self._beyond(value, negative=low, positive=not low):
                        self.limits[id(value), id(node)] = self.largest

    def _mask(self, value: ir.Value | None, reader: ir.Node, *, added: bool, scaled: bool, left: int) -> None:
        if value is None or not left:
            return
        if constant(value) is not None:
            if self._beyond(value, negative=True, positive=scaled):
                # Half of the range if it is added: the sum with a score must stay inside the range.
                self.limits[id(value), id(reader)] = self.largest / 2 if added else self.largest
            return
        node = value.producer()
        if node is None or node.graph is not self.graph or (id(value), added, scaled) in self._seen:
            return
        if value.is_graph_output():
            return  # its size has a meaning
        self._seen.add((id(value), added, scaled))
        op = node.op_type
        if op == "ConstantOfShape":
            if "value" in node.attributes and self._large(node.attributes["value"].as_tensor(), True, scaled):
                self.limits[id(value), id(node)] = self.largest / 2 if added else self.largest
        elif op in {"Add", "Sub"}:
            for place, each in enumerate(node.inputs):
                self._mask(each, node, added=True, scaled=scaled or (op == "Sub" and place == 1), left=left - 1)
        elif op in {"Mul", "Div", "Neg"}:
            for each in node.inputs[: 1 if op == "Div" else None]:
                self._mask(each, node, added=added, scaled=True, left=left - 1)
        elif op in MOVES or op in {"Where", "Cast", "Clip", "Max", "Min", "ScatterND", "ScatterElements", "CastLike"}:
            for each in node.inputs:
                if self._float(each):
                    self._mask(each, node, added=added, scaled=scaled, left=left - 1)

    def _beyond(self, value: ir.Value | None, *, negative: bool, positive: bool) -> bool:
        tensor = constant(value)
        return tensor is not None and self._float(value) and self._large(tensor, negative, positive)

    def _large(self, tensor: Any, negative: bool, positive: bool) -> bool:
        """Whether a tensor holds finite numbers beyond the type, all with one of the given signs."""
        import numpy as np

        if tensor.dtype != self.ir.DataType.FLOAT:
            return False
        values = tensor.numpy()
        beyond = values[np.isfinite(values) & (np.abs(values) > self.largest)]
        return bool(beyond.size) and bool((((beyond < 0) & negative) | ((beyond > 0) & positive)).all())

    def _upcasts(self) -> None:
        """FP32 islands in a model that is already in FP16 or BF16: they are intended."""
        low = {self.ir.DataType.FLOAT16, self.ir.DataType.BFLOAT16}
        island: set[int] = set()
        for node in self.nodes:
            raised = node.op_type == "Cast" and node.inputs[0] is not None and node.inputs[0].dtype in low
            if raised or any(v is not None and id(v) in island for v in node.inputs):
                made = [v for v in node.outputs if self._float(v)]
                island.update(id(v) for v in made)
                if made or not raised:
                    self._keep(node, "upcast")

    def _positions(self) -> None:
        """Values computed only from integers and constants, and their sums that a softmax or a decision reads."""
        whole = self._whole
        for node in self.nodes:
            op = node.op_type
            if op == "Cast":
                source = node.inputs[0]
                seed = source is not None and source.dtype is not None and source.dtype.is_integer()
                if (
                    seed
                    and source is not None
                    and source.dtype.name not in EXACT_INTEGERS
                    and self._float(node.outputs[0])
                ):
                    whole.add(id(node.outputs[0]))
                    self._keep(node, "positions")
                    continue
            if op == "Range" and self._float(node.outputs[0]):
                whole.add(id(node.outputs[0]))
                continue  # ONNX defines it only in FP32
            floats = [v for v in node.inputs if self._float(v)]
            if not any(id(v) in whole for v in floats) or has_body(node):
                continue
            if any(id(v) not in whole and constant(v) is None for v in floats):
                self._joined(node)
                continue
            if op in PRODUCTS and not self._outer(node):
                continue  # a layer: relative errors from here on
            self._keep(node, "positions")
            if op not in BOUNDED:
                whole.update(id(v) for v in node.outputs if self._float(v))

    def _outer(self, node: ir.Node) -> bool:
        """Whether a node is a product that sums over a single element: positions times frequencies."""
        if node.op_type != "MatMul":
            return False
        left, right = node.inputs[0], node.inputs[1]
        if left is None or right is None:
            return False
        if right.shape is not None and len(right.shape) >= 2 and right.shape[-2] == 1:
            return True
        return left.shape is not None and len(left.shape) >= 2 and left.shape[-1] == 1

    def _joined(self, node: ir.Node) -> None:
        """An addition of positions to computed values whose result a softmax, a sine, or a decision reads."""
        if node.op_type not in {"Add", "Sub", "Sum", "Mul"} or all(
            self._masking(v) for v in node.inputs if v is not None and id(v) in self._whole
        ):
            return
        for each in self._path(node):
            self._keep(each, "positions")

    def _path(self, start: ir.Node) -> list[ir.Node]:
        """The nodes from `start` to a softmax, a sine, or a decision, through arithmetic; empty if there is no such path."""
        came: dict[int, ir.Node | None] = {id(start): None}
        ends: list[ir.Node] = []
        nodes = [start]
        for _ in range(9):
            ahead: list[ir.Node] = []
            for node in nodes:
                for reader, _place in self._readers(node.outputs[0]):
                    if id(reader) in came:
                        continue
                    end = reader.op_type in SOFT | DECISIONS or reader.op_type in {"Sin", "Cos"}
                    if end or reader.op_type in POINTWISE or reader.op_type in MOVES:
                        came[id(reader)] = node
                        (ends if end else ahead).append(reader)
            nodes = ahead
        path: dict[int, ir.Node] = {}
        for end_ in ends:
            step: ir.Node | None = end_
            while step is not None and id(step) not in path:
                path[id(step)] = step
                step = came[id(step)]
        return list(path.values())

    def _masking(self, value: ir.Value, left: int = 8) -> bool:
        """Whether a value is a mask: 0, or so negative that its size has no meaning."""
        key = id(value), left
        if key not in self._masks_known:
            self._masks_known[key] = self._is_mask(value, left)
        return self._masks_known[key]

    def _is_mask(self, value: ir.Value, left: int) -> bool:
        import numpy as np

        tensor = constant(value)
        if tensor is not None:
            values = tensor.numpy()
            return bool(((values == 0) | (values <= -1e3)).all())
        node = value.producer()
        if node is None or not left:
            return False
        if node.op_type in {"Mul", "Div"}:
            held = [t.numpy() for v in node.inputs if (t := constant(v)) is not None]
            return any(t.dtype.kind == "f" and t.size and float(np.abs(t).min()) >= 1e3 for t in held)
        if node.op_type in {"Add", "Max", "Min"}:
            return all(self._masking(v, left - 1) for v in node.inputs if v is not None)
        if node.op_type in MOVES or node.op_type in {"Where", "Cast"}:
            floats = [v for v in node.inputs if v is not None and self._float(v)]
            return bool(floats) and all(self._masking(v, left - 1) for v in floats)
        return False

    def _phases(self) -> None:
        """Sines and cosines, and the arithmetic directly before them."""
        for node in self.nodes:
            if node.op_type in {"Sin", "Cos", "Tan"} and self._float(node.inputs[0]):
                self._keep(node, "phase")
                self._back(node.inputs[0], "phase", POINTWISE | MOVES | {"Einsum"}, 6)

    def _reductions(self) -> None:
        """Sums of squares and long sums, with the root and the division after them."""
        for node in self.nodes:
            op = node.op_type
            if not node.inputs or not self._float(node.inputs[0]) or not self._float(node.outputs[0]):
                continue
            value = node.inputs[0]
            square = value.producer() if value is not None else None
            if op in SQUARES or (op in {"ReduceMean", "ReduceSum", "GlobalAveragePool"} and self._squares(square)):
                self._keep(node, "squares")
                base = value
                if op not in SQUARES and square is not None:
                    self._keep(square, "squares")
                    base = square.inputs[0]
                self._back(base, "squares", {"Sub"}, 1)
                center = base.producer() if base is not None else None
                if center is not None and center.op_type == "Sub":
                    self._back(center.inputs[1], "squares", {"ReduceMean"}, 1)
                self._variance(node.outputs[0])
                self._follow(node.outputs[0], "squares", {"Div", "Mul"})
            elif (op in SUMS and self.half and self._long(node)) or op == "CumSum" or op in PRODUCTS_OF_ALL:
                self._keep(node, "sums")
                self._follow(node.outputs[0], "sums", {"Div"})

    def _squares(self, node: ir.Node | None) -> bool:
        if node is None or node.graph is not self.graph:
            return False
        if node.op_type == "Mul":
            return node.inputs[0] is node.inputs[1]
        if node.op_type != "Pow" or (power := constant(node.inputs[1])) is None or power.size != 1:
            return False
        return float(power.numpy().reshape(-1)[0]) >= 2

    def _variance(self, value: ir.Value) -> None:
        """A mean of squares minus the square of a mean: both, and the difference."""
        for reader, _ in self._readers(value):
            if reader.op_type == "Sub" and self._computed(reader, value):
                self._keep(reader, "squares")
                for other in self._computed(reader, value):
                    self._back(other, "squares", {"Mul", "Pow", "ReduceMean"}, 2)
                self._follow(reader.outputs[0], "squares", {"Div", "Mul"})

    def _long(self, node: ir.Node) -> bool:
        """Whether a reduction sums `LONG` elements or more; True if that is not known."""
        value = node.inputs[0]
        shape = value.shape if value is not None else None
        if shape is None:
            return True
        axes: Any = None
        if "axes" in node.attributes:
            axes = list(node.attributes["axes"].value)
        elif len(node.inputs) > 1 and node.inputs[1] is not None:
            held = constant(node.inputs[1])
            if held is None:
                return True
            axes = [int(a) for a in held.numpy().reshape(-1)]
        rank = len(shape)
        sizes = [shape[a] for a in (range(rank) if not axes else (a % rank for a in axes))] if rank else []
        total = 1
        for size in sizes:
            if not isinstance(size, int):
                return True
            total *= size
        return total >= LONG

    def _exponentials(self) -> None:
        """Exponentials with the nodes that sum or divide them, and logarithms with the nodes that compute their argument."""
        for node in self.nodes:
            if node.op_type == "Exp" and self._float(node.inputs[0]):
                self._keep(node, "exp")
                self._follow(node.outputs[0], "exp", {"Div"})
                for reader, _ in self._readers(node.outputs[0]):
                    if reader.op_type in {"ReduceSum", "ReduceMean"}:
                        self._keep(reader, "exp")
                        self._follow(reader.outputs[0], "exp", {"Div"})
            elif node.op_type == "Log" and self._float(node.inputs[0]):
                self._keep(node, "exp")
                self._back(
                    node.inputs[0], "exp", POINTWISE | MOVES | {"Softmax", "Sigmoid", "ReduceSum", "ReduceMean"}, 6
                )

    def _constants(self) -> None:
        for node in self.nodes:
            for place, value in enumerate(node.inputs):
                if value is not None and self._float(value) and constant(value) is not None:
                    self._constant(value, constant(value), node, place)
            if node.op_type == "ConstantOfShape" and "value" in node.attributes and self._float(node.outputs[0]):
                made, tensor = node.outputs[0], node.attributes["value"].as_tensor()
                if (id(made), id(node)) not in self.limits:
                    for reader, where in list(self._readers(made)):
                        if self._constant(made, tensor, reader, where):
                            self._keep(node, "constants")

    def _constant(self, value: ir.Value, tensor: Any, node: ir.Node, place: int, left: int = 16) -> bool:
        """Keep a node, and the nodes after it, if the type changes a constant that it reads; return whether it does."""
        if (id(value), id(node)) in self.limits or not self._takes_low(node, place):
            return False
        op = node.op_type
        found = self._measured(tensor)
        if found is None:
            return False
        off, worst, top, becomes = found
        divides = (op in {"Div", "QuantizeLinear", "DequantizeLinear", "Pow"} and place == 1) or op == "Reciprocal"
        if op == "BatchNormalization" and place == 4:
            changed = becomes == float("inf")  # its own epsilon is added before the root
        else:
            small = tensor.size == 1 and op in {"Add", "Sub", "Max", "Min", "Clip"}
            changed = off > (EPSILON if small else CHANGED) or (divides and worst > CHANGED)
        infinite = becomes in (float("inf"), float("-inf"))
        if not changed or (not infinite and self._minor(node, place, tensor)):
            return False
        if op in MOVES:  # the constant is read after it
            if not left or (id(tensor), id(node)) in self._moved:
                return False
            self._moved.add((id(tensor), id(node)))
            uses = [(out, *use) for out in node.outputs for use in self._readers(out)]
            moved = [self._constant(out, tensor, reader, where, left - 1) for out, reader, where in uses]
            if any(moved):
                self._keep(node, "constants")
            return any(moved)
        self._keep(node, "constants")
        if id(node) not in self.kept:
            return False  # the user named it as a node to cast
        self._follow(node.outputs[0], "constants", {"Div", "Mul"} if op != "Mul" else {"Div"})
        name = str(value.name)
        if not any(c.constant == name and c.node == (node.name or "") for c in self.changed):
            self.changed.append(Changed(name, node.name or "", op, top, becomes, int(tensor.size)))
        return True

    def _takes_low(self, node: ir.Node, place: int) -> bool:
        """Whether an input of the node may have the low type: an input that is always FP32 changes no constant."""
        import onnx

        version = self.graph.opset_imports.get("", 1)
        try:
            schema = onnx.defs.get_schema(node.op_type, version, "")
        except onnx.defs.SchemaError:
            return False
        wanted = "tensor(float16)" if self.half else "tensor(bfloat16)"
        formal = schema.inputs[min(place, len(schema.inputs) - 1)].type_str
        return any(c.type_param_str == formal and wanted in c.allowed_type_strs for c in schema.type_constraints)

    def _minor(self, node: ir.Node, place: int, tensor: Any) -> bool:
        """Whether a constant that becomes 0 is a bias: negligible compared to the values of a layer."""
        if node.op_type in PRODUCTS or node.op_type in BOUNDED:
            return place >= 2
        if node.op_type != "Add" or tensor.size == 1:
            return False
        other = node.inputs[1 - place]
        maker = other.producer() if other is not None else None
        return maker is not None and maker.op_type in PRODUCTS

    def _measured(self, tensor: Any) -> tuple[float, float, float, float] | None:
        """Relative change of the norm and of the worst element, the element of largest magnitude, and its new value."""
        import numpy as np

        if id(tensor) not in self._norms:
            self._norms[id(tensor)] = tensor, self._change(np.asarray(tensor.numpy()))
        return self._norms[id(tensor)][1]

    def fits(self, tensor: Any) -> bool:
        """Whether a tensor was checked and holds no finite number beyond the type."""
        return self._norms.get(id(tensor), (None, (0.0,)))[1] is None

    def _change(self, values: np.ndarray) -> tuple[float, float, float, float] | None:
        import numpy as np

        values = values.reshape(-1)
        if not values.size:
            return None
        if values.size > LARGE:
            ends = float(values.max()), float(values.min())
            amax = max(abs(e) for e in ends)
            # A sum of squares of n numbers, each off by at most half of the smallest step, is small compared to amax.
            step = 2.0**-25 if self.half else 1e-40
            if amax <= self.largest and (amax == 0.0 or amax >= step * values.size**0.5 / CHANGED):
                return None
        wide = values.astype(np.float64)
        wide = wide[np.isfinite(wide) & (wide != 0)]
        if not wide.size:
            return None
        with np.errstate(over="ignore"):
            low = wide.astype(np.float32).astype(self.kind).astype(np.float64)
        size, off = np.abs(wide), np.abs(low - wide)
        top = int(size.argmax())
        change = float(np.linalg.norm(off / size[top]) / np.linalg.norm(size / size[top]))
        return change, float((off / size).max()), float(wide[top]), float(low[top])

    def _decisions(self) -> None:
        """Comparisons, ArgMax, and rounding of the model's inputs, with the arithmetic in between."""
        for node in self.nodes:
            cast_down = node.op_type == "Cast" and not any(self._float(v) for v in node.outputs)
            if (node.op_type in DECISIONS or cast_down) and any(self._float(v) for v in node.inputs):
                cone: list[ir.Node] = [node]
                given = all(self._given(v, cone, 4) for v in node.inputs if v is not None and self._float(v))
                if given and any(v is not None and v.is_graph_input() for each in cone for v in each.inputs):
                    for each in cone:
                        self._keep(each, "decision")

    def _given(self, value: ir.Value, cone: list[ir.Node], left: int) -> bool:
        """Whether a value is an input of the model, a constant, or computed from these by a few nodes, added to `cone`."""
        node = value.producer()
        if constant(value) is not None or node is None:
            return True
        if any(each is node for each in cone):
            return True
        if (
            not left or len(cone) > 32 or node.graph is not self.graph
            or (node.op_type not in POINTWISE and node.op_type not in MOVES)
        ):  # fmt: skip
            return id(node) in self.kept
        cone.append(node)
        return all(self._given(v, cone, left - 1) for v in node.inputs if v is not None and self._float(v))
