"""The error of a refused node gives its module, source line and original name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import needs_rtx, needs_torch
from tests.support.small_models import chain, constant, model, node, save, value
from workbench import Session
from workbench.build import MOST_PLACES, _with_places
from workbench.core.errors import BuildError, UnsupportedNodesError
from workbench.model.provenance import Source

SOURCE = Source("encoder.layer.0", "Attention", "/home/somebody/net.py", 12, "return q @ k", "aten.matmul.default")


@needs_rtx
@needs_torch
@pytest.mark.parametrize(("kind", "error"), [("flat", BuildError), ("determinant", UnsupportedNodesError)])
def test_the_module_and_the_line_of_a_refused_node(session: Session, kind: str, error: type) -> None:
    import torch

    class Inner(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.det(x) if kind == "determinant" else x.relu() @ torch.ones(4, 4)

    class Outer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Any) -> Any:
            return self.inner(x) * 2

    session.add(Outer(), name="m", inputs=(torch.randn(2, 4, 4),))
    with pytest.raises(error) as info:
        session.build("m", compiler="tensorrt_rtx", target="sm75")  # FP32 products are refused there, too
    line = "return torch.linalg.det(x) if kind"
    assert "module inner (Inner), test_error_places.py:" in info.value.message
    assert line in info.value.message
    (source,) = {s["scope"] for s in info.value.details["sources"].values()}
    assert source == "inner"


def test_places_are_added_to_both_forms_of_details() -> None:
    for nodes in (["n1"], [{"node": "n1"}]):
        error = BuildError("No.", hint="Do.", details={"nodes": nodes}, code="no-kernel")
        placed = _with_places(error, {"n1": SOURCE, "other": SOURCE})
        assert placed.message == "No.\n  n1 is from module encoder.layer.0 (Attention), net.py:12: return q @ k"
        assert (placed.hint, placed.code) == ("Do.", "no-kernel")
        assert placed.details["sources"]["n1"]["line"] == 12


def test_only_what_is_known_is_added() -> None:
    error = BuildError("No.", details={"nodes": ["n1"]})
    assert _with_places(error, {}) is error
    assert _with_places(error, {"n1": Source()}) is error
    assert _with_places(BuildError("No."), {"n1": SOURCE}).message == "No."
    assert _with_places(error, {"n1": Source(file="/a/b.py", line=3)}).message == "No.\n  n1 is from b.py:3"
    assert _with_places(error, {"n1": Source(scope="a", module="M")}).message == "No.\n  n1 is from module a (M)"


def test_a_long_list_of_nodes_is_cut_in_the_message_only() -> None:
    names = [f"n{i}" for i in range(40)]
    placed = _with_places(BuildError("No.", details={"nodes": names}), dict.fromkeys(names, SOURCE))
    assert placed.message.count("net.py:12") == MOST_PLACES
    assert len(placed.details["sources"]) == 40


@needs_rtx
@pytest.mark.parametrize("name", ["", "a, b", "sprød", "], Outputs: ["])
def test_a_node_that_a_log_can_not_carry_is_told_by_its_own_name(session: Session, tmp_path: Path, name: str) -> None:
    proto = model(
        [node("Reshape", ["x", "s"], ["y"], name)], [value("x", ["n", 6])], [value("y", None)], [constant("s", [1, 6], "int64")], infer=False
    )  # fmt: skip
    session.add(save(proto, tmp_path / "m.onnx"), name="m")
    with pytest.raises(BuildError) as info:
        session.build("m", compiler="tensorrt_rtx", target="sm89", shapes={"x": "4x6"})
    assert info.value.code == "shape-mismatch"
    assert info.value.details["nodes"] == [name or "y"]
    assert f"Reshape {name or 'y'} can't turn [4, 6] into [1, 6]" in info.value.message


@needs_rtx
def test_the_refused_node_among_many(session: Session, tmp_path: Path) -> None:
    proto = chain([f"n{i}" for i in range(30)])
    proto.graph.node.append(node("Det", ["t30"], ["det"], "last"))
    proto.graph.output[0].name = "det"
    session.add(save(proto, tmp_path / "m.onnx"), name="m")
    with pytest.raises(UnsupportedNodesError) as info:
        session.build("m", compiler="tensorrt_rtx", target="sm89")
    assert [n["node"] for n in info.value.details["nodes"]] == ["last"]
