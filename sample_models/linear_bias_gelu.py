"""A linear layer with bias, then GELU: what a GEMM can fuse.

GELU in its exact form is five elementwise operations (divide, erf, add, and two multiplications).
None of them needs a separate kernel: they are applied to each tile of the matrix product before
it is written. This is called an epilogue.

Look for: one `runtime_fusion` layer whose name starts with `__myl_Fc`, holding MatMul, Add and
every node of the GELU.
"""

import torch
from torch import Tensor, nn


class LinearBiasGelu(nn.Module):
    """The first half of a transformer's feed-forward block."""

    def __init__(self, in_features: int = 64, out_features: int = 256) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return nn.functional.gelu(x)


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return LinearBiasGelu().eval(), (torch.randn(1, 128, 64),)
