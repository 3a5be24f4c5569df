"""What an integrate-and-fire neuron must do, from its equations alone."""

from fractions import Fraction
from math import ceil, floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from networks import mlp
from transpike.neurons import IntegrateAndFire

seeds = st.integers(0, 10**6)
thresholds = st.floats(0.1, 3.0)
resets = st.sampled_from(["soft", "hard"])


def neuron(threshold: float, initial: float = 0.0, reset: str = "soft") -> IntegrateAndFire:
    tensors = (torch.tensor(value, dtype=torch.float64) for value in (threshold, initial))
    return IntegrateAndFire(None, *tensors, reset)


def current(seed: int, steps: int = 40, neurons: int = 7) -> Tensor:
    """Random input (time, batch, neurons) of both signs that makes a neuron of threshold one fire now and then."""
    return (
        torch.randn(steps, 2, neurons, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.8 + 0.2
    )


def walk(cell: IntegrateAndFire, train: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(potential before, potential after, spikes) of every step."""
    state, steps = cell.init(train[0]), []
    for t, x in enumerate(train):
        new, spikes = cell.step(state, x, t=t + 1)
        steps.append((state, new, spikes))
        state = new
    return steps


@given(seeds, thresholds, st.floats(-1, 1))
def test_charge_is_balanced_with_a_soft_reset(seed, threshold, initial):
    train = current(seed)
    steps = walk(neuron(threshold, initial), train)
    sent = threshold * torch.stack([spikes for _, _, spikes in steps]).sum(0)
    assert sent.sum() > 0
    # equation (1) times T: 40 additions of numbers below 5 in float64 lose less than 1e-13
    assert torch.allclose(sent, train.sum(0) + initial - steps[-1][1], rtol=0, atol=1e-9)


@given(seeds, thresholds, resets)
def test_who_does_not_spike_does_not_reset(seed, threshold, reset):
    train = current(seed)
    for x, (before, after, spikes) in zip(train, walk(neuron(threshold, 0.0, reset), train), strict=True):
        assert torch.equal(after[spikes == 0], (before + x)[spikes == 0])


@given(seeds, thresholds, resets)
def test_a_neuron_spikes_exactly_where_it_reaches_the_threshold(seed, threshold, reset):
    train = current(seed)
    for x, (before, _, spikes) in zip(train, walk(neuron(threshold, 0.0, reset), train), strict=True):
        assert torch.equal(spikes, (before + x >= threshold).double())


@given(seeds, thresholds)
def test_a_hard_reset_leaves_nothing_behind(seed, threshold):
    for _, after, spikes in walk(neuron(threshold, 0.0, "hard"), current(seed)):
        assert not after[spikes == 1].any()


@given(seeds, thresholds, st.floats(0, 0.9), resets, st.integers(-20, 20))
def test_a_power_of_two_on_everything_changes_no_spike(seed, threshold, beta, reset, exponent):
    train, factor = current(seed).float(), 2.0**exponent
    plain = IntegrateAndFire(None, torch.tensor(threshold), torch.tensor(beta * threshold), reset)
    large = IntegrateAndFire(None, plain.threshold * factor, plain.initial * factor, reset)
    spikes = plain.window(train)
    assert 0 < spikes.mean() < 1
    assert torch.equal(spikes, large.window(train * factor))


def staircase(z: Fraction, threshold: Fraction, initial: Fraction, steps: int) -> int:
    """``clip(⌊(T z + v(0)) / θ⌋, 0, T)`` in integers."""
    return min(max(floor((steps * z + initial) / threshold), 0), steps)


@given(st.integers(-64, 192), st.integers(1, 128), st.integers(0, 63), st.integers(1, 40))
def test_constant_input_gives_the_staircase(z, threshold, share, steps):
    # multiples of 1/64 and 1/4096: nothing is rounded, ties are ties
    z, threshold = Fraction(z, 64), Fraction(threshold, 64)
    initial = threshold * Fraction(share, 64)
    train = torch.full((steps, 1), float(z), dtype=torch.float64)
    count = neuron(float(threshold), float(initial)).window(train).sum()
    assert int(count) == staircase(z, threshold, initial, steps)


@pytest.mark.parametrize("initial", [0.0, 0.5])
def test_the_301_points_of_the_staircase(initial):
    z = torch.arange(-100, 201, dtype=torch.float64) / 100
    counts = neuron(1.0, initial).window(z.expand(8, 301)).sum(0)
    expected = [staircase(Fraction(k, 100), Fraction(1), Fraction(initial), 8) for k in range(-100, 201)]
    assert counts.tolist() == expected


@pytest.mark.parametrize(("z", "rate"), [(0.3, 0.25), (0.4, 1 / 3), (0.6, 0.5), (0.75, 0.5)])
def test_a_hard_reset_fires_at_one_over_the_ceiling(z, rate):
    spikes = neuron(1.0, 0.0, "hard").window(torch.full((12, 1), z, dtype=torch.float64))
    assert int(spikes.sum()) == round(12 * rate) == 12 // ceil(1 / z)


@given(st.integers(0, 63), st.integers(-300, 300), st.integers(1, 24), st.integers(1, 64))
def test_residual_elimination_is_an_initial_potential(share, charge, steps, threshold):
    # SpKeras: clip(⌊(relu(Q) + β θ) / θ⌋, 0, T); here v(0) = β θ, in multiples of 1/64 and 1/4096
    threshold, beta = Fraction(threshold, 64), Fraction(share, 64)
    cell = neuron(float(threshold), float(beta * threshold))
    count = cell.counts(torch.tensor([[charge / 64]], dtype=torch.float64), timesteps=steps)
    published = floor((max(Fraction(charge, 64), 0) + beta * threshold) / threshold)
    assert int(count) == min(max(published, 0), steps)


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5])
def test_a_recipe_starts_every_neuron_at_its_share_of_the_threshold(beta):
    case = mlp()
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=4, beta=beta), case.calibration)
    units = [node.op.unit for node in snn.graph.cells]
    assert units
    for unit in units:
        assert torch.equal(unit.initial, beta * unit.threshold)


@given(st.integers(-512, 1536), st.sampled_from([2, 4, 8]))
def test_the_quantised_activation_is_half_a_threshold_ahead(z, levels):
    # QCFS(z; L) = clip(⌊z L / λ + ½⌋ / L, 0, 1) with λ = 1, in multiples of 1/1024
    expected = min(max(floor(Fraction(z, 1024) * levels + Fraction(1, 2)), 0), levels)
    train = torch.full((levels, 1), z / 1024, dtype=torch.float64)
    assert int(neuron(1.0, 0.5).window(train).sum()) == expected


FIGURE_1 = [
    ((1, 3, 5), (2, 4), 1.0, 0.4, 0.0),
    ((1, 2, 3), (4, 5), 1.0, 0.8, -2.0),
    ((3, 4, 5), (1, 2), 1.0, 0.2, 1.0),
    ((1, 2, 3), (4, 5), 2.0, 0.6, -4.0),
]


@pytest.mark.parametrize(("first", "second", "threshold", "rate", "left"), FIGURE_1)
def test_arrival_order_matters_as_in_figure_1_of_qcfs(first, second, threshold, rate, left):
    spikes = torch.tensor([[[float(t in first), float(t in second)]] for t in range(1, 6)], dtype=torch.float64)
    weight = torch.tensor([[2.0, -2.0]], dtype=torch.float64)
    steps = walk(neuron(threshold), spikes @ weight.T)
    assert (sum(float(s) for _, _, s in steps) / 5, float(steps[-1][1])) == (rate, left)


@settings(max_examples=100)
@given(seeds, st.integers(1, 64), st.integers(0, 63), st.integers(1, 20))
def test_the_closed_form_is_what_firing_for_a_window_gives(seed, threshold, share, steps):
    generator = torch.Generator().manual_seed(seed)
    charges = torch.randint(-128, 1024, (2, 9), generator=generator).double() / 64
    cell = neuron(threshold / 64, threshold * share / 4096)
    assert torch.equal(cell.counts(charges, timesteps=steps), cell.fire_window(charges, timesteps=steps))


def test_the_worked_example_of_the_docstring():
    spikes = neuron(1.0).window(torch.full((5, 1), 0.4, dtype=torch.float64))
    assert spikes.flatten().tolist() == [0, 0, 1, 0, 1]
