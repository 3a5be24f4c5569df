"""BSNN: a cycle spells a staircase in bits, nothing fires without charge, shortcuts wait."""

import pytest
import torch

from measured import alone, counts, staircase_currents, streamed
from transpike.recipes import BSNN, ECC, Rueckauer

T = 4


def test_a_cycle_spells_the_activation_in_bits():
    # n = clip(⌊16 z + ½⌋, 0, 15); a cycle of four ordinary spikes knows five values only
    z = torch.tensor([-0.5, 0.0, 0.03, 0.04, 0.25, 0.3, 0.97, 2.0])
    assert alone(BSNN(timesteps=T, percentile=100.0), z).sum(0).tolist() == [0, 0, 0, 1, 4, 5, 15, 15]
    z = torch.arange(61) / 64
    bits = alone(BSNN(timesteps=T, percentile=100.0), z).sum(0) / 16
    spikes = alone(ECC(timesteps=T, percentile=100.0), z).sum(0) / 4
    assert (bits - z).abs().max() == 1 / 32
    assert (spikes - z).abs().max() == 1 / 8


def test_what_is_left_counts_in_the_next_round():
    # two rounds of ⌊4 z + …⌋ with z = 3/8, v(0) = ½ of a step: 1.5 + 0.5 gives 2, then 1.5 + 0 gives 1
    levels = alone(BSNN(timesteps=4, period=2, percentile=100.0), torch.tensor([0.375]))
    assert levels.flatten().tolist() == [2, 1]


@pytest.mark.parametrize("in_step", [True, False])
def test_one_round_is_the_network_of_staircases_if_shortcuts_wait(digits, in_step):
    x = digits.images[:32]
    snn = digits.converted(BSNN(timesteps=T, match_delays=in_step))
    currents, neurons = staircase_currents(snn, x), {node.name: node.op for node in snn.program.lowered.nodes}
    sent = counts(snn, x, engine="reference")
    assert len(sent) == 5
    same = {}
    for name, levels in sent.items():
        unit = neurons[name].unit
        step = unit.threshold * 2.0**-T
        expected = torch.floor((currents[name] + unit.initial) / step).clamp(0, 2**T - 1)
        assert 0.05 < float((expected > 0).double().mean()) < 0.95
        same[name] = torch.equal(levels, expected)
        if in_step:
            silent = currents[name] <= 0
            assert bool(silent.any()) and not bool(levels[silent].any())
    assert all(same.values()) == in_step


def test_a_streaming_run_fires_where_charge_says_silence(digits):
    # where no charge arrives in all steps together, early spikes have been sent that a bistable neuron never sends
    wrong = {}
    for name, (current, spikes, _, _) in streamed(
        digits.converted(Rueckauer(timesteps=16)), digits.images[:32]
    ).items():
        wrong[name] = float(((spikes.sum(0) > 0) & (current.sum(0) <= 0)).double().mean())
    assert wrong.pop("2") == 0  # its current is constant
    assert all(share > 0 for share in wrong.values())
    assert max(wrong.values()) > 0.02


def test_accuracy_needs_the_synchronous_neurons(digits):
    assert digits.accuracy(BSNN(timesteps=T)) - digits.accuracy(BSNN(timesteps=T, match_delays=False)) > 0.01
