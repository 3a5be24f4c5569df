"""The first layer of weights in the native library against torch, for every instruction set."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import transpike as ts
from instruction_sets import LIBRARY, instructions  # noqa: F401 (a fixture of the whole module)
from networks import STEPS, assert_same_spikes, run, settle
from transpike.engines.event.layers import EventLayer
from transpike.engines.event.run import EventPlan, EventRun

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="there is no native library")


def network(seed: int) -> tuple[nn.Module, torch.Tensor]:
    """A convolution of the input with random geometry, neurons, a linear layer; inputs that are multiples of 2⁻⁸."""
    pick = random.Random(seed)
    torch.manual_seed(seed)
    dimensions, channels, size = pick.choice([1, 2, 2]), pick.randint(1, 5), pick.randint(6, 11)
    geometry = pick.choice([(1, 1, 0, 1), (3, 1, 1, 1), (3, 2, 3, 1), (3, 1, 0, 2), (5, 3, 2, 1), (2, 2, 1, 2)])
    conv = nn.Conv1d if dimensions == 1 else nn.Conv2d
    first = conv(channels, pick.choice([3, 16, 40]), *geometry, bias=pick.random() < 0.5)
    x = (256 * torch.rand(12, channels, *(size,) * dimensions)).round() / 256 - 0.5
    wide = first(x).flatten(1).shape[1]
    return settle(nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(wide, 3)), x), x


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 5]))
def test_the_current_is_that_of_torch(seed, batch):
    model, x = network(seed)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=STEPS), x)
    plan, x = EventPlan(snn.program), x[:batch]
    name, layer = next((n, one) for n, one in plan.choice.layers.items() if isinstance(one, EventLayer))
    assert layer.constant_wires and name in plan.entrances
    started = EventRun(snn.program, plan, x, torch.arange(batch), (), False, 2**30)
    ours = started._constant(layer)
    plan.entrances.clear()
    assert torch.equal(ours, started._constant(layer))
    assert float(ours.std()) > 0


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_networks_fire_the_spikes_of_the_reference(seed):
    model, x = network(seed)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=STEPS), x)
    assert_same_spikes(run(snn, x, "event"), run(snn, x, "reference"))


def test_other_entrances_are_computed_by_torch():
    """Groups, and a pool before the convolution."""
    torch.manual_seed(0)
    x = torch.rand(8, 4, 6, 6)
    for model in (
        nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)),
    ):
        snn = ts.convert(settle(model, x), ts.recipes.ECC(timesteps=STEPS), x)
        assert not EventPlan(snn.program).entrances
        assert_same_spikes(run(snn, x, "event"), run(snn, x, "reference"))
