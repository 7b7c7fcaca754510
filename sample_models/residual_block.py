"""A residual block: an addition with two inputs still fuses.

The second convolution ends in `+ x`, and the ReLU comes after the addition. The compiler hands the
skip connection to the second convolution as one more input, so that addition and ReLU fuse into its
epilogue. The cost: the block's input must stay in memory until the end of the block.

Look for: two `correlation` layers, the second of which also holds the Add and the last Relu and
reads one more activation.
"""

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a skip connection."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + x)


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return ResidualBlock().eval(), (torch.randn(1, 32, 28, 28),)
