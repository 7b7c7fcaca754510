"""From torch: what can be trusted, what is refused, and where nodes come from."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from tests.conftest import HAS_TORCH, needs_rtx
from workbench import Session
from workbench.errors import ModelError

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
    assert session.models == {}


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
    with pytest.raises(ModelError, match="not a model"):
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
