"""Two small networks for single heartbeats, with average pooling: one for screening, one for classification."""

from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.models._base import Model, initialise


class ECGScreen(nn.Module):
    """Beats (batch, in_channels, 180) → logits (batch, num_classes): two convolutions of 16 and 24 channels.

    Source: Yan, Zhou, Wong 2021 (BSPC 63:102170) by its first code, with batch normalisation and with padding.
    """

    def __init__(self, num_classes: int = 2, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(in_channels, 16, 3), nn.AvgPool1d(2), *_convolution(16, 24, 3), nn.AvgPool1d(2)
        )
        self.linear = nn.Linear(24 * 45, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).flatten(1))


class ECGClasses(nn.Module):
    """Beats (batch, in_channels, 180) → logits (batch, num_classes): three convolutions of 16, 32 and 32 channels.

    Source: kernels and channels of the second code of Yan, Zhou, Wong 2021; with batch normalisation, padding, dropout,
    and pooling after every convolution, which halves its multiplications.
    """

    def __init__(self, num_classes: int = 4, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(in_channels, 16, 3), nn.AvgPool1d(2), *_convolution(16, 32, 9), nn.AvgPool1d(2),
            *_convolution(32, 32, 7), nn.AvgPool1d(2),
        )  # fmt: skip
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(32 * 22, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.dropout(self.features(x).flatten(1)))


def _convolution(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm1d(outputs), nn.ReLU()


screen = Model("ecg-screen", ECGScreen, (1, 180), Preprocessing(), 2)
classes = Model("ecg-classes", ECGClasses, (1, 180), Preprocessing(), 4)
