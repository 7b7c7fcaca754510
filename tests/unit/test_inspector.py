"""The inspector's JSON in all its schemas becomes the same records that a build log does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import time_limit
from workbench.compilers.tensorrt.inspector import kind_of_file, nodes_in, parse_inspection, read_json, read_layers
from workbench.compilers.tensorrt.listing import parse_listing
from workbench.core.errors import LimitError, ListingError, ProfileError

pytestmark = pytest.mark.tiny
DATA = Path(__file__).parent.parent / "data"
SAMPLES = DATA / "inspector"
RECORDED = sorted((DATA / "listings").glob("*/*.txt"))
SPELLED = {"float32": "Float", "float16": "Half", "int8": "Int8", "int32": "Int32", "int64": "Int64", "bool": "Bool"}
RECORD = ("name", "type", "inputs", "outputs", "constants", "tactic", "stream", "event", "nodes", "metadata")


def sample(name: str) -> dict[str, Any]:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def as_json(text: str) -> dict[str, Any]:
    """A recorded listing as the inspector's JSON of the same version, by a way of its own."""

    def tensor(t: dict[str, Any]) -> dict[str, Any]:
        out = {"Name": t["name"], "Dimensions": t["shape"]}
        if t["strides"] is None:
            return {**out, "Format/Datatype": t["format"] or SPELLED[t["dtype"]]}
        return {**out, "Strides": t["strides"], "Datatype": SPELLED[t["dtype"]], "Format": t["format"]}

    listing = parse_listing(text)
    layers = [
        {
            "Name": la["name"], "LayerType": la["type"], "Inputs": [tensor(t) for t in la["inputs"]],
            **({"Constants": [tensor(t) for t in la["constants"]]} if "Constants" in text else {}),
            "Outputs": [tensor(t) for t in la["outputs"]], "TacticName": la["tactic"], "StreamId": la["stream"],
            **({"EventId": la["event"]} if la["event"] is not None else {}), "Metadata": la["metadata"],
        }
        for la in listing.layers
    ]  # fmt: skip
    if "Bindings:" in text:
        return {"Layers": layers, "Bindings": [io["name"] for io in listing.io]}
    tensors = [
        {
            "Name": io["name"], "IOMode": io["mode"].capitalize(), "DataType": SPELLED[io["dtype"]],
            "Dimensions": io["shape"], "Location": io["location"].capitalize(), "IsShapeInferenceIO": False,
            "ProfileInfo": [
                {"MinShape": p["min"], "OptShape": p["opt"], "MaxShape": p["max"], "Format": io["format"]}
                for p in io["profiles"]
            ] or [{"Format": io["format"]}],
        }
        for io in listing.io
    ]  # fmt: skip
    return {"Layers": layers, "I/O Tensors": tensors, "Engine Metadata": {}}


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_json_and_build_log_give_the_same_records(path: Path) -> None:
    text = path.read_text()
    wanted = parse_listing(text)
    found = parse_inspection(json.dumps(as_json(text)))
    assert [{k: la[k] for k in RECORD} for la in found.layers] == [{k: la[k] for k in RECORD} for la in wanted.layers]
    if found.generation == "11":
        assert found.io == wanted.io
    else:
        assert [io["name"] for io in found.io] == [io["name"] for io in wanted.io]
        assert {io["mode"] for io in found.io} == {"input", "output"}
    assert found.evidence == "reported"
    assert found.detailed


@pytest.mark.parametrize("name", ["trt8", "trt10", "trt11", "rtx_1_4", "rtx_1_7"])
def test_every_schema_tells_the_same_nodes_and_ends(name: str) -> None:
    found = parse_inspection(sample(name), name)
    nodes = [la["nodes"] for la in found.layers if la["nodes"]]
    assert nodes == [["conv1", "relu1"], ["sig", "mul"]]
    assert found.evidence == ("name" if name == "trt8" else "reported")
    assert found.generation == ("11" if name in {"trt11", "rtx_1_7"} else "8 to 10")
    assert [(io["name"], io["mode"], io["dtype"]) for io in found.io] == [
        ("x", "input", "float32"), ("y", "output", "float32"),
    ]  # fmt: skip
    convolution = next(la for la in found.layers if "conv1" in la["nodes"])
    assert convolution["inputs"][0]["shape"][1:] == [3, 8, 8]
    assert convolution["outputs"][0]["dtype"] == ("float32" if name.startswith("rtx") else "float16")


