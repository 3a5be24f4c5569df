"""OPI and QCFS: the clip that a network was trained with is the threshold, half of it the start."""

import pytest
import torch
from torch import nn

import transpike as ts
from measured import activations, alone, counts
from transpike.activations import QuantisedClip
from transpike.recipes import ECC, OPI, QCFS

T, CLIP = 8, 2.0
WINDOWS = ts.schedules.LayerSynchronous()


@pytest.mark.parametrize(("beta", "error"), [(None, 0.0), (0.0, CLIP / (2 * T)), (0.25, CLIP / (4 * T))])
def test_half_a_threshold_makes_the_expected_error_zero(beta, error):
    z = CLIP * (torch.arange(256) + 0.5) / 256
    rate = CLIP * alone(OPI(timesteps=T, beta=beta), z, clip=CLIP).sum(0) / T
    assert float((z - rate).mean()) == error


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.75])
def test_half_a_threshold_makes_the_expected_square_least(beta):
    # (θ/T)² times 1/12 + (½ − β)²; 32 places in each step of the staircase lack 1/(12 · 32²)
    z = CLIP * (torch.arange(256) + 0.5) / 256
    best, other = (z - CLIP * alone(OPI(timesteps=T, beta=b), z, clip=CLIP).sum(0) / T for b in (0.5, beta))
    assert float(best.square().mean()) == pytest.approx((CLIP / T) ** 2 * (1 - 1 / 32**2) / 12)
    assert float(other.square().mean()) > 1.5 * float(best.square().mean())


def test_the_threshold_is_the_clip_not_what_the_data_reach():
    # calibration data reach 1, the clip is 2
    z = torch.tensor([0.5, 1.0, 1.5, 2.0, 3.0])
    assert alone(OPI(timesteps=T), z, clip=CLIP).sum(0).tolist() == [2, 4, 6, 8, 8]
    assert alone(OPI(timesteps=T, calibrate=True), z, clip=CLIP).sum(0).tolist() == [4, 8, 8, 8, 8]


def test_calibrated_it_is_ecc(digits):
    def trains(recipe: ts.core.recipe.Recipe) -> torch.Tensor:
        return ts.simulate(digits.converted(recipe), digits.images[:32], record=["5.relu"]).trains["5.relu"]

    ours = trains(OPI(timesteps=T, calibrate=True))
    assert 0.05 < float(ours.mean()) < 0.5
    assert torch.equal(ours, trains(ECC(timesteps=T, granularity="layer")))
    assert not torch.equal(ours, trains(ECC(timesteps=T, granularity="layer", beta=0.0)))


@pytest.fixture(scope="module")
def quantised() -> tuple[nn.Module, torch.Tensor]:
    """Four levels; weights are multiples of 1/8 and inputs of 1/16, so that float32 rounds nothing and ties are ties."""
    generator = torch.Generator().manual_seed(0)
    layers = [nn.Linear(6, 24), QuantisedClip(4, 1.0), nn.Linear(24, 16), QuantisedClip(4, 2.0), nn.Linear(16, 3)]
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        for parameter in (p for layer in layers if isinstance(layer, nn.Linear) for p in layer.parameters()):
            parameter.copy_(torch.randint(-6, 7, parameter.shape, generator=generator) / 8)
    return model, torch.randint(-16, 17, (64, 6), generator=generator) / 16


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"schedule": WINDOWS}, True),
        ({"schedule": WINDOWS, "beta": 0.0}, False),
        ({"schedule": WINDOWS, "timesteps": 8}, False),
        ({}, False),
    ],
)
def test_layer_synchronous_at_its_levels_it_is_the_source_network(quantised, settings, same):
    model, x = quantised
    snn = ts.convert(model, QCFS(**{"timesteps": 4, **settings}), x)
    with torch.no_grad():
        assert torch.equal(snn(x), model(x)) == same
    sent = counts(snn, x, engine="reference")
    levels = [4 * a / theta for (_, a), theta in zip(activations(snn.source, x).values(), (1.0, 2.0), strict=True)]
    assert all(len(level.unique()) == 5 for level in levels)
    if same:
        assert all(torch.equal(count, level.double()) for count, level in zip(sent.values(), levels, strict=True))


@pytest.mark.parametrize("calibrate", ["thresholds", "potential", "both"])
def test_calibration_on_spikes_takes_the_mean_error_of_streaming_away(quantised, calibrate):
    model, x = quantised

    def error(recipe: QCFS) -> float:
        snn = ts.convert(model, recipe, x, exact_grid=False)
        name, sent = list(counts(snn, x, engine="reference").items())[-1]
        charge = sent * snn.graph[name].op.output_scale() / recipe.timesteps
        return float((activations(snn.source, x)[name][1] - charge).mean(0).abs().mean())

    assert error(QCFS(timesteps=8, calibrate=calibrate, samples=64)) < 0.75 * error(QCFS(timesteps=8))
    assert QCFS(calibrate=calibrate).depends_on_timesteps and not QCFS().depends_on_timesteps
