"""Maps TensorRT's error messages to a cause, the node, and a hint.

TensorRT adds "cudaError 35" to any API error on a machine without a GPU, names its layers instead of nodes, and asserts
in C++. The tables here list what a message proves. Each rule has a stable code, a pattern for the exact words of TensorRT, and a
function that explains them with facts from the graph. A rule that can't confirm its cause returns None. A message
that no rule matches is passed on unchanged with the code "build-failed" or "unsupported-operator": no cause is guessed.

`tests/models/test_failing_builds.py` has a model for every rule that can be reached without a GPU, and builds the suggested fixes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from workbench.compilers.tensorrt.case import Case, Explanation, rule
from workbench.compilers.tensorrt.causes_text import (
    ONNX_TYPE,
    TYPE,
    dims_of,
    ids,
    label,
    listed,
    plain,
    shape_hint,
    show_dims,
)
from workbench.model.node import Node, dtype_name

TAKEN = {"float32", "float16", "bfloat16", "float64", "int32", "int64", "int8", "uint8", "bool", "float8e4m3fn", "int4",
                "float4e2m1"}  # fmt: skip
"""Types of inputs and weights that TensorRT's parser supports (1.7.1 of the RTX flavor)."""

HEADS = (12, 256)
"""Head sizes for which TensorRT for RTX 1.7.1 built the ONNX operator Attention in FP16 and BF16; 8 and 264 were refused."""

RECURRENT = {"GRU", "LSTM", "RNN"}

# --- words --------------------------------------------------------------------------------------------


# --- shapes -------------------------------------------------------------------------------------------


_DIMS = r"(\[[^\]]*\])"


def _reshape(node: Node | None, have: list[int], want: list[int], case: Case) -> Explanation:
    before, after = math.prod(have), math.prod(want)
    fixed = (
        f"{before:,} elements against {after:,}" if min(want, default=0) >= 0 else f"{before:,} elements do not divide"
    )
    message = f"{label(node, 'A Reshape')} can't turn {show_dims(have)} into {show_dims(want)}: {fixed}."
    hint = shape_hint(case)
    constant = node.inputs[1] if node is not None and node.op == "Reshape" and len(node.inputs) > 1 else ""
    baked = (
        bool(have and want) and have[0] != want[0] and min(have[0], want[0]) > 0 and before * want[0] == after * have[0]
    )
    if baked and constant and case.value(constant) == want:
        message += f" The model fixes the first dimension at {want[0]}: {constant} is the constant {show_dims(want)}."
        hint = (
            f"Build with {want[0]} as the first dimension, or export the model with an open batch "
            f"(-1 instead of {want[0]} in that constant)."
        )
    return Explanation(message, hint, ids(node))


@rule(
    "shape-mismatch", rf"volume mismatch\. Input dimensions {_DIMS} have volume \d+ and output dimensions {_DIMS} have"
)
def _volume(m: re.Match[str], case: Case) -> Explanation:
    return _reshape(case.subject(m.string), dims_of(m[1]), dims_of(m[2]), case)


@rule(
    "shape-mismatch",
    rf"(?:reshape changes volume|reshape wildcard -1 has no integer solution).*?Reshaping {_DIMS} to {_DIMS}",
)
def _reshaping(m: re.Match[str], case: Case) -> Explanation:
    node, want = case.blamed, dims_of(m[2])
    if node is None:  # the message names no layer: use the node with this constant if there is only one
        same = [
            n for n in case.graph.nodes if n.op == "Reshape" and len(n.inputs) > 1 and case.value(n.inputs[1]) == want
        ]
        node = same[0] if len(same) == 1 else None
    return _reshape(node, dims_of(m[1]), want, case)


