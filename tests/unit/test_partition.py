"""Partitions: the report, the parser's parts in order, Torch-TensorRT's partitioner listened to, and wrong use."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, ClassVar

import pytest

from tests.support import SAMPLES, needs_rtx, needs_torch
from tests.support.small_models import mlp, model, node, save, value
from workbench import Session
from workbench.core.errors import CompilerUnavailableError, ConfigError, ModelError, StoreError
from workbench.experiments.partition.by_parser import _ordered, from_parser
from workbench.hardware.machine import gpus
from workbench.model.model import Model
from workbench.model.provenance import Source
from workbench.model.shape_profile import ShapeProfile
from workbench.plan.partition import Operator, Partition, Segment

HAS_TORCH_TENSORRT = importlib.util.find_spec("torch_tensorrt") is not None
needs_torch_tensorrt = pytest.mark.skipif(
    not HAS_TORCH_TENSORRT, reason="torch_tensorrt is not installed: pip install --no-deps torch-tensorrt-rtx dllist"
)


def made() -> Partition:
    source = Source(file="/home/me/net.py", line=7, scope="stem", module="Conv2d", code="x = f(x)")
    return Partition(
        "net", "torch_tensorrt", True,
        (
            Segment("tensorrt", tuple(Operator(f"r{i}", "aten.relu.default", source) for i in range(6)), name="acc_0"),
            Segment("fallback", (Operator("inv", "aten.inv.default", source, "torch_tensorrt has no converter for it"),)),
            Segment("tensorrt", tuple(Operator(f"a{i}", "aten.add.Tensor") for i in range(5)), name="acc_2"),
            Segment("fallback", (Operator("b", "aten.mul.Tensor", reason="its block is smaller than min_block_size=5"),)),
        ),
        {"min_block_size": 5}, {"torch": "2.13"}, {"aten.inv.default": 1}, 1.5,
    )  # fmt: skip


def test_the_report() -> None:
    found = made()
    assert (found.engines, len(found.operators), len(found.fallbacks), found.crossings) == (2, 13, 2, 3)
    assert found.coverage == pytest.approx(11 / 13)
    assert len(found.advice) == 3
    assert "min_block_size=6 leaves the largest only" in found.advice[1]
    text = repr(found)
    assert "planned by Torch-TensorRT's own partitioner, nothing built: 11 of 13 operators in 2 engines" in text
    assert "aten.inv.default at net.py:7: torch_tensorrt has no converter for it" in text
    frame = found.to_frame()
    assert list(frame["segment"]) == [0] * 6 + [1] + [2] * 5 + [3]
    assert frame["source"][0] == "net.py:7"
    again = Partition.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.to_frame().equals(frame)


def test_an_empty_graph_and_a_foreign_document() -> None:
    empty = Partition("m", "parser", True, ())
    assert (empty.engines, empty.coverage, empty.crossings, empty.advice) == (0, 0.0, 0, ())
    assert empty.to_frame().empty
    with pytest.raises(StoreError, match=r"workbench\.partition/1"):
        Partition.from_dict({"schema": "workbench.plan/1"})


# --- the parser's parts --------------------------------------------------------------------------------


def test_order_of_parts() -> None:
    # 0 -> 1 -> 2 -> 4 and 0 -> 3 -> 4: 1 and 3 fall back and can run together, between the engines {0} and {2, 4}.
    before = [[], [0], [1], [0], [2, 3]]
    units = [("tensorrt", [0]), ("tensorrt", [2, 4]), ("fallback", [1]), ("fallback", [3])]
    assert _ordered(units, before) == [("tensorrt", [0]), ("fallback", [1, 3]), ("tensorrt", [2, 4])]
    with pytest.raises(ModelError, match="circle"):
        _ordered([("tensorrt", [0, 2]), ("tensorrt", [1])], [[], [0], [1]])


def test_segments_of_an_onnx_model(tmp_path: Path) -> None:
    found = Model("mlp", save(mlp(), tmp_path / "m.onnx"))
    answer = {"groups": [[0], [2]], "refused": {"1": "not today"}, "version": "1.7"}
    got = from_parser(found, answer, module="tensorrt_rtx")
    assert [(s.runs_on, [o.name for o in s.operators]) for s in got.segments] == [
        ("tensorrt", ["mm1"]), ("fallback", ["act"]), ("tensorrt", ["mm2"])
    ]  # fmt: skip
    assert got.fallbacks[0].reason == "not today"
    assert got.unsupported == {"Relu": 1}
    first = got.segments[0]
    # Weights are no input of a segment.
    assert first.inputs == ({"name": "x", "shape": [2, 8], "dtype": "float32"},)
    assert [t["name"] for t in first.outputs] == ["h"]
    assert [t["name"] for t in got.segments[2].outputs] == ["y"]
    assert got.planned


@pytest.mark.slow
@needs_rtx
def test_the_parser_itself(session: Session, cli: Callable[..., CompletedProcess[str]]) -> None:
    found = session.torch.partition("unsupported", method="parser")
    assert [(s.runs_on, len(s.operators)) for s in found.segments] == [
        ("tensorrt", 7),
        ("fallback", 1),
        ("tensorrt", 3),
    ]
    assert found.fallbacks[0].source.line == 27
    assert session.torch.partition(SAMPLES / "attention.onnx").engines == 1
    told = cli("partition", "unsupported", "--method", "parser", "--format", "json")
    assert json.loads(told.stdout)["engines"] == 2
    assert "10 of 11 operators accepted by the parser" in cli("partition", "unsupported", "--method", "parser").stdout
    assert cli("partition", "unsupported", "--method", "parser", "--format", "csv").stdout.count("\n") == 12


@needs_rtx
def test_an_operator_nobody_knows(session: Session, tmp_path: Path) -> None:
    proto = model([node("Nonsense", ["x"], ["y"], "odd", domain="my.own")], [value("x", [1, 4])], [value("y", [1, 4])],
                  domains=["my.own"], infer=False)  # fmt: skip
    found = session.torch.partition(save(proto, tmp_path / "m.onnx"))
    assert found.engines == 0
    assert [o.name for o in found.fallbacks] == ["odd"]
    assert found.fallbacks[0].reason


# --- wrong use -----------------------------------------------------------------------------------------


def test_wrong_use(session: Session, tmp_path: Path) -> None:
    path = save(mlp(), tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="no method 'magic'"):
        session.torch.partition(path, method="magic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="torch module") as error:
        session.torch.partition(path, method="torch_tensorrt")
    assert "method='parser'" in str(error.value.hint)
    with pytest.raises(ConfigError, match="no option min_block_size"):
        session.torch.partition(path, min_block_size=1)
    with pytest.raises(ConfigError, match="no option build"):
        session.torch.partition(path, method="builder", build=True)


@pytest.mark.skipif(HAS_TORCH_TENSORRT, reason="torch_tensorrt is installed")
def test_without_torch_tensorrt(session: Session) -> None:
    for call in (
        lambda: session.torch.partition("residual_block", method="torch_tensorrt"),
        lambda: session.torch.compile(object(), ()),
    ):
        with pytest.raises(CompilerUnavailableError, match="not installed") as error:
            call()
        assert "pip install" in str(error.value.hint)


@pytest.mark.skipif(bool(gpus()), reason="there is a GPU")
def test_compile_without_a_gpu(session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from workbench.compilers.torch_tensorrt import live, shim

    monkeypatch.setattr(shim, "installed", lambda: "2.13.0")
    with pytest.raises(CompilerUnavailableError, match="this machine has none") as error:
        session.torch.compile(object(), ())
    assert "session.torch.partition" in str(error.value.hint)
    with pytest.raises(ConfigError, match="no way 'jit'"):
        session.torch.compile(object(), (), how="jit")
    with pytest.raises(StoreError, match="no file"):
        live.load(tmp_path / "none.pt2")
    (tmp_path / "some.pt2").write_bytes(b"0")
    with pytest.raises(CompilerUnavailableError, match="needs the NVIDIA GPU"):
        live.load(tmp_path / "some.pt2")
    with pytest.raises(ConfigError, match="this process only"):
        live.Compiled(None, "torch.compile", {}).save(tmp_path / "x.pt2")


def test_another_tensorrt_of_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing torch_tensorrt for RTX puts a stand-in called `tensorrt` among the modules: it is not TensorRT."""
    from importlib.machinery import ModuleSpec

    from workbench.compilers.tensorrt.flavour import _version

    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("the full TensorRT is installed")
    stand_in = types.ModuleType("tensorrt")
    stand_in.__spec__ = ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    assert _version("tensorrt") is None


