"""U-Net: an encoder and a decoder with concatenations across.

The way down halves the image four times, the way up doubles it with transposed convolutions, and
each level passes its features across by concatenation. Every convolution fuses with its ReLU. A
concatenation is not a kernel: both producers write directly into their part of the joined tensor.

Look for: four Concat nodes that are in no layer, the `Move` layers before the poolings (a compact
copy of what was written into a joined tensor), transposed convolutions as `deconv` layers, and how
long the tensors across the middle must stay in memory.
"""

import itertools

import torch
from torch import Tensor, nn


class DoubleConv(nn.Module):
    """Convolution, batch norm and ReLU, twice."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)))


class UNet(nn.Module):
    """Four levels down, four levels up."""

    def __init__(self, in_channels: int = 3, classes: int = 2, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.stem = DoubleConv(in_channels, width)
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in itertools.pairwise(widths))
        widths.reverse()
        steps = list(itertools.pairwise(widths))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in steps)
        self.up = nn.ModuleList(DoubleConv(2 * b, b) for _, b in steps)
        self.head = nn.Conv2d(width, classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.8, 1.2)
        nn.init.xavier_normal_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        across = []
        for down in self.down:
            across.append(x)
            x = down(self.pool(x))
        for grow, up in zip(self.grow, self.up, strict=True):
            x = up(torch.cat([across.pop(), grow(x)], dim=1))
        return self.head(x)


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return UNet().eval(), (torch.randn(1, 3, 256, 256),)
