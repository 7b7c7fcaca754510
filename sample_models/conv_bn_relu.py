"""Convolution, batch norm, ReLU: the first fusion to look for.

At inference time batch norm is a multiplication and an addition with constants. The ONNX exporter
already folds it into the convolution's weights, so the graph holds Conv and Relu only. TensorRT
then applies the ReLU while the result is still in registers: one kernel, and the tensor between
convolution and ReLU never reaches memory.

Look for: one `correlation` layer that names both nodes, between two layers that have no node and
only change the layout (NCHW to NHWC and back). With `--precision fp16` those two become the casts.
"""

import torch
from torch import Tensor, nn


class ConvBnRelu(nn.Module):
    """One block as it appears in nearly every convolutional network."""

    def __init__(self, in_channels: int = 16, out_channels: int = 32) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.normal_(self.bn.running_mean, std=0.1)
        nn.init.uniform_(self.bn.running_var, 0.8, 1.2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.bn(x)
        return torch.relu(x)


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return ConvBnRelu().eval(), (torch.randn(1, 16, 32, 32),)
