"""Inserts Q/DQ pairs into a graph: for which nodes, where, and with which scales.

The placement is for TensorRT: symmetric, zero point 0, on the **inputs** of convolutions and matrix products
and nowhere else. So no pair separates a convolution from its activation, and no value is quantized
twice. One pair serves all readers of a tensor, including a residual addition after a convolution. Weights
are stored quantized; biases do not change.

The result lists each node that is not quantized, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from workbench.core.errors import CalibrationError
from workbench.passes.constants import constant
from workbench.passes.fold import folded, makers
from workbench.passes.ir import free_name
from workbench.passes.qdq_choice import CONVOLUTIONS, Choices
from workbench.passes.qdq_values import LIMIT, largest_of, quantize_array, round_to, scale_of, weights_of

if TYPE_CHECKING:
    import onnx_ir as ir


LARGEST = 3.4028234663852886e38
"""The largest finite number in FP32."""


OPSET = {"int8": 13, "fp8": 19, "int4": 21}
"""First opset of ONNX whose Q/DQ operators take the type."""

REST_OPSET = {"fp32": 13, "fp16": 19, "bf16": 22}
"""First opset whose Q/DQ operators take scales of the rest's type, and whose convolutions take that type."""


def needed_opset(to: str, rest: str) -> int:
    """The lowest opset that can express the scheme."""
    return max(OPSET[to], REST_OPSET[rest])


