"""Two small networks for EEG, with average pooling: for signal windows, and for images of power."""

from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.models._base import Model, initialise


class EEGWindows(nn.Module):
    """Signals (batch, in_channels, samples) → logits (batch, num_classes); any length from 8 samples on."""

    def __init__(self, num_classes: int = 2, in_channels: int = 14) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (16, 32):
            convolution = nn.Conv1d(in_channels, channels, 5, padding=2, bias=False)
            layers += [convolution, nn.BatchNorm1d(channels), nn.ReLU(), nn.AvgPool1d(2)]
            in_channels = channels
        self.features, self.linear = nn.Sequential(*layers), nn.Linear(32, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).mean(2))


class EEGPower(nn.Module):
    """Power (batch, in_channels, 32, 32), electrode by frequency → logits (batch, num_classes).

    Source: Yan, Zhou, Wong 2022 (Smart Health), by its code: convolutions 5x5 of 16, 32 and 32 channels, a hidden 128.
    """

    def __init__(self, num_classes: int = 2, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(in_channels, 16),
            *_convolution(16, 32),
            nn.AvgPool2d(2),
            *_convolution(32, 32),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 5, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


windows = Model("eeg-windows", EEGWindows, (14, 128), Preprocessing(), 2)
power = Model("eeg-power", EEGPower, (1, 32, 32), Preprocessing(), 2)
