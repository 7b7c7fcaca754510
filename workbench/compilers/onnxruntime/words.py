"""The neutral kind and a readable title for each of ONNX Runtime's operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.compilers.onnxruntime.regions import NCHWC
from workbench.model.cost_rules import VIEWS
from workbench.plan.kinds import kind_of_ops

if TYPE_CHECKING:
    from collections.abc import Collection

    from workbench.model.node import Node

_KINDS = (
    ("attention", {"MultiHeadAttention", "GroupQueryAttention", "QAttention", "PackedAttention", "PackedMultiHeadAttention",
                   "DecoderAttention", "DecoderMaskedSelfAttention", "DecoderMaskedMultiHeadAttention", "LongformerAttention",
                   "SparseAttention", "LinearAttention", "Attention"}),
    ("conv", {"FusedConv", "NhwcFusedConv", "NhwcConv", "QLinearConvTranspose", "ConvTransposeWithDynamicPads", "DeformConv",
              "ConvTranspose", "CausalConvWithState"}),
    ("gemm", {"FusedMatMul", "FusedMatMulActivation", "FusedGemm", "TransposeMatMul", "MatMulIntegerToFloat",
              "DynamicQuantizeMatMul", "MatMulInteger16", "QGemm", "MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "GemmFloat8",
              "GemmFastGelu", "DynamicQuantizeLSTM", "DynamicQuantizeGRU", "MoE", "QMoE", "MatMulNBitsMlp", "MatMulNBitsQkv"}),
    ("norm", {"SkipLayerNormalization", "EmbedLayerNormalization", "QEmbedLayerNormalization", "SimplifiedLayerNormalization",
              "SkipSimplifiedLayerNormalization", "GroupNorm", "SkipGroupNorm", "LpNormalization", "LRN",
              "MeanVarianceNormalization"}),
    ("softmax", {"BiasSoftmax", "QLinearSoftmax", "Hardmax"}),
    ("pooling", {"QLinearAveragePool", "QLinearGlobalAveragePool", "NhwcMaxPool", "LpPool", "GlobalLpPool", "MaxRoiPool",
                 "RoiAlign", "MaxpoolWithMask"}),
    ("reduction", {"QLinearReduceMean", "ReduceL1", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ReduceSumInteger",
                   "ArgMin", "NonMaxSuppression", "Unique", "NonZero"}),
    ("gather", {"Scatter", "GatherBlockQuantized", "Compress", "OneHot", "QOrderedGather"}),
    ("layout", {"ReorderInput", "ReorderOutput", "QLinearConcat", "ConcatFromSequence", "SequenceInsert", "SplitToSequence",
                "SequenceAt", "SequenceConstruct", "SequenceEmpty", "ConstantOfShape", "Range", "EyeLike", "ReverseSequence",
                "TransposeBSNHtoBNSH", "CenterCropPad", "Trilu"}),
    ("cast", {"CastLike", "DynamicQuantizeLinear", "BitCast"}),
    ("control", {"If", "Loop", "Scan"}),
    ("shape", {"Shape", "Size"}),
)  # fmt: skip
"""Operators of ONNX Runtime's domains, and ONNX operators without a kind in `workbench.plan.kinds`."""

_AS_CONV = {"_bn_nchwc": "BatchNormalization", "_mul_nchwc": "Mul"}
"""Endings of the names of NCHWc convolutions that ONNX Runtime made from other operators."""

_FUSED = {"FusedConv": "Conv", "NhwcFusedConv": "Conv (NHWC)", "FusedGemm": "Gemm"}


def kind(node: Node, outputs: Collection[str] = ()) -> str:
    """The neutral kind of an optimized node (see `workbench.plan.kinds`).

    Args:
        node: The node.
        outputs: Names of the graph's outputs. A view that writes one copies its input; any other only renames it.
    """
    if node.op in VIEWS:
        return "layout" if any(t in outputs for t in node.outputs) else "noop"
    for name, members in _KINDS:
        if node.op in members:
            return name
    return kind_of_ops([node.op])


def title(node: Node) -> str:
    """A readable title, such as ``Conv + Add + Relu``, ``FusedMatMul`` or ``reorder to NCHWc``."""
    if node.op == "ReorderInput":
        return "reorder to NCHWc"
    if node.op == "ReorderOutput":
        return "reorder from NCHWc"
    for ending, op in _AS_CONV.items():
        if node.domain == NCHWC and node.op == "Conv" and node.proto.name.endswith(ending):
            return f"{op} as a convolution"
    parts = [_FUSED.get(node.op, node.op)]
    if node.op in {"Conv", "FusedConv", "NhwcFusedConv"} and len(node.inputs) > 3 and node.inputs[3]:
        parts.append("Add")  # the input "Sum" or "Z"
    if activation := node.attribute("activation"):
        parts.append(str(activation))
    return " + ".join(parts)
