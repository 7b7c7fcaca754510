"""The build configuration: validation, digest, shapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import BuildConfig, ShapeProfile, ShapeRange, ValueRange
from workbench.core.errors import ConfigError, LimitError
from workbench.model.shape_profile import sizes_of

pytestmark = pytest.mark.tiny


@pytest.mark.parametrize(
    ("options", "told"),
    [({"precison": "fp16"}, "no such option"), ({"precision": "fp8"}, "precision"), ({"optimization_level": 6}, "5"),
     ({"optimization_level": -1}, "0"), ({"workspace": 0}, "workspace"), ({"max_aux_streams": -1}, "max_aux_streams"),
     ({"tiling_level": "extreme"}, "tiling_level"), ({"verbosity": "loud"}, "verbosity"), ({"profiles": "x"}, "profiles")],
)  # fmt: skip
def test_a_wrong_option_is_named(options: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        BuildConfig(**options)


def test_immutable_and_hashable() -> None:
    config = BuildConfig(targets="sm89", profiles=ShapeProfile.parse(["x=1x3"]))
    with pytest.raises(Exception, match="frozen"):
        config.precision = "fp16"  # type: ignore[misc]
    assert len({config, config.replace(), BuildConfig.from_dict(config.to_dict())}) == 1


def test_the_digest_is_stable() -> None:
    # A change here unkeys every engine that people have built. Raise it on purpose only.
    assert BuildConfig().digest == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    config = BuildConfig(targets="sm89", precision="fp16", profiles=ShapeProfile.parse(["x=1x3:2x3:4x3"]), tf32=False)
    assert config.digest == BuildConfig.from_dict(config.to_dict()).digest
    assert config.digest == "e010d8472663c209fa574a2c5f35cdb0856257ddda3783ecc9e23167647186a6"


def test_the_digest_tells_configs_apart_and_defaults_do_not_count() -> None:
    assert BuildConfig(precision="fp32", flags=(), workspace=None).digest == BuildConfig().digest
    others = [BuildConfig(targets="sm89"), BuildConfig(targets="sm86"), BuildConfig(tf32=True), BuildConfig(tf32=False),
              BuildConfig(precision="bf16"), BuildConfig(profiles=ShapeProfile.parse(["x=1x3"])),
              BuildConfig(profiles=ShapeProfile.parse(["x=1x3:1x3:2x3"]))]  # fmt: skip
    assert len({c.digest for c in others}) == len(others)


@pytest.mark.parametrize("written", ["sm86+sm89", "SM86,sm89", ["sm86", "sm89"], ("sm86", "SM89")])
def test_targets_as_people_write_them(written: object) -> None:
    assert BuildConfig(targets=written).targets == ("sm86", "sm89")


def test_replace_keeps_the_rest_and_validates() -> None:
    config = BuildConfig(targets="sm89").replace(precision="bf16")
    assert (config.targets, config.precision) == (("sm89",), "bf16")
    with pytest.raises(ConfigError):
        config.replace(presicion="bf16")


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
    with pytest.raises(ConfigError, match="not understood"):
        ShapeProfile.parse([text])


def test_shapes_larger_than_any_tensor_are_refused() -> None:
    with pytest.raises(LimitError) as caught:
        ShapeProfile.parse([f"x={2**40}x2"])
    assert caught.value.code == "limit-tensor-elements"


def test_targets_of_another_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="names such as sm89"):
        BuildConfig.from_dict({"targets": 5})


@pytest.mark.parametrize("value", [5, None, 1.5, {"a": 1}])
def test_lists_of_a_cast_are_names(value: object) -> None:
    from workbench.experiments.whatif import parse

    with pytest.raises(ConfigError, match="not names"):
        parse({"to": "fp16", "keep_ops": value})
