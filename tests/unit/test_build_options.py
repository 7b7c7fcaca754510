"""Options of compilers: the form, the flags and the help come from the fields that a compiler declares."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from tests.support import ROOT, SAMPLES
from workbench import BuildConfig, Session, compilers
from workbench.cli.build_flags import build_fields
from workbench.compilers.options import Options, option_fields
from workbench.core.errors import ConfigError

PLUGIN = """
from typing import Literal
from pydantic import Field
from workbench.compilers.base import Ability, CompilerInfo
from workbench.compilers.config import check_targets
from workbench.compilers.fake import Fake
from workbench.compilers.options import Options
from workbench.hardware.target import CPU

class OtherOptions(Options):
    unrolling: int | None = Field(None, ge=1, description="How far loops are unrolled.")
    fast_math: bool = Field(False, description="Reorder floating-point operations.")
    autotune: bool | None = Field(None, description="Try several kernels.")
    backend: Literal["plain", "vector"] = Field("plain", description="The code generator.")
    passes: tuple[str, ...] = Field((), description="Passes to run.")
    l2_limit: Literal["small", "large"] | None = Field(None, description="Another option of the same name.")
    secret: str | None = Field(None, description="Not for forms.", json_schema_extra={"form": False})

class Other(Fake):
    name = "other"
    options = OtherOptions

    def describe(self):
        can = frozenset({Ability.BUILD})
        return CompilerInfo("other", "1", (CPU,), can, dict.fromkeys(set(Ability) - can, "it only builds"))

    def complete(self, config):
        config = config.replace(compiler="other", targets=config.targets or (CPU,))
        check_targets(config, (CPU,))
        return config
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path with a separate package that adds the compiler ``other``."""
    folder = tmp_path / "packages"
    (folder / "other-1.dist-info").mkdir(parents=True)
    (folder / "other-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (folder / "other-1.dist-info" / "entry_points.txt").write_text(
        "[workbench.compilers]\nother = other_compiler:Other\n"
    )
    (folder / "other_compiler.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(folder)
    yield folder
    compilers.registry.forget()
    sys.modules.pop("other_compiler", None)


class Sample(Options):
    level: int | None = Field(None, ge=0, description="A level.")
    ratio: float = Field(0.5, description="A ratio.")
    on: bool = Field(True, description="A flag.")
    maybe: bool | None = Field(None, description="A switch.")
    mode: Literal["a", "b"] | None = Field(None, description="A mode.")
    text: str = Field("x", description="A text.")
    names: tuple[str, ...] = Field((), description="Names.")
    hidden: int = Field(0, description="Hidden.", json_schema_extra={"form": False})


@pytest.mark.tiny
def test_fields_say_how_to_show_an_option() -> None:
    fields = option_fields(Sample)
    assert {name: (f.kind, f.choices, f.default) for name, f in fields.items()} == {
        "level": ("integer", (), None), "ratio": ("number", (), 0.5), "on": ("boolean", (), True),
        "maybe": ("boolean", (), None), "mode": ("choice", ("a", "b"), None), "text": ("text", (), "x"),
        "names": ("list", (), ()), "hidden": ("integer", (), 0),
    }  # fmt: skip
    assert fields["level"].description == "A level."
    assert [name for name, field in fields.items() if not field.in_forms] == ["hidden"]
    assert (fields["maybe"].flag, option_fields(BuildConfig)["optimization_level"].label) == (
        "--maybe",
        "optimization level",
    )


@pytest.mark.tiny
def test_every_option_is_described() -> None:
    for name in compilers.compilers():
        for option, field in option_fields(compilers.get(name).options).items():
            assert field.description.endswith("."), (name, option)
    assert all(field.description for field in option_fields(BuildConfig).values())


def test_no_compiler_has_an_option_named_like_a_field_of_every_compiler() -> None:
    for name in compilers.compilers():
        assert not set(compilers.get(name).options.model_fields) & set(BuildConfig.model_fields)


def test_an_option_of_another_package_is_in_the_form(plugin: Path, session: Session) -> None:
    panel = session.panel("build")
    assert "other" in panel.compiler.options
    before = dict(panel._options)
    panel._options["l2_limit"].value = "1000"  # TensorRT's own option of that name takes numbers
    panel.compiler.value = "other"
    assert [value for _, value in panel.targets.options] == ["cpu"]
    assert panel.targets.value == ("cpu",)
    assert set(panel._options) == {
        "workspace", "optimization_level", "unrolling", "fast_math", "autotune", "backend", "passes", "l2_limit",
    }  # fmt: skip
    assert panel._options["l2_limit"].options == ("default", "small", "large")
    assert panel._options["unrolling"].tooltip == "How far loops are unrolled."
    assert panel.config() == BuildConfig(compiler="other", targets="cpu")
    for name, value in {
        "unrolling": "4",
        "fast_math": True,
        "autotune": "off",
        "backend": "vector",
        "passes": "a, b",
    }.items():
        panel._options[name].value = value
    wanted = BuildConfig.of(compiler="other", targets="cpu", unrolling=4, fast_math=True, autotune=False, backend="vector",
                            passes=("a", "b"))  # fmt: skip
    assert panel.config() == wanted
    assert panel.error == ""
    assert "unrolling=4" in panel.code
    panel._options["unrolling"].value = "four"
    assert "whole number" in panel.error
    panel._options["unrolling"].value = "0"
    assert "unrolling" in panel.error
    panel.compiler.value = "tensorrt"
    assert set(panel._options) == set(before)


def test_the_form_keeps_what_both_compilers_have(session: Session) -> None:
    panel = session.panel("build")
    panel._options["workspace"].value = "1000"
    panel._options["tf32"].value = "off"
    panel.targets.value = ("sm86", "sm89")
    panel.compiler.value = "tensorrt_rtx"
    assert panel.config() == BuildConfig.of(compiler="tensorrt_rtx", targets="sm86+sm89", workspace=1000, tf32=False)
    assert "build_route" not in panel._options


def test_an_option_of_another_package_is_a_flag(plugin: Path, cli) -> None:
    env = {"PYTHONPATH": os.pathsep.join([str(plugin), str(ROOT)])}
    shown = " ".join(cli("fusions", "--help", env=env).stdout.split())
    assert "--unrolling <int> How far loops are unrolled. [other]" in shown
    assert "--fast-math / --no-fast-math" in shown
    assert "--backend <plain|vector>" in shown
    model = SAMPLES / "conv_bn_relu.onnx"
    assert "--l2-limit <str>" in shown  # two compilers take different values
    given = (
        "--compiler",
        "other",
        "--unrolling",
        "4",
        "--l2-limit",
        "small",
        "--no-autotune",
        "--passes",
        "a",
        "--passes",
        "b",
    )
    done = cli("fusions", model, *given, "-f", "json", env=env)
    assert done.returncode == 0, done.stderr
    import json

    asked = json.loads(done.stdout)["config"]
    assert asked == {
        "compiler": "other",
        "targets": ["cpu"],
        "unrolling": 4,
        "autotune": False,
        "passes": ["a", "b"],
        "l2_limit": "small",
    }
    wrong = cli("fusions", model, "--unrolling", "4", env=env)
    assert wrong.returncode == 1
    assert "unrolling is an option of other" in wrong.stderr
    assert cli("fusions", model, "--compiler", "other", "--unrolling", "four", env=env).returncode == 2


def test_flags_are_those_of_the_fields() -> None:
    every, own = build_fields(), build_fields(("tensorrt",))
    owned = {option for name in compilers.compilers() for option in compilers.get(name).options.model_fields}
    assert set(every) == ({*BuildConfig.model_fields} - {"profiles", "options"}) | owned
    assert set(own) == ({*BuildConfig.model_fields} - {"profiles", "options", "compiler"}) | {
        *compilers.get("tensorrt").options.model_fields
    }
    assert every["flags"][1] == ("tensorrt", "tensorrt_rtx", "fake")
    assert (every["build_route"][1], every["workspace"][1]) == (("tensorrt",), ())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["-t", "sm99"], ["sm99", "sm100"]), (["-t", "cpu"], ["cpu", "sm89"]), (["--tf32"], ["tf32", "tensorrt_rtx", "flags"]),
     (["-t", "sm86+sm89"], ["one target", "sm86"])],
)  # fmt: skip
def test_what_does_not_fit_is_refused(cli, arguments: list[str], told: list[str]) -> None:
    done = cli("fusions", SAMPLES / "conv_bn_relu.onnx", "--compiler", "fake", *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for text in told:
        assert text in done.stderr


def test_a_target_is_refused_before_anything_is_started(session: Session) -> None:
    with pytest.raises(ConfigError) as caught:
        session.engines.start("conv_bn_relu", target="sm99")
    assert caught.value.code == "unknown-target"
    assert session.engines.running == []


def test_a_cpu_is_no_target_of_tensorrt(session: Session) -> None:
    compiler = compilers.get("tensorrt_rtx")
    if compiler.describe().version is None:
        pytest.skip("tensorrt_rtx is not installed: pip install tensorrt-rtx")
    with pytest.raises(ConfigError) as caught:
        compiler.complete(BuildConfig(compiler="tensorrt_rtx", targets="cpu"))
    assert caught.value.code == "target-not-offered"


def test_the_full_tensorrt_builds_for_the_gpu_of_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.compilers.tensorrt import active, flavour
    from workbench.hardware.machine import Gpu

    monkeypatch.setattr(flavour, "_version", lambda module: "11.4" if module == "tensorrt" else None)
    monkeypatch.setattr(flavour, "gpus", lambda: (Gpu("L4", "sm89", 1, "1"),))
    compiler = active()
    assert [str(target) for target in compiler.describe().targets] == ["current"]
    assert compiler.complete(BuildConfig()).target == "current"
    assert compiler.complete(BuildConfig.of(build_route="r")).option("build_route") == "r"
    for asked, code in (
        ("sm89", "target-not-offered"),
        ("current+current", "one-target"),
        ("cpu", "target-not-offered"),
    ):
        with pytest.raises(ConfigError) as caught:
            compiler.complete(BuildConfig(targets=asked))
        assert caught.value.code == code


def test_an_option_of_the_full_tensorrt_is_refused_for_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.compilers.tensorrt import active, flavour

    monkeypatch.setattr(flavour, "_version", lambda module: "1.7.1" if module == "tensorrt_rtx" else None)
    with pytest.raises(ConfigError) as caught:
        active().complete(BuildConfig.of(build_route="r"))
    assert caught.value.code == "option-of-another-compiler"
    assert caught.value.details["compilers"] == ["tensorrt"]


@pytest.mark.tiny
def test_targets_of_each_version_of_tensorrt_for_rtx() -> None:
    from workbench.compilers.tensorrt.targets import offered_targets
    from workbench.hardware.target import CURRENT, GPUS

    names = {
        version: [str(t) for t in offered_targets(version)]
        for version in ("1.4.0.76", "1.5.0.114", "1.6.1", "1.7.1.116")
    }
    assert names["1.4.0.76"] == ["sm75", "sm80", "sm86", "sm89", "sm120", "current"]
    assert names["1.7.1.116"] == ["sm75", "sm80", "sm86", "sm89", "sm120", "sm121", "current"]
    assert names["1.5.0.114"] == names["1.6.1"] == names["1.7.1.116"] == [str(t) for t in offered_targets(None)]
    assert offered_targets("1.8.0") == (*GPUS, CURRENT)
    assert offered_targets("unknown") == (*GPUS, CURRENT)
