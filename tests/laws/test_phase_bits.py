"""The input as phase-weighted bits: what enters in a cycle, that it is counted, and that engines agree on it."""

import dataclasses
from math import floor

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from networks import ENGINES, assert_same_spikes, cases, cells, mlp, neurons, small_cnn, spike_rate
from transpike.encoders import ConstantCurrent, PhaseBits
from transpike.recipes import BSNN

periods, seeds = st.integers(1, 8), st.integers(0, 10**6)


def signed(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 3 - 1.5


def bits(value: float, period: int, largest: float) -> int:
    """The K-bit integer of one input, worked out by hand; what lies beyond the range is all ones."""
    return min(floor(abs(value) * 2**period / largest), 2**period - 1)


def train(encoder: PhaseBits, x: Tensor, steps: int) -> Tensor:
    return torch.stack([encoder.encode(x, torch.arange(len(x)), t) for t in range(1, steps + 1)])


@given(seeds, periods, st.sampled_from([0.25, 1.0, 1.3]))
def test_a_cycle_spells_the_input_in_bits(seed, period, largest):
    x, encoder = signed(seed, 3, 7).double(), PhaseBits(largest, period)
    steps = train(encoder, x, 2 * period)
    assert torch.equal(steps[:period], steps[period:])  # every cycle repeats them
    values = torch.tensor([[bits(v, period, largest) for v in row] for row in x.tolist()]).double()
    assert torch.equal(steps[:period].sum(0), values * torch.sign(x))
    # the highest bit first, one spike a step at most, and none that is worth anything else
    places = torch.tensor([2.0 ** (period - k) for k in range(1, period + 1)])[:, None, None]
    assert bool(((steps[:period] == 0) | (steps[:period].abs() == places)).all())
    assert encoder.spike_scale == largest / 2**period
    inside = x.abs() < largest
    error = (x - steps[:period].sum(0) * encoder.spike_scale).abs()[inside]
    assert bool((error <= encoder.spike_scale * (1 + 1e-12)).all())


@given(seeds, periods, st.integers(1, 30))
def test_the_counts_of_a_window_are_the_sum_of_its_steps(seed, period, steps):
    x, encoder = signed(seed, 2, 5), PhaseBits(1.0, period)
    assert torch.equal(encoder.counts(x, torch.arange(2), steps), train(encoder, x, steps).sum(0))


@settings(max_examples=15)
@given(cases(), st.sampled_from([2, 3, 4, 6]), st.integers(1, 3))
def test_engines_agree_on_phase_bits(case, period, rounds):
    snn = ts.convert(
        case.graph, BSNN(period * rounds, period=period, encoder=PhaseBits(period=period)), case.calibration
    )
    runs = [ts.simulate(snn, case.x, engine=engine, record=["input", *cells(snn)]) for engine in ENGINES]
    assume(runs[0].exact)
    for trace in runs[1:]:
        assert_same_spikes(trace, runs[0])
        for one, other in zip(trace.activity.layers, runs[0].activity.layers, strict=True):
            assert torch.equal(one.spikes, other.spikes), one.name
            assert torch.equal(one.synaptic_operations, other.synaptic_operations), one.name


@settings(max_examples=15)
@given(cases(), st.sampled_from([2, 4, 5]), st.integers(1, 2), st.sampled_from(ENGINES))
def test_the_spikes_of_the_input_are_counted(case, period, rounds, engine):
    snn = ts.convert(
        case.graph, BSNN(period * rounds, period=period, encoder=PhaseBits(period=period)), case.calibration
    )
    trace = ts.simulate(snn, case.x, engine=engine, record=["input"])
    entered = trace.activity.layers[0]
    largest = float(case.calibration.abs().max())
    values = [bits(v, period, largest) for v in case.x.flatten().tolist()]
    assert (entered.name, entered.role) == ("input", "input") and entered.alphabet.startswith("phase")
    assert entered.spikes.tolist() == [sum(bin(value).count("1") for value in values)] * rounds
    assert [int(part.abs().sum()) for part in trace.trains["input"]] == [sum(values)] * rounds
    first = {node.name for node in snn.program.lowered.nodes if "input" in node.inputs}
    assert not first & trace.activity.macs.keys()  # no multiplication is left where the input enters


@settings(max_examples=10)
@given(cases(), st.sampled_from([2, 4]), st.integers(1, 2))
def test_bits_are_the_constant_current_of_the_rounded_input(case, period, rounds):
    """Charge is charge: a layer that hears a cycle before it fires cannot tell bits from their sum."""
    recipe = BSNN(period * rounds, period=period, encoder=PhaseBits(period=period))
    snn = ts.convert(case.graph, recipe, case.calibration, exact_grid=False)
    values = torch.tensor([bits(v, period, snn.encoder.largest) for v in case.x.flatten().tolist()]).double()
    rounded = (values * snn.encoder.spike_scale * torch.sign(case.x.flatten())).reshape(case.x.shape)
    analogue = dataclasses.replace(
        snn, recipe=dataclasses.replace(recipe, encoder=ConstantCurrent()), encoder=ConstantCurrent(largest=1.0)
    )
    spelt = ts.simulate(snn, case.x, engine="reference", record=neurons(snn))
    summed = ts.simulate(analogue, rounded.float(), engine="reference", record=neurons(snn))
    for name, levels in spelt.trains.items():
        assert torch.equal(levels, summed.trains[name]), name
    assert torch.allclose(spelt.logits, summed.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [mlp, small_cnn])
def test_these_networks_fire(make):
    case = make()
    snn = ts.convert(case.graph, BSNN(8, period=4, encoder=PhaseBits(period=4)), case.calibration)
    trace = ts.simulate(snn, case.x)
    assert (
        0.02 < spike_rate(snn, trace, 8) < 0.6
        and 0.02 < float(trace.activity.layers[0].spikes.sum()) / case.x.numel() / 8 < 0.7
    )
    assert trace.exact, trace.why
