"""A small network for the embedded digits that still has a residual block and a max-pool: trains in seconds."""

import torch.nn.functional as F
from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.models._base import Model, initialise


class SmallCNN(nn.Module):
    """Images (batch, in_channels, height, width) → logits (batch, num_classes); any size from 8x8 on."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(32)
        self.linear = nn.Linear(32, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(self.pool(x))))
        return self.linear(x.mean(dim=(2, 3)))


# Mean and standard deviation of the training images of the embedded digits.
model = Model("small-cnn", SmallCNN, (1, 8, 8), Preprocessing((0.305299,), (0.375726,)))