def test_counts_of_weights_become_constants() -> None:
    convolution = parse_inspection(sample("trt8")).layers[1]
    assert [(c["name"], c["shape"], c["dtype"]) for c in convolution["constants"]] == [
        ("conv1 + relu1 Weights", [216], "float16"), ("conv1 + relu1 Bias", [8], "float16"),
    ]  # fmt: skip
    assert convolution["inputs"][0]["format"] == "Channel major FP16 format where channel % 8 == 0"


def test_reformatting_and_added_layers_own_no_node() -> None:
    layers = parse_inspection(sample("trt8")).layers
    assert [la["nodes"] for la in layers if la["name"].startswith("Reformatting")] == [[], []]


def test_events_and_open_dimensions_are_kept() -> None:
    found = parse_inspection(sample("trt11"))
    assert [(la["type"], la["stream"], la["event"]) for la in found.layers[:2]] == [("signal", 0, 3), ("wait", 1, 3)]
    assert found.layers[2]["inputs"][0]["shape"] == [-1, 3, 8, 8]
    assert found.io[0]["profiles"] == [{"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8]}]
    assert found.io[0]["format"] == "Row major linear FP32 format (kLINEAR)"


def test_bare_names_are_layers_whose_tensors_are_unknown() -> None:
    found = parse_inspection(sample("trt8_names"))
    assert not found.detailed
    assert [la["nodes"] for la in found.layers] == [[], ["conv1", "relu1"], ["sig", "mul"]]
    assert not any(la["detailed"] for la in found.layers)


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("conv1", ["conv1"]),
        ("/a/Conv + /a/Relu", ["/a/Conv", "/a/Relu"]),
        ("q || k || v", ["q", "k", "v"]),
        ("Conv_1 + Relu_2 || Conv_3 + Relu_4", ["Conv_1", "Relu_2", "Conv_3", "Relu_4"]),
        ("PWN(PWN(sig, mul), add)", ["sig", "mul", "add"]),
        ("Conv_1 + PWN(PWN(Sigmoid_2), Mul_3)", ["Conv_1", "Sigmoid_2", "Mul_3"]),
        ("Reformatting CopyNode for Input Tensor 0 to a + b", []),
        ("reshape_after_Gemm_48", []),
        ("copied_squeeze_after_(Unnamed Layer* 307) [ElementWise]", []),
        ("w + Q_1_quantize_scale_node + Conv_2 + (Unnamed Layer* 3) [Shuffle]", ["w", "Q_1", "Conv_2"]),
        ("{ForeignNode[/enc/Cast.../enc/Add_1]}", ["/enc/Cast", "/enc/Add_1"]),
        ("{ForeignNode[a + (Unnamed Layer* 4) [Shuffle]...b]}", ["a", "b"]),
        ("__myl_MulAdd_myl0_3", []),
        ("", []),
        ("odd ) name ( + b", ["odd ) name ( + b"]),
    ],
)
def test_nodes_by_name(name: str, nodes: list[str]) -> None:
    assert nodes_in(name) == nodes


LONG = {
    "PWN nested": ("PWN(" * 50_000 + "a" + ")" * 50_000, ["a"]), "PWN pairs": ("PWN(" * 20_000 + "a, b)" + ", c)" * 19_999, ["a", "b", "c"]),
    "PWN open": ("PWN(" * 50_000, None), "parentheses": ("(" * 50_000 + " + " * 50_000, None), "sums": (" + " * 100_000, []),
    "regions": ("{ForeignNode[" * 30_000 + "a" + "]}" * 30_000, None), "bars": ("PWN(" * 30 + "a || " * 50_000 + "b" + ")" * 30, ["a", "b"]),
    "region begun": ("{ForeignNode[" * 50_000, None), "scales": ("_quantize_scale_node" * 50_000, None),
}  # fmt: skip


