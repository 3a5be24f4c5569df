"""Networks in integers with what enters them and what they answer, for the tests of exporters.

Whatever an exporter writes must give the same numbers; a network in which little or nearly everything fires could agree
by chance, so their spike rates are asserted here.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import transpike as ts
from networks import Residual, SpatialMean, StridedSlice, settle
from stored import stored
from transpike.encoders import DeterministicCounts, EventFrames
from transpike.lowering.whole import Entrance, Layer, Samples, Term, Trains, Whole, Window
from transpike.lowering.whole_form import samples_of, whole_form
from transpike.lowering.whole_run import run_whole
from transpike.schedules import LayerSynchronous


@dataclass(frozen=True, eq=False)
class Exported:
    """A network in integers, samples, and what its own run gives; ``snn`` and ``x`` where it was converted."""

    whole: Whole
    samples: Samples
    expected: Trains
    snn: ts.SNN | None = None
    x: Tensor | None = None


def exported(snn: ts.SNN, x: Tensor, timesteps: int) -> Exported:
    whole = whole_form(snn.program, timesteps, None if snn.preprocessing is None else snn.preprocessing.whole)
    samples = samples_of(snn.program, whole, snn.prepare(x), torch.arange(len(x)), whole.timesteps)
    return Exported(whole, samples, fires(run_whole(whole, samples)), snn, x)


def fires(trains: Trains) -> Trains:
    """``trains``, after a look at their spike rates."""
    rates = {name: float((levels != 0).mean()) for name, levels in trains.levels.items()}
    assert all(0.005 < rate < 0.8 for rate in rates.values()), rates
    together = sum(int((levels != 0).sum()) for levels in trains.levels.values())
    assert 0.01 < together / sum(levels.size for levels in trains.levels.values()) < 0.6, rates
    return trains


def differences(expected: Trains, found: Trains) -> int:
    """The number of levels, totals and last potentials, where a format gives them, that are not the same."""
    assert expected.levels.keys() == found.levels.keys()
    pairs = [(expected.levels[name], levels) for name, levels in found.levels.items()]
    pairs += [(expected.potentials[name], potentials) for name, potentials in found.potentials.items()]
    pairs.append((expected.totals, found.totals))
    assert all(one.shape == other.shape for one, other in pairs)
    return sum(int((one != other).sum()) for one, other in pairs)


def _digits(name: str, recipe: object, timesteps: int, count: int) -> Exported:
    digits = ts.data.load("digits")
    snn = ts.convert(stored(name), recipe, calibration=digits.train.images[:200])
    return exported(snn, digits.test.images[:count], timesteps)


def demo(timesteps: int = 64, count: int = 50) -> Exported:
    """The network of ``transpike demo``: a residual whose shortcut is an identity, and maximum pooling."""
    return _digits("small-cnn", ts.recipes.ECC(timesteps=timesteps), timesteps, count)


def _seeded(model: nn.Module, shape: tuple[int, ...], recipe: object, timesteps: int) -> Exported:
    """A network of seeded weights on seeded inputs that are nowhere all the same."""
    x = torch.rand(48, *shape)
    snn = ts.convert(settle(model, x), recipe, calibration=x)
    return exported(snn, torch.rand(5, *shape), timesteps)


def heartbeats() -> Exported:
    """A 1-D network: overlapping maxima, a strided shortcut that pads channels, an average, a reset to zero."""
    torch.manual_seed(1)
    body = nn.Sequential(nn.Conv1d(6, 6, 5, padding=2), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 10, 3, 2, 1))
    model = nn.Sequential(
        nn.Conv1d(1, 6, 7, 2, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(3, 2, 1),
        Residual(body, StridedSlice(1, 2)), SpatialMean(), nn.Linear(10, 5),
    )  # fmt: skip
    return _seeded(model, (1, 60), ts.recipes.ECC(timesteps=24, reset="hard"), 24)


def averages() -> Exported:
    """Overlapping average pools, groups, dilation, depthwise weights, a projection as shortcut."""
    torch.manual_seed(2)
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), nn.ReLU(), nn.Conv2d(8, 12, 1))
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(), Residual(body, nn.Conv2d(8, 12, 1)), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 4),
    )  # fmt: skip
    return _seeded(model, (2, 8, 8), ts.recipes.ECC(timesteps=16), 16)


def frames() -> Exported:
    """Frames of events, like those of a camera: spikes enter."""
    torch.manual_seed(3)
    steps = 12
    events = (torch.rand(40, steps, 2, 10, 10) < 0.4 * torch.rand(40, 1, 2, 10, 10)).float()
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(72, 4),
    )  # fmt: skip
    settle(model, events.mean(1))
    snn = ts.convert(model, ts.recipes.ECC(timesteps=steps, encoder=EventFrames()), calibration=events)
    return exported(snn, events[:6], steps)


def bytes_of_pictures() -> Exported:
    """Pixels of 8 bits enter, and the current of the first layer is made of them."""
    data = ts.data.load("digits")
    calibration = data.train.batch(torch.arange(128))[0]
    recipe = ts.recipes.ECC(timesteps=12)
    snn = ts.convert(stored("residual"), recipe, calibration, preprocessing=data.preprocessing, input_bits=8)
    one = exported(snn, data.test.batch(torch.arange(6))[0], 12)
    assert one.samples.raw and any(entrance.front for entrance in one.whole.entrances)
    return one


def pixels() -> Exported:
    """Pixels of 8 bits and weights of many bits, whose sums are far beyond 24 bits; made by hand."""
    draw = np.random.default_rng(4)
    weight = draw.integers(-(2**21), 2**21, (6, 3, 3, 3))
    first = Term("first", "picture", "conv", weight, (3, 9, 9), None, (2, 2), (1, 1), (1, 1))
    second = Term("second", "pool", "linear", draw.integers(-900, 1200, (4, 54)), (54,), draw.permutation(54))
    bypass = Term("by/pass", "picture", "scale", draw.integers(-9, 12, (4,)), (4,), np.array([-1, 0, 90, 242]))
    wide = Term("wide", "picture", "linear", draw.integers(-(2**21), 2**21, (4, 243)), (243,))
    layers = (
        Layer(
            "conv.1", "integrate", (6, 5, 5), 0, np.full(6, 2.0**-12), (first,),
            bias=draw.integers(0, 2**24, (6, 1, 1)), threshold=draw.integers(2**30, 2**31, (6, 1, 1)),
            initial=np.full(1, 2**29), bound=np.full(1, 2**38),
        ),
        Layer("pool", "maximum", (6, 3, 3), 0, np.ones(6), pool=Window((3, 3), (2, 2), (1, 1)), source="conv.1"),
        Layer(
            "out", "readout", (4,), 0, np.array(2.0**-10), (second, bypass, wide), bias=draw.integers(-50, 50, (4,)),
            bound=np.full(1, 2**38),
        ),
    )  # fmt: skip
    whole = Whole((Entrance("picture", (3, 9, 9), "values", 0, 255, np.array(1 / 255)),), layers, 20)
    samples = Samples({"picture": draw.integers(0, 256, (5, 3, 9, 9))}, 20)
    return Exported(whole, samples, fires(run_whole(whole, samples)))


def counts() -> Exported:
    """Several spikes of a pixel in one step, summed with gaps between them, and their maximum; made by hand."""
    draw = np.random.default_rng(5)
    first = Term("first", "events", "conv", draw.integers(-30, 50, (4, 2, 3)), (2, 20), None, (1,), (2,), (2,))
    pooled = Term("pooled", "pool", "linear", draw.integers(-30, 50, (5, 20)), (20,))
    direct = Term(
        "direct", "neurons", "linear", draw.integers(-30, 50, (5, 10)), (8, 10), draw.permutation(80).reshape(8, 10)
    )
    layers = (
        Layer("pool", "maximum", (2, 10), 0, np.ones(2), pool=Window((3,), (2,), (1,)), source="events"),
        Layer(
            "neurons", "integrate", (4, 20), 0, np.ones(4), (first,), threshold=draw.integers(90, 150, (4, 1)),
            initial=np.full(1, 40), reset="zero", bound=np.full(1, 9000),
        ),
        Layer(
            "flat", "integrate", (40,), 0, np.ones(40), (direct,), bias=draw.integers(-5, 5, (40,)),
            threshold=draw.integers(90, 150, (40,)), bound=np.full(1, 9000),
        ),
        Layer("out", "readout", (5,), 0, np.array(0.25), (pooled,), bound=np.full(1, 2**20)),
    )  # fmt: skip
    whole = Whole((Entrance("events", (2, 20), "spikes", 0, 300, np.array(1.0)),), layers, 15)
    entering = draw.poisson(0.5, (15, 6, 2, 20)) * (1 + 99 * (draw.random((15, 6, 2, 20)) < 0.02))
    samples = Samples({"events": entering}, 15)
    return Exported(whole, samples, fires(run_whole(whole, samples)))


def resnet20(models_directory: Path, data_directory: Path) -> Exported:
    """A trained network of 19 layers on four pictures."""
    weights = models_directory / "resnet20-cifar10-jpeg.safetensors"
    model, about = ts.models.build("zoo:resnet20-16-32-64", weights=weights)
    pictures = ts.data.load("cifar10", data_directory)
    settings = {"preprocessing": about.preprocessing, "calibration": pictures.train.batch(list(range(32)))[0]}
    snn = ts.convert(model, ts.recipes.ECC(timesteps=16), **settings)
    return exported(snn, pictures.test.batch(list(range(4)))[0], 16)


NETWORKS: Mapping[str, Callable[[], Exported]] = {
    "demo": lambda: demo(16, 6),
    "residual": lambda: _digits("residual", ts.recipes.ECC(timesteps=16), 16, 6),
    "excluded steps": lambda: _digits("two-layers", ts.recipes.FewSteps(timesteps=12), 12, 10),
    "fully connected": lambda: _digits(
        "fully-connected", ts.recipes.ECC(timesteps=12, encoder=DeterministicCounts()), 12, 10
    ),
    "heartbeats": heartbeats,
    "averages": averages,
    "frames": frames,
    "bytes": bytes_of_pictures,
    "pixels": pixels,
    "counts": counts,
    "sigma-delta": lambda: _digits("small-cnn", ts.recipes.StreamingSigmaDelta(timesteps=8), 8, 5),
    "signed digits": lambda: _digits("residual", ts.recipes.BurstDigits(timesteps=3), 3, 5),
    "bursts": lambda: _digits("residual", ts.recipes.BurstLIP(timesteps=6, percentile=80.0), 6, 5),
    "several thresholds": lambda: _digits("residual", ts.recipes.HMT(timesteps=4, threshold_count=3), 4, 5),
    "signed spikes": lambda: _digits("small-cnn", ts.recipes.FewSteps(timesteps=8, neuron="signed"), 8, 5),
    "windows": lambda: _digits("small-cnn", ts.recipes.ECC(timesteps=8, schedule=LayerSynchronous()), 8, 5),
    "wait steps": lambda: _digits(
        "residual", ts.recipes.ECC(timesteps=8, schedule=LayerSynchronous(wait_steps=3)), 8, 5
    ),
    "windows of bursts": lambda: _digits(
        "two-layers", ts.recipes.BurstLIP(timesteps=4, percentile=80.0, schedule=LayerSynchronous()), 4, 10
    ),
}
"""Name → a small network of one kind."""


@functools.cache
def network(name: str) -> Exported:
    return NETWORKS[name]()
