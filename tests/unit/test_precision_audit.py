"""The audit tells what is in a plan, from types and names alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.support.plans import layer, plan
from workbench.core.errors import ConfigError
from workbench.core.units import bytes_text
from workbench.plan import Layer, Plan
from workbench.precision.audit import KINDS, audit
from workbench.precision.audit_changes import compare, losses, verdict

pytestmark = pytest.mark.tiny


OURS = plan(
    layer("conv1", "correlation", "int8", "float16", "int8"),
    layer("__myl_MulAddReluMulMinMaxRounCast_myl0_1", "kgen", "float16", "int8"),
    layer("conv2", "correlation", "int8", "float16", "int8"),
)
DEFAULT = plan(
    layer("conv1", "correlation", "int8", "float32", "int8"),
    layer("__myl_MulAddMulMinMaxRounCastCastMulReluMulMinMaxRounCast_myl0_1", "kgen", "float32", "int8"),
    layer("conv2", "correlation", "int8", "float32", "int8"),
)


def test_a_clean_plan_has_no_findings() -> None:
    found = audit(OURS)
    assert found.asked == "int8"
    assert found.findings == ()
    assert found.products == {"conv": {"int8": 2}}
    assert found.by_precision["int8"] == {
        "kernels": 2,
        "flops": 20,
        "flops_unknown": 0,
        "bytes": 2 * (1000 + 1000 + 2000),
    }
    assert found.figures["flops_quantized"] == 1


def test_wide_outputs_and_double_requantization_are_found_by_type_and_by_name() -> None:
    found = {f.kind: f for f in audit(DEFAULT).findings}
    assert set(found) == {"wide-output", "double-requantization"}
    assert found["wide-output"].layers == ("conv1", "conv2")
    assert found["wide-output"].bytes == 2 * 4000  # half of each, stored once and loaded once
    assert found["double-requantization"].bytes == 5000
    assert "channel-after" in found["wide-output"].hint


def test_islands_conversions_and_weights() -> None:
    made = plan(
        layer("gemm1", "gemm", "float32", "float32", "float32"),
        layer("__myl_CastMulMinMaxRounCast_myl0_1", "kgen", "float32", "int8"),
        layer("__myl_MulAddRelu_myl0_2", "kgen", "float32", "float32"),
        layer("__myl_ReplCastMulCast_myl0_3", "kgen", "", "float16", "int8"),
        layer("gemm2", "gemm", "int8", "float16", "int8"),
        layer("__myl_Cast_myl0_4", "kgen", "float16", "float32"),
    )
    found = {f.kind: f.layers for f in audit(made).findings}
    assert found == {
        "fp32-product": ("gemm1",), "conversion-kernel": ("__myl_CastMulMinMaxRounCast_myl0_1", "__myl_Cast_myl0_4"),
        "fp32-pointwise": ("__myl_MulAddRelu_myl0_2",), "weights-dequantized": ("__myl_ReplCastMulCast_myl0_3",),
    }  # fmt: skip


def test_an_fp16_engine_that_is_silently_fp32() -> None:
    made = plan(layer("conv", "correlation", "float32", "float32", "float32"), precision="fp16")
    (finding,) = audit(made).findings
    assert finding.kind == "fp32-product"
    assert "node_conv" in finding.text
    assert not audit(plan(layer("conv", "correlation", "float32", "float32", "float32"))).findings
    half = plan(layer("conv", "correlation", "float16", "float16", "float16"))
    assert audit(half).asked == "fp16"
    assert audit(half, "int8").to_frame()["as_asked"].tolist() == [False]


def test_fp8_is_requantized_without_rounding_words() -> None:
    made = plan(layer("c", "correlation", "float8e4m3fn", "float16", "float8e4m3fn"), layer("__myl_AddReluMulCast_myl0_1", "kgen", "float16", "float8e4m3fn"))  # fmt: skip
    assert audit(made).asked == "fp8"
    assert audit(made).figures["requantizations"] == 1


def test_plans_side_by_side_and_the_verdict() -> None:
    frame = compare({"ours": OURS, "default": DEFAULT})
    assert frame.loc["double_requantization", "ours"] == 0
    assert frame.loc["double_requantization", "default"] == 1
    assert frame.loc["requantizations", "default"] == 2
    assert frame.loc["bytes", "default"] > frame.loc["bytes", "ours"]
    assert "more. It may be slower" in verdict(DEFAULT, OURS, ("a", "b"))
    assert "less." in verdict(OURS, DEFAULT)


def test_what_the_products_read_is_told_against_what_was_asked() -> None:
    half = plan(layer("a", "correlation", "float16", "float16"), layer("b", "correlation", "int8", "float16", "int8"))
    assert audit(half, "int8").findings == ()  # nothing is in FP32, and yet one product is not as asked
    assert audit(half, "int8").words == "1 of 2 products read INT8; 1 read float16."
    assert audit(OURS).words == "2 of 2 products read INT8."
    assert audit(plan()).words == ""
    bare = plan(replace(layer("a", "correlation", "float16", "float16"), inputs=(), outputs=()))
    assert audit(bare, "fp16").words == "0 of 1 products read FP16; 1 read unknown."
    assert audit(bare).products == {"conv": {"unknown": 1}}
    with pytest.raises(ConfigError, match="no precision 'fp4'"):
        audit(OURS, "fp4")


def test_the_verdict_compares_only_what_is_known() -> None:
    assert (
        verdict(OURS, OURS)
        == f"INT8 and FP16 move the same number of bytes: {bytes_text(audit(OURS).figures['bytes'])}."
    )
    assert verdict(plan(), OURS) == verdict(OURS, plan()) == "The bytes are unknown."
    blind = plan(*DEFAULT.layers[:2], replace(DEFAULT.layers[2], bytes_read=None, bytes_written=None))
    assert verdict(OURS, blind).endswith("(The bytes of 1 kernels are unknown and not counted.)")


def test_forms() -> None:
    found = audit(DEFAULT)
    assert json.loads(json.dumps(found.to_dict()))["schema"] == "workbench.audit/1"
    frame = found.to_frame()
    assert frame["findings"].tolist() == ["wide-output", "double-requantization", "wide-output"]
    assert set(KINDS) >= set(frame["findings"])
    assert "2 conv in int8" in repr(found)
    assert audit(plan()).findings == ()


def test_losses_join_two_plans_by_their_nodes() -> None:
    def timed(name: str, nodes: str, ms: float | None) -> Layer:
        made = layer(name, "kgen" if "myl" in name else "gemm", "float16", "float16")
        return replace(made, nodes=tuple(nodes.split()), time_ms=ms)

    wide = plan(timed("up_gelu", "up gelu", 4.0), timed("down", "down", 3.0), timed("mha", "softmax", 1.0))
    low = plan(
        timed("up", "up", 2.0), timed("__myl_gelu", "gelu h_QuantizeLinear", 5.0), timed("down", "down", 1.5),
        timed("mha", "softmax", 1.0), timed("__myl_Move", "", 0.25),
    )  # fmt: skip
    found = losses(low, wide)
    assert list(found["nodes"]) == ["up, gelu", "", "softmax", "down"]
    assert list(found["low"]) == ["up, __myl_gelu", "__myl_Move", "mha", "down"]
    assert list(found["wide"]) == ["up_gelu", "", "mha", "down"]
    assert list(found["lost_ms"]) == [3.0, 0.25, 0.0, -1.5]
    assert found["low_ms"].sum() == 9.75
    with pytest.raises(ConfigError, match="no measured times"):
        losses(low, OURS)


def test_a_plan_all_in_fp32_is_not_said_to_have_neighbours_of_a_lower_precision() -> None:
    made = plan(layer("conv", "correlation", "float32", "float32", "float32"),
                layer("__myl_MulAddRelu_myl0_2", "kgen", "float32", "float32"), precision="fp16")  # fmt: skip
    for finding in audit(made).findings:
        assert "between kernels of a lower precision" not in finding.text
        assert "Cast the model" in finding.hint


def test_compared_counts_stay_whole_numbers() -> None:
    figures = compare({"ours": OURS, "default": DEFAULT})["ours"]
    assert type(figures["kernels"]) is int
    assert type(figures["flops_quantized"]) is float


def test_an_unknown_precision_is_refused_and_equal_bytes_are_as_many() -> None:
    with pytest.raises(ConfigError, match="no precision 'foo'"):
        audit(OURS, "foo")
    assert verdict(OURS, OURS).startswith("INT8 and FP16 move the same number of bytes: ")


def test_no_hint_asks_for_what_was_done_or_would_change_nothing() -> None:
    scheme = {"weights": "channel-after", "placement": "tensorrt", "rest": "fp16"}

    def hints(made: Plan, scheme: dict[str, str] | None) -> dict[str, str]:
        return {f.kind: f.hint for f in audit(made, scheme=scheme).findings}

    told = hints(DEFAULT, scheme)
    assert "channel-after" not in told["wide-output"]
    assert "placement" not in told["double-requantization"]
    assert "weights='channel-after'" in hints(DEFAULT, scheme | {"weights": "channel"})["wide-output"]
    assert "rest='fp16'" in hints(DEFAULT, scheme | {"rest": "fp32"})["wide-output"]
    assert "placement='tensorrt'" in hints(DEFAULT, scheme | {"placement": "onnxruntime"})["double-requantization"]
    half = plan(
        layer("c", "correlation", "int8", "float32", "int8"), layer("__myl_Relu_myl0_1", "kgen", "float16", "float16")
    )
    assert "rest" not in hints(half, None)["wide-output"]  # it is FP16 already
    fp8 = plan(layer("c", "correlation", "float8e4m3fn", "float32", "float8e4m3fn"))
    assert "channel-after" not in hints(fp8, None)["wide-output"]  # FP8 convolutions never get it