class Insertion:
    """Writes the Q/DQ pairs of `choices` into `model`.

    Args:
        model: In FP32; changed in place.
        choices: From `choose`.
        amax: For each activation, the largest magnitude of its range.
        to: int8, fp8 or int4.
        rest: Precision of the scales: the precision that the rest of the graph will have.
        weights: "channel", a scale for each output channel of a weight; "tensor", one scale for all;
            "channel-after", like "channel", but an operation of the graph multiplies by the channels' factors after
            the node, in cases where TensorRT only computes that correctly (see `_behind`).
        residual: Whether an addition after a convolution reads its other branch as quantized, if another
            reader needs it quantized anyway. (In transformers, measurements showed that this costs accuracy and
            saves few bytes, so it is not done there.)
        block: For INT4: how many weights share a scale.
    """

    def __init__(
        self, model: ir.Model, choices: Choices, amax: Mapping[str, float], *, to: str, rest: str = "fp16",
        weights: str = "channel",
        residual: bool = False, block: int = 128,
    ) -> None:  # fmt: skip
        import onnx_ir as ir

        given: Mapping[str, Any] = amax  # the ranges may come from a file
        for name, end in given.items():
            if isinstance(end, bool) or not isinstance(end, Real) or not 0 <= float(end) <= LARGEST:
                raise CalibrationError(
                    f"The range of {name} ends at {end!r:.60}: no scale can be computed from that.",
                    hint="Calibrate again.",
                    details={"tensor": name},
                    code="calibration-range",
                )
        self.ir = ir
        self.model, self.graph = model, model.graph
        self.choices, self.amax = choices, amax
        self.to, self.rest, self.block = to, rest, block
        self.weights, self.residual = weights, residual
        self.dtype = {"int8": ir.DataType.INT8, "fp8": ir.DataType.FLOAT8E4M3FN, "int4": ir.DataType.INT4}[to]
        self._names = {v.name for n in self.graph for v in n.outputs if v.name} | set(self.graph.initializers)
        self._names |= {v.name for v in self.graph.inputs if v.name} | {n.name for n in self.graph if n.name}
        self._pairs: dict[str, ir.Value] = {}
        self._weights: dict[tuple[str, int], ir.Value] = {}
        self._scaled: dict[tuple[str, int, float, tuple[int, ...]], tuple[ir.Value, ir.Value]] = {}
        self._zeros: ir.Value | None = None
        self.again: dict[str, dict[str, Any]] = {}
        """For each node whose weight was computed from constants: ``weight`` (how), ``bytes`` (of the quantized copy), and
        ``shared`` (the constants that other nodes still read, so that the copy needs additional memory)."""
        self._reach = self._reaches()

    def run(self) -> None:
        """Insert all pairs."""
        nodes = {node.name: node for node in self.graph}
        chains: set[int] = set()
        for choice in self.choices.taken:
            node = nodes[choice.node]
            data, weight = node.inputs[0], node.inputs[1]
            assert data is not None
            assert weight is not None
            chain = makers(weight)
            chains.update(id(maker) for maker in chain)
            if choice.node in self.choices.folded:
                sources = {str(v.name) for maker in chain for v in maker.inputs if v is not None and v.is_initializer()}
                stored = folded(weight).size * (4 if self.to == "int4" else 8) // 8
                self.again[choice.node] = {
                    "weight": self.choices.folded[choice.node],
                    "bytes": stored,
                    "sources": sources,
                }
            if choice.data is not None:
                node.replace_input_with(0, self._pair(data))
            if self._behind(node):
                self._channels_behind(node, weight, choice.axis)
            else:
                node.replace_input_with(1, self._weight(weight, choice.axis))
        if self.residual:
            for node in self.graph:
                if node.op_type == "Add":
                    self._one_branch(node)
        outputs = {id(v) for v in self.graph.outputs}
        for node in reversed(list(self.graph)):
            made = node.outputs[0]
            if (node.op_type == "Constant" or id(node) in chains) and not made.uses() and id(made) not in outputs:
                self.graph.remove(node, safe=True)
        for name, value in list(self.graph.initializers.items()):
            if not value.uses() and id(value) not in outputs:
                del self.graph.initializers[name]
        for entry in self.again.values():
            entry["shared"] = sorted(entry.pop("sources") & set(self.graph.initializers))

    def _reaches(self) -> dict[str, float]:
        """The largest magnitude in the weight of each node; for matrix products, in all weights that multiply one input."""
        nodes = {node.name: node for node in self.graph}
        family: dict[str, float] = {}
        of: dict[str, str] = {}
        for choice in self.choices.taken:
            weight = nodes[choice.node].inputs[1]
            assert weight is not None
            together = choice.data if choice.op in {"MatMul", "Gemm"} and choice.data else f"{choice.node} alone"
            family[together] = max(largest_of(weight), family.get(together, 0.0))
            of[choice.node] = together
        return {node: family[together] for node, together in of.items()}

    def _behind(self, node: ir.Node) -> bool:
        """Whether the multiplication by a node's channel factors comes after the node.

        With a scale for each channel, TensorRT stores the product before it applies the scales: a convolution in
        FP32, which moves more bytes than FP16, and a matrix product in the rest's type, where FP16 overflows
        (TensorRT for RTX 1.5 on an H100: 62 % of the values of an FP8 product with 64 columns were infinite, and
        19 % of an INT8 product with 3072 columns; none in BF16 and FP32). It applies a scale for the whole weight
        inside the kernel. FP8 convolutions are the exception: that version ignores such a scale (errors of 200 to
        600), but computes scales for each channel correctly. Transposed convolutions were not measured; they are
        treated as convolutions.
        """
        if self.weights != "channel-after" or self.to == "int4":
            return False
        if node.op_type in CONVOLUTIONS:
            return self.to != "fp8"
        beta = node.attributes.get("beta")
        return self.rest == "fp16" and (beta is None or beta.as_float() == 1.0)

    def _free(self, name: str) -> str:
        return free_name(name, self._names)

    def _constant(self, name: str, array: Any, dtype: ir.DataType | None = None) -> ir.Value:
        ir = self.ir
        name = self._free(name)
        tensor = ir.tensor(array, dtype=dtype, name=name) if dtype else ir.tensor(array, name=name)
        made = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(made)
        return made

    def _zero(self) -> ir.Value:
        import numpy as np

        if self._zeros is None:
            self._zeros = self._constant(f"{self.to}_zero", np.zeros((), dtype=self.dtype.numpy()), self.dtype)
        return self._zeros

    def _node(
        self, op: str, inputs: list[ir.Value | None], name: str, dtype: ir.DataType, shape: Any, **more: int
    ) -> ir.Node:
        ir = self.ir
        attributes = [ir.AttrInt64(key, value) for key, value in more.items()]
        node = ir.Node("", op, inputs, attributes, name=self._free(name))
        made = node.outputs[0]
        made.name, made.dtype, made.shape = self._free(f"{name}_Output"), dtype, shape
        return node

    def _pair(self, value: ir.Value) -> ir.Value:
        """The activation, quantized and dequantized directly before its readers, once for all of them."""
        import numpy as np

        name = str(value.name)
        if name not in self._pairs:
            scale = self._constant(f"{name}_scale", np.asarray(scale_of(self.amax[name], self.to, self.rest)))
            zero = self._zero()
            down = self._node("QuantizeLinear", [value, scale, zero], f"{name}_QuantizeLinear", self.dtype, value.shape)
            back = self._node(
                "DequantizeLinear", [down.outputs[0], scale, zero], f"{name}_DequantizeLinear",
                self.ir.DataType.FLOAT, value.shape,
            )  # fmt: skip
            producer = value.producer()
            if producer is not None:
                self.graph.insert_after(producer, [down, back])
            else:
                self.graph.insert_before(self.graph[0], [down, back])
            self._pairs[name] = back.outputs[0]
        return self._pairs[name]

    def _weight(self, value: ir.Value, axis: int) -> ir.Value:
        """The weight, stored quantized and dequantized before its reader. A shared weight stays shared."""
        import numpy as np

        name = str(value.name)
        if (name, axis) not in self._weights:
            values = weights_of(value)
            more: dict[str, int] = {}
            if self.to == "int4":
                along = 1 - axis
                length = values.shape[along]
                pad = -length % self.block
                wide = np.pad(np.abs(values), [(0, pad if i == along else 0) for i in range(2)])
                shape = (*wide.shape[:along], -1, self.block, *wide.shape[along + 1 :])
                amax = wide.reshape(shape).max(axis=along + 1)
                more = {"axis": along, "block_size": self.block}
                scales = scale_of(amax, self.to, self.rest)
                low = quantize_array(values, scales, self.to, axis=along, block=self.block)
            elif self.weights != "tensor":
                amax = np.abs(values).max(axis=tuple(i for i in range(values.ndim) if i != axis))
                more = {"axis": axis}
                scales = scale_of(amax, self.to, self.rest)
                low = quantize_array(values, scales, self.to, axis=axis)
            else:
                scales = scale_of(np.abs(values).max(), self.to, self.rest)
                low = quantize_array(values, scales, self.to, axis=None)
            stored = self._constant(f"{name}_quantized", low, self.dtype)
            scale = self._constant(f"{name}_scale", np.asarray(scales))
            zero = self._constant(f"{name}_zero", np.zeros(scales.shape, dtype=self.dtype.numpy()), self.dtype)
            back = self._node(
                "DequantizeLinear", [stored, scale, zero], f"{name}_DequantizeLinear",
                self.ir.DataType.FLOAT, value.shape, **more,
            )  # fmt: skip
            self.graph.insert_before(self.graph[0], back)  # it reads only constants
            self._weights[name, axis] = back.outputs[0]
        return self._weights[name, axis]

    def _channels_behind(self, node: ir.Node, weight: ir.Value, axis: int) -> None:
        """One scale for the weight inside the node; the channels' factors and the bias come after the node.

        The node computes ``S * sum(x * q)``, where all channels share S, and ``y = that * f + bias`` with ``f = s / S``
        for the channel's own scale s. Inside, no channel is larger than the largest one, so FP16 holds all values
        that it held before. Matrix products of one input share S, so that TensorRT can still merge them.
        """
        import numpy as np

        ir = self.ir
        shared = scale_of(self._reach[str(node.name)], self.to, self.rest)
        shape = (1, -1, *[1] * (len(folded(weight).shape) - 2)) if node.op_type in CONVOLUTIONS else (-1,)
        inside, factor = self._scaled_weight(weight, axis, shared, shape)
        node.replace_input_with(1, inside)
        out = node.outputs[0]
        title = str(node.name)
        chain = [self._node("Mul", [out, factor], f"{title}_rescale", ir.DataType.FLOAT, out.shape)]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None:
            stored_bias = constant(bias)
            if node.op_type == "Gemm":
                wide = bias  # any shape that broadcasts to the result's shape is allowed
            elif stored_bias is not None:
                wide = self._constant(f"{bias.name}_wide", stored_bias.numpy().astype(np.float32).reshape(shape))
            else:
                sizes = self._constant(f"{title}_bias_shape", np.array(shape, dtype=np.int64))
                unsqueeze = self._node("Reshape", [bias, sizes], f"{title}_bias_reshape", ir.DataType.FLOAT, None)
                self.graph.insert_before(node, unsqueeze)
                wide = unsqueeze.outputs[0]
            node.resize_inputs(2)
            chain.append(self._node("Add", [chain[0].outputs[0], wide], f"{title}_bias", ir.DataType.FLOAT, out.shape))
        last = chain[-1].outputs[0]
        ir.convenience.replace_all_uses_with(out, last, replace_graph_outputs=True)
        chain[0].replace_input_with(0, out)  # the replacement also changed its own use of `out`
        self.graph.insert_after(node, chain)
        out.name, last.name = self._free(f"{out.name}_raw"), out.name

    def _scaled_weight(
        self, value: ir.Value, axis: int, shared: Any, shape: tuple[int, ...]
    ) -> tuple[ir.Value, ir.Value]:
        """The weight, dequantized with the scale `shared`, and the channels' factors in `shape`; each stored once."""
        import numpy as np

        name = str(value.name)
        key = (name, axis, float(shared), shape)
        if key not in self._scaled:
            values = weights_of(value)
            others = tuple(i for i in range(values.ndim) if i != axis)
            own = np.abs(values).max(axis=others).astype(np.float64) / LIMIT[self.to]
            factors = round_to(np.maximum(own / float(shared), 2.0**-14), self.rest)
            low = quantize_array(values, factors * shared, self.to, axis=axis)
            stored = self._constant(f"{name}_quantized", low, self.dtype)
            scale = self._constant(f"{name}_scale", np.asarray(shared))
            back = self._node(
                "DequantizeLinear", [stored, scale, self._zero()], f"{name}_DequantizeLinear",
                self.ir.DataType.FLOAT, value.shape,
            )  # fmt: skip
            self.graph.insert_before(self.graph[0], back)
            self._scaled[key] = back.outputs[0], self._constant(f"{name}_factor", factors.reshape(shape))
        return self._scaled[key]

    def _one_branch(self, node: ir.Node) -> None:
        """Make an addition read the quantized form of a branch that is quantized anyway, so that no wide copy is kept."""
        branches = [(i, v) for i, v in enumerate(node.inputs) if v is not None and str(v.name) in self._pairs]
        if len(branches) != 1:
            return
        place, value = branches[0]
        other = node.inputs[1 - place]
        if other is not None and _convolved(other):
            node.replace_input_with(place, self._pairs[str(value.name)])


def _convolved(value: ir.Value) -> bool:
    """Whether a convolution computes a value, with at most its scale, bias, or normalization after it."""
    node = value.producer()
    for _ in range(4):
        if node is None or node.op_type not in {"Conv", "Mul", "Add", "BatchNormalization"}:
            return False
        if node.op_type == "Conv":
            return True
        if any(v is not None and constant(v) is None for v in node.inputs[1:]):
            return False
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    return False
