"""The rules for what each ONNX operation costs: floating-point operations and bytes that it must move.

Long because all rules are in one place: the FLOPs of an operation are defined here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.model.graph import Graph
    from workbench.model.node import Node, Tensor

    Rule = Callable[["Graph", "Node"], "int | None"]


VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout"})
"""Operations that only reinterpret bytes."""


SHAPES = frozenset({"Shape", "Size", "Constant", "ConstantOfShape"})
"""Operations that the host computes; they launch no kernel."""


_MOVES = frozenset({
    "BitCast", "Cast", "CastLike", "CenterCropPad", "Compress", "Concat", "ConcatFromSequence", "DepthToSpace",
    "Expand", "EyeLike", "Gather", "GatherElements", "GatherND", "MaxUnpool", "OneHot", "Optional",
    "OptionalGetElement", "OptionalHasElement", "Pad", "Range", "ReverseSequence", "SequenceAt", "SequenceConstruct",
    "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "Slice", "SpaceToDepth", "Split",
    "SplitToSequence", "TensorScatter", "Tile", "Transpose", "Trilu",
})  # fmt: skip
"""Operations that move, convert or number data without arithmetic on it."""


_PER_ELEMENT = {
    "Softmax": 5, "LogSoftmax": 6, "LayerNormalization": 8, "InstanceNormalization": 8,
    "GroupNormalization": 8, "SimplifiedLayerNormalization": 5, "RMSNormalization": 5, "BatchNormalization": 2,
    "MeanVarianceNormalization": 6, "LpNormalization": 3, "LRN": 8, "Gelu": 5, "HardSwish": 3, "Swish": 2, "Mish": 4,
    "QuantizeLinear": 3, "DequantizeLinear": 2, "DynamicQuantizeLinear": 5, "Clip": 2, "Resize": 4, "Upsample": 4,
    "GridSample": 8, "Hardmax": 1,
}  # fmt: skip


POINTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "Bernoulli", "BitShift", "BitwiseAnd",
    "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Celu", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp",
    "Floor", "Greater", "GreaterOrEqual", "HardSigmoid", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin",
    "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
})  # fmt: skip
"""ONNX operations that compute each output element from input elements at the same position, with one operation."""


_REDUCTIONS = frozenset({
    "ArgMax", "ArgMin", "Col2Im", "CumProd", "CumSum", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "NonZero",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "TopK",
})  # fmt: skip


def is_standard(node: Node) -> bool:
    """Whether the node's operation belongs to ONNX and not to another domain."""
    return node.domain in {"", "ai.onnx"}


def scalar_of(graph: Graph, name: str) -> float | int | bool | None:
    """The value of a tensor of one element, if it follows from constants and known shapes."""
    value = value_of(graph, name, _ITERATIONS_DEPTH)
    return None if value is None or value.size != 1 else value.reshape(-1)[0].item()


_ITERATIONS_DEPTH = 50
"""The number of nodes through which the value of a trip count is traced back."""


def value_of(graph: Graph, name: str, depth: int) -> Any:
    """A small array that follows from constants and known shapes, or None."""
    from workbench.model.shapes import computed, small_array

    if name in graph.initializers:
        found = next((t for t in initializers_of(graph.proto.graph) if t.name == name), None)
        return None if found is None else small_array(found)
    node = graph.producer.get(name)
    if node is None or depth == 0 or not is_standard(node):
        return None
    values, shapes = {}, {}
    for needed in {n for n in node.inputs if n}:
        shape = graph.tensor(needed).shape
        if shape is not None:
            shapes[needed] = tuple(d if isinstance(d, int) else None for d in shape)
        if node.op not in {"Shape", "Size"}:
            value = value_of(graph, needed, depth - 1)
            if value is None:
                return None
            values[needed] = value
    opsets = {"": graph.opset.get("ai.onnx", 1)}
    made = dict(zip(node.outputs, computed(node.proto, values, shapes, opsets), strict=False))
    return made.get(name)


