"""How inputs become spikes: rates, signs, and independence of everything that should not matter."""

from math import floor, sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from networks import mlp
from transpike.core.encoder import Encoder, uniform
from transpike.encoders import DeterministicCounts, Poisson

POISSON, COUNTS = Poisson(largest=1.0, seed=7), DeterministicCounts(largest=1.0)
seeds = st.integers(0, 10**6)


def signed(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def train(encoder: Encoder, x: Tensor, steps: int, ids: Tensor | None = None) -> Tensor:
    ids = torch.arange(len(x)) if ids is None else ids
    return torch.stack([encoder.encode(x, ids, t) for t in range(1, steps + 1)])


@given(seeds, st.permutations(range(6)))
def test_poisson_spikes_follow_the_sample_and_not_its_place(seed, order):
    x, order = signed(seed, 6, 2, 3), torch.tensor(order)
    assert torch.equal(train(POISSON, x, 5)[:, order], train(POISSON, x[order], 5, order))


@given(seeds, st.integers(1, 5))
def test_poisson_spikes_of_a_part_of_a_batch_are_those_of_the_whole(seed, first):
    x, ids = signed(seed, 6, 4), torch.arange(6)
    assert torch.equal(train(POISSON, x, 5)[:, first:], train(POISSON, x[first:], 5, ids[first:]))


def test_poisson_spikes_are_the_same_in_every_engine():
    case = mlp()
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=8, encoder=Poisson(seed=5)), case.calibration)
    dense = ts.simulate(snn, case.x, 8, record=["input"]).trains["input"]
    reference = ts.simulate(snn, case.x, 8, engine="reference", record=["input"]).trains["input"]
    split = ts.simulate(snn, case.x, 8, record=["input"], memory=1).trains["input"]
    assert 0.05 < dense.abs().mean() < 0.95
    assert torch.equal(dense.double(), reference) and torch.equal(dense, split)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
def test_poisson_rates_lie_within_five_standard_deviations(share):
    spikes = train(POISSON, torch.full((40, 25), share), 100)
    deviation = sqrt(share * (1 - share) / spikes.numel())  # binomial; 5 of them: one false alarm in 1.7 million
    assert abs(float(spikes.mean()) - share) < 5 * deviation


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["time", "sample", "element"])
def test_poisson_spikes_do_not_depend_on_their_neighbours(axis):
    spikes = train(POISSON, torch.full((40, 50), 0.5), 50)
    pairs = (2 * spikes - 1).movedim(axis, 0)
    correlation = float((pairs[1:] * pairs[:-1]).mean())
    assert abs(correlation) < 5 / sqrt(pairs[1:].numel())  # a mean of independent signs, five standard deviations


def test_another_seed_gives_other_spikes():
    x = torch.full((10, 100), 0.5)
    same = (train(POISSON, x, 10) == train(Poisson(largest=1.0, seed=8), x, 10)).double().mean()
    assert abs(float(same) - 0.5) < 5 * 0.5 / sqrt(10 * 10 * 100)


def test_the_hash_covers_the_unit_interval_and_never_reaches_one():
    draws = uniform(0, torch.arange(200), 500, 1)
    assert 0 <= float(draws.min()) < 1e-3 and 1 - 1e-3 < float(draws.max()) < 1
    counts = torch.histc(draws, bins=10, min=0, max=1)
    assert bool(((counts - 1e4).abs() < 5 * sqrt(1e5 * 0.1 * 0.9)).all())  # binomial, five standard deviations


@given(seeds, st.sampled_from([POISSON, COUNTS]))
def test_signed_inputs_give_signed_spikes(seed, encoder):
    x = signed(seed, 4, 30)
    spikes = train(encoder, x, 16)
    assert set(spikes.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert bool((spikes * x >= 0).all())
    assert encoder.alphabet.kind == "ternary"


@given(st.integers(-256, 256), st.integers(1, 70))
def test_counts_are_the_floor_of_what_the_input_asks_for(level, steps):
    # multiples of 1/256, so that p T is exact
    spikes = train(COUNTS, torch.tensor([[level / 256]]), steps)
    expected = floor(abs(level) * steps / 256) * (1 if level > 0 else -1)
    assert int(spikes.sum()) == expected


@given(seeds, st.integers(1, 40), st.sampled_from([POISSON, COUNTS]))
def test_the_counts_of_a_window_are_the_sum_of_its_steps(seed, steps, encoder):
    x, ids = signed(seed, 3, 8), torch.tensor([5, 2, 9])
    assert torch.equal(encoder.counts(x, ids, steps), train(encoder, x, steps, ids).sum(0))


@given(st.integers(1, 256), st.integers(0, 40), st.integers(1, 30))
def test_counted_spikes_are_spread_evenly(level, start, length):
    spikes = train(COUNTS, torch.tensor([[level / 256]]), start + length)[start:]
    assert abs(float(spikes.sum()) - length * level / 256) < 1


@pytest.mark.parametrize("encoder", [POISSON, COUNTS])
@pytest.mark.parametrize("value", [1.0, 1.7, -2.0])
def test_inputs_at_or_beyond_the_range_fire_in_every_step(encoder, value):
    spikes = train(encoder, torch.full((2, 30), value), 20)
    assert bool((spikes == (1 if value > 0 else -1)).all())


@pytest.mark.parametrize("encoder", [POISSON, COUNTS])
def test_a_silent_input_never_fires(encoder):
    assert not train(encoder, torch.zeros(2, 30), 20).any()


def test_a_constant_current_brings_the_input_itself():
    x = signed(0, 3, 5)
    assert all(torch.equal(step, x) for step in train(ts.encoders.ConstantCurrent(largest=1.0), x, 3))
