"""Models damaged at random, for tests that every reader answers with one of the workbench's own errors."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.small_models import constant, model, node, value, weights

STACK = "pkg.torch.onnx.stack_trace"


def seeds() -> dict[str, onnx.ModelProto]:
    """Small models that use what ONNX has: bodies, functions, constants of all kinds, metadata, odd types."""
    return {"plain": _plain(), "bodies": _bodies(), "functions": _functions(), "shapes": _shapes(), "types": _types()}


def _plain() -> onnx.ModelProto:
    made = model(
        [node("Conv", ["x", "k"], ["c"], "conv", pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"], "relu"),
         node("Transpose", ["r"], ["t"], "t", perm=[0, 2, 3, 1]), node("Reshape", ["t", "to"], ["f"], "flat"),
         node("MatMul", ["f", "w"], ["m"], "mm"), node("Einsum", ["m", "w2"], ["e"], "ein", equation="ab,bc->ac"),
         node("Softmax", ["e"], ["y"], "soft", axis=-1)],
        [value("x", ["n", 2, 4, 4])], [value("y", ["n", 3])],
        [weights("k", 3, 2, 3, 3), weights("w", 48, 5), weights("w2", 5, 3), constant("to", [-1, 48], "int64")], infer=False,
    )  # fmt: skip
    for i, each in enumerate(made.graph.node):
        each.metadata_props.add(key=STACK, value=f'File "net/part.py", line {3 + i}, in forward\n    return x\n')
        each.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'block.0', 'relu']")
        each.metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value="['Net', 'torch.nn.Block', 'aten.relu']")
    return made


def _bodies() -> onnx.ModelProto:
    def body(name: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node("Add", ["x", name], [f"o{name}"], f"n{name}")], name, [], [value(f"o{name}", [4])], [weights(name, 4)]
        )

    loop = helper.make_graph(
        [node("Identity", ["go_in"], ["go"]), node("Relu", ["s_in"], ["s"], "inner")], "loop",
        [value("i", [], TensorProto.INT64), value("go_in", [], TensorProto.BOOL), value("s_in", [4])],
        [value("go", [], TensorProto.BOOL), value("s", [4])],
    )  # fmt: skip
    return model(
        [node("If", ["c"], ["b"], "if", then_branch=body("p"), else_branch=body("q")),
         node("Loop", ["times", "c", "b"], ["y"], "loop", body=loop)],
        [value("x", [4]), value("c", [], TensorProto.BOOL)], [value("y", [4])], [constant("times", 3, "int64")], infer=False,
    )  # fmt: skip


def _functions() -> onnx.ModelProto:
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]
    slope = node("LeakyRelu", ["A"], ["B"], "leaky")
    slope.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    inner = helper.make_function("mine", "Inner", ["A"], ["B"], [slope], opset)
    inner.attribute_proto.append(helper.make_attribute("slope", 0.25))
    outer = helper.make_function(
        "mine", "Outer", ["X", "W"], ["Y"],
        [node("MatMul", ["X", "W"], ["m"], "mm"), node("Inner", ["m"], ["Y"], "act", domain="mine")], opset,
    )  # fmt: skip
    return model(
        [node("Outer", ["x", "w"], ["h"], "first", domain="mine"), node("Outer", ["h", "w"], ["y"], "second", domain="mine", slope=0.5)],
        [value("x", [2, 4])], [value("y", [2, 4])], [weights("w", 4, 4)], functions=[inner, outer], domains=["mine"], infer=False,
    )  # fmt: skip


def _shapes() -> onnx.ModelProto:
    return model(
        [node("Shape", ["x"], ["s"], "shape"), node("Gather", ["s", "zero"], ["n"], "gather"),
         node("Range", ["zero", "n", "one"], ["r"], "range"), node("Unsqueeze", ["n", "ax"], ["n1"], "un"),
         node("Concat", ["n1", "four"], ["to"], "cat", axis=0), node("ConstantOfShape", ["to"], ["full"], "full"),
         node("Expand", ["one", "to"], ["ex"], "expand"), node("Tile", ["x", "twice"], ["t"], "tile"),
         node("Slice", ["t", "ax", "n1"], ["sl"], "slice"), node("Add", ["sl", "full"], ["y"], "add")],
        [value("x", ["n", 4])], [value("y", None), value("r", None, TensorProto.INT64), value("ex", None, TensorProto.INT64)],
        [constant("zero", 0, "int64"), constant("one", 1, "int64"), constant("ax", [0], "int64"), constant("four", [4], "int64"),
         constant("twice", [2, 1], "int64")], infer=False,
    )  # fmt: skip


def _types() -> onnx.ModelProto:
    made = model(
        [node("SequenceConstruct", ["x", "x"], ["q"], "seq"), node("ConcatFromSequence", ["q"], ["c"], "cat", axis=0),
         node("Optional", ["c"], ["o"], "opt"), node("OptionalGetElement", ["o"], ["g"], "get"),
         node("Constant", [], ["text"], "text", value_strings=["a", "b"]), node("Constant", [], ["f"], "f", value_floats=[1.0, 2.0]),
         node("QuantizeLinear", ["g", "scale", "zp"], ["d"], "q"), node("DequantizeLinear", ["d", "scale", "zp"], ["y"], "dq")],
        [value("x", [2, 3])], [value("y", [4, 3])],
        [constant("scale", 0.1), constant("zp", 3, "int8"), helper.make_tensor("four", TensorProto.INT4, [3], [1, 2, 3])], infer=False,
    )  # fmt: skip
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32), "sp"), numpy_helper.from_array(np.array([1, 5]), "idx"), [6]
    )
    made.graph.sparse_initializer.append(sparse)
    made.graph.value_info.append(
        helper.make_value_info("q", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [2, 3])))
    )
    return made


def damaged(data: bytes, dice: random.Random) -> bytes:
    """`data` with one to four bytes or stretches changed, cut out, doubled or put in."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at, size = dice.randrange(len(out) + 1), dice.choice([1, 1, 2, 4, 16, 64])
        match dice.randrange(6):
            case 0 | 1:
                if at < len(out):
                    out[at] = dice.choice(
                        [0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256), out[at] ^ (1 << dice.randrange(8))]
                    )
            case 2:
                del out[at : at + size]
            case 3:
                out[at:at] = out[at : at + size]
            case 4:
                out[at:at] = dice.randbytes(size)
            case _:
                other = dice.randrange(len(out) + 1)
                out[at : at + size] = out[other : other + size]
    return bytes(out)


