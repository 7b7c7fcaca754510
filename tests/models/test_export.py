"""From torch: what can be trusted, what is refused, and where nodes come from."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections import namedtuple
from pathlib import Path

import onnx
import pytest

from tests.support import HAS_TORCH, needs_rtx
from workbench import Session
from workbench.core.errors import ConfigError, ExportWarning, ModelError

pytestmark = pytest.mark.skipif(not HAS_TORCH, reason="torch or onnxscript is not installed")
if HAS_TORCH:
    import torch
    from torch import nn
else:  # the classes below must still be readable
    pytest.skip("torch or onnxscript is not installed", allow_module_level=True)

DYNAMIC = {"x": "1x3x16x16:4x3x16x16:8x3x16x16"}
FLAT = {"x": "1x8:4x8:8x8"}


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))  # the line of the ReLU
        return self.head(x.mean((2, 3)))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class FixesItsBatch(nn.Module):
    """Looks dynamic to the exporter, and is not: the size is kept as a plain number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.ones(4, 8)


class OnlyMultiplesOfFour(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, 4, 8).sum(0)


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:  # the branch
            return x + 1
        return x - 1


class Unsupported(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(x @ x.T).real  # no ONNX form


def test_dynamic_export_of_a_conv_net_and_a_perceptron(session: Session) -> None:
    model = session.add(ConvNet(), torch.randn(1, 3, 16, 16), shapes=DYNAMIC)
    assert set(model.graph.dynamic_inputs) == {"x"}
    assert model.origin["kind"] == "module"
    assert max(model.origin["error"].values()) < 1e-4
    assert set(model.origin["error"]) == {"example", "second shape"}
    other = session.add(Mlp(), {"x": torch.randn(1, 8)}, shapes=FLAT, name="mlp")
    assert [isinstance(d, str) for d in other.graph.dynamic_inputs["x"]] == [True, False]
    assert set(session.models) == {"ConvNet", "mlp"}


@needs_rtx
def test_a_dynamic_export_builds_and_its_bytes_are_known(session: Session) -> None:
    session.add(ConvNet(), torch.randn(1, 3, 16, 16), shapes=DYNAMIC)
    plan = session.build("ConvNet", targets="sm89", shapes=DYNAMIC).plan
    s = plan.summary
    assert s["bytes_unknown"] == 0
    assert plan.io[0]["profiles"][0]["opt"] == [4, 3, 16, 16]
    conv = next(la for la in plan.layers if la.kind == "conv")
    assert conv.flops == 2 * 4 * 8 * 16 * 16 * 27 + 4 * 8 * 16 * 16 * (1 + ("node_relu" in conv.nodes))
    assert not any(u.reason == "unknown" for u in plan.unclaimed)


def test_static_export_keeps_the_examples_shape_and_the_modules_mode(session: Session) -> None:
    module = ConvNet().train()
    model = session.add(module, (torch.randn(2, 3, 16, 16),))
    assert model.graph.tensor("x").shape == (2, 3, 16, 16)
    assert module.training


@pytest.mark.parametrize("module", [FixesItsBatch(), OnlyMultiplesOfFour()])
def test_a_silently_fixed_batch_is_caught(session: Session, module: nn.Module) -> None:
    with pytest.raises(ModelError) as info:
        session.add(module, torch.randn(4, 8), shapes=FLAT)
    assert info.value.hint
    assert not session.models


def line_of(kind: type, text: str) -> int:
    source, first = inspect.getsourcelines(kind)
    return first + next(i for i, row in enumerate(source) if text in row)


def test_a_branch_on_data_names_the_line(session: Session) -> None:
    with pytest.raises(ModelError, match="branches on the values") as info:
        session.add(Branches(), torch.randn(4, 8))
    assert f"test_export.py:{line_of(Branches, '# the branch')}" in info.value.message


def test_an_operation_without_an_onnx_form_is_named_with_its_line(session: Session) -> None:
    with pytest.raises(ModelError, match="linalg_eig") as info:
        session.add(Unsupported(), torch.randn(4, 4))
    assert f"test_export.py:{line_of(Unsupported, '# no ONNX form')}" in info.value.message


def test_provenance_points_to_the_users_line_and_module(session: Session) -> None:
    model = session.add(ConvNet(), torch.randn(1, 3, 16, 16))
    by_op = {node.op: model.provenance[node.id] for node in model.graph.nodes if node.id in model.provenance}
    assert Path(by_op["Relu"].file) == Path(__file__)
    assert by_op["Relu"].line == line_of(ConvNet, "# the line of the ReLU")
    assert by_op["Relu"].code == "x = torch.relu(self.conv(x))  # the line of the ReLU"
    assert (by_op["Conv"].scope, by_op["Conv"].module) == ("conv", "Conv2d")
    assert by_op["Conv"].op == "aten.conv2d.default"
    frame = model.to_frame()
    assert "test_export.py" in frame.loc[frame["op"] == "Relu", "source"].item()


def test_wrong_inputs(session: Session) -> None:
    with pytest.raises(ModelError, match="example inputs"):
        session.add(Mlp())
    with pytest.raises(ModelError):
        session.add(Mlp(), torch.randn(3, 5))
    with pytest.raises(ModelError, match="not an input"):
        session.add(Mlp(), torch.randn(3, 8), shapes={"y": "1x8"})
    with pytest.raises(ModelError, match="dimensions"):
        session.add(Mlp(), torch.randn(3, 8), shapes={"x": "1x8x8"})
    with pytest.raises(ModelError, match="make a model"):
        session.add(object())


FACTORY = """
import torch
from torch import nn
def make():
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU()), (torch.randn(2, 8),)
def nothing():
    return 5
def broken():
    raise KeyError("weights.pt")
number = 3
"""


def test_factories(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "zoo.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    model = session.add("pkg.zoo:make")
    assert model.name == "make"
    assert {n.op for n in model.graph.nodes} >= {"Relu"}
    assert session.build("make", compiler="fake").plan.layers
    with pytest.raises(ModelError, match="returned int"):
        session.add("pkg.zoo:nothing")
    with pytest.raises(ModelError, match="no function number"):
        session.add("pkg.zoo:number")
    with pytest.raises(ModelError, match="can't be imported"):
        session.add("pkg.absent:make")
    with pytest.raises(ModelError, match=r"weights\.pt"):
        session.add("pkg.zoo:broken")
    (tmp_path / "pkg" / "unparsed.py").write_text("def make(:\n")
    with pytest.raises(ModelError, match=r"pkg\.unparsed failed while it was imported: SyntaxError"):
        session.add("pkg.unparsed:make")
    assert "pkg" not in sys.modules  # it ran in a worker


def test_samples_are_exported_once(session: Session) -> None:
    shapes = {"x": "1x16x32x32:2x16x32x32:4x16x32x32"}
    first = session.add("conv_bn_relu", shapes=shapes)
    assert first.graph.dynamic_inputs
    assert session.add("conv_bn_relu", shapes=shapes).path == first.path


# --- modules as people call them ------------------------------------------------------------------------------


BATCH = "1x8:2x8:4x8"


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU())


class Positions(nn.Module):
    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        return xs[0] - xs[1]


class Listed(nn.Module):
    def forward(self, xs: list) -> torch.Tensor:
        return torch.cat(xs, 1).relu()


class Nested(nn.Module):
    """Inputs and outputs in dicts and lists, with a flag, a number, something that is left out, and a keyword."""

    def forward(self, batch: dict, flag: bool = True, factor: int = 2, unused=None, **more):
        total = batch["a"] + batch["b"][0] * factor
        return {"sum": total + more["z"] if flag else total, "rest": [batch["a"] * 2, (batch["a"] * 3, None)]}


class Echo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor):
        return self.linear(x), x


