"""The integer form fires the spikes of the reference engine, or refuses by name."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import transpike as ts
from networks import STEPS, Case, cases, converted, network, recipes
from transpike.core.recipe import Recipe
from transpike.encoders import Poisson
from transpike.errors import UnsupportedModel
from transpike.lowering.whole import Trains, Whole
from transpike.lowering.whole_form import whole_form
from transpike.lowering.whole_run import run_whole
from transpike.recipes import ECC
from transpike.snn import SNN
from transpike.workflow.export import trains_of

REFUSED = ("has no integer form", "directly after an activation", "reasonable size", "signed spikes")


def assert_equal(snn: SNN, x: Tensor, timesteps: int = STEPS) -> tuple[Whole, Trains]:
    whole = whole_form(snn.program, timesteps)
    samples, expected = trains_of(snn, whole, x, timesteps)
    found = run_whole(whole, samples)
    assert found.levels.keys() == expected.levels.keys()
    for name, train in expected.levels.items():
        assert np.array_equal(found.levels[name], train), name
    assert np.array_equal(found.totals, expected.totals)
    logits = torch.from_numpy(expected.totals * whole.readout.unit / timesteps)
    assert torch.equal(logits.float(), snn.run(x, timesteps, engine="reference").logits[-1])
    return whole, expected


@settings(max_examples=30, deadline=None)
@given(cases(), recipes())
def test_random_networks_and_recipes_are_equal_or_refused_by_name(case: Case, recipe: Recipe) -> None:
    snn = converted(case, recipe)
    try:
        assert_equal(snn, case.x)
    except UnsupportedModel as error:
        assert any(reason in str(error) for reason in REFUSED), error


@pytest.mark.parametrize("seed", range(0, 24, 4))
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_most_networks_have_a_form(seed: int, reset: str) -> None:
    case = network(seed)
    snn = ts.convert(case.graph, ECC(timesteps=STEPS, reset=reset), case.calibration)
    if snn.exactness is not None and snn.exactness.timesteps >= STEPS:
        assert_equal(snn, case.x)


class Tokens(nn.Module):
    """Patches as tokens, a layer on the last axis, and a mean over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix, self.head = nn.Conv2d(2, 6, 2, stride=2), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.patch(x)).flatten(2).transpose(1, 2)
        return self.head(torch.relu(self.mix(x)).mean(1))


class Branches(nn.Module):
    """Slices, concatenation, upsampling by repetition, a difference of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up = nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last, self.head = nn.Conv2d(6, 4, 3, padding=1), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        wide = torch.relu(self.up(nn.functional.interpolate(x, scale_factor=2)))[:, :, ::2, ::2]
        return self.head(torch.relu(self.last(torch.cat([x[:, :2], wide], 1)) - x).flatten(1))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.number, self.classes = nn.Linear(8, 12), nn.Linear(12, 1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.body(x))
        return self.classes(x), self.number(x)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.sensor, self.head = nn.Conv1d(2, 4, 3), nn.Linear(5, 4), nn.Linear(28, 3)

    def forward(self, image: Tensor, sensor: Tensor) -> Tensor:
        x = torch.relu(self.image(image).flatten(1))
        return self.head(torch.cat([x, torch.relu(self.sensor(sensor))], 1))


def rows(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


NETWORKS: dict[str, tuple] = {
    "transposed": (
        lambda: rows(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * 16 * 16, 3),
        ),
        (2, 8, 8),
    ),
    "transposed with dilation": (
        lambda: rows(
            nn.Conv1d(2, 3, 3),
            nn.ReLU(),
            nn.ConvTranspose1d(3, 2, 3, 2, 3, dilation=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(18, 3),
        ),
        (2, 8),
    ),
    "1-D, groups, dilation": (
        lambda: rows(
            nn.Conv1d(2, 4, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(4, 4, 3, groups=2, dilation=2),
            nn.ReLU(),
            nn.AvgPool1d(2),
            nn.Conv1d(4, 3, 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(3, 3),
        ),
        (2, 24),
    ),
    "overlapping averages": (
        lambda: rows(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(3, 1, 1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2, 2),
            nn.Conv2d(4, 4, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        (2, 8, 8),
    ),
    "averages that leave a border": (
        lambda: rows(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(4, 4, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        (2, 9, 9),
    ),
    "tokens": (Tokens, (2, 8, 8)),
    "branches": (Branches, (2, 8, 8)),
    "two heads": (TwoHeads, (8,)),
    "3-D": (
        lambda: rows(nn.Conv3d(1, 2, 2), nn.ReLU(), nn.Conv3d(2, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)),
        (1, 4, 4, 4),
    ),
    "one number": (lambda: rows(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0)), (4,)),
}


def made(name: str, **given: object) -> tuple[SNN, Tensor]:
    build, shape = NETWORKS[name]
    torch.manual_seed(3)
    model = build().eval()
    for part in model.modules():
        if isinstance(getattr(part, "weight", None), Tensor):
            part.weight.data *= 1.7
    x = torch.rand(24, *shape)
    return ts.convert(model, ECC(timesteps=STEPS, **given), x), x[:3]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_operators_have_a_form(name: str, reset: str) -> None:
    snn, x = made(name, reset=reset)
    _, expected = assert_equal(snn, x)
    rates = [float(train.mean()) for train in expected.levels.values()]
    assert all(0.01 < rate < 0.8 for rate in rates) and 0.01 < sum(rates) / len(rates) < 0.6, rates


def test_spikes_enter_with_their_sign() -> None:
    snn, x = made("transposed", encoder=Poisson(seed=1))
    whole, _ = assert_equal(snn, x)
    assert [one.kind for one in whole.entrances] == ["spikes"] and whole.entrances[0].low == -1
