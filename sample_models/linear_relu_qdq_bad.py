"""INT8 matrix product and ReLU with Q/DQ in the wrong place.

Like linear_relu_qdq_good, plus one more Q/DQ pair between each matrix product and its ReLU. Tools
that quantize every output put it there. It requires a rounding *before* the ReLU. The compiler
must keep it, so each value is quantized, dequantized, passed through the ReLU, and quantized
again.

Look for: the same number of layers as in linear_relu_qdq_good, but two rounds in the name between
them, `__myl_MulAddMulMinMaxRounCastCastMulReluMulMinMaxRounCast`, and a round in the last layer,
which needed none. Counting layers would not show this.
"""

import torch
from torch import Tensor, nn


def fake_quantize(x: Tensor, scale: float = 1 / 16) -> Tensor:
    """Round to the 256 values of a symmetric INT8 tensor; exported as one Q/DQ pair."""
    return torch.fake_quantize_per_tensor_affine(x, scale, 0, -128, 127)


class QuantizedLinearRelu(nn.Module):
    """A matrix product on INT8 input and weights, and a ReLU."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.linear.weight, nonlinearity="relu")
        # One scale per output channel: the largest weight of each becomes 127.
        scale = self.linear.weight.detach().abs().amax(dim=1) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros_like(scale, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.fake_quantize_per_channel_affine(self.linear.weight, self.scale, self.zero, 0, -128, 127)
        x = fake_quantize(x)
        x = nn.functional.linear(x, weight, self.linear.bias)
        x = fake_quantize(x)  # the extra pair: a rounding that the ReLU has to wait for
        return torch.relu(x)


class LinearReluQdqBad(nn.Module):
    """Two blocks, so that there is a tensor between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = QuantizedLinearRelu()
        self.second = QuantizedLinearRelu()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return LinearReluQdqBad().eval(), (torch.randn(1, 64, 128),)
