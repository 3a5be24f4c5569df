"""ResNet-18, ResNet-50, VGG-16 and MobileNetV2 for 224×224 pictures, as published, for seeded weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.models._base import initialise

VGG_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# (expansion, output channels, blocks, stride of the first block) of each stage of MobileNetV2
INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without a bias and its normalisation."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """``relu(body(x) + shortcut(x))``; a bottleneck of 1×1, 3×3 and 1×1, or two 3×3 convolutions."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            first = [*convolution(inputs, width, 1), nn.ReLU(), *convolution(width, width, 3, stride), nn.ReLU()]
            self.body = nn.Sequential(*first, *convolution(width, outputs, 1))
        else:
            self.body = nn.Sequential(
                *convolution(inputs, width, 3, stride), nn.ReLU(), *convolution(width, outputs, 3)
            )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """He et al. 2016; stride on the 3×3 convolution of a bottleneck."""

    def __init__(self, blocks: tuple[int, ...], bottleneck: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(*convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        width, layers = 64, []
        for stage, count in enumerate(blocks):
            for index in range(count):
                own = 64 << stage
                layers.append(Residual(width, own, 2 if stage and not index else 1, bottleneck))
                width = 4 * own if bottleneck else own
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.stem(x)).mean((2, 3)))


class VGG(nn.Module):
    """Simonyan and Zisserman 2015, configuration D with normalisation; three linear layers after 7×7 positions."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage in VGG_STAGES:
            for channels in stage:
                layers += [*convolution(inputs, channels, 3), nn.ReLU()]
                inputs = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class Inverted(nn.Module):
    """Expansion, depthwise convolution, and a linear bottleneck."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = [*convolution(inputs, wide, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = [*convolution(wide, wide, 3, stride, wide), nn.ReLU6()]
        self.body = nn.Sequential(*expand, *depthwise, *convolution(wide, outputs, 1))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class MobileNetV2(nn.Module):
    """Sandler et al. 2018."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [*convolution(3, 32, 3, 2), nn.ReLU6()]
        width = 32
        for expansion, channels, count, stride in INVERTED:
            for index in range(count):
                layers.append(Inverted(width, channels, 1 if index else stride, expansion))
                width = channels
        layers += [*convolution(width, 1280, 1), nn.ReLU6()]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


ARCHITECTURES = {
    "resnet18": lambda: ResNet((2, 2, 2, 2), False),
    "resnet50": lambda: ResNet((3, 4, 6, 3), True),
    "vgg16": VGG,
    "mobilenetv2": MobileNetV2,
}


@torch.no_grad()
def seeded(name: str, x: Tensor, seed: int = 0) -> nn.Module:
    """The network with seeded weights, whose normalisations have the statistics of x (batch, 3, 224, 224)."""
    torch.manual_seed(seed)
    model = ARCHITECTURES[name]()
    initialise(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()
    for batch in x.split(8):
        model(batch)
    return model.eval()
