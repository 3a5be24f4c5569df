"""MobileNet v1 for 32x32 images: depthwise separable convolutions."""

from torch import Tensor, nn

from transpike.models._base import CIFAR, Model, initialise

# (output channels, stride); with 32x32 images the first layers keep the size, and 4x4 remains at the end.
PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1))


def separable(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """A depthwise 3x3 convolution, then a 1x1 convolution."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class MobileNet(nn.Module):
    """Images (batch, in_channels, height, width) → logits (batch, num_classes); any size from 8x8 on."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        width, blocks = 32, []
        for channels, stride in PAIRS:
            blocks.append(separable(width, channels, stride))
            width = channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.blocks(self.stem(x))).flatten(1))


model = Model("mobilenet", MobileNet, (3, 32, 32), CIFAR)
