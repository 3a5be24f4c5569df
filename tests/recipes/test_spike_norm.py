"""Spike-Norm: thresholds are the largest current that really arrives. RMP: 0.8 of it, and no charge is lost."""

import pytest

import transpike as ts
from measured import streamed
from transpike.encoders import Poisson
from transpike.recipes import RMP, SpikeNorm, ThresholdBalancing

STEPS = 32


def largest_steps(digits, recipe: ts.core.recipe.Recipe) -> list[float]:
    """The largest current of a single step in each layer over its threshold, on the first 16 calibration inputs."""
    snn = ts.convert(digits.model, recipe, digits.calibration, exact_grid=False)
    found = streamed(snn, digits.calibration[:16])
    return [float((x / cell.unit.threshold).max()) for x, _, _, cell in found.values()]


def test_no_step_of_current_exceeds_a_threshold(digits):
    # the recipe sums in float32
    assert largest_steps(digits, SpikeNorm(timesteps=STEPS, samples=16)) == pytest.approx([1.0] * 5, rel=1e-5)


def test_the_largest_activation_is_less_than_what_arrives(digits):
    assert min(largest_steps(digits, ThresholdBalancing(timesteps=STEPS, encoder=Poisson()))) > 1.2


def test_rmp_thresholds_are_four_fifths_of_what_arrives(digits):
    assert largest_steps(digits, RMP(timesteps=STEPS, samples=16)) == pytest.approx([1.25] * 5, rel=1e-5)
    first, ours = (digits.converted(recipe(timesteps=STEPS)).graph["2"].op.threshold for recipe in (SpikeNorm, RMP))
    assert float(ours) == pytest.approx(0.8 * float(first))


@pytest.mark.parametrize(("recipe", "kept"), [(RMP, True), (SpikeNorm, False)])
def test_charge_is_balanced_with_rmp_s_soft_reset_only(digits, recipe, kept):
    found = streamed(digits.converted(recipe(timesteps=STEPS)), digits.calibration[:32])
    for current, spikes, potential, cell in found.values():
        sent = (cell.unit.threshold * spikes).sum(0)
        lost = (current.sum(0) + cell.unit.initial - potential - sent).abs().max()
        assert float(spikes.mean()) > 0.005
        assert float(lost) < 1e-9 if kept else float(lost) > 0.5


def test_rmp_keeps_the_answer_that_a_hard_reset_loses(digits):
    assert digits.accuracy(RMP(timesteps=STEPS)) - digits.accuracy(RMP(timesteps=STEPS, reset="hard")) > 0.1