def initializers_of(graph: Any) -> Iterable[Any]:
    """The initializers of an ONNX graph and of the graphs inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from initializers_of(attribute.g)
            for nested in attribute.graphs:
                yield from initializers_of(nested)


def input_of(node: Node, index: int) -> str:
    """Name of an input; empty if it is omitted."""
    return node.inputs[index] if index < len(node.inputs) else ""


def _at(graph: Graph, node: Node, index: int) -> Tensor:
    """The tensor of an input; its shape is unknown if the node does not have this input."""
    return graph.tensor(input_of(node, index))


def _shape(graph: Graph, node: Node, index: int) -> tuple[int, ...] | None:
    """The shape of an input if all its dimensions are numbers."""
    tensor = _at(graph, node, index)
    if tensor.shape is None or tensor.elements is None:
        return None
    return tuple(d for d in tensor.shape if isinstance(d, int))


def _outputs(graph: Graph, node: Node) -> int | None:
    """Elements of the first output."""
    return graph.tensor(node.outputs[0]).elements if node.outputs and node.outputs[0] else None


def _ints(node: Node, name: str) -> list[int] | None:
    found = node.attribute(name)
    return found if isinstance(found, list) and all(isinstance(n, int) and n >= 0 for n in found) else None


def _int(node: Node, name: str, default: int = 0) -> int:
    found = node.attribute(name, default)
    return found if isinstance(found, int) else default


def times(value: int | None, factor: int | None) -> int | None:
    """The product; None if a factor is unknown and none is 0."""
    return 0 if 0 in (value, factor) else None if value is None or factor is None else value * factor


def total(parts: Iterable[int | None]) -> int | None:
    """The sum; None if a part is unknown."""
    found = 0
    for part in parts:
        if part is None:
            return None
        found += part
    return found


def _zero(_graph: Graph, _node: Node) -> int:
    return 0


def _each(count: int) -> Rule:
    """A fixed number of operations per output element."""
    return lambda graph, node: times(_outputs(graph, node), count)


def _each_input(count: int) -> Rule:
    """A fixed number of operations per element of the first input, for operators whose output shape ONNX can't infer."""
    return lambda graph, node: times(_at(graph, node, 0).elements, count)


def _variadic(graph: Graph, node: Node) -> int | None:
    """Max, Min, Sum of n inputs: n - 1 per output element; Mean: n."""
    inputs = len([n for n in node.inputs if n])
    return times(_outputs(graph, node), inputs - (node.op != "Mean"))


def _scatter(graph: Graph, node: Node) -> int | None:
    """Only moves its updates; a reduction adds one operation per update."""
    return 0 if node.attribute("reduction", "none") == "none" else _at(graph, node, 2).elements


def _pool(graph: Graph, node: Node) -> int | None:
    kernel = _ints(node, "kernel_shape")
    return None if kernel is None else times(_outputs(graph, node), math.prod(kernel))


def _roi_align(graph: Graph, node: Node) -> int | None:
    samples = _int(node, "sampling_ratio")  # 0: depends on each region's size
    return times(_outputs(graph, node), 8 * samples**2) if samples > 0 else None


def _convolution(weight: int = 1, bias: int | None = 2, *, fused: bool = False) -> Rule:
    """A convolution whose weights (C_out, C_in / groups, *kernel) and bias are these inputs.

    `fused`: an addition after the bias, and an activation.
    """

    def rule(graph: Graph, node: Node) -> int | None:
        count, shape = _outputs(graph, node), _shape(graph, node, weight)
        if count is None or not shape:
            return None
        further = int(bias is not None and bool(input_of(node, bias)))
        if fused:
            further += bool(input_of(node, 3)) + bool(node.attribute("activation", ""))
        return 2 * count * math.prod(shape[1:]) + count * further

    return rule


def _transposed_convolution(graph: Graph, node: Node) -> int | None:
    # Each input element is multiplied by its (C_out / groups, *kernel) weights.
    data, shape = _at(graph, node, 0).elements, _shape(graph, node, 1)
    if data is None or not shape:
        return None
    bias = _outputs(graph, node) if input_of(node, 2) else 0
    return total([2 * data * math.prod(shape[1:]), bias])


def _deformable(graph: Graph, node: Node) -> int | None:
    """A convolution, and a bilinear sample (8, plus 1 for a mask) of each input channel under each kernel element."""
    out = graph.tensor(node.outputs[0]).shape if node.outputs else None
    plain, weight, data = _convolution(1, 3)(graph, node), _shape(graph, node, 1), _shape(graph, node, 0)
    if plain is None or not weight or not data or not out or len(data) < 2:
        return None
    samples = data[0] * data[1] * math.prod(weight[2:]) * math.prod(d for d in out[2:] if isinstance(d, int))
    return plain + samples * (8 + bool(input_of(node, 4)))