@rule(
    "shape-mismatch",
    rf"must have inputs with same dimensions or follow broadcast rules\. Input dimensions were {_DIMS} and {_DIMS}",
)
def _elementwise(m: re.Match[str], case: Case) -> Explanation:
    node = case.subject(m.string)
    names = [f"{name} " for name in node.inputs[:2]] if node is not None and len(node.inputs) >= 2 else ["", ""]
    left, right = (f"{name}{show_dims(dims_of(dims))}" for name, dims in zip(names, m.groups(), strict=True))
    message = f"{label(node)} can't combine {left} with {right}: dimensions must be equal, or one of them 1."
    return Explanation(message, shape_hint(case), ids(node))


@rule("shape-mismatch", r"broadcast dimensions must be conformable")
def _broadcast(_m: re.Match[str], case: Case) -> Explanation | None:
    if case.blamed is None:
        return None
    shapes = [f"{n} {list(s)}" for n in case.blamed.inputs if (s := case.graph.tensor(n).shape) is not None]
    shown = f" {listed(shapes)}" if shapes else ""
    message = f"{label(case.blamed)} can't combine its inputs{shown}: dimensions must be equal, or one of them 1."
    return Explanation(message, shape_hint(case), ids(case.blamed))


@rule(
    "negative-dimension",
    r"Tensor (?P<tensor>.+?) has axis (\d+) with inherently negative length\. Proven upper bound is (-?\d+)",
)
def _negative(m: re.Match[str], case: Case) -> Explanation:
    node = case.graph.producer.get(m["tensor"]) or case.subject(m.string)
    if node is not None and node.op == "NonMaxSuppression" and len(node.inputs) < 3:
        message = f"{label(node)} keeps no box: max_output_boxes_per_class is not given, and ONNX's default is 0."
        return Explanation(message, f"Give it as the third input. {NMS}", [node.id])
    message = f"The output {m['tensor']} of {label(node, 'a node')} would have a dimension {m[2]} below 0: its input is too small."
    return Explanation(message, shape_hint(case), ids(node))


@rule("shape-values", r"Network has dynamic or shape inputs, but no optimization profile has been defined")
def _shape_values(_m: re.Match[str], case: Case) -> Explanation | None:
    read = [n.inputs[1] for n in case.graph.nodes if n.op in {"Reshape", "Expand", "Tile"} and len(n.inputs) > 1]
    read = [name for name in dict.fromkeys(read) if name in case.graph.inputs]
    if not read:
        return None
    message = (
        f"TensorRT reads the values of input {listed(read)} as a shape, so they must be known when the engine is built."
    )
    users = [n.id for name in read for n in case.graph.consumers[name]]
    return Explanation(message, "Make it a constant of the model.", users)


