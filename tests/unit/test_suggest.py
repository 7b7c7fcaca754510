"""Shapes and values to begin with: by name, by use, and tried by shape inference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import onnx
import pytest

from tests.support.small_models import INT64, constant, mlp, model, node, save, value, weights
from workbench import BuildConfig, ShapeProfile
from workbench.cli.options import in_shell
from workbench.compilers.config import check_profiles
from workbench.core.errors import ConfigError
from workbench.model import suggest as module
from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.model.suggest import suggest

CONV = [weights("w", 8, 3, 3, 3)]
IDS = [weights("e", 100, 8)]
Y = value("y", None)


def conv(*dims: Any) -> onnx.ModelProto:
    return model([node("Conv", ["x", "w"], ["y"], "conv")], [value("x", dims)], [Y], CONV)


EXAMPLES: dict[str, tuple[onnx.ModelProto, dict[str, str]]] = {
    "image": (conv("N", 3, "H", "W"), {"x": "1x3x224x224"}),
    "image without names": (conv(None, None, None, None), {"x": "1x3x224x224"}),
    "image of a given width": (conv("N", 3, "H", 64), {"x": "1x3x224x64"}),
    "grouped channels": (
        model([node("Conv", ["x", "w"], ["y"], group=4)], [value("x", ["N", "C", 8, 8])], [Y], [weights("w", 8, 1, 3, 3)]),
        {"x": "1x4x8x8"},
    ),
    "channels last": (
        model([node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), node("Conv", ["t", "w"], ["y"])],
              [value("x", [None, None, None, None])], [Y], CONV),
        {"x": "1x224x224x3"},
    ),
    "image that is normalized first": (
        model([node("Sub", ["x", "m"], ["s"]), node("Conv", ["s", "w"], ["y"])], [value("x", [None, None, None, None])], [Y],
              [*CONV, weights("m", 1, 3, 1, 1)]),
        {"x": "1x3x224x224"},
    ),
    "video": (
        model([node("Conv", ["x", "w"], ["y"])], [value("x", [None, 3, None, None, None])], [Y], [weights("w", 8, 3, 3, 3, 3)]),
        {"x": "1x3x16x224x224"},
    ),
    "tokens and their mask": (
        model([node("Gather", ["e", "ids"], ["t"]), node("Unsqueeze", ["mask", "a"], ["u"]), node("Cast", ["u"], ["f"], to=1),
               node("Mul", ["t", "f"], ["y"])],
              [value("ids", ["batch", "sequence"], INT64), value("mask", ["batch", "sequence"], INT64)], [Y],
              [*IDS, constant("a", [2], "int64")]),
        {"ids": "1x128", "mask": "1x128"},
    ),
    "no more positions than there are": (
        model([node("Gather", ["e", "ids"], ["t"]), node("Add", ["t", "p"], ["y"])], [value("ids", ["batch", "seq"], INT64)],
              [Y], [*IDS, weights("p", 64, 8)]),
        {"ids": "1x64"},
    ),
    "features": (mlp("batch"), {"x": "1x8"}),
    "features of unknown width": (
        model([node("MatMul", ["x", "w"], ["y"])], [value("x", ["n", None])], [Y], [weights("w", 8, 4)]), {"x": "1x8"}
    ),
    "recurrent": (
        model([node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4)], [value("x", [None, None, None])], [Y],
              [weights("w", 1, 16, 8), weights("r", 1, 16, 4)]),
        {"x": "128x1x8"},
    ),
    "cache": (
        model([node("Concat", ["past", "new"], ["y"], axis=2), node("Identity", ["mask"], ["z"])],
              [value("past", ["batch", 4, "past_sequence_length", 16]), value("new", ["batch", 4, "sequence_length", 16]),
               value("mask", ["batch", "past_sequence_length + sequence_length"], INT64)], [Y, value("z", None, INT64)]),
        {"past": "1x4x128x16", "new": "1x4x128x16", "mask": "1x256"},
    ),
    "an image by the name of the input": (
        model([node("Relu", ["pixel_values"], ["y"])], [value("pixel_values", [None, 3, None, None])], [Y]),
        {"pixel_values": "1x3x224x224"},
    ),
    "one step of each in the batch": (
        model([node("Relu", ["t"], ["y"])], [value("t", [None])], [Y]), {"t": "1"}
    ),
    "a value": (
        model([node("Slice", ["x", "s", "n", "a"], ["y"])], [value("x", [4, 128]), value("n", [1], INT64)], [Y],
              [constant("s", [0], "int64"), constant("a", [1], "int64")]),
        {"n": "=8"},
    ),
    "the shape of an image": (
        model([node("Resize", ["x", "", "", "n"], ["y"], mode="nearest")],
              [value("x", ["N", 3, "height", "width"]), value("n", [4], INT64)], [Y]),
        {"x": "1x3x224x224", "n": "=1,3,224,224"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_sizes_that_make_sense(name: str) -> None:
    proto, wanted = EXAMPLES[name]
    found = suggest(Graph(proto))
    assert found.texts == wanted
    assert found.tried
    profile = ShapeProfile.parse(found.texts)
    graph = Graph(proto).at(profile.sizes, profile.usual)
    assert graph.dynamic_inputs == {}
    assert graph.tensor("y").elements


def test_nothing_is_open() -> None:
    assert suggest(Graph(mlp(2))).texts == {}


def test_sizes_that_contradict_the_graph_are_not_said_to_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    # Reshape to 256 elements holds for no size that is tried.
    proto = model(
        [node("Reshape", ["x", "to"], ["y"], "flat")], [value("x", ["n", 3])], [Y], [constant("to", [256], "int64")]
    )
    found = suggest(Graph(proto))
    assert not found.tried
    assert "check them" in found.words
    calls = []
    monkeypatch.setattr(Graph, "at", lambda self, *a: calls.append(a) or self)
    suggest(Graph(proto))
    assert len(calls) <= 2 * module.TRIES


def test_the_error_names_every_input_once(tmp_path: Path) -> None:
    proto, wanted = EXAMPLES["tokens and their mask"]
    with pytest.raises(ConfigError) as error:
        check_profiles(Model("m", save(proto, tmp_path / "m.onnx")), BuildConfig())
    assert error.value.code == "shapes-missing"
    assert error.value.details == {"inputs": ["ids", "mask"], "shapes": wanted}
    hint = str(error.value.hint)
    assert f"shapes={wanted}" in hint  # in Python, as Python
    shell = in_shell(hint, error.value.details["shapes"])
    assert shell is not None
    assert "--shape ids=1x128 --shape mask=1x128" in shell
    assert "shapes=" not in shell
    with pytest.raises(ConfigError) as error:
        check_profiles(Model("m", tmp_path / "m.onnx"), BuildConfig(profiles=ShapeProfile.parse(["ids=1x128"])))
    assert error.value.details["inputs"] == ["mask"]


def test_odd_names_are_quoted_in_a_shell() -> None:
    told = module.Suggestion({"a b;c": "1x2"}, tried=True)
    assert told.flags == "--shape 'a b;c=1x2'"
    assert in_shell("Do this.", {}) == "Do this."
    assert in_shell(None, {"x": "1"}) is None


def test_the_command_that_is_told_works(cli: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    file = save(EXAMPLES["tokens and their mask"][0], tmp_path / "m.onnx")
    refused = cli("fusions", file, "--compiler", "fake")
    assert refused.returncode == 1
    flags = refused.stderr.split("To begin with: ")[1].splitlines()[0].split()
    assert flags == ["--shape", "ids=1x128", "--shape", "mask=1x128"]
    assert cli("fusions", file, "--compiler", "fake", *flags).returncode == 0
