"""Weight normalisation and threshold balancing: the published scales, the largest activation, the hard reset."""

import pytest
import torch

import transpike as ts
from measured import activations, alone, in_own_scale, streamed, threshold
from transpike.recipes import ECC, ThresholdBalancing, WeightNormalisation

BOTH = (WeightNormalisation, ThresholdBalancing)


def test_weight_normalisation_divides_by_the_largest_activations():
    # λ = 1, 2.5, 6.5:  W λ_{n−1}/λ_n,  b / λ_n,  θ = 1
    first, second = in_own_scale(WeightNormalisation())
    assert first == pytest.approx((2 / 2.5, 0.5 / 2.5, 1))
    assert second == pytest.approx((3 * 2.5 / 6.5, -1 / 6.5, 1))


def test_threshold_balancing_leaves_the_weights_and_divides_thresholds():
    # λ = 1, 2.5, 6.5:  W,  b / λ_{n−1},  θ = λ_n / λ_{n−1}
    first, second = in_own_scale(ThresholdBalancing())
    assert first == pytest.approx((2, 0.5, 2.5))
    assert second == pytest.approx((3, -1 / 2.5, 6.5 / 2.5))
    assert in_own_scale(WeightNormalisation())[1][0] != pytest.approx(3)


@pytest.mark.parametrize("recipe", BOTH)
def test_no_activation_of_the_training_data_is_clipped(digits, recipe):
    """θ is the largest activation that the data show; a percentile clips, at any number of steps."""
    found = activations(digits.converted(recipe()).source, digits.calibration)

    def clipped(percentile: float) -> list[bool]:
        graph = digits.converted(recipe(percentile=percentile)).graph
        return [float(out.max()) > 1.00001 * float(graph[name].op.threshold) for name, (_, out) in found.items()]

    assert clipped(100.0) == [False] * 5
    assert clipped(99.0) == [True] * 5
    assert threshold(recipe(), [0.0] * 9 + [4.0]) == 4.0


@pytest.mark.parametrize("recipe", BOTH)
def test_a_hard_reset_fires_every_so_many_whole_steps(recipe):
    # ⌈1/z⌉ steps from spike to spike: every 4th, 3rd, 2nd, 2nd; a soft reset with half a threshold rounds 12 z
    z = torch.tensor([0.25, 0.375, 0.625, 0.75])
    assert alone(recipe(timesteps=12), z).sum(0).tolist() == [3, 4, 6, 6]
    assert alone(recipe(timesteps=12, reset="soft"), z).sum(0).tolist() == [3, 5, 8, 9]


@pytest.mark.parametrize("recipe", BOTH)
def test_the_hard_reset_loses_charge_for_ever(digits, recipe):
    """On a constant current a soft reset comes near to the source, a hard one stays below it, however many steps."""

    def error(reset: str, timesteps: int) -> float:
        snn = digits.converted(recipe(timesteps=timesteps, reset=reset))
        current, spikes, _, _ = streamed(snn, digits.images[:4])["2"]
        return float((current[0].clamp(0, 1) - spikes.mean(0)).mean())

    hard, soft = ([error(reset, t) for t in (16, 48)] for reset in ("hard", "soft"))
    assert min(hard) > 0.01 and hard[1] > 0.5 * hard[0]
    assert all(abs(s) < 0.1 * h for s, h in zip(soft, hard, strict=True))


def test_spikes_are_those_of_current_normalisation_in_every_scale(digits):
    settings = {"timesteps": 16, "percentile": 100.0, "granularity": "layer", "reset": "hard", "beta": 0.0}
    trains = [
        ts.simulate(digits.converted(recipe(**settings)), digits.images[:16], record=["5.relu"]).trains["5.relu"]
        for recipe in (ECC, WeightNormalisation, ThresholdBalancing)
    ]
    assert float(trains[0].mean()) > 0.01
    assert torch.equal(trains[0], trains[1]) and torch.equal(trains[0], trains[2])
