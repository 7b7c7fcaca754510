"""Layer norm and a two-layer perceptron: a reduction before the matrix products.

LayerNorm needs the mean and variance of a whole row before it can write the first element, so it
can't fuse into a GEMM's epilogue as an elementwise operation can: it is a separate kernel.
The GELU fuses with the first linear layer.

Look for: the LayerNorm as one `kgen` layer whose name spells mean, subtract, square root and
divide; then which layer takes the bias, the GELU and the residual addition.
"""

import torch
from torch import Tensor, nn


class LayerNormMlp(nn.Module):
    """The feed-forward half of a pre-norm transformer block."""

    def __init__(self, width: int = 64, hidden: int = 256) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y = nn.functional.gelu(self.up(y))
        return x + self.down(y)


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return LayerNormMlp().eval(), (torch.randn(1, 128, 64),)
