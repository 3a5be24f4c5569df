"""Methods whose networks were trained with clips: TCL, RNL, SlipReLU, Fast-SNN, error compensation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import figures
import transpike as ts
from figures import EARLY, frames, one_neuron
from measured import activations, alone, counts
from transpike.activations import RateNorm, UniformQuantiser
from transpike.recipes import OPI, RNL, SNM, TCL, ErrorCompensation, FastSNN, SlipReLU

T, CLIP = 8, 2.0
FRAMES = ts.encoders.EventFrames()


def one(activation: nn.Module) -> nn.Module:
    """relu(z) of the input, the activation in its place."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), activation, nn.Linear(1, 1, bias=False)).eval()
    for layer in (model[0], model[2]):
        nn.init.ones_(layer.weight)
    return model


def sums(model: nn.Module, recipe: ts.core.recipe.Recipe, z: Tensor) -> Tensor:
    snn = ts.convert(model, recipe, z[:, None], exact_grid=False)
    (train,) = counts(snn, z[:, None], "reference").values()
    return train[:, 0]


def test_tcl_fires_at_the_clip_and_begins_at_zero():
    trains = alone(TCL(timesteps=T), torch.tensor([CLIP / 2, CLIP, 3.0]), clip=CLIP)
    assert trains[:, 0].tolist() == [0, 1] * 4
    assert trains.sum(0).tolist() == [4, 8, 8]
    z = CLIP * (torch.arange(256) + 0.5) / 256
    biased, even = (
        float((z - CLIP * alone(r, z, clip=CLIP).sum(0) / T).mean()) for r in (TCL(timesteps=T), OPI(timesteps=T))
    )
    assert (biased, even) == (CLIP / (2 * T), 0.0)


def rate_norm(peak: float) -> RateNorm:
    activation = RateNorm(start=20.0)  # σ(20) is one in float32
    activation.peak.fill_(peak)
    activation.seen.fill_(True)
    return activation


@pytest.mark.parametrize("steps", [4, 32])
def test_the_rates_of_rnl_are_those_of_its_source(steps):
    z, model = torch.linspace(-1, 3, 97), one(rate_norm(CLIP))
    with torch.no_grad():
        wanted = model[1](z[:, None])[:, 0]
    assert float(wanted.max()) == 1 and float(wanted[(z > 0) & (z < CLIP)].max()) < 1
    lacking = wanted - sums(model, RNL(timesteps=steps), z) / steps
    # a floor: nothing too much, less than a level too little; half a level where v(0) = θ/2
    assert float(lacking.min()) >= -1e-6 and float(lacking.max()) < 1 / steps
    assert float((wanted - sums(model, RNL(timesteps=steps, beta=0.5), z) / steps).min()) < -0.3 / steps
    other = wanted - sums(one(rate_norm(2 * CLIP)), RNL(timesteps=steps), z) / steps
    assert float(other.max()) > 0.4


@pytest.mark.parametrize("shift", [0.25, 0.5])
def test_slip_relu_gives_the_staircase_with_its_own_shift_and_lacks_its_slope(shift):
    levels, slope = T, 0.375
    model = one(ts.activations.SlipReLU(levels, slope, CLIP, shift=shift))
    z = (torch.arange(200) + 0.37) / 80
    sent = sums(model, SlipReLU(timesteps=T), z)
    floor_clip = torch.floor(z * levels / CLIP + shift).clamp(0, levels)
    assert torch.equal(sent, floor_clip.double())
    with torch.no_grad():
        source = model[1](z[:, None])[:, 0]
    staircase = floor_clip * CLIP / levels
    assert torch.allclose(source - staircase, slope * (z.clamp(max=CLIP) - staircase), atol=1e-6)
    assert not torch.equal(sums(model, SlipReLU(timesteps=T, beta=0.75 - shift), z), sent)


def test_fast_snn_takes_back_below_zero_what_snm_keeps_until_minus_theta():
    x = frames(*EARLY, steps=7)
    fast = one_neuron(FastSNN(timesteps=7, encoder=FRAMES), UniformQuantiser(2, 1.0))
    slow = one_neuron(SNM(timesteps=7, encoder=FRAMES, beta=0.5), nn.Hardtanh(0, 1))
    assert all(float(snn.graph[figures.neuron(snn)].op.threshold) == 1 for snn in (fast, slow))
    assert torch.tensor(figures.sent(fast, x)).cumsum(0).tolist() == [1, 2, 3, 4, 3, 2, 2]
    assert torch.tensor(figures.sent(slow, x)).cumsum(0).tolist() == [1, 2, 3, 4, 3, 3, 3]


@pytest.mark.parametrize(
    ("schedule", "same"), [(ts.schedules.LayerSynchronous(), True), (ts.schedules.Streaming(), False)]
)
def test_fast_snn_at_its_levels_is_its_source(schedule, same):
    """b = 2 bits, T = 3; no current lies so near an edge that rounding decides."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 24), UniformQuantiser(2, 1.5), nn.Linear(24, 16), UniformQuantiser(2, 0.5), nn.Linear(16, 3)
    ).eval()
    x = 2 * torch.randn(64, 6)
    snn = ts.convert(model, FastSNN(schedule=schedule), x)
    levels = [3 * a / top for (_, a), top in zip(activations(snn.source, x).values(), (1.5, 0.5), strict=True)]
    assert all(len(level.round().unique()) == 4 for level in levels)
    found = counts(snn, x, "reference").values()
    assert all(torch.equal(c, level.round().double()) for c, level in zip(found, levels, strict=True)) == same
    with torch.no_grad():
        assert torch.allclose(snn(x), model(x), atol=1e-4) == same


@pytest.mark.parametrize(("depth", "kept"), [(0.5, 1), (0.25, 1), (0.125, 0), (0.0, 0)])
def test_a_second_threshold_decides_what_is_taken_back(depth, kept):
    """v: ½ + 1 fires, ½ − ¾ = −¼ is left: at −depth θ and above it the spike stays."""
    recipe = ErrorCompensation(timesteps=3, depth=depth, encoder=FRAMES)
    snn = one_neuron(recipe, nn.Hardtanh(0, 1), weights=(1.0, -0.75))
    assert sum(figures.sent(snn, frames((1,), (2,), 3))) == kept


@given(st.integers(0, 10_000))
def test_without_depth_error_compensation_is_fast_snn(seed):
    x = (torch.rand((4, 8, 2), generator=torch.Generator().manual_seed(seed)) < 0.5).float()
    ours, other = (
        ts.simulate(one_neuron(recipe, nn.Hardtanh(0, 1)), x, record=["1"]).trains["1"]
        for recipe in (ErrorCompensation(timesteps=8, encoder=FRAMES), FastSNN(timesteps=8, encoder=FRAMES))
    )
    assert torch.equal(ours, other) and float(ours.abs().sum()) > 0
