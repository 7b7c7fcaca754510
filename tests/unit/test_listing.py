"""The grammar of the builder's listing, on recorded listings of three versions."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import time_limit
from workbench.compilers.tensorrt.listing import owners, parse_listing, split_format
from workbench.core.errors import LimitError, ListingError

pytestmark = pytest.mark.tiny
DATA = Path(__file__).parent.parent / "data" / "listings"
RECORDED = sorted(DATA.glob("*/*.txt"))


def recorded(version: str, name: str) -> str:
    return (DATA / version / f"{name}.txt").read_text()


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_recorded_listings_are_read_whole(path: Path) -> None:
    text = path.read_text()
    listing = parse_listing(text, path.parent.name)
    body = text.split("Bindings:")[0].split("I/O Tensors:")[0]
    assert len(listing.layers) == sum(line.startswith("Name: ") for line in body.splitlines())
    assert listing.io
    for layer in listing.layers:
        assert layer["type"]
        assert layer["outputs"] or layer["type"] in {"signal", "wait"}
        assert layer["metadata"].count("[ONNX Layer: ") >= len(layer["nodes"])
        assert bool(layer["nodes"]) == ("[ONNX Layer: " in layer["metadata"])
        for tensor in (*layer["inputs"], *layer["constants"], *layer["outputs"]):
            assert tensor["dtype"] in {"float32", "float16", "int8", "int32", "int64", "bool"}, tensor
            assert all(isinstance(d, int) for d in tensor["shape"])
            assert tensor["strides"] is None or len(tensor["strides"]) == len(tensor["shape"])


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_listing_cut_anywhere_is_refused_or_complete(path: Path) -> None:
    text = path.read_text()
    whole = parse_listing(text)
    accepted = 0
    for end in sorted({*range(0, len(text), 23), *range(max(0, len(text) - 900), len(text))}):
        try:
            cut = parse_listing(text[:end])
        except ListingError:
            continue
        assert cut == whole, text[end - 60 : end]
        accepted += 1
    assert accepted < 40  # the last characters alone may be missing: of "Engine Metadata", which is not kept
    for begin in range(1, len(text), 97):
        with pytest.raises(ListingError):
            parse_listing(text[begin:])


def test_an_output_that_other_layers_read_is_missed_where_the_outputs_are_known() -> None:
    text = "Layers:\n" + line("a", ["a"]) + "\n" + line("b", ["b"], ("out",)).replace("Name: out,", "Name: z,", 2)
    text = text.replace("Inputs: [ { Name: z", "Inputs: [ { Name: out")
    assert len(parse_listing(f"{text}\n\nBindings:\nx\nz\nout").io) == 3
    assert len(parse_listing(f"{text}\n\nBindings:\nx\nz").io) == 2  # no word of it that `out` is an output
    with pytest.raises(ListingError) as caught:
        parse_listing(f"{text}\n\nBindings:\nx\nz", outputs=["z", "out"])
    assert (caught.value.code, "out" in caught.value.message) == ("listing-incomplete", True)


@pytest.mark.parametrize("last", ["ou", "out [profile", "out [profile 1"])
def test_a_last_name_that_is_cut_is_refused(last: str) -> None:
    text = f"Layers:\n{line('a', ['a'])}\n\nBindings:\nx\nout\n{last}"
    with pytest.raises(ListingError) as caught:
        parse_listing(text)
    assert caught.value.code == "listing-incomplete"


def test_further_shape_profiles_name_no_further_tensors() -> None:
    text = f"Layers:\n{line('a', ['a'])}\n\nBindings:\nx\nout\nx [profile 1]\nout [profile 1]"
    assert [io["name"] for io in parse_listing(text).io] == ["x", "out"]


def test_an_unused_input_is_no_reason_to_refuse() -> None:
    text = f"Layers:\n{line('a', ['a'])}\n\nBindings:\nunused\nx\nout"
    assert [io["name"] for io in parse_listing(text, outputs=["out"]).io] == ["unused", "x", "out"]


@pytest.mark.parametrize(
    "dims", ["12-18", "-", "--1", "1,,2", "-2", "9" * 400, "1" * 19, ",".join("1" * 65), " ", "1 2", "٣"]
)
def test_dimensions_that_are_no_shape_are_refused(dims: str) -> None:
    for text in (line("n", ["n"]).replace("Dimensions: [1,2]", f"Dimensions: [{dims}]", 1), "Layers:\n\nI/O Tensors:\n Name: x, "
                 f"IOMode: Input, DataType: Float, Dimensions: [{dims}], Location: Device, IsShapeInferenceIO: false, ProfileInfo: []"):  # fmt: skip
        if dims == " ":  # no dimensions: a scalar
            continue
        with pytest.raises(ListingError) as caught:
            one(text) if text.startswith("Name") else parse_listing(text)
        assert caught.value.code == "listing-unknown-form"


def test_a_tensor_larger_than_any_is_refused_by_the_name_of_the_limit() -> None:
    with pytest.raises(LimitError) as caught:
        one(line("n", ["n"]).replace("Dimensions: [1,2]", "Dimensions: [1000000,1000000,1000000]", 1))
    assert caught.value.code == "limit-tensor-elements"


def test_lines_and_texts_beyond_a_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = recorded("1.7.1.116", "attention")
    for name in ("LINE_BYTES", "DOCUMENT_BYTES"):
        with monkeypatch.context() as patch:
            patch.setenv(f"WORKBENCH_LIMIT_{name}", "100")
            with pytest.raises(LimitError) as caught:
                parse_listing(text)
        assert caught.value.details["limit"] == name


@pytest.mark.parametrize("number", ["--1", "²", "9" * 5000, "x", ""])
@pytest.mark.parametrize("key", ["StreamId", "EventId"])
def test_streams_and_events_are_whole_numbers(key: str, number: str) -> None:
    with pytest.raises(ListingError):
        one(
            line("n", ["n"], more=", EventId: 3").replace(f"{key}: {0 if key == 'StreamId' else 3}", f"{key}: {number}")
        )


LONG = {
    "heads of tensors": lambda n: "Name: a, LayerType: b, Inputs: [ { Name: " + ", Dimensions: [1], Datatype: F, Format: " * n,
    "heads and ends": lambda n: "Name: a, LayerType: b, Inputs: [ { Name: " + ", Dimensions: [1], Datatype: F, Format: }" * n,
    "ends": lambda n: "Name: a, LayerType: b, Inputs: [ { Name: x, Dimensions: [1], Datatype: F, Format: " + " }" * n,
    "owners": lambda n: "Name: a, LayerType: b, Inputs: [], Outputs: [], Metadata: " + "[ONNX Layer: " * n,
    "owners and more": lambda n: "Name: a, LayerType: b, Inputs: [], Outputs: [], Metadata: " + "[ONNX Layer: x] [y" * n,
    "types": lambda n: "Name: " + ", LayerType: x, Inputs:" * n,
    "fields": lambda n: "Name: a, LayerType: b, Inputs: []" + ", A" * n,
    "long key": lambda n: "Name: a, LayerType: b, Inputs: [], " + "A" * n,
}  # fmt: skip


@pytest.mark.parametrize("what", LONG)
def test_lines_made_to_take_long_take_as_long_as_others(what: str) -> None:
    """200,000 repetitions take well under a second where time grows with the length, hours where with its square."""
    with pytest.raises(ListingError), time_limit(20):
        parse_listing("Layers:\n" + LONG[what](200_000))


def test_a_long_line_of_inputs_and_outputs_takes_as_long_as_others() -> None:
    entry = ", IOMode: x, DataType: y, Dimensions: [1], Location: z, IsShapeInferenceIO: a, ProfileInfo: ["
    with pytest.raises(ListingError), time_limit(20):
        parse_listing("Layers:\n\nI/O Tensors:\n Name: " + entry * 100_000)


def test_the_three_versions_agree_on_attention() -> None:
    found = {v: parse_listing(recorded(v, "attention"), v) for v in ("1.4.0.76", "1.5.0.114", "1.7.1.116")}
    assert len({len(listing.layers) for listing in found.values()}) == 1
    for listing in found.values():
        first = listing.layers[0]
        assert first["type"] == "gemm"
        assert sorted(first["nodes"]) == ["node_MatMul_1", "node_MatMul_17", "node_MatMul_9"]
        assert first["inputs"][0]["name"] == "x"
        assert first["inputs"][0]["shape"] == [1, 64, 128]
        assert first["outputs"][0]["shape"] == [1, 64, 384]
        assert first["tactic"] == "__myelin_CASK_STUB"


def test_constants_and_strides_come_with_1_5() -> None:
    old, new = (parse_listing(recorded(v, "attention"), v).layers[0] for v in ("1.4.0.76", "1.7.1.116"))
    assert (old["constants"], old["inputs"][0]["strides"]) == ([], None)
    assert new["constants"][0]["shape"] == [1, 128, 384]
    assert new["inputs"][0]["strides"] == [8192, 128, 1]


def test_int8_is_seen() -> None:
    listing = parse_listing(recorded("1.7.1.116", "conv_relu_qdq_good"))
    convolutions = [la for la in listing.layers if la["type"] == "correlation"]
    assert len(convolutions) == 2
    assert {la["inputs"][0]["dtype"] for la in convolutions} == {"int8"}


def test_no_path_of_the_recording_machine_is_in_the_data() -> None:
    for path in RECORDED:
        text = path.read_text()
        assert not any(mark in text for mark in ("/tmp/", "/home/", "/work/", "/root/"))
    assert sum(p.stat().st_size for p in RECORDED) < 150_000


def tensor(name: str, dims: str = "1,2") -> str:
    return (f"{{ Name: {name}, Dimensions: [{dims}], Strides: [2,1], StrideOrder: [1,0], Datatype: Float, "
            "Format: (Linear) Row major linear format }")  # fmt: skip


def line(
    name: str, nodes: list[str], tensors: tuple[str, ...] = ("x",), separator: str = "\x1e", more: str = ""
) -> str:
    inside = ", ".join(map(tensor, tensors))
    meta = separator.join(f"[ONNX Layer: {n}]" for n in nodes)
    return (f"Name: {name}, LayerType: kgen, Inputs: [ {inside}], Outputs: [ {tensor('out')}], "
            f"TacticName: t_0x1, StreamId: 0{more}, Metadata: {meta}")  # fmt: skip


def one(text: str):
    return parse_listing(f"Layers:\n{text}\n\nBindings:\nx\nout\n", "test").layers[0]


ODD = [
    "a, b",
    "x[0]",
    "a]b",
    "node/with:colon",
    "^caret",
    "{ brace }",
    "sprød",
    "with space",
    "a, Inputs",
    "]",
    "[",
    "][",
]


@pytest.mark.parametrize("separator", ["\x1e", "\x1f", "\x1d", ""])
@pytest.mark.parametrize("name", ODD)
def test_odd_node_and_tensor_names(name: str, separator: str) -> None:
    layer = one(line(name, ["first", name, "last"], (name, "y"), separator))
    assert layer["nodes"] == ["first", name, "last"]
    assert layer["name"] == name
    assert [t["name"] for t in layer["inputs"]] == [name, "y"]


@given(
    st.lists(
        st.text(
            alphabet=st.characters(blacklist_categories=["Cc", "Cs"], blacklist_characters="[]"), min_size=1, max_size=9
        ),
        max_size=6,
    )
)
def test_any_printable_names_in_metadata(names: list[str]) -> None:
    assert owners("\x1e".join(f"[ONNX Layer: {n}]" for n in names)) == list(dict.fromkeys(names))


def test_a_note_behind_the_last_owner_takes_nothing_away() -> None:
    # As RTX 1.7 writes it of ResNet-50's 1x1 convolutions in FP16.
    layer = one(
        line("__myl_FcAddRelu_myl0_26", ["node_Conv_797", "node_relu_22"], separator="") + "__gemm_from_conv1x1"
    )
    assert layer["nodes"] == ["node_Conv_797", "node_relu_22"]
    assert layer["metadata"].endswith("]__gemm_from_conv1x1")
    assert owners("[ONNX Layer: a]__note\x1e[ONNX Layer: b]c]") == ["a", "b]c"]


def test_owners_that_can_not_be_told_apart_are_an_error() -> None:
    with pytest.raises(ListingError, match="another"):
        one(line("x", ["a"]) + "[ONNX Layer: another")


def test_events_streams_and_layers_without_nodes() -> None:
    text = ("Name: s, LayerType: signal, Inputs: [], Outputs: [], TacticName: , StreamId: 2, EventId: 7, Metadata: \n"
            "Name: w, LayerType: wait, Inputs: [], Outputs: [], TacticName: , StreamId: 0, EventId: 7, Metadata: ")  # fmt: skip
    first, second = parse_listing(f"Layers:\n{text}\nBindings:\nx").layers
    assert (first["stream"], first["event"], first["nodes"]) == (2, 7, [])
    assert (second["stream"], second["event"]) == (0, 7)


def test_scalars_and_open_dimensions() -> None:
    text = line("n", ["n"]).replace("Dimensions: [1,2]", "Dimensions: []", 1)
    assert one(text)["inputs"][0]["shape"] == []
    text = line("n", ["n"]).replace("Dimensions: [1,2]", "Dimensions: [-1,3,-1]", 1)
    assert one(text)["inputs"][0]["shape"] == [-1, 3, -1]


GOOD = line("n", ["a"])
BROKEN = [
    GOOD.replace("LayerType", "Layertype"), GOOD.replace("Dimensions: [1,2]", "Dimensions: 1,2"), GOOD[: len(GOOD) // 2],
    GOOD.replace("Inputs: [", "Inputs: "), "nonsense", GOOD.replace(", Outputs", " Outputs"), GOOD.replace("Name: n", "n"),
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_a_line_of_another_form_is_an_error_that_names_the_version(text: str) -> None:
    with pytest.raises(ListingError, match=r"tensorrt_rtx 9\.9") as info:
        parse_listing(f"Layers:\n{GOOD}\n{text}\nBindings:\nx", "tensorrt_rtx 9.9")
    assert info.value.details["line"]


@pytest.mark.parametrize("text", ["", "hello", "Name: x"])
def test_something_that_is_no_listing(text: str) -> None:
    with pytest.raises(ListingError):
        parse_listing(text, "v")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Float", ("Float", "")), ("Row major linear FP16 format", ("FP16", "Row major linear FP16 format")),
     ("Channel major INT8 format where C == 8", ("INT8", "Channel major INT8 format where C == 8")), ("odd", ("", "odd"))],
)  # fmt: skip
def test_format_and_type_in_one_field(text: str, expected: tuple[str, str]) -> None:
    assert split_format(text) == expected


@pytest.mark.serial
def test_reading_grows_linearly() -> None:
    lines = recorded("1.7.1.116", "attention").split("\n")
    layers = [text for text in lines if text.startswith("Name: ")]
    rest = "\n".join(lines[len(layers) + 1 :])

    def seconds(count: int) -> float:
        text = "Layers:\n" + "\n".join(layers[i % len(layers)] for i in range(count)) + "\n" + rest
        best = float("inf")
        gc.collect()
        gc.disable()  # the collector walks what other tests of this process left, which is not the reader's time
        try:
            for _ in range(3):
                begin = time.process_time()
                assert len(parse_listing(text).layers) == count
                best = min(best, time.process_time() - begin)
        finally:
            gc.enable()
        return best

    # Five times the layers: 5 if linear, 25 if quadratic.
    assert seconds(10_000) / seconds(2_000) < 8


def test_a_line_with_a_thousand_tensors_and_nodes_is_no_problem() -> None:
    names = [f"node, {i}]" for i in range(1000)]
    layer = one(line("n", names, tuple(f"t[{i}]" for i in range(1000))))
    assert (len(layer["nodes"]), len(layer["inputs"])) == (1000, 1000)