@pytest.mark.parametrize("what", LONG)
def test_names_made_to_take_long_take_as_long_as_others(what: str) -> None:
    name, wanted = LONG[what]
    with time_limit(20):
        found = nodes_in(name, {"x"})
    assert wanted is None or found == wanted


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("Layers.1.LayerType=[1]", "listing"), ("Layers.1.TacticName={}", "listing"), ("Layers.1.Inputs.0.Format/Datatype=3", "listing"),
        ("Layers.1.Inputs.0.Dimensions=[-2]", "listing"), ("Layers.1.Inputs.0.Dimensions=[9223372036854775808]", "listing"), ("Layers.1.StreamId=true", "listing"),
        ("Layers.1.Inputs.0.Dimensions=[2000000000,2000000000]", "limit-tensor-elements"), ("Layers.1.Weights.Count=9000000000000000", "limit-tensor-elements"),
        ("Layers.1.Inputs.0.Dimensions=" + json.dumps([1] * 65), "listing"), ("Layers.1.Weights.Type=3", "listing"),
    ],
)  # fmt: skip
def test_values_of_other_kinds_are_refused(change: str, code: str) -> None:
    with pytest.raises((ListingError, LimitError)) as caught:
        parse_inspection(without(change), "layers.json")
    assert caught.value.code == code


def test_owners_that_can_not_be_told_apart_are_an_error() -> None:
    data = sample("trt10")
    data["Layers"][1]["Metadata"] = "[ONNX Layer: a] [ONNX Layer: b"
    with pytest.raises(ListingError, match="can't be separated"):
        parse_inspection(data)


def test_a_name_that_the_model_knows_is_taken_whole() -> None:
    assert nodes_in("a + b", {"a + b"}) == ["a + b"]
    assert nodes_in("a + b", {"a", "b"}) == ["a", "b"]
    assert nodes_in("x_quantize_scale_node", {"x_quantize_scale_node"}) == ["x_quantize_scale_node"]


def test_raw_control_characters_are_accepted(tmp_path: Path) -> None:
    raw = (SAMPLES / "trt10.json").read_text().replace("\\u001e", "\x1e")
    assert "\x1e" in raw
    (tmp_path / "raw.json").write_text(raw)
    assert read_layers(tmp_path / "raw.json").layers[1]["nodes"] == ["conv1", "relu1"]


def test_marks_of_other_front_ends_are_taken_as_they_are() -> None:
    data = sample("trt10")
    data["Layers"][1]["Metadata"] = "[CONVOLUTION]-[aten_ops.convolution.default]-[/conv1]"
    assert parse_inspection(data).layers[1]["nodes"] == ["[CONVOLUTION]-[aten_ops.convolution.default]-[/conv1]"]


def test_unknown_fields_do_no_harm() -> None:
    data = sample("trt11")
    data["New Part"] = {"a": 1}
    data["Layers"][2]["NewField"] = [1]
    data["Layers"][2]["Inputs"][0]["NewField"] = "x"
    found, wanted = parse_inspection(data), parse_inspection(sample("trt11"))
    assert found.layers == wanted.layers


