"""VGG-5 for grey images of 28x28 pixels: four convolutions in three stages, average pools, and one linear layer."""

from torch import Tensor, nn

from transpike.models._base import FASHION, Model, initialise

STAGES = ((16,), (32,), (48, 48))


class VGG5(nn.Module):
    """Images (batch, in_channels, 28, 28) → logits (batch, num_classes)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in STAGES:
            for channels in stage:
                convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
                in_channels = channels
            layers.append(nn.AvgPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(in_channels * 3 * 3, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


model = Model("vgg5", VGG5, (1, 28, 28), FASHION)
