"""The DS-CNN of keyword spotting: depthwise separable convolutions without shortcuts, here for grey images.

A convolution, four pairs of a depthwise and a 1x1 convolution of 64 channels, an average, a linear layer.
Source: Zhang et al. 2017, "Hello edge: keyword spotting on microcontrollers"; MLPerf Tiny.
"""

from torch import Tensor, nn

from transpike.models._base import FASHION, Model


def pair(channels: int) -> list[nn.Module]:
    """A depthwise 3x3 convolution, then a 1x1 convolution."""
    return [
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
    ]  # fmt: skip


class DSCNN(nn.Module):
    """Images (batch, in_channels, height, width) → logits (batch, num_classes); any size from 4x4 on."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, channels: int = 64) -> None:
        super().__init__()
        layers = [nn.Conv2d(in_channels, channels, 5, 2, 2, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        for _ in range(4):
            layers += pair(channels)
        self.features, self.pool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


model = Model("ds-cnn", DSCNN, (1, 28, 28), FASHION)
