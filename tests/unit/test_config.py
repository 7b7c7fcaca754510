"""The build configuration: validation, options of compilers, targets, digest, shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench import BuildConfig, ShapeProfile, ShapeRange, ValueRange
from workbench.compilers.config import check_targets, config_schema
from workbench.compilers.fake import FakeOptions
from workbench.compilers.tensorrt.options import FullTensorRTOptions, TensorRTOptions
from workbench.core.errors import ConfigError, LimitError
from workbench.hardware.target import CPU, Target
from workbench.model.shape_profile import sizes_of

pytestmark = pytest.mark.tiny


FULL: dict[str, Any] = {
    "targets": "current", "sparse_weights": True, "strip_plan": True, "refit": True, "weight_streaming": True,
    "version_compatible": True, "hardware_compatibility": "ampere_plus", "max_aux_streams": 2, "tiling_level": "fast",
    "l2_limit": 1 << 20, "avg_timing_iterations": 3, "build_route": "r", "flags": ("DIRECT_IO",),
    "verbosity": "layer_names_only",
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "field"),
    [({"precision": "fp8"}, "precision"), ({"optimization_level": 6}, "optimization_level"),
     ({"optimization_level": -1}, "optimization_level"), ({"workspace": 0}, "workspace"),
     ({"max_aux_streams": -1}, "max_aux_streams"), ({"tiling_level": "extreme"}, "tiling_level"),
     ({"verbosity": "loud"}, "verbosity"), ({"profiles": "x"}, "profiles")],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_option(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BuildConfig.of(**options)
    assert caught.value.code == "config"
    assert field in caught.value.message


@pytest.mark.parametrize("make", [BuildConfig.of, BuildConfig, BuildConfig().replace, BuildConfig.from_dict])
def test_a_misspelled_option_is_refused_with_the_nearest(make: Callable[..., BuildConfig]) -> None:
    for typo, nearest in (("precison", "precision"), ("tf33", "tf32"), ("optimisation_level", "optimization_level")):
        with pytest.raises(ConfigError) as caught:
            make({typo: 1}) if make == BuildConfig.from_dict else make(**{typo: 1})
        assert caught.value.code == "unknown-option"
        assert (caught.value.details["option"], caught.value.details["nearest"]) == (typo, nearest)
        assert nearest in str(caught.value.hint)


def test_an_option_of_another_compiler_is_refused_with_its_owners_and_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        BuildConfig.of(compiler="fake", tf32=False)
    assert caught.value.code == "option-of-another-compiler"
    assert caught.value.details["compilers"] == ["tensorrt", "tensorrt_rtx"]
    assert caught.value.details["nearest"] in {*BuildConfig.model_fields, *FakeOptions.model_fields}
    for made in (lambda: BuildConfig.of(compiler="tensorrt_rtx", build_route="r"),
                 lambda: BuildConfig(compiler="tensorrt_rtx", options={"build_route": "r"}),
                 lambda: BuildConfig(compiler="tensorrt_rtx", options=FullTensorRTOptions(build_route="r")),
                 lambda: BuildConfig.of(build_route="r").replace(compiler="tensorrt_rtx")):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            made()
        assert caught.value.code == "option-of-another-compiler"
        assert caught.value.details["compilers"] == ["tensorrt"]


def test_the_constructor_takes_options_as_one_argument_only() -> None:
    with pytest.raises(ConfigError) as caught:
        BuildConfig(tf32=False)  # type: ignore[call-arg]
    assert caught.value.code == "option-of-compiler"
    for options in (TensorRTOptions(tf32=False), {"tf32": False}):
        config = BuildConfig(compiler="tensorrt_rtx", targets="sm89", options=options)
        assert config == BuildConfig.of(compiler="tensorrt_rtx", targets="sm89", tf32=False)
        assert config.options == TensorRTOptions(tf32=False)
    with pytest.raises(ConfigError):
        BuildConfig(options=5)


def test_options_are_read_as_attributes() -> None:
    config = BuildConfig.of(tf32=False)
    assert isinstance(config.options, FullTensorRTOptions)
    assert (config.options.tf32, config.options.refit, config.option("tf32")) == (False, False, False)
    fake = BuildConfig(compiler="fake")
    assert fake.options == FakeOptions()
    assert (fake.option("refit"), fake.option("refit", False)) == (None, False)
    assert fake.option("model_dump") is None  # only options are read, not what else the object has
    with pytest.raises(AttributeError):
        _ = fake.options.refit


def test_an_unknown_compiler_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="nope"):
        BuildConfig(compiler="nope")


def test_immutable_and_hashable() -> None:
    config = BuildConfig(targets="sm89", profiles=ShapeProfile.parse(["x=1x3"]))
    with pytest.raises(Exception, match="frozen"):
        config.precision = "fp16"  # type: ignore[misc]
    with pytest.raises(Exception, match="frozen"):
        config.options.tf32 = True
    assert len({config, config.replace(), BuildConfig.from_dict(config.to_dict())}) == 1


SHAPED = ShapeProfile.parse(["x=1x3:2x3:4x3", "n==1:8:32"])
DIGESTS: list[tuple[dict[str, Any], str]] = [
    ({}, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    ({"targets": "sm89"}, "791c70b5fe257455da57e6c246d61d5bc560259af58df45d39cdc3add0617b63"),
    ({"targets": "sm89", "precision": "fp16", "profiles": ShapeProfile.parse(["x=1x3:2x3:4x3"]), "tf32": False},
     "e010d8472663c209fa574a2c5f35cdb0856257ddda3783ecc9e23167647186a6"),
    ({"compiler": "tensorrt_rtx", "targets": "sm86+sm89", "precision": "fp16"},
     "b1957bee8844ca260cd41b7c9f9676d427505aade56c0cea07890de315d6c848"),
    ({"compiler": "tensorrt_rtx", "targets": "current", "tf32": False, "workspace": 1 << 30, "optimization_level": 4},
     "746b7da7848b7242a5a0a8fe02f3a2f552d6b6c0cdc4e13cdfa17ef17e5a7c33"),
    (FULL, "a50d8ad8b6b834507a09f6a3897b0aebbe0fc96cd0e2df3b1d88280dc848edf6"),
    ({"compiler": "fake", "targets": "sm89", "flags": ("fail",)},
     "0c47225e6ddb2afb0e253050bab1f03a7c36417c611974d9fe55de1622f66d95"),
    ({"compiler": "fake", "targets": "sm89", "profiles": SHAPED},
     "955231174df992dc313676161347b8eb62f632eb70d740b40bfe62be296974f1"),
]  # fmt: skip
"""Digests of 0.1.0 from before configs had typed options. A change here changes the keys of all engines."""


@pytest.mark.parametrize(("values", "digest"), DIGESTS)
def test_the_digest_is_stable(values: dict[str, Any], digest: str) -> None:
    config = BuildConfig.of(**values)
    assert config.digest == digest
    assert BuildConfig.from_dict(config.to_dict()) == config
    assert BuildConfig.from_dict(json.loads(json.dumps(config.to_dict()))).digest == digest


def test_the_stored_form_is_flat() -> None:
    stored = BuildConfig.of(**FULL).to_dict()
    assert stored == {**FULL, "targets": ["current"], "flags": ["DIRECT_IO"]}


def test_the_digest_tells_configs_apart_and_defaults_do_not_count() -> None:
    assert BuildConfig.of(precision="fp32", flags=(), workspace=None).digest == BuildConfig().digest
    others = [BuildConfig(targets="sm89"), BuildConfig(targets="sm86"), BuildConfig.of(tf32=True), BuildConfig.of(tf32=False),
              BuildConfig(precision="bf16"), BuildConfig(profiles=ShapeProfile.parse(["x=1x3"])),
              BuildConfig(profiles=ShapeProfile.parse(["x=1x3:1x3:2x3"]))]  # fmt: skip
    assert len({c.digest for c in others}) == len(others)


def test_a_stored_build_may_be_of_a_compiler_that_is_not_installed() -> None:
    stored = {"compiler": "elsewhere", "targets": ["sm42"], "precision": "fp16", "depth": 3, "names": ["a"]}
    config = BuildConfig.from_dict(stored)
    assert config.to_dict() == stored
    assert (config.compiler, config.target, config.option("depth")) == ("elsewhere", "sm42", 3)
    assert config.replace(precision="fp32").option("depth") == 3
    with pytest.raises(ConfigError) as caught:
        config.replace(compiler="tensorrt")
    assert caught.value.code == "unknown-option"
    refused = {"compiler": "tensorrt_rtx", "build_route": "r"}  # a failed build of an earlier version may ask for it
    assert BuildConfig.from_dict(refused).to_dict() == refused


@pytest.mark.parametrize(
    "written", ["sm86+sm89", "SM86,sm89", ["sm86", "sm89"], ("sm86", "SM89"), (Target.parse("sm86"), "sm89")]
)
def test_targets_as_people_write_them(written: object) -> None:
    config = BuildConfig(targets=written)
    assert config.targets == (Target("gpu", "sm86"), Target("gpu", "sm89"))
    assert (config.target, config.to_dict()) == ("sm86+sm89", {"targets": ["sm86", "sm89"]})


@pytest.mark.parametrize("written", ["sm99", "sm89+sm99", ["gpu"], "sm89 sm90", 5, [5], None, {"a": 1}])
def test_a_target_that_does_not_exist_is_refused_when_the_config_is_made(written: object) -> None:
    for make in (lambda: BuildConfig(targets=written), lambda: BuildConfig().replace(targets=written)):
        with pytest.raises(ConfigError) as caught:
            make()
        assert caught.value.code == "unknown-target"


def test_a_cpu_is_a_target() -> None:
    assert BuildConfig(targets="cpu").targets == (CPU,)
    assert BuildConfig(targets=CPU).to_dict() == {"targets": ["cpu"]}


def test_targets_are_checked_against_what_a_compiler_offers() -> None:
    offered = (Target("gpu", "sm89"), Target("gpu", "sm90"))
    check_targets(BuildConfig(targets="sm90"), offered)
    check_targets(BuildConfig(targets="sm89+sm90"), offered, several=True)
    for asked, several, code in (
        ("cpu", True, "target-not-offered"),
        ("sm89+sm75", True, "target-not-offered"),
        ("sm89+sm90", False, "one-target"),
    ):
        with pytest.raises(ConfigError) as caught:
            check_targets(BuildConfig(targets=asked), offered, several=several)
        assert caught.value.code == code


def test_replace_keeps_the_rest_and_validates() -> None:
    config = BuildConfig.of(targets="sm89", tf32=False).replace(precision="bf16")
    assert (config.target, config.precision, config.option("tf32")) == ("sm89", "bf16", False)
    assert config.replace(refit=True).to_dict() == {
        "targets": ["sm89"], "precision": "bf16", "tf32": False, "refit": True,
    }  # fmt: skip
    assert config.replace(options=FullTensorRTOptions()).to_dict() == {"targets": ["sm89"], "precision": "bf16"}
    assert config.replace(compiler="tensorrt_rtx").options == TensorRTOptions(tf32=False)


@pytest.mark.parametrize("compiler", ["tensorrt", "tensorrt_rtx", "fake"])
def test_the_schema_takes_what_is_stored(compiler: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(config_schema(compiler))
    config = BuildConfig.of(compiler=compiler, targets="sm89", flags=("x",), profiles=SHAPED, optimization_level=3)
    assert list(validator.iter_errors(config.to_dict())) == []
    assert list(validator.iter_errors({**config.to_dict(), "presicion": "fp16"}))
    assert list(validator.iter_errors({"optimization_level": 9}))
    assert set(config_schema(compiler)["properties"]) == {
        *BuildConfig.model_fields, *type(config.options).model_fields,
    } - {"options"}  # fmt: skip


def test_parse_shapes() -> None:
    profile = ShapeProfile.parse(["x=1x3x8x8", "a=b=1x2:4x2:8x2", "s=7"])
    assert profile.inputs["x"] == ShapeRange(min=(1, 3, 8, 8), opt=(1, 3, 8, 8), max=(1, 3, 8, 8))
    assert profile.inputs["a=b"] == ShapeRange(min=(1, 2), opt=(4, 2), max=(8, 2))
    assert profile.inputs["s"].opt == (7,)
    assert (profile.inputs["x"].fixed, profile.inputs["a=b"].fixed) == (True, False)
    assert str(profile.inputs["a=b"]) == "1x2:4x2:8x2"
    assert ShapeProfile.parse({"x": "1x3"}) == ShapeProfile.parse(["x=1x3"])


@pytest.mark.parametrize(
    "text", ["x", "=1x3", "x=", "x=1x3:2x3", "x=axb", "x=1x3:2x3:4x3:8x3", "x=1,3", "x=1.5x3", "x=-1x3",
             "x=4x3:2x3:8x3", "x=1x3:8x3:4x3", "x=1x3:2x3x4:4x3", "x=1x-3", "x=2x3:0x3:4x3",
             "n==", "n==a", "n==1:2", "n==1,2:3:4", "n==3:2:1", "n==1x2", "n==1.5", "n==1,,2", "n==9223372036854775808", "n==" + "9" * 5000],
)  # fmt: skip
def test_shapes_that_make_no_sense(text: str) -> None:
    with pytest.raises(ConfigError) as info:
        ShapeProfile.parse([text])
    assert "Traceback" not in str(info.value)


def test_an_input_named_twice() -> None:
    with pytest.raises(ConfigError, match="two shapes"):
        ShapeProfile.parse(["x=1x3", "x=2x3"])
    with pytest.raises(ConfigError, match="values twice"):
        ShapeProfile.parse(["n==1", "n==2"])
    with pytest.raises(ConfigError, match="has a shape and values"):
        ShapeProfile.parse(["n=1", "n==2"])


def test_an_empty_cache_has_a_dimension_of_0() -> None:
    profile = ShapeProfile.parse(["past=1x4x0x16:1x4x8x16:1x4x32x16", "x=0x3"])
    assert profile.inputs["past"].min == (1, 4, 0, 16)
    assert profile.inputs["x"].fixed


def test_values_of_inputs_that_are_read_as_a_shape() -> None:
    profile = ShapeProfile.parse(["n==1:8:32", "size==8,8:64,64:512,512", "k==-1", "a=b==4"])
    assert profile.values["n"] == ValueRange(min=(1,), opt=(8,), max=(32,))
    assert profile.values["size"].max == (512, 512)
    assert profile.usual == {"n": (8,), "size": (64, 64), "k": (-1,), "a=b": (4,)}
    assert (profile.values["n"].fixed, profile.values["k"].fixed, profile.fixed) == (False, True, False)
    assert profile.texts == {"n": "=1:8:32", "size": "=8,8:64,64:512,512", "k": "=-1", "a=b": "=4"}
    assert ShapeProfile.parse(profile.texts) == profile
    assert (profile.inputs, profile.sizes) == ({}, {})
    assert sizes_of({"n": "=8", "x": "1x3", "y": (2, 3)}) == {"x": (1, 3), "y": (2, 3)}


def test_values_are_part_of_a_config_and_absent_ones_are_not() -> None:
    valued = BuildConfig(profiles=ShapeProfile.parse(["x=1x3", "n==1:8:32"]))
    assert valued.to_dict()["profiles"][0]["values"] == {"n": {"min": [1], "opt": [8], "max": [32]}}
    assert BuildConfig.from_dict(valued.to_dict()) == valued
    other = BuildConfig(profiles=ShapeProfile.parse(["x=1x3", "n==1:8:33"]))
    assert len({valued.digest, other.digest, BuildConfig(profiles=ShapeProfile.parse(["x=1x3"])).digest}) == 3
    assert len({valued, other, BuildConfig.from_dict(valued.to_dict())}) == 2
    assert "values" not in BuildConfig(profiles=ShapeProfile.parse(["x=1x3"])).to_dict()["profiles"][0]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        # On the command line, two equals signs mean values.
        st.text(min_size=1, max_size=8).filter(lambda n: not n.endswith("=")),
        st.lists(st.integers(1, 99), min_size=1, max_size=4),
        max_size=4,
    )
)
def test_any_profile_survives_the_trip(shapes: dict) -> None:
    profile = ShapeProfile.parse([f"{n}={'x'.join(map(str, s))}" for n, s in shapes.items()])
    config = BuildConfig(profiles=profile)
    assert BuildConfig.from_dict(config.to_dict()) == config
    assert {n: list(r.opt) for n, r in profile.inputs.items()} == shapes


@pytest.mark.parametrize(
    "text", ["x=1_0x8", "x=\uff11x8", "x=\u0663x8", "x= 1x8", "x=+1x8", "x=-1x8", "x=" + "9" * 400]
)
def test_dimensions_are_plain_digits(text: str) -> None:
    with pytest.raises(ConfigError, match="is not valid"):
        ShapeProfile.parse([text])


def test_shapes_larger_than_any_tensor_are_refused() -> None:
    with pytest.raises(LimitError) as caught:
        ShapeProfile.parse([f"x={2**40}x2"])
    assert caught.value.code == "limit-tensor-elements"


@pytest.mark.parametrize("value", [5, None, 1.5, {"a": 1}])
def test_lists_of_a_cast_are_names(value: object) -> None:
    from workbench.experiments.whatif import parse

    with pytest.raises(ConfigError, match="not names"):
        parse({"to": "fp16", "keep_ops": value})
