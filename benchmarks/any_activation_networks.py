"""The networks of any_activation.py: their layers, their data, and how they are trained (one thread, minutes).

Trained weights are cached in a folder, so that a rerun measures the same networks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import transpike as ts
from transpike.core.task import Task
from transpike.training.settings import Training

NOISE = 0.7  # standard deviation of what is added to the denoiser's images, whose pixels are 0 to 1
CANVAS, DIGITS = 32, 3  # side of a segmented picture in pixels, digits on it


class Denoiser(nn.Module):
    """Two scales with a connection between them, (batch, 1, 28, 28) → the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, 2, 1)
        self.middle, self.up = nn.Conv2d(32, 32, 3, padding=1), nn.ConvTranspose2d(32, 16, 2, 2)
        self.join, self.last = nn.Conv2d(32, 16, 3, padding=1), nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu(self.first(x), 0.1)
        b = F.silu(self.middle(F.silu(self.down(a))))
        c = F.hardswish(self.up(b))
        return self.last(F.silu(self.join(torch.cat([c, a], 1))))


def _block(
    inputs: int, outputs: int, act: type[nn.Module], size: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), act()]


class UNet(nn.Module):
    """Three scales, bilinear upsampling, concatenations; (batch, 1, 32, 32) → (batch, 11, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = 16, 32, 48

        def double(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(*_block(inputs, outputs, nn.SiLU), *_block(outputs, outputs, nn.SiLU))

        self.fine_scale, self.middle_scale, self.coarse_scale = double(1, a), double(a, b), double(b, c)
        self.up_middle, self.up_fine = double(c + b, b), double(b + a, a)
        self.last = nn.Conv2d(a, 11, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine_scale(x)
        half = self.middle_scale(F.avg_pool2d(fine, 2))
        y = self.coarse_scale(F.avg_pool2d(half, 2))
        for skip, layers in ((half, self.up_middle), (fine, self.up_fine)):
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            y = layers(torch.cat([y, skip], 1))
        return self.last(y)


class SqueezeExcite(nn.Module):
    """Every channel times a gate between 0 and 1, a function of the mean of all channels."""

    def __init__(self, channels: int, inner: int, act: type[nn.Module], gate: type[nn.Module]) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), act(), nn.Conv2d(inner, channels, 1), gate()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Inverted(nn.Module):
    """Expansion, depthwise convolution, squeeze-excite, linear projection; a shortcut where shapes allow."""

    def __init__(
        self, inputs: int, inner: int, outputs: int, stride: int, act: type[nn.Module], squeeze: nn.Module
    ) -> None:
        super().__init__()
        self.shortcut = inputs == outputs and stride == 1
        self.body = nn.Sequential(
            *_block(inputs, inner, act, 1), *_block(inner, inner, act, 3, stride, inner), squeeze,
            nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x if self.shortcut else self.body(x)


def _mobile(act: type[nn.Module], inner_act: type[nn.Module], gate: type[nn.Module], share: int) -> nn.Sequential:
    """``share``: the squeezed width is a block's inner width divided by it."""
    plan = [(16, 48, 24, 2), (24, 96, 24, 1), (24, 96, 40, 2), (40, 160, 40, 1), (40, 160, 40, 1)]
    blocks = [
        Inverted(i, inner, o, stride, act, SqueezeExcite(inner, inner // share, inner_act, gate))
        for i, inner, o, stride in plan
    ]
    head = [*_block(40, 160, act, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(160, 10)]
    return nn.Sequential(*_block(3, 16, act), *blocks, *head)


def mobilenet_v3() -> nn.Sequential:
    """MobileNetV3's block: hardswish, squeeze-excite of ReLU and hardsigmoid; five blocks for 32×32 pixels."""
    return _mobile(nn.Hardswish, nn.ReLU, nn.Hardsigmoid, 4)


def efficientnet() -> nn.Sequential:
    """EfficientNet's block: SiLU, squeeze-excite of SiLU and sigmoid; five blocks for 32×32 pixels."""
    return _mobile(nn.SiLU, nn.SiLU, nn.Sigmoid, 8)


Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """A network and its data: ``batch(split, numbers)`` gives inputs and targets of the samples of these numbers."""

    build: Callable[[], nn.Module]
    data: str
    task: Task
    batch: Callable[[ts.data.Dataset, str, Tensor], Batch]
    train: Callable[["Case", nn.Module, ts.data.Dataset, Path], None]


def noisy(data: ts.data.Dataset, split: str, numbers: Tensor) -> Batch:
    """Images with noise and without it; the noise of an image is always the same one."""
    clean = getattr(data, split).batch(numbers)[0].float() / 255
    noise = [torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(int(n))) for n in numbers]
    return clean + NOISE * torch.stack(noise), clean


def pictures(data: ts.data.Dataset, split: str, numbers: Tensor) -> Batch:
    """Digits of half their size at random places, and the class of each pixel: 0, or 1 more than that of its digit."""
    images, labels = getattr(data, split).images, getattr(data, split).labels
    x = torch.zeros(len(numbers), 1, CANVAS, CANVAS)
    y = torch.zeros(len(numbers), CANVAS, CANVAS, dtype=torch.long)
    for place, number in enumerate(numbers.tolist()):
        generator = torch.Generator().manual_seed(number)
        for chosen in torch.randint(len(labels), (DIGITS,), generator=generator).tolist():
            digit = F.avg_pool2d(torch.as_tensor(images[chosen]).reshape(1, 28, 28).float() / 255, 2)[0]
            row, column = torch.randint(CANVAS - 14 + 1, (2,), generator=generator).tolist()
            where = (place, slice(row, row + 14), slice(column, column + 14))
            x[where[0], 0, where[1], where[2]] = torch.maximum(x[where[0], 0, where[1], where[2]], digit)
            y[where][digit > 0.3] = int(labels[chosen]) + 1
    return x, y


def labelled(data: ts.data.Dataset, split: str, numbers: Tensor) -> Batch:
    return getattr(data, split).batch(numbers)


def fitted(loss: Callable[[Tensor, Tensor], Tensor], steps: int, size: int) -> Callable[..., None]:
    """Adam with a cosine schedule over ``steps`` batches of ``size``; samples are numbered without end."""

    def train(case: Case, model: nn.Module, data: ts.data.Dataset, weights: Path) -> None:
        optimiser = torch.optim.Adam(model.parameters(), 4e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        model.train().to(memory_format=torch.channels_last)
        for step in range(steps):
            x, y = case.batch(data, "train", torch.arange(step * size, (step + 1) * size) % len(data.train))
            found = loss(model(x), y)
            optimiser.zero_grad()
            found.backward()
            optimiser.step()
            schedule.step()
            if step % 100 == 99:
                print(f"step {step + 1}: loss {found.item():.4f}", flush=True)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)

    return train


def classifier(epochs: int) -> Callable[..., None]:
    """SGD, crops and flips; a killed run resumes after its last epoch. About 65 seconds an epoch."""

    def train(case: Case, model: nn.Module, data: ts.data.Dataset, weights: Path) -> None:
        settings = Training(epochs=epochs, learning_rate=0.1, validation_fraction=0.0)
        model.to(memory_format=torch.channels_last)  # depthwise convolutions are faster so
        ts.train(model, data, settings, checkpoint=weights.with_suffix(".ckpt"), weights=weights, threads=1)

    return train


CASES = {
    "denoiser": Case(Denoiser, "mnist", ts.tasks.Regression(peak=1.0), noisy, fitted(F.mse_loss, 600, 64)),
    "unet": Case(UNet, "mnist", ts.tasks.PixelClassification(), pictures, fitted(F.cross_entropy, 1200, 32)),
    "mobilenet-v3": Case(mobilenet_v3, "cifar10", ts.tasks.Classification(), labelled, classifier(12)),
    "efficientnet": Case(efficientnet, "cifar10", ts.tasks.Classification(), labelled, classifier(12)),
}


def trained(name: str, data: ts.data.Dataset, folder: Path, seed: int = 0) -> nn.Module:
    """The network of a case with the weights in ``folder``, trained first where there are none."""
    case, weights = CASES[name], folder / f"{name}.safetensors"
    torch.manual_seed(seed)
    model = case.build()
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        case.train(case, model, data, weights)
    ts.models.load_weights(model, weights)
    return model.eval()