SHAPES = (
    _volume,
    _elementwise,
    plain("shape-mismatch", r"inputs to ISelectLayer must have same dimensions or follow broadcast rules \((.*?)\)\s*\Z",
          "{node} can't combine its inputs ({1}): dimensions must be equal, or one of them 1."),
    plain("shape-mismatch", r"last dimension of input0 = (\d+) and second to last dimension of input1 = (\d+) but must match",
          "{node} can't multiply its inputs: the first has {1} columns, the second {2} rows; they must be equal."),
    plain("shape-mismatch", r"same dimensions except on the concatenation axis \((-?\d+)\), but dimensions mismatched at index "
          rf"(\d+)\. Input \d+ shape: {_DIMS}, Input \d+ shape: {_DIMS}",
          "{node} can't join {3} and {4} along axis {1}: they differ in dimension {2}."),
    plain("shape-mismatch", r"count of (\d+) weights in kernel, but kernel dimensions \(.*?\) with (\d+) input channels, .*?"
          r"Expected Weights count is .*? = (\d+)",
          "{node} gets {2} input channels, for which it needs {3} weights; it has {1}."),
    plain("shape-mismatch", r"Kernel weight dimension failed to broadcast to input",
          "The weights and the group of {node} do not fit the channels of its input."),
    plain("shape-mismatch", r"(\w+) weights has count (\d+) but (\d+) was expected",
          "{node} has {2} values of {1} for an input with {3} channels."),
    plain("shape-mismatch", r"normalization scale is not broadcast-compatible with the input at dimension (\d+)",
          "The scale of {node} does not fit dimension {1} of its input."),
    plain("shape-mismatch", r"the scale is expected to match the output at the channel dimension (\d+)",
          "The scale of {node} does not fit dimension {1} of its input."),
    plain("shape-mismatch", r"image size is smaller than filter size", "The image is smaller than the filter of {node}."),
    plain("shape-mismatch", r"incompatible dimensions for input subscript (\w+)\. `equation` is (\S+?)\.?\s*\Z",
          "{node} ({2}): its inputs differ in dimension {1}."),
    plain("shape-mismatch", rf"mask must be broadcastable to \[(.*?)\]\. Received mask with shape {_DIMS}",
          "The mask of {node} is {2}; it must fit {1}."),
    plain("shape-mismatch", r"slope tensor must be unidirectional broadcastable", "The slope of {node} does not fit its input."),
    plain("shape-mismatch", r"Invalid dimension in GatherND", "The indices of {node} have more coordinates than its data dimensions."),
    _negative,
    plain("if-branches", rf"Must have inputs with equal ranks when condition is not a build-time constant\. Dimensions are {_DIMS} "
          rf"and {_DIMS}", "The branches of {node} give {1} and {2}; TensorRT needs the same number of dimensions.",
          "Give both branches the same number of dimensions (Unsqueeze, Reshape), or make the condition a constant."),
    plain("if-branches", r"IConditionalOutputLayer must have inputs of same type\. First input is of type (\w+) but second input is "
          r"of type (\w+)", "The branches of {node} give {1} and {2}; TensorRT needs one type.",
          "Add a Cast to one of its branches."),
    _shape_values, _reshaping, _broadcast,
)  # fmt: skip

# --- types --------------------------------------------------------------------------------------------


@rule(
    "type-mismatch",
    r"must have same input types\. But they are of types (\w+) and (\w+)"
    r"|must have same input types\. `A` is of type (\w+) and `B` is of type (\w+)"
    r"|must all be of the same type\. inputs\[\d+\] is of type (\w+) but inputs\[\d+\] is of type (\w+)"
    r"|ISelectLayer must have `thenInput` and `elseInput` of same types but has (\w+) and (\w+)",
)
def _differ(m: re.Match[str], case: Case) -> Explanation:
    node = case.subject(m.string)
    left, right = (TYPE.get(g, g) for g in m.groups() if g)
    low = {left, right} & {"FP16", "BF16"}
    if node is not None and node.op in RECURRENT and low and "FP32" in {left, right}:
        message = f"TensorRT mixes {left} and {right} inside {label(node)}, which it supports in FP32."
        to = low.pop().lower()
        hint = f"Keep it in FP32: `workbench cast MODEL --to {to} --keep-op {node.op} -o OUT`, and build OUT."
        return Explanation(message, hint, [node.id])
    message = f"{label(node)} gets {left} and {right}; TensorRT needs one type."
    return Explanation(message, "Add a Cast in front of one of its inputs, or export the model again.", ids(node))


@rule("type-mismatch", r"Input 0's element type \((\w+)\) differs from input 1's element type \((\w+)\)")
def _differ_inside(m: re.Match[str], case: Case) -> Explanation | None:
    """The code generator names no node. The graph shows an Attention with a mask of another type."""
    types = {TYPE.get(g, g) for g in m.groups()}
    for node in case.graph.nodes:
        if node.op != "Attention" or len(node.inputs) < 4:
            continue
        query, mask = (ONNX_TYPE.get(case.graph.tensor(node.inputs[i]).dtype, "") for i in (0, 3))
        if query != mask and {query, mask} == types:
            message = f"{label(node)} gets queries in {query} and a mask in {mask}; TensorRT needs one type."
            return Explanation(
                message, f"Cast the mask ({node.inputs[3]}) to {query}, or give it as BOOL.", [node.id], quote=False
            )
    return None


