"""Robust normalisation: the plain staircase, and a percentile that ignores silence."""

import pytest
import torch

from measured import alone, errors, in_own_scale, threshold
from transpike.recipes import ECC, Rueckauer

T = 8


def test_a_neuron_is_the_plain_staircase():
    z = torch.tensor([-0.5, 0.0, 0.0625, 0.125, 0.4375, 0.5, 0.9375, 1.0, 1.5])
    # ⌊8 z⌋ in 0 … 8; half a threshold at the start rounds instead
    assert alone(Rueckauer(timesteps=T, percentile=100.0), z).sum(0).tolist() == [0, 0, 0, 1, 3, 4, 7, 8, 8]
    assert alone(ECC(timesteps=T, percentile=100.0), z).sum(0).tolist() == [0, 0, 1, 1, 4, 4, 8, 8, 8]


def test_weights_are_normalised():
    # λ = 1, 2.5, 6.5:  W λ_{n−1}/λ_n,  b / λ_n,  θ = 1; ECC has 128 times all of it
    first, second = in_own_scale(Rueckauer(percentile=100.0))
    assert first == pytest.approx((2 / 2.5, 0.5 / 2.5, 1))
    assert second == pytest.approx((3 * 2.5 / 6.5, -1 / 6.5, 1))
    assert in_own_scale(ECC.paper())[0][0] == pytest.approx(128 * first[0])


def test_it_stands_below_ecc_by_half_a_spike():
    z = (torch.arange(256) + 0.5) / 256
    ours, ecc = (alone(recipe(timesteps=T, percentile=100.0), z).sum(0) for recipe in (Rueckauer, ECC))
    assert float((ecc - ours).mean()) == 0.5


def test_the_percentile_ignores_silence():
    # 90 silent inputs and 1 … 11: the median of what fires is 6, of all it is 0, which no threshold can be
    values = [-1.0] * 90 + [float(k) for k in range(1, 12)]
    assert threshold(Rueckauer(percentile=50.0), values) == 6.0
    # of all 101 values the 95th percentile is the sixth largest one, and of those above zero 10.5
    assert threshold(Rueckauer(percentile=95.0), values) == 10.5
    assert threshold(ECC(percentile=95.0), values) == 6.0


def test_on_digits_every_layer_sends_too_little(digits):
    behind = {
        recipe.name: errors(digits.converted(recipe(timesteps=T)), digits.images[:64]) for recipe in (Rueckauer, ECC)
    }
    for name, error in behind["rueckauer"].items():
        assert float(error.mean()) > 2 * abs(float(behind["ecc"][name].mean()))