def _product(inner: int = -1, bias: int | None = None, transposed: str = "", further: int = 0) -> Rule:
    """A matrix product whose first input has the summed dimension at `inner`, or at -2 if `transposed` is set."""

    def rule(graph: Graph, node: Node) -> int | None:
        left = _shape(graph, node, 0)
        if not left:
            return None
        at = -2 if transposed and _int(node, transposed) else inner
        if len(left) < -at:
            return None
        count = _product_outputs(graph, node, left, at)
        adds = further + (bias is not None and bool(input_of(node, bias)))
        return total([times(count, 2 * left[at]), times(count, adds)])

    return rule


def _product_outputs(graph: Graph, node: Node, left: tuple[int, ...], at: int) -> int | None:
    """Elements of a product: those of its output, or, for ONNX Runtime's operators, computed from the inputs."""
    count = _outputs(graph, node)
    if count is not None or is_standard(node):
        return count
    width = node.attribute("N")  # MatMulNBits and similar operators: the weights are packed
    if isinstance(width, int):
        return math.prod(left) // left[at] * width if left[at] else 0
    other = {"QGemm": 3, "QLinearMatMul": 3}.get(node.op, 1)
    right = _shape(graph, node, other)
    if not right or len(right) != 2 or _int(node, "transBatchA") or _int(node, "transBatchB"):
        return None
    columns = right[-2] if _int(node, "transB") else right[-1]
    return math.prod(left) // left[at] * columns if left[at] else 0


def _fused_product(graph: Graph, node: Node) -> int | None:
    """FusedMatMul: if batches are transposed as well, the summed dimension may be at another position."""
    if _int(node, "transBatchA") and _int(node, "transA"):
        return None
    return _product(transposed="transA", further=bool(node.attribute("activation", "")))(graph, node)


def _heads(shape: tuple[int, ...] | None, heads: int) -> tuple[int, int, int, int] | None:
    """(batch, heads, length, size) of a tensor (batch, heads, length, size) or (batch, length, heads * size)."""
    if shape is not None and len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    if shape is not None and len(shape) == 3 and heads > 0 and shape[2] % heads == 0:
        return shape[0], heads, shape[1], shape[2] // heads
    return None


def _attention_products(batch: int, heads: int, queries: int, keys: int, size: int, value_size: int) -> int:
    return 2 * batch * heads * queries * keys * (size + value_size)


def _attention(graph: Graph, node: Node) -> int | None:
    """ai.onnx Attention: Q, K, V, mask, past key, past value."""
    kv = _int(node, "kv_num_heads")
    query = _heads(_shape(graph, node, 0), _int(node, "q_num_heads"))
    key, value = _heads(_shape(graph, node, 1), kv), _heads(_shape(graph, node, 2), kv)
    past = _past(graph, node, 4)
    if query is None or key is None or value is None or past is None:
        return None
    return _attention_products(query[0], query[1], query[2], key[2] + past, query[3], value[3])


def _past(graph: Graph, node: Node, index: int) -> int | None:
    """Length of a past key (batch, heads, length, size); 0 if there is none."""
    if not input_of(node, index):
        return 0
    shape = _shape(graph, node, index)
    return shape[2] if shape is not None and len(shape) == 4 else None


