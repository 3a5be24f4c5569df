"""Thresholds and worths that balance the expected error of a layer."""

import pytest
import torch
from torch import nn

import transpike as ts
from measured import counts
from networks import Residual
from transpike.passes.thresholds.percentile_scale import percentile_and_scale
from transpike.recipes import DattaBeerel


def skewed(samples: int = 4096) -> torch.Tensor:
    """Most currents are small, some beyond the clip of 2."""
    return 0.6 * torch.empty(samples).exponential_(generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("steps", [2, 8])
def test_the_expected_error_vanishes(steps):
    z, model = skewed(), nn.Sequential(nn.Linear(1, 1, bias=False), nn.Hardtanh(0, 2.0), nn.Linear(1, 1, bias=False))
    nn.init.ones_(model[0].weight)
    snn = ts.convert(model, DattaBeerel(timesteps=steps, samples=len(z)), z[:, None], exact_grid=False)
    cell = snn.graph["1"].op
    assert 0 < float(cell.threshold) <= 2.0 and float(cell.spike_scale) != float(cell.threshold)

    def error(spike_scale: float, threshold: float) -> float:
        floor_clip = torch.floor(z * steps / threshold + 1e-9).clamp(0, steps) * spike_scale / steps
        return abs(float((z.clamp(max=2.0) - floor_clip).double().mean())) / float(z.clamp(max=2.0).mean())

    sent = counts(snn, z[:, None], "reference")["1"] * cell.spike_scale / steps
    measured = abs(float((z.clamp(max=2.0) - sent[:, 0]).mean())) / float(z.clamp(max=2.0).mean())
    assert measured < 0.01
    assert error(2.0, 2.0) > 5 * 0.01  # α = β = 1: half a step of the staircase is lost


def test_of_pairs_without_expected_error_the_one_of_least_square_is_taken():
    values = skewed().clamp(max=2.0)
    alpha, beta, top = percentile_and_scale(values, 2.0, 4)
    values = values.double()

    def square(a: float, b: float) -> float:
        floor_clip = torch.floor(values * 4 / (a * top) + 1e-9).clamp(0, 4) * a * top / 4
        return (
            float((values - b * floor_clip).square().mean())
            if abs(float((values - b * floor_clip).mean())) < 0.01 * float(values.mean())
            else 9.0
        )

    assert square(alpha, beta) < 9
    assert square(alpha, beta) <= min(square(k / 25, m / 25) for k in range(2, 26) for m in range(1, 50)) * 1.05


def test_without_a_clip_the_largest_activation_stands_for_it():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1))
    nn.init.ones_(model[0].weight)
    snn = ts.convert(model, DattaBeerel(timesteps=4), torch.linspace(0, 3, 100)[:, None])
    assert 0 < float(snn.graph["1"].op.threshold) <= 3.0


def test_a_shared_threshold_keeps_the_ratio_of_its_spike_scale():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Residual(body, nn.Identity()), nn.Linear(6, 3))
    x = torch.rand(64, 4)
    plain, shared = (ts.convert(model, DattaBeerel(8, residual=r), x, exact_grid=False) for r in ("currents", "shared"))
    ratios = [
        [float(n.op.spike_scale / n.op.threshold) for n in s.graph.cells if n.op.spike_scale is not None]
        for s in (plain, shared)
    ]
    assert ratios[0] == pytest.approx(ratios[1]) and min(ratios[0]) != 1
    thresholds = [float(n.op.threshold) for n in shared.graph.cells]
    assert len(set(thresholds)) < len(thresholds) == len({float(n.op.threshold) for n in plain.graph.cells})
