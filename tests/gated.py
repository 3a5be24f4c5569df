"""Small networks with gates and normalisation, and inputs for them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Excitation(nn.Module):
    """Squeeze-and-excitation: ``x · sigmoid(fc(relu(fc(mean of x))))``."""

    def __init__(self, channels: int, squeezed: int, gate: nn.Module) -> None:
        super().__init__()
        self.reduce, self.expand, self.gate = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class Gated(nn.Module):
    """A gated linear unit: one linear layer, split in two, ``o(u · f(v))``."""

    def __init__(self, features: int, inner: int) -> None:
        super().__init__()
        self.both, self.out = nn.Linear(features, 2 * inner), nn.Linear(inner, features)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.both(x).chunk(2, -1)
        return self.out(u * F.silu(v))


class Mixing(nn.Module):
    """Weights between tokens that depend on the tokens: a matrix product of two wires."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.out = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.query(x) @ self.key(x).transpose(1, 2)).mean(1)


class InvertedResidual(nn.Module):
    """A block of MobileNetV3: expansion, depthwise convolution, excitation, linear bottleneck, shortcut."""

    def __init__(self, channels: int, expanded: int, out: int, stride: int, act: type[nn.Module], gate: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, expanded, 1, bias=False), nn.BatchNorm2d(expanded), act(),
            nn.Conv2d(expanded, expanded, 3, stride, 1, groups=expanded, bias=False), nn.BatchNorm2d(expanded), act(),
            Excitation(expanded, max(4, expanded // 4), gate),
            nn.Conv2d(expanded, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def mobile(act: type[nn.Module], gate: nn.Module) -> nn.Module:
    """A small network of the kind of MobileNetV3 (Hardswish, Hardsigmoid) or EfficientNet (SiLU, Sigmoid)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), act(),
        InvertedResidual(8, 16, 8, 1, act, gate), InvertedResidual(8, 24, 12, 2, act, gate),
        nn.Conv2d(12, 24, 1), act(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip


class RootMeanSquare(nn.Module):
    """RMS normalisation, written by hand."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(features) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Block(nn.Module):
    """``x + o(gelu(f(norm(x))))`` after a linear layer."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.inner, self.out = nn.Linear(8, 8), norm, nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + self.out(F.gelu(self.inner(self.norm(x))))


class Functional(nn.Module):
    """RMS normalisation by its function."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (8,))


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, layer normalisation, two linear layers with GELU, a scale for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.inner, self.out = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.scale = nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.out(F.gelu(self.inner(y)))).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """One head of attention over tokens, after a layer normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 3)
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        weights = torch.softmax(self.query(y) @ self.key(y).transpose(1, 2) / 8**0.5, -1)
        return self.out(weights @ self.value(y)).mean(1)


NORMS = {
    "layer-norm": lambda: Block(nn.LayerNorm(8)),
    "rms-norm": lambda: Block(nn.RMSNorm(8)),
    "rms-norm-function": lambda: Block(Functional()),
    "rms-norm-by-hand": lambda: Block(RootMeanSquare(8)),
    "group-norm": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 1), nn.Flatten(),
    ),
    "instance-norm": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(),
    ),
    "post-norm": lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.LayerNorm(8)),
    "glu": lambda: nn.Sequential(nn.Linear(8, 16), nn.GLU(), nn.Linear(8, 4)),
    "softmax": lambda: nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 4)),
    "attention": Attention,
    "convnext": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 2, 2), ConvNeXtBlock(8), ConvNeXtBlock(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.LayerNorm(8), nn.Linear(8, 4),
    ),
}  # fmt: skip
GATES = {
    "excitation": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.Hardswish(), Excitation(6, 4, nn.Sigmoid()), nn.Conv2d(6, 4, 1),
        nn.Flatten(), nn.Linear(144, 5),
    ),
    "gated": lambda: nn.Sequential(Gated(8, 12), Gated(8, 12)),
    "mixing": Mixing,
    "mobilenet-v3": lambda: mobile(nn.Hardswish, nn.Hardsigmoid()),
    "efficientnet": lambda: mobile(nn.SiLU, nn.Sigmoid()),
}  # fmt: skip
SHAPES = {
    "excitation": (3, 6, 6), "gated": (8,), "mixing": (5, 6), "mobilenet-v3": (3, 16, 16), "efficientnet": (3, 16, 16),
    "group-norm": (3, 6, 6), "instance-norm": (3, 6, 6), "attention": (5, 8), "convnext": (3, 8, 8),
}  # fmt: skip
"""The shape of an input; (8,) for all others."""


def network(label: str, samples: int = 16) -> tuple[nn.Module, Tensor]:
    """The network, in evaluation mode with plausible statistics, and inputs (samples, …)."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model, x = (GATES | NORMS)[label](), torch.randn(samples, *SHAPES.get(label, (8,)))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
        model(x)  # running statistics
        return model.eval(), x
