"""The same ResNet-20 in the forms that SpikingJelly can take, and its conversions of it."""

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import transpike as ts


class Block(nn.Module):
    """A basic block with modules for its activations, as SpikingJelly's tracer wants them; keys as in the zoo."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Identity()
        if stride == 2:  # SpikingJelly's tracer refuses slicing and F.pad; a convolution of zeros and ones is the same
            self.shortcut = nn.Conv2d(channels_in, channels, 1, 2, bias=False)
            weight = torch.zeros(channels, channels_in, 1, 1)
            pad = (channels - channels_in) // 2
            weight[range(pad, pad + channels_in), range(channels_in)] = 1
            self.shortcut.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        return self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))) + shortcut)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        widths, channels = (16, 32, 64), 16
        for index, width in enumerate(widths):
            blocks = [Block(channels, width, 2 if index else 1)]
            blocks += [Block(width, width, 1) for _ in range(2)]
            setattr(self, f"layer{index + 1}", nn.Sequential(*blocks))
            channels = width
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.flatten(self.pool(x)))


def network(weights: Path) -> tuple[nn.Module, nn.Module, ts.Preprocessing]:
    """(the zoo's network, the same with activation modules, preprocessing), on the same weights."""
    zoo, spec = ts.models.build("zoo:resnet20-16-32-64", weights=weights)
    peer_copy = ResNet20()
    peer_copy.load_state_dict(peer_copy.state_dict() | zoo.state_dict())  # its shortcuts have separate weights
    return zoo.eval(), peer_copy.eval(), spec.preprocessing


def converted(peer_copy: nn.Module, kind: str, batches: list[Tensor]) -> nn.Module:
    """SpikingJelly's conversion: "max", "99.9%", such a percentile "per channel" (half-threshold start), or LTB."""
    from spikingjelly.activation_based import ann2snn

    mode, _, per = kind.partition(" ")
    if kind == "local threshold balancing":
        recipe = ann2snn.LocalThresholdBalancingRecipe(batches)
    elif per == "per channel":
        recipe = ann2snn.RateCodingRecipe(batches, mode=mode, channel_wise=True, half_threshold=True)
    else:
        recipe = ann2snn.RateCodingRecipe(batches, mode=mode)
    return ann2snn.Converter(recipe).convert(copy.deepcopy(peer_copy)).eval()


def steps(snn: nn.Module, x: Tensor, timesteps: int) -> Iterator[Tensor]:
    """The summed output after each step of a single-step SpikingJelly network."""
    from spikingjelly.activation_based import functional

    functional.reset_net(snn)
    total: Tensor | None = None
    for _ in range(timesteps):
        out = snn(x)
        total = out if total is None else total + out
        yield total
