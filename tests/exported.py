"""A network for tests of exporters, and the faults that are planted into what they write."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.activations import QuantisedClip
from transpike.exporters.exporter import Exporter
from transpike.lowering.whole import Samples, Trains, Whole
from transpike.snn import SNN
from transpike.testing.faults import FAULTS, Fault

STEPS = 8


class Coarse(nn.Module):
    """Weights and thresholds are multiples of 1/8: potentials often equal a threshold, and spikes come together.

    Maximum pooling (unless ``average``), a residual addition, and a linear layer; inputs (1, 8, 8), ten classes.
    """

    def __init__(self, average: bool) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.body, self.head = (
            nn.Conv2d(1, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Linear(96, 10),
        )
        self.pool = nn.AvgPool2d(2) if average else nn.MaxPool2d(2)
        self.clips = nn.ModuleList([QuantisedClip(4, 1.0), QuantisedClip(4, 1.5)])
        with torch.no_grad():
            for part, factor in ((self.stem, 20), (self.body, 20), (self.head, 16)):
                part.weight.copy_((part.weight * factor).round() / 8)
                part.bias.copy_((part.bias * factor / 4).round() / 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.clips[0](self.stem(x)))
        return self.head(self.clips[1](self.body(x) + x).flatten(1))


def coarse(average: bool = False) -> SNN:
    """``Coarse`` on digits, in units in which pixels are multiples of 1/8."""
    x = ts.data.load("digits").train.batch(torch.arange(64))[0]
    recipe = ts.recipes.table["qcfs"](timesteps=STEPS)
    return ts.convert(Coarse(average).eval(), recipe, x, preprocessing=ts.Preprocessing((0.0,), (128 / 255,)))


def coarse_first_spikes() -> SNN:
    """``Coarse`` with neurons that fire once above their threshold, which potentials often equal."""
    x = ts.data.load("digits").train.batch(torch.arange(64))[0]
    model = Coarse(False).eval()
    model.clips = nn.ModuleList([nn.ReLU(), nn.ReLU()])
    recipe = ts.recipes.S4NN(timesteps=STEPS, threshold=1.5, readout=ts.readouts.AccumulatedMembrane())
    return ts.convert(model, recipe, x, preprocessing=ts.Preprocessing((0.0,), (1.0,)))


def coarse_falling() -> SNN:
    """``Coarse`` with neurons whose thresholds fall from slot to slot."""
    x = ts.data.load("digits").train.batch(torch.arange(64))[0]
    recipe = ts.recipes.LinearTTFS(timesteps=4, learned=True)
    return ts.convert(Coarse(False).eval(), recipe, x, preprocessing=ts.Preprocessing((0.0,), (128 / 255,)))


def digits(number: int) -> Tensor:
    """The first test images of digits."""
    return ts.data.load("digits").test.batch(torch.arange(number))[0]


def plant(
    monkeypatch: pytest.MonkeyPatch, exporter: type[Exporter], name: str, faults: Mapping[str, Fault] = FAULTS
) -> None:
    """From now on ``exporter`` writes a network with this fault of ``faults``."""
    write = exporter.write

    def faulty(self: Exporter, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        changed = faults[name](whole)
        assert changed is not None, f"{name} has nothing to change"
        write(self, changed, path, samples, expected)

    monkeypatch.setattr(exporter, "write", faulty)
