"""Multi-head self-attention through `scaled_dot_product_attention`.

The same mathematics and weights as attention, but one PyTorch call. ONNX before opset 23 has no
such operator, so the exporter writes it out again, with the scale on q and k and not on the scores.
What matters to the compiler is the exported pattern of nodes, not the call in the source.

Look for: more nodes than in attention, yet the same layers, and in FP16 the same `_gemm_mha_v2`.
Both matrix products and the softmax point back to one line of source.
"""

import torch
from torch import Tensor, nn


class AttentionSdpa(nn.Module):
    """Self-attention with separate query, key and value projections."""

    def __init__(self, width: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def split_heads(self, x: Tensor) -> Tensor:
        """(batch, length, width) -> (batch, heads, length, head width)."""
        batch, length, _ = x.shape
        return x.view(batch, length, self.heads, self.head_width).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q = self.split_heads(self.query(x))
        k = self.split_heads(self.key(x))
        v = self.split_heads(self.value(x))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return AttentionSdpa().eval(), (torch.randn(1, 64, 128),)
