"""VGG-16 with batch normalisation for 32x32 images: thirteen convolutions and a single linear head."""

from functools import partial

from torch import Tensor, nn

from transpike.errors import SettingError
from transpike.models._base import CIFAR, Model, initialise

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16(nn.Module):
    """Images (batch, in_channels, 32, 32) → logits (batch, num_classes); ``pool`` is "max" or "average"."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3, pool: str = "max") -> None:
        super().__init__()
        if pool not in ("max", "average"):
            raise SettingError(f"pool is 'max' or 'average', not {pool!r}")
        layers: list[nn.Module] = []
        for stage in STAGES:
            for channels in stage:
                convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
                in_channels = channels
            layers.append(nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(512, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


model = Model("vgg16", VGG16, (3, 32, 32), CIFAR)
average = Model("vgg16-average", partial(VGG16, pool="average"), (3, 32, 32), CIFAR)