def without(path: str) -> dict[str, Any]:
    """The sample of TensorRT 8 with one field gone, or set to something else: ``Layers.1.Inputs.0.Name=5``."""
    data: Any = sample("trt8")
    place, _, value = path.partition("=")
    *parents, last = [int(p) if p.isdigit() else p for p in place.split(".")]
    inner = data
    for key in parents:
        inner = inner[key]
    if value:
        inner[last] = json.loads(value)
    else:
        del inner[last]
    return data


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("Layers", "has no list of Layers"),
        ("Layers=[]", "is empty"),
        ("Layers=5", "has no list of Layers"),
        ("Layers=[7]", "layer 0 is neither an object nor a name but int"),
        ("Layers.1.Name", r"layer 1 .*has no Name"),
        ("Layers.1.Inputs=7", "Inputs are not a list but int"),
        ("Layers.1.Inputs.0.Name", "tensor of its Inputs has no Name"),
        ("Layers.1.Inputs.0.Dimensions", "has no Dimensions; it has Name, Location"),
        ("Layers.1.Inputs.0.Dimensions=3", "Dimensions are not a list"),
        ('Layers.1.Inputs.0.Dimensions=["a"]', "in place of a whole number"),
        ("Layers.1.Inputs.0.Dimensions=[1e999]", "in place of a whole number"),
        (
            "Layers.1.Inputs.0.Format/Datatype",
            "neither Datatype nor Format/Datatype; it has Name, Location, Dimensions",
        ),
        ("Layers.1.Metadata=[1]", "Metadata is not text but list"),
        ("Layers.1.Weights.Count=1.5", "holds 1.5 in place of a whole number"),
        ("Bindings=[{}]", "Bindings hold dict in place of names"),
        ("Bindings=3", "Bindings are not a list"),
    ],
)
def test_what_does_not_fit_is_named(change: str, said: str) -> None:
    with pytest.raises(ListingError, match=said) as caught:
        parse_inspection(without(change), "layers.json")
    assert "layers.json" in caught.value.message
    assert caught.value.hint


def test_a_file_cut_off_anywhere_is_told(tmp_path: Path) -> None:
    text = (SAMPLES / "trt10.json").read_text()
    path = tmp_path / "cut.json"
    for end in range(0, len(text) - 3, 97):
        path.write_text(text[:end])
        with pytest.raises(ProfileError, match=r"is empty|ends in the middle") as caught:
            read_layers(path)
        assert "cut.json" in caught.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\x7fELF\x00\x01", "is not JSON"),
        (b"Layers:\nName: a", "is not JSON"),
        (b'{"a": 1}', "is of an unknown kind"),
        (b"[]", "is of an unknown kind"),
        (b"3", "is of an unknown kind"),
        (b'[{"count": 1}, {"name": "a", "timeMs": 1}]', r"is a per-layer profile \(--exportProfile\)"),
        (b'[{"latencyMs": 1}]', r"is times of each iteration \(--exportTimes\)"),
        (b'{"performance_summary": {}}', "is a summary of a profiling run"),
        (b'[{"ComputeCapability": [8, 0]}]', "is properties of a GPU"),
    ],
)
def test_other_files_are_refused_by_kind(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=said):
        read_layers(path)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[" * 100_000, "limit-nesting"),
        (b'{"Layers": ' + b"[" * 200 + b"]" * 200 + b"}", "limit-nesting"),
        (b'{"Layers": [], "a": ' + b"9" * 400 + b"}", "limit-number-digits"),
        (b'{"Layers": [], "a": ' + b"9" * 5000 + b"}", "limit-number-digits"),
    ],
)
def test_documents_beyond_a_limit_are_refused_by_its_name(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(LimitError) as caught:
        read_layers(path)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "content", [b'{"Layers": NaN}', b'{"Layers": [], "a": -Infinity}', b'{"a": 1e999}', b'{"a": 1, "a": 2}']
)
def test_numbers_that_are_none_and_keys_that_occur_twice_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ProfileError) as caught:
        read_layers(path)
    assert caught.value.code == "not-json"


def test_bytes_that_are_no_text_become_visible(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes((SAMPLES / "trt8.json").read_bytes().replace(b'"conv1 + relu1"', b'"conv\xff \\ud800"'))
    names = [layer["name"] for layer in read_layers(path).layers]
    assert any(name == "conv\\xff \\ud800" for name in names)
    assert "".join(names).encode()  # else nothing could be written or printed


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ProfileError, match="directory"):
        read_json(tmp_path)


def test_kinds_are_told_apart() -> None:
    assert kind_of_file(sample("trt8")) == "layers"
    assert kind_of_file({"schema": "workbench.plan/1"}) == "plan"
    assert kind_of_file([{"count": 3}]) == "profile"
    assert kind_of_file({"model_options": {}}) == "build-metadata"
    assert kind_of_file(None) == ""


def test_no_machine_is_in_the_samples() -> None:
    for path in SAMPLES.glob("*.json"):
        assert not re.search(r"/(tmp|home|work|root)/", path.read_text())
