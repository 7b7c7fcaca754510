"""Operations that do not fuse: every node is a separate kernel.

Fusion joins operations that can work element by element, or tile by tile, on data that is already
on the chip. Sorting, selecting, prefix sums and gathering by computed positions need a whole row at
once, and each must be complete before the next can start.

Look for: as many layers as nodes (or more), and every tensor between them written and read again.
"""

import torch
from torch import Tensor, nn


class Unfusable(nn.Module):
    """Cumulative sum, top-k, gather, cumulative sum, top-k."""

    def __init__(self, keep: int = 32) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        total = torch.cumsum(x, dim=-1)
        _, index = torch.topk(total, self.keep, dim=-1)
        picked = torch.gather(x, -1, index)
        total = torch.cumsum(picked, dim=-1)
        return torch.topk(total, self.keep // 2, dim=-1).values


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return Unfusable().eval(), (torch.randn(16, 256),)