_ORT = (
    "In ONNX Runtime's quantizer: extra_options={'QuantizeBias': False, 'ActivationSymmetric': True, 'WeightSymmetric': True} and "
    "activation_type=QuantType.QInt8. Or quantize the FP32 model with `workbench quantize MODEL --to int8`."
)


@rule("quantized-bias", r"input has type Int32 but must have type FP8")
def _bias(m: re.Match[str], case: Case) -> Explanation | None:
    node = case.subject(m.string)
    if node is None or node.op != "DequantizeLinear":
        return None
    made = node.outputs[0]
    users = [u for u in case.graph.consumers.get(made, []) if u.op in BIASED and made in u.inputs[2:3]]
    if not users:
        return None
    message = f"{label(node)} holds the bias of {label(users[0])} in INT32, and TensorRT supports no quantized biases."
    return Explanation(message, _ORT, [node.id])


BIASED = {"Conv", "ConvTranspose", "Gemm"}
"""Operators whose third input is a bias."""


@rule("zero-point", r"Non-zero zero point is not supported|shiftIsAllZeros")
def _zero_point(_m: re.Match[str], case: Case) -> Explanation:
    node = case.blamed
    message = f"{label(node)} has a zero point other than 0; TensorRT supports only symmetric quantization."
    qlinear = any(WAYS_OUT.get(n.op) == _QDQ for n in case.graph.nodes)
    return Explanation(message, _QDQ if qlinear else _ORT, ids(node), quote=False)


@rule("invalid-scale", r"Scale coefficients must all be positive")
def _scale(_m: re.Match[str], case: Case) -> Explanation:
    node = case.blamed
    shown = case.value(node.inputs[1]) if node is not None and len(node.inputs) > 1 else None
    least = f": the smallest is {min(shown):g}" if shown else ""
    hint = "Quantize the model again with data that give this tensor nonzero values."
    return Explanation(f"{label(node)} has a scale that is not above 0{least}.", hint, ids(node), quote=False)


@rule("fp8-cast", r"Tensor (?P<tensor>.+?) has datatype (FP8|FP4|Int4) but is not produced by")
def _fp8_cast(m: re.Match[str], case: Case) -> Explanation:
    node = case.graph.producer.get(m["tensor"])
    message = f"{label(node)} makes a tensor of {m[2].upper()} ({m['tensor']}); in TensorRT only QuantizeLinear does."
    return Explanation(message, "Use QuantizeLinear and DequantizeLinear with a scale in place of Cast.", ids(node))


@rule("unsupported-type", r"Unsupported data type for the Cast operator")
def _cast_to(_m: re.Match[str], case: Case) -> Explanation | None:
    if case.blamed is None:
        return None
    to = dtype_name(int(case.blamed.attribute("to", 0)))
    hint = _NO_STRINGS if to == "string" else "Cast to a type that TensorRT has, such as int32 or float16."
    message = f"{label(case.blamed)} casts to {to}, a type that TensorRT does not have."
    return Explanation(message, hint, ids(case.blamed), quote=False)


@rule("unsupported-input-type", r"Failed to convert ONNX dat[ea] type to TensorRT data type")
def _input_type(_m: re.Match[str], case: Case) -> Explanation | None:
    wrong = {n: t for n in case.graph.inputs if (t := case.graph.tensor(n).dtype) not in TAKEN}
    if case.source in wrong:  # the parser puts the input's name in the field of the source file
        wrong = {case.source: wrong[case.source]}
    if not wrong:
        return None
    inputs = listed(f"{n} ({t})" for n, t in wrong.items())
    hint = _NO_STRINGS if "string" in wrong.values() else "Export the model with int32 or float32 for that input."
    return Explanation(
        f"Input {inputs} has a type that TensorRT does not have.", hint, _users(wrong, case), quote=False
    )


