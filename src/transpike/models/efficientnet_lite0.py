"""EfficientNet-Lite0: inverted residual blocks with linear bottlenecks, ReLU6, without squeeze and excitation."""

import torch.nn.functional as F
from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.models._base import Model, initialise

# (factor of expansion, output channels, blocks, kernel, stride of the first block) of each stage.
STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
STEM, HEAD = 32, 1280
EPSILON = 1e-3  # of the normalisations, as in TensorFlow, from which the published weights come


class SameConv(nn.Conv2d):
    """A convolution whose output has ⌈size / stride⌉ pixels; an odd number of zeros has one more at the end."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, channels, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        around = []
        for axis in (3, 2):
            size, kernel, stride = input.shape[axis], self.kernel_size[axis - 2], self.stride[axis - 2]
            zeros = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            around += [zeros // 2, zeros - zeros // 2]
        return super().forward(F.pad(input, around) if any(around) else input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)


class Separable(nn.Module):
    """A depthwise and a 1x1 convolution; the second has no activation."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = SameConv(in_channels, in_channels, kernel, stride, in_channels), _norm(in_channels)
        self.conv_pw, self.bn2 = SameConv(in_channels, channels, 1), _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))


class InvertedResidual(nn.Module):
    """A 1x1 convolution to more channels, a depthwise one, and a 1x1 convolution without activation; a shortcut."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * in_channels
        self.conv_pw, self.bn1 = SameConv(in_channels, wide, 1), _norm(wide)
        self.conv_dw, self.bn2 = SameConv(wide, wide, kernel, stride, wide), _norm(wide)
        self.conv_pwl, self.bn3 = SameConv(wide, channels, 1), _norm(channels)
        self.shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn2(self.conv_dw(F.relu6(self.bn1(self.conv_pw(x))))))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """Images (batch, in_channels, height, width) → logits (batch, num_classes); names as timm's tf_efficientnet_lite0.

    Source: Tan and Le 2019 (EfficientNet, ICML); the "lite" variant was published with its code only.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = SameConv(in_channels, STEM, 3, 2), _norm(STEM)
        width, stages = STEM, []
        for expansion, channels, count, kernel, stride in STAGES:
            blocks: list[nn.Module] = []
            for k in range(count):
                step = stride if k == 0 else 1
                blocks.append(
                    Separable(width, channels, kernel, step)
                    if expansion == 1
                    else InvertedResidual(width, channels, kernel, step, expansion)
                )
                width = channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = SameConv(width, HEAD, 1), _norm(HEAD)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(HEAD, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(F.relu6(self.bn1(self.conv_stem(x))))
        y = F.relu6(self.bn2(self.conv_head(y)))
        return self.classifier(self.pool(y).flatten(1))


model = Model(
    "efficientnet-lite0",
    EfficientNetLite0,
    (3, 224, 224),
    Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    num_classes=1000,
)