# --- torch ---------------------------------------------------------------------------------------------


@needs_torch
def test_examples_and_open_dimensions() -> None:
    import torch

    from workbench.compilers.torch_tensorrt.export import cast, export, prepare

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(10, 4)

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.table(ids) * mask.unsqueeze(-1)

    inputs = (torch.ones(1, 6, dtype=torch.long), torch.ones(1, 6))
    profile = ShapeProfile.parse({"ids": "1x2:2x6:8x16", "mask": "1x2:2x6:8x16"})
    examples, dynamic = prepare(Two(), inputs, profile)
    assert [tuple(t.shape) for t in examples.values()] == [(2, 6), (2, 6)]
    assert dynamic["ids"][0] is dynamic["mask"][0]
    assert dynamic["ids"][1] is dynamic["mask"][1]
    program = export(Two(), examples, dynamic)
    assert program.module()(torch.ones(5, 3, dtype=torch.long), torch.ones(5, 3)).shape == (5, 3, 4)
    low, halves = cast(Two(), examples, "fp16")
    assert next(low.parameters()).dtype == halves["mask"].dtype == torch.float16
    assert halves["ids"].dtype == torch.long
    # By name, in another order than forward's.
    named, _ = prepare(Two(), {"mask": inputs[1], "ids": inputs[0]}, None)
    assert list(named) == ["ids", "mask"]
    with pytest.raises(ModelError, match="missing a required argument: 'ids'"):
        prepare(Two(), {"mask": inputs[1]}, None)

    class Skips(Two):
        def forward(self, ids: Any, flag: bool = True, mask: Any = None) -> Any:
            return super().forward(ids, mask)

    with pytest.raises(ConfigError, match="not the first arguments"):
        prepare(Skips(), {"ids": inputs[0], "mask": inputs[1]}, None)
    with pytest.raises(ConfigError, match="not an input"):
        prepare(Two(), inputs, ShapeProfile.parse({"x": "1x2"}))
    with pytest.raises(ConfigError, match="no precision"):
        cast(Two(), examples, "int8")