@rule("unsupported-weight-type", r"Failed to import initializer: (?P<name>[^\n]+?)\s*\Z")
def _weight_type(m: re.Match[str], case: Case) -> Explanation | None:
    name = m["name"].rpartition("Failed to import initializer: ")[2] or m["name"]
    kind = case.graph.tensor(name).dtype
    if not kind or kind in TAKEN:
        return None
    message = f"Constant {name} is {kind}, a type that TensorRT does not have."
    return Explanation(
        message, "Write it in another type, such as int32, int8 or float8e4m3fn.", _users([name], case), quote=False
    )


@rule("too-many-dimensions", r"Failed to convert ONNX dimensions to TensorRT dimensions")
def _dimensions(_m: re.Match[str], case: Case) -> Explanation | None:
    wide = {n: len(s) for n in case.graph.inputs if (s := case.graph.tensor(n).shape) is not None and len(s) > 8}
    if not wide:
        return None
    message = f"TensorRT supports at most 8 dimensions; input {listed(f'{n} has {k}' for n, k in wide.items())}."
    return Explanation(message, "Merge dimensions with a Reshape before the model.", _users(wide, case), quote=False)


def _users(names: Iterable[str], case: Case) -> list[str]:
    return [n.id for name in names for n in case.graph.consumers.get(name, [])]


_NO_STRINGS = "TensorRT has no strings: preprocess them before the model."
_CAST = (
    "Cast its inputs to a type that TensorRT supports (with a Cast node to FP32 or INT32), and cast its output back."
)
TYPES = (
    _differ, _differ_inside, _bias, _zero_point, _scale, _fp8_cast,
    plain("unsupported-type", r"layer does not support operator \w+ and the given inputs with type (BOOL)",
          "TensorRT does not support {node} with inputs of {1}.", "Use And, Or or Xor instead, or cast its inputs first.", quote=False),
    plain("unsupported-type", r"Found unsupported input type of (\w+)|layer does not support operator \w+ and the given inputs with type "
          r"(\w+)|does not support the given operator \w+ with the given input data type (\w+)",
          "TensorRT does not support {node} with inputs of {1}{2}{3}.", _CAST, quote=False),
    plain("unsupported-type", r"requires inputs with type (.*?)\. But type is (\w+)",
          "TensorRT does not support {node} with inputs of {2}, only {1}.", _CAST, quote=False),
    plain("unsupported-type", r"input has type (\w+) but must have type ([^.]*)",
          "TensorRT does not support {node} with inputs of {1}, only {2}.", _CAST, quote=False),
)  # fmt: skip

# --- operators ----------------------------------------------------------------------------------------

NMS = (
    "Cut it off and run it after the engine (ONNX Runtime, torchvision.ops.nms), or use the "
    "full TensorRT, whose operator list has it."
)
_QDQ = "Quantize in the QDQ format: quant_format=QuantFormat.QDQ. " + _ORT
_SEQUENCE = "TensorRT has no sequences: write the model with Concat, Split or Stack instead of lists of tensors."
_EVAL = "Call module.eval() before the export."
OPSET = "Export with opset 22 or earlier (opset_version= of torch.onnx.export), which writes attention as MatMul and Softmax."
REPLACE = "Replace the operation in the model, write a plugin for it, or cut the graph around it (`workbench partition MODEL` shows the parts)."

