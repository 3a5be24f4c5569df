"""A small DenseNet for 32x32 images: every layer receives the outputs of all preceding layers of its block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.models._base import CIFAR, Model, initialise

GROWTH = 12
LAYERS_PER_BLOCK = 6


class Dense(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution; the new channels are appended to the input."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv(F.relu(self.bn(x)))), dim=1)


class Transition(nn.Module):
    """Between two blocks: BatchNorm, ReLU, 1x1 convolution, and average pooling by 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """Images (batch, in_channels, height, width) → logits (batch, num_classes); any size from 4x4 on."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        channels = 2 * GROWTH
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)]
        for block in range(3):
            if block:
                layers.append(Transition(channels))
            for _ in range(LAYERS_PER_BLOCK):
                layers.append(Dense(channels))
                channels += GROWTH
        self.features = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.bn(self.features(x))).mean(dim=(2, 3)))


model = Model("densenet", DenseNet, (3, 32, 32), CIFAR)
