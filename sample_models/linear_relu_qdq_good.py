"""INT8 matrix product and ReLU with Q/DQ in the right place.

A QuantizeLinear/DequantizeLinear pair (Q/DQ) says "this tensor may be held as INT8". Here the pairs
are on the inputs of each matrix product and on its weights, and nowhere else. TensorRT moves
each pair to where it helps: the matrix product reads INT8, and one pointwise kernel after it
dequantizes, adds the bias, applies the ReLU and quantizes for the next one.

Look for: `gemm` layers with Int8 inputs, and between them one kernel that reads 32 bits and
writes 8, `__myl_MulAddReluMulMinMaxRounCast`. Compare with linear_relu_qdq_bad.
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
        return torch.relu(x)


class LinearReluQdqGood(nn.Module):
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
    return LinearReluQdqGood().eval(), (torch.randn(1, 64, 128),)
