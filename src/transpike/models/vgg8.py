"""VGG-8 for 32x32 images: six convolutions after a small first one, whose filters can whiten patches of the images."""

from torch import Tensor, nn

from transpike.models._base import CIFAR, Model, initialise

PATCH = 2
WIDTHS = (96, 256, 384)


class VGG8(nn.Module):
    """Images (batch, in_channels, height, width) → logits (batch, num_classes); any size from 16x16 on.

    ``stem`` sees patches of 2x2 pixels and has two filters for each of their dimensions, one of each sign, so that
    nothing is lost by the ReLU after it. Source of the stem: Coates and Ng 2012 (whitened patches), Page 2019.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        inputs = 2 * in_channels * PATCH**2
        self.stem = nn.Conv2d(in_channels, inputs, PATCH)
        layers: list[nn.Module] = [nn.ReLU()]
        for width in WIDTHS:
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.AvgPool2d(2)]
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(self.stem(x))).flatten(1))


model = Model("vgg8", VGG8, (3, 32, 32), CIFAR)
