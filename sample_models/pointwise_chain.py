"""A chain of elementwise operations: many nodes, one kernel.

Each operation reads and writes the whole tensor if it runs alone, so ten of them move more than
twenty tensors. Fused, every element is read once, worked on in registers and written once.

Look for: one `kgen` layer whose name spells the operations, and the bytes moved before and after.
"""

import torch
from torch import Tensor, nn


class PointwiseChain(nn.Module):
    """Scale, shift, squash, gate: no operation reads a neighboring element."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels) + 0.5)
        self.shift = nn.Parameter(torch.randn(channels) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.scale + self.shift
        y = torch.clamp(y, -3.0, 3.0)
        gate = torch.sigmoid(y)
        y = torch.tanh(y) * gate
        y = torch.sqrt(torch.abs(y) + 1e-6)
        return y + x


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return PointwiseChain().eval(), (torch.randn(1, 128, 64),)
