"""Small networks of the published shapes, written here from the papers: captured, converted, run, saved and loaded."""

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts

ROOT = Path(__file__).resolve().parents[2]
CLASSES, TIMESTEPS = 10, 1024


def _coverage() -> ModuleType:
    """benchmarks/coverage.py, which is not part of a package."""
    if "transpike_coverage" not in sys.modules:
        spec = importlib.util.spec_from_file_location("transpike_coverage", ROOT / "benchmarks" / "coverage.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["transpike_coverage"] = module
        spec.loader.exec_module(module)
    return sys.modules["transpike_coverage"]


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class Head(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def alexnet() -> nn.Module:
    """Krizhevsky et al. 2012: overlapping max-pooling, dropout, no normalisation."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Dropout(inplace=True), nn.Linear(96, 32), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(32, CLASSES),
    )  # fmt: skip


def vgg_bn() -> nn.Module:
    """Simonyan and Zisserman 2014, with batch normalisation."""
    layers, inputs = [], 3
    for width in (12, 16, 24):
        layers += [*conv_bn(inputs, width), nn.ReLU(), *conv_bn(width, width), nn.ReLU(), nn.MaxPool2d(2)]
        inputs = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 16, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, CLASSES))


class Bottleneck(nn.Module):
    """He et al. 2016 with Xie et al.'s groups (ResNeXt)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 2 * width
        self.branch = nn.Sequential(
            *conv_bn(inputs, width, 1),
            nn.ReLU(),
            *conv_bn(width, width, 3, stride, 4),
            nn.ReLU(),
            *conv_bn(width, outputs, 1),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_bn(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


def resnext() -> nn.Module:
    stem = [*conv_bn(3, 16, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, Bottleneck(16, 16, 1), Bottleneck(32, 16, 1), Bottleneck(32, 24, 2), Head(48))


class PreActivation(nn.Module):
    """He et al. 2016, "Identity mappings": normalisation and activation come before the convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.norm1(x).relu()
        branch = self.conv2(self.norm2(self.conv1(active)).relu())
        return branch + (x if self.shortcut is None else self.shortcut(active))


def preactivation_resnet() -> nn.Module:
    blocks = [PreActivation(16, 16, 1), PreActivation(16, 24, 2), PreActivation(24, 24, 1)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), *blocks, nn.BatchNorm2d(24), nn.ReLU(), Head(24))


class InvertedResidual(nn.Module):
    """Sandler et al. 2018: a linear bottleneck leaves each block without an activation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = 4 * inputs
        self.add = stride == 1 and inputs == outputs
        self.branch = nn.Sequential(
            *conv_bn(inputs, wide, 1),
            nn.ReLU6(),
            *conv_bn(wide, wide, 3, stride, wide),
            nn.ReLU6(),
            *conv_bn(wide, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.add else self.branch(x)


def mobilenet_v2() -> nn.Module:
    blocks = [InvertedResidual(8, 12, 2), InvertedResidual(12, 12, 1), InvertedResidual(12, 16, 2)]
    return nn.Sequential(*conv_bn(3, 8, 3, 2), nn.ReLU6(), *blocks, *conv_bn(16, 48, 1), nn.ReLU6(), Head(48))


class DenseLayer(nn.Module):
    """Huang et al. 2017: everything before it is normalised again, and its answer is appended."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), *conv_bn(inputs, 2 * growth, 1), nn.ReLU(),
            nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet() -> nn.Module:
    transition = [nn.BatchNorm2d(28), nn.ReLU(), nn.Conv2d(28, 14, 1, bias=False), nn.AvgPool2d(2)]
    first, second = [DenseLayer(12, 8), DenseLayer(20, 8)], [DenseLayer(14, 8), DenseLayer(22, 8)]
    return nn.Sequential(*conv_bn(3, 12, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *first, *transition, *second,
                         nn.BatchNorm2d(30), nn.ReLU(), Head(30))  # fmt: skip


class ShuffleUnit(nn.Module):
    """Ma et al. 2018: half of the channels pass, the other half is convolved, then the halves are interleaved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            *conv_bn(half, half, 1), nn.ReLU(), *conv_bn(half, half, 3, 1, half), *conv_bn(half, half, 1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, convolved = x.chunk(2, 1)
        joined = torch.cat([kept, self.branch(convolved)], 1)
        batch, channels, height, width = joined.shape
        return (
            joined.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        )


class MeanHead(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean([2, 3]))


def shufflenet() -> nn.Module:
    down = [*conv_bn(16, 24, 3, 2), nn.ReLU()]
    return nn.Sequential(
        *conv_bn(3, 16, 3, 2), nn.ReLU(), ShuffleUnit(16), ShuffleUnit(16), *down, ShuffleUnit(24), MeanHead(24)
    )


class Mixed(nn.Module):
    """Szegedy et al. 2015: branches of several kernel sizes and a pooled one, concatenated."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.one = nn.Sequential(*conv_bn(inputs, width, 1), nn.ReLU())
        self.three = nn.Sequential(*conv_bn(inputs, width, 1), nn.ReLU(), *conv_bn(width, width), nn.ReLU())
        self.maximum = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), *conv_bn(inputs, width, 1), nn.ReLU())
        self.mean = nn.Sequential(nn.AvgPool2d(3, 1, 1), *conv_bn(inputs, width, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.maximum(x), self.mean(x)], 1)


def inception() -> nn.Module:
    return nn.Sequential(
        *conv_bn(3, 12, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Mixed(12, 6), Mixed(24, 8), Head(32)
    )


NETWORKS = (alexnet, vgg_bn, resnext, preactivation_resnet, mobilenet_v2, densenet, shufflenet, inception)


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network.__name__)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor]:
    """(model in eval mode with calibrated statistics, calibration images, new images)."""
    coverage, build = _coverage(), request.param
    assert isinstance(build, Callable)  # type: ignore[arg-type]
    torch.manual_seed(0)
    calibration, test = coverage.images(128, 32, 1), coverage.images(16, 32, 2)
    return coverage.randomise(build(), calibration, 3), calibration, test


def _centred_cosine(a: Tensor, b: Tensor) -> float:
    mean = b.double().mean(0)
    return float(F.cosine_similarity(a.double() - mean, b.double() - mean, 1).mean())


@torch.no_grad()
def test_captured_graph_equals_the_model(network: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, calibration, test = network
    answer = model(test)
    spread = answer.std(0).square().mean().sqrt()
    assert spread > 0.05  # the outputs vary over the batch
    error = (ts.capture(model, calibration[:4]).run(test) - answer).abs().max() / spread
    assert error <= 1e-5


@pytest.mark.parametrize("exact_grid", [False, True])
@torch.no_grad()
def test_layer_synchronous_network_reproduces_the_logits(
    network: tuple[nn.Module, Tensor, Tensor], exact_grid: bool, tmp_path: Path
) -> None:
    """On the grid as well: a network that is called exact may not have lost its weights to rounding."""
    model, calibration, test = network
    recipe = ts.recipes.ECC.paper(timesteps=TIMESTEPS, schedule=ts.schedules.LayerSynchronous())
    snn = ts.convert(model, recipe, calibration, exact_grid=exact_grid)
    logits = snn(test)
    assert _centred_cosine(logits, model(test)) >= 0.99
    assert torch.equal(ts.load(ts.save(snn, tmp_path / "net.transpike"))(test), logits)


@torch.no_grad()
def test_streaming_network_runs_and_comes_closer(network: tuple[nn.Module, Tensor, Tensor], tmp_path: Path) -> None:
    model, calibration, test = network
    snn = ts.convert(model, ts.recipes.ECC.paper(timesteps=64), calibration)
    trace, answer = snn.run(test[:8]), model(test[:8])
    assert trace.logits.shape == (64, 8, CLASSES) and bool(trace.logits.isfinite().all())
    rate = sum(float(layer.spikes.sum()) for layer in trace.activity.layers if layer.role == "neuron")
    rate /= sum(layer.updates for layer in trace.activity.layers)
    assert 0.01 <= rate <= 0.6
    early, late = (_centred_cosine(trace.logits[t], answer) for t in (3, -1))
    assert late > max(early, 0.5)
    restored = ts.load(ts.save(snn, tmp_path / "net.transpike"))
    assert torch.equal(restored.run(test[:8]).logits, trace.logits)


def test_coverage_table_is_of_the_operators_that_there_are() -> None:
    coverage = _coverage()
    written = re.search(r"operators: `([0-9a-f]{64})`", coverage.TABLE.read_text(encoding="utf-8"))
    assert written is not None
    assert written[1] == coverage.operators_digest(), (
        "operators changed: run `make coverage` and commit docs/coverage.md"
    )
