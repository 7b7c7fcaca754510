"""Multi-head self-attention, written out operation by operation.

Scores `q @ k^T`, a scale, a softmax and `@ v`: written like this, the matrix of scores looks as if
it were stored. A compiler that recognizes the pattern never stores it: it keeps running maxima and
sums and handles one tile of scores at a time (flash attention). TensorRT does so in FP16 and BF16.

Look for: Q, K and V as one matrix product (a name joined by `+`). In FP32, two `gemm` layers with a
`kgen` softmax between them; with `--precision fp16`, one `_gemm_mha_v2` that holds all four nodes.
"""

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
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
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(self.head_width)
        weights = torch.softmax(scores, dim=-1)
        y = torch.matmul(weights, v)
        return self.out(y.transpose(1, 2).flatten(2))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return Attention().eval(), (torch.randn(1, 64, 128),)
