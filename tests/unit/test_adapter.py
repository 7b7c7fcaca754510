"""The TensorRT adapter against the real names of versions that can't be installed here.

A module is made from a recorded list of classes, methods, properties and enum members. It has exactly those
names, so that touching any other is an AttributeError. The build runs through it from parsing to the record.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.support import fake_tensorrt
from tests.support.fake_tensorrt import DEFAULTS, Silent, run
from tests.support.small_models import save
from workbench import BuildConfig, ShapeProfile
from workbench.compilers.tensorrt import build as adapter
from workbench.core.errors import BuildError, ConfigError, ListingError, UnsupportedNodesError

made = fake_tensorrt.made


def test_a_plain_build_touches_only_names_that_exist(made, tmp_path: Path) -> None:
    version, module, state = made
    record = run(module, tmp_path)
    assert len(record["layers"]) == 9
    assert record["compiler"]["version"] == module.__version__
    assert (tmp_path / "engine").read_bytes() == b"engine"
    called = [name for name, _ in state.calls]
    assert "IBuilderConfig.add_optimization_profile" in called
    flags = next(args for name, args in state.calls if name == "Builder.create_network")
    # Strongly typed is a flag in TensorRT 10 and the only way later.
    assert flags == ((1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED),) if version == "10" else flags)


OPTIONS = {
    "workspace": 1 << 30, "optimization_level": 4, "tf32": False, "sparse_weights": True, "strip_plan": True, "refit": True,
    "weight_streaming": True, "version_compatible": True, "hardware_compatibility": "ampere_plus", "max_aux_streams": 2,
    "tiling_level": "fast", "l2_limit": 1 << 20, "avg_timing_iterations": 2, "verbosity": "layer_names_only", "flags": ("disable_timing_cache",),
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_is_set_or_refused_by_name(made, tmp_path: Path, option: str) -> None:
    _, module, _ = made
    try:
        run(module, tmp_path, **{option: OPTIONS[option]})
    except ConfigError as error:
        refusal = error.message
    else:
        return  # set: every name that was touched exists
    assert "has no" in refusal
    assert module.__version__ in refusal


def test_targets_are_set_where_they_can_be_chosen(made, tmp_path: Path) -> None:
    version, module, state = made
    if version == "rtx":
        run(module, tmp_path, targets="sm86+sm89")
        assert state.sets["num_compute_capabilities"] == 2
        with pytest.raises(ConfigError, match="sm42"):
            run(module, tmp_path, targets="sm42")
    else:
        with pytest.raises(ConfigError, match="choice of target"):
            run(module, tmp_path, targets="sm89")


def test_build_routes_are_refused_where_there_are_none(made, tmp_path: Path) -> None:
    _, module, _ = made
    with pytest.raises(ConfigError, match="build_route"):
        run(module, tmp_path, build_route="x")


def test_errors_of_the_builder(made, tmp_path: Path) -> None:
    _, module, state = made
    for text, kind, told in (
        ("cudaError 35: CUDA driver version is insufficient", ConfigError, "no NVIDIA driver"),
        ("Cannot compile operation 'n174' for Turing (SM75): FP32 GEMM is not supported)", BuildError, "n174"),
        ("[a.cpp::b::1] Error Code 2: OutOfMemory (Requested size was 12 bytes.)", BuildError, "ran out of memory when TensorRT requested 12 B"), ("Something else", BuildError, "Something else"),
    ):  # fmt: skip
        state.complaint = text
        with pytest.raises(kind, match=told):
            run(module, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "Myelin (MyelinCheckException: cudnn_impl.cpp:89: CHECK(dtype == myelinTypeFloat || dtype == myelinTypeHalf || "
        "dtype == myelinTypeBF16 || dtype == myelinTypeFP8E4M3) failed.",
        "Error Code 10: Internal Error (Could not find any implementation for node conv1 + relu1.)",
    ],
)
def test_int8_convolutions_without_a_kernel_are_named(made, tmp_path: Path, text: str) -> None:
    from tests.support.small_models import model, node, value, weights

    _, module, state = made
    state.complaint = text
    zero = helper.make_tensor("zero", TensorProto.INT8, [], [0])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])
    proto = model(
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "q"), node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "d"),
            node("Conv", ["d", "w"], ["c"], "conv1"), node("Relu", ["c"], ["r"], "relu1"),
            node("Conv", ["r", "w2"], ["y"], "conv2"),
        ],
        [value("x", ["n", 4, 8, 8])], [value("y", ["n", 4, 8, 8])], [weights("w", 4, 4, 1, 1), weights("w2", 4, 4, 1, 1), zero, scale],
    )  # fmt: skip
    save(proto, tmp_path / "m.onnx")
    config = BuildConfig(compiler="tensorrt", profiles=ShapeProfile.parse(["x=1x8:2x8:4x8"])).to_dict()
    with pytest.raises(BuildError, match="no INT8 convolutions, and the model has 1: conv1") as info:
        adapter.build(
            Silent(), module=module.__name__, model=str(tmp_path / "m.onnx"), config=config, folder=str(tmp_path)
        )
    assert info.value.details["nodes"] == ["conv1"]
    assert "--keep" in str(info.value.hint)


def test_a_missing_kernel_names_its_node(made, tmp_path: Path) -> None:
    _, module, state = made
    state.complaint = "Error Code 10: Internal Error (Could not find any implementation for node {ForeignNode[a...b]}.)"
    with pytest.raises(BuildError, match=r"no kernel for ForeignNode\[a...b\]"):
        run(module, tmp_path)


def test_no_listing_and_a_foreign_listing_name_the_version(made, tmp_path: Path) -> None:
    _, module, state = made
    for text in ("", "Layers:\nof another form"):
        state.listing = text
        with pytest.raises(ListingError, match=module.__version__):
            run(module, tmp_path)


class Complaint:
    def node(self) -> int:
        return 1

    def code(self) -> str:
        return "ErrorCode.UNSUPPORTED_NODE"

    def node_name(self) -> str:
        return "foo1"

    def node_operator(self) -> str:
        return "FooBar"

    def desc(self) -> str:
        return 'creator && "Plugin not found, are the plugin name right?"'


def test_errors_of_the_parser_name_the_nodes(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, module, state = made
    state.parses, state.errors = False, [Complaint()]
    monkeypatch.setitem(DEFAULTS, "num_errors", 1)
    with pytest.raises(UnsupportedNodesError, match="FooBar foo1: Plugin not found") as info:
        run(module, tmp_path)
    assert info.value.details["nodes"][0]["code"] == "UNSUPPORTED_NODE"


def test_features(made) -> None:
    version, module, _ = made
    found = adapter.features(Silent(), module=module.__name__)
    known = {"sm75", "sm80", "sm86", "sm89", "sm120", "sm121", "current"}
    assert set(found["targets"]) == (known if version == "rtx" else {"current"})
    assert "TF32" in found["flags"]
