"""Digits: a small trained convolutional network.

Trained on scikit-learn's handwritten digits (1,797 images of 8x8), in seconds on a CPU and always with the
same result on one machine. So its accuracy is a true percentage, and the loss through INT8 can be measured.
`data()` returns the training images and the test images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Digits(nn.Module):
    """Three convolutions, one of them around a skip connection, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.bn3 = nn.BatchNorm2d(64)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)) + x)
        x = torch.relu(self.bn3(self.conv3(x)))
        return self.classifier(x.mean(dim=(2, 3)))


def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, then test images and labels; images are [n, 1, 8, 8] in 0..1."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target, dtype=torch.long)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return images[:1200], labels[:1200], images[1200:], labels[1200:]


def train(epochs: int = 12) -> Digits:
    """A trained model."""
    torch.manual_seed(0)
    images, labels, _, _ = data()
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the trained module and its example inputs."""
    return train(), (data()[2][:1],)
