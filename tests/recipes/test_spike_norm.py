"""Spike-Norm: thresholds are the largest current that really arrives. RMP: 0.8 of it, and no charge is lost."""

import itertools

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from measured import streamed
from transpike.encoders import Poisson
from transpike.engines import Reference
from transpike.recipes import RMP, SpikeNorm, ThresholdBalancing

STEPS = 32


def exact() -> tuple[nn.Module, Tensor]:
    """Weights and biases are quarters, spikes of the input are worth 1: no sum is rounded, in float32 neither.

    The largest current is the threshold, so that where it arrives, rounding decides whether a neuron fires, and what
    later layers hear. Where nothing is rounded the largest current can be asked for to the bit, in every layer.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = (8, 12, 12, 12, 3)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(torch.randint(-3, 5, layer.weight.shape, generator=generator) / 4)
            layer.bias.copy_(torch.randint(-1, 2, layer.bias.shape, generator=generator) / 4)
    model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
    return model.eval(), torch.randint(0, 17, (16, 8), generator=generator) / 16


def largest_steps(model: nn.Module, recipe: SpikeNorm, x: Tensor) -> list[tuple[float, float]]:
    """(threshold, largest current of a single step) of each layer, step by step in the weights' own scale."""
    snn = ts.convert(model, recipe, x, exact_grid=False)
    run = Reference().start(snn.program, x, torch.arange(len(x)), ["input"])
    run.advance(recipe.timesteps)
    values, found = run.finish().trains["input"].double(), []
    assert set(values.unique().tolist()) == {0.0, 1.0}
    for layer, name in zip(model[:-1:2], ("1", "3", "5"), strict=True):
        weight, bias, threshold = (
            v.detach().double() for v in (layer.weight, layer.bias, snn.graph[name].op.threshold)
        )
        current = values @ weight.T + bias
        potential, sent = torch.zeros_like(current[0]), []
        for step in current:
            potential = potential + step
            fired = potential >= threshold
            potential = torch.where(fired, 0.0 if recipe.reset == "hard" else potential - threshold, potential)
            sent.append(fired.double())
        values = torch.stack(sent) * threshold
        assert 0.01 < float(fired.double().mean()) < 0.9
        found.append((float(threshold), float(current.max())))
    return found


def test_no_step_of_current_exceeds_a_threshold():
    model, x = exact()
    assert all(threshold == largest for threshold, largest in largest_steps(model, SpikeNorm(timesteps=STEPS), x))


def test_the_largest_activation_is_less_than_what_arrives(digits):
    snn = ts.convert(digits.model, ThresholdBalancing(timesteps=STEPS, encoder=Poisson()), digits.calibration)
    found = streamed(snn, digits.calibration[:16]).values()
    assert min(float((x / cell.unit.threshold).max()) for x, _, _, cell in found) > 1.2


def test_rmp_thresholds_are_a_share_of_what_arrives(digits):
    model, x = exact()
    found = largest_steps(model, RMP(timesteps=STEPS, scale=0.75), x)  # a share that has few bits
    assert all(threshold == 0.75 * largest for threshold, largest in found)
    # the paper's share, in the layer that hears the input
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