def _projected_attention(past_input: int) -> Rule:
    """com.microsoft Attention and QAttention: one product computes Q, K, and V from the input."""

    def rule(graph: Graph, node: Node) -> int | None:
        data, weight, heads = _shape(graph, node, 0), _shape(graph, node, 1), _int(node, "num_heads")
        shared = _int(node, "past_present_share_buffer")  # then the length of the past is that of the buffer
        if data is None or weight is None or len(data) != 3 or len(weight) != 2 or heads <= 0 or shared:
            return None
        sizes = _ints(node, "qkv_hidden_sizes") or [weight[1] // 3] * 3
        past = 0
        if input_of(node, past_input):
            shape = _shape(graph, node, past_input)  # (2, batch, heads, length, size)
            if shape is None or len(shape) != 5:
                return None
            past = shape[3]
        batch, length, width = data
        projection = batch * length * weight[1] * (2 * width + bool(input_of(node, 2)))
        if len(sizes) != 3:
            return None
        return projection + 2 * batch * length * (length + past) * (sizes[0] + sizes[2])

    return rule


def _multi_head_attention(graph: Graph, node: Node) -> int | None:
    """com.microsoft MultiHeadAttention: no projection; Q, K, and V separate, K and V packed, or all packed."""
    heads, query = _int(node, "num_heads"), _shape(graph, node, 0)
    key, value = _shape(graph, node, 1), _shape(graph, node, 2)
    past = _past(graph, node, 6)
    if query is None or heads <= 0 or past is None or input_of(node, 8):  # 8: a past in a buffer whose length differs
        return None
    biased = 0
    if len(query) == 5:  # (batch, length, heads, 3, size)
        batch, length, _, _, size = query
        keys, value_size = length, size
        if input_of(node, 3):
            biased = math.prod(query)
    elif len(query) == 3:
        batch, length, size = query[0], query[1], query[2] // heads
        if key is None:
            return None
        if len(key) == 5:  # (batch, length, heads, 2, size)
            keys, value_size = key[1], key[4]
        elif value is None or len(key) not in {3, 4} or len(value) not in {3, 4}:
            return None
        else:
            keys = key[2] if len(key) == 4 else key[1]
            value_size = value[3] if len(value) == 4 else value[2] // heads
        if input_of(node, 3):
            biased = math.prod(query) + math.prod(key) + (math.prod(value) if value and len(key) != 5 else 0)
    else:
        return None
    return biased + _attention_products(batch, heads, length, keys + past, size, value_size)


def _group_query_attention(graph: Graph, node: Node) -> int | None:
    """com.microsoft GroupQueryAttention: an input holds the length of its cache."""
    heads, groups, query = _int(node, "num_heads"), _int(node, "kv_num_heads"), _shape(graph, node, 0)
    total = scalar_of(graph, input_of(node, 6))
    if query is None or len(query) != 3 or heads <= 0 or groups <= 0 or total is None:
        return None
    if _int(node, "local_window_size", -1) > 0:
        return None  # how many of the keys count depends on the position
    packed = not input_of(node, 1)
    size = query[2] // (heads + 2 * groups if packed else heads)
    rotated = 0
    if _int(node, "do_rotary"):
        rotary = _shape(graph, node, 7)  # cos_cache: (length, rotated / 2)
        if rotary is None:
            return None
        rotated = 3 * query[0] * query[1] * (heads + groups) * min(size, 2 * rotary[-1])
    return rotated + _attention_products(query[0], heads, query[1], int(total), size, size)


def _rotary(graph: Graph, node: Node) -> int | None:
    """Two products and a sum per rotated element."""
    shape, part = _shape(graph, node, 0), _int(node, "rotary_embedding_dim")
    if shape is None or len(shape) not in {3, 4}:
        return None
    if not part:
        return 3 * math.prod(shape)
    heads = _int(node, "num_heads")
    size = shape[3] if len(shape) == 4 else shape[2] // heads if heads > 0 else 0
    return 3 * math.prod(shape) // size * min(part, size) if size else None


def _recurrence(graph: Graph, node: Node) -> int | None:
    """LSTM, GRU, RNN: the products with W and R of each direction, for each step of each sequence."""
    data = _shape(graph, node, 0)
    weight, recurrent = _at(graph, node, 1).elements, _at(graph, node, 2).elements
    if data is None or len(data) != 3 or weight is None or recurrent is None:
        return None
    return 2 * data[0] * data[1] * (weight + recurrent)


def _einsum(graph: Graph, node: Node) -> int | None:
    """From left to right, two operands at a time: 2 per point of their index space, or 1 if nothing is summed."""
    equation = str(node.attribute("equation", "")).replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    shapes = [_shape(graph, node, i) for i in range(len(node.inputs))]
    if len(terms) != len(shapes) or not equation:
        return None
    sizes: dict[str, int] = {}
    indices: list[set[str]] = []
    for term, shape in zip(terms, shapes, strict=True):
        if shape is None:
            return None
        names = _indices(term, len(shape))
        if names is None:
            return None
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1)) if size else 0
        indices.append(set(names))
    letters = left.replace("...", "").replace(",", "")
    # Without an arrow, the output has the indices that occur once.
    wanted = set(right.replace("...", "")) if arrow else {c for c in letters if letters.count(c) == 1}
    wanted |= {name for name in sizes if name.startswith("...")}
    if len(indices) == 1:
        return _at(graph, node, 0).elements if indices[0] - wanted else 0
    total, have = 0, indices[0]
    for i, other in enumerate(indices[1:], start=1):
        space = have | other
        kept = space & (wanted | set().union(*indices[i + 1 :]))
        total += math.prod(sizes[name] for name in space) * (2 if space - kept else 1)
        have = kept
    return total


