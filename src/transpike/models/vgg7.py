"""VGG-7 for 32x32 images: six convolutions in three pairs of 64, 128 and 256 channels, and one linear layer."""

from torch import Tensor, nn

from transpike.models._base import CIFAR, Model, initialise


class VGG7(nn.Module):
    """Images (batch, in_channels, 32, 32) → logits (batch, num_classes)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (64, 128, 256):
            for inputs in (in_channels, channels):
                layers += [nn.Conv2d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            layers.append(nn.AvgPool2d(2))
            in_channels = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(256 * 4 * 4, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


model = Model("vgg7", VGG7, (3, 32, 32), CIFAR)
