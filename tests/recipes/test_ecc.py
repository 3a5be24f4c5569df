"""ECC: the same threshold everywhere (CN), the layer's own ε (CMB), half a threshold (TRE), and SpKeras's counts."""

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from measured import activations, alone, counts, errors, in_own_scale, threshold
from networks import mlp
from transpike.passes import FoldBatchNorm
from transpike.recipes import ECC, Rueckauer, WeightNormalisation

WINDOWS = ts.schedules.LayerSynchronous()


def test_current_normalisation_gives_every_layer_the_same_threshold():
    # λ = 1, 2.5, 6.5:  W ← κ W λ_{n−1}/λ_n,  b ← κ b/λ_n,  θ = κ = 128
    first, second = in_own_scale(ECC.paper())
    assert first == pytest.approx((128 * 2 / 2.5, 128 * 0.5 / 2.5, 128))
    assert second == pytest.approx((128 * 3 * 2.5 / 6.5, -128 / 6.5, 128))
    assert in_own_scale(WeightNormalisation())[0] == pytest.approx((2 / 2.5, 0.5 / 2.5, 1))


def test_a_residual_of_one_minus_beta_is_one_more_spike():
    # eight steps of z leave 8 z mod 1; at β = ¼ three quarters are enough
    z = torch.arange(0, 128) / 128
    plain = alone(ECC(timesteps=8, percentile=100.0, beta=0.0), z).sum(0)
    residual = 8 * z.double() - plain
    for beta in (0.25, 0.5, 0.75):
        more = alone(ECC(timesteps=8, percentile=100.0, beta=beta), z).sum(0) - plain
        assert torch.equal(more, (residual >= 1 - beta).double())
        assert 0 < float(more.mean()) < 1


def test_residual_elimination_takes_the_mean_error_away(digits):
    with_tre, without = (errors(digits.converted(ECC(timesteps=8, beta=b)), digits.images[:64]) for b in (0.5, 0.0))
    for name in with_tre:
        assert abs(float(with_tre[name].mean())) < 0.5 * float(without[name].mean())


def spkeras(snn: ts.SNN, x: Tensor) -> list[Tensor]:
    """``N = clip(⌊(relu(Σ W θ N + T b) + θ/2) / θ⌋, 0, T)``, layer after layer of an MLP, no time in it."""
    steps, value, found = snn.timesteps, snn.timesteps * x.double(), []
    for node in snn.graph:
        if isinstance(node.op, ts.ops.Linear):
            value = value @ node.op.weight.double().T + steps * node.op.bias.double()
        elif hasattr(node.op, "threshold"):
            theta = node.op.threshold.double()
            found.append(torch.floor((value.clamp(min=0) + theta / 2) / theta).clamp(0, steps))
            value = found[-1] * theta
    return found


@pytest.mark.parametrize(("schedule", "same"), [(WINDOWS, True), (ts.schedules.Streaming(), False)])
def test_in_windows_the_counts_are_those_of_spkeras(schedule, same):
    case = mlp()
    snn = ts.convert(case.graph, ECC(timesteps=8, schedule=schedule), case.calibration, exact_grid=False)
    sent, expected = counts(snn, case.x, engine="reference"), spkeras(snn, case.x)
    assert len(sent) == len(expected) == 2
    assert all(torch.equal(a, b) for a, b in zip(sent.values(), expected, strict=True)) == same
    assert all(0 < float(count.mean()) < 8 for count in expected)


def test_batch_normalisation_is_folded_with_its_own_epsilon(monkeypatch):
    # γ/√(σ²+ε) = 1/√(0.21+0.04) = 2 and μ = −¼:  x/8 becomes 2 x/8 + ½; SpKeras takes ε = 0.001 for all
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, eps=0.04), nn.ReLU(), nn.Linear(1, 1))
    nn.init.constant_(model[0].weight, 0.125)
    model[1].running_var.fill_(0.21), model[1].running_mean.fill_(-0.25)
    model.eval()
    x = torch.linspace(-1, 1, 9)[:, None]

    def folded() -> tuple[float, float]:
        synapse = ts.convert(model, ECC(), x).graph["0"].op
        return float(synapse.weight), float(synapse.bias)

    assert folded() == pytest.approx((0.25, 0.5), rel=1e-6)

    monkeypatch.setattr(FoldBatchNorm, "factor_and_shift", lambda step, op: op.factor_and_shift(epsilon=0.001))
    with pytest.raises(ts.errors.NotExact):  # every conversion checks that folding changes nothing
        folded()


def test_the_paper_s_statistics_are_the_largest_activation_of_a_layer(digits):
    paper, ours = digits.converted(ECC.paper()), digits.converted(ECC())
    for name, (_, activation) in activations(paper.source, digits.calibration).items():
        assert float(paper.graph[name].op.threshold) == pytest.approx(float(activation.max()), rel=1e-5)
        assert ours.graph[name].op.threshold.numel() == 12
        assert float(ours.graph[name].op.threshold.mean()) < 0.9 * float(activation.max())
    values = [0.0] * 91 + [float(k) for k in range(1, 11)]
    assert threshold(ECC(percentile=95.0), values) == 5.0  # of 101 values with the zeros, the 96th
    assert threshold(Rueckauer(percentile=95.0), values) == pytest.approx(9.55)  # of ten, 0.55 from 9th to 10th