WAYS_OUT: Mapping[str, str] = {
    **dict.fromkeys(
        ["QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"], _QDQ
    ),
    **dict.fromkeys(
        ["SequenceConstruct", "SequenceAt", "SequenceInsert", "SequenceErase", "SequenceEmpty", "SequenceLength", "SequenceMap",
         "SplitToSequence", "ConcatFromSequence"], _SEQUENCE,
    ),
    **dict.fromkeys(
        ["Optional", "OptionalGetElement", "OptionalHasElement"], "TensorRT has no optional values: export the model without them."
    ),
    **dict.fromkeys(
        ["StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "LabelEncoder"], _NO_STRINGS
    ),
}  # fmt: skip
"""Hints for operators that the parser does not support, if there is a better one than "replace it"."""


@rule("plugin-needs-driver", r"plugin was not found in the plugin registry")
def _plugin_driver(_m: re.Match[str], case: Case) -> Explanation | None:
    """TensorRT has the plugin, but its constructor queries the GPU, and the log reports that this failed."""
    failed = [t for t in case.said if re.search(r"plugin.*Cuda Error in \S+: 35\b", t, re.IGNORECASE)]
    if not failed or case.blamed is None or case.blamed.op.lower() not in failed[0].lower():
        return None
    message = f"{label(case.blamed)} is a plugin in TensorRT that needs an NVIDIA driver when it is created, and this machine has none."
    return Explanation(
        message, "Build on a machine with a GPU, or cut the graph around it.", ids(case.blamed), quote=False
    )


@rule(
    "unsupported-operator",
    r"(?P<plugin>Plugin not found, are the plugin name, version, and namespace correct|plugin was not found in the plugin registry|"
    r"plugin creator version \S+ was not found in plugin registry)|\A(?:false)?\Z",
)
def _no_operator(m: re.Match[str], case: Case) -> Explanation:
    node = case.blamed
    why = f"{label(node)}: TensorRT's parser does not know this operation" + (
        " (Plugin not found)." if m["plugin"] else "."
    )
    if node is None:
        return Explanation(why, REPLACE, quote=False)
    hint = WAYS_OUT.get(node.op, REPLACE)
    if node.domain == "com.microsoft" and node.op not in WAYS_OUT:
        hint = f"It is an operator of ONNX Runtime: use the model from before ONNX Runtime's optimizer. {REPLACE}"
    return Explanation(why, hint, [node.id], quote=False)


@rule("unsupported-attribute", r"only supports half_pixel, .*? transformation modes")
def _transformation(_m: re.Match[str], case: Case) -> Explanation:
    mode = case.blamed.attribute("coordinate_transformation_mode", "half_pixel") if case.blamed else ""
    has = "TensorRT supports half_pixel, pytorch_half_pixel, tf_half_pixel_for_nn, asymmetric and align_corners."
    return Explanation(
        f"{label(case.blamed)} has coordinate_transformation_mode={mode}.", has, ids(case.blamed), quote=False
    )


@rule(
    "unsupported-attribute", r"(?:ScatterND|ScatterElements) with reduction is not supported|Unsupported reduction type"
)
def _reduction(_m: re.Match[str], case: Case) -> Explanation:
    kind = f"={case.blamed.attribute('reduction', 'none')}" if case.blamed else ""
    message = f"{label(case.blamed, 'A scatter')} has reduction{kind}, which this TensorRT does not support."
    return Explanation(message, REPLACE, ids(case.blamed), quote=False)


@rule("unsupported-output", r"doesn't support mode than 1 outputs for (\w+) nodes")
def _outputs(m: re.Match[str], case: Case) -> Explanation:
    more = [o for o in case.blamed.outputs[1:] if o] if case.blamed else []
    hint = _EVAL if m[1] == "BatchNormalization" else "Remove the other outputs, or compute them in another way."
    message = f"{label(case.blamed)} has outputs in addition to the one that TensorRT supports: {', '.join(more)}."
    return Explanation(message, hint, ids(case.blamed), quote=False)


@rule("missing-tensor", r"Node input was not registered|Trying to access weights or a null tensor")
def _missing(_m: re.Match[str], case: Case) -> Explanation | None:
    graph = case.graph
    known = {*graph.inputs, *graph.initializers, *graph.producer, ""}
    absent = [name for name in (case.blamed.inputs if case.blamed else graph.outputs) if name not in known]
    if not absent:
        return None
    reads = f"{label(case.blamed)} reads" if case.blamed else "The model gives"
    hint = "The model is not valid ONNX: `python -m onnx.checker FILE` says more; export it again."
    return Explanation(f"{reads} {listed(absent)}, which no node computes.", hint, ids(case.blamed), quote=False)


@rule("topk-limit", r"K exceeds the maximum value allowed \((\d+)\)")
def _topk(m: re.Match[str], case: Case) -> Explanation:
    node = case.subject(m.string)
    k = case.value(node.inputs[1]) if node is not None and len(node.inputs) > 1 else None
    message = f"{label(node, 'A TopK')} asks{f' for {k[0]:,}' if k else ''}; TensorRT supports at most {int(m[1]):,}."
    return Explanation(message, f"Use a k of {m[1]} or less.", ids(node))


@rule("window-limit", r"volume\(windowSize\) < maxKernelDimsProduct")
def _window(_m: re.Match[str], case: Case) -> Explanation:
    node = case.blamed
    kernel = [int(k) for k in node.attribute("kernel_shape", [])] if node is not None else []
    asked = f" of {'x'.join(map(str, kernel))} = {math.prod(kernel):,}" if kernel else ""
    average = node is not None and node.op == "AveragePool"
    hint = (
        "A window that covers the whole image is GlobalAveragePool (nn.AdaptiveAvgPool2d(1)), which has no such limit."
    )
    message = f"The window{asked} of {label(node, 'a pooling')} is larger than TensorRT supports."
    return Explanation(message, hint if average else "Use a smaller window.", ids(node))


LIMITS = (
    _topk, _window,
    plain("window-limit", r"windowSize >= kLRN_MIN_WINDOW", "TensorRT does not support the size of {node}.",
          "TensorRT for RTX 1.7 supports odd sizes up to 15."),
    plain("unsupported-attribute", r"padding size is larger than or equal to the filter size for exclusive-counting pooling",
          "{node} pads by as much as its window or more.", "Use less padding, or a Pad node before it."),
    plain("unsupported-dimensions", r"\(kernelSize\)\.nbDims == 2 \|\| \(kernelSize\)\.nbDims == 3",
          "{node} has neither two nor three spatial dimensions.", "TensorRT has convolutions over 1, 2 and 3 dimensions."),
    plain("invalid-axis", r"Axis must be in the range \[.*?\]\. Provided axis is: (-?\d+)",
          "{node} names axis {1}, and its input has no such axis.", "Correct the node, or export the model again."),
    plain("invalid-axis", r"axes have duplicate index value of (-?\d+)", "{node} names axis {1} twice.",
          "Correct the node, or export the model again."),
)  # fmt: skip

PARSER = (
    _input_type, _dimensions, _weight_type, _missing, _cast_to,
    plain("unsupported-attribute", r"[Aa]ntialiasing is not supported", "{node} smooths (antialias=1), which TensorRT does not support.",
          "Export with antialias=False: results then differ where the image shrinks.", quote=False),
    plain("unsupported-attribute", r"does not support dilations other than 1",
          "{node} has dilations other than 1, which TensorRT's poolings do not support.", REPLACE, quote=False),
    plain("unsupported-attribute", r"does not support (?:training_mode == 1|the Dropout operator in training mode)",
          "{node} was exported in training mode.", _EVAL, quote=False),
    plain("unsupported-attribute", r"Setting softcap is not supported",
          "{node} has a softcap, which TensorRT's attention does not support.", OPSET, quote=False),
    _transformation, _reduction, _outputs,
    plain("loop-scan-length", r"cannot infer the shape of scan output (.+?) since no trip limit was set",
          "{node} collects an output ({1}) at each step and has no trip count, so its length is not known.",
          "Give the Loop a trip count (its first input), as the export of `for i in range(n)` does.", quote=False),
    _plugin_driver, _no_operator, *TYPES, *LIMITS, *SHAPES,
)  # fmt: skip
"""Rules for the parser's error about one node; the first that matches is used."""


# --- targets, kernels and the machine -----------------------------------------------------------------
