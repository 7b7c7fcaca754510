"""The parser's yes is not the builder's: partitions by both, on models that build and on models that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import onnx
import pytest

from tests.support import needs_rtx
from tests.support.refused_models import CASES, attention, int32_bias, nms, qlinear
from tests.support.small_models import INT64, constant, mlp, model, node, save, value
from workbench import BuildConfig, Session
from workbench.core.errors import BuildError, ConfigError
from workbench.experiments.partition import by_builder, find
from workbench.experiments.partition.rest import STAND_IN, named, ordered, reads, rest, segments, sources
from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.plan.partition import Partition

REFUSED = [name for name, case in CASES.items() if case.refused]


# --- parts of a graph, without TensorRT ------------------------------------------------------------------


def test_parts_have_as_few_engines_as_the_graph_allows() -> None:
    #  0 -> 1 -> 2 -> 4, 0 -> 3 -> 4
    before = [[], [0], [1], [0], [2, 3]]
    assert segments({0, 2, 4}, before) == [("tensorrt", [0]), ("fallback", [1, 3]), ("tensorrt", [2, 4])]
    assert segments(range(5), before) == [("tensorrt", [0, 1, 2, 3, 4])]
    assert segments((), before) == [("fallback", [0, 1, 2, 3, 4])]
    # 0 falls back and needs nothing: one engine is enough, after it.
    assert segments({1, 2}, [[], [], [0, 1]]) == [("fallback", [0]), ("tensorrt", [1, 2])]
    assert ordered([[1], []]) == [1, 0]


def test_a_graph_without_some_of_its_nodes(tmp_path: Path) -> None:
    graph = Graph(mlp())
    found = rest(graph, {1})
    assert found is not None
    left, assumed = found
    assert not assumed
    assert [n.name for n in left.graph.node] == ["mm1", "mm2"]
    assert [i.name for i in left.graph.input] == ["x", "r"]  # what the cut node gave
    assert [o.name for o in left.graph.output] == ["h", "y"]  # and what it read
    assert Graph(left).tensor("r").shape == (2, 16)
    assert rest(graph, {0, 1, 2}) is None
    assert rest(Graph(mlp("batch")), {1}) is None  # the shape of an input is not known
    assert rest(Graph(mlp("batch")), {1}, open_shapes=True) is not None
    (tmp_path / "rest").mkdir()
    path = Model("m", save(mlp(), tmp_path / "m.onnx")).write_copy(left, tmp_path / "rest" / "workbench-rest.onnx")
    assert [n.id for n in Model("rest", path).graph.nodes] == ["mm1", "mm2"]


def test_a_size_that_depends_on_data_has_a_stand_in() -> None:
    found = rest(Graph(after_nms("Relu")), {1})
    assert found is not None
    assert found[1]
    assert Graph(found[0]).tensor("picked").shape == (STAND_IN, 3)


def test_a_cut_constant_stays_one() -> None:
    found = rest(Graph(int32_bias()), {0, 3})
    assert found is not None
    assert [i.name for i in found[0].graph.input] == ["x"]
    assert {"b", "c"} <= {t.name for t in found[0].graph.initializer}


def test_bodies_read_from_the_graph_around_them() -> None:
    graph = Graph(CASES["branches of one rank"].proto)
    assert reads(graph) == [{"c", "x", "to"}]
    assert sources(graph) == [[]]


def test_nodes_that_an_error_names() -> None:
    graph = Graph(CASES["branches of one rank"].proto)
    told = {"nodes": ["reshape", {"node": "choose", "reason": "why"}, "nobody", {"index": 3}]}
    assert named(told, graph) == {"choose": ""}  # a body goes with its node
    assert named({}, graph) == {}


def test_who_is_asked_without_being_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Model("m", save(mlp("batch"), tmp_path / "m.onnx"))
    config = BuildConfig()
    assert "no shape" in find.why_not(found, config, "tensorrt_rtx")
    shaped = BuildConfig(profiles=find.ShapeProfile.parse(["x=2x8"]))
    assert find.why_not(found, shaped, "tensorrt_rtx") == ""
    assert "times kernels" in find.why_not(found, shaped, "tensorrt")
    monkeypatch.setattr(find, "QUICK_NODES", 2)
    assert "large (3 nodes" in find.why_not(found, shaped, "tensorrt_rtx")


def test_documents_of_before_are_read() -> None:
    made = Partition("m", "parser", True, ()).to_dict()
    old = {k: v for k, v in made.items() if k not in {"refusals", "proven", "notes"}}
    assert Partition.from_dict(old) == Partition("m", "parser", True, ())


# --- with TensorRT --------------------------------------------------------------------------------------


@needs_rtx
@pytest.mark.parametrize("name", list(CASES))
def test_the_builder_says_what_a_build_says(shared: Session, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    file = save(case.proto, tmp_path / f"case_{name.replace(' ', '_')}.onnx")
    found = shared.torch.partition(file, method="builder", shapes=case.shapes, target="sm89")
    try:
        shared.build(file, target="sm89", shapes=case.shapes)
        builds = True
    except BuildError:
        builds = False
    assert builds is not bool(case.refused)
    assert {o.name for o in found.fallbacks} == case.refused
    assert bool(found.refusals) is not builds
    assert found.proven  # what is left was built
    assert not found.planned
    assert all(o.reason for o in found.fallbacks)
    assert {n for r in found.refusals for n in r["nodes"]} == case.refused
    if builds:
        assert (found.engines, found.coverage) == (1, 1.0)
    assert Partition.from_dict(found.to_dict()) == found


@needs_rtx
@pytest.mark.parametrize("name", REFUSED)
def test_the_parser_says_no_more_than_it_knows(shared: Session, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    file = save(case.proto, tmp_path / f"case_{name.replace(' ', '_')}.onnx")
    found = shared.torch.partition(file, method="parser", target="sm89")  # a target is no reason to refuse
    assert {o.name for o in found.fallbacks} == (case.refused if case.by == "parser" else frozenset())
    assert "the builder was not asked" in repr(found)
    assert any("may refuse" in line for line in found.advice)
    assert "install" not in " ".join(found.advice)


@needs_rtx
def test_small_models_are_built_without_being_asked_for(session: Session, tmp_path: Path) -> None:
    file = save(nms(), tmp_path / "nms.onnx")
    found = session.torch.partition(file)
    assert found.method == "builder"
    assert found.engines == 1
    assert not session.engines  # nothing that the user built
    again = session.torch.partition(save(mlp(), tmp_path / "m.onnx"))
    assert again.proven
    assert session.build(tmp_path / "m.onnx").cached  # what was built to answer is there
    blind = session.torch.partition(save(mlp("batch"), tmp_path / "open.onnx"))
    assert blind.method == "parser"
    assert "has no shape" in blind.notes[0]
    with pytest.raises(ConfigError) as error:
        session.torch.partition(tmp_path / "open.onnx", method="builder")
    assert error.value.details["shapes"] == {"x": "1x8"}
    assert session.torch.partition(tmp_path / "open.onnx", shapes={"x": "2x8"}).method == "builder"


@needs_rtx
def test_the_precision_is_that_of_the_build(session: Session, tmp_path: Path) -> None:
    file = save(attention(), tmp_path / "a.onnx")
    assert session.torch.partition(file, method="builder").coverage < 1
    half = session.torch.partition(file, method="builder", precision="fp16")
    assert half.coverage == 1.0
    assert half.settings["precision"] == "fp16"


def after_nms(op: str, *, more: Sequence[str] = (), **attributes: object) -> onnx.ModelProto:
    """NonMaxSuppression between a Relu and another node, which reads as many rows as were picked."""
    proto = nms()
    proto.graph.node[1].output[0] = "picked"
    del proto.graph.output[:]
    proto.graph.node.append(node("Cast", ["picked"], ["c"], "cast", to=1))
    proto.graph.node.append(node(op, ["c", *more], ["z"], "after", **attributes))
    proto.graph.output.append(value("z", None))
    proto.graph.initializer.append(constant("hundred", [100, 3], "int64"))
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


@needs_rtx
def test_what_comes_after_a_refused_node_is_built(session: Session, tmp_path: Path) -> None:
    found = session.torch.partition(save(after_nms("Relu"), tmp_path / "m.onnx"), method="builder")
    assert found.proven
    assert [(s.runs_on, len(s.operators)) for s in found.segments] == [
        ("tensorrt", 1),
        ("fallback", 1),
        ("tensorrt", 2),
    ]


@needs_rtx
def test_what_can_not_be_asked_about_alone_is_not_promised(session: Session, tmp_path: Path) -> None:
    """The Reshape fits 100 picked rows, and not the number of them that stands in: it is not to blame."""
    found = session.torch.partition(save(after_nms("Reshape", more=["hundred"]), tmp_path / "m.onnx"), method="builder")
    assert [o.name for o in found.fallbacks] == ["/nms/NonMaxSuppression"]
    assert not found.proven
    assert "at least 1 of 4" in repr(found)
    assert any("At least these" in line for line in found.advice)


@needs_rtx
def test_a_refusal_that_names_no_node_is_searched(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_builder, "named", lambda _details, _graph: {})
    proto = nms()
    proto.graph.node.insert(0, node("Neg", ["b1"], ["b0"], "neg"))
    proto.graph.input[0].name = "b1"
    found = session.torch.partition(save(proto, tmp_path / "m.onnx"))
    assert [o.name for o in found.fallbacks] == ["/nms/NonMaxSuppression"]
    assert "the 2 nodes before it build" in found.fallbacks[0].reason
    monkeypatch.setattr(by_builder, "QUICK_NODES", 1)
    blind = session.torch.partition(tmp_path / "m.onnx", method="builder")
    assert blind.coverage == 0.0
    assert "does not say which" in repr(blind)


@pytest.mark.slow
@needs_rtx
def test_the_command(cli: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    file = save(nms(), tmp_path / "nms.onnx")
    told = cli("partition", file)
    assert told.returncode == 0, told.stderr
    assert "1 of 2 operators in 1 engine" in told.stdout
    assert "/nms/NonMaxSuppression" in told.stdout
    parsed = cli("partition", file, "--method", "parser", "--target", "sm89")
    assert parsed.returncode == 0, parsed.stderr
    assert "accepted by the parser" in parsed.stdout
    assert "pip install" not in parsed.stdout + parsed.stderr
    assert cli("partition", save(qlinear(0, "int8"), tmp_path / "q.onnx"), "--method", "parser").stdout.count(
        "QLinearConv"
    )
    assert cli("partition", file, "--method", "nonsense").returncode == 2


def test_a_value_that_is_read_as_a_shape_is_a_reason_not_to_build(tmp_path: Path) -> None:
    proto = model(
        [node("Slice", ["x", "s", "n", "a"], ["y"], "cut")], [value("x", [4, 8]), value("n", [1], INT64)], [value("y", None)],
        [constant("s", [0], "int64"), constant("a", [1], "int64")],
    )  # fmt: skip
    found = Model("m", save(proto, tmp_path / "m.onnx"))
    assert "read as a shape" in find.why_not(found, BuildConfig(), "tensorrt_rtx")
