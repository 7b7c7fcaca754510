"""A graph with an operator that TensorRT's ONNX parser does not support.

`torch.logdet` exports to Det and Log. Det is one of ONNX's own operators: the model is valid, and
ONNX Runtime runs it. TensorRT's parser knows the name but rejects it. Everything before it (a
convolutional stem) and after it (a small head) is supported, so the graph has two parts
that would build, with one node between them.

Look for: the error that names the node and its line of source, and the two supported parts.
"""

import torch
from torch import Tensor, nn


class CovarianceScore(nn.Module):
    """Scores an image by the (logarithm of the) volume that its feature vectors span."""

    def __init__(self, channels: int = 8, classes: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.register_buffer("jitter", torch.eye(channels))
        self.head = nn.Linear(1, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = torch.relu(self.stem(x)).flatten(2)
        covariance = features @ features.transpose(1, 2) / features.shape[-1] + self.jitter
        volume = torch.logdet(covariance)
        return self.head(volume.unsqueeze(-1))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the module and its example inputs."""
    torch.manual_seed(0)
    return CovarianceScore().eval(), (torch.randn(1, 3, 32, 32),)
