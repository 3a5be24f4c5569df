"""Burst spikes pass on what one spike a step cannot; lateral inhibition passes on the largest count."""

import pytest
import torch
import torch.nn.functional as F

import transpike as ts
from measured import alone
from transpike.recipes import BurstLIP


def test_a_burst_follows_where_one_spike_a_step_stops():
    z = torch.tensor([-1.0, 0.25, 1.0, 1.5, 2.25, 5.0, 6.0])
    # 16 z, at most 5 · 16; with Γ = 1 at most 16
    assert alone(BurstLIP(timesteps=16, percentile=100.0), z).sum(0).tolist() == [0, 4, 16, 24, 36, 80, 80]
    assert alone(BurstLIP(timesteps=16, percentile=100.0, gamma=1), z).sum(0).tolist() == [0, 4, 16, 16, 16, 16, 16]


@pytest.mark.parametrize(("pooling", "exact"), [("lateral-inhibition", True), ("or", False), ("gated", False)])
def test_pooled_counts_are_the_largest_counts(digits, pooling, exact):
    snn = digits.converted(BurstLIP(timesteps=16, pooling=pooling))
    trains = ts.simulate(snn, digits.images[:32], record=["3.relu", "4"]).trains
    assert bool((trains["3.relu"] > 1).any())
    wrong = trains["4"].sum(0) != F.max_pool2d(trains["3.relu"].sum(0), 2)
    assert not bool(wrong.any()) if exact else float(wrong.double().mean()) > 0.05
