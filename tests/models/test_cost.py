"""FLOPs of exported modules against torch's own counter, and of layers that TensorRT built from a loop."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.support import HAS_TORCH, needs_rtx
from tests.support.small_models import constant, model, node, save, value, weights
from workbench import Session
from workbench.model.cost import node_costs, totals

if not HAS_TORCH:
    pytest.skip("torch or onnxscript is not installed", allow_module_level=True)

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm", "Attention", "Einsum", "LSTM", "GRU", "RNN"}


class Bilinear(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bhid,bhjd->bhij", x, y)


class Attends(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)


CASES = [
    (nn.Conv2d(6, 8, 3, stride=2, groups=2, bias=False), (torch.randn(2, 6, 17, 17),)),
    (nn.Conv1d(4, 6, 5, dilation=2, bias=False), (torch.randn(3, 4, 40),)),
    (nn.ConvTranspose2d(6, 5, 3, stride=2, bias=False), (torch.randn(2, 6, 7, 7),)),
    (nn.Linear(24, 7, bias=False), (torch.randn(2, 5, 24),)),
    (nn.Sequential(nn.Linear(24, 7, bias=False), nn.GELU(), nn.Linear(7, 3, bias=False)), (torch.randn(5, 24),)),
    (Bilinear(), (torch.randn(2, 3, 4, 8), torch.randn(2, 3, 6, 8))),
    (Attends(), (torch.randn(2, 4, 6, 16), torch.randn(2, 4, 10, 16), torch.randn(2, 4, 10, 16))),
    (nn.LSTM(6, 8, num_layers=2, bidirectional=True, bias=False), (torch.randn(7, 2, 6),)),
    (nn.GRU(6, 8, bias=False), (torch.randn(7, 2, 6),)),
]


@pytest.mark.parametrize(
    ("module", "inputs"), CASES, ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else ""
)
def test_products_agree_with_torchs_counter(session: Session, module: nn.Module, inputs: tuple) -> None:
    graph = session.add(module, inputs).graph.at({})
    # Decomposed: the fused kernels of LSTM and attention on a CPU are unknown to the counter.
    plain = torch.export.export(module.eval(), inputs).run_decompositions().module()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        plain(*inputs)
    costs = node_costs(graph)
    # Padding, where it is a node, is no product; nor are pointwise operations, which torch does not count.
    products = [costs[n.id].flops for n in graph.nodes if n.op in PRODUCTS]
    assert None not in products
    assert sum(products) == counter.get_total_flops() > 0
    assert totals(graph, costs)[1] == 0


@needs_rtx
def test_layers_in_a_loop_count_all_its_iterations(session: Session, tmp_path: Path) -> None:
    body = helper.make_graph(
        [node("MatMul", ["s", "w"], ["m"], "mm"), node("Tanh", ["m"], ["s2"], "tanh"), node("Identity", ["c"], ["c2"], "id")],
        "body", [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("s", [4, 16])],
        [value("c2", [], TensorProto.BOOL), value("s2", [4, 16])],
    )  # fmt: skip
    made = model([node("Loop", ["n", "t", "x"], ["y"], "loop", body=body)], [value("x", [4, 16])], [value("y", [4, 16])],
                 [weights("w", 16, 16), constant("n", 5, "int64"), constant("t", True, "bool")])  # fmt: skip
    plan = session.build(save(made, tmp_path / "loop.onnx"), targets="sm89").plan
    assert (plan.summary["flops"], plan.summary["flops_unknown"]) == (5 * (2 * 4 * 16 * 16 + 64), 0)
    product = next(layer for layer in plan.layers if layer.nodes == ("mm",))
    assert product.flops == 5 * 2 * 4 * 16 * 16
    assert product.bytes >= 5 * 4 * (64 + 256 + 64)  # the kernel also reads what the loop counts by
    assert product.bytes % 5 == 0