def _indices(term: str, rank: int) -> list[str] | None:
    """Names of a term's indices; those of an ellipsis count from the right, since they broadcast."""
    if "..." not in term:
        return list(term) if len(term) == rank and "." not in term else None
    before, _, after = term.partition("...")
    open_ = rank - len(before) - len(after)
    if open_ < 0 or "." in before + after:
        return None
    return [*before, *(f"...{open_ - i}" for i in range(open_)), *after]


def _dft(graph: Graph, node: Node) -> int | None:
    """A product with the DFT matrix: per output number, one multiply-accumulate for each real input number."""
    count, data = _outputs(graph, node), _shape(graph, node, 0)
    if count is None or not data:
        return None
    if graph.opset.get("ai.onnx", 0) >= 20:
        axis = scalar_of(graph, input_of(node, 2)) if input_of(node, 2) else -2
    else:
        axis = _int(node, "axis", 1)
    if axis is None or not -len(data) <= axis < len(data):
        return None
    length = scalar_of(graph, input_of(node, 1)) if input_of(node, 1) else data[int(axis)]
    return None if length is None else 2 * count * int(length) * data[-1]


def _stft(graph: Graph, node: Node) -> int | None:
    """For each frame its window, and a product with the DFT matrix."""
    count, data = _outputs(graph, node), _shape(graph, node, 0)
    out = graph.tensor(node.outputs[0]).shape if node.outputs else None
    window = _shape(graph, node, 2)
    length = scalar_of(graph, input_of(node, 3)) if input_of(node, 3) else (window[0] if window else None)
    if count is None or data is None or not out or length is None or len(out) != 4:
        return None
    parts = data[-1] if len(data) == 3 and data[-1] == 2 else 1
    frames = math.prod(d for d in out[:2] if isinstance(d, int))
    return 2 * count * int(length) * parts + (frames * int(length) * parts if input_of(node, 2) else 0)


def _grid(graph: Graph, node: Node) -> int | None:
    """AffineGrid: each coordinate is a row of theta times a point with a 1 appended."""
    count, theta = _outputs(graph, node), _shape(graph, node, 0)
    return None if not theta else times(count, 2 * theta[-1])


def _quantized(count: int, *inputs: int) -> Rule:
    """A pointwise QLinear operator: conversions of its inputs (2 each) and its output (3) around `count` operations."""

    def rule(graph: Graph, node: Node) -> int | None:
        shapes = [shape for i in inputs if (shape := _shape(graph, node, i)) is not None]
        if len(shapes) < len(inputs):
            return None
        rank = max(map(len, shapes))
        padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
        out = math.prod(0 if 0 in sizes else max(sizes) for sizes in zip(*padded, strict=True))  # broadcast
        return out * (count + 3) + sum(2 * math.prod(shape) for shape in shapes)

    return rule


def _skip(count: int) -> Rule:
    """SkipLayerNormalization: an addition of the skip, and of the bias if there is one, before the normalization."""

    def rule(graph: Graph, node: Node) -> int | None:
        bias = 3 if node.op == "SkipSimplifiedLayerNormalization" else 4
        return times(_at(graph, node, 0).elements, count + 1 + bool(input_of(node, bias)))

    return rule


def _biased(count: int) -> Rule:
    """An activation, and an addition if the node has a second input."""
    return lambda graph, node: times(_at(graph, node, 0).elements, count + bool(input_of(node, 1)))