def rewired(proto: onnx.ModelProto, dice: random.Random) -> bytes:
    """The model with some of its parts changed, so that protobuf still reads it: what a bad exporter could write."""
    out = onnx.ModelProto()
    out.CopyFrom(proto)
    for _ in range(dice.randint(1, 3)):
        nodes = [*out.graph.node, *(n for f in out.functions for n in f.node)]
        names = (
            [o for n in nodes for o in (*n.input, *n.output)]
            + [v.name for v in out.graph.input]
            + ["", "nowhere", "ü" * 3000]
        )
        dice.choice(_CHANGES)(out, nodes, names, dice)
    return out.SerializeToString()


def _inputs(_: Any, nodes: list[Any], names: list[str], dice: random.Random) -> None:
    picked = dice.choice(nodes)
    if picked.input and dice.random() < 0.5:
        del picked.input[dice.randrange(len(picked.input)) :]
    elif picked.input:
        picked.input[dice.randrange(len(picked.input))] = dice.choice(names)
    else:
        picked.input.append(dice.choice(names))


def _outputs(_: Any, nodes: list[Any], names: list[str], dice: random.Random) -> None:
    picked = dice.choice(nodes)
    if picked.output and dice.random() < 0.4:
        del picked.output[:]
    else:
        picked.output.append(dice.choice(names))


