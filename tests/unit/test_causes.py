"""What TensorRT's messages prove, from messages recorded with several versions, and what they do not prove."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from tests.support.small_models import constant, model, node, save, value, weights
from workbench.compilers.config import BuildConfig
from workbench.compilers.tensorrt import targets
from workbench.compilers.tensorrt.case import Case, words
from workbench.compilers.tensorrt.refused import Complaint, builder_error, parser_error, reason
from workbench.core.errors import BuildError, ConfigError
from workbench.model.shape_profile import ShapeProfile

NO_DRIVER = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
)
CURRENT = (
    "IBuilder::buildSerializedNetwork: Error Code 1: Cuda Runtime (In generateForCurrent at "
    "/_src/runtime/core/cudaDeviceProfile.cpp:221 (cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
)
OFFERED = ["sm75", "sm80", "sm86", "sm89", "sm120", "sm121"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """conv1 (INT8 by Q/DQ) -> relu1 -> conv2, and a MatMul that is called "out of memory"."""
    zero, scale = constant("zero", 0, "int8"), constant("scale", 0.1)
    proto = model(
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "q"), node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "d"),
            node("Conv", ["d", "w"], ["c"], "conv1"), node("Relu", ["c"], ["r"], "relu1"), node("Conv", ["r", "w2"], ["z"], "conv2"),
            node("MatMul", ["z", "z"], ["y"], "out of memory"),
        ],
        [value("x", [1, 4, 8, 8])], [value("y", [1, 4, 8, 8])], [weights("w", 4, 4, 1, 1), weights("w2", 4, 4, 1, 1), zero, scale],
    )  # fmt: skip
    return save(proto, tmp_path / "m.onnx")


def told(file: Path, *said: str, gpus: Sequence[str] = (), **config: Any) -> BuildError | ConfigError:
    asked = BuildConfig.of(**{"targets": "sm89", **config})
    return builder_error(Case(asked, file, said, OFFERED, "TensorRT for RTX 1.7.1", gpus))


RECORDED = {
    "the GPU's memory is full": (
        "[virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory (Requested size was 4966055936 bytes.)",
        "out-of-memory", "The GPU ran out of memory when TensorRT requested 4.97 GB", [], {},
    ),
    "the host's memory is full": ("Error Code 2: Internal Error (std::bad_alloc)", "out-of-memory", "The machine ran out of memory", [], {}),
    "CUDA's memory is full": ("[resources.cpp::alloc::12] Error Code 1: Cuda Runtime (out of memory)", "out-of-memory", "GPU ran out of memory", [], {}),
    "another GPU": (
        "TensorRT for RTX cannot run on this GPU, which has compute capability 9.0", "gpu-not-supported", "does not run on this machine's GPU", [], {},
    ),
    "convolutions without INT8": (
        "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([myelin_graph.h:1: f] MyelinCheckException: cudnn_impl.cpp:89: "
        "CHECK(dtype == myelinTypeFloat || dtype == myelinTypeHalf || dtype == myelinTypeBF16 || dtype == myelinTypeFP8E4M3) failed.)",
        "int8-convolution", "no INT8 convolutions, and the model has 1: conv1", ["conv1"], {},
    ),
    "an INT8 convolution without a kernel": (
        "Error Code 10: Internal Error (Could not find any implementation for node conv1 + relu1.)",
        "int8-convolution", "no INT8 convolutions", ["conv1"], {},
    ),
    "another convolution without a kernel": (
        "Error Code 10: Internal Error (Could not find any implementation for node conv2.)", "no-kernel", "no kernel for Conv conv2", ["conv2"], {},
    ),
    "a part without a kernel": (
        "[optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any implementation for node "
        "{ForeignNode[relu1...conv2]}.)", "no-kernel", "no kernel for ForeignNode[relu1...conv2]", ["relu1", "conv2"], {},
    ),
    "a node in FP16 without a kernel": (
        "Error Code 10: Internal Error (Could not find any implementation for node conv2.)", "no-kernel", "on sm89 in FP16", ["conv2"],
        {"precision": "fp16"},
    ),
    "too little workspace": (
        "[optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any implementation for node conv1 due to "
        "insufficient workspace. See verbose log for requested sizes.)", "workspace", "No kernel for Conv conv1 fits into the workspace of 1 kB",
        ["conv1"], {"workspace": 1000},
    ),
    "a fault of the code generator": (
        "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([shape.cpp:175: ~op_constraints_msg_streamer_t] \nError during shape "
        "inference of\n__resh3474 = reshape(relu1_first_transpose_output.1), shape=(1, 2, 16)\nError is:\nMismatched number of elements in "
        "reshape op: __resh3474 input tensor relu1_first_transpose_output.1 has shape [5,2,16]", "code-generator",
        "its code generator failed on internal operations near Relu relu1", ["relu1"], {},
    ),
    "no rule": ("Error Code 4: Internal Error (relu1: something odd In f at /_src/a.cpp:12)", "build-failed", "at Relu relu1: relu1: something odd", ["relu1"], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_messages(file: Path, name: str) -> None:
    text, code, message, nodes, config = RECORDED[name]
    error = told(file, text, NO_DRIVER, **config)
    assert error.code == code
    assert message in error.message
    assert error.details.get("nodes", []) == nodes
    assert "driver" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "Error Code 4: Internal Error (out of memory: something odd)",  # a node of this name
        "Error Code 4: API Usage Error (/cudaError 3/Add: something odd)",
        "Error Code 4: Internal Error (CaskConvolution: something odd)",
        "Error Code 1: Myelin (CHECK(status == CUDA_SUCCESS) failed.)",  # nobody asked for refit
        "Error Code 2: Internal Error (the workspace is insufficient in memory)",
        "Error Code 4: API Usage Error (Network input s is a shape tensor and must have type Int32 or Int64.)",
        "Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no optimization profile has been defined.)",
        "Attention operation was not supported by a dedicated kernel",
        "",
    ],
)
def test_no_cause_without_a_positive_reason(file: Path, text: str) -> None:
    error = told(file, text, NO_DRIVER)
    assert error.code == "build-failed" if text else "needs-driver"
    assert error.hint is None if text else True
    if text:
        assert words(text) in error.message


def test_a_missing_driver_is_the_cause_only_where_nothing_else_was_said_and_no_target_was_named(file: Path) -> None:
    for said in ([CURRENT], ["CUDA initialization failure with error: 35", NO_DRIVER]):
        for asked in ({"targets": ()}, {"targets": "current"}):
            error = told(file, *said, **asked)
            assert (type(error), error.code) == (ConfigError, "no-driver")
            assert "there is no NVIDIA driver here" in error.message
            assert 'target="sm89"' in str(error.hint)
            assert "--target" not in str(error.hint)
            assert "--target sm89" in str(error.shell_hint)
    old = told(file, CURRENT, targets="current", gpus=["T4 (sm75)"])
    assert "the driver of T4 (sm75) is too old" in old.message
    assert old.hint == "Update the driver."
    named = told(file, NO_DRIVER, targets="sm89")
    assert named.code == "needs-driver"
    assert "--target" not in str(named)
    other = told(file, "Error Code 4: API Usage Error (relu1: something odd)", NO_DRIVER, targets="current")
    assert other.code == "build-failed"
    assert "driver" not in str(other)


def test_errors_before_the_last_are_no_causes(file: Path) -> None:
    """The builder logs what went wrong with kernels that it tried and left."""
    full = "[virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory (Requested size was 4966055936 bytes.)"
    odd = "Error Code 4: Internal Error (relu1: something odd In f at /_src/a.cpp:12)"
    none = "[optimizer.cpp::computeCosts::3728] Error Code 10: Internal Error (Could not find any implementation for node conv2.)"
    assert told(file, full, odd).code == "build-failed"
    assert "memory" not in str(told(file, full, odd))
    assert told(file, none).code == "no-kernel"
    both = told(file, full, none)
    assert (both.code, both.details["nodes"]) == ("out-of-memory", ["conv2"])
    assert "ran out of memory while it tried kernels" in both.message
    detail = "ITensor::getDimensions: Error Code 4: Shape Error (reshape changes volume. Reshaping [4,3] to [3]. In o at /_src/s.cpp:4)"
    follows = "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Output shape can not be computed for node relu1. In n at /_src/g.cpp:3)"
    assert told(file, detail, NO_DRIVER, follows).details["nodes"] == ["relu1"]
    assert told(file, detail, NO_DRIVER, follows).code == "shape-mismatch"
    assert told(file, detail, odd).code == "build-failed"


def test_nothing_said_is_no_cause(file: Path) -> None:
    assert told(file).code == "build-failed"
    assert "it gave no reason" in told(file).message


def test_refit_is_blamed_only_without_a_driver(file: Path) -> None:
    text = "Error Code 1: Myelin ([myelin_graph.h:1: f] MyelinCheckException: graph_jit.cpp:278: CHECK(status == CUDA_SUCCESS) failed.)"
    assert told(file, text, refit=True).code == "refit-needs-driver"
    assert told(file, text, flags=("REFIT_IDENTICAL",)).code == "refit-needs-driver"
    assert told(file, text, refit=True, gpus=["T4 (sm75)"]).code == "build-failed"


def test_a_recurrent_model_in_bf16_gets_the_way_that_was_tried(tmp_path: Path) -> None:
    text = "Error Code 1: Myelin ([shape.cpp:175: f] \nError during shape inference of\n__r = reshape(t.1), shape=(1)\nError is:\nodd)"
    proto = model(
        [node("GRU", ["x", "w", "r"], ["y"], "gru", hidden_size=8)], [value("x", [5, 2, 4])], [value("y", None)],
        [weights("w", 1, 24, 4), weights("r", 1, 24, 8)],
    )  # fmt: skip
    path = save(proto, tmp_path / "g.onnx")
    assert "--precision fp16" in str(told(path, text, precision="bf16").hint)
    assert told(path, text).hint is None


def test_shape_values_are_named_where_an_input_is_read_as_a_shape(tmp_path: Path) -> None:
    text = "Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no optimization profile has been defined. In validate at /_src/n.cpp:4)"
    proto = model(
        [node("Reshape", ["x", "s"], ["y"], "r")],
        [value("x", [4, 4]), value("s", [2], TensorProto.INT64)],
        [value("y", None)],
    )
    error = told(save(proto, tmp_path / "r.onnx"), text)
    assert (error.code, error.details["nodes"]) == ("shape-values", ["r"])
    assert "input s as a shape" in error.message


@pytest.mark.parametrize("name", ["Network", "Error", "Tensor", "Output shape", "Myelin", "a: b", "add_1"])
def test_a_node_is_named_only_by_its_whole_name(tmp_path: Path, name: str) -> None:
    proto = model(
        [node("Relu", ["x"], ["r"], name), node("Add", ["r", "r"], ["y"], "add_10")], [value("x", [2])], [value("y", [2])]
    )  # fmt: skip
    path = save(proto, tmp_path / "m.onnx")
    case = Case(BuildConfig(targets="sm89"), path, ())
    for text in (
        "Network is odd",
        "Tensor y has axis 0",
        "Output shape can not be computed",
        "Error while working",
        "Myelin broke",
    ):
        assert case.subject(text) is None
    found = case.subject(f"{name}: volume mismatch")
    assert found is not None
    assert found.id == name
    for layer, expected in (
        (f"{name}_0", name),
        ("add_10", "add_10"),
        ("add_10_AttentionInput", "add_10"),
        ("add_100", None),
    ):
        found = case.node_of(layer)
        assert (found.id if found else None) == (expected if layer != "add_100" or name != "add_1" else None)


# --- the parser ---------------------------------------------------------------------------------------


def refused(path: Path, *complaints: Complaint, said: Sequence[str] = (), **config: Any) -> Any:
    return parser_error(complaints, Case(BuildConfig.of(**{"targets": "sm89", **config}), path, said, OFFERED))


def test_an_index_of_minus_one_names_no_node(file: Path) -> None:
    error = refused(
        file, Complaint("INTERNAL_ERROR", -1, "", "", "Assertion failed: x > 0: something odd", "parseFromFile")
    )
    assert error.message == "TensorRT's parser refused the model:\n  The parser names no node: something odd"
    assert error.details["nodes"][0] | {"hint": None} == {
        "node": "", "index": -1, "op": "", "code": "INTERNAL_ERROR", "cause": "internal-error", "reason": "something odd", "hint": None,
    }  # fmt: skip
    assert "conv1" not in error.message


def test_the_importer_names_the_operation_where_the_index_is_minus_one(file: Path) -> None:
    one = refused(file, Complaint("UNSUPPORTED_NODE_ATTR", -1, "", "", "something odd", "importRelu"))
    assert "Relu relu1: something odd" in one.message
    several = refused(file, Complaint("UNSUPPORTED_NODE_ATTR", -1, "", "", "something odd", "importConv"))
    assert "The parser names no node: something odd" in several.message
    assert several.code == "unsupported-node-attr"


@pytest.mark.parametrize(
    ("complaint", "node_id"),
    [
        (Complaint("INVALID_NODE", 3, "relu1", "Relu", "odd"), "relu1"),
        (Complaint("INVALID_NODE", 3, "", "Relu", "odd"), "relu1"),
        (Complaint("INVALID_NODE", 0, "", "Relu", "odd"), "relu1"),  # in a body the index is another node's
        (Complaint("INVALID_NODE", 0, "", "Conv", "odd"), ""),  # two of them, and the index is neither's
        (Complaint("INVALID_NODE", 0, "elsewhere", "Sin", "odd"), "elsewhere"),
    ],
)
def test_the_node_that_is_blamed(file: Path, complaint: Complaint, node_id: str) -> None:
    assert refused(file, complaint).details["nodes"][0]["node"] == node_id


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("false", "the parser does not know this operation"),
        ("", "the parser does not know this operation"),
        ("Invalid Node - the_Resize", "the parser gives no reason"),
        ('creator && "Plugin not found, are the plugin name, version, and namespace correct?"', "Plugin not found, are the plugin name, version, and namespace correct?"),
        ("Assertion failed: mode == \"none\": ScatterND with reduction is not supported.", "ScatterND with reduction is not supported."),
        ("Assertion failed: (axis >= 0 && axis <= nbDims): Axis must be in the range [0, nbDims (2)]. Provided axis is: 7", "Axis must be in the range [0, nbDims (2)]. Provided axis is: 7"),
        (f"Invalid Node - ad\nITensor::getDimensions: Error Code 4: API Usage Error (ad: is odd In v at /_src/a.cpp:4)\n{NO_DRIVER}", "ad: is odd"),
    ],
)  # fmt: skip
def test_the_parsers_own_words(text: str, expected: str) -> None:
    assert reason(text) == expected


def test_a_refusal_without_a_reason_says_so(file: Path) -> None:
    error = refused(file, Complaint("INVALID_NODE", 3, "relu1", "Relu", "Invalid Node - relu1", "parseNode"))
    assert error.code == "refused-by-parser"
    assert "Relu relu1: the parser gives no reason" in error.message


def test_a_plugin_is_missing_or_lacks_a_driver(tmp_path: Path) -> None:
    proto = model(
        [node("RoiAlign", ["x", "b", "i"], ["y"], "roi")],
        [value("x", [1, 3, 8, 8]), value("b", [2, 4]), value("i", [2], TensorProto.INT64)], [value("y", None)],
    )  # fmt: skip
    path = save(proto, tmp_path / "roi.onnx")
    complaint = Complaint(
        "UNSUPPORTED_NODE",
        0,
        "roi",
        "RoiAlign",
        "Assertion failed: plugin != nullptr: ROIAlign plugin was not found in the plugin registry!",
        "importRoiAlign",
    )
    failed = "/_src/plugin/roiAlignPlugin/roiAlignPlugin.cpp (161) - Cuda Error in ROIAlignV3: 35 (CUDA driver version is insufficient for CUDA runtime version)"
    assert refused(path, complaint, said=[failed]).code == "plugin-needs-driver"
    assert refused(path, complaint, said=[NO_DRIVER]).code == "unsupported-operator"


def test_several_nodes_are_each_told_with_their_cause(file: Path) -> None:
    many = [
        Complaint("UNSUPPORTED_NODE", 3, "relu1", "Relu", "false"),
        Complaint("UNSUPPORTED_NODE", 4, "conv2", "Conv", "Setting softcap is not supported in X"),
    ]
    error = refused(file, *many, *many)
    assert error.message.startswith("TensorRT's parser refused 2 nodes:")
    assert [n["cause"] for n in error.details["nodes"]] == ["unsupported-operator", "unsupported-attribute"]
    assert error.code == "unsupported-operator"
    assert "would still build" not in str(error)


def test_the_time_grows_with_the_length(file: Path) -> None:
    begun = time.monotonic()
    for filler in ("[1,", "(", " In ", "a: ", "Reshaping [", "\n", " "):
        told(file, "Error Code 4: Internal Error (" + filler * 200_000)
        refused(file, Complaint("INVALID_NODE", 3, "relu1", "Relu", "Assertion failed: " + filler * 200_000))
    assert time.monotonic() - begun < 60  # a guard against hanging


# --- targets ------------------------------------------------------------------------------------------


def test_the_table_of_targets() -> None:
    assert [t for t in OFFERED if targets.has(t, "bf16")] == OFFERED[1:]
    assert targets.having(["fp8", "bf16"], OFFERED) == ["sm89", "sm120", "sm121"]
    assert targets.has("sm90", "fp8") is True
    assert targets.has("sm90", "fp4") is False
    assert targets.has("sm100", "fp4") is True
    assert targets.has("current", "fp4") is None
    assert targets.has("sm89", "int2") is None
    assert targets.advice(["fp4"], OFFERED) == "--target sm120 or sm121"
    assert targets.advice(["int4"], ["sm75", "sm80"]) == "--target sm80"
    assert targets.advice(["fp4"], ["sm75", "sm80"]) == ""
    assert targets.number("smooth") is None


@pytest.mark.parametrize(
    ("asked", "types", "message", "hint"),
    [
        (
            "sm75",
            "b16",
            "sm75 has no BF16: BF16 needs sm80 or later.",
            "Use --target sm80, sm86, sm89, sm120 or sm121, or start from the FP32 model with --precision fp16.",
        ),
        ("sm75,sm80", "fp8_e4m3, int4", "sm75 and sm80 have no FP8 and no INT4", "Use --target sm89, sm120 or sm121"),
        ("sm89", "odd_type", "sm89 has no ODD_TYPE.", None),
    ],
)
def test_only_offered_targets_with_the_type_are_named(
    file: Path, asked: str, types: str, message: str, hint: str | None
) -> None:
    text = f"Error Code 1: Myelin ([pass.cpp:1500: run_passes] Cannot compile for target(s) {asked}, because the model contains HW-specific datatypes: {types}. In c at /_src/c.cpp:2012)"
    error = told(file, text, targets="sm75", profiles=ShapeProfile.parse(["x=1x4x8x8"]))
    assert error.code == "target-type"
    assert message in error.message
    assert (error.hint or "").startswith(hint or "")
    assert (hint is None) == (error.hint is None)