RULES: dict[tuple[str, str], Rule] = {
    **{("", op): _zero for op in VIEWS | SHAPES | _MOVES},
    **{("", op): _each(1) for op in POINTWISE},
    **{("", op): _each(count) for op, count in _PER_ELEMENT.items()},
    **{("", op): _each_input(1) for op in _REDUCTIONS},
    **{("", op): _variadic for op in ("Max", "Min", "Sum", "Mean")},
    **{("", op): _scatter for op in ("Scatter", "ScatterElements", "ScatterND")},
    **{("", op): _pool for op in ("MaxPool", "AveragePool", "LpPool")},
    **{("", op): _recurrence for op in ("LSTM", "GRU", "RNN")},
    ("", "AffineGrid"): _grid,
    ("", "Attention"): _attention,
    ("", "Conv"): _convolution(),
    ("", "ConvInteger"): _convolution(bias=None),
    ("", "ConvTranspose"): _transposed_convolution,
    ("", "DFT"): _dft,
    ("", "DeformConv"): _deformable,
    ("", "Einsum"): _einsum,
    ("", "Gemm"): _product(bias=2, transposed="transA"),
    ("", "MatMul"): _product(),
    ("", "MatMulInteger"): _product(),
    ("", "QLinearConv"): _convolution(3, 8),
    ("", "QLinearMatMul"): _product(),
    ("", "RoiAlign"): _roi_align,
    ("", "RotaryEmbedding"): _rotary,
    ("", "STFT"): _stft,
    # ONNX Runtime's own operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    **{
        ("com.microsoft", op): _zero
        for op in ("ExpandDims", "GatherND", "Pad", "QuantizeBFP", "DequantizeBFP", "Range", "Trilu")
    },
    ("com.microsoft", "Attention"): _projected_attention(4),
    ("com.microsoft", "BiasAdd"): _each_input(2),
    ("com.microsoft", "BiasGelu"): _biased(5),
    ("com.microsoft", "ConvTransposeWithDynamicPads"): _transposed_convolution,
    ("com.microsoft", "DequantizeLinear"): _each_input(2),
    ("com.microsoft", "DynamicQuantizeMatMul"): _product(bias=4),
    ("com.microsoft", "EmbedLayerNormalization"): _each(10),
    ("com.microsoft", "FastGelu"): _biased(5),
    ("com.microsoft", "FusedConv"): _convolution(fused=True),
    ("com.microsoft", "FusedGemm"): _product(bias=2, transposed="transA", further=1),
    ("com.microsoft", "FusedMatMul"): _fused_product,
    ("com.microsoft", "FusedMatMulActivation"): _fused_product,
    ("com.microsoft", "GatherBlockQuantized"): _each(2),
    ("com.microsoft", "Gelu"): _each_input(5),
    ("com.microsoft", "GemmFastGelu"): _product(bias=2, further=5),
    ("com.microsoft", "GridSample"): _each(8),
    ("com.microsoft", "GroupQueryAttention"): _group_query_attention,
    ("com.microsoft", "MatMulInteger16"): _product(),
    ("com.microsoft", "MatMulIntegerToFloat"): _product(bias=6),
    ("com.microsoft", "MatMulBnb4"): _product(),
    ("com.microsoft", "MatMulNBits"): _product(bias=5),
    ("com.microsoft", "MultiHeadAttention"): _multi_head_attention,
    ("com.microsoft", "NhwcConv"): _convolution(),
    ("com.microsoft", "NhwcFusedConv"): _convolution(fused=True),
    ("com.microsoft", "QAttention"): _projected_attention(8),
    ("com.microsoft", "QGemm"): _product(bias=6, transposed="transA"),
    ("com.microsoft", "QLinearAdd"): _quantized(1, 0, 3),
    ("com.microsoft", "QLinearLeakyRelu"): _quantized(1, 0),
    ("com.microsoft", "QLinearMul"): _quantized(1, 0, 3),
    ("com.microsoft", "QLinearSigmoid"): _quantized(1, 0),
    ("com.microsoft", "QLinearSoftmax"): _quantized(5, 0),
    ("com.microsoft", "QLinearConv"): _convolution(3, 8),
    ("com.microsoft", "QuantizeLinear"): _each_input(3),
    ("com.microsoft", "QuickGelu"): _each_input(3),
    ("com.microsoft", "RotaryEmbedding"): _rotary,
    ("com.microsoft", "SkipLayerNormalization"): _skip(8),
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): _skip(5),
    ("com.microsoft", "TransposeMatMul"): _fused_product,
}
