"""A small network for the accumulated frames of event cameras, with average pooling: trains in half a minute."""

from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.models._base import Model, initialise


class EventsCNN(nn.Module):
    """Images (batch, in_channels, height, width) → logits (batch, num_classes); any size from 16x16 on."""

    def __init__(self, num_classes: int = 10, in_channels: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, pool in ((16, nn.AvgPool2d(2)), (32, nn.AvgPool2d(2)), (64, nn.AdaptiveAvgPool2d(4))):
            convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU(), pool]
            in_channels = channels
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(64 * 4 * 4, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).flatten(1))


# no normalisation of events: a silent pixel is 0
model = Model("events-cnn", EventsCNN, (2, 34, 34), Preprocessing())