@needs_torch
def test_a_module_that_fixes_its_batch() -> None:
    import torch

    from workbench.compilers.torch_tensorrt.export import export, prepare

    class Fixed(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.reshape(2, 8)

    examples, dynamic = prepare(Fixed(), (torch.ones(2, 8),), ShapeProfile.parse({"x": "1x8:2x8:4x8"}))
    with pytest.raises(ModelError, match=r"torch\.export can't export Fixed"):
        export(Fixed(), examples, dynamic)


@pytest.fixture
def fake_torch_tensorrt(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Modules with the names that the recorder listens to; relu is converted, everything else falls back."""
    import torch
    from torch.fx.passes.split_module import split_module

    class Registry:
        def unique_targets(self) -> set[Any]:
            return {torch.ops.aten.relu.default, torch.ops.aten.add.Tensor}

        def __contains__(self, node: Any) -> bool:
            return node.target is torch.ops.aten.relu.default

    class Support:
        unsupported_operators: ClassVar = {"torch.ops.aten.sin.default": 1, "_operator.getitem": 2}

    def fast_partition(gm: Any, **_options: Any) -> tuple[Any, Support]:
        side = {"last": None, "number": -1}

        def part(node: Any) -> str:
            engine = node in registry
            if engine != side["last"]:
                side["last"], side["number"] = engine, side["number"] + 1
            return f"{'acc' if engine else 'gpu'}_{side['number']}"

        split = split_module(gm, None, part)
        for name, child in list(split.named_children()):
            kind = name.removeprefix("submod_")
            setattr(split, f"_run_on_{kind}", child)
            for n in split.graph.nodes:
                if n.op == "call_module" and n.target == name:
                    n.target = f"_run_on_{kind}"
        return split, Support()

    registry = Registry()
    names = (
        "torch_tensorrt", "torch_tensorrt.dynamo", "torch_tensorrt.dynamo._compiler",
        "torch_tensorrt.dynamo.partitioning", "torch_tensorrt.dynamo.conversion",
        "torch_tensorrt.dynamo.conversion._ConverterRegistry",
    )  # fmt: skip
    modules = {name: types.ModuleType(name) for name in names}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    modules[names[5]].DYNAMO_CONVERTERS = registry  # type: ignore[attr-defined]
    partitioning = modules[names[3]]
    partitioning.get_graph_converter_support = lambda _gm, _ops: (1, 2)  # type: ignore[attr-defined]
    partitioning.fast_partition = partitioning.global_partition = fast_partition  # type: ignore[attr-defined]
    modules[names[2]].convert_module = lambda *_args, **_kw: types.SimpleNamespace(serialized_engine=b"12345")  # type: ignore[attr-defined]
    return partitioning


@needs_torch
def test_the_partitioner_is_listened_to(fake_torch_tensorrt: Any) -> None:
    import torch

    from workbench.compilers.torch_tensorrt.record import qualified, recording

    class Net(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.relu(torch.add(torch.sin(torch.relu(x)), 1.0)) * 2

    gm = torch.export.export(Net(), (torch.ones(2, 3),)).graph_module
    compiler = sys.modules["torch_tensorrt.dynamo._compiler"]
    own = fake_torch_tensorrt.fast_partition
    with recording(3, qualified(["aten.mul.Tensor"])) as found:
        fake_torch_tensorrt.get_graph_converter_support(gm, set())
        fake_torch_tensorrt.fast_partition(gm)
        compiler.convert_module(None, name="_run_on_acc_0")  # type: ignore[attr-defined]
    assert fake_torch_tensorrt.fast_partition is own
    assert [(s.runs_on, len(s.operators)) for s in found.segments] == [
        ("tensorrt", 1), ("fallback", 2), ("tensorrt", 1), ("fallback", 1)
    ]  # fmt: skip
    sin, add = found.segments[1].operators
    assert (sin.op, sin.reason) == ("aten.sin.default", "torch_tensorrt has no converter for it")
    assert add.reason == "no converter takes it with these arguments or types"
    assert found.segments[3].operators[0].reason == "asked for by torch_executed_ops"
    assert sin.source.file.endswith("test_partition.py")
    assert sin.source.code.startswith("return torch.relu(")
    assert found.segments[0].inputs[0]["shape"] == [2, 3]
    assert found.unsupported == {"aten.sin.default": 1}
    assert found.sizes == {"_run_on_acc_0": 5}


@needs_torch
def test_a_graph_that_is_left_to_pytorch(fake_torch_tensorrt: Any) -> None:
    import torch

    from workbench.compilers.torch_tensorrt.record import recording

    gm = torch.export.export(torch.nn.ReLU(), (torch.ones(2, 3),)).graph_module
    with recording(5) as found:
        fake_torch_tensorrt.get_graph_converter_support(gm, set())
    (segment,) = found.segments
    assert segment.runs_on == "fallback"
    assert segment.operators[0].reason == "no block of it reaches min_block_size=5"


# --- the real partitioner, without a GPU ---------------------------------------------------------------


@needs_torch_tensorrt
@pytest.mark.skipif(bool(gpus()), reason="there is a GPU; tests/gpu compiles there")
class TestPlanned:
    def test_unsupported(self, session: Session, cli: Callable[..., CompletedProcess[str]]) -> None:
        found = session.torch.partition("unsupported", min_block_size=1)
        assert (found.method, found.planned, found.engines) == ("torch_tensorrt", True, 2)
        assert found.unsupported == {"aten._linalg_slogdet.default": 1}
        slogdet = next(o for o in found.fallbacks if "slogdet" in o.op)
        assert (Path(slogdet.source.file).name, slogdet.source.line) == ("unsupported.py", 27)
        told = json.loads(cli("partition", "unsupported", "--format", "json").stdout)
        assert (told["method"], told["engines"]) == ("torch_tensorrt", 1)  # min_block_size 5

    def test_a_module_of_this_process(self, session: Session) -> None:
        import torch

        net = torch.nn.Sequential(
            *[torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU()) for _ in range(4)]
        ).train()
        found = session.torch.partition(net, (torch.ones(2, 8),), shapes={"input": "1x8:2x8:16x8"}, precision="fp16")
        assert (found.engines, found.coverage) == (1, 1.0)
        assert net.training
        assert next(net.parameters()).dtype == torch.float32
        (given,) = found.segments[0].inputs
        assert given["dtype"] == "float16"
        assert isinstance(given["shape"][0], str)
        assert {o.source.scope for o in found.operators} >= {"0.0", "3.1"}

    def test_operators_left_to_pytorch(self, session: Session) -> None:
        found = session.torch.partition("residual_block", torch_executed_ops=["aten.relu.default"], min_block_size=1)
        assert {o.reason for o in found.fallbacks} == {"asked for by torch_executed_ops"}
        assert found.engines == 2

    def test_a_target_that_is_none(self, session: Session) -> None:
        with pytest.raises(ConfigError, match="not a GPU architecture"):
            session.torch.partition("residual_block", target="ada")
        with pytest.raises(CompilerUnavailableError, match="this machine has none"):
            session.torch.partition("residual_block", build=True)

    def test_both_calls_up_to_the_builder(self) -> None:
        """In a process of its own that is told of a GPU: all of `compile_module` but engines (``dryrun``)."""
        done = subprocess.run([sys.executable, "-c", DRY], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        assert [row[:2] for row in rows] == [
            ["export", False], ["export", True], ["torch.compile", False], ["torch.compile", True]
        ]  # fmt: skip
        for _how, dynamic, planned, engines, left, error in rows:
            assert planned
            assert engines == (1 if dynamic else 2)
            assert left == ([] if dynamic else ["aten.gelu.default"])
            assert error == 0.0


DRY = """
import json, torch
from workbench.model.shape_profile import ShapeProfile
from workbench.compilers.torch_tensorrt import live, shim
module = shim.importable("sm89")
shim.importable = lambda target: module
live.gpus = lambda: ("pretended",)
torch.Tensor.cuda = torch.nn.Module.cuda = lambda self: self
net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.GELU(), torch.nn.LayerNorm(64)).eval()
for how in ("export", "torch.compile"):
    for dynamic in (False, True):
        made = live.compile_module(
            net, (torch.randn(4, 64),), how=how, dryrun=True, workspace=1 << 28, min_block_size=1,
            shapes=ShapeProfile.parse({"input": "2x64:4x64:16x64"}) if dynamic else None,
            torch_executed_ops=[] if dynamic else ["aten.gelu.default"],
        )
        errors = []
        for batch in (2, 16) if dynamic else (4,):
            x = torch.randn(batch, 64)
            errors.append(float((made(x) - net(x)).abs().max()))
        found = made.partition
        print(json.dumps([how, dynamic, found.planned, found.engines, [o.op for o in found.fallbacks], max(errors)]))
"""
