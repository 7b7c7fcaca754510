"""Inputs whose values are read as a shape: found in the graph as TensorRT finds them, given, and built with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import onnx
import pytest

from tests.support import SAMPLES, needs_rtx
from tests.support.small_models import FLOAT, INT64, constant, model, node, save, value
from workbench import Session
from workbench.core.errors import ConfigError
from workbench.core.jobs import Job
from workbench.model.graph import Graph
from workbench.model.onnx_file import read_graph

X = value("x", [2, 4])
Y = value("y", None)
ONE, TWO, SCALAR = value("n", [1], INT64), value("n", [2], INT64), value("n", [], INT64)


def ints(name: str, *numbers: int) -> onnx.TensorProto:
    return constant(name, numbers[0] if name.endswith("0d") else list(numbers), "int64")


def made(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto], *constants: onnx.TensorProto
) -> onnx.ModelProto:
    return model(nodes, inputs, [Y], constants, infer=False)


DIRECT: dict[str, onnx.ModelProto] = {
    "Reshape": made([node("Reshape", ["x", "n"], ["y"], "reads")], [X, TWO]),
    "Expand": made([node("Expand", ["x", "n"], ["y"], "reads")], [X, TWO]),
    "Tile": made([node("Tile", ["x", "n"], ["y"], "reads")], [X, TWO]),
    "SliceStarts": made([node("Slice", ["x", "n", "e", "a"], ["y"], "reads")], [X, ONE], ints("e", 4), ints("a", 1)),
    "SliceEnds": made([node("Slice", ["x", "s", "n", "a"], ["y"], "reads")], [X, ONE], ints("s", 0), ints("a", 1)),
    "SliceSteps": made([node("Slice", ["x", "s", "e", "a", "n"], ["y"], "reads")], [X, ONE], ints("s", 0), ints("e", 4), ints("a", 1)),
    "Range": made([node("Range", ["z0d", "n", "o0d"], ["r"], "reads"), node("Cast", ["r"], ["y"], to=FLOAT)], [SCALAR], ints("z0d", 0), ints("o0d", 1)),
    "ConstantOfShape": made([node("ConstantOfShape", ["n"], ["y"], "reads")], [TWO]),
    "TopK": made([node("TopK", ["x", "n"], ["y", "i"], "reads")], [X, ONE]),
    "Pad": made([node("Pad", ["x", "n"], ["y"], "reads")], [X, value("n", [4], INT64)]),
    "Resize": made([node("Resize", ["q", "", "", "n"], ["y"], "reads", mode="nearest")], [value("q", [1, 1, 4, 4]), value("n", [4], INT64)]),
    "Split": made([node("Split", ["x", "n"], ["y", "z"], "reads", axis=1)], [X, TWO]),
    "OneHot": made([node("OneHot", ["i", "n", "v"], ["y"], "reads")], [value("i", [3], INT64), SCALAR], constant("v", [0, 1])),
    "CumSum": made([node("CumSum", ["x", "n"], ["y"], "reads")], [X, SCALAR]),
}  # fmt: skip
"""Operators that read an input as a shape."""


def through(
    *nodes: onnx.NodeProto, n: onnx.ValueInfoProto = ONE, more: Sequence[onnx.TensorProto] = ()
) -> onnx.ModelProto:
    """x cut at `m`, which the given nodes compute from `n`."""
    return made(
        [*nodes, node("Slice", ["x", "s", "m", "a"], ["y"], "reads")], [X, n], ints("s", 0), ints("a", 1), *more
    )


ARITHMETIC: dict[str, onnx.ModelProto] = {
    "Add": through(node("Add", ["n", "c"], ["m"]), more=[ints("c", 1)]),
    "Mod": through(node("Mod", ["n", "c"], ["m"]), more=[ints("c", 2)]),
    "Min": through(node("Min", ["n", "c"], ["m"]), more=[ints("c", 3)]),
    "Neg": through(node("Neg", ["n"], ["m"])),
    "Int32": through(node("Cast", ["n"], ["m"], to=INT64), n=value("n", [1], onnx.TensorProto.INT32)),
    "Float": through(node("Cast", ["n"], ["f"], to=FLOAT), node("Mul", ["f", "h"], ["g"]), node("Cast", ["g"], ["m"], to=INT64), more=[constant("h", [0.5])]),
    "Floor": through(node("Cast", ["n"], ["f"], to=FLOAT), node("Floor", ["f"], ["g"]), node("Cast", ["g"], ["m"], to=INT64)),
    "Unsqueeze": through(node("Unsqueeze", ["n", "c"], ["m"]), n=SCALAR, more=[ints("c", 0)]),
    "ReshapeData": through(node("Reshape", ["n", "c"], ["m"]), n=SCALAR, more=[ints("c", 1)]),
    "Concat": through(node("Concat", ["n", "c"], ["d"], axis=0), node("Gather", ["d", "z"], ["m"]), more=[ints("c", 1), ints("z", 0)]),
    "Where": through(node("Greater", ["n", "c"], ["b"]), node("Where", ["b", "n", "c"], ["m"]), more=[ints("c", 2)]),
    "ReduceMax": through(node("ReduceMax", ["n"], ["m"], keepdims=1), n=value("n", [5], INT64)),
    "Slice": through(node("Slice", ["n", "s", "c"], ["m"]), n=value("n", [3], INT64), more=[ints("c", 1)]),
    "SplitData": through(node("Split", ["n"], ["m", "rest"], num_outputs=2), n=TWO),
    "GatherIndex": through(node("Gather", ["c", "n"], ["m"]), more=[ints("c", 1, 2, 3, 4)]),
    "AlsoData": through(node("Identity", ["n"], ["m"]), node("Cast", ["n"], ["f"], to=FLOAT), node("Add", ["x", "f"], ["unused"])),
}  # fmt: skip
"""A shape that is computed from an input."""

AXES: dict[str, onnx.ModelProto] = {
    "Squeeze": made([node("Squeeze", ["q", "n"], ["y"], "reads")], [value("q", [2, 1]), ONE]),
    "Unsqueeze": made([node("Unsqueeze", ["x", "n"], ["y"], "reads")], [X, ONE]),
    "ReduceSum": made([node("ReduceSum", ["x", "n"], ["y"], "reads")], [X, ONE]),
    "ReduceMean": made([node("ReduceMean", ["x", "n"], ["y"], "reads")], [X, ONE]),
}  # fmt: skip
"""Operators that read an input as axes."""

NOT: dict[str, onnx.ModelProto] = {
    "ShapeOf": through(node("Shape", ["n"], ["m"]), n=value("n", [3], INT64)),
    "Gather": made([node("Gather", ["x", "n"], ["y"])], [X, ONE]),
    "Data": made([node("Reshape", ["x", "c"], ["y"])], [X], ints("c", 8)),
    "Trilu": made([node("Trilu", ["x", "n"], ["y"])], [X, SCALAR]),
}  # fmt: skip
"""Inputs that nothing reads as a shape."""


@pytest.mark.parametrize("name", [*DIRECT, *ARITHMETIC])
def test_an_input_that_is_read_as_a_shape(name: str) -> None:
    (found,) = Graph({**DIRECT, **ARITHMETIC}[name]).shape_inputs.values()
    assert (found.name, found.readers) == ("n", ("reads",))


@pytest.mark.parametrize("name", list(AXES))
def test_axes_must_be_constants(name: str) -> None:
    graph = Graph(AXES[name])
    (found,) = graph.shape_inputs.values()
    assert (found.name, found.readers, found.constant) == ("n", ("reads",), True)
    assert graph.suggestion.texts == {}  # no value helps


@pytest.mark.parametrize("name", list(NOT))
def test_an_input_that_is_not(name: str) -> None:
    assert Graph(NOT[name]).shape_inputs == {}


@needs_rtx
def test_tensorrt_finds_the_same(tmp_path: Path) -> None:
    models = {**DIRECT, **ARITHMETIC, **NOT}
    files = [str(save(proto, tmp_path / f"{name}.onnx")) for name, proto in models.items()]
    axes = [str(save(proto, tmp_path / f"axes{name}.onnx")) for name, proto in AXES.items()]
    said = (
        Job("tests.support.worker_tasks:shape_tensors", {"module": "tensorrt_rtx", "files": [*files, *axes]})
        .start()
        .result()
    )
    assert [said.pop(f"axes{name}") for name in AXES] == [None] * len(AXES)  # the parser refuses them
    assert None not in said.values()
    assert said == {name: list(Graph(proto).shape_inputs) for name, proto in models.items()}


def test_no_sample_has_one() -> None:
    files = sorted(SAMPLES.glob("*.onnx"))
    assert files
    assert {f.name: read for f in files if (read := Graph(read_graph(f)).shape_inputs)} == {}


# --- values -------------------------------------------------------------------------------------------


def test_shapes_that_follow_from_values() -> None:
    graph = Graph(DIRECT["SliceEnds"])
    at = graph.at({}, {"n": (3,)})
    assert at.tensor("y").shape == (2, 3)
    assert at.inputs == ["x", "n"]
    assert "n" not in at.constants  # it is an input still: nothing is folded with it
    assert graph.at({}).tensor("y").elements is None
    assert Graph(DIRECT["Range"]).at({}, {"n": (7,)}).tensor("y").shape == (7,)  # a scalar


@pytest.mark.parametrize(
    ("values", "told"),
    [({"q": (1,)}, "not an input"), ({"x": (1,)}, "INT32 and INT64"), ({"n": (1, 2)}, "2 values of input n are given"),
     ({"n": ()}, "0 values")],
)  # fmt: skip
def test_values_that_do_not_fit(values: dict[str, tuple[int, ...]], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Graph(DIRECT["SliceEnds"]).at({}, values)


@needs_rtx
def test_a_build_with_values(session: Session, tmp_path: Path) -> None:
    file = save(DIRECT["SliceEnds"], tmp_path / "m.onnx")
    with pytest.raises(ConfigError) as error:
        session.build(file, target="sm89")
    assert error.value.code == "values-missing"
    assert "Slice reads" in error.value.message
    assert error.value.details["shapes"] == {"n": "=8"} or error.value.details["shapes"]["n"].startswith("=")
    engine = session.build(file, target="sm89", shapes={"n": "=1:2:4"})
    assert engine.plan.summary["bytes_unknown"] == 0  # counted at the opt value
    assert session.build(file, target="sm89", shapes={"n": "=1:2:4"}).cached
    assert engine.config.profiles[0].texts == {"n": "=1:2:4"}
    assert not session.build(file, target="sm89", shapes={"n": "=3"}).cached
    with pytest.raises(ConfigError) as error:
        session.build(file, target="sm89", shapes={"n": "1"})  # its shape, which is known, says nothing
    assert error.value.code == "values-missing"


@needs_rtx
def test_a_trip_count_has_a_value_where_tensorrt_wants_one(session: Session, tmp_path: Path) -> None:
    """The graph alone does not show it: TensorRT reads the trip count as a shape only where a Loop stacks outputs."""
    body = onnx.helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["a", "a"], ["b"]), node("Identity", ["b"], ["row"])], "body",
        [value("i", [], INT64), value("go", [], onnx.TensorProto.BOOL), value("a", [2])],
        [value("on", [], onnx.TensorProto.BOOL), value("b", [2]), value("row", [2])],
    )  # fmt: skip
    proto = model(
        [node("Loop", ["n", "true", "x"], ["last", "y"], "loop", body=body)], [value("n", [], INT64), value("x", [2])],
        [value("y", [None, 2])], [constant("true", True, "bool")], infer=False,
    )  # fmt: skip
    file = save(proto, tmp_path / "m.onnx")
    with pytest.raises(ConfigError) as error:
        session.build(file, target="sm89")
    assert error.value.code == "values-missing"
    assert list(error.value.details["shapes"]) == ["n"]
    assert session.build(file, target="sm89", shapes=error.value.details["shapes"]).bytes


@needs_rtx
def test_values_of_what_is_not_read_as_a_shape(session: Session, tmp_path: Path) -> None:
    file = save(NOT["Gather"], tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="does not read input n as a shape") as error:
        session.build(file, target="sm89", shapes={"n": "=1"})
    assert error.value.code == "value-mismatch"


@needs_rtx
def test_a_vector_of_open_length_has_that_of_its_values(session: Session, tmp_path: Path) -> None:
    lengths = through(node("ReduceMax", ["n"], ["m"], keepdims=1), n=value("n", ["k"], INT64))
    file = save(lengths, tmp_path / "m.onnx")
    with pytest.raises(ConfigError) as error:
        session.build(file, target="sm89")
    assert error.value.code == "values-missing"
    assert session.build(file, target="sm89", shapes={"n": "=1,1,1:2,1,1:4,4,4"}).bytes


@needs_rtx
def test_an_empty_cache_is_built(session: Session, tmp_path: Path) -> None:
    past, new = value("past", [1, 2, "p", 8]), value("new", [1, 2, 1, 8])
    file = save(made([node("Concat", ["past", "new"], ["y"], "grow", axis=2)], [past, new]), tmp_path / "m.onnx")
    engine = session.build(file, target="sm89", shapes={"past": "1x2x0x8:1x2x4x8:1x2x16x8"})
    assert engine.config.profiles[0].inputs["past"].min == (1, 2, 0, 8)
    assert session.build(file, target="sm89", shapes={"past": "1x2x0x8:1x2x0x8:1x2x16x8"}).bytes
    assert session.build(file, target="sm89", shapes={"past": "1x2x0x8"}).bytes


@pytest.mark.slow
@needs_rtx
def test_the_commands_take_values(cli: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    file = save(DIRECT["SliceEnds"], tmp_path / "m.onnx")
    refused = cli("fusions", file, "--target", "sm89")
    assert refused.returncode == 1
    assert "--shape n==" in refused.stderr
    assert "shapes=" not in refused.stderr  # that is Python
    assert cli("fusions", file, "--target", "sm89", "-s", "n==1:2:4").returncode == 0
    assert "read as a shape" in cli("checks", file).stdout
    told: Any = cli("trtexec", file, "-s", "n==1:2:4")
    assert "--minShapes=n:1 --optShapes=n:2 --maxShapes=n:4" in told.stdout
    assert cli("trtexec", file).returncode == 1
