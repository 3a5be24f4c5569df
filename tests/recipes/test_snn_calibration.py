"""SNN calibration: thresholds of least squared error, half a threshold by bias, and mean errors that shrink."""

import pytest
import torch

import transpike as ts
from measured import alone, errors, threshold
from transpike.passes import CalibrateWeights
from transpike.recipes import DengGu, Rueckauer, SNNCalibration

T = 8


def by_channel(error: torch.Tensor) -> float:
    """The mean over channels of a channel's mean error, without its sign."""
    return float(error.movedim(1, 0).flatten(1).mean(1).abs().mean())


def by_neuron(error: torch.Tensor) -> float:
    return float(error.mean(0).abs().mean())


@pytest.fixture(scope="module")
def left(digits) -> dict[str, dict[str, torch.Tensor]]:
    """What is calibrated → layer → errors on the calibration inputs."""
    kinds = ("none", "light", "advanced")
    inputs = digits.calibration[:128]
    return {kind: errors(digits.converted(SNNCalibration(timesteps=T, calibrate=kind)), inputs) for kind in kinds}


def test_light_takes_most_of_each_channel_s_mean_error_away(left):
    first, *later = [by_channel(left["light"][name]) / by_channel(error) for name, error in left["none"].items()]
    assert first < 0.8  # its current is exact: what is left comes from single neurons
    assert len(later) == 4 and max(later) < 0.6


def test_advanced_takes_most_of_each_neuron_s_mean_error_away(left):
    first, *later = [by_neuron(left["advanced"][name]) / by_neuron(error) for name, error in left["none"].items()]
    assert first < 0.8
    assert len(later) == 4 and max(later) < 0.4
    # which one value a channel cannot
    light = [by_neuron(left["light"][name]) / by_neuron(error) for name, error in left["none"].items()][1:]
    assert all(ours < 0.6 * theirs for ours, theirs in zip(later, light, strict=True))


@pytest.mark.parametrize("kind", ["light", "advanced"])
def test_accuracy_rises_at_few_steps(digits, kind):
    few = {"timesteps": 4}
    without = digits.accuracy(SNNCalibration(calibrate="none", **few))
    assert digits.accuracy(SNNCalibration(calibrate=kind, **few)) > without + 0.1


def test_weights_are_tuned_towards_less_squared_error(digits, monkeypatch):
    """In windows, where the staircase that they are tuned to is what runs; the first layer has nothing to make good."""
    recipe, x = (
        SNNCalibration(timesteps=4, calibrate="none", schedule=ts.schedules.LayerSynchronous()),
        digits.calibration,
    )
    before = errors(digits.converted(recipe), x)
    monkeypatch.setattr(SNNCalibration, "corrections", property(lambda self: (CalibrateWeights(256, 200),)))
    after = errors(digits.converted(recipe), x)
    ratios = [float(after[name].square().mean() / before[name].square().mean()) for name in before]
    assert ratios[0] == pytest.approx(1, abs=0.01)
    assert max(ratios[1:]) < 0.98 and min(ratios) < 0.9


def test_thresholds_are_those_of_least_squared_error():
    # one step, nine values of ½ and one of 1: ⌊a/θ⌋ θ costs (1 − ½)² at θ = ½ and 9/4 at θ = 1
    assert threshold(SNNCalibration(timesteps=1), [0.5] * 9 + [1.0]) == 0.5
    assert threshold(DengGu(timesteps=1), [0.5] * 9 + [1.0]) == 1.0


def test_half_a_threshold_comes_by_bias():
    # θ = 1, since a staircase of 64 steps loses nothing of multiples of 1/64: ⌊64 z + ½⌋
    z = torch.tensor([1.0, 41.0, 121.0]) / 128
    assert alone(SNNCalibration(timesteps=64, calibrate="none"), z).sum(0).tolist() == [1, 21, 61]
    assert alone(Rueckauer(timesteps=64, percentile=100.0), z).sum(0).tolist() == [0, 20, 60]
