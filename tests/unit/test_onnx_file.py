"""Reading a graph without its weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from tests.support.small_models import constant, mlp, model, node, save, value, weights
from workbench import Session
from workbench.core.errors import LimitError, ModelError, WorkbenchError
from workbench.model.graph import Graph
from workbench.model.onnx_file import external_files, fingerprint, read_graph, tensors_of
from workbench.model.onnx_wire import INLINE_LIMIT

RELAXED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
BIG = 3 * INLINE_LIMIT


def stripped(proto: onnx.ModelProto) -> bytes:
    """The model with the payload of every large tensor taken out: what both readings must share."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in tensors_of(copy):
        payload = max(len(tensor.raw_data), 4 * len(tensor.float_data), 8 * len(tensor.double_data))
        if payload > INLINE_LIMIT or tensor.external_data:
            for name in ("raw_data", "external_data", "data_location", "float_data", "double_data"):
                tensor.ClearField(name)
    return copy.SerializeToString(deterministic=True)


def content(tensor: onnx.TensorProto) -> bytes:
    return numpy_helper.to_array(tensor).tobytes()


def same_weights(path: Path) -> None:
    """What `read_graph` left on disk is found again by ONNX's own loader, bit for bit."""
    plain = onnx.load(str(path))
    light = read_graph(path)
    load_external_data_for_model(light, str(path.parent))
    ours, theirs = list(tensors_of(light)), list(tensors_of(plain))
    assert [t.name for t in ours] == [t.name for t in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert content(a) == content(b), a.name


@st.composite
def random_models(draw: st.DrawFn) -> onnx.ModelProto:
    size = draw(st.integers(1, 5))
    tensors, nodes, last = [], [], "x"
    for i in range(size):
        count = draw(st.sampled_from([1, 7, 4096, 4097, 20_000]))
        kind = draw(st.sampled_from(["float32", "float64", "int64", "float16", "int8"]))
        data = np.arange(count).astype(kind)
        name = draw(st.text(min_size=0, max_size=5)) + f"w{i}"
        if kind == "float32" and draw(st.booleans()):
            tensor = helper.make_tensor(name, TensorProto.FLOAT, [count], data.tolist())
        elif kind == "float64" and draw(st.booleans()):
            tensor = helper.make_tensor(name, TensorProto.DOUBLE, [count], data.tolist())
        else:
            tensor = numpy_helper.from_array(data, name)
        if draw(st.booleans()):
            nodes.append(node("Constant", [], [name], f"c{i}", value=tensor))
        elif draw(st.booleans()):
            inner = helper.make_graph(
                [node("Identity", [name], [f"i{i}"])], "body", [], [value(f"i{i}", None)], [tensor]
            )
            nodes.append(node("If", ["cond"], [f"o{i}"], f"if{i}", then_branch=inner, else_branch=inner))
        else:
            tensors.append(tensor)
            nodes.append(node("Add", [last, name], [f"y{i}"], f"add{i}"))
            last = f"y{i}"
    made = model(
        nodes, [value("x", ["n"]), value("cond", [], TensorProto.BOOL)], [value(last, None)], tensors, infer=False
    )
    made.doc_string = draw(st.text(max_size=30))
    entry = made.metadata_props.add()
    entry.key, entry.value = "k", "v" * draw(st.integers(0, 30_000))
    return made


@pytest.mark.tiny
@RELAXED
@given(made=random_models())
def test_structure_and_weights_survive_for_random_models(made: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    light = read_graph(path)
    assert stripped(light) == stripped(onnx.load(str(path), load_external_data=False))
    same_weights(path)
    assert light.ByteSize() < 200_000


@pytest.mark.tiny
def test_large_constants_in_attributes_subgraphs_and_functions(tmp_path: Path) -> None:
    big = [weights(f"big{i}", BIG // 4, seed=i) for i in range(4)]
    inner = helper.make_graph([node("Identity", ["big1"], ["a"])], "then", [], [value("a", None)], [big[1]])
    nested = helper.make_graph(
        [node("If", ["cond"], ["b"], then_branch=inner, else_branch=inner)], "else", [], [value("b", None)]
    )
    function = helper.make_function(
        "own", "F", ["fx"], ["fy"],
        [node("Constant", [], ["fc"], value=big[2]), node("Add", ["fx", "fc"], ["fy"])], [helper.make_opsetid("", 20)],
    )  # fmt: skip
    listed = node("Custom", ["x"], ["z"], domain="own")
    listed.attribute.append(helper.make_attribute("many", [big[3]]))
    made = model(
        [node("Constant", [], ["c"], value=big[0]), node("If", ["cond"], ["d"], then_branch=inner, else_branch=nested),
         node("F", ["c"], ["e"], domain="own"), listed],
        [value("x", [4]), value("cond", [], TensorProto.BOOL)], [value("e", None)],
        functions=[function], domains=["own"], infer=False,
    )  # fmt: skip
    path = save(made, tmp_path / "m.onnx")
    light = read_graph(path)
    assert light.ByteSize() < 4000
    assert sum(bool(t.external_data) for t in tensors_of(light)) == 6
    same_weights(path)


@pytest.mark.tiny
def test_external_data_of_the_file_itself_is_kept(tmp_path: Path) -> None:
    made = mlp()
    big = weights("big", BIG)
    made.graph.initializer.append(big)
    path = tmp_path / "m.onnx"
    onnx.save(made, str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    light = read_graph(path)
    assert external_files(light, path) == {tmp_path / "m.data"}
    load_external_data_for_model(light, str(tmp_path))
    assert content(light.graph.initializer[2]) == content(big)
    first = fingerprint(path, {tmp_path / "m.data"})
    with (tmp_path / "m.data").open("r+b") as file:
        file.seek(3)
        file.write(b"\xff")
    assert fingerprint(path, {tmp_path / "m.data"}) != first


@pytest.mark.tiny
def test_missing_external_data_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(mlp(), str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match=r"m\.data, which is not in the same folder") as info:
        read_graph(path)
    assert str(tmp_path) in str(info.value.hint)
    assert info.value.details == {"missing": ["m.data"]}


@pytest.mark.tiny
@pytest.mark.parametrize("location", ["../secret.txt", "/etc/passwd", "a/../../secret.txt"])
def test_external_data_outside_the_models_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "a").mkdir()
    (tmp_path / "deep" / "secret.txt").write_bytes(bytes(1000))
    made = mlp()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ModelError, match="outside"):
        read_graph(folder / "m.onnx")


@pytest.mark.tiny
def test_every_truncation_of_a_file_is_an_error_or_a_shorter_valid_message(tmp_path: Path) -> None:
    made = mlp()
    made.graph.initializer.append(weights("big", 5000))
    whole = made.SerializeToString()
    path = tmp_path / "m.onnx"
    points = [*range(600), *range(600, len(whole), 97), *range(len(whole) - 200, len(whole))]
    refused = 0
    for point in points:
        path.write_bytes(whole[:point])
        try:
            light = read_graph(path)
        except ModelError:
            refused += 1
            continue
        # Cut between two top-level fields: protobuf itself can't tell; what is there must be right.
        assert stripped(light) == stripped(onnx.load_model_from_string(whole[:point]))
    assert refused > len(points) * 0.98


@pytest.mark.tiny
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError):
        read_graph(path)


@pytest.mark.tiny
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_flipped_byte_never_gives_another_kind_of_error(place: int, byte: int, tmp_path: Path) -> None:
    from workbench.model.model import Model

    data = bytearray(mlp().SerializeToString())
    data[place % len(data)] = byte
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    try:
        graph = Graph(read_graph(path))
        _ = graph.constants, graph.live, Model("m", path).companions
        graph.at({})
    except WorkbenchError:
        pass


WRONG = {
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "torch": b"PK\x03\x04" + bytes(22) + b"\x10\0\0\0archive/data.pkl" + bytes(100),
    "npz": b"PK\x03\x04" + bytes(22) + b"\x05\0\0\0a.npy" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(22) + b"\x0a\0\0\0model.onnx" + bytes(100),
    "tflite": b"\x1c\0\0\0TFL3" + bytes(100),
    "html": b"\n<!DOCTYPE html><html></html>",
    "engine": b"vtrt" + bytes(100),
    "safetensors": (90).to_bytes(8, "little") + b'{"a": {}}' + bytes(100),
    "pickle": b"\x80\x02}q\x00." + bytes(20),
    "gguf": b"GGUF" + bytes(100),
    "ort": b"\x18\0\0\0ORTM" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "tar": bytes(257) + b"ustar" + bytes(100),
    "openvino": b"<?xml version='1.0'?><net name='a'></net>",
    "text": b"hello, this is no model\n",
}


@pytest.mark.tiny
@pytest.mark.parametrize("kind", WRONG)
def test_what_else_a_file_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(WRONG[kind])
    with pytest.raises(ModelError) as info:
        read_graph(path)
    assert info.value.details == {"found": kind}
    assert info.value.code == ("git-lfs-pointer" if kind == "git-lfs" else "not-onnx")
    assert str(path) in info.value.message


@pytest.mark.tiny
@pytest.mark.parametrize("data", [bytes(4096), b"\x12\x07pytorch", b"\x08\x0a\x3a\x00", b"\x0b\x0c"])
def test_a_file_of_which_nothing_is_known_is_not_called_anything(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.engine"  # its name proves nothing
    path.write_bytes(data)
    with pytest.raises(ModelError) as info:
        read_graph(path)
    assert info.value.code in {"not-onnx", "no-graph"}
    assert "found" not in info.value.details


@pytest.mark.tiny
def test_absent_empty_and_folder(tmp_path: Path) -> None:
    (tmp_path / "resnet.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="is empty"):
        read_graph(tmp_path / "resnet.onnx")
    with pytest.raises(ModelError, match="There is no file") as info:
        read_graph(tmp_path / "resnt.onnx")
    assert "resnet.onnx" in str(info.value.hint)
    with pytest.raises(ModelError, match="no file") as info:
        read_graph(tmp_path / "nowhere" / "m.onnx")
    assert "does not exist" in str(info.value.hint)
    with pytest.raises(ModelError) as info:
        read_graph(tmp_path)
    assert (info.value.code, info.value.details["files"]) == ("is-folder", ["resnet.onnx"])


@pytest.mark.tiny
def test_a_pipe_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", Path("/dev/zero"), tmp_path / ("long" * 2000)):
        with pytest.raises(ModelError) as info:
            read_graph(path)
        assert info.value.code in {"not-a-file", "unreadable-file"}


def external(folder: Path, entries: dict[str, str], data: bytes | None) -> Path:
    """A model whose first weight, 8 x 8 floats, lies in another file by these entries."""
    made = mlp()
    tensor = made.graph.initializer[0]
    needed = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text.replace("NEEDED", str(needed)))
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    if data is not None:
        (folder / "d").write_bytes(data)
    return folder / "m.onnx"


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("entries", "data", "code"),
    [
        ({"location": "d"}, bytes(4096), None),
        ({"location": "d", "offset": "0", "length": "NEEDED"}, bytes(4096), None),
        ({"location": "d", "offset": "4090"}, bytes(4096), "external-data-short"),
        ({"location": "d", "offset": "0", "length": "NEEDED"}, bytes(3), "external-data-short"),
        ({"location": "d", "offset": "0", "length": "8"}, bytes(4096), "external-data-short"),
        ({"location": "d", "offset": "99999999", "length": "NEEDED"}, bytes(4096), "external-data-short"),
        ({"location": "d"}, b"version https://git-lfs.github.com/spec/v1\n" + bytes(4096), "git-lfs-pointer"),
        ({"location": "d"}, None, "external-data-missing"),
        ({"location": ""}, None, "external-data-invalid"),
        ({"location": "a\0b"}, None, "external-data-invalid"),
        ({"location": "d", "offset": "-1"}, bytes(4096), "external-data-invalid"),
        ({"location": "d", "offset": "9" * 5000}, bytes(4096), "external-data-invalid"),
        ({"location": "d", "length": "many"}, bytes(4096), "external-data-invalid"),
        ({"location": "..\\secret"}, None, "external-data-outside"),
        ({"location": "C:\\secret"}, None, "external-data-outside"),
    ],
)
def test_external_data_is_checked_when_the_graph_is_read(
    tmp_path: Path, entries: dict[str, str], data: bytes | None, code: str | None
) -> None:
    path = external(tmp_path, entries, data)
    if code is None:
        assert read_graph(path).graph.node
        return
    with pytest.raises(ModelError) as info:
        read_graph(path)
    assert info.value.code == code


@pytest.mark.tiny
def test_a_tensor_shorter_than_its_shape_is_named(tmp_path: Path) -> None:
    made = mlp()
    made.graph.initializer[0].raw_data = made.graph.initializer[0].raw_data[:-4]
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(ModelError) as info:
        read_graph(path)
    assert info.value.code == "tensor-short"
    assert made.graph.initializer[0].name in info.value.message


@pytest.mark.tiny
def test_names_that_are_not_utf8_are_shown_with_their_bytes(tmp_path: Path) -> None:
    data = mlp().SerializeToString().replace(b"mm1", b"\xc4\xe3\xba").replace(b"\x01h", b"\x01\xff")
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    graph = Graph(read_graph(path))
    assert graph.nodes[0].id == r"\xc4\xe3\xba"
    assert graph.nodes[1].inputs == (r"\xff",)
    assert graph.rewritten  # a compiler gets these names, not the bytes
    assert all(isinstance(part, str) for n in graph.nodes for part in (n.id, n.op, *n.inputs, *n.outputs))


def field(number: int, body: bytes) -> bytes:
    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        return bytes([*out, value])

    return varint(number << 3 | 2) + varint(len(body)) + body


@pytest.mark.tiny
@pytest.mark.parametrize("depth", [40, 100, 3000])
def test_graphs_nested_too_deep_are_refused(tmp_path: Path, depth: int) -> None:
    body = field(5, field(9, bytes(20_000)))
    for _ in range(depth):
        body = field(1, field(5, field(6, body)))
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x08" + field(7, body))
    with pytest.raises(ModelError) as info:
        read_graph(path)
    assert info.value.code == "too-deep"


def test_wide_and_deep_is_read_in_memory_of_its_size(tmp_path: Path) -> None:
    body = field(5, b"".join(field(8, b"x" * 60_000) for _ in range(300)))
    for _ in range(30):
        body = field(1, field(5, field(6, body)))
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x08" + field(7, body))
    code = "import sys, resource; from pathlib import Path; from workbench.model.onnx_file import read_graph\n"
    code += "import onnx; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; read_graph(Path(sys.argv[1]))\n"
    code += "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    grown = int(subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout)
    assert grown < 150  # the file has 18 MB


@pytest.mark.tiny
def test_fields_nodes_and_bytes_have_limits_that_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x08" + field(7, field(1, b"\x2a\x00" * 2_200_000)))
    monkeypatch.setenv("WORKBENCH_LIMIT_GRAPH_FIELDS", "1e6")
    with pytest.raises(LimitError) as info:
        read_graph(path)
    assert info.value.code == "limit-graph-fields"
    # Small messages that are not walked while the file is read count as well.
    node_body = b"".join(field(1, field(3, b"n") + b"\x2a\x00" * 5000) for _ in range(500))
    path.write_bytes(b"\x08\x08" + field(7, node_body))
    with pytest.raises(LimitError) as info:
        read_graph(path)
    assert info.value.code == "limit-graph-fields"
    path.write_bytes(mlp().SerializeToString())
    monkeypatch.setenv("WORKBENCH_LIMIT_GRAPH_BYTES", "100")
    with pytest.raises(LimitError) as info:
        read_graph(path)
    assert info.value.code == "limit-graph-bytes"
    monkeypatch.delenv("WORKBENCH_LIMIT_GRAPH_BYTES")
    monkeypatch.setenv("WORKBENCH_LIMIT_GRAPH_NODES", "1")
    with pytest.raises(LimitError) as info:
        Graph(read_graph(path))
    assert info.value.code == "limit-graph-nodes"


@pytest.mark.tiny
def test_a_message_that_is_valid_protobuf_but_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(constant("t", [1.0, 2.0]).SerializeToString())
    with pytest.raises(ModelError):
        read_graph(path)


MEASURE = """
import resource, sys
from pathlib import Path
import onnx
from workbench.model.onnx_file import read_graph
from workbench.model.graph import Graph
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
graph = Graph(read_graph(Path(sys.argv[1])))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // 1024, len(graph.nodes), graph.tensor("w0").bytes)
"""


def sparse_model(path: Path, tensors: int, each: int) -> Path:
    """A valid ONNX file of `tensors` x `each` bytes of weights that are holes: no disk is used."""

    def varint(number: int) -> bytes:
        out = bytearray()
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        return bytes([*out, number])

    heads = []
    for i in range(tensors):
        tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[each // 4])
        heads.append(tensor.SerializeToString() + b"\x4a" + varint(each))  # raw_data, its payload follows
    rest = helper.make_graph(
        [node("Add", ["x" if i == 0 else f"y{i - 1}", f"w{i}"], [f"y{i}"], f"add{i}") for i in range(tensors)],
        "g", [value("x", [each // 4])], [value(f"y{tensors - 1}", [each // 4])],
    ).SerializeToString()  # fmt: skip
    fields = [b"\x2a" + varint(len(h) + each) + h for h in heads]  # GraphProto.initializer
    length = sum(len(f) + each for f in fields) + len(rest)
    head = onnx.ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 20)]).SerializeToString()
    with path.open("wb") as file:
        file.write(head + b"\x3a" + varint(length))  # ModelProto.graph
        for field in fields:
            file.write(field)
            file.seek(each, 1)
        file.write(rest)
    return path


def test_a_file_over_2_gb_is_read_in_little_memory(tmp_path: Path) -> None:
    path = sparse_model(tmp_path / "huge.onnx", 6, 500_000_000)
    assert path.stat().st_size > 2**31
    if path.stat().st_blocks * 512 > 50_000_000:
        pytest.skip("this file system makes no holes: the file would take 3 GB")
    out = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True).stdout
    megabytes, nodes, first = map(int, out.split())
    assert (nodes, first) == (6, 500_000_000)
    assert megabytes < 100


def test_a_folder_or_an_impossible_path_given_as_a_model(session: Session, tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "a.onnx").write_bytes(mlp().SerializeToString())
    with pytest.raises(ModelError) as info:
        session.add(tmp_path / "exports")
    assert (info.value.code, info.value.details["files"]) == ("is-folder", ["a.onnx"])
    for text in ("x" * 5000, "a\0b", "x" * 5000 + ".onnx"):
        with pytest.raises(ModelError) as info:
            session.add(text)
        assert len(info.value.message) < 1000
