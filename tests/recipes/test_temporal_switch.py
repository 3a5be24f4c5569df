"""Temporal-switch coding: the charge of N spikes for two."""

import pytest
import torch
from torch import nn

import transpike as ts
from measured import counts
from transpike.recipes import TSC, BurstLIP
from transpike.schedules import LayerSynchronous

T = 16


def network() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(12), nn.ReLU(), nn.Linear(12, 4)
    )
    x = torch.rand(48, 1, 8, 8)
    model(x)
    return model.eval(), x


def test_it_sends_the_counts_of_rates_in_two_spikes_each():
    model, x = network()
    switched = ts.convert(model, TSC(timesteps=T), x)
    rates = ts.convert(model, BurstLIP(timesteps=T, gamma=1, percentile=100.0, schedule=LayerSynchronous()), x)
    found, wanted = counts(switched, x), counts(rates, x)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    runs = [ts.simulate(snn, x) for snn in (switched, rates)]
    assert torch.equal(runs[0].logits, runs[1].logits)
    fans = switched.program.fans
    for layer, other in zip(*(run.activity.layers for run in runs), strict=True):
        if layer.role != "neuron":
            continue
        count = wanted[layer.name]
        assert float(layer.spikes.sum()) == 2 * float((count > 0).sum())
        assert float(other.spikes.sum()) == float(count.sum()) > 1.5 * float(layer.spikes.sum())
        events = 2 * (count > 0).double().movedim(1, -1).flatten(1)
        assert float(layer.synaptic_operations.sum()) == float((events @ fans[layer.name]).sum())
        assert layer.payload_bits == 1  # on or off
    assert switched.total_steps() == 3 * T


@pytest.mark.parametrize("schedule", [ts.schedules.Streaming(), LayerSynchronous(4)], ids=str)
def test_a_switch_hears_its_whole_window(schedule):
    with pytest.raises(ts.TranspikeError, match="whole window first: use schedule=LayerSynchronous"):
        TSC(schedule=schedule)