class Twice(nn.Module):
    def forward(self, x: torch.Tensor):
        y = x + 1
        return y, y, x, x


class Same(nn.Module):
    """Returns its input, and under the input's name something else."""

    def forward(self, x: torch.Tensor) -> dict:
        return {"x": x * 2, "odd name": x}


class OnlyByKeyword(nn.Module):
    def forward(self, x: torch.Tensor, mask=None, y=None, *, scale) -> torch.Tensor:
        return x * scale + y


class Unused(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor, mask=None) -> torch.Tensor:
        return x * 2


@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None
    steps: int = 3


Pair = namedtuple("Pair", ["first", "second"])


class ReturnsDataclass(nn.Module):
    def forward(self, x: torch.Tensor) -> Result:
        return Result(x * 2)


class ReturnsNamed(nn.Module):
    def forward(self, x: torch.Tensor) -> Pair:
        return Pair(x * 2, x + 1)


X8 = torch.randn(2, 8) if HAS_TORCH else None


@pytest.mark.parametrize(
    ("make", "inputs", "names", "outputs"),
    [
        (lambda: torch.compile(net()), (X8,), ["input"], None),
        (lambda: nn.Sequential(torch.compile(nn.Linear(8, 8)), nn.DataParallel(nn.ReLU())), (X8,), ["input"], None),
        (lambda: nn.DataParallel(net()), (X8,), ["input"], None),
        (lambda: torch.compile(nn.DataParallel(net())), X8, ["input"], None),
        (Positions, (X8, X8 * 2), ["xs_0", "xs_1"], None),
        (Listed, ([X8, X8],), ["xs_0", "xs_1"], None),
        (Listed, {"xs": (X8, X8)}, ["xs_0", "xs_1"], None),
        (Nested, {"batch": {"a": X8, "b": [X8]}, "z": X8, "flag": True, "factor": 3}, ["batch_a", "batch_b_0", "z"],
         ["sum", "rest_0", "rest_1_0"]),
        (Nested, ({"a": X8, "b": [X8]}, False), ["batch_a", "batch_b_0"], ["sum", "rest_0", "rest_1_0"]),
        (Echo, (X8,), ["x"], None),
        (Twice, (X8,), ["x"], None),
        (Unused, (X8, X8), ["x", "y"], None),
        (ReturnsNamed, (X8,), ["x"], ["first", "second"]),
        (lambda: torch.jit.trace(net(), X8), (X8,), ["input"], None),
        (lambda: torch.jit.script(net()), (X8,), ["input"], None),
        (lambda: nn.Sequential(torch.jit.script(nn.Linear(8, 8)), nn.ReLU()), (X8,), ["input"], None),
        (Same, (X8,), ["x"], ["x_2", "odd name"]),
        (OnlyByKeyword, {"x": X8, "scale": 2.0, "y": X8}, ["x", "y"], None),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::workbench.core.errors.ExportWarning")
def test_modules_are_exported_as_they_are_called(session: Session, make, inputs, names, outputs) -> None:
    shapes = dict.fromkeys(names, BATCH)
    model = session.add(make(), inputs, name="m", shapes=shapes)
    assert model.graph.inputs == names
    assert outputs is None or model.graph.outputs == outputs
    assert not set(model.graph.inputs) & set(model.graph.outputs)
    assert len(set(model.graph.outputs)) == len(model.graph.outputs)
    assert max(model.origin["error"].values()) < 1e-4
    assert set(model.origin["error"]) == {"example", "second shape"}
    assert set(model.graph.dynamic_inputs) == set(names)
    onnx.checker.check_model(str(model.path), full_check=True)


def test_compiled_and_parallel_modules_are_put_back_and_keep_their_names(session: Session) -> None:
    inner = torch.compile(nn.Linear(8, 8))
    module = nn.Sequential(inner, nn.Dropout())
    module[1].eval()
    model = session.add(module, (X8,))
    assert module[0] is inner
    assert [part.training for part in module] == [True, False]  # as it was, each part for itself
    assert session.add(torch.compile(Mlp()), (X8,)).name == "Mlp"
    assert model.origin["class"] == "Sequential"
    linear = next(n for n in model.graph.nodes if n.op == "Gemm")
    assert model.provenance[linear.id].scope == "0"


def test_a_traced_modules_missing_lines_are_said(session: Session) -> None:
    with pytest.warns(ExportWarning, match="no source lines"):
        model = session.add(torch.jit.trace(Mlp(), X8), (X8,))
    assert model.name == "Mlp"


def test_a_dataclass_is_unpacked_and_what_is_no_tensor_is_said(session: Session) -> None:
    with pytest.warns(ExportWarning, match="steps"):
        model = session.add(ReturnsDataclass(), (X8,))
    assert model.graph.outputs == ["logits"]
    assert ReturnsDataclass()(X8).steps == 3


class Opaque:
    def __init__(self, x: torch.Tensor) -> None:
        self.x = x


class ReturnsOpaque(nn.Module):
    def forward(self, x: torch.Tensor) -> dict:
        return {"state": Opaque(x), "y": x}


class ReturnsNumber(nn.Module):
    def forward(self, x: torch.Tensor) -> int:
        return x.shape[0]


class Breaks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(3, -1)  # it breaks here


@pytest.mark.parametrize(
    ("module", "inputs", "code", "told"),
    [
        (ReturnsOpaque(), (X8,), "export-outputs", "Opaque (state)"),
        (ReturnsNumber(), (X8,), "export-outputs", "no tensor"),
        (Breaks(), (X8,), "module-fails", "test_export.py"),
        (Unused(), (X8,), "export-inputs", "'y'"),
        (Unused(), (X8, X8, None, X8), "export-inputs", "too many"),
        (Mlp(), {"y": X8}, "export-inputs", "'x'"),
    ],
)
def test_what_can_not_be_exported_is_said_before_the_exporter_is_asked(session, module, inputs, code, told) -> None:
    with pytest.raises(ModelError) as info:
        session.add(module, inputs)
    assert info.value.code == code
    assert told in info.value.message
    assert info.value.hint
    assert not session.models


class Conditional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def positive(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(x))  # the line of the first branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def negative(x: torch.Tensor) -> torch.Tensor:
            return torch.sin(x)  # the line of the second branch

        return torch.cond(x.sum() > 0, self.positive, negative, (x,))


def test_bodies_of_cond_point_to_the_users_lines(session: Session) -> None:
    model = session.add(Conditional(), (X8,))
    inner = {
        n.op: model.provenance[n.id] for n in model.graph.nodes if n.parent is not None and n.id in model.provenance
    }
    first, second = (line_of(Conditional, f"# the line of the {which} branch") for which in ("first", "second"))
    assert {op: s.line for op, s in inner.items()} == {"Gemm": first, "Tanh": first, "Sin": second}
    assert all(Path(s.file) == Path(__file__) for s in inner.values())
    assert inner["Gemm"].scope == "linear"
    assert "<eval" not in str([s.to_dict() for s in model.provenance.values()])


def test_a_language_model_is_exported_without_its_cache_and_says_so(session: Session) -> None:
    tf = pytest.importorskip("transformers", minversion="5")
    llama = tf.LlamaForCausalLM(tf.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=100)).eval()  # fmt: skip
    ids, shapes = torch.randint(0, 100, (2, 8)), {"input_ids": "1x1:2x8:4x32"}
    with pytest.warns(ExportWarning, match="use_cache=False"):
        model = session.add(llama, {"input_ids": ids}, shapes=shapes)
    assert (model.graph.inputs, model.graph.outputs) == (["input_ids"], ["logits"])
    assert max(model.origin["error"].values()) < 1e-4
    assert llama.config.use_cache  # the module itself was not changed
    asked = session.add(llama, {"input_ids": ids, "use_cache": False}, name="asked", shapes=shapes)
    assert "warnings" not in asked.origin
    assert asked.graph.outputs == ["logits"]


# --- what is compared -----------------------------------------------------------------------------------------


class Selects(nn.Module):
    """Chooses rows by scores that are equal but for rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x / 3).sum(-1)
        best = torch.topk(score, 5, dim=1).indices  # the choice
        return x.gather(1, best[..., None].expand(-1, -1, x.shape[-1]))


class SelectsInFloat(Selects):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x @ torch.eye(64, dtype=torch.float32))  # FP64 can't be multiplied by it


class Draws(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def equal_rows() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(64, generator=generator)
    return torch.stack([row[torch.randperm(64, generator=generator)] for _ in range(200)])[None]


@pytest.mark.parametrize("module", [Selects(), SelectsInFloat()])
def test_where_rounding_decides_the_export_is_not_blamed(session: Session, module: nn.Module) -> None:
    with pytest.warns(ExportWarning, match="Rounding decides") as told:
        session.add(module, (equal_rows(),))
    text = str(told[0].message)
    assert "aten.topk" in text
    assert f"test_export.py:{line_of(Selects, '# the choice')}" in text


def test_a_module_that_draws_random_numbers_is_not_compared(session: Session) -> None:
    with pytest.warns(ExportWarning, match="other results in each run"):
        session.add(Draws(), (X8,))


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the exporter write another weight than the module has."""
    import numpy as np
    import onnx_ir as ir

    from workbench.model import export

    whole = export._export

    def wrong(*args):
        program = whole(*args)
        value = next(v for v in program.model.graph.initializers.values() if v.const_value.shape == (16, 8))
        value.const_value = ir.tensor(value.const_value.numpy() + np.float32(1))
        return program

    monkeypatch.setattr(export, "_export", wrong)


def test_a_wrong_export_is_refused_and_can_be_kept(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch)
    with pytest.raises(ModelError) as info:
        session.add(Mlp(), (X8,))
    assert info.value.code == "export-differs"
    assert 'check="warn"' in info.value.hint
    assert "aten.linear.default" in info.value.message  # the first of the two
    assert f"test_export.py:{line_of(Mlp, 'return self.net(x)')}" in info.value.message
    assert not session.models
    with pytest.warns(ExportWarning, match="differs from PyTorch in FP64"):
        kept = session.add(Mlp(), (X8,), check="warn")
    assert kept.origin["error"]["example"] > 0.01
    monkeypatch.setenv("WORKBENCH_EXPORT_CHECK", "warn")
    with pytest.warns(ExportWarning, match="differs"):
        session.add(Mlp(), (X8,), name="again")
    assert "error" not in session.add(Mlp(), (X8,), check="off").origin
    with pytest.raises(ConfigError):
        session.add(Mlp(), (X8,), check="maybe")


def test_an_output_that_is_not_finite_only_in_onnx_differs() -> None:
    from workbench.model.verify import difference

    nan, inf = float("nan"), float("inf")
    assert difference(torch.tensor([1.0, nan, inf]), [1.0, nan, inf]) == 0
    assert difference(torch.tensor([1.0, 2.0]), [1.0, nan]) == inf
    assert difference(torch.tensor([1.0, nan]), [1.0, 2.0]) == inf
    assert difference(torch.tensor([1.0, inf]), [1.0, -inf]) == inf
    assert difference(torch.tensor([1.0, 2.0]), [1.0]) == inf


def test_an_invalid_file_is_not_kept(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.model import export

    def named_alike(graph, call, _outputs):
        graph.inputs[0].name = graph.outputs[0].name
        return [graph.outputs[0].name]

    monkeypatch.setattr(export, "name_nodes", named_alike)
    with pytest.raises(ModelError) as info:
        session.add(Mlp(), (X8,))
    assert info.value.code == "export-invalid"
    assert not session.models


# --- factories -------------------------------------------------------------------------------------------------


def test_a_factory_is_exported_once_until_something_that_it_came_from_changes(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zoo.py").write_text(
        "from pathlib import Path\nimport torch\nfrom torch import nn\nfrom parts import WIDTH\n"
        "def make():\n    scale = float(Path('scale.txt').read_text())\n"
        "    return nn.Linear(8, WIDTH), (torch.ones(2, 8) * scale,)\n"
    )
    (tmp_path / "parts.py").write_text("WIDTH = 4\n")
    (tmp_path / "scale.txt").write_text("1.0")
    monkeypatch.chdir(tmp_path)
    jobs: list = []

    def exports() -> int:
        before = len(jobs)
        found = session.add("zoo:make", on_job=jobs.append)
        assert found.origin["kind"] == "factory"
        assert "made_from" not in found.origin
        return len(jobs) - before

    assert exports() == 1
    assert exports() == 0
    # Another shape is another export.
    session.add("zoo:make", shapes={"input": "1x8:2x8:4x8"}, on_job=jobs.append)
    assert len(jobs) == 2
    (tmp_path / "parts.py").write_text("WIDTH = 6\n")  # a module that it imported
    assert exports() == 1
    width = list(session.models["make"].graph.tensor(session.models["make"].graph.outputs[0]).shape)
    assert width == [2, 6]
    assert exports() == 0
    (tmp_path / "scale.txt").write_text("2.00")  # a file that it read
    assert exports() == 1
    assert exports() == 0
    (tmp_path / "weights.safetensors").write_bytes(b"1")  # weights beside it
    assert exports() == 1
    assert exports() == 0
    before = len(jobs)
    session.add("zoo:make", on_job=jobs.append, renew=True)
    assert len(jobs) == before + 1
    assert exports() == 0


def test_inputs_that_no_graph_can_take_are_said(session: Session) -> None:
    for given in (Opaque(X8), X8.numpy(), torch.float16):
        with pytest.raises(ModelError) as info:
            session.add(Mlp(), (given,))
        assert info.value.code == "export-inputs"
        assert "Input x" in info.value.message


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(x)


def test_complex_outputs_are_compared_as_the_exporter_writes_them(session: Session) -> None:
    assert session.add(Spectrum(), (X8,)).origin["error"]["example"] < 1e-4


def test_the_module_of_an_exported_program_is_a_module(session: Session) -> None:
    exported = torch.export.export(Mlp(), (X8,)).module()
    assert session.add(exported, (X8,), name="m").origin["error"]["example"] < 1e-4


def test_what_is_done_is_told_on_the_way(session: Session) -> None:
    steps: list[str] = []
    session.add(Mlp(), (X8,), on_step=steps.append)
    assert steps == ["Running the module", "Exporting to ONNX", "Comparing with PyTorch"]
