"""FastestDet: a detector of 244,000 weights with one scale of output.

Structure: github.com/dog-qiuqiu/FastestDet (BSD-3-Clause). Backbone: ShuffleNetV2 (Ma et al. 2018, section 3.3): half
of the channels of a unit pass by, and channels alternate between the halves in the next unit. The names of the layers
are those of the published weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.models._base import Model

STAGES = {"stage2": (24, 48, 4), "stage3": (48, 96, 8), "stage4": (96, 192, 4)}
"""Name → channels before, channels after, number of units; the first one halves the picture."""
NECK = 96


def _convolution(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, depthwise: bool = False
) -> list[nn.Module]:
    groups = inputs if depthwise else 1
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Unit(nn.Module):
    """A ShuffleNetV2 unit: even channels pass by, odd ones are convolved; with stride 2 both branches are convolved."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle, own = outputs // 2, outputs - inputs
        self.branch_main = nn.Sequential(
            *_convolution(inputs, middle), nn.ReLU(),
            *_convolution(middle, middle, 3, stride, depthwise=True),
            *_convolution(middle, own), nn.ReLU(),
        )  # fmt: skip
        self.branch_proj = None
        if stride == 2:
            self.branch_proj = nn.Sequential(
                *_convolution(inputs, inputs, 3, 2, depthwise=True), *_convolution(inputs, inputs), nn.ReLU()
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.branch_proj is not None:
            return torch.cat([self.branch_proj(x), self.branch_main(x)], 1)
        return torch.cat([x[:, 0::2], self.branch_main(x[:, 1::2])], 1)


class Backbone(nn.Module):
    """Three feature maps, at 1/8, 1/16 and 1/32 of the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(*_convolution(channels, 24, 3, 2), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for name, (before, after, count) in STAGES.items():
            units = [Unit(before, after, 2), *(Unit(after // 2, after, 1) for _ in range(count - 1))]
            self.add_module(name, nn.Sequential(*units))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = self.maxpool(self.first_conv(x)), []
        for name in STAGES:
            x = self.get_submodule(name)(x)
            found.append(x)
        return found


class Conv1x1(nn.Module):
    """A convolution of single pixels, named as in the published weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Sequential(*_convolution(inputs, outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1x1(x)


class Pyramid(nn.Module):
    """Windows of 5, 9 and 13 pixels by one, two and three convolutions in a row, joined, with a shortcut."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.Conv1x1 = Conv1x1(inputs, NECK)
        for count in (1, 2, 3):
            layers = [
                layer for _ in range(count) for layer in (*_convolution(NECK, NECK, 5, depthwise=True), nn.ReLU())
            ]
            self.add_module(f"S{count}", nn.Sequential(*layers))
        self.output = nn.Sequential(*_convolution(3 * NECK, NECK))

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv1x1(x)
        wide = torch.cat([self.get_submodule(f"S{count}")(x) for count in (1, 2, 3)], 1)
        return F.relu(x + self.output(wide))


class Branch(nn.Module):
    """One of the three outputs of a cell."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv5x5 = nn.Sequential(
            *_convolution(NECK, NECK, 5, depthwise=True), nn.ReLU(), *_convolution(NECK, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv5x5(x)


class Head(nn.Module):
    """Objectness, four numbers of a box, and the share of each class, at every cell."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1x1 = Conv1x1(NECK, NECK)
        self.obj_layers, self.reg_layers, self.cls_layers = Branch(1), Branch(4), Branch(classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1x1(x)
        return torch.cat([self.obj_layers(x).sigmoid(), self.reg_layers(x), self.cls_layers(x).softmax(1)], 1)


class FastestDet(nn.Module):
    """Pictures (batch, 3, height, width) in BGR → (batch, 5 + classes, height / 16, width / 16)."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.backbone = Backbone(channels)
        self.SPP = Pyramid(sum(after for _, after, _ in STAGES.values()))
        self.detect_head = Head(classes)
        self.upsample = nn.Upsample(scale_factor=2)
        self.avg_pool = nn.AvgPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine, middle, coarse = self.backbone(x)
        joined = torch.cat([self.avg_pool(fine), middle, self.upsample(coarse)], 1)
        return self.detect_head(self.SPP(joined))


fastestdet = Model("fastestdet", FastestDet, (3, 352, 352), Preprocessing(), 80)
