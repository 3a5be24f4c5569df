"""Deng and Gu's shift: half a threshold in all, spread over the steps."""

import torch

from measured import alone
from transpike.recipes import ECC, DengGu, Rueckauer

T = 8
Z = (torch.arange(256) + 0.5) / 256


def test_after_t_steps_the_count_is_that_of_half_a_threshold_before_that_lower():
    shifted = alone(DengGu(timesteps=T), Z).cumsum(0)
    ahead = alone(ECC(timesteps=T, percentile=100.0), Z).cumsum(0)
    assert torch.equal(shifted[-1], ahead[-1])
    assert torch.equal(ahead[-1], torch.floor(T * Z + 0.5).double())
    assert bool((shifted <= ahead).all())
    # the mean difference after t steps is what is still to come of half a spike
    missing = (ahead - shifted).mean(1)
    assert torch.equal(missing, (0.5 - torch.arange(1, T + 1) / (2 * T)).double())


def test_the_mean_error_is_zero_and_half_a_step_without_the_shift():
    recipes = DengGu(timesteps=T), Rueckauer(timesteps=T, percentile=100.0)
    with_shift, without = (Z - alone(recipe, Z).sum(0) / T for recipe in recipes)
    assert float(with_shift.mean()) == 0
    assert float(without.mean()) == 1 / (2 * T)


def test_a_network_made_for_other_steps_has_another_shift():
    # at half its steps the neuron has had a quarter of a threshold: the mean error is a quarter of a count
    half = alone(DengGu(timesteps=2 * T), Z)[:T].sum(0)
    assert float((T * Z - half).mean()) == 0.25