def _attribute(_: Any, nodes: list[Any], __: list[str], dice: random.Random) -> None:
    picked = dice.choice(nodes)
    if picked.attribute and dice.random() < 0.3:
        del picked.attribute[dice.randrange(len(picked.attribute))]
        return
    known = [
        "perm",
        "axis",
        "to",
        "equation",
        "alpha",
        "value",
        "pads",
        "body",
        "start",
        "end",
        "kernel_shape",
        "group",
        "slope",
    ]
    name = dice.choice([a.name for a in picked.attribute] + known)
    kept = [a for a in picked.attribute if a.name != name]
    del picked.attribute[:]
    picked.attribute.extend(kept)
    wrong: list[Any] = [
        2**62,
        -1,
        0,
        1.5,
        float("nan"),
        "abc,abc-",
        b"\xff",
        [0, 0],
        [2**62] * 3,
        [],
        ["x"],
        weights("z", 2),
    ]
    given = dice.choice(wrong)
    if given == []:
        picked.attribute.add(name=name, type=dice.choice([0, 1, 2, 4, 5, 7, 11]))
    else:
        picked.attribute.append(helper.make_attribute(name, given))


def _operation(_: Any, nodes: list[Any], __: list[str], dice: random.Random) -> None:
    kinds = ["Shape", "Cast", "Conv", "Transpose", "If", "Loop", "Scan", "Range", "Attention", "GRU", "Einsum", "Outer", "Gemm",
             "Resize", "TopK", "Split", "Pad", "Concat", "Unsqueeze", "NonZero", "Constant", "QuantizeLinear", "Nothing", ""]  # fmt: skip
    picked = dice.choice(nodes)
    picked.op_type = dice.choice(kinds)
    picked.domain = dice.choice(["", "", "", "ai.onnx", "mine", "com.microsoft"])


def _order(proto: Any, _: list[Any], __: list[str], dice: random.Random) -> None:
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in proto.graph.node]
    dice.shuffle(nodes)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _dimensions(proto: Any, _: list[Any], __: list[str], dice: random.Random) -> None:
    values = [v for v in (*proto.graph.input, *proto.graph.output) if v.type.HasField("tensor_type")]
    if values:
        kind = dice.choice(values).type.tensor_type
        kind.shape.dim.add().dim_value = dice.choice([-1, 0, 1, 7, 2**31, 2**62])
        kind.elem_type = dice.choice([0, 1, 7, 8, 16, 23, 99])


def _tensors(proto: Any, _: list[Any], __: list[str], dice: random.Random) -> None:
    if proto.graph.initializer:
        tensor = dice.choice(proto.graph.initializer)
        if dice.random() < 0.5:
            del tensor.dims[:]
            tensor.dims.extend(dice.choice([[], [0], [-1], [2**40, 2**40], [3] * 20]))
        else:
            tensor.data_type = dice.choice([0, 1, 7, 8, 14, 22, 77])


def _versions(proto: Any, _: list[Any], __: list[str], dice: random.Random) -> None:
    proto.opset_import[0].version = dice.choice([-1, 0, 1, 9, 13, 22, 2**40])
    if dice.random() < 0.3:
        del proto.opset_import[:]
        proto.opset_import.add(domain=dice.choice(["ai.onnx", "mine", "x"]), version=20)


def _metadata(_: Any, nodes: list[Any], __: list[str], dice: random.Random) -> None:
    values = [
        "[" * 500,
        "['a'",
        "{}",
        "9" * 5000,
        'File "/dev/zero", line 1, in f',
        f'File "{"a" * 9000}", line {"9" * 40}, in f',
        "\0",
    ]
    picked = dice.choice(nodes)
    picked.metadata_props.add(key=dice.choice([STACK, "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy", "namespace"]),
                              value=dice.choice(values))  # fmt: skip


_CHANGES: list[Callable[[Any, list[Any], list[str], random.Random], None]] = [
    _inputs, _inputs, _outputs, _attribute, _attribute, _attribute, _operation, _operation, _order, _dimensions, _tensors,
    _versions, _metadata,
]  # fmt: skip
